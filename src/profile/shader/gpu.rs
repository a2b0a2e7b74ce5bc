//! An opened adapter: device and queue, every failure of theirs as an error, and the pipelines made so far.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::adapter::{Adapter, Capabilities};
use super::data;
use super::variant::Variant;
use crate::conv::ConvProblem;
use crate::tensor::DType;
use crate::units::Bytes;

/// An opened adapter. Clones share the device.
#[derive(Debug, Clone)]
pub struct Gpu {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    software: bool,
    timestamps: bool,
    capabilities: Capabilities,
    device: wgpu::Device,
    queue: wgpu::Queue,
    max_binding: Bytes,
    faults: Arc<Faults>,
    bindings: wgpu::BindGroupLayout,
    layout: wgpu::PipelineLayout,
    pipelines: Mutex<HashMap<PipelineKey, wgpu::ComputePipeline>>,
    pools: Mutex<HashMap<DType, wgpu::Buffer>>,
    scratch: Mutex<Option<wgpu::Buffer>>,
}

/// What a pipeline is specialised for: shader, element type, and the bits of its constants.
type PipelineKey = (Variant, DType, Vec<u64>);

/// Failures that wgpu reports outside of the call that caused them.
#[derive(Debug, Default)]
struct Faults {
    lost: Mutex<Option<String>>,
    uncaptured: Mutex<Option<String>>,
}

/// How to open an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenOptions {
    /// Time by the device's timestamps where it has them; otherwise by the host's clock.
    pub timestamps: bool,
    /// Largest part of a buffer that a shader is to see, as far as the adapter allows; a batch is cut to it.
    pub max_binding: Bytes,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { timestamps: true, max_binding: Bytes(u64::MAX) }
    }
}

/// What went wrong on an adapter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// The adapter gives no device.
    #[error("cannot open adapter `{adapter}`: {reason}")]
    Open {
        /// Name of the adapter.
        adapter: String,
        /// In the words of the driver or of wgpu.
        reason: String,
    },
    /// The device stopped working: reset, unplugged, or hung.
    #[error("adapter `{adapter}` was lost while {doing}: {reason}")]
    Lost {
        /// Name of the adapter.
        adapter: String,
        /// What it was asked to do.
        doing: String,
        /// In the words of the driver or of wgpu.
        reason: String,
    },
    /// Its memory does not suffice.
    #[error("adapter `{adapter}` ran out of memory while {doing}")]
    OutOfMemory {
        /// Name of the adapter.
        adapter: String,
        /// What it was asked to do.
        doing: String,
    },
    /// A call was refused, or failed in the driver.
    #[error("adapter `{adapter}` failed while {doing}: {reason}")]
    Failed {
        /// Name of the adapter.
        adapter: String,
        /// What it was asked to do.
        doing: String,
        /// In the words of the driver or of wgpu.
        reason: String,
    },
    /// It did not finish in time.
    #[error("adapter `{adapter}` did not finish {doing} within {} s", limit.as_secs())]
    Timeout {
        /// Name of the adapter.
        adapter: String,
        /// What it was asked to do.
        doing: String,
        /// How long was waited.
        limit: Duration,
    },
}

/// Longest wait for one submission, the compiling of its shader included.
const PATIENCE: Duration = Duration::from_secs(60);
/// Memory that inputs and weights are rotated through: more than the last cache of nearly every device.
const POOL_SIZE: u64 = 128 << 20;
/// Part of the pool that is generated; the rest repeats it.
pub(super) const POOL_BLOCK: u64 = 4 << 20;
/// Alignment of every offset into a buffer: the greatest any device asks for.
pub(super) const ALIGNMENT: u64 = 256;

impl Gpu {
    /// Opens an adapter, with timestamps and half precision where it has them.
    ///
    /// # Errors
    /// If the driver gives no device.
    pub fn open(adapter: &Adapter) -> Result<Self, GpuError> {
        Self::open_with(adapter, OpenOptions::default())
    }

    /// Opens an adapter.
    ///
    /// # Errors
    /// If the driver gives no device.
    pub fn open_with(adapter: &Adapter, options: OpenOptions) -> Result<Self, GpuError> {
        let timestamps = options.timestamps && adapter.capabilities.timestamps;
        let mut features = wgpu::Features::empty();
        features.set(wgpu::Features::TIMESTAMP_QUERY, timestamps);
        features.set(wgpu::Features::SHADER_F16, adapter.capabilities.f16);
        features.set(wgpu::Features::SUBGROUP, adapter.capabilities.subgroups);
        let limits = needed_limits(&adapter.inner.limits());
        let max_binding = options.max_binding.0.min(limits.max_storage_buffer_binding_size).min(limits.max_buffer_size);
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("bbc"),
            required_features: features,
            required_limits: limits,
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.inner.request_device(&descriptor))
            .map_err(|error| GpuError::Open { adapter: adapter.name.clone(), reason: chain(&error) })?;
        let faults = Arc::new(Faults::default());
        watch(&device, &faults);
        let bindings = device.create_bind_group_layout(&binding_layout());
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some("conv"),
            bind_group_layouts: &[Some(&bindings)],
            immediate_size: 0,
        });
        let gpu = Self {
            inner: Arc::new(Inner {
                name: adapter.name.clone(),
                software: adapter.is_software(),
                timestamps,
                capabilities: adapter.capabilities,
                device,
                queue,
                max_binding: Bytes(max_binding / ALIGNMENT * ALIGNMENT),
                faults,
                bindings,
                layout,
                pipelines: Mutex::default(),
                pools: Mutex::default(),
                scratch: Mutex::default(),
            }),
        };
        gpu.guarded("opening", |_| ())?;
        Ok(gpu)
    }

    /// Name of the adapter.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Whether the processor acts as a GPU here.
    pub fn is_software(&self) -> bool {
        self.inner.software
    }

    /// Whether the device's own timestamps are used.
    pub fn has_timestamps(&self) -> bool {
        self.inner.timestamps
    }

    /// Whether shaders can compute with these elements here.
    pub fn supports(&self, dtype: DType) -> bool {
        match dtype {
            DType::F32 => true,
            DType::F16 => self.inner.capabilities.f16,
            DType::BF16 | DType::I8 => false,
        }
    }

    /// Whether `variant` can compute `problem` here, memory aside.
    pub fn takes(&self, variant: Variant, problem: &ConvProblem) -> bool {
        let dtype = problem.dtype();
        self.supports(dtype) && variant.takes(problem) && variant.fits(self.capabilities(), dtype)
    }

    /// What the shaders can make use of here.
    pub fn capabilities(&self) -> &Capabilities {
        &self.inner.capabilities
    }

    pub(super) fn queue(&self) -> &wgpu::Queue {
        &self.inner.queue
    }

    /// Largest part of a buffer that a shader can see.
    pub(super) fn max_binding(&self) -> Bytes {
        self.inner.max_binding
    }

    /// Calls `f` and turns everything that wgpu has to complain about into an error that says what was being done.
    pub(super) fn guarded<T>(&self, doing: &str, f: impl FnOnce(&wgpu::Device) -> T) -> Result<T, GpuError> {
        let device = &self.inner.device;
        let scopes = [wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::Validation]
            .map(|filter| device.push_error_scope(filter));
        let value = f(device);
        // Innermost first: scopes are a stack.
        let mut errors = Vec::new();
        for scope in scopes.into_iter().rev() {
            errors.extend(pollster::block_on(scope.pop()));
        }
        self.check_faults(doing)?;
        match errors.into_iter().next_back() {
            Some(error) => Err(self.error(doing, &error)),
            None => Ok(value),
        }
    }

    fn check_faults(&self, doing: &str) -> Result<(), GpuError> {
        let adapter = || self.inner.name.clone();
        if let Some(reason) = lock(&self.inner.faults.lost).clone() {
            return Err(GpuError::Lost { adapter: adapter(), doing: doing.to_owned(), reason });
        }
        match lock(&self.inner.faults.uncaptured).take() {
            Some(reason) => Err(GpuError::Failed { adapter: adapter(), doing: doing.to_owned(), reason }),
            None => Ok(()),
        }
    }

    fn error(&self, doing: &str, error: &wgpu::Error) -> GpuError {
        let (adapter, doing) = (self.inner.name.clone(), doing.to_owned());
        match error {
            wgpu::Error::OutOfMemory { .. } => GpuError::OutOfMemory { adapter, doing },
            wgpu::Error::Validation { source, .. } | wgpu::Error::Internal { source, .. } => {
                GpuError::Failed { adapter, doing, reason: chain(source.as_ref()) }
            }
        }
    }

    /// Submits the commands that `record` records and waits for them; the time from submitting to their end.
    pub(super) fn submit(
        &self,
        doing: &str,
        record: impl FnOnce(&mut wgpu::CommandEncoder),
    ) -> Result<Duration, GpuError> {
        let (begin, polled) = self.guarded(doing, |device| {
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            record(&mut encoder);
            let commands = encoder.finish();
            let begin = Instant::now();
            let index = self.inner.queue.submit([commands]);
            let wait = wgpu::PollType::Wait { submission_index: Some(index), timeout: Some(PATIENCE) };
            (begin, device.poll(wait).map(|_| begin.elapsed()))
        })?;
        match polled {
            Ok(elapsed) => Ok(elapsed),
            Err(wgpu::PollError::Timeout) => Err(GpuError::Timeout {
                adapter: self.inner.name.clone(),
                doing: doing.to_owned(),
                limit: begin.elapsed(),
            }),
            Err(error) => Err(GpuError::Failed {
                adapter: self.inner.name.clone(),
                doing: doing.to_owned(),
                reason: chain(&error),
            }),
        }
    }

    /// A buffer that shaders can use, of at least `bytes`.
    pub(super) fn buffer(&self, doing: &str, bytes: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer, GpuError> {
        self.guarded(doing, |device| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: bytes.next_multiple_of(ALIGNMENT),
                usage,
                mapped_at_creation: false,
            })
        })
    }

    /// Writes `bytes` to the beginning of `buffer`.
    pub(super) fn write(&self, doing: &str, buffer: &wgpu::Buffer, bytes: &[u8]) -> Result<(), GpuError> {
        self.guarded(doing, |_| self.inner.queue.write_buffer(buffer, 0, bytes))
    }

    /// The first `bytes` of `buffer`, which has to allow copying from it.
    pub(super) fn read(&self, doing: &str, buffer: &wgpu::Buffer, bytes: u64) -> Result<Vec<u8>, GpuError> {
        self.read_at(doing, buffer, 0, bytes)
    }

    /// `bytes` of `buffer` from `offset` on, a multiple of four.
    pub(super) fn read_at(
        &self,
        doing: &str,
        buffer: &wgpu::Buffer,
        offset: u64,
        bytes: u64,
    ) -> Result<Vec<u8>, GpuError> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.buffer(doing, bytes, usage)?;
        let copied = bytes.next_multiple_of(wgpu::COPY_BUFFER_ALIGNMENT);
        self.submit(doing, |encoder| encoder.copy_buffer_to_buffer(buffer, offset, &staging, 0, copied))?;
        let (sender, receiver) = std::sync::mpsc::channel();
        self.guarded(doing, |device| {
            staging.map_async(wgpu::MapMode::Read, ..copied, move |result| {
                // The receiver is gone only if waiting failed, which is reported instead.
                let _ = sender.send(result);
            });
            // Its failure shows as a missing message.
            let _ = device.poll(wgpu::PollType::Wait { submission_index: None, timeout: Some(PATIENCE) });
        })?;
        let failed =
            |reason: String| GpuError::Failed { adapter: self.inner.name.clone(), doing: doing.to_owned(), reason };
        match receiver.try_recv() {
            Ok(Ok(())) => {
                let view = staging.get_mapped_range(..copied).map_err(|error| failed(error.to_string()))?;
                Ok(view[..bytes as usize].to_vec())
            }
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed("the result could not be mapped".to_owned())),
        }
    }

    /// The pipeline of `variant` for problems of this conv and element type; compiled when it is first asked for.
    pub(super) fn pipeline(&self, variant: Variant, problem: &ConvProblem) -> Result<wgpu::ComputePipeline, GpuError> {
        let constants = variant.constants(problem);
        let key = (variant, problem.dtype(), constants.iter().map(|(_, value)| value.to_bits()).collect());
        if let Some(pipeline) = lock(&self.inner.pipelines).get(&key) {
            return Ok(pipeline.clone());
        }
        let pipeline = self.compiled(&variant.to_string(), variant.source(problem.dtype()), &constants)?;
        lock(&self.inner.pipelines).insert(key, pipeline.clone());
        Ok(pipeline)
    }

    /// A shader's pipeline, with these values of its `override` constants.
    pub(super) fn compiled(
        &self,
        name: &str,
        source: String,
        constants: &[(&str, f64)],
    ) -> Result<wgpu::ComputePipeline, GpuError> {
        self.guarded(&format!("compiling `{name}`"), |device| {
            let source = wgpu::ShaderSource::Wgsl(source.into());
            let module = trusted_module(device, wgpu::ShaderModuleDescriptor { label: Some(name), source });
            device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(name),
                layout: Some(&self.inner.layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants,
                    zero_initialize_workgroup_memory: false,
                },
                cache: None,
            })
        })
    }

    /// The five bindings of every shader. Input, weight and parameters take offsets when they are set.
    pub(super) fn bind(&self, doing: &str, bound: &Bound<'_>) -> Result<wgpu::BindGroup, GpuError> {
        let window = |buffer, bytes: u64| {
            wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer,
                offset: 0,
                size: wgpu::BufferSize::new(bytes.next_multiple_of(16)),
            })
        };
        let entries = [
            window(bound.input.0, bound.input.1),
            window(bound.input.0, bound.input.1),
            window(bound.weight.0, bound.weight.1),
            window(bound.output.0, bound.output.1),
            window(bound.params, PARAMS_BYTES),
        ];
        let entries: Vec<_> =
            (0..).zip(entries).map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource }).collect();
        self.guarded(doing, |device| {
            device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &self.inner.bindings,
                entries: &entries,
            })
        })
    }

    /// A buffer full of small pseudo-random elements, of at least `bytes`; shared by all problems.
    pub(super) fn pool(&self, dtype: DType, bytes: u64) -> Result<wgpu::Buffer, GpuError> {
        let doing = "filling memory with input values";
        let mut pools = lock(&self.inner.pools);
        if let Some(pool) = pools.get(&dtype).filter(|pool| pool.size() >= bytes) {
            return Ok(pool.clone());
        }
        let limit = self.inner.capabilities.max_buffer.0 / ALIGNMENT * ALIGNMENT;
        let size = POOL_SIZE.min(limit).max(bytes);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let pool = self.buffer(doing, size, usage)?;
        let block = self.buffer(doing, POOL_BLOCK, wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST)?;
        self.write(doing, &block, &data::encode(&data::values(0, POOL_BLOCK / dtype.size()), dtype))?;
        self.submit(doing, |encoder| {
            for offset in (0..pool.size()).step_by(POOL_BLOCK as usize) {
                encoder.copy_buffer_to_buffer(&block, 0, &pool, offset, POOL_BLOCK.min(pool.size() - offset));
            }
        })?;
        pools.insert(dtype, pool.clone());
        Ok(pool)
    }

    /// A buffer for results that nobody reads, of at least `bytes`; shared by all problems.
    pub(super) fn scratch(&self, bytes: u64) -> Result<wgpu::Buffer, GpuError> {
        let mut scratch = lock(&self.inner.scratch);
        if let Some(buffer) = scratch.as_ref().filter(|buffer| buffer.size() >= bytes) {
            return Ok(buffer.clone());
        }
        let buffer = self.buffer("reserving memory for results", bytes, wgpu::BufferUsages::STORAGE)?;
        *scratch = Some(buffer.clone());
        Ok(buffer)
    }
}

/// Bytes of a shader's `Params`.
pub(super) const PARAMS_BYTES: u64 = 20 * 4;

/// What a shader works on: buffers, with how many bytes of them.
#[derive(Debug)]
pub(super) struct Bound<'a> {
    pub(super) input: (&'a wgpu::Buffer, u64),
    pub(super) weight: (&'a wgpu::Buffer, u64),
    pub(super) output: (&'a wgpu::Buffer, u64),
    pub(super) params: &'a wgpu::Buffer,
}

/// The limits that shaders need, as far as the adapter goes; the portable minimum for all others.
fn needed_limits(adapter: &wgpu::Limits) -> wgpu::Limits {
    wgpu::Limits {
        max_storage_buffer_binding_size: adapter.max_storage_buffer_binding_size,
        max_buffer_size: adapter.max_buffer_size,
        max_compute_workgroup_storage_size: adapter.max_compute_workgroup_storage_size,
        max_compute_invocations_per_workgroup: adapter.max_compute_invocations_per_workgroup,
        max_compute_workgroup_size_x: adapter.max_compute_workgroup_size_x,
        max_compute_workgroup_size_y: adapter.max_compute_workgroup_size_y,
        max_compute_workgroup_size_z: adapter.max_compute_workgroup_size_z,
        max_compute_workgroups_per_dimension: adapter.max_compute_workgroups_per_dimension,
        ..wgpu::Limits::downlevel_defaults()
    }
}

/// Keeps what the device reports outside of calls, in place of wgpu's panic.
fn watch(device: &wgpu::Device, faults: &Arc<Faults>) {
    let kept = Arc::clone(faults);
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        lock(&kept.uncaptured).get_or_insert_with(|| chain(&error));
    }));
    let kept = Arc::clone(faults);
    device.set_device_lost_callback(move |reason, message| match reason {
        wgpu::DeviceLostReason::Unknown => {
            lock(&kept.lost).get_or_insert(message);
        }
        wgpu::DeviceLostReason::Destroyed => {}
    });
}

fn binding_layout() -> wgpu::BindGroupLayoutDescriptor<'static> {
    const fn entry(binding: u32, ty: wgpu::BufferBindingType, has_dynamic_offset: bool) -> wgpu::BindGroupLayoutEntry {
        wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
            count: None,
        }
    }
    const READ: wgpu::BufferBindingType = wgpu::BufferBindingType::Storage { read_only: true };
    const WRITE: wgpu::BufferBindingType = wgpu::BufferBindingType::Storage { read_only: false };
    const ENTRIES: &[wgpu::BindGroupLayoutEntry] = &[
        entry(0, READ, true),
        entry(1, READ, true),
        entry(2, READ, true),
        entry(3, WRITE, false),
        entry(4, wgpu::BufferBindingType::Uniform, true),
    ];
    wgpu::BindGroupLayoutDescriptor { label: Some("conv"), entries: ENTRIES }
}

/// A module without the run-time checks that wgpu adds to shaders of unknown origin.
#[expect(
    unsafe_code,
    reason = "wgpu's loop bounding makes our shaders, whose loops and indices are bounded, much slower"
)]
fn trusted_module(device: &wgpu::Device, descriptor: wgpu::ShaderModuleDescriptor<'_>) -> wgpu::ShaderModule {
    // SAFETY: only the crate's own shaders come here. All their loops end, every index into a private or workgroup array
    // is below its length for the constants in the table of variants, every divisor is positive, and buffers are indexed
    // inside what is bound.
    unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
}

/// An error with its causes, on one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    let mut parts: Vec<String> = Vec::new();
    for text in causes.map(|error| error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")) {
        if parts.last().is_none_or(|last| !last.contains(&text)) {
            parts.push(text);
        }
    }
    parts.join(": ")
}

/// The value behind a lock, whatever happened to another thread that held it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::shader::adapters;

    #[test]
    fn what_wgpu_refuses_is_an_error_and_not_the_end() {
        let Some(adapter) = adapters().into_iter().next() else {
            assert_ne!(std::env::var("BBC_REQUIRE_GPU").as_deref(), Ok("1"), "no adapter was found");
            return;
        };
        let gpu = Gpu::open(&adapter).unwrap();
        let storage = wgpu::BufferUsages::STORAGE;
        let error = gpu.buffer("asking for too much", 1 << 62, storage).unwrap_err();
        let GpuError::Failed { doing, reason, .. } = &error else { panic!("{error:?}") };
        assert_eq!(doing, "asking for too much");
        assert!(reason.contains("4611686018427387904"), "{reason}");
        assert!(!reason.contains('\n'), "{reason}");
        gpu.buffer("asking for little", 256, storage).unwrap();
    }

    /// As when a driver resets it in the middle of measuring.
    #[test]
    fn a_device_that_goes_away_ends_sampling_and_what_was_measured_is_kept() {
        use crate::conv::Conv;
        use crate::profile::sampling::{Budget, sample_rounds};

        let Some(adapter) = adapters().into_iter().next() else { return };
        let gpu = Gpu::open(&adapter).unwrap();
        let problem = |channels| ConvProblem::new(Conv::square(3), 1, channels, 4, [8, 8], DType::F32).unwrap();
        let mut prepared = [3, 4].map(|channels| gpu.prepare(&problem(channels), Duration::ZERO).unwrap());
        let time = Duration::from_secs(60);
        let budget = Budget { time, min_rounds: 5, enough_rounds: 5, max_rounds: 5, precision: 0.0 };
        let error = sample_rounds(&mut prepared, budget, 0, &mut |progress| {
            if progress.rounds == 2 {
                gpu.inner.device.destroy();
            }
        })
        .unwrap_err();
        assert!(matches!(error.source, GpuError::Failed { .. } | GpuError::Lost { .. }), "{:?}", error.source);
        assert_eq!(error.samples.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
    }

    #[test]
    fn causes_are_told_once_and_on_one_line() {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Link(&'static str, #[source] Option<Box<Link>>);
        let link = |text, cause: Link| Link(text, Some(Box::new(cause)));
        let error = link("outer\n  problem", link("middle: inner", Link("inner", None)));
        assert_eq!(chain(&error), "outer problem: middle: inner");
    }

    #[test]
    fn wording() {
        let (adapter, doing, reason) = ("GPU".to_owned(), "timing `x`".to_owned(), "no luck".to_owned());
        let all = [
            GpuError::Open { adapter: adapter.clone(), reason: reason.clone() },
            GpuError::Lost { adapter: adapter.clone(), doing: doing.clone(), reason: reason.clone() },
            GpuError::OutOfMemory { adapter: adapter.clone(), doing: doing.clone() },
            GpuError::Failed { adapter: adapter.clone(), doing: doing.clone(), reason },
            GpuError::Timeout { adapter, doing, limit: PATIENCE },
        ];
        insta::assert_snapshot!(all.map(|error| error.to_string()).join("\n"), @"
        cannot open adapter `GPU`: no luck
        adapter `GPU` was lost while timing `x`: no luck
        adapter `GPU` ran out of memory while timing `x`
        adapter `GPU` failed while timing `x`: no luck
        adapter `GPU` did not finish timing `x` within 60 s
        ");
    }
}
