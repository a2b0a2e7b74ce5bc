//! Which network is meant: a preset or a spec, and what the command line changes in it.

use std::path::{Path, PathBuf};

use bbc::backbone::{self, Backbone, Freedom, GenerateError, Head, LOGITS, Spec, SpecError};
use bbc::conv::Candidate;
use bbc::ir::ShapeError;
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
    #[arg(long, value_name = "SIZE", value_parser = image_size)]
    input_size: Option<[u32; 2]>,
    /// Outputs by name, with commas between them: feature maps (c2 to c5 at strides 4 to 32), and `logits` of a
    /// classifier, which is left out where that is not among them
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    outputs: Option<Vec<String>>,
    /// Multiply the channels of the stem and of every stage, rounded to multiples of 8
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    width: Option<f64>,
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

/// Greatest height and width of an image that can be asked for.
const MAX_SIDE: u32 = 1 << 16;

/// `[height, width]` in a text: HEIGHTxWIDTH, or one number for both.
pub(crate) fn image_size(text: &str) -> Result<[u32; 2], String> {
    let (height, width) = text.split_once(['x', 'X']).unwrap_or((text, text));
    let side = |side: &str| match side.parse::<u32>() {
        Ok(n) if (1..=MAX_SIDE).contains(&n) => Ok(n),
        _ => Err(format!("`{side}` is no number of pixels from 1 to {MAX_SIDE}; write `224` or `320x416`")),
    };
    Ok([side(height)?, side(width)?])
}

impl NetworkArgs {
    /// Whether a network is named.
    pub(crate) fn is_named(&self) -> bool {
        self.preset.is_some() || self.spec.is_some()
    }

    /// Whether the size of the image is given.
    #[cfg(feature = "run")]
    pub(crate) fn has_input_size(&self) -> bool {
        self.input_size.is_some()
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
        if let Some([height, width]) = self.input_size {
            (spec.input.height, spec.input.width) = (height, width);
        }
        if let Some(factor) = self.width {
            spec = spec.widened(factor)?;
        }
        let has_logits = self.outputs.as_ref().map(|names| names.iter().any(|name| name == LOGITS));
        let head = match (self.head, has_logits) {
            (Some(HeadKind::Classify), Some(false)) => {
                let failure =
                    Failure::new("`--head classify` makes a classifier, and `--outputs` does not name its output");
                return Err(failure.with_hint(format!("name `{LOGITS}` too, or leave out `--head`")));
            }
            (Some(HeadKind::Classify), _) | (None, Some(true)) => Some(HeadKind::Classify),
            (Some(HeadKind::None), _) | (None, Some(false)) => Some(HeadKind::None),
            (None, None) => None,
        };
        match (head, self.classes) {
            (Some(HeadKind::None), Some(_)) => {
                let without = if self.head.is_some() { "`--head none`" } else { "`--outputs` without `logits`" };
                return Err(Failure::new(format!("`--classes` needs a classifier, and {without} leaves it out")));
            }
            (Some(HeadKind::None), None) => {
                // What a spec names beside its classifier's output stays.
                let keep = |names: Vec<String>| names.into_iter().filter(|name| name != LOGITS).collect::<Vec<_>>();
                spec.outputs = spec.outputs.map(keep).filter(|names| !names.is_empty());
                spec.head = None;
            }
            (None, None) => {}
            (Some(HeadKind::Classify), classes) | (None, classes @ Some(_)) => {
                let new = spec.head.is_none();
                let head = spec.head.unwrap_or(Head { hidden: 2048, classes: 1000 });
                spec.head = Some(Head { classes: classes.unwrap_or(head.classes), ..head });
                if new && let Some(names) = &mut spec.outputs {
                    names.push(LOGITS.to_owned());
                }
            }
        }
        if self.outputs.is_some() {
            spec.outputs.clone_from(&self.outputs);
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
pub(crate) fn generate(spec: &Spec, freedom: impl Into<Freedom>) -> Result<Backbone, Failure> {
    explained(backbone::generate(spec, freedom), spec)
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
            GenerateError::Build(build) if matches!(build.source, ShapeError::FreeSize { .. }) => {
                Some("leave out `--dynamic-size`: `--input-size` writes the model for one size".to_owned())
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_images() {
        for (text, size) in
            [("224", [224; 2]), ("320x416", [320, 416]), ("480X640", [480, 640]), ("1x65536", [1, 65536])]
        {
            assert_eq!(image_size(text), Ok(size), "{text}");
        }
        for text in ["", "x", "224x", "X224", "0", "224x0", "-1", "1x2x3", "224*224", "65537", "4294967296", "2 x 3"] {
            assert!(image_size(text).is_err(), "{text}");
        }
    }
}
