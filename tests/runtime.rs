//! Sessions and providers on the real library.
#![cfg(feature = "run")]

use std::fs;

use bbc::conv::{Conv, ConvProblem};
use bbc::reference;
use bbc::runtime::provider::{Cause, Probe, Provider, Unusable, usable};
use bbc::runtime::session::{Optimization, Options, PlacementError, PortDim, RunError, Session, SessionError};
use bbc::tensor::{DType, Tensor};

mod support;

use support::{fixture, runtime};

/// The input of `models/conv.onnx` at a batch size, and what the reference makes of it with the weights that
/// `models/make.py` gives.
fn conv_case(batch: u32) -> (Tensor, Tensor) {
    let problem = ConvProblem::new(Conv::square(3), batch, 2, 4, [8, 8], DType::F32).expect("a valid case");
    let weight: Vec<f32> = (0..72).map(|i| (i * 7 % 17) as f32 / 16.0 - 0.5).collect();
    let input: Vec<f32> = (0..batch * 128).map(|i| (i * 5 % 23) as f32 / 8.0 - 1.0).collect();
    let expected = reference::conv(&problem, &input, &weight);
    (
        Tensor::new([batch, 2, 8, 8], input).expect("a valid case"),
        Tensor::new([batch, 4, 8, 8], expected).expect("a valid case"),
    )
}

fn session(name: &str, options: &Options) -> Result<Session, SessionError> {
    Session::from_bytes(&runtime(), &fs::read(fixture(name)).expect("a fixture"), options)
}

fn conv_session() -> Session {
    session("models/conv.onnx", &Options::on(Provider::Cpu)).expect("a valid case")
}

#[test]
fn a_model_gives_what_the_reference_gives_at_any_batch() {
    let mut session = conv_session();
    assert_eq!(session.outputs()[0].ty, "Tensor<f32>(N, 4, 8, 8)");
    assert_eq!(session.inputs()[0].dims[0], PortDim::Named("N".into()));
    assert_eq!(session.inputs()[0].dims[1], PortDim::Fixed(2));
    let expected = [("answer", "42"), ("made_by", "make.py")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(session.metadata().unwrap(), expected);
    for batch in [1, 8] {
        let (input, expected) = conv_case(batch);
        let outputs = session.run(&[("x", &input)]).unwrap();
        assert_eq!(outputs[0].0, "y");
        let comparison = outputs[0].1.compare(&expected, 1e-5, 1e-5).unwrap();
        assert!(comparison.passed, "batch {batch}: {comparison:?}");
    }
}

#[test]
fn a_file_is_run_like_bytes() {
    let path = fixture("models/conv.onnx");
    let mut session = Session::from_file(&runtime(), &path, &Options::on(Provider::Cpu)).unwrap();
    let (input, expected) = conv_case(1);
    assert!(session.run(&[("x", &input)]).unwrap()[0].1.compare(&expected, 1e-5, 1e-5).unwrap().passed);
}

#[test]
fn half_precision_is_converted_both_ways() {
    let mut session = session("models/half.onnx", &Options::on(Provider::Cpu)).unwrap();
    assert_eq!(session.inputs()[0].dtype, Some(DType::F16));
    let input = Tensor::new([2, 3], vec![0.5, -1.0, 1.0 / 3.0, 2048.0, 65504.0, f32::NAN]).unwrap();
    let output = session.run(&[("x", &input)]).unwrap().remove(0).1;
    // A third has eleven bits in half precision: 1365 / 4096.
    assert_eq!(output.data()[..4], [1.0, -2.0, 1365.0 / 2048.0, 4096.0]);
    assert_eq!(output.data()[4], f32::INFINITY);
    assert!(output.data()[5].is_nan());
}

#[test]
fn bound_runs_are_timed_one_by_one() {
    let mut session = conv_session();
    let (input, _) = conv_case(1);
    let mut bound = session.bind(&[("x", &input)]).unwrap();
    let samples = bound.time(5).unwrap();
    assert_eq!(samples.len(), 5);
    assert!(samples.iter().all(|&ns| ns > 0));
}

#[test]
fn every_node_is_placed() {
    let options = Options { record_placement: true, threads: 1.try_into().ok(), ..Options::on(Provider::Cpu) };
    let mut recorded = session("models/conv.onnx", &options).unwrap();
    let (input, _) = conv_case(1);
    recorded.run(&[("x", &input)]).unwrap();
    recorded.run(&[("x", &input)]).unwrap();
    let placement = recorded.placement().unwrap();
    let convs: Vec<_> = placement.nodes.iter().filter(|node| node.op == "Conv").collect();
    assert_eq!(convs.len(), 1, "{placement:?}");
    assert_eq!(placement.elsewhere(Provider::Cpu).count(), 0, "{placement:?}");
    assert_eq!(placement.elsewhere(Provider::Cuda).count(), placement.nodes.len());

    let not_recorded = conv_session().placement().unwrap_err();
    assert!(matches!(not_recorded, PlacementError::NotRecorded));
}

#[test]
fn what_does_not_fit_is_said() {
    let mut session = conv_session();
    let (input, _) = conv_case(1);
    insta::assert_snapshot!(session.run(&[("z", &input)]).unwrap_err(), @"the model has no input `z`; it has `x`");
    insta::assert_snapshot!(session.run(&[]).unwrap_err(), @"the model's input `x` is not given");
    let other = Tensor::new([1, 3, 8, 8], vec![0.0; 192]).unwrap();
    assert!(matches!(session.run(&[("x", &other)]).unwrap_err(), RunError::Failed { .. }));
    insta::assert_snapshot!(session.run(&[("x", &other)]).unwrap_err(), @r"
    ONNX Runtime fails to run the model: Got invalid dimensions for input: x for the following indices
     index: 1 Got: 3 Expected: 2
     Please fix either the inputs/outputs or the model.
    ");
    assert!(session.bind(&[]).is_err());
    // And the session still works.
    session.run(&[("x", &input)]).unwrap();
}

#[test]
fn a_bad_model_is_an_error() {
    let good = fs::read(fixture("models/conv.onnx")).unwrap();
    let options = Options { optimization: Optimization::None, ..Options::on(Provider::Cpu) };
    let mut cases = vec![("empty", vec![]), ("text", b"not a model".to_vec()), ("zeros", vec![0; 1000])];
    cases.push(("a type without a name", fs::read(fixture("models/nested.onnx")).unwrap()));
    cases.push(("sizes below zero", fs::read(fixture("models/negative.onnx")).unwrap()));
    cases.extend((1..good.len()).step_by(7).map(|end| ("cut off", good[..end].to_vec())));
    for (name, bytes) in cases {
        // A model that is cut off may by chance be a model.
        let result = Session::from_bytes(&runtime(), &bytes, &options);
        if name != "cut off" {
            assert!(matches!(result.unwrap_err(), SessionError::Model { .. }), "{name}");
        }
    }
    // The binding's own panic is an error, too.
    let panics = session("models/negative.onnx", &options).unwrap_err().to_string();
    assert!(panics.contains("the binding gives up on it: "), "{panics}");
    let missing = Session::from_file(&runtime(), &fixture("models/none.onnx"), &options).unwrap_err();
    assert!(matches!(missing, SessionError::Model { .. }));
}

#[test]
fn a_damaged_model_never_ends_the_process() {
    let good = fs::read(fixture("models/conv.onnx")).unwrap();
    let (input, _) = conv_case(1);
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    let mut accepted = 0;
    for _ in 0..400 {
        let mut bytes = good.clone();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            bytes[at] ^= 1 << random(8);
        }
        if let Ok(mut session) = Session::from_bytes(&runtime(), &bytes, &Options::on(Provider::Cpu)) {
            accepted += 1;
            let name = session.inputs().first().map(|port| port.name.clone()).unwrap_or_default();
            // Whether it runs depends on which bit was flipped.
            let _ = (session.metadata(), session.run(&[(&name, &input)]));
        }
    }
    assert!((1..400).contains(&accepted), "{accepted} of 400 are accepted: the damage is too slight or too great");
}

#[test]
fn the_processor_computes_and_wrong_numbers_are_noticed() {
    let model = fs::read(fixture("models/conv.onnx")).unwrap();
    let (input, expected) = conv_case(1);
    let probe = Probe { model: &model, input: &input, expected: &expected, scratch: None };
    usable(&runtime(), Provider::Cpu, &probe).unwrap();

    let mut data = expected.data().to_vec();
    data[77] += 1.0;
    let other = Tensor::new(expected.shape().to_vec(), data).unwrap();
    let error = usable(&runtime(), Provider::Cpu, &Probe { expected: &other, ..probe }).unwrap_err();
    insta::assert_snapshot!(error, @"it computes wrong numbers: off by 1 at [0, 1, 1, 5]");
}

#[test]
fn a_provider_that_is_not_built_in_is_refused_and_not_replaced() {
    let model = fs::read(fixture("models/conv.onnx")).unwrap();
    let (input, expected) = conv_case(1);
    let probe = Probe { model: &model, input: &input, expected: &expected, scratch: None };
    for provider in Provider::ALL {
        if provider.is_built_in(&runtime()) {
            continue;
        }
        let Err(Unusable::Session(SessionError::Provider(error))) = usable(&runtime(), provider, &probe) else {
            panic!("{provider} is not built in and yet is usable");
        };
        assert_eq!((error.provider, &error.cause), (provider, &Cause::NotBuiltIn));
        assert!(error.remedy().is_some());
    }
}
