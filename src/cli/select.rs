//! `bbc select`: which candidate a profile speaks for.

use std::path::{Path, PathBuf};

use bbc::profile::{self, Profile, journal};
use bbc::select::Policy;
use serde::Serialize;

use super::census::BaseArgs;
use super::failure::{Explain, Failure};
use super::policies::{self, PolicyArgs, PolicyEntry, SelectionEntry};
use super::ranking::{self, DeviceEntry, RankingEntry};
use super::{Global, Outcome, files, measure, output};

/// Options of `bbc select`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The profile, as `bbc profile -o` writes it
    #[arg(value_name = "PROFILE")]
    profile: PathBuf,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    bases: BaseArgs,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// A profile from a file, and the digest of its text.
pub(crate) struct Read {
    pub(crate) profile: Profile,
    /// As [`profile::sha256`].
    pub(crate) sha256: String,
}

#[derive(Serialize)]
struct Report {
    schema: u32,
    profile_sha256: String,
    device: DeviceEntry,
    #[serde(flatten)]
    selection: SelectionEntry,
    /// In how many of the shapes that were measured each candidate is the densest.
    densest_at: Vec<DensestAt>,
    policies: Vec<PolicyEntry>,
    ranking: RankingEntry,
    others: Vec<OpinionEntry>,
}

#[derive(Serialize)]
struct DensestAt {
    candidate: String,
    shapes: usize,
    of: usize,
}

#[derive(Serialize)]
struct OpinionEntry {
    winner: String,
    agrees: bool,
    /// Candidates that both sources have ranked, and Kendall's tau-b of the two orders.
    compared: usize,
    kendall_tau_b: Option<f64>,
    ranking: RankingEntry,
}

/// Chooses and prints.
pub(crate) fn run(args: &Args, global: &Global) -> Result<Outcome, Failure> {
    let Read { mut profile, sha256 } = read(&args.profile)?;
    let mut otherwise = Policy::default_for(&profile);
    if let Some(census) = args.bases.census(global)? {
        profile.stages = measure::shares(&census.stages());
        otherwise = Policy::Census;
    }
    let said = args.policy.select(&profile, otherwise);
    let selection = said.choice().doing(|| cannot(&args.profile))?;
    policies::warn(&profile, selection);
    let verdict = &selection.verdict;
    let leads: Vec<DensestAt> = bbc::select::densest_at(&profile)
        .into_iter()
        .map(|(candidate, shapes, of)| DensestAt { candidate: candidate.to_string(), shapes, of })
        .collect();
    if args.json {
        let opinions = selection.others.iter().map(|opinion| OpinionEntry {
            winner: opinion.verdict.winner.to_string(),
            agrees: opinion.agrees_with(verdict),
            compared: opinion.compared,
            kendall_tau_b: opinion.tau,
            ranking: RankingEntry::of(&opinion.verdict.ranking),
        });
        output::json(&Report {
            schema: 1,
            profile_sha256: sha256,
            device: DeviceEntry::of(&profile.device),
            selection: SelectionEntry::of(selection),
            densest_at: leads,
            policies: said.entries(),
            ranking: RankingEntry::of(&verdict.ranking),
            others: opinions.collect(),
        })?;
        return Ok(Outcome::Done);
    }
    let mut text = format!(
        "{} (policy {}, measured by: {})\n  {}\n",
        verdict.winner,
        selection.policy,
        verdict.ranking.source,
        policies::reason(selection, args.policy.rules().margin)
    );
    if let Some(price) = policies::price(selection, &said) {
        text += &format!("  {price}\n");
    }
    text += &format!("\n{}", said.tables());
    let mut remarks = String::new();
    if let [DensestAt { of, .. }, ..] = &leads[..]
        && *of > 1
    {
        let each: Vec<String> = leads.iter().map(|lead| format!("{} at {}", lead.candidate, lead.shapes)).collect();
        remarks += &format!("densest    by itself, of {of} shapes: {}\n", each.join(", "));
    }
    remarks += &policies::agreement(selection);
    if !remarks.is_empty() {
        text += &format!("\n{remarks}");
    }
    text += &format!("\n{}", ranking::heading(&profile));
    if selection.policy == Policy::Census {
        text += "operations: a GFLOP, shared out among the stages as the base models do\n";
    }
    text += &ranking::table(&verdict.ranking, selection.software);
    for opinion in &selection.others {
        text += &ranking::table(&opinion.verdict.ranking, selection.software);
    }
    output::result(&text)?;
    Ok(Outcome::Done)
}

/// Reads a profile.
pub(crate) fn read(path: &Path) -> Result<Read, Failure> {
    parse(path, files::read(path, bbc::yaml::MAX_BYTES as u64)?)
}

/// The profile in what was read from a file.
pub(crate) fn parse(path: &Path, bytes: Vec<u8>) -> Result<Read, Failure> {
    if journal::is_journal(&bytes) {
        let path = path.display();
        return Err(Failure::new(format!("`{path}` is a part of a measurement, and no profile"))
            .with_hint(format!("`bbc profile merge {path} -o FILE` makes one of it")));
    }
    let text = files::text(path, bytes)?;
    let profile = Profile::read(&text)
        .doing(|| format!("`{}` is not a profile that can be used", path.display()))
        .hint(|| "`bbc profile -o FILE` measures this machine and writes one".into())?;
    Ok(Read { profile, sha256: profile::sha256(&text) })
}

fn cannot(path: &Path) -> String {
    format!("no convolution can be chosen from `{}`", path.display())
}
