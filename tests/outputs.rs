//! Models for a detector: chosen outputs, images of any size, other widths; and what is left of a model that is replaced.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic too")]

use std::fs;

use bbc::backbone::{Batch, Spec, generate};
use bbc::ir::Seeded;
use bbc::onnx::{Options, lower};
use serde_json::{Value, json};

#[path = "support/folder.rs"]
mod folder;
#[cfg(feature = "run")]
mod support;

use folder::{Folder, text};

const SMALL: &str = "\
format: 1
name: small
first_conv: conv3x3
input: { height: 64, width: 64 }
stem: { kind: branched, channels: [4, 6] }
stages:
  - { blocks: 1, layers: 1, mid: 4, out: 8 }
  - { blocks: 1, layers: 1, mid: 4, out: 12, stride: 2 }
  - { blocks: 1, layers: 1, mid: 4, out: 16, stride: 2 }
head: { hidden: 8, classes: 5 }
";

fn with_spec() -> Folder {
    let folder = Folder::new();
    folder.write("small.yaml", SMALL);
    folder
}

/// The document that a command prints, which has to succeed.
fn report(folder: &Folder, words: &str) -> Value {
    let output = folder.bbc(words);
    assert_eq!(output.status.code(), Some(0), "{words}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn outputs_are_those_named_in_their_order() {
    let folder = with_spec();
    let c2 = json!({ "name": "c2", "stride": 4, "channels": 8 });
    let c3 = json!({ "name": "c3", "stride": 8, "channels": 12 });
    let c4 = json!({ "name": "c4", "stride": 16, "channels": 16 });
    let logits = json!({ "name": "logits", "channels": 5 });
    for (options, expected, parts) in [
        ("", json!([logits]), 5),
        ("--head none", json!([c2, c3, c4]), 4),
        ("--outputs c3,c2", json!([c3, c2]), 3),
        ("--outputs logits,c3", json!([logits, c3]), 5),
        ("--outputs c4 --outputs c2 --head none", json!([c4, c2]), 4),
    ] {
        let report = report(&folder, &format!("compile --spec small.yaml --no-run --json -o m.onnx {options}"));
        assert_eq!(report["outputs"], expected, "{options}");
        assert_eq!(report["parts"].as_array().unwrap().len(), parts, "{options}");
        let model = bbc::onnx::read(fs::read(folder.path("m.onnx")).unwrap().into()).unwrap();
        let stated: Value = serde_json::from_str(bbc::onnx::metadata(&model, "bbc.outputs").unwrap()).unwrap();
        assert_eq!(stated, expected, "{options}");
        let graph = model.graph.unwrap();
        let names: Vec<&str> = graph.output.iter().map(|output| output.name()).collect();
        let expected: Vec<&str> = expected.as_array().unwrap().iter().map(|o| o["name"].as_str().unwrap()).collect();
        assert_eq!(names, expected, "{options}");
    }
    // A spec that names its outputs, and a head that is added to it.
    folder.write("maps.yaml", &SMALL.replace("head: { hidden: 8, classes: 5 }", "outputs: [c4]"));
    let maps = report(&folder, "compile --spec maps.yaml --no-run --json");
    assert_eq!(maps["outputs"], json!([c4]));
    let both = report(&folder, "compile --spec maps.yaml --classes 5 --no-run --json");
    assert_eq!(both["outputs"], json!([c4, logits]));
}

#[test]
fn what_no_output_needs_is_not_asked_of_the_weights() {
    let folder = with_spec();
    assert_eq!(folder.bbc("weights init --spec small.yaml -o w.safetensors").status.code(), Some(0));
    let words = "compile --spec small.yaml --outputs c2 --weights w.safetensors --no-run --json";
    let refused = folder.bbc(words);
    assert_eq!(refused.status.code(), Some(2));
    let hint = "`--partial` accepts a file with another head or none, or with stages that the outputs do not need";
    assert!(text(&refused.stderr).ends_with(&format!("hint: {hint}\n")), "{}", text(&refused.stderr));
    let report = report(&folder, &format!("{words} --partial"));
    let unused = report["file"]["weights"]["unused"].as_array().unwrap();
    let starts = ["stages.1.", "stages.2.", "head."];
    assert!(unused.iter().all(|name| starts.iter().any(|start| name.as_str().unwrap().starts_with(start))));
    assert_eq!(report["file"]["weights"]["initialised"], Value::Null);
}

#[test]
fn widths_are_rounded_to_multiples_of_eight() {
    let folder = with_spec();
    let report = report(&folder, "compile --spec small.yaml --head none --width 2.5 --no-run --json");
    let channels: Vec<&Value> = report["outputs"].as_array().unwrap().iter().map(|o| &o["channels"]).collect();
    // 8, 12 and 16 times 2.5 are 20, 30 and 40.
    assert_eq!(
        (channels, &report["network"]["name"]),
        (vec![&json!(24), &json!(32), &json!(40)], &json!("small-x2.5"))
    );
}

#[test]
fn what_does_not_go_together_is_refused() {
    let folder = with_spec();
    let said = |options: &str| {
        let output = folder.bbc(&format!("compile --spec small.yaml --no-run {options}"));
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), String::new()), "{options}");
        format!("$ {options}\n{}\n", text(&output.stderr))
    };
    let cases = [
        "--outputs c2,c5",
        "--outputs c2,c2",
        "--outputs c2,",
        "--outputs logits --head none",
        "--outputs c2 --head classify",
        "--outputs c2 --classes 3",
        "--width -1",
        "--width 1e9",
    ];
    insta::assert_snapshot!(cases.map(said).concat(), @"
    $ --outputs c2,c5
    error: there is no output `c5`; there are `c2`, `c3`, `c4`

    $ --outputs c2,c2
    error: the output `c2` is named twice

    $ --outputs c2,
    error: there is no output ``; there are `c2`, `c3`, `c4`

    $ --outputs logits --head none
    error: there is no output `logits`; there are `c2`, `c3`, `c4`

    $ --outputs c2 --head classify
    error: `--head classify` makes a classifier, and `--outputs` does not name its output

    hint: name `logits` too, or leave out `--head`

    $ --outputs c2 --classes 3
    error: `--classes` needs a classifier, and `--outputs` without `logits` leaves it out

    $ --width -1
    error: -1 is no factor that channels can be multiplied by; it has to be from 0.001 to 1000

    $ --width 1e9
    error: 1000000000 is no factor that channels can be multiplied by; it has to be from 0.001 to 1000
    ");
    assert_eq!(folder.names(), ["small.yaml"]);
}

#[test]
fn a_free_size_is_seen_by_every_command() {
    let folder = with_spec();
    let report = report(&folder, "compile --spec small.yaml --outputs c2,c4 --dynamic-size --no-run --json -o m.onnx");
    assert_eq!(report["network"]["input"], json!("f32[N,3,H,W]"));
    assert_eq!((&report["network"]["size"], &report["network"]["size_multiple"]), (&json!("64x64"), &json!(16)));
    let seen = folder.bbc("inspect m.onnx --stages");
    insta::assert_snapshot!(text(&seen.stdout).split("\n\nbbc.").next().unwrap(), @"
    small from bbc 0.1.0: 16.5 kB, IR version 8, ai.onnx 17
    input   image: float[N,3,H,W]
    output  c2: float[N,8,H/4,W/4]
    output  c4: float[N,16,H/16,W/16]
    total   787 kFLOP at batch 1 and 64x64, 2.2 k parameters

    layer   op         window     output  operations  parameters    intensity
    stem    12 layers          1x6x16x16   541 kFLOP         504  1.48 FLOP/B
    stage1  5 layers           1x8x16x16   155 kFLOP         308  2.06 FLOP/B
    stage2  6 layers            1x12x8x8  65.5 kFLOP         528  1.83 FLOP/B
    stage3  6 layers            1x16x4x4  25.8 kFLOP         828  1.74 FLOP/B
    ");
    let at = |words: &str| self::report(&folder, words)["flop"].as_u64().unwrap();
    let (nominal, double) = (at("inspect m.onnx --json"), at("inspect m.onnx --json --input-size 64x128"));
    assert_eq!((nominal, double), (report["network"]["flop"].as_u64().unwrap(), 2 * nominal));
}

/// The proof runs the model at its own size and at two others.
#[cfg(feature = "run")]
#[test]
fn a_free_size_is_proven() {
    support::runtime();
    let folder = with_spec();
    let report = report(&folder, "compile --spec small.yaml --head none --dynamic-size --target cpu --json");
    assert_eq!(report["run"]["sizes"], json!(["64x64", "224x224", "320x416"]));
    assert_eq!(report["run"]["batches"], json!([1, 8]));
}

/// A model of more than 2 GiB has its weights in a file beside it, which goes when the model does.
#[test]
fn the_weights_of_a_replaced_model_are_removed() {
    let folder = with_spec();
    let graph = generate(&Spec::read(SMALL).unwrap(), Batch::Dynamic).unwrap().graph;
    let write = |name: &str, data: &str| {
        let model = lower(&graph, &Options::default()).with_external_data(data);
        fs::write(folder.path(name), model.to_bytes(&Seeded(0))).unwrap();
    };
    let others = ["m.onnx.notahash.data", "m.onnx.89abcdef.data", "other.onnx.01234567.data", "secret"];
    for name in others.into_iter().chain(["m.onnx.01234567.data"]) {
        folder.write(name, "weights");
    }
    for (data, goes) in [
        ("secret", false),
        ("../m.onnx.01234567.data", false),
        ("other.onnx.01234567.data", false),
        ("m.onnx.notahash.data", false),
        ("m.onnx.01234567.data", true),
    ] {
        write("m.onnx", data);
        assert_eq!(folder.bbc("compile --spec small.yaml --no-run -o m.onnx").status.code(), Some(0));
        assert_eq!(folder.path("m.onnx.01234567.data").exists(), !goes, "{data}");
        assert!(others.iter().all(|name| folder.path(name).exists()), "{data}");
    }
}
