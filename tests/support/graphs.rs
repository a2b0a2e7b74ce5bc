//! Graphs changed for a test, values for their weights, and inputs for them.

use std::convert::Infallible;

use bbc::backbone::{InputSize, Spec};
use bbc::conv::Candidate;
use bbc::ir::weight::LeafInit;
use bbc::ir::{Def, Graph, GraphBuilder, Init, Op, Seeded, Weight, WeightSource};
use bbc::tensor::{Dim, Tensor, TensorType};

/// Which values a rebuilt graph hands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outputs {
    /// Those of the graph it is built from.
    Same,
    /// Every result of an op, under its path.
    Every,
}

/// The graph built anew with these outputs, its weights changed.
pub(crate) fn rebuilt(graph: &Graph, outputs: Outputs, change: impl Fn(&Weight) -> Weight) -> Graph {
    rebuilt_on(graph, outputs, change, TensorType::clone)
}

/// The same, on inputs of another type.
fn rebuilt_on(
    graph: &Graph,
    outputs: Outputs,
    change: impl Fn(&Weight) -> Weight,
    input: impl Fn(&TensorType) -> TensorType,
) -> Graph {
    let mut g = GraphBuilder::new(graph.name());
    for (id, weight) in graph.weights() {
        // Added in the same order to an empty builder, a weight keeps its id.
        assert_eq!(g.weight(change(weight)), id);
    }
    for (id, value) in graph.values() {
        let new = match value.def() {
            Def::Input => g.input(value.path(), input(value.ty())),
            Def::Op { op, args } => g.push(value.path(), op.clone(), args),
        };
        assert_eq!(new.expect("what could be built once"), id);
    }
    let outputs: Vec<_> = match outputs {
        Outputs::Same => graph.outputs().iter().map(|output| (output.name.as_str(), output.value)).collect(),
        Outputs::Every => {
            let ops = graph.values().filter(|(_, value)| value.op().is_some());
            ops.map(|(id, value)| (value.path(), id)).collect()
        }
    };
    g.finish(outputs).expect("paths differ")
}

/// The graph with every result of an op among its outputs.
pub(crate) fn exposed(graph: &Graph) -> Graph {
    rebuilt(graph, Outputs::Every, Weight::clone)
}

/// The graph, weights and all, for images of this size alone.
pub(crate) fn sized(graph: &Graph, [height, width]: [u32; 2]) -> Graph {
    let size = |ty: &TensorType| {
        let mut ty = ty.clone();
        ty.dims[2..].copy_from_slice(&[Dim::Fixed(height), Dim::Fixed(width)]);
        ty
    };
    rebuilt_on(graph, Outputs::Same, Weight::clone, size)
}

/// The graph with the scalars of every learnable affine set to what `scalars` makes of its path.
pub(crate) fn with_affines(graph: &Graph, scalars: impl Fn(&str) -> (f32, f32)) -> Graph {
    let mut known = std::collections::HashMap::new();
    for (_, value) in graph.values() {
        if let Some(&Op::Affine { scale, bias }) = value.op() {
            let (factor, shift) = scalars(value.path());
            known.insert(graph.weight(scale).name(), factor);
            known.insert(graph.weight(bias).name(), shift);
        }
    }
    rebuilt(graph, Outputs::Same, |weight| match known.get(weight.name()) {
        Some(&value) => Weight::new(weight.name(), weight.shape(), Init::Values([value].into())),
        None => weight.clone(),
    })
}

/// Two numbers between -1 and 1 that depend on the name only.
pub(crate) fn two_numbers(name: &str) -> (f32, f32) {
    let values = uniform(17, name, &[2]);
    (values[0], values[1])
}

/// Weights as training leaves them: norms are far from the identity, biases from zero.
pub(crate) struct Trained(pub(crate) u64);

impl WeightSource for Trained {
    type Error = Infallible;

    fn values(&self, name: &str, shape: &[u32], init: LeafInit<'_>) -> Result<Vec<f32>, Infallible> {
        let random = || uniform(self.0, name, shape).into_iter();
        match init {
            LeafInit::Constant(_) if name.ends_with(".running_var") => Ok(random().map(|v| 1.7 + 1.4 * v).collect()),
            // One factor in ten is negative.
            LeafInit::Constant(1.0) => Ok(random().map(|v| 0.8 + v).collect()),
            LeafInit::Constant(_) => Ok(random().map(|v| 0.5 * v).collect()),
            LeafInit::Uniform { .. } | LeafInit::Values(_) => Seeded(self.0).values(name, shape, init),
        }
    }
}

/// Noise of unit variance.
pub(crate) fn noise(seed: u64, shape: &[u32]) -> Tensor {
    let data = uniform(seed, "noise", shape).into_iter().map(|v| v * 3f32.sqrt()).collect();
    Tensor::new(shape, data).expect("as many values as the shape has")
}

fn uniform(seed: u64, name: &str, shape: &[u32]) -> Vec<f32> {
    let values = Seeded(seed).values(name, shape, LeafInit::Uniform { bound: 1.0 });
    values.unwrap_or_else(|never| match never {})
}

/// The spec with an image of this size and so much narrower, every number of channels a multiple of four.
pub(crate) fn narrowed(spec: &Spec, by: u32, [height, width]: [u32; 2], first_conv: Option<Candidate>) -> Spec {
    let narrow = |channels: u32| (channels / by).next_multiple_of(4).max(4);
    let mut spec = Spec { first_conv: first_conv.or(spec.first_conv), ..spec.clone() };
    spec.input = InputSize { height, width, ..spec.input };
    spec.stem.channels.iter_mut().for_each(|channels| *channels = narrow(*channels));
    for stage in &mut spec.stages {
        (stage.mid, stage.out) = (narrow(stage.mid), narrow(stage.out));
    }
    if let Some(head) = &mut spec.head {
        (head.hidden, head.classes) = (narrow(head.hidden), 10);
    }
    spec
}
