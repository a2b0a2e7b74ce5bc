//! What the metadata of our own models claims, worked out anew from the graph.
//!
//! The claims are those of the method: what the outputs are, that down-sampling is a convolution of another kind than the
//! first conv with no activation behind it, and that the first convs have fewer channels than a base model's stages.

use std::collections::{HashMap, HashSet};

use bbc::backbone::{self, Batch, Spec};
use bbc::census::Census;
use bbc::conv::Candidate;
use bbc::onnx::proto::{GraphProto, ModelProto, NodeProto};
use bbc::onnx::shapes::{InputSizes, Shapes, infer};
use bbc::onnx::survey::{FoundConv, survey};
use bbc::onnx::{self, keys};
use bbc::profile;
use serde::Deserialize;

/// What a model is held against.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Beside<'a> {
    /// Base models, for the bound on channels.
    pub(crate) bases: Option<&'a Census>,
    /// Text of the profile that the model should be made from.
    pub(crate) profile: Option<&'a str>,
}

/// What was found: what holds, and what does not.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) holds: Vec<String>,
    pub(crate) faults: Vec<String>,
}

#[derive(Deserialize)]
struct ClaimedOutput {
    name: String,
    #[serde(default)]
    stride: Option<u32>,
    channels: u32,
}

/// Checks the claims of a model whose structure holds; `None` if it makes none.
pub(crate) fn check(model: &ModelProto, beside: Beside<'_>) -> Option<Findings> {
    onnx::metadata(model, keys::VERSION)?;
    let mut findings = Findings::default();
    let graph = model.graph.as_ref()?;
    match onnx::metadata(model, keys::SPEC).map(Spec::read) {
        None => findings.faults.push(format!("there is no `{}`", keys::SPEC)),
        Some(Err(error)) => findings.faults.push(format!("`{}` is no spec: {error}", keys::SPEC)),
        Some(Ok(spec)) => {
            let sizes = sizes(model, &spec);
            let shapes = infer(model, sizes, &HashMap::new());
            outputs(model, graph, &shapes, &spec, &mut findings);
            network(model, graph, sizes, &spec, beside.bases, &mut findings);
        }
    }
    table(model, beside.profile, &mut findings);
    Some(findings)
}

/// The sizes that claims are held against: the model's own, and the spec's where the model leaves that of images free.
fn sizes(model: &ModelProto, spec: &Spec) -> InputSizes {
    let own = InputSizes::default();
    let is_free = !infer(model, own, &HashMap::new()).free().is_empty();
    InputSizes { image: is_free.then_some([spec.input.height, spec.input.width]), ..own }
}

/// Names, strides and channels of the outputs.
fn outputs(model: &ModelProto, graph: &GraphProto, shapes: &Shapes<'_>, spec: &Spec, findings: &mut Findings) {
    let claimed: Vec<ClaimedOutput> = match onnx::metadata(model, keys::OUTPUTS).map(serde_json::from_str) {
        Some(Ok(claimed)) => claimed,
        Some(Err(error)) => return findings.faults.push(format!("`{}` cannot be read: {error}", keys::OUTPUTS)),
        None => return findings.faults.push(format!("there is no `{}`", keys::OUTPUTS)),
    };
    let names: Vec<&str> = claimed.iter().map(|output| output.name.as_str()).collect();
    let actual: Vec<&str> = graph.output.iter().map(|output| output.name()).collect();
    if names != actual {
        return findings.faults.push(format!("it claims the outputs {names:?} and has {actual:?}"));
    }
    let faults = findings.faults.len();
    for ClaimedOutput { name, stride, channels } in &claimed {
        let Some(shape) = shapes.of(name) else {
            findings.faults.push(format!("the shape of output `{name}` cannot be worked out"));
            continue;
        };
        if shape.get(1) != Some(channels) {
            findings
                .faults
                .push(format!("output `{name}` is claimed to have {channels} channels; its shape is {shape:?}"));
        }
        if let Some(stride) = *stride {
            let size = [spec.input.height, spec.input.width].map(|size| size.div_ceil(stride.max(1)));
            if shape.get(2..) != Some(&size[..]) {
                let image = [spec.input.height, spec.input.width];
                findings.faults.push(format!(
                    "output `{name}` is claimed to have stride {stride} on {image:?}; its shape is {shape:?}"
                ));
            }
        }
    }
    if findings.faults.len() == faults {
        findings.holds.push(format!("{} outputs with the strides and channels claimed", claimed.len()));
    }
}

/// The first convs and the down-sampling.
fn network(
    model: &ModelProto,
    graph: &GraphProto,
    sizes: InputSizes,
    spec: &Spec,
    bases: Option<&Census>,
    findings: &mut Findings,
) {
    let Some(first) = spec.first_conv else { return findings.faults.push("its spec names no first conv".to_owned()) };
    let stages = match backbone::generate(spec, Batch::Fixed(1)) {
        Ok(backbone) => backbone.stages,
        Err(error) => return findings.faults.push(format!("its spec describes no network: {error}")),
    };
    let found = survey(model, sizes, &HashMap::new()).convs;
    let nodes: HashMap<String, &NodeProto> = graph.node.iter().map(|node| (node.name().to_owned(), node)).collect();
    let consumers = Consumers::of(graph);
    // Behind the stem an image has a quarter of its height and width at the most.
    let stem = [spec.input.height, spec.input.width].map(|size| size.div_ceil(4));
    let behind_stem = |conv: &&FoundConv| {
        let input = conv.problem.input();
        input[0] <= stem[0] && input[1] <= stem[1] && !conv.pooled
    };
    let is_down = |conv: &FoundConv| conv.problem.conv().stride.iter().any(|&stride| stride > 1);
    let downs: Vec<&FoundConv> = found.iter().filter(behind_stem).filter(|conv| is_down(conv)).collect();
    let wanted = stages.iter().filter(|stage| stage.downsampling.is_some()).count();
    let faults = findings.faults.len();
    if downs.len() != wanted {
        findings
            .faults
            .push(format!("its spec down-samples {wanted} times behind the stem, its graph {} times", downs.len()));
    }
    for conv in &downs {
        let kind = Candidate::of(&conv.problem);
        if kind == first {
            findings.faults.push(format!("`{}` down-samples by the first conv's own kind, {kind}", conv.name));
        }
        let after = nodes.get(&conv.name).and_then(|node| node.output.first());
        if let Some(activation) = after.and_then(|value| consumers.activation(value)) {
            findings.faults.push(format!("`{}` down-samples, and the activation `{activation}` follows it", conv.name));
        }
    }
    if findings.faults.len() == faults {
        findings.holds.push(format!("no activation after any of {} down-samplings", downs.len()));
    }
    // Every block has 1x1 convolutions of its own, which cannot be told from these in the graph.
    if first == Candidate::full(1) {
        return findings.holds.push(format!("the channels of its {first} are not held against a base model"));
    }
    let own: HashSet<Candidate> =
        stages.iter().flat_map(|stage| &stage.blocks).map(|block| block.conv).filter(|conv| *conv == first).collect();
    let firsts: Vec<u32> = found
        .iter()
        .filter(behind_stem)
        .filter(|conv| own.contains(&Candidate::of(&conv.problem)) && !is_down(conv))
        .map(|conv| conv.problem.out_channels())
        .collect();
    if firsts.is_empty() {
        return;
    }
    let mean = firsts.iter().map(|&n| f64::from(n)).sum::<f64>() / firsts.len() as f64;
    bound(mean, firsts.len(), first, bases, findings);
}

/// The mean of the first convs' channels against the stages of the base models.
fn bound(mean: f64, count: usize, first: Candidate, bases: Option<&Census>, findings: &mut Findings) {
    let of = format!("{count} {first} have {mean:.1} channels in the mean");
    let Some(bases) = bases else {
        return findings.holds.push(format!("{of}, held against no base model (`--base-model`)"));
    };
    for base in &bases.bases {
        let least = base.ends.iter().map(|end| end.channels).min();
        match least {
            Some(least) if mean < f64::from(least) => {
                findings.holds.push(format!("{of}, fewer than {least}, the least of any stage of {}", base.name));
            }
            Some(least) => {
                findings.faults.push(format!("{of}, not fewer than {least}, the least of any stage of {}", base.name))
            }
            None => findings.faults.push(format!("{} has no stages to hold the channels against", base.name)),
        }
    }
}

/// The hash of the table of densities.
fn table(model: &ModelProto, profile: Option<&str>, findings: &mut Findings) {
    let claimed = onnx::metadata(model, keys::PROFILE_SHA256);
    let (Some(text), Some(claimed)) = (profile, claimed) else {
        match (profile, claimed) {
            (Some(_), None) => findings.faults.push("it claims no profile, and one is given".to_owned()),
            (None, Some(_)) => findings.holds.push("its profile is not given (`--profile`)".to_owned()),
            _ => {}
        }
        return;
    };
    let actual = profile::sha256(text);
    if actual == claimed {
        findings.holds.push("made from the profile given".to_owned());
    } else {
        findings
            .faults
            .push(format!("it claims the profile with SHA-256 {claimed}; that of the one given is {actual}"));
    }
}

/// Which nodes take a value.
struct Consumers<'m> {
    of: HashMap<&'m str, Vec<&'m NodeProto>>,
    computed: HashSet<&'m str>,
}

impl<'m> Consumers<'m> {
    fn of(graph: &'m GraphProto) -> Self {
        let mut of: HashMap<&str, Vec<&NodeProto>> = HashMap::new();
        for node in &graph.node {
            for input in &node.input {
                of.entry(input).or_default().push(node);
            }
        }
        let computed = graph.node.iter().flat_map(|node| &node.output).map(String::as_str).collect();
        Self { of, computed }
    }

    /// The activation that a value goes into, past what only scales and shifts.
    fn activation(&self, value: &'m str) -> Option<&'m str> {
        let mut values = vec![value];
        let mut seen = HashSet::new();
        while let Some(value) = values.pop() {
            for node in self.of.get(value).into_iter().flatten() {
                match node.op_type() {
                    "Relu" | "LeakyRelu" | "PRelu" | "Sigmoid" | "HardSigmoid" | "HardSwish" | "Swish" | "Mish"
                    | "Gelu" | "Elu" | "Selu" | "Celu" | "Tanh" | "Clip" | "Softplus" | "Softsign" | "Erf"
                    | "ThresholdedRelu" => return Some(node.name()),
                    "BatchNormalization" | "Mul" | "Add" | "Identity" | "Cast" if seen.insert(node.name()) => {
                        // A product or sum of two values is where branches meet: no longer the down-sampling alone.
                        let meets =
                            node.input.iter().filter(|input| self.computed.contains(input.as_str())).count() > 1;
                        values.extend(node.output.iter().filter(|_| !meets).map(String::as_str));
                    }
                    _ => {}
                }
            }
        }
        None
    }
}
