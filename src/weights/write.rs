//! A network's parameters as a safetensors file, part of one tensor in memory at a time.

use std::io::{self, Write};

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::ir::{Graph, Weight, WeightSource, WriteError};
use crate::weights::header::METADATA;

/// Writes every parameter of the graph in single precision, in the graph's order. Returns how many there are.
///
/// # Errors
/// If the source cannot be read or `out` cannot be written.
pub fn write<S: WeightSource>(graph: &Graph, source: &S, out: &mut dyn Write) -> Result<usize, WriteError<S::Error>> {
    let parameters: Vec<&Weight> = graph.weights().flat_map(|(_, weight)| weight.leaves()).collect();
    let mut header = serde_json::to_vec(&Header(&parameters)).map_err(io::Error::from)?;
    // Tensors begin at a multiple of their element's size.
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for weight in &parameters {
        weight.write_parts(source, |part| {
            let mut pieces = part.chunks(1 << 14).map(|piece| piece.iter().flat_map(|value| value.to_le_bytes()));
            pieces.try_for_each(|bytes| out.write_all(&bytes.collect::<Vec<u8>>()))
        })?;
    }
    Ok(parameters.len())
}

struct Header<'a>(&'a [&'a Weight]);

#[derive(Serialize)]
struct Entry<'a> {
    dtype: &'static str,
    shape: &'a [u32],
    data_offsets: [u64; 2],
}

#[derive(Serialize)]
struct Metadata {
    /// What readers for PyTorch ask for.
    format: &'static str,
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(METADATA, &Metadata { format: "pt" })?;
        let mut begin = 0;
        for weight in self.0 {
            let end = begin + 4 * weight.elements();
            let entry = Entry { dtype: "F32", shape: weight.shape(), data_offsets: [begin, end] };
            map.serialize_entry(weight.name(), &entry)?;
            begin = end;
        }
        map.end()
    }
}
