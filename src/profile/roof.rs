//! The roof of a device: how many operations it does in a second at most, how many bytes it moves, and where between
//! nothing and that a convolution stands (the roofline model: Williams, Waterman and Patterson, CACM 52(4), 2009).
//!
//! Both are measured by the instrument that measures the convolutions, in the precision they are computed in: what a
//! data sheet promises, no program may reach. A convolution can stand above the roof. Its operations are counted as the
//! direct algorithm does them, of which Winograd's needs fewer; and its bytes are counted as if they came from memory,
//! where caches may hold them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::sampling::median;
use super::{Instrument, MAX_SAMPLES, Measurement, Source, Timing};
use crate::tensor::DType;
use crate::units::{Bytes, BytesPerSecond, Flops, FlopsPerByte, FlopsPerSecond};

/// What limits a computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoofKind {
    /// Multiply-adds.
    Arithmetic,
    /// Memory.
    Bandwidth,
}

/// One limit of a device, as an instrument has measured it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roof {
    /// What it limits.
    pub kind: RoofKind,
    /// What measured it, and by doing what.
    pub instrument: Instrument,
    /// The precision that it holds for.
    pub dtype: DType,
    /// Operations, or bytes read and written, that a sample is the time of.
    pub amount: u64,
    /// How the time was taken.
    pub timing: Timing,
    /// Nanoseconds it took, one sample a round; `null` for one that was thrown away.
    pub samples_ns: Vec<Option<u64>>,
}

/// What is wrong with a roof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoofError {
    /// It is the rate of nothing.
    #[error("`amount` is zero")]
    Nothing,
    /// Nothing takes no time.
    #[error("sample {index} is zero")]
    ZeroSample {
        /// Which sample, from 0.
        index: usize,
    },
    /// There are too many samples.
    #[error("it has {found} samples, more than the {MAX_SAMPLES} supported")]
    TooManySamples {
        /// How many there are.
        found: usize,
    },
    /// The same was measured twice.
    #[error("it repeats `roofs[{first}]`: the same limit by the same instrument in the same precision")]
    Repeated {
        /// Where it stands for the first time.
        first: usize,
    },
}

impl Roof {
    /// The median time; `None` without samples.
    pub fn median(&self) -> Option<Duration> {
        let kept: Vec<f64> = self.samples_ns.iter().flatten().map(|&ns| ns as f64).collect();
        median(&kept).map(|ns| Duration::from_secs_f64(ns * 1e-9))
    }

    pub(super) fn check(&self, before: &[Self]) -> Result<(), RoofError> {
        if self.amount == 0 {
            return Err(RoofError::Nothing);
        }
        if self.samples_ns.len() > MAX_SAMPLES {
            return Err(RoofError::TooManySamples { found: self.samples_ns.len() });
        }
        if let Some(index) = self.samples_ns.iter().position(|&sample| sample == Some(0)) {
            return Err(RoofError::ZeroSample { index });
        }
        let same = |other: &Self| {
            (self.kind, self.dtype) == (other.kind, other.dtype)
                && self.instrument.source() == other.instrument.source()
        };
        match before.iter().position(same) {
            Some(first) => Err(RoofError::Repeated { first }),
            None => Ok(()),
        }
    }
}

/// Both limits of a device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Roofline {
    /// Operations a second, at most.
    pub arithmetic: FlopsPerSecond,
    /// Bytes a second, at most.
    pub bandwidth: BytesPerSecond,
}

/// Where a computation stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Its density as a share of the greatest one possible at its intensity; above 1 for what does fewer operations or
    /// moves fewer bytes than counted.
    pub share: f64,
    /// What limits it.
    pub limit: RoofKind,
}

impl Roofline {
    /// What a measurement stands under; `None` if one of the limits was not measured.
    pub fn over(measurement: &Measurement, roofs: &[Roof]) -> Option<Self> {
        let dtype = measurement.precision();
        let limit = |kind| {
            let over = |roof: &&Roof| {
                (roof.kind, roof.dtype) == (kind, dtype) && roof.instrument.source() == Source::of(measurement)
            };
            let roof = roofs.iter().find(over)?;
            Some((roof.amount, roof.median()?))
        };
        let (flops, flops_time) = limit(RoofKind::Arithmetic)?;
        let (bytes, bytes_time) = limit(RoofKind::Bandwidth)?;
        Some(Self { arithmetic: Flops(flops).per(flops_time)?, bandwidth: Bytes(bytes).per(bytes_time)? })
    }

    /// The greatest density possible for work of this intensity, and what limits it.
    pub fn at(&self, intensity: FlopsPerByte) -> (FlopsPerSecond, RoofKind) {
        let fed = intensity * self.bandwidth;
        if fed.0 < self.arithmetic.0 { (fed, RoofKind::Bandwidth) } else { (self.arithmetic, RoofKind::Arithmetic) }
    }
}

impl Measurement {
    /// The precision it was computed in, as far as is known.
    pub fn precision(&self) -> DType {
        self.computed_in.unwrap_or(self.problem.dtype())
    }

    /// Operations per byte that has to be moved in the precision it was computed in.
    pub fn intensity(&self) -> FlopsPerByte {
        let wider = self.precision().size() as f64 / self.problem.dtype().size() as f64;
        FlopsPerByte(self.problem.intensity().0 / wider)
    }

    /// Where it stands below the roof; `None` without samples or without a roof.
    pub fn place(&self, roofs: &[Roof]) -> Option<Place> {
        let (most, limit) = Roofline::over(self, roofs)?.at(self.intensity());
        Some(Place { share: self.density()?.0 / most.0, limit })
    }
}

/// The share of the greatest density possible that several layers together reach: the time they would take if each stood
/// at its roof, by the time they take. `None` if one of them has no place.
pub fn share<'m>(measurements: impl IntoIterator<Item = &'m Measurement>, roofs: &[Roof]) -> Option<f64> {
    let (mut at_best, mut taken) = (0.0, 0.0);
    for measurement in measurements {
        let time = measurement.median()?.as_secs_f64() * f64::from(measurement.layers);
        at_best += time * measurement.place(roofs)?.share;
        taken += time;
    }
    (taken > 0.0).then_some(at_best / taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::{Candidate, Conv, ConvProblem};
    use crate::profile::InstrumentKind;

    fn instrument(kind: InstrumentKind, name: &str) -> Instrument {
        Instrument { kind, name: name.into(), variant: String::new() }
    }

    fn roof(kind: RoofKind, dtype: DType, amount: u64, ns: u64) -> Roof {
        let instrument = instrument(InstrumentKind::Provider, "cpu");
        Roof { kind, instrument, dtype, amount, timing: Timing::ChainSlope, samples_ns: vec![Some(ns), None] }
    }

    fn measured(conv: Conv, dtype: DType, ns: u64) -> Measurement {
        let problem = ConvProblem::new(conv, 1, 8, 8, [4, 4], dtype).unwrap();
        Measurement {
            candidate: Candidate::full(1),
            layers: 1,
            problem,
            instrument: instrument(InstrumentKind::Provider, "cpu"),
            timing: Timing::ChainSlope,
            max_error: None,
            computed_in: None,
            samples_ns: vec![Some(ns)],
            processor_ns: Vec::new(),
            runs: std::collections::BTreeMap::new(),
        }
    }

    /// 100 FLOP/ns and 10 B/ns: the ridge is at 10 FLOP/B.
    fn roofs() -> Vec<Roof> {
        vec![
            roof(RoofKind::Arithmetic, DType::F32, 1_000_000, 10_000),
            roof(RoofKind::Bandwidth, DType::F32, 1_000_000, 100_000),
        ]
    }

    #[test]
    fn the_lower_limit_counts() {
        let line = Roofline { arithmetic: FlopsPerSecond(100e9), bandwidth: BytesPerSecond(10e9) };
        for (intensity, most, limit) in
            [(2.0, 20e9, RoofKind::Bandwidth), (9.9, 99e9, RoofKind::Bandwidth), (500.0, 100e9, RoofKind::Arithmetic)]
        {
            assert_eq!(line.at(FlopsPerByte(intensity)), (FlopsPerSecond(most), limit), "{intensity}");
        }
    }

    /// 1x1 over 8 channels of 4x4: 2 * 8 * 8 * 16 = 2048 FLOP; (128 + 64 + 128) * 4 = 1280 B, so 1.6 FLOP/B, and at most
    /// 16 FLOP/ns. In 256 ns it does 8 FLOP/ns. 3x3: 18432 FLOP, (128 + 576 + 128) * 4 = 3328 B, 5.54 FLOP/B, at most
    /// 55.4 FLOP/ns.
    #[test]
    fn places_worked_out_by_hand() {
        for (name, conv, ns, share) in [
            ("half the bandwidth", Conv::square(1), 256, 0.5),
            ("all of it", Conv::square(1), 128, 1.0),
            ("above the roof", Conv::square(1), 64, 2.0),
            ("3x3 in a microsecond", Conv::square(3), 1000, 18.432 / 55.384_615),
        ] {
            let place = measured(conv, DType::F32, ns).place(&roofs()).unwrap();
            assert!((place.share - share).abs() < 1e-6, "{name}: {place:?}");
            assert_eq!(place.limit, RoofKind::Bandwidth, "{name}");
        }
        let large = ConvProblem::new(Conv::square(3), 1, 64, 64, [56, 56], DType::F32).unwrap();
        // 231211008 FLOP at 100 FLOP/ns take 2312110.08 ns at least.
        let slow = Measurement {
            problem: large,
            samples_ns: vec![Some(4_624_220)],
            ..measured(Conv::square(3), DType::F32, 1)
        };
        let place = slow.place(&roofs()).unwrap();
        assert!((place.share - 0.5).abs() < 1e-6 && place.limit == RoofKind::Arithmetic, "{place:?}");
    }

    #[test]
    fn only_the_same_instrument_and_precision_is_a_roof() {
        let half = measured(Conv::square(1), DType::F16, 256);
        assert_eq!(half.place(&roofs()), None);
        // In half precision it would move 640 bytes; computed in single precision it moves 1280, as above.
        let widened = Measurement { computed_in: Some(DType::F32), ..half };
        assert!((widened.place(&roofs()).unwrap().share - 0.5).abs() < 1e-9);
        let mut elsewhere = measured(Conv::square(1), DType::F32, 256);
        elsewhere.instrument.name = "cuda".into();
        assert_eq!(elsewhere.place(&roofs()), None);
        assert_eq!(measured(Conv::square(1), DType::F32, 256).place(&roofs()[..1]), None);
    }

    /// 256 ns at half the roof and twice 1000 ns at a third of it: (128 + 2 * 332.8) / 2256.
    #[test]
    fn layers_together_are_weighed_by_their_time() {
        let fast = measured(Conv::square(1), DType::F32, 256);
        let slow = Measurement { layers: 2, ..measured(Conv::square(3), DType::F32, 1000) };
        let share = share([&fast, &slow], &roofs()).unwrap();
        assert!((share - (128.0 + 2.0 * 332.8) / 2256.0).abs() < 1e-6, "{share}");
        assert_eq!(super::share([], &roofs()), None);
    }
}
