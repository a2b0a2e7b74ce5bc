//! Proof that a model does what its file says, by running it.
//!
//! [`prove`] is for a model of our own: the first thing that does not hold is an error. [`judge()`] is for a stranger's:
//! every check says by itself how it ended.

use std::collections::HashMap;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::ir::weight::LeafInit;
use crate::ir::{Seeded, WeightSource};
use crate::runtime::Runtime;
use crate::runtime::provider::Provider;
use crate::runtime::session::{Options, PlacedNode, PlacementError, Port, PortDim, RunError, Session, SessionError};
use crate::tensor::{Comparison, Tensor, TensorError, element_count};

pub use self::judge::judge;

pub mod compare;
mod divergence;
pub mod judge;
pub mod outcome;
pub mod stored;

/// How a model is to be proven.
#[derive(Debug, Clone)]
pub struct Trial {
    /// What computes.
    pub provider: Provider,
    /// Threads that work on one node; `None` leaves the number to ONNX Runtime.
    pub threads: Option<NonZero<usize>>,
    /// How long to time the model after it is warm; it is timed at least [`MIN_SAMPLES`] times.
    pub time: Duration,
    /// Most elements an input or output may have, over all images of a batch.
    pub max_elements: u64,
    /// Heights and widths to run images of a free size at, the first of which is timed; of no use where that is fixed.
    pub sizes: Vec<[u32; 2]>,
    /// Folder for what is written meanwhile; `None` for the system's temporary one.
    pub scratch: Option<PathBuf>,
}

/// Fewest timed runs.
pub const MIN_SAMPLES: usize = 7;

/// Batch sizes that a model with a free batch is run at.
const FREE_BATCHES: [u32; 2] = [1, 8];

/// What running a model has shown. That there is one means: it loads, its outputs are finite and of the shapes the file
/// declares, at every size that was to be run at; two runs give the same, and the first and last image of a batch give
/// the same alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Proof {
    /// What computed.
    pub provider: Provider,
    /// Batch sizes it ran at, smallest first.
    pub batches: Vec<u32>,
    /// Heights and widths it ran at, where images of any size go through it.
    pub sizes: Vec<[u32; 2]>,
    /// Nodes that ran.
    pub nodes: usize,
    /// Nodes that ran on another provider than asked for.
    pub elsewhere: Vec<PlacedNode>,
    /// Batch size that was timed.
    pub timed_batch: u32,
    /// Wall time of each timed run with its inputs in place, in nanoseconds.
    pub samples_ns: Vec<u64>,
}

/// What does not hold, or why it could not be found out.
#[derive(Debug, Error)]
pub enum ProofError {
    /// No session could be made.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// It did not run.
    #[error("the model does not run at batch {batch}")]
    Run {
        /// The batch size.
        batch: u32,
        /// Why.
        source: RunError,
    },
    /// An input has free dimensions besides the batch, and a size for them was not given.
    #[error("input `{name}` has the free dimension {dim}; only the batch and the size of images can be chosen here")]
    FreeDimension {
        /// The input.
        name: String,
        /// Which dimension, from 0.
        dim: usize,
    },
    /// An input or output is larger than allowed.
    #[error("`{name}` has {elements} elements at batch {batch}, more than the {most} allowed")]
    TooLarge {
        /// The input or output.
        name: String,
        /// Elements it has.
        elements: u64,
        /// The batch size.
        batch: u32,
        /// Elements it may have.
        most: u64,
    },
    /// A tensor could not be made or taken apart.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// An output has another shape than declared.
    #[error("output `{name}` has shape {actual:?} on an input of shape {input:?}; the file declares {declared}")]
    Shape {
        /// The output.
        name: String,
        /// Shape of the first input.
        input: Vec<u32>,
        /// What the file says.
        declared: String,
        /// What came out.
        actual: Vec<u32>,
    },
    /// An output has values that are no numbers.
    #[error("output `{name}` has {count} values at batch {batch} that are not finite")]
    NotFinite {
        /// The output.
        name: String,
        /// The batch size.
        batch: u32,
        /// How many.
        count: usize,
    },
    /// Two runs gave different results.
    #[error("output `{name}` differs by {} between two runs on the same input", comparison.max_abs)]
    NotRepeatable {
        /// The output.
        name: String,
        /// How they differ.
        comparison: Comparison,
    },
    /// An image gives something else in a batch than alone.
    #[error("output `{name}` of image {image} differs by {} between a batch of {batch} and the image alone", comparison.max_abs)]
    BatchDiffers {
        /// The output.
        name: String,
        /// The batch size.
        batch: u32,
        /// Which image of it.
        image: u32,
        /// How they differ.
        comparison: Comparison,
    },
    /// Where the nodes ran is not known.
    #[error(transparent)]
    Placement(#[from] PlacementError),
}

impl ProofError {
    /// Whether the model itself is at fault, rather than what it was to be proven with.
    pub fn is_about_the_model(&self) -> bool {
        match self {
            Self::Session(error) => matches!(error, SessionError::Model { .. }),
            Self::Run { .. }
            | Self::Shape { .. }
            | Self::NotFinite { .. }
            | Self::NotRepeatable { .. }
            | Self::BatchDiffers { .. } => true,
            Self::FreeDimension { .. } | Self::TooLarge { .. } | Self::Tensor(_) | Self::Placement(_) => false,
        }
    }
}

/// Runs the model in a file at every batch size it allows, and times it.
///
/// # Errors
/// What does not hold, or why it could not be found out.
pub fn prove(runtime: &Runtime, model: &Path, trial: &Trial) -> Result<Proof, ProofError> {
    let options = Options { threads: trial.threads, cpu_fallback: true, ..Options::on(trial.provider) };
    let recording = Options { record_placement: true, scratch: trial.scratch.clone(), ..options.clone() };
    let mut session = Session::from_file(runtime, model, &recording)?;
    let (batches, _) = judge::batches(session.inputs(), &FREE_BATCHES);
    let sizes = if session.inputs().iter().any(has_free_size) { trial.sizes.clone() } else { Vec::new() };
    let first_size = sizes.first().copied();
    for (i, &batch) in batches.iter().enumerate() {
        let trial = At { batch, size: first_size, most: trial.max_elements };
        let results = run(&mut session, trial, 0)?;
        check_outputs(&session, trial, &results)?;
        if i == 0 {
            check_same(&results, &run(&mut session, trial, 0)?)?;
            continue;
        }
        for image in [0, batch - 1] {
            let alone = run(&mut session, At { batch: 1, ..trial }, image)?;
            check_image(&alone, &results, image, batch)?;
        }
    }
    for &size in sizes.iter().skip(1) {
        let trial = At { batch: batches[0], size: Some(size), most: trial.max_elements };
        let results = run(&mut session, trial, 0)?;
        check_outputs(&session, trial, &results)?;
    }
    let placement = session.placement()?;
    let mut session = Session::from_file(runtime, model, &options)?;
    let timed_batch = batches[0];
    let timed = At { batch: timed_batch, size: first_size, most: trial.max_elements };
    let samples_ns = time(&mut session, timed, trial.time)?;
    Ok(Proof {
        provider: trial.provider,
        nodes: placement.nodes.len(),
        elsewhere: placement.elsewhere(trial.provider).cloned().collect(),
        batches,
        sizes,
        timed_batch,
        samples_ns,
    })
}

/// What free dimensions are at one run.
#[derive(Debug, Clone, Copy)]
struct At {
    /// Images that are run together.
    batch: u32,
    /// Height and width of images, where they are free.
    size: Option<[u32; 2]>,
    /// Most elements of an input or output.
    most: u64,
}

type Results = Vec<(String, Tensor)>;

fn is_free(dim: &PortDim) -> bool {
    matches!(dim, PortDim::Named(_) | PortDim::Unknown)
}

/// Whether the height or width of an image is free.
fn has_free_size(port: &Port) -> bool {
    port.dims.len() == 4 && port.dims[2..].iter().any(is_free)
}

/// Noise of unit variance for every input: the images from `first` on, of which each is always the same.
fn inputs(ports: &[Port], at: At, first: u32) -> Result<Results, ProofError> {
    let At { batch, most, .. } = at;
    ports
        .iter()
        .map(|port| {
            let shape = shape_at(port, at)?;
            let elements = element_count(&shape);
            if elements > most {
                return Err(ProofError::TooLarge { name: port.name.clone(), elements, batch, most });
            }
            let images = shape.first().copied().unwrap_or(1);
            let image_shape = shape.get(1..).unwrap_or_default();
            let mut data = Vec::new();
            for image in first..first.saturating_add(images) {
                let bound = 3f32.sqrt();
                let noise = Seeded(image.into()).values(&port.name, image_shape, LeafInit::Uniform { bound });
                data.extend(noise.unwrap_or_else(|never| match never {}));
            }
            Ok((port.name.clone(), Tensor::new(shape, data)?))
        })
        .collect()
}

fn shape_at(port: &Port, at: At) -> Result<Vec<u32>, ProofError> {
    let is_image = port.dims.len() == 4;
    let size = |(dim, size): (usize, &PortDim)| match (size, dim, at.size) {
        (PortDim::Fixed(n), _, _) => Ok(*n),
        (_, 0, _) => Ok(at.batch),
        (_, 2 | 3, Some(size)) if is_image => Ok(size[dim - 2]),
        _ => Err(ProofError::FreeDimension { name: port.name.clone(), dim }),
    };
    port.dims.iter().enumerate().map(size).collect()
}

fn run(session: &mut Session, at: At, first: u32) -> Result<Results, ProofError> {
    let inputs = inputs(session.inputs(), at, first)?;
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    session.run(&inputs).map_err(|source| ProofError::Run { batch: at.batch, source })
}

fn check_outputs(session: &Session, at: At, results: &Results) -> Result<(), ProofError> {
    let At { batch, most, .. } = at;
    let mut names = Names::default();
    let mut input_shape = Vec::new();
    for (i, port) in session.inputs().iter().enumerate() {
        let shape = shape_at(port, at)?;
        for (dim, &size) in port.dims.iter().zip(&shape) {
            names.fits(dim, size);
        }
        if i == 0 {
            input_shape = shape;
        }
    }
    for (port, (name, tensor)) in session.outputs().iter().zip(results) {
        let name = || name.clone();
        let dims = port.dims.iter().zip(tensor.shape()).enumerate();
        let fits = port.dims.len() == tensor.shape().len()
            && dims.fold(true, |fits, (i, (dim, &size))| {
                names.fits(dim, size) && (i > 0 || !is_free(dim) || size == batch) && fits
            });
        if !fits {
            let actual = tensor.shape().to_vec();
            return Err(ProofError::Shape { name: name(), input: input_shape, declared: port.ty.clone(), actual });
        }
        let elements = element_count(tensor.shape());
        if elements > most {
            return Err(ProofError::TooLarge { name: name(), elements, batch, most });
        }
        let count = tensor.data().iter().filter(|value| !value.is_finite()).count();
        if count > 0 {
            return Err(ProofError::NotFinite { name: name(), batch, count });
        }
    }
    Ok(())
}

/// What the names of free dimensions stand for in one run.
#[derive(Default)]
struct Names(HashMap<String, u32>);

impl Names {
    /// Whether a dimension can have this size: a number is that number; a name is what it was before; a name over a
    /// number (`H/4`) is that part of what the name was, rounded up. What was not known before is from now on.
    fn fits(&mut self, dim: &PortDim, size: u32) -> bool {
        let name = match dim {
            PortDim::Fixed(n) => return *n == size,
            PortDim::Unknown => return true,
            PortDim::Named(name) => name,
        };
        let part = name.split_once('/').and_then(|(whole, by)| {
            let by = by.parse::<u32>().ok().filter(|by| *by > 0)?;
            Some(self.0.get(whole)?.div_ceil(by))
        });
        part.unwrap_or_else(|| *self.0.entry(name.clone()).or_insert(size)) == size
    }
}

/// Two runs on the same input give the same up to rounding: GPUs may sum in another order every time.
fn check_same(first: &Results, second: &Results) -> Result<(), ProofError> {
    for ((name, first), (_, second)) in first.iter().zip(second) {
        agree(first, second).map_err(|comparison| ProofError::NotRepeatable { name: name.clone(), comparison })?;
    }
    Ok(())
}

/// An image of a batch gives what it gave alone, up to rounding.
fn check_image(alone: &Results, results: &Results, image: u32, batch: u32) -> Result<(), ProofError> {
    for ((name, alone), (_, many)) in alone.iter().zip(results) {
        let size = alone.data().len();
        let of_image = many.data().get(image as usize * size..(image as usize + 1) * size).unwrap_or_default();
        agree(&Tensor::new(alone.shape(), of_image.to_vec())?, alone)
            .map_err(|comparison| ProofError::BatchDiffers { name: name.clone(), batch, image, comparison })?;
    }
    Ok(())
}

/// Whether two results are the same within what rounding can do, a thousandth of the greatest value; how they differ.
fn agree(actual: &Tensor, expected: &Tensor) -> Result<(), Comparison> {
    let scale = expected.data().iter().fold(0f32, |most, value| most.max(value.abs()));
    match actual.compare(expected, 0.0, 1e-3 * scale) {
        Some(comparison) if comparison.passed => Ok(()),
        Some(comparison) => Err(comparison),
        // The shapes differ.
        None => Err(Comparison { max_abs: f32::INFINITY, max_rel: f32::INFINITY, worst: Vec::new(), passed: false }),
    }
}

/// Times the model until the time is up, after runs that warm it up.
fn time(session: &mut Session, at: At, time: Duration) -> Result<Vec<u64>, ProofError> {
    let failed = |source| ProofError::Run { batch: at.batch, source };
    let inputs = inputs(session.inputs(), at, 0)?;
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut bound = session.bind(&inputs).map_err(failed)?;
    bound.time(2).map_err(failed)?;
    let start = Instant::now();
    let mut samples = Vec::new();
    while samples.len() < MIN_SAMPLES || start.elapsed() < time {
        samples.extend(bound.time(1).map_err(failed)?);
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_dimensions_stand_for_one_size() {
        let mut names = Names::default();
        let mut fits = |dim: &str, size| {
            let dim = dim.parse().map_or_else(|_| PortDim::Named(dim.to_owned()), PortDim::Fixed);
            names.fits(&dim, size)
        };
        for (dim, size, expected) in [
            ("H", 95, true),
            ("H", 96, false),
            ("H/4", 24, true),
            ("H/4", 23, false),
            ("W/4", 7, true),
            ("W/4", 8, false),
            ("H/0", 5, true),
            ("3", 3, true),
            ("3", 4, false),
        ] {
            assert_eq!(fits(dim, size), expected, "{dim} {size}");
        }
        assert!(names.fits(&PortDim::Unknown, 9));
    }
}
