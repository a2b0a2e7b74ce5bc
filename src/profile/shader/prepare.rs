//! Picks the shader for a problem: every variant that takes it is checked, then timed, and the fastest is kept.

use std::time::{Duration, Instant};

use super::check::{Check, Checked};
use super::gpu::{Gpu, GpuError};
use super::run::ComputeError;
use super::timing::{Chain, Dropped, Sample, Timing};
use super::variant::Variant;
use crate::conv::ConvProblem;
use crate::profile::sampling::{Time, Timed};

/// A problem with the fastest right shader for it, warmed up and ready to be measured.
#[derive(Debug)]
pub struct Prepared {
    problem: ConvProblem,
    variant: Variant,
    checked: Checked,
    trials: Vec<Trial>,
    chain: Chain,
    dropped: Vec<Dropped>,
}

/// What was found out about one variant.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The variant.
    pub variant: Variant,
    /// What happened.
    pub outcome: Outcome,
}

/// What happened to a variant while it was tried.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Its result is right.
    Right {
        /// How its result compares with the reference.
        checked: Checked,
        /// Time of one convolution, roughly; `None` if the clocks gave none.
        time: Option<Duration>,
    },
    /// Its result is wrong, so it was not timed.
    Wrong(Checked),
    /// It could not be run.
    Failed(ComputeError),
    /// Time for trying was up before its turn.
    NotTried,
}

/// Why a problem cannot be measured on an adapter.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The adapter failed in a way that leaves no hope for other shaders.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// No shader takes the problem.
    #[error("no shader takes this problem on adapter `{adapter}`")]
    NoShader {
        /// Name of the adapter.
        adapter: String,
    },
    /// Every shader that takes the problem failed or gave a wrong result.
    #[error("no shader computes this problem on adapter `{adapter}`: {}", list(trials))]
    NoneRight {
        /// Name of the adapter.
        adapter: String,
        /// What happened to each.
        trials: Vec<Trial>,
    },
}

/// Samples of a variant while variants are tried, the first of which only tells how long the chains have to be.
const TRIAL_SAMPLES: usize = 3;
/// A variant that takes this many times as long as the fastest is not sampled again.
const HOPELESS: f64 = 1.5;
/// How many of the fastest variants are compared once more, turn by turn, and how often.
const FINALISTS: usize = 3;
const FINAL_ROUNDS: usize = 5;
/// Longest comparison, as far as single samples allow.
const FINAL: Duration = Duration::from_secs(1);
/// Most samples of the warm-up.
const WARM_UP_SAMPLES: usize = 10;
/// Longest warm-up, as far as single samples allow.
const WARM_UP: Duration = Duration::from_millis(500);
/// A gain below this part of the time is no longer an improvement.
const IMPROVEMENT: f64 = 0.02;

impl Gpu {
    /// Checks and times the variants that take `problem` and keeps the fastest right one, warmed up.
    ///
    /// The likeliest are tried first. At least one right one is found if there is any; after `budget` no further ones are
    /// tried. Compiling, checking and timing all count.
    ///
    /// # Errors
    /// If no shader takes the problem, none gives the right result, or the device is lost or hangs.
    pub fn prepare(&self, problem: &ConvProblem, budget: Duration) -> Result<Prepared, PrepareError> {
        let mut variants: Vec<Variant> = Variant::taking(problem).collect();
        variants.sort_by_key(|variant| variant.rank(self.is_software()));
        self.prepare_from(&variants, problem, budget)
    }

    /// As [`Gpu::prepare`], but tries only these variants, in this order.
    ///
    /// # Errors
    /// If none of them takes the problem or gives the right result, or the device is lost or hangs.
    pub fn prepare_from(
        &self,
        variants: &[Variant],
        problem: &ConvProblem,
        budget: Duration,
    ) -> Result<Prepared, PrepareError> {
        let begin = Instant::now();
        let variants: Vec<Variant> = variants.iter().copied().filter(|&variant| self.takes(variant, problem)).collect();
        if variants.is_empty() {
            return Err(PrepareError::NoShader { adapter: self.name().to_owned() });
        }
        let check = Check::new(problem);
        let mut trials = Vec::new();
        let mut right: Vec<Contender> = Vec::new();
        for variant in variants {
            let fastest = right.iter().filter_map(|contender| contender.time).min();
            let outcome = if !right.is_empty() && begin.elapsed() >= budget {
                Outcome::NotTried
            } else {
                match self.try_variant(&check, variant, fastest) {
                    Ok(Ok(contender)) => {
                        let outcome = Outcome::Right { checked: contender.checked.clone(), time: contender.time };
                        right.push(contender);
                        outcome
                    }
                    Ok(Err(wrong)) => Outcome::Wrong(wrong),
                    Err(ComputeError::Gpu(error @ (GpuError::Lost { .. } | GpuError::Timeout { .. }))) => {
                        return Err(error.into());
                    }
                    Err(error) => Outcome::Failed(error),
                }
            };
            trials.push(Trial { variant, outcome });
        }
        let Some(Contender { variant, checked, mut chain, .. }) = fastest(right)? else {
            return Err(PrepareError::NoneRight { adapter: self.name().to_owned(), trials });
        };
        warm_up(&mut chain)?;
        Ok(Prepared { problem: problem.clone(), variant, checked, trials, chain, dropped: Vec::new() })
    }

    /// Checks a variant and, if its result is right, times it until it is clear that it is slower than `fastest`. The
    /// inner error is a wrong result.
    fn try_variant(
        &self,
        check: &Check,
        variant: Variant,
        fastest: Option<Duration>,
    ) -> Result<Result<Contender, Checked>, ComputeError> {
        let (checked, computed) = check.run(self, variant)?;
        if !checked.passed {
            return Ok(Err(checked));
        }
        let chain = Chain::new(self, variant, check.problem(), computed.workgroups)?;
        let mut contender = Contender { variant, checked, chain, time: None };
        for _ in 0..TRIAL_SAMPLES {
            contender.sample()?;
            let hopeless = |time: Duration| fastest.is_some_and(|fastest| time > fastest.mul_f64(HOPELESS));
            if contender.time.is_some_and(|time| time > FINAL || hopeless(time)) {
                break;
            }
        }
        Ok(Ok(contender))
    }
}

/// A variant whose result is right, with its least time so far.
struct Contender {
    variant: Variant,
    checked: Checked,
    chain: Chain,
    time: Option<Duration>,
}

impl Contender {
    fn sample(&mut self) -> Result<(), GpuError> {
        if let Sample::Taken(time) = self.chain.sample()? {
            self.time = Some(self.time.map_or(time, |least| least.min(time)));
        }
        Ok(())
    }
}

/// The fastest of the contenders. Those nearest to the lead are sampled turn by turn, so that a disturbance of the machine
/// hits all alike; the least time counts, because others' work only ever adds to it.
fn fastest(mut contenders: Vec<Contender>) -> Result<Option<Contender>, GpuError> {
    let order = |contender: &Contender| (contender.time.is_none(), contender.time);
    contenders.sort_by_key(order);
    contenders.truncate(FINALISTS);
    if let Some(lead) = contenders.first().and_then(|contender| contender.time) {
        contenders.retain(|contender| contender.time.is_some_and(|time| time <= lead.mul_f64(HOPELESS)));
    }
    if contenders.len() > 1 {
        let begin = Instant::now();
        for _ in 0..FINAL_ROUNDS {
            if begin.elapsed() < FINAL {
                contenders.iter_mut().try_for_each(Contender::sample)?;
            }
        }
        contenders.sort_by_key(order);
    }
    Ok(contenders.into_iter().next())
}

/// Samples until the time no longer improves.
fn warm_up(chain: &mut Chain) -> Result<(), GpuError> {
    let begin = Instant::now();
    let mut best: Option<Duration> = None;
    let mut without_gain = 0;
    for _ in 0..WARM_UP_SAMPLES {
        if without_gain == 2 || begin.elapsed() > WARM_UP {
            break;
        }
        if let Sample::Taken(time) = chain.sample()? {
            let improved = best.is_none_or(|best| time < best.mul_f64(1.0 - IMPROVEMENT));
            without_gain = if improved { 0 } else { without_gain + 1 };
            best = Some(best.map_or(time, |best| best.min(time)));
        }
    }
    Ok(())
}

impl Prepared {
    /// The problem.
    pub fn problem(&self) -> &ConvProblem {
        &self.problem
    }

    /// The shader that computes it.
    pub fn variant(&self) -> Variant {
        self.variant
    }

    /// The shader's name with its tile sizes: `conv_direct 8x1x8`.
    pub fn shader_name(&self) -> String {
        self.variant.to_string()
    }

    /// How the shader's result compares with the reference.
    pub fn checked(&self) -> &Checked {
        &self.checked
    }

    /// Greatest absolute difference from the reference, for inputs and weights from -1 to 1.
    pub fn max_error(&self) -> f32 {
        self.checked.max_error
    }

    /// What was found out about every variant that takes the problem.
    pub fn trials(&self) -> &[Trial] {
        &self.trials
    }

    /// How samples are taken.
    pub fn timing(&self) -> Timing {
        self.chain.timing()
    }

    /// Convolutions in the next sample. Each follows the one before it, on another input and with other weights.
    pub fn chain_length(&self) -> u32 {
        self.chain.length()
    }

    /// Takes one measurement: the time of a chain of convolutions, divided by their number.
    ///
    /// # Errors
    /// If the adapter fails.
    pub fn sample(&mut self) -> Result<Sample, GpuError> {
        let sample = self.chain.sample()?;
        if let Sample::Dropped(reason) = sample {
            self.dropped.push(reason);
        }
        Ok(sample)
    }

    /// The measurements thrown away so far.
    pub fn dropped(&self) -> &[Dropped] {
        &self.dropped
    }
}

impl Timed for Prepared {
    type Error = GpuError;

    fn sample(&mut self) -> Result<Option<Time>, GpuError> {
        let sample = Prepared::sample(self)?;
        Ok(self.chain.time_of(sample))
    }
}

/// Every trial in a few words; variants with the same fate together.
fn list(trials: &[Trial]) -> String {
    let mut fates: Vec<(String, Vec<String>)> = Vec::new();
    for Trial { variant, outcome } in trials {
        let fate = match outcome {
            Outcome::Right { .. } => "right".to_owned(),
            Outcome::Wrong(checked) => format!("wrong by {} at {:?}", checked.max_error, checked.worst),
            Outcome::Failed(error) => error.to_string(),
            Outcome::NotTried => "not tried".to_owned(),
        };
        match fates.iter_mut().find(|(known, _)| *known == fate) {
            Some((_, variants)) => variants.push(format!("`{variant}`")),
            None => fates.push((fate, vec![format!("`{variant}`")])),
        }
    }
    let parts: Vec<String> = fates.iter().map(|(fate, variants)| format!("{fate} ({})", variants.join(", "))).collect();
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Bytes;

    #[test]
    fn variants_that_failed_alike_are_told_together() {
        let too_large = || ComputeError::TooLarge {
            adapter: "GPU".to_owned(),
            what: "weight",
            size: Bytes(2_000),
            limit: Bytes(1_000),
        };
        let wrong = Checked { passed: false, max_error: 0.5, worst: [0, 1, 2, 3], compared: 9 };
        let outcomes = [Outcome::Failed(too_large()), Outcome::Wrong(wrong), Outcome::Failed(too_large())];
        let trials =
            Variant::all().iter().zip(outcomes).map(|(&variant, outcome)| Trial { variant, outcome }).collect();
        let error = PrepareError::NoneRight { adapter: "GPU".to_owned(), trials };
        insta::assert_snapshot!(error, @"no shader computes this problem on adapter `GPU`: its weight takes 2 kB, but 1 kB is the most on adapter `GPU` (`conv_depthwise 4x16`, `conv_depthwise 4x4`); wrong by 0.5 at [0, 1, 2, 3] (`conv_depthwise 8x8`)");
    }
}
