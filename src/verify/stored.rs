//! Inputs with the outputs that belong to them, in files: the test sets of ONNX's backends, and NumPy archives.
//!
//! A set is a folder with `input_0.pb`, `input_1.pb`, … and `output_0.pb`, …, one tensor each, numbered as the model has
//! them. A folder of sets has them as `test_data_set_0`, ….

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::npz;
use crate::onnx::stored::{StoredError, tensor_from_bytes, tensor_to_bytes};
use crate::tensor::array::Array;

/// Largest file of one tensor.
const MAX_FILE: u64 = 2 << 30;

/// Most sets in a folder, and most tensors in a set.
const MAX_SETS: usize = 1024;
const MAX_TENSORS: usize = 1024;

/// Inputs and the outputs they lead to. Names may be empty: the order counts then.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TestSet {
    /// Where it is from.
    pub name: String,
    /// The inputs.
    pub inputs: Vec<(String, Array)>,
    /// The outputs.
    pub outputs: Vec<(String, Array)>,
}

/// Why stored tensors cannot be read.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A file or folder cannot be read or written.
    #[error("`{path}`: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is larger than any that is read.
    #[error("`{path}` has more than {} GiB", MAX_FILE >> 30)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A file holds no tensor that can be used.
    #[error("`{path}`: {source}")]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Why.
        source: StoredError,
    },
    /// An archive holds no arrays that can be used.
    #[error("`{path}`: {source}")]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Why.
        source: npz::ReadError,
    },
    /// A folder holds no set.
    #[error("`{0}` has neither `output_0.pb` nor a folder `test_data_set_0`")]
    NoSet(PathBuf),
    /// An archive has no array for an input.
    #[error("`{path}` has no array for the input `{input}`; it has {names}")]
    NoInput {
        /// The archive.
        path: PathBuf,
        /// The input.
        input: String,
        /// The arrays there are.
        names: String,
    },
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    |source| StoreError::File { path: path.to_owned(), source }
}

/// Opens a regular file: another, such as a pipe, may never end.
fn open(path: &Path) -> Result<File, StoreError> {
    let metadata = fs::metadata(path).map_err(file_error(path))?;
    if !metadata.is_file() {
        return Err(file_error(path)(io::Error::other("it is no regular file")));
    }
    File::open(path).map_err(file_error(path))
}

/// The sets in a folder: itself, or the sets that lie in it, in the order of their numbers.
///
/// # Errors
/// If there is none.
pub fn folders(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    if folder.join("output_0.pb").is_file() {
        return Ok(vec![folder.to_owned()]);
    }
    let sets: Vec<PathBuf> =
        (0..MAX_SETS).map(|n| folder.join(format!("test_data_set_{n}"))).take_while(|set| set.is_dir()).collect();
    if sets.is_empty() { Err(StoreError::NoSet(folder.to_owned())) } else { Ok(sets) }
}

/// Reads the set in a folder.
///
/// # Errors
/// If a file of it cannot be read or holds no tensor of numbers.
pub fn read_set(folder: &Path) -> Result<TestSet, StoreError> {
    let all = |what: &str| {
        let paths = (0..MAX_TENSORS).map(|n| folder.join(format!("{what}_{n}.pb"))).take_while(|path| path.exists());
        paths.map(|path| read_tensor(&path)).collect::<Result<Vec<_>, StoreError>>()
    };
    let name = folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Ok(TestSet { name, inputs: all("input")?, outputs: all("output")? })
}

fn read_tensor(path: &Path) -> Result<(String, Array), StoreError> {
    let file = open(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(file_error(path))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(StoreError::TooLarge { path: path.to_owned() });
    }
    tensor_from_bytes(&bytes).map_err(|source| StoreError::Tensor { path: path.to_owned(), source })
}

/// Reads a set from a NumPy archive that has an array for each of these inputs; the others are outputs.
///
/// # Errors
/// If the archive cannot be read, or an input is missing.
pub fn read_archive(path: &Path, inputs: &[String]) -> Result<TestSet, StoreError> {
    let file = open(path)?;
    let mut arrays = npz::read(file).map_err(|source| StoreError::Archive { path: path.to_owned(), source })?;
    let mut set = TestSet {
        name: path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        ..TestSet::default()
    };
    let listed = match &arrays[..] {
        [] => "none".to_owned(),
        _ => arrays.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    };
    // Names that no archive can have are written in the form that `npz` gives them.
    let safe = npz::array_names(inputs.iter().map(String::as_str));
    for (input, safe) in inputs.iter().zip(&safe) {
        let Some(at) = arrays.iter().position(|(name, _)| name == input || name == safe) else {
            return Err(StoreError::NoInput { path: path.to_owned(), input: input.clone(), names: listed });
        };
        set.inputs.push((input.clone(), arrays.remove(at).1));
    }
    let is_input = |name: &String| inputs.contains(name) || safe.contains(name);
    set.outputs = arrays.into_iter().filter(|(name, _)| !is_input(name)).collect();
    Ok(set)
}

/// Writes a set into a new folder.
///
/// # Errors
/// If the folder is there already, or cannot be written.
pub fn write_set(folder: &Path, set: &TestSet) -> Result<(), StoreError> {
    fs::create_dir(folder).map_err(file_error(folder))?;
    for (what, tensors) in [("input", &set.inputs), ("output", &set.outputs)] {
        for (n, (name, array)) in tensors.iter().enumerate() {
            let path = folder.join(format!("{what}_{n}.pb"));
            fs::write(&path, tensor_to_bytes(name, array)).map_err(file_error(&path))?;
        }
    }
    Ok(())
}
