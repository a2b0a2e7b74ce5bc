//! A model's structure without its data: read from a file of any size in little memory.
//!
//! The scanner walks the protobuf messages of a file and leaves out what is large, the data of tensors, of which it only
//! counts the elements. What remains is decoded as usual. Time is in proportion to the bytes that are not skipped,
//! memory is bounded, nesting is limited.
//!
//! It is stricter than protobuf: a message that is given in several pieces, which readers put together each in their own
//! way, is refused.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::mem::size_of;

use prost::Message;

use crate::onnx::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto};

/// Most messages that lie inside each other, as in protobuf's own readers.
const MAX_DEPTH: u32 = 100;

/// Tensors keep data of up to this many bytes: what shapes are computed with.
const MAX_KEPT: u64 = 8 << 10;

/// Memory that a model's structure may take, as estimated while it is read.
const MAX_MEMORY: u64 = 192 << 20;

/// Why the bytes of a file are not taken as a model.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
    /// There are no bytes.
    #[error("the file is empty")]
    Empty,
    /// Something ends after what it is in.
    #[error("it is not an ONNX model, or is cut short: at byte {at}, something is longer than what it is in")]
    Cut {
        /// Where.
        at: u64,
    },
    /// The bytes are no protobuf message.
    #[error("it is not an ONNX model: byte {at} begins no field of a message")]
    Wire {
        /// Where.
        at: u64,
    },
    /// Messages lie too deep inside each other.
    #[error("it is nested more than {MAX_DEPTH} messages deep at byte {at}")]
    Deep {
        /// Where.
        at: u64,
    },
    /// A part that there is one of is given twice.
    #[error(
        "field {field} of a {message} is given twice, the second time at byte {at}; readers differ in what they make of it"
    )]
    Twice {
        /// The message.
        message: &'static str,
        /// Number of the field.
        field: u64,
        /// Where.
        at: u64,
    },
    /// The structure is too large.
    #[error("its structure without the data of its tensors takes more than {} MiB; read up to byte {at}", MAX_MEMORY >> 20)]
    TooLarge {
        /// How far it was read.
        at: u64,
    },
    /// A field has another form than it has in ONNX.
    #[error("it is not an ONNX model: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// It is a message, but of something else.
    #[error("it is not an ONNX model: it has no {0}")]
    Missing(&'static str),
}

/// What a file holds of a tensor's data: bytes, or elements in each typed field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Bytes of raw data; `None` if there is no such field.
    pub raw: Option<u64>,
    /// Single-precision numbers.
    pub floats: u64,
    /// Integers of 32 bits.
    pub int32s: u64,
    /// Strings.
    pub strings: u64,
    /// Integers of 64 bits.
    pub int64s: u64,
    /// Double-precision numbers.
    pub doubles: u64,
    /// Integers of 64 bits without sign.
    pub uint64s: u64,
}

impl Held {
    /// What a message that was read whole holds.
    pub fn of(tensor: &TensorProto) -> Self {
        Self {
            raw: tensor.raw_data.as_ref().map(|raw| raw.len() as u64),
            floats: tensor.float_data.len() as u64,
            int32s: tensor.int32_data.len() as u64,
            strings: tensor.string_data.len() as u64,
            int64s: tensor.int64_data.len() as u64,
            doubles: tensor.double_data.len() as u64,
            uint64s: tensor.uint64_data.len() as u64,
        }
    }

    /// How many of the fields have something in them.
    pub fn fields(&self) -> usize {
        let typed = [self.floats, self.int32s, self.strings, self.int64s, self.doubles, self.uint64s];
        typed.iter().filter(|&&n| n > 0).count() + usize::from(self.raw.is_some())
    }
}

/// A tensor in a file, wherever it stands in the model.
#[derive(Debug, Clone)]
pub struct StoredTensor {
    /// The message; its data is left out where it is large.
    pub proto: TensorProto,
    /// How much data the file has for it.
    pub held: Held,
}

/// What was read of a file.
#[derive(Debug)]
pub struct Scanned {
    /// The model; the data of its tensors is left out where it is large, and so are its comments.
    pub model: ModelProto,
    /// All its tensors: initializers and those in attributes, of inner graphs and functions as well.
    pub tensors: Vec<StoredTensor>,
    /// Length of the file.
    pub bytes: u64,
}

impl Scanned {
    /// Where the model says that its external data is, each place once.
    pub fn locations(&self) -> BTreeSet<&str> {
        let entries = self.tensors.iter().flat_map(|stored| &stored.proto.external_data);
        entries.filter(|entry| entry.key() == "location").map(|entry| entry.value()).collect()
    }
}

/// Reads the structure of a model.
///
/// # Errors
/// If the file cannot be read, or its bytes are no model.
pub fn scan(mut file: impl Read + Seek) -> Result<Scanned, ScanError> {
    let bytes = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    if bytes == 0 {
        return Err(ScanError::Empty);
    }
    let mut scanner = Scanner { file: BufReader::with_capacity(1 << 16, file), at: 0, memory: 0, tensors: Vec::new() };
    let structure = scanner.message(Kind::Model, bytes, 0)?;
    let model = ModelProto::decode(structure.as_slice())?;
    if model.graph.is_none() {
        return Err(ScanError::Missing("graph"));
    }
    if model.ir_version.is_none() {
        return Err(ScanError::Missing("IR version"));
    }
    Ok(Scanned { model, tensors: scanner.tensors, bytes })
}

/// The messages that hold tensors, or messages that do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Training,
    Function,
    Graph,
    Node,
    Attribute,
    SparseTensor,
    Tensor,
}

/// What is done with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    /// One message, looked into.
    One(Kind),
    /// Any number of messages, looked into.
    Many(Kind),
    /// Copied as it is; there is one of it.
    Single,
    /// Copied as they are: strings, or messages of two.
    Texts,
    /// Copied as they are: integers.
    Integers,
    /// Copied as they are: messages without tensors.
    Opaque,
    /// Data of a tensor: counted, and copied if small.
    Data,
    /// Left out.
    Skip,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Training => "training description",
            Self::Function => "function",
            Self::Graph => "graph",
            Self::Node => "node",
            Self::Attribute => "attribute",
            Self::SparseTensor => "sparse tensor",
            Self::Tensor => "tensor",
        }
    }

    /// Memory that one takes once it is decoded.
    fn memory(self) -> usize {
        match self {
            Self::Model | Self::Training | Self::Graph => size_of::<GraphProto>(),
            Self::Function => size_of::<FunctionProto>(),
            Self::Node => size_of::<NodeProto>(),
            Self::Attribute => size_of::<AttributeProto>(),
            // Once in its place and once in the list.
            Self::SparseTensor | Self::Tensor => 2 * size_of::<TensorProto>(),
        }
    }

    /// What is done with a field of this number, as `schema/onnx.proto` has them.
    fn field(self, number: u64) -> Field {
        match (self, number) {
            (Self::Model, 7) => Field::One(Self::Graph),
            (Self::Model, 20) => Field::Many(Self::Training),
            (Self::Model, 25) => Field::Many(Self::Function),
            (Self::Model, 8 | 26) => Field::Opaque,
            (Self::Model, 14) => Field::Texts,
            (Self::Model, 1..=5) => Field::Single,

            (Self::Training, 1 | 2) => Field::One(Self::Graph),
            (Self::Training, 3 | 4) => Field::Texts,

            (Self::Function, 7) => Field::Many(Self::Node),
            (Self::Function, 11) => Field::Many(Self::Attribute),
            (Self::Function, 9 | 12) => Field::Opaque,
            (Self::Function, 4..=6 | 14) => Field::Texts,
            (Self::Function, 1 | 10 | 13) => Field::Single,

            (Self::Graph, 1) => Field::Many(Self::Node),
            (Self::Graph, 5) => Field::Many(Self::Tensor),
            (Self::Graph, 15) => Field::Many(Self::SparseTensor),
            (Self::Graph, 11..=14) => Field::Opaque,
            (Self::Graph, 16) => Field::Texts,
            (Self::Graph, 2) => Field::Single,

            (Self::Node, 5) => Field::Many(Self::Attribute),
            (Self::Node, 1 | 2 | 9) => Field::Texts,
            (Self::Node, 10) => Field::Opaque,
            (Self::Node, 3 | 4 | 7 | 8) => Field::Single,

            (Self::Attribute, 5) => Field::One(Self::Tensor),
            (Self::Attribute, 6) => Field::One(Self::Graph),
            (Self::Attribute, 22) => Field::One(Self::SparseTensor),
            (Self::Attribute, 10) => Field::Many(Self::Tensor),
            (Self::Attribute, 11) => Field::Many(Self::Graph),
            (Self::Attribute, 23) => Field::Many(Self::SparseTensor),
            (Self::Attribute, 14 | 15) => Field::Opaque,
            (Self::Attribute, 7 | 9) => Field::Texts,
            (Self::Attribute, 8) => Field::Integers,
            (Self::Attribute, 1..=4 | 20 | 21) => Field::Single,

            (Self::SparseTensor, 1 | 2) => Field::One(Self::Tensor),
            (Self::SparseTensor, 3) => Field::Integers,

            (Self::Tensor, 4..=7 | 9..=11) => Field::Data,
            (Self::Tensor, 1) => Field::Integers,
            (Self::Tensor, 13 | 16) => Field::Texts,
            (Self::Tensor, 2 | 3 | 8 | 14) => Field::Single,

            // Comments, and what ONNX has no such field for.
            _ => Field::Skip,
        }
    }
}

/// Forms in which a field is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    Varint,
    Fixed64,
    Bytes,
    Fixed32,
}

struct Scanner<R> {
    file: BufReader<R>,
    at: u64,
    memory: u64,
    tensors: Vec<StoredTensor>,
}

impl<R: Read + Seek> Scanner<R> {
    /// The message that goes on to `end`, without what is left out.
    fn message(&mut self, kind: Kind, end: u64, depth: u32) -> Result<Vec<u8>, ScanError> {
        if depth > MAX_DEPTH {
            return Err(ScanError::Deep { at: self.at });
        }
        self.take_memory(kind.memory() as u64)?;
        let mut copy = Vec::new();
        let mut held = Held::default();
        let mut seen = 0_u64;
        while self.at < end {
            let start = self.at;
            let tag = self.varint(end)?;
            let number = tag >> 3;
            let wire = match tag & 7 {
                _ if number == 0 || number >= 1 << 29 => return Err(ScanError::Wire { at: start }),
                0 => Wire::Varint,
                1 => Wire::Fixed64,
                2 => Wire::Bytes,
                5 => Wire::Fixed32,
                _ => return Err(ScanError::Wire { at: start }),
            };
            let field = kind.field(number);
            let is_one = matches!(field, Field::One(_) | Field::Single) || (kind == Kind::Tensor && number == 9);
            if is_one {
                if seen & (1 << number) != 0 {
                    return Err(ScanError::Twice { message: kind.name(), field: number, at: start });
                }
                seen |= 1 << number;
            }
            let length = match wire {
                Wire::Varint => None,
                Wire::Fixed64 => Some(8),
                Wire::Fixed32 => Some(4),
                Wire::Bytes => Some(self.varint(end)?),
            };
            if length.is_some_and(|length| length > end - self.at) {
                return Err(ScanError::Cut { at: start });
            }
            match (field, wire, length) {
                (Field::One(inner) | Field::Many(inner), Wire::Bytes, Some(length)) => {
                    let inner = self.message(inner, self.at + length, depth + 1)?;
                    put_bytes(&mut copy, tag, &inner);
                }
                (Field::Skip, _, Some(length)) => self.skip(length)?,
                (Field::Skip, _, None) => drop(self.varint(end)?),
                (Field::Data, ..) => self.data(&mut copy, &mut held, tag, wire, length, end)?,
                (_, _, None) => {
                    let value = self.varint(end)?;
                    self.take_memory(16)?;
                    put_varint(&mut copy, tag);
                    put_varint(&mut copy, value);
                }
                (field, _, Some(length)) => {
                    // A byte can stand for an integer of eight, and two for a whole message.
                    let times = match field {
                        Field::Opaque => 32,
                        Field::Integers => 8,
                        _ => 1,
                    };
                    self.take_memory(64 + length.saturating_mul(times))?;
                    let bytes = self.bytes(length)?;
                    put_varint(&mut copy, tag);
                    if wire == Wire::Bytes {
                        put_varint(&mut copy, length);
                    }
                    copy.extend(bytes);
                }
            }
        }
        if self.at > end {
            return Err(ScanError::Cut { at: end });
        }
        if kind == Kind::Tensor {
            self.tensors.push(StoredTensor { proto: TensorProto::decode(copy.as_slice())?, held });
        }
        Ok(copy)
    }

    /// A field with data of a tensor: counted, and copied if it is small.
    fn data(
        &mut self,
        copy: &mut Vec<u8>,
        held: &mut Held,
        tag: u64,
        wire: Wire,
        length: Option<u64>,
        end: u64,
    ) -> Result<(), ScanError> {
        let start = self.at;
        let number = tag >> 3;
        let keep = length.is_none_or(|length| length <= MAX_KEPT) && (copy.len() as u64) < 2 * MAX_KEPT;
        let mut kept = Vec::new();
        let elements = match (number, wire, length) {
            (9, Wire::Bytes, Some(length)) => {
                held.raw = Some(length);
                0
            }
            (6, Wire::Bytes, Some(_)) => 1,
            (4, Wire::Fixed32, _) | (10, Wire::Fixed64, _) => 1,
            (4, Wire::Bytes, Some(length)) if length.is_multiple_of(4) => length / 4,
            (10, Wire::Bytes, Some(length)) if length.is_multiple_of(8) => length / 8,
            (5 | 7 | 11, Wire::Varint, _) => {
                put_varint(&mut kept, self.varint(end)?);
                1
            }
            (5 | 7 | 11, Wire::Bytes, Some(length)) if keep => {
                kept = self.bytes(length)?;
                varints(&kept).ok_or(ScanError::Cut { at: start })?
            }
            (5 | 7 | 11, Wire::Bytes, Some(length)) => self.count_varints(length)?,
            _ => return Err(ScanError::Wire { at: start }),
        };
        let count = match number {
            4 => &mut held.floats,
            5 => &mut held.int32s,
            6 => &mut held.strings,
            7 => &mut held.int64s,
            10 => &mut held.doubles,
            _ => &mut held.uint64s,
        };
        *count += elements;
        let rest = length.map_or(0, |length| length - (self.at - start).min(length));
        if !keep {
            return self.skip(rest);
        }
        self.take_memory(64 + 8 * length.unwrap_or(8))?;
        if rest > 0 {
            kept = self.bytes(rest)?;
        }
        put_varint(copy, tag);
        if let (Wire::Bytes, Some(length)) = (wire, length) {
            put_varint(copy, length);
        }
        copy.extend(kept);
        Ok(())
    }

    fn take_memory(&mut self, bytes: u64) -> Result<(), ScanError> {
        self.memory = self.memory.saturating_add(bytes);
        if self.memory > MAX_MEMORY { Err(ScanError::TooLarge { at: self.at }) } else { Ok(()) }
    }

    fn varint(&mut self, end: u64) -> Result<u64, ScanError> {
        let start = self.at;
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            if self.at >= end {
                return Err(ScanError::Cut { at: start });
            }
            let mut byte = [0];
            self.file.read_exact(&mut byte)?;
            self.at += 1;
            value |= u64::from(byte[0] & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte[0] < 0x80 {
                // The tenth byte has room for one bit.
                return if shift == 63 && byte[0] > 1 { Err(ScanError::Wire { at: start }) } else { Ok(value) };
            }
        }
        Err(ScanError::Wire { at: start })
    }

    /// So many bytes, which are known to lie in the file and in the memory that may be taken.
    fn bytes(&mut self, length: u64) -> Result<Vec<u8>, ScanError> {
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| ScanError::TooLarge { at: self.at })?];
        self.file.read_exact(&mut bytes)?;
        self.at += length;
        Ok(bytes)
    }

    fn skip(&mut self, length: u64) -> Result<(), ScanError> {
        self.file.seek_relative(i64::try_from(length).map_err(|_| ScanError::Cut { at: self.at })?)?;
        self.at += length;
        Ok(())
    }

    /// Reads so many bytes; how many integers they hold.
    fn count_varints(&mut self, length: u64) -> Result<u64, ScanError> {
        let start = self.at;
        let mut left = length;
        let (mut count, mut run) = (0, 0);
        let mut buffer = vec![0; 1 << 16];
        while left > 0 {
            let part = &mut buffer[..usize::try_from(left).unwrap_or(usize::MAX).min(1 << 16)];
            self.file.read_exact(part)?;
            for byte in part.iter() {
                run = if *byte < 0x80 { 0 } else { run + 1 };
                count += u64::from(*byte < 0x80);
                if run >= 10 {
                    return Err(ScanError::Wire { at: start });
                }
            }
            left -= part.len() as u64;
        }
        self.at += length;
        if run > 0 { Err(ScanError::Cut { at: start }) } else { Ok(count) }
    }
}

/// How many integers these bytes hold; `None` if the last is cut short.
fn varints(bytes: &[u8]) -> Option<u64> {
    let ends = bytes.iter().filter(|&&byte| byte < 0x80).count() as u64;
    (bytes.last().is_none_or(|&byte| byte < 0x80)).then_some(ends)
}

fn put_varint(out: &mut Vec<u8>, value: u64) {
    prost::encoding::encode_varint(value, out);
}

fn put_bytes(out: &mut Vec<u8>, tag: u64, bytes: &[u8]) {
    put_varint(out, tag);
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use prost::bytes::Bytes;

    use super::*;
    use crate::conv::Conv;
    use crate::ir::{GraphBuilder, Seeded};
    use crate::onnx::proto::tensor_proto::DataType;
    use crate::onnx::{Options, lower, read};
    use crate::tensor::{Dim, TensorType};

    /// Two convolutions: one with a weight of 3456 bytes, which is kept, one of 36864, which is not.
    fn bytes() -> Vec<u8> {
        let mut g = GraphBuilder::new("x");
        let x = g.input("image", TensorType::f32([1, 3, 8, 8].map(Dim::Fixed))).unwrap();
        let x = g.conv("a", x, Conv::square(3), 32).unwrap();
        let x = g.conv("b", x, Conv::square(3), 32).unwrap();
        let graph = g.finish([("out", x)]).unwrap();
        lower(&graph, &Options::default()).to_bytes(&Seeded(0))
    }

    #[test]
    fn all_but_the_data_is_read() {
        let bytes = bytes();
        let scanned = scan(Cursor::new(&bytes)).unwrap();
        let mut whole = read(Bytes::from(bytes.clone())).unwrap();
        let tensors = &mut whole.graph.as_mut().unwrap().initializer;
        let held: Vec<Held> = tensors.iter().map(Held::of).collect();
        assert_eq!(held.iter().map(|held| held.raw).collect::<Vec<_>>(), [Some(3456), Some(36864)]);
        tensors[1].raw_data = None;
        assert_eq!(scanned.model, whole);
        assert_eq!(scanned.tensors.iter().map(|stored| stored.held).collect::<Vec<_>>(), held);
        assert_eq!(scanned.bytes, bytes.len() as u64);
    }

    #[test]
    fn elements_are_counted_as_the_other_reader_does() {
        for n in [0, 1, 3, 2000, 70_000] {
            let tensor = TensorProto {
                data_type: Some(DataType::Float.into()),
                float_data: vec![1.5; n],
                int32_data: (0..n as i32).map(|i| i * 7919 - 5).collect(),
                string_data: vec![Bytes::from_static(b"text"); n],
                int64_data: (0..n as i64).map(|i| i << 40).collect(),
                double_data: vec![0.1; n],
                uint64_data: (0..n as u64).collect(),
                ..TensorProto::default()
            };
            let held = Held::of(&tensor);
            let graph = GraphProto { initializer: vec![tensor], ..GraphProto::default() };
            let model = ModelProto { ir_version: Some(8), graph: Some(graph), ..ModelProto::default() };
            let scanned = scan(Cursor::new(model.encode_to_vec())).unwrap();
            assert_eq!(scanned.tensors[0].held, held, "{n}");
            assert_eq!(held.fields(), if n == 0 { 0 } else { 6 });
        }
    }

    #[test]
    fn many_small_messages_are_too_much() {
        // An attribute of two bytes takes a thousand once it is decoded.
        let node = [0x2a, 0x00].repeat(1 << 20);
        let wrapped = |tag: u8, inner: &[u8]| {
            let mut out = Vec::new();
            put_bytes(&mut out, tag.into(), inner);
            out
        };
        let bytes = wrapped(0x3a, &wrapped(0x0a, &node));
        assert!(matches!(scan(Cursor::new(bytes)), Err(ScanError::TooLarge { .. })));
        // So is a list of numbers of a byte each.
        let list = wrapped(0x2a, &wrapped(0x42, &vec![1; 60 << 20]));
        let bytes = wrapped(0x3a, &wrapped(0x0a, &list));
        assert!(matches!(scan(Cursor::new(bytes)), Err(ScanError::TooLarge { .. })));
    }
}
