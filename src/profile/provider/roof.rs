//! What a provider reaches at most: a chain of products of large matrices, and one of activations of large tensors.

use std::time::Duration;

use super::{BoundPair, CopiesError, Pair, Settings, computed_in, counts, models, placed, warm_time};
use crate::ir::{BuildError, Graph};
use crate::profile::roof::RoofKind;
use crate::runtime::Runtime;
use crate::runtime::provider::Provider;
use crate::tensor::{DType, Tensor, element_count};
use crate::units::{Bytes, Flops};

/// Columns of the first matrix tried, and of the last.
const COLUMNS: [u32; 2] = [1024, 4096];

/// A product of matrices is large enough when it takes this long.
const LARGE: Duration = Duration::from_millis(4);

/// Shape of the tensors whose activation is nothing but moving memory: 128 MiB in single precision, more than the last
/// cache of nearly every device.
const LARGE_TENSOR: [u32; 4] = [1, 32, 1024, 1024];

/// Activations in the smaller and the larger model where the processor computes.
const FEW: [u32; 2] = [1, 3];

/// A limit of a provider, ready to be measured.
#[derive(Debug)]
pub struct Ceiling {
    pair: Pair,
    amount: u64,
    what: String,
}

impl Ceiling {
    /// Makes and warms up the models that show what the provider reaches at most in this precision.
    ///
    /// Arithmetic: a chain of products of square matrices, doubled in size until one takes a while. Bandwidth: a chain of
    /// activations of a tensor that no cache holds, each of which reads and writes all of it; eight-bit integers move
    /// as fast as single precision, byte by byte, and are measured so.
    ///
    /// # Errors
    /// If the provider cannot compute them, or not in this precision.
    pub fn prepare(runtime: &Runtime, kind: RoofKind, dtype: DType, settings: &Settings) -> Result<Self, CopiesError> {
        match kind {
            RoofKind::Arithmetic => Self::products(runtime, dtype, settings),
            RoofKind::Bandwidth => Self::activations(runtime, dtype, settings),
        }
    }

    /// Operations, or bytes read and written, that a sample is the time of.
    pub fn amount(&self) -> u64 {
        self.amount
    }

    /// What is done: `relu of 134 MB in f32`.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The models with their input in place.
    ///
    /// # Errors
    /// If ONNX Runtime cannot take the input.
    pub fn bind(&mut self) -> Result<BoundPair<'_>, CopiesError> {
        self.pair.bind()
    }

    fn products(runtime: &Runtime, dtype: DType, settings: &Settings) -> Result<Self, CopiesError> {
        let model = |size, layers| Ok(models::model(&models::products(size, layers, dtype)?, dtype, settings.provider));
        let [mut size, largest] = COLUMNS;
        loop {
            let input = filled(&[size, size]);
            let one = model(size, 1)?;
            let mut recorded = settings.recorded(runtime, &one)?;
            recorded.run(&[(models::INPUT, &input)])?;
            computed_in(&placed(recorded, settings.provider)?, dtype)?;
            let took = warm_time(&mut settings.session(runtime, &one)?, &input)?;
            if took < LARGE && size < largest {
                size *= 2;
                continue;
            }
            let bytes = u64::from(size) * u64::from(size) * dtype.size();
            let counts = counts(bytes, took, settings.provider)?;
            let pair = Pair::new(runtime, counts, input, settings, |layers| model(size, layers))?;
            let amount = Flops::from_multiply_adds(u64::from(size).pow(3)).0;
            let what = format!("product of {size}x{size} matrices");
            return Ok(Self { pair, amount, what });
        }
    }

    fn activations(runtime: &Runtime, dtype: DType, settings: &Settings) -> Result<Self, CopiesError> {
        let elements = if dtype == DType::I8 { DType::F32 } else { dtype };
        let build = |layers| -> Result<Graph, BuildError> { models::activations(LARGE_TENSOR, layers, elements) };
        let model = |layers| Ok(models::model(&build(layers)?, elements, settings.provider));
        let input = filled(&LARGE_TENSOR);
        let mut recorded = settings.recorded(runtime, &model(FEW[1])?)?;
        recorded.run(&[(models::INPUT, &input)])?;
        let nodes = placed(recorded, settings.provider)?;
        let found = nodes.iter().filter(|node| node.op == "Relu").count();
        // A provider that runs the model as one node of its own does not show what is inside.
        if nodes.len() > 1 && found != FEW[1] as usize {
            return Err(CopiesError::LeftOut { op: "Relu", found, expected: FEW[1] as usize });
        }
        let counts = match settings.provider {
            Provider::Cpu => FEW,
            provider => few(warm_time(&mut settings.session(runtime, &model(1)?)?, &input)?, provider)?,
        };
        let pair = Pair::new(runtime, counts, input, settings, model)?;
        let moved = Bytes(element_count(&LARGE_TENSOR) * elements.size());
        let what = format!("relu of {moved} in {elements}");
        Ok(Self { pair, amount: 2 * moved.0, what })
    }
}

/// Activations in the smaller and the larger model on a device on which one takes this long. They have no weights, and
/// their results follow each other in the same memory.
fn few(activation: Duration, provider: Provider) -> Result<[u32; 2], CopiesError> {
    counts(0, activation, provider)
}

/// A tensor full of a value that its element type has.
fn filled(shape: &[u32]) -> Tensor {
    let elements = usize::try_from(element_count(shape)).unwrap_or(0);
    Tensor::new(shape, vec![0.5; elements]).unwrap_or_else(|error| unreachable!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_activations_takes_no_longer_than_a_run_may() {
        assert_eq!(few(Duration::from_micros(500), Provider::Cuda).ok(), Some([10, 30]));
        assert_eq!(few(Duration::from_millis(80), Provider::Cuda).ok(), Some([1, 3]));
        assert!(matches!(few(Duration::from_millis(100), Provider::Cuda), Err(CopiesError::TooLong { copies: 3, .. })));
    }
}
