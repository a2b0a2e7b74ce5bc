//! A model ready to run on one provider.
//!
//! A session is strict: its provider loads or the session is not made, and unless [`Options::cpu_fallback`] allows it, a
//! model of which parts would run on the CPU instead is refused. With [`Options::record_placement`] set,
//! [`Session::placement`] tells afterwards which node ran where.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::num::NonZero;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Instant;

use half::{bf16, f16};
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::{AutoDevicePolicy, GraphOptimizationLevel, SessionBuilder};
use ort::session::{IoBinding, SessionInputValue};
use ort::value::{DynValue, Outlet, TensorElementType, TensorRef, ValueType};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use thiserror::Error;

use super::provider::{self, Provider, ProviderError};
use super::record::{self, NodeRecord};
use super::{Runtime, take_log};
use crate::tensor::array::{Array, Data, ElementType, each};
use crate::tensor::{DType, Tensor};

/// A recorded placement is read up to this many bytes.
const PLACEMENT_LIMIT: u64 = 256 << 20;

/// How a session is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What computes.
    pub provider: Provider,
    /// Threads that work on one node; `None` leaves the number to ONNX Runtime, which takes the physical cores.
    pub threads: Option<NonZero<usize>>,
    /// How far the graph is rewritten before it runs.
    pub optimization: Optimization,
    /// Whether nodes that the provider cannot compute may run on the CPU. They still can be counted.
    pub cpu_fallback: bool,
    /// Whether to record which node runs where, for [`Session::placement`]. Costs a little time in every run.
    pub record_placement: bool,
    /// Folder in which the record is kept while the session lives; `None` for the system's temporary one.
    pub scratch: Option<PathBuf>,
    /// Folder with the weights of a model in memory that has some in files; `None` if it has none.
    pub weights: Option<PathBuf>,
}

impl Options {
    /// Strictly on this provider; threads and optimization as ONNX Runtime does by default.
    pub fn on(provider: Provider) -> Self {
        Self {
            provider,
            threads: None,
            optimization: Optimization::All,
            cpu_fallback: false,
            record_placement: false,
            scratch: None,
            weights: None,
        }
    }
}

/// How far ONNX Runtime rewrites a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Optimization {
    /// Not at all.
    None,
    /// What is redundant is removed and constants are folded.
    Basic,
    /// Nodes are fused as well.
    Extended,
    /// The memory layout is changed as well.
    All,
}

/// An input or output of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Type of its elements; `None` for a type that [`Tensor`] has no name for, or no tensor at all.
    pub dtype: Option<DType>,
    /// Type of its elements; `None` for a type that [`Array`] has no name for, or no tensor at all.
    pub element: Option<ElementType>,
    /// Its dimensions, outermost first; none for what is no tensor.
    pub dims: Vec<PortDim>,
    /// Its type as ONNX Runtime writes it.
    pub ty: String,
}

/// One dimension of an input or output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PortDim {
    /// A size.
    Fixed(u32),
    /// A size that is free until the model runs; all dimensions of the same name have the same size.
    Named(String),
    /// A size that is free until the model runs.
    Unknown,
}

/// Why a session could not be made.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The provider cannot be used here.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The model is refused.
    #[error("ONNX Runtime refuses the model: {message}")]
    Model {
        /// What ONNX Runtime says.
        message: String,
    },
    /// The options are refused.
    #[error("ONNX Runtime refuses an option of the session: {message}")]
    Option {
        /// What ONNX Runtime says.
        message: String,
    },
    /// The folder for the record of placements cannot be made.
    #[error("no temporary folder can be made: {0}")]
    TemporaryFolder(io::Error),
}

/// Why a model did not run.
#[derive(Debug, Error)]
pub enum RunError {
    /// The model has no input of this name.
    #[error("the model has no input `{name}`; it has {}", listed(.inputs))]
    NoSuchInput {
        /// The name given.
        name: String,
        /// The inputs the model has.
        inputs: Vec<String>,
    },
    /// An input was not given.
    #[error("the model's input `{name}` is not given")]
    MissingInput {
        /// The input.
        name: String,
    },
    /// An input or output has elements that are not converted to or from single precision.
    #[error("`{name}` is {ty}; only f32, f16 and bf16 are read and written")]
    ElementType {
        /// The input or output.
        name: String,
        /// Its type.
        ty: String,
    },
    /// The run failed.
    #[error("ONNX Runtime fails to run the model: {message}")]
    Failed {
        /// What ONNX Runtime says.
        message: String,
    },
}

/// Why it is not known where the nodes ran.
#[derive(Debug, Error)]
pub enum PlacementError {
    /// The session was made without [`Options::record_placement`].
    #[error("the session does not record where its nodes run")]
    NotRecorded,
    /// ONNX Runtime did not write its record.
    #[error("ONNX Runtime fails to write where its nodes ran: {message}")]
    NotWritten {
        /// What ONNX Runtime says.
        message: String,
    },
    /// The record cannot be read.
    #[error("the record of where nodes ran cannot be read: {0}")]
    Unreadable(io::Error),
    /// The record is not in the form expected.
    #[error("the record of where nodes ran cannot be understood: {0}")]
    Form(serde_json::Error),
}

fn listed(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A model that is ready to run.
#[derive(Debug)]
pub struct Session {
    session: ort::session::Session,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    provider: Provider,
    record: Option<TempDir>,
}

impl Session {
    /// Makes a session of a model in memory. Weights in files are looked for in [`Options::weights`].
    ///
    /// # Errors
    /// If the provider cannot be used, or ONNX Runtime refuses the model.
    pub fn from_bytes(runtime: &Runtime, model: &[u8], options: &Options) -> Result<Self, SessionError> {
        Self::make(runtime, options, |builder| builder.commit_from_memory(model))
    }

    /// Makes a session of a model in a file, with its weights beside it if it has some there.
    ///
    /// # Errors
    /// As for [`Session::from_bytes`].
    pub fn from_file(runtime: &Runtime, path: &Path, options: &Options) -> Result<Self, SessionError> {
        Self::make(runtime, options, |builder| builder.commit_from_file(path))
    }

    fn make(
        runtime: &Runtime,
        options: &Options,
        commit: impl FnOnce(&mut SessionBuilder) -> ort::Result<ort::session::Session>,
    ) -> Result<Self, SessionError> {
        let record = options.record_placement.then(|| {
            let scratch = options.scratch.clone().unwrap_or_else(std::env::temp_dir);
            tempfile::Builder::new().prefix("bbc-").tempdir_in(scratch)
        });
        let record = record.transpose().map_err(SessionError::TemporaryFolder)?;
        let builder = configured(runtime, options, record.as_ref().map(TempDir::path))
            .map_err(|error| SessionError::Option { message: error.message().to_owned() })?;
        let mut builder = provider::register(runtime, builder, options.provider)?;
        take_log();
        let session = guarded(|| {
            let session = commit(&mut builder)?;
            let ports = |outlets: &[Outlet]| outlets.iter().map(Port::of).collect::<Vec<_>>();
            let (inputs, outputs) = (ports(session.inputs()), ports(session.outputs()));
            Ok((session, inputs, outputs))
        });
        let (session, inputs, outputs) = session.map_err(|message| {
            // Drivers and devices are looked at only now.
            match ProviderError::of(options.provider, &with_log(message.clone())) {
                error if options.provider != Provider::Cpu && error.cause.is_known() => SessionError::Provider(error),
                _ => SessionError::Model { message },
            }
        })?;
        Ok(Self { session, inputs, outputs, provider: options.provider, record })
    }

    /// The model's inputs, in its order.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// The model's outputs, in its order.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// What computes.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// The model's own metadata: keys and values, sorted by key.
    ///
    /// # Errors
    /// If ONNX Runtime cannot give them.
    pub fn metadata(&self) -> Result<Vec<(String, String)>, RunError> {
        guarded(|| {
            let metadata = self.session.metadata()?;
            let mut keys = metadata.custom_keys()?;
            keys.sort();
            Ok(keys.into_iter().filter_map(|key| metadata.custom(&key).map(|value| (key, value))).collect())
        })
        .map_err(|message| RunError::Failed { message })
    }

    /// Runs the model: a tensor for every input, in any order, to a tensor for every output, in the model's order.
    ///
    /// Half precision is converted to single precision and back.
    ///
    /// # Errors
    /// If inputs are missing or unknown, shapes do not fit, or ONNX Runtime fails.
    pub fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<(String, Tensor)>, RunError> {
        self.check_names(inputs)?;
        let values = inputs.iter().map(|&(name, tensor)| Ok((name, self.input_value(name, tensor)?)));
        let values = values.collect::<Result<Vec<_>, RunError>>()?;
        let ports = &self.outputs;
        let session = &mut self.session;
        guarded(|| {
            let outputs = session.run(values)?;
            Ok(outputs.values().zip(ports).map(|(value, port)| read(port, &value)).collect::<Vec<_>>())
        })
        .map_err(|message| RunError::Failed { message })?
        .into_iter()
        .collect()
    }

    /// Runs the model on tensors of any element type; outputs keep theirs.
    ///
    /// # Errors
    /// As for [`Session::run`]; an output that is no tensor of numbers is one as well.
    pub fn run_arrays(&mut self, inputs: &[(&str, &Array)]) -> Result<Vec<(String, Array)>, RunError> {
        self.check_names(inputs)?;
        let values = inputs.iter().map(|&(name, array)| {
            let value = guarded(|| value_of(array)).map_err(|message| RunError::Failed { message })?;
            Ok((name, SessionInputValue::Owned(value)))
        });
        let values = values.collect::<Result<Vec<_>, RunError>>()?;
        let ports = &self.outputs;
        let session = &mut self.session;
        let outputs = guarded(|| {
            let outputs = session.run(values)?;
            let read = |(value, port): (&DynValue, &Port)| Ok((port.name.clone(), array_of(port, value)?));
            Ok(outputs.values().zip(ports).map(|(value, port)| read((&value, port))).collect::<Vec<_>>())
        });
        outputs.map_err(|message| RunError::Failed { message })?.into_iter().collect()
    }

    /// Prepares repeated runs on these inputs: they are moved to the provider's device once, and outputs stay there.
    ///
    /// # Errors
    /// As for [`Session::run`].
    pub fn bind(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Bound<'_>, RunError> {
        self.check_names(inputs)?;
        let values = inputs.iter().map(|&(name, tensor)| Ok((name, owned(self.port(name)?, tensor)?)));
        let values = values.collect::<Result<Vec<_>, RunError>>()?;
        let provider = self.provider;
        let binding = guarded(|| {
            let mut binding = self.session.create_binding()?;
            for (name, value) in &values {
                binding.bind_input(*name, value)?;
            }
            let device = output_memory(provider)?;
            for port in &self.outputs {
                binding.bind_output_to_device(port.name.as_str(), &device)?;
            }
            Ok(binding)
        });
        let binding = binding.map_err(|message| RunError::Failed { message })?;
        Ok(Bound { session: self, binding })
    }

    /// Where the nodes ran in all runs so far. Ends the session.
    ///
    /// # Errors
    /// If the session does not record it, or the record cannot be read.
    pub fn placement(self) -> Result<Placement, PlacementError> {
        self.record().map(Placement::of)
    }

    /// The nodes of all runs so far, with their times. Ends the session.
    ///
    /// # Errors
    /// If the session does not record them, or the record cannot be read.
    pub fn record(mut self) -> Result<Vec<NodeRecord>, PlacementError> {
        let Some(_folder) = self.record.take() else { return Err(PlacementError::NotRecorded) };
        let path =
            guarded(|| self.session.end_profiling()).map_err(|message| PlacementError::NotWritten { message })?;
        drop(self.session);
        let mut json = Vec::new();
        let file = File::open(path).map_err(PlacementError::Unreadable)?;
        file.take(PLACEMENT_LIMIT).read_to_end(&mut json).map_err(PlacementError::Unreadable)?;
        record::from_json(&json).map_err(PlacementError::Form)
    }

    fn check_names<T>(&self, inputs: &[(&str, T)]) -> Result<(), RunError> {
        for (name, _) in inputs {
            self.port(name)?;
        }
        match self.inputs.iter().find(|port| !inputs.iter().any(|(name, _)| *name == port.name)) {
            Some(port) => Err(RunError::MissingInput { name: port.name.clone() }),
            None => Ok(()),
        }
    }

    fn port(&self, name: &str) -> Result<&Port, RunError> {
        self.inputs.iter().find(|port| port.name == name).ok_or_else(|| RunError::NoSuchInput {
            name: name.to_owned(),
            inputs: self.inputs.iter().map(|port| port.name.clone()).collect(),
        })
    }

    /// The tensor as the input takes it; not copied if it is in single precision.
    fn input_value<'t>(&self, name: &str, tensor: &'t Tensor) -> Result<SessionInputValue<'t>, RunError> {
        let port = self.port(name)?;
        if port.dtype == Some(DType::F32) {
            let view = guarded(|| TensorRef::from_array_view((shape_of(tensor), tensor.data())));
            return Ok(view.map_err(|message| RunError::Failed { message })?.into());
        }
        Ok(SessionInputValue::Owned(owned(port, tensor)?))
    }
}

/// A session with its inputs in place, for repeated runs.
#[derive(Debug)]
pub struct Bound<'s> {
    session: &'s mut Session,
    binding: IoBinding,
}

impl Bound<'_> {
    /// Runs once and waits for the end.
    ///
    /// # Errors
    /// If ONNX Runtime fails.
    pub fn run(&mut self) -> Result<(), RunError> {
        let run = guarded(|| self.session.session.run_binding(&self.binding).map(drop));
        run.map_err(|message| RunError::Failed { message })
    }

    /// Runs so many times; the wall time of each run, in nanoseconds.
    ///
    /// # Errors
    /// If ONNX Runtime fails.
    pub fn time(&mut self, runs: usize) -> Result<Vec<u64>, RunError> {
        let mut samples = Vec::with_capacity(runs.min(1 << 20));
        for _ in 0..runs {
            let start = Instant::now();
            self.run()?;
            samples.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        Ok(samples)
    }
}

/// Which provider each node ran on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// Every node that ran, once.
    pub nodes: Vec<PlacedNode>,
}

/// A node of the graph that ONNX Runtime made of the model, and where it ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedNode {
    /// Its name.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// The provider, as ONNX Runtime names it: `CPUExecutionProvider`.
    pub provider: String,
}

impl Placement {
    /// Where the nodes of a record ran.
    pub fn of(record: Vec<NodeRecord>) -> Self {
        let placed = |NodeRecord { name, op, provider, .. }: NodeRecord| PlacedNode { name, op, provider };
        Self { nodes: record.into_iter().map(placed).collect() }
    }

    /// The nodes that ran on another provider than this one.
    pub fn elsewhere(&self, provider: Provider) -> impl Iterator<Item = &PlacedNode> {
        self.nodes.iter().filter(move |node| node.provider != provider.ort_name())
    }
}

impl Port {
    fn of(outlet: &Outlet) -> Self {
        let ty = outlet.dtype();
        let (element, dims) = match ty {
            ValueType::Tensor { ty, shape, dimension_symbols } => {
                let symbol = |i: usize| dimension_symbols.get(i).filter(|name| !name.is_empty()).cloned();
                let dims = shape.iter().enumerate().map(|(i, &size)| match u32::try_from(size) {
                    Ok(size) => PortDim::Fixed(size),
                    Err(_) => symbol(i).map_or(PortDim::Unknown, PortDim::Named),
                });
                (element_of(*ty), dims.collect())
            }
            ValueType::Sequence(_) | ValueType::Map { .. } | ValueType::Optional(_) => (None, Vec::new()),
        };
        Self { name: outlet.name().to_owned(), dtype: element.and_then(dtype_of), element, dims, ty: ty.to_string() }
    }
}

fn configured(runtime: &Runtime, options: &Options, record: Option<&Path>) -> ort::Result<SessionBuilder> {
    let level = match options.optimization {
        Optimization::None => GraphOptimizationLevel::Disable,
        Optimization::Basic => GraphOptimizationLevel::Level1,
        Optimization::Extended => GraphOptimizationLevel::Level2,
        Optimization::All => GraphOptimizationLevel::All,
    };
    // Nothing is registered that was not asked for.
    let mut builder = ort::session::Session::builder(runtime.environment())?
        .with_auto_device(AutoDevicePolicy::PreferCPU)?
        .with_optimization_level(level)?;
    if let Some(threads) = options.threads {
        builder = builder.with_intra_threads(threads.get())?;
    }
    // Several sessions live at once: the threads of one that has finished its run would take the processor from the others.
    builder = builder.with_config_entry("session.force_spinning_stop", "1")?;
    if !options.cpu_fallback && options.provider != Provider::Cpu {
        builder = builder.with_disable_cpu_fallback()?;
    }
    if let Some(folder) = options.weights.as_deref().and_then(Path::to_str) {
        builder = builder.with_config_entry("session.model_external_initializers_file_folder_path", folder)?;
    }
    if let Some(folder) = record {
        builder = builder.with_profiling(folder.join("record"))?;
    }
    Ok(builder)
}

/// Calls into ONNX Runtime; the message of its error.
///
/// The binding panics on types it does not expect, which a model can bring about: that is an error as any other.
fn guarded<T>(call: impl FnOnce() -> ort::Result<T>) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                hook(panic);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(call));
    GUARDED.set(outer);
    match result {
        Ok(result) => result.map_err(|error| error.message().to_owned()),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Err(format!("the binding gives up on it: {}", said.unwrap_or("it does not say why")))
        }
    }
}

thread_local! {
    /// Whether this thread calls into the binding, whose panics are not to be printed.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// What the library wrote to its log, behind the message it returned.
pub(super) fn with_log(message: String) -> String {
    let mut lines = vec![message];
    for line in take_log() {
        if !lines.iter().any(|known| known.contains(&line)) {
            lines.push(line);
        }
    }
    lines.join("\n")
}

fn shape_of(tensor: &Tensor) -> Vec<i64> {
    tensor.shape().iter().map(|&n| i64::from(n)).collect()
}

/// The tensor with the elements that the input takes.
fn owned(port: &Port, tensor: &Tensor) -> Result<DynValue, RunError> {
    let (shape, data) = (shape_of(tensor), tensor.data());
    let value = match port.dtype {
        Some(DType::F32) => guarded(|| Ok(ort::value::Tensor::from_array((shape, data.to_vec()))?.into_dyn())),
        Some(DType::F16) => {
            let data: Vec<f16> = data.iter().map(|&x| f16::from_f32(x)).collect();
            guarded(|| Ok(ort::value::Tensor::from_array((shape, data))?.into_dyn()))
        }
        Some(DType::BF16) => {
            let data: Vec<bf16> = data.iter().map(|&x| bf16::from_f32(x)).collect();
            guarded(|| Ok(ort::value::Tensor::from_array((shape, data))?.into_dyn()))
        }
        Some(DType::I8) | None => {
            return Err(RunError::ElementType { name: port.name.clone(), ty: port.ty.clone() });
        }
    };
    value.map_err(|message| RunError::Failed { message })
}

/// An output in single precision.
fn read(port: &Port, value: &DynValue) -> Result<(String, Tensor), RunError> {
    let failed = |message: String| RunError::Failed { message };
    let ort_failed = |error: ort::Error| failed(error.message().to_owned());
    let (shape, data) = match value.dtype().tensor_type() {
        Some(TensorElementType::Float32) => {
            let (shape, data) = value.try_extract_tensor::<f32>().map_err(ort_failed)?;
            (shape, data.to_vec())
        }
        Some(TensorElementType::Float16) => {
            let (shape, data) = value.try_extract_tensor::<f16>().map_err(ort_failed)?;
            (shape, data.iter().map(|x| x.to_f32()).collect())
        }
        Some(TensorElementType::Bfloat16) => {
            let (shape, data) = value.try_extract_tensor::<bf16>().map_err(ort_failed)?;
            (shape, data.iter().map(|x| x.to_f32()).collect())
        }
        _ => return Err(RunError::ElementType { name: port.name.clone(), ty: value.dtype().to_string() }),
    };
    let sizes: Result<Vec<u32>, _> = shape.iter().map(|&n| u32::try_from(n)).collect();
    let sizes = sizes.map_err(|_| failed(format!("output `{}` has the shape {:?}", port.name, &shape[..])))?;
    let tensor = Tensor::new(sizes, data).map_err(|error| failed(error.to_string()))?;
    Ok((port.name.clone(), tensor))
}

/// The memory a provider leaves its outputs in.
fn output_memory(provider: Provider) -> ort::Result<MemoryInfo<'static>> {
    match provider {
        Provider::Cuda | Provider::TensorRt => {
            MemoryInfo::new(AllocationDevice::CUDA, 0, AllocatorType::Device, MemoryType::Default)
        }
        Provider::Cpu | Provider::CoreMl | Provider::DirectMl => {
            MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::CPUOutput)
        }
    }
}

fn dtype_of(ty: ElementType) -> Option<DType> {
    match ty {
        ElementType::F32 => Some(DType::F32),
        ElementType::F16 => Some(DType::F16),
        ElementType::BF16 => Some(DType::BF16),
        ElementType::I8 => Some(DType::I8),
        _ => None,
    }
}

fn element_of(ty: TensorElementType) -> Option<ElementType> {
    Some(match ty {
        TensorElementType::Float32 => ElementType::F32,
        TensorElementType::Float64 => ElementType::F64,
        TensorElementType::Float16 => ElementType::F16,
        TensorElementType::Bfloat16 => ElementType::BF16,
        TensorElementType::Int8 => ElementType::I8,
        TensorElementType::Int16 => ElementType::I16,
        TensorElementType::Int32 => ElementType::I32,
        TensorElementType::Int64 => ElementType::I64,
        TensorElementType::Uint8 => ElementType::U8,
        TensorElementType::Uint16 => ElementType::U16,
        TensorElementType::Uint32 => ElementType::U32,
        TensorElementType::Uint64 => ElementType::U64,
        TensorElementType::Bool => ElementType::Bool,
        _ => return None,
    })
}

/// A tensor of any element type as the library takes it.
fn value_of(array: &Array) -> ort::Result<DynValue> {
    let shape: Vec<i64> = array.shape().iter().map(|&n| i64::from(n)).collect();
    each!(array.data(), values => Ok(ort::value::Tensor::from_array((shape, values.clone()))?.into_dyn()))
}

/// What the library gives, in its own element type.
fn array_of(port: &Port, value: &DynValue) -> Result<Array, RunError> {
    let failed = |message: String| RunError::Failed { message };
    let unknown = || RunError::ElementType { name: port.name.clone(), ty: value.dtype().to_string() };
    macro_rules! of {
        ($variant:ident, $ty:ty) => {{
            let (shape, data) =
                value.try_extract_tensor::<$ty>().map_err(|error| failed(error.message().to_owned()))?;
            (shape.to_vec(), Data::$variant(data.to_vec()))
        }};
    }
    let ty = value.dtype().tensor_type().and_then(element_of).ok_or_else(unknown)?;
    let (shape, data) = match ty {
        ElementType::F32 => of!(F32, f32),
        ElementType::F64 => of!(F64, f64),
        ElementType::F16 => of!(F16, f16),
        ElementType::BF16 => of!(BF16, bf16),
        ElementType::I8 => of!(I8, i8),
        ElementType::I16 => of!(I16, i16),
        ElementType::I32 => of!(I32, i32),
        ElementType::I64 => of!(I64, i64),
        ElementType::U8 => of!(U8, u8),
        ElementType::U16 => of!(U16, u16),
        ElementType::U32 => of!(U32, u32),
        ElementType::U64 => of!(U64, u64),
        ElementType::Bool => of!(Bool, bool),
    };
    let sizes: Result<Vec<u32>, _> = shape.iter().map(|&n| u32::try_from(n)).collect();
    let sizes = sizes.map_err(|_| failed(format!("output `{}` has the shape {shape:?}", port.name)))?;
    Array::new(sizes, data).map_err(|error| failed(error.to_string()))
}
