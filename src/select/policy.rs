//! The policies: each a pure function of what one source measured.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use crate::conv::Candidate;
use crate::nearest::suggestion;
use crate::profile::sampling::{median, median_interval, paired_ratios};
use crate::profile::{BASES, Profile, StageShare};
use crate::select::rank::{Load, Margin, Measured, Ranked, Ranking, Shape};
use crate::select::{Factor, SelectError, StageVerdict, Verdict};

/// The rule a candidate is chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Policy {
    /// The greatest density over the layers of the workload; among those tied for it, the lowest latency.
    Densest,
    /// The same over the stages of the base models, each with the share of their operations that stands in it.
    Census,
    /// Of those whose density is within a margin of the greatest, the lowest latency.
    LatencyAware,
    /// The greatest density at each resolution by itself.
    PerStage,
}

impl Policy {
    /// Every policy.
    pub const ALL: [Self; 4] = [Self::Densest, Self::Census, Self::LatencyAware, Self::PerStage];

    /// What decides if nobody says: the census where base models were named to measure after, else the plain rule.
    pub fn default_for(profile: &Profile) -> Self {
        let is_after_bases = !profile.stages.is_empty() && profile.settings.workload != BASES;
        if is_after_bases { Self::Census } else { Self::Densest }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Densest => "densest",
            Self::Census => "census",
            Self::LatencyAware => "latency-aware",
            Self::PerStage => "per-stage",
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The text names no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown policy `{}`; {}", .0, suggestion(.0, &Policy::ALL.map(Policy::name)))]
pub struct UnknownPolicy(pub String);

impl FromStr for Policy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        let known = Self::ALL.into_iter().find(|policy| policy.name() == text);
        known.ok_or_else(|| UnknownPolicy(text.to_owned()))
    }
}

/// The factors that a verdict goes by: [`Rules`](crate::select::Rules), with what the profile decides of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) margin: Factor,
    pub(super) tie: Factor,
}

/// Operations that the census policy shares out among the stages.
const SHARED_OUT: f64 = 1e9;

/// Most resolutions that are chosen for one by one.
const MAX_RESOLUTIONS: usize = 64;

/// The verdict of a policy.
pub(super) fn verdict(
    policy: Policy,
    measured: &Measured<'_>,
    stages: &[StageShare],
    limits: Limits,
) -> Result<Verdict, SelectError> {
    match policy {
        Policy::Densest => densest(measured.workload(), limits),
        Policy::Census => densest(over_stages(measured, stages)?, limits),
        Policy::LatencyAware => latency_aware(measured.workload(), limits),
        Policy::PerStage => per_stage(measured, limits),
    }
}

/// The greatest density, and of those tied for it the one whose layers take the least time.
///
/// A 1x1 convolution stays behind the others it is tied with, fast as it is: stacked, it sees one position only, and a
/// backbone of it alone would not widen its receptive field. So does a depthwise one, whose time is not that of a layer:
/// before each of them a block has a 1x1.
fn densest(ranking: Ranking, limits: Limits) -> Result<Verdict, SelectError> {
    let Some((first, rest)) = ranking.ranks.split_first() else {
        return Err(SelectError::NothingToCompare { left_out: ranking.left_out });
    };
    let is_tied = |other: &&Ranked| Margin::between(first, other).is_tie(limits.tie);
    let (tied, behind): (Vec<&Ranked>, Vec<&Ranked>) = rest.iter().partition(is_tied);
    let mut tied: Vec<&Ranked> = std::iter::once(first).chain(tied).collect();
    let stays_behind = |candidate: Candidate| is_point(candidate) || candidate.is_depthwise();
    tied.sort_by_key(|ranked| (stays_behind(ranked.candidate), ranked.layer));
    let in_order = [tied.clone(), behind].concat();
    Ok(Verdict::of(&in_order, tied.len(), &ranking))
}

/// Of those within the margin of the greatest density, the one whose layers take the least time; of several that are
/// as fast, the densest.
///
/// A 1x1 convolution is among them only where it is by itself at the top, for the reason given at [`densest`].
fn latency_aware(ranking: Ranking, limits: Limits) -> Result<Verdict, SelectError> {
    let Some((first, rest)) = ranking.ranks.split_first() else {
        return Err(SelectError::NothingToCompare { left_out: ranking.left_out });
    };
    let is_alone =
        rest.iter().all(|other| is_point(other.candidate) || !Margin::between(first, other).is_tie(limits.tie));
    let is_near = |other: &&Ranked| {
        let may_be_taken = !is_point(other.candidate) || (is_alone && other.candidate == first.candidate);
        may_be_taken && Margin::between(first, other).ratio <= limits.margin.get()
    };
    let (mut near, behind): (Vec<&Ranked>, Vec<&Ranked>) = ranking.ranks.iter().partition(is_near);
    near.sort_by_key(|ranked| ranked.layer);
    // Nothing but 1x1 convolutions, none of them ahead.
    let Some(fastest) = near.first().copied() else { return densest(ranking, limits) };
    let (mut tied, slower): (Vec<&Ranked>, Vec<&Ranked>) =
        near.into_iter().partition(|other| is_as_fast(other, fastest, limits));
    tied.sort_by(|a, b| b.density.0.total_cmp(&a.density.0));
    let in_order = [tied.clone(), slower, behind].concat();
    Ok(Verdict::of(&in_order, tied.len(), &ranking))
}

/// Whether the noise, or another run, may make a candidate's latency that of the fastest.
fn is_as_fast(other: &Ranked, fastest: &Ranked, limits: Limits) -> bool {
    let ratios = paired_ratios(&other.rounds_ns, &fastest.rounds_ns);
    match median_interval(&ratios).zip(median(&ratios)) {
        Some((interval, ratio)) => ratio <= limits.tie.get() || interval.low <= 1.0,
        None => other.latency.as_secs_f64() <= fastest.latency.as_secs_f64() * limits.tie.get(),
    }
}

fn is_point(candidate: Candidate) -> bool {
    candidate.window == [1, 1]
}

/// The candidates over the base models' stages: the same operations for all, shared out as the base models do.
fn over_stages(measured: &Measured<'_>, stages: &[StageShare]) -> Result<Ranking, SelectError> {
    if stages.is_empty() {
        return Err(SelectError::NoStages);
    }
    let all: f64 = stages.iter().map(|stage| stage.share).sum();
    let place = |stage: &StageShare| {
        let is_it = |shape: &Shape| {
            [shape.in_channels, shape.out_channels] == [stage.channels; 2]
                && (shape.input, shape.stride) == (stage.input, [1, 1])
        };
        measured.shapes().iter().position(is_it)
    };
    let missing: Vec<StageShare> = stages.iter().filter(|stage| place(stage).is_none()).copied().collect();
    if !missing.is_empty() {
        return Err(SelectError::MissingStages { missing });
    }
    let load = |stage: &StageShare| Some((place(stage)?, Load::Operations(SHARED_OUT * stage.share / all)));
    Ok(measured.rank(&stages.iter().filter_map(load).collect::<Vec<_>>()))
}

/// The greatest density at each resolution, from the highest.
fn per_stage(measured: &Measured<'_>, limits: Limits) -> Result<Verdict, SelectError> {
    let area = |[height, width]: [u32; 2]| u64::from(height) * u64::from(width);
    let mut sizes: Vec<[u32; 2]> = measured.shapes().iter().map(|shape| shape.input).collect();
    sizes.sort_by_key(|&size| Reverse((area(size), size)));
    sizes.dedup();
    if sizes.len() > MAX_RESOLUTIONS {
        return Err(SelectError::TooManyResolutions { found: sizes.len(), most: MAX_RESOLUTIONS });
    }
    let at = |size: [u32; 2]| {
        let verdict = densest(measured.workload_at(|shape| shape.input == size), limits)?;
        Ok(StageVerdict { size, verdict })
    };
    let stages = sizes.into_iter().map(at).collect::<Result<Vec<StageVerdict>, SelectError>>()?;
    let count = |candidate: Candidate| stages.iter().filter(|stage| stage.verdict.winner == candidate).count();
    // The last of equals is taken, so they are asked from the lowest resolution on.
    let most = stages.iter().rev().map(|stage| stage.verdict.winner).max_by_key(|&winner| count(winner));
    let Some(winner) = most else { return Err(SelectError::NoMeasurements) };
    let ranking = measured.workload();
    let mut order: Vec<Candidate> = ranking.ranks.iter().map(|ranked| ranked.candidate).collect();
    order.retain(|&candidate| candidate != winner);
    order.insert(0, winner);
    Ok(Verdict { winner, order, tied_with: Vec::new(), margin: None, ranking, stages })
}

impl Verdict {
    /// The verdict for the first of these, with as many tied as said.
    fn of(in_order: &[&Ranked], tied: usize, ranking: &Ranking) -> Self {
        let order: Vec<Candidate> = in_order.iter().map(|ranked| ranked.candidate).collect();
        let winner = in_order[0];
        let runner_up = ranking.ranks.iter().find(|other| other.candidate != winner.candidate);
        Self {
            winner: winner.candidate,
            tied_with: order[1..tied].to_vec(),
            order,
            margin: runner_up.map(|other| Margin::between(winner, other)),
            ranking: ranking.clone(),
            stages: Vec::new(),
        }
    }
}
