//! The data of tensors that lies in a file beside the model: taken in, and put out again.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use prost::bytes::Bytes;

use crate::onnx::check::check_stored;
use crate::onnx::lower::entry;
use crate::onnx::proto::{ModelProto, TensorProto, tensor_proto::DataLocation};
use crate::onnx::scan::Held;
use crate::onnx::write::ALIGNMENT;

/// Tensors with fewer bytes stay in the model: runtimes read shapes and the like before they look for files.
const LEAST: usize = 1 << 10;

/// Why the data of a tensor cannot be taken in.
#[derive(Debug, thiserror::Error)]
pub enum ExternalError {
    /// It cannot be read.
    #[error("the values of `{name}` cannot be read from `{location}`: {source}")]
    Io {
        /// The tensor.
        name: String,
        /// The file, as the model names it.
        location: String,
        /// Why not.
        source: io::Error,
    },
    /// There is more than is allowed.
    #[error("the values beside the model have more than {most} bytes")]
    TooLarge {
        /// What is allowed.
        most: u64,
    },
}

/// Whether initializers of a model have their data elsewhere.
pub fn is_external(model: &ModelProto) -> bool {
    let mut tensors = model.graph.iter().flat_map(|graph| &graph.initializer);
    tensors.any(|tensor| tensor.data_location() == DataLocation::External)
}

/// Takes the data of a model's initializers in, at most `most` bytes. The model has to be one in which
/// [`examine`](crate::onnx::structure::examine) finds no fault, with this folder: then the files are its own.
///
/// # Errors
/// If a file cannot be read, or there is more data than allowed.
pub fn take_in(model: &mut ModelProto, folder: &Path, most: u64) -> Result<(), ExternalError> {
    let Some(graph) = &mut model.graph else { return Ok(()) };
    let mut left = most;
    for tensor in graph.initializer.iter_mut().filter(|tensor| tensor.data_location() == DataLocation::External) {
        let value = |key: &str| tensor.external_data.iter().find(|entry| entry.key() == key).map(|e| e.value());
        let location = value("location").unwrap_or_default().to_owned();
        let offset = value("offset").and_then(|offset| offset.parse().ok()).unwrap_or(0);
        let bytes = check_stored(tensor, &Held::of(tensor)).ok().flatten().unwrap_or(0);
        left = left.checked_sub(bytes).ok_or(ExternalError::TooLarge { most })?;
        let data = read(&folder.join(&location), offset, bytes).map_err(|source| ExternalError::Io {
            name: tensor.name().to_owned(),
            location,
            source,
        })?;
        tensor.raw_data = Some(data);
        tensor.external_data.clear();
        tensor.data_location = None;
    }
    Ok(())
}

fn read(path: &Path, offset: u64, bytes: u64) -> io::Result<Bytes> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut data = Vec::new();
    file.take(bytes).read_to_end(&mut data)?;
    if data.len() as u64 != bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(data.into())
}

/// Puts the data of a model's large initializers out into a file that will be at `location`, a path relative to the model's.
/// What goes into the file is returned, each part with where it starts, in their order.
pub fn put_out(model: &mut ModelProto, location: &str) -> Vec<(u64, Bytes)> {
    let mut parts = Vec::new();
    let mut offset = 0u64;
    let large = |tensor: &&mut TensorProto| tensor.raw_data.as_ref().is_some_and(|data| data.len() >= LEAST);
    for tensor in model.graph.iter_mut().flat_map(|graph| &mut graph.initializer).filter(large) {
        let Some(data) = tensor.raw_data.take() else { continue };
        offset = offset.next_multiple_of(ALIGNMENT);
        tensor.external_data = vec![
            entry("location", location),
            entry("offset", &offset.to_string()),
            entry("length", &data.len().to_string()),
        ];
        tensor.data_location = Some(DataLocation::External.into());
        let length = data.len() as u64;
        parts.push((offset, data));
        offset += length;
    }
    parts
}
