//! Whether a shader's result is right.

use super::data;
use super::gpu::Gpu;
use super::run::{self, ComputeError, Computed};
use super::variant::Variant;
use crate::conv::ConvProblem;
use crate::reference;
use crate::tensor::{DType, element_count};

/// A problem with values and what the reference computes from them, everywhere if it is small and at sampled positions
/// otherwise.
#[derive(Debug)]
pub(super) struct Check {
    problem: ConvProblem,
    input: Vec<f32>,
    weight: Vec<f32>,
    /// Flat index and value of elements of the result.
    expected: Vec<(usize, f64)>,
}

/// How a result compares with the reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// Whether all elements that were compared are within the tolerance.
    pub passed: bool,
    /// Greatest absolute difference; inputs and weights are from -1 to 1.
    pub max_error: f32,
    /// Index of the worst element.
    pub worst: [u32; 4],
    /// How many elements were compared.
    pub compared: usize,
}

/// Multiply-adds up to which every element is compared.
const EVERYWHERE: u64 = 4_000_000;
/// Elements that are compared at least.
const SAMPLES: u64 = 768;
/// Multiply-adds that a check of many channels may take.
const MAX_WORK: u64 = 40_000_000;

impl Check {
    pub(super) fn new(problem: &ConvProblem) -> Self {
        let input = data::values(1, element_count(&problem.input_shape()));
        let weight = data::values(2, element_count(&problem.weight_shape()));
        let expected = positions(problem)
            .into_iter()
            .map(|index| (flat(problem, index), reference::conv_element(problem, &input, &weight, index)))
            .collect();
        Self { problem: problem.clone(), input, weight, expected }
    }

    pub(super) fn problem(&self) -> &ConvProblem {
        &self.problem
    }

    /// Lets `variant` compute the problem and compares.
    pub(super) fn run(&self, gpu: &Gpu, variant: Variant) -> Result<(Checked, Computed), ComputeError> {
        let computed = run::compute(gpu, variant, &self.problem, &self.input, &self.weight)?;
        Ok((self.compare(variant, &computed.output), computed))
    }

    fn compare(&self, variant: Variant, output: &[f32]) -> Checked {
        let depth: u64 = self.problem.weight_shape()[1..].iter().map(|&n| u64::from(n)).product();
        let (relative, absolute) = tolerance(variant, self.problem.dtype(), depth);
        let mut checked = Checked { passed: true, max_error: 0.0, worst: [0; 4], compared: self.expected.len() };
        for &(at, wanted) in &self.expected {
            let difference = (f64::from(output[at]) - wanted).abs();
            // NaN, which an element that was not written holds, is farther off than anything.
            let difference = if difference.is_nan() { f64::INFINITY } else { difference };
            if difference > f64::from(checked.max_error) {
                checked.max_error = difference as f32;
                checked.worst = index(&self.problem, at);
            }
            checked.passed &= difference <= absolute + relative * wanted.abs();
        }
        checked
    }
}

/// Lets `variant` compute a problem with pseudo-random values and compares with the reference.
pub(super) fn verify(gpu: &Gpu, variant: Variant, problem: &ConvProblem) -> Result<Checked, ComputeError> {
    Ok(Check::new(problem).run(gpu, variant)?.0)
}

/// Relative and absolute tolerance for sums of `depth` products of values from -1 to 1 that are added up in single
/// precision: far above what rounding makes of them, far below the mean product.
///
/// Where values are transformed, products are up to nine times as large as plain ones, and cancel each other. In half
/// precision transformed weights are rounded before anything is multiplied: an output is a sum of `depth` products with
/// independent errors, of about 2^-12 times the root of their number.
fn tolerance(variant: Variant, dtype: DType, depth: u64) -> (f64, f64) {
    let larger = if variant.transforms() { 4.0 } else { 1.0 };
    let absolute = larger * (depth as f64 / f64::from(1 << 22) + 1e-6);
    match dtype {
        DType::F16 if variant.transforms() => (1.0 / 1024.0, absolute + (depth as f64).sqrt() / 500.0),
        DType::F32 => (1e-6, absolute),
        DType::F16 => (1.0 / 1024.0, absolute + 1e-6),
        DType::BF16 | DType::I8 => (0.0, 0.0),
    }
}

/// The elements that are compared: all of a small problem's; of a large one's, at least one of each channel as far as
/// the work allows, a quarter of them on the borders, and the corners of the first and last image.
fn positions(problem: &ConvProblem) -> Vec<[u32; 4]> {
    let [batch, channels, height, width] = problem.output_shape();
    let work = problem.flops().multiply_adds();
    let elements = element_count(&problem.output_shape());
    if work <= EVERYWHERE {
        return (0..elements as usize).map(|at| index(problem, at)).collect();
    }
    let depth = (work / elements).max(1);
    let count = u64::from(channels).max(SAMPLES).min((MAX_WORK / depth).max(SAMPLES));
    let below = |random: u64, limit: u32| (random % u64::from(limit)) as u32;
    let mut positions: Vec<[u32; 4]> = (0..count)
        .map(|n| {
            let random = |what: u64| data::mix(n * 8 + what);
            let mut row = below(random(0), height);
            let mut column = below(random(1), width);
            match n % 16 {
                0 => row = 0,
                1 => row = height - 1,
                2 => column = 0,
                3 => column = width - 1,
                _ => {}
            }
            // Steps through all channels if there are samples enough, and else over them evenly.
            let channel = n * u64::from(channels) / count.min(u64::from(channels)) % u64::from(channels);
            [below(random(2), batch), channel as u32, row, column]
        })
        .collect();
    for image in [0, batch - 1] {
        for row in [0, height - 1] {
            for column in [0, width - 1] {
                positions.push([image, 0, row, column]);
                positions.push([image, channels - 1, row, column]);
            }
        }
    }
    positions
}

fn flat(problem: &ConvProblem, index: [u32; 4]) -> usize {
    let shape = problem.output_shape();
    (0..4).fold(0, |at, axis| at * shape[axis] as usize + index[axis] as usize)
}

fn index(problem: &ConvProblem, flat: usize) -> [u32; 4] {
    let [_, channels, height, width] = problem.output_shape().map(|n| n as usize);
    let (row, column) = (flat / width % height, flat % width);
    let plane = flat / (width * height);
    [plane / channels, plane % channels, row, column].map(|n| n as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::Conv;

    fn problem(channels: u32, size: u32, batch: u32) -> ConvProblem {
        ConvProblem::new(Conv::square(3), batch, channels, channels, [size, size], DType::F32).unwrap()
    }

    #[test]
    fn a_small_problem_is_compared_everywhere() {
        let problem = problem(3, 7, 2);
        let direct = Variant::taking(&problem).next().unwrap();
        let check = Check::new(&problem);
        let right: Vec<f32> = reference::conv(&problem, &check.input, &check.weight);
        let checked = check.compare(direct, &right);
        assert!(checked.passed);
        assert_eq!(checked.compared, 2 * 3 * 7 * 7);
        for at in [0, 100, right.len() - 1] {
            for wrong in [right[at] + 0.01, f32::NAN] {
                let mut result = right.clone();
                result[at] = wrong;
                let checked = check.compare(direct, &result);
                assert!(!checked.passed);
                assert_eq!(flat(&problem, checked.worst), at);
            }
        }
    }

    #[test]
    fn a_large_problem_is_sampled_in_all_channels_and_on_all_borders() {
        let problem = problem(300, 40, 3);
        let positions = positions(&problem);
        assert!(positions.len() >= 768);
        for channel in 0..300 {
            assert!(positions.iter().any(|p| p[1] == channel), "channel {channel}");
        }
        for (axis, border) in [(2, 0), (2, 39), (3, 0), (3, 39), (0, 0), (0, 2)] {
            assert!(positions.iter().filter(|p| p[axis] == border).count() > 30, "axis {axis} at {border}");
        }
    }

    #[test]
    fn indices_and_flat_positions_agree() {
        let problem = problem(5, 6, 2);
        for at in 0..2 * 5 * 6 * 6 {
            assert_eq!(flat(&problem, index(&problem, at)), at);
        }
    }
}
