//! `bbc verify` as a user runs it: what it prints, how it ends, what it compares, what it survives.
#![cfg(feature = "run")]
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic too")]

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::path::Path;
use std::process::{Command, Output};

use bbc::onnx::proto::tensor_proto::{DataLocation, DataType};
use bbc::onnx::proto::{ModelProto, StringStringEntryProto, TensorProto};
use prost::Message;
use serde_json::Value;

#[path = "support/folder.rs"]
mod folder;
#[path = "support/hostile.rs"]
#[allow(dead_code, reason = "another test uses the rest")]
mod hostile;
#[path = "support/validator.rs"]
mod validator;

use folder::{Folder, text};
use validator::Validator;

/// A folder with a copy of a committed model.
fn with_model(name: &str) -> Folder {
    let folder = Folder::new();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models").join(name);
    fs::copy(fixture, folder.path("model.onnx")).unwrap();
    folder
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)))
}

fn check<'j>(report: &'j Value, name: &str) -> &'j Value {
    report["models"][0]["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap()
}

/// The standard text with the figures that differ from run to run taken out.
#[test]
fn a_good_model_holds() {
    let folder = with_model("conv.onnx");
    let output = folder.bbc("verify model.onnx");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    insta::assert_snapshot!(text(&output.stdout).replace("1.31.1", "N"), @"
    model.onnx: 486 B
      passed   format            486 B
      passed   versions          IR version 8, ai.onnx 17
      passed   operators         1 nodes
      passed   names
      passed   tensors           1 tensors
      passed   windows
      passed   budget
      passed   functions         none
      passed   control-flow
      passed   external-data     none
      passed   load              ONNX Runtime N on `cpu`
      passed   run               at batch 1, 3, 8, on `x` f32[1,2,8,8]
      passed   finite
      passed   shapes            `y` f32[1,4,8,8]
      passed   repeatable
      skipped  providers         `--provider` was not given
      skipped  precision         `--expect-precision` was not given
      skipped  reference         it was not asked for
      skipped  first-divergence  it was not asked for
      skipped  golden            it was not asked for
      skipped  for               `--for` was not given
      skipped  contract          the model carries no metadata of bbc
    model.onnx holds: 15 checks passed, 7 skipped
    ");
}

#[test]
fn the_document_is_as_its_schema_says() {
    let schema = Validator::of(include_str!("../schema/verify.schema.json"));
    let folder = with_model("conv.onnx");
    folder.write("broken.onnx", "no model");
    folder.bbc("verify model.onnx --write-golden golden");
    for (words, code) in [
        ("verify --json model.onnx", 0),
        ("verify --json model.onnx broken.onnx", 1),
        ("verify --json model.onnx --no-run", 0),
        ("verify --json model.onnx --expect-precision fp32 --for tensorrt,openvino,coreml,directml", 0),
        ("verify --json model.onnx --provider cpu --reference golden", 0),
        ("verify --json model.onnx --reference nowhere.npz", 2),
        ("verify --json model.onnx nowhere.onnx", 2),
    ] {
        let output = folder.bbc(words);
        assert_eq!(output.status.code(), Some(code), "{words}: {}", text(&output.stderr));
        let report = json(&output);
        assert_eq!(schema.faults(&report), Vec::<String>::new(), "{words}");
    }
    // It tells what is wrong, too.
    let report = json(&folder.bbc("verify --json model.onnx"));
    let spoilt = |change: &dyn Fn(&mut Value)| {
        let mut report = report.clone();
        change(&mut report["models"][0]["checks"]);
        schema.faults(&report).join("\n")
    };
    assert_eq!(spoilt(&|_| ()), "");
    assert!(spoilt(&|checks| checks[0]["status"] = "perhaps".into()).contains("/models/0/checks/0/status"));
    assert!(spoilt(&|checks| checks[0]["mood"] = "good".into()).contains("mood"));
    assert!(spoilt(&|checks| drop(checks.as_array_mut().unwrap().pop())).contains("/models/0/checks"));
    let no_reason = spoilt(&|checks| {
        checks[11]["status"] = "failed".into();
        checks[11].as_object_mut().unwrap().remove("message");
    });
    assert!(no_reason.contains("message"), "{no_reason}");
}

/// What was not made took no time.
#[test]
fn checks_that_were_skipped_have_no_duration() {
    let folder = with_model("conv.onnx");
    for words in ["", "--no-run", "--reference golden"] {
        folder.bbc("verify model.onnx --write-golden golden");
        let report = json(&folder.bbc(&format!("verify --json model.onnx {words}")));
        let checks = report["models"][0]["checks"].as_array().unwrap();
        let skipped: Vec<&Value> = checks.iter().filter(|check| check["status"] == "skipped").collect();
        assert!(skipped.len() > 3);
        assert!(skipped.iter().all(|check| check["seconds"].is_null()), "{skipped:?}");
    }
}

/// What CI servers ask of JUnit's XML: suites with their counts, cases with name and class, the kind of each result.
#[test]
fn junit_has_the_form_that_servers_read() {
    let folder = with_model("conv.onnx");
    folder.write("bro\u{1}ken<&>.onnx", "no model");
    let output = folder.bbc("verify model.onnx bro\u{1}ken<&>.onnx --junit report.xml");
    assert_eq!(output.status.code(), Some(1));
    let xml = fs::read_to_string(folder.path("report.xml")).unwrap();
    assert!(!xml.contains('\u{1}'), "a character that XML does not have");
    let mut reader = quick_xml::Reader::from_str(&xml);
    let mut path: Vec<String> = Vec::new();
    let (mut suites, mut cases, mut results) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        use quick_xml::events::Event;
        let event = reader.read_event().unwrap();
        if let Event::Start(tag) | Event::Empty(tag) = &event {
            let name = tag.name().as_ref().to_owned();
            let attribute = |name: &str| {
                let value = tag.try_get_attribute(name).unwrap().unwrap_or_else(|| panic!("{name} of {tag:?}"));
                value.value.into_owned()
            };
            let parent = path.last().map_or("", String::as_str);
            match (parent, name.as_str()) {
                ("", "testsuites") => {}
                ("testsuites", "testsuite") => {
                    let count = |name| attribute(name).parse::<usize>().unwrap();
                    suites.push((count("tests"), count("failures"), count("errors")));
                    assert!(!attribute("name").is_empty());
                }
                ("testsuite", "testcase") => {
                    assert!(attribute("classname").starts_with("bbc.verify."));
                    attribute("time").parse::<f64>().unwrap();
                    cases.push(attribute("name"));
                }
                ("testsuite", "properties" | "system-out" | "system-err") => {}
                ("testcase", kind @ ("failure" | "skipped" | "error")) => {
                    results.push((cases.last().unwrap().clone(), kind.to_owned()));
                    assert!(!attribute("message").is_empty());
                }
                (parent, name) => panic!("<{name}> in <{parent}>"),
            }
            if matches!(event, Event::Start(_)) {
                path.push(name);
            }
            continue;
        }
        match event {
            Event::End(_) => drop(path.pop()),
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!(suites, [(22, 0, 0), (22, 1, 0)]);
    assert_eq!(cases.len(), 44);
    assert_eq!(results.iter().filter(|(_, kind)| kind == "failure").count(), 1);
    assert!(results.contains(&("format".into(), "failure".into())));
}

#[test]
fn what_cannot_be_judged_ends_with_2() {
    let folder = with_model("conv.onnx");
    for (words, says) in [
        ("verify nowhere.onnx", "cannot read `nowhere.onnx`"),
        ("verify .", "it is no regular file"),
        ("verify model.onnx --reference empty", "has neither `output_0.pb` nor a folder `test_data_set_0`"),
        ("verify model.onnx --ort-lib nowhere.so", "nowhere.so"),
        ("verify model.onnx --junit model.onnx", "are the same file"),
        ("verify model.onnx model.onnx --write-golden golden", "several are given"),
        ("verify model.onnx --input-shapes image=1", "write a name and sizes"),
    ] {
        fs::create_dir_all(folder.path("empty")).unwrap();
        let output = folder.bbc(words);
        assert_eq!(output.status.code(), Some(2), "{words}: {}", text(&output.stdout));
        assert!(text(&output.stderr).contains(says), "{words}: {}", text(&output.stderr));
    }
}

/// A report never takes the place of a file that the question is about.
#[test]
fn no_input_is_written_over() {
    let folder = with_model("conv.onnx");
    fs::copy(folder.path("model.onnx"), folder.path("other.onnx")).unwrap();
    fs::create_dir(folder.path("sub")).unwrap();
    folder.write("profile.yaml", include_str!("../schema/profile.example.yaml"));
    assert_eq!(folder.bbc("verify model.onnx --write-golden golden").status.code(), Some(0));
    let mut model = hostile::base();
    let weight = &mut model.graph.as_mut().unwrap().initializer[0];
    let data = weight.raw_data.take().unwrap();
    weight.data_location = Some(DataLocation::External.into());
    let entry = StringStringEntryProto { key: Some("location".into()), value: Some("weights.data".into()) };
    weight.external_data = vec![entry];
    fs::write(folder.path("sub/beside.onnx"), model.encode_to_vec()).unwrap();
    fs::write(folder.path("sub/weights.data"), &data).unwrap();
    assert_eq!(folder.bbc("verify sub/beside.onnx").status.code(), Some(0));
    for (words, file) in [
        ("model.onnx other.onnx", "other.onnx"),
        ("model.onnx --profile profile.yaml", "profile.yaml"),
        ("model.onnx --base-model other.onnx", "other.onnx"),
        ("model.onnx --reference other.onnx", "./other.onnx"),
        ("model.onnx --reference golden", "golden/test_data_set_1/output_0.pb"),
        ("sub/beside.onnx", "sub/weights.data"),
        ("other.onnx sub/beside.onnx", "sub/weights.data"),
    ] {
        let before = fs::read(folder.path(file)).unwrap();
        let output = folder.bbc(&format!("verify {words} --junit {file}"));
        assert_eq!(output.status.code(), Some(2), "{words}: {}", text(&output.stdout));
        assert_eq!(text(&output.stdout), "", "{words}");
        assert!(text(&output.stderr).contains("--junit"), "{words}: {}", text(&output.stderr));
        assert_eq!(fs::read(folder.path(file)).unwrap(), before, "{words}");
    }
}

/// A profile or a base model that cannot be read says nothing of any model.
#[test]
fn what_models_are_held_against_is_not_theirs() {
    let folder = with_model("conv.onnx");
    fs::copy(folder.path("model.onnx"), folder.path("other.onnx")).unwrap();
    for (words, says) in [
        ("--profile none.yaml", "none.yaml"),
        ("--base-model none.onnx", "none.onnx"),
        ("--base-model nonet50", "nonet50"),
    ] {
        let output = folder.bbc(&format!("verify --json model.onnx other.onnx --no-run {words}"));
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert_eq!(text(&output.stdout), "", "{words}");
        assert!(text(&output.stderr).contains(says), "{words}: {}", text(&output.stderr));
        assert!(!text(&output.stderr).contains("other.onnx"), "{words}: {}", text(&output.stderr));
    }
}

#[test]
fn sizes_that_are_given_are_those_of_the_model() {
    let folder = with_model("conv.onnx");
    for (words, says) in [
        ("--input-shapes y:1x2x8x8", "the model has no input `y` to give sizes to; it has `x`"),
        ("--input-shapes x:1x2x8x9", "input `x` has 8 in dimension 3; 9 is given"),
        ("--input-shapes x:1x2", "2 sizes are given for input `x`"),
        ("--input-shapes x:2x2x8x8 --batch 3", "the sizes that are given are of batch 2, and [3] are asked for"),
        ("--input-shapes x:2x2x8x8 --input-shapes x:3x2x8x8", "`--input-shapes` gives `x` two shapes"),
        ("--input-shapes x:1xNx8x8", "write a name and sizes"),
    ] {
        let output = folder.bbc(&format!("verify model.onnx {words}"));
        assert_eq!(output.status.code(), Some(2), "{words}: {}", text(&output.stdout));
        assert!(text(&output.stderr).contains(says), "{words}: {}", text(&output.stderr));
    }
    for (words, says) in [
        ("--input-shapes x:5x2x8x8", "at batch 5, on `x` f32[5,2,8,8]"),
        ("--input-shapes x:5x2x8x8 --batch 5", "at batch 5, on `x` f32[5,2,8,8]"),
        ("--input-shapes x:Nx2x8x8", "at batch 1, 3, 8, on `x` f32[1,2,8,8]"),
        ("--input-shapes x:[N,2,8,8] --batch 2,4", "at batch 2, 4, on `x` f32[2,2,8,8]"),
    ] {
        let report = json(&folder.bbc(&format!("verify --json model.onnx {words}")));
        assert_eq!(check(&report, "run")["message"], says, "{words}");
    }
}

/// The runtime that is fetched for tests is the build without GPUs.
#[test]
fn a_provider_is_proven_or_said_to_be_missing() {
    let folder = with_model("conv.onnx");
    let output = folder.bbc("verify --json model.onnx --provider cpu");
    let report = json(&output);
    let providers = check(&report, "providers");
    assert_eq!(providers["status"], "passed");
    assert!(providers["placement"]["CPUExecutionProvider"].as_u64().unwrap() >= 1, "{providers}");
    if std::env::var_os("BBC_ORT_LIB").is_some() {
        return;
    }
    let output = folder.bbc("verify model.onnx --provider cuda");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("cannot be judged: load: "), "{}", text(&output.stderr));
}

#[test]
fn outputs_are_compared_with_stored_ones() {
    let folder = with_model("conv.onnx");
    let output = folder.bbc("verify model.onnx --write-golden golden");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let golden = folder.path("golden");
    let mut names: Vec<String> =
        fs::read_dir(&golden).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["test_data_set_0", "test_data_set_1", "test_data_set_2"]);
    // A second time they take the place of the first.
    assert_eq!(folder.bbc("verify model.onnx --write-golden golden").status.code(), Some(0));
    for words in ["golden", "golden/test_data_set_1"] {
        let output = folder.bbc(&format!("verify model.onnx --reference {words}"));
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    }
    // The stored tensors are read and spoilt by the other reader of ONNX's messages.
    let path = golden.join("test_data_set_0/output_0.pb");
    let mut tensor =
        <onnx_protobuf::TensorProto as onnx_protobuf::Message>::parse_from_bytes(&fs::read(&path).unwrap()).unwrap();
    assert_eq!((tensor.dims.as_slice(), tensor.name.as_str()), (&[1, 4, 8, 8][..], "y"));
    let at = (2 * 64 + 3 * 8 + 5) * 4;
    let raw = &mut tensor.raw_data;
    let value = f32::from_le_bytes(raw[at..at + 4].try_into().unwrap());
    raw[at..at + 4].copy_from_slice(&(value + 0.5).to_le_bytes());
    fs::write(&path, onnx_protobuf::Message::write_to_bytes(&tensor).unwrap()).unwrap();
    let output = folder.bbc("verify --json model.onnx --reference golden");
    assert_eq!(output.status.code(), Some(1));
    let report = json(&output);
    let reference = check(&report, "reference");
    let figures = &reference["outputs"][0];
    assert_eq!((&figures["outside"], &figures["worst"]), (&1.into(), &serde_json::json!([0, 2, 3, 5])));
    assert!((figures["max_abs"].as_f64().unwrap() - 0.5).abs() < 1e-5, "{figures}");
    assert!((figures["mean_abs"].as_f64().unwrap() - 0.5 / 256.0).abs() < 1e-7, "{figures}");
    assert_eq!(reference["outputs"][1]["within"], true);
    // A tolerance that is wide enough lets it pass, and is stated.
    let output = folder.bbc("verify model.onnx --reference golden --atol 0.6");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("f32 within rtol 1e-3, atol 6e-1"), "{}", text(&output.stdout));
}

/// Sets take the place of those before them, more or fewer; nothing else does.
#[test]
fn stored_sets_replace_each_other_and_nothing_else() {
    let folder = with_model("conv.onnx");
    assert_eq!(folder.bbc("verify model.onnx --write-golden golden --batch 1,2").status.code(), Some(0));
    assert_eq!(folder.bbc("verify model.onnx --write-golden golden --batch 4").status.code(), Some(0));
    let sets = || {
        let mut names: Vec<_> = fs::read_dir(folder.path("golden")).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(sets(), ["test_data_set_0"]);
    folder.write("golden/test_data_set_0/notes.txt", "mine");
    let output = folder.bbc("verify model.onnx --write-golden golden");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("`notes.txt` in it is no stored tensor"), "{}", text(&output.stderr));
    assert_eq!(sets(), ["test_data_set_0"]);
    assert_eq!(fs::read_dir(folder.path("golden/test_data_set_0")).unwrap().count(), 3);
    // A model that does not hold leaves them as they are.
    fs::remove_file(folder.path("golden/test_data_set_0/notes.txt")).unwrap();
    folder.write("broken.onnx", "no model");
    assert_eq!(folder.bbc("verify broken.onnx --write-golden golden").status.code(), Some(1));
    assert_eq!(folder.bbc("verify broken.onnx --write-golden new").status.code(), Some(1));
    assert_eq!(sets(), ["test_data_set_0"]);
    assert!(!folder.path("new").exists());
}

/// A network in which one weight of one layer is changed parts from the original there, and is said to.
#[test]
fn the_first_divergence_is_named() {
    let folder = Folder::new();
    folder.write(
        "small.yaml",
        "format: 1\nname: small\nfirst_conv: conv3x3\ninput: { height: 64, width: 64 }\nstem: { kind: stacked, channels: [8, 16] }\n\
         stages:\n  - { blocks: 1, layers: 2, mid: 8, out: 32 }\n  - { blocks: 2, layers: 2, mid: 16, out: 64, stride: 2 }\n",
    );
    let output = folder.bbc("compile --spec small.yaml --no-run -o a.onnx");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let mut model = ModelProto::decode(fs::read(folder.path("a.onnx")).unwrap().as_slice()).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let changed = graph.node.iter().filter(|node| node.op_type() == "Conv").nth(4).unwrap().clone();
    let weight = graph.initializer.iter_mut().find(|tensor| tensor.name() == changed.input[1]).unwrap();
    let mut raw = weight.raw_data.take().unwrap().to_vec();
    raw[..4].copy_from_slice(&3f32.to_le_bytes());
    weight.raw_data = Some(raw.into());
    fs::write(folder.path("b.onnx"), model.encode_to_vec()).unwrap();
    let output = folder.bbc("verify --json b.onnx --reference a.onnx --first-divergence");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    let report = json(&output);
    assert_eq!(check(&report, "reference")["status"], "failed");
    let message = check(&report, "first-divergence")["message"].as_str().unwrap();
    let expected = format!("tensor `{}` of node `{}` (Conv) is out of tolerance", changed.output[0], changed.name());
    assert!(message.starts_with(&expected), "{message}, expected {expected}");
    // Names of values say nothing about the order: with others the same layer is found.
    let rename = |name: &mut String| {
        if name.contains("stage") && !name.contains("weight") && !name.contains("bias") {
            name.push('\'');
        }
    };
    let graph = model.graph.as_mut().unwrap();
    let weights: Vec<String> = graph.initializer.iter().map(|tensor| tensor.name().to_owned()).collect();
    for node in &mut graph.node {
        node.input.iter_mut().filter(|name| !weights.contains(name)).for_each(rename);
        node.output.iter_mut().for_each(rename);
    }
    fs::write(folder.path("b.onnx"), model.encode_to_vec()).unwrap();
    let report = json(&folder.bbc("verify --json b.onnx --reference a.onnx --first-divergence"));
    let message = check(&report, "first-divergence")["message"].as_str().unwrap();
    assert!(message.contains(&format!("of node `{}` (Conv)", changed.name())), "{message}");
    // Where nothing can be compared, that is what is said.
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models/half.onnx");
    fs::copy(fixture, folder.path("half.onnx")).unwrap();
    for reference in ["half.onnx", "none.npz"] {
        let words = format!("verify --json a.onnx --reference {reference} --first-divergence");
        let report = json(&folder.bbc(&words));
        assert_ne!(check(&report, "reference")["status"], "passed");
        assert_eq!(check(&report, "first-divergence")["message"], "there is nothing to compare: see `reference`");
    }
    // A model agrees with itself.
    let report = json(&folder.bbc("verify --json a.onnx --reference a.onnx --first-divergence"));
    assert_eq!(check(&report, "reference")["status"], "passed");
    assert_eq!(check(&report, "first-divergence")["message"], "the outputs agree");
}

/// The runtime believes what it works out itself, not what the file says: that the two differ is for us to find.
#[test]
fn shapes_are_those_of_the_file() {
    use bbc::onnx::proto::tensor_shape_proto::dimension;
    use bbc::onnx::proto::type_proto;
    let folder = Folder::new();
    let mut model = hostile::base();
    let output = &mut model.graph.as_mut().unwrap().output[0];
    let Some(type_proto::Value::TensorType(tensor)) = &mut output.r#type.as_mut().unwrap().value else { panic!() };
    tensor.shape.as_mut().unwrap().dim[3].value = Some(dimension::Value::DimValue(7));
    fs::write(folder.path("model.onnx"), model.encode_to_vec()).unwrap();
    let report = json(&folder.bbc("verify --json model.onnx"));
    let shapes = check(&report, "shapes");
    assert_eq!(shapes["message"], "output `y` is f32[1,4,6,6] at batch 1; the file declares [1,4,6,7]");
    assert_eq!(shapes["status"], "failed");
}

/// A pipe that nobody writes to would never end.
#[cfg(unix)]
#[test]
fn pipes_are_not_waited_for() {
    let folder = with_model("conv.onnx");
    for name in ["pipe.onnx", "pipe.npz", "pipe.pb"] {
        assert!(Command::new("mkfifo").arg(folder.path(name)).status().unwrap().success());
    }
    fs::create_dir(folder.path("set")).unwrap();
    fs::rename(folder.path("pipe.pb"), folder.path("set/input_0.pb")).unwrap();
    fs::copy(folder.path("model.onnx"), folder.path("set/output_0.pb")).unwrap();
    for words in ["pipe.onnx", "model.onnx --reference pipe.npz", "model.onnx --reference set"] {
        let output = folder.bbc(&format!("verify {words}"));
        assert_eq!(output.status.code(), Some(2), "{words}: {}", text(&output.stdout));
        assert!(text(&output.stderr).contains("it is no regular file"), "{words}: {}", text(&output.stderr));
    }
}

#[test]
fn an_archive_is_compared_by_name() {
    let folder = with_model("means.onnx");
    let python_like = |name: &str, shape: &str, values: &[f32]| {
        let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        let padded = format!("{header:<117}\n");
        bytes.extend((padded.len() as u16).to_le_bytes());
        bytes.extend(padded.bytes());
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        (format!("{name}.npy"), bytes)
    };
    let model = ModelProto::decode(fs::read(folder.path("model.onnx")).unwrap().as_slice()).unwrap();
    let graph = model.graph.as_ref().unwrap();
    let (input, output) = (graph.input[0].name(), graph.output[0].name());
    let report = json(&folder.bbc("verify --json model.onnx"));
    let shape = check(&report, "run")["message"].as_str().unwrap();
    let sizes: Vec<usize> =
        shape.rsplit_once('[').unwrap().1.split([',', ']']).filter_map(|n| n.parse().ok()).collect();
    // Means of constant planes are the constants.
    let plane = sizes[2] * sizes[3];
    let values: Vec<f32> = [0.25f32, 0.5, 0.75].iter().flat_map(|&value| vec![value; plane]).collect();
    let dims = format!("(1, 3, {}, {})", sizes[2], sizes[3]);
    for (expected, code) in [([0.25f32, 0.5, 0.75], 0), ([0.25, 0.5, 0.8], 1)] {
        let mut archive = zip::ZipWriter::new(File::create(folder.path("set.npz")).unwrap());
        for (name, bytes) in [python_like(input, &dims, &values), python_like(output, "(1, 3)", &expected)] {
            archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            archive.write_all(&bytes).unwrap();
        }
        archive.finish().unwrap();
        let output = folder.bbc("verify model.onnx --reference set.npz");
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stdout));
    }
    for (names, code, says) in [
        (&[input][..], 2, "there is no output to compare"),
        (&[input, output, "stray"], 1, "it has `stray`, which is no output of the model"),
    ] {
        let mut archive = zip::ZipWriter::new(File::create(folder.path("set.npz")).unwrap());
        for name in names {
            let is_input = *name == input;
            let (shape, values) = if is_input { (&*dims, &values[..]) } else { ("(1, 3)", &[0.25, 0.5, 0.75][..]) };
            let (name, bytes) = python_like(name, shape, values);
            archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            archive.write_all(&bytes).unwrap();
        }
        archive.finish().unwrap();
        let output = folder.bbc("verify model.onnx --reference set.npz");
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stdout));
        assert!(text(&output.stdout).contains(says), "{}", text(&output.stdout));
    }
}

#[cfg(unix)]
#[test]
fn what_does_not_end_is_ended_and_named() {
    let folder = Folder::new();
    fs::write(folder.path("loop.onnx"), endless().encode_to_vec()).unwrap();
    let output = folder.bbc("verify loop.onnx");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("node `loop` is `Loop`"), "{}", text(&output.stdout));
    for (limits, says) in [
        ("--timeout 2", "the process was still at it after 2 s and was ended"),
        ("--cpu-time 1 --threads 1", "more than 1 s of processor time and was ended by SIGXCPU"),
    ] {
        let output = folder.bbc(&format!("verify --json loop.onnx --allow-control-flow {limits}"));
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        let report = json(&output);
        let run = check(&report, "run");
        assert_eq!(run["status"], "failed");
        assert!(run["message"].as_str().unwrap().contains(says), "{run}");
        assert_eq!(check(&report, "load")["status"], "passed");
        assert_eq!(check(&report, "finite")["message"], "the process that ran the model had ended");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn memory_of_the_process_is_limited() {
    let folder = Folder::new();
    let mut model = hostile::base();
    let graph = model.graph.as_mut().unwrap();
    // A gigabyte from a list of sizes, which the budget allows.
    graph.initializer.push(TensorProto {
        name: Some("sizes".into()),
        dims: vec![2],
        data_type: Some(DataType::Int64.into()),
        int64_data: vec![16384, 16384],
        ..TensorProto::default()
    });
    graph.node.push(bbc::onnx::proto::NodeProto {
        op_type: Some("ConstantOfShape".into()),
        input: vec!["sizes".into()],
        output: vec!["big".into()],
        ..Default::default()
    });
    graph.output.push(bbc::onnx::proto::ValueInfoProto { name: Some("big".into()), ..Default::default() });
    graph.output.last_mut().unwrap().r#type = graph.output[0].r#type.clone();
    if let Some(ty) = &mut graph.output.last_mut().unwrap().r#type
        && let Some(bbc::onnx::proto::type_proto::Value::TensorType(tensor)) = &mut ty.value
    {
        tensor.shape = None;
    }
    fs::write(folder.path("big.onnx"), model.encode_to_vec()).unwrap();
    let output = folder.bbc("verify big.onnx --max-memory 512M");
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("does not hold"), "{said}");
    let output = folder.bbc("verify big.onnx");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
}

/// 1.9 GiB in the model, and 3 GiB beside it: the structure is looked at in 64 MiB. The files have holes, so that they
/// take no room.
#[cfg(target_os = "linux")]
#[test]
fn large_models_are_looked_at_in_little_memory() {
    let folder = Folder::new();
    let bytes: u64 = 19 * (1 << 30) / 10;
    write_large(&folder.path("large.onnx"), bytes / 4);
    let mut model = hostile::base();
    let tensor = TensorProto {
        name: Some("big".into()),
        dims: vec![3 << 28],
        data_type: Some(DataType::Float.into()),
        data_location: Some(DataLocation::External.into()),
        external_data: vec![StringStringEntryProto { key: Some("location".into()), value: Some("big.data".into()) }],
        ..TensorProto::default()
    };
    model.graph.as_mut().unwrap().initializer.push(tensor);
    fs::write(folder.path("beside.onnx"), model.encode_to_vec()).unwrap();
    File::create(folder.path("big.data")).unwrap().set_len(3 << 30).unwrap();
    for name in ["large.onnx", "beside.onnx"] {
        let words = format!("ulimit -d {}; exec \"$0\" verify --no-run --max-tensor-bytes 4G {name}", 64 << 10);
        let output = Command::new("sh")
            .args(["-c", &words, env!("CARGO_BIN_EXE_bbc")])
            .current_dir(folder.root())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{name}: {}{}", text(&output.stdout), text(&output.stderr));
    }
    // Without the option the tensors are beyond the budget.
    let output = folder.bbc("verify --no-run beside.onnx");
    assert!(text(&output.stdout).contains("tensor `big` takes 3221225472 bytes"), "{}", text(&output.stdout));
}

/// The base with a weight of so many elements behind everything else.
fn write_large(path: &Path, elements: u64) {
    let varint = |value: u64| {
        let mut bytes = Vec::new();
        prost::encoding::encode_varint(value, &mut bytes);
        bytes
    };
    let mut model = hostile::base();
    let graph = model.graph.take().unwrap().encode_to_vec();
    let tensor = TensorProto {
        name: Some("big".into()),
        dims: vec![elements as i64],
        data_type: Some(DataType::Float.into()),
        ..TensorProto::default()
    }
    .encode_to_vec();
    let data = [&[0x4a][..], &varint(elements * 4)].concat();
    let tensor_length = (tensor.len() + data.len()) as u64 + elements * 4;
    let initializer = [&[0x2a][..], &varint(tensor_length), &tensor, &data].concat();
    let graph_length = (graph.len() + initializer.len()) as u64 + elements * 4;
    let mut file = File::create(path).unwrap();
    file.write_all(&model.encode_to_vec()).unwrap();
    file.write_all(&[&[0x3a][..], &varint(graph_length), &graph, &initializer].concat()).unwrap();
    let end = file.stream_position().unwrap() + elements * 4;
    file.set_len(end).unwrap();
}

/// A loop that goes on for 2^62 rounds.
fn endless() -> ModelProto {
    use bbc::onnx::proto::attribute_proto::AttributeType;
    use bbc::onnx::proto::{AttributeProto, GraphProto, NodeProto, TypeProto, ValueInfoProto, type_proto};
    let port = |name: &str, ty: DataType, like: Option<&ValueInfoProto>| {
        let tensor = type_proto::Tensor { elem_type: Some(ty.into()), shape: Some(Default::default()) };
        let value = Some(type_proto::Value::TensorType(tensor));
        let ty = like.map_or(TypeProto { value, ..TypeProto::default() }, |like| like.r#type.clone().unwrap());
        ValueInfoProto { name: Some(name.into()), r#type: Some(ty), ..ValueInfoProto::default() }
    };
    let node = |op: &str, inputs: &[&str], outputs: &[&str]| NodeProto {
        op_type: Some(op.into()),
        input: inputs.iter().map(ToString::to_string).collect(),
        output: outputs.iter().map(ToString::to_string).collect(),
        ..NodeProto::default()
    };
    let mut model = hostile::base();
    let graph = model.graph.as_mut().unwrap();
    let x = graph.input[0].clone();
    let body = GraphProto {
        name: Some("body".into()),
        input: vec![
            port("i", DataType::Int64, None),
            port("go", DataType::Bool, None),
            port("v", DataType::Float, Some(&x)),
        ],
        node: vec![node("Identity", &["go"], &["on"]), node("Neg", &["v"], &["w2"])],
        output: vec![port("on", DataType::Bool, None), port("w2", DataType::Float, Some(&x))],
        ..GraphProto::default()
    };
    graph.initializer.push(TensorProto {
        name: Some("trips".into()),
        data_type: Some(DataType::Int64.into()),
        int64_data: vec![1 << 62],
        ..TensorProto::default()
    });
    let attribute = AttributeProto {
        name: Some("body".into()),
        r#type: Some(AttributeType::Graph.into()),
        g: Some(body),
        ..AttributeProto::default()
    };
    graph.node.push(NodeProto {
        name: Some("loop".into()),
        attribute: vec![attribute],
        ..node("Loop", &["trips", "", "x"], &["z"])
    });
    graph.output.push(port("z", DataType::Float, Some(&x)));
    model
}

/// The commands of README's examples for CI, as they stand there.
#[cfg(unix)]
#[test]
fn the_examples_of_the_readme_run() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let section = readme.split("## A gate for models in CI").nth(1).unwrap().split("\n## ").next().unwrap();
    let block = |language: &str, marker: &str| {
        let blocks = section.split("```").skip(1).step_by(2);
        let mut found = blocks.filter_map(|block| block.strip_prefix(language)).filter(|block| block.contains(marker));
        found.next().unwrap_or_else(|| panic!("{marker}")).to_owned()
    };
    let folder = with_model("conv.onnx");
    fs::copy(folder.path("model.onnx"), folder.path("fast.onnx")).unwrap();
    let path = Path::new(env!("CARGO_BIN_EXE_bbc")).parent().unwrap();
    let shell = |command: &str| {
        let paths = format!("{}:{}", path.display(), std::env::var("PATH").unwrap());
        Command::new("sh").args(["-ec", command]).env("PATH", paths).current_dir(folder.root()).output().unwrap()
    };
    for line in block("sh", "--write-golden").lines().filter(|line| line.starts_with("bbc") && !line.contains("cuda")) {
        let output = shell(line);
        assert!(output.status.success(), "{line}: {}{}", text(&output.stdout), text(&output.stderr));
    }
    let github: Value = serde_yaml::from_str(&block("yaml", ".github/workflows")).unwrap();
    let gitlab: Value = serde_yaml::from_str(&block("yaml", ".gitlab-ci.yml")).unwrap();
    let steps = github["jobs"]["model"]["steps"].as_array().unwrap();
    let runs = steps.iter().filter_map(|step| step["run"].as_str());
    let scripts = gitlab["model"]["script"].as_array().unwrap().iter().filter_map(Value::as_str);
    let commands: Vec<String> = runs.chain(scripts).map(ToOwned::to_owned).collect();
    assert_eq!(commands.len(), 2);
    for command in commands {
        let output = shell(&command);
        assert!(output.status.success(), "{command}: {}{}", text(&output.stdout), text(&output.stderr));
        assert!(fs::read_to_string(folder.path("verify.xml")).unwrap().contains("<testsuite "));
        fs::remove_file(folder.path("verify.xml")).unwrap();
    }
    // The gate closes on another model.
    fs::write(folder.path("model.onnx"), hostile::base().encode_to_vec()).unwrap();
    assert_eq!(shell("bbc verify model.onnx --reference golden").status.code(), Some(1));
}
