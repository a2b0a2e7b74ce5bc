//! `bbc profile`: measures how densely a device computes the candidates, and what can be done with the files of that.

mod merge;
mod plot;
mod repeat;
mod run;

use bbc::profile;

use self::run::MeasureArgs;
use super::failure::Failure;
use super::{Global, Outcome, import, output};

pub(crate) use self::run::{ended_early, seconds, warn};

/// Options of `bbc profile`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(flatten)]
    measure: MeasureArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What can be done besides measuring.
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Read a table of latencies, such as a published one, and write it as a profile
    ImportCsv(Box<import::Args>),
    /// Join shards of a plan and runs of the same problems; exit 1 if something of the plan is missing
    Merge(merge::MergeArgs),
    /// Draw a profile: densities with their intervals, and density over intensity
    Plot(plot::PlotArgs),
    /// Print the format of profiles or plans as a JSON Schema, which editors understand
    Schema {
        /// Of which file
        #[arg(value_enum, default_value_t = Format::Profile)]
        of: Format,
    },
}

/// The files that have a schema.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// What is measured
    Profile,
    /// What is to be measured
    Plan,
}

/// Runs the command.
pub(crate) fn run(global: &Global, args: &Args) -> Result<Outcome, Failure> {
    match &args.command {
        None => run::run(global, &args.measure),
        Some(Command::ImportCsv(args)) => import::run(args),
        Some(Command::Merge(args)) => merge::run(args),
        Some(Command::Plot(args)) => plot::run(args),
        Some(Command::Schema { of: Format::Profile }) => schema(profile::SCHEMA),
        Some(Command::Schema { of: Format::Plan }) => schema(profile::plan::SCHEMA),
    }
}

fn schema(text: &str) -> Result<Outcome, Failure> {
    output::result(text)?;
    Ok(Outcome::Done)
}
