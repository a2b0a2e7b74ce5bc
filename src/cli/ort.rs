//! ONNX Runtime for the commands: found, or fetched on the way; and whether a provider computes.

use std::path::Path;

use bbc::conv::{Conv, ConvProblem};
use bbc::reference;
use bbc::runtime::Runtime;
use bbc::runtime::library::{
    self, Build, FetchError, Fetched, Library, NoDataDirectory, Package, Progress, SearchError, Source, Surroundings,
};
use bbc::runtime::provider::{Probe, Provider, Unusable, usable};
use bbc::runtime::session::SessionError;
use bbc::tensor::{DType, Tensor};

use serde::Serialize;

use super::failure::{Explain, Failure};
use super::{Global, files, output};

/// A small convolution to try providers with; `fixtures/models/make.py` says which.
const CONV: &[u8] = include_bytes!("../../fixtures/models/conv.onnx");

/// ONNX Runtime, loaded. Where no library fits, and the network may be used, it is fetched first.
pub(crate) fn runtime(global: &Global) -> Result<Runtime, Failure> {
    Ok(Runtime::load(library(global)?)?)
}

/// ONNX Runtime's library, found or fetched.
pub(crate) fn library(global: &Global) -> Result<Library, Failure> {
    let surroundings = Surroundings::of_process(global.ort_lib.clone());
    match library::find(&surroundings) {
        Ok(library) => Ok(library),
        Err(error @ SearchError::Nowhere(_)) if !global.offline => found_after_fetch(&surroundings, &error),
        Err(error) => Err(explained(error, global.offline)),
    }
}

/// Fetches the package and searches again.
fn found_after_fetch(surroundings: &Surroundings, search: &SearchError) -> Result<Library, Failure> {
    let fetched = package(Build::Cpu).map_err(unfetched).and_then(|package| fetched(surroundings, package));
    fetched.doing(|| format!("{search}\nand it cannot be fetched"))?;
    library::find(surroundings).map_err(|error| explained(error, false))
}

fn explained(error: SearchError, offline: bool) -> Failure {
    let hint = match &error {
        SearchError::Named(attempt) => {
            format!("correct {}, or leave it out: ONNX Runtime is then looked for and fetched", attempt.place)
        }
        SearchError::Nowhere(_) if offline => "nothing is fetched with `--offline` or `BBC_OFFLINE`; run `bbc setup` \
                                               without it, or name a library with `--ort-lib` or `BBC_ORT_LIB`"
            .into(),
        SearchError::Nowhere(_) => "name a library with `--ort-lib` or `BBC_ORT_LIB`".into(),
    };
    Failure::from(error).with_hint(hint)
}

/// The package for this machine.
pub(crate) fn package(build: Build) -> Result<&'static Package, FetchError> {
    Package::here(build).ok_or(FetchError::NoPackage {
        build,
        version: library::VERSION,
        os: std::env::consts::OS,
        arch: std::env::consts::ARCH,
    })
}

/// Puts the package into the data directory, with a bar while it is fetched and one line when it was.
pub(crate) fn fetched(surroundings: &Surroundings, package: &Package) -> Result<Fetched, Failure> {
    let data = surroundings.data_directory().map_err(no_data_directory)?;
    let source = Source::of(&surroundings.variables);
    let name = format!("{} {}", package.build, package.version);
    let bar = output::transfer(package.size).with_message(name.clone());
    let result = library::fetch(package, &source, &data, &mut |progress| match progress {
        Progress::Unfinished(folder) => files::remove_on_interrupt(folder),
        Progress::Waiting => bar.set_message(format!("{name}: another process is fetching it")),
        Progress::Received { bytes, .. } => {
            bar.set_message(name.clone());
            bar.set_position(bytes.0);
        }
        Progress::Again => bar.set_message(format!("{name}: broke off, trying again")),
    });
    bar.finish_and_clear();
    let fetched = result.map_err(unfetched)?;
    if let Some(bytes) = fetched.received {
        output::note(&format!("fetched {name} ({bytes}) from {} into `{}`", source.index(), parent(&fetched.library)));
    }
    Ok(fetched)
}

fn parent(path: &Path) -> String {
    path.parent().unwrap_or(path).display().to_string()
}

pub(crate) fn no_data_directory(error: NoDataDirectory) -> Failure {
    Failure::from(error).with_hint("name a directory for the library in `BBC_DATA_DIR`")
}

/// The error with what to do about it.
pub(crate) fn unfetched(error: FetchError) -> Failure {
    let elsewhere = error.is_network() || matches!(error, FetchError::NotListed { .. });
    let mut hints = Vec::new();
    if error.is_distrust() {
        hints.push("name a file with the certificates to trust in `SSL_CERT_FILE`, or install the system's");
    }
    if elsewhere {
        hints.push("name a proxy in `HTTPS_PROXY`, or another package index in `PIP_INDEX_URL`");
    }
    if elsewhere || matches!(error, FetchError::NoPackage { .. }) {
        hints.push(
            "name a library of ONNX Runtime 1.30 or newer that is already here with `--ort-lib` or `BBC_ORT_LIB`; \
             with `--offline` or `BBC_OFFLINE` the network is left alone",
        );
    }
    if matches!(error, FetchError::Files { .. }) {
        hints.push("name another directory in `BBC_DATA_DIR`");
    }
    hints.into_iter().fold(Failure::from(error), Failure::with_hint)
}

/// Whether a provider computes here.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) usable: bool,
    /// Why not.
    pub(crate) reason: Option<String>,
    /// What ONNX Runtime says of it.
    pub(crate) message: Option<String>,
    /// What helps.
    pub(crate) remedy: Option<String>,
}

/// Finds out whether a provider computes, by running a small convolution on it.
pub(crate) fn try_provider(runtime: &Runtime, provider: Provider) -> Result<Verdict, Failure> {
    let (input, expected) = conv_case()?;
    let scratch = files::Scratch::new()?;
    let probe = Probe { model: CONV, input: &input, expected: &expected, scratch: Some(scratch.path()) };
    let tried = usable(runtime, provider, &probe);
    Ok(match tried {
        Ok(()) => Verdict { usable: true, reason: None, message: None, remedy: None },
        Err(Unusable::Session(SessionError::Provider(error))) => Verdict {
            usable: false,
            reason: Some(error.cause.to_string()),
            remedy: error.remedy(),
            message: Some(error.message),
        },
        Err(error) => Verdict { usable: false, reason: Some(error.to_string()), message: None, remedy: None },
    })
}

impl Verdict {
    /// The failure of a command that needs the provider.
    pub(crate) fn into_failure(self, provider: Provider) -> Failure {
        let reason = self.reason.unwrap_or_default();
        let message = self.message.map(|message| format!("\n  ONNX Runtime says: {}", message.replace('\n', "\n  ")));
        let message = message.unwrap_or_default();
        let failure = Failure::new(format!("provider `{provider}` cannot be used: {reason}{message}"));
        self.remedy.into_iter().fold(failure, Failure::with_hint)
    }

    /// What there is to say beyond the reason, each line behind `indent`.
    pub(crate) fn details(&self, indent: &str) -> String {
        let mut text = String::new();
        if let Some(message) = &self.message {
            text += &indented(&format!("ONNX Runtime says: {message}"), indent);
        }
        if let Some(remedy) = &self.remedy {
            text += &indented(&format!("what helps: {remedy}"), indent);
        }
        text
    }
}

/// The lines of a text, each behind `indent`.
pub(crate) fn indented(text: &str, indent: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".into() } else { format!("{indent}{line}\n") }).collect()
}

/// An input for the small convolution, and what it makes of it.
fn conv_case() -> Result<(Tensor, Tensor), Failure> {
    let problem = ConvProblem::new(Conv::square(3), 1, 2, 4, [8, 8], DType::F32)?;
    let weight: Vec<f32> = (0..72).map(|i| (i * 7 % 17) as f32 / 16.0 - 0.5).collect();
    let input: Vec<f32> = (0..128).map(|i| (i * 5 % 23) as f32 / 8.0 - 1.0).collect();
    let expected = reference::conv(&problem, &input, &weight);
    Ok((Tensor::new([1, 2, 8, 8], input)?, Tensor::new([1, 4, 8, 8], expected)?))
}

/// The provider of this name, for the parser of options.
pub(crate) fn provider(name: &str) -> Result<Provider, String> {
    Provider::named(name).ok_or_else(|| format!("there are {}", Provider::ALL.map(Provider::name).join(", ")))
}
