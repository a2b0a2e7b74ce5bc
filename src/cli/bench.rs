//! `bbc bench`: how long a model takes, alone or against another in the same run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bbc::onnx::proto::ModelProto;
use bbc::onnx::shapes::InputSizes;
use bbc::onnx::summary::{self, FileDim, Layer, summarize_at};
use bbc::profile::network::{self, Network, Settings, in_turn};
use bbc::profile::sampling::{Budget, Interval, Progress, SamplingError, median, median_interval, quantile};
use bbc::runtime::Runtime;
use bbc::runtime::noise::Sizes;
use bbc::runtime::provider::Provider;
use bbc::runtime::record::NodeRecord;
use bbc::runtime::session::Optimization;
use bbc::units::{Bytes, Flops, FlopsPerSecond, show_duration};
use serde::Serialize;

use super::failure::{Explain, Failure};
use super::measure::warn_if_not_trustworthy;
use super::ort::{provider, runtime, try_provider};
use super::{Global, Outcome, files, inspect, output};

/// Most elements of one input: 1 GiB of single precision.
const MAX_ELEMENTS: u64 = 1 << 28;

/// How long a configuration is timed if nothing else is asked for.
const DURATION: Duration = Duration::from_secs(3);

/// Fewest runs of a configuration, if no number is asked for.
const MIN_RUNS: u32 = 10;

/// Most rounds of one configuration.
const MAX_ROUNDS: u32 = 1_000_000;

/// Runs of which the time of every node is recorded, and those before them that do not count.
const RECORDED: [usize; 2] = [3, 15];

/// Options of `bbc bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Another model to compare with: both run in turn, and their ratio is given with its interval
    #[arg(long, value_name = "MODEL")]
    vs: Option<PathBuf>,
    /// The execution provider of ONNX Runtime
    #[arg(long, value_name = "NAME", default_value = "cpu", value_parser = provider)]
    provider: Provider,
    /// Images at once, several with commas; what the model fixes, or one, if not given
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    batch: Vec<u32>,
    /// Threads that work on one node, several with commas; what ONNX Runtime takes if not given
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    threads: Vec<NonZero<usize>>,
    /// Height and width of the image, for models that leave them free
    #[arg(long, value_name = "HxW", value_parser = super::network::image_size)]
    input_size: Option<[u32; 2]>,
    /// Run this many milliseconds before anything is timed
    #[arg(long, value_name = "MS", default_value_t = 200)]
    warm_up: u64,
    /// Time for at least this many seconds; three, if `--iterations` is not given either
    #[arg(long, value_name = "SECONDS", value_parser = super::profile::seconds)]
    duration: Option<Duration>,
    /// Time at least this many runs; without `--duration` exactly so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_ROUNDS)))]
    iterations: Option<u32>,
    /// How far ONNX Runtime rewrites the graph
    #[arg(long, value_enum, default_value_t = Level::All)]
    optimization: Level,
    /// Put inputs on the device beforehand and leave outputs there, instead of copying both in every run
    #[arg(long)]
    no_transfer: bool,
    /// Show the time of every node as ONNX Runtime ran it, and what it fused
    #[arg(long)]
    per_layer: bool,
    /// Exit with 1 if the model takes more than this many times as long as the one it is compared with
    #[arg(long, value_name = "RATIO", requires = "vs", value_parser = ratio)]
    fail_if_slower: Option<f64>,
    /// Seed of the inputs and of the order of runs
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Write every timed run to this file as comma-separated values
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Level {
    /// Not at all
    None,
    /// Remove what is redundant, fold constants
    Basic,
    /// Fuse nodes as well
    Extended,
    /// Change the memory layout as well
    All,
}

impl Level {
    fn of_runtime(self) -> Optimization {
        match self {
            Self::None => Optimization::None,
            Self::Basic => Optimization::Basic,
            Self::Extended => Optimization::Extended,
            Self::All => Optimization::All,
        }
    }
}

/// A ratio above zero, for the parser of options.
pub(super) fn ratio(text: &str) -> Result<f64, String> {
    let ratio: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if ratio.is_finite() && ratio > 0.0 { Ok(ratio) } else { Err("not a ratio above zero".into()) }
}

/// A model that is timed.
struct Contender<'a> {
    path: &'a Path,
    model: ModelProto,
}

#[derive(Serialize)]
struct Report {
    schema: u32,
    provider: String,
    onnx_runtime: String,
    optimization: String,
    /// Whether inputs and outputs are copied in every run.
    transfer: bool,
    debug_build: bool,
    configurations: Vec<Configuration>,
}

/// The models at one batch size and number of threads.
#[derive(Serialize)]
struct Configuration {
    batch: u32,
    /// `null` for what ONNX Runtime takes.
    threads: Option<usize>,
    models: Vec<Row>,
    /// Latency of the first by that of the second.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<RatioRow>,
}

#[derive(Serialize)]
struct Row {
    model: String,
    inputs: BTreeMap<String, Vec<u32>>,
    operations_flop: u64,
    /// Layers whose operations are not known; they are not counted.
    layers_of_unknown_cost: usize,
    runs: usize,
    median_s: f64,
    p90_s: f64,
    p99_s: f64,
    /// Half the range of the middle half, as a share of the median.
    spread: f64,
    /// Holds the true median with 95 % confidence.
    median_interval_s: Option<[f64; 2]>,
    images_per_s: f64,
    density_flop_per_s: Option<f64>,
    nodes: usize,
    nodes_elsewhere: Vec<Elsewhere>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<Layers>,
    #[serde(skip)]
    samples_ns: Vec<Option<u64>>,
}

#[derive(Serialize)]
struct Elsewhere {
    node: String,
    op: String,
    provider: String,
}

#[derive(Serialize)]
struct RatioRow {
    median: f64,
    interval: Option<[f64; 2]>,
    /// Whether the difference could be noise.
    tie: bool,
}

/// The nodes as they ran.
#[derive(Serialize)]
struct Layers {
    nodes: Vec<NodeRow>,
    /// Nodes of each operator in the file, and among those that ran.
    operators: BTreeMap<String, Operators>,
}

#[derive(Serialize, Default)]
struct Operators {
    in_file: usize,
    ran: usize,
}

#[derive(Serialize)]
struct NodeRow {
    node: String,
    op: String,
    provider: String,
    element_type: String,
    output: Vec<u64>,
    median_s: f64,
    share: f64,
    operations_flop: Option<u64>,
    bytes: u64,
    density_flop_per_s: Option<f64>,
}

/// Times the models and prints.
pub(crate) fn run(args: &Args, global: &Global) -> Result<Outcome, Failure> {
    let staged = args.csv.as_deref().map(files::Staged::beside).transpose()?;
    let paths: Vec<&Path> = std::iter::once(args.model.as_path()).chain(args.vs.as_deref()).collect();
    let models = paths.iter().map(|path| inspect::read(path)).collect::<Result<Vec<_>, _>>()?;
    let runtime = runtime(global)?;
    let verdict = try_provider(&runtime, args.provider)?;
    if !verdict.usable {
        return Err(verdict.into_failure(args.provider));
    }
    warn_if_not_trustworthy();
    let contenders = paths.iter().zip(models).map(|(path, (model, _))| Contender { path, model }).collect::<Vec<_>>();
    let batches = if args.batch.is_empty() { vec![contenders[0].own_batch()] } else { args.batch.clone() };
    let threads: Vec<Option<NonZero<usize>>> =
        if args.threads.is_empty() { vec![None] } else { args.threads.iter().copied().map(Some).collect() };
    let mut configurations = Vec::new();
    for &batch in &batches {
        for &threads in &threads {
            configurations.push(measure(args, &runtime, &contenders, batch, threads)?);
        }
    }
    let report = Report {
        schema: 1,
        provider: args.provider.to_string(),
        onnx_runtime: runtime.version().to_string(),
        optimization: format!("{:?}", args.optimization).to_lowercase(),
        transfer: !args.no_transfer,
        debug_build: cfg!(debug_assertions),
        configurations,
    };
    if let Some(staged) = staged {
        let text = report.csv();
        staged.write(staged.path(), |file| Ok(file.write_all(text.as_bytes())?))?;
        staged.finish()?;
    }
    report.warn();
    if args.json {
        output::json(&report)?;
    } else {
        output::result(&report.text())?;
    }
    Ok(report.outcome(args.fail_if_slower))
}

impl Contender<'_> {
    /// The batch that the first input fixes, else one.
    fn own_batch(&self) -> u32 {
        let first = summary::inputs(&self.model).into_iter().next();
        match first.and_then(|port| port.dims?.into_iter().next()) {
            Some(FileDim::Fixed(n)) => u32::try_from(n).unwrap_or(1),
            Some(FileDim::Free(_)) | None => 1,
        }
    }

    fn settings(&self, args: &Args, batch: u32, threads: Option<NonZero<usize>>) -> Settings {
        Settings {
            provider: args.provider,
            threads,
            optimization: args.optimization.of_runtime(),
            sizes: Sizes { batch, image: args.input_size },
            transfer: !args.no_transfer,
            max_elements: MAX_ELEMENTS,
            seed: args.seed,
        }
    }
}

/// Times all models at one batch size and number of threads, in turn.
fn measure(
    args: &Args,
    runtime: &Runtime,
    contenders: &[Contender<'_>],
    batch: u32,
    threads: Option<NonZero<usize>>,
) -> Result<Configuration, Failure> {
    let cannot = |contender: &Contender<'_>| format!("cannot time `{}` at batch {batch}", contender.path.display());
    let mut records = Vec::new();
    let mut networks = Vec::new();
    for contender in contenders {
        let settings = contender.settings(args, batch, threads);
        records.push(recorded(args, runtime, contender, &settings).doing(|| cannot(contender))?);
        networks.push(Network::load(runtime, contender.path, &settings).doing(|| cannot(contender))?);
    }
    let inputs: Vec<BTreeMap<String, Vec<u32>>> = networks
        .iter()
        .map(|network| network.inputs().map(|(name, shape)| (name.to_owned(), shape.to_vec())).collect())
        .collect();
    let bar = output::timed_progress(1000);
    let mut on_progress = |progress: Progress| {
        output::time_left(&bar, &format!("batch {batch}, run {}", progress.rounds + 1), progress);
    };
    let warm_up = Duration::from_millis(args.warm_up);
    let samples = in_turn(&mut networks, warm_up, budget(args), args.seed, &mut on_progress);
    bar.finish_and_clear();
    let samples = samples.map_err(|SamplingError { index, source, .. }| {
        Failure::from(anyhow::Error::new(source).context(cannot(&contenders[index])))
    })?;
    let ratio = match &samples[..] {
        [first, second] => Some(RatioRow::of(network::Ratio::of(first, second))),
        _ => None,
    };
    let models = contenders
        .iter()
        .zip(inputs)
        .zip(records)
        .zip(samples)
        .map(|(((contender, inputs), record), samples)| {
            Row::of(contender, args, batch, inputs, record, samples).doing(|| cannot(contender))
        })
        .collect::<Result<_, _>>()?;
    Ok(Configuration { batch, threads: threads.map(NonZero::get), models, ratio })
}

fn budget(args: &Args) -> Budget {
    let by_count = args.iterations.filter(|_| args.duration.is_none());
    Budget {
        time: args.duration.unwrap_or(if by_count.is_some() { Duration::ZERO } else { DURATION }),
        min_rounds: args.iterations.unwrap_or(MIN_RUNS),
        enough_rounds: MAX_ROUNDS,
        max_rounds: by_count.unwrap_or(MAX_ROUNDS),
        precision: 0.0,
    }
}

/// The nodes of a few runs, recorded by ONNX Runtime.
fn recorded(
    args: &Args,
    runtime: &Runtime,
    contender: &Contender<'_>,
    settings: &Settings,
) -> Result<Vec<NodeRecord>, Failure> {
    let scratch = files::Scratch::new()?;
    let mut network = Network::load_recording(runtime, contender.path, settings, scratch.path())?;
    let runs = if args.per_layer { RECORDED[0] + RECORDED[1] } else { 1 };
    let mut bound = network.bind()?;
    for _ in 0..runs {
        bound.run()?;
    }
    drop(bound);
    Ok(network.into_session().record()?)
}

impl Row {
    fn of(
        contender: &Contender<'_>,
        args: &Args,
        batch: u32,
        inputs: BTreeMap<String, Vec<u32>>,
        record: Vec<NodeRecord>,
        samples_ns: Vec<Option<u64>>,
    ) -> Result<Self, Failure> {
        let times: Vec<f64> = samples_ns.iter().flatten().map(|&ns| ns as f64 * 1e-9).collect();
        let (Some(middle), Some(p90), Some(p99)) = (median(&times), quantile(&times, 0.9), quantile(&times, 0.99))
        else {
            return Err(Failure::new("no run could be timed"));
        };
        let range = quantile(&times, 0.75).zip(quantile(&times, 0.25)).map_or(0.0, |(high, low)| high - low);
        let summary = summarize_at(&contender.model, InputSizes { batch: Some(batch), image: args.input_size });
        let (flops, unknown) = summary.flops();
        let density = (flops.0 > 0).then_some(flops.0 as f64 / middle);
        let elsewhere = record.iter().filter(|node| node.provider != args.provider.ort_name());
        Ok(Self {
            model: contender.path.display().to_string(),
            inputs,
            operations_flop: flops.0,
            layers_of_unknown_cost: unknown,
            runs: times.len(),
            median_s: middle,
            p90_s: p90,
            p99_s: p99,
            spread: range / 2.0 / middle,
            median_interval_s: median_interval(&times).map(|Interval { low, high }| [low, high]),
            images_per_s: f64::from(batch) / middle,
            density_flop_per_s: density,
            nodes: record.len(),
            nodes_elsewhere: elsewhere.map(Elsewhere::of).collect(),
            layers: args.per_layer.then(|| Layers::of(&summary.layers, &record)),
            samples_ns,
        })
    }
}

impl Elsewhere {
    fn of(node: &NodeRecord) -> Self {
        Self { node: node.name.clone(), op: node.op.clone(), provider: node.provider.clone() }
    }
}

impl RatioRow {
    fn of(ratio: network::Ratio) -> Self {
        let interval = ratio.interval.map(|Interval { low, high }| [low, high]);
        Self { median: ratio.median, interval, tie: ratio.is_tie() }
    }
}

impl Layers {
    fn of(layers: &[Layer], record: &[NodeRecord]) -> Self {
        let time = |node: &NodeRecord| {
            let times: Vec<f64> = node.times.iter().skip(RECORDED[0]).map(Duration::as_secs_f64).collect();
            median(&times).unwrap_or(0.0)
        };
        let whole: f64 = record.iter().map(time).sum();
        let mut operators: BTreeMap<String, Operators> = BTreeMap::new();
        for layer in layers {
            operators.entry(layer.op.clone()).or_default().in_file += 1;
        }
        for node in record {
            operators.entry(node.op.clone()).or_default().ran += 1;
        }
        let row = |node: &NodeRecord| {
            let median_s = time(node);
            let flops = node.flops();
            let output = node.outputs.first();
            NodeRow {
                node: node.name.clone(),
                op: node.op.clone(),
                provider: node.provider.clone(),
                element_type: output.map_or_else(String::new, |output| output.element_type.clone()),
                output: output.map_or_else(Vec::new, |output| output.shape.clone()),
                median_s,
                share: if whole > 0.0 { median_s / whole } else { 0.0 },
                operations_flop: flops.map(|flops| flops.0),
                bytes: node.bytes.0,
                density_flop_per_s: flops.filter(|_| median_s > 0.0).map(|flops| flops.0 as f64 / median_s),
            }
        };
        Self { nodes: record.iter().map(row).collect(), operators }
    }

    fn text(&self) -> String {
        let head = ["node as it ran", "op", "output", "time", "share", "operations", "moved", "density"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for node in &self.nodes {
            let shape = node.output.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
            rows.push(vec![
                output::printable(&node.node),
                output::printable(&node.op),
                shape,
                seconds(node.median_s),
                format!("{:.1} %", node.share * 100.0),
                node.operations_flop.map_or_else(|| "-".into(), |flops| Flops(flops).to_string()),
                Bytes(node.bytes).to_string(),
                node.density_flop_per_s.map_or_else(|| "-".into(), |density| FlopsPerSecond(density).to_string()),
            ]);
        }
        let mut text = output::table(&rows, &[0, 1, 2]);
        let changed: Vec<String> = self
            .operators
            .iter()
            .filter(|(_, count)| count.in_file != count.ran)
            .map(|(op, count)| format!("{} {} -> {}", output::printable(op), count.in_file, count.ran))
            .collect();
        if !changed.is_empty() {
            let _ = writeln!(text, "fused, removed or added by ONNX Runtime: {}", changed.join(", "));
        }
        text
    }
}

fn seconds(seconds: f64) -> String {
    show_duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

impl Report {
    fn text(&self) -> String {
        let copied = if self.transfer {
            "inputs and outputs copied in every run"
        } else {
            "inputs in place beforehand, outputs left on the device"
        };
        let mut text = format!(
            "{} provider of ONNX Runtime {}, optimization {}; {copied}\n\n",
            self.provider, self.onnx_runtime, self.optimization
        );
        let head = [
            "model",
            "batch",
            "threads",
            "median",
            "95 % interval",
            "spread",
            "p90",
            "p99",
            "runs",
            "images/s",
            "density",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for configuration in &self.configurations {
            for row in &configuration.models {
                rows.push(row.cells(configuration));
            }
        }
        text += &output::table(&rows, &[0]);
        for configuration in &self.configurations {
            if let Some(ratio) = &configuration.ratio {
                let interval = ratio
                    .interval
                    .map_or_else(String::new, |[low, high]| format!(" (95 % interval {low:.3} to {high:.3})"));
                let verdict =
                    if ratio.tie { "a tie: the difference is inside the noise" } else { "clear of the noise" };
                let _ = writeln!(
                    text,
                    "ratio at batch {}{}: {:.3}{interval}, {verdict}",
                    configuration.batch,
                    configuration.threads.map_or_else(String::new, |n| format!(" and {n} threads")),
                    ratio.median
                );
            }
        }
        for configuration in &self.configurations {
            for row in &configuration.models {
                if let Some(layers) = &row.layers {
                    let _ = write!(
                        text,
                        "\n{} at batch {}\n{}",
                        output::printable(&row.model),
                        configuration.batch,
                        layers.text()
                    );
                }
            }
        }
        text
    }

    /// Every timed run.
    fn csv(&self) -> String {
        let mut text = "model,batch,threads,run,seconds\n".to_owned();
        for configuration in &self.configurations {
            let threads = configuration.threads.map_or_else(String::new, |n| n.to_string());
            for row in &configuration.models {
                let model = quoted(&row.model);
                for (run, ns) in row.samples_ns.iter().enumerate() {
                    let time = ns.map_or_else(String::new, |ns| format!("{:.9}", ns as f64 * 1e-9));
                    let _ = writeln!(text, "{model},{},{threads},{run},{time}", configuration.batch);
                }
            }
        }
        text
    }

    fn warn(&self) {
        for row in self.configurations.iter().flat_map(|configuration| &configuration.models) {
            if let [first, ..] = &row.nodes_elsewhere[..] {
                output::warning(&format!(
                    "{} of {} nodes of `{}` did not run on `{}`: `{}` ({}) ran on {}",
                    row.nodes_elsewhere.len(),
                    row.nodes,
                    row.model,
                    self.provider,
                    first.node,
                    first.op,
                    first.provider
                ));
            }
            if row.layers_of_unknown_cost > 0 && row.operations_flop > 0 {
                output::warning(&format!(
                    "the operations of {} layers of `{}` are not known, so that its density is a lower bound",
                    row.layers_of_unknown_cost, row.model
                ));
            }
        }
    }

    fn outcome(&self, limit: Option<f64>) -> Outcome {
        let Some(limit) = limit else { return Outcome::Done };
        let mut slower = false;
        for (configuration, ratio) in self.configurations.iter().filter_map(|c| Some((c, c.ratio.as_ref()?))) {
            if ratio.interval.is_none_or(|[low, high]| (low..=high).contains(&limit)) {
                output::warning(&format!(
                    "the limit {limit} lies inside the interval of the ratio at batch {}: another run may answer \
                     otherwise; a longer `--duration` narrows it",
                    configuration.batch
                ));
            }
            slower |= ratio.median.is_nan() || ratio.median > limit;
        }
        if slower { Outcome::No } else { Outcome::Done }
    }
}

/// A cell of comma-separated values (RFC 4180).
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

impl Row {
    fn cells(&self, configuration: &Configuration) -> Vec<String> {
        vec![
            output::printable(&self.model),
            configuration.batch.to_string(),
            configuration.threads.map_or_else(|| "default".into(), |n| n.to_string()),
            seconds(self.median_s),
            self.median_interval_s
                .map_or_else(|| "-".into(), |[low, high]| format!("{} to {}", seconds(low), seconds(high))),
            format!("±{:.1} %", self.spread * 100.0),
            seconds(self.p90_s),
            seconds(self.p99_s),
            self.runs.to_string(),
            format!("{:.1}", self.images_per_s),
            self.density_flop_per_s.map_or_else(|| "-".into(), |density| FlopsPerSecond(density).to_string()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_where_they_have_to_be() {
        assert_eq!(quoted("a.onnx"), "a.onnx");
        assert_eq!(quoted("a,\"b\".onnx"), "\"a,\"\"b\"\".onnx\"");
    }

    #[test]
    fn the_limit_decides_the_outcome() {
        let with = |median: f64| Report {
            schema: 1,
            provider: "cpu".into(),
            onnx_runtime: String::new(),
            optimization: String::new(),
            transfer: true,
            debug_build: false,
            configurations: vec![Configuration {
                batch: 1,
                threads: None,
                models: Vec::new(),
                ratio: Some(RatioRow { median, interval: Some([median - 0.01, median + 0.01]), tie: false }),
            }],
        };
        for (median, limit, expected) in [
            (1.2, None, Outcome::Done),
            (1.2, Some(1.05), Outcome::No),
            (1.2, Some(1.3), Outcome::Done),
            (0.9, Some(0.8), Outcome::No),
            (f64::NAN, Some(1.05), Outcome::No),
        ] {
            assert_eq!(with(median).outcome(limit), expected, "{median} against {limit:?}");
        }
    }
}
