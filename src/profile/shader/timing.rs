//! Times a convolution on a device: chains of dispatches in passes of bounded length.

use std::time::Duration;

use super::gpu::{ALIGNMENT, Bound, Gpu, GpuError, PARAMS_BYTES};
use super::run::{ComputeError, DISPATCH_TARGET, Dispatch, Layout};
use super::variant::{ROW_LENGTH, Variant};
use crate::conv::ConvProblem;
use crate::profile::processor;
use crate::profile::sampling::Time;

/// How times are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Timing {
    /// The device's own clock at the beginning and end of each pass.
    GpuTimestamps,
    /// The host's clock around chains of two lengths; the slope between them leaves the fixed cost out.
    WallSlope,
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// Time of one convolution.
    Taken(Duration),
    /// The clocks gave no time that can be believed.
    Dropped(Dropped),
}

/// Why a measurement was thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dropped {
    /// The end was not after the beginning.
    NotPositive,
    /// The device claims more time than passed on the host.
    LongerThanWall,
}

/// Longest time of a pass by intention, unless a single dispatch takes longer.
const PASS_TARGET: Duration = Duration::from_millis(50);
/// Time of a sample by intention, if a single convolution does not already take longer.
const SAMPLE_TARGET: Duration = Duration::from_millis(20);
/// Most convolutions in a sample.
const MAX_CHAIN: u32 = 2_000;

/// A variant bound to a problem and to the memory it is timed in.
#[derive(Debug)]
pub(super) struct Chain {
    gpu: Gpu,
    doing: String,
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    steps: Vec<Step>,
    workgroups: u64,
    input_bytes: u64,
    weight_bytes: u64,
    pool_size: u64,
    /// Where in the pool the next input or weight begins.
    cursor: u64,
    queries: Option<Queries>,
    /// Time of one convolution as far as known.
    estimate: Option<Duration>,
    /// Processor time of one convolution in the last sample; only where the processor computes.
    processor: Option<Duration>,
}

/// A dispatch of one convolution.
#[derive(Debug, Clone, Copy)]
struct Step {
    dispatch: Dispatch,
    params_offset: u32,
    /// Whether new images begin here, and so another input.
    new_input: bool,
    /// Whether a convolution begins here, and so another weight.
    new_weight: bool,
}

/// Two timestamps and the buffer they are resolved to.
#[derive(Debug)]
struct Queries {
    set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    period_ns: f64,
}

/// Times of a chain of convolutions.
#[derive(Debug, Clone, Copy)]
struct Elapsed {
    wall: Duration,
    /// Processor time of this process.
    processor: Option<Duration>,
    /// Sum over the passes by the device's clock.
    device: Option<Sample>,
}

impl Chain {
    /// Reserves what timing needs; a dispatch has at most `limit` workgroups.
    pub(super) fn new(gpu: &Gpu, variant: Variant, problem: &ConvProblem, limit: u32) -> Result<Self, ComputeError> {
        let doing = format!("timing `{variant}`");
        let layout = Layout::new(gpu, variant, problem)?;
        let mut steps = Vec::new();
        let mut params = Vec::new();
        let mut workgroups = 0;
        for images in layout.parts(problem) {
            let grid = variant.grid(problem, images);
            workgroups += grid.workgroups;
            for dispatch in Dispatch::split(&grid, limit) {
                let params_offset = params.len() as u32 * 4;
                params.extend(grid.params(problem, dispatch.first, dispatch.end));
                params.resize(params.len().next_multiple_of(ALIGNMENT as usize / 4), 0);
                let new_input = dispatch.first == 0;
                steps.push(Step { dispatch, params_offset, new_input, new_weight: steps.is_empty() });
            }
        }
        let on_params = on_device(gpu, &doing, &params)?;
        let pool = gpu.pool(problem.dtype(), layout.input_bytes.max(layout.weight_bytes))?;
        let output = gpu.scratch(layout.output_bytes)?;
        let bindings = gpu.bind(
            &doing,
            &Bound {
                input: (&pool, layout.input_bytes),
                weight: (&pool, layout.weight_bytes),
                output: (&output, layout.output_bytes),
                params: &on_params,
            },
        )?;
        Ok(Self {
            queries: if gpu.has_timestamps() { Some(Queries::new(gpu, &doing)?) } else { None },
            pipeline: gpu.pipeline(variant, problem)?,
            gpu: gpu.clone(),
            doing,
            bindings,
            steps,
            workgroups,
            input_bytes: layout.input_bytes,
            weight_bytes: layout.weight_bytes,
            pool_size: pool.size(),
            cursor: 0,
            estimate: None,
            processor: None,
        })
    }

    /// A chain of one piece of work that always reads the same; a dispatch of it has at most `limit` workgroups.
    /// The parameters are its own.
    pub(super) fn of_one(
        gpu: &Gpu,
        doing: String,
        pipeline: wgpu::ComputePipeline,
        bound: &Bound<'_>,
        workgroups: u32,
        limit: u32,
    ) -> Result<Self, GpuError> {
        let (mut steps, mut params) = (Vec::new(), Vec::new());
        for dispatch in Dispatch::parts(workgroups, limit) {
            let params_offset = params.len() as u32 * 4;
            params.extend([dispatch.first, dispatch.end, ROW_LENGTH]);
            params.resize(params.len().next_multiple_of(ALIGNMENT as usize / 4), 0);
            steps.push(Step { dispatch, params_offset, new_input: false, new_weight: false });
        }
        let on_params = on_device(gpu, &doing, &params)?;
        let bindings = gpu.bind(&doing, &Bound { params: &on_params, ..*bound })?;
        Ok(Self {
            queries: if gpu.has_timestamps() { Some(Queries::new(gpu, &doing)?) } else { None },
            pipeline,
            gpu: gpu.clone(),
            doing,
            bindings,
            steps,
            workgroups: u64::from(workgroups),
            input_bytes: 0,
            weight_bytes: 0,
            pool_size: 0,
            cursor: 0,
            estimate: None,
            processor: None,
        })
    }

    pub(super) fn timing(&self) -> Timing {
        if self.queries.is_some() { Timing::GpuTimestamps } else { Timing::WallSlope }
    }

    /// Convolutions in a sample.
    pub(super) fn length(&self) -> u32 {
        let Some(estimate) = self.estimate else { return 1 };
        let count = SAMPLE_TARGET.as_secs_f64() / estimate.as_secs_f64().max(1e-9);
        count.clamp(1.0, f64::from(MAX_CHAIN)) as u32
    }

    /// Takes one measurement.
    pub(super) fn sample(&mut self) -> Result<Sample, GpuError> {
        let length = self.length();
        let first = self.run(length)?;
        self.processor = first.processor.map(|time| time / length);
        let sample = match first.device {
            Some(Sample::Taken(time)) => Sample::Taken(time / length),
            Some(dropped @ Sample::Dropped(_)) => dropped,
            None => {
                let second = self.run(2 * length)?;
                self.processor =
                    second.processor.zip(first.processor).map(|(two, one)| two.saturating_sub(one) / length);
                match second.wall.checked_sub(first.wall) {
                    Some(time) if time >= Duration::from_nanos(u64::from(length)) => Sample::Taken(time / length),
                    _ => Sample::Dropped(Dropped::NotPositive),
                }
            }
        };
        self.estimate = Some(match sample {
            Sample::Taken(time) => time,
            Sample::Dropped(_) => first.wall / length,
        });
        Ok(sample)
    }

    /// The last sample as it is recorded.
    pub(super) fn time_of(&self, sample: Sample) -> Option<Time> {
        let positive = |time: Duration| u64::try_from(time.as_nanos()).ok().filter(|&ns| ns > 0);
        match sample {
            Sample::Taken(time) => {
                let processor_ns = self.processor.and_then(positive);
                positive(time).map(|wall_ns| Time { wall_ns, processor_ns })
            }
            Sample::Dropped(_) => None,
        }
    }

    /// Runs a chain of `length` convolutions.
    fn run(&mut self, length: u32) -> Result<Elapsed, GpuError> {
        // On another processor than this one the work takes none of this process's time.
        let before = if self.gpu.is_software() { processor::time() } else { None };
        let mut elapsed = Elapsed { wall: Duration::ZERO, processor: None, device: None };
        let mut rest = u64::from(length) * self.steps.len() as u64;
        let mut at = 0;
        let [mut input, mut weight] = [0, 0];
        while rest > 0 {
            let mut pass = Vec::new();
            let mut planned = Duration::ZERO;
            while rest > 0 {
                let step = self.steps[at];
                planned += self.expected(step.dispatch);
                if planned > PASS_TARGET && !pass.is_empty() {
                    break;
                }
                if step.new_input {
                    input = self.advance(self.input_bytes);
                }
                if step.new_weight {
                    weight = self.advance(self.weight_bytes);
                }
                pass.push((step.dispatch, [input, input, weight, step.params_offset]));
                at = (at + 1) % self.steps.len();
                rest -= 1;
            }
            let part = self.submit(&pass)?;
            elapsed.wall += part.wall;
            elapsed.device = match (elapsed.device, part.device) {
                (Some(Sample::Taken(before)), Some(Sample::Taken(now))) => Some(Sample::Taken(before + now)),
                (Some(dropped @ Sample::Dropped(_)), _) => Some(dropped),
                (_, now) => now,
            };
        }
        elapsed.processor = before.and_then(|before| processor::time()?.checked_sub(before));
        Ok(elapsed)
    }

    /// How long a dispatch probably takes: what its share of a convolution is, or what it was cut for.
    fn expected(&self, dispatch: Dispatch) -> Duration {
        match self.estimate {
            Some(estimate) => estimate.mul_f64(f64::from(dispatch.end - dispatch.first) / self.workgroups as f64),
            None => DISPATCH_TARGET,
        }
    }

    /// The offset of the next `bytes` of the pool.
    fn advance(&mut self, bytes: u64) -> u32 {
        let bytes = bytes.next_multiple_of(ALIGNMENT);
        if self.cursor + bytes > self.pool_size {
            self.cursor = 0;
        }
        let offset = self.cursor;
        self.cursor += bytes;
        offset as u32
    }

    fn submit(&self, pass: &[(Dispatch, [u32; 4])]) -> Result<Elapsed, GpuError> {
        let wall = self.gpu.submit(&self.doing, |encoder| {
            let mut recorded = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: self.queries.as_ref().map(|queries| wgpu::ComputePassTimestampWrites {
                    query_set: &queries.set,
                    beginning_of_pass_write_index: Some(0),
                    end_of_pass_write_index: Some(1),
                }),
            });
            recorded.set_pipeline(&self.pipeline);
            for (dispatch, offsets) in pass {
                recorded.set_bind_group(0, &self.bindings, offsets);
                dispatch.record(&mut recorded);
            }
        })?;
        let device = match &self.queries {
            Some(queries) => Some(believed(queries.read(&self.gpu, &self.doing)?, queries.period_ns, wall)),
            None => None,
        };
        Ok(Elapsed { wall, processor: None, device })
    }
}

/// The parameters of all dispatches, with room behind them for the last to be seen whole.
fn on_device(gpu: &Gpu, doing: &str, params: &[u32]) -> Result<wgpu::Buffer, GpuError> {
    let uniform = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
    let buffer = gpu.buffer(doing, params.len() as u64 * 4 + PARAMS_BYTES, uniform)?;
    gpu.write(doing, &buffer, bytemuck::cast_slice(params))?;
    Ok(buffer)
}

/// The time between two timestamps, if it can be one.
fn believed([begin, end]: [u64; 2], period_ns: f64, wall: Duration) -> Sample {
    let nanoseconds = end.saturating_sub(begin) as f64 * period_ns;
    if nanoseconds < 1.0 {
        Sample::Dropped(Dropped::NotPositive)
    } else if nanoseconds > wall.as_nanos() as f64 {
        Sample::Dropped(Dropped::LongerThanWall)
    } else {
        Sample::Taken(Duration::from_nanos(nanoseconds as u64))
    }
}

impl Queries {
    fn new(gpu: &Gpu, doing: &str) -> Result<Self, GpuError> {
        let set = gpu.guarded(doing, |device| {
            device.create_query_set(&wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count: 2 })
        })?;
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = gpu.buffer(doing, 16, usage)?;
        Ok(Self { set, resolved, period_ns: f64::from(gpu.queue().get_timestamp_period()) })
    }

    /// The two timestamps of the pass that has ended, in ticks.
    fn read(&self, gpu: &Gpu, doing: &str) -> Result<[u64; 2], GpuError> {
        gpu.submit(doing, |encoder| encoder.resolve_query_set(&self.set, 0..2, &self.resolved, 0))?;
        let bytes = gpu.read(doing, &self.resolved, 16)?;
        let tick = |at: usize| bytes[at..at + 8].iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte));
        Ok([tick(0), tick(8)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_times_are_dropped() {
        let wall = Duration::from_micros(100);
        for (name, ticks, period, expected) in [
            ("plain", [1_000, 31_000], 1.0, Sample::Taken(Duration::from_micros(30))),
            ("ticks are not nanoseconds", [0, 1_000], 52.08, Sample::Taken(Duration::from_nanos(52_080))),
            ("no time at all", [5, 5], 1.0, Sample::Dropped(Dropped::NotPositive)),
            ("backwards", [6, 5], 1.0, Sample::Dropped(Dropped::NotPositive)),
            ("longer than the host waited", [0, 100_001], 1.0, Sample::Dropped(Dropped::LongerThanWall)),
        ] {
            assert_eq!(believed(ticks, period, wall), expected, "{name}");
        }
    }
}
