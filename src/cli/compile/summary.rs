//! What `bbc compile` says at its end: the choice, the network, the run, the file.

use std::fmt::{self, Display, Write};
use std::time::Duration;

use bbc::backbone::{Backbone, BlockFacts, Spec, cost_of};
use bbc::conv::Candidate;
use bbc::ir::Graph;
use bbc::search::verdict::Verdict;
use bbc::select::Selection;
use bbc::tensor::Dim;
use bbc::units::{Bytes, Flops, FlopsPerSecond, show_duration};
use serde::Serialize;

use super::Converted;
use super::weights::Origin;
use crate::cli::policies::{SelectionEntry, by_stages};
use crate::cli::{Outcome, output};

/// Where the first conv is from.
#[derive(Debug)]
pub(super) enum Choice {
    /// What a policy chose from a profile.
    Measured(Box<Measured>),
    /// Named on the command line.
    Named(Candidate),
    /// The one that is stacked most often in a network that was searched.
    #[cfg(feature = "run")]
    Searched(Candidate),
    /// The preset's or the spec's own.
    Spec(Candidate),
}

/// What a policy chose from a profile.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) selection: Selection,
    /// Why, in words.
    pub(super) how: String,
    /// What it costs, where another would be chosen for its latency.
    pub(super) price: Option<String>,
}

impl Choice {
    /// The spec, built of the choice.
    pub(super) fn built_into(&self, spec: Spec) -> Spec {
        let verdict = match self {
            Self::Spec(candidate) => return Spec { first_conv: Some(*candidate), ..spec },
            Self::Named(candidate) => return spec.with_first_conv(*candidate),
            // Its stages say themselves what they are built of.
            #[cfg(feature = "run")]
            Self::Searched(_) => return spec,
            Self::Measured(measured) => &measured.selection.verdict,
        };
        let mut spec = spec.with_first_conv(verdict.winner);
        let sizes = spec.stage_sizes();
        for (stage, size) in spec.stages.iter_mut().zip(sizes) {
            stage.first_conv = Some(verdict.at(size)).filter(|&candidate| candidate != verdict.winner);
        }
        spec
    }

    /// The convolution.
    pub(super) fn candidate(&self) -> Candidate {
        match self {
            Self::Measured(measured) => measured.selection.verdict.winner,
            Self::Named(candidate) | Self::Spec(candidate) => *candidate,
            #[cfg(feature = "run")]
            Self::Searched(candidate) => *candidate,
        }
    }
}

/// Everything that was found out; the document `--json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    schema: u32,
    first_conv: FirstConv,
    network: Network,
    parts: Vec<Part>,
    outputs: Vec<Output>,
    file: Written,
    /// Absent with `--no-run`.
    run: Option<Run>,
    /// How it was brought to another precision; absent in single precision.
    #[serde(skip_serializing_if = "Option::is_none")]
    precision: Option<Converted>,
    /// What the search has come to; absent if nothing was searched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) verdict: Option<Verdict>,
}

#[derive(Debug, Serialize)]
struct FirstConv {
    name: String,
    /// `measured`, `named`, `searched` or `spec`.
    chosen: &'static str,
    /// How it was chosen, in words.
    how: String,
    /// The winner's density by the runner-up's.
    #[serde(skip_serializing_if = "Option::is_none")]
    margin: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    margin_interval: Option<[f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clear: Option<bool>,
    /// The policy and all it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    selection: Option<SelectionEntry>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Network {
    name: String,
    input: String,
    /// What height and width are multiples of for strides to be exact; absent if they are fixed.
    #[serde(skip_serializing_if = "Option::is_none")]
    size_multiple: Option<u32>,
    /// Height and width that costs and latency are told for.
    size: String,
    /// At the fixed batch, or at a batch of one.
    flop: u64,
    parameters: u64,
}

/// The stem, a block or the head.
#[derive(Debug, Serialize)]
struct Part {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    downsampling: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_channels: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mid_channels: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    concatenated_channels: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    out_channels: Option<u32>,
    receptive_fields: Vec<String>,
    /// Height and width of the result.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<String>,
    /// At the fixed batch, or at a batch of one.
    flop: u64,
    parameters: u64,
}

/// An output of the model.
#[derive(Debug, Serialize)]
pub(super) struct Output {
    name: String,
    /// Image positions to one of the feature map; absent for a classifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    stride: Option<u32>,
    channels: u32,
}

/// The file.
#[derive(Debug, Serialize)]
pub(super) struct Written {
    pub(super) path: String,
    /// Name of the file beside it that has the weights, if they did not fit into it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data_file: Option<String>,
    /// Of both files.
    pub(super) bytes: u64,
    pub(super) opset: i64,
    pub(super) nodes: usize,
    /// Where the values of its weights are from.
    pub(super) weights: Origin,
    /// Whether the file was put in its place.
    pub(super) kept: bool,
}

/// The final run.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    pub(super) provider: String,
    /// Absent where the runtime chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) threads: Option<usize>,
    pub(super) batches: Vec<u32>,
    /// Heights and widths, where they are free.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) sizes: Vec<String>,
    pub(super) nodes: usize,
    /// Nodes that ran on another provider.
    pub(super) elsewhere: Vec<Elsewhere>,
    pub(super) latency: Latency,
    /// Why the model was not run on the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) missed: Option<Missed>,
}

/// A node that ran on another provider than the target's.
#[derive(Debug, Serialize)]
pub(super) struct Elsewhere {
    pub(super) node: String,
    pub(super) op: String,
    pub(super) provider: String,
}

/// Time of the whole network.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    pub(super) batch: u32,
    pub(super) median_ms: f64,
    pub(super) p90_ms: f64,
    pub(super) median_interval_ms: Option<[f64; 2]>,
    pub(super) runs: usize,
    pub(super) density_flop_per_s: f64,
}

/// Why the target's provider was not used.
#[derive(Debug, Serialize)]
pub(super) struct Missed {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) provider: Option<String>,
    pub(super) why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

/// The network that was written.
pub(super) struct Facts<'a> {
    pub(super) spec: &'a Spec,
    pub(super) backbone: &'a Backbone,
    /// The network as it was written.
    pub(super) graph: &'a Graph,
    /// Whether height and width are free.
    pub(super) dynamic_size: bool,
}

/// What height and width have to be multiples of for the strides of all feature maps to be exact.
pub(super) fn size_multiple(backbone: &Backbone) -> u32 {
    backbone.features.iter().map(|feature| feature.stride).max().unwrap_or(1)
}

/// Name, stride and channels of the model's outputs.
pub(super) fn outputs(backbone: &Backbone, graph: &Graph) -> Vec<Output> {
    let output = |output: &bbc::ir::Output| {
        let feature = backbone.features.iter().find(|feature| feature.name == output.name);
        let channels = match graph.value(output.value).ty().dims.get(1) {
            Some(Dim::Fixed(channels)) => *channels,
            Some(Dim::Batch | Dim::Side(_)) | None => 0,
        };
        Output { name: output.name.clone(), stride: feature.map(|feature| feature.stride), channels }
    };
    graph.outputs().iter().map(output).collect()
}

impl Report {
    /// What was found out about a network and its file.
    pub(super) fn new(
        choice: &Choice,
        network: &Facts<'_>,
        file: Written,
        run: Option<Run>,
        require_provider: bool,
    ) -> Self {
        let proven = run.as_ref().is_some_and(|run| run.missed.is_none() && run.elsewhere.is_empty());
        let file = Written { kept: proven || !require_provider, ..file };
        let Facts { spec, backbone, graph, .. } = network;
        Self {
            schema: 1,
            first_conv: FirstConv::of(choice),
            network: Network {
                name: spec.name.clone(),
                input: graph.inputs().next().map_or_else(String::new, |(_, value)| value.ty().to_string()),
                size_multiple: network.dynamic_size.then(|| size_multiple(backbone)),
                size: format!("{}x{}", spec.input.height, spec.input.width),
                flop: graph.flops(1).0,
                parameters: graph.parameters(),
            },
            parts: parts(backbone, graph),
            outputs: outputs(backbone, graph),
            file,
            run,
            precision: None,
            verdict: None,
        }
    }

    /// The same with what became of it in another precision.
    pub(super) fn with(mut self, precision: Option<Converted>) -> Self {
        self.file.kept &= precision.as_ref().is_none_or(|converted| converted.outcome() == Outcome::Done);
        self.precision = precision;
        self
    }

    /// Name of the file beside the model that has its weights, if there is one.
    pub(super) fn data_file(&self) -> Option<&str> {
        self.file.data_file.as_deref()
    }

    /// No if the model had to run on the target and did not, done otherwise.
    pub(super) fn outcome(&self) -> Outcome {
        if self.file.kept { Outcome::Done } else { Outcome::No }
    }
}

impl FirstConv {
    fn of(choice: &Choice) -> Self {
        let unmeasured = |chosen, how: &str| Self {
            name: choice.candidate().to_string(),
            chosen,
            how: how.to_owned(),
            margin: None,
            margin_interval: None,
            clear: None,
            selection: None,
            warnings: Vec::new(),
        };
        let mut first_conv = match choice {
            Choice::Named(_) => unmeasured("named", "named by hand, not measured"),
            #[cfg(feature = "run")]
            Choice::Searched(_) => unmeasured("searched", "stacked most often in the network that was searched"),
            Choice::Spec(_) => unmeasured("spec", "the network's own, not measured"),
            Choice::Measured(measured) => {
                let Measured { selection, how, price } = &**measured;
                let verdict = &selection.verdict;
                Self {
                    how: format!("{how} (policy {}, {})", selection.policy, verdict.ranking.source),
                    selection: Some(SelectionEntry::of(selection)),
                    margin: verdict.margin.map(|margin| margin.ratio),
                    margin_interval: verdict.margin.and_then(|m| m.interval).map(|range| [range.low, range.high]),
                    clear: Some(verdict.is_clear()),
                    warnings: warnings(selection).into_iter().chain(price.clone()).collect(),
                    ..unmeasured("measured", "")
                }
            }
        };
        if choice.candidate().window == [1, 1] {
            let warning = "a 1x1 convolution sees one position only: the blocks do not widen the receptive field";
            first_conv.warnings.push(warning.to_owned());
        }
        first_conv
    }
}

fn warnings(selection: &Selection) -> Vec<String> {
    let mut warnings = Vec::new();
    if selection.software {
        warnings.push("measured on a software adapter, whose speed says nothing about a GPU".to_owned());
    }
    for opinion in &selection.others {
        if !opinion.agrees_with(&selection.verdict) {
            let (source, winner) = (&opinion.verdict.ranking.source, opinion.verdict.winner);
            warnings.push(match opinion.verdict.stages.is_empty() {
                true => format!("by the {source} {winner} would be chosen instead"),
                false => format!("by the {source} it would be {}", by_stages(&opinion.verdict)),
            });
        }
    }
    warnings
}

fn parts(backbone: &Backbone, graph: &Graph) -> Vec<Part> {
    let mut parts = vec![whole_part(graph, "stem")];
    for stage in &backbone.stages {
        for (i, block) in stage.blocks.iter().enumerate() {
            let mut part = block_part(graph, block);
            if let Some(candidate) = stage.downsampling.filter(|_| i == 0) {
                part.downsampling = Some(candidate.to_string());
                // What makes the image smaller lies between the blocks, and counts with the block it feeds.
                let (flops, parameters) = cost_of(graph, &stage.path);
                let blocks = stage.blocks.iter().map(|block| cost_of(graph, &block.path));
                let (block_flops, block_parameters) =
                    blocks.fold((Flops::default(), 0), |sum, cost| (sum.0 + cost.0, sum.1 + cost.1));
                part.flop += flops.0 - block_flops.0;
                part.parameters += parameters - block_parameters;
            }
            parts.push(part);
        }
    }
    if backbone.classes.is_some() {
        parts.push(whole_part(graph, "head"));
    }
    parts
}

fn block_part(graph: &Graph, block: &BlockFacts) -> Part {
    Part {
        conv: Some(block.conv.to_string()),
        in_channels: Some(block.in_channels),
        mid_channels: Some(block.mid_channels),
        concatenated_channels: Some(block.concatenated_channels),
        receptive_fields: block.receptive_fields.iter().map(show_field).collect(),
        ..whole_part(graph, &block.path)
    }
}

fn show_field([height, width]: &[u32; 2]) -> String {
    if height == width { height.to_string() } else { format!("{height}x{width}") }
}

/// A part of which only costs and result are told.
fn whole_part(graph: &Graph, path: &str) -> Part {
    let (flops, parameters) = cost_of(graph, path);
    let prefix = format!("{path}.");
    let last = graph.values().filter(|(_, value)| value.path().starts_with(&prefix)).last();
    let dims = last.map(|(_, value)| value.ty().shape(1)).unwrap_or_default();
    Part {
        path: path.to_owned(),
        downsampling: None,
        conv: None,
        in_channels: None,
        mid_channels: None,
        concatenated_channels: None,
        out_channels: dims.get(1).copied(),
        receptive_fields: Vec::new(),
        size: dims.get(2).zip(dims.get(3)).map(|(height, width)| format!("{height}x{width}")),
        flop: flops.0,
        parameters,
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Network { name, input, size_multiple, size, flop, parameters } = &self.network;
        writeln!(f, "first conv  {}: {}", self.first_conv.name, self.first_conv.how)?;
        for warning in &self.first_conv.warnings {
            writeln!(f, "            note: {warning}")?;
        }
        let at = if size_multiple.is_some() { format!(" at {size}") } else { String::new() };
        writeln!(f, "network     {name} on {input}: {}{at}, {} parameters", Flops(*flop), output::count(*parameters))?;
        if let Some(multiple) = size_multiple {
            writeln!(f, "            any height and width; strides are exact at multiples of {multiple}")?;
        }
        writeln!(f, "\n{}", output::table(&self.rows(), &[0, 1, 2, 7]))?;
        match &self.run {
            Some(run) => write!(f, "{run}")?,
            None => writeln!(f, "run         not run; its structure was checked")?,
        }
        let Written { path, data_file, bytes, opset, nodes, weights, kept } = &self.file;
        if let Origin { file: Some(file), sha256: Some(hash), tensors: Some(tensors), .. } = weights {
            writeln!(f, "weights     {file}: {tensors} tensors, sha256 {hash}")?;
        }
        if let Some(precision) = &self.precision {
            write!(f, "{}", precision.details())?;
            if let Some(refusal) = precision.refusal() {
                return f.write_str(&refusal);
            }
        }
        if !kept {
            return write!(f, "file        {path} is not written: `--require-provider` asks for a run on the target");
        }
        write!(f, "file        {path}: {}, opset {opset}, {nodes} nodes", Bytes(*bytes))?;
        if let Some(precision) = &self.precision {
            write!(f, ", {}", precision.size())?;
        }
        match data_file {
            Some(data) => write!(f, "; its weights are in {data} beside it"),
            None => Ok(()),
        }
    }
}

impl Report {
    fn rows(&self) -> Vec<Vec<String>> {
        let head = ["part", "down", "conv", "in", "mid", "concat", "out", "fields", "size", "operations", "parameters"];
        let mut rows = vec![head.map(ToOwned::to_owned).to_vec()];
        let number = |n: Option<u32>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        for part in &self.parts {
            let fields =
                if part.receptive_fields.is_empty() { "-".to_owned() } else { part.receptive_fields.join(" ") };
            rows.push(vec![
                part.path.clone(),
                text(&part.downsampling),
                text(&part.conv),
                number(part.in_channels),
                number(part.mid_channels),
                number(part.concatenated_channels),
                number(part.out_channels),
                fields,
                text(&part.size),
                Flops(part.flop).to_string(),
                output::count(part.parameters),
            ]);
        }
        rows
    }
}

impl Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Latency { batch, median_ms, p90_ms, median_interval_ms, runs, density_flop_per_s } = &self.latency;
        let time = |ms: f64| show_duration(Duration::from_secs_f64((ms / 1e3).max(0.0)));
        let mut text = format!("latency     {} at batch {batch} on `{}`", time(*median_ms), self.provider);
        if let Some(threads) = self.threads {
            write!(text, ", {threads} threads")?;
        }
        let interval = median_interval_ms
            .map_or_else(String::new, |[low, high]| format!("95 % interval {} to {}, ", time(low), time(high)));
        writeln!(f, "{text} ({interval}90th percentile {}, {runs} runs)", time(*p90_ms))?;
        writeln!(f, "density     {} over the whole network", FlopsPerSecond(*density_flop_per_s))?;
        let batches: Vec<String> = self.batches.iter().map(ToString::to_string).collect();
        let ran = self.nodes - self.elsewhere.len();
        let sizes = if self.sizes.is_empty() { String::new() } else { format!(", at {}", self.sizes.join(" and ")) };
        writeln!(
            f,
            "proof       ran at batch {}{sizes}, {ran} of {} nodes on `{}`; outputs finite, as declared, repeatable",
            batches.join(" and "),
            self.nodes,
            self.provider,
        )?;
        for node in &self.elsewhere {
            writeln!(f, "            `{}` ({}) ran on {}", node.node, node.op, node.provider)?;
        }
        self.missed.as_ref().map_or(Ok(()), |missed| write!(f, "{missed}"))
    }
}

impl Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = self.why.replace('\n', "\n            ");
        writeln!(f, "NOT PROVEN  the model has not been run on the target, only on the processor")?;
        writeln!(f, "            {why}")?;
        self.remedy.as_ref().map_or(Ok(()), |remedy| writeln!(f, "            {remedy}"))
    }
}
