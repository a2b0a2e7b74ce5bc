//! What a model is run on: images from somewhere, or noise.

use crate::runtime::noise::{self, Sizes};
use crate::runtime::session::Port;
use crate::tensor::Tensor;

/// Inputs for a model, numbered.
pub trait Samples {
    /// How many there are.
    fn count(&self) -> usize;

    /// A tensor for every input.
    ///
    /// # Errors
    /// If it cannot be had.
    fn inputs(&self, index: usize) -> Result<Vec<(String, Tensor)>, SampleError>;
}

/// Why a sample cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SampleError {
    /// What is wrong, with the name of the image.
    pub message: String,
}

/// Noise of unit variance, the same on every machine.
#[derive(Debug, Clone)]
pub struct Noise {
    /// The inputs.
    pub ports: Vec<Port>,
    /// The sizes that they leave free.
    pub sizes: Sizes,
    /// How many samples there are.
    pub count: usize,
}

/// Most elements of one input: 1 GiB of single precision.
const MAX_ELEMENTS: u64 = 1 << 28;

impl Samples for Noise {
    fn count(&self) -> usize {
        self.count
    }

    fn inputs(&self, index: usize) -> Result<Vec<(String, Tensor)>, SampleError> {
        noise::inputs(&self.ports, self.sizes, MAX_ELEMENTS, index as u64)
            .map_err(|error| SampleError { message: error.to_string() })
    }
}
