//! Models that compute in eight-bit integers, said the way every runtime understands: pairs of `QuantizeLinear` and
//! `DequantizeLinear` around what is to be computed in integers (ONNX Runtime's "QDQ" form).
//!
//! The ranges are given, not found: this is for measuring how fast integers are computed, on values whose ranges are
//! known from how they are made.

use std::collections::HashSet;

use crate::ir::{Graph, Init, Weight};
use crate::onnx::lower::{Initializer, Lowered, Options, Values, lower, tensor_header};
use crate::onnx::proto::{NodeProto, tensor_proto::DataType};
use crate::tensor::DType;

/// Greatest magnitude of a quantised weight. Not 127: where a processor adds two products in 16 bits, those of the
/// greatest integers would not fit.
const WEIGHT_LEVELS: f32 = 64.0;

/// The range that values are quantised in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantization {
    /// Greatest magnitude of the graph's inputs.
    pub input: f32,
    /// Greatest magnitude of all other values.
    pub inner: f32,
    /// Whether the integers of values are from 0 to 255, which gives those that are never negative all the steps above
    /// their zero; otherwise they are from -128 to 127 and every zero is 0. Those of weights have a sign in any case.
    pub unsigned: bool,
}

/// How real values become integers: divided by `scale`, rounded, and moved by `zero`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Steps {
    /// Distance between two values.
    pub scale: f32,
    /// The integer that stands for 0.
    pub zero: u8,
    /// Whether the integers are from 0 to 255, and not from -128 to 127.
    pub unsigned: bool,
}

impl Steps {
    /// The value nearest to this one that has an integer.
    pub fn rounded(&self, value: f32) -> f32 {
        let zero = f32::from(self.zero);
        let [least, most] = if self.unsigned { [0.0, 255.0] } else { [-128.0, 127.0] };
        let integer = ((value / self.scale).round_ties_even() + zero).clamp(least, most);
        (integer - zero) * self.scale
    }
}

impl Quantization {
    /// Of the graph's inputs.
    pub fn of_input(&self) -> Steps {
        Steps { scale: self.input / 127.0, ..self.of_any() }
    }

    /// Of a value inside, which may be one that is never negative.
    pub fn of_inner(&self, never_negative: bool) -> Steps {
        if never_negative && self.unsigned {
            Steps { scale: self.inner / 255.0, zero: 0, unsigned: true }
        } else {
            Steps { scale: self.inner / 127.0, ..self.of_any() }
        }
    }

    fn of_any(&self) -> Steps {
        Steps { scale: 1.0, zero: if self.unsigned { 128 } else { 0 }, unsigned: self.unsigned }
    }
}

/// The integers that stand for a weight, uniform within `bound`, and the value of one.
pub fn quantized_weight(weight: &Weight, bound: f32) -> (Weight, f32) {
    let integers = Weight::new(weight.name(), weight.shape(), Init::Uniform { bound: WEIGHT_LEVELS });
    (integers, bound / WEIGHT_LEVELS)
}

/// The ONNX model that computes what the graph does, its convolutions and matrix products in eight-bit integers.
///
/// Every value is quantised and dequantised where it comes to be, but for one that only an activation follows. Weights
/// that are not uniform stay as they are.
pub fn lower_quantized(graph: &Graph, options: &Options, quantization: Quantization) -> Lowered {
    let mut lowered = lower(graph, options);
    let Some(proto) = lowered.model.graph.as_mut() else { return lowered };
    let nodes = std::mem::take(&mut proto.node);
    let initializers = std::mem::take(&mut lowered.initializers);
    let mut rewriting = Rewriting { nodes: Vec::new(), initializers };
    for input in &proto.input {
        rewriting.pair(input.name(), &inside(input.name()), quantization.of_input());
    }
    let inputs: HashSet<String> = proto.input.iter().map(|input| input.name().to_owned()).collect();
    let (fused, never_negative) = facts(graph, &nodes);
    for mut node in nodes {
        for name in &mut node.input {
            if inputs.contains(name.as_str()) {
                *name = inside(name);
            }
        }
        if let (true, Some(weight)) = (has_weight(&node), node.input.get_mut(1)) {
            rewriting.weight(weight);
        }
        let Some(output) = node.output.first_mut() else { continue };
        let name = output.clone();
        if fused.contains(&name) {
            rewriting.nodes.push(node);
        } else {
            *output = format!("{name}.exact");
            let exact = output.clone();
            rewriting.nodes.push(node);
            rewriting.pair(&exact, &name, quantization.of_inner(never_negative.contains(&name)));
        }
    }
    proto.node = rewriting.nodes;
    // Types of values in between are left to whoever reads it.
    proto.value_info.clear();
    lowered.initializers = rewriting.initializers;
    lowered
}

/// Name of a graph's input once it has been quantised.
fn inside(input: &str) -> String {
    format!("{input}.inside")
}

fn has_weight(node: &NodeProto) -> bool {
    matches!(node.op_type(), "Conv" | "Gemm")
}

/// The tensors that only an activation follows, and those that are never negative.
fn facts(graph: &Graph, nodes: &[NodeProto]) -> (HashSet<String>, HashSet<String>) {
    let (mut fused, mut never_negative) = (HashSet::new(), HashSet::new());
    let outputs: HashSet<&str> = graph.outputs().iter().map(|output| output.name.as_str()).collect();
    for node in nodes {
        let readers: Vec<&NodeProto> =
            nodes.iter().filter(|other| node.output.iter().any(|name| other.input.contains(name))).collect();
        let name = node.output.first().cloned().unwrap_or_default();
        if let ([only], false) = (&readers[..], outputs.contains(name.as_str()))
            && only.op_type() == "Relu"
        {
            fused.insert(name.clone());
        }
        let kept = matches!(node.op_type(), "MaxPool" | "Identity");
        if node.op_type() == "Relu" || kept && node.input.first().is_some_and(|input| never_negative.contains(input)) {
            never_negative.insert(name);
        }
    }
    (fused, never_negative)
}

struct Rewriting {
    nodes: Vec<NodeProto>,
    initializers: Vec<Initializer>,
}

impl Rewriting {
    /// Turns the tensor `from` into integers and back to the tensor `to`.
    fn pair(&mut self, from: &str, to: &str, steps: Steps) {
        let integers = format!("{to}.integers");
        let [scale, zero] = self.constants(to, steps);
        self.node("QuantizeLinear", [from, &scale, &zero], &integers);
        self.node("DequantizeLinear", [&integers, &scale, &zero], to);
    }

    /// Stores a uniform weight as integers; its new name is that of its real values.
    fn weight(&mut self, name: &mut String) {
        let Some(at) = self.initializers.iter().position(|stored| stored.tensor.name() == name) else { return };
        let Values::Weight { weight, .. } = &self.initializers[at].values else { return };
        let Init::Uniform { bound } = *weight.init() else { return };
        let (integers, scale) = quantized_weight(weight, bound);
        let stored = &mut self.initializers[at];
        stored.tensor.data_type = Some(DataType::Int8.into());
        stored.values = Values::Weight { weight: integers, dtype: DType::I8 };
        let real = format!("{name}.real");
        let [scale, zero] = self.constants(&real, Steps { scale, zero: 0, unsigned: false });
        self.node("DequantizeLinear", [name, &scale, &zero], &real);
        *name = real;
    }

    fn node(&mut self, op: &str, inputs: [&str; 3], output: &str) {
        self.nodes.push(NodeProto {
            name: Some(format!("{output}/{op}")),
            op_type: Some(op.to_owned()),
            input: inputs.map(str::to_owned).to_vec(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        });
    }

    fn constants(&mut self, of: &str, Steps { scale, zero, unsigned }: Steps) -> [String; 2] {
        let integers = if unsigned { DataType::Uint8 } else { DataType::Int8 };
        let stored = [("scale", DataType::Float, scale.to_le_bytes().to_vec()), ("zero", integers, vec![zero])];
        stored.map(|(what, data_type, bytes)| {
            let name = format!("{of}.{what}");
            let tensor = tensor_header(&name, data_type, &[]);
            self.initializers.push(Initializer { tensor, values: Values::Raw(bytes.into()) });
            name
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::Conv;
    use crate::ir::{GraphBuilder, Seeded};
    use crate::onnx;
    use crate::tensor::{Dim, TensorType};

    #[test]
    fn real_values_are_rounded_to_integers_and_back() {
        let signed = Steps { scale: 0.5, zero: 0, unsigned: false };
        let positive = Steps { scale: 0.5, zero: 0, unsigned: true };
        let shifted = Steps { scale: 0.5, zero: 128, unsigned: true };
        for (name, steps, value, expected) in [
            ("exact", signed, 1.5, 1.5),
            ("to the even integer", signed, 0.25, 0.0),
            ("to the nearest", signed, 0.3, 0.5),
            ("cut off above", signed, 100.0, 63.5),
            ("cut off below", signed, -100.0, -64.0),
            ("without a sign there is twice the range above zero", positive, 100.0, 100.0),
            ("and none below", positive, -1.0, 0.0),
            ("unless zero is in the middle", shifted, -1.0, -1.0),
            ("which cuts off as with a sign", shifted, 100.0, 63.5),
        ] {
            assert_eq!(steps.rounded(value), expected, "{name}");
        }
    }

    fn two_layers() -> Graph {
        let mut g = GraphBuilder::new("two");
        let x = g.input("x", TensorType::f32([1, 2, 4, 4].map(Dim::Fixed))).unwrap();
        let y = g.conv("a", x, Conv::square(3), 3).unwrap();
        let y = g.relu("b", y).unwrap();
        let y = g.conv("c", y, Conv::square(1), 2).unwrap();
        g.finish([("y", y)]).unwrap()
    }

    #[test]
    fn pairs_stand_around_what_is_computed_in_integers() {
        let quantization = Quantization { input: 1.0, inner: 6.0, unsigned: true };
        let lowered = lower_quantized(&two_layers(), &Options::default(), quantization);
        let model = onnx::read(lowered.to_bytes(&Seeded(0)).into()).unwrap();
        onnx::check(&model).unwrap();
        let graph = model.graph.as_ref().unwrap();
        let lines: Vec<String> = graph
            .node
            .iter()
            .map(|node| format!("{} {} -> {}", node.op_type(), node.input.join(" "), node.output.join(" ")))
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        QuantizeLinear x x.inside.scale x.inside.zero -> x.inside.integers
        DequantizeLinear x.inside.integers x.inside.scale x.inside.zero -> x.inside
        DequantizeLinear a.weight a.weight.real.scale a.weight.real.zero -> a.weight.real
        Conv x.inside a.weight.real -> a
        Relu a -> b.exact
        QuantizeLinear b.exact b.scale b.zero -> b.integers
        DequantizeLinear b.integers b.scale b.zero -> b
        DequantizeLinear c.weight c.weight.real.scale c.weight.real.zero -> c.weight.real
        Conv b c.weight.real -> y.exact
        QuantizeLinear y.exact y.scale y.zero -> y.integers
        DequantizeLinear y.integers y.scale y.zero -> y
        ");
        let raw = |name: &str| {
            let stored = graph.initializer.iter().find(|tensor| tensor.name() == name).unwrap();
            stored.raw_data.clone().unwrap().to_vec()
        };
        // 6 / 255 from zero on; the second value may be negative.
        assert_eq!(raw("b.scale"), (6.0f32 / 255.0).to_le_bytes());
        assert_eq!(raw("b.zero"), [0]);
        assert_eq!((raw("y.scale"), raw("y.zero")), ((6.0f32 / 127.0).to_le_bytes().to_vec(), vec![128]));
        assert!(raw("a.weight").iter().all(|&byte| (-64..=64).contains(&(byte as i8))));
    }
}
