//! `bbc verify`: whether a model from anywhere is what its file says, check by check.
//!
//! The structure is looked at here, without believing a byte of it. Only if that holds is the model run, in a process of
//! its own: see [`child`].

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bbc::onnx::structure::{Limits, MAX_TENSOR_BYTES};
use bbc::onnx::summary::{FileDim, outputs};
use bbc::runtime::provider::Provider;
use bbc::runtime::session::PortDim;
use bbc::verify::judge::{CHECKS, Reference, Request};
use bbc::verify::outcome::{Checked, Status};

use self::report::{ModelReport, Report};
use super::census::BaseArgs;
use super::contract::{self, Beside};
use super::failure::{Explain, Failure};
use super::{Global, Outcome, files, ort, output};

pub(crate) mod child;
mod golden;
mod junit;
mod report;
pub(crate) mod structure;

/// Largest profile that is read, in bytes.
const MAX_TEXT: u64 = 4 << 20;

/// Options of `bbc verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The models
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Write the checks as JUnit XML, which CI servers show
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Look at the structure only
    #[arg(long, conflicts_with_all = ["provider", "reference", "write_golden"])]
    no_run: bool,
    #[command(flatten)]
    structure: StructureArgs,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    contract: ContractArgs,
}

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Models made by bbc")]
struct ContractArgs {
    /// The profile that the model should be made from
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Hold the channels of the first convs against the stages of this base model: an ONNX file, a census, or the name of
    /// one that is built in; may be given several times
    #[arg(long, value_name = "MODEL")]
    base_model: Vec<PathBuf>,
}

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Structure")]
struct StructureArgs {
    /// Most bytes of a tensor, stored or computed: a number, or one with K, M or G
    #[arg(long, value_name = "BYTES", default_value_t = MAX_TENSOR_BYTES, value_parser = bytes)]
    max_tensor_bytes: u64,
    /// Take loops and branches (`Loop`, `If`, `Scan`)
    #[arg(long)]
    allow_control_flow: bool,
    /// Take operators of this domain, which are not known here; may be given several times
    #[arg(long, value_name = "NAME")]
    allow_domain: Vec<String>,
}

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Running")]
struct RunArgs {
    /// Run on this provider, and prove that what convolves and multiplies ran there; `cpu` without proof if not given
    #[arg(long, value_name = "NAME", value_parser = ort::provider)]
    provider: Option<Provider>,
    /// Processor threads
    #[arg(long, value_name = "N")]
    threads: Option<NonZero<usize>>,
    /// Batch sizes for a model that leaves its batch free
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,3,8", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Vec<u32>,
    /// Sizes of an input that leaves others than its batch free: `image:1x3x640x640`; may be given several times
    #[arg(long, visible_alias = "shapes", value_name = "NAME:SIZES", value_parser = input_shape)]
    input_shapes: Vec<(String, Vec<u32>)>,
    /// Compare with this: another model, a folder with `test_data_set_0` or with `input_0.pb` and `output_0.pb`, or an
    /// `.npz` with arrays named as inputs and outputs
    #[arg(long, value_name = "PATH")]
    reference: Option<PathBuf>,
    /// Relative tolerance, instead of the one that belongs to the element type
    #[arg(long, value_name = "X", value_parser = tolerance)]
    rtol: Option<f64>,
    /// Absolute tolerance, instead of the one that belongs to the element type
    #[arg(long, value_name = "X", value_parser = tolerance)]
    atol: Option<f64>,
    /// Find the first tensor in which the model and the model it is compared with differ
    #[arg(long, requires = "reference")]
    first_divergence: bool,
    /// Store inputs and outputs in this folder, in the layout that `--reference` takes
    #[arg(long, value_name = "DIR")]
    write_golden: Option<PathBuf>,
}

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Limits of the process that runs the model")]
struct LimitArgs {
    /// Most memory: a number of bytes, or one with K, M or G
    #[arg(long, value_name = "BYTES", default_value = "16G", value_parser = bytes)]
    max_memory: u64,
    /// Most seconds until all is found out
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    timeout: Duration,
    /// Most seconds of processor time, of all threads together; four times the other if not given
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    cpu_time: Option<Duration>,
}

fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || "write a number of bytes, or one with K, M or G".to_owned();
    let (digits, shift) = match text.trim_end_matches("iB").strip_suffix(['K', 'M', 'G']) {
        Some(digits) if text.contains('K') => (digits, 10),
        Some(digits) if text.contains('M') => (digits, 20),
        Some(digits) => (digits, 30),
        None => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).filter(|&bytes| bytes > 0).ok_or_else(wrong)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "write a number of seconds".to_owned())?;
    let wrong = || "write a number of seconds above 0".to_owned();
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| !time.is_zero() && time.as_secs() < 1 << 32)
        .ok_or_else(wrong)
}

fn tolerance(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|x: &f64| x.is_finite() && *x >= 0.0)
        .ok_or_else(|| "write a number, 0 or above".to_owned())
}

fn input_shape(text: &str) -> Result<(String, Vec<u32>), String> {
    let wrong = || "write a name and sizes: `image:1x3x224x224`".to_owned();
    let (name, sizes) = text.rsplit_once(':').ok_or_else(wrong)?;
    let sizes = sizes.trim_matches(['[', ']']).split(['x', ',']);
    let sizes = sizes.map(|size| size.parse().ok().filter(|&n| n > 0)).collect::<Option<Vec<u32>>>();
    Ok((name.to_owned(), sizes.ok_or_else(wrong)?))
}

/// Checks the models and prints what was found.
pub(crate) fn run(args: &Args, global: &Global) -> Result<Outcome, Failure> {
    let mut named: Vec<(&str, Option<&Path>)> = vec![("`--junit`", args.junit.as_deref())];
    named.extend(args.models.iter().map(|model| ("a model", Some(model.as_path()))).take(1));
    files::distinct(&named)?;
    if args.models.len() > 1 && (args.run.reference.is_some() || args.run.write_golden.is_some()) {
        return Err(Failure::new("`--reference` and `--write-golden` belong to one model; several are given"));
    }
    let junit = args.junit.as_deref().map(files::Staged::beside).transpose()?;
    let one = |model: &PathBuf| match verify(args, global, model) {
        // Of several models the others are judged all the same.
        Err(failure) if args.models.len() > 1 => Ok(ModelReport::unread(model, &failure)),
        result => result,
    };
    let models = args.models.iter().map(one).collect::<Result<Vec<_>, _>>()?;
    let report = Report::new(models);
    if let Some(staged) = junit {
        let xml = junit::xml(&report)?;
        staged.write(staged.path(), |out| Ok(out.write_all(xml.as_bytes())?))?;
        staged.finish()?;
    }
    if args.json {
        output::json(&report)?;
    } else {
        output::result(&report.text())?;
    }
    match report.verdict {
        Status::Passed | Status::Skipped => Ok(Outcome::Done),
        Status::Failed => Ok(Outcome::No),
        Status::Error => Err(Failure::new(report.undecided())),
    }
}

fn limits(args: &Args) -> Limits {
    Limits {
        max_tensor_bytes: args.structure.max_tensor_bytes,
        allow_control_flow: args.structure.allow_control_flow,
        domains: args.structure.allow_domain.clone(),
    }
}

fn verify(args: &Args, global: &Global, model: &Path) -> Result<ModelReport, Failure> {
    let limits = limits(args);
    let mut report = structure::of(model, &limits)?;
    let promised = contract(args, global, &report)?;
    let unrun = if args.no_run {
        Some("`--no-run` was given")
    } else if report.verdict() != Status::Passed {
        Some("the structure does not hold")
    } else {
        None
    };
    report.checks.extend(match unrun {
        Some(why) => CHECKS.iter().map(|name| Checked::skipped(name, why)).collect(),
        None => judged(args, global, model, declared(&report)).unwrap_or_else(|failure| {
            let error = Checked::error("load", failure.to_string());
            let rest = CHECKS.iter().filter(|name| **name != "load");
            std::iter::once(error).chain(rest.map(|name| Checked::skipped(name, "the model was not loaded"))).collect()
        }),
    });
    report.checks.push(promised);
    Ok(report)
}

/// The dimensions that a file declares for its outputs.
fn declared(report: &ModelReport) -> BTreeMap<String, Vec<PortDim>> {
    let Some(scanned) = &report.scanned else { return BTreeMap::new() };
    let dim = |dim: FileDim| match dim {
        FileDim::Fixed(size) => u32::try_from(size).map_or(PortDim::Unknown, PortDim::Fixed),
        FileDim::Free(name) if name.is_empty() => PortDim::Unknown,
        FileDim::Free(name) => PortDim::Named(name),
    };
    let ports = outputs(&scanned.model).into_iter();
    ports.filter_map(|port| Some((port.name, port.dims?.into_iter().map(dim).collect()))).collect()
}

/// Whether a model of our own is what its metadata says.
fn contract(args: &Args, global: &Global, report: &ModelReport) -> Result<Checked, Failure> {
    let Some(scanned) = report.scanned.as_ref().filter(|_| report.verdict() == Status::Passed) else {
        return Ok(Checked::skipped("contract", "the structure does not hold"));
    };
    let bases = BaseArgs::of(&args.contract.base_model).census(global)?;
    let profile = args.contract.profile.as_deref().map(|path| files::read_text(path, MAX_TEXT)).transpose()?;
    let beside = Beside { bases: bases.as_ref(), profile: profile.as_deref() };
    Ok(match contract::check(&scanned.model, beside) {
        None => Checked::skipped("contract", "the model carries no metadata of bbc"),
        Some(findings) if findings.faults.is_empty() => Checked::passed("contract", findings.holds.join("\n")),
        Some(findings) => Checked::failed("contract", findings.faults.join("\n")),
    })
}

/// Has the model run in a process of its own.
fn judged(
    args: &Args,
    global: &Global,
    model: &Path,
    declared: BTreeMap<String, Vec<PortDim>>,
) -> Result<Vec<Checked>, Failure> {
    let library = ort::library(global)?;
    let scratch =
        tempfile::Builder::new().prefix("bbc-").tempdir().doing(|| "cannot make a temporary folder".into())?;
    files::remove_on_interrupt(scratch.path().to_owned());
    let golden = args.run.write_golden.as_deref().map(golden::Golden::begin).transpose()?;
    let request = Request {
        model: model.to_owned(),
        provider: args.run.provider.unwrap_or(Provider::Cpu),
        prove_provider: args.run.provider.is_some(),
        threads: args.run.threads,
        batches: args.run.batch.clone(),
        declared,
        sizes: args.run.input_shapes.iter().cloned().collect::<BTreeMap<_, _>>(),
        max_bytes: args.structure.max_tensor_bytes,
        reference: args.run.reference.as_deref().map(|path| reference(path, args)).transpose()?,
        rtol: args.run.rtol,
        atol: args.run.atol,
        first_divergence: args.run.first_divergence,
        golden: golden.as_ref().map(|golden| golden.folder().to_owned()),
        scratch: scratch.path().to_owned(),
    };
    let limits = child::Limits {
        memory: args.limits.max_memory,
        cpu_seconds: args.limits.cpu_time.unwrap_or(args.limits.timeout * 4).as_secs().max(1),
    };
    let bar = output::busy(&format!("running `{}`", model.display()));
    let checks = child::judge(&library, &request, limits, args.limits.timeout);
    bar.finish_and_clear();
    let checks = checks?;
    if let Some(golden) = golden
        && checks.iter().any(|check| check.name == "golden" && check.status == Status::Passed)
    {
        golden.finish()?;
    }
    Ok(checks)
}

/// What the path of a reference is: a folder of tensors, an archive, or else a model, whose structure has to hold.
fn reference(path: &Path, args: &Args) -> Result<Reference, Failure> {
    if path.is_dir() {
        return Ok(Reference::Sets(path.to_owned()));
    }
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npz")) {
        return Ok(Reference::Archive(path.to_owned()));
    }
    let report = structure::of(path, &limits(args))?;
    match report.checks.iter().find(|check| check.status == Status::Failed) {
        None => Ok(Reference::Model(path.to_owned())),
        Some(check) => {
            let why = check.message.clone().unwrap_or_default();
            Err(Failure::new(format!("the reference `{}` is no valid model: {why}", path.display())))
        }
    }
}
