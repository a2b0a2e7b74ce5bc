//! Two tensors, element by element: how far apart they are, and whether that is tolerable.

use serde::{Deserialize, Serialize};

use crate::tensor::array::{Array, ElementType};
use crate::tensor::index_of;

/// How far a value may be from what is expected: `|actual - expected| <= atol + rtol * |expected|`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tolerance {
    /// Relative to the expected value.
    pub rtol: f64,
    /// On top of that.
    pub atol: f64,
}

impl Tolerance {
    /// What rounding in this element type makes of a network's sums, with room. Integers and truth values are exact.
    pub fn of(ty: ElementType) -> Self {
        let (rtol, atol) = match ty {
            ElementType::F64 => (1e-7, 1e-9),
            ElementType::F32 => (1e-3, 1e-5),
            ElementType::F16 => (1e-2, 1e-3),
            ElementType::BF16 => (5e-2, 1e-2),
            ElementType::I8
            | ElementType::I16
            | ElementType::I32
            | ElementType::I64
            | ElementType::U8
            | ElementType::U16
            | ElementType::U32
            | ElementType::U64
            | ElementType::Bool => (0.0, 0.0),
        };
        Self { rtol, atol }
    }

    /// This, with what is given instead.
    pub fn with(self, rtol: Option<f64>, atol: Option<f64>) -> Self {
        Self { rtol: rtol.unwrap_or(self.rtol), atol: atol.unwrap_or(self.atol) }
    }
}

/// How two tensors of one shape differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Element type of what was found.
    pub element_type: String,
    /// The shape.
    pub shape: Vec<u32>,
    /// The tolerance that was applied.
    pub rtol: f64,
    /// The tolerance that was applied.
    pub atol: f64,
    /// Whether every element is within it.
    pub within: bool,
    /// Elements that are not.
    pub outside: u64,
    /// Greatest absolute difference; `None` if there is one that is no number.
    pub max_abs: Option<f64>,
    /// Mean absolute difference.
    pub mean_abs: Option<f64>,
    /// Greatest difference relative to the expected value, of those that are not zero.
    pub max_rel: Option<f64>,
    /// Mean difference relative to the expected value, of those that are not zero.
    pub mean_rel: Option<f64>,
    /// Cosine of the angle between the two as vectors; `None` if one of them is zero or has values that are no numbers.
    pub cosine: Option<f64>,
    /// Index of the element farthest outside, or nearest to the bound, of the tolerance.
    pub worst: Vec<u32>,
    /// What was found there.
    pub worst_actual: Option<f64>,
    /// What was expected there.
    pub worst_expected: Option<f64>,
}

/// Why two tensors cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// They are of different types.
    #[error("it is {actual}, {expected} is expected")]
    Type {
        /// What was found.
        actual: String,
        /// What was expected.
        expected: String,
    },
}

/// Compares what was found with what was expected. Floating-point numbers of different types are compared with the
/// tolerance of the coarser. What is no number agrees only with what is none either.
///
/// # Errors
/// If shapes differ, or element types that are not both of floating point.
pub fn compare(actual: &Array, expected: &Array, given: (Option<f64>, Option<f64>)) -> Result<Figures, Mismatch> {
    let (ty, other) = (actual.element_type(), expected.element_type());
    if actual.shape() != expected.shape() || (ty != other && !(ty.is_float() && other.is_float())) {
        return Err(Mismatch::Type { actual: actual.to_string(), expected: expected.to_string() });
    }
    let coarser = if Tolerance::of(ty).rtol >= Tolerance::of(other).rtol { ty } else { other };
    let tolerance = Tolerance::of(coarser).with(given.0, given.1);
    let mut sums = Sums::default();
    let mut worst: Option<(f64, usize)> = None;
    let mut outside = 0;
    let places = actual.data().len();
    for place in 0..places {
        let (Some(a), Some(e)) = (actual.at(place), expected.at(place)) else { break };
        let difference = if a == e || (a.is_nan() && e.is_nan()) { 0.0 } else { (a - e).abs() };
        // Neither infinity nor what is no number is near anything else.
        let difference = if difference.is_nan() { f64::INFINITY } else { difference };
        sums.add(a, e, difference);
        let allowed = tolerance.atol + tolerance.rtol * e.abs();
        let excess = match difference {
            0.0 if allowed.is_finite() => -allowed,
            0.0 => f64::NEG_INFINITY,
            difference if allowed.is_finite() => difference - allowed,
            _ => f64::INFINITY,
        };
        outside += u64::from(excess > 0.0);
        // Of equal ones the first is named.
        if worst.is_none_or(|(most, _)| excess > most) {
            worst = Some((excess, place));
        }
    }
    let place = worst.map(|(_, place)| place);
    let finite = |value: f64| value.is_finite().then_some(value);
    Ok(Figures {
        element_type: ty.to_string(),
        shape: actual.shape().to_vec(),
        rtol: tolerance.rtol,
        atol: tolerance.atol,
        within: outside == 0,
        outside,
        max_abs: finite(sums.max_abs),
        mean_abs: finite(sums.abs / (places.max(1) as f64)),
        max_rel: finite(sums.max_rel),
        mean_rel: finite(sums.rel / (sums.relative.max(1) as f64)),
        cosine: sums.cosine(),
        worst: place.map(|place| index_of(place, actual.shape())).unwrap_or_default(),
        worst_actual: place.and_then(|place| actual.at(place)).and_then(finite),
        worst_expected: place.and_then(|place| expected.at(place)).and_then(finite),
    })
}

#[derive(Default)]
struct Sums {
    abs: f64,
    max_abs: f64,
    rel: f64,
    max_rel: f64,
    relative: u64,
    product: f64,
    actual: f64,
    expected: f64,
}

impl Sums {
    fn add(&mut self, actual: f64, expected: f64, difference: f64) {
        self.abs += difference;
        self.max_abs = self.max_abs.max(difference);
        if expected != 0.0 && !expected.is_nan() {
            let relative = difference / expected.abs();
            let relative = if relative.is_nan() { 0.0 } else { relative };
            self.rel += relative;
            self.max_rel = self.max_rel.max(relative);
            self.relative += 1;
        }
        self.product += actual * expected;
        self.actual += actual * actual;
        self.expected += expected * expected;
    }

    fn cosine(&self) -> Option<f64> {
        let cosine = self.product / (self.actual.sqrt() * self.expected.sqrt());
        cosine.is_finite().then_some(cosine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::array::Data;

    fn f32s(values: &[f32]) -> Array {
        Array::new([1, values.len() as u32], Data::F32(values.to_vec())).unwrap()
    }

    #[test]
    fn figures_are_those_worked_out_by_hand() {
        let figures =
            compare(&f32s(&[1.0, 2.5, 0.0, -4.0]), &f32s(&[1.0, 2.0, 0.25, -4.0]), (Some(0.1), Some(0.0))).unwrap();
        assert!(!figures.within);
        assert_eq!(figures.outside, 2);
        assert_eq!(figures.max_abs, Some(0.5));
        assert_eq!(figures.mean_abs, Some(0.1875));
        assert_eq!(figures.max_rel, Some(1.0));
        assert_eq!(figures.mean_rel, Some((0.25 + 1.0) / 4.0));
        // 1 + 5 + 0 + 16 over the roots of 1 + 6.25 + 16 and 1 + 4 + 0.0625 + 16.
        let cosine = 22.0 / (23.25_f64.sqrt() * 21.0625_f64.sqrt());
        assert!((figures.cosine.unwrap() - cosine).abs() < 1e-12);
        assert_eq!((figures.worst, figures.worst_actual, figures.worst_expected), (vec![0, 1], Some(2.5), Some(2.0)));
    }

    #[test]
    fn what_agrees_and_what_does_not() {
        let (nan, infinite) = (f32::NAN, f32::INFINITY);
        for (name, actual, expected, within) in [
            ("equal", 1.0, 1.0, true),
            ("near", 1.0005, 1.0, true),
            ("far", 1.01, 1.0, false),
            ("both no numbers", nan, nan, true),
            ("one no number", nan, 1.0, false),
            ("the other no number", 1.0, nan, false),
            ("infinite", infinite, infinite, true),
            ("infinite the other way", infinite, -infinite, false),
            ("only one infinite", 1.0, infinite, false),
        ] {
            let figures = compare(&f32s(&[actual]), &f32s(&[expected]), (None, None)).unwrap();
            assert_eq!(figures.within, within, "{name}: {figures:?}");
        }
    }

    #[test]
    fn types_are_compared_where_that_makes_sense() {
        let half = Array::new([1, 1], Data::from_f64(ElementType::F16, [1.005].into_iter())).unwrap();
        let figures = compare(&half, &f32s(&[1.0]), (None, None)).unwrap();
        assert_eq!((figures.within, figures.rtol), (true, 1e-2));
        let whole = Array::new([1, 1], Data::I64(vec![1])).unwrap();
        let error = compare(&whole, &f32s(&[1.0]), (None, None)).unwrap_err();
        assert_eq!(error.to_string(), "it is i64[1,1], f32[1,1] is expected");
        let off = Array::new([1, 1], Data::I64(vec![2])).unwrap();
        assert!(!compare(&whole, &off, (None, None)).unwrap().within);
    }
}
