//! What an adapter reaches at most: shaders that do nothing but multiply-adds, or nothing but copying.

use std::time::Duration;

use super::data;
use super::gpu::{ALIGNMENT, Bound, Gpu, GpuError, PARAMS_BYTES, POOL_BLOCK};
use super::run::{Dispatch, Pace};
use super::timing::{Chain, Sample, Timing};
use super::variant::{ROW_LENGTH, with_elements};
use crate::profile::roof::RoofKind;
use crate::profile::sampling::{Time, Timed};
use crate::tensor::DType;
use crate::units::{Bytes, Flops};

/// The source of each shader that measures a limit, with its file's name.
pub const ROOF_SOURCES: [(&str, &str); 2] = [
    ("roof_fma.wgsl", include_str!("../../../shaders/roof_fma.wgsl")),
    ("roof_copy.wgsl", include_str!("../../../shaders/roof_copy.wgsl")),
];

/// A limit of an adapter, ready to be measured.
#[derive(Debug)]
pub struct Ceiling {
    chain: Chain,
    shader: &'static str,
    variant: String,
    amount: u64,
}

/// Why a limit cannot be measured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CeilingError {
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
    /// The shader has not done what it should.
    #[error("`{shader}` gives a wrong result on adapter `{adapter}`: {found} instead of {expected} at {index}")]
    Wrong {
        /// Name of the adapter.
        adapter: String,
        /// The shader.
        shader: &'static str,
        /// Where.
        index: usize,
        /// What it gives there.
        found: String,
        /// What is right.
        expected: String,
    },
}

/// Invocations of a workgroup.
const WORKGROUP: u32 = 64;
/// Multiply-adds of one vector one after the other, and how often that is repeated.
const STEPS: u32 = 256;
const ROUNDS: u32 = 16;
/// Independent vectors of an invocation that are tried. Too few wait for each other, too many do not fit into registers.
const CHAINS: [u32; 5] = [2, 3, 4, 6, 8];
/// Samples of each number of vectors while they are tried.
const TRIAL_SAMPLES: u32 = 4;
/// Workgroups of multiply-adds in a sample: enough for every processor of a large GPU to have some.
const WORKGROUPS: u32 = 16_384;
const WORKGROUPS_SOFTWARE: u32 = 64;
/// Vectors that an invocation copies.
const VECTORS: u32 = 16;
/// Bytes that are copied, where the adapter allows it: more than the last cache of nearly every device.
const COPIED: u64 = 256 << 20;
/// Bytes that a workgroup copies.
const PER_WORKGROUP: u64 = (WORKGROUP * VECTORS) as u64 * 16;
/// Workgroups of the first dispatch, when nothing is known yet.
const FIRST: u32 = 8;
const FIRST_ON_GPU: u32 = 1024;

impl Gpu {
    /// Checks and warms up the shader that shows what the adapter reaches at most in this precision.
    ///
    /// Arithmetic: multiply-adds on several independent vectors, as many as prove the fastest. Bandwidth: a copy of a
    /// buffer that no cache holds, which reads and writes every byte once.
    ///
    /// # Errors
    /// If the adapter fails, does not compute with such elements, or gives a wrong result.
    pub fn prepare_roof(&self, kind: RoofKind, dtype: DType) -> Result<Ceiling, CeilingError> {
        if !self.supports(dtype) {
            return Err(CeilingError::Elements { adapter: self.name().to_owned(), dtype });
        }
        match kind {
            RoofKind::Arithmetic => self.fastest_arithmetic(dtype),
            RoofKind::Bandwidth => self.copying(dtype),
        }
    }

    fn fastest_arithmetic(&self, dtype: DType) -> Result<Ceiling, CeilingError> {
        let mut fastest: Option<(f64, Ceiling)> = None;
        for chains in CHAINS {
            let mut ceiling = self.arithmetic(chains, dtype)?;
            let mut least: Option<Duration> = None;
            for _ in 0..TRIAL_SAMPLES {
                if let Sample::Taken(time) = ceiling.chain.sample()? {
                    least = Some(least.map_or(time, |least| least.min(time)));
                }
            }
            let rate = least.map_or(0.0, |time| ceiling.amount as f64 / time.as_secs_f64());
            if fastest.as_ref().is_none_or(|(best, _)| rate > *best) {
                fastest = Some((rate, ceiling));
            }
        }
        // There is at least one number of vectors to try.
        fastest.map(|(_, ceiling)| ceiling).map_or_else(|| self.arithmetic(1, dtype), Ok)
    }

    fn arithmetic(&self, chains: u32, dtype: DType) -> Result<Ceiling, CeilingError> {
        let (shader, source) = ROOF_SOURCES[0];
        let workgroups = if self.is_software() { WORKGROUPS_SOFTWARE } else { WORKGROUPS };
        let doing = format!("measuring multiply-adds, {chains} vectors");
        let constants = [
            ("CHAINS", f64::from(chains)),
            ("STEPS", f64::from(STEPS)),
            ("ROUNDS", f64::from(ROUNDS)),
            ("WORKGROUP", f64::from(WORKGROUP)),
        ];
        let pipeline = self.compiled(shader, with_elements(source, dtype), &constants)?;
        let ones = self.buffer(&doing, ALIGNMENT, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST)?;
        self.write(&doing, &ones, &data::encode(&[1.0; 32], dtype))?;
        let bytes = u64::from(workgroups * WORKGROUP) * 4;
        let work =
            Work { doing, pipeline, input: (ones.clone(), ALIGNMENT), weight: (ones, ALIGNMENT), bytes, workgroups };
        let (chain, output) = work.checked_chain(self)?;
        let found = data::decode(&self.read(&work.doing, &output, bytes)?, DType::F32);
        // Invocations begin with eight different numbers, in turn.
        let expected: [f32; 8] = std::array::from_fn(|first| {
            let rounds = (0..ROUNDS).map(|round| first as u32 + round % 8);
            let sums = rounds.flat_map(|start| (0..chains).map(move |k| 4 * (start + k + STEPS)));
            sums.sum::<u32>() as f32
        });
        const { assert!(WORKGROUP.is_multiple_of(8)) };
        if let Some((index, found)) = found.iter().enumerate().find(|&(index, &found)| found != expected[index % 8]) {
            let (found, expected) = (found.to_string(), expected[index % 8].to_string());
            return Err(CeilingError::Wrong { adapter: self.name().to_owned(), shader, index, found, expected });
        }
        let each = u64::from(ROUNDS * STEPS * chains * 4);
        let amount = Flops::from_multiply_adds(each * u64::from(workgroups * WORKGROUP)).0;
        Ok(Ceiling { chain, shader: "roof_fma", variant: format!("{chains} vectors"), amount })
    }

    fn copying(&self, dtype: DType) -> Result<Ceiling, CeilingError> {
        let (shader, source) = ROOF_SOURCES[1];
        let bytes = COPIED.min(self.max_binding().0) / PER_WORKGROUP * PER_WORKGROUP;
        let workgroups = u32::try_from(bytes / PER_WORKGROUP).unwrap_or(u32::MAX);
        let constants = [("VECTORS", f64::from(VECTORS)), ("WORKGROUP", f64::from(WORKGROUP))];
        let pipeline = self.compiled(shader, source.to_owned(), &constants)?;
        let input = (self.pool(dtype, bytes)?, bytes);
        let doing = format!("copying {}", Bytes(bytes));
        let work = Work { doing, pipeline, weight: (input.0.clone(), ALIGNMENT), input, bytes, workgroups };
        let (chain, output) = work.checked_chain(self)?;
        // The pool is the same block again and again.
        let block = data::encode(&data::values(0, POOL_BLOCK / dtype.size()), dtype);
        for begin in [0, bytes / 2 / POOL_BLOCK * POOL_BLOCK, (bytes - 1) / POOL_BLOCK * POOL_BLOCK] {
            let copied = self.read_at(&work.doing, &output, begin, POOL_BLOCK.min(bytes - begin))?;
            if let Some(at) = copied.iter().zip(&block).position(|(copied, original)| copied != original) {
                let (found, expected) = (copied[at].to_string(), block[at].to_string());
                let index = begin as usize + at;
                return Err(CeilingError::Wrong { adapter: self.name().to_owned(), shader, index, found, expected });
            }
        }
        Ok(Ceiling { chain, shader: "roof_copy", variant: Bytes(bytes).to_string(), amount: 2 * bytes })
    }
}

/// A shader with what it works on.
struct Work {
    doing: String,
    pipeline: wgpu::ComputePipeline,
    input: (wgpu::Buffer, u64),
    weight: (wgpu::Buffer, u64),
    /// Bytes of its output.
    bytes: u64,
    workgroups: u32,
}

impl Work {
    /// Runs all of it once, in dispatches of bounded length; the chain to time it by, and the output.
    fn checked_chain(&self, gpu: &Gpu) -> Result<(Chain, wgpu::Buffer), GpuError> {
        let doing = &self.doing;
        let storage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let output = gpu.buffer(doing, self.bytes, storage)?;
        let params = gpu.buffer(doing, PARAMS_BYTES, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST)?;
        let bound = Bound {
            input: (&self.input.0, self.input.1),
            weight: (&self.weight.0, self.weight.1),
            output: (&output, self.bytes),
            params: &params,
        };
        let bindings = gpu.bind(doing, &bound)?;
        let mut pace = Pace::starting(if gpu.is_software() { FIRST } else { FIRST_ON_GPU });
        let mut first = 0;
        while first < self.workgroups {
            let end = first.saturating_add(pace.workgroups()).min(self.workgroups);
            gpu.write(doing, &params, bytemuck::cast_slice(&[first, end, ROW_LENGTH]))?;
            let elapsed = gpu.submit(doing, |encoder| {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                pass.set_pipeline(&self.pipeline);
                pass.set_bind_group(0, &bindings, &[0, 0, 0, 0]);
                Dispatch { first, end }.record(&mut pass);
            })?;
            pace.took(end - first, elapsed);
            first = end;
        }
        let chain =
            Chain::of_one(gpu, doing.clone(), self.pipeline.clone(), &bound, self.workgroups, pace.workgroups())?;
        Ok((chain, output))
    }
}

impl Ceiling {
    /// Name of the shader: `roof_fma`.
    pub fn shader(&self) -> &str {
        self.shader
    }

    /// Which form of it: `4 vectors`.
    pub fn variant(&self) -> &str {
        &self.variant
    }

    /// Operations, or bytes read and written, that a sample is the time of.
    pub fn amount(&self) -> u64 {
        self.amount
    }

    /// How samples are taken.
    pub fn timing(&self) -> Timing {
        self.chain.timing()
    }
}

impl Timed for Ceiling {
    type Error = GpuError;

    fn sample(&mut self) -> Result<Option<Time>, GpuError> {
        let sample = self.chain.sample()?;
        Ok(self.chain.time_of(sample))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::shader::variant::ELEMENT_ALIAS;

    #[test]
    fn what_is_replaced_in_a_source_stands_there_once() {
        assert_eq!(ROOF_SOURCES[0].1.matches(ELEMENT_ALIAS).count(), 1);
    }
}
