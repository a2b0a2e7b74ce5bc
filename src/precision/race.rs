//! Two models timed in turn.

use std::num::NonZero;
use std::path::Path;
use std::time::Duration;

use crate::profile::network::{Network, NetworkError, Settings};
use crate::profile::sampling::{
    Budget, Interval, Progress, SamplingError, Time, median, median_interval, paired_ratios, sample_rounds,
};
use crate::runtime::Runtime;
use crate::runtime::noise::Sizes;
use crate::runtime::provider::Provider;
use crate::runtime::session::Optimization;

/// How long two models take.
#[derive(Debug, Clone, PartialEq)]
pub struct Race {
    /// Median seconds of one run of each.
    pub median_s: [f64; 2],
    /// The first's time by the second's, run by run: above one, the second is faster.
    pub speedup: f64,
    /// Holds the true speedup with 95 % confidence.
    pub interval: Option<Interval>,
    /// How often each ran.
    pub runs: usize,
}

/// Times both models in turn, on inputs of noise, for this time in all.
///
/// # Errors
/// Which of them does not run, 0 or 1, and why.
pub fn race(
    runtime: &Runtime,
    models: [&Path; 2],
    provider: Provider,
    threads: Option<NonZero<usize>>,
    sizes: Sizes,
    time: Duration,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Race, SamplingError<NetworkError>> {
    const WARM_UP: Duration = Duration::from_millis(200);
    let settings = Settings {
        provider,
        threads,
        optimization: Optimization::All,
        sizes,
        transfer: true,
        max_elements: 1 << 28,
        seed: 0,
    };
    let at = |index| move |source| SamplingError { index, source, samples: Vec::new() };
    let mut networks = Vec::new();
    for (index, model) in models.into_iter().enumerate() {
        networks.push(Network::load(runtime, model, &settings).map_err(at(index))?);
    }
    let mut bound = Vec::new();
    for (index, network) in networks.iter_mut().enumerate() {
        let mut network = network.bind().map_err(at(index))?;
        network.warm_up(WARM_UP).map_err(at(index))?;
        bound.push(network);
    }
    let budget = Budget { time, min_rounds: 10, enough_rounds: u32::MAX, max_rounds: 1_000_000, precision: 0.0 };
    let samples = sample_rounds(&mut bound, budget, 0, on_progress)?;
    let float = |samples: &Vec<Option<Time>>| {
        samples.iter().map(|time| time.map(|time| time.wall_ns as f64)).collect::<Vec<_>>()
    };
    let times: Vec<Vec<Option<f64>>> = samples.iter().map(float).collect();
    let middle = |times: &[Option<f64>]| {
        median(&times.iter().flatten().copied().collect::<Vec<f64>>()).unwrap_or(f64::NAN) * 1e-9
    };
    let ratios = paired_ratios(&times[0], &times[1]);
    Ok(Race {
        median_s: [middle(&times[0]), middle(&times[1])],
        speedup: median(&ratios).unwrap_or(f64::NAN),
        interval: median_interval(&ratios),
        runs: ratios.len(),
    })
}
