//! Tensors as a NumPy archive (`.npz`): what `numpy.load` reads into arrays by name.

use std::collections::HashSet;
use std::io::{self, Read, Seek, Write};

use npyz::WriterBuilder;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

use crate::tensor::array::{Array, Data};
use crate::tensor::{Tensor, element_count};

/// The most characters a name keeps.
const MAX_NAME: usize = 100;

/// Names that are safe in an archive, one for each name given, in order.
///
/// Names come from a model and may be anything: what is not an ASCII letter, digit, `_`, `-` or `.` becomes `_`, dots in
/// front are taken off, long names are cut, and names that would meet, also where case does not count, get a number.
pub fn array_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut taken = HashSet::new();
    let unique = |name| {
        let safe = safe_name(name);
        let numbered = (2_u64..).map(|n| format!("{safe}_{n}"));
        let mut candidates = std::iter::once(safe.clone()).chain(numbered);
        candidates.find(|candidate| taken.insert(candidate.to_ascii_lowercase())).expect("the numbers do not end")
    };
    names.into_iter().map(unique).collect()
}

/// Writes tensors as an archive of single-precision arrays under [`array_names`] of their names.
///
/// The same tensors give the same bytes.
///
/// # Errors
/// If `out` cannot be written.
pub fn write(tensors: &[(&str, &Tensor)], out: impl Write) -> io::Result<()> {
    // Nothing is compressed, so that NumPy can map the arrays and writing is as fast as the disk.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default())
        .large_file(true);
    let mut archive = ZipWriter::new_stream(UntilFailure { out, failed: false });
    for (name, (_, tensor)) in array_names(tensors.iter().map(|(name, _)| *name)).into_iter().zip(tensors) {
        archive.start_file(npyz::npz::file_name_from_array_name(&name), options)?;
        let shape: Vec<u64> = tensor.shape().iter().copied().map(u64::from).collect();
        let mut array = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(&mut archive).begin_nd()?;
        array.extend(tensor.data())?;
        array.finish()?;
    }
    archive.finish()?;
    Ok(())
}

/// Most arrays that are read from an archive, and most bytes of all of them together.
const MAX_ARRAYS: usize = 4096;
const MAX_BYTES: u64 = 4 << 30;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is no archive, or damaged.
    #[error("it is no NumPy archive, or is damaged: {0}")]
    Archive(#[from] zip::result::ZipError),
    /// It has more arrays, or more data, than is read.
    #[error("it has more than {MAX_ARRAYS} arrays or {} GiB of data", MAX_BYTES >> 30)]
    TooLarge,
    /// One of its arrays cannot be read.
    #[error("array `{name}`: {why}")]
    Array {
        /// The array.
        name: String,
        /// Why.
        why: String,
    },
}

/// Reads the arrays of an archive, in its order, with their names.
///
/// Nothing is written anywhere, whatever the entries are called; compressed entries are read as far as the limits go.
///
/// # Errors
/// If it is no archive of arrays of numbers.
pub fn read(file: impl Read + Seek) -> Result<Vec<(String, Array)>, ReadError> {
    let mut archive = ZipArchive::new(file)?;
    if archive.len() > MAX_ARRAYS {
        return Err(ReadError::TooLarge);
    }
    let mut left = MAX_BYTES;
    let mut arrays = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index)?;
        let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
        let name = name.strip_suffix(".npy").unwrap_or(&name).to_owned();
        let array = read_array(&mut entry, &mut left);
        arrays.push((name.clone(), array.map_err(|why| ReadError::Array { name, why })?));
    }
    Ok(arrays)
}

fn read_array(entry: &mut impl Read, left: &mut u64) -> Result<Array, String> {
    let header = npyz::NpyHeader::from_reader(&mut *entry).map_err(|error| format!("it has no header: {error}"))?;
    let dtype = match header.dtype() {
        npyz::DType::Plain(ty) => ty.to_string(),
        other => other.descr(),
    };
    let dtype = dtype.trim_matches('\'');
    let is_big = dtype.starts_with('>');
    let shape: Option<Vec<u32>> = header.shape().iter().map(|&n| u32::try_from(n).ok()).collect();
    let too_large = || format!("its shape {:?} is too large", header.shape());
    let shape = shape.ok_or_else(too_large)?;
    let count = element_count(&shape);
    macro_rules! of {
        ($variant:ident, $ty:ty) => {{
            *left = left.checked_sub(count.saturating_mul(size_of::<$ty>() as u64)).ok_or_else(too_large)?;
            let value = |bytes| if is_big { <$ty>::from_be_bytes(bytes) } else { <$ty>::from_le_bytes(bytes) };
            let values = read_values(entry, count, value)?;
            let is_turned = header.order() == npyz::Order::Fortran;
            Data::$variant(if is_turned { from_fortran(&values, &shape) } else { values })
        }};
    }
    let data = match dtype.get(1..).unwrap_or_default() {
        "f4" => of!(F32, f32),
        "f8" => of!(F64, f64),
        "f2" => of!(F16, half::f16),
        "i1" => of!(I8, i8),
        "i2" => of!(I16, i16),
        "i4" => of!(I32, i32),
        "i8" => of!(I64, i64),
        "u1" => of!(U8, u8),
        "u2" => of!(U16, u16),
        "u4" => of!(U32, u32),
        "u8" => of!(U64, u64),
        "b1" => match of!(U8, u8) {
            Data::U8(values) => Data::Bool(values.into_iter().map(|value| value != 0).collect()),
            data => data,
        },
        _ => return Err(format!("its elements are `{dtype}`, which is not taken")),
    };
    Array::new(shape, data).map_err(|error| error.to_string())
}

/// So many values; memory is taken for those, and no more.
fn read_values<T, const N: usize>(
    entry: &mut impl Read,
    count: u64,
    value: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, String> {
    let no_memory = || format!("there is no memory for its {count} values");
    let count = usize::try_from(count).map_err(|_| no_memory())?;
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| no_memory())?;
    let mut buffer = [0; 1 << 13];
    while values.len() < count {
        let part = &mut buffer[..(count - values.len()).saturating_mul(N).min(1 << 13)];
        entry.read_exact(part).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => format!("it ends before the last of its {count} values"),
            _ => error.to_string(),
        })?;
        values.extend(part.as_chunks().0.iter().map(|bytes| value(*bytes)));
    }
    Ok(values)
}

/// Values whose first index runs fastest, in the order in which the last one does.
fn from_fortran<T: Copy>(values: &[T], shape: &[u32]) -> Vec<T> {
    let mut place = vec![0; shape.len()];
    let mut at = 0;
    let mut turned = Vec::with_capacity(values.len());
    while turned.len() < values.len() {
        turned.push(values[at]);
        let mut step: usize = values.len();
        for (index, &size) in place.iter_mut().zip(shape).rev() {
            step /= size as usize;
            *index += 1;
            at += step;
            if *index < size as usize {
                break;
            }
            at -= step * size as usize;
            *index = 0;
        }
    }
    turned
}

/// Fails once and swallows the rest: an archive that is given up tries to write its end and prints when it cannot.
struct UntilFailure<W> {
    out: W,
    failed: bool,
}

impl<W: Write> Write for UntilFailure<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed {
            return Ok(bytes.len());
        }
        let written = self.out.write(bytes);
        self.failed = match &written {
            Ok(n) => *n == 0 && !bytes.is_empty(),
            Err(error) => error.kind() != io::ErrorKind::Interrupted,
        };
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.failed { Ok(()) } else { self.out.flush() }
    }
}

fn safe_name(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let safe: String = name.chars().take(MAX_NAME).map(|c| if allowed(c) { c } else { '_' }).collect();
    match safe.trim_start_matches('.') {
        "" => "output".into(),
        safe => safe.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn names_are_safe_and_differ() {
        let long = "x".repeat(300);
        let names =
            ["feature", "../../etc/passwd", "", "feature", "Feature", "stage1/out:0", "f\u{e9}\0", "...", &long];
        insta::assert_snapshot!(array_names(names).join("\n").replace(&"x".repeat(100), "(100 x)"), @r"
        feature
        _.._etc_passwd
        output
        feature_2
        Feature_3
        stage1_out_0
        f__
        output_2
        (100 x)
        ");
    }

    #[test]
    fn a_name_is_not_given_away_twice() {
        assert_eq!(array_names(["a", "a", "a_2", "a"]), ["a", "a_2", "a_2_2", "a_3"]);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let tensors = [
            ("a", Tensor::new([2, 3], vec![0.0, -1.5, f32::NAN, f32::INFINITY, 1e-40, 3.0]).unwrap()),
            ("b/c", Tensor::new([], vec![7.0]).unwrap()),
            ("none", Tensor::new([0, 4], vec![]).unwrap()),
        ];
        let mut bytes = Vec::new();
        write(&tensors.each_ref().map(|(name, tensor)| (*name, tensor)), &mut bytes).unwrap();

        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        assert_eq!(archive.file_names().map(Result::unwrap).collect::<Vec<_>>(), ["a.npy", "b_c.npy", "none.npy"]);
        for (index, (name, tensor)) in tensors.iter().enumerate() {
            let entry = archive.by_index(index).unwrap();
            assert_eq!(entry.compression(), CompressionMethod::Stored);
            let array = npyz::NpyFile::new(entry).unwrap();
            assert_eq!(array.dtype().descr(), "'<f4'", "{name}");
            assert_eq!(array.order(), npyz::Order::C);
            assert_eq!(array.shape(), tensor.shape().iter().copied().map(u64::from).collect::<Vec<_>>());
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&array.into_vec().unwrap()), bits(tensor.data()), "{name}");
        }
    }

    #[test]
    fn archives_are_read() {
        let tensor = Tensor::new([2, 1], vec![1.5, -2.0]).unwrap();
        let mut bytes = Vec::new();
        write(&[("a", &tensor)], &mut bytes).unwrap();
        let array = Array::new([2, 1], Data::F32(vec![1.5, -2.0])).unwrap();
        assert_eq!(read(Cursor::new(&bytes)).unwrap(), [("a".to_owned(), array)]);
        let error = read(Cursor::new(&bytes[..bytes.len() / 2])).unwrap_err().to_string();
        assert!(error.starts_with("it is no NumPy archive, or is damaged"), "{error}");
    }

    /// Bytes as `numpy.save` writes them.
    fn saved(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}");
        let header = format!("{header:<117}\n");
        [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
    }

    #[test]
    fn arrays_are_read_in_every_order() {
        let read = |bytes: &[u8], most: u64| read_array(&mut Cursor::new(bytes), &mut most.clone());
        let one_to_six = |shape: &[u32]| Array::new(shape, Data::I16((1..=6).collect())).unwrap();
        let bytes = |values: [i16; 6], big: bool| -> Vec<u8> {
            values.iter().flat_map(|n| if big { n.to_be_bytes() } else { n.to_le_bytes() }).collect()
        };
        for (descr, fortran, shape, values, expected) in [
            ("<i2", "False", "(2, 3)", [1, 2, 3, 4, 5, 6], &[2, 3][..]),
            ("<i2", "True", "(2, 3)", [1, 4, 2, 5, 3, 6], &[2, 3]),
            (">i2", "False", "(2, 3)", [1, 2, 3, 4, 5, 6], &[2, 3]),
            (">i2", "True", "(1, 3, 2)", [1, 3, 5, 2, 4, 6], &[1, 3, 2]),
            ("<i2", "True", "(6,)", [1, 2, 3, 4, 5, 6], &[6]),
        ] {
            let bytes = saved(descr, fortran, shape, &bytes(values, descr.starts_with('>')));
            assert_eq!(read(&bytes, 12).unwrap(), one_to_six(expected), "{descr} {fortran} {shape}");
            assert!(read(&bytes, 11).unwrap_err().contains("is too large"));
            assert!(read(&bytes[..bytes.len() - 1], 12).unwrap_err().contains("ends before the last of its 6 values"));
        }
        for (descr, data, expected) in [
            ("|b1", &[0, 2][..], Data::Bool(vec![false, true])),
            (">f4", &[0x3f, 0xc0, 0, 0, 0xc0, 0, 0, 0], Data::F32(vec![1.5, -2.0])),
        ] {
            let array = read(&saved(descr, "False", "(2,)", data), 100).unwrap();
            assert_eq!(array, Array::new([2], expected).unwrap(), "{descr}");
        }
        let none = read(&saved("<f8", "True", "(3, 0)", &[]), 0).unwrap();
        assert_eq!(none, Array::new([3, 0], Data::F64(Vec::new())).unwrap());
        for descr in ["|O", "<c8", "<U1", "<f16", "<M8[s]"] {
            assert!(read(&saved(descr, "False", "(1,)", &[0; 16]), 100).is_err(), "{descr}");
        }
    }

    #[test]
    fn a_full_disk_is_reported() {
        let tensor = Tensor::new([1000], vec![1.0; 1000]).unwrap();
        let mut little = [0; 512];
        assert!(write(&[("a", &tensor)], little.as_mut_slice()).is_err());
    }
}
