//! Weights as a user handles them: made, compiled, read back, and refused with what is wrong.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic too")]

use std::fs;

use serde_json::{Map, Value, json};

#[path = "support/folder.rs"]
mod folder;

use folder::{Folder, text};

const SMALL: &str = "\
format: 1
name: small
first_conv: conv3x3
input: { height: 32, width: 32 }
stem: { kind: branched, channels: [4, 6] }
block: { aggregation: squeeze_excite, affine: true }
stages:
  - { blocks: 1, layers: 1, mid: 4, out: 8, conv: dw5x5 }
head: { hidden: 8, classes: 5 }
";

/// A folder with a small spec in it, to run commands in.
fn with_spec() -> Folder {
    let folder = Folder::new();
    folder.write("small.yaml", SMALL);
    folder
}

impl Folder {
    /// Runs `bbc`, which has to succeed; what it prints on both streams.
    fn good(&self, words: &str) -> (String, String) {
        let output = self.bbc(words);
        assert_eq!(output.status.code(), Some(0), "{words}: {}", text(&output.stderr));
        (text(&output.stdout), text(&output.stderr))
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// The file of weights with its header changed.
    fn change(&self, from: &str, to: &str, change: impl FnOnce(&mut Map<String, Value>, &mut Vec<u8>)) {
        let bytes = self.read(from);
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut header = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let mut data = bytes[8 + length..].to_vec();
        change(&mut header, &mut data);
        let header = Value::Object(header).to_string();
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
        fs::write(self.path(to), bytes).unwrap();
    }
}

fn metadata(model: &[u8], key: &str) -> Option<String> {
    let model = bbc::onnx::read(model.to_vec().into()).unwrap();
    bbc::onnx::metadata(&model, key).map(ToOwned::to_owned)
}

#[test]
fn weights_go_into_a_model_and_come_back_out() {
    let folder = with_spec();
    let (said, _) = folder.good("weights init --spec small.yaml --seed 7 -o w.safetensors");
    assert_eq!(said, "w.safetensors: 66 tensors of small, 967 values\n");

    // What the seed makes is the same by every way.
    folder.good("compile --spec small.yaml --weights w.safetensors --no-run -o trained.onnx");
    folder.good("compile --spec small.yaml --seed 7 --no-run -o seeded.onnx");
    let initializers = |name: &str| {
        let graph = bbc::onnx::read(folder.read(name).into()).unwrap().graph.unwrap();
        graph.initializer.into_iter().map(|t| (t.name, t.dims, t.raw_data)).collect::<Vec<_>>()
    };
    assert_eq!(initializers("trained.onnx"), initializers("seeded.onnx"));
    assert_eq!(metadata(&folder.read("seeded.onnx"), "bbc.seed").as_deref(), Some("7"));
    assert_eq!(metadata(&folder.read("trained.onnx"), "bbc.seed"), None);
    let hash = metadata(&folder.read("trained.onnx"), "bbc.weights_sha256").unwrap();
    let (report, _) = folder.good("compile --spec small.yaml --weights w.safetensors --no-run --json");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["file"]["weights"], json!({ "file": "w.safetensors", "sha256": hash, "tensors": 66 }));

    folder.good("compile --spec small.yaml --weights w.safetensors --no-fold --no-run -o kept.onnx");
    let names: Vec<String> = initializers("kept.onnx").into_iter().filter_map(|(name, ..)| name).collect();
    for name in ["stem.stem1.bn.running_var", "stem.stem1.lab.bias", "stages.0.blocks.0.layers.0.conv2.conv.weight"] {
        assert!(names.iter().any(|known| known == name), "{name} is not in {names:?}");
    }
    folder.good("weights from-onnx kept.onnx -o back.safetensors");
    assert!(folder.read("back.safetensors") == folder.read("w.safetensors"));
    folder.good("weights from-onnx kept.onnx --spec small.yaml --json -o back.safetensors");
}

#[test]
fn a_head_can_be_replaced() {
    let folder = with_spec();
    folder.good("weights init --spec small.yaml -o w.safetensors");
    let (said, warned) =
        folder.good("compile --spec small.yaml --classes 3 --weights w.safetensors --partial --no-run");
    assert!(said.contains("weights     w.safetensors: 64 tensors, sha256 "), "{said}");
    insta::assert_snapshot!(warned, @r"
    warning: not in the file, initialised with seed 0: `head.fc.weight`, `head.fc.bias`
    warning: in the file and not used: `head.fc.weight`, `head.fc.bias`
    ");
    let (_, warned) = folder.good("compile --spec small.yaml --head none --weights w.safetensors --partial --no-run");
    insta::assert_snapshot!(warned, @"warning: in the file and not used: `head.last_conv.0.weight`, `head.last_conv.2.scale`, `head.last_conv.2.bias`, `head.fc.weight`, `head.fc.bias`");
}

#[test]
fn bad_weights_end_with_2_a_message_and_no_file() {
    let folder = with_spec();
    folder.good("weights init --spec small.yaml -o w.safetensors");
    folder.good("compile --spec small.yaml --no-run -o folded.onnx");
    fs::write(folder.path("model.pth"), b"PK\x03\x04\x14\0\0\0\x08\0archive/data.pkl").unwrap();
    fs::write(folder.path("empty.safetensors"), b"").unwrap();
    let bytes = folder.read("w.safetensors");
    fs::write(folder.path("cut.safetensors"), &bytes[..bytes.len() - 10]).unwrap();
    fs::write(folder.path("oversized.safetensors"), [&(1u64 << 62).to_le_bytes()[..], b"{}"].concat()).unwrap();
    folder.change("w.safetensors", "overlap.safetensors", |header, _| {
        header["head.fc.weight"]["data_offsets"][0] = json!(8);
        header["head.fc.weight"]["data_offsets"][1] = json!(168);
    });
    folder.change("w.safetensors", "other.safetensors", |header, _| {
        let moved = header.remove("stem.stem2a.conv.weight").unwrap();
        header.insert("stem.stem2a.weight".to_owned(), moved);
        header["stem.stem1.bn.bias"]["shape"] = json!([2, 2]);
        header["head.fc.bias"]["dtype"] = json!("I32");
    });
    folder.change("w.safetensors", "nan.safetensors", |header, data| {
        let begin =
            header["stages.0.blocks.0.layers.0.conv1.conv.weight"]["data_offsets"][0].as_u64().unwrap() as usize;
        data[begin + 8..begin + 12].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let before = folder.names();
    let mut said = String::new();
    for words in [
        "compile --spec small.yaml --weights none.safetensors",
        "compile --spec small.yaml --weights empty.safetensors",
        "compile --spec small.yaml --weights model.pth",
        "compile --spec small.yaml --weights folded.onnx",
        "compile --spec small.yaml --weights cut.safetensors",
        "compile --spec small.yaml --weights oversized.safetensors",
        "compile --spec small.yaml --weights overlap.safetensors",
        "compile --spec small.yaml --weights other.safetensors",
        "compile --spec small.yaml --weights nan.safetensors --no-run",
        "compile --spec small.yaml --weights w.safetensors --classes 9",
        "compile --spec small.yaml --partial",
        "weights init",
        "weights from-onnx folded.onnx",
        "weights from-onnx w.safetensors",
    ] {
        let output = folder.bbc(words);
        assert_eq!(output.status.code(), Some(2), "{words}: {}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "", "{words}");
        said.push_str(&format!("$ bbc {words}\n{}\n", text(&output.stderr)));
    }
    assert_eq!(folder.names(), before);
    insta::assert_snapshot!(said, @r#"
    $ bbc compile --spec small.yaml --weights none.safetensors
    error: cannot use the weights `none.safetensors`
      Caused by: No such file or directory (os error 2)

    $ bbc compile --spec small.yaml --weights empty.safetensors
    error: cannot use the weights `empty.safetensors`
      Caused by: it has 0 bytes, too few for a safetensors file

    $ bbc compile --spec small.yaml --weights model.pth
    error: cannot use the weights `model.pth`
      Caused by: it is a PyTorch pickle, not a safetensors file; reading one can run any code, so it is not read

    hint: convert it, if it is from someone you trust (weights_only keeps code from running):
      python -c "import torch, safetensors.torch as s; d = torch.load('model.pth', 'cpu', weights_only=True); s.save_file({k: v.contiguous() for k, v in d.items()}, 'model.safetensors')"

    $ bbc compile --spec small.yaml --weights folded.onnx
    error: cannot use the weights `folded.onnx`
      Caused by: it is not a safetensors file

    $ bbc compile --spec small.yaml --weights cut.safetensors
    error: cannot use the weights `cut.safetensors`
      Caused by: it is cut short: tensor `head.fc.bias` ends at byte 3868, and there are 3858

    $ bbc compile --spec small.yaml --weights oversized.safetensors
    error: cannot use the weights `oversized.safetensors`
      Caused by: its header has 4611686018427387904 bytes, more than the 16777216 supported

    $ bbc compile --spec small.yaml --weights overlap.safetensors
    error: cannot use the weights `overlap.safetensors`
      Caused by: tensors `stem.stem1.conv.weight` and `head.fc.weight` overlap at byte 8

    $ bbc compile --spec small.yaml --weights other.safetensors
    error: cannot use the weights `other.safetensors`
      Caused by: the tensors are not those of the network: 1 missing, 1 unexpected, 1 misshapen, 1 unreadable
      missing     `stem.stem2a.conv.weight`; nearest is `stem.stem2a.weight`
      unexpected  `stem.stem2a.weight`; nearest is `stem.stem2a.conv.weight`
      misshapen   `stem.stem1.bn.bias` is [2,2], the network's is [4]
      unreadable  `head.fc.bias` has elements of type i32; f32, f16 and bf16 can be read

    $ bbc compile --spec small.yaml --weights nan.safetensors --no-run
    error: cannot write `backbone.onnx`
      Caused by: cannot use the weights `nan.safetensors`
      Caused by: weight `stages.0.blocks.0.layers.0.conv1.conv.weight` cannot be read
      Caused by: element 2 is NaN

    hint: `--allow-nonfinite` takes the values as they are

    $ bbc compile --spec small.yaml --weights w.safetensors --classes 9
    error: cannot use the weights `w.safetensors`
      Caused by: the tensors are not those of the network: 2 misshapen
      misshapen   `head.fc.weight` is [5,8], the network's is [9,8]
      misshapen   `head.fc.bias` is [5], the network's is [9]

    hint: `--partial` accepts a file with another head or none, or with stages that the outputs do not need

    $ bbc compile --spec small.yaml --partial
    error: the following required arguments were not provided:
      --weights <FILE>

    Usage: bbc compile --weights <FILE> --spec <FILE> --partial

    For more information, try '--help'.

    $ bbc weights init
    error: no network is named

    hint: name one with `--preset` or `--spec`

    $ bbc weights from-onnx folded.onnx
    error: cannot take the weights from `folded.onnx`
      Caused by: batch normalisation is folded into the convolutions, and cannot be taken out again

    hint: `bbc compile --no-fold` writes a model that keeps it

    $ bbc weights from-onnx w.safetensors
    error: cannot read `w.safetensors`
      Caused by: it is not an ONNX model, or is cut short: failed to decode Protobuf message: invalid tag value: 0
    "#);
    folder.good("compile --spec small.yaml --weights nan.safetensors --allow-nonfinite --no-run");
}

#[test]
fn specs_are_shown_and_checked() {
    let folder = with_spec();
    let (shown, _) = folder.good("spec show hgnetv2-b0");
    assert_eq!(shown, include_str!("../src/backbone/presets/hgnetv2-b0.yaml"));
    let (schema, _) = folder.good("spec schema");
    assert_eq!(schema, include_str!("../schema/spec.schema.json"));
    let (said, _) = folder.good("spec check small.yaml");
    insta::assert_snapshot!(said, @"
    network     small: 1 block of conv3x3
    input       f32[N,3,32,32]
    output      logits: f32[N,5]
    size        180 kFLOP at batch 1, 967 parameters before folding
    ");
    let (report, _) = folder.good("spec check small.yaml --json");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["outputs"], json!([{ "name": "logits", "ty": "f32[N,5]" }]));

    fs::write(folder.path("open.yaml"), SMALL.replace("first_conv: conv3x3\n", "").replace(", conv: dw5x5", ""))
        .unwrap();
    let (said, _) = folder.good("spec check open.yaml");
    assert!(said.starts_with("network     small: 1 block of conv3x3, taken for the one that is left open\n"), "{said}");
    fs::write(folder.path("wrong.yaml"), SMALL.replace("layers: 1", "layer: 1")).unwrap();
    let output = folder.bbc("spec check wrong.yaml");
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!(text(&output.stderr), @"
    error: cannot use the spec `wrong.yaml`
      Caused by: unknown key `layer` in `stages[0]` at line 8, column 18; did you mean `layers`?
    ");
    assert_eq!(folder.bbc("spec show hgnetv2-b9").status.code(), Some(2));
}
