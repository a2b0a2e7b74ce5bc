//! What a model's values are, found out by running it: ranges for integers, what overflows half precision, what the
//! rewritten model computes differently, how fast it is, and in which precision a runtime really ran it.
//!
//! The rewriting itself is [`onnx::precision`](crate::onnx::precision).

use crate::runtime::session::{RunError, SessionError};
use crate::tensor::{Tensor, TensorError};

pub use self::agreement::{Agreement, agreement};
pub use self::calibrate::{Histogram, Method, UnknownMethod, calibrate};
pub use self::layers::{Signal, signals};
pub use self::observe::{Watch, observe};
pub use self::overflow::{Peak, peaks};
pub use self::proof::{ConvRun, Executed, Expected, executed};
pub use self::race::{Race, race};
pub use self::samples::{Noise, SampleError, Samples};

mod agreement;
mod calibrate;
mod layers;
mod observe;
mod overflow;
mod proof;
mod race;
mod samples;

/// Why something could not be found out by running a model.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// There is nothing to run it on.
    #[error("there are no images to run the model on")]
    NoSamples,
    /// An image cannot be had.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The model does not load.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The model does not run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Two results do not belong together.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// Where the nodes ran is not known.
    #[error(transparent)]
    Placement(#[from] crate::runtime::session::PlacementError),
    /// A value has no finite number in it for any image.
    #[error("`{value}` is never finite in single precision")]
    NotFinite {
        /// The value.
        value: String,
    },
    /// Two models do not have the same outputs.
    #[error("output `{name}` has shape {actual:?} where {expected:?} is expected")]
    Outputs {
        /// The output.
        name: String,
        /// Its shape.
        actual: Vec<u32>,
        /// The other model's.
        expected: Vec<u32>,
    },
}

/// Inputs as sessions take them.
fn borrowed(inputs: &[(String, Tensor)]) -> Vec<(&str, &Tensor)> {
    inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect()
}
