//! Real files with a few bytes changed, thrown at everything that reads bytes from outside.
//!
//! Each target runs for `BBC_FUZZ_SECONDS`, two if that is not set. What once broke a target lies in `fixtures/finds`
//! and is tried first.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic too")]
#![expect(clippy::print_stderr, reason = "how much was thrown is what one wants to know of a run")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bbc::conv::Conv;
use bbc::ir::{GraphBuilder, Seeded};
use bbc::onnx::{Options, lower};
use bbc::tensor::{Dim, TensorType};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

#[path = "fuzz/targets.rs"]
mod targets;

/// Files larger than this are left out: small ones are mutated more often in the same time.
const MAX_FILE: usize = 64 << 10;

/// Inputs of one turn, after which the clock is looked at.
const CASES: u32 = 64;

/// No input may take longer, even in a debug build on a busy machine.
const MAX_TIME: Duration = Duration::from_secs(20);

/// Where the files of each target lie.
const CORPUS: &[(&str, &[&str], &[&str])] = &[
    ("onnx", &["fixtures/models", "fixtures/hostile"], &["onnx"]),
    (
        "yaml",
        &["fixtures/profiles", "fixtures/parity", "schema", "src/backbone/presets", "src/census/bases"],
        &["yaml"],
    ),
    ("safetensors", &["fixtures/parity"], &["safetensors"]),
    ("image", &["fixtures/images"], &["png", "jpg"]),
];

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let (_, folders, extensions) = CORPUS.iter().find(|(name, ..)| *name == target).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<PathBuf> = folders
        .iter()
        .filter_map(|folder| fs::read_dir(root.join(folder)).ok())
        .flat_map(|entries| entries.map(|entry| entry.unwrap().path()))
        .filter(|path| path.extension().is_some_and(|have| extensions.iter().any(|wanted| have == *wanted)))
        .collect();
    paths.sort();
    let mut files: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    files.retain(|file| file.len() <= MAX_FILE);
    if target == "image" {
        files.push(
            br#"{"size":[224,224],"crop":0.875,"interpolation":"bicubic","mean":[0,0,0],"std":[1,1,1]}"#.to_vec(),
        );
    }
    if target == "onnx" {
        files.push(large_model());
    }
    assert!(files.len() >= 3, "{target}: {paths:?}");
    files
}

/// A model with more data in one tensor than is kept while the structure is looked at.
fn large_model() -> Vec<u8> {
    let mut g = GraphBuilder::new("large");
    let x = g.input("image", TensorType::f32([1, 3, 8, 8].map(Dim::Fixed))).unwrap();
    let x = g.conv("a", x, Conv::square(3), 32).unwrap();
    let x = g.conv("b", x, Conv::square(3), 32).unwrap();
    let graph = g.finish([("out", x)]).unwrap();
    lower(&graph, &Options::default()).to_bytes(&Seeded(0))
}

/// A change to a file; places are shares of its length.
#[derive(Debug, Clone)]
enum Change {
    /// This byte is set.
    Set(f64, u8),
    /// This bit is turned.
    Turn(f64, u8),
    /// These bytes are put over what is there.
    Write(f64, Vec<u8>),
    /// These bytes are put in between.
    Insert(f64, Vec<u8>),
    /// A number in text becomes another.
    Number(f64, &'static str),
    /// So many bytes are taken out.
    Cut(f64, usize),
    /// The rest is left away.
    Truncate(f64),
    /// A part is repeated elsewhere.
    Repeat(f64, f64, usize),
    /// A part of another file of the corpus is put in.
    Splice(f64, usize, f64, usize),
}

fn any_change() -> impl Strategy<Value = Change> {
    let place = || 0.0..1.0f64;
    let telling = prop_oneof![
        Just(vec![0xff; 8]),
        Just(vec![0; 8]),
        Just(vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        Just(vec![0x80, 0x80, 0x80, 0x80, 0x08]),
        Just(u64::MAX.to_le_bytes().to_vec()),
        Just(i64::MAX.to_le_bytes().to_vec()),
        Just(0x8000_0000u32.to_be_bytes().to_vec()),
        Just(f32::NAN.to_le_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 1..12),
    ];
    let numbers = [
        "0",
        "-1",
        "1",
        "4294967295",
        "4294967296",
        "18446744073709551615",
        "99999999999999999999",
        "1e308",
        "1e400",
        ".nan",
        ".inf",
        "0.0",
        "''",
        "~",
        "[]",
        "{}",
        "!!binary x",
        "&a [*a]",
        "9223372036854775807",
        "2147483648",
    ];
    prop_oneof![
        (place(), prop_oneof![Just(0u8), Just(0xff), Just(0x7f), Just(0x80), any::<u8>()])
            .prop_map(|(at, byte)| Change::Set(at, byte)),
        (place(), 0..8u8).prop_map(|(at, bit)| Change::Turn(at, bit)),
        (place(), telling.clone()).prop_map(|(at, bytes)| Change::Write(at, bytes)),
        (place(), telling).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (place(), prop::sample::select(numbers.to_vec())).prop_map(|(at, number)| Change::Number(at, number)),
        (place(), 1..200usize).prop_map(|(at, count)| Change::Cut(at, count)),
        place().prop_map(Change::Truncate),
        (place(), place(), 1..400usize).prop_map(|(from, to, count)| Change::Repeat(from, to, count)),
        (place(), any::<usize>(), place(), 1..400usize)
            .prop_map(|(to, file, from, count)| Change::Splice(to, file, from, count)),
    ]
}

fn changed(files: &[Vec<u8>], file: usize, changes: &[Change]) -> Vec<u8> {
    let mut bytes = files[file % files.len()].clone();
    for change in changes {
        let at = |share: f64, bytes: &[u8]| ((bytes.len() as f64 * share) as usize).min(bytes.len());
        let part = |from: &[u8], share: f64, count: usize| {
            let start = at(share, from);
            from[start..(start + count).min(from.len())].to_vec()
        };
        let insert = |bytes: &mut Vec<u8>, place: usize, new: Vec<u8>| drop(bytes.splice(place..place, new));
        match change {
            Change::Set(share, byte) => {
                let place = at(*share, &bytes);
                bytes.get_mut(place).into_iter().for_each(|old| *old = *byte);
            }
            Change::Turn(share, bit) => {
                let place = at(*share, &bytes);
                bytes.get_mut(place).into_iter().for_each(|old| *old ^= 1 << bit);
            }
            Change::Write(share, new) => {
                let place = at(*share, &bytes);
                bytes.iter_mut().skip(place).zip(new).for_each(|(old, new)| *old = *new);
            }
            Change::Insert(share, new) => {
                let place = at(*share, &bytes);
                insert(&mut bytes, place, new.clone());
            }
            Change::Number(share, new) => {
                let is_part = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
                let start = at(*share, &bytes);
                let start = start + bytes[start..].iter().position(u8::is_ascii_digit).unwrap_or(0);
                let length = bytes[start..].iter().take_while(|byte| is_part(byte)).count();
                bytes.splice(start..start + length, new.bytes());
            }
            Change::Cut(share, count) => {
                let place = at(*share, &bytes);
                let end = (place + count).min(bytes.len());
                bytes.drain(place..end);
            }
            Change::Truncate(share) => {
                let place = at(*share, &bytes);
                bytes.truncate(place);
            }
            Change::Repeat(from, to, count) => {
                let (new, place) = (part(&bytes, *from, *count), at(*to, &bytes));
                insert(&mut bytes, place, new);
            }
            Change::Splice(to, other, from, count) => {
                let (new, place) = (part(&files[other % files.len()], *from, *count), at(*to, &bytes));
                insert(&mut bytes, place, new);
            }
        }
    }
    bytes
}

fn finds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/finds").join(target);
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
}

fn throw_at(name: &str) {
    let (_, target) = targets::TARGETS.iter().find(|(found, _)| *found == name).unwrap();
    let timed = |bytes: &[u8]| {
        let start = Instant::now();
        target(bytes);
        start.elapsed()
    };
    let files = corpus(name);
    for file in finds(name).iter().chain(&files) {
        assert!(timed(file) < MAX_TIME);
    }
    let seconds: u64 = std::env::var("BBC_FUZZ_SECONDS").map_or(2, |seconds| seconds.parse().unwrap());
    let config = Config { failure_persistence: None, cases: CASES, max_shrink_time: 30_000, ..Config::default() };
    let inputs = (any::<usize>(), prop::collection::vec(any_change(), 1..6));
    let (start, mut turns) = (Instant::now(), 0u32);
    while start.elapsed() < Duration::from_secs(seconds) {
        // The same inputs in the same order every time.
        let mut seed = [0; 32];
        seed[..4].copy_from_slice(&turns.to_le_bytes());
        let mut runner = TestRunner::new_with_rng(config.clone(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
        let result = runner.run(&inputs, |(file, changes)| {
            let bytes = changed(&files, file, &changes);
            let saved = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.find"));
            fs::write(&saved, &bytes).unwrap();
            let took = timed(&bytes);
            prop_assert!(took < MAX_TIME, "{took:?}");
            Ok(())
        });
        if let Err(error) = result {
            panic!("{name}: {error}\nthe last input thrown is `{name}.find` in {}", env!("CARGO_TARGET_TMPDIR"));
        }
        turns += 1;
    }
    let (thrown, took) = (turns * CASES, start.elapsed().as_secs_f64());
    eprintln!("{name}: {thrown} inputs from {} files in {took:.0} s", files.len());
}
#[test]
fn onnx_models() {
    throw_at("onnx");
}

#[test]
fn yaml_files() {
    throw_at("yaml");
}

#[test]
fn safetensors_files() {
    throw_at("safetensors");
}

#[test]
fn pictures() {
    throw_at("image");
}

/// Writes what the targets start from into the folder `BBC_CORPUS`, for a fuzzer.
#[test]
fn the_corpus_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let folder = std::env::var_os("BBC_CORPUS").map_or(folder.path().to_owned(), PathBuf::from);
    for (target, _) in targets::TARGETS {
        let place = folder.join(target);
        fs::create_dir_all(&place).unwrap();
        for (index, bytes) in corpus(target).iter().chain(&finds(target)).enumerate() {
            fs::write(place.join(index.to_string()), bytes).unwrap();
        }
        assert!(fs::read_dir(place).unwrap().count() >= 3);
    }
}
