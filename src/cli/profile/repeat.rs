//! Whether a second measurement says what the first said: `bbc profile --repeat-check`.

use bbc::conv::Candidate;
use bbc::profile::Profile;
use bbc::select::{Factor, Margin, Policy, Ranked, Ranking, Rules, rankings, select, tau_b};
use bbc::units::FlopsPerSecond;
use serde::Serialize;

use crate::cli::output;

/// How two measurements of one source agree.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Agreement {
    source: String,
    candidates: Vec<Change>,
    /// Kendall's tau of the densities; `null` for fewer than two candidates.
    rank_correlation: Option<f64>,
    /// Clear leads of one measurement that are the other way about in the other.
    changed: Vec<Lead>,
    /// Clear leads of one measurement that are inside the noise of the other.
    unconfirmed: Vec<Lead>,
}

/// A candidate in both.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Change {
    candidate: String,
    first_flop_per_s: f64,
    second_flop_per_s: f64,
    /// The second divided by the first, less one.
    change: f64,
}

/// The denser candidate and the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Lead {
    ahead: String,
    of: String,
}

/// How two measurements agree, source by source.
pub(super) fn compare(first: &Profile, second: &Profile) -> Vec<Agreement> {
    // A lead is clear if choosing would call it so, in the steadier of the two.
    let tie = |profile: &Profile| Some(select(profile, Policy::Densest, Rules::default()).ok()?.tie);
    let Some((tie, other_tie)) = tie(first).zip(tie(second)) else { return Vec::new() };
    let tie = if other_tie < tie { other_tie } else { tie };
    let second = rankings(second, Rules::default());
    let both = |first: Ranking| {
        let other = second.iter().find(|other| other.source == first.source)?;
        Some(agreement(&first, other, tie))
    };
    rankings(first, Rules::default()).into_iter().filter_map(both).collect()
}

fn agreement(first: &Ranking, second: &Ranking, tie: Factor) -> Agreement {
    let find = |candidate: Candidate| second.ranks.iter().find(|ranked| ranked.candidate == candidate);
    let pairs: Vec<(&Ranked, &Ranked)> =
        first.ranks.iter().filter_map(|left| Some((left, find(left.candidate)?))).collect();
    let (mut changed, mut unconfirmed) = (Vec::new(), Vec::new());
    for (at, denser) in pairs.iter().enumerate() {
        for other in &pairs[at + 1..] {
            let lead = Lead { ahead: denser.0.candidate.to_string(), of: other.0.candidate.to_string() };
            match lead_of([denser.0, other.0], [denser.1, other.1], tie) {
                Verdict::Same => {}
                Verdict::Changed => changed.push(lead),
                Verdict::Unconfirmed => unconfirmed.push(lead),
            }
        }
    }
    Agreement {
        source: first.source.to_string(),
        candidates: pairs.iter().map(|(first, second)| Change::of(first, second)).collect(),
        rank_correlation: tau_b(
            pairs.len(),
            |i, j| pairs[i].0.density.0.total_cmp(&pairs[j].0.density.0),
            |i, j| pairs[i].1.density.0.total_cmp(&pairs[j].1.density.0),
        ),
        changed,
        unconfirmed,
    }
}

enum Verdict {
    Same,
    Changed,
    Unconfirmed,
}

/// What becomes of the lead that the first candidate of each pair has over the second in the first measurement.
fn lead_of(first: [&Ranked; 2], second: [&Ranked; 2], tie: Factor) -> Verdict {
    let is_clear = |[denser, other]: [&Ranked; 2]| {
        let margin = Margin::between(denser, other);
        margin.interval.is_some() && !margin.is_tie(tie)
    };
    let [denser, other] = second;
    let is_reversed = denser.density.0 < other.density.0;
    match (is_clear(first), is_clear(if is_reversed { [other, denser] } else { second })) {
        (false, false) => Verdict::Same,
        (_, _) if is_reversed => Verdict::Changed,
        (true, true) => Verdict::Same,
        (_, _) => Verdict::Unconfirmed,
    }
}

impl Change {
    fn of(first: &Ranked, second: &Ranked) -> Self {
        Self {
            candidate: first.candidate.to_string(),
            first_flop_per_s: first.density.0,
            second_flop_per_s: second.density.0,
            change: second.density.0 / first.density.0 - 1.0,
        }
    }
}

impl Agreement {
    /// Whether no clear lead is the other way about.
    pub(super) fn holds(&self) -> bool {
        self.changed.is_empty()
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut rows = vec![["candidate", "first", "second", "change"].map(str::to_owned).to_vec()];
        for Change { candidate, first_flop_per_s, second_flop_per_s, change } in &self.candidates {
            rows.push(vec![
                candidate.clone(),
                FlopsPerSecond(*first_flop_per_s).to_string(),
                FlopsPerSecond(*second_flop_per_s).to_string(),
                percent(*change),
            ]);
        }
        let correlation = self.rank_correlation.map_or("-".to_owned(), |tau| format!("{tau:.3} (Kendall's tau)"));
        let mut text = format!("\nmeasured by: {}\n{}", self.source, output::table(&rows, &[0]));
        text += &format!("rank correlation  {correlation}\n");
        if let Some(largest) = self.candidates.iter().max_by(|a, b| a.change.abs().total_cmp(&b.change.abs())) {
            text += &format!("largest change    {} of {}\n", percent(largest.change), largest.candidate);
        }
        for Lead { ahead, of } in &self.changed {
            text += &format!(
                "changed           {ahead} ahead of {of} in the first, behind it in the second, and clearly in one\n"
            );
        }
        for Lead { ahead, of } in &self.unconfirmed {
            text += &format!("not confirmed     {ahead} ahead of {of} in both, and clearly only in one\n");
        }
        text
    }
}

fn percent(change: f64) -> String {
    format!("{:+.1} %", change * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: &str = include_str!("../../../fixtures/profiles/epyc-cpu-2-threads.yaml");

    /// The recorded profile with the times of one candidate multiplied.
    fn with(candidate: &str, factor: f64) -> Profile {
        let mut profile = Profile::read(RECORDED).unwrap();
        for measurement in profile.measurements.iter_mut().filter(|m| m.candidate.to_string() == candidate) {
            for sample in measurement.samples_ns.iter_mut().flatten() {
                *sample = (*sample as f64 * factor) as u64;
            }
        }
        profile
    }

    #[test]
    fn the_same_twice_agrees() {
        let recorded = with("", 1.0);
        let [agreement] = &compare(&recorded, &recorded)[..] else { panic!("one source") };
        assert_eq!(agreement.rank_correlation, Some(1.0));
        assert!(agreement.holds() && agreement.unconfirmed.is_empty());
        assert!(agreement.candidates.iter().all(|candidate| candidate.change == 0.0));
    }

    /// In the recorded profile dw5x5 is 1.17 times as dense as dw3x3, clearly; conv3x3 and conv5x5 are tied.
    #[test]
    fn a_clear_lead_that_turns_is_a_change() {
        let [agreement] = &compare(&with("", 1.0), &with("dw3x3", 0.7))[..] else { panic!("one source") };
        assert!(!agreement.holds());
        assert_eq!(agreement.changed, [Lead { ahead: "dw5x5".into(), of: "dw3x3".into() }]);
        // One of ten pairs turned.
        assert_eq!(agreement.rank_correlation, Some(0.8));
        assert!(agreement.table().contains("+42.9 % of dw3x3"), "{}", agreement.table());

        let [agreement] = &compare(&with("", 1.0), &with("conv3x3", 1.012))[..] else { panic!("one source") };
        assert!(agreement.holds(), "tied candidates may change places");
    }

    #[test]
    fn a_lead_that_is_lost_in_the_noise_is_told() {
        let [agreement] = &compare(&with("", 1.0), &with("conv3x3", 0.9))[..] else { panic!("one source") };
        assert!(agreement.holds());
        assert_eq!(agreement.unconfirmed, [Lead { ahead: "conv3x3".into(), of: "conv5x5".into() }]);
    }
}
