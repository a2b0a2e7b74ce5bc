//! Quantities with their units: operations, bytes, and the two rates made of them.
//!
//! One multiply-add is two [`Flops`], always. Values are shown with three significant digits and an SI prefix.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul};
use std::time::Duration;

/// Floating-point operations; a multiply-add counts as two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Flops(pub u64);

/// An amount of memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub u64);

/// Operations per second: the unit of density.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct FlopsPerSecond(pub f64);

/// Bytes per second: the unit of bandwidth.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct BytesPerSecond(pub f64);

/// Operations per byte moved: the unit of arithmetic intensity.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct FlopsPerByte(pub f64);

impl Flops {
    /// Two operations for each of `n` multiply-adds.
    pub fn from_multiply_adds(n: u64) -> Self {
        Self(n.saturating_mul(2))
    }

    /// How many multiply-adds these operations are.
    pub fn multiply_adds(self) -> u64 {
        self.0 / 2
    }

    /// The rate at which these operations were done in `time`; `None` for no time at all.
    pub fn per(self, time: Duration) -> Option<FlopsPerSecond> {
        (!time.is_zero()).then(|| FlopsPerSecond(self.0 as f64 / time.as_secs_f64()))
    }
}

impl Bytes {
    /// The rate at which these bytes were moved in `time`; `None` for no time at all.
    pub fn per(self, time: Duration) -> Option<BytesPerSecond> {
        (!time.is_zero()).then(|| BytesPerSecond(self.0 as f64 / time.as_secs_f64()))
    }
}

impl Mul<BytesPerSecond> for FlopsPerByte {
    type Output = FlopsPerSecond;
    fn mul(self, bandwidth: BytesPerSecond) -> FlopsPerSecond {
        FlopsPerSecond(self.0 * bandwidth.0)
    }
}

impl Add for Flops {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Flops {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Mul<u64> for Flops {
    type Output = Self;
    fn mul(self, times: u64) -> Self {
        Self(self.0.saturating_mul(times))
    }
}

impl Sum for Flops {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), Add::add)
    }
}

impl Div<Bytes> for Flops {
    type Output = FlopsPerByte;
    fn div(self, bytes: Bytes) -> FlopsPerByte {
        FlopsPerByte(self.0 as f64 / bytes.0 as f64)
    }
}

impl Add for Bytes {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Bytes {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), Add::add)
    }
}

/// So many of something: `1 round`, `30 rounds`.
pub fn counted(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

impl fmt::Display for Flops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&scaled(self.0 as f64, "FLOP"))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&scaled(self.0 as f64, "B"))
    }
}

impl fmt::Display for FlopsPerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&scaled(self.0, "FLOP/s"))
    }
}

impl fmt::Display for BytesPerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&scaled(self.0, "B/s"))
    }
}

impl fmt::Display for FlopsPerByte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} FLOP/B", three_digits(self.0)))
    }
}

/// A duration as people read it: `18.2 us`, `4.36 ms`, `1.20 s`.
pub fn show_duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds >= 1.0 {
        format!("{} s", three_digits(seconds))
    } else if seconds >= 1e-3 {
        format!("{} ms", three_digits(seconds * 1e3))
    } else {
        format!("{} us", three_digits(seconds * 1e6))
    }
}

/// `value` with the largest SI prefix that leaves at least one digit before the point.
fn scaled(value: f64, unit: &str) -> String {
    const PREFIXES: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let mut value = value;
    let mut prefix = 0;
    // 999.5 would round to 1000 in three digits.
    while value >= 999.5 && prefix + 1 < PREFIXES.len() {
        value /= 1000.0;
        prefix += 1;
    }
    format!("{} {}{unit}", three_digits(value), PREFIXES[prefix])
}

/// Three significant digits for values from 1 up; fewer below, where they would be noise.
fn three_digits(value: f64) -> String {
    let magnitude = value.abs();
    if value == value.trunc() && magnitude < 1000.0 {
        format!("{value}")
    } else if magnitude >= 99.95 {
        format!("{value:.0}")
    } else if magnitude >= 9.995 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_with_prefix() {
        for (value, expected) in [
            (0.0, "0 FLOP/s"),
            (5.0, "5 FLOP/s"),
            (999.4, "999 FLOP/s"),
            (999.6, "1.00 kFLOP/s"),
            (12_400.0, "12.4 kFLOP/s"),
            (598e9, "598 GFLOP/s"),
            (12.4e12, "12.4 TFLOP/s"),
            (2.5e21, "2500 EFLOP/s"),
        ] {
            assert_eq!(FlopsPerSecond(value).to_string(), expected);
        }
    }

    #[test]
    fn a_multiply_add_is_two_operations() {
        let work = Flops::from_multiply_adds(6_442_450_944);
        assert_eq!(work, Flops(12_884_901_888));
        assert_eq!(work.multiply_adds(), 6_442_450_944);
        assert_eq!(work.per(Duration::from_secs(2)), Some(FlopsPerSecond(6_442_450_944.0)));
        assert_eq!(work.per(Duration::ZERO), None);
    }

    #[test]
    fn bytes_are_moved_at_a_rate_that_feeds_operations() {
        let rate = Bytes(3_000).per(Duration::from_micros(2)).unwrap();
        assert_eq!(rate, BytesPerSecond(1.5e9));
        assert_eq!(rate.to_string(), "1.50 GB/s");
        assert_eq!(FlopsPerByte(4.0) * rate, FlopsPerSecond(6e9));
        assert_eq!(Bytes(1).per(Duration::ZERO), None);
    }

    #[test]
    fn durations_name_their_unit() {
        for (time, expected) in [
            (Duration::from_nanos(18_240), "18.2 us"),
            (Duration::from_micros(4_360), "4.36 ms"),
            (Duration::from_millis(1_200), "1.20 s"),
        ] {
            assert_eq!(show_duration(time), expected);
        }
    }

    #[test]
    fn sums_saturate_instead_of_wrapping() {
        assert_eq!(Flops(u64::MAX) + Flops(1), Flops(u64::MAX));
        assert_eq!([Bytes(1), Bytes(2)].into_iter().sum::<Bytes>(), Bytes(3));
    }
}
