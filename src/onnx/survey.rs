//! The convolutions of a model, and the stages they stand in.
//!
//! A stage is a resolution. Its last output is the value that all paths from it to lower resolutions go through, so
//! that a shortcut around a down-sampling layer, a neck that comes back to the resolution, or a head that hangs on it
//! does not count. Where such a layer is the depthwise middle of an inverted bottleneck, the output is what the
//! bottleneck begins with, not what it has expanded it to.

use std::collections::{BTreeMap, HashMap, HashSet};

use prost::Message;

use crate::conv::{Conv, ConvProblem};
use crate::onnx::check::label;
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto, ValueInfoProto, tensor_proto::DataType};
use crate::onnx::shapes::{Gap, InputSizes, Layout, Shapes, infer};
use crate::onnx::summary::{flops, problem};
use crate::tensor::DType;
use crate::units::Flops;

/// What was found in a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// The inputs: name, and shape where it is known.
    pub inputs: Vec<(String, Option<Vec<u32>>)>,
    /// Image inputs whose height or width is free and was not given.
    pub free: Vec<String>,
    /// The two-dimensional convolutions, in the order of the graph.
    pub convs: Vec<FoundConv>,
    /// Names of convolutions whose problem is not known, in the order of the graph.
    pub unknown: Vec<String>,
    /// The first reasons for what is not known.
    pub gaps: Vec<Gap>,
    /// Convolutions in the bodies of loops and branches; they are not among `convs`.
    pub inner: usize,
    /// Other layers that multiply and add, by op: linear layers, transposed convolutions.
    pub others: BTreeMap<String, OtherLayers>,
    /// Resolutions with convolutions, from the highest: height and width, and channels of the stage's last output.
    pub stages: Vec<(Size, u32)>,
}

/// Height and width.
pub type Size = [u32; 2];

/// A convolution of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundConv {
    /// Name of its node.
    pub name: String,
    /// What it computes.
    pub problem: ConvProblem,
    /// Whether it works on pooled values: on one for each channel of the whole image.
    pub pooled: bool,
}

/// Layers of one op.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OtherLayers {
    /// How many there are.
    pub count: u32,
    /// Operations of those they are known of.
    pub flops: Flops,
    /// How many of them have operations that are not known.
    pub unknown: u32,
}

/// Looks through a model that [`check`](crate::onnx::check()) has passed.
///
/// `observed` are shapes of values that were seen when the model ran, by name.
pub fn survey(model: &ModelProto, sizes: InputSizes, observed: &HashMap<String, Vec<u32>>) -> Survey {
    let default = GraphProto::default();
    let graph = model.graph.as_ref().unwrap_or(&default);
    let shapes = infer(model, sizes, observed);
    let trunk = Trunk::new(graph, &shapes);
    let types = element_types(graph);
    let mut survey = Survey {
        inputs: inputs(graph, &shapes),
        free: shapes.free().iter().map(ToString::to_string).collect(),
        convs: Vec::new(),
        unknown: Vec::new(),
        gaps: shapes.gaps().to_vec(),
        inner: 0,
        others: BTreeMap::new(),
        stages: Vec::new(),
    };
    for (index, node) in graph.node.iter().enumerate() {
        let bodies = node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
        survey.inner += bodies.map(convs_in).sum::<usize>();
        match node.op_type() {
            op if is_conv(op) => match problem(node, &shapes, dtype(node, &types)) {
                Some(problem) => {
                    let pooled = trunk.points[index].as_ref().is_some_and(|point| point.pooled);
                    survey.convs.push(FoundConv { name: label(node), problem, pooled });
                }
                None => survey.unknown.push(label(node)),
            },
            op @ ("Gemm" | "MatMul" | "ConvTranspose" | "MatMulInteger" | "QLinearMatMul") => {
                let others = survey.others.entry(op.to_owned()).or_default();
                others.count += 1;
                match flops(node, &shapes) {
                    Some(flops) => others.flops += flops,
                    None => others.unknown += 1,
                }
            }
            _ => {}
        }
    }
    let mut sizes: Vec<Size> = survey.convs.iter().filter(|c| !c.pooled).map(|c| c.problem.output()).collect();
    sizes.sort_unstable_by_key(|&size| std::cmp::Reverse((area(size), size)));
    sizes.dedup();
    sizes.truncate(MAX_STAGES);
    survey.stages = sizes.into_iter().filter_map(|size| Some((size, trunk.last_channels(size)?))).collect();
    survey
}

/// Most stages that are told apart; networks have ten at the most.
const MAX_STAGES: usize = 32;

/// The model with these values as its only outputs: what has to be run to see their shapes.
pub fn exposing(model: &ModelProto, values: &[String]) -> Vec<u8> {
    let mut model = model.clone();
    if let Some(graph) = &mut model.graph {
        let output = |value: &String| ValueInfoProto { name: Some(value.clone()), ..ValueInfoProto::default() };
        graph.output = values.iter().map(output).collect();
    }
    model.encode_to_vec()
}

/// Bytes that, put behind those of a model, have it hand out these values as well: pieces of a message add up.
pub fn exposed(values: &[String]) -> Vec<u8> {
    let output = |value: &String| ValueInfoProto { name: Some(value.clone()), ..ValueInfoProto::default() };
    let graph = GraphProto { output: values.iter().map(output).collect(), ..GraphProto::default() };
    ModelProto { graph: Some(graph), ..ModelProto::default() }.encode_to_vec()
}

/// Names of the values that the convolutions of unknown problem take, first those that others are computed from.
pub fn unknown_operands(model: &ModelProto, sizes: InputSizes, observed: &HashMap<String, Vec<u32>>) -> Vec<String> {
    let shapes = infer(model, sizes, observed);
    let nodes = model.graph.iter().flat_map(|graph| &graph.node);
    let convs = nodes.filter(|node| is_conv(node.op_type()) && problem(node, &shapes, DType::F32).is_none());
    let operands = convs.flat_map(|node| node.input.iter().take(2));
    let mut names: Vec<String> = operands.filter(|name| shapes.of(name).is_none()).cloned().collect();
    let mut seen = HashSet::new();
    names.retain(|name| !name.is_empty() && seen.insert(name.clone()));
    names
}

fn is_conv(op: &str) -> bool {
    matches!(op, "Conv" | "FusedConv" | "ConvInteger" | "QLinearConv")
}

/// Convolutions in a graph and the graphs inside it; reading has bounded how deep those can lie.
fn convs_in(graph: &GraphProto) -> usize {
    let inside = |node: &NodeProto| {
        let bodies = node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
        bodies.map(convs_in).sum::<usize>()
    };
    graph.node.iter().map(|node| usize::from(is_conv(node.op_type())) + inside(node)).sum()
}

fn inputs(graph: &GraphProto, shapes: &Shapes<'_>) -> Vec<(String, Option<Vec<u32>>)> {
    let initializers: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name()).collect();
    let names = graph.input.iter().map(|input| input.name()).filter(|name| !initializers.contains(name));
    names.map(|name| (name.to_owned(), shapes.of(name).map(<[u32]>::to_vec))).collect()
}

/// Element types of the initializers.
fn element_types(graph: &GraphProto) -> HashMap<&str, i32> {
    graph.initializer.iter().map(|tensor| (tensor.name(), tensor.data_type())).collect()
}

/// The element type that a convolution computes in: that of its weight. Other types than ours count as single precision.
fn dtype(node: &NodeProto, types: &HashMap<&str, i32>) -> DType {
    if matches!(node.op_type(), "ConvInteger" | "QLinearConv") {
        return DType::I8;
    }
    match node.input.get(1).and_then(|name| types.get(name.as_str())) {
        Some(&ty) if ty == DataType::Float16 as i32 => DType::F16,
        Some(&ty) if ty == DataType::Bfloat16 as i32 => DType::BF16,
        _ => DType::F32,
    }
}

fn area([height, width]: Size) -> u64 {
    u64::from(height) * u64::from(width)
}

/// Whether `low` is smaller than `high` in one direction and larger in none.
fn is_lower(low: Size, high: Size) -> bool {
    low != high && low[0] <= high[0] && low[1] <= high[1]
}

/// The nodes on the way from the inputs, each with what every path to it goes through.
struct Trunk {
    /// One for each node of the graph; `None` for constants.
    points: Vec<Option<Point>>,
}

/// A node on the way.
struct Point {
    kind: Kind,
    size: Option<Size>,
    channels: Option<u32>,
    /// Whether it is made of pooled values only.
    pooled: bool,
    /// The nodes its operands come from.
    operands: Vec<usize>,
    /// The last node that every path from the inputs to this one goes through; `None` for the inputs themselves.
    parent: Option<usize>,
    /// Some node further up, so that ancestors are found in few steps.
    jump: Option<usize>,
    /// Number of nodes above it.
    depth: usize,
}

/// What matters of an op here.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// A convolution in two dimensions.
    Conv { conv: Conv, in_channels: u32, out_channels: u32 },
    /// Each value is scaled and shifted at the most.
    Affine,
    /// Two branches are added.
    Merge,
    /// Each channel becomes one value.
    GlobalPool,
    /// Anything else, activations among it.
    Other,
}

impl Trunk {
    fn new(graph: &GraphProto, shapes: &Shapes<'_>) -> Self {
        let mut trunk = Self { points: Vec::with_capacity(graph.node.len()) };
        // Where each value comes from; `None` for an input.
        let mut makers: HashMap<&str, Option<usize>> = HashMap::new();
        let initializers: HashSet<&str> = graph.initializer.iter().map(|t| t.name()).collect();
        let inputs = graph.input.iter().map(|input| input.name()).filter(|name| !initializers.contains(name));
        makers.extend(inputs.map(|name| (name, None)));
        for (index, node) in graph.node.iter().enumerate() {
            let from: Vec<Option<usize>> =
                node.input.iter().filter_map(|name| makers.get(name.as_str())).copied().collect();
            // What is computed from a shape alone is as good as constant.
            if from.is_empty() || matches!(node.op_type(), "Shape" | "Size") {
                trunk.points.push(None);
                continue;
            }
            makers.extend(node.output.iter().filter(|name| !name.is_empty()).map(|name| (name.as_str(), Some(index))));
            let point = trunk.point(node, &from, shapes);
            trunk.points.push(Some(point));
        }
        trunk
    }

    fn point(&self, node: &NodeProto, from: &[Option<usize>], shapes: &Shapes<'_>) -> Point {
        let name = node.output.first().map_or("", String::as_str);
        let shape = shapes.of(name).unwrap_or_default();
        let layout = shapes.layout(name);
        let size = layout.size(shape);
        let kind = kind(node, from.len(), shapes);
        let operands: Vec<usize> = from.iter().flatten().copied().collect();
        // An input among the operands leaves nothing that all paths go through.
        let parent = match from.first() {
            Some(&first) if !from.contains(&None) => from.iter().fold(first, |common, &next| self.common(common, next)),
            _ => None,
        };
        let above = parent.and_then(|parent| self.points[parent].as_ref());
        let jump = above.and_then(|above| {
            let jump = above.jump?;
            let further = self.points[jump].as_ref()?;
            let even = above.depth - further.depth == further.depth - further.jump.map_or(0, |at| self.depth(at));
            if even { further.jump.or(Some(jump)) } else { parent }
        });
        let from_pooled = !operands.is_empty() && operands.iter().all(|&at| self.is_pooled(at));
        Point {
            kind,
            size,
            channels: layout.channels(shape),
            pooled: from_pooled || kind == Kind::GlobalPool,
            operands,
            parent,
            jump: jump.or(parent),
            depth: above.map_or(0, |above| above.depth + 1),
        }
    }

    fn depth(&self, at: usize) -> usize {
        self.points[at].as_ref().map_or(0, |point| point.depth)
    }

    fn is_pooled(&self, at: usize) -> bool {
        self.points[at].as_ref().is_some_and(|point| point.pooled)
    }

    /// The last node above or at both.
    fn common(&self, a: Option<usize>, b: Option<usize>) -> Option<usize> {
        let (mut a, mut b) = (a?, b?);
        if self.depth(a) < self.depth(b) {
            (a, b) = (b, a);
        }
        while self.depth(a) > self.depth(b) {
            let point = self.points[a].as_ref()?;
            a = point.jump.filter(|&jump| self.depth(jump) >= self.depth(b)).or(point.parent)?;
        }
        while a != b {
            let (left, right) = (self.points[a].as_ref()?, self.points[b].as_ref()?);
            (a, b) = match (left.jump, right.jump) {
                (Some(l), Some(r)) if l != r && self.depth(l) == self.depth(r) => (l, r),
                _ => (left.parent?, right.parent?),
            };
        }
        Some(a)
    }

    /// Channels of the last output of the stage of this size.
    fn last_channels(&self, size: Size) -> Option<u32> {
        let leaving = |leaves: &dyn Fn(&Point) -> bool| -> Vec<(usize, usize)> {
            let points = self.points.iter().enumerate().filter_map(|(at, point)| Some((at, point.as_ref()?)));
            points
                .filter(|(_, point)| leaves(point))
                .flat_map(|(at, point)| point.operands.iter().map(move |&from| (from, at)))
                .filter(|&(from, _)| self.is_at(from, size) && !self.is_pooled(from))
                .collect()
        };
        let down = leaving(&|point| !point.pooled && point.size.is_some_and(|to| is_lower(to, size)));
        if !down.is_empty() {
            return self.channels_where(&down, size);
        }
        // The lowest stage: where it is left for other than attention, which comes back to it.
        let away = leaving(&|point| !point.pooled && point.size != Some(size));
        if !away.is_empty() {
            return self.channels_where(&away, size);
        }
        let pooled = leaving(&|point| point.kind == Kind::GlobalPool);
        let last = pooled.last().map(|&(from, _)| from);
        let last = last.or_else(|| (0..self.points.len()).rev().find(|&at| self.is_at(at, size)))?;
        self.points[last].as_ref()?.channels
    }

    fn is_at(&self, at: usize, size: Size) -> bool {
        self.points[at].as_ref().is_some_and(|point| point.size == Some(size))
    }

    /// Channels of what all these edges go out from; each is from a node of the size to another.
    fn channels_where(&self, edges: &[(usize, usize)], size: Size) -> Option<u32> {
        let (&(first, _), rest) = edges.split_first()?;
        let common = rest.iter().try_fold(first, |common, &(from, _)| self.common(Some(common), Some(from)));
        // Paths that part at a higher resolution have no last output together: the first that leaves counts.
        let last = common.filter(|&at| self.is_at(at, size)).unwrap_or(first);
        let is_depthwise = |&(_, to): &(usize, usize)| match self.points[to].as_ref().map(|point| point.kind) {
            Some(Kind::Conv { conv, in_channels, out_channels }) => {
                conv.groups > 1 && conv.groups == in_channels && in_channels == out_channels
            }
            _ => false,
        };
        let expanded = if edges.iter().all(is_depthwise) { self.expanded_from(last, size) } else { None };
        self.points[expanded.unwrap_or(last)].as_ref()?.channels
    }

    /// What an inverted bottleneck has expanded to this: the value before, if it is linear.
    fn expanded_from(&self, last: usize, size: Size) -> Option<usize> {
        let mut activated = false;
        let mut at = last;
        let conv = loop {
            let point = self.points[at].as_ref().filter(|point| point.size == Some(size))?;
            match point.kind {
                Kind::Conv { conv, in_channels, out_channels } => break (conv, in_channels < out_channels),
                Kind::Affine => {}
                Kind::Merge | Kind::GlobalPool | Kind::Other => activated = true,
            }
            at = point.parent?;
        };
        let (Conv { window: [1, 1], stride: [1, 1], groups: 1, .. }, true) = conv else { return None };
        if !activated {
            return None;
        }
        let before = self.points[at].as_ref()?.parent?;
        let mut source = before;
        while self.points[source].as_ref()?.kind == Kind::Affine {
            source = self.points[source].as_ref()?.parent?;
        }
        let is_linear = matches!(self.points[source].as_ref()?.kind, Kind::Conv { .. } | Kind::Merge);
        (is_linear && self.is_at(before, size)).then_some(before)
    }
}

fn kind(node: &NodeProto, operands: usize, shapes: &Shapes<'_>) -> Kind {
    match node.op_type() {
        op if is_conv(op) => problem(node, shapes, DType::F32).map_or(Kind::Other, |problem| Kind::Conv {
            conv: problem.conv(),
            in_channels: problem.in_channels(),
            out_channels: problem.out_channels(),
        }),
        "BatchNormalization" | "Identity" | "Cast" | "Dropout" | "Transpose" | "QuantizeLinear"
        | "DequantizeLinear" => Kind::Affine,
        "Add" | "Sub" | "Mul" | "Div" if operands == 1 => Kind::Affine,
        "Add" | "Sum" => Kind::Merge,
        "GlobalAveragePool" | "GlobalMaxPool" => Kind::GlobalPool,
        "ReduceMean" | "ReduceMax" | "AveragePool" | "MaxPool" if covers_all(node, shapes) => Kind::GlobalPool,
        _ => Kind::Other,
    }
}

/// Whether a node makes one position of an image with more.
fn covers_all(node: &NodeProto, shapes: &Shapes<'_>) -> bool {
    let size = |name: Option<&String>, layout: Layout| {
        let shape = shapes.of(name?)?;
        // Without the dimensions that were reduced, batch and channels are left.
        if shape.len() == 2 { Some([1, 1]) } else { layout.size(shape) }
    };
    let layout = node.input.first().map_or(Layout::Nchw, |name| shapes.layout(name));
    let (before, after) = (size(node.input.first(), layout), size(node.output.first(), layout));
    after == Some([1, 1]) && before.is_some_and(|before| before != [1, 1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::testing::Net;

    fn surveyed(net: &Net) -> Survey {
        survey(&net.0, InputSizes::default(), &HashMap::new())
    }

    fn ends(net: Net) -> Vec<(u32, u32)> {
        surveyed(&net).stages.into_iter().map(|(size, channels)| (size[0], channels)).collect()
    }

    /// A shortcut around a down-sampling bottleneck: the stage ends before the bottleneck narrows its channels.
    #[test]
    fn a_stage_ends_where_all_paths_go_through() {
        let net = Net::new(13)
            .input("image", "1 3 32 32")
            .conv("image", "stem", [3, 8], 3, 2, 1)
            .node("Relu stem -> in", "")
            .conv("in", "narrow", [8, 4], 1, 1, 1)
            .node("Relu narrow -> narrowed", "")
            .conv("narrowed", "mid", [4, 4], 3, 2, 1)
            .conv("mid", "wide", [4, 16], 1, 1, 1)
            .conv("in", "short", [8, 16], 1, 2, 1)
            .node("Add wide short -> sum", "")
            .node("Relu sum -> out", "")
            .node("GlobalAveragePool out -> pooled", "");
        assert_eq!(ends(net), [(16, 8), (8, 16)]);
    }

    #[test]
    fn an_inverted_bottleneck_begins_with_the_next_stage() {
        let net = |linear: bool| {
            Net::new(13)
                .input("image", "1 3 32 32")
                .conv("image", "project", [3, 8], 3, 2, 1)
                .node(if linear { "Identity project -> in" } else { "Relu project -> in" }, "")
                .conv("in", "expand", [8, 24], 1, 1, 1)
                // A hard swish as older exporters write it.
                .weight("three", &[])
                .node("Add expand three -> shifted", "")
                .node("Clip shifted -> clipped", "")
                .node("Mul expand clipped -> expanded", "")
                .conv("expanded", "depthwise", [24, 24], 3, 2, 24)
                .conv("depthwise", "next", [24, 12], 1, 1, 1)
        };
        assert_eq!(ends(net(true)), [(16, 8), (8, 12)]);
        // After an activation, the wide 1x1 convolution belongs to a block that ends with it.
        assert_eq!(ends(net(false)), [(16, 24), (8, 12)]);
    }

    #[test]
    fn necks_and_attention_do_not_end_a_stage() {
        let net = Net::new(13)
            .input("image", "1 3 32 32")
            .conv("image", "c1", [3, 8], 3, 2, 1)
            // Attention: one value for each channel.
            .node("GlobalAveragePool c1 -> pooled", "")
            .conv("pooled", "gate", [8, 8], 1, 1, 1)
            .node("Sigmoid gate -> gated", "")
            .node("Mul c1 gated -> a1", "")
            .conv("a1", "c2", [8, 16], 3, 2, 1)
            .conv("c2", "c3", [16, 32], 3, 2, 1)
            // A neck: up again, joined, and down again.
            .weight("scales", &[4])
            .node("Upsample c3 -> up", "scales=1.0,1.0,2.0,2.0")
            .conv("up", "narrow", [32, 4], 1, 1, 1)
            .conv("c2", "side", [16, 4], 1, 1, 1)
            .node("Add narrow side -> joined", "")
            .conv("joined", "down", [4, 4], 3, 2, 1);
        let survey = surveyed(&net);
        assert_eq!(survey.stages, [([16, 16], 8), ([8, 8], 16), ([4, 4], 32)]);
        let pooled: Vec<&str> = survey.convs.iter().filter(|c| c.pooled).map(|c| c.name.as_str()).collect();
        assert_eq!(pooled, ["Conv of gate"]);
    }

    #[test]
    fn channels_may_come_last() {
        let net = Net::new(9)
            .input("image", "N 32 32 3")
            .node("Transpose image -> x", "perm=0,3,1,2")
            .conv("x", "a", [3, 8], 3, 2, 1)
            .node("Transpose a -> last", "perm=0,2,3,1")
            .node("Relu last -> b", "")
            .node("Transpose b -> first", "perm=0,3,1,2")
            .conv("first", "c", [8, 16], 3, 2, 1)
            .node("Transpose c -> d", "perm=0,2,3,1")
            .node("ReduceMean d -> e", "axes=1,2 keepdims=0")
            .weight("dense", &[16, 10])
            .node("MatMul e dense -> f", "");
        let survey = surveyed(&net);
        assert_eq!(survey.stages, [([16, 16], 8), ([8, 8], 16)]);
        assert_eq!(survey.inputs, [("image".to_owned(), Some(vec![1, 32, 32, 3]))]);
        let dense = OtherLayers { count: 1, flops: Flops::from_multiply_adds(160), unknown: 0 };
        assert_eq!(survey.others, BTreeMap::from([("MatMul".to_owned(), dense)]));
    }

    #[test]
    fn what_is_not_counted_is_said() {
        let mut net = Net::new(9)
            .input("image", "1 3 H W")
            .conv("image", "a", [3, 8], 3, 2, 1)
            .weight("line", &[8, 8, 3])
            .input("sound", "1 8 20")
            .node("Conv sound line -> b", "");
        let body = net.0.graph.clone();
        net.graph().node[1].attribute.push(crate::onnx::proto::AttributeProto { g: body, ..Default::default() });
        let survey = surveyed(&net);
        assert_eq!(survey.unknown, ["Conv of a", "Conv of b"]);
        assert_eq!((survey.free, survey.inner, survey.convs.len()), (vec!["image".to_owned()], 2, 0));
    }

    /// Common ancestors found by short cuts are those found step by step.
    #[test]
    fn ancestors() {
        let mut net = Net::new(9).input("v0", "1");
        let mut state = 7_u64;
        for at in 1..300_u64 {
            let mut operand = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                // Mostly the one before, so that chains are long.
                if state >> 62 == 0 { (state >> 33) % at } else { at - 1 }
            };
            let (a, b) = (operand(), operand());
            net = net.node(&format!("Add v{a} v{b} -> v{at}"), "");
        }
        let shapes = infer(&net.0, InputSizes::default(), &HashMap::new());
        let trunk = Trunk::new(net.0.graph.as_ref().unwrap(), &shapes);
        let above = |mut at: Option<usize>| {
            let mut chain = vec![];
            while let Some(node) = at {
                chain.push(node);
                at = trunk.points[node].as_ref().unwrap().parent;
            }
            chain
        };
        for a in (0..299).step_by(7) {
            for b in (0..299).step_by(11) {
                let (of_a, of_b) = (above(Some(a)), above(Some(b)));
                let expected = of_a.iter().find(|node| of_b.contains(node)).copied();
                assert_eq!(trunk.common(Some(a), Some(b)), expected, "{a} {b}");
            }
        }
    }
}
