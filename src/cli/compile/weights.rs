//! Where the values of the model's weights are from: a seed, or a file of trained ones.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bbc::ir::weight::LeafInit;
use bbc::ir::{Graph, Seeded, WeightSource, WriteError};
use bbc::weights::{Checkpoint, Fitted, OpenError, ValueError};
use clap::Args;
use serde::Serialize;

use crate::cli::failure::{Explain, Failure};
use crate::cli::output;

/// Most names that a warning lists; reports have all of them.
const MOST_NAMES: usize = 12;

/// The options that say which weights are used.
#[derive(Debug, Clone, Args)]
pub(super) struct WeightsArgs {
    /// Trained weights: a safetensors file with the parameters' names (for presets, timm's)
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Accept a file with another head or none, or one whose head or last stages are not needed
    #[arg(long, requires = "weights")]
    partial: bool,
    /// Accept weights that are infinite or no number
    #[arg(long, requires = "weights")]
    allow_nonfinite: bool,
}

/// A file of weights that has been opened.
pub(super) struct Opened<'a> {
    path: &'a Path,
    checkpoint: Checkpoint<File>,
}

/// Where the values are from.
pub(super) enum Weights {
    /// A seed.
    Initial(Seeded),
    /// A file, and the seed for what it lacks.
    Trained {
        /// What is read.
        source: Box<Fitted<File>>,
        /// The file.
        path: PathBuf,
        /// What of it is used.
        origin: Origin,
    },
}

/// What weights are from, as reports say it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Origin {
    /// Seed of the initial values, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seed: Option<u64>,
    /// The file of trained ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<String>,
    /// Of the whole file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<String>,
    /// Tensors taken from the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tensors: Option<usize>,
    /// Parameters that the file has not, or in another shape.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) initialised: Vec<String>,
    /// Tensors of the file that are not used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) unused: Vec<String>,
}

impl WeightsArgs {
    /// The file that is named, if one is.
    pub(super) fn file(&self) -> Option<&Path> {
        self.weights.as_deref()
    }

    /// Opens the file that is named, if one is, and checks that it is one of weights.
    pub(super) fn open(&self) -> Result<Option<Opened<'_>>, Failure> {
        let Some(path) = &self.weights else { return Ok(None) };
        let opened = File::open(path).map_err(OpenError::from).and_then(Checkpoint::open);
        let checkpoint = opened.map_err(|error| unopened(error, path)).doing(|| cannot_use(path))?;
        Ok(Some(Opened { path, checkpoint }))
    }

    /// The weights of the graph: from the file, or from the seed where there is none.
    pub(super) fn source(&self, opened: Option<Opened<'_>>, seed: u64, graph: &Graph) -> Result<Weights, Failure> {
        let Some(Opened { path, checkpoint }) = opened else { return Ok(Weights::Initial(Seeded(seed))) };
        let sha256 = checkpoint.sha256().doing(|| cannot_use(path))?;
        let fitted = checkpoint.fit(graph, self.partial, Seeded(seed)).map_err(|misfit| {
            let hint = misfit.is_only_the_end.then_some(
                "`--partial` accepts a file with another head or none, or with stages that the outputs do not need",
            );
            let failure = Failure::from(misfit);
            match hint {
                Some(hint) => failure.with_hint(hint),
                None => failure,
            }
        });
        let source = fitted.doing(|| cannot_use(path))?;
        let source = if self.allow_nonfinite { source.allowing_nonfinite() } else { source };
        let fit = source.fit();
        let origin = Origin {
            seed: (!fit.initialised.is_empty()).then_some(seed),
            file: Some(path.display().to_string()),
            sha256: Some(sha256),
            tensors: Some(fit.found_as.len()),
            initialised: fit.initialised.clone(),
            unused: fit.unused.clone(),
        };
        origin.warn();
        Ok(Weights::Trained { source: Box::new(source), path: path.to_owned(), origin })
    }
}

fn cannot_use(path: &Path) -> String {
    format!("cannot use the weights `{}`", path.display())
}

fn unopened(error: OpenError, path: &Path) -> Failure {
    let pickle = matches!(error, OpenError::Pickle);
    // The error of the system says it all.
    let failure = match error {
        OpenError::Io(error) => Failure::from(error),
        error => Failure::from(error),
    };
    if !pickle {
        return failure;
    }
    let (from, to) = (path.display(), path.with_extension("safetensors"));
    failure.with_hint(format!(
        "convert it, if it is from someone you trust (weights_only keeps code from running):\n  \
         python -c \"import torch, safetensors.torch as s; d = torch.load('{from}', 'cpu', weights_only=True); \
         s.save_file({{k: v.contiguous() for k, v in d.items()}}, '{}')\"",
        to.display()
    ))
}

impl Origin {
    /// Says which weights are not trained, and which trained ones are not used.
    fn warn(&self) {
        let list = |names: &[String]| {
            let shown = names.iter().take(MOST_NAMES).map(|name| format!("`{}`", output::printable(name)));
            let more = names.len().checked_sub(MOST_NAMES).filter(|more| *more > 0);
            shown.chain(more.map(|more| format!("and {more} more"))).collect::<Vec<_>>().join(", ")
        };
        if let Some(seed) = self.seed {
            output::warning(&format!("not in the file, initialised with seed {seed}: {}", list(&self.initialised)));
        }
        if !self.unused.is_empty() {
            output::warning(&format!("in the file and not used: {}", list(&self.unused)));
        }
    }
}

impl Weights {
    /// The graph with the scalars known that passes decide by.
    pub(super) fn with_scalars(&self, graph: &Graph) -> Result<Graph, Failure> {
        let known = graph.clone().with_scalars_of(self);
        known.map_err(|(name, source)| self.explain(WriteError::Weight { name, source }))
    }

    /// What weights are from.
    pub(super) fn origin(&self) -> Origin {
        match self {
            Self::Trained { origin, .. } => origin.clone(),
            Self::Initial(Seeded(seed)) => Origin {
                seed: Some(*seed),
                file: None,
                sha256: None,
                tensors: None,
                initialised: Vec::new(),
                unused: Vec::new(),
            },
        }
    }

    /// Why weights could not be written, and what to do about it.
    pub(super) fn explain(&self, error: WriteError<ValueError>) -> Failure {
        let hint = match &error {
            WriteError::Weight {
                source: ValueError::NotFinite { .. } | ValueError::NegativeVariance { .. }, ..
            } => Some("`--allow-nonfinite` takes the values as they are"),
            WriteError::Weight { source: ValueError::Io(_), .. } | WriteError::Io(_) => None,
        };
        let failure = match self {
            Self::Initial(_) => Failure::from(error),
            Self::Trained { path, .. } => about_weights(error, path),
        };
        match hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }
}

/// What is wrong with weights is said of their file; what is wrong with the disk is not.
fn about_weights(error: WriteError<ValueError>, path: &Path) -> Failure {
    match error {
        WriteError::Io(_) => Failure::from(error),
        WriteError::Weight { .. } => Failure::from(anyhow::Error::new(error).context(cannot_use(path))),
    }
}

impl WeightSource for Weights {
    type Error = ValueError;

    fn values(&self, name: &str, shape: &[u32], init: LeafInit<'_>) -> Result<Vec<f32>, ValueError> {
        match self {
            Self::Initial(seed) => Ok(seed.values(name, shape, init).unwrap_or_else(|never| match never {})),
            Self::Trained { source, .. } => source.values(name, shape, init),
        }
    }

    fn part(
        &self,
        name: &str,
        shape: &[u32],
        init: LeafInit<'_>,
        positions: Range<u64>,
    ) -> Result<Vec<f32>, ValueError> {
        match self {
            Self::Initial(seed) => Ok(seed.part(name, shape, init, positions).unwrap_or_else(|never| match never {})),
            Self::Trained { source, .. } => source.part(name, shape, init, positions),
        }
    }
}
