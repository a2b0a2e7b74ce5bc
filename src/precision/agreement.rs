//! How far two models' outputs are apart.

use super::{ObserveError, Watch, borrowed};
use crate::runtime::session::Optimization;

/// How an output of one model agrees with another's, over all samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Agreement {
    /// The output.
    pub output: String,
    /// Greatest difference, as a share of the output's greatest magnitude.
    pub error: f64,
    /// Least cosine of the angle between the two over the samples; `None` if an output is all zeros.
    pub cosine_min: Option<f64>,
    /// Mean of the cosines.
    pub cosine_mean: Option<f64>,
    /// Values that are finite in the first model and not in the second.
    pub not_finite: usize,
}

/// Runs both models, as bytes, on every sample and compares what the second computes with what the first does.
///
/// # Errors
/// If a model does not run, or their outputs differ in shape.
pub fn agreement(
    watch: &Watch<'_>,
    reference: &[u8],
    model: &[u8],
    optimization: Optimization,
) -> Result<Vec<Agreement>, ObserveError> {
    let mut reference = watch.session(reference, Optimization::All)?;
    let mut model = watch.session(model, optimization)?;
    let mut found: Vec<Sums> = Vec::new();
    let count = watch.samples.count();
    for index in 0..count {
        (watch.progress)(index, count);
        let inputs = watch.samples.inputs(index)?;
        let expected = reference.run(&borrowed(&inputs))?;
        let actual = model.run(&borrowed(&inputs))?;
        found.resize_with(expected.len(), Sums::default);
        for (sums, ((name, expected), (_, actual))) in found.iter_mut().zip(expected.iter().zip(&actual)) {
            if expected.shape() != actual.shape() {
                return Err(ObserveError::Outputs {
                    name: name.clone(),
                    actual: actual.shape().to_vec(),
                    expected: expected.shape().to_vec(),
                });
            }
            sums.name.clone_from(name);
            sums.add(expected.data(), actual.data());
        }
    }
    Ok(found.into_iter().map(Sums::finish).collect())
}

#[derive(Debug, Default)]
struct Sums {
    name: String,
    difference: f64,
    greatest: f64,
    cosines: Vec<f64>,
    not_finite: usize,
}

impl Sums {
    fn add(&mut self, expected: &[f32], actual: &[f32]) {
        let (mut dot, mut left, mut right) = (0f64, 0f64, 0f64);
        for (&expected, &actual) in expected.iter().zip(actual) {
            if !expected.is_finite() {
                continue;
            }
            if !actual.is_finite() {
                self.not_finite += 1;
                continue;
            }
            let (expected, actual) = (f64::from(expected), f64::from(actual));
            self.difference = self.difference.max((expected - actual).abs());
            self.greatest = self.greatest.max(expected.abs());
            dot += expected * actual;
            left += expected * expected;
            right += actual * actual;
        }
        let norm = (left * right).sqrt();
        if norm > 0.0 {
            self.cosines.push(dot / norm);
        }
    }

    fn finish(self) -> Agreement {
        let error = match (self.difference, self.greatest) {
            (0.0, _) => 0.0,
            (difference, greatest) => difference / greatest.max(f64::from(f32::MIN_POSITIVE)),
        };
        let count = self.cosines.len() as f64;
        Agreement {
            output: self.name,
            error,
            cosine_min: self.cosines.iter().copied().reduce(f64::min),
            cosine_mean: (count > 0.0).then(|| self.cosines.iter().sum::<f64>() / count),
            not_finite: self.not_finite,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: [3, 4] and [3, 4.5]; [0, 0] has no direction.
    #[test]
    fn errors_and_cosines() {
        let mut sums = Sums::default();
        sums.add(&[3.0, 4.0], &[3.0, 4.5]);
        sums.add(&[0.0, 0.0], &[0.0, 0.0]);
        sums.add(&[1.0, 1.0], &[1.0, f32::NAN]);
        let found = sums.finish();
        assert!((found.error - 0.125).abs() < 1e-12, "{found:?}");
        let cosine = 27.0 / (25f64 * 29.25).sqrt();
        assert!((found.cosine_min.unwrap() - cosine).abs() < 1e-12, "{found:?}");
        assert_eq!(found.not_finite, 1);
        let mut zeros = Sums::default();
        zeros.add(&[0.0], &[0.0]);
        assert_eq!(zeros.finish().cosine_min, None);
    }
}
