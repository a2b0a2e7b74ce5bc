//! The processor time of this process: what its threads worked, however long others kept them waiting.

use std::time::Duration;

/// Processor time that all threads of this process have taken since it began; `None` where the system does not tell.
pub fn time() -> Option<Duration> {
    #[cfg(unix)]
    {
        use rustix::time::{ClockId, clock_gettime};

        let time = clock_gettime(ClockId::ProcessCPUTime);
        Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
    }
    #[cfg(not(unix))]
    None
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn work_takes_processor_time() {
        let Some(before) = time() else { return };
        let begin = Instant::now();
        let mut worked = 0u64;
        while begin.elapsed() < Duration::from_millis(200) {
            worked = std::hint::black_box(worked + 1);
        }
        // How much more than this depends on what else runs on the machine, and in this process.
        assert!(time().unwrap() - before > Duration::from_millis(10));
    }
}
