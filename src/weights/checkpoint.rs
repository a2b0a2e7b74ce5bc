//! A safetensors file as a source of weights, one tensor in memory at a time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::ir::weight::LeafInit;
use crate::ir::{Graph, Seeded, WeightSource};
use crate::tensor::{DType, element_count};
use crate::weights::fit::{Fit, Found, Misfit, fit};
use crate::weights::header::{self, ElementType, HeaderError, MAX_HEADER, Tensor, shown};

/// A safetensors file whose header has been read.
#[derive(Debug)]
pub struct Checkpoint<R> {
    reader: RefCell<R>,
    data_start: u64,
    tensors: Vec<Tensor>,
}

/// Why a file cannot be opened as weights.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be read.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    /// It is shorter than the length of a header.
    #[error("it has {0} bytes, too few for a safetensors file")]
    TooShort(u64),
    /// It is one of PyTorch's own files, which can run any code when they are read.
    #[error("it is a PyTorch pickle, not a safetensors file; reading one can run any code, so it is not read")]
    Pickle,
    /// It is something else.
    #[error("it is not a safetensors file")]
    Unknown,
    /// Its header is longer than any sensible one.
    #[error("its header has {length} bytes, more than the {MAX_HEADER} supported")]
    HeaderTooLong {
        /// Length that the file states.
        length: u64,
    },
    /// The file ends inside its header.
    #[error("it is cut short: its header has {length} bytes, and {available} are there")]
    HeaderCutShort {
        /// Length that the file states.
        length: u64,
        /// Bytes after the length.
        available: u64,
    },
    /// Its header does not hold.
    #[error(transparent)]
    Header(#[from] HeaderError),
}

/// Why the values of a tensor cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    /// They cannot be read.
    #[error("the file cannot be read")]
    Io(#[from] io::Error),
    /// One of them is no number.
    #[error("element {index} is {value}")]
    NotFinite {
        /// Which, counted in row-major order.
        index: usize,
        /// What it is.
        value: f32,
    },
    /// A running variance is below zero.
    #[error("element {index} is {value}, and a variance cannot be negative")]
    NegativeVariance {
        /// Which.
        index: usize,
        /// What it is.
        value: f32,
    },
}

impl<R: Read + Seek> Checkpoint<R> {
    /// Reads the header of a file and checks that the places of all tensors hold. Nothing is unpickled.
    ///
    /// # Errors
    /// If it is no safetensors file, or not whole.
    pub fn open(mut reader: R) -> Result<Self, OpenError> {
        let file_size = reader.seek(SeekFrom::End(0))?;
        reader.rewind()?;
        let mut start = [0; 9];
        let read = read_up_to(&mut reader, &mut start)?;
        let Some(length) = start[..read].first_chunk::<8>().copied().map(u64::from_le_bytes) else {
            return Err(if is_pickle(&start) { OpenError::Pickle } else { OpenError::TooShort(file_size) });
        };
        let available = file_size.saturating_sub(8);
        let begins_as_header = read > 8 && start[8] == b'{';
        if !begins_as_header && is_pickle(&start) {
            return Err(OpenError::Pickle);
        }
        if !begins_as_header && available > 0 {
            return Err(OpenError::Unknown);
        }
        if length > MAX_HEADER {
            return Err(OpenError::HeaderTooLong { length });
        }
        if length > available {
            return Err(OpenError::HeaderCutShort { length, available });
        }
        reader.seek(SeekFrom::Start(8))?;
        let mut header = Vec::new();
        (&mut reader).take(length).read_to_end(&mut header)?;
        let tensors = header::read(&header, available - length)?;
        Ok(Self { reader: RefCell::new(reader), data_start: 8 + length, tensors })
    }

    /// The tensors in the order of their bytes.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// SHA-256 of the whole file, in hexadecimal.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn sha256(&self) -> io::Result<String> {
        let mut reader = self.reader.borrow_mut();
        reader.rewind()?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 17];
        loop {
            match reader.read(&mut buffer)? {
                0 => break,
                n => hash.update(&buffer[..n]),
            }
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The file as the source of the graph's parameters. With `partial`, the head may differ: what it lacks is made
    /// from `seed`.
    ///
    /// # Errors
    /// Everything in which the file and the graph differ.
    pub fn fit(self, graph: &Graph, partial: bool, seed: Seeded) -> Result<Fitted<R>, Misfit> {
        let found = |tensor: &Tensor| Found {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            unreadable: match &tensor.element_type {
                ElementType::Float(_) => None,
                other @ ElementType::Other(_) => Some(other.to_string()),
            },
        };
        let found: Vec<Found> = self.tensors.iter().map(found).collect();
        let fit = fit(graph, &found, partial)?;
        let places: HashMap<&str, usize> = self.tensors.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
        let places = fit.found_as.iter().filter_map(|(name, found)| Some((name.clone(), *places.get(found.as_str())?)));
        Ok(Fitted { places: places.collect(), fit, checkpoint: self, seed, allow_nonfinite: false })
    }

    /// The values of one of this file's tensors; none if its elements are not of floating point.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn values(&self, tensor: &Tensor) -> io::Result<Vec<f32>> {
        self.part(tensor, 0..u64::MAX)
    }

    /// The values at those of these positions that the tensor has, counted in row-major order.
    fn part(&self, tensor: &Tensor, positions: Range<u64>) -> io::Result<Vec<f32>> {
        let ElementType::Float(dtype) = tensor.element_type else { return Ok(Vec::new()) };
        let size = tensor.end - tensor.begin;
        let place = |position: u64| position.saturating_mul(dtype.size()).min(size);
        let (begin, mut left) = (place(positions.start), place(positions.end).saturating_sub(place(positions.start)));
        let mut reader = self.reader.borrow_mut();
        reader.seek(SeekFrom::Start(self.data_start + tensor.begin + begin))?;
        let mut values = Vec::with_capacity(usize::try_from(left / dtype.size()).unwrap_or(0));
        let mut buffer = vec![0; 1 << 16];
        while left > 0 {
            let piece = &mut buffer[..usize::try_from(left).unwrap_or(usize::MAX).min(1 << 16)];
            reader.read_exact(piece)?;
            decode(dtype, piece, &mut values);
            left -= piece.len() as u64;
        }
        Ok(values)
    }
}

/// Reads until the buffer is full or the file ends.
fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Whether a file begins as `torch.save` writes it: a ZIP archive, or a pickle of protocol 2 or later.
fn is_pickle(start: &[u8]) -> bool {
    start.starts_with(b"PK\x03\x04") || matches!(start, [0x80, 2..=5, ..])
}

/// Appends little-endian elements; their bytes come in whole elements.
fn decode(dtype: DType, bytes: &[u8], values: &mut Vec<f32>) {
    let pairs = || bytes.chunks_exact(2).map(|pair| [pair[0], pair[1]]);
    match dtype {
        DType::F32 => values.extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))),
        DType::F16 => values.extend(pairs().map(|pair| half::f16::from_le_bytes(pair).to_f32())),
        DType::BF16 => values.extend(pairs().map(|pair| half::bf16::from_le_bytes(pair).to_f32())),
        DType::I8 => values.extend(bytes.iter().map(|&byte| f32::from(byte.cast_signed()))),
    }
}

/// A file that has every parameter of a network.
#[derive(Debug)]
pub struct Fitted<R> {
    checkpoint: Checkpoint<R>,
    /// Where the tensor of each parameter stands among the file's.
    places: HashMap<String, usize>,
    fit: Fit,
    seed: Seeded,
    allow_nonfinite: bool,
}

impl<R> Fitted<R> {
    /// The same source; values that are infinite or no number are handed on instead of refused.
    pub fn allowing_nonfinite(self) -> Self {
        Self { allow_nonfinite: true, ..self }
    }

    /// Which tensors are used for what.
    pub fn fit(&self) -> &Fit {
        &self.fit
    }
}

impl<R: Read + Seek> WeightSource for Fitted<R> {
    type Error = ValueError;

    fn values(&self, name: &str, shape: &[u32], init: LeafInit<'_>) -> Result<Vec<f32>, ValueError> {
        self.part(name, shape, init, 0..element_count(shape))
    }

    fn part(
        &self,
        name: &str,
        shape: &[u32],
        init: LeafInit<'_>,
        positions: Range<u64>,
    ) -> Result<Vec<f32>, ValueError> {
        let Some(&place) = self.places.get(name) else {
            return Ok(self.seed.part(name, shape, init, positions).unwrap_or_else(|never| match never {}));
        };
        let values = self.checkpoint.part(&self.checkpoint.tensors[place], positions.clone())?;
        let expected = positions.end - positions.start;
        debug_assert_eq!(values.len() as u64, expected, "`{}` has been fitted", shown(name));
        if self.allow_nonfinite {
            return Ok(values);
        }
        let start = usize::try_from(positions.start).unwrap_or(usize::MAX);
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(ValueError::NotFinite { index: start + index, value: values[index] });
        }
        if name.ends_with(".running_var")
            && let Some(index) = values.iter().position(|value| *value < 0.0)
        {
            return Err(ValueError::NegativeVariance { index: start + index, value: values[index] });
        }
        Ok(values)
    }
}
