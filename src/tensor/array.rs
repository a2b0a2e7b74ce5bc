//! Tensors of any of the element types that models take and give.

use half::{bf16, f16};

use super::{TensorError, element_count};

/// The values of an [`Array`], in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Single precision.
    F32(Vec<f32>),
    /// Double precision.
    F64(Vec<f64>),
    /// Half precision.
    F16(Vec<f16>),
    /// The upper half of a single.
    BF16(Vec<bf16>),
    /// Integers of 8 bits.
    I8(Vec<i8>),
    /// Integers of 16 bits.
    I16(Vec<i16>),
    /// Integers of 32 bits.
    I32(Vec<i32>),
    /// Integers of 64 bits.
    I64(Vec<i64>),
    /// Integers of 8 bits without sign.
    U8(Vec<u8>),
    /// Integers of 16 bits without sign.
    U16(Vec<u16>),
    /// Integers of 32 bits without sign.
    U32(Vec<u32>),
    /// Integers of 64 bits without sign.
    U64(Vec<u64>),
    /// Truth values.
    Bool(Vec<bool>),
}

/// The type of an [`Array`]'s elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// Single precision.
    F32,
    /// Double precision.
    F64,
    /// Half precision.
    F16,
    /// The upper half of a single.
    BF16,
    /// Integers of 8 bits.
    I8,
    /// Integers of 16 bits.
    I16,
    /// Integers of 32 bits.
    I32,
    /// Integers of 64 bits.
    I64,
    /// Integers of 8 bits without sign.
    U8,
    /// Integers of 16 bits without sign.
    U16,
    /// Integers of 32 bits without sign.
    U32,
    /// Integers of 64 bits without sign.
    U64,
    /// Truth values.
    Bool,
}

/// Runs an expression for the vector in a [`Data`], whatever its type.
macro_rules! each {
    ($data:expr, $values:ident => $value:expr) => {
        match $data {
            Data::F32($values) => $value,
            Data::F64($values) => $value,
            Data::F16($values) => $value,
            Data::BF16($values) => $value,
            Data::I8($values) => $value,
            Data::I16($values) => $value,
            Data::I32($values) => $value,
            Data::I64($values) => $value,
            Data::U8($values) => $value,
            Data::U16($values) => $value,
            Data::U32($values) => $value,
            Data::U64($values) => $value,
            Data::Bool($values) => $value,
        }
    };
}
#[cfg(feature = "run")]
pub(crate) use each;

impl ElementType {
    /// Every type.
    pub const ALL: [Self; 13] = [
        Self::F32,
        Self::F64,
        Self::F16,
        Self::BF16,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::Bool,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::Bool => "bool",
        }
    }

    /// Bytes of one element.
    pub fn size(self) -> u64 {
        match self {
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }

    /// Whether its values are of floating point.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64 | Self::F16 | Self::BF16)
    }
}

impl std::fmt::Display for ElementType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl Data {
    /// How many values there are.
    pub fn len(&self) -> usize {
        each!(self, values => values.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values from bytes, lowest byte first; bytes that fill no element are left out.
    pub fn from_le_bytes(ty: ElementType, bytes: &[u8]) -> Self {
        macro_rules! of {
            ($ty:ty) => {
                bytes.as_chunks().0.iter().map(|bytes| <$ty>::from_le_bytes(*bytes)).collect()
            };
        }
        match ty {
            ElementType::F32 => Self::F32(of!(f32)),
            ElementType::F64 => Self::F64(of!(f64)),
            ElementType::F16 => Self::F16(of!(f16)),
            ElementType::BF16 => Self::BF16(of!(bf16)),
            ElementType::I8 => Self::I8(of!(i8)),
            ElementType::I16 => Self::I16(of!(i16)),
            ElementType::I32 => Self::I32(of!(i32)),
            ElementType::I64 => Self::I64(of!(i64)),
            ElementType::U8 => Self::U8(of!(u8)),
            ElementType::U16 => Self::U16(of!(u16)),
            ElementType::U32 => Self::U32(of!(u32)),
            ElementType::U64 => Self::U64(of!(u64)),
            ElementType::Bool => Self::Bool(bytes.iter().map(|&byte| byte != 0).collect()),
        }
    }

    /// The values as bytes, lowest byte first.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        match self {
            Self::F32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::F64(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::F16(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::BF16(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::I8(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::I16(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::I32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::I64(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::U8(values) => values.clone(),
            Self::U16(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::U32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::U64(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Bool(values) => values.iter().map(|&value| u8::from(value)).collect(),
        }
    }

    /// Values of this type from numbers, each the nearest it can be.
    pub fn from_f64(ty: ElementType, values: impl Iterator<Item = f64>) -> Self {
        match ty {
            ElementType::F32 => Self::F32(values.map(|x| x as f32).collect()),
            ElementType::F64 => Self::F64(values.collect()),
            ElementType::F16 => Self::F16(values.map(f16::from_f64).collect()),
            ElementType::BF16 => Self::BF16(values.map(bf16::from_f64).collect()),
            ElementType::I8 => Self::I8(values.map(|x| x as i8).collect()),
            ElementType::I16 => Self::I16(values.map(|x| x as i16).collect()),
            ElementType::I32 => Self::I32(values.map(|x| x as i32).collect()),
            ElementType::I64 => Self::I64(values.map(|x| x as i64).collect()),
            ElementType::U8 => Self::U8(values.map(|x| x as u8).collect()),
            ElementType::U16 => Self::U16(values.map(|x| x as u16).collect()),
            ElementType::U32 => Self::U32(values.map(|x| x as u32).collect()),
            ElementType::U64 => Self::U64(values.map(|x| x as u64).collect()),
            ElementType::Bool => Self::Bool(values.map(|x| x != 0.0).collect()),
        }
    }

    /// Their type.
    pub fn element_type(&self) -> ElementType {
        match self {
            Self::F32(_) => ElementType::F32,
            Self::F64(_) => ElementType::F64,
            Self::F16(_) => ElementType::F16,
            Self::BF16(_) => ElementType::BF16,
            Self::I8(_) => ElementType::I8,
            Self::I16(_) => ElementType::I16,
            Self::I32(_) => ElementType::I32,
            Self::I64(_) => ElementType::I64,
            Self::U8(_) => ElementType::U8,
            Self::U16(_) => ElementType::U16,
            Self::U32(_) => ElementType::U32,
            Self::U64(_) => ElementType::U64,
            Self::Bool(_) => ElementType::Bool,
        }
    }
}

/// A number as double precision; integers of 64 bits lose their last bits where they are large.
pub(crate) trait AsF64: Copy {
    /// The number.
    fn as_f64(self) -> f64;
}

macro_rules! as_f64 {
    ($($ty:ty: $x:ident => $value:expr),* $(,)?) => {
        $(impl AsF64 for $ty {
            fn as_f64(self) -> f64 {
                let $x = self;
                $value
            }
        })*
    };
}
as_f64! {
    f32: x => x.into(), f64: x => x, f16: x => x.to_f64(), bf16: x => x.to_f64(),
    i8: x => x.into(), i16: x => x.into(), i32: x => x.into(), i64: x => x as f64,
    u8: x => x.into(), u16: x => x.into(), u32: x => x.into(), u64: x => x as f64,
    bool: x => u8::from(x).into(),
}

/// A dense tensor of any element type.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    shape: Vec<u32>,
    data: Data,
}

impl Array {
    /// A tensor of this shape.
    ///
    /// # Errors
    /// If the number of values is not the shape's.
    pub fn new(shape: impl Into<Vec<u32>>, data: Data) -> Result<Self, TensorError> {
        let shape = shape.into();
        if element_count(&shape) != data.len() as u64 {
            return Err(TensorError { shape, values: data.len() });
        }
        Ok(Self { shape, data })
    }

    /// Sizes, outermost first.
    pub fn shape(&self) -> &[u32] {
        &self.shape
    }

    /// The values.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Type of the elements.
    pub fn element_type(&self) -> ElementType {
        self.data.element_type()
    }

    /// How many values are infinite or no numbers.
    pub fn not_finite(&self) -> usize {
        each!(&self.data, values => values.iter().filter(|value| !value.as_f64().is_finite()).count())
    }

    /// The value at this place in row-major order.
    pub fn at(&self, place: usize) -> Option<f64> {
        each!(&self.data, values => values.get(place).map(|value| value.as_f64()))
    }

    /// Whether all values are the same, bit by bit but for the payloads of what is no number.
    pub fn same(&self, other: &Self) -> bool {
        let equal = |i: usize| match (self.at(i), other.at(i)) {
            (Some(a), Some(b)) => a == b || (a.is_nan() && b.is_nan()),
            _ => false,
        };
        self.shape == other.shape
            && self.element_type() == other.element_type()
            && (self.data == other.data || (0..self.data.len()).all(equal))
    }
}

impl std::fmt::Display for Array {
    /// The type, as `f32[1,3,224,224]`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sizes: Vec<String> = self.shape.iter().map(ToString::to_string).collect();
        write!(f, "{}[{}]", self.element_type(), sizes.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_bytes_and_come_back() {
        for ty in ElementType::ALL {
            let data = Data::from_f64(ty, [0.0, 1.0, 100.0].into_iter());
            let bytes = data.to_le_bytes();
            assert_eq!(bytes.len() as u64, 3 * ty.size(), "{ty}");
            assert_eq!(Data::from_le_bytes(ty, &bytes), data, "{ty}");
            let array = Array::new([3], data).unwrap();
            let last = if ty == ElementType::Bool { 1.0 } else { 100.0 };
            assert_eq!((array.at(1), array.at(2), array.at(3)), (Some(1.0), Some(last), None), "{ty}");
        }
        assert_eq!(Data::from_f64(ElementType::F16, [1.0].into_iter()).to_le_bytes(), [0x00, 0x3c]);
        assert_eq!(Data::from_f64(ElementType::I16, [-2.0].into_iter()).to_le_bytes(), [0xfe, 0xff]);
    }

    #[test]
    fn what_is_no_number_is_counted() {
        let array = Array::new([3], Data::F32(vec![1.0, f32::NAN, f32::INFINITY])).unwrap();
        assert_eq!(array.not_finite(), 2);
        assert!(array.same(&array.clone()));
        assert_eq!(array.to_string(), "f32[3]");
    }
}
