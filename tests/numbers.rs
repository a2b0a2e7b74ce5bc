//! What models compute: ONNX Runtime against an interpreter of the graph, every intermediate value, before and after
//! the passes; and every inferred type against the shape that comes out.
#![cfg(feature = "run")]
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic too")]

use bbc::backbone::{Batch, Freedom, PRESETS, Size, Spec, generate, preset};
use bbc::conv::{Candidate, Conv};
use bbc::ir::{Activation, BuildError, Graph, GraphBuilder, Init, Op, ValueId, Weight, Window};
use bbc::onnx::{Options, lower};
use bbc::pass;
use bbc::runtime::provider::Provider;
use bbc::runtime::session::{self, Optimization, Session};
use bbc::tensor::{DType, Dim, Tensor, TensorType};

#[path = "support/graphs.rs"]
mod graphs;
#[path = "support/interpret.rs"]
mod interpret;
#[path = "support/specs.rs"]
mod specs;
mod support;

use graphs::{Trained, exposed, narrowed, noise, sized, two_numbers, with_affines};
use interpret::interpret;
use proptest::prelude::*;
use specs::{any_spec, config};
use support::runtime;

/// How far an element may be off, in parts of the greatest of its tensor.
const TOLERANCE: f32 = 1e-4;
/// And in parts of the greatest of all values before it: where those cancel out, their rounding is what is left.
const ROUNDING: f32 = 1e-6;

/// Runs the graph on one image or more and gives its outputs with their names.
fn run(graph: &Graph, inputs: &[Tensor], optimization: Optimization) -> Vec<(String, Tensor)> {
    let bytes = lower(graph, &Options::default()).to_bytes(&Trained(5));
    let options = session::Options { threads: 1.try_into().ok(), optimization, ..session::Options::on(Provider::Cpu) };
    let mut session = Session::from_bytes(&runtime(), &bytes, &options).unwrap();
    let names: Vec<&str> = graph.inputs().map(|(_, value)| value.path()).collect();
    session.run(&names.into_iter().zip(inputs).collect::<Vec<_>>()).unwrap()
}

/// Noise for every input of the graph.
fn inputs(graph: &Graph, batch: u32) -> Vec<Tensor> {
    graph.inputs().enumerate().map(|(i, (_, value))| noise(i as u64, &value.ty().shape(batch))).collect()
}

/// What the interpreter makes of a graph.
struct Expected {
    values: Vec<Tensor>,
    /// The greatest magnitude in each value.
    greatest: Vec<f32>,
}

impl Expected {
    fn of(graph: &Graph, inputs: &[Tensor]) -> Self {
        let values = interpret(graph, &Trained(5), inputs);
        let greatest = |value: &Tensor| value.data().iter().fold(0f32, |most, v| most.max(v.abs()));
        Self { greatest: values.iter().map(greatest).collect(), values }
    }

    fn assert_near(&self, what: &str, name: &str, actual: &Tensor, id: ValueId) {
        let (expected, most) = (&self.values[id.index()], self.greatest[id.index()]);
        let before = self.greatest[..=id.index()].iter().copied().fold(0f32, f32::max);
        let comparison = actual.compare(expected, 0.0, TOLERANCE * most + ROUNDING * before);
        let comparison = comparison.unwrap_or_else(|| {
            panic!("{what}: `{name}` has shape {:?}, not {:?}", actual.shape(), expected.shape());
        });
        assert!(before.is_finite() && comparison.passed, "{what}: `{name}` of up to {most} is off: {comparison:?}");
    }
}

/// Every value of the graph as ONNX Runtime computes it is as the interpreter says, and of its inferred type.
fn assert_values(what: &str, graph: &Graph, inputs: &[Tensor], batch: u32, optimization: Optimization) {
    let graph = exposed(graph);
    let expected = Expected::of(&graph, inputs);
    let results = run(&graph, inputs, optimization);
    assert_eq!(results.len(), graph.outputs().len());
    for ((name, actual), output) in results.iter().zip(graph.outputs()) {
        let value = graph.value(output.value);
        assert_eq!((name.as_str(), actual.shape()), (value.path(), &value.ty().shape(batch)[..]), "{what}");
        expected.assert_near(what, name, actual, output.value);
    }
}

/// The promise of the passes: the same numbers, by every route.
fn assert_same_numbers(what: &str, graph: &Graph, batches: &[u32]) {
    let deployed = pass::run(graph.clone(), &pass::DEPLOY).unwrap();
    for &batch in batches {
        let what = format!("{what} at batch {batch}");
        let inputs = inputs(graph, batch);
        assert_values(&what, graph, &inputs, batch, Optimization::None);
        assert_values(&format!("{what}, deployed"), &deployed, &inputs, batch, Optimization::All);
        let expected = Expected::of(graph, &inputs);
        let results = run(&deployed, &inputs, Optimization::All);
        assert_eq!(results.len(), graph.outputs().len(), "{what}");
        for ((name, actual), output) in results.iter().zip(graph.outputs()) {
            assert_eq!(*name, output.name, "{what}");
            expected.assert_near(&format!("{what}, from input to output"), name, actual, output.value);
        }
    }
}

type Build = fn(&mut GraphBuilder, ValueId) -> Result<ValueId, BuildError>;

fn built(batch: Dim, build: Build) -> Graph {
    let mut g = GraphBuilder::new("small");
    let x = g.input("image", TensorType::f32([batch, Dim::Fixed(8), Dim::Fixed(11), Dim::Fixed(9)])).unwrap();
    let y = build(&mut g, x).unwrap();
    g.finish([("out", y)]).unwrap()
}

/// An affine of known numbers behind a ReLU.
fn affine(g: &mut GraphBuilder, x: ValueId, scale: f32, bias: f32) -> Result<ValueId, BuildError> {
    let x = g.relu("act", x)?;
    let scale = g.weight(Weight::new("lab.scale", [1], Init::Values([scale].into())));
    let bias = g.weight(Weight::new("lab.bias", [1], Init::Values([bias].into())));
    g.push("lab", Op::Affine { scale, bias }, &[x])
}

const OPS: [(&str, Build); 31] = [
    ("conv 1x1", |g, x| g.conv("y", x, Conv::square(1), 5)),
    ("conv 3x3 with a bias", |g, x| g.conv_bias("y", x, Conv::square(3), 5)),
    ("conv 3x3, stride 2", |g, x| g.conv("y", x, Conv::square(3).with_stride(2), 5)),
    ("conv 1x7", |g, x| g.conv("y", x, Conv::rectangle([1, 7]), 5)),
    ("conv 7x1", |g, x| g.conv("y", x, Conv::rectangle([7, 1]), 5)),
    ("conv 3x5, strides 2 and 3", |g, x| g.conv("y", x, Conv { stride: [2, 3], ..Conv::rectangle([3, 5]) }, 5)),
    ("conv 3x3, uneven padding", |g, x| g.conv("y", x, Conv::square(3).with_padding([0, 1, 2, 3]), 5)),
    ("conv 2x2, padded at the end", |g, x| g.conv("y", x, Conv::square(2).with_padding([0, 0, 1, 1]), 5)),
    ("conv 3x2, dilated", |g, x| g.conv("y", x, Conv { dilation: [3, 2], ..Conv::rectangle([3, 2]) }, 5)),
    ("conv 3x3 in 4 groups", |g, x| g.conv("y", x, Conv::square(3).with_groups(4), 12)),
    ("conv 5x5, depthwise", |g, x| g.conv("y", x, Conv::square(5).with_groups(8), 8)),
    ("conv 3x3, depthwise, stride 2", |g, x| g.conv("y", x, Conv::square(3).with_groups(8).with_stride(2), 8)),
    ("conv 3x3, depthwise to twice the channels", |g, x| g.conv("y", x, Conv::square(3).with_groups(8), 16)),
    ("batch norm", |g, x| g.batch_norm("y", x, 1e-3)),
    ("conv with bias, batch norm, relu", |g, x| {
        let x = g.conv_bias("a", x, Conv::square(3).with_groups(2), 6)?;
        let x = g.batch_norm("norm", x, 1e-5)?;
        g.relu("act", x)
    }),
    ("conv, batch norm twice", |g, x| {
        let x = g.conv("a", x, Conv::square(3), 6)?;
        let x = g.batch_norm("norm", x, 1e-5)?;
        g.batch_norm("again", x, 1e-5)
    }),
    ("affine", |g, x| affine(g, x, -1.5, 0.25)),
    ("conv, batch norm, affine of a positive factor", |g, x| {
        let x = g.conv("a", x, Conv::square(3), 6)?;
        let x = g.batch_norm("norm", x, 1e-5)?;
        affine(g, x, 0.75, -0.5)
    }),
    ("conv, affine of a negative factor", |g, x| {
        let x = g.conv("a", x, Conv::square(3), 6)?;
        affine(g, x, -0.75, -0.5)
    }),
    ("conv, affine of factor zero", |g, x| {
        let x = g.conv("a", x, Conv::square(3), 6)?;
        affine(g, x, 0.0, 0.5)
    }),
    ("sigmoid", |g, x| g.sigmoid("y", x)),
    ("clip", |g, x| {
        let clip =
            |g: &mut GraphBuilder, name, x, min, max| g.push(name, Op::Activation(Activation::Clip { min, max }), &[x]);
        let a = clip(g, "both", x, Some(-0.5), Some(0.25))?;
        let b = clip(g, "below", x, Some(-0.5), None)?;
        let c = clip(g, "above", x, None, Some(0.25))?;
        let d = clip(g, "neither", x, None, None)?;
        g.concat("y", &[a, b, c, d])
    }),
    ("add and gate", |g, x| {
        let means = g.global_average_pool("means", x)?;
        let gate = g.sigmoid("gate", means)?;
        let y = g.gate("gated", x, gate)?;
        g.add("y", x, y)
    }),
    ("concat", |g, x| {
        let a = g.conv("a", x, Conv::square(1), 3)?;
        let b = g.relu("b", x)?;
        g.concat("y", &[b, a, x, a])
    }),
    ("pad", |g, x| g.pad("y", x, [1, 2, 3, 4])),
    ("max pool", |g, x| g.max_pool("y", x, Window { size: [3, 2], stride: [2, 1], padding: [2, 0, 1, 1] })),
    ("average pool", |g, x| g.average_pool("y", x, Window { size: [3, 4], stride: [1, 2], padding: [1, 3, 2, 0] })),
    ("pad, then conv and max pool", |g, x| {
        let x = g.relu("act", x)?;
        let x = g.pad("pad", x, [1, 0, 0, 1])?;
        let a = g.conv("a", x, Conv::square(2), 8)?;
        let b = g.max_pool("b", x, Window::square(2, 1, 0))?;
        g.concat("y", &[a, b]).or_else(|_| g.global_average_pool("small", b))
    }),
    // Left to the pool alone, the padding would be taken over wrongly by ONNX Runtime itself.
    ("negative values padded, then convolved and pooled", |g, x| {
        let x = g.conv("a", x, Conv::square(3), 4)?;
        let x = affine(g, x, -2.0, -0.25)?;
        let x = g.pad("pad", x, [0, 0, 1, 1])?;
        let b = g.conv("b", x, Conv::square(2), 4)?;
        let c = g.max_pool("c", x, Window::square(2, 1, 0))?;
        g.concat("y", &[b, c])
    }),
    ("flatten and linear", |g, x| {
        let x = g.flatten("row", x)?;
        g.linear("y", x, 7)
    }),
    ("linear without a bias", |g, x| {
        let x = g.global_average_pool("means", x)?;
        let x = g.flatten("row", x)?;
        let weight = g.weight(Weight::new("y.weight", [3, 8], Init::Uniform { bound: 0.5 }));
        g.push("y", Op::Linear { weight, bias: None }, &[x])
    }),
];

#[test]
fn every_op() {
    for (name, build) in OPS {
        assert_same_numbers(name, &built(Dim::Batch, build), &[1, 3]);
        assert_same_numbers(name, &built(Dim::Fixed(2), build), &[2]);
    }
}

/// The candidates a network is built around here: those of the published table, and two more.
fn candidates() -> [Candidate; 7] {
    let [a, b, c, d, e] = Candidate::PUBLISHED;
    [a, b, c, d, e, "group4conv3x3".parse().unwrap(), "conv1x7".parse().unwrap()]
}

#[test]
fn every_preset() {
    for (i, (name, _)) in PRESETS.iter().enumerate() {
        for head in [true, false] {
            let mut spec =
                narrowed(&preset(name).unwrap(), 24, [40, 36], Some(candidates()[(2 * i + usize::from(head)) % 7]));
            spec.head = spec.head.filter(|_| head);
            let graph = generate(&spec, Batch::Dynamic).unwrap().graph;
            let graph = with_affines(&graph, two_numbers);
            assert_same_numbers(&format!("{name} of {}", spec.first_conv.unwrap()), &graph, &[2]);
        }
    }
}

#[test]
fn every_candidate() {
    for candidate in candidates() {
        for name in ["hgnet-tiny", "hgnetv2-b0"] {
            let spec = narrowed(&preset(name).unwrap(), 24, [48, 33], Some(candidate));
            let graph = with_affines(&generate(&spec, Batch::Fixed(1)).unwrap().graph, two_numbers);
            assert_same_numbers(&format!("{name} of {candidate}"), &graph, &[1]);
        }
    }
}

/// A model for images of any size computes, at every size, what one for that size alone does: each value, before and
/// after the passes.
#[test]
fn images_of_any_size() {
    for (name, outputs) in [("hgnet-tiny", None), ("hgnetv2-b0", None), ("hgnetv2-b4", Some(["c4", "c2"]))] {
        let mut spec = narrowed(&preset(name).unwrap(), 24, [64, 64], None);
        if let Some(outputs) = outputs {
            spec = Spec { head: None, outputs: Some(outputs.map(Into::into).to_vec()), ..spec };
        }
        let free = generate(&spec, Freedom { batch: Batch::Dynamic, size: Size::Dynamic }).unwrap().graph;
        let free = with_affines(&free, two_numbers);
        let deployed = pass::run(free.clone(), &pass::DEPLOY).unwrap();
        for size in [[64, 64], [96, 32], [45, 70], [1, 3]] {
            let what = format!("{name} at {size:?}");
            let fixed = sized(&free, size);
            let inputs = inputs(&fixed, 2);
            for (free, fixed, optimization) in [
                (&free, fixed.clone(), Optimization::None),
                (&deployed, pass::run(fixed.clone(), &pass::DEPLOY).unwrap(), Optimization::All),
            ] {
                let (free, fixed) = (exposed(free), exposed(&fixed));
                let expected = Expected::of(&fixed, &inputs);
                let results = run(&free, &inputs, optimization);
                assert_eq!(results.len(), fixed.outputs().len());
                for ((name, actual), output) in results.iter().zip(fixed.outputs()) {
                    assert_eq!(*name, output.name, "{what}");
                    expected.assert_near(&what, name, actual, output.value);
                }
            }
        }
    }
}

/// The zeros around the image of the stem's pool are greater than what an affine of negative shift leaves.
#[test]
fn the_stem_pools_over_zeros() {
    let spec = Spec { head: None, ..narrowed(&preset("hgnetv2-b0").unwrap(), 4, [32, 32], None) };
    let graph = generate(&spec, Batch::Fixed(1)).unwrap().graph;
    for (scale, bias, pad_stays) in [(0.5, -0.75, true), (-0.5, 0.25, true), (0.5, 0.75, false), (1.0, 0.0, false)] {
        let graph = with_affines(&graph, |_| (scale, bias));
        let what = format!("factor {scale}, shift {bias}");
        assert_same_numbers(&what, &graph, &[1]);
        let deployed = pass::run(graph, &pass::DEPLOY).unwrap();
        let pads: Vec<_> =
            deployed.values().filter(|(_, v)| matches!(v.op(), Some(Op::Pad(_)))).map(|(_, v)| v.path()).collect();
        assert_eq!(pads, if pad_stays { vec!["stem.pad1"] } else { vec![] }, "{what}");
    }
}

/// Half precision, against the interpreter of the same graph in single precision.
#[test]
fn half_precision() {
    let build = |dtype| {
        let mut g = GraphBuilder::new("half");
        let dims = [1, 4, 9, 9].map(Dim::Fixed).to_vec();
        let x = g.input("image", TensorType { dtype, dims }).unwrap();
        let y = g.conv_bias("a", x, Conv::square(3), 6).unwrap();
        let y = g.push("act", Op::Activation(Activation::Clip { min: Some(-0.5), max: Some(1.0) }), &[y]).unwrap();
        let y = g.global_average_pool("means", y).unwrap();
        let y = g.flatten("row", y).unwrap();
        let y = g.linear("y", y, 5).unwrap();
        g.finish([("out", y)]).unwrap()
    };
    let single = build(DType::F32);
    let inputs = inputs(&single, 1);
    let expected = interpret(&single, &Trained(5), &inputs).pop().unwrap();
    let actual = run(&build(DType::F16), &inputs, Optimization::All).remove(0).1;
    let comparison = actual.compare(&expected, 0.0, 5e-3).unwrap();
    assert!(comparison.passed, "{comparison:?}");
}

proptest! {
    #![proptest_config(config(12))]

    #[test]
    fn a_random_network(spec in any_spec()) {
        if let Ok(backbone) = generate(&spec, Batch::Dynamic) {
            assert_same_numbers(&spec.name, &with_affines(&backbone.graph, two_numbers), &[2]);
        }
    }
}
