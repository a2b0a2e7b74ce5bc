//! `bbc convert` and `bbc compile --precision` as commands, on the real library.
#![cfg(feature = "run")]
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic too")]

use std::collections::{HashMap, HashSet};
use std::fs;
use std::process::Output;

use bbc::onnx::precision::{Half, HalfOptions, Int8Options, plan_int8, to_bytes, to_half};
use bbc::onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, tensor_proto::DataType, tensor_shape_proto::Dimension, tensor_shape_proto::dimension, type_proto,
};
use bbc::precision::{self, Method, Noise, Samples, Watch};
use bbc::runtime::noise::Sizes;
use bbc::runtime::provider::Provider;
use bbc::runtime::session::{Optimization, Options, Session};
use bbc::tensor::Tensor;
use serde_json::Value;

#[path = "support/folder.rs"]
mod folder;
mod support;

use folder::{Folder, text};
use support::{fixture, runtime};

/// A folder with a small network and six pictures.
fn network() -> Folder {
    runtime();
    let folder = Folder::new();
    fs::create_dir(folder.path("images")).unwrap();
    for (i, picture) in ["cat.jpg", "photo.jpg", "alpha.png", "deep.png", "gray.png", "palette.png"].iter().enumerate()
    {
        fs::copy(fixture(&format!("images/{picture}")), folder.path(&format!("images/{i}-{picture}"))).unwrap();
    }
    let output = folder.bbc("compile --preset hgnetv2-b0 --input-size 64x64 --no-run -o b0.onnx");
    assert!(output.status.success(), "{}", text(&output.stderr));
    folder
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)))
}

#[test]
fn half_precision_is_in_the_file_and_close() {
    let folder = network();
    for (precision, most, opset) in [("fp16", 1e-2, 17), ("bf16", 4e-2, 22)] {
        let output = folder.bbc(&format!(
            "convert b0.onnx --precision {precision} -o half.onnx --images images --race-time 0.1 --json"
        ));
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let report = document(&output);
        assert!(report["size_ratio"].as_f64().unwrap() <= 0.51, "{report}");
        let logits = &report["outputs"][0];
        let error = logits["error"].as_f64().unwrap();
        // It is rounded: no error at all would be that of a model that was not.
        assert!(error > 1e-6 && error < most, "{precision}: {error}");
        assert_eq!(report["half"]["accumulating"], serde_json::json!(["/head/pool"]));
        assert_eq!(report["half"]["overflow_checked"], true);
        let model = bbc::onnx::read(fs::read(folder.path("half.onnx")).unwrap().into()).unwrap();
        bbc::onnx::check(&model).unwrap();
        assert_eq!(bbc::onnx::metadata(&model, "bbc.precision"), Some(precision));
        assert!(bbc::onnx::metadata(&model, "bbc.spec").is_some(), "what the model says of itself stays");
        assert_eq!(model.opset_import[0].version(), opset);
    }
}

#[test]
fn integers_run_as_integers_and_agree() {
    let folder = network();
    let convert = |file: &str, options: &str| {
        let output = folder.bbc(&format!(
            "convert b0.onnx --precision int8 -o {file} --calibrate images --race-time 0.1 --json {options}"
        ));
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        document(&output)
    };
    let report = convert("int8.onnx", "");
    assert!(report["outputs"][0]["cosine_min"].as_f64().unwrap() > 0.99, "{report}");
    assert_eq!(report["outputs"][0]["not_finite"], 0);
    assert!(report["size_ratio"].as_f64().unwrap() <= 0.27, "{report}");
    assert_eq!(report["convs"]["elsewhere"], serde_json::json!([]), "every convolution asked for ran on integers");
    // The stem's first convolution and the head's hidden layer are not.
    let ran = report["convs"]["ran"].as_u64().unwrap();
    assert_eq!(report["convs"]["in_precision"].as_u64().unwrap(), ran - 2);
    // At 64x64 the head, which does not shrink with the image, has a sixth of all operations.
    let share = report["int8"]["operations_int8_share"].as_f64().unwrap();
    assert!((0.7..0.95).contains(&share), "{share}");
    let layers = report["int8"]["layers"].as_array().unwrap();
    let integer: Vec<&Value> = layers.iter().filter(|layer| layer["computed"] == "int8").collect();
    assert!(integer.iter().all(|layer| layer["signal_to_noise_db"].as_f64().unwrap() > 10.0), "{layers:?}");

    convert("again.onnx", "");
    assert_eq!(fs::read(folder.path("int8.onnx")).unwrap(), fs::read(folder.path("again.onnx")).unwrap());

    let skipped = convert("skipped.onnx", "--skip-worst 3 --method percentile");
    let kept = |report: &Value| {
        let layers = report["int8"]["layers"].as_array().unwrap().clone();
        layers.iter().filter(|layer| layer["computed"] == "fp32: among the worst").count()
    };
    assert_eq!((kept(&report), kept(&skipped)), (0, 3));
}

#[test]
fn a_network_is_compiled_to_its_precision() {
    let folder = network();
    let output = folder.bbc(
        "compile --preset hgnetv2-b0 --input-size 64x64 --target cpu --precision int8 --calibrate images \
         --race-time 0.1 -o made.onnx --json",
    );
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report = document(&output);
    assert_eq!(report["precision"]["precision"], "int8");
    assert!(report["run"]["latency"]["median_ms"].as_f64().unwrap() > 0.0);
    // The same network, weights and images: the same file as in two steps.
    let output = folder.bbc("convert b0.onnx --precision int8 -o two.onnx --calibrate images --race-time 0.1");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(fs::read(folder.path("made.onnx")).unwrap() == fs::read(folder.path("two.onnx")).unwrap());
}

#[test]
fn what_is_not_faster_is_not_written() {
    let folder = network();
    let command = "convert b0.onnx --precision int8 --calibrate images --race-time 0.1 -o int8.onnx";
    let output = folder.bbc(&format!("{command} --require-speedup 1000"));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(said.contains("int8.onnx is not written: it is ") && said.contains("`--require-speedup` asks for 1000"));
    assert_eq!(folder.names(), ["b0.onnx", "images"]);
}

#[test]
fn bad_input_is_said_and_nothing_is_written() {
    let folder = network();
    fs::create_dir(folder.path("empty")).unwrap();
    fs::create_dir(folder.path("broken")).unwrap();
    folder.write("broken/a.png", "this is no picture");
    fs::copy(fixture("models/hidden.onnx"), folder.path("einsum.onnx")).unwrap();
    let output = folder.bbc("convert b0.onnx --precision int8 -o q.onnx --calibrate images --race-time 0.1");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let before = folder.names();
    for (words, expected) in [
        ("convert b0.onnx --precision int8", "int8 needs images to take the ranges of its values from"),
        ("convert b0.onnx --precision int8 --calibrate empty", "there is no JPEG or PNG in the folder `empty`"),
        ("convert b0.onnx --precision int8 --calibrate nowhere", "cannot list the folder `nowhere`"),
        ("convert b0.onnx --precision int8 --calibrate broken", "it is neither JPEG nor PNG"),
        ("convert b0.onnx --precision int8 --calibrate images --method best", "no calibration method `best`"),
        ("convert b0.onnx --precision int8 --calibrate images --no-run", "int8 needs ONNX Runtime"),
        ("convert b0.onnx --precision fp16 --calibrate images", "`--calibrate` is for int8"),
        ("convert b0.onnx --precision fp32", "the model is in single precision as it is"),
        ("convert q.onnx --precision int8 --calibrate images", "the model is quantised already"),
        ("convert q.onnx --precision fp16", "the model is quantised already"),
        ("convert einsum.onnx --precision fp16", "there is no rule for the operator `Einsum`"),
        ("convert nothing.onnx --precision fp16", "cannot read `nothing.onnx`"),
        ("convert b0.onnx --precision fp16 --no-run --require-speedup 1.1", "`--require-speedup` needs a run"),
        ("convert b0.onnx --precision fp16 --skip-worst 3", "`--skip-worst` has no effect with `--precision fp16`"),
        ("compile --no-run --require-speedup 1.1", "`--require-speedup` has no effect with `--precision fp32`"),
        ("compile --no-run --calibrate images", "`--calibrate` has no effect with `--precision fp32`"),
    ] {
        let output = folder.bbc(&format!("{words} -o out.onnx"));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words}: {said}");
        assert!(said.contains(expected), "{words}: {said}");
        assert_eq!(folder.names(), before, "{words}");
    }
    let output = folder.bbc("convert b0.onnx --precision fp16 -o b0.onnx");
    assert!(text(&output.stderr).contains("the model and `--output` are the same file"));
}

/// Without images noise takes the sizes that a model speaks for itself.
#[test]
fn models_of_their_own_batch_and_order_are_converted() {
    let folder = network();
    let output = folder.bbc("compile --preset hgnetv2-b0 --input-size 64x64 --batch 2 --no-run -o two.onnx");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let free =
        |value: &str| Dimension { value: Some(dimension::Value::DimParam(value.into())), ..Dimension::default() };
    let mut last = chain(&[weights(1), weights(2)]);
    let graph = last.graph.as_mut().unwrap();
    let order = AttributeProto {
        name: Some("perm".into()),
        r#type: Some(bbc::onnx::proto::attribute_proto::AttributeType::Ints.into()),
        ints: vec![0, 3, 1, 2],
        ..AttributeProto::default()
    };
    let transpose = NodeProto {
        op_type: Some("Transpose".into()),
        input: vec!["image".into()],
        output: vec!["v0".into()],
        attribute: vec![order],
        ..NodeProto::default()
    };
    graph.node.insert(0, transpose);
    let shape = |info: &mut ValueInfoProto, dims: Vec<Dimension>| {
        let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_mut().unwrap().value.as_mut() else {
            panic!()
        };
        tensor.shape = Some(TensorShapeProto { dim: dims });
    };
    graph.input[0].name = Some("image".into());
    let four = Dimension { value: Some(dimension::Value::DimValue(4)), ..Dimension::default() };
    shape(&mut graph.input[0], vec![free("N"), free("H"), free("W"), four.clone()]);
    shape(&mut graph.output[0], vec![free("N"), four, free("H"), free("W")]);
    fs::write(folder.path("last.onnx"), to_bytes(&last)).unwrap();
    for (words, on) in [
        ("convert two.onnx --precision fp16", "8 samples of noise"),
        ("convert two.onnx --precision int8 --calibrate images", "6 images of `images`"),
        ("convert last.onnx --precision fp16 --input-size 24x32", "8 samples of noise"),
        (
            "compile --preset hgnetv2-b0 --input-size 64x64 --batch 3 --target cpu --precision bf16",
            "8 samples of noise",
        ),
    ] {
        let output = folder.bbc(&format!("{words} --race-time 0.1 -o out.onnx --json"));
        assert_eq!(output.status.code(), Some(0), "{words}: {}", text(&output.stderr));
        let report = document(&output);
        let report = if report["precision"].is_object() { &report["precision"] } else { &report };
        assert_eq!(report["compared_on"], on, "{words}");
        assert!(report["outputs"][0]["error"].as_f64().unwrap() > 0.0, "{words}");
    }
}

/// Weights beside the model are read, and those of the result lie beside it too: the same as those of one file.
#[test]
fn weights_beside_a_model_are_converted() {
    let folder = network();
    let read = |name: &str| bbc::onnx::read(fs::read(folder.path(name)).unwrap().into()).unwrap();
    let mut model = read("b0.onnx");
    let mut data = Vec::new();
    for (start, part) in bbc::onnx::external::put_out(&mut model, "weights.bin") {
        data.resize(usize::try_from(start).unwrap(), 0);
        data.extend(part);
    }
    fs::write(folder.path("weights.bin"), &data).unwrap();
    fs::write(folder.path("beside.onnx"), to_bytes(&model)).unwrap();
    for options in ["fp16 --images images", "int8 --calibrate images"] {
        let convert = |from: &str, to: &str| {
            let words = format!("convert {from} --precision {options} --race-time 0.1 -o {to} --json");
            let output = folder.bbc(&words);
            assert_eq!(output.status.code(), Some(0), "{words}: {}", text(&output.stderr));
            document(&output)
        };
        let [whole, parted] = [convert("b0.onnx", "whole.onnx"), convert("beside.onnx", "parted.onnx")];
        assert_eq!(whole["data_file"], Value::Null);
        let data = folder.path(parted["data_file"].as_str().unwrap());
        let bytes = fs::metadata(data).unwrap().len() + fs::metadata(folder.path("parted.onnx")).unwrap().len();
        assert_eq!(parted["bytes"].as_u64().unwrap(), bytes);
        let mut model = read("parted.onnx");
        assert!(bbc::onnx::external::is_external(&model));
        bbc::onnx::external::take_in(&mut model, folder.root(), 1 << 30).unwrap();
        assert!(to_bytes(&model) == fs::read(folder.path("whole.onnx")).unwrap(), "{options}");
    }
    // What the second one wrote has taken the place of what the first one did.
    let parted = folder.names().into_iter().filter(|name| name.starts_with("parted.onnx")).count();
    assert_eq!(parted, 2, "{:?}", folder.names());
    let before = folder.names();
    for (location, expected) in [("../weights.bin", "`../weights.bin`"), ("gone.bin", "there is no such file")] {
        let mut model = read("beside.onnx");
        for tensor in &mut model.graph.as_mut().unwrap().initializer {
            for entry in tensor.external_data.iter_mut().filter(|entry| entry.key() == "location") {
                entry.value = Some(location.into());
            }
        }
        fs::write(folder.path("beside.onnx"), to_bytes(&model)).unwrap();
        let output = folder.bbc("convert beside.onnx --precision fp16 -o out.onnx");
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
        assert_eq!(folder.names(), before);
        fs::write(folder.path("beside.onnx"), to_bytes(&model)).unwrap();
    }
}

/// Densities at a precision decide on a model of that precision, and a target that is not here is not timed.
#[test]
fn the_choice_is_made_at_the_precision() {
    let folder = network();
    let profile = |dtype: &str| fixture(&format!("profiles/v100-tensorrt-{dtype}.yaml")).display().to_string();
    let output = folder.bbc(&format!("compile --profile {} --precision fp16 -o out.onnx", profile("f32")));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("it has no densities in f16; it was measured in f32"), "{said}");
    assert!(said.contains("bbc profile --dtype f16"), "{said}");
    assert_eq!(folder.names(), ["b0.onnx", "images"]);
    let words = format!("compile --profile {} --input-size 64x64 --precision fp16 -o out.onnx", profile("f16"));
    let output = folder.bbc(&words);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(said.contains("speed       not measured on the target: the profile is of"), "{said}");
    assert!(!said.contains("times as fast"), "{said}");
    let output = folder.bbc(&format!("{words} --require-speedup 1.1"));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("`--require-speedup` needs a run on the target: the profile is of"));
}

/// Nothing is told twice, and no file of ours but the result is named.
#[test]
fn a_summary_tells_everything_once() {
    let folder = network();
    let output = folder.bbc(
        "compile --preset hgnetv2-b0 --input-size 64x64 --target cpu --precision fp16 --race-time 0.1 -o made.onnx",
    );
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for word in ["file ", "latency ", "proof ", "speed ", "error ", "tensorrt "] {
        assert_eq!(said.lines().filter(|line| line.starts_with(word)).count(), 1, "{word}: {said}");
    }
    assert!(said.contains("trtexec --onnx=made.onnx") && !said.contains(".bbc-") && !said.contains("fp32-"), "{said}");
    assert_eq!(folder.names(), ["b0.onnx", "images", "made.onnx"]);
}

/// A convolution whose operands are integers in the file and whose result is taken as it is cannot be fused: ONNX Runtime
/// dequantises and computes in single precision.
#[test]
fn a_convolution_that_ran_in_another_precision_fails_by_its_name() {
    let folder = Folder::new();
    let model = chain(&[weights(1), weights(2), weights(3), weights(4)]);
    let samples = noise(&model, 3);
    let runtime = runtime();
    let watch = Watch { runtime: &runtime, samples: &samples, threads: None, progress: &|_, _| {} };
    let plan = plan_int8(&model, &Int8Options::default()).unwrap();
    let mut made = plan.apply(&precision::calibrate(&watch, &plan, Method::MinMax).unwrap());
    fs::write(folder.path("float.onnx"), to_bytes(&model)).unwrap();
    fs::write(folder.path("int8.onnx"), to_bytes(&made)).unwrap();
    let graph = made.graph.as_mut().unwrap();
    let inner = ValueInfoProto { name: Some("c1".into()), ..graph.output[0].clone() };
    graph.output.push(inner);
    fs::write(folder.path("silent.onnx"), to_bytes(&made)).unwrap();
    for (file, precision, code, expected) in [
        ("int8.onnx", "int8", 0, "3 of 4 convolutions ran in int8; the file has 3 of 4 in it"),
        ("float.onnx", "fp32", 0, "4 of 4 convolutions ran in fp32"),
        ("float.onnx", "int8", 1, "0 of 4 convolutions ran in int8; the file has 0 of 4 in it"),
        ("silent.onnx", "int8", 1, "`conv1"),
    ] {
        let output = folder.bbc(&format!("verify {file} --expect-precision {precision}"));
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{file}: {said}");
        assert!(said.contains(expected), "{file}: {said}");
        assert!(said.contains(if code == 0 { "passed   precision" } else { "failed   precision" }), "{said}");
    }
    let said = text(&folder.bbc("verify silent.onnx --expect-precision int8").stdout);
    assert!(said.contains("ran in fp32") && !said.contains("`conv2") && !said.contains("`conv0"), "{said}");
    let output = folder.bbc("verify int8.onnx --no-run --for tensorrt,openvino,coreml,directml");
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for expected in [
        "tensorrt: refused: `v1.quantized/Q`: it quantises to uint8",
        "tensorrt: trtexec --onnx=int8.onnx --saveEngine=int8.engine",
        "openvino: nothing in its documentation speaks against the model",
        "coreml: refused: `v1.quantized/Q`: the operator `QuantizeLinear` is not listed",
        "directml: nothing in its documentation",
        "(https://",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert_eq!(folder.bbc("verify float.onnx --no-run --for tensorrt").status.code(), Some(0));
    assert_eq!(folder.bbc("verify float.onnx --no-run --for tflite").status.code(), Some(2));
}

/// Sizes of a model whose input is 8x8.
const SIZES: Sizes = Sizes { batch: 1, image: None };

/// Convolutions of four channels one after the other, each with a `Relu` unless it is the last; by their weights and
/// biases.
fn chain(convs: &[(Vec<f32>, Vec<f32>)]) -> ModelProto {
    let dim = |n| Dimension { value: Some(dimension::Value::DimValue(n)), ..Dimension::default() };
    let info = |name: &str| {
        let shape = TensorShapeProto { dim: [1, 4, 8, 8].map(dim).into() };
        let tensor = type_proto::Tensor { elem_type: Some(DataType::Float.into()), shape: Some(shape) };
        let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
        ValueInfoProto { name: Some(name.into()), r#type: Some(ty), ..ValueInfoProto::default() }
    };
    let mut graph = GraphProto { name: Some("chain".into()), input: vec![info("v0")], ..GraphProto::default() };
    let mut value = "v0".to_owned();
    for (i, (weight, bias)) in convs.iter().enumerate() {
        let tensor = |name: String, dims: Vec<i64>, values: &[f32]| TensorProto {
            name: Some(name),
            dims,
            data_type: Some(DataType::Float.into()),
            float_data: values.to_vec(),
            ..TensorProto::default()
        };
        graph.initializer.push(tensor(format!("w{i}"), vec![4, 4, 3, 3], weight));
        graph.initializer.push(tensor(format!("b{i}"), vec![4], bias));
        let node = |name: &str, op: &str, input: Vec<String>, output: String, attribute| NodeProto {
            name: Some(format!("{name}{i}")),
            op_type: Some(op.into()),
            input,
            output: vec![output],
            attribute,
            ..NodeProto::default()
        };
        let pads = AttributeProto {
            name: Some("pads".into()),
            r#type: Some(bbc::onnx::proto::attribute_proto::AttributeType::Ints.into()),
            ints: vec![1; 4],
            ..AttributeProto::default()
        };
        let conv = format!("c{i}");
        graph.node.push(node("conv", "Conv", vec![value, format!("w{i}"), format!("b{i}")], conv.clone(), vec![pads]));
        value = conv;
        if i + 1 < convs.len() {
            let relu = format!("v{}", i + 1);
            graph.node.push(node("relu", "Relu", vec![value], relu.clone(), Vec::new()));
            value = relu;
        }
    }
    graph.output = vec![info(&value)];
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(17) }],
        graph: Some(graph),
        ..ModelProto::default()
    }
}

/// Weights between -0.3 and 0.3 and small biases.
fn weights(seed: u32) -> (Vec<f32>, Vec<f32>) {
    let value = |i: u32| ((i * 7919 + seed * 104_729) % 1000) as f32 / 1000.0 * 0.6 - 0.3;
    ((0..144).map(value).collect(), (0..4).map(|i| value(i + 500) / 3.0).collect())
}

fn noise(model: &ModelProto, count: usize) -> Noise {
    let options = Options { optimization: Optimization::None, ..Options::on(Provider::Cpu) };
    let session = Session::from_bytes(&runtime(), &to_bytes(model), &options).unwrap();
    Noise { ports: session.inputs().to_vec(), sizes: SIZES, count }
}

fn run(model: &ModelProto, inputs: &[(String, Tensor)], optimization: Optimization) -> Vec<f32> {
    let options = Options { optimization, ..Options::on(Provider::Cpu) };
    let mut session = Session::from_bytes(&runtime(), &to_bytes(model), &options).unwrap();
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    session.run(&inputs).unwrap().remove(0).1.into_data()
}

/// Weights with an outlier, a channel of zeros, a `Relu` that lets nothing through, a value that never changes, and biases
/// far beyond what they are added to.
#[test]
fn degenerate_layers_give_numbers() {
    let (weight, bias) = weights(1);
    let mut outlier = weight.clone();
    outlier[0] = 1e4;
    let mut zeros = weight.clone();
    zeros[..72].fill(0.0);
    type Case<'c> = (&'c str, (Vec<f32>, Vec<f32>));
    let cases: Vec<Case<'_>> = vec![
        ("an outlier", (outlier, bias.clone())),
        ("channels of zeros", (zeros, bias.clone())),
        ("all zeros", (vec![0.0; 144], vec![0.0; 4])),
        ("a dead activation", (weight.clone(), vec![-1e6; 4])),
        ("a value that never changes", (vec![0.0; 144], vec![2.5; 4])),
        ("a bias beyond all", (vec![1e-20; 144], vec![1e6; 4])),
        ("weights too small to be divided", (vec![1e-42; 144], bias.clone())),
    ];
    for (name, middle) in cases {
        let model = chain(&[weights(2), middle, weights(3), weights(4)]);
        let samples = noise(&model, 3);
        let runtime = runtime();
        let watch = Watch { runtime: &runtime, samples: &samples, threads: None, progress: &|_, _| {} };
        for method in Method::ALL {
            let plan = plan_int8(&model, &Int8Options::default()).unwrap();
            let ranges = precision::calibrate(&watch, &plan, method).unwrap();
            let made = plan.apply(&ranges);
            bbc::onnx::check(&made).unwrap();
            let inputs = samples.inputs(0).unwrap();
            let expected = run(&model, &inputs, Optimization::All);
            let actual = run(&made, &inputs, Optimization::All);
            let greatest = expected.iter().fold(0f32, |most, v| most.max(v.abs()));
            let difference = expected.iter().zip(&actual).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
            assert!(actual.iter().all(|value| value.is_finite()), "{name}, {method}");
            if method == Method::MinMax {
                assert!(difference <= 0.1 * greatest, "{name}: {difference} of {greatest}");
            }
            for signal in precision::signals(&watch, &plan, &ranges).unwrap() {
                assert!(signal.decibel.is_none_or(f64::is_finite), "{name}: {signal:?}");
            }
        }
    }
}

/// The second convolution's values reach 1e6, which no half holds; the third brings them back.
#[test]
fn what_overflows_stays_in_single_precision() {
    let scaled = |seed, by: f32| {
        let (weight, bias) = weights(seed);
        (weight.iter().map(|v| v * by).collect::<Vec<f32>>(), bias)
    };
    let model = chain(&[weights(1), scaled(2, 1e6), scaled(3, 1e-6), weights(4)]);
    let samples = noise(&model, 3);
    let runtime = runtime();
    let watch = Watch { runtime: &runtime, samples: &samples, threads: None, progress: &|_, _| {} };
    let values: Vec<(String, String)> =
        ["c0", "c1", "v2", "c2", "c3"].iter().map(|v| ((*v).to_owned(), format!("node of {v}"))).collect();
    let peaks = precision::peaks(&watch, &model, &values).unwrap();
    let near: Vec<&str> = peaks.iter().filter(|p| p.is_near(Half::F16)).map(|p| p.node.as_str()).collect();
    assert_eq!(near, ["node of c1", "node of v2"]);

    let inputs = samples.inputs(0).unwrap();
    let expected = run(&model, &inputs, Optimization::All);
    let convert = |keep: &HashSet<String>| {
        let made = to_half(&model, &HalfOptions { half: Half::F16, ports: false, keep }).unwrap();
        (run(&made.emulated(), &inputs, Optimization::None), made)
    };
    let keep = peaks.iter().filter(|p| p.is_near(Half::F16)).map(|p| p.value.clone()).collect();
    let (actual, made) = convert(&keep);
    assert_eq!(made.kept, ["conv1", "relu1", "conv2"]);
    let greatest = expected.iter().fold(0f32, |most, v| most.max(v.abs()));
    let difference = expected.iter().zip(&actual).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(difference < 1e-2 * greatest, "{difference} of {greatest}");
    let (overflown, _) = convert(&HashSet::new());
    assert!(overflown.iter().any(|value| !value.is_finite()), "that is what the check is for");
}

/// The greatest magnitudes, one value at a time.
#[test]
fn ranges_are_those_of_a_naive_loop() {
    let model = chain(&[weights(1), weights(2), weights(3)]);
    let samples = noise(&model, 4);
    let runtime = runtime();
    let watch = Watch { runtime: &runtime, samples: &samples, threads: None, progress: &|_, _| {} };
    let plan = plan_int8(&model, &Int8Options::default()).unwrap();
    let ranges = precision::calibrate(&watch, &plan, Method::MinMax).unwrap();
    let mut expected: HashMap<String, f32> = HashMap::new();
    for index in 0..samples.count() {
        for value in plan.values() {
            let mut exposed = model.clone();
            exposed.graph.as_mut().unwrap().output[0].name = Some(value.clone());
            let seen = run(&exposed, &samples.inputs(index).unwrap(), Optimization::None);
            let most = seen.iter().fold(0f32, |most, v| most.max(v.abs()));
            let entry = expected.entry(value.clone()).or_insert(0.0);
            *entry = entry.max(most);
        }
    }
    assert_eq!(ranges.len(), expected.len());
    for (value, expected) in expected {
        assert!((ranges[&value] - expected).abs() <= 1e-5 * expected, "{value}: {} {expected}", ranges[&value]);
    }
}
