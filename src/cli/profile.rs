//! `bbc profile`: measures how densely a device computes the candidates.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bbc::profile::{self, InstrumentKind, Measurement, Profile};
use bbc::select::{Policy, Rules, rankings};
use bbc::tensor::DType;
use serde::Serialize;

use super::census::BaseArgs;
use super::failure::Failure;
use super::files::Staged;
use super::measure::{Plan, Problems, measure};
use super::policies::{Policies, PolicyEntry};
use super::ranking::{self, DeviceEntry, RankingEntry};
use super::target::{Here, Wish};
use super::{Global, Outcome, import, output};

/// Seconds that samples are taken for, if nothing else is asked for.
pub(crate) const DEFAULT_TIME: &str = "25";

/// Options of `bbc profile`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// The device: `auto`, `gpu`, `cpu`, or the name of an adapter or part of it
    #[arg(long, default_value = "auto")]
    target: Wish,
    /// What measures it; if not given, all that belong to the device and can be used
    #[arg(long, value_enum)]
    instrument: Option<InstrumentChoice>,
    /// The problems: `bases`, the candidates of the built-in base models at stages that stand for theirs; `stages` of a
    /// backbone for 224x224 images, the published candidates only; or those of the `patent`'s table
    #[arg(long, default_value_t = Problems::BuiltIn, conflicts_with = "base_model")]
    workload: Problems,
    #[command(flatten)]
    bases: BaseArgs,
    /// How long to take samples, in seconds; preparing comes on top
    #[arg(long, value_name = "SECONDS", default_value = DEFAULT_TIME, value_parser = seconds)]
    time: Duration,
    /// Images in every problem
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Element type: `f32`, `f16` or `bf16`
    #[arg(long, default_value = "f32", value_parser = float_type)]
    dtype: DType,
    /// Processor threads an execution provider may use; as many as there are processors if not given
    #[arg(long, value_name = "N")]
    threads: Option<NonZero<usize>>,
    /// Seed of weights, inputs and order
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Write the profile with all samples to this file
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Read a table of latencies, such as a published one, and write it as a profile
    ImportCsv(Box<import::Args>),
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum InstrumentChoice {
    /// WGSL shaders on a wgpu adapter
    Shader,
    /// An execution provider of ONNX Runtime
    Provider,
}

#[derive(Serialize)]
struct Report<'p> {
    schema: u32,
    device: DeviceEntry,
    versions: &'p std::collections::BTreeMap<String, String>,
    settings: &'p profile::Settings,
    rankings: Vec<RankingEntry>,
    policies: Vec<PolicyEntry>,
    measurements: Vec<MeasurementEntry>,
    profile: Option<Written>,
}

#[derive(Serialize)]
struct Written {
    file: String,
    sha256: String,
}

#[derive(Serialize)]
struct MeasurementEntry {
    candidate: String,
    instrument: profile::Instrument,
    timing: profile::Timing,
    layers: u32,
    batch: u32,
    dtype: DType,
    in_channels: u32,
    out_channels: u32,
    input: [u32; 2],
    operations_flop: u64,
    median_s: Option<f64>,
    median_interval_s: Option<[f64; 2]>,
    density_flop_per_s: Option<f64>,
    samples: usize,
    samples_thrown_away: usize,
    max_error: Option<f32>,
}

/// Measures and prints.
pub(crate) fn run(global: &Global, args: &Args) -> Result<Outcome, Failure> {
    if let Some(Action::ImportCsv(args)) = &args.action {
        return import::run(args);
    }
    // A place that cannot be written to is refused before anything is measured.
    let staged = args.output.as_deref().map(Staged::beside).transpose()?;
    let profile = measure(&Here::new(global), &args.plan(global)?)?;
    warn(&profile);
    let written = args.output.as_deref().zip(staged).map(|(path, staged)| write(&profile, path, staged)).transpose()?;
    let policies = Policies::of(&profile, Rules::default(), Some(Policy::default_for(&profile)));
    if args.json {
        output::json(&Report {
            schema: 1,
            device: DeviceEntry::of(&profile.device),
            versions: &profile.versions,
            settings: &profile.settings,
            rankings: rankings(&profile).iter().map(RankingEntry::of).collect(),
            policies: policies.entries(),
            measurements: profile.measurements.iter().map(MeasurementEntry::of).collect(),
            profile: written,
        })?;
    } else {
        let tables: Vec<String> = rankings(&profile)
            .iter()
            .map(|of_source| ranking::table(of_source, profile.device.kind.is_software()))
            .collect();
        output::result(&format!("{}{}\n{}", ranking::heading(&profile), tables.concat(), policies.tables()))?;
        match written {
            Some(Written { file, .. }) => output::note(&format!("wrote `{file}`; `bbc select` chooses from it")),
            None => output::note("the samples are not kept; `-o profile.yaml` keeps them"),
        }
    }
    Ok(Outcome::Done)
}

impl Args {
    fn plan(&self, global: &Global) -> Result<Plan, Failure> {
        let census = self.bases.census(global)?;
        Ok(Plan {
            target: self.target.clone(),
            instrument: self.instrument.map(|choice| match choice {
                InstrumentChoice::Shader => InstrumentKind::Shader,
                InstrumentChoice::Provider => InstrumentKind::Provider,
            }),
            problems: census.map_or_else(|| self.workload.clone(), Problems::Bases),
            time: self.time,
            batch: self.batch,
            dtype: self.dtype,
            threads: self.threads,
            seed: self.seed,
        })
    }
}

/// Writes the profile's file.
fn write(profile: &Profile, path: &Path, staged: Staged) -> Result<Written, Failure> {
    let text = profile.write()?;
    staged.write(staged.path(), |file| Ok(file.write_all(text.as_bytes())?))?;
    staged.finish()?;
    Ok(Written { file: path.display().to_string(), sha256: profile::sha256(&text) })
}

/// Says what the user should know before believing the figures.
pub(crate) fn warn(profile: &Profile) {
    if profile.device.kind.is_software() {
        output::warning(&format!(
            "`{}` is a software adapter: its results are right, its speed means nothing",
            profile.device.name
        ));
    }
    for measurement in &profile.measurements {
        let (dropped, samples) = (measurement.dropped(), measurement.samples_ns.len());
        if dropped * 4 > samples {
            output::warning(&format!(
                "{dropped} of {samples} samples of {} at {} channels were thrown away: the clock gave no time that can \
                 be believed",
                measurement.candidate,
                measurement.problem.in_channels()
            ));
        }
    }
}

impl MeasurementEntry {
    fn of(measurement: &Measurement) -> Self {
        let problem = &measurement.problem;
        Self {
            candidate: measurement.candidate.to_string(),
            instrument: measurement.instrument.clone(),
            timing: measurement.timing,
            layers: measurement.layers,
            batch: problem.batch(),
            dtype: problem.dtype(),
            in_channels: problem.in_channels(),
            out_channels: problem.out_channels(),
            input: problem.input(),
            operations_flop: problem.flops().0,
            median_s: measurement.median().map(|median| median.as_secs_f64()),
            median_interval_s: measurement
                .median_interval()
                .map(|interval| [interval.low, interval.high].map(|ns| ns * 1e-9)),
            density_flop_per_s: measurement.density().map(|density| density.0),
            samples: measurement.samples_ns.len() - measurement.dropped(),
            samples_thrown_away: measurement.dropped(),
            max_error: measurement.max_error,
        }
    }
}

/// From a tenth of a second to an hour.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=3600.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("not from 0.1 to 3600".into())
    }
}

fn float_type(text: &str) -> Result<DType, String> {
    [DType::F32, DType::F16, DType::BF16]
        .into_iter()
        .find(|dtype| dtype.to_string() == text)
        .ok_or_else(|| "not one of f32, f16 and bf16".into())
}
