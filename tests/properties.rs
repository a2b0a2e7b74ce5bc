//! What holds for every spec and for any bytes.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic too")]

use std::collections::HashMap;

use bbc::backbone::{Batch, Freedom, InputSize, Size, Spec, generate, preset};
use bbc::census;
use bbc::ir::weight::LeafInit;
use bbc::ir::{Activation, Def, Graph, Op, Seeded, Value, ValueId, WeightSource, verify};
use bbc::onnx::shapes::InputSizes;
use bbc::onnx::{Opset, Options, check, lower, read, summary};
use bbc::pass;
use bbc::tensor::{Axis, Dim, TensorType};
use onnx_protobuf::{AttributeProto, Message, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use proptest::prelude::*;

#[path = "support/specs.rs"]
mod specs;

use specs::{any_spec, config};

/// The first of these an error says, and all that lie under it.
fn said(error: &dyn std::error::Error) -> Vec<String> {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect()
}

/// The network before and after the passes, if there is one.
fn networks(spec: &Spec, batch: Batch) -> Option<[Graph; 2]> {
    match generate(spec, batch) {
        Ok(backbone) => {
            let deployed = pass::run(backbone.graph.clone(), &pass::DEPLOY).unwrap();
            Some([backbone.graph, deployed])
        }
        Err(error) => {
            assert!(said(&error).iter().all(|line| !line.is_empty() && !line.ends_with('.')), "{error}");
            None
        }
    }
}

fn bytes_of(graph: &Graph, opset: Opset) -> Vec<u8> {
    let options = Options { opset, metadata: vec![("seed".into(), "1".into()), ("spec".into(), "ü\n".into())] };
    let lowered = lower(graph, &options);
    let bytes = lowered.to_bytes(&Seeded(1));
    assert_eq!(lowered.size(), bytes.len() as u64);
    bytes
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn any_spec_is_refused_or_becomes_a_model(
        spec in any_spec(), batch in any_batch(), opset in 0..Opset::all().count()
    ) {
        let opset = Opset::all().nth(opset).unwrap();
        for graph in networks(&spec, batch).into_iter().flatten() {
            prop_assert_eq!(verify(&graph), Ok(()));
            let bytes = bytes_of(&graph, opset);
            let model = read(bytes.clone().into()).unwrap();
            prop_assert_eq!(check(&model), Ok(()));
            assert_summary(&graph, &summary::summarize(&model));
            let mut unsaid = model.clone();
            unsaid.graph.as_mut().unwrap().value_info.clear();
            assert_census(&graph, &census::take("it", &unsaid, InputSizes::default(), &HashMap::new()));
            assert_second_reader(&graph, &ModelProto::parse_from_bytes(&bytes).unwrap(), opset);

            let again = generate(&spec, batch).unwrap().graph;
            let again = if again.to_string() == graph.to_string() { again } else { pass::run(again, &pass::DEPLOY).unwrap() };
            prop_assert!(bytes == bytes_of(&again, opset), "the same spec gave other bytes");
        }
    }

    /// ONNX Runtime would take the zeros for the pool's own padding, which never wins.
    #[test]
    fn no_padding_of_negative_values_is_left_to_a_pool_alone(spec in any_spec()) {
        let Some([_, deployed]) = networks(&spec, Batch::Dynamic) else { return Ok(()) };
        let uses = deployed.use_counts();
        for (_, value) in deployed.values().filter(|(_, value)| matches!(value.op(), Some(Op::MaxPool(_)))) {
            let operand = deployed.value(value.args()[0]);
            prop_assert!(!matches!(operand.op(), Some(Op::Pad(_))) || uses[value.args()[0].index()] > 1, "{}", deployed);
        }
    }

    /// Where the size of the image is free, what is said of every value holds at every size: the type inferred for that
    /// size alone is the judge.
    #[test]
    fn free_sizes_are_told_as_they_are(spec in any_spec(), height in 1..80u32, width in 1..80u32) {
        let free = generate(&spec, Freedom { batch: Batch::Dynamic, size: Size::Dynamic });
        let other = Spec { input: InputSize { height, width, ..spec.input }, ..spec.clone() };
        let (Ok(free), Ok(fixed)) = (free, generate(&other, Batch::Dynamic)) else {
            prop_assert_eq!(generate(&spec, Batch::Dynamic).is_err(), true);
            return Ok(());
        };
        let (free, fixed) = (free.graph, fixed.graph);
        let deployed = |graph: &Graph| pass::run(graph.clone(), &pass::DEPLOY).unwrap();
        for (free, fixed) in [(deployed(&free), deployed(&fixed)), (free, fixed)] {
            prop_assert_eq!(verify(&free), Ok(()));
            prop_assert_eq!(free.values().len(), fixed.values().len());
            for ((_, free), (_, fixed)) in free.values().zip(fixed.values()) {
                let dims = free.ty().dims.iter().map(|&dim| match dim {
                    Dim::Side(side) => {
                        let whole = if side.axis == Axis::Height { height } else { width };
                        Dim::Fixed((i64::from(whole.div_ceil(side.stride)) + side.extra) as u32)
                    }
                    dim @ (Dim::Fixed(_) | Dim::Batch) => dim,
                });
                prop_assert_eq!(&dims.collect::<Vec<_>>(), &fixed.ty().dims, "{}", free.path());
            }
        }
    }

    #[test]
    fn a_spec_is_read_as_it_was_written(spec in any_spec()) {
        match spec.write() {
            Ok(text) => prop_assert_eq!(Spec::read(&text).map_err(|error| format!("{error}\n{text}")), Ok(spec)),
            Err(error) => {
                prop_assert!(spec.validate().is_err(), "{}", error);
                prop_assert!(generate(&spec, Batch::Dynamic).is_err());
            }
        }
    }

    #[test]
    fn any_text_is_a_spec_or_refused(text in "\\PC{0,200}", at in 0..400usize, cut in 0..20usize) {
        drop(Spec::read(&text));
        // And what was a spec before something was put in its place.
        let good = preset("hgnetv2-b0").unwrap().write().unwrap();
        let (at, end) = (at.min(good.len()), (at + cut).min(good.len()));
        drop(Spec::read(&format!("{}{text}{}", &good[..at], &good[end..])));
    }
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn any_bytes_are_a_model_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        look_at(bytes);
    }

    #[test]
    fn a_spoilt_model_is_a_model_or_refused(spoils in proptest::collection::vec(any_spoil(), 1..6)) {
        let mut bytes = small_model();
        for spoil in spoils {
            spoil.apply(&mut bytes);
        }
        look_at(bytes);
    }
}

/// A free batch or a fixed one, of no image at times.
fn any_batch() -> impl Strategy<Value = Batch> {
    prop_oneof![3 => Just(Batch::Dynamic), 3 => (1..=3u32).prop_map(Batch::Fixed), 1 => Just(Batch::Fixed(0))]
}

/// All that is done with a model from anywhere before a runtime sees it.
fn look_at(bytes: Vec<u8>) {
    let Ok(model) = read(bytes.into()) else { return };
    if let Err(error) = check(&model) {
        assert!(!error.to_string().is_empty());
    }
    // Asked for after a check; yet what it has not seen may not end in a panic either.
    let summary = summary::summarize(&model);
    summary.flops();
    if let Ok(taken) = census::take("it", &model, InputSizes::default(), &HashMap::new()) {
        assert!(taken.base.count() > 0);
    }
}

/// One change of a file.
#[derive(Debug, Clone)]
enum Spoil {
    /// Cut off at this part of its length.
    Truncate(f64),
    /// A bit at this part of its length is turned over.
    Flip(f64, u8),
    /// A byte at this part of its length becomes another.
    Set(f64, u8),
    /// Bytes from one place are put in at another.
    Splice(f64, f64, usize),
    /// Bytes are taken out.
    Remove(f64, usize),
}

fn any_spoil() -> impl Strategy<Value = Spoil> {
    let place = || 0.0..1.0f64;
    prop_oneof![
        1 => place().prop_map(Spoil::Truncate),
        6 => (place(), 0..8u8).prop_map(|(at, bit)| Spoil::Flip(at, bit)),
        4 => (place(), prop_oneof![Just(0u8), Just(0x7f), Just(0x80), Just(0xff), any::<u8>()]).prop_map(|(at, to)| Spoil::Set(at, to)),
        3 => (place(), place(), 1..40usize).prop_map(|(from, to, n)| Spoil::Splice(from, to, n)),
        2 => (place(), 1..40usize).prop_map(|(at, n)| Spoil::Remove(at, n)),
    ]
}

impl Spoil {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let place = |part: f64, bytes: &[u8]| (part * bytes.len() as f64) as usize;
        match *self {
            Self::Truncate(at) => bytes.truncate(place(at, bytes)),
            Self::Flip(at, bit) => {
                let at = place(at, bytes);
                bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bit);
            }
            Self::Set(at, to) => {
                let at = place(at, bytes);
                bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = to);
            }
            Self::Splice(from, to, n) => {
                let (from, to) = (place(from, bytes), place(to, bytes));
                let piece = bytes[from..(from + n).min(bytes.len())].to_vec();
                bytes.splice(to..to, piece);
            }
            Self::Remove(at, n) => {
                let at = place(at, bytes);
                bytes.drain(at..(at + n).min(bytes.len()));
            }
        }
    }
}

/// A model with few weights, so that most changes hit something else.
fn small_model() -> Vec<u8> {
    let mut spec = Spec { head: None, ..preset("hgnetv2-b0").unwrap() };
    spec.stem.channels = vec![2, 2];
    spec.stages.truncate(2);
    for stage in &mut spec.stages {
        (stage.mid, stage.out, stage.layers) = (1, 2, 1);
    }
    let graph = pass::run(generate(&spec, Batch::Dynamic).unwrap().graph, &[&pass::FoldBatchNorm]).unwrap();
    bytes_of(&graph, Opset::default())
}

/// Every convolution of the graph is counted, with the operations the graph says it has.
fn assert_census(graph: &Graph, taken: &Result<census::Taken, census::CensusError>) {
    let is_conv = |value: &Value| matches!(value.op(), Some(Op::Conv { .. }));
    let convs: Vec<_> = graph.values().filter(|(_, value)| is_conv(value)).collect();
    match taken {
        Ok(taken) => {
            assert_eq!((taken.base.count() as usize, taken.unknown.len()), (convs.len(), 0));
            let flops = convs.iter().map(|(id, _)| graph.flops_of(*id, 1)).sum();
            assert_eq!(taken.base.flops(), flops);
        }
        Err(error) => assert!(convs.is_empty(), "{error}"),
    }
}

/// The operations and weights counted in the file are those of the graph.
fn assert_summary(graph: &Graph, summary: &summary::Summary) {
    assert_eq!(summary.name, graph.name());
    assert_eq!(summary.flops(), (graph.flops(1), 0));
    let of_weights: u64 = graph.parameters();
    let of_ops: u64 = graph.values().filter_map(|(_, value)| value.op()).map(constants_of).sum();
    assert_eq!(summary.parameters, of_weights + of_ops);
}

/// Elements that ONNX keeps in initializers and the graph in the op.
fn constants_of(op: &Op) -> u64 {
    match op {
        Op::Pad(_) => 8,
        Op::Activation(Activation::Clip { min, max }) => min.iter().chain(max).count() as u64,
        _ => 0,
    }
}

/// The file as another library reads it says what the graph does.
fn assert_second_reader(graph: &Graph, model: &ModelProto, opset: Opset) {
    assert_eq!(model.ir_version, opset.ir_version());
    assert_eq!(model.producer_name, "bbc");
    let sets: Vec<_> = model.opset_import.iter().map(|set| (set.domain.as_str(), set.version)).collect();
    assert_eq!(sets, [("", opset.version())]);
    let entries: Vec<_> = model.metadata_props.iter().map(|entry| (entry.key.as_str(), entry.value.as_str())).collect();
    assert_eq!(entries, [("seed", "1"), ("spec", "ü\n")]);
    let proto = &model.graph;
    assert_eq!(proto.name, graph.name());

    let name_of = |id: ValueId| {
        let output = graph.outputs().iter().find(|output| output.value == id);
        output.map_or(graph.value(id).path(), |output| &output.name)
    };
    let typed =
        |infos: &[ValueInfoProto]| infos.iter().map(|info| (info.name.clone(), type_of(info))).collect::<Vec<_>>();
    let expected = |ids: Vec<ValueId>| {
        let of = |id: ValueId| (name_of(id).to_owned(), shown(graph.value(id).ty()));
        ids.into_iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(typed(&proto.input), expected(graph.inputs().map(|(id, _)| id).collect()));
    assert_eq!(typed(&proto.output), expected(graph.outputs().iter().map(|output| output.value).collect()));
    let mut inner = Vec::new();
    for (id, value) in graph.values().filter(|(_, value)| value.op().is_some()) {
        // The product inside an affine is a tensor of its own.
        let product = matches!(value.op(), Some(Op::Affine { .. })).then(|| format!("{}.scaled", value.path()));
        inner.extend(product.map(|name| (name, shown(value.ty()))));
        if graph.outputs().iter().all(|output| output.value != id) {
            inner.extend(expected(vec![id]));
        }
    }
    assert_eq!(typed(&proto.value_info), inner);

    let mut nodes = proto.node.iter();
    for (id, value) in graph.values() {
        let Def::Op { op, args } = value.def() else { continue };
        let node = nodes.next().unwrap();
        let args: Vec<&str> = args.iter().map(|&arg| name_of(arg)).collect();
        assert_eq!(&node.input[..args.len()], args, "{}", node.name);
        let last = if matches!(op, Op::Affine { .. }) { nodes.next().unwrap() } else { node };
        assert_eq!(last.output, [name_of(id)]);
        assert_eq!(last.name, format!("/{}", value.path().replace('.', "/")));
        assert_node(graph, value.path(), op, args.len(), node, last);
    }
    assert_eq!(nodes.count(), 0);

    for (_, weight) in graph.weights() {
        let tensor = initializer(model, weight.name());
        assert_eq!(tensor.dims, weight.shape().iter().map(|&n| i64::from(n)).collect::<Vec<_>>());
        assert_eq!((tensor.data_type, tensor.raw_data.len() as u64), (1, 4 * weight.elements()));
        let values = weight.values(&Seeded(1)).unwrap_or_else(|never| match never {});
        assert!(floats(tensor) == values, "{}", weight.name());
    }
}

/// Op, attributes and weights of one op's node; an affine has two.
fn assert_node(graph: &Graph, path: &str, op: &Op, args: usize, node: &NodeProto, last: &NodeProto) {
    let wide = |values: &[u32]| values.iter().map(|&n| i64::from(n)).collect::<Vec<i64>>();
    let attributes: Vec<(&str, Attribute)> = node.attribute.iter().map(|a| (a.name.as_str(), attribute(a))).collect();
    let pool = |window: &bbc::ir::Window| {
        let [size, padding, stride] = [&window.size[..], &window.padding, &window.stride].map(wide);
        vec![("kernel_shape", Ints(size)), ("pads", Ints(padding)), ("strides", Ints(stride))]
    };
    use Attribute::{Float, Int, Ints};
    let (op_type, expected) = match op {
        Op::Conv { conv, .. } => {
            let [window, stride, dilation] = [conv.window, conv.stride, conv.dilation].map(|pair| Ints(wide(&pair)));
            let (group, pads) = (Int(conv.groups.into()), Ints(wide(&conv.padding)));
            let names = ["dilations", "group", "kernel_shape", "pads", "strides"];
            ("Conv", names.into_iter().zip([dilation, group, window, pads, stride]).collect())
        }
        Op::BatchNorm { epsilon, .. } => ("BatchNormalization", vec![("epsilon", Float(*epsilon))]),
        Op::Affine { .. } => {
            assert_eq!((last.op_type.as_str(), &last.input[0]), ("Add", &node.output[0]));
            ("Mul", vec![])
        }
        Op::Activation(Activation::Relu) => ("Relu", vec![]),
        Op::Activation(Activation::Sigmoid) => ("Sigmoid", vec![]),
        Op::Activation(Activation::Clip { .. }) => ("Clip", vec![]),
        Op::Add => ("Add", vec![]),
        Op::Gate => ("Mul", vec![]),
        Op::Concat => ("Concat", vec![("axis", Int(1))]),
        Op::Pad(_) => ("Pad", vec![]),
        Op::MaxPool(window) => ("MaxPool", pool(window)),
        Op::AveragePool(window) => ("AveragePool", pool(window)),
        Op::GlobalAveragePool => ("GlobalAveragePool", vec![]),
        Op::Flatten => ("Flatten", vec![("axis", Int(1))]),
        Op::Linear { .. } => ("Gemm", vec![("transB", Int(1))]),
    };
    assert_eq!((node.op_type.as_str(), attributes), (op_type, expected), "{path}");
    let weights: Vec<&str> = op.weights().map(|id| graph.weight(id).name()).collect();
    if let Op::Affine { .. } = op {
        assert_eq!([&node.input[1], &last.input[1]], [weights[0], weights[1]]);
    } else if !weights.is_empty() {
        assert_eq!(node.input[args..], weights);
    }
}

#[derive(Debug, PartialEq)]
enum Attribute {
    Int(i64),
    Ints(Vec<i64>),
    Float(f32),
}

fn attribute(attribute: &AttributeProto) -> Attribute {
    match attribute.as_value() {
        onnx_protobuf::AttributeValue::Integer64(value) => Attribute::Int(value),
        onnx_protobuf::AttributeValue::Integer64s(values) => Attribute::Ints(values.to_vec()),
        onnx_protobuf::AttributeValue::Float32(value) => Attribute::Float(value),
        _ => panic!("`{}` has another type", attribute.name),
    }
}

fn initializer<'a>(model: &'a ModelProto, name: &str) -> &'a TensorProto {
    let mut found = model.graph.initializer.iter().filter(|tensor| tensor.name == name);
    let tensor = found.next().unwrap_or_else(|| panic!("no `{name}`"));
    assert!(found.next().is_none(), "`{name}` twice");
    tensor
}

fn floats(tensor: &TensorProto) -> Vec<f32> {
    tensor.raw_data.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

/// A type in a file, written as ours are.
fn type_of(info: &ValueInfoProto) -> String {
    let tensor = info.type_.tensor_type();
    assert_eq!(tensor.elem_type, 1);
    let dim = |dim: &onnx_protobuf::tensor_shape_proto::Dimension| {
        if dim.has_dim_param() { dim.dim_param().to_owned() } else { dim.dim_value().to_string() }
    };
    format!("f32[{}]", tensor.shape.dim.iter().map(dim).collect::<Vec<_>>().join(","))
}

fn shown(ty: &TensorType) -> String {
    let dim = |dim: &Dim| match dim {
        Dim::Fixed(n) => n.to_string(),
        Dim::Batch | Dim::Side(_) => dim.to_string(),
    };
    format!("f32[{}]", ty.dims.iter().map(dim).collect::<Vec<_>>().join(","))
}

/// Random values do not depend on how many are asked for together with others: another width gives the same start.
#[test]
fn weights_begin_alike_whatever_their_size() {
    let of = |count: u32| {
        let values = Seeded(3).values("stage1.weight", &[count], LeafInit::Uniform { bound: 0.5 });
        values.unwrap_or_else(|never| match never {})
    };
    assert_eq!(of(100)[..], of(1000)[..100]);
}
