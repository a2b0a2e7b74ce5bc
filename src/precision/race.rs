//! Two models timed in turn.

use std::num::NonZero;
use std::path::Path;
use std::time::Duration;

use crate::profile::network::{Network, NetworkError, Ratio, Settings, in_turn};
use crate::profile::sampling::{Budget, Progress, SamplingError, median};
use crate::runtime::Runtime;
use crate::runtime::noise::Sizes;
use crate::runtime::provider::Provider;
use crate::runtime::session::Optimization;

/// How long two models take.
#[derive(Debug, Clone, PartialEq)]
pub struct Race {
    /// Median seconds of one run of each.
    pub median_s: [f64; 2],
    /// The first's time by the second's: above one, the second is faster.
    pub speedup: Ratio,
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
    let budget = Budget { time, min_rounds: 10, enough_rounds: u32::MAX, max_rounds: 1_000_000, precision: 0.0 };
    let samples = in_turn(&mut networks, WARM_UP, budget, 0, on_progress)?;
    let middle = |samples: &[Option<u64>]| {
        let times: Vec<f64> = samples.iter().flatten().map(|&ns| ns as f64 * 1e-9).collect();
        median(&times).unwrap_or(f64::NAN)
    };
    let (first, second) = (&samples[0], &samples[1]);
    Ok(Race { median_s: [middle(first), middle(second)], speedup: Ratio::of(first, second) })
}
