//! Looking at the machine while it is measured: load, clocks, heat.

use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bbc::profile::conditions::{self, GpuState, NVIDIA_QUERY, State, mean_mhz};
use bbc::profile::processor;

/// How long NVIDIA's tool may take to answer. It takes a second where the driver has to be started first.
const NVIDIA_PATIENCE: Duration = Duration::from_secs(5);

/// Longest answer that is read.
const MAX_ANSWER: u64 = 64 << 10;

/// The machine now; with the GPU of this name, if NVIDIA's tool is there and knows it.
pub(crate) fn state(gpu: Option<&str>) -> State {
    State {
        load_average: load_average(),
        processor_mhz: mean_mhz(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
        processor_throttled: throttled(),
        gpu: gpu.and_then(|name| GpuState::of_nvidia(&ask_nvidia()?, name)),
    }
}

/// Mean number of others' running processes over the last minute, where the system tells it.
pub(crate) fn load_of_others(processors: u32) -> Option<f64> {
    Some(conditions::load_of_others(load_average()?, processor::time().unwrap_or_default(), processors))
}

/// Mean number of running processes over the last minute, where the system tells it.
fn load_average() -> Option<f64> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok().filter(|load: &f64| load.is_finite() && *load >= 0.0)
}

/// How often Linux has seen a processor slow down for its heat; `None` where it does not count that.
fn throttled() -> Option<u64> {
    let processors = fs::read_dir("/sys/devices/system/cpu").ok()?;
    let counts = processors.flatten().flat_map(|entry| {
        ["core_throttle_count", "package_throttle_count"].map(|name| entry.path().join("thermal_throttle").join(name))
    });
    let counts: Vec<u64> =
        counts.filter_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok()).collect();
    (!counts.is_empty()).then(|| counts.iter().fold(0, |sum: u64, count| sum.saturating_add(*count)))
}

/// What NVIDIA's tool says of the GPUs; `None` without it, or if it does not answer in time.
fn ask_nvidia() -> Option<String> {
    let mut command = Command::new("nvidia-smi");
    command.arg(format!("--query-gpu={NVIDIA_QUERY}")).arg("--format=csv,noheader,nounits");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    answer(command.spawn().ok()?, NVIDIA_PATIENCE)
}

/// What a child writes, if it ends well and in time; otherwise it is stopped.
fn answer(mut child: Child, patience: Duration) -> Option<String> {
    let begin = Instant::now();
    let mut stdout = child.stdout.take()?;
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.by_ref().take(MAX_ANSWER).read_to_string(&mut text).ok().map(|_| text)
    });
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if begin.elapsed() < patience => std::thread::sleep(Duration::from_millis(20)),
            Ok(None) | Err(_) => break None,
        }
    };
    if !status.is_some_and(|status| status.success()) {
        // It may have ended by itself meanwhile. Its reader ends with it, or is left alone if children of its own live on.
        let _ = child.kill().and_then(|()| child.wait().map(drop));
        return None;
    }
    // A grandchild that kept the pipe open would keep the reader waiting.
    while !reader.is_finished() {
        if begin.elapsed() > patience {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    reader.join().ok()?
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    fn says(script: &str, patience: Duration) -> Option<String> {
        let mut command = Command::new("sh");
        let child = command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        answer(child.spawn().unwrap(), patience)
    }

    #[test]
    fn a_child_answers_in_time_or_not_at_all() {
        let second = Duration::from_secs(1);
        assert_eq!(says("echo yes", second * 20).as_deref(), Some("yes\n"));
        assert_eq!(says("echo no; exit 3", second * 20), None);
        for script in ["sleep 100", "sleep 100 & echo gone"] {
            let begin = Instant::now();
            assert_eq!(says(script, second / 5), None, "{script}");
            assert!(begin.elapsed() < second * 20, "{script}");
        }
        // More than a pipe holds.
        let long = says("i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done", second * 60);
        assert!(long.is_none_or(|text| text.len() as u64 == MAX_ANSWER));
    }
}
