//! `bbc profile plot`: a profile as a picture.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bbc::profile::Profile;
use bbc::report::plot::{self, Format};

use super::run::warn;
use crate::cli::failure::Failure;
use crate::cli::{Outcome, files, output, select};

/// Options of `bbc profile plot`.
#[derive(Debug, clap::Args)]
pub(super) struct PlotArgs {
    /// The profile, as `bbc profile -o` writes it
    #[arg(value_name = "PROFILE")]
    profile: PathBuf,
    /// The picture to write, SVG or PNG by its name
    #[arg(long, short, value_name = "FILE")]
    output: Picture,
}

/// A picture's file, whose name says what it is written as.
#[derive(Debug, Clone)]
pub(super) struct Picture {
    path: PathBuf,
    format: Format,
}

impl FromStr for Picture {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = PathBuf::from(text);
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        let format = match extension.as_deref() {
            Some("svg") => Format::Svg,
            Some("png") => Format::Png,
            Some(_) | None => return Err("a picture's name ends in `.svg` or `.png`".to_owned()),
        };
        Ok(Self { path, format })
    }
}

impl fmt::Display for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

impl Picture {
    /// Its file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Draws a profile and writes it.
    pub(super) fn write(&self, profile: &Profile) -> Result<(), Failure> {
        let bytes = plot::draw(profile, self.format)?;
        files::write(&self.path, |file| Ok(file.write_all(&bytes)?))?;
        output::note(&format!("drew `{self}`"));
        Ok(())
    }
}

/// Reads, draws and writes.
pub(super) fn run(args: &PlotArgs) -> Result<Outcome, Failure> {
    files::distinct(&[("the profile", Some(&args.profile)), ("`--output`", Some(args.output.path()))])?;
    let profile = select::read(&args.profile)?.profile;
    warn(&profile);
    args.output.write(&profile)?;
    Ok(Outcome::Done)
}
