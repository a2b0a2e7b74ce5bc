//! The promises of the generator, for every preset and every candidate.

use std::collections::HashMap;

use serde::Deserialize;

use super::*;
use crate::ir::{Activation, Def, Op, ValueId};
use crate::pass;

fn built_of(name: &str, first_conv: Candidate) -> Backbone {
    let spec = Spec { first_conv: Some(first_conv), ..preset(name).unwrap() };
    generate(&spec, Batch::Dynamic).unwrap()
}

fn candidates() -> [Candidate; 7] {
    let [a, b, c, d, e] = Candidate::PUBLISHED;
    [a, b, c, d, e, "group8conv3x3".parse().unwrap(), "conv1x7".parse().unwrap()]
}

/// The value of this path.
fn find(graph: &Graph, path: &str) -> ValueId {
    graph.values().find(|(_, value)| value.path() == path).unwrap_or_else(|| panic!("no {path}")).0
}

fn users(graph: &Graph, of: ValueId) -> Vec<ValueId> {
    graph.values().filter(|(_, value)| value.args().contains(&of)).map(|(id, _)| id).collect()
}

#[derive(Deserialize)]
struct Counts {
    params: u64,
    params_bn_folded: u64,
    multiply_adds_224: u64,
    convs: usize,
    batch_norms: usize,
    learnable_affines: usize,
}

/// Figures counted from timm's implementation.
#[test]
fn presets_have_the_published_size() {
    let counts: HashMap<String, Counts> =
        serde_json::from_str(include_str!("../../fixtures/family_counts.json")).unwrap();
    for (name, _) in PRESETS {
        let expected = &counts[&name.replace('-', "_")];
        let graph = generate(&preset(name).unwrap(), Batch::Fixed(1)).unwrap().graph;
        let count =
            |wanted: fn(&Op) -> bool| graph.values().filter_map(|(_, v)| v.op()).filter(|op| wanted(op)).count();
        // Running statistics are no parameters.
        let is_parameter = |name: &str| !name.ends_with(".running_mean") && !name.ends_with(".running_var");
        let weights = graph.weights().map(|(_, weight)| weight);
        let params: u64 = weights.filter(|w| is_parameter(w.name())).map(|w| w.elements()).sum();
        let products = graph.values().filter(|(_, v)| matches!(v.op(), Some(Op::Conv { .. } | Op::Linear { .. })));
        let multiply_adds: u64 = products.map(|(id, _)| graph.flops_of(id, 1).multiply_adds()).sum();
        assert_eq!(params, expected.params, "{name}");
        assert_eq!(multiply_adds, expected.multiply_adds_224, "{name}");
        assert_eq!(count(|op| matches!(op, Op::Conv { .. })), expected.convs, "{name}");
        assert_eq!(count(|op| matches!(op, Op::BatchNorm { .. })), expected.batch_norms, "{name}");
        assert_eq!(count(|op| matches!(op, Op::Affine { .. })), expected.learnable_affines, "{name}");

        let folded = pass::run(graph, &[&pass::FoldBatchNorm]).unwrap();
        assert_eq!(folded.parameters(), expected.params_bn_folded, "{name}");
    }
}

/// Names, shapes and order of what timm's implementation has, but for the counts of training steps.
#[test]
fn parameters_are_named_as_published() {
    for (name, list) in [
        ("hgnet-tiny", include_str!("../../fixtures/state_dicts/hgnet_tiny.txt")),
        ("hgnetv2-b0", include_str!("../../fixtures/state_dicts/hgnetv2_b0.txt")),
    ] {
        let lines = list.lines().filter(|line| !line.contains("num_batches_tracked"));
        let expected: Vec<&str> = lines.map(|line| line.strip_suffix("\tfloat32").unwrap()).collect();
        let graph = generate(&preset(name).unwrap(), Batch::Dynamic).unwrap().graph;
        let weights: Vec<String> = graph.weights().map(|(_, w)| format!("{}\t{:?}", w.name(), w.shape())).collect();
        assert_eq!(weights, expected, "{name}");
    }
}

/// The same scheme for parts that no published network has together.
#[test]
fn parameters_of_any_spec_are_named_by_the_same_scheme() {
    let mut spec = preset("hgnetv2-b0").unwrap();
    spec.stages.truncate(1);
    spec.stages[0].stride = 2;
    spec.stages[0].gate = Some(Gate::Ese);
    spec.stem = Stem { kind: StemKind::Stacked, channels: vec![8] };
    let graph = generate(&spec, Batch::Dynamic).unwrap().graph;
    let names: Vec<&str> = graph.weights().map(|(_, weight)| weight.name()).collect();
    let names: Vec<&str> =
        names.into_iter().filter(|name| !name.contains(".bn.") && !name.contains("layers.1")).collect();
    let expected = "stem.stem.0.conv.weight stem.stem.0.lab.scale stem.stem.0.lab.bias \
                    stages.0.downsample.conv.weight \
                    stages.0.blocks.0.layers.0.conv.weight stages.0.blocks.0.layers.0.lab.scale \
                    stages.0.blocks.0.layers.0.lab.bias stages.0.blocks.0.layers.2.conv.weight \
                    stages.0.blocks.0.layers.2.lab.scale stages.0.blocks.0.layers.2.lab.bias \
                    stages.0.blocks.0.aggregation.0.conv.weight stages.0.blocks.0.aggregation.0.lab.scale \
                    stages.0.blocks.0.aggregation.0.lab.bias stages.0.blocks.0.aggregation.1.conv.weight \
                    stages.0.blocks.0.aggregation.1.lab.scale stages.0.blocks.0.aggregation.1.lab.bias \
                    stages.0.blocks.0.aggregation.2.conv.weight stages.0.blocks.0.aggregation.2.conv.bias \
                    head.last_conv.0.weight head.last_conv.2.scale head.last_conv.2.bias head.fc.weight head.fc.bias";
    assert_eq!(names.join(" "), expected);
}

#[test]
fn every_stacked_conv_is_concatenated() {
    for candidate in candidates() {
        let Backbone { graph, stages, .. } = built_of("hgnet-base", candidate);
        for block in stages.iter().flat_map(|stage| &stage.blocks) {
            let concat = graph.value(find(&graph, &format!("{}.concat", block.path)));
            let Def::Op { op: Op::Concat, args } = concat.def() else { panic!("{concat:?}") };
            let stacked: Vec<ValueId> =
                (1..=7).map(|i| find(&graph, &format!("{}.conv{i}.relu", block.path))).collect();
            assert_eq!(args[1..], stacked, "{} of {candidate}", block.path);
            let kinds = (1..=7).map(|i| graph.value(find(&graph, &format!("{}.conv{i}", block.path))).op());
            for op in kinds {
                let Some(Op::Conv { conv, .. }) = op else { panic!("{op:?}") };
                assert_eq!(conv.window, candidate.window, "{}", block.path);
                assert_eq!(conv.stride, [1, 1]);
            }
            assert_eq!(graph.value(args[0]).ty().dims[1], Dim::Fixed(block.in_channels));
            assert_eq!(concat.ty().dims[1], Dim::Fixed(block.concatenated_channels));
            // One 1x1 convolution brings the channels back down.
            let [down] = users(&graph, find(&graph, &format!("{}.concat", block.path)))[..] else { panic!() };
            let Some(Op::Conv { conv, .. }) = graph.value(down).op() else { panic!() };
            assert_eq!(conv.window, [1, 1]);
            assert_eq!(graph.value(down).ty().dims[1], Dim::Fixed(block.out_channels));
        }
    }
}

#[test]
fn a_stage_with_a_first_conv_of_its_own_goes_down_by_another_kind() {
    let mut spec = preset("hgnetv2-b0").unwrap();
    spec.stages[1].first_conv = Some(Candidate::depthwise(3));
    spec.stages[2].first_conv = Some(Candidate::full(5));
    let facts = generate(&spec, Batch::Dynamic).unwrap().stages;
    let found: Vec<(String, String)> = facts[1..]
        .iter()
        .map(|stage| (stage.downsampling.unwrap().to_string(), stage.blocks[0].conv.to_string()))
        .collect();
    // The third stage names what it stacks, whatever the first conv is.
    let expected = [("conv3x3", "dw3x3"), ("dw3x3", "dw5x5"), ("dw3x3", "dw5x5")];
    assert_eq!(found, expected.map(|(down, conv)| (down.to_owned(), conv.to_owned())));
    spec.stages[1].first_conv = Some(Candidate::full(2));
    let error = generate(&spec, Batch::Dynamic).unwrap_err().to_string();
    assert!(error.starts_with("stage 2: first_conv: `conv2x2` is not a convolution"), "{error}");
}

#[test]
fn downsampling_is_of_another_kind_and_has_no_activation() {
    for candidate in candidates() {
        for name in ["hgnet-small", "hgnetv2-b1"] {
            let Backbone { graph, stages, .. } = built_of(name, candidate);
            for stage in &stages[1..] {
                let path = format!("{}.downsample", stage.path);
                let value = graph.value(find(&graph, &path));
                let Some(Op::Conv { conv, .. }) = value.op() else { panic!("{value:?}") };
                let depthwise = Dim::Fixed(conv.groups) == value.ty().dims[1];
                assert_ne!(depthwise, candidate.is_depthwise(), "{path} of {candidate}");
                assert_ne!(stage.downsampling.unwrap(), candidate);
                assert_eq!(conv.stride, [2, 2]);
                let [norm] = users(&graph, find(&graph, &path))[..] else { panic!() };
                assert!(matches!(graph.value(norm).op(), Some(Op::BatchNorm { .. })));
                for user in users(&graph, norm) {
                    let op = graph.value(user).op();
                    assert!(matches!(op, Some(Op::Conv { .. } | Op::Concat)), "{op:?} after {path}");
                }
            }
            assert_eq!(stages[0].downsampling, None);
        }
    }
}

#[test]
fn the_head_is_pool_fully_connected_with_activation_classifier() {
    for name in ["hgnet-tiny", "hgnetv2-b4"] {
        let graph = built_of(name, Candidate::full(5)).graph;
        let [output] = graph.outputs() else { panic!() };
        let mut ops = Vec::new();
        let mut value = graph.value(output.value);
        while value.path().starts_with("head.") {
            ops.push(value.op().unwrap());
            value = graph.value(value.args()[0]);
        }
        ops.reverse();
        assert!(
            matches!(
                ops[..],
                [
                    Op::GlobalAveragePool,
                    Op::Conv { .. },
                    Op::Activation(Activation::Relu),
                    Op::Flatten,
                    Op::Linear { .. }
                ]
            ),
            "{ops:?}"
        );
    }
}

#[test]
fn without_a_head_every_stage_hands_out_its_features() {
    let mut spec = preset("hgnetv2-b0").unwrap();
    spec.head = None;
    let backbone = generate(&spec, Batch::Fixed(2)).unwrap();
    let outputs: Vec<String> = backbone
        .graph
        .outputs()
        .iter()
        .map(|output| format!("{} {}", output.name, backbone.graph.value(output.value).ty()))
        .collect();
    assert_eq!(outputs, ["c2 f32[2,64,56,56]", "c3 f32[2,256,28,28]", "c4 f32[2,512,14,14]", "c5 f32[2,1024,7,7]"]);
    let strides: Vec<u32> = backbone.features.iter().map(|feature| feature.stride).collect();
    assert_eq!(strides, [4, 8, 16, 32]);

    spec.stages[1].stride = 1;
    let names: Vec<String> =
        generate(&spec, Batch::Fixed(2)).unwrap().features.into_iter().map(|feature| feature.name).collect();
    assert_eq!(names, ["stage1", "stage2", "stage3", "stage4"]);
}

#[test]
fn receptive_fields_are_those_side_by_side() {
    let block = &built_of("hgnetv2-b0", Candidate::full(3)).stages[0].blocks[0];
    assert_eq!(block.receptive_fields, [[1, 1], [3, 3], [5, 5], [7, 7]]);
    assert_eq!((block.in_channels, block.mid_channels, block.concatenated_channels), (16, 16, 64));
    let block = &built_of("hgnetv2-b0", Candidate::full(1)).stages[0].blocks[0];
    assert_eq!(block.receptive_fields, [[1, 1]]);
}

#[test]
fn costs_of_the_parts_add_up_to_the_whole() {
    let Backbone { graph, stages, .. } = built_of("hgnet-tiny", Candidate::full(3));
    let parts = stages.iter().map(|stage| stage.path.as_str()).chain(["stem", "head"]);
    let (flops, parameters) =
        parts.map(|part| cost_of(&graph, part)).fold((Flops(0), 0), |a, b| (a.0 + b.0, a.1 + b.1));
    assert_eq!((flops, parameters), (graph.flops(1), graph.parameters()));
}

#[test]
fn what_cannot_be_generated_is_said() {
    let open = Spec { first_conv: None, ..preset("hgnet-tiny").unwrap() };
    let error = generate(&open, Batch::Dynamic).unwrap_err();
    assert_eq!(error.to_string(), "the spec `hgnet-tiny` names no first conv");

    let groups = Spec { first_conv: Some("group36conv3x3".parse().unwrap()), ..open.clone() };
    let error = generate(&groups, Batch::Dynamic).unwrap_err();
    assert_eq!(error.to_string(), "cannot build `stage1.block1.conv1` (conv) on f32[N,96,56,56]");

    let error = generate(&preset("hgnet-tiny").unwrap(), Batch::Fixed(0)).unwrap_err();
    assert_eq!(error.to_string(), "a batch of 0 images cannot be run");

    // Down to a single pixel everything still fits.
    let mut pixel = preset("hgnetv2-b6").unwrap();
    (pixel.input.height, pixel.input.width) = (1, 1);
    generate(&pixel, Batch::Fixed(1)).unwrap();
}

#[test]
fn the_example_names_every_key() {
    let text = include_str!("../../schema/spec.example.yaml");
    let spec = Spec::read(text).unwrap();
    generate(&spec, Batch::Dynamic).unwrap();
    for key in
        ["first_conv:", "input:", "stem:", "aggregation:", "gate:", "residual:", "affine:", "stride:", "conv:", "head:"]
    {
        assert!(text.contains(key), "{key}");
    }
}
