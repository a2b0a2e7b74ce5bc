//! The ranges of a model's values, from running it on images.
//!
//! Every value has a histogram of magnitudes with a fixed number of bins. When a magnitude lies beyond its end, its range
//! is doubled and neighbouring bins are added, so that one pass is enough and memory does not grow.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use super::{ObserveError, Watch, observe};
use crate::onnx::precision::{Int8Plan, Ranges};

/// How a range is chosen from a value's magnitudes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// The greatest magnitude.
    #[default]
    MinMax,
    /// The magnitude that all but one in ten thousand are below.
    Percentile,
    /// The range whose integers tell most of the distribution (least Kullback-Leibler divergence).
    Entropy,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::MinMax, Self::Percentile, Self::Entropy];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::MinMax => "minmax",
            Self::Percentile => "percentile",
            Self::Entropy => "entropy",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// There is no method of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no calibration method `{name}`; there are minmax, percentile and entropy")]
pub struct UnknownMethod {
    name: String,
}

impl FromStr for Method {
    type Err = UnknownMethod;

    fn from_str(name: &str) -> Result<Self, UnknownMethod> {
        let found = Self::ALL.into_iter().find(|method| method.name() == name);
        found.ok_or_else(|| UnknownMethod { name: name.to_owned() })
    }
}

/// Bins of a histogram.
const BINS: usize = 2048;

/// The share of magnitudes that [`Method::Percentile`] keeps.
const KEPT: f64 = 0.9999;

/// Magnitudes of a value, counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    counts: Vec<u64>,
    /// Where the last bin ends; zero until a magnitude above zero is seen.
    end: f32,
    greatest: f32,
    seen: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BINS], end: 0.0, greatest: 0.0, seen: 0 }
    }
}

impl Histogram {
    /// Counts the magnitudes of these values. What is not finite is left out.
    pub fn add(&mut self, values: &[f32]) {
        let greatest = values.iter().filter(|v| v.is_finite()).fold(0f32, |most, v| most.max(v.abs()));
        self.greatest = self.greatest.max(greatest);
        if self.end == 0.0 && greatest > 0.0 {
            // Zeros that were seen before stay in the first bin.
            self.end = greatest;
        }
        while self.end < greatest {
            self.double();
        }
        let bins = if self.end > 0.0 { BINS as f32 / self.end } else { 0.0 };
        for value in values.iter().filter(|value| value.is_finite()) {
            let bin = if bins.is_finite() { (value.abs() * bins) as usize } else { 0 };
            self.counts[bin.min(BINS - 1)] += 1;
            self.seen += 1;
        }
    }

    fn double(&mut self) {
        for bin in 0..BINS / 2 {
            self.counts[bin] = self.counts[2 * bin] + self.counts[2 * bin + 1];
        }
        self.counts[BINS / 2..].fill(0);
        self.end = if self.end > f32::MAX / 2.0 { f32::MAX } else { self.end * 2.0 };
    }

    /// Whether no finite value was seen.
    pub fn is_empty(&self) -> bool {
        self.seen == 0
    }

    /// The greatest magnitude that integers should tell apart; `levels` are the steps from zero to it.
    pub fn range(&self, method: Method, levels: usize) -> f32 {
        // What is too small to be divided into bins is too small to choose in.
        let is_divisible = (BINS as f32 / self.end).is_finite();
        match method {
            Method::MinMax => self.greatest,
            _ if !is_divisible => self.greatest,
            Method::Percentile => self.percentile(),
            Method::Entropy => self.entropy(levels),
        }
    }

    fn edge(&self, bins: usize) -> f32 {
        (f64::from(self.end) * bins as f64 / BINS as f64).min(f64::from(self.greatest)) as f32
    }

    fn percentile(&self) -> f32 {
        let wanted = (self.seen as f64 * KEPT).ceil() as u64;
        let mut below = 0;
        for (bin, count) in self.counts.iter().enumerate() {
            below += count;
            if below >= wanted {
                return self.edge(bin + 1);
            }
        }
        self.greatest
    }

    /// The end, in whole bins, of which the distribution up to it, with all beyond at its end, is told best by `levels`
    /// steps. (Migacz, "8-bit inference with TensorRT", GTC 2017.)
    fn entropy(&self, levels: usize) -> f32 {
        let used = self.counts.iter().rposition(|&count| count > 0).map_or(0, |last| last + 1);
        if used <= levels {
            return self.greatest;
        }
        let total: u64 = self.counts.iter().sum();
        let mut best = (f64::INFINITY, used);
        let mut inside: u64 = self.counts[..levels].iter().sum();
        for end in levels..=used {
            if end > levels {
                inside += self.counts[end - 1];
            }
            let divergence = self.divergence(end, levels, total - inside);
            if divergence < best.0 {
                best = (divergence, end);
            }
        }
        self.edge(best.1)
    }

    fn divergence(&self, end: usize, levels: usize, beyond: u64) -> f64 {
        let counts = &self.counts[..end];
        let whole: u64 = counts.iter().sum::<u64>() + beyond;
        let inside = counts.iter().sum::<u64>();
        if whole == 0 || inside == 0 {
            return f64::INFINITY;
        }
        let mut divergence = 0.0;
        for level in 0..levels {
            let bins = level * end / levels..(level + 1) * end / levels;
            let sum: u64 = counts[bins.clone()].iter().sum();
            let filled = counts[bins.clone()].iter().filter(|&&count| count > 0).count();
            if filled == 0 {
                continue;
            }
            let told = sum as f64 / filled as f64 / inside as f64;
            for bin in bins {
                let count = counts[bin] + if bin + 1 == end { beyond } else { 0 };
                if counts[bin] > 0 {
                    let share = count as f64 / whole as f64;
                    divergence += share * (share / told).ln();
                } else if count > 0 {
                    // What is cut off falls where nothing was: it is not told at all.
                    return f64::INFINITY;
                }
            }
        }
        divergence
    }
}

/// Runs the model in single precision on every sample and chooses the range of each value of the plan.
///
/// # Errors
/// If it does not run, or a value is never finite.
pub fn calibrate(watch: &Watch<'_>, plan: &Int8Plan, method: Method) -> Result<Ranges, ObserveError> {
    let model = plan.float_model();
    // What goes in is no value that a node makes, and is looked at where it is given.
    let inputs: Vec<&str> = model.graph.iter().flat_map(|g| &g.input).map(|input| input.name()).collect();
    let (given, made): (Vec<&String>, Vec<&String>) =
        plan.values().iter().partition(|value| inputs.contains(&value.as_str()));
    let mut histograms: HashMap<String, Histogram> = HashMap::new();
    let groups: Vec<Vec<String>> = made.into_iter().map(|value| vec![value.clone()]).collect();
    let mut count = |values: &[(String, crate::tensor::Tensor)]| {
        for (name, tensor) in values {
            histograms.entry(name.clone()).or_default().add(tensor.data());
        }
    };
    if !groups.is_empty() {
        observe(watch, &model, &groups, &mut |seen| {
            count(seen);
            Ok(())
        })?;
    }
    if !given.is_empty() {
        for index in 0..watch.samples.count() {
            let mut inputs = watch.samples.inputs(index)?;
            inputs.retain(|(name, _)| given.contains(&name));
            count(&inputs);
        }
    }
    let range = |value: &String| {
        let histogram = histograms.get(value).filter(|histogram| !histogram.is_empty());
        let histogram = histogram.ok_or_else(|| ObserveError::NotFinite { value: value.clone() })?;
        let levels = if plan.is_positive(value) { 255 } else { 127 };
        Ok((value.clone(), histogram.range(method, levels)))
    };
    plan.values().iter().map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_grows_keeps_every_count() {
        let mut histogram = Histogram::default();
        histogram.add(&[0.0, 0.0]);
        histogram.add(&[0.5, -1.0]);
        histogram.add(&[f32::NAN, f32::INFINITY, -7.5]);
        assert_eq!(histogram.counts.iter().sum::<u64>(), 5);
        assert_eq!(histogram.end, 8.0);
        assert_eq!(histogram.range(Method::MinMax, 127), 7.5);
        // 0.5 and 1 of 8 in 2048 bins.
        assert_eq!(histogram.counts[128], 1);
        assert_eq!(histogram.counts[255] + histogram.counts[256], 1);
    }

    /// One outlier in a hundred thousand: the percentile and the divergence leave it out, the maximum does not.
    #[test]
    fn an_outlier_is_left_out_by_two_methods() {
        let mut histogram = Histogram::default();
        let bulk: Vec<f32> = (0..100_000).map(|i| (i % 1000) as f32 / 1000.0).collect();
        histogram.add(&bulk);
        histogram.add(&[100.0]);
        assert_eq!(histogram.range(Method::MinMax, 127), 100.0);
        for method in [Method::Percentile, Method::Entropy] {
            let range = histogram.range(method, 127);
            assert!((0.9..10.0).contains(&range), "{method}: {range}");
        }
    }

    #[test]
    fn values_that_never_change_have_a_range() {
        for (name, values, expected) in [
            ("zero", vec![0.0; 10], 0.0),
            ("one value", vec![2.5; 10], 2.5),
            ("the smallest", vec![f32::from_bits(1); 10], f32::from_bits(1)),
            ("the greatest", vec![f32::MAX; 10], f32::MAX),
        ] {
            let mut histogram = Histogram::default();
            histogram.add(&values);
            for method in Method::ALL {
                let range = histogram.range(method, 255);
                assert!((range - expected).abs() <= expected * 1e-3, "{name}, {method}: {range}");
            }
        }
    }
}
