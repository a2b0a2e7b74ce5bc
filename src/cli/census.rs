//! `bbc census`: what convolutions base models consist of.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bbc::census::{self, BUILT_IN, Base, Census, CensusError, Taken, take};
use bbc::onnx::proto::ModelProto;
use bbc::onnx::shapes::{Gap, InputSizes, Reason};
use bbc::units::{Bytes, Flops};
use serde::Serialize;

use super::failure::{Explain, Failure};
use super::{Global, Outcome, files, inspect, network, output};

/// Most problems that are measured after base models.
const MAX_PROBLEMS: usize = 1000;

/// Most resolutions that are listed in a row of text.
const MAX_SHOWN: usize = 10;

/// Options of `bbc census`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Base models: ONNX files, censuses that `bbc census -o` wrote, or `resnet34`, `resnet50`, `vovnet39` and
    /// `mobilenetv3-large`
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<PathBuf>,
    /// Images a model gets at once; one, or what the model fixes, if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// Height and width of the image, for models that leave them free, or instead of those they fix
    #[arg(long, value_name = "HxW", value_parser = network::image_size)]
    input_size: Option<[u32; 2]>,
    /// Run a model once to see the shapes that cannot be worked out
    #[cfg(feature = "run")]
    #[arg(long)]
    run: bool,
    /// Write the census of all models to this file
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Base models to measure after.
#[derive(Debug, clap::Args)]
pub(crate) struct BaseArgs {
    /// Go by what this base model consists of, at the resolutions and channels of its stages: an ONNX file, a census,
    /// `resnet34`, `resnet50`, `vovnet39` or `mobilenetv3-large`; may be given several times
    #[arg(long, value_name = "MODEL")]
    base_model: Vec<PathBuf>,
    /// Height and width of the base models' image, where they leave them free
    #[arg(long, value_name = "HxW", value_parser = network::image_size, requires = "base_model")]
    base_input_size: Option<[u32; 2]>,
}

impl BaseArgs {
    /// These base models, at their own sizes.
    #[cfg(feature = "run")]
    pub(crate) fn of(base_model: &[PathBuf]) -> Self {
        Self { base_model: base_model.to_vec(), base_input_size: None }
    }

    /// Whether there is any.
    pub(crate) fn is_given(&self) -> bool {
        !self.base_model.is_empty()
    }

    /// What was given as base models.
    #[cfg(feature = "run")]
    pub(crate) fn models(&self) -> &[PathBuf] {
        &self.base_model
    }

    /// Height and width of their image, if given.
    #[cfg(feature = "run")]
    pub(crate) fn image(&self) -> Option<[u32; 2]> {
        self.base_input_size
    }

    /// The census of the base models; `None` if none is given.
    pub(crate) fn census(&self, global: &Global) -> Result<Option<Census>, Failure> {
        if !self.is_given() {
            return Ok(None);
        }
        let input = Input {
            sizes: InputSizes { batch: None, image: self.base_input_size },
            run: None,
            size_option: "--base-input-size",
        };
        let taken = load(&self.base_model, &input, global)?;
        let census = Census::of(taken.into_iter().map(|taken| taken.base).collect());
        let problems = census.stages().len() * census.candidates().len();
        if problems > MAX_PROBLEMS {
            return Err(Failure::new(format!(
                "the base models have {problems} different convolutions to measure, more than the {MAX_PROBLEMS} supported"
            ))
            .with_hint("name fewer base models"));
        }
        Ok(Some(census))
    }
}

/// What models are given, and how their shapes are found.
struct Input {
    sizes: InputSizes,
    /// Whether they are run to see shapes; `None` where that cannot be asked for.
    run: Option<bool>,
    /// The option that says the size of the image.
    size_option: &'static str,
}

#[derive(Serialize)]
struct Report {
    schema: u32,
    models: Vec<Entry>,
    census: Option<String>,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    source: String,
    input: Vec<u32>,
    convs: u32,
    operations_flop: u64,
    /// Those of other layers that multiply and add.
    other_operations_flop: u64,
    candidates: Vec<CandidateEntry>,
    stages: Vec<StageEntry>,
    others: Vec<OtherEntry>,
    /// Names of the convolutions whose shapes are not known.
    unknown: Vec<String>,
    convs_in_loops_and_branches: usize,
}

#[derive(Serialize)]
struct CandidateEntry {
    candidate: String,
    stride: [u32; 2],
    convs: u32,
    operations_flop: u64,
    share: f64,
    min_bytes: u64,
    stages: Vec<StageCount>,
}

#[derive(Serialize)]
struct StageCount {
    size: [u32; 2],
    convs: u32,
}

#[derive(Serialize)]
struct StageEntry {
    /// Height and width; `null` for what works on pooled values.
    size: Option<[u32; 2]>,
    convs: u32,
    operations_flop: u64,
    share: f64,
    min_bytes: u64,
    width_channels: u32,
    last_output_channels: Option<u32>,
}

#[derive(Serialize)]
struct OtherEntry {
    op: String,
    layers: u32,
    operations_flop: Option<u64>,
}

/// Takes the census of models and prints it.
pub(crate) fn run(args: &Args, global: &Global) -> Result<Outcome, Failure> {
    let input = Input {
        sizes: InputSizes { batch: args.batch, image: args.input_size },
        run: args.run(),
        size_option: "--input-size",
    };
    let taken = load(&args.models, &input, global)?;
    let entries = taken.iter().map(Entry::of).collect();
    let census = Census::of(taken.into_iter().map(|taken| taken.base).collect());
    if let Some(path) = &args.output {
        let text = census.write()?;
        files::write(path, |file| Ok(file.write_all(text.as_bytes())?))?;
    }
    let written = args.output.as_ref().map(|path| path.display().to_string());
    let report = Report { schema: 1, models: entries, census: written };
    if args.json {
        output::json(&report)?;
    } else {
        output::result(&report.models.iter().map(Entry::text).collect::<Vec<_>>().join("\n"))?;
        if let Some(path) = &report.census {
            output::note(&format!("wrote `{path}`"));
        }
    }
    Ok(Outcome::Done)
}

/// The bases that these name, with warnings for what is not known of them.
fn load(models: &[PathBuf], input: &Input, global: &Global) -> Result<Vec<Taken>, Failure> {
    let mut taken = Vec::new();
    for path in models {
        taken.extend(one(path, input, global)?);
    }
    Ok(taken)
}

fn one(path: &Path, input: &Input, global: &Global) -> Result<Vec<Taken>, Failure> {
    let of_file = |census: Census| {
        if input.sizes != InputSizes::default() {
            output::warning(&format!(
                "`{}` is a census already, taken at one size and batch: those asked for are not its own",
                path.display()
            ));
        }
        let whole = |base| Taken { base, unknown: Vec::new(), gaps: Vec::new(), inner: 0 };
        census.bases.into_iter().map(whole).collect()
    };
    let name = path.to_string_lossy();
    if let Some(census) = census::built_in(&name).filter(|_| !path.exists()) {
        return Ok(of_file(census));
    }
    if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
        let text = files::read_text(path, bbc::yaml::MAX_BYTES as u64)?;
        let census = Census::read(&text).doing(|| format!("`{name}` is not a census"))?;
        return Ok(of_file(census));
    }
    let bytes = files::read(path, inspect::MAX_MODEL)
        .hint(|| format!("bases that need no file are `{}`", BUILT_IN.join("`, `")))?;
    let model = inspect::checked(bytes, path)?;
    let taking = || format!("cannot take the census of `{name}`");
    let observed = observed(&model, input, global).doing(taking)?;
    let stem = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
    let taken = take(&stem, &model, input.sizes, &observed).map_err(|error| {
        let remedy = remedy(&error, input);
        let failure = Failure::from(error);
        match remedy {
            Some(remedy) => failure.with_hint(remedy),
            None => failure,
        }
    });
    let taken = taken.doing(taking)?;
    warn(&name, &taken, input);
    Ok(vec![taken])
}

fn remedy(error: &CensusError, input: &Input) -> Option<String> {
    match error {
        CensusError::FreeSize { .. } => {
            Some(format!("say the size of the image, such as `{} 224x224`", input.size_option))
        }
        CensusError::AllUnknown { gap, .. } if input.can_run(gap.as_ref()) => {
            Some("`--run` sees the shapes by running the model once".to_owned())
        }
        CensusError::AllUnknown { .. } | CensusError::NoConvs | CensusError::TooMany { .. } => None,
    }
}

/// Says what of a model is not in its census.
fn warn(name: &str, taken: &Taken, input: &Input) {
    if let [first, ..] = &taken.unknown[..] {
        let gap = taken
            .gaps
            .first()
            .map_or_else(String::new, |gap| format!(": at node `{}` ({}), {}", gap.node, gap.op, gap.reason));
        let remedy =
            if input.can_run(taken.gaps.first()) { "; `--run` sees them by running the model once" } else { "" };
        output::warning(&format!(
            "the census of `{name}` is not whole: the shapes of {} of its convolutions, `{first}` the first, are not \
             known{gap}{remedy}",
            taken.unknown.len()
        ));
    }
    if taken.inner > 0 {
        output::warning(&format!(
            "the census of `{name}` is not whole: {} of its convolutions stand in loops and branches",
            taken.inner
        ));
    }
}

impl Input {
    /// Whether to run the model has not been asked for and may show what is not known.
    fn can_run(&self, gap: Option<&Gap>) -> bool {
        let is_wrong = gap.is_some_and(|gap| matches!(gap.reason, Reason::Contradiction(_) | Reason::TooLarge));
        self.run == Some(false) && !is_wrong
    }
}

/// Shapes seen by running the model, if that was asked for.
#[cfg(feature = "run")]
fn observed(model: &ModelProto, input: &Input, global: &Global) -> Result<HashMap<String, Vec<u32>>, Failure> {
    if input.run != Some(true) {
        return Ok(HashMap::new());
    }
    Ok(census::observe(&super::ort::runtime(global)?, model, input.sizes)?)
}

#[cfg(not(feature = "run"))]
fn observed(_: &ModelProto, _: &Input, _: &Global) -> Result<HashMap<String, Vec<u32>>, Failure> {
    Ok(HashMap::new())
}

impl Args {
    #[cfg(feature = "run")]
    fn run(&self) -> Option<bool> {
        Some(self.run)
    }

    #[cfg(not(feature = "run"))]
    fn run(&self) -> Option<bool> {
        None
    }
}

impl Entry {
    fn of(taken: &Taken) -> Self {
        let base: &Base = &taken.base;
        let candidates = base.candidates().into_iter().map(|row| CandidateEntry {
            candidate: row.candidate.to_string(),
            stride: row.stride,
            convs: row.count,
            operations_flop: row.flops.0,
            share: row.share,
            min_bytes: row.bytes.0,
            stages: row.stages.iter().map(|&(size, convs)| StageCount { size, convs }).collect(),
        });
        let stages = base.stages().into_iter().map(|row| StageEntry {
            size: row.size,
            convs: row.count,
            operations_flop: row.flops.0,
            share: row.share,
            min_bytes: row.bytes.0,
            width_channels: row.width,
            last_output_channels: row.channels,
        });
        let others = base.others.iter().map(|others| OtherEntry {
            op: others.op.clone(),
            layers: others.count,
            operations_flop: others.multiply_adds.map(|n| Flops::from_multiply_adds(n).0),
        });
        Self {
            name: base.name.clone(),
            source: base.source.clone(),
            input: base.input.clone(),
            convs: base.count(),
            operations_flop: base.flops().0,
            other_operations_flop: base.total_flops().0.saturating_sub(base.flops().0),
            candidates: candidates.collect(),
            stages: stages.collect(),
            others: others.collect(),
            unknown: taken.unknown.clone(),
            convs_in_loops_and_branches: taken.inner,
        }
    }

    fn text(&self) -> String {
        let others: Vec<String> = self.others.iter().map(OtherEntry::text).collect();
        let beside = if others.is_empty() { String::new() } else { format!("; beside them {}", others.join(", ")) };
        let mut text = format!(
            "{} on {}, from {}: {} conv{}, {}{beside}\n\n",
            self.name,
            sides(&self.input),
            self.source,
            self.convs,
            if self.convs == 1 { "" } else { "s" },
            Flops(self.operations_flop)
        );
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let head = ["candidate", "stride", "convs", "operations", "share", "bytes", "at"].map(ToOwned::to_owned);
        let row = |row: &CandidateEntry| {
            let at = row.stages.iter().take(MAX_SHOWN).map(|stage| format!("{}: {}", sides(&stage.size), stage.convs));
            let more = (row.stages.len() > MAX_SHOWN).then(|| "...".to_owned());
            vec![
                row.candidate.clone(),
                if row.stride[0] == row.stride[1] { row.stride[0].to_string() } else { sides(&row.stride) },
                row.convs.to_string(),
                Flops(row.operations_flop).to_string(),
                percent(row.share),
                Bytes(row.min_bytes).to_string(),
                at.chain(more).collect::<Vec<_>>().join(", "),
            ]
        };
        let rows: Vec<_> = std::iter::once(head.to_vec()).chain(self.candidates.iter().map(row)).collect();
        text += &output::table(&rows, &[0, 6]);
        let head = ["stage", "convs", "operations", "share", "bytes", "width", "last output"].map(ToOwned::to_owned);
        let row = |row: &StageEntry| {
            vec![
                row.size.map_or_else(|| "pooled".to_owned(), |size| sides(&size)),
                row.convs.to_string(),
                Flops(row.operations_flop).to_string(),
                percent(row.share),
                Bytes(row.min_bytes).to_string(),
                row.width_channels.to_string(),
                row.last_output_channels.map_or_else(String::new, |n| n.to_string()),
            ]
        };
        let rows: Vec<_> = std::iter::once(head.to_vec()).chain(self.stages.iter().map(row)).collect();
        text + "\n" + &output::table(&rows, &[0])
    }
}

impl OtherEntry {
    fn text(&self) -> String {
        let cost = self.operations_flop.map_or_else(|| "unknown".to_owned(), |flop| Flops(flop).to_string());
        format!("{} {} ({cost})", self.layers, self.op)
    }
}

fn sides(sizes: &[u32]) -> String {
    sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join("x")
}
