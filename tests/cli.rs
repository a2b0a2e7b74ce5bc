//! Commands as a user runs them: what they print, how they end, which files they leave.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic too")]

use std::fs;
use std::path::Path;

#[path = "support/folder.rs"]
mod folder;

use folder::{Folder, text};

/// A spec that compiles in no time.
const SMALL: &str = "\
format: 1
name: small
first_conv: conv3x3
input: { height: 64, width: 64 }
stem: { kind: stacked, channels: [8, 16] }
stages:
  - { blocks: 1, layers: 2, mid: 8, out: 32 }
  - { blocks: 2, layers: 2, mid: 16, out: 64, stride: 2 }
head: { hidden: 32, classes: 10 }
";

#[test]
fn a_spec_becomes_a_model() {
    let folder = Folder::new();
    folder.write("small.yaml", SMALL);
    let output = folder.bbc("compile --spec small.yaml --no-run -o small.onnx");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    insta::assert_snapshot!(text(&output.stdout), @"
    first conv  conv3x3: the network's own, not measured
    network     small on f32[N,3,64,64]: 8.02 MFLOP, 35.8 k parameters

    part           down   conv     in  mid  concat  out  fields   size  operations  parameters
    stem           -      -         -    -       -   16  -       16x16  2.86 MFLOP       1.4 k
    stage1.block1  -      conv3x3  16    8      32   32  1 3 5   16x16  1.42 MFLOP       2.8 k
    stage2.block1  dw3x3  conv3x3  32   16      64   64  1 3 5     8x8  1.45 MFLOP      11.4 k
    stage2.block2  -      conv3x3  64   16      96   64  1 3 5     8x8  2.27 MFLOP      17.8 k
    head           -      -         -    -       -   10  -           -  8.86 kFLOP       2.4 k

    run         not run; its structure was checked
    file        small.onnx: 152 kB, opset 17, 33 nodes
    ");
    assert_eq!(folder.names(), ["small.onnx", "small.yaml"]);
    let output = folder.bbc("inspect small.onnx --stages");
    insta::assert_snapshot!(text(&output.stdout).split("\nbbc.").next().unwrap(), @"
    small from bbc 0.1.0: 152 kB, IR version 8, ai.onnx 17
    input   image: float[N,3,64,64]
    output  logits: float[N,10]
    total   8.02 MFLOP at batch 1, 35.8 k parameters

    layer   op         window      output  operations  parameters    intensity
    stem    5 layers           1x16x16x16  2.86 MFLOP       1.4 k  6.17 FLOP/B
    stage1  7 layers           1x32x16x16  1.42 MFLOP       2.8 k  5.05 FLOP/B
    stage2  16 layers            1x64x8x8  3.72 MFLOP      29.2 k  7.30 FLOP/B
    head    5 layers                 1x10  8.86 kFLOP       2.4 k  0.33 FLOP/B
    ");
}

#[test]
fn the_graph_can_be_read_as_text() {
    let folder = Folder::new();
    folder.write("small.yaml", SMALL);
    let output = folder.bbc("compile --spec small.yaml --first-conv dw5x5 --head none --batch 2 --emit ir");
    insta::assert_snapshot!(text(&output.stdout), @"
    backbone small
      %0 image                          = input                                     : f32[2,3,64,64]
      %1 stem.conv1                     = conv(%0) 3x3 stride=2 pad=1 out=8 bias    : f32[2,8,32,32]   885 kFLOP
      %2 stem.conv1.relu                = relu(%1)                                  : f32[2,8,32,32]
      %3 stem.conv2                     = conv(%2) 3x3 pad=1 out=16 bias            : f32[2,16,32,32]   4.72 MFLOP
      %4 stem.conv2.relu                = relu(%3)                                  : f32[2,16,32,32]
      %5 stem.pool                      = max_pool(%4) 3x3 stride=2 pad=1           : f32[2,16,16,16]
      %6 stage1.block1.conv1.pointwise  = conv(%5) 1x1 out=8 bias                   : f32[2,8,16,16]   131 kFLOP
      %7 stage1.block1.conv1            = conv(%6) 5x5 pad=2 groups=8 out=8 bias    : f32[2,8,16,16]   205 kFLOP
      %8 stage1.block1.conv1.relu       = relu(%7)                                  : f32[2,8,16,16]
      %9 stage1.block1.conv2.pointwise  = conv(%8) 1x1 out=8 bias                   : f32[2,8,16,16]   65.5 kFLOP
      %10 stage1.block1.conv2           = conv(%9) 5x5 pad=2 groups=8 out=8 bias    : f32[2,8,16,16]   205 kFLOP
      %11 stage1.block1.conv2.relu      = relu(%10)                                 : f32[2,8,16,16]
      %12 stage1.block1.concat          = concat(%5, %8, %11)                       : f32[2,32,16,16]
      %13 stage1.block1.aggregate       = conv(%12) 1x1 out=32 bias                 : f32[2,32,16,16]   1.05 MFLOP
      %14 stage1.block1.aggregate.relu  = relu(%13)                                 : f32[2,32,16,16]
      %15 stage2.downsample             = conv(%14) 3x3 stride=2 pad=1 out=32 bias  : f32[2,32,8,8]   2.36 MFLOP
      %16 stage2.block1.conv1.pointwise = conv(%15) 1x1 out=16 bias                 : f32[2,16,8,8]   131 kFLOP
      %17 stage2.block1.conv1           = conv(%16) 5x5 pad=2 groups=16 out=16 bias : f32[2,16,8,8]   102 kFLOP
      %18 stage2.block1.conv1.relu      = relu(%17)                                 : f32[2,16,8,8]
      %19 stage2.block1.conv2.pointwise = conv(%18) 1x1 out=16 bias                 : f32[2,16,8,8]   65.5 kFLOP
      %20 stage2.block1.conv2           = conv(%19) 5x5 pad=2 groups=16 out=16 bias : f32[2,16,8,8]   102 kFLOP
      %21 stage2.block1.conv2.relu      = relu(%20)                                 : f32[2,16,8,8]
      %22 stage2.block1.concat          = concat(%15, %18, %21)                     : f32[2,64,8,8]
      %23 stage2.block1.aggregate       = conv(%22) 1x1 out=64 bias                 : f32[2,64,8,8]   1.05 MFLOP
      %24 stage2.block1.aggregate.relu  = relu(%23)                                 : f32[2,64,8,8]
      %25 stage2.block2.conv1.pointwise = conv(%24) 1x1 out=16 bias                 : f32[2,16,8,8]   262 kFLOP
      %26 stage2.block2.conv1           = conv(%25) 5x5 pad=2 groups=16 out=16 bias : f32[2,16,8,8]   102 kFLOP
      %27 stage2.block2.conv1.relu      = relu(%26)                                 : f32[2,16,8,8]
      %28 stage2.block2.conv2.pointwise = conv(%27) 1x1 out=16 bias                 : f32[2,16,8,8]   65.5 kFLOP
      %29 stage2.block2.conv2           = conv(%28) 5x5 pad=2 groups=16 out=16 bias : f32[2,16,8,8]   102 kFLOP
      %30 stage2.block2.conv2.relu      = relu(%29)                                 : f32[2,16,8,8]
      %31 stage2.block2.concat          = concat(%24, %27, %30)                     : f32[2,96,8,8]
      %32 stage2.block2.aggregate       = conv(%31) 1x1 out=64 bias                 : f32[2,64,8,8]   1.57 MFLOP
      %33 stage2.block2.aggregate.relu  = relu(%32)                                 : f32[2,64,8,8]
      %34 stage2.block2.add             = add(%33, %24)                             : f32[2,64,8,8]
      output c2 = %14
      output c3 = %34
    ");
    assert_eq!(folder.names(), ["small.yaml"]);
}

#[test]
fn the_same_words_give_the_same_bytes() {
    let folder = Folder::new();
    folder.write("small.yaml", SMALL);
    let bytes = |more: &str| {
        folder.bbc(&format!("compile --spec small.yaml --no-run -o out.onnx {more}"));
        fs::read(folder.path("out.onnx")).unwrap()
    };
    let first = bytes("");
    assert_eq!(first, bytes(""));
    assert_eq!(first, bytes("--target auto --batch dynamic"));
    for more in ["--seed 1", "--opset 13", "--head none", "--classes 11", "--batch 1", "--input-size 32x96"] {
        assert_ne!(first, bytes(more), "{more}");
    }
}

#[test]
fn bad_input_ends_with_2_a_message_and_no_file() {
    let folder = Folder::new();
    folder.write("small.yaml", SMALL);
    folder.write("typo.yaml", &SMALL.replace("blocks: 2", "blokcs: 2"));
    folder.write("zero.yaml", &SMALL.replace("mid: 16", "mid: 0"));
    folder.write("future.yaml", &SMALL.replace("format: 1", "format: 9"));
    folder.write("empty.onnx", "");
    folder.write("text.onnx", "this is no model");
    folder.bbc("compile --spec small.yaml --no-run -o good.onnx");
    let good = fs::read(folder.path("good.onnx")).unwrap();
    fs::write(folder.path("cut.onnx"), &good[..good.len() / 2]).unwrap();
    let before = folder.names();
    let mut said = String::new();
    for words in [
        "compile --spce small.yaml",
        "compile --spec none.yaml",
        "compile --spec typo.yaml",
        "compile --spec zero.yaml",
        "compile --spec future.yaml",
        "compile --spec small.yaml --first-conv group3conv3x3",
        "compile --spec small.yaml --first-conv conv2x2",
        "compile --spec small.yaml --opset 12",
        "compile --spec small.yaml --batch 0",
        "compile --spec small.yaml --input-size 0",
        "compile --spec small.yaml --head none --classes 5",
        "compile --preset hgnetv2-b7",
        "compile --preset hgnet-tiny --spec small.yaml",
        "compile --spec small.yaml --no-run -o no/such/folder.onnx",
        "compile --spec small.yaml --no-run -o .",
        "compile --profile small.yaml",
        "inspect none.onnx",
        "inspect empty.onnx",
        "inspect text.onnx",
        "inspect cut.onnx",
        "inspect .",
    ] {
        let output = folder.bbc(words);
        assert_eq!(output.status.code(), Some(2), "{words}: {}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "", "{words}");
        said.push_str(&format!("$ bbc {words}\n{}\n", text(&output.stderr)));
    }
    assert_eq!(folder.names(), before);
    insta::assert_snapshot!(said, @r"
    $ bbc compile --spce small.yaml
    error: unexpected argument '--spce' found

      tip: a similar argument exists: '--spec'

    Usage: bbc compile --spec <FILE>

    For more information, try '--help'.

    $ bbc compile --spec none.yaml
    error: cannot read `none.yaml`
      Caused by: No such file or directory (os error 2)

    $ bbc compile --spec typo.yaml
    error: cannot use the spec `typo.yaml`
      Caused by: unknown key `blokcs` in `stages[1]` at line 8, column 7; did you mean `blocks`?

    $ bbc compile --spec zero.yaml
    error: cannot use the spec `zero.yaml`
      Caused by: stage 2: mid is 0; it has to be from 1 to 65536

    $ bbc compile --spec future.yaml
    error: cannot use the spec `future.yaml`
      Caused by: the spec has format 9, this version reads format 1

    hint: `schema/spec.example.yaml` shows the format that is read

    $ bbc compile --spec small.yaml --first-conv group3conv3x3
    error: cannot build `stage1.block1.conv1` (conv) on f32[N,16,16,16]
      Caused by: 3 groups do not divide 16 input channels

    hint: every number of channels that `group3conv3x3` is stacked on has to be a multiple of its groups

    $ bbc compile --spec small.yaml --first-conv conv2x2
    error: invalid value 'conv2x2' for '--first-conv <CONV>': `conv2x2` is not a convolution: the sides of the window have to be odd, from 1 to 31

    For more information, try '--help'.

    $ bbc compile --spec small.yaml --opset 12
    error: invalid value '12' for '--opset <N>': `12` is not an opset from 13 to 21

    For more information, try '--help'.

    $ bbc compile --spec small.yaml --batch 0
    error: invalid value '0' for '--batch <N>': write a number above 0, or `dynamic`

    For more information, try '--help'.

    $ bbc compile --spec small.yaml --input-size 0
    error: invalid value '0' for '--input-size <SIZE>': `0` is no number of pixels from 1 to 65536; write `224` or `320x416`

    For more information, try '--help'.

    $ bbc compile --spec small.yaml --head none --classes 5
    error: `--classes` needs a classifier, and `--head none` leaves it out

    $ bbc compile --preset hgnetv2-b7
    error: there is no preset `hgnetv2-b7`; did you mean `hgnetv2-b0`?

    $ bbc compile --preset hgnet-tiny --spec small.yaml
    error: the argument '--preset <NAME>' cannot be used with '--spec <FILE>'

    Usage: bbc compile --preset <NAME>

    For more information, try '--help'.

    $ bbc compile --spec small.yaml --no-run -o no/such/folder.onnx
    error: cannot write `no/such/folder.onnx`
      Caused by: there is no folder `no/such`

    $ bbc compile --spec small.yaml --no-run -o .
    error: cannot write `.`
      Caused by: it is a folder

    $ bbc compile --profile small.yaml
    error: cannot use the profile `small.yaml`
      Caused by: unknown key `name` at line 2, column 1; known are `format`, `device`, `versions`, `settings`, `stages`, `conditions`, `incomplete`, `roofs`, `runs`, `measurements`, `nodes`, `networks`

    $ bbc inspect none.onnx
    error: cannot read `none.onnx`
      Caused by: No such file or directory (os error 2)

    $ bbc inspect empty.onnx
    error: cannot read `empty.onnx`
      Caused by: the file is empty

    $ bbc inspect text.onnx
    error: cannot read `text.onnx`
      Caused by: it is not an ONNX model, or is cut short: failed to decode Protobuf message: ModelProto.metadata_props: invalid wire type: EndGroup (expected LengthDelimited)

    $ bbc inspect cut.onnx
    error: cannot read `cut.onnx`
      Caused by: it is not an ONNX model, or is cut short: failed to decode Protobuf message: ModelProto.graph: buffer underflow

    $ bbc inspect .
    error: cannot read `.`
      Caused by: it is a folder
    ");
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_old_file() {
    let folder = Folder::new();
    folder.write("small.yaml", SMALL);
    let output = folder.bbc("compile --spec small.yaml --no-run -o /dev/full");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("cannot write `/dev/full`"), "{}", text(&output.stderr));
    // A limit on the size of files is what a full disk looks like.
    folder.write("out.onnx", "old");
    let limited = format!(
        "ulimit -f 4; trap '' XFSZ; exec {} compile --spec small.yaml --no-run -o out.onnx",
        assert_cmd::cargo::cargo_bin("bbc").display()
    );
    let output = std::process::Command::new("sh").args(["-c", &limited]).current_dir(folder.root()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert_eq!(fs::read_to_string(folder.path("out.onnx")).unwrap(), "old");
    assert_eq!(folder.names(), ["out.onnx", "small.yaml"]);
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_ends_the_program_quietly() {
    let bbc = assert_cmd::cargo::cargo_bin("bbc");
    let command = format!("{{ {0} compile --preset hgnetv2-b6 --emit ir; echo $? >&2; }} | head -n 1", bbc.display());
    let output = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
    assert_eq!(text(&output.stdout), "backbone hgnetv2-b6\n");
    assert_eq!(text(&output.stderr), "0\n");
}

/// Killed at any moment, the command leaves the old file whole.
#[cfg(unix)]
#[test]
fn killing_it_never_breaks_a_file() {
    let folder = Folder::new();
    let words = ["compile", "--preset", "hgnetv2-b0", "--no-run", "-o", "out.onnx"];
    let start = || {
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("bbc"));
        command.args(words).current_dir(folder.root()).stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null()).spawn().unwrap()
    };
    assert!(start().wait().unwrap().success());
    let whole = fs::read(folder.path("out.onnx")).unwrap();
    for i in 0..12 {
        let mut child = start();
        std::thread::sleep(std::time::Duration::from_millis(15 * i));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(fs::read(folder.path("out.onnx")).unwrap() == whole, "after {i}");
    }
}

/// An interrupt removes what was begun.
#[cfg(unix)]
#[test]
fn an_interrupt_leaves_nothing_behind() {
    let folder = Folder::new();
    for i in 1..8 {
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("bbc"));
        command.args(["compile", "--preset", "hgnet-base", "--no-run", "-o", "out.onnx"]);
        let child = command.current_dir(folder.root()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(40 * i));
        let kill = format!("kill -INT {}", child.id());
        std::process::Command::new("sh").args(["-c", &kill]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        match output.status.code() {
            Some(0) => assert_eq!(folder.names(), ["out.onnx"]),
            Some(2) => {
                assert!(text(&output.stderr).contains("interrupted"), "{}", text(&output.stderr));
                assert!(folder.names().iter().all(|name| name == "out.onnx"), "{:?}", folder.names());
            }
            // The signal came before the program could handle it.
            _ => assert_eq!(folder.names(), Vec::<String>::new()),
        }
        let _ = fs::remove_file(Path::new(&folder.path("out.onnx")));
    }
}

#[test]
fn json_is_json_whatever_a_name_holds() {
    let folder = Folder::new();
    folder.write("small.yaml", SMALL);
    folder.bbc("compile --spec small.yaml --no-run -o rtl\u{200f}\u{7f}.onnx");
    let output = folder.bbc("inspect rtl\u{200f}\u{7f}.onnx --json");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["model"], "rtl\u{200f}\u{7f}.onnx");
    assert!(output.stdout.is_ascii());
}

#[test]
fn no_file_replaces_another_that_is_read_or_written() {
    let folder = Folder::new();
    folder.write("small.yaml", SMALL);
    for (words, expected) in [
        ("-o small.yaml", "the spec and `--output` are the same file, `small.yaml`"),
        ("-o a.onnx --report-json ./a.onnx", "`--output` and `--report-json` are the same file, `./a.onnx`"),
        ("--emit ir --json", "`--emit ir` writes no model to report on"),
        ("-o a.onnx --report-json no/r.json", "there is no folder `no`"),
    ] {
        let output = folder.bbc(&format!("compile --spec small.yaml --no-run {words}"));
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(text(&output.stderr).contains(expected), "{words}: {}", text(&output.stderr));
    }
    assert_eq!(folder.names(), ["small.yaml"]);
    assert_eq!(fs::read_to_string(folder.path("small.yaml")).unwrap(), SMALL);
}

#[test]
fn targets_that_are_not_there_are_refused_run_or_not() {
    let folder = Folder::new();
    folder.write("small.yaml", SMALL);
    for words in ["--target nonsense", "--provider nonsense"] {
        let output = folder.bbc(&format!("compile --spec small.yaml --no-run {words}"));
        assert_eq!(output.status.code(), Some(2), "{words}: {}", text(&output.stderr));
    }
    assert_eq!(folder.names(), ["small.yaml"]);
}

/// A profile of another machine's GPU says nothing of this one: the model is not proven on its target.
#[cfg(feature = "run")]
#[test]
fn a_model_for_another_machine_is_not_called_proven() {
    let folder = Folder::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let profile = root.join("fixtures/profiles/v100-tensorrt-f32.yaml");
    folder.write("small.yaml", &SMALL.replace("first_conv: conv3x3\n", ""));
    let words = format!("compile --spec small.yaml --profile {} -o v.onnx", profile.display());
    let output = folder.bbc(&words);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("NOT PROVEN"), "{}", text(&output.stdout));
    let output = folder.bbc(&format!("{words} --require-provider -o w.onnx").replace("-o v.onnx", ""));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert_eq!(folder.names(), ["small.yaml", "v.onnx"]);
}

#[cfg(unix)]
#[test]
fn a_pipe_that_is_closed_too_early_is_a_failure_of_the_file() {
    let folder = Folder::new();
    let bbc = assert_cmd::cargo::cargo_bin("bbc");
    let command = format!(
        "mkfifo p; (head -c 10 p > /dev/null) & {} compile --preset hgnetv2-b0 --no-run -o p; echo $?",
        bbc.display()
    );
    let output = std::process::Command::new("sh").args(["-c", &command]).current_dir(folder.root()).output().unwrap();
    assert!(text(&output.stdout).ends_with("2\n"), "{} {}", text(&output.stdout), text(&output.stderr));
}
