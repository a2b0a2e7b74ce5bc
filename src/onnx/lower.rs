//! From a graph to ONNX messages: one exhaustive match from op to node, no decisions.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use prost::bytes::Bytes;

use crate::ir::{Activation, Def, Graph, Op, Value, ValueId, Weight, WeightId, Window};
use crate::onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto::AttributeType, tensor_proto::DataType,
    tensor_shape_proto::Dimension, tensor_shape_proto::dimension, type_proto,
};
use crate::tensor::{DType, Dim, TensorType};

/// A version of ONNX's default operator set that models can be written in: 13 to 21.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Opset(u8);

/// The text is no supported operator set version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an opset from {} to {}", Opset::OLDEST, Opset::NEWEST)]
pub struct UnknownOpset {
    text: String,
}

impl Opset {
    /// The oldest that is written.
    pub const OLDEST: Self = Self(13);
    /// The newest that is written.
    pub const NEWEST: Self = Self(21);

    /// Its number.
    pub fn version(self) -> i64 {
        self.0.into()
    }

    /// The IR version released together with it (ONNX, `docs/Versioning.md`).
    pub fn ir_version(self) -> i64 {
        match self.0 {
            ..=14 => 7,
            15..=18 => 8,
            19..=20 => 9,
            21.. => 10,
        }
    }

    /// All that are written, oldest first.
    pub fn all() -> impl Iterator<Item = Self> {
        (Self::OLDEST.0..=Self::NEWEST.0).map(Self)
    }
}

impl Default for Opset {
    fn default() -> Self {
        Self(17)
    }
}

impl fmt::Display for Opset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for Opset {
    type Err = UnknownOpset;

    fn from_str(text: &str) -> Result<Self, UnknownOpset> {
        let version = text.parse().map(Self).ok();
        version
            .filter(|v| (Self::OLDEST..=Self::NEWEST).contains(v))
            .ok_or_else(|| UnknownOpset { text: text.to_owned() })
    }
}

/// How a model is written.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Operator set.
    pub opset: Opset,
    /// Entries of the model's `metadata_props`, in this order.
    pub metadata: Vec<(String, String)>,
}

/// A model without the values of its weights, and the recipes for them.
///
/// It writes itself with [`write`](Self::write).
#[derive(Debug, Clone)]
pub struct Lowered {
    /// The model; its graph has no initializers yet.
    pub(super) model: ModelProto,
    /// The initializers in the order in which they are written.
    pub(super) initializers: Vec<Initializer>,
}

/// An initializer: its header, and where its values come from.
#[derive(Debug, Clone)]
pub(super) struct Initializer {
    pub(super) tensor: TensorProto,
    pub(super) values: Values,
}

/// Values of an initializer.
#[derive(Debug, Clone)]
pub(super) enum Values {
    /// Made from this recipe, in this type.
    Weight { weight: Weight, dtype: DType },
    /// Small constants that the ops themselves need, as the bytes in the file.
    Raw(Bytes),
}

/// The ONNX model that computes what the graph does.
pub fn lower(graph: &Graph, options: &Options) -> Lowered {
    let mut lowering = Lowering {
        graph,
        names: tensor_names(graph),
        nodes: Vec::new(),
        inner: Vec::new(),
        initializers: Vec::new(),
        known: HashSet::new(),
        taken: names_in_graph(graph),
    };
    for (id, value) in graph.values() {
        lowering.value(id, value);
    }
    lowering.extra_outputs();
    let proto = GraphProto {
        name: Some(graph.name().to_owned()),
        input: graph.inputs().map(|(_, value)| value_info(value.path(), value.ty())).collect(),
        output: graph.outputs().iter().map(|o| value_info(&o.name, graph.value(o.value).ty())).collect(),
        value_info: lowering.inner,
        node: lowering.nodes,
        ..GraphProto::default()
    };
    let metadata = options.metadata.iter().map(|(key, value)| entry(key, value)).collect();
    Lowered {
        model: ModelProto {
            ir_version: Some(options.opset.ir_version()),
            opset_import: vec![OperatorSetIdProto {
                domain: Some(String::new()),
                version: Some(options.opset.version()),
            }],
            producer_name: Some(env!("CARGO_PKG_NAME").to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            graph: Some(proto),
            metadata_props: metadata,
            ..ModelProto::default()
        },
        initializers: lowering.initializers,
    }
}

/// A key and its value.
pub(super) fn entry(key: &str, value: &str) -> StringStringEntryProto {
    StringStringEntryProto { key: Some(key.to_owned()), value: Some(value.to_owned()) }
}

/// Name of every value's tensor: the output's if it is one, else its path.
fn tensor_names(graph: &Graph) -> Vec<String> {
    let mut names: Vec<String> = graph.values().map(|(_, value)| value.path().to_owned()).collect();
    // From the last to the first, so that a value with several output names gets the first of them.
    for output in graph.outputs().iter().rev() {
        if graph.value(output.value).def() != &Def::Input {
            names[output.value.index()].clone_from(&output.name);
        }
    }
    names
}

/// Every name in the graph: those of its values, weights and outputs.
fn names_in_graph(graph: &Graph) -> HashSet<String> {
    let values = graph.values().map(|(_, value)| value.path());
    let weights = graph.weights().map(|(_, weight)| weight.name());
    let outputs = graph.outputs().iter().map(|output| output.name.as_str());
    values.chain(weights).chain(outputs).map(str::to_owned).collect()
}

struct Lowering<'a> {
    graph: &'a Graph,
    names: Vec<String>,
    nodes: Vec<NodeProto>,
    /// Types of the tensors that are neither inputs nor outputs.
    inner: Vec<ValueInfoProto>,
    initializers: Vec<Initializer>,
    /// Names of the weights that are initializers already.
    known: HashSet<String>,
    /// Names of all tensors.
    taken: HashSet<String>,
}

impl Lowering<'_> {
    fn value(&mut self, id: ValueId, value: &Value) {
        let Def::Op { op, args } = value.def() else { return };
        self.nodes_of(id, value, op, args);
        if self.graph.outputs().iter().all(|output| output.value != id) {
            self.inner.push(value_info(&self.names[id.index()], value.ty()));
        }
    }

    fn nodes_of(&mut self, id: ValueId, value: &Value, op: &Op, args: &[ValueId]) {
        let dtype = value.ty().dtype;
        let mut inputs: Vec<String> = args.iter().map(|arg| self.names[arg.index()].clone()).collect();
        let output = self.names[id.index()].clone();
        let weights: Vec<WeightId> = op.weights().collect();
        let node = |lowering: &mut Self, inputs, op_type, attributes| {
            lowering.node(&format!("/{}", value.path().replace('.', "/")), op_type, inputs, &output, attributes);
        };
        match op {
            Op::Conv { conv, .. } => {
                inputs.extend(self.weights(&weights, dtype));
                let attributes = vec![
                    ints("dilations", &conv.dilation),
                    int("group", conv.groups),
                    ints("kernel_shape", &conv.window),
                    ints("pads", &conv.padding),
                    ints("strides", &conv.stride),
                ];
                node(self, inputs, "Conv", attributes);
            }
            Op::BatchNorm { epsilon, .. } => {
                inputs.extend(self.weights(&weights, dtype));
                node(self, inputs, "BatchNormalization", vec![float("epsilon", *epsilon)]);
            }
            Op::Affine { .. } => {
                let [scale, bias] = self.two_weights(&weights, dtype);
                let product = self.fresh(&format!("{}.scaled", value.path()));
                let name = format!("/{}/scale", value.path().replace('.', "/"));
                inputs.push(scale);
                self.node(&name, "Mul", inputs, &product, Vec::new());
                self.inner.push(value_info(&product, value.ty()));
                node(self, vec![product, bias], "Add", Vec::new());
            }
            Op::Activation(Activation::Relu) => node(self, inputs, "Relu", Vec::new()),
            Op::Activation(Activation::Sigmoid) => node(self, inputs, "Sigmoid", Vec::new()),
            Op::Activation(Activation::Clip { min, max }) => {
                let bound = |lowering: &mut Self, what: &str, bound: &Option<f32>| {
                    let Some(bound) = bound else { return String::new() };
                    lowering.constant(&format!("{}.{what}", value.path()), dtype, &[], encode(dtype, &[*bound]))
                };
                inputs.push(bound(self, "min", min));
                inputs.push(bound(self, "max", max));
                // Inputs left out at the end are not written.
                while inputs.last().is_some_and(String::is_empty) {
                    inputs.pop();
                }
                node(self, inputs, "Clip", Vec::new());
            }
            Op::Add => node(self, inputs, "Add", Vec::new()),
            Op::Gate => node(self, inputs, "Mul", Vec::new()),
            Op::Concat => node(self, inputs, "Concat", vec![int("axis", 1)]),
            Op::Pad([top, left, bottom, right]) => {
                let pads = [0, 0, *top, *left, 0, 0, *bottom, *right];
                let bytes = pads.iter().flat_map(|&n| i64::from(n).to_le_bytes()).collect::<Vec<u8>>();
                let name = format!("{}.pads", value.path());
                inputs.push(self.raw_constant(&name, DataType::Int64, &[8], bytes));
                node(self, inputs, "Pad", Vec::new());
            }
            Op::MaxPool(window) => node(self, inputs, "MaxPool", pool_attributes(window)),
            Op::AveragePool(window) => node(self, inputs, "AveragePool", pool_attributes(window)),
            Op::GlobalAveragePool => node(self, inputs, "GlobalAveragePool", Vec::new()),
            Op::Flatten => node(self, inputs, "Flatten", vec![int("axis", 1)]),
            Op::Linear { .. } => {
                inputs.extend(self.weights(&weights, dtype));
                node(self, inputs, "Gemm", vec![int("transB", 1)]);
            }
        }
    }

    /// Outputs that are an input, or the second name of a value, are copies of it.
    fn extra_outputs(&mut self) {
        for output in self.graph.outputs() {
            let tensor = self.names[output.value.index()].clone();
            if tensor != output.name {
                self.node(&format!("/{}", output.name), "Identity", vec![tensor], &output.name, Vec::new());
            }
        }
    }

    fn node(&mut self, name: &str, op: &str, input: Vec<String>, output: &str, attribute: Vec<AttributeProto>) {
        self.nodes.push(node(name, op, input, output, attribute));
    }

    /// Adds the weights as initializers, once each; their names.
    fn weights(&mut self, ids: &[WeightId], dtype: DType) -> Vec<String> {
        ids.iter().map(|&id| self.initializer(self.graph.weight(id), dtype)).collect()
    }

    fn two_weights(&mut self, ids: &[WeightId], dtype: DType) -> [String; 2] {
        let mut names = self.weights(ids, dtype).into_iter();
        [names.next().unwrap_or_default(), names.next().unwrap_or_default()]
    }

    fn initializer(&mut self, weight: &Weight, dtype: DType) -> String {
        let name = weight.name().to_owned();
        if self.known.insert(name.clone()) {
            let tensor = tensor_header(&name, data_type(dtype), weight.shape());
            self.initializers.push(Initializer { tensor, values: Values::Weight { weight: weight.clone(), dtype } });
        }
        name
    }

    fn constant(&mut self, name: &str, dtype: DType, shape: &[u32], bytes: Vec<u8>) -> String {
        self.raw_constant(name, data_type(dtype), shape, bytes)
    }

    fn raw_constant(&mut self, name: &str, data_type: DataType, shape: &[u32], bytes: Vec<u8>) -> String {
        let name = self.fresh(name);
        let tensor = tensor_header(&name, data_type, shape);
        self.initializers.push(Initializer { tensor, values: Values::Raw(bytes.into()) });
        name
    }

    /// A name for a tensor that the graph does not know: this one, with underscores behind it if it is taken.
    fn fresh(&mut self, name: &str) -> String {
        fresh(&mut self.taken, name)
    }
}

/// A name that is not taken yet, and is from now on: this one, with underscores behind it if it has to be.
pub(super) fn fresh(taken: &mut HashSet<String>, name: &str) -> String {
    let mut name = name.to_owned();
    while !taken.insert(name.clone()) {
        name.push('_');
    }
    name
}

/// A node of one result.
pub(super) fn node(
    name: &str,
    op: &str,
    input: Vec<String>,
    output: &str,
    attribute: Vec<AttributeProto>,
) -> NodeProto {
    NodeProto {
        name: Some(name.to_owned()),
        op_type: Some(op.to_owned()),
        input,
        output: vec![output.to_owned()],
        attribute,
        ..NodeProto::default()
    }
}

fn pool_attributes(window: &Window) -> Vec<AttributeProto> {
    vec![ints("kernel_shape", &window.size), ints("pads", &window.padding), ints("strides", &window.stride)]
}

fn attribute(name: &str, ty: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), r#type: Some(ty.into()), ..AttributeProto::default() }
}

fn int(name: &str, value: u32) -> AttributeProto {
    AttributeProto { i: Some(value.into()), ..attribute(name, AttributeType::Int) }
}

fn ints(name: &str, values: &[u32]) -> AttributeProto {
    AttributeProto { ints: values.iter().map(|&n| n.into()).collect(), ..attribute(name, AttributeType::Ints) }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, AttributeType::Float) }
}

pub(super) fn data_type(dtype: DType) -> DataType {
    match dtype {
        DType::F32 => DataType::Float,
        DType::F16 => DataType::Float16,
        DType::BF16 => DataType::Bfloat16,
        DType::I8 => DataType::Int8,
    }
}

pub(super) fn tensor_header(name: &str, data_type: DataType, shape: &[u32]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        data_type: Some(data_type.into()),
        dims: shape.iter().map(|&n| n.into()).collect(),
        ..TensorProto::default()
    }
}

fn value_info(name: &str, ty: &TensorType) -> ValueInfoProto {
    let dim = ty
        .dims
        .iter()
        .map(|dim| {
            let value = match dim {
                Dim::Fixed(n) => dimension::Value::DimValue((*n).into()),
                Dim::Batch | Dim::Side(_) => dimension::Value::DimParam(dim.to_string()),
            };
            Dimension { value: Some(value), ..Dimension::default() }
        })
        .collect();
    let tensor =
        type_proto::Tensor { elem_type: Some(data_type(ty.dtype).into()), shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}

/// The values as they stand in a file: little-endian elements of this type.
pub(super) fn encode(dtype: DType, values: &[f32]) -> Vec<u8> {
    match dtype {
        DType::F32 => little_endian(values, f32::to_le_bytes),
        DType::F16 => little_endian(values, |v| half::f16::from_f32(v).to_le_bytes()),
        DType::BF16 => little_endian(values, |v| half::bf16::from_f32(v).to_le_bytes()),
        DType::I8 => little_endian(values, |v| (v.round() as i8).to_le_bytes()),
    }
}

fn little_endian<const N: usize>(values: &[f32], element: impl Fn(f32) -> [u8; N]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * N];
    for (bytes, &value) in bytes.as_chunks_mut::<N>().0.iter_mut().zip(values) {
        *bytes = element(value);
    }
    bytes
}
