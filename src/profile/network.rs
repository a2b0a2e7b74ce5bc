//! Whole networks as things that are timed, with the same statistics as single convolutions.

use std::num::NonZero;
use std::path::Path;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::sampling::{Time, Timed};
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
        Self::with(runtime, model, settings, false)
    }

    /// The same, with a record of the runs of every node; see [`Network::into_session`].
    ///
    /// # Errors
    /// As for [`Network::load`].
    pub fn load_recording(runtime: &Runtime, model: &Path, settings: &Settings) -> Result<Self, NetworkError> {
        Self::with(runtime, model, settings, true)
    }

    fn with(runtime: &Runtime, model: &Path, settings: &Settings, record: bool) -> Result<Self, NetworkError> {
        let options = Options {
            threads: settings.threads,
            optimization: settings.optimization,
            cpu_fallback: true,
            record_placement: record,
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
