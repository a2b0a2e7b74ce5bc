//! The process in which a stranger's model runs: this program once more, with limits.
//!
//! It is given a request on standard input and answers with a line of JSON for each event. That it crashes, hangs or is
//! ended by a limit is an answer as well.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use std::{env, thread};

use bbc::runtime::Runtime;
use bbc::runtime::library::{self, Library, Surroundings};
use bbc::verify::judge::{self, CHECKS, Event, Request};
use bbc::verify::outcome::{Checked, Status};
use serde::{Deserialize, Serialize};

use crate::cli::failure::{Explain, Failure};
use crate::cli::{Global, Outcome, output};

/// The command that this program runs itself with.
pub(crate) const COMMAND: &str = "judge-in-child";

/// Most bytes of a line that the child writes, and of what is kept of its complaints.
const MAX_LINE: u64 = 16 << 20;
const MAX_COMPLAINT: usize = 4 << 10;

/// What the child may take.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Limits {
    /// Bytes of memory.
    pub(super) memory: u64,
    /// Seconds of processor time.
    pub(super) cpu_seconds: u64,
}

#[derive(Serialize, Deserialize)]
struct Order {
    limits: Limits,
    request: Request,
}

/// Has a child make the checks of a request.
pub(super) fn judge(
    library: &Library,
    request: &Request,
    limits: Limits,
    timeout: Duration,
) -> Result<Vec<Checked>, Failure> {
    let starting = || "cannot start a process to run the model in".to_owned();
    let program = env::current_exe().doing(starting)?;
    let mut child = Command::new(program)
        .arg("--ort-lib")
        .arg(&library.path)
        .arg(COMMAND)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .doing(starting)?;
    let order = serde_json::to_vec(&Order { limits, request: request.clone() })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A child that is gone already tells more by how it ended.
        let _ = stdin.write_all(&order);
    }
    let (stdout, stderr) = child.stdout.take().zip(child.stderr.take()).ok_or_else(|| Failure::new(starting()))?;
    let (sender, events) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = BufReader::new(stdout);
        loop {
            let mut line = Vec::new();
            match (&mut lines).take(MAX_LINE).read_until(b'\n', &mut line) {
                Ok(n) if n > 0 => {
                    // Libraries may write there too.
                    if let Ok(event) = serde_json::from_slice::<Event>(&line)
                        && sender.send(event).is_err()
                    {
                        return;
                    }
                }
                _ => return,
            }
        }
    });
    let complaints = thread::spawn(move || last_bytes(stderr));
    let deadline = Instant::now() + timeout;
    let mut watched = Watched::default();
    let in_time = loop {
        match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(event) => watched.hear(event),
            Err(RecvTimeoutError::Disconnected) => break true,
            Err(RecvTimeoutError::Timeout) => break false,
        }
    };
    let mut late = !in_time;
    let status = if late { None } else { waited(&mut child, deadline) };
    late |= status.is_none();
    if late {
        // It may have ended by itself meanwhile.
        let _ = child.kill();
    }
    let status = match status {
        Some(status) => status,
        None => child.wait().doing(starting)?,
    };
    let complaint = complaints.join().unwrap_or_default();
    Ok(watched.end(&status, late.then_some(timeout), &complaint, limits))
}

/// How the child ended, if it does before the deadline; its standard output is closed already.
fn waited(child: &mut std::process::Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// The end of what a process writes.
fn last_bytes(mut pipe: impl Read) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = pipe.read(&mut buffer) {
        kept.extend(&buffer[..n]);
        let over = kept.len().saturating_sub(MAX_COMPLAINT);
        kept.drain(..over);
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

/// What the child has said.
#[derive(Default)]
struct Watched {
    checks: Vec<Checked>,
    current: Option<String>,
}

impl Watched {
    fn hear(&mut self, event: Event) {
        match event {
            Event::Begin(check) => self.current = Some(check),
            Event::Done(check) => {
                self.current = None;
                // A process out of control may say anything.
                if self.checks.len() < CHECKS.len() && CHECKS.contains(&check.name.as_str()) {
                    self.checks.push(*check);
                }
            }
        }
    }

    /// All checks, once the child has ended like this.
    fn end(mut self, status: &ExitStatus, late: Option<Duration>, complaint: &str, limits: Limits) -> Vec<Checked> {
        let is_whole = self.current.is_none() && CHECKS.iter().all(|name| self.checks.iter().any(|c| c.name == *name));
        if !is_whole || (!status.success() && late.is_none()) {
            let current = self.current.clone().unwrap_or_else(|| {
                let open = CHECKS.iter().find(|name| !self.checks.iter().any(|check| check.name == **name));
                open.map_or_else(|| "run".to_owned(), ToString::to_string)
            });
            let how = match late {
                Some(timeout) => format!("the process was still at it after {} s and was ended", timeout.as_secs_f64()),
                None => ended(status, limits),
            };
            let last = complaint.lines().last().map(|line| format!("; it said: {line}")).unwrap_or_default();
            // A child that could not begin says nothing of the model.
            let begun = self.current.is_some() || !self.checks.is_empty();
            let verdict = if begun { Status::Failed } else { Status::Error };
            self.checks.retain(|check| check.name != current);
            self.checks.push(Checked::new(current, verdict, format!("{how}{last}")));
        }
        let position = |check: &Checked| CHECKS.iter().position(|name| *name == check.name);
        for name in CHECKS {
            if !self.checks.iter().any(|check| check.name == name) {
                self.checks.push(Checked::skipped(name, "the process that ran the model had ended"));
            }
        }
        self.checks.sort_by_key(position);
        self.checks
    }
}

/// How a process ended, the signal named.
fn ended(status: &ExitStatus, limits: Limits) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(status) {
        let name = match signal {
            4 => "SIGILL, an illegal instruction",
            5 => "SIGTRAP",
            6 => "SIGABRT, by which programs end themselves",
            7 => "SIGBUS, an access to memory that is not there",
            8 => "SIGFPE, a division by zero",
            9 => "SIGKILL",
            11 => "SIGSEGV, an access to memory it does not have",
            15 => "SIGTERM",
            24 => {
                return format!(
                    "the process took more than {} s of processor time and was ended by SIGXCPU",
                    limits.cpu_seconds
                );
            }
            _ => return format!("the process that ran the model was ended by signal {signal}"),
        };
        return format!("the process that ran the model was ended by {name}");
    }
    let _ = limits;
    match status.code() {
        Some(code) => format!("the process that ran the model ended early with exit code {code}"),
        None => "the process that ran the model ended early".to_owned(),
    }
}

/// The child's side: sets its limits, makes the checks, says what they came to.
pub(crate) fn run(global: &Global) -> Result<Outcome, Failure> {
    let order: Order =
        serde_json::from_reader(std::io::stdin().lock()).doing(|| "this is for `bbc verify` itself".into())?;
    limit(order.limits)?;
    let path: &Path = global.ort_lib.as_deref().ok_or_else(|| Failure::new("this is for `bbc verify` itself"))?;
    let library = library::find(&Surroundings::of_process(Some(path.to_owned())))?;
    let runtime = Runtime::load(library)?;
    let mut broken = Ok(());
    judge::judge(&runtime, &order.request, &mut |event| {
        if broken.is_ok() {
            broken = output::line(&event);
        }
    });
    broken?;
    Ok(Outcome::Done)
}

/// Keeps this process within limits from here on.
#[cfg(unix)]
fn limit(limits: Limits) -> Result<(), Failure> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let setting = || "cannot limit the process that runs the model".to_owned();
    // Where others have set less, that stays.
    let at_most = |resource: Resource, most: u64| {
        let now = getrlimit(resource);
        let within = |most: u64| now.maximum.map_or(most, |maximum| maximum.min(most));
        // At the first limit of processor time comes a signal with a name of its own, at the second the end.
        let last = if resource == Resource::Cpu { most.saturating_add(1) } else { most };
        setrlimit(resource, Rlimit { current: Some(within(most)), maximum: Some(within(last)) }).doing(setting)
    };
    // GPU drivers reserve addresses by the terabyte: what counts is memory that can be written to.
    #[cfg(target_os = "linux")]
    at_most(Resource::Data, limits.memory)?;
    #[cfg(not(target_os = "linux"))]
    at_most(Resource::As, limits.memory)?;
    at_most(Resource::Cpu, limits.cpu_seconds)?;
    at_most(Resource::Core, 0)?;
    // Whoever ends the parent has ended its question.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).doing(setting)?;
    Ok(())
}

/// There are no such limits here; the parent's clock is one all the same.
#[cfg(not(unix))]
fn limit(_: Limits) -> Result<(), Failure> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    const LIMITS: Limits = Limits { memory: 1 << 30, cpu_seconds: 7 };

    fn end(events: &[Event], status: i32, late: Option<Duration>, complaint: &str) -> Vec<String> {
        let mut watched = Watched::default();
        events.iter().for_each(|event| watched.hear(event.clone()));
        let checks = watched.end(&ExitStatus::from_raw(status), late, complaint, LIMITS);
        assert_eq!(checks.iter().map(|check| check.name.as_str()).collect::<Vec<_>>(), CHECKS);
        let told = checks.iter().filter(|check| check.status != Status::Skipped);
        told.map(|check| {
            format!("{} {}: {}", check.status.name(), check.name, check.message.clone().unwrap_or_default())
        })
        .collect()
    }

    #[test]
    fn how_the_process_ended_is_the_answer() {
        let begin = |name: &str| Event::Begin(name.to_owned());
        let done = |name: &str| Event::Done(Box::new(Checked::passed(name, None)));
        let loaded = [begin("load"), done("load"), begin("run")];
        let all: Vec<Event> = CHECKS.iter().map(|name| done(name)).collect();
        for (events, status, late, complaint, expected) in [
            (
                &loaded[..],
                11,
                None,
                "",
                vec![
                    "passed load: ",
                    "failed run: the process that ran the model was ended by SIGSEGV, an access to memory it does not have",
                ],
            ),
            (
                &loaded,
                8,
                None,
                "",
                vec![
                    "passed load: ",
                    "failed run: the process that ran the model was ended by SIGFPE, a division by zero",
                ],
            ),
            (
                &loaded,
                6,
                None,
                "one\nmemory allocation failed",
                vec![
                    "passed load: ",
                    "failed run: the process that ran the model was ended by SIGABRT, by which programs end themselves; it said: memory allocation failed",
                ],
            ),
            (
                &loaded,
                24,
                None,
                "",
                vec![
                    "passed load: ",
                    "failed run: the process took more than 7 s of processor time and was ended by SIGXCPU",
                ],
            ),
            (
                &loaded,
                9,
                Some(Duration::from_secs(3)),
                "",
                vec!["passed load: ", "failed run: the process was still at it after 3 s and was ended"],
            ),
            (
                &loaded[..1],
                101 << 8,
                None,
                "",
                vec!["failed load: the process that ran the model ended early with exit code 101"],
            ),
            // What could not begin says nothing of the model.
            (
                &[],
                2 << 8,
                None,
                "error: no library",
                vec![
                    "error load: the process that ran the model ended early with exit code 2; it said: error: no library",
                ],
            ),
            // A crash behind the last check is one.
            (
                &all,
                11,
                None,
                "",
                vec![
                    "passed load: ",
                    "failed run: the process that ran the model was ended by SIGSEGV, an access to memory it does not have",
                    "passed finite: ",
                    "passed shapes: ",
                    "passed repeatable: ",
                    "passed providers: ",
                    "passed precision: ",
                    "passed reference: ",
                    "passed first-divergence: ",
                    "passed golden: ",
                ],
            ),
        ] {
            assert_eq!(end(events, status, late, complaint), expected);
        }
        assert_eq!(end(&all, 0, None, "").len(), CHECKS.len());
    }

    #[test]
    fn a_process_out_of_control_says_no_more_than_there_is_to_say() {
        let strange = Event::Done(Box::new(Checked::passed("nonsense", None)));
        let many = vec![strange; 1000];
        assert_eq!(end(&many, 0, None, "").len(), 1);
    }
}
