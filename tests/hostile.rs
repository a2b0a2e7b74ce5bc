//! `bbc verify` on models that mean harm: every one is refused by the check it is meant for, in little memory and time.
#![cfg(all(unix, feature = "run"))]
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic too")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

#[path = "support/hostile.rs"]
mod hostile;

use hostile::{Beside, Case, cases};

/// Memory of the process, in KiB, and seconds it may take.
const MEMORY: u64 = 512 << 10;
const TIME: Duration = Duration::from_secs(10);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hostile")
}

/// With `BBC_UPDATE=1` the files are written anew instead of compared.
#[test]
fn files_are_what_the_generator_makes() {
    let mut made: Vec<(String, Vec<u8>)> =
        cases().into_iter().map(|case| (format!("{}.onnx", case.name), case.bytes)).collect();
    made.push(("cve-2024-5187-archive.npz".to_owned(), hostile::traversal_archive()));
    made.sort();
    if std::env::var_os("BBC_UPDATE").is_some() {
        fs::remove_dir_all(folder()).unwrap();
        fs::create_dir(folder()).unwrap();
        for (name, bytes) in &made {
            fs::write(folder().join(name), bytes).unwrap();
        }
    }
    let mut committed: Vec<(String, Vec<u8>)> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    committed.sort();
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&committed), names(&made), "run this test with BBC_UPDATE=1");
    for ((name, committed), (_, made)) in committed.iter().zip(&made) {
        assert!(committed == made, "{name} differs; run this test with BBC_UPDATE=1");
        assert!(made.len() < 4096, "{name} has {} bytes", made.len());
    }
    assert!(made.len() >= 40);
}

#[test]
fn every_one_is_refused_by_its_check() {
    let mut wrong = Vec::new();
    for case in cases() {
        let started = Instant::now();
        let (output, _scratch) = verify(&case);
        let took = started.elapsed();
        let text = String::from_utf8_lossy(&output.stdout);
        let report: serde_json::Value = match serde_json::from_str(&text) {
            Ok(report) => report,
            Err(error) => {
                wrong.push(format!("{}: {error}: {text}{}", case.name, String::from_utf8_lossy(&output.stderr)));
                continue;
            }
        };
        let checks = report["models"][0]["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["name"] == case.check).unwrap();
        let message = check["message"].as_str().unwrap_or_default();
        let ran = checks.iter().any(|check| check["name"] == "load" && check["status"] != "skipped");
        if output.status.code() != Some(1)
            || check["status"] != "failed"
            || !message.contains(case.says)
            || ran
            || took > TIME
        {
            wrong.push(format!(
                "{}: {:?} after {took:?}, {check}, {}",
                case.name,
                output.status,
                String::from_utf8_lossy(&output.stderr)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A judge that refuses everything is none: what the bad files were made from is good, in the same limits.
#[test]
fn good_ones_pass_in_the_same_limits() {
    let scratch = tempfile::tempdir().unwrap();
    let model = scratch.path().join("good.onnx");
    fs::write(&model, prost::Message::encode_to_vec(&hostile::base())).unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models");
    let named = ["conv", "half", "means", "maps", "old", "hidden"].map(|name| fixtures.join(format!("{name}.onnx")));
    for path in std::iter::once(model).chain(named) {
        let output = limited(&[path.to_str().unwrap()], scratch.path());
        assert_eq!(output.status.code(), Some(0), "{}: {}", path.display(), String::from_utf8_lossy(&output.stdout));
    }
}

/// CVE-2024-5187: archives are read, never unpacked.
#[test]
fn an_archive_writes_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let inner = scratch.path().join("a/b");
    fs::create_dir_all(&inner).unwrap();
    fs::write(inner.join("good.onnx"), prost::Message::encode_to_vec(&hostile::base())).unwrap();
    let archive = folder().join("cve-2024-5187-archive.npz");
    let output = limited(&["good.onnx", "--reference", archive.to_str().unwrap()], &inner);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("has no array for the input `x`; it has `../../escaped`, `/tmp/escaped`"), "{text}");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    assert!(!Path::new("/tmp/escaped.npy").exists());
}

/// Runs the command on a case, with what belongs beside it; the folder it lies in is kept as long as the result.
fn verify(case: &Case) -> (Output, tempfile::TempDir) {
    let scratch = tempfile::tempdir().unwrap();
    let (inside, outside) = (scratch.path().join("inside"), scratch.path().join("outside"));
    fs::create_dir(&inside).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::copy(folder().join(format!("{}.onnx", case.name)), inside.join("model.onnx")).unwrap();
    let (data, secret) = (inside.join("weights.data"), outside.join("weights.data"));
    fs::write(&secret, vec![0; 432]).unwrap();
    match case.beside {
        Beside::Nothing => {}
        Beside::Data(bytes) => fs::write(data, vec![0; bytes]).unwrap(),
        Beside::Symlink => symlink(secret, data).unwrap(),
        Beside::FolderSymlink => symlink(outside, inside.join("link")).unwrap(),
        Beside::Hardlink => fs::hard_link(secret, data).unwrap(),
        Beside::Folder => fs::create_dir(data).unwrap(),
    }
    let mut words = vec!["--json", "model.onnx"];
    words.extend(case.options.split_whitespace());
    (limited(&words, &inside), scratch)
}

/// `bbc verify` with these words, in limited memory and processor time.
fn limited(words: &[&str], folder: &Path) -> Output {
    let limits = format!("ulimit -v {MEMORY}; ulimit -t {}; exec \"$0\" verify \"$@\"", TIME.as_secs());
    Command::new("sh")
        .args(["-c", &limits, env!("CARGO_BIN_EXE_bbc")])
        .args(words)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}
