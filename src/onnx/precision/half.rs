//! Half precision: typed values and weights, casts at the borders only.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::draft::{Draft, set_type, tensor};
use super::rules::{HalfRule, follows, half_rule};
use super::{NEWEST_OPSET, PrecisionError};
use crate::onnx::check::label;
use crate::onnx::keys;
use crate::onnx::lower::{data_type, node};
use crate::onnx::proto::{
    AttributeProto, ModelProto, NodeProto, TensorProto, attribute_proto::AttributeType, tensor_proto::DataType,
};
use crate::tensor::DType;

/// A type of floating point in 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// IEEE 754 half precision: eleven significant bits, up to 65504.
    F16,
    /// The upper half of a single: eight significant bits, the range of single precision.
    BF16,
}

impl Half {
    /// As the command line and the metadata name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "fp16",
            Self::BF16 => "bf16",
        }
    }

    /// The element type.
    pub fn dtype(self) -> DType {
        match self {
            Self::F16 => DType::F16,
            Self::BF16 => DType::BF16,
        }
    }

    /// The greatest finite value.
    pub fn max(self) -> f32 {
        match self {
            Self::F16 => half::f16::MAX.to_f32(),
            Self::BF16 => half::bf16::MAX.to_f32(),
        }
    }

    /// The value that this one is rounded to, to nearest, ties to even.
    pub fn round(self, value: f32) -> f32 {
        match self {
            Self::F16 => half::f16::from_f32(value).to_f32(),
            Self::BF16 => half::bf16::from_f32(value).to_f32(),
        }
    }

    /// The smallest positive value of full precision.
    fn min_normal(self) -> f32 {
        match self {
            Self::F16 => half::f16::MIN_POSITIVE.to_f32(),
            Self::BF16 => half::bf16::MIN_POSITIVE.to_f32(),
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct HalfOptions<'a> {
    /// The type.
    pub half: Half,
    /// Whether inputs and outputs take the type too; they stay in single precision if not.
    pub ports: bool,
    /// Values that do not fit the type: whatever makes or takes them stays in single precision.
    pub keep: &'a HashSet<String>,
}

/// What rounding does to a weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rounding {
    /// The weight.
    pub weight: String,
    /// How many values it has.
    pub values: usize,
    /// Values that are not zero and became zero.
    pub zeroed: usize,
    /// Values that lost precision because they are below the smallest normal one.
    pub denormal: usize,
    /// Values beyond the range. The nodes that take such a weight stay in single precision.
    pub beyond: usize,
}

/// A model in half precision, and what had to be decided.
#[derive(Debug, Clone)]
pub struct HalfModel {
    /// The model.
    pub model: ModelProto,
    /// Nodes that stay in single precision because they sum over more than a window.
    pub accumulating: Vec<String>,
    /// Nodes that stay in single precision because a value or weight does not fit.
    pub kept: Vec<String>,
    /// Weights of which values lost more than their last bits.
    pub rounded: Vec<Rounding>,
    /// Element types of all values.
    types: HashMap<String, DataType>,
}

/// The model in half precision.
///
/// # Errors
/// If something in it has no rule.
pub fn to_half(model: &ModelProto, options: &HalfOptions<'_>) -> Result<HalfModel, PrecisionError> {
    let mut draft = Draft::of(model)?;
    if draft.opset() > NEWEST_OPSET {
        return Err(PrecisionError::TooNew { opset: draft.opset(), newest: NEWEST_OPSET });
    }
    if options.half == Half::BF16 {
        upgrade(&mut draft)?;
    }
    draft.metadata(keys::PRECISION, options.half.name());
    let mut conversion = Conversion {
        half: options.half,
        ty: data_type(options.half.dtype()),
        casts: HashMap::new(),
        halves: HashMap::new(),
        nodes: Vec::new(),
        roundings: BTreeMap::new(),
        accumulating: Vec::new(),
        kept: Vec::new(),
        draft,
    };
    conversion.ports(options.ports);
    for node in std::mem::take(&mut conversion.draft.graph.node) {
        conversion.node(node, options.keep);
    }
    conversion.outputs(options.ports);
    let Conversion { mut draft, nodes, roundings, accumulating, kept, .. } = conversion;
    draft.graph.node = nodes;
    let types = draft.types.clone();
    let rounded = roundings.into_values().filter(|r| r.zeroed + r.denormal + r.beyond > 0).collect();
    Ok(HalfModel { model: draft.into_model(), accumulating, kept, rounded, types })
}

struct Conversion {
    half: Half,
    ty: DataType,
    draft: Draft,
    /// The cast of a value to a type.
    casts: HashMap<(String, DataType), String>,
    /// The rounded form of a constant, if it is not the constant itself.
    halves: HashMap<String, String>,
    nodes: Vec<NodeProto>,
    roundings: BTreeMap<String, Rounding>,
    accumulating: Vec<String>,
    kept: Vec<String>,
}

impl Conversion {
    fn ports(&mut self, ports: bool) {
        for input in &mut self.draft.graph.input {
            let name = input.name().to_owned();
            if ports && self.draft.types.get(&name) == Some(&DataType::Float) {
                set_type(input, self.ty);
                self.draft.types.insert(name, self.ty);
            }
        }
    }

    fn node(&mut self, mut node: NodeProto, keep: &HashSet<String>) {
        let rule = half_rule(node.op_type()).unwrap_or(HalfRule::Single);
        let misfit = rule == HalfRule::Half
            && (node.input.iter().chain(&node.output).any(|name| keep.contains(name))
                || node.input.iter().any(|name| self.is_beyond(name)));
        let wanted = if rule == HalfRule::Half && !misfit { self.ty } else { DataType::Float };
        let floats = node.output.iter().filter(|name| self.draft.types.get(*name) == Some(&DataType::Float)).count();
        if floats > 0 && misfit {
            self.kept.push(label(&node));
        } else if floats > 0 && rule == HalfRule::Single {
            self.accumulating.push(label(&node));
        }
        for operand in 0..node.input.len() {
            let stays = rule == HalfRule::Stated || !follows(&node, operand);
            if !stays && self.is_float(&node.input[operand]) {
                node.input[operand] = self.as_type(&node.input[operand].clone(), wanted);
            }
        }
        for name in &node.output {
            // What states its type keeps it.
            if rule == HalfRule::Half && self.draft.types.get(name) == Some(&DataType::Float) {
                self.draft.types.insert(name.clone(), wanted);
            }
        }
        self.nodes.push(node);
    }

    fn is_float(&self, name: &str) -> bool {
        self.draft.types.get(name).is_some_and(|ty| *ty == DataType::Float || *ty == self.ty)
    }

    fn is_beyond(&mut self, name: &str) -> bool {
        self.rounding(name).is_some_and(|rounding| rounding.beyond > 0)
    }

    /// What rounding does to a constant.
    fn rounding(&mut self, name: &str) -> Option<&Rounding> {
        if !self.roundings.contains_key(name) {
            let values = self.draft.values(name)?;
            let half = self.half;
            let count = |test: &dyn Fn(f32) -> bool| values.iter().filter(|&&v| test(v)).count();
            let rounding = Rounding {
                weight: name.to_owned(),
                values: values.len(),
                zeroed: count(&|v| v != 0.0 && half.round(v) == 0.0),
                denormal: count(&|v| half.round(v) != 0.0 && v.abs() < half.min_normal() && half.round(v) != v),
                beyond: count(&|v| v.is_finite() && !half.round(v).is_finite()),
            };
            self.roundings.insert(name.to_owned(), rounding);
        }
        self.roundings.get(name)
    }

    /// The name of a value of floating point in this type: itself, or a cast or a rounded constant that is made for it.
    fn as_type(&mut self, name: &str, wanted: DataType) -> String {
        if self.draft.types.get(name) == Some(&wanted) {
            return name.to_owned();
        }
        if self.draft.constants.contains_key(name) {
            return self.rounded(name);
        }
        if let Some(cast) = self.casts.get(&(name.to_owned(), wanted)) {
            return cast.clone();
        }
        let suffix = if wanted == DataType::Float { "fp32" } else { self.half.name() };
        let cast = self.draft.fresh(&format!("{name}.{suffix}"));
        self.cast(name, &cast, wanted);
        self.casts.insert((name.to_owned(), wanted), cast.clone());
        cast
    }

    fn cast(&mut self, from: &str, to: &str, ty: DataType) {
        let label = self.draft.fresh(&format!("{to}.cast"));
        self.nodes.push(cast_node(&label, from, to, ty));
        self.draft.types.insert(to.to_owned(), ty);
    }

    /// A constant in half precision, under its own name where nothing needs it in single precision.
    fn rounded(&mut self, name: &str) -> String {
        if let Some(rounded) = self.halves.get(name) {
            return rounded.clone();
        }
        let values = self.draft.values(name).unwrap_or_default();
        let dims = self.draft.constants[name].dims.clone();
        let rounded = self.draft.fresh(&format!("{name}.{}", self.half.name()));
        self.draft.constant(tensor(&rounded, self.half.dtype(), dims, &values));
        self.halves.insert(name.to_owned(), rounded.clone());
        rounded
    }

    fn outputs(&mut self, ports: bool) {
        for place in 0..self.draft.graph.output.len() {
            let name = self.draft.graph.output[place].name().to_owned();
            let Some(ty) = self.draft.types.get(&name).copied() else { continue };
            if ports && ty == self.ty {
                set_type(&mut self.draft.graph.output[place], ty);
            }
            let wanted = if ports { self.ty } else { DataType::Float };
            if !matches!(ty, DataType::Float | DataType::Float16 | DataType::Bfloat16) || ty == wanted {
                continue;
            }
            let is_input = self.draft.graph.input.iter().any(|input| input.name() == name);
            if is_input || self.draft.constants.contains_key(&name) {
                continue;
            }
            // The output keeps its name, what it is cast from gets another.
            let suffix = if ty == DataType::Float { "fp32" } else { self.half.name() };
            let inner = self.draft.fresh(&format!("{name}.{suffix}"));
            for node in &mut self.nodes {
                for used in node.input.iter_mut().chain(&mut node.output).filter(|used| **used == name) {
                    used.clone_from(&inner);
                }
            }
            self.draft.types.insert(inner.clone(), ty);
            self.cast(&inner, &name, wanted);
            set_type(&mut self.draft.graph.output[place], wanted);
        }
        // A constant that only exists rounded takes its own name back.
        let used: HashSet<String> = self.nodes.iter().flat_map(|node| node.input.clone()).collect();
        let mut renamed: HashMap<String, String> = HashMap::new();
        for (name, rounded) in &self.halves {
            if !used.contains(name) && !self.draft.is_output(name) {
                renamed.insert(rounded.clone(), name.clone());
            }
        }
        for node in &mut self.nodes {
            for used in &mut node.input {
                if let Some(name) = renamed.get(used) {
                    used.clone_from(name);
                }
            }
        }
        for (rounded, name) in renamed {
            let Some(tensor) = self.draft.constants.remove(&rounded) else { continue };
            self.draft.constant(TensorProto { name: Some(name), ..tensor });
        }
    }
}

/// A cast to an element type.
pub(super) fn cast_node(name: &str, from: &str, to: &str, ty: DataType) -> NodeProto {
    let attribute = AttributeProto {
        name: Some("to".to_owned()),
        r#type: Some(AttributeType::Int.into()),
        i: Some(i32::from(ty).into()),
        ..AttributeProto::default()
    };
    node(name, "Cast", vec![from.to_owned()], to, vec![attribute])
}

/// Convolutions of bfloat16 exist from operator set 22 on.
fn upgrade(draft: &mut Draft) -> Result<(), PrecisionError> {
    const NEEDED: i64 = 13;
    let opset = draft.opset();
    if opset < NEEDED {
        return Err(PrecisionError::Opset { opset, needed: NEEDED, precision: "bf16" });
    }
    for place in 0..draft.graph.node.len() {
        let node = &mut draft.graph.node[place];
        let op = node.op_type().to_owned();
        if op == "GroupNormalization" && opset < 21 {
            return Err(PrecisionError::Opset { opset, needed: 21, precision: "GroupNormalization in bf16" });
        }
        // From 18 on the axes are an operand, and a split into equal parts says into how many.
        if op == "Split" && opset < 18 && node.input.len() < 2 {
            let parts = node.output.len() as i64;
            node.attribute.push(AttributeProto {
                name: Some("num_outputs".to_owned()),
                r#type: Some(AttributeType::Int.into()),
                i: Some(parts),
                ..AttributeProto::default()
            });
        }
        let Some(axes) = node.attribute.iter().position(|a| a.name() == "axes").filter(|_| op.starts_with("Reduce"))
        else {
            continue;
        };
        let axes = node.attribute.remove(axes).ints;
        let result = node.output.first().cloned().unwrap_or_default();
        let name = draft.fresh(&format!("{result}.axes"));
        draft.constant(TensorProto {
            name: Some(name.clone()),
            data_type: Some(DataType::Int64.into()),
            dims: vec![axes.len() as i64],
            int64_data: axes,
            ..TensorProto::default()
        });
        draft.graph.node[place].input.truncate(1);
        draft.graph.node[place].input.push(name);
    }
    for set in draft.header.opset_import.iter_mut().filter(|set| matches!(set.domain(), "" | "ai.onnx")) {
        set.version = Some(NEWEST_OPSET.max(opset));
    }
    draft.header.ir_version = Some(draft.header.ir_version().max(10));
    Ok(())
}

impl HalfModel {
    /// Element type of a value, as ONNX numbers it; `None` if there is none of that name.
    pub fn type_of(&self, value: &str) -> Option<DataType> {
        self.types.get(value).copied()
    }

    /// The same model for a runtime without arithmetic in this type: every node computes in single precision on operands
    /// of half precision, and its result is rounded. That is what a device does that accumulates in single precision.
    pub fn emulated(&self) -> ModelProto {
        let mut model = self.model.clone();
        let Some(graph) = &mut model.graph else { return model };
        let is_half = |name: &String| matches!(self.types.get(name), Some(DataType::Float16 | DataType::Bfloat16));
        let halves: HashMap<&str, DataType> = self.types.iter().map(|(name, ty)| (name.as_str(), *ty)).collect();
        let mut nodes = Vec::new();
        for (place, mut node) in std::mem::take(&mut graph.node).into_iter().enumerate() {
            let moves = matches!(node.op_type(), "Cast" | "Identity" | "Reshape" | "Flatten" | "Transpose" | "Shape");
            if moves || !node.input.iter().chain(&node.output).any(is_half) {
                nodes.push(node);
                continue;
            }
            let operands: Vec<usize> = (0..node.input.len()).filter(|&i| is_half(&node.input[i])).collect();
            for i in operands {
                let single = format!("{}/single{place}.{i}", node.input[i]);
                nodes.push(cast_node(&single, &node.input[i], &single, DataType::Float));
                node.input[i] = single;
            }
            let mut after = Vec::new();
            for name in node.output.iter_mut().filter(|name| is_half(name)) {
                let single = format!("{name}/single{place}");
                after.push(cast_node(&format!("{single}.round"), &single, name, halves[name.as_str()]));
                *name = single;
            }
            nodes.push(node);
            nodes.extend(after);
        }
        graph.node = nodes;
        graph.value_info.clear();
        model
    }
}
