//! The initializers of a model that was read, as a source of weights.

use std::collections::HashMap;
use std::ops::Range;

use crate::ir::WeightSource;
use crate::ir::weight::LeafInit;
use crate::onnx::proto::{ModelProto, TensorProto, tensor_proto::DataLocation, tensor_proto::DataType};
use crate::tensor::element_count;

/// The numbers of floating point that a model holds by name.
#[derive(Debug, Clone, Default)]
pub struct Initializers {
    tensors: HashMap<String, TensorProto>,
}

/// Why the values of an initializer cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InitializerError {
    /// There is none of that name.
    #[error("the model has no initializer of that name")]
    Missing,
    /// They are in another file.
    #[error("its values are in the file `{0}`, not in the model")]
    External(String),
    /// There are more or fewer than asked for.
    #[error("it has {actual} values, {expected} are needed")]
    Count {
        /// How many are needed.
        expected: usize,
        /// How many there are.
        actual: usize,
    },
}

impl Initializers {
    /// Those of a model that [`check`](crate::onnx::check()) has passed. Integers are no weights and left out.
    pub fn of(model: &ModelProto) -> Self {
        let tensors = model.graph.iter().flat_map(|graph| &graph.initializer);
        let floats = tensors.filter(|tensor| float_type(tensor).is_some());
        Self { tensors: floats.map(|tensor| (tensor.name().to_owned(), tensor.clone())).collect() }
    }

    /// Name and shape of each, in the order of their names.
    pub fn shapes(&self) -> Vec<(String, Vec<u64>)> {
        let size = |&n: &i64| u64::try_from(n).unwrap_or(0);
        let shape = |tensor: &TensorProto| tensor.dims.iter().map(size).collect();
        let mut shapes: Vec<_> = self.tensors.iter().map(|(name, tensor)| (name.clone(), shape(tensor))).collect();
        shapes.sort();
        shapes
    }
}

impl WeightSource for Initializers {
    type Error = InitializerError;

    fn values(&self, name: &str, shape: &[u32], init: LeafInit<'_>) -> Result<Vec<f32>, InitializerError> {
        self.part(name, shape, init, 0..element_count(shape))
    }

    fn part(
        &self,
        name: &str,
        shape: &[u32],
        _: LeafInit<'_>,
        positions: Range<u64>,
    ) -> Result<Vec<f32>, InitializerError> {
        let tensor = self.tensors.get(name).ok_or(InitializerError::Missing)?;
        if tensor.data_location() == DataLocation::External {
            let location = tensor.external_data.iter().find(|entry| entry.key() == "location");
            return Err(InitializerError::External(location.map_or_else(String::new, |e| e.value().to_owned())));
        }
        let (expected, actual) = (index(element_count(shape)), count(tensor));
        if actual != expected {
            return Err(InitializerError::Count { expected, actual });
        }
        Ok(decoded_part(tensor, index(positions.start)..index(positions.end)))
    }
}

fn index(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

/// The type of a tensor's elements if they are of floating point and no wider than single precision.
fn float_type(tensor: &TensorProto) -> Option<DataType> {
    let ty = DataType::try_from(tensor.data_type()).ok()?;
    matches!(ty, DataType::Float | DataType::Float16 | DataType::Bfloat16).then_some(ty)
}

/// How many values a tensor of floating point has.
fn count(tensor: &TensorProto) -> usize {
    match (float_type(tensor), &tensor.raw_data) {
        (Some(DataType::Float16 | DataType::Bfloat16), Some(raw)) => raw.len() / 2,
        (Some(DataType::Float16 | DataType::Bfloat16), None) => tensor.int32_data.len(),
        (_, Some(raw)) => raw.len() / 4,
        (_, None) => tensor.float_data.len(),
    }
}

/// The values of a tensor of floating point.
pub(super) fn decoded(tensor: &TensorProto) -> Vec<f32> {
    decoded_part(tensor, 0..count(tensor))
}

/// Those of its values that stand at these positions.
fn decoded_part(tensor: &TensorProto, Range { start, end }: Range<usize>) -> Vec<f32> {
    let length = end.saturating_sub(start);
    let widen: fn(u16) -> f32 = match float_type(tensor) {
        Some(DataType::Bfloat16) => |bits| half::bf16::from_bits(bits).to_f32(),
        _ => |bits| half::f16::from_bits(bits).to_f32(),
    };
    match (float_type(tensor), tensor.raw_data.as_deref()) {
        (Some(DataType::Float16 | DataType::Bfloat16), Some(raw)) => {
            let pairs = raw.chunks_exact(2).skip(start).take(length);
            pairs.map(|b| widen(u16::from_le_bytes([b[0], b[1]]))).collect()
        }
        // Outside of the raw bytes, halves stand in the low bits of integers.
        (Some(DataType::Float16 | DataType::Bfloat16), None) => {
            let bits = tensor.int32_data.iter().skip(start).take(length);
            bits.map(|bits| bits.to_le_bytes()).map(|b| widen(u16::from_le_bytes([b[0], b[1]]))).collect()
        }
        (_, Some(raw)) => {
            let words = raw.chunks_exact(4).skip(start).take(length);
            words.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        }
        (_, None) => tensor.float_data.iter().copied().skip(start).take(length).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::GraphProto;

    fn tensor(name: &str, ty: DataType, dims: &[i64]) -> TensorProto {
        TensorProto {
            name: Some(name.to_owned()),
            data_type: Some(ty.into()),
            dims: dims.to_vec(),
            ..TensorProto::default()
        }
    }

    #[test]
    fn values_are_read_in_every_form() {
        let raw = |name: &str, ty, bytes: &'static [u8]| TensorProto {
            raw_data: Some(bytes.into()),
            ..tensor(name, ty, &[2])
        };
        let initializer = vec![
            raw("float", DataType::Float, &[0, 0, 0xc0, 0x3f, 0, 0, 0, 0xc0]),
            TensorProto { float_data: vec![1.5, -2.0], ..tensor("floats", DataType::Float, &[2]) },
            raw("half", DataType::Float16, &[0, 0x3e, 0, 0xc0]),
            TensorProto { int32_data: vec![0x3e00, 0xc000], ..tensor("halves", DataType::Float16, &[2]) },
            raw("bfloat", DataType::Bfloat16, &[0xc0, 0x3f, 0, 0xc0]),
            TensorProto { int32_data: vec![0x3fc0, 0xc000], ..tensor("bfloats", DataType::Bfloat16, &[2]) },
            TensorProto { int64_data: vec![1, 2], ..tensor("pads", DataType::Int64, &[2]) },
        ];
        let graph = GraphProto { initializer, ..GraphProto::default() };
        let initializers = Initializers::of(&ModelProto { graph: Some(graph), ..ModelProto::default() });
        let names: Vec<String> = initializers.shapes().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["bfloat", "bfloats", "float", "floats", "half", "halves"]);
        let init = LeafInit::Constant(0.0);
        for name in names {
            assert_eq!(initializers.values(&name, &[2], init).unwrap(), [1.5, -2.0], "{name}");
            assert_eq!(initializers.part(&name, &[2], init, 1..2).unwrap(), [-2.0], "{name}");
            assert_eq!(initializers.part(&name, &[2], init, 1..9).unwrap(), [-2.0], "{name}");
            assert_eq!(initializers.part(&name, &[2], init, 2..2).unwrap(), [0.0; 0], "{name}");
        }
        assert_eq!(initializers.values("pads", &[2], init), Err(InitializerError::Missing));
        let count = InitializerError::Count { expected: 3, actual: 2 };
        assert_eq!(initializers.values("float", &[3], init), Err(count));
    }
}
