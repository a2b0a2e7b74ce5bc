//! Measuring what a device reaches at most, before its problems are timed.

use std::error::Error;
use std::time::Duration;

use bbc::profile::roof::{Roof, RoofKind};
use bbc::profile::sampling::{Budget, Timed, sample_rounds};
use bbc::profile::{Instrument, InstrumentKind};
use bbc::tensor::DType;

use super::output;

/// Fewest rounds, those after which precision is enough, and most.
const ROUNDS: [u32; 3] = [5, 10, 30];

/// How well a roof has to be known.
const PRECISION: f64 = 0.02;

/// Both limits.
const KINDS: [RoofKind; 2] = [RoofKind::Arithmetic, RoofKind::Bandwidth];

/// What a provider reaches at most in this precision, as far as it can be had; in a tenth of the time that problems may
/// take.
#[cfg(feature = "run")]
pub(crate) fn of_provider(
    runtime: &bbc::runtime::Runtime,
    name: &str,
    dtype: DType,
    settings: &bbc::profile::provider::Settings,
    time: Duration,
) -> Vec<Roof> {
    use bbc::profile::provider::Ceiling;

    let ceilings = KINDS.map(|kind| Ceiling::prepare(runtime, kind, dtype, settings).map(|ceiling| (kind, ceiling)));
    let mut ceilings = told(ceilings);
    let unmeasured = told(ceilings.iter_mut().map(|(kind, ceiling)| {
        let roof = Roof {
            kind: *kind,
            instrument: Instrument {
                kind: InstrumentKind::Provider,
                name: name.to_owned(),
                variant: ceiling.what().to_owned(),
            },
            dtype,
            amount: ceiling.amount(),
            timing: bbc::profile::Timing::ChainSlope,
            samples_ns: Vec::new(),
        };
        ceiling.bind().map(|bound| (roof, bound))
    }));
    measure(unmeasured, time / 10, settings.seed)
}

/// What an adapter reaches at most in this precision, as far as it can be had; in a tenth of the time that problems may
/// take.
#[cfg(feature = "gpu")]
pub(crate) fn of_adapter(gpu: &bbc::profile::shader::Gpu, dtype: DType, time: Duration, seed: u64) -> Vec<Roof> {
    let ceilings = KINDS.map(|kind| gpu.prepare_roof(kind, dtype).map(|ceiling| (kind, ceiling)));
    let unmeasured = told(ceilings).into_iter().map(|(kind, ceiling)| {
        let instrument = Instrument {
            kind: InstrumentKind::Shader,
            name: ceiling.shader().to_owned(),
            variant: ceiling.variant().to_owned(),
        };
        let (amount, timing) = (ceiling.amount(), ceiling.timing().into());
        (Roof { kind, instrument, dtype, amount, timing, samples_ns: Vec::new() }, ceiling)
    });
    measure(unmeasured.collect(), time / 10, seed)
}

/// What could be prepared; why the rest could not is told.
fn told<T, E: Error>(prepared: impl IntoIterator<Item = Result<T, E>>) -> Vec<T> {
    prepared.into_iter().filter_map(|ceiling| ceiling.map_err(|error| left_out(&error)).ok()).collect()
}

fn left_out(why: &dyn Error) {
    output::warning(&format!("what the device reaches at most is not measured: {why}"));
}

/// Times roofs, each given without samples. What cannot be measured is told and left out.
fn measure<T: Timed<Error: Error + 'static>>(unmeasured: Vec<(Roof, T)>, time: Duration, seed: u64) -> Vec<Roof> {
    let [min_rounds, enough_rounds, max_rounds] = ROUNDS;
    let budget = Budget { time, min_rounds, enough_rounds, max_rounds, precision: PRECISION };
    let (mut roofs, mut timed): (Vec<Roof>, Vec<T>) = unmeasured.into_iter().unzip();
    let bar = output::timed_progress(1000);
    let samples = sample_rounds(&mut timed, budget, seed, &mut |progress| {
        output::time_left(&bar, "measuring the roof", progress);
    });
    bar.finish_and_clear();
    let samples = samples.unwrap_or_else(|error| {
        left_out(&error.source);
        error.samples
    });
    for (roof, samples) in roofs.iter_mut().zip(samples) {
        roof.samples_ns = samples.into_iter().map(|sample| sample.map(|time| time.wall_ns)).collect();
    }
    roofs.retain(|roof| roof.median().is_some());
    roofs
}
