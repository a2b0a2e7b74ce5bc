//! What a model consists of, layer by layer: from the file alone, without running it.

use std::collections::{HashMap, HashSet};

use crate::conv::{Conv, ConvProblem};
use crate::onnx::check::label;
use crate::onnx::proto::{
    ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto, tensor_proto::DataType,
    tensor_shape_proto::dimension, type_proto,
};
use crate::onnx::shapes::{InputSizes, Shapes, infer, spatial};
use crate::tensor::{DType, element_count};
use crate::units::{Bytes, Flops};

/// A dimension in a file: a size, or a name for one that is free. Empty if neither is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileDim {
    /// A size, as the file has it: it may be one that no tensor can have.
    Fixed(i64),
    /// A free size with its name.
    Free(String),
}

/// Name, element type and dimensions of an input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Element type as ONNX names it, in lower case.
    pub element_type: String,
    /// Its dimensions; `None` if the file does not say.
    pub dims: Option<Vec<FileDim>>,
}

/// One node of the graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Name of the node.
    pub name: String,
    /// Its op.
    pub op: String,
    /// Window, stride and groups, for convolutions and pools.
    pub conv: Option<Conv>,
    /// Shape of its first result with a batch of one; `None` if it is not known.
    pub output: Option<Vec<u32>>,
    /// Values in its initializers.
    pub parameters: u64,
    /// Operations at a batch of one; `None` where they are not known.
    pub flops: Option<Flops>,
    /// Bytes of its operands, weights and results; `None` where a shape is not known.
    pub bytes: Option<Bytes>,
}

/// A model as a list of layers.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Name of the graph.
    pub name: String,
    /// Who wrote it.
    pub producer: String,
    /// IR version.
    pub ir_version: i64,
    /// Operator sets and their versions; the default one is `ai.onnx`.
    pub opsets: Vec<(String, i64)>,
    /// What has to be given.
    pub inputs: Vec<Port>,
    /// What is handed out.
    pub outputs: Vec<Port>,
    /// The nodes in order.
    pub layers: Vec<Layer>,
    /// Values in all initializers.
    pub parameters: u64,
    /// The metadata entries in order.
    pub metadata: Vec<(String, String)>,
}

/// Reads the layers of a model that [`check`](crate::onnx::check()) has passed.
///
/// Shapes are those the model has for its own input sizes, with a batch of one where that is free.
pub fn summarize(model: &ModelProto) -> Summary {
    summarize_at(model, InputSizes::default())
}

/// The same for these input sizes; shapes, operations and bytes are those of the whole batch.
pub fn summarize_at(model: &ModelProto, sizes: InputSizes) -> Summary {
    let default = Default::default();
    let graph = model.graph.as_ref().unwrap_or(&default);
    let parameters =
        |tensor: &TensorProto| tensor.dims.iter().fold(1u64, |n, &dim| n.saturating_mul(clamp(dim).into()));
    let weights: HashMap<&str, u64> = graph.initializer.iter().map(|t| (t.name(), parameters(t))).collect();
    let shapes = infer(model, sizes, &HashMap::new());
    let layers = graph.node.iter().map(|node| layer(node, &weights, &shapes)).collect();
    let opsets = model.opset_import.iter().map(|set| {
        let domain = if set.domain().is_empty() { "ai.onnx" } else { set.domain() };
        (domain.to_owned(), set.version())
    });
    let metadata = model.metadata_props.iter().map(|entry| (entry.key().to_owned(), entry.value().to_owned()));
    Summary {
        name: graph.name().to_owned(),
        producer: format!("{} {}", model.producer_name(), model.producer_version()).trim().to_owned(),
        ir_version: model.ir_version(),
        opsets: opsets.collect(),
        inputs: inputs(model),
        outputs: graph.output.iter().map(port).collect(),
        layers,
        parameters: weights.values().copied().fold(0, u64::saturating_add),
        metadata: metadata.collect(),
    }
}

/// What the model is given, as its file declares it. Inputs that are initializers as well need not be given.
pub fn inputs(model: &ModelProto) -> Vec<Port> {
    let Some(graph) = &model.graph else { return Vec::new() };
    let weights: HashSet<&str> = graph.initializer.iter().map(TensorProto::name).collect();
    graph.input.iter().filter(|input| !weights.contains(input.name())).map(port).collect()
}

/// What the model hands out, as its file declares it.
pub fn outputs(model: &ModelProto) -> Vec<Port> {
    model.graph.iter().flat_map(|graph| &graph.output).map(port).collect()
}

impl Summary {
    /// Operations of all layers at a batch of one, and how many layers they are not known of.
    pub fn flops(&self) -> (Flops, usize) {
        let known = self.layers.iter().filter_map(|layer| layer.flops).sum();
        (known, self.layers.iter().filter(|layer| layer.flops.is_none()).count())
    }
}

fn layer(node: &NodeProto, weights: &HashMap<&str, u64>, shapes: &Shapes<'_>) -> Layer {
    let inputs: Vec<_> = node.input.iter().filter(|name| !name.is_empty()).map(|name| shapes.of(name)).collect();
    let output = node.output.first().and_then(|name| shapes.of(name));
    let all = inputs.iter().copied().chain([output]).collect::<Option<Vec<_>>>();
    let bytes = all.map(|all| all.iter().map(|shape| Bytes(element_count(shape).saturating_mul(4))).sum());
    let own_weights = node.input.iter().filter_map(|name| weights.get(name.as_str()));
    Layer {
        name: label(node),
        op: node.op_type().to_owned(),
        conv: windowed(node, shapes),
        output: output.map(<[u32]>::to_vec),
        parameters: own_weights.copied().fold(0, u64::saturating_add),
        flops: flops(node, shapes),
        bytes,
    }
}

/// The window of a convolution or pool in two dimensions.
fn windowed(node: &NodeProto, shapes: &Shapes<'_>) -> Option<Conv> {
    let kernel = match node.op_type() {
        "Conv" | "FusedConv" | "ConvInteger" | "ConvTranspose" => node.input.get(1).and_then(|name| shapes.of(name)),
        "QLinearConv" => node.input.get(3).and_then(|name| shapes.of(name)),
        "MaxPool" | "AveragePool" => None,
        _ => return None,
    };
    // Without an input, padding that is to be worked out from its size stays unknown; nothing is computed from it then.
    let input =
        node.input.first().and_then(|name| shapes.of(name)).map_or(Some(&[0, 0][..]), |shape| shape.get(2..))?;
    spatial(node, kernel, input).ok()?.conv()
}

/// The convolution that a node computes; `None` for other ops, other than two dimensions and unknown shapes.
pub(super) fn problem(node: &NodeProto, shapes: &Shapes<'_>, dtype: DType) -> Option<ConvProblem> {
    if !matches!(node.op_type(), "Conv" | "FusedConv" | "ConvInteger" | "QLinearConv") {
        return None;
    }
    let (&[batch, channels, height, width], &[_, out_channels, _, _]) =
        (shapes.of(node.input.first()?)?, shapes.of(node.output.first()?)?)
    else {
        return None;
    };
    ConvProblem::new(windowed(node, shapes)?, batch, channels, out_channels, [height, width], dtype).ok()
}

/// Operations of a node; `None` where they are not known.
pub(super) fn flops(node: &NodeProto, shapes: &Shapes<'_>) -> Option<Flops> {
    let operand = node.input.first().and_then(|name| shapes.of(name));
    let elements = node.output.first().and_then(|name| shapes.of(name)).map(element_count);
    let window = || windowed(node, shapes).map(|conv| conv.window.map(u64::from)).map(|[height, width]| height * width);
    match node.op_type() {
        "Conv" | "FusedConv" | "ConvInteger" | "QLinearConv" => {
            problem(node, shapes, DType::F32).map(|problem| problem.flops())
        }
        // Every input element meets every tap of each output channel of its group.
        "ConvTranspose" => {
            let &[_, per_group, ..] = shapes.of(node.input.get(1)?)? else { return None };
            let taps = u64::from(per_group).saturating_mul(window()?);
            Some(Flops::from_multiply_adds(element_count(operand?).saturating_mul(taps)))
        }
        "Gemm" | "MatMul" => {
            let turned = node.attribute.iter().any(|a| a.name() == "transA" && a.i() != 0);
            let inner = if turned { *operand?.first()? } else { *operand?.last()? };
            Some(Flops::from_multiply_adds(elements?.saturating_mul(inner.into())))
        }
        "BatchNormalization" => Some(Flops::from_multiply_adds(elements?)),
        "Relu" | "Sigmoid" | "HardSigmoid" | "HardSwish" | "Clip" | "Add" | "Mul" | "Sub" | "Div" | "Tanh"
        | "LeakyRelu" | "PRelu" | "Exp" | "Sqrt" | "Pow" | "Max" | "Min" | "Sum" | "Erf" | "Neg" | "Abs" | "Floor"
        | "Ceil" => Some(Flops(elements?)),
        "MaxPool" | "AveragePool" => Some(Flops(elements?.saturating_mul(window()?))),
        "GlobalAveragePool" | "GlobalMaxPool" | "ReduceMean" => Some(Flops(element_count(operand?))),
        "Concat" | "ConstantOfShape" | "Expand" | "Flatten" | "Reshape" | "Identity" | "Pad" | "Transpose"
        | "Constant" | "Shape" | "Slice" | "Gather" | "Unsqueeze" | "Squeeze" | "Cast" | "Dropout" | "Split" => {
            Some(Flops::default())
        }
        _ => None,
    }
}

fn port(info: &ValueInfoProto) -> Port {
    let tensor = info.r#type.as_ref().and_then(|TypeProto { value, .. }| match value {
        Some(type_proto::Value::TensorType(tensor)) => Some(tensor),
        _ => None,
    });
    let element_type = tensor.and_then(|tensor| DataType::try_from(tensor.elem_type()).ok());
    let dims = tensor.and_then(|tensor| tensor.shape.as_ref()).map(|shape| {
        let dim = |value: &Option<dimension::Value>| match value {
            Some(dimension::Value::DimValue(n)) => FileDim::Fixed(*n),
            Some(dimension::Value::DimParam(name)) => FileDim::Free(name.clone()),
            None => FileDim::Free(String::new()),
        };
        shape.dim.iter().map(|d| dim(&d.value)).collect()
    });
    Port {
        name: info.name().to_owned(),
        element_type: element_type.map_or_else(|| "?".to_owned(), |ty| ty.as_str_name().to_lowercase()),
        dims,
    }
}

/// A dimension of a file as a size; what is out of range becomes the nearest that is not.
fn clamp(n: i64) -> u32 {
    u32::try_from(n.max(0)).unwrap_or(u32::MAX)
}
