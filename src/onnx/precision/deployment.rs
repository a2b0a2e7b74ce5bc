//! What the public documentation of runtimes that are not here says of a model. Every finding cites its page.

use std::fmt;
use std::str::FromStr;

use super::tensorrt::{Finding, Severity, check_for_tensorrt, finding, free_dims};
use crate::onnx::check::label;
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto, tensor_proto::DataType};

/// A runtime that a model may be meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deployment {
    /// NVIDIA's TensorRT, by its own parser of ONNX.
    TensorRt,
    /// Intel's OpenVINO, by its own reader of ONNX.
    OpenVino,
    /// Apple's Core ML, by ONNX Runtime's execution provider.
    CoreMl,
    /// Microsoft's DirectML, by ONNX Runtime's execution provider.
    DirectMl,
}

impl Deployment {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::TensorRt, Self::OpenVino, Self::CoreMl, Self::DirectMl];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::TensorRt => "tensorrt",
            Self::OpenVino => "openvino",
            Self::CoreMl => "coreml",
            Self::DirectMl => "directml",
        }
    }
}

impl fmt::Display for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// There are no rules for a runtime of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there are no rules for `{name}`; there are some for tensorrt, openvino, coreml and directml")]
pub struct UnknownDeployment {
    name: String,
}

impl FromStr for Deployment {
    type Err = UnknownDeployment;

    fn from_str(name: &str) -> Result<Self, UnknownDeployment> {
        let found = Self::ALL.into_iter().find(|deployment| deployment.name() == name);
        found.ok_or_else(|| UnknownDeployment { name: name.to_owned() })
    }
}

/// Checks the model against the documentation. An empty list says that nothing in it is known to be a problem.
pub fn check_for(deployment: Deployment, model: &ModelProto) -> Vec<Finding> {
    let rules: fn(&GraphProto, i64, &mut Vec<Finding>) = match deployment {
        Deployment::TensorRt => return check_for_tensorrt(model),
        Deployment::OpenVino => openvino,
        Deployment::CoreMl => coreml,
        Deployment::DirectMl => directml,
    };
    let mut findings = Vec::new();
    if let Some(graph) = &model.graph {
        let set = model.opset_import.iter().find(|set| matches!(set.domain(), "" | "ai.onnx"));
        rules(graph, set.map_or(0, |set| set.version()), &mut findings);
    }
    findings
}

fn is_standard(node: &NodeProto) -> bool {
    matches!(node.domain(), "" | "ai.onnx")
}

/// Notes the nodes of other domains than ONNX's own and these.
fn foreign(node: &NodeProto, known: &[&str], page: &'static str, findings: &mut Vec<Finding>) -> bool {
    let is_foreign = !is_standard(node) && !known.contains(&node.domain());
    if is_foreign {
        let what = format!("the operator `{}:{}` is none of ONNX and is not listed", node.domain(), node.op_type());
        findings.push(finding(label(node), Severity::Refused, what, page));
    }
    is_foreign
}

/// Notes inputs of which sizes are free.
fn slow_where_free(graph: &GraphProto, why: &str, page: &'static str, findings: &mut Vec<Finding>) {
    for (input, dims) in free_dims(graph) {
        findings.push(finding(input, Severity::Slow, format!("dimension {dims} is free: {why}"), page));
    }
}

/// Notes weights of bfloat16.
fn refuse_bfloat(graph: &GraphProto, what: &str, page: &'static str, findings: &mut Vec<Finding>) {
    let is_bfloat = |ty: i32| ty == i32::from(DataType::Bfloat16);
    if let Some(weight) = graph.initializer.iter().find(|tensor| is_bfloat(tensor.data_type())) {
        findings.push(finding(weight.name().to_owned(), Severity::Refused, what.to_owned(), page));
    }
}

/// Operators of the ONNX frontend, with the versions it has.
const OPENVINO: &str =
    "https://github.com/openvinotoolkit/openvino/blob/master/src/frontends/onnx/docs/supported_ops.md";
/// Free dimensions.
const OPENVINO_DYNAMIC: &str =
    "https://docs.openvino.ai/2025/openvino-workflow/running-inference/model-input-output/dynamic-shapes.html";

/// Operators of ONNX for which the table has no supported version.
const OPENVINO_LACKS: &[&str] = &[
    "Bernoulli",
    "DeformConv",
    "Det",
    "ImageDecoder",
    "LpPool",
    "MaxUnpool",
    "MelWeightMatrix",
    "Optional",
    "OptionalGetElement",
    "OptionalHasElement",
    "RegexFullMatch",
    "SequenceMap",
    "StringConcat",
    "StringNormalizer",
    "StringSplit",
    "TfIdfVectorizer",
];

/// Operators that it takes only in certain patterns.
const OPENVINO_PATTERNS: &[&str] = &[
    "ConcatFromSequence",
    "SequenceAt",
    "SequenceConstruct",
    "SequenceEmpty",
    "SequenceErase",
    "SequenceInsert",
    "SequenceLength",
];

fn openvino(graph: &GraphProto, _: i64, findings: &mut Vec<Finding>) {
    let why = "it runs, but a model of fixed sizes is planned once and is faster; reshape it before it is compiled";
    slow_where_free(graph, why, OPENVINO_DYNAMIC, findings);
    for node in &graph.node {
        let op = node.op_type();
        if foreign(node, &["com.microsoft", "org.openvinotoolkit"], OPENVINO, findings) || !is_standard(node) {
            continue;
        }
        if OPENVINO_LACKS.contains(&op) {
            let what = format!("the operator `{op}` is not supported");
            findings.push(finding(label(node), Severity::Refused, what, OPENVINO));
        } else if OPENVINO_PATTERNS.contains(&op) {
            let what = format!("the operator `{op}` is supported only in certain patterns");
            findings.push(finding(label(node), Severity::Slow, what, OPENVINO));
        }
    }
}

/// Operators, in both formats, and options.
const COREML: &str = "https://onnxruntime.ai/docs/execution-providers/CoreML-ExecutionProvider.html";

/// Operators of the format MLProgram; `Constant` is none in the graph that is run.
const COREML_MLPROGRAM: &[&str] = &[
    "Add",
    "ArgMax",
    "AveragePool",
    "Cast",
    "Ceil",
    "Clip",
    "Concat",
    "Constant",
    "Conv",
    "ConvTranspose",
    "Cos",
    "DepthToSpace",
    "Div",
    "Elu",
    "Erf",
    "Exp",
    "GatherND",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GridSample",
    "GroupNormalization",
    "HardSigmoid",
    // A function of ONNX, which becomes a HardSigmoid and a Mul.
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "LayerNormalization",
    "LeakyRelu",
    "MatMul",
    "Max",
    "MaxPool",
    "Mul",
    "PRelu",
    "Pow",
    "Range",
    "Reciprocal",
    "ReduceMax",
    "ReduceMean",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Resize",
    "Round",
    "Shape",
    "Sigmoid",
    "Sin",
    "Slice",
    "Softmax",
    "Softplus",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Tanh",
    "Tile",
    "Transpose",
    "Unsqueeze",
];

/// Operators that the older format, NeuralNetwork, has and MLProgram has not.
const COREML_NEURAL_NETWORK: &[&str] = &["BatchNormalization", "Flatten", "Gather", "LRN", "Pad"];

fn coreml(graph: &GraphProto, _: i64, findings: &mut Vec<Finding>) {
    let why = "the provider takes it, but performance may suffer; fix it, or set `RequireStaticInputShapes`";
    slow_where_free(graph, why, COREML, findings);
    let what = "it is bfloat16, which the provider has no type for";
    refuse_bfloat(graph, what, COREML, findings);
    let constants: Vec<&str> = graph.initializer.iter().map(|tensor| tensor.name()).collect();
    for node in &graph.node {
        let op = node.op_type();
        if foreign(node, &[], COREML, findings) {
            continue;
        }
        if COREML_NEURAL_NETWORK.contains(&op) {
            let what =
                format!("the operator `{op}` is only in the format NeuralNetwork; in MLProgram the processor runs it");
            findings.push(finding(label(node), Severity::Slow, what, COREML));
        } else if !COREML_MLPROGRAM.contains(&op) {
            let what = format!("the operator `{op}` is not listed; it is left to the processor");
            findings.push(finding(label(node), Severity::Refused, what, COREML));
        }
        let rank = |tensor: &str| graph.initializer.iter().find(|t| t.name() == tensor).map(|t| t.dims.len());
        let weight = node.input.get(1).map(String::as_str);
        if op == "Conv" && weight.and_then(rank).is_some_and(|rank| rank > 4) {
            let what = "it convolves in three dimensions; one and two are supported".to_owned();
            findings.push(finding(label(node), Severity::Refused, what, COREML));
        }
        let is_made = |name: &String| !name.is_empty() && !constants.contains(&name.as_str());
        if op == "Conv" && node.input.get(2).is_some_and(is_made) {
            let what = "its bias is no constant".to_owned();
            findings.push(finding(label(node), Severity::Refused, what, COREML));
        }
        if op == "Gemm" && node.input.get(1).is_some_and(is_made) {
            let what = "its second operand is no constant".to_owned();
            findings.push(finding(label(node), Severity::Refused, what, COREML));
        }
    }
}

/// Operators and their types, in the part of `DmlExecutionProvider`.
const DIRECTML: &str = "https://github.com/microsoft/onnxruntime/blob/main/docs/OperatorKernels.md";
/// Operator sets, and how sessions are to be made.
const DIRECTML_PROVIDER: &str = "https://onnxruntime.ai/docs/execution-providers/DirectML-ExecutionProvider.html";

/// Operators that the table does not have for this provider, and that are no functions of others.
const DIRECTML_LACKS: &[&str] = &[
    "Bernoulli",
    "Compress",
    "DeformConv",
    "Det",
    "ImageDecoder",
    "Loop",
    "MelWeightMatrix",
    "Multinomial",
    "NonMaxSuppression",
    "Optional",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "RegexFullMatch",
    "Scan",
    "SequenceMap",
    "SplitToSequence",
    "StringConcat",
    "StringNormalizer",
    "StringSplit",
    "TfIdfVectorizer",
    "Unique",
];

fn directml(graph: &GraphProto, opset: i64, findings: &mut Vec<Finding>) {
    const NEWEST: i64 = 20;
    if opset > NEWEST {
        let what = format!("opset {opset} is newer than {NEWEST}, the newest supported: expect poor performance");
        findings.push(finding(String::new(), Severity::Slow, what, DIRECTML_PROVIDER));
    }
    let why = "the provider plans best for fixed sizes; fix them with `AddFreeDimensionOverrideByName`";
    slow_where_free(graph, why, DIRECTML_PROVIDER, findings);
    refuse_bfloat(graph, "it is bfloat16; of halves the provider has only float16", DIRECTML, findings);
    for node in &graph.node {
        let op = node.op_type();
        if foreign(node, &["com.microsoft"], DIRECTML, findings) || !is_standard(node) {
            continue;
        }
        if DIRECTML_LACKS.contains(&op) {
            let what = format!("the operator `{op}` is not listed; it is left to the processor");
            findings.push(finding(label(node), Severity::Refused, what, DIRECTML));
        }
    }
}
