//! All printing: results to standard output, everything else to standard error.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anstream::eprintln;
use bbc::profile::sampling::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::failure::{Explain, Failure};

/// Set by `--quiet`: notes and progress are left out.
static QUIET: AtomicBool = AtomicBool::new(false);

const ERROR: &str = "\x1b[1;31merror\x1b[0m";
const WARNING: &str = "\x1b[1;33mwarning\x1b[0m";

/// Leaves out notes and progress from here on.
pub(crate) fn be_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

/// Prints a result.
pub(crate) fn result(text: &str) -> Result<(), Failure> {
    to_stdout(&lines(text.trim_end_matches('\n')))
}

/// Writes to standard output. That its reader has gone away is no failure: the command goes on to its own end.
fn to_stdout(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.doing(|| "cannot write to standard output".into()),
    }
}

/// Prints a result as one JSON document.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let mut text = String::new();
    for c in serde_json::to_string_pretty(value)?.chars() {
        // Outside of strings JSON has nothing that would steer a terminal but line breaks; in them it can be escaped.
        if steers(c) && c != '\n' { text += &format!("\\u{:04x}", u32::from(c)) } else { text.push(c) }
    }
    to_stdout(&text)
}

/// Prints a value as JSON in one line, for another program that reads while this one runs.
#[cfg(feature = "run")]
pub(crate) fn line(value: &impl Serialize) -> Result<(), Failure> {
    to_stdout(&serde_json::to_string(value)?)
}

/// Says what is going on.
pub(crate) fn note(text: &str) {
    if !QUIET.load(Ordering::Relaxed) {
        eprintln!("{}", lines(text));
    }
}

/// Says what the user should know before believing the result.
pub(crate) fn warning(text: &str) {
    eprintln!("{WARNING}: {}", lines(text));
}

/// Says why the command ends with 2.
pub(crate) fn failure(failure: &Failure) {
    eprintln!("{ERROR}: {}", lines(&failure.to_string()));
}

/// Says that the command was interrupted, and what that leaves.
pub(crate) fn interrupted(kept: Option<&str>) {
    eprintln!("{ERROR}: interrupted; {}", lines(kept.unwrap_or("what was not finished is removed")));
}

/// Prints what the command line parser has to say: help and version are results, the rest are errors.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    // A closed standard output ends the program quietly.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// A bar for `total` steps; drawn only on a terminal.
pub(crate) fn progress(total: u64) -> ProgressBar {
    let hidden = QUIET.load(Ordering::Relaxed) || !io::stderr().is_terminal();
    let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(total), target);
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len}  {msg}  {eta} left") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Shows what is being done while it is not known for how long.
pub(crate) fn busy(what: &str) -> ProgressBar {
    let bar = progress(1);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.with_message(what.to_owned())
}

/// A bar for work of known time, in `total` parts of it; the message says what is done and how long it takes yet.
pub(crate) fn timed_progress(total: u64) -> ProgressBar {
    let bar = progress(total);
    if let Ok(style) = ProgressStyle::with_template("{bar:24}  {msg}") {
        bar.set_style(style);
    }
    bar
}

/// Shows on such a bar of a thousand parts what is being done, and how long it takes yet.
pub(crate) fn time_left(bar: &ProgressBar, what: &str, progress: Progress) {
    bar.set_position((progress.done * 1000.0) as u64);
    bar.set_message(format!("{what}, {:.0} s left", progress.left.as_secs_f64()));
}

/// A bar for a transfer of so many bytes; drawn only on a terminal.
#[cfg(feature = "run")]
pub(crate) fn transfer(bytes: u64) -> ProgressBar {
    let bar = progress(bytes);
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {decimal_bytes}/{decimal_total_bytes}  {msg}  {eta} left")
    {
        bar.set_style(style);
    }
    bar
}

/// Widest column of a table; longer cells, as a stranger's file may make them, stand out.
const MAX_COLUMN: usize = 200;

/// A table: the first row is the head, columns are as wide as their widest cell; `left` names the columns that are
/// aligned to the left.
pub(crate) fn table(rows: &[Vec<String>], left: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0).min(MAX_COLUMN)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .enumerate()
            .map(|(column, cell)| {
                let width = widths[column];
                if left.contains(&column) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Text from outside in one line, without what would steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    escaped(text, |_| false)
}

/// Text of several lines, without what would steer a terminal: names from a stranger's file may be among it.
fn lines(text: &str) -> String {
    escaped(text, |c| c == '\n')
}

/// Whether a character changes how a terminal shows what follows.
fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str, keep: impl Fn(char) -> bool) -> String {
    let escape = |c: char| if steers(c) && !keep(c) { c.escape_unicode().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

/// A number of values as people read it: `14.7 M`.
pub(crate) fn count(n: u64) -> String {
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{:.1} k", n as f64 / 1e3),
        _ => format!("{:.1} M", n as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_steer_a_terminal_is_escaped() {
        assert_eq!(printable("a\nb\u{1b}[2Jc"), "a\\u{a}b\\u{1b}[2Jc");
        assert_eq!(lines("a\nb\r\u{202e}"), "a\nb\\u{d}\\u{202e}");
    }

    #[test]
    fn a_cell_of_any_length_is_printed() {
        let rows = [vec!["x".repeat(70_000), "1".into()], vec!["y".into(), "2".into()]];
        let lengths: Vec<usize> = table(&rows, &[0]).lines().map(str::len).collect();
        assert_eq!(lengths, [70_003, MAX_COLUMN + 3]);
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["candidate", "density"], ["conv3x3", "598 GFLOP/s"]];
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(ToString::to_string).collect()).collect();
        insta::assert_snapshot!(table(&rows, &[0]), @r"
        candidate      density
        conv3x3    598 GFLOP/s
        ");
    }
}
