//! Candidates in order of density, for people and as JSON.

use bbc::profile::sampling::Interval;
use bbc::profile::{Device, Profile};
use bbc::select::{LeftOut, Ranked, Ranking};
use bbc::units::{FlopsPerSecond, show_duration};
use serde::Serialize;

use super::output;

/// A device, as it stands in every document that has figures of it.
#[derive(Debug, Serialize)]
pub(crate) struct DeviceEntry {
    name: String,
    kind: bbc::profile::DeviceKind,
    backend: String,
    driver: String,
    /// Whether the processor imitates it: its figures then mean nothing.
    software: bool,
}

/// The candidates of one source.
#[derive(Debug, Serialize)]
pub(crate) struct RankingEntry {
    source: String,
    candidates: Vec<CandidateEntry>,
    left_out: Vec<LeftOutEntry>,
}

#[derive(Debug, Serialize)]
struct CandidateEntry {
    rank: usize,
    candidate: String,
    operations_flop: u64,
    latency_s: f64,
    spread: Option<f64>,
    density_flop_per_s: f64,
    density_interval_flop_per_s: Option<[f64; 2]>,
    rounds: usize,
    rounds_thrown_away: usize,
}

#[derive(Debug, Serialize)]
struct LeftOutEntry {
    candidate: String,
    reason: String,
}

impl DeviceEntry {
    pub(crate) fn of(device: &Device) -> Self {
        Self {
            name: device.name.clone(),
            kind: device.kind,
            backend: device.backend.clone(),
            driver: device.driver.clone(),
            software: device.kind.is_software(),
        }
    }
}

impl RankingEntry {
    pub(crate) fn of(ranking: &Ranking) -> Self {
        let candidate = |(index, ranked): (usize, &Ranked)| CandidateEntry {
            rank: index + 1,
            candidate: ranked.candidate.to_string(),
            operations_flop: ranked.operations.0,
            latency_s: ranked.latency.as_secs_f64(),
            spread: ranked.spread(),
            density_flop_per_s: ranked.density.0,
            density_interval_flop_per_s: ranked.interval().map(|interval| [interval.low, interval.high]),
            rounds: ranked.rounds_timed,
            rounds_thrown_away: ranked.rounds_timed - ranked.rounds_ns.iter().flatten().count(),
        };
        let left_out = |left_out: &LeftOut| LeftOutEntry {
            candidate: left_out.candidate.to_string(),
            reason: left_out.to_string(),
        };
        Self {
            source: ranking.source.to_string(),
            candidates: ranking.ranks.iter().enumerate().map(candidate).collect(),
            left_out: ranking.left_out.iter().map(left_out).collect(),
        }
    }
}

/// What is said above every table of a profile's figures: the device, and what the figures hold for.
pub(crate) fn heading(profile: &Profile) -> String {
    let Device { name, kind, backend, driver } = &profile.device;
    let settings = &profile.settings;
    let driver = if driver.is_empty() { String::new() } else { format!(", {driver}") };
    let software =
        if kind.is_software() { "\nSOFTWARE ADAPTER: its results are right, its speed means nothing" } else { "" };
    let counted = |n: u32, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let threads = settings.threads.map(|n| format!(", {}", counted(n, "thread"))).unwrap_or_default();
    format!(
        "{name} ({backend}{driver}){software}\nworkload {}, {}, batch {}{threads}, {}\n",
        settings.workload,
        settings.dtype,
        settings.batch,
        counted(settings.rounds, "round")
    )
}

/// The candidates as a table, densest first.
pub(crate) fn table(ranking: &Ranking, software: bool) -> String {
    let head = ["rank", "candidate", "operations", "latency", "spread", "density", "95 % interval"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (index, ranked) in ranking.ranks.iter().enumerate() {
        let mark = if software { " (software)" } else { "" };
        rows.push(vec![
            (index + 1).to_string(),
            ranked.candidate.to_string(),
            ranked.operations.to_string(),
            show_duration(ranked.latency),
            ranked.spread().map_or("-".into(), |spread| format!("±{:.1} %", spread * 100.0)),
            format!("{}{mark}", ranked.density),
            ranked.interval().map_or("-".into(), show_interval),
        ]);
    }
    let mut text = format!("\nmeasured by: {}\n{}", ranking.source, output::table(&rows, &[1]));
    for left_out in &ranking.left_out {
        text += &format!("left out: {left_out}\n");
    }
    text
}

fn show_interval(Interval { low, high }: Interval) -> String {
    format!("{} to {}", FlopsPerSecond(low), FlopsPerSecond(high))
}
