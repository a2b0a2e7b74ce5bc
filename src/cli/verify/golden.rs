//! Stored inputs and outputs: the sets appear whole, in place of those that were there.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::cli::failure::{Explain, Failure};
use crate::cli::files::Scratch;

/// Sets in the making, in a folder of their own where they will be.
pub(super) struct Golden {
    target: PathBuf,
    /// Whether the folder was not there before.
    is_new: bool,
    staged: Option<Scratch>,
}

impl Golden {
    /// Begins sets that will be in this folder.
    pub(super) fn begin(target: &Path) -> Result<Self, Failure> {
        let writing = || format!("cannot write `{}`", target.display());
        for set in sets(target) {
            holds_tensors_only(&set).doing(writing)?;
        }
        let is_new = !target.exists();
        fs::create_dir_all(target).doing(writing)?;
        let staged = Scratch::within(target, ".bbc-").doing(writing)?;
        Ok(Self { target: target.to_owned(), is_new, staged: Some(staged) })
    }

    /// The folder they are made in.
    pub(super) fn folder(&self) -> &Path {
        self.staged.as_ref().map_or(&self.target, Scratch::path)
    }

    /// Moves the sets to their places. Those that were there before go, also where there were more of them.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let writing = || format!("cannot write `{}`", self.target.display());
        let made: Vec<PathBuf> = sets(self.folder()).collect();
        for set in sets(&self.target) {
            // It goes with the folder that is thrown away at the end.
            let mut old = OsString::from("old-");
            old.push(set.file_name().unwrap_or_default());
            fs::rename(&set, self.folder().join(old)).doing(writing)?;
        }
        for set in made {
            let place = self.target.join(set.file_name().unwrap_or_default());
            fs::rename(set, place).doing(writing)?;
        }
        Ok(())
    }
}

impl Drop for Golden {
    fn drop(&mut self) {
        drop(self.staged.take());
        if self.is_new {
            // Only an empty folder is removed: one that nothing came into.
            let _ = fs::remove_dir(&self.target);
        }
    }
}

/// The sets in a folder, in the order of their numbers.
fn sets(folder: &Path) -> impl Iterator<Item = PathBuf> {
    (0..).map(|n| folder.join(format!("test_data_set_{n}"))).take_while(|set| set.symlink_metadata().is_ok())
}

/// Whether a set can be thrown away: there is nothing in it but what this program writes into sets.
fn holds_tensors_only(set: &Path) -> Result<(), Failure> {
    let reading = || format!("cannot replace `{}`", set.display());
    for entry in fs::read_dir(set).doing(reading)? {
        let name = entry.doing(reading)?.file_name();
        let text = name.to_string_lossy();
        let number =
            text.strip_suffix(".pb").and_then(|text| text.strip_prefix("input_").or(text.strip_prefix("output_")));
        if number.is_none_or(|number| number.parse::<u32>().is_err()) {
            return Err(Failure::new(format!("`{text}` in it is no stored tensor"))).doing(reading);
        }
    }
    Ok(())
}
