//! What TensorRT's public documentation says of a model before TensorRT sees it. Every finding cites its page.

use std::collections::{HashMap, HashSet};

use crate::onnx::check::label;
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, tensor_proto::DataType};
use crate::onnx::shapes::{InputSizes, Layout, input_layout, stated};

/// Operators and their restrictions.
const OPERATORS: &str = "https://github.com/onnx/onnx-tensorrt/blob/main/docs/operators.md";
/// Operator sets that the parser reads.
const OPSETS: &str = "https://docs.nvidia.com/deeplearning/tensorrt/latest/reference/onnx-opset-guide.html";
/// Quantisation: types, zero points, where the nodes go.
const QUANTIZED: &str =
    "https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-with-quantized-types.html";
/// Dynamic dimensions and their profiles.
const DYNAMIC: &str = "https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-dynamic-shapes.html";
/// Precision is the graph's, and the command line without precision flags.
const STRONGLY_TYPED: &str =
    "https://docs.nvidia.com/deeplearning/tensorrt/latest/api/migration/tensorrt-10x-to-11x-trtexec.html";
/// Sizes that tensor cores like.
const LAYERS: &str =
    "https://docs.nvidia.com/deeplearning/tensorrt/10.16.1/performance/overhead-layer-optimization.html";

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// TensorRT does not build the model.
    Refused,
    /// It runs slower, or less precisely, than it could.
    Slow,
}

/// Something that TensorRT's documentation says of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The node or input; empty for the model as a whole.
    pub place: String,
    /// How bad it is.
    pub severity: Severity,
    /// What it is, in words.
    pub what: String,
    /// The page that says so.
    pub page: &'static str,
}

/// Operators of which the parser's table says that they are not supported.
const UNSUPPORTED: &[&str] = &[
    "BitShift",
    "Compress",
    "ConcatFromSequence",
    "ConvInteger",
    "DynamicQuantizeLinear",
    "MatMulInteger",
    "MaxUnpool",
    "QLinearConv",
    "QLinearMatMul",
    "RoiPool",
    "SequenceAt",
    "SequenceConstruct",
    "SequenceEmpty",
    "SequenceErase",
    "SequenceInsert",
    "SequenceLength",
    "SplitToSequence",
    "StringNormalizer",
    "TfIdfVectorizer",
    "Unique",
    "Multinomial",
    "Det",
];

/// Checks the model against the documentation. An empty list says that nothing in it is known to be a problem.
pub fn check_for_tensorrt(model: &ModelProto) -> Vec<Finding> {
    let Some(graph) = &model.graph else { return Vec::new() };
    let tensors: HashMap<&str, &TensorProto> = graph.initializer.iter().map(|t| (t.name(), t)).collect();
    let makers: HashMap<&str, &NodeProto> =
        graph.node.iter().flat_map(|node| node.output.iter().map(move |name| (name.as_str(), node))).collect();
    let mut users: HashMap<&str, Vec<&NodeProto>> = HashMap::new();
    for node in &graph.node {
        for name in &node.input {
            users.entry(name).or_default().push(node);
        }
    }
    let view = View { graph, tensors, makers, users };
    let mut findings = Vec::new();
    opset(model, &mut findings);
    dynamic(graph, &mut findings);
    for node in &graph.node {
        operator(node, &mut findings);
        view.quantisation(node, &mut findings);
        view.channels(node, &mut findings);
        view.pool(node, &mut findings);
    }
    findings
}

pub(super) fn finding(place: String, severity: Severity, what: String, page: &'static str) -> Finding {
    Finding { place, severity, what, page }
}

fn opset(model: &ModelProto, findings: &mut Vec<Finding>) {
    for set in &model.opset_import {
        let version = set.version();
        if matches!(set.domain(), "" | "ai.onnx") && !(9..=25).contains(&version) {
            let what = format!("opset {version} is not read; 9 to 25 are");
            findings.push(finding(String::new(), Severity::Refused, what, OPSETS));
        }
    }
}

fn dynamic(graph: &GraphProto, findings: &mut Vec<Finding>) {
    // Where only the batch is free, the command that is written for the model has a profile.
    let severity = if shapes(graph, InputSizes::default()).is_some() { Severity::Slow } else { Severity::Refused };
    for (input, dims) in free_dims(graph) {
        let what =
            format!("dimension {dims} is free: the engine needs a profile with the least, best and greatest size");
        findings.push(finding(input, severity, what, DYNAMIC));
    }
}

/// Names of inputs of which sizes are free, each with the places of those sizes.
pub(super) fn free_dims(graph: &GraphProto) -> Vec<(String, String)> {
    let free = |input: &ValueInfoProto| {
        let dims = stated(input)?;
        let free: Vec<String> =
            dims.iter().enumerate().filter(|(_, dim)| dim.is_err()).map(|(i, _)| i.to_string()).collect();
        (!free.is_empty()).then(|| (input.name().to_owned(), free.join(", ")))
    };
    graph.input.iter().filter_map(free).collect()
}

fn operator(node: &NodeProto, findings: &mut Vec<Finding>) {
    let op = node.op_type();
    if !matches!(node.domain(), "" | "ai.onnx") {
        let what = format!("the operator `{}:{op}` is none of ONNX and needs a plugin", node.domain());
        findings.push(finding(label(node), Severity::Refused, what, OPERATORS));
    } else if UNSUPPORTED.contains(&op) {
        let what = format!("the operator `{op}` is not supported");
        findings.push(finding(label(node), Severity::Refused, what, OPERATORS));
    }
}

struct View<'m> {
    graph: &'m GraphProto,
    tensors: HashMap<&'m str, &'m TensorProto>,
    makers: HashMap<&'m str, &'m NodeProto>,
    users: HashMap<&'m str, Vec<&'m NodeProto>>,
}

impl View<'_> {
    fn quantisation(&self, node: &NodeProto, findings: &mut Vec<Finding>) {
        let op = node.op_type();
        if !matches!(op, "QuantizeLinear" | "DequantizeLinear") {
            return;
        }
        let mut refuse = |what: String| findings.push(finding(label(node), Severity::Refused, what, QUANTIZED));
        if let Some(zero) = node.input.get(2).filter(|name| !name.is_empty()) {
            let tensor = self.tensors.get(zero.as_str());
            let ty = tensor.and_then(|tensor| DataType::try_from(tensor.data_type()).ok());
            match ty {
                Some(DataType::Uint8 | DataType::Uint16 | DataType::Int16 | DataType::Int32) => {
                    let ty = ty.map_or("", |ty| ty.as_str_name()).to_lowercase();
                    refuse(format!("it quantises to {ty}; of eight-bit integers only signed ones are supported"));
                }
                Some(_) if tensor.is_some_and(|tensor| !is_zero(tensor)) => {
                    refuse("its zero point is not 0; only symmetric quantisation is supported".to_owned());
                }
                Some(_) => {}
                None => refuse("its zero point is no constant".to_owned()),
            }
        } else if op == "QuantizeLinear" {
            refuse("it has no zero point and so quantises to uint8; only signed integers are supported".to_owned());
        }
        if node.input.get(1).is_some_and(|scale| !self.tensors.contains_key(scale.as_str())) {
            refuse("its scale is no constant".to_owned());
        }
        if op == "QuantizeLinear" {
            self.fusion(node, findings);
        }
    }

    /// A quantisation between a layer and its activation keeps the two from being one kernel.
    fn fusion(&self, quantize: &NodeProto, findings: &mut Vec<Finding>) {
        let maker = quantize.input.first().and_then(|name| self.makers.get(name.as_str()));
        let Some(layer) = maker.filter(|node| matches!(node.op_type(), "Conv" | "ConvTranspose" | "Gemm" | "MatMul"))
        else {
            return;
        };
        let next = |node: &NodeProto| -> Vec<&NodeProto> {
            node.output.first().and_then(|name| self.users.get(name.as_str())).cloned().unwrap_or_default()
        };
        let behind: Vec<&NodeProto> = next(quantize).into_iter().flat_map(next).collect();
        if let Some(activation) = behind.iter().find(|node| matches!(node.op_type(), "Relu" | "Clip" | "Sigmoid")) {
            let what = format!(
                "it stands between `{}` and `{}`, which otherwise are one kernel; quantise behind the activation",
                label(layer),
                label(activation)
            );
            findings.push(finding(label(quantize), Severity::Slow, what, QUANTIZED));
        }
    }

    fn channels(&self, node: &NodeProto, findings: &mut Vec<Finding>) {
        if node.op_type() != "Conv" {
            return;
        }
        let Some((ty, dims)) = node.input.get(1).and_then(|weight| self.weight(weight)) else { return };
        let multiple = match ty {
            DataType::Float16 | DataType::Bfloat16 => 8,
            DataType::Int8 => 32,
            _ => return,
        };
        let groups = node.attribute.iter().find(|a| a.name() == "group").map_or(1, |a| a.i());
        let [out, per_group] = dims[..2] else { return };
        let wide = [("in", per_group.saturating_mul(groups)), ("out", out)];
        // A model's images have three channels, and that is how it is.
        let is_image = node.input.first().is_some_and(|name| self.is_image(name));
        for (which, channels) in wide {
            if channels % multiple != 0 && !(which == "in" && is_image) {
                let what = format!(
                    "{channels} channels {which} are no multiple of {multiple}, to which tensor cores pad them"
                );
                findings.push(finding(label(node), Severity::Slow, what, LAYERS));
            }
        }
    }

    /// Whether a value is a model's input, or that cast or quantised.
    fn is_image(&self, name: &str) -> bool {
        let mut name = name;
        for _ in 0..4 {
            if self.graph.input.iter().any(|input| input.name() == name) {
                return true;
            }
            match self.makers.get(name) {
                Some(node) if matches!(node.op_type(), "Cast" | "QuantizeLinear" | "DequantizeLinear" | "Pad") => {
                    name = node.input.first().map_or("", String::as_str);
                }
                _ => return false,
            }
        }
        false
    }

    /// The type that a weight is stored in, and its dimensions; two at the least.
    fn weight(&self, name: &str) -> Option<(DataType, &[i64])> {
        let stored = match self.makers.get(name) {
            Some(node) if node.op_type() == "DequantizeLinear" => node.input.first()?.as_str(),
            _ => name,
        };
        let tensor = self.tensors.get(stored)?;
        (tensor.dims.len() >= 2).then_some((DataType::try_from(tensor.data_type()).ok()?, &tensor.dims))
    }

    fn pool(&self, node: &NodeProto, findings: &mut Vec<Finding>) {
        if !matches!(node.op_type(), "GlobalAveragePool" | "ReduceMean" | "ReduceSum" | "Softmax") {
            return;
        }
        let halves: HashSet<i32> = [DataType::Float16, DataType::Bfloat16].map(i32::from).into();
        let is_half = |name: &String| {
            let cast = self.makers.get(name.as_str()).filter(|node| node.op_type() == "Cast");
            let to = cast.and_then(|node| node.attribute.iter().find(|a| a.name() == "to")).map(|a| a.i());
            let info = self.graph.value_info.iter().find(|info| info.name() == name.as_str());
            let ty = info.and_then(|info| match info.r#type.as_ref()?.value.as_ref()? {
                crate::onnx::proto::type_proto::Value::TensorType(tensor) => Some(tensor.elem_type()),
                _ => None,
            });
            to.and_then(|to| i32::try_from(to).ok()).or(ty).is_some_and(|ty| halves.contains(&ty))
        };
        if node.input.first().is_some_and(is_half) {
            let what = "it sums over a whole map in half precision; cast to single precision before it".to_owned();
            findings.push(finding(label(node), Severity::Slow, what, STRONGLY_TYPED));
        }
    }
}

fn is_zero(tensor: &TensorProto) -> bool {
    tensor.raw_data.iter().flatten().all(|&byte| byte == 0) && tensor.int32_data.iter().all(|&n| n == 0)
}

/// The command that builds an engine of the model in this file, its shapes from the model's inputs. What they leave free is
/// one image up to eight, of the sizes given; `None` if a size is free and not given.
pub fn trtexec(model: &ModelProto, file: &str, sizes: InputSizes) -> Option<String> {
    let graph = model.graph.as_ref()?;
    let shapes = shapes(graph, sizes)?;
    let engine = format!("{}.engine", file.strip_suffix(".onnx").unwrap_or(file));
    let mut words = vec![format!("--onnx={file}"), format!("--saveEngine={engine}")];
    if !free_dims(graph).is_empty() {
        let flags = ["minShapes", "optShapes", "maxShapes"];
        words.extend(flags.iter().zip(&shapes).map(|(flag, shapes)| format!("--{flag}={}", shapes.join(","))));
    }
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    Some(format!("trtexec {}", words.join(" ")))
}

/// The least, best and greatest shapes of the inputs, each as `name:1x3x224x224`.
fn shapes(graph: &GraphProto, sizes: InputSizes) -> Option<[Vec<String>; 3]> {
    const BATCHES: [u32; 3] = [1, 1, 8];
    let tensors: HashSet<&str> = graph.initializer.iter().map(TensorProto::name).collect();
    let mut shapes: [Vec<String>; 3] = Default::default();
    for input in graph.input.iter().filter(|input| !tensors.contains(input.name())) {
        let dims = stated(input)?;
        let first = if input_layout(&dims) == Layout::Nhwc { 1 } else { 2 };
        for (shapes, batch) in shapes.iter_mut().zip(BATCHES) {
            let size = |(at, dim): (usize, &Result<u32, &str>)| match (dim, sizes.image) {
                (Ok(size), _) => Some(*size),
                (Err(_), _) if at == 0 => Some(sizes.batch.unwrap_or(batch)),
                (Err(_), Some(image)) if dims.len() == 4 && (first..first + 2).contains(&at) => Some(image[at - first]),
                (Err(_), _) => None,
            };
            let shape: Option<Vec<u32>> = dims.iter().enumerate().map(size).collect();
            let shape: Vec<String> = shape?.iter().map(ToString::to_string).collect();
            shapes.push(format!("{}:{}", input.name(), shape.join("x")));
        }
    }
    Some(shapes)
}

/// A word for a POSIX shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@%+".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}
