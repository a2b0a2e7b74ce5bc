//! External data: plain files of the model's own, below its folder, long enough.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use super::{Aspect, Fault, Faults};
use crate::onnx::check::check_stored;
use crate::onnx::proto::{TensorProto, tensor_proto::DataLocation};
use crate::onnx::scan::StoredTensor;

pub(super) fn check(tensors: &[StoredTensor], folder: &Path, faults: &mut Faults) {
    let mut files: HashMap<&str, Result<u64, String>> = HashMap::new();
    for StoredTensor { proto, held } in tensors {
        if proto.data_location() != DataLocation::External {
            if !proto.external_data.is_empty() {
                let what = "entries, but its data is not there".to_owned();
                faults.add(Aspect::ExternalData, Fault::ExternalEntry { name: proto.name().to_owned(), what });
            }
            continue;
        }
        let entries = match Entries::of(proto) {
            Ok(entries) => entries,
            Err(what) => {
                faults.add(Aspect::ExternalData, Fault::ExternalEntry { name: proto.name().to_owned(), what });
                continue;
            }
        };
        // A path that is not plain is not looked at; that it is not was said.
        let Ok(bytes) = check_stored(proto, held) else { continue };
        let length = files.entry(entries.location).or_insert_with(|| length(folder, entries.location));
        match length {
            Ok(length) => faults.take(Aspect::ExternalData, entries.fit(proto, bytes, *length)),
            Err(what) => {
                let (name, location) = (proto.name().to_owned(), entries.location.to_owned());
                faults.add(Aspect::ExternalData, Fault::ExternalFile { name, location, what: what.clone() });
            }
        }
    }
}

/// Where in which file a tensor's data is.
struct Entries<'m> {
    location: &'m str,
    offset: u64,
    length: Option<u64>,
}

impl<'m> Entries<'m> {
    fn of(tensor: &'m TensorProto) -> Result<Self, String> {
        let mut entries = Self { location: "", offset: 0, length: None };
        let mut seen: Vec<&str> = Vec::new();
        for entry in &tensor.external_data {
            let (key, value) = (entry.key(), entry.value());
            if seen.contains(&key) {
                return Err(format!("`{key}` twice"));
            }
            // A number below 2^63, in digits alone.
            let number = || {
                let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                let number = value.parse().ok().filter(|&n: &u64| digits && i64::try_from(n).is_ok());
                number.ok_or_else(|| format!("the {key} `{}`", value.chars().take(40).collect::<String>()))
            };
            match key {
                "location" => entries.location = value,
                "offset" => entries.offset = number()?,
                "length" => entries.length = Some(number()?),
                "checksum" => {}
                key if key.starts_with("prepacked_") => continue,
                key => return Err(format!("the unknown entry `{}`", key.chars().take(40).collect::<String>())),
            }
            seen.push(key);
        }
        Ok(entries)
    }

    /// Whether the data lies in a file of this length and is as long as the tensor.
    fn fit(&self, tensor: &TensorProto, bytes: Option<u64>, length: u64) -> Result<(), Fault> {
        let name = || tensor.name().to_owned();
        let Some(bytes) = bytes else {
            return Err(Fault::ExternalEntry {
                name: name(),
                what: "strings, which only the model itself can hold".into(),
            });
        };
        if let Some(stated) = self.length.filter(|&stated| stated != bytes) {
            let what = format!("a length of {stated} bytes, its shape needs {bytes}");
            return Err(Fault::ExternalEntry { name: name(), what });
        }
        let end = self.offset.saturating_add(bytes);
        if end > length {
            let location = self.location.to_owned();
            return Err(Fault::ExternalRange { name: name(), location, offset: self.offset, end, length });
        }
        Ok(())
    }
}

/// Length of a file below the folder, which no link leads to.
fn length(folder: &Path, location: &str) -> Result<u64, String> {
    let mut path = folder.to_owned();
    let mut parts = location.split('/').peekable();
    while let Some(part) = parts.next() {
        path.push(part);
        let metadata = fs::symlink_metadata(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
            _ => format!("it cannot be looked at: {error}"),
        })?;
        let is_last = parts.peek().is_none();
        if metadata.is_symlink() {
            return Err(format!("`{part}` is a symbolic link, which may lead anywhere"));
        }
        if !is_last {
            continue;
        }
        if !metadata.is_file() {
            return Err("it is no regular file".to_owned());
        }
        #[cfg(unix)]
        if std::os::unix::fs::MetadataExt::nlink(&metadata) > 1 {
            return Err("it is a hard link: the same file has another name, which may be anywhere".to_owned());
        }
        return Ok(metadata.len());
    }
    Err("it names no file".to_owned())
}
