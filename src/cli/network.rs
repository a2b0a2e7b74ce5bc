//! Which network is meant: a preset or a spec, and what the command line changes in it.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use bbc::backbone::{self, Backbone, Batch, GenerateError, Head, Spec, SpecError};
use bbc::conv::Candidate;
use clap::{Args, ValueEnum};

use super::failure::{Explain, Failure};
use super::files;

/// Largest spec that is read, in bytes.
const MAX_TEXT: u64 = 4 << 20;

/// The options that name a network.
#[derive(Debug, Clone, Args)]
pub(crate) struct NetworkArgs {
    /// A published network: hgnet-tiny, hgnet-small, hgnet-base, hgnetv2-b0 to hgnetv2-b6
    #[arg(long, value_name = "NAME", conflicts_with = "spec")]
    preset: Option<String>,
    /// A network described in a YAML file
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    /// What the network ends with
    #[arg(long)]
    head: Option<HeadKind>,
    /// Classes of the classifier
    #[arg(long, value_name = "N")]
    classes: Option<u32>,
    /// Size of the image in pixels, one number or HEIGHTxWIDTH
    #[arg(long, value_name = "SIZE")]
    input_size: Option<ImageSize>,
}

/// The options that name a network and the convolution it is built of.
#[derive(Debug, Clone, Args)]
pub(crate) struct BuiltArgs {
    #[command(flatten)]
    network: NetworkArgs,
    /// Build of this convolution instead of the network's own (conv3x3, dw5x5, group8conv3x3)
    #[arg(long, value_name = "CONV")]
    first_conv: Option<Candidate>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum HeadKind {
    /// Global pool, fully connected layer, classifier
    Classify,
    /// None: the outputs are the feature maps of the stages
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ImageSize([u32; 2]);

impl FromStr for ImageSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (height, width) = text.split_once('x').unwrap_or((text, text));
        let side = |side: &str| match side.parse::<u32>() {
            Ok(n) if n > 0 => Ok(n),
            _ => Err(format!("`{side}` is no number of pixels; write `224` or `320x416`")),
        };
        Ok(Self([side(height)?, side(width)?]))
    }
}

impl NetworkArgs {
    /// Whether a network is named.
    pub(crate) fn is_named(&self) -> bool {
        self.preset.is_some() || self.spec.is_some()
    }

    /// The network that is named, with what the command line changes in it; `None` if none is.
    pub(crate) fn spec(&self) -> Result<Option<Spec>, Failure> {
        let spec = match (&self.spec, &self.preset) {
            (Some(path), _) => read_spec(path)?,
            (None, Some(name)) => backbone::preset(name)?,
            (None, None) => return Ok(None),
        };
        self.change(spec).map(Some)
    }

    /// The file of the spec, if one is named.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.spec.as_deref()
    }

    /// The spec with what the command line changes in it.
    pub(crate) fn change(&self, mut spec: Spec) -> Result<Spec, Failure> {
        if let Some(ImageSize([height, width])) = self.input_size {
            (spec.input.height, spec.input.width) = (height, width);
        }
        match (self.head, self.classes) {
            (Some(HeadKind::None), Some(_)) => {
                return Err(Failure::new("`--classes` needs a classifier, and `--head none` leaves it out"));
            }
            (Some(HeadKind::None), None) => spec.head = None,
            (None, None) => {}
            (Some(HeadKind::Classify), classes) | (None, classes @ Some(_)) => {
                let head = spec.head.unwrap_or(Head { hidden: 2048, classes: 1000 });
                spec.head = Some(Head { classes: classes.unwrap_or(head.classes), ..head });
            }
        }
        spec.validate()?;
        Ok(spec)
    }
}

impl BuiltArgs {
    /// The spec that is named, or `otherwise` if none is, with its first conv.
    pub(crate) fn spec(&self, otherwise: Option<Spec>) -> Result<Spec, Failure> {
        let spec = match (self.network.spec()?, otherwise) {
            (Some(spec), _) => spec,
            (None, Some(spec)) => self.network.change(spec)?,
            (None, None) => {
                return Err(Failure::new("no network is named").with_hint("name one with `--preset` or `--spec`"));
            }
        };
        Ok(match self.first_conv {
            Some(candidate) => spec.with_first_conv(candidate),
            None => spec,
        })
    }
}

/// The spec in a file.
pub(crate) fn read_spec(path: &Path) -> Result<Spec, Failure> {
    let text = files::read_text(path, MAX_TEXT)?;
    let spec = Spec::read(&text).map_err(|error| {
        let format = matches!(error, SpecError::Format { .. });
        let failure = Failure::from(error);
        if format { failure.with_hint("`schema/spec.example.yaml` shows the format that is read") } else { failure }
    });
    spec.doing(|| format!("cannot use the spec `{}`", path.display()))
}

/// The network of a spec; what to do if it cannot be generated.
pub(crate) fn generate(spec: &Spec, batch: Batch) -> Result<Backbone, Failure> {
    explained(backbone::generate(spec, batch), spec)
}

/// What was generated from a spec; what to do if it could not be.
pub(crate) fn explained<T>(generated: Result<T, GenerateError>, spec: &Spec) -> Result<T, Failure> {
    generated.map_err(|error| {
        let hint = match &error {
            GenerateError::NoFirstConv { .. } => Some("name one with `first_conv:` or `--first-conv`".to_owned()),
            GenerateError::Build(build) if build.source.to_string().contains("groups do not divide") => Some(format!(
                "every number of channels that `{}` is stacked on has to be a multiple of its groups",
                spec.first_conv.map_or_else(String::new, |conv| conv.to_string())
            )),
            GenerateError::Build(_)
            | GenerateError::Spec(_)
            | GenerateError::EmptyBatch
            | GenerateError::TooLarge { .. } => None,
        };
        let failure = Failure::from(error);
        match hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    })
}
