//! Tensors in files of their own, as the test sets of ONNX's backends have them (`input_0.pb`): one message each.

use prost::Message;

use crate::onnx::check::{CheckError, check_stored};
use crate::onnx::proto::{TensorProto, tensor_proto::DataLocation, tensor_proto::DataType};
use crate::onnx::scan::Held;
use crate::tensor::array::{Array, Data, ElementType};

/// Why bytes are no tensor that can be used.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// They are no message of that kind.
    #[error("it is not an ONNX tensor, or is cut short: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// Shape, element type and data do not go together.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// It has elements of a type that is not compared.
    #[error("its elements are of the type {0}, which is not taken")]
    ElementType(String),
    /// Its data is in another file.
    #[error("its data is in another file")]
    External,
}

/// The tensor in these bytes, and its name if it has one.
///
/// # Errors
/// If there is none, or it has elements that are no numbers.
pub fn tensor_from_bytes(bytes: &[u8]) -> Result<(String, Array), StoredError> {
    let tensor = TensorProto::decode(bytes)?;
    check_stored(&tensor, &Held::of(&tensor))?;
    if tensor.data_location() == DataLocation::External {
        return Err(StoredError::External);
    }
    let ty = DataType::try_from(tensor.data_type()).unwrap_or(DataType::Undefined);
    let ty = element_type(ty).ok_or_else(|| StoredError::ElementType(ty.as_str_name().to_lowercase()))?;
    let shape: Option<Vec<u32>> = tensor.dims.iter().map(|&n| u32::try_from(n).ok()).collect();
    let shape = shape.ok_or_else(|| CheckError::Shape { name: tensor.name().to_owned(), dims: tensor.dims.clone() })?;
    let array = Array::new(shape, data(&tensor, ty));
    let array = array.map_err(|_| CheckError::Shape { name: tensor.name().to_owned(), dims: tensor.dims.clone() })?;
    Ok((tensor.name().to_owned(), array))
}

/// A tensor as a message of its own.
pub fn tensor_to_bytes(name: &str, array: &Array) -> Vec<u8> {
    let data_type = match array.element_type() {
        ElementType::F32 => DataType::Float,
        ElementType::F64 => DataType::Double,
        ElementType::F16 => DataType::Float16,
        ElementType::BF16 => DataType::Bfloat16,
        ElementType::I8 => DataType::Int8,
        ElementType::I16 => DataType::Int16,
        ElementType::I32 => DataType::Int32,
        ElementType::I64 => DataType::Int64,
        ElementType::U8 => DataType::Uint8,
        ElementType::U16 => DataType::Uint16,
        ElementType::U32 => DataType::Uint32,
        ElementType::U64 => DataType::Uint64,
        ElementType::Bool => DataType::Bool,
    };
    let tensor = TensorProto {
        name: Some(name.to_owned()),
        dims: array.shape().iter().map(|&n| n.into()).collect(),
        data_type: Some(data_type.into()),
        raw_data: Some(array.data().to_le_bytes().into()),
        ..TensorProto::default()
    };
    tensor.encode_to_vec()
}

fn element_type(ty: DataType) -> Option<ElementType> {
    Some(match ty {
        DataType::Float => ElementType::F32,
        DataType::Double => ElementType::F64,
        DataType::Float16 => ElementType::F16,
        DataType::Bfloat16 => ElementType::BF16,
        DataType::Int8 => ElementType::I8,
        DataType::Int16 => ElementType::I16,
        DataType::Int32 => ElementType::I32,
        DataType::Int64 => ElementType::I64,
        DataType::Uint8 => ElementType::U8,
        DataType::Uint16 => ElementType::U16,
        DataType::Uint32 => ElementType::U32,
        DataType::Uint64 => ElementType::U64,
        DataType::Bool => ElementType::Bool,
        _ => return None,
    })
}

/// The values, raw or in the typed field that belongs to the element type.
fn data(tensor: &TensorProto, ty: ElementType) -> Data {
    if let Some(raw) = &tensor.raw_data {
        return Data::from_le_bytes(ty, raw);
    }
    // In the typed fields smaller integers, and the bits of halves, stand in the low bits of larger ones.
    let low = |bytes: u64| {
        let bytes = usize::try_from(bytes).unwrap_or(4);
        tensor
            .int32_data
            .iter()
            .flat_map(|n| n.to_le_bytes().into_iter().take(bytes).collect::<Vec<_>>())
            .collect::<Vec<u8>>()
    };
    match ty {
        ElementType::F32 => Data::F32(tensor.float_data.clone()),
        ElementType::F64 => Data::F64(tensor.double_data.clone()),
        ElementType::I64 => Data::I64(tensor.int64_data.clone()),
        ElementType::U64 => Data::U64(tensor.uint64_data.clone()),
        ElementType::U32 => Data::U32(tensor.uint64_data.iter().map(|&n| n as u32).collect()),
        ty => Data::from_le_bytes(ty, &low(ty.size())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_written_and_read() {
        for ty in ElementType::ALL {
            let array = Array::new([2, 1], Data::from_f64(ty, [1.0, 0.0].into_iter())).unwrap();
            assert_eq!(tensor_from_bytes(&tensor_to_bytes("x", &array)).unwrap(), ("x".to_owned(), array), "{ty}");
        }
    }

    #[test]
    fn typed_fields_are_read() {
        let tensor = |data_type: DataType| TensorProto {
            dims: vec![2],
            data_type: Some(data_type.into()),
            ..TensorProto::default()
        };
        let cases = [
            (TensorProto { float_data: vec![1.5, -2.0], ..tensor(DataType::Float) }, Data::F32(vec![1.5, -2.0])),
            (TensorProto { int32_data: vec![-1, 200], ..tensor(DataType::Uint8) }, Data::U8(vec![255, 200])),
            (TensorProto { int32_data: vec![-1, 2], ..tensor(DataType::Int8) }, Data::I8(vec![-1, 2])),
            (TensorProto { int32_data: vec![0, 1], ..tensor(DataType::Bool) }, Data::Bool(vec![false, true])),
            (TensorProto { uint64_data: vec![7, 8], ..tensor(DataType::Uint32) }, Data::U32(vec![7, 8])),
            (
                TensorProto { int32_data: vec![0x3c00, 0xc000], ..tensor(DataType::Float16) },
                Data::from_f64(ElementType::F16, [1.0, -2.0].into_iter()),
            ),
        ];
        for (tensor, data) in cases {
            assert_eq!(tensor_from_bytes(&tensor.encode_to_vec()).unwrap().1, Array::new([2], data).unwrap());
        }
        let short = TensorProto { float_data: vec![1.5], ..tensor(DataType::Float) };
        let error = tensor_from_bytes(&short.encode_to_vec()).unwrap_err().to_string();
        assert_eq!(error, "tensor `` has 4 bytes of data, its shape needs 8");
        let text = TensorProto { string_data: vec!["a".into(), "b".into()], ..tensor(DataType::String) };
        let error = tensor_from_bytes(&text.encode_to_vec()).unwrap_err().to_string();
        assert_eq!(error, "its elements are of the type string, which is not taken");
    }
}
