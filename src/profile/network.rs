//! Whole networks as things that are timed, with the same statistics as single convolutions.

use std::num::NonZero;
use std::path::Path;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::sampling::{
    Budget, Interval, Progress, SamplingError, Time, Timed, median, median_interval, paired_ratios, sample_rounds,
};
use crate::runtime::Runtime;
use crate::runtime::noise::{self, NoiseError, Sizes};
use crate::runtime::provider::Provider;
use crate::runtime::session::{Bound, Optimization, Options, RunError, Session, SessionError};
use crate::tensor::Tensor;

/// How a network is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// What computes.
    pub provider: Provider,
    /// Threads that work on one node; `None` leaves the number to ONNX Runtime.
    pub threads: Option<NonZero<usize>>,
    /// How far ONNX Runtime rewrites the graph.
    pub optimization: Optimization,
    /// The sizes of its inputs.
    pub sizes: Sizes,
    /// Whether inputs are copied to the device and outputs back in every run, as a program would that gets one image
    /// after the other; if not, inputs lie there beforehand and outputs stay.
    pub transfer: bool,
    /// Most elements an input may have.
    pub max_elements: u64,
    /// Seed of the inputs.
    pub seed: u64,
}

/// Why a network cannot be timed.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// No session could be made.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// There is no input for it.
    #[error(transparent)]
    Input(#[from] NoiseError),
    /// It does not run.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// A network with inputs of noise.
#[derive(Debug)]
pub struct Network {
    session: Session,
    inputs: Vec<(String, Tensor)>,
    transfer: bool,
}

impl Network {
    /// Loads the model in a file, with its weights beside it if it has some there.
    ///
    /// # Errors
    /// If ONNX Runtime refuses it, or a size that it needs is not given.
    pub fn load(runtime: &Runtime, model: &Path, settings: &Settings) -> Result<Self, NetworkError> {
        Self::with(runtime, model, settings, None)
    }

    /// The same, with a record of the runs of every node, kept in the folder `scratch` meanwhile; see
    /// [`Network::into_session`].
    ///
    /// # Errors
    /// As for [`Network::load`].
    pub fn load_recording(
        runtime: &Runtime,
        model: &Path,
        settings: &Settings,
        scratch: &Path,
    ) -> Result<Self, NetworkError> {
        Self::with(runtime, model, settings, Some(scratch))
    }

    fn with(
        runtime: &Runtime,
        model: &Path,
        settings: &Settings,
        record_in: Option<&Path>,
    ) -> Result<Self, NetworkError> {
        let options = Options {
            threads: settings.threads,
            optimization: settings.optimization,
            cpu_fallback: true,
            record_placement: record_in.is_some(),
            scratch: record_in.map(Path::to_owned),
            ..Options::on(settings.provider)
        };
        let session = Session::from_file(runtime, model, &options)?;
        let inputs = noise::inputs(session.inputs(), settings.sizes, settings.max_elements, settings.seed)?;
        Ok(Self { session, inputs, transfer: settings.transfer })
    }

    /// Name and shape of every input.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, &[u32])> {
        self.inputs.iter().map(|(name, tensor)| (name.as_str(), tensor.shape()))
    }

    /// The network ready to run again and again.
    ///
    /// # Errors
    /// If ONNX Runtime cannot take the inputs.
    pub fn bind(&mut self) -> Result<BoundNetwork<'_>, NetworkError> {
        let inputs: Vec<(&str, &Tensor)> = self.inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        Ok(if self.transfer {
            BoundNetwork::Copying { session: &mut self.session, inputs }
        } else {
            BoundNetwork::InPlace(Box::new(self.session.bind(&inputs)?))
        })
    }

    /// The session, for what it recorded.
    pub fn into_session(self) -> Session {
        self.session
    }
}

/// A network ready to be timed.
#[derive(Debug)]
pub enum BoundNetwork<'n> {
    /// Inputs are copied in and outputs out in every run.
    Copying {
        /// What runs it.
        session: &'n mut Session,
        /// Its inputs.
        inputs: Vec<(&'n str, &'n Tensor)>,
    },
    /// Inputs lie on the device, and outputs stay there.
    InPlace(Box<Bound<'n>>),
}

impl BoundNetwork<'_> {
    /// Runs once and waits for the end.
    ///
    /// # Errors
    /// If ONNX Runtime fails.
    pub fn run(&mut self) -> Result<(), NetworkError> {
        match self {
            Self::Copying { session, inputs } => drop(session.run(inputs)?),
            Self::InPlace(bound) => bound.run()?,
        }
        Ok(())
    }

    /// Runs until the time is up, once at the least; how often it ran.
    ///
    /// # Errors
    /// If ONNX Runtime fails.
    pub fn warm_up(&mut self, time: Duration) -> Result<u32, NetworkError> {
        let start = Instant::now();
        let mut runs = 0;
        while runs == 0 || start.elapsed() < time {
            self.run()?;
            runs += 1;
        }
        Ok(runs)
    }
}

impl Timed for BoundNetwork<'_> {
    type Error = NetworkError;

    /// The wall time of one run.
    fn sample(&mut self) -> Result<Option<Time>, NetworkError> {
        let start = Instant::now();
        self.run()?;
        let wall_ns = u64::try_from(start.elapsed().as_nanos()).ok().filter(|&ns| ns > 0);
        Ok(wall_ns.map(|wall_ns| Time { wall_ns, processor_ns: None }))
    }
}

/// Times the networks run by run in turn, each of them after it has run for `warm_up`: the nanoseconds of each, one a
/// round; `None` for a run that the clock did not see.
///
/// `on_progress` is called before every run.
///
/// # Errors
/// Which of them does not run, and why.
pub fn in_turn(
    networks: &mut [Network],
    warm_up: Duration,
    budget: Budget,
    seed: u64,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Vec<Option<u64>>>, SamplingError<NetworkError>> {
    let at = |index| move |source| SamplingError { index, source, samples: Vec::new() };
    let mut bound = Vec::new();
    for (index, network) in networks.iter_mut().enumerate() {
        let mut network = network.bind().map_err(at(index))?;
        network.warm_up(warm_up).map_err(at(index))?;
        bound.push(network);
    }
    let samples = sample_rounds(&mut bound, budget, seed, on_progress)?;
    let wall = |samples: Vec<Option<Time>>| samples.into_iter().map(|time| Some(time?.wall_ns)).collect();
    Ok(samples.into_iter().map(wall).collect())
}

/// One network's time by another's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// The median of all runs.
    pub median: f64,
    /// Holds the true one with 95 % confidence.
    pub interval: Option<Interval>,
    /// Runs that both have.
    pub runs: usize,
}

impl Ratio {
    /// Run by run, so that what slows both falls out.
    pub fn of(first: &[Option<u64>], second: &[Option<u64>]) -> Self {
        let float = |samples: &[Option<u64>]| samples.iter().map(|ns| ns.map(|ns| ns as f64)).collect::<Vec<_>>();
        let ratios = paired_ratios(&float(first), &float(second));
        Self { median: median(&ratios).unwrap_or(f64::NAN), interval: median_interval(&ratios), runs: ratios.len() }
    }

    /// Whether the difference could be noise.
    pub fn is_tie(&self) -> bool {
        self.interval.is_none_or(|interval| interval.contains(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_taken_run_by_run() {
        // Both slow down tenfold in the middle; their ratio does not change. One run of the second was not seen.
        let base = [10, 10, 10, 100, 100, 100, 100, 10, 10, 10];
        let first: Vec<Option<u64>> = base.iter().map(|ms| Some(ms * 11)).collect();
        let mut second: Vec<Option<u64>> = base.iter().map(|ms| Some(ms * 10)).collect();
        assert!(Ratio::of(&second, &second).is_tie());
        second[3] = None;
        let ratio = Ratio::of(&first, &second);
        assert!((ratio.median - 1.1).abs() < 1e-9 && !ratio.is_tie() && ratio.runs == 9, "{ratio:?}");
    }
}
