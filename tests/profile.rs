//! The provider instrument on the real library.
#![cfg(feature = "run")]
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic too")]

use std::fs;
use std::num::NonZero;
use std::process::Command;

use bbc::conv::{Candidate, Conv, ConvProblem};
use bbc::profile::provider::{Arrangement, Ceiling, Copies, CopiesError, Settings};
use bbc::profile::roof::RoofKind;
use bbc::profile::sampling::{Time, Timed};
use bbc::profile::{Profile, Timing};
use bbc::runtime::provider::Provider;
use bbc::tensor::DType;

mod support;

use support::{fixture, runtime};

const SETTINGS: Settings = Settings { provider: Provider::Cpu, threads: NonZero::<usize>::MIN, seed: 1 };

fn problem(conv: Conv, dtype: DType) -> ConvProblem {
    ConvProblem::new(conv, 1, 16, 16, [12, 10], dtype).expect("a problem")
}

/// Prepares a problem and takes samples of it.
fn timed(problem: &ConvProblem) -> Copies {
    let mut copies = Copies::prepare(&runtime(), problem, &SETTINGS).unwrap();
    let [few, many] = copies.counts();
    assert!(few >= 1 && many > few, "{problem:?}");
    let mut bound = copies.bind().unwrap();
    let samples: Vec<Time> = (0..20).filter_map(|_| bound.sample().unwrap()).collect();
    assert!(!samples.is_empty(), "{problem:?}: no sample was kept");
    assert!(samples.iter().all(|time| time.wall_ns > 0), "{problem:?}: {samples:?}");
    if cfg!(unix) {
        assert!(samples.iter().any(|time| time.processor_ns.is_some()), "{problem:?}: {samples:?}");
    }
    copies
}

#[test]
fn every_candidate_is_compared_and_timed() {
    for candidate in Candidate::PUBLISHED {
        for dtype in [DType::F32, DType::F16] {
            let copies = timed(&problem(candidate.conv(16), dtype));
            assert!(copies.max_error() < 1e-2, "{candidate} {dtype}: off by {}", copies.max_error());
            assert_eq!(copies.arrangement(), Arrangement::Chain);
        }
    }
}

#[test]
fn what_cannot_follow_itself_is_timed_in_a_fan() {
    let stem = ConvProblem::new(Conv::square(3).with_stride(2), 2, 3, 32, [40, 30], DType::F32).unwrap();
    let widening = ConvProblem::new(Conv::square(1), 1, 16, 64, [14, 14], DType::F32).unwrap();
    let halving = problem(Conv::square(3).with_stride(2).with_groups(16), DType::F32);
    for problem in [stem, widening, halving] {
        let copies = timed(&problem);
        assert_eq!(copies.arrangement(), Arrangement::Fan, "{problem:?}");
        assert_eq!(copies.timing(), Timing::FanSlope);
        assert!(copies.max_error() < 1e-4, "{problem:?}: off by {}", copies.max_error());
    }
}

/// The processor's kernels for half precision are those of some processors only; what ran is told.
#[test]
fn the_precision_that_ran_is_told() {
    for candidate in Candidate::PUBLISHED {
        let of = |dtype| timed(&problem(candidate.conv(16), dtype)).computed_in();
        assert_eq!(of(DType::F32), Some(DType::F32), "{candidate}");
        let half = of(DType::F16);
        assert!(matches!(half, Some(DType::F16 | DType::F32)), "{candidate}: {half:?}");
        if cfg!(target_arch = "x86_64") {
            assert_eq!(half, Some(DType::F32), "{candidate}: x86 has no kernels for half precision");
        }
    }
}

#[test]
fn integers_are_computed_as_integers() {
    let halving = Conv::square(3).with_stride(2);
    let convs = Candidate::PUBLISHED.map(|candidate| candidate.conv(16)).into_iter().chain([halving]);
    for conv in convs {
        let copies = timed(&problem(conv, DType::I8));
        assert_eq!(copies.computed_in(), Some(DType::I8), "{conv:?}");
        assert!(copies.max_error() > 0.0, "{conv:?}: integers are never exact");
    }
}

#[test]
fn the_roof_is_above_what_is_under_it() {
    for dtype in [DType::F32, DType::I8] {
        for kind in [RoofKind::Arithmetic, RoofKind::Bandwidth] {
            let mut ceiling = Ceiling::prepare(&runtime(), kind, dtype, &SETTINGS).unwrap();
            let (amount, what) = (ceiling.amount(), ceiling.what().to_owned());
            let time = ceiling.bind().unwrap().sample().unwrap().expect("a sample of something that takes long");
            // No processor does a thousand operations in a cycle, or moves a thousand bytes; and each of them does some.
            let per_ns = amount as f64 / time.wall_ns as f64;
            assert!((0.05..5000.0).contains(&per_ns), "{what} in {dtype}: {per_ns} a nanosecond");
        }
    }
}

/// The whole command on the processor: what it says, and what it keeps.
#[test]
fn a_profile_tells_how_it_came_about() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("profile.yaml");
    for dtype in ["f32", "i8"] {
        let output = Command::new(env!("CARGO_BIN_EXE_bbc"))
            .args(["profile", "--target", "cpu", "--threads", "1", "--time", "0.1", "--json", "--dtype", dtype])
            .arg("--base-model")
            .arg(fixture("models/conv.onnx"))
            .arg("-o")
            .arg(&kept)
            .env("NO_COLOR", "1")
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{dtype}: {stderr}");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let profile = Profile::read(&fs::read_to_string(&kept).unwrap()).unwrap();
        let conditions = profile.conditions.as_ref().unwrap();
        assert_eq!(conditions.debug_build, cfg!(debug_assertions));
        assert_eq!(stderr.contains("built without optimisation"), cfg!(debug_assertions), "{stderr}");
        assert!(profile.incomplete.is_none());
        let kinds: Vec<RoofKind> = profile.roofs.iter().map(|roof| roof.kind).collect();
        assert_eq!(kinds, [RoofKind::Arithmetic, RoofKind::Bandwidth], "{dtype}: {stderr}");
        assert!(profile.measurements.len() >= 5);
        for (measurement, shown) in profile.measurements.iter().zip(json["measurements"].as_array().unwrap()) {
            let [samples, rounds] = [measurement.samples_ns.len(), profile.settings.rounds as usize];
            assert!(samples == rounds && rounds >= 10, "{samples} samples, {rounds} rounds");
            assert_eq!(measurement.computed_in.map(|dtype| dtype.to_string()).as_deref(), Some(dtype));
            let place = measurement.place(&profile.roofs).unwrap();
            assert!((shown["share_of_roof"].as_f64().unwrap() - place.share).abs() <= 1e-9 * place.share);
            if cfg!(unix) {
                assert_eq!(measurement.processor_ns.len(), samples);
                assert!(shown["median_processor_s"].as_f64().unwrap() > 0.0);
            }
        }
        let fewer = profile.settings.rounds < 30;
        assert_eq!(stderr.contains("are needed to trust the intervals"), fewer, "{stderr}");
    }
}

#[test]
fn a_provider_that_is_not_there_is_refused() {
    let elsewhere = if cfg!(windows) { Provider::CoreMl } else { Provider::DirectMl };
    let settings = Settings { provider: elsewhere, ..SETTINGS };
    let error = Copies::prepare(&runtime(), &problem(Conv::square(3), DType::F32), &settings);
    assert!(matches!(error, Err(CopiesError::Session(_))), "{error:?}");
}
