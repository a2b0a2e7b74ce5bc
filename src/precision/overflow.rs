//! How large a model's values become.

use std::collections::HashMap;

use super::{ObserveError, Watch, observe};
use crate::onnx::precision::Half;
use crate::onnx::proto::ModelProto;

/// The greatest magnitude of a value over all samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Peak {
    /// The value.
    pub value: String,
    /// The node that makes it; the value's own name for an input.
    pub node: String,
    /// Its greatest magnitude; infinite if it is not finite in single precision either.
    pub peak: f32,
}

impl Peak {
    /// Whether it is near the end of the format's range, half of it, or beyond.
    pub fn is_near(&self, half: Half) -> bool {
        self.peak > half.max() / 2.0 || !self.peak.is_finite()
    }
}

/// The peaks of these values (each with the node that makes it), in their order.
///
/// # Errors
/// If the model does not run.
pub fn peaks(watch: &Watch<'_>, model: &ModelProto, values: &[(String, String)]) -> Result<Vec<Peak>, ObserveError> {
    let groups: Vec<Vec<String>> = values.iter().map(|(value, _)| vec![value.clone()]).collect();
    let mut most: HashMap<String, f32> = HashMap::new();
    observe(watch, model, &groups, &mut |seen| {
        for (name, tensor) in seen {
            let magnitude = |value: &f32| if value.is_nan() { f32::INFINITY } else { value.abs() };
            let peak = tensor.data().iter().map(magnitude).fold(0f32, f32::max);
            let entry = most.entry(name.clone()).or_insert(0.0);
            *entry = entry.max(peak);
        }
        Ok(())
    })?;
    let peak = |(value, node): &(String, String)| Peak {
        value: value.clone(),
        node: node.clone(),
        peak: most.get(value).copied().unwrap_or(0.0),
    };
    Ok(values.iter().map(peak).collect())
}
