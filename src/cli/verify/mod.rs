//! `bbc verify`: whether a model from anywhere is what its file says, check by check.
//!
//! The structure is looked at here, without believing a byte of it. Only if that holds is the model run, in a process of
//! its own: see [`child`].

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bbc::census::Census;
use bbc::onnx::precision::stated_convs;
use bbc::onnx::scan::Scanned;
use bbc::onnx::structure::{Limits, MAX_TENSOR_BYTES};
use bbc::onnx::summary::{FileDim, outputs};
use bbc::precision::Expected;
use bbc::runtime::library::Library;
use bbc::runtime::provider::Provider;
use bbc::runtime::session::PortDim;
use bbc::verify::judge::{CHECKS, Reference, Request};
use bbc::verify::outcome::{Checked, Status};

use self::golden::Golden;
use self::report::{ModelReport, Report};
use super::census::BaseArgs;
use super::contract::{self, Beside};
use super::failure::Failure;
use super::{Global, Outcome, files, ort, output};

pub(crate) mod child;
mod deployments;
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
    suits: deployments::DeploymentArgs,
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
    /// Batch sizes for a model that leaves its batch free; 1, 3 and 8 if not given
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    batch: Vec<u32>,
    /// Sizes of an input that leaves some free: `image:1x3x640x640`, or `image:Nx3x640x640` for every batch size; may be
    /// given several times
    #[arg(long, visible_alias = "shapes", value_name = "NAME:SIZES", value_parser = input_shape)]
    input_shapes: Vec<(String, Vec<Option<u32>>)>,
    /// Compare with this: another model, a folder with `test_data_set_0` or with `input_0.pb` and `output_0.pb`, or an
    /// `.npz` with arrays named as inputs and outputs
    #[arg(long, value_name = "PATH")]
    reference: Option<PathBuf>,
    /// Fail if a convolution that the file has in this precision runs in another, or none is in it: fp32, fp16, bf16, int8
    #[arg(long, value_name = "PRECISION", value_parser = deployments::precision, conflicts_with = "no_run")]
    expect_precision: Option<Expected>,
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

/// The name of an input and its sizes; `None` for the batch, which only the first can be.
fn input_shape(text: &str) -> Result<(String, Vec<Option<u32>>), String> {
    let wrong = || "write a name and sizes: `image:1x3x224x224`, or `N` in place of the first for the batch".to_owned();
    let (name, sizes) = text.rsplit_once(':').ok_or_else(wrong)?;
    let sizes = sizes.trim_matches(['[', ']']).split(['x', ',']).enumerate();
    let size = |(at, size): (usize, &str)| match size.trim() {
        "N" if at == 0 => Some(None),
        size => size.parse().ok().filter(|&n| n > 0).map(Some),
    };
    Ok((name.to_owned(), sizes.map(size).collect::<Option<Vec<_>>>().ok_or_else(wrong)?))
}

/// Checks the models and prints what was found.
pub(crate) fn run(args: &Args, global: &Global) -> Result<Outcome, Failure> {
    if args.models.len() > 1 && (args.run.reference.is_some() || args.run.write_golden.is_some()) {
        return Err(Failure::new("`--reference` and `--write-golden` belong to one model; several are given"));
    }
    let sizes = args.run.sizes()?;
    args.spare_inputs()?;
    let junit = args.junit.as_deref().map(files::Staged::beside).transpose()?;
    let promised = Promised::read(args, global)?;
    let limits = args.structure.limits();
    let reference = args.run.reference.as_deref().map(|path| reference(path, &limits)).transpose()?;
    let mut golden = args.run.write_golden.as_deref().map(Golden::begin).transpose()?;
    let mut models = Vec::new();
    for model in &args.models {
        models.push(match structure::of(model, &limits) {
            // Of several models the others are judged all the same.
            Err(failure) if args.models.len() > 1 => ModelReport::unread(model, &failure),
            report => report?,
        });
    }
    spare_data(args, &models)?;
    let is_run = !args.no_run && models.iter().any(|report| report.verdict() == Status::Passed);
    let library = is_run.then(|| ort::library(global));
    for (report, model) in models.iter_mut().zip(&args.models).filter(|(report, _)| report.was_read()) {
        let contract = promised.contract(report);
        let judged = match &library {
            _ if args.no_run => skipped("`--no-run` was given"),
            Some(Ok(library)) if report.verdict() == Status::Passed => {
                let request = args.request(model, report, sizes.clone(), reference.clone());
                judged(library, request, golden.take(), &args.limits).unwrap_or_else(|failure| unloaded(&failure))
            }
            Some(Err(failure)) if report.verdict() == Status::Passed => unloaded(failure),
            _ => skipped("the structure does not hold"),
        };
        report.checks.extend(judged);
        report.checks.push(deployments::check(&args.suits, report, &args.run.input_shapes));
        report.checks.push(contract);
    }
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

impl Args {
    /// Refuses to write the report over a file that is read.
    fn spare_inputs(&self) -> Result<(), Failure> {
        let Some(junit) = self.junit.as_deref() else { return Ok(()) };
        let models = self.models.iter().map(|path| ("a model", path));
        let reference = self.run.reference.iter().map(|path| ("`--reference`", path));
        let profile = self.contract.profile.iter().map(|path| ("`--profile`", path));
        let bases = self.contract.base_model.iter().map(|path| ("`--base-model`", path));
        for (what, path) in models.chain(reference).chain(profile).chain(bases) {
            files::distinct(&[("`--junit`", Some(junit)), (what, Some(path))])?;
        }
        let folder = self.run.reference.as_deref().filter(|path| path.is_dir());
        let is_stored = junit.extension().is_some_and(|extension| extension == "pb");
        if let Some(folder) = folder
            && is_stored
            && files::behind_links(junit).starts_with(files::behind_links(folder))
        {
            return Err(Failure::new(format!("`--junit` is a tensor of `--reference`, `{}`", junit.display())));
        }
        Ok(())
    }
}

/// The same for the external data of the models.
fn spare_data(args: &Args, models: &[ModelReport]) -> Result<(), Failure> {
    let Some(junit) = args.junit.as_deref() else { return Ok(()) };
    for (report, model) in models.iter().zip(&args.models) {
        let folder = model.parent().unwrap_or(Path::new(""));
        for location in report.scanned.iter().flat_map(Scanned::locations) {
            let data = folder.join(location);
            files::distinct(&[("`--junit`", Some(junit)), ("data of a model", Some(&data))])?;
        }
    }
    Ok(())
}

impl StructureArgs {
    fn limits(&self) -> Limits {
        Limits {
            max_tensor_bytes: self.max_tensor_bytes,
            allow_control_flow: self.allow_control_flow,
            domains: self.allow_domain.clone(),
        }
    }
}

impl RunArgs {
    /// The sizes of inputs by name.
    fn sizes(&self) -> Result<BTreeMap<String, Vec<Option<u32>>>, Failure> {
        let mut sizes = BTreeMap::new();
        for (name, shape) in &self.input_shapes {
            if sizes.insert(name.clone(), shape.clone()).is_some_and(|other| other != *shape) {
                return Err(Failure::new(format!("`--input-shapes` gives `{name}` two shapes")));
            }
        }
        Ok(sizes)
    }
}

/// What models of our own are held against.
struct Promised {
    bases: Option<Census>,
    profile: Option<String>,
}

impl Promised {
    fn read(args: &Args, global: &Global) -> Result<Self, Failure> {
        let bases = BaseArgs::of(&args.contract.base_model).census(global)?;
        let profile = args.contract.profile.as_deref().map(|path| files::read_text(path, MAX_TEXT)).transpose()?;
        Ok(Self { bases, profile })
    }

    /// Whether a model of our own is what its metadata says.
    fn contract(&self, report: &ModelReport) -> Checked {
        let Some(scanned) = report.scanned.as_ref().filter(|_| report.verdict() == Status::Passed) else {
            return Checked::skipped("contract", "the structure does not hold");
        };
        let beside = Beside { bases: self.bases.as_ref(), profile: self.profile.as_deref() };
        match contract::check(&scanned.model, beside) {
            None => Checked::skipped("contract", "the model carries no metadata of bbc"),
            Some(findings) if findings.faults.is_empty() => Checked::passed("contract", findings.holds.join("\n")),
            Some(findings) => Checked::failed("contract", findings.faults.join("\n")),
        }
    }
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

/// Of a model that is not run.
fn skipped(why: &str) -> Vec<Checked> {
    CHECKS.iter().map(|name| Checked::skipped(name, why)).collect()
}

/// Of a model that could not be loaded, for no fault of its own.
fn unloaded(failure: &Failure) -> Vec<Checked> {
    let error = Checked::error("load", failure.to_string());
    let rest = CHECKS.iter().filter(|name| **name != "load");
    std::iter::once(error).chain(rest.map(|name| Checked::skipped(name, "the model was not loaded"))).collect()
}

impl Args {
    fn request(
        &self,
        model: &Path,
        report: &ModelReport,
        sizes: BTreeMap<String, Vec<Option<u32>>>,
        reference: Option<Reference>,
    ) -> Request {
        let stated = || report.scanned.as_ref().map(|scanned| stated_convs(&scanned.model)).unwrap_or_default();
        Request {
            model: model.to_owned(),
            provider: self.run.provider.unwrap_or(Provider::Cpu),
            prove_provider: self.run.provider.is_some(),
            threads: self.run.threads,
            batches: self.run.batch.clone(),
            declared: declared(report),
            precision: self.run.expect_precision.map(|expected| (expected, stated())),
            sizes,
            max_bytes: self.structure.max_tensor_bytes,
            reference,
            rtol: self.run.rtol,
            atol: self.run.atol,
            first_divergence: self.run.first_divergence,
            golden: None,
            scratch: PathBuf::new(),
        }
    }
}

impl LimitArgs {
    fn of_child(&self) -> child::Limits {
        let cpu_seconds = self.cpu_time.unwrap_or(self.timeout * 4).as_secs().max(1);
        child::Limits { memory: self.max_memory, cpu_seconds }
    }
}

/// Has a model run in a process of its own.
fn judged(
    library: &Library,
    request: Request,
    golden: Option<Golden>,
    limits: &LimitArgs,
) -> Result<Vec<Checked>, Failure> {
    let scratch = files::Scratch::new()?;
    let request = Request {
        golden: golden.as_ref().map(|golden| golden.folder().to_owned()),
        scratch: scratch.path().to_owned(),
        ..request
    };
    let bar = output::busy(&format!("running `{}`", request.model.display()));
    let checks = child::judge(library, &request, limits.of_child(), limits.timeout);
    bar.finish_and_clear();
    let mut checks = checks?;
    let stored = checks.iter_mut().find(|check| check.name == "golden" && check.status == Status::Passed);
    if let (Some(golden), Some(check)) = (golden, stored)
        && let Err(failure) = golden.finish()
    {
        *check = Checked::error("golden", failure.to_string());
    }
    Ok(checks)
}

/// What the path of a reference is: a folder of tensors, an archive, or else a model, whose structure has to hold.
fn reference(path: &Path, limits: &Limits) -> Result<Reference, Failure> {
    if path.is_dir() {
        return Ok(Reference::Sets(path.to_owned()));
    }
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npz")) {
        return Ok(Reference::Archive(path.to_owned()));
    }
    let report = structure::of(path, limits)?;
    match report.checks.iter().find(|check| check.status == Status::Failed) {
        None => Ok(Reference::Model(path.to_owned())),
        Some(check) => {
            let why = check.message.clone().unwrap_or_default();
            Err(Failure::new(format!("the reference `{}` is no valid model: {why}", path.display())))
        }
    }
}
