//! Random specs: small ones in every combination, with now and then a size that makes no sense.

use bbc::backbone::{Aggregation, BlockOptions, Gate, Head, InputSize, LOGITS, Spec, Stage, StageConv, Stem, StemKind};
use bbc::conv::{Candidate, Grouping};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// How many cases to try: so many, unless `PROPTEST_CASES` says otherwise.
pub(crate) fn config(cases: u32) -> ProptestConfig {
    let given = std::env::var_os("PROPTEST_CASES").is_some();
    let config = ProptestConfig { failure_persistence: None, max_shrink_iters: 500, ..ProptestConfig::default() };
    if given { config } else { ProptestConfig { cases, ..config } }
}

/// Any spec, most of them of a network that can be generated.
pub(crate) fn any_spec() -> impl Strategy<Value = Spec> {
    let names = prop_oneof![4 => "[a-z][a-z0-9._-]{0,9}", 1 => "\\PC{1,12}", 1 => Just("no".to_owned()), 1 => ".{0,3}"];
    let parts = (
        names,
        option::weighted(0.95, any_candidate()),
        (channels(), 1..=48u32, 1..=48u32),
        any_stem(),
        any_block(),
        vec(any_stage(), 1..=4),
        option::of((channels(), channels())),
        option::weighted(0.3, (0..5usize, 0..5usize)),
    );
    parts.prop_map(|(name, first_conv, (channels, height, width), stem, block, stages, head, picks)| {
        let head = head.map(|(hidden, classes)| Head { hidden, classes });
        let input = InputSize { channels, height, width };
        let spec = Spec { format: 1, name, first_conv, input, stem, block, stages, head, outputs: None };
        Spec { outputs: picks.map(|picks| outputs(&spec, picks)), ..spec }
    })
}

/// One or two of the feature maps, and mostly the classifier's output where there is one.
fn outputs(spec: &Spec, (first, second): (usize, usize)) -> Vec<String> {
    let features = spec.features();
    let mut names = vec![features[first % features.len()].name.clone()];
    if second != first {
        names.push(features[second % features.len()].name.clone());
    }
    if spec.head.is_some() && second > 0 {
        names.push(LOGITS.to_owned());
    }
    names
}

/// Mostly a number that two, three and four divide.
fn channels() -> impl Strategy<Value = u32> {
    prop_oneof![12 => Just(12u32), 12 => Just(24), 6 => (1..=12u32).prop_map(|n| 2 * n), 2 => 1..=24u32, 1 => 0..=1u32]
}

fn any_candidate() -> impl Strategy<Value = Candidate> {
    let odd = || (0..4u32).prop_map(|n| 2 * n + 1);
    let square = prop_oneof![Just([1, 1]), Just([3, 3]), Just([5, 5])];
    let window = prop_oneof![
        8 => square,
        6 => (odd(), odd()).prop_map(|(h, w)| [h, w]),
        1 => (0..6u32, 0..40u32).prop_map(|(h, w)| [h, w])
    ];
    let grouping = prop_oneof![
        5 => Just(Grouping::Full),
        5 => Just(Grouping::Depthwise),
        3 => (2..=4u32).prop_map(Grouping::Grouped),
        1 => (0..=40u32).prop_map(Grouping::Grouped)
    ];
    (window, grouping).prop_map(|(window, grouping)| Candidate { window, grouping })
}

fn any_stem() -> impl Strategy<Value = Stem> {
    let stacked = vec(channels(), 1..=3).prop_map(|channels| Stem { kind: StemKind::Stacked, channels });
    let branched = vec(channels(), 2).prop_map(|channels| Stem { kind: StemKind::Branched, channels });
    let wrong = (any_stem_kind(), vec(channels(), 0..=9)).prop_map(|(kind, channels)| Stem { kind, channels });
    prop_oneof![8 => stacked, 8 => branched, 1 => wrong]
}

fn any_stem_kind() -> impl Strategy<Value = StemKind> {
    prop_oneof![Just(StemKind::Stacked), Just(StemKind::Branched)]
}

fn any_block() -> impl Strategy<Value = BlockOptions> {
    (any_aggregation(), any_gate(), any::<bool>(), any::<bool>())
        .prop_map(|(aggregation, gate, residual, affine)| BlockOptions { aggregation, gate, residual, affine })
}

fn any_aggregation() -> impl Strategy<Value = Aggregation> {
    prop_oneof![Just(Aggregation::Single), Just(Aggregation::SqueezeExcite)]
}

fn any_gate() -> impl Strategy<Value = Gate> {
    prop_oneof![Just(Gate::None), Just(Gate::Ese)]
}

fn any_stage() -> impl Strategy<Value = Stage> {
    let stride = prop_oneof![20 => 1..=2u32, 1 => 0..=4u32];
    let conv = prop_oneof![2 => Just(StageConv::First), 1 => any_candidate().prop_map(StageConv::Named)];
    let sizes = (1..=2u32, 1..=3u32, channels(), channels(), stride);
    let conv = (option::weighted(0.2, any_candidate()), conv);
    (sizes, conv, option::of(any_aggregation()), option::of(any_gate()), option::of(any::<bool>())).prop_map(
        |((blocks, layers, mid, out, stride), (first_conv, conv), aggregation, gate, residual)| Stage {
            blocks,
            layers,
            mid,
            out,
            stride,
            first_conv,
            conv,
            aggregation,
            gate,
            residual,
        },
    )
}
