//! `bbc bench` as a command, on the real library. Times are not asserted, what follows from them is.
#![cfg(feature = "run")]
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic too")]

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

#[path = "support/folder.rs"]
mod folder;
mod support;

use folder::{Folder, text};
use support::runtime;

/// A folder with a small and a large network in it.
fn networks() -> Folder {
    runtime();
    let folder = Folder::new();
    for (preset, size) in [("hgnetv2-b0", "small"), ("hgnetv2-b1", "large")] {
        let input = if size == "small" { "32x32" } else { "320x320" };
        let output = folder.bbc(&format!("compile --preset {preset} --input-size {input} --no-run -o {size}.onnx"));
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    folder
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)))
}

#[test]
fn two_models_are_timed_in_turn() {
    let folder = networks();
    let bench =
        |options: &str| folder.bbc(&format!("bench large.onnx --vs small.onnx --iterations 7 --json {options}"));
    let output = bench("--batch 1,2 --threads 1 --csv runs.csv");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report = document(&output);
    let configurations = report["configurations"].as_array().unwrap();
    assert_eq!(configurations.iter().map(|c| c["batch"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2]);
    for (images, configuration) in [1, 2].into_iter().zip(configurations) {
        // A hundred times the pixels.
        assert!(configuration["ratio"]["median"].as_f64().unwrap() > 3.0, "{configuration}");
        assert_eq!(configuration["ratio"]["tie"], false);
        let large = &configuration["models"][0];
        assert_eq!(large["runs"], 7);
        assert_eq!(large["inputs"]["image"], serde_json::json!([images, 3, 320, 320]));
        let (median, rate) = (large["median_s"].as_f64().unwrap(), large["images_per_s"].as_f64().unwrap());
        assert!((rate * median - f64::from(images)).abs() < 1e-6);
        let density = large["density_flop_per_s"].as_f64().unwrap();
        assert!((density * median / large["operations_flop"].as_f64().unwrap() - 1.0).abs() < 1e-6);
    }
    let operations = |c: usize| configurations[c]["models"][0]["operations_flop"].as_u64().unwrap();
    assert_eq!(operations(1), 2 * operations(0));
    let csv = fs::read_to_string(folder.path("runs.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 2 * 2 * 7);
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("model,batch,threads,run,seconds"));
    let first = lines.next().unwrap().strip_prefix("large.onnx,1,1,0,").unwrap();
    assert!(first.parse::<f64>().unwrap() > 0.0, "{csv}");

    assert_eq!(bench("--fail-if-slower 1.05").status.code(), Some(1));
    assert_eq!(bench("--fail-if-slower 1e6").status.code(), Some(0));
}

/// The runtime's record of shapes and the file's own shapes give the same operations.
#[test]
fn layers_add_up_to_the_model() {
    let folder = networks();
    let report = document(&folder.bbc("bench large.onnx --iterations 2 --per-layer --optimization basic --json"));
    let model = &report["configurations"][0]["models"][0];
    let layers = &model["layers"];
    let nodes = layers["nodes"].as_array().unwrap();
    let of = |ops: &[&str]| -> u64 {
        let nodes = nodes.iter().filter(|node| ops.contains(&node["op"].as_str().unwrap()));
        nodes.filter_map(|node| node["operations_flop"].as_u64()).sum()
    };
    let inspected = document(&folder.bbc("inspect large.onnx --json"));
    let in_file = |ops: &[&str]| -> u64 {
        let layers = inspected["layers"].as_array().unwrap().iter();
        layers.filter(|l| ops.contains(&l["op"].as_str().unwrap())).map(|l| l["flop"].as_u64().unwrap()).sum()
    };
    assert!(of(&["Conv", "FusedConv"]) > 0);
    assert_eq!(of(&["Conv", "FusedConv"]), in_file(&["Conv"]));
    assert_eq!(of(&["Gemm"]), in_file(&["Gemm"]));
    let share: f64 = nodes.iter().map(|node| node["share"].as_f64().unwrap()).sum();
    assert!((share - 1.0).abs() < 1e-6);
    assert_eq!(layers["operators"]["Concat"]["in_file"], layers["operators"]["Concat"]["ran"]);
    assert_eq!(model["nodes"].as_u64().unwrap() as usize, nodes.len());
}

/// Where the channels are last, the size of the image is that of the two dimensions before them.
#[test]
fn an_image_with_its_channels_last_is_one() {
    runtime();
    let folder = Folder::new();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models/old.onnx");
    fs::copy(fixture, folder.path("old.onnx")).unwrap();
    let report = document(&folder.bbc("bench old.onnx --input-size 32x48 --iterations 1 --json"));
    let inputs = report["configurations"][0]["models"][0]["inputs"].as_object().unwrap();
    assert_eq!(inputs.values().collect::<Vec<_>>(), [&serde_json::json!([1, 32, 48, 3])]);
}

/// The runtime's record lies in a temporary folder for a while; an interrupt then removes it.
#[cfg(unix)]
#[test]
fn an_interrupt_leaves_no_temporary_folder() {
    let folder = networks();
    fs::create_dir(folder.path("tmp")).unwrap();
    let begun = || fs::read_dir(folder.path("tmp")).unwrap().count() > 0;
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_bbc"))
        .args(["bench", "large.onnx", "--per-layer", "--batch", "8"])
        .current_dir(folder.root())
        .env("TMPDIR", folder.path("tmp"))
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while !begun() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert!(begun());
    let interrupted = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("interrupted"), "{}", text(&output.stderr));
    let left: Vec<_> = fs::read_dir(folder.path("tmp")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_cannot_be_timed_is_said() {
    let folder = networks();
    folder.bbc("compile --preset hgnetv2-b0 --input-size 32x32 --batch 2 --no-run -o two.onnx");
    let before = folder.names();
    for (words, expected) in [
        (
            "bench two.onnx --batch 3",
            "cannot time `two.onnx` at batch 3\n  Caused by: input `image` has 2 in dimension 0, not 3",
        ),
        ("bench small.onnx --input-size 64x64", "input `image` has 32 in dimension 2, not 64"),
        ("bench none.onnx", "cannot read `none.onnx`"),
        ("bench small.onnx --fail-if-slower 1.1", "--vs <MODEL>"),
        ("bench small.onnx --vs large.onnx --fail-if-slower 0", "not a ratio above zero"),
        ("bench small.onnx --csv none/runs.csv", "there is no folder `none`"),
        ("bench small.onnx --threads 0", "invalid value '0'"),
        ("bench small.onnx --provider cuda", "cuda"),
    ] {
        let output = folder.bbc(words);
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(text(&output.stderr).contains(expected), "{words}: {}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "", "{words}");
    }
    assert_eq!(folder.names(), before);
}
