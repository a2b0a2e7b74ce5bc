//! `bbc census` as a user runs it, and what it says where shapes are known only by running.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic too")]

use std::path::Path;
use std::process::Output;

use assert_cmd::Command;

/// Runs `bbc` beside the small models.
fn bbc(words: &str) -> Output {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models");
    let mut command = Command::cargo_bin("bbc").unwrap();
    command.current_dir(models).env("NO_COLOR", "1").args(words.split_whitespace()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json(words: &str) -> serde_json::Value {
    let output = bbc(words);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// 7x7 stride 2 at 32x48: 7·7·3·8·32·48 multiply-adds; 1x7 and 7x1 at 16x24: 7·8·8·16·24 each; the 3x3 in two groups at
/// 8x12: 9·4·16·8·12; the depthwise one: 9·16·8·12.
#[test]
fn an_old_model_of_any_size() {
    let output = bbc("census old.onnx --input-size 64x96");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    insta::assert_snapshot!(text(&output.stdout), @r"
    old on 1x64x96x3, from its ONNX model: 5 convs, 4.44 MFLOP; beside them 1 MatMul (320 FLOP)

    candidate      stride  convs  operations   share    bytes  at
    conv7x7             2      1  3.61 MFLOP  81.4 %   128 kB  32x48: 1
    conv1x7             1      1   344 kFLOP   7.8 %  26.4 kB  16x24: 1
    conv7x1             1      1   344 kFLOP   7.8 %  26.4 kB  16x24: 1
    group2conv3x3       2      1   111 kFLOP   2.5 %  20.7 kB  8x12: 1
    dw3x3               1      1  27.6 kFLOP   0.6 %  12.9 kB  8x12: 1

    stage  convs  operations   share    bytes  width  last output
    32x48      1  3.61 MFLOP  81.4 %   128 kB      8            8
    16x24      2   688 kFLOP  15.5 %  52.7 kB      8            8
    8x12       2   138 kFLOP   3.1 %  33.6 kB     16           16
    ");

    assert_eq!(bbc("census old.onnx --input-size 64X96").stdout, output.stdout, "a capital X is one too");
    let model = &json("census old.onnx --input-size 64x96 --batch 2 --json")["models"][0];
    let once = 7 * 7 * 3 * 8 * 32 * 48 + 2 * (7 * 8 * 8 * 16 * 24) + 9 * 4 * 16 * 8 * 12 + 9 * 16 * 8 * 12;
    assert_eq!(model["operations_flop"], 2 * 2 * once);
    assert_eq!(model["other_operations_flop"], 2 * 2 * 16 * 10);
    assert_eq!(model["input"], serde_json::json!([2, 64, 96, 3]));
}

#[test]
fn bases_that_need_no_file() {
    let sized = text(&bbc("census resnet34 --input-size 64").stderr);
    assert!(sized.contains("warning: `resnet34` is a census already, taken at one size and batch"), "{sized}");
    let output = bbc("census resnet34");
    assert_eq!(text(&output.stderr), "");
    insta::assert_snapshot!(text(&output.stdout), @r"
    resnet34 on 1x3x224x224, from resnet34 of timm 1.0.31: 36 convs, 7.33 GFLOP; beside them 1 Gemm (1.02 MFLOP)

    candidate  stride  convs  operations   share    bytes  at
    conv3x3         1     29  6.71 GFLOP  91.5 %  98.8 MB  56x56: 6, 28x28: 7, 14x14: 11, 7x7: 5
    conv3x3         2      3   347 MFLOP   4.7 %  8.30 MB  28x28: 1, 14x14: 1, 7x7: 1
    conv7x7         2      1   236 MFLOP   3.2 %  3.85 MB  112x112: 1
    conv1x1         2      3  38.5 MFLOP   0.5 %  2.80 MB  28x28: 1, 14x14: 1, 7x7: 1

    stage    convs  operations   share    bytes  width  last output
    112x112      1   236 MFLOP   3.2 %  3.85 MB     64           64
    56x56        6  1.39 GFLOP  18.9 %  10.5 MB     64           64
    28x28        9  1.75 GFLOP  23.8 %  12.5 MB    128          128
    14x14       13  2.67 GFLOP  36.5 %  32.9 MB    256          256
    7x7          7  1.28 GFLOP  17.5 %  54.0 MB    512          512
    ");
}

#[test]
fn a_census_is_kept_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("both.yaml");
    let output = bbc(&format!("census conv.onnx mobilenetv3-large --output {}", file.display()));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), text(&bbc(&format!("census {}", file.display())).stdout));
}

#[test]
fn what_cannot_be_answered_is_said() {
    let said = |words: &str| {
        let output = bbc(words);
        format!("{} {}", output.status.code().unwrap(), text(&output.stderr))
    };
    let all = [
        said("census old.onnx"),
        said("census maps.onnx"),
        said("census negative.onnx"),
        said("census make.py"),
        said("census conv.onnx --input-size 3x0"),
        said("profile --base-model old.onnx"),
    ];
    insta::assert_snapshot!(all.join("\n"), @r"
    2 error: cannot take the census of `old.onnx`
      Caused by: its input `image` leaves height or width free

    hint: say the size of the image, such as `--input-size 224x224`

    2 error: cannot take the census of `maps.onnx`
      Caused by: it has no convolution

    2 error: cannot take the census of `negative.onnx`
      Caused by: the shape of none of its 1 convolutions can be worked out: at node `/conv` (Conv), its window is larger than its padded input

    2 error: cannot read `make.py`
      Caused by: it is not an ONNX model, or is cut short: failed to decode Protobuf message: invalid wire type value: 7

    2 error: invalid value '3x0' for '--input-size <HxW>': `0` is no number of pixels from 1 to 65536; write `224` or `320x416`

    For more information, try '--help'.

    2 error: cannot take the census of `old.onnx`
      Caused by: its input `image` leaves height or width free

    hint: say the size of the image, such as `--base-input-size 224x224`
    ");
    let unheard_of = said("census resnet51");
    assert!(unheard_of.contains("hint: bases that need no file are `resnet34`, `resnet50`, "), "{unheard_of}");
}

#[cfg(feature = "run")]
#[test]
fn running_shows_what_cannot_be_worked_out() {
    let unseen = bbc("census hidden.onnx");
    assert_eq!(unseen.status.code(), Some(0));
    insta::assert_snapshot!(text(&unseen.stderr), @"warning: the census of `hidden.onnx` is not whole: the shapes of 1 of its convolutions, `/unseen` the first, are not known: at node `/mix` (Einsum), the operator is not known; `--run` sees them by running the model once");
    let model = &json("census hidden.onnx --run --json")["models"][0];
    // 9·3·4·16·16 and 9·6·8·8·8 multiply-adds.
    assert_eq!(model["operations_flop"], 2 * (9 * 3 * 4 * 16 * 16 + 9 * 6 * 8 * 8 * 8));
    assert_eq!(model["unknown"], serde_json::json!([]));
    assert_eq!(json("census hidden.onnx --json")["models"][0]["unknown"], serde_json::json!(["/unseen"]));
}
