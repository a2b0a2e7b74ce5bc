//! A model run on samples with its inner values handed out, as many at a time as memory allows.

use std::collections::HashMap;
use std::num::NonZero;

use super::{ObserveError, Samples, borrowed};
use crate::onnx::proto::ModelProto;
use crate::onnx::shapes::{InputSizes, infer};
use crate::onnx::survey::exposing;
use crate::runtime::Runtime;
use crate::runtime::provider::Provider;
use crate::runtime::session::{Optimization, Options, Session};
use crate::tensor::{Tensor, element_count};

/// Elements of the values that are handed out in one run: 256 MiB, twice while they are copied.
const MAX_ELEMENTS: u64 = 1 << 26;

/// What a value of unknown shape counts as.
const UNKNOWN_ELEMENTS: u64 = 1 << 22;

/// Names of values and their tensors.
pub(super) type Values = Vec<(String, Tensor)>;

/// How a model is watched.
pub struct Watch<'a> {
    /// What runs it.
    pub runtime: &'a Runtime,
    /// What it is run on.
    pub samples: &'a dyn Samples,
    /// Threads that work on one node; `None` leaves the number to ONNX Runtime.
    pub threads: Option<NonZero<usize>>,
    /// Called before every run with the runs that are done and all there are.
    pub progress: &'a dyn Fn(usize, usize),
}

impl Watch<'_> {
    pub(super) fn session(&self, model: &[u8], optimization: Optimization) -> Result<Session, ObserveError> {
        let options = Options { threads: self.threads, optimization, ..Options::on(Provider::Cpu) };
        Ok(Session::from_bytes(self.runtime, model, &options)?)
    }

    fn first(&self) -> Result<Values, ObserveError> {
        if self.samples.count() == 0 {
            return Err(ObserveError::NoSamples);
        }
        Ok(self.samples.inputs(0)?)
    }
}

/// Looks at the values that one run has exposed, by name.
pub(super) type See<'s> = dyn FnMut(&[(String, Tensor)]) -> Result<(), ObserveError> + 's;

/// Runs the model on every sample, and hands every group of values over as it is computed. Values of one group are handed
/// over together, and groups come sample by sample in parts that fit into memory.
///
/// # Errors
/// If the model does not run, or `see` fails.
pub fn observe(
    watch: &Watch<'_>,
    model: &ModelProto,
    groups: &[Vec<String>],
    see: &mut See<'_>,
) -> Result<(), ObserveError> {
    let first = watch.first()?;
    let parts = parts(model, groups, &first);
    let runs = parts.len() * watch.samples.count();
    let mut run = 0;
    for part in parts {
        let mut session = watch.session(&exposing(model, &part), Optimization::All)?;
        let taken: Vec<String> = session.inputs().iter().map(|port| port.name.clone()).collect();
        for index in 0..watch.samples.count() {
            (watch.progress)(run, runs);
            run += 1;
            let mut inputs = watch.samples.inputs(index)?;
            inputs.retain(|(name, _)| taken.contains(name));
            let values = session.run(&borrowed(&inputs))?;
            see(&values)?;
        }
    }
    Ok(())
}

/// The values in parts that fit into memory; a group is never divided.
fn parts(model: &ModelProto, groups: &[Vec<String>], inputs: &[(String, Tensor)]) -> Vec<Vec<String>> {
    let image = inputs.iter().find(|(_, tensor)| tensor.shape().len() == 4);
    let sizes = image.map_or_else(InputSizes::default, |(_, tensor)| match tensor.shape() {
        &[batch, height, width, 1..=4] if height > 4 => InputSizes { batch: Some(batch), image: Some([height, width]) },
        shape => InputSizes { batch: Some(shape[0]), image: Some([shape[2], shape[3]]) },
    });
    let observed: HashMap<String, Vec<u32>> = HashMap::new();
    let shapes = infer(model, sizes, &observed);
    let mut parts: Vec<Vec<String>> = Vec::new();
    let mut room = 0;
    for group in groups {
        let elements = |name: &String| shapes.of(name).map_or(UNKNOWN_ELEMENTS, element_count);
        let needed = group.iter().map(elements).fold(0u64, u64::saturating_add);
        if needed > room || parts.is_empty() {
            parts.push(Vec::new());
            room = MAX_ELEMENTS;
        }
        room = room.saturating_sub(needed);
        if let Some(part) = parts.last_mut() {
            for name in group {
                if !part.contains(name) {
                    part.push(name.clone());
                }
            }
        }
    }
    parts
}
