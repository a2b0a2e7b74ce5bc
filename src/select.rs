//! Choosing the candidate to build from: a pure function of a profile and a policy.
//!
//! Operations and times are summed over the problems a candidate was measured on, and then divided: the density of the
//! combination, not a mean of densities. Candidates are compared round by round, and a lead that the noise could have
//! made is called a tie.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::conv::{Candidate, ConvProblem};
use crate::profile::sampling::{Interval, median, median_interval, paired_ratios, quantile};
use crate::profile::{InstrumentKind, Measurement, Profile};
use crate::units::{Flops, FlopsPerSecond};

/// The rule a candidate is chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// The greatest density; among those tied for it, the lowest latency.
    Densest,
}

impl Policy {
    /// Every policy.
    pub const ALL: [Self; 1] = [Self::Densest];
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Densest => "densest",
        })
    }
}

/// The text names no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown policy `{0}`; known is `densest`")]
pub struct UnknownPolicy(pub String);

impl FromStr for Policy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        let known = Self::ALL.into_iter().find(|policy| policy.to_string() == text);
        known.ok_or_else(|| UnknownPolicy(text.to_owned()))
    }
}

/// Measurements that can be compared with each other: those of one instrument.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// This execution provider of ONNX Runtime.
    Provider(String),
    /// The shaders, whichever is the fastest for a problem.
    Shaders,
    /// A published table.
    Published(String),
}

impl Source {
    /// Where a measurement comes from.
    pub fn of(measurement: &Measurement) -> Self {
        let name = || measurement.instrument.name.clone();
        match measurement.instrument.kind {
            InstrumentKind::Provider => Self::Provider(name()),
            InstrumentKind::Shader => Self::Shaders,
            InstrumentKind::Published => Self::Published(name()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Provider(name) => write!(f, "{name} provider"),
            Self::Shaders => f.write_str("shaders"),
            Self::Published(name) => f.write_str(name),
        }
    }
}

/// A candidate over all problems it was measured on.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// The candidate.
    pub candidate: Candidate,
    /// Operations of all its layers.
    pub operations: Flops,
    /// Median times of all its layers, summed.
    pub latency: Duration,
    /// Operations by latency.
    pub density: FlopsPerSecond,
    /// The total time of each round, in nanoseconds; `None` where a sample was thrown away.
    pub rounds_ns: Vec<Option<f64>>,
}

impl Ranked {
    /// Half the range that holds the middle half of the rounds, as a share of their median; `None` for fewer than two.
    pub fn spread(&self) -> Option<f64> {
        let totals: Vec<f64> = self.rounds_ns.iter().copied().flatten().collect();
        let range = quantile(&totals, 0.75)? - quantile(&totals, 0.25)?;
        (totals.len() > 1).then_some(range / 2.0 / median(&totals)?)
    }

    /// The range of densities that holds the true one with 95 % confidence; `None` with too few rounds.
    pub fn interval(&self) -> Option<Interval> {
        let densities: Vec<f64> =
            self.rounds_ns.iter().flatten().map(|ns| self.operations.0 as f64 / (ns * 1e-9)).collect();
        median_interval(&densities)
    }
}

/// The candidates of one source, compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// Where the measurements come from.
    pub source: Source,
    /// Those measured on the same problems, densest first.
    pub ranks: Vec<Ranked>,
    /// Those that cannot be compared with them.
    pub left_out: Vec<LeftOut>,
}

/// A candidate that could not be compared with the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{candidate} has no samples at {} channels, {}x{}", shape.in_channels, shape.input[0], shape.input[1])]
pub struct LeftOut {
    /// The candidate.
    pub candidate: Candidate,
    /// The first layer the others were measured on and it was not.
    pub shape: Shape,
}

/// What has to be the same for two candidates to do the same work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shape {
    /// Channels of the input.
    pub in_channels: u32,
    /// Channels of the result.
    pub out_channels: u32,
    /// Height and width of the input.
    pub input: [u32; 2],
    /// Steps of the window.
    pub stride: [u32; 2],
    /// Number of such layers.
    pub layers: u32,
}

impl Shape {
    fn of(problem: &ConvProblem, layers: u32) -> Self {
        let stride = problem.conv().stride;
        let [in_channels, out_channels] = [problem.in_channels(), problem.out_channels()];
        Self { in_channels, out_channels, input: problem.input(), stride, layers }
    }
}

/// How far one density is above another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Margin {
    /// The one divided by the other: the median over the rounds, or of the medians where there are too few rounds.
    pub ratio: f64,
    /// The range that holds the true ratio with 95 % confidence; `None` with too few rounds to know the noise.
    pub interval: Option<Interval>,
}

impl Margin {
    fn between(left: &Ranked, right: &Ranked) -> Self {
        let work = left.operations.0 as f64 / right.operations.0 as f64;
        let ratios: Vec<f64> =
            paired_ratios(&right.rounds_ns, &left.rounds_ns).into_iter().map(|time| time * work).collect();
        match median_interval(&ratios).zip(median(&ratios)) {
            Some((interval, ratio)) => Self { ratio, interval: Some(interval) },
            None => Self { ratio: left.density.0 / right.density.0, interval: None },
        }
    }

    /// Whether the lead is one that the noise could have made.
    pub fn is_tie(&self) -> bool {
        self.ratio <= 1.0 || self.interval.is_some_and(|interval| interval.low <= 1.0)
    }
}

/// What was chosen, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// The rule.
    pub policy: Policy,
    /// The choice.
    pub winner: Candidate,
    /// All candidates of the source that decided.
    pub ranking: Ranking,
    /// Whether no other is tied with the winner. Where there are too few rounds to know the noise, any lead counts.
    pub clear: bool,
    /// Those whose distance to the densest is inside the noise, the winner not among them.
    pub tied_with: Vec<Candidate>,
    /// The winner's density against the densest of the others; `None` without another.
    pub margin: Option<Margin>,
    /// What the other sources in the profile would have chosen.
    pub others: Vec<Opinion>,
    /// Whether the device is a software adapter, whose speed means nothing.
    pub software: bool,
}

/// What a source that did not decide would have chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Opinion {
    /// Its candidates.
    pub ranking: Ranking,
    /// Its choice.
    pub winner: Candidate,
}

/// Why nothing can be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// The profile is empty.
    #[error("the profile has no measurements")]
    NoMeasurements,
    /// No candidate was measured on all problems.
    #[error("no candidate was measured on every problem: {}", list(left_out))]
    NothingToCompare {
        /// What is missing, for each candidate.
        left_out: Vec<LeftOut>,
    },
}

fn list(left_out: &[LeftOut]) -> String {
    left_out.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Chooses a candidate.
///
/// The provider decides where the profile has one, since that is what will be deployed; of several, the one measured
/// first.
///
/// # Errors
/// If the profile is empty, or no candidate was measured on every problem.
pub fn select(profile: &Profile, policy: Policy) -> Result<Selection, SelectError> {
    let mut rankings = rankings(profile).into_iter();
    let ranking = rankings.next().ok_or(SelectError::NoMeasurements)?;
    let Some(Choice { winner, tied_with, margin }) = choose(&ranking, policy) else {
        return Err(SelectError::NothingToCompare { left_out: ranking.left_out });
    };
    let others = rankings.filter_map(|ranking| Some(Opinion { winner: choose(&ranking, policy)?.winner, ranking }));
    Ok(Selection {
        policy,
        winner,
        clear: tied_with.is_empty(),
        tied_with,
        margin,
        others: others.collect(),
        software: profile.device.kind.is_software(),
        ranking,
    })
}

/// The candidates of every source in the profile; the source that decides comes first.
pub fn rankings(profile: &Profile) -> Vec<Ranking> {
    let mut sources: Vec<Source> = Vec::new();
    for source in profile.measurements.iter().map(Source::of) {
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
    let kind = |source: &Source| match source {
        Source::Provider(_) => 0,
        Source::Shaders => 1,
        Source::Published(_) => 2,
    };
    // The sort is stable: of one kind, the first measured stays first.
    sources.sort_by_key(kind);
    sources.into_iter().map(|source| rank(profile, source)).collect()
}

/// The candidates of one source, densest first.
fn rank(profile: &Profile, source: Source) -> Ranking {
    let mut by_candidate: BTreeMap<Candidate, BTreeMap<Shape, &Measurement>> = BTreeMap::new();
    let mut shapes = BTreeSet::new();
    for measurement in profile.measurements.iter().filter(|m| Source::of(m) == source) {
        let shape = Shape::of(&measurement.problem, measurement.layers);
        shapes.insert(shape);
        let measured = by_candidate.entry(measurement.candidate).or_default();
        let Some(time) = measurement.median() else { continue };
        // Of several shaders for a problem, the fastest stands for the device.
        if measured.get(&shape).and_then(|best| best.median()).is_none_or(|best| time < best) {
            measured.insert(shape, measurement);
        }
    }
    let (mut ranks, mut left_out) = (Vec::new(), Vec::new());
    for (candidate, measured) in by_candidate {
        match shapes.iter().find(|shape| !measured.contains_key(shape)) {
            Some(&shape) => left_out.push(LeftOut { candidate, shape }),
            None => ranks.extend(total(candidate, &measured.into_values().collect::<Vec<_>>())),
        }
    }
    ranks.sort_by(|a, b| b.density.0.total_cmp(&a.density.0));
    Ranking { source, ranks, left_out }
}

/// Operations and times summed over the measurements; `None` if one has no samples.
fn total(candidate: Candidate, measurements: &[&Measurement]) -> Option<Ranked> {
    let operations: Flops = measurements.iter().map(|m| m.flops()).sum();
    let latency = measurements.iter().map(|m| Some(m.median()? * m.layers)).sum::<Option<Duration>>()?;
    let rounds = measurements.iter().map(|m| m.samples_ns.len()).max().unwrap_or(0);
    let total_of = |round: usize| {
        measurements.iter().map(|m| Some((*m.samples_ns.get(round)?)? as f64 * f64::from(m.layers))).sum()
    };
    let rounds_ns = (0..rounds).map(total_of).collect();
    Some(Ranked { candidate, operations, latency, density: operations.per(latency)?, rounds_ns })
}

struct Choice {
    winner: Candidate,
    tied_with: Vec<Candidate>,
    margin: Option<Margin>,
}

/// The choice among compared candidates; `None` if there are none.
fn choose(ranking: &Ranking, policy: Policy) -> Option<Choice> {
    let (densest, rest) = ranking.ranks.split_first()?;
    let tied = rest.iter().filter(|other| Margin::between(densest, other).is_tie());
    let mut tied: Vec<&Ranked> = std::iter::once(densest).chain(tied).collect();
    let winner = match policy {
        Policy::Densest => tied.iter().copied().min_by_key(|ranked| ranked.latency)?,
    };
    tied.retain(|other| other.candidate != winner.candidate);
    let runner_up = ranking.ranks.iter().find(|other| other.candidate != winner.candidate);
    Some(Choice {
        winner: winner.candidate,
        tied_with: tied.iter().map(|other| other.candidate).collect(),
        margin: runner_up.map(|other| Margin::between(winner, other)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Device, DeviceKind, FORMAT, Instrument, Settings, Timing, Workload};
    use crate::tensor::DType;

    const PATENT: &str = include_str!("../fixtures/profiles/patent.yaml");

    /// A profile of these candidates with 22 rounds on two problems each: nanoseconds per problem, jittered by `noise`
    /// in another order for each candidate, the median exact.
    fn profile(kind: DeviceKind, noise: f64, times_ns: &[(&str, InstrumentKind, [u64; 2])]) -> Profile {
        let mut measurements = Vec::new();
        for (i, (name, instrument, times)) in times_ns.iter().enumerate() {
            let candidate: Candidate = name.parse().unwrap();
            let tasks = Workload::Stages.tasks(&[candidate], 1, DType::F32).unwrap();
            for (task, time) in tasks.into_iter().zip(times) {
                let jitter = |round: usize| 1.0 + noise * (((round * (i + 2)) % 11) as f64 - 5.0) / 5.0;
                measurements.push(Measurement {
                    candidate,
                    layers: task.layers,
                    problem: task.problem,
                    instrument: Instrument { kind: *instrument, name: "x".into(), variant: String::new() },
                    timing: Timing::ChainSlope,
                    max_error: Some(0.0),
                    computed_in: None,
                    samples_ns: (0..22).map(|round| Some((*time as f64 * jitter(round)).round() as u64)).collect(),
                    processor_ns: Vec::new(),
                });
            }
        }
        let settings = Settings {
            workload: "two".into(),
            dtype: DType::F32,
            batch: 1,
            threads: Some(1),
            rounds: 22,
            time_budget_s: 1.0,
            seed: 0,
            load_average: None,
        };
        let device = Device { name: "test".into(), kind, backend: "cpu".into(), driver: String::new() };
        Profile {
            format: FORMAT,
            device,
            versions: BTreeMap::new(),
            settings,
            conditions: None,
            incomplete: None,
            roofs: Vec::new(),
            measurements,
        }
    }

    use DeviceKind::{Cpu, DiscreteGpu, Software};
    use InstrumentKind::{Provider, Shader};

    fn chosen(profile: &Profile) -> Selection {
        select(profile, Policy::Densest).unwrap()
    }

    /// The published densities, in million multiply-adds per millisecond: 546, 598, 373, 26 and 58.
    #[test]
    fn the_published_table() {
        let selection = chosen(&Profile::read(PATENT).unwrap());
        let densities: Vec<(String, u64)> = selection
            .ranking
            .ranks
            .iter()
            .map(|r| (r.candidate.to_string(), (r.density.0 / 2.0 / 1e9).round() as u64))
            .collect();
        let expected = [("conv3x3", 598), ("conv5x5", 546), ("conv1x1", 373), ("dw5x5", 58), ("dw3x3", 26)];
        assert_eq!(densities, expected.map(|(name, density)| (name.to_owned(), density)));
        assert_eq!(selection.winner, Candidate::full(3));
        let margin = selection.margin.unwrap();
        assert!((margin.ratio - 57_982.0 / 97.03 / (161_061.0 / 294.73)).abs() < 1e-4, "{margin:?}");
        assert_eq!(margin.interval, None, "one sample says nothing of the noise");
    }

    #[test]
    fn a_clear_winner() {
        let times =
            [("conv3x3", Provider, [1000, 1000]), ("conv1x1", Provider, [200, 200]), ("dw3x3", Provider, [90, 70])];
        let selection = chosen(&profile(DiscreteGpu, 0.02, &times));
        // Nine times the operations in five times the time.
        assert_eq!(selection.winner, Candidate::full(3));
        assert!(selection.clear && selection.tied_with.is_empty() && !selection.software);
        let margin = selection.margin.unwrap();
        let interval = margin.interval.unwrap();
        assert!((margin.ratio - 1.8).abs() < 0.02 && interval.low > 1.7 && interval.high < 1.9, "{margin:?}");
    }

    #[test]
    fn operations_and_times_are_summed_before_they_are_divided() {
        // The two problems have the same operations. The mean of the two densities would be 5.5 times the first's, the
        // density of both together is 20 / 11 of it.
        let times = [("conv3x3", Provider, [1000, 100]), ("conv1x1", Provider, [1000, 1000])];
        let ranking = chosen(&profile(DiscreteGpu, 0.0, &times)).ranking;
        let single = 2.0 * 9.0 * (64.0 * 56.0f64).powi(2) / 1000e-9;
        assert!((ranking.ranks[0].density.0 / single - 20.0 / 11.0).abs() < 1e-9);
    }

    #[test]
    fn a_lead_inside_the_noise_is_a_tie_and_the_faster_wins() {
        // conv5x5 has 25 / 9 of the operations in 2.77 of the time: ahead by 0.3 %, with a noise of 5 %.
        let times = [
            ("conv3x3", Provider, [1000, 1000]),
            ("conv5x5", Provider, [2770, 2770]),
            ("conv1x1", Provider, [400, 400]),
        ];
        let selection = chosen(&profile(DiscreteGpu, 0.05, &times));
        assert_eq!(selection.ranking.ranks[0].candidate, Candidate::full(5));
        assert_eq!(selection.winner, Candidate::full(3));
        assert!(!selection.clear);
        assert_eq!(selection.tied_with, [Candidate::full(5)]);
        assert!(selection.margin.unwrap().ratio < 1.0);

        let quiet = chosen(&profile(DiscreteGpu, 0.0005, &times));
        assert!(quiet.clear, "the same lead is clear where the noise is small");
        assert_eq!(quiet.winner, Candidate::full(5));
    }

    #[test]
    fn candidates_with_gaps_are_left_out_and_named() {
        let times =
            [("conv3x3", Provider, [1000, 1000]), ("conv1x1", Provider, [100, 100]), ("dw3x3", Provider, [10, 10])];
        let mut gaps = profile(Cpu, 0.01, &times);
        gaps.measurements[2].samples_ns.fill(None);
        gaps.measurements.remove(5);
        let selection = chosen(&gaps);
        assert_eq!(selection.winner, Candidate::full(3));
        assert_eq!(selection.margin, None);
        let said: Vec<String> = selection.ranking.left_out.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            ["conv1x1 has no samples at 64 channels, 56x56", "dw3x3 has no samples at 128 channels, 28x28"]
        );

        gaps.measurements[1].samples_ns.clear();
        let error = select(&gaps, Policy::Densest).unwrap_err();
        insta::assert_snapshot!(error, @r"no candidate was measured on every problem: conv1x1 has no samples at 64 channels, 56x56, conv3x3 has no samples at 128 channels, 28x28, dw3x3 has no samples at 128 channels, 28x28");
        gaps.measurements.clear();
        assert_eq!(select(&gaps, Policy::Densest), Err(SelectError::NoMeasurements));
    }

    #[test]
    fn a_round_with_a_sample_thrown_away_does_not_count() {
        let mut thrown = profile(Cpu, 0.01, &[("conv3x3", Provider, [1000, 1000]), ("conv1x1", Provider, [500, 500])]);
        thrown.measurements[0].samples_ns[3] = None;
        let ranking = chosen(&thrown).ranking;
        assert_eq!(ranking.ranks[0].rounds_ns[3], None);
        assert_eq!(ranking.ranks[0].rounds_ns.iter().flatten().count(), 21);
        assert_eq!(ranking.ranks[1].rounds_ns.iter().flatten().count(), 22);
    }

    #[test]
    fn the_provider_decides_and_the_shaders_are_heard() {
        let times = [
            ("conv3x3", Shader, [1000, 1000]),
            ("conv1x1", Shader, [50, 50]),
            ("conv3x3", Provider, [500, 500]),
            ("conv1x1", Provider, [100, 100]),
        ];
        let selection = chosen(&profile(DiscreteGpu, 0.01, &times));
        assert_eq!(selection.winner, Candidate::full(3));
        assert_eq!(selection.ranking.source, Source::Provider("x".into()));
        let [opinion] = &selection.others[..] else { panic!("one other source") };
        assert_eq!((opinion.ranking.source.clone(), opinion.winner), (Source::Shaders, Candidate::full(1)));
    }

    #[test]
    fn of_several_shaders_the_fastest_stands_for_the_device() {
        let mut two = profile(DiscreteGpu, 0.0, &[("conv3x3", Shader, [1000, 1000]), ("conv3x3", Shader, [300, 3000])]);
        two.measurements[2].instrument.name = "y".into();
        two.measurements[3].instrument.name = "y".into();
        assert_eq!(chosen(&two).ranking.ranks[0].latency, Duration::from_nanos(1300));
    }

    #[test]
    fn a_software_adapter_is_marked() {
        let times = [("conv3x3", Shader, [1000, 1000])];
        assert!(chosen(&profile(Software, 0.0, &times)).software);
        assert!(!chosen(&profile(Cpu, 0.0, &times)).software);
    }

    #[test]
    fn policies_are_read_as_they_are_written() {
        for policy in Policy::ALL {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert_eq!("best".parse::<Policy>().unwrap_err().to_string(), "unknown policy `best`; known is `densest`");
    }
}
