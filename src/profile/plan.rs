//! Plans: what is to be measured, as a file, so that many machines can each measure a share of it.
//!
//! A [`Plan`] says everything about a measurement but the device. A [`Shard`] is one of `of` shares of its problems: the
//! shares of a plan are the same on every machine, no two have a problem in common, and together they have all.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZero;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{InstrumentKind, MAX_MEASUREMENTS, StageError, StageShare, Task, check_stages, is_of};
use crate::conv::Candidate;
use crate::tensor::DType;
use crate::yaml::{self, YamlError};

/// The version of the file format that is written, and the only one that is read.
pub const FORMAT: u32 = 1;

/// The format as a JSON Schema.
pub const SCHEMA: &str = include_str!("../../schema/plan.schema.json");

/// Most shards a plan can be split into.
pub const MAX_SHARDS: u32 = 100_000;

/// Longest time for samples, in seconds.
const MAX_TIME: f64 = 1e6;

/// Most threads a provider may use: what a hundred thousand do is start.
const MAX_THREADS: u32 = 1024;

/// What is to be measured. This is the file format, version included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`FORMAT`].
    pub format: u32,
    /// How it is to be measured.
    pub settings: Settings,
    /// Where the operations of the base models stand that the problems were made after; empty if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageShare>,
    /// What is to be measured, in the order in which a profile has it.
    pub problems: Vec<Task>,
}

/// How a plan is to be measured: what of a profile's settings is known before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the problems come from.
    pub workload: String,
    /// What is to measure it; `null` for all that belong to the device and can be used.
    pub instrument: Option<InstrumentKind>,
    /// Element type of every problem.
    pub dtype: DType,
    /// Images in every problem.
    pub batch: u32,
    /// Processor threads an execution provider may use; `null` for as many as there are processors.
    pub threads: Option<NonZero<u32>>,
    /// How long each run, of a shard too, may take samples.
    pub time_budget_s: f64,
    /// Whether to measure what the device reaches at most; of the shares of a plan, the first does.
    #[serde(default)]
    pub roofs: bool,
    /// Seed of the order of problems and of weights and inputs.
    pub seed: u64,
}

impl Settings {
    /// The first thing in which two settings differ: what it is, and how it is in each.
    pub fn difference(&self, other: &Self) -> Option<(&'static str, String, String)> {
        let instrument = |of: &Self| of.instrument.map_or("all".to_owned(), |kind| kind.to_string());
        let threads = |of: &Self| of.threads.map_or("all processors".to_owned(), |threads| threads.to_string());
        [
            ("workload", self.workload.clone(), other.workload.clone()),
            ("instrument", instrument(self), instrument(other)),
            ("element type", self.dtype.to_string(), other.dtype.to_string()),
            ("batch", self.batch.to_string(), other.batch.to_string()),
            ("number of threads", threads(self), threads(other)),
            ("time budget in seconds", self.time_budget_s.to_string(), other.time_budget_s.to_string()),
            ("wish for roofs", self.roofs.to_string(), other.roofs.to_string()),
            ("seed", self.seed.to_string(), other.seed.to_string()),
        ]
        .into_iter()
        .find(|(_, left, right)| left != right)
    }
}

/// Why a text is not a plan.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// It is not the YAML of a plan.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// It is of another version of the format.
    #[error(
        "the plan has format {found}, this bbc reads format {FORMAT}; write it again with `bbc profile --write-plan`"
    )]
    Version {
        /// The version it has.
        found: u64,
    },
    /// There is nothing to measure.
    #[error("it has no problem")]
    Nothing,
    /// There are too many problems.
    #[error("it has {found} problems, more than the {MAX_MEASUREMENTS} supported")]
    TooMany {
        /// How many there are.
        found: usize,
    },
    /// The time makes no sense.
    #[error("`settings.time_budget_s` is {found}, not from 0.1 to {MAX_TIME}")]
    Time {
        /// What it is.
        found: f64,
    },
    /// There are too many threads.
    #[error("`settings.threads` is {found}, more than the {MAX_THREADS} supported")]
    Threads {
        /// How many there are.
        found: u32,
    },
    /// Nothing can measure what was published.
    #[error("`settings.instrument` is `published`, which measures nothing; write `provider`, `shader` or `null`")]
    Published,
    /// A stage of base models makes no sense.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// A problem contradicts itself or the rest.
    #[error("`problems[{index}]` ({candidate}): {reason}")]
    Problem {
        /// Which one, from 0.
        index: usize,
        /// Its candidate.
        candidate: Candidate,
        /// What is wrong with it.
        reason: TaskError,
    },
}

/// What is wrong with a problem of a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// The problem is not one of the candidate's.
    #[error("its window, groups or channels are not those of the candidate")]
    OtherCandidate,
    /// It stands for no layer.
    #[error("`layers` is zero")]
    NoLayers,
    /// Batch or element type differ from the settings.
    #[error("its problem has batch {batch} of {dtype}, the settings say batch {settings_batch} of {settings_dtype}")]
    OtherSettings {
        /// The problem's batch.
        batch: u32,
        /// The problem's element type.
        dtype: DType,
        /// The settings' batch.
        settings_batch: u32,
        /// The settings' element type.
        settings_dtype: DType,
    },
    /// It is there twice.
    #[error("it repeats `problems[{first}]`")]
    Repeated {
        /// Where it stands for the first time.
        first: usize,
    },
}

impl Plan {
    /// A plan of the current format.
    ///
    /// # Errors
    /// If it contradicts itself.
    pub fn new(settings: Settings, stages: Vec<StageShare>, problems: Vec<Task>) -> Result<Self, PlanError> {
        let plan = Self { format: FORMAT, settings, stages, problems };
        plan.check()?;
        Ok(plan)
    }

    /// Reads a plan and checks that it does not contradict itself.
    ///
    /// # Errors
    /// If the text is not a plan of this version of the format, or its values make no sense.
    pub fn read(text: &str) -> Result<Self, PlanError> {
        let plan: Self = yaml::read_version(text, FORMAT, |found| PlanError::Version { found })?;
        plan.check()?;
        Ok(plan)
    }

    /// The text of the plan; [`Plan::read`] gives an equal one back.
    ///
    /// # Errors
    /// Never for a plan that [`Plan::read`] accepts.
    pub fn write(&self) -> Result<String, YamlError> {
        yaml::write(self)
    }

    /// Checks that it does not contradict itself, wherever it was read from.
    ///
    /// # Errors
    /// If it does.
    pub(super) fn check(&self) -> Result<(), PlanError> {
        let Settings { time_budget_s, threads, instrument, batch, dtype, .. } = self.settings;
        if self.format != FORMAT {
            return Err(PlanError::Version { found: self.format.into() });
        }
        if self.problems.is_empty() {
            return Err(PlanError::Nothing);
        }
        if self.problems.len() > MAX_MEASUREMENTS {
            return Err(PlanError::TooMany { found: self.problems.len() });
        }
        if !(0.1..=MAX_TIME).contains(&time_budget_s) {
            return Err(PlanError::Time { found: time_budget_s });
        }
        if let Some(found) = threads.map(NonZero::get).filter(|&threads| threads > MAX_THREADS) {
            return Err(PlanError::Threads { found });
        }
        if instrument == Some(InstrumentKind::Published) {
            return Err(PlanError::Published);
        }
        check_stages(&self.stages)?;
        let mut seen = HashMap::new();
        for (index, task) in self.problems.iter().enumerate() {
            let Task { candidate, layers, problem } = task;
            let reason = if !is_of(*candidate, problem) {
                Some(TaskError::OtherCandidate)
            } else if *layers == 0 {
                Some(TaskError::NoLayers)
            } else if (problem.batch(), problem.dtype()) != (batch, dtype) {
                Some(TaskError::OtherSettings {
                    batch: problem.batch(),
                    dtype: problem.dtype(),
                    settings_batch: batch,
                    settings_dtype: dtype,
                })
            } else {
                seen.insert((candidate, problem), index).map(|first| TaskError::Repeated { first })
            };
            if let Some(reason) = reason {
                return Err(PlanError::Problem { index, candidate: *candidate, reason });
            }
        }
        Ok(())
    }

    /// The places of the problems that belong to a shard, in order; of all where there is none.
    ///
    /// Where there are at least as many layer shapes as shards, the candidates on one shape stay in one shard, so that
    /// they are compared round by round; else single problems are dealt out. The costliest go first, each to the shard
    /// with the least to do. Half of a problem's cost is the same for all, for preparing it, and half in proportion to
    /// its operations.
    pub fn share(&self, shard: Option<Shard>) -> Vec<usize> {
        let Some(Shard { index, of }) = shard else { return (0..self.problems.len()).collect() };
        let shapes = self.by_shape();
        let units =
            if shapes.len() >= of as usize { shapes } else { (0..self.problems.len()).map(|i| vec![i]).collect() };
        let total: u128 = self.problems.iter().map(|task| u128::from(task.problem.flops().0)).sum();
        let number = self.problems.len() as u128;
        let cost = |place: &usize| u128::from(self.problems[*place].problem.flops().0) * number + total;
        let mut units: Vec<(u128, Vec<usize>)> =
            units.into_iter().map(|unit| (unit.iter().map(cost).sum(), unit)).collect();
        // The sort is stable: of equal cost, the first of the plan goes first.
        units.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
        // The shard with the least to do comes first; of equal ones, the one with the lowest number.
        let mut loads: std::collections::BTreeSet<(u128, u32)> = (1..=of).map(|shard| (0, shard)).collect();
        let mut share = Vec::new();
        for (cost, unit) in units {
            let Some((load, shard)) = loads.pop_first() else { break };
            loads.insert((load + cost, shard));
            if shard == index {
                share.extend(unit);
            }
        }
        share.sort_unstable();
        share
    }

    /// The places of the problems, those on the same layer shape together, in the order of the first of each.
    fn by_shape(&self) -> Vec<Vec<usize>> {
        let mut places = HashMap::new();
        let mut shapes: Vec<Vec<usize>> = Vec::new();
        for (place, Task { problem, .. }) in self.problems.iter().enumerate() {
            let shape = (problem.in_channels(), problem.out_channels(), problem.input(), problem.conv().stride);
            let at = *places.entry(shape).or_insert_with(|| {
                shapes.push(Vec::new());
                shapes.len() - 1
            });
            shapes[at].push(place);
        }
        shapes
    }
}

/// One of several shares of a plan: `3/16` is the third of sixteen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    index: u32,
    of: u32,
}

/// The text names no shard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// It is not two numbers.
    #[error("`{0}` is no shard; write `3/16` for the third of sixteen")]
    Form(String),
    /// There is no such shard.
    #[error("there is no shard {index} of {of}; they are counted from 1 to {of}")]
    Index {
        /// Which was asked for.
        index: u32,
        /// How many there are.
        of: u32,
    },
    /// There are none, or too many.
    #[error("a plan cannot be split into {0} shards, only into 1 to {MAX_SHARDS}")]
    Number(u32),
}

impl Shard {
    /// Which share it is, from 1.
    pub fn index(self) -> u32 {
        self.index
    }
}

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let form = || ShardError::Form(text.chars().take(40).collect());
        let (index, of) = text.split_once('/').ok_or_else(form)?;
        let number = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            if digits { text.parse::<u32>().map_err(|_| form()) } else { Err(form()) }
        };
        let (index, of) = (number(index)?, number(of)?);
        if !(1..=MAX_SHARDS).contains(&of) {
            return Err(ShardError::Number(of));
        }
        if !(1..=of).contains(&index) {
            return Err(ShardError::Index { index, of });
        }
        Ok(Self { index, of })
    }
}

impl TryFrom<String> for Shard {
    type Error = ShardError;

    fn try_from(text: String) -> Result<Self, ShardError> {
        text.parse()
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::conv::ConvProblem;
    use crate::profile::Workload;

    const EXAMPLE: &str = include_str!("../../schema/plan.example.yaml");

    fn plan(problems: Vec<Task>) -> Plan {
        let settings = Settings {
            workload: "test".into(),
            instrument: None,
            dtype: DType::F32,
            batch: 1,
            threads: None,
            time_budget_s: 5.0,
            roofs: false,
            seed: 0,
        };
        Plan::new(settings, Vec::new(), problems).unwrap()
    }

    fn stages() -> Plan {
        plan(Workload::Stages.tasks(&Candidate::PUBLISHED, 1, DType::F32).unwrap())
    }

    fn shares(plan: &Plan, of: u32) -> Vec<Vec<usize>> {
        (1..=of).map(|index| plan.share(Some(Shard { index, of }))).collect()
    }

    #[test]
    fn the_example_is_a_plan() {
        let plan = Plan::read(EXAMPLE).unwrap();
        assert_eq!(plan.problems.len(), 2);
        assert_eq!(Plan::read(&plan.write().unwrap()), Ok(plan));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let second = EXAMPLE.rfind("  - candidate").unwrap();
        let cases = [
            EXAMPLE.replace("format: 1", "format: 2"),
            EXAMPLE.replace("format: 1\n", ""),
            EXAMPLE.replace("seed: 0", "sed: 0"),
            EXAMPLE.replace("time_budget_s: 25", "time_budget_s: .nan"),
            EXAMPLE.replace("time_budget_s: 25", "time_budget_s: 0"),
            EXAMPLE.replace("threads: 2", "threads: 1025"),
            EXAMPLE.replace("instrument: provider", "instrument: published"),
            EXAMPLE.replace("threads: 2", "threads: 0"),
            EXAMPLE.replace("candidate: dw3x3", "candidate: dw5x5"),
            EXAMPLE.replace("layers: 2", "layers: 0"),
            EXAMPLE.replace("  batch: 1\n  # Proc", "  batch: 8\n  # Proc"),
            format!("{EXAMPLE}{}", &EXAMPLE[second..]),
            format!("{}problems: []\n", &EXAMPLE[..EXAMPLE.find("problems:").unwrap()]),
        ];
        let said: Vec<String> = cases.iter().map(|text| Plan::read(text).unwrap_err().to_string()).collect();
        insta::assert_snapshot!(said.join("\n"), @r"
        the plan has format 2, this bbc reads format 1; write it again with `bbc profile --write-plan`
        key `format` is missing at line 6, column 1
        unknown key `sed` in `settings` at line 23, column 3; did you mean `seed`?
        `settings.time_budget_s` is NaN, not from 0.1 to 1000000
        `settings.time_budget_s` is 0, not from 0.1 to 1000000
        `settings.threads` is 1025, more than the 1024 supported
        `settings.instrument` is `published`, which measures nothing; write `provider`, `shader` or `null`
        invalid value: integer `0`, expected a nonzero u32 in `settings.threads` at line 17, column 12
        `problems[1]` (dw5x5): its window, groups or channels are not those of the candidate
        `problems[0]` (conv3x3): `layers` is zero
        `problems[0]` (conv3x3): its problem has batch 1 of f32, the settings say batch 8 of f32
        `problems[2]` (dw3x3): it repeats `problems[1]`
        it has no problem
        ");
    }

    #[test]
    fn shards_are_read_as_they_are_written() {
        for text in ["1/1", "3/16", "16/16"] {
            assert_eq!(text.parse::<Shard>().unwrap().to_string(), text);
        }
        let said: Vec<String> = ["0/4", "5/4", "x/y", "3", "1/0", "-1/4", "1/ 4", "1/99999999999", "1/200000", ""]
            .iter()
            .map(|text| text.parse::<Shard>().unwrap_err().to_string())
            .collect();
        insta::assert_snapshot!(said.join("\n"), @r"
        there is no shard 0 of 4; they are counted from 1 to 4
        there is no shard 5 of 4; they are counted from 1 to 4
        `x/y` is no shard; write `3/16` for the third of sixteen
        `3` is no shard; write `3/16` for the third of sixteen
        a plan cannot be split into 0 shards, only into 1 to 100000
        `-1/4` is no shard; write `3/16` for the third of sixteen
        `1/ 4` is no shard; write `3/16` for the third of sixteen
        `1/99999999999` is no shard; write `3/16` for the third of sixteen
        a plan cannot be split into 200000 shards, only into 1 to 100000
        `` is no shard; write `3/16` for the third of sixteen
        ");
    }

    /// 20 problems over four shapes of equal operations: four shards get a shape each, and eight get single problems, of
    /// which the four Conv5x5 have more operations than all others together.
    #[test]
    fn shares_are_balanced() {
        let plan = stages();
        assert_eq!(shares(&plan, 4), [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 12, 13, 14], [15, 16, 17, 18, 19]]);
        let costs: Vec<f64> = shares(&plan, 8)
            .iter()
            .map(|share| {
                let flops = |place: &usize| plan.problems[*place].problem.flops().0 as f64;
                let total: f64 = (0..20).map(|place| flops(&place)).sum();
                share.iter().map(|place| flops(place) / total + 1.0 / 20.0).sum()
            })
            .collect();
        // An eighth of the cost of all, 2, is 0.25; one Conv5x5 alone is 0.23.
        assert!(costs.iter().all(|cost| (0.2..0.3).contains(cost)), "{costs:?}");
    }

    #[test]
    fn more_shards_than_problems_leave_some_empty() {
        let shares = shares(&stages(), 25);
        assert_eq!(shares.iter().filter(|share| share.is_empty()).count(), 5);
        assert!(shares.iter().all(|share| share.len() <= 1));
        assert_eq!(stages().share(None), (0..20).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn shares_have_every_problem_once(sizes in proptest::collection::hash_set((1..9u32, 1..9u32), 1..40), of in 1..50u32) {
            let task = |&(channels, size): &(u32, u32)| {
                let candidate = Candidate::full(3);
                let problem = ConvProblem::new(candidate.conv(channels), 1, channels, channels, [size, size], DType::F32);
                Task { candidate, layers: 1, problem: problem.unwrap() }
            };
            let plan = plan(sizes.iter().map(task).collect());
            let shares = shares(&plan, of);
            prop_assert_eq!(&shares, &self::shares(&plan, of));
            let mut all = shares.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..sizes.len()).collect::<Vec<_>>());
        }

        #[test]
        fn a_damaged_plan_is_read_or_refused(at in 0..EXAMPLE.len(), length in 0..40usize, with in "[ -~\n]{0,3}") {
            let mut text = EXAMPLE.to_owned();
            text.replace_range(at..(at + length).min(EXAMPLE.len()), &with);
            if let Ok(plan) = Plan::read(&text) {
                prop_assert_eq!(Plan::read(&plan.write().unwrap()), Ok(plan));
            }
        }
    }
}
