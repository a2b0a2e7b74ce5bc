//! What bytes from outside are thrown at: each target takes any bytes, and neither panics nor takes long.

use std::collections::HashMap;
use std::io::Cursor;
use std::path::Path;

use bbc::backbone::{Batch, Spec, generate};
use bbc::census::Census;
use bbc::image::{Picture, Preprocess};
use bbc::ir::Seeded;
use bbc::onnx::shapes::InputSizes;
use bbc::onnx::stored::{tensor_from_bytes, tensor_to_bytes};
use bbc::onnx::structure::{Aspect, Limits, examine};
use bbc::onnx::summary::summarize;
use bbc::onnx::survey::{survey, unknown_operands};
use bbc::profile::Profile;
use bbc::select::{Policy, Rules, rankings, select};
use bbc::weights::Checkpoint;

/// Largest weight that is read whole.
const MAX_WEIGHT: u64 = 1 << 22;

/// Takes any bytes.
pub(crate) type Target = fn(&[u8]);

/// Every target with its name.
pub(crate) const TARGETS: &[(&str, Target)] =
    &[("onnx", onnx), ("yaml", yaml), ("safetensors", safetensors), ("image", image)];

/// A model: its structure examined as a stranger's, then read, checked, and looked at in every way that a command looks at
/// a file it does not run. The same bytes are taken as a stored tensor.
pub(crate) fn onnx(bytes: &[u8]) {
    for allow_control_flow in [false, true] {
        let limits = Limits { allow_control_flow, ..Limits::default() };
        let examined = examine(Cursor::new(bytes), Path::new("nowhere"), &limits);
        assert!(examined.scanned.is_some() || !examined.holds());
        for fault in Aspect::ALL.into_iter().flat_map(|aspect| examined.faults(aspect)) {
            assert!(!fault.to_string().is_empty());
        }
        if let Some(scanned) = examined.scanned {
            assert!(scanned.bytes == bytes.len() as u64 && scanned.locations().len() <= bytes.len());
        }
    }
    if let Ok((name, array)) = tensor_from_bytes(bytes) {
        let again = tensor_from_bytes(&tensor_to_bytes(&name, &array)).expect("what was written is read");
        assert!(again.0 == name && again.1.same(&array));
    }
    let Ok(model) = bbc::onnx::read(bytes.to_vec().into()) else { return };
    if let Err(error) = bbc::onnx::check(&model) {
        assert!(!error.to_string().is_empty());
        return;
    }
    let summary = summarize(&model);
    assert!(summary.layers.len() <= bytes.len());
    for sizes in [InputSizes::default(), InputSizes { batch: Some(2), image: Some([65, 32]) }] {
        survey(&model, sizes, &HashMap::new());
        unknown_operands(&model, sizes, &HashMap::new());
    }
}

/// Every format in YAML. What is accepted is written and read again.
pub(crate) fn yaml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(profile) = Profile::read(text) {
        rankings(&profile, Rules::default());
        let chosen: Vec<_> =
            Policy::ALL.iter().map(|&policy| select(&profile, policy, Rules::default()).is_ok()).collect();
        assert_eq!(chosen.len(), Policy::ALL.len());
        assert_eq!(Profile::read(&profile.write().expect("written")).as_ref(), Ok(&profile));
    }
    if let Ok(spec) = Spec::read(text) {
        assert_eq!(Spec::read(&spec.write().expect("written")).as_ref(), Ok(&spec));
        if let Ok(backbone) = generate(&spec, Batch::Dynamic) {
            assert_eq!(bbc::ir::verify(&backbone.graph), Ok(()));
        }
    }
    if let Ok(census) = Census::read(text) {
        census.candidates();
        assert_eq!(Census::read(&census.write().expect("written")).as_ref(), Ok(&census));
    }
}

/// A file of weights: its header, and the values of every tensor.
pub(crate) fn safetensors(bytes: &[u8]) {
    let Ok(checkpoint) = Checkpoint::open(Cursor::new(bytes)) else { return };
    for tensor in checkpoint.tensors() {
        if tensor.shape.iter().fold(1, |n: u64, &size| n.saturating_mul(size)) <= MAX_WEIGHT {
            let values = checkpoint.values(tensor).expect("the header was checked against the file's length");
            assert!(values.len() <= bytes.len());
        }
    }
    let spec = Spec::read(include_str!("../../fixtures/parity/v2.yaml")).expect("a spec");
    let graph = generate(&spec, Batch::Dynamic).expect("a network").graph;
    if let Err(misfit) = checkpoint.fit(&graph, true, Seeded(0)) {
        assert!(!misfit.to_string().is_empty());
    }
}

/// A picture, and what a model's metadata says of how to prepare it.
pub(crate) fn image(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(preprocess) = Preprocess::from_json(text)
    {
        assert_eq!(Preprocess::from_json(&preprocess.to_json()).ok().as_ref(), Some(&preprocess));
    }
    let Ok(picture) = Picture::decode(bytes) else { return };
    let tensor = Preprocess::imagenet([16, 24]).expect("a size").apply(&picture);
    assert_eq!(tensor.shape(), [1, 3, 16, 24]);
    assert!(tensor.data().iter().all(|value| value.is_finite()));
}
