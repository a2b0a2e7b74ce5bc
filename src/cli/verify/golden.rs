//! Stored inputs and outputs: every set appears whole, in place of the one that was there.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::cli::failure::{Explain, Failure};
use crate::cli::files;

/// Sets in the making, in a folder of their own where they will be.
pub(super) struct Golden {
    target: PathBuf,
    /// Whether the folder was not there before.
    is_new: bool,
    staged: Option<TempDir>,
}

impl Golden {
    /// Begins sets that will be in this folder.
    pub(super) fn begin(target: &Path) -> Result<Self, Failure> {
        let writing = || format!("cannot write `{}`", target.display());
        let is_new = !target.exists();
        fs::create_dir_all(target).doing(writing)?;
        let staged = tempfile::Builder::new().prefix(".bbc-").tempdir_in(target).doing(writing)?;
        files::remove_on_interrupt(staged.path().to_owned());
        Ok(Self { target: target.to_owned(), is_new, staged: Some(staged) })
    }

    /// The folder they are made in.
    pub(super) fn folder(&self) -> &Path {
        self.staged.as_ref().map_or(&self.target, TempDir::path)
    }

    /// Moves the sets to their places.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let writing = || format!("cannot write `{}`", self.target.display());
        let mut names: Vec<_> = Vec::new();
        for entry in fs::read_dir(self.folder()).doing(writing)? {
            names.push(entry.doing(writing)?.file_name());
        }
        names.sort();
        for name in names {
            let (set, place) = (self.folder().join(&name), self.target.join(&name));
            if place.exists() {
                // What was there goes with the folder that is thrown away at the end.
                let mut old = name.clone();
                old.push(".old");
                fs::rename(&place, self.folder().join(old)).doing(writing)?;
            }
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
