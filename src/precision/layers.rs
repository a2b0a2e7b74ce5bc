//! How much signal each quantised layer keeps.

use std::collections::HashMap;

use super::{ObserveError, Watch, observe};
use crate::onnx::precision::{Int8Plan, Ranges};

/// A layer's signal by the noise that integers add to it, the layer taken alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// The layer.
    pub layer: String,
    /// In decibels; `None` if there is no noise, or no signal.
    pub decibel: Option<f64>,
}

/// The signal of every layer that is computed on integers, in the network's order.
///
/// # Errors
/// If the model does not run.
pub fn signals(watch: &Watch<'_>, plan: &Int8Plan, ranges: &Ranges) -> Result<Vec<Signal>, ObserveError> {
    let (model, pairs) = plan.layer_by_layer(ranges);
    let groups: Vec<Vec<String>> = pairs.iter().map(|pair| vec![pair.float.clone(), pair.int8.clone()]).collect();
    let mut sums: HashMap<&str, (f64, f64)> = HashMap::new();
    observe(watch, &model, &groups, &mut |seen| {
        let values: HashMap<&str, &[f32]> = seen.iter().map(|(name, t)| (name.as_str(), t.data())).collect();
        for pair in &pairs {
            let (Some(float), Some(int8)) = (values.get(pair.float.as_str()), values.get(pair.int8.as_str())) else {
                continue;
            };
            let (signal, noise) = sums.entry(&pair.layer).or_insert((0.0, 0.0));
            for (&float, &int8) in float.iter().zip(*int8).filter(|(float, _)| float.is_finite()) {
                *signal += f64::from(float).powi(2);
                *noise += (f64::from(float) - f64::from(int8)).powi(2);
            }
        }
        Ok(())
    })?;
    let decibel = |(signal, noise): (f64, f64)| (signal > 0.0 && noise > 0.0).then(|| 10.0 * (signal / noise).log10());
    let signal = |pair: &crate::onnx::precision::LayerPair| Signal {
        layer: pair.layer.clone(),
        decibel: sums.get(pair.layer.as_str()).copied().and_then(decibel),
    };
    Ok(pairs.iter().map(signal).collect())
}
