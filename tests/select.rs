//! `bbc select` as a user runs it, on recorded profiles.

use std::fs;
use std::process::Output;

use assert_cmd::Command;
use bbc::profile::Profile;
use bbc::select::{Policy, Selection, select};

mod support;

use support::fixture;

fn bbc(words: &[&str]) -> Output {
    let mut command = Command::cargo_bin("bbc").expect("the binary");
    command.env("NO_COLOR", "1").current_dir(fixture("profiles")).args(words).output().expect("an end")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn selection(name: &str) -> Selection {
    let text = fs::read_to_string(fixture(&format!("profiles/{name}.yaml"))).expect("a profile");
    select(&Profile::read(&text).expect("a profile"), Policy::Densest).expect("a choice")
}

/// What the published latencies say of this GPU: the greatest density is 3x3's in single precision, 5x5's in half precision.
#[test]
fn recorded_profiles_give_their_winner() {
    for (name, winner, software) in [
        ("patent", "conv3x3", false),
        ("v100-tensorrt-f32", "conv3x3", false),
        ("v100-tensorrt-f16", "conv5x5", false),
        ("llvmpipe", "conv1x1", true),
        ("epyc-cpu", "conv1x1", false),
    ] {
        let selection = selection(name);
        assert_eq!(selection.winner.to_string(), winner, "{name}");
        assert_eq!(selection.software, software, "{name}");
        assert_eq!(selection.ranking.ranks.len(), 5, "{name}");
        assert!(selection.ranking.left_out.is_empty(), "{name}");
    }
}

/// The three full convolutions are as dense as each other on this processor, as far as its noise lets one see.
#[test]
fn a_tie_goes_to_the_lowest_latency() {
    let selection = selection("epyc-cpu");
    let tied: Vec<String> = selection.tied_with.iter().map(ToString::to_string).collect();
    assert_eq!((selection.clear, tied), (false, vec!["conv3x3".to_owned(), "conv5x5".to_owned()]));
    let latency_of = |name: &str| {
        let ranked = selection.ranking.ranks.iter().find(|ranked| ranked.candidate.to_string() == name);
        ranked.map(|ranked| ranked.latency).expect("ranked")
    };
    assert!(latency_of("conv1x1") < latency_of("conv3x3") && latency_of("conv3x3") < latency_of("conv5x5"));
    assert!(latency_of("dw3x3") < latency_of("conv1x1"), "the lowest latency of all is not among the tied");
}

#[test]
fn the_published_table_for_people() {
    let output = bbc(&["select", "patent.yaml"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr), "");
    insta::assert_snapshot!(text(&output.stdout), @r"
    conv3x3 (policy densest, measured by: CN114897147B)
      1.094 times as dense as conv5x5; so few rounds say nothing of the noise

    the GPU of CN114897147B (not named there) (unstated, unstated)
    workload patent, f32, batch 1, 1 round

    measured by: CN114897147B
    rank  candidate  operations  latency  spread       density  95 % interval
       1  conv3x3     116 GFLOP  97.0 ms       -  1.20 TFLOP/s              -
       2  conv5x5     322 GFLOP   295 ms       -  1.09 TFLOP/s              -
       3  conv1x1    12.9 GFLOP  17.3 ms       -   745 GFLOP/s              -
       4  dw5x5       629 MFLOP  5.43 ms       -   116 GFLOP/s              -
       5  dw3x3       226 MFLOP  4.36 ms       -  51.9 GFLOP/s              -
    ");
}

#[test]
fn a_software_adapter_is_marked_wherever_its_figures_stand() {
    let output = bbc(&["select", "llvmpipe.yaml"]);
    assert_eq!(output.status.code(), Some(0));
    insta::assert_snapshot!(text(&output.stderr), @r"warning: `llvmpipe (LLVM 15.0.6, 256 bits)` is a software adapter: its speed says nothing about any GPU, and so does this choice");
    insta::assert_snapshot!(text(&output.stdout), @r"
    conv1x1 (policy densest, measured by: shaders)
      tied with conv5x5: the difference is inside the noise (0.992 times (95 % interval 0.932 to 1.068) as dense as conv5x5); the lower latency decides

    llvmpipe (LLVM 15.0.6, 256 bits) (vulkan, llvmpipe Mesa 22.3.6 (LLVM 15.0.6))
    SOFTWARE ADAPTER: its results are right, its speed means nothing
    workload stages, f32, batch 1, 10 rounds

    measured by: shaders
    rank  candidate  operations  latency   spread                  density                 95 % interval
       1  conv1x1     103 MFLOP   180 ms  ±14.6 %   572 MFLOP/s (software)    460 MFLOP/s to 658 MFLOP/s
       2  conv5x5    2.57 GFLOP   4.84 s  ±10.2 %   531 MFLOP/s (software)    486 MFLOP/s to 623 MFLOP/s
       3  dw3x3      6.77 MFLOP  17.1 ms  ±11.7 %   396 MFLOP/s (software)    309 MFLOP/s to 473 MFLOP/s
       4  conv3x3     925 MFLOP   2.40 s   ±9.0 %   386 MFLOP/s (software)    355 MFLOP/s to 440 MFLOP/s
       5  dw5x5      18.8 MFLOP   278 ms   ±9.4 %  67.7 MFLOP/s (software)  64.2 MFLOP/s to 83.2 MFLOP/s
    ");
}

#[test]
fn json_has_the_same_figures_with_their_units() {
    let output = bbc(&["select", "--json", "patent.yaml"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&json["schema"], &json["winner"], &json["clear"]), (&1.into(), &"conv3x3".into(), &true.into()));
    let first = &json["ranking"]["candidates"][0];
    assert_eq!(first["operations_flop"], 115_964_116_992_u64);
    // 57982 million multiply-adds in 97.03 ms.
    let density = first["density_flop_per_s"].as_f64().expect("a number");
    assert!((density / (2.0 * 57_982.058_496e6 / 97.03e-3) - 1.0).abs() < 1e-6, "{density}");
    assert_eq!(json["profile_sha256"].as_str().map(str::len), Some(64));
    assert_eq!(json["device"]["software"], false);
}

#[test]
fn what_cannot_be_chosen_from_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let patent = fs::read_to_string(fixture("profiles/patent.yaml")).expect("a profile");
    let broken = [
        ("absent.yaml", None),
        ("version.yaml", Some(patent.replace("format: 1", "format: 9"))),
        ("typo.yaml", Some(patent.replace("layers: 6", "layer: 6"))),
        (
            "empty.yaml",
            Some(patent.split("measurements:").next().expect("a beginning").to_owned() + "measurements: []\n"),
        ),
        ("binary.yaml", Some("\u{0}\u{1}".to_owned())),
    ];
    let mut said = String::new();
    for (name, content) in broken {
        if let Some(content) = content {
            fs::write(folder.path().join(name), content).expect("a file");
        }
        let mut command = Command::cargo_bin("bbc").expect("the binary");
        let output = command.env("NO_COLOR", "1").current_dir(folder.path()).args(["select", name]).output();
        let output = output.expect("an end");
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert_eq!(text(&output.stdout), "", "{name}");
        said += &text(&output.stderr);
    }
    insta::assert_snapshot!(said, @r"
    error: cannot read `absent.yaml`
      Caused by: No such file or directory (os error 2)
    error: `version.yaml` is not a profile that can be used
      Caused by: the profile has format 9, this bbc reads format 1; measure again with `bbc profile`

    hint: `bbc profile -o FILE` measures this machine and writes one
    error: `typo.yaml` is not a profile that can be used
      Caused by: unknown key `layer` in `measurements[0]` at line 21, column 5; did you mean `layers`?

    hint: `bbc profile -o FILE` measures this machine and writes one
    error: no convolution can be chosen from `empty.yaml`
      Caused by: the profile has no measurements
    error: `binary.yaml` is not a profile that can be used
      Caused by: not valid YAML: control characters are not allowed

    hint: `bbc profile -o FILE` measures this machine and writes one
    ");
}

#[test]
fn impossible_wishes_are_refused() {
    let mut said = String::new();
    for words in [
        &["profile", "--instrument", "shader", "--target", "cpu"][..],
        &["profile", "--target", "no such adapter"],
        &["profile", "--workload", "paper"],
        &["profile", "--time", "0"],
        &["profile", "--dtype", "i4"],
        &["profile", "--batch", "0"],
        &["profile", "--target", "cpu", "--output", "no such folder/profile.yaml"],
        &["select", "--policy", "best", "patent.yaml"],
    ] {
        let output = bbc(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert_eq!(text(&output.stdout), "", "{words:?}");
        said += text(&output.stderr).split("\n\n").next().expect("a message");
        said += "\n";
    }
    // What the machine has differs; what is said first does not.
    let without_environment: Vec<&str> =
        said.lines().filter(|line| line.starts_with("error") && !line.contains("XDG_RUNTIME_DIR")).collect();
    insta::assert_snapshot!(without_environment.join("\n"), @r"
    error: shaders do not run on the processor as such
    error: no adapter is called `no such adapter`
    error: invalid value 'paper' for '--workload <WORKLOAD>': unknown workload `paper`; known are `stages` and `patent`
    error: invalid value '0' for '--time <SECONDS>': not from 0.1 to 3600
    error: invalid value 'i4' for '--dtype <DTYPE>': not one of f32, f16, bf16 and i8
    error: invalid value '0' for '--batch <N>': 0 is not in 1..=4294967295
    error: cannot write `no such folder/profile.yaml`
    error: invalid value 'best' for '--policy <POLICY>': unknown policy `best`; known is `densest`
    ");
}
