//! Runs one convolution through a shader: how it is cut into parts that fit the device, and the whole of it for given
//! values.

use std::time::{Duration, Instant};

use super::data;
use super::gpu::{ALIGNMENT, Bound, Gpu, GpuError, PARAMS_BYTES};
use super::variant::{Grid, ROW_LENGTH, Variant};
use crate::conv::ConvProblem;
use crate::tensor::{DType, element_count};
use crate::units::Bytes;

/// Most memory that the tensors of one problem may take.
pub const MAX_PROBLEM: Bytes = Bytes(2 << 30);

/// Why a shader could not compute a problem.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComputeError {
    /// The adapter failed.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// The adapter has no arithmetic for these elements.
    #[error("adapter `{adapter}` does not compute with {dtype} elements")]
    Elements {
        /// Name of the adapter.
        adapter: String,
        /// The elements that were asked for.
        dtype: DType,
    },
    /// The shader does not take the problem, or its tiles exceed the adapter's limits.
    #[error("`{variant}` does not take this problem on adapter `{adapter}`")]
    NotTaken {
        /// Name of the adapter.
        adapter: String,
        /// The shader that was asked for.
        variant: Variant,
    },
    /// A tensor, or one image of it, is larger than what a shader can see at once.
    #[error("its {what} takes {size}, but {limit} is the most on adapter `{adapter}`")]
    TooLarge {
        /// Name of the adapter.
        adapter: String,
        /// `input image`, `weight`, `output image` or `tensors`.
        what: &'static str,
        /// Memory it takes.
        size: Bytes,
        /// Memory it may take.
        limit: Bytes,
    },
    /// It would take longer than anyone wants to wait.
    #[error("one convolution by `{variant}` takes longer than {} s on adapter `{adapter}`", limit.as_secs())]
    TooSlow {
        /// Name of the adapter.
        adapter: String,
        /// The shader that was asked for.
        variant: Variant,
        /// How long was waited.
        limit: Duration,
    },
    /// The values given do not fill the tensor.
    #[error("{values} values were given for its {what}, which has {elements} elements")]
    Length {
        /// `input` or `weight`.
        what: &'static str,
        /// How many values were given.
        values: usize,
        /// How many the tensor has.
        elements: u64,
    },
}

/// How the memory of a problem is cut: the images that are computed together, and what a shader sees then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// Images computed together; the last part may have fewer.
    pub(super) images: u32,
    pub(super) input_bytes: u64,
    pub(super) weight_bytes: u64,
    pub(super) output_bytes: u64,
}

impl Layout {
    pub(super) fn new(gpu: &Gpu, variant: Variant, problem: &ConvProblem) -> Result<Self, ComputeError> {
        let adapter = || gpu.name().to_owned();
        let dtype = problem.dtype();
        if !gpu.supports(dtype) {
            return Err(ComputeError::Elements { adapter: adapter(), dtype });
        }
        if !gpu.takes(variant, problem) {
            return Err(ComputeError::NotTaken { adapter: adapter(), variant });
        }
        let image = |shape: [u32; 4]| element_count(&shape[1..]) * dtype.size();
        let (input, output) = (image(problem.input_shape()), image(problem.output_shape()));
        let weight = variant.packed_len(problem).saturating_mul(dtype.size());
        let limit = gpu.max_binding().min(MAX_PROBLEM).0;
        for (what, size) in [("input image", input), ("weight", weight), ("output image", output)] {
            if size > limit {
                return Err(ComputeError::TooLarge {
                    adapter: adapter(),
                    what,
                    size: Bytes(size),
                    limit: Bytes(limit),
                });
            }
        }
        let total = (input + output) * u64::from(problem.batch()) + weight;
        if total > MAX_PROBLEM.0 {
            let size = Bytes(total);
            return Err(ComputeError::TooLarge { adapter: adapter(), what: "tensors", size, limit: MAX_PROBLEM });
        }
        let images = (limit / input.max(output)).min(u64::from(problem.batch())) as u32;
        Ok(Self {
            images,
            input_bytes: input * u64::from(images),
            weight_bytes: weight,
            output_bytes: output * u64::from(images),
        })
    }

    /// The numbers of images of the parts, in order.
    pub(super) fn parts(&self, problem: &ConvProblem) -> impl Iterator<Item = u32> + use<> {
        let (batch, images) = (problem.batch(), self.images);
        (0..batch).step_by(images as usize).map(move |first| images.min(batch - first))
    }
}

/// A range of a grid's workgroups that is dispatched at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dispatch {
    pub(super) first: u32,
    pub(super) end: u32,
}

impl Dispatch {
    /// All of a grid in as many dispatches of equal size as it takes for none to exceed `limit` workgroups.
    pub(super) fn split(grid: &Grid, limit: u32) -> Vec<Self> {
        Self::parts(grid.workgroups as u32, limit)
    }

    /// So many workgroups in as many dispatches of equal size as it takes for none to exceed `limit`.
    pub(super) fn parts(workgroups: u32, limit: u32) -> Vec<Self> {
        let count = workgroups.div_ceil(limit.max(1)).max(1);
        let size = workgroups.div_ceil(count).max(1);
        (0..workgroups)
            .step_by(size as usize)
            .map(|first| Self { first, end: workgroups.min(first.saturating_add(size)) })
            .collect()
    }

    /// Records the dispatch.
    pub(super) fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        let count = self.end - self.first;
        pass.dispatch_workgroups(count.min(ROW_LENGTH), count.div_ceil(ROW_LENGTH), 1);
    }
}

/// A result, with what was learned about the device's speed.
#[derive(Debug)]
pub(super) struct Computed {
    /// The result in NCHW order.
    pub(super) output: Vec<f32>,
    /// Workgroups that take about [`DISPATCH_TARGET`]; `u32::MAX` if all of them took less.
    pub(super) workgroups: u32,
}

/// Longest time for one convolution.
const MAX_TIME: Duration = Duration::from_secs(120);
/// How long one dispatch may take by intention.
pub(super) const DISPATCH_TARGET: Duration = Duration::from_millis(40);
/// Operations of the first dispatch, when nothing is known yet: well below 100 ms on any adapter of its kind.
const FIRST_FLOPS_SOFTWARE: u64 = 20_000_000;
const FIRST_FLOPS: u64 = 1_000_000_000;

impl Gpu {
    /// The convolution of `input` (NCHW) with `weight` (output channel, input channel of the group, window row, window
    /// column) as `variant` computes it; NCHW.
    ///
    /// # Errors
    /// If the variant does not take the problem here, the values do not fill the tensors, or the adapter fails.
    pub fn compute(
        &self,
        variant: Variant,
        problem: &ConvProblem,
        input: &[f32],
        weight: &[f32],
    ) -> Result<Vec<f32>, ComputeError> {
        Ok(compute(self, variant, problem, input, weight)?.output)
    }
}

pub(super) fn compute(
    gpu: &Gpu,
    variant: Variant,
    problem: &ConvProblem,
    input: &[f32],
    weight: &[f32],
) -> Result<Computed, ComputeError> {
    let layout = Layout::new(gpu, variant, problem)?;
    for (what, values, shape) in
        [("input", input.len(), problem.input_shape()), ("weight", weight.len(), problem.weight_shape())]
    {
        let elements = element_count(&shape);
        if values as u64 != elements {
            return Err(ComputeError::Length { what, values, elements });
        }
    }
    let doing = format!("checking `{variant}`");
    let dtype = problem.dtype();
    let pipeline = gpu.pipeline(variant, problem)?;
    let storage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
    let on_input = gpu.buffer(&doing, layout.input_bytes, storage)?;
    let on_weight = gpu.buffer(&doing, layout.weight_bytes, storage)?;
    let on_output = gpu.buffer(&doing, layout.output_bytes, storage | wgpu::BufferUsages::COPY_SRC)?;
    let params = gpu.buffer(&doing, PARAMS_BYTES, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST)?;
    let bound = Bound {
        input: (&on_input, layout.input_bytes),
        weight: (&on_weight, layout.weight_bytes),
        output: (&on_output, layout.output_bytes),
        params: &params,
    };
    let bindings = gpu.bind(&doing, &bound)?;
    gpu.write(&doing, &on_weight, &padded(data::encode(&variant.pack(problem, weight), dtype)))?;

    let begin = Instant::now();
    let mut pace = Pace::new(gpu, variant, problem);
    let mut output = Vec::with_capacity(element_count(&problem.output_shape()) as usize);
    let mut rest = input;
    for images in layout.parts(problem) {
        let (part, after) = rest.split_at(input.len() / problem.batch() as usize * images as usize);
        rest = after;
        gpu.write(&doing, &on_input, &padded(data::encode(part, dtype)))?;
        // What the shader forgets to write must not look like a result.
        gpu.write(&doing, &on_output, &vec![0xff; on_output.size() as usize])?;
        let grid = variant.grid(problem, images);
        let mut first = 0_u32;
        while u64::from(first) < grid.workgroups {
            if begin.elapsed() > MAX_TIME {
                return Err(ComputeError::TooSlow { adapter: gpu.name().to_owned(), variant, limit: MAX_TIME });
            }
            let end = first.saturating_add(pace.workgroups).min(grid.workgroups as u32);
            gpu.write(&doing, &params, bytemuck::cast_slice(&grid.params(problem, first, end)))?;
            let elapsed = gpu.submit(&doing, |encoder| {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                pass.set_pipeline(&pipeline);
                pass.set_bind_group(0, &bindings, &[0, 0, 0, 0]);
                Dispatch { first, end }.record(&mut pass);
            })?;
            pace.took(end - first, elapsed);
            first = end;
        }
        let bytes = output_bytes(problem, images);
        output.extend(data::decode(&gpu.read(&doing, &on_output, bytes)?, dtype));
    }
    Ok(Computed { output, workgroups: pace.workgroups })
}

fn output_bytes(problem: &ConvProblem, images: u32) -> u64 {
    element_count(&problem.output_shape()[1..]) * u64::from(images) * problem.dtype().size()
}

/// `bytes` with zeros added until their number can be copied.
fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
    bytes
}

/// Learns how many workgroups a dispatch can have without taking too long.
#[derive(Debug)]
pub(super) struct Pace {
    workgroups: u32,
    /// The first dispatch also compiles, so its time says nothing.
    compiled: bool,
}

impl Pace {
    fn new(gpu: &Gpu, variant: Variant, problem: &ConvProblem) -> Self {
        let grid = variant.grid(problem, problem.batch());
        let flops = if gpu.is_software() { FIRST_FLOPS_SOFTWARE } else { FIRST_FLOPS };
        let per_workgroup = problem.flops().0.div_ceil(grid.workgroups).max(1);
        Self::starting(flops.div_ceil(per_workgroup).min(u64::from(u32::MAX)) as u32)
    }

    /// Begins with so many workgroups.
    pub(super) fn starting(workgroups: u32) -> Self {
        Self { workgroups, compiled: false }
    }

    /// Workgroups that the next dispatch can have.
    pub(super) fn workgroups(&self) -> u32 {
        self.workgroups
    }

    pub(super) fn took(&mut self, workgroups: u32, elapsed: Duration) {
        if !std::mem::replace(&mut self.compiled, true) {
            return;
        }
        let factor = (DISPATCH_TARGET.as_secs_f64() / elapsed.as_secs_f64().max(1e-6)).clamp(0.1, 4.0);
        let fitting = (f64::from(workgroups) * factor).clamp(1.0, f64::from(u32::MAX)) as u32;
        // A short dispatch says only that longer ones are possible: the last one is short because nothing is left.
        self.workgroups = if factor > 1.0 { fitting.max(self.workgroups) } else { fitting };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::Conv;

    #[test]
    fn a_grid_is_split_into_equal_dispatches() {
        let problem = ConvProblem::new(Conv::square(1).with_groups(5), 1, 10, 10, [1, 3], DType::F32).unwrap();
        let variant = Variant::taking(&problem).last().unwrap();
        let grid = variant.grid(&problem, 1);
        assert_eq!(grid.workgroups, 5, "one tile for each group");
        let split = |limit| Dispatch::split(&grid, limit).iter().map(|d| (d.first, d.end)).collect::<Vec<_>>();
        assert_eq!(split(u32::MAX), [(0, 5)]);
        assert_eq!(split(4), [(0, 3), (3, 5)]);
        assert_eq!(split(1), [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]);
        assert_eq!(split(0), split(1));
    }

    #[test]
    fn dispatches_grow_and_shrink_towards_the_target() {
        let mut pace = Pace { workgroups: 100, compiled: false };
        for (name, workgroups, milliseconds, expected) in [
            ("compiling says nothing", 100, 2_000, 100),
            ("grows at most fourfold", 100, 1, 400),
            ("fits", 400, 40, 400),
            ("a short rest does not shrink it", 3, 1, 400),
            ("too long", 400, 80, 200),
            ("much too long", 200, 10_000, 20),
        ] {
            pace.took(workgroups, Duration::from_millis(milliseconds));
            assert_eq!(pace.workgroups, expected, "{name}");
        }
    }
}
