//! What running a model shows, check by check.
//!
//! It is meant for a process of its own: a model from a stranger may bring the runtime down. Every check is announced
//! before it begins, so that whoever watches the process knows which one ended it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::compare::compare;
use super::divergence;
use super::outcome::{Checked, Compared, Status};
use super::stored::{self, TestSet};
use crate::ir::weight::LeafInit;
use crate::ir::{Seeded, WeightSource};
use crate::onnx::precision::StatedConv;
use crate::precision::{ConvRun, Executed, Expected};
use crate::runtime::Runtime;
use crate::runtime::provider::Provider;
use crate::runtime::record::NodeRecord;
use crate::runtime::session::{Options, Placement, PlacementError, Port, PortDim, RunError, Session, SessionError};
use crate::tensor::array::{Array, Data, ElementType};
use crate::tensor::element_count;

/// Height and width of images, and length of everything else, where the model leaves them free and nothing is given.
const IMAGE: u32 = 224;
const LENGTH: u32 = 16;

/// Batch sizes that a model with a free batch is run at if no others are asked for.
pub const BATCHES: [u32; 3] = [1, 3, 8];

/// Why there is nothing to compare or to store.
const UNRUN: &str = "the model was not run at every batch size";

/// What is to be found out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// The model.
    pub model: PathBuf,
    /// What computes, by its name.
    pub provider: Provider,
    /// Whether the provider was asked for: what ran elsewhere counts then.
    pub prove_provider: bool,
    /// Threads that work on one node.
    pub threads: Option<NonZero<usize>>,
    /// Batch sizes that a model with a free batch is run at, unless its sizes are given; [`BATCHES`] if there are none.
    pub batches: Vec<u32>,
    /// Dimensions of outputs as the file declares them, by name. The runtime knows those that it has worked out itself.
    pub declared: BTreeMap<String, Vec<PortDim>>,
    /// Sizes of inputs that leave some free, by name; `None` for the batch.
    pub sizes: BTreeMap<String, Vec<Option<u32>>>,
    /// Most bytes of an input or output.
    pub max_bytes: u64,
    /// What the outputs are compared with.
    pub reference: Option<Reference>,
    /// What the convolutions are to run in, and what the file says they do.
    pub precision: Option<(Expected, Vec<StatedConv>)>,
    /// Instead of the tolerances that belong to the element types.
    pub rtol: Option<f64>,
    /// Likewise.
    pub atol: Option<f64>,
    /// Whether to find the first tensor in which the model and its reference differ.
    pub first_divergence: bool,
    /// A folder in which inputs and outputs are stored.
    pub golden: Option<PathBuf>,
    /// Folder for what is written meanwhile.
    pub scratch: PathBuf,
}

/// What outputs are compared with.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reference {
    /// What another model makes of the same inputs.
    Model(PathBuf),
    /// Stored sets.
    Sets(PathBuf),
    /// A NumPy archive.
    Archive(PathBuf),
}

/// What is said while the checks are made.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// A check begins.
    Begin(String),
    /// It has ended.
    Done(Box<Checked>),
}

/// The checks, in their order.
pub const CHECKS: [&str; 10] = [
    "load",
    "run",
    "finite",
    "shapes",
    "repeatable",
    "providers",
    "precision",
    "reference",
    "first-divergence",
    "golden",
];

pub(super) type Named = Vec<(String, Array)>;

/// Outputs, each with what is expected of it.
type Pairs<'a> = Vec<(&'a (String, Array), &'a Array)>;

/// Makes the checks and tells what they came to, each as soon as it is known.
pub fn judge(runtime: &Runtime, request: &Request, tell: &mut dyn FnMut(Event)) {
    let mut judge = Judge { runtime, request, tell, told: HashSet::new(), begun: None };
    judge.all();
}

struct Judge<'r> {
    runtime: &'r Runtime,
    request: &'r Request,
    tell: &'r mut dyn FnMut(Event),
    told: HashSet<String>,
    /// When the check began that is being made.
    begun: Option<Instant>,
}

/// A run that went well.
struct Ran {
    batch: u32,
    inputs: Named,
    outputs: Named,
}

impl Judge<'_> {
    fn begin(&mut self, what: &str) {
        self.begun = Some(Instant::now());
        (self.tell)(Event::Begin(what.to_owned()));
    }

    fn done(&mut self, checked: Checked) {
        self.told.insert(checked.name.clone());
        // What was not begun takes no time.
        let seconds = self.begun.take().map(|begun| begun.elapsed().as_secs_f64());
        (self.tell)(Event::Done(Box::new(Checked { seconds, ..checked })));
    }

    /// Says of all checks that were not made why not.
    fn rest(&mut self, why: &str) {
        for name in CHECKS {
            if !self.told.contains(name) {
                (self.tell)(Event::Done(Box::new(Checked::skipped(name, why))));
            }
        }
    }

    fn options(&self) -> Options {
        Options {
            threads: self.request.threads,
            cpu_fallback: true,
            record_placement: true,
            scratch: Some(self.request.scratch.clone()),
            ..Options::on(self.request.provider)
        }
    }

    fn all(&mut self) {
        self.begin("load");
        let mut session = match Session::from_file(self.runtime, &self.request.model, &self.options()) {
            Ok(session) => session,
            Err(error) => {
                self.done(match &error {
                    SessionError::Model { .. } => Checked::failed("load", error.to_string()),
                    SessionError::Provider(provider) => {
                        let remedy = provider.remedy().map(|remedy| format!("; {remedy}")).unwrap_or_default();
                        Checked::error("load", format!("{error}{remedy}"))
                    }
                    SessionError::Option { .. } | SessionError::TemporaryFolder(_) => {
                        Checked::error("load", error.to_string())
                    }
                });
                return self.rest("the model was not loaded");
            }
        };
        let version = self.runtime.version();
        self.done(Checked::passed("load", format!("ONNX Runtime {version} on `{}`", self.request.provider)));
        let ran = self.runs(&mut session);
        self.references(&mut session, &ran);
        self.placement(session, &ran);
        self.golden(&ran);
        self.rest("it was not asked for");
    }

    /// Runs the model at every batch size, and looks at what comes out.
    fn runs(&mut self, session: &mut Session) -> Vec<Ran> {
        self.begin("run");
        let mut ran: Vec<Ran> = Vec::new();
        let mut trouble: Option<Checked> = None;
        let (batches, is_free) = wanted_batches(session.inputs(), self.request).unwrap_or_else(|why| {
            trouble = Some(Checked::error("run", why));
            (Vec::new(), false)
        });
        let mut guessed = false;
        for &batch in &batches {
            let made = self.inputs(session.inputs(), batch, Noise::Symmetric);
            let (inputs, was_guessed) = match made {
                Ok(made) => made,
                Err(why) => {
                    trouble = Some(Checked::skipped("run", why));
                    break;
                }
            };
            guessed |= was_guessed;
            match run(session, &inputs) {
                Ok(outputs) => ran.push(Ran { batch, inputs, outputs }),
                Err(RunError::ElementType { name, ty }) => {
                    trouble = Some(Checked::skipped("run", format!("`{name}` is {ty}, which is no tensor of numbers")));
                    break;
                }
                Err(error) if was_guessed && ran.is_empty() => {
                    let sizes = described(&inputs);
                    let why = format!(
                        "it does not run on {sizes}, sizes that were guessed: {error}; name others with `--input-shapes`"
                    );
                    trouble = Some(Checked::skipped("run", why));
                    break;
                }
                Err(error) => {
                    let of = if is_free { ", a size its file allows" } else { "" };
                    trouble = Some(Checked::failed("run", format!("it does not run at batch {batch}{of}: {error}")));
                    break;
                }
            }
        }
        let sizes = ran.iter().map(|ran| ran.batch.to_string()).collect::<Vec<_>>().join(", ");
        let on = ran.first().map(|ran| described(&ran.inputs)).unwrap_or_default();
        let note = if guessed { ", sizes that its file leaves free" } else { "" };
        let is_whole = trouble.is_none();
        self.done(trouble.unwrap_or_else(|| Checked::passed("run", format!("at batch {sizes}, on {on}{note}"))));
        if ran.is_empty() {
            for name in ["finite", "shapes", "repeatable"] {
                self.done(Checked::skipped(name, "the model was not run"));
            }
            return ran;
        }
        self.begin("finite");
        let finite = self.finite(session, &mut ran);
        self.done(finite);
        self.begin("shapes");
        let shapes = shapes(session, &self.request.declared, &ran);
        self.done(shapes);
        self.begin("repeatable");
        let repeatable = self.repeatable(session, &ran);
        self.done(repeatable);
        if is_whole { ran } else { Vec::new() }
    }

    /// Outputs without infinities; where noise around zero leads to some, noise from zero to one is tried as well.
    fn finite(&self, session: &mut Session, ran: &mut Vec<Ran>) -> Checked {
        let Some(first) = ran.iter().find_map(|ran| Some((ran.batch, not_finite(&ran.outputs)?))) else {
            return Checked::passed("finite", None);
        };
        let (batch, (name, count)) = first;
        let failed = || {
            Checked::failed(
                "finite",
                format!("output `{name}` has {count} values at batch {batch} that are not finite"),
            )
        };
        let mut again = Vec::new();
        for Ran { batch, .. } in ran.iter() {
            let Ok((inputs, _)) = self.inputs(session.inputs(), *batch, Noise::Positive) else { return failed() };
            match run(session, &inputs) {
                Ok(outputs) if not_finite(&outputs).is_none() => again.push(Ran { batch: *batch, inputs, outputs }),
                Ok(_) | Err(_) => return failed(),
            }
        }
        *ran = again;
        Checked::passed("finite", "on noise from 0 to 1; not on noise of both signs".to_owned())
    }

    fn repeatable(&self, session: &mut Session, ran: &[Ran]) -> Checked {
        let mut most: Option<f64> = None;
        for Ran { batch, inputs, outputs } in ran {
            let again = match run(session, inputs) {
                Ok(again) => again,
                Err(error) => {
                    return Checked::failed(
                        "repeatable",
                        format!("it does not run a second time at batch {batch}: {error}"),
                    );
                }
            };
            for ((name, first), (_, second)) in outputs.iter().zip(&again) {
                if first.same(second) {
                    continue;
                }
                // GPUs may sum in another order every time.
                match compare(second, first, (None, None)) {
                    Ok(figures) if figures.within && first.element_type().is_float() => {
                        most = Some(most.unwrap_or(0.0).max(figures.max_abs.unwrap_or(0.0)));
                    }
                    Ok(figures) => {
                        let by =
                            figures.max_abs.map_or_else(|| "beyond measure".to_owned(), |by| format!("by {by:.3e}"));
                        let text =
                            format!("output `{name}` differs {by} between two runs on the same input at batch {batch}");
                        return Checked::failed("repeatable", text);
                    }
                    Err(error) => {
                        return Checked::failed("repeatable", format!("output `{name}` of a second run: {error}"));
                    }
                }
            }
        }
        Checked::passed(
            "repeatable",
            most.map(|most| format!("within rounding: the runs differ by {most:.3e} at the most")),
        )
    }

    /// Where the nodes ran. Ends the session.
    fn placement(&mut self, session: Session, ran: &[Ran]) {
        let (providers, precision) = (self.request.prove_provider, self.request.precision.is_some());
        for (name, is_asked, option) in
            [("providers", providers, "--provider"), ("precision", precision, "--expect-precision")]
        {
            if !is_asked {
                self.done(Checked::skipped(name, format!("`{option}` was not given")));
            } else if ran.is_empty() {
                self.done(Checked::skipped(name, "the model was not run"));
            }
        }
        if ran.is_empty() || !(providers || precision) {
            return;
        }
        self.begin(if providers { "providers" } else { "precision" });
        let record = session.record();
        if precision {
            let checked = self.precision(&record);
            self.done(checked);
        }
        if !providers {
            return;
        }
        let provider = self.request.provider;
        let checked = match record.map(Placement::of) {
            Err(error) => Checked::error("providers", error.to_string()),
            Ok(placement) => {
                let mut counts = BTreeMap::new();
                for node in &placement.nodes {
                    *counts.entry(node.provider.clone()).or_insert(0) += 1;
                }
                let elsewhere: Vec<_> = placement.elsewhere(provider).collect();
                let heavy: Vec<_> = elsewhere.iter().filter(|node| is_heavy(&node.op)).collect();
                let text = format!(
                    "{} of {} nodes on `{provider}`",
                    placement.nodes.len() - elsewhere.len(),
                    placement.nodes.len()
                );
                let checked = match heavy.first() {
                    Some(node) => Checked::failed(
                        "providers",
                        format!(
                            "{text}; `{}` ({}) and {} more that convolve or multiply matrices ran on {}",
                            node.name,
                            node.op,
                            heavy.len() - 1,
                            node.provider
                        ),
                    ),
                    None if placement.nodes.is_empty() => Checked::error("providers", "the runtime recorded no node"),
                    None => Checked::passed("providers", text),
                };
                Checked { placement: counts, ..checked }
            }
        };
        self.done(checked);
    }

    /// What the convolutions were computed in.
    fn precision(&self, record: &Result<Vec<NodeRecord>, PlacementError>) -> Checked {
        const SHOWN: usize = 8;
        let Some((expected, stated)) = &self.request.precision else {
            return Checked::skipped("precision", "`--expect-precision` was not given");
        };
        let executed = match record {
            Ok(record) => Executed::of(record),
            Err(error) => return Checked::error("precision", error.to_string()),
        };
        let (name, ran) = (expected.name(), executed.convs.len());
        if ran == 0 {
            return Checked::failed("precision", "no convolution ran".to_owned());
        }
        let meant = stated.iter().filter(|conv| conv.precision == Some(expected.dtype())).count();
        let text = format!(
            "{} of {ran} convolutions ran in {name}; the file has {meant} of {} in it",
            executed.count(*expected),
            stated.len()
        );
        let missing: Vec<&ConvRun> = executed.missing(*expected, stated).collect();
        let mut lines = vec![text];
        lines.extend(missing.iter().take(SHOWN).map(|conv| {
            let ran_in = conv.precision.map_or("another type", Expected::name);
            format!("`{}` ({}) ran in {ran_in}", conv.node, conv.op)
        }));
        if missing.len() > SHOWN {
            lines.push(format!("and {} more did", missing.len() - SHOWN));
        }
        if missing.is_empty() && executed.count(*expected) > 0 {
            Checked::passed("precision", lines.join("\n"))
        } else {
            Checked::failed("precision", lines.join("\n"))
        }
    }

    fn references(&mut self, session: &mut Session, ran: &[Ran]) {
        let Some(reference) = &self.request.reference else { return };
        self.begin("reference");
        let expected = match self.expected(session, reference, ran) {
            Ok(expected) => expected,
            Err(checked) => {
                self.done(checked);
                if self.request.first_divergence {
                    self.done(Checked::skipped("first-divergence", "there is nothing to compare: see `reference`"));
                }
                return;
            }
        };
        let mut compared = Vec::new();
        let mut faults = Vec::new();
        let several = expected.len() > 1;
        for (set, outputs) in expected.iter().filter(|(set, _)| !set.outputs.is_empty()) {
            let pairs = match paired(outputs, &set.outputs) {
                Ok(pairs) => pairs,
                Err(why) => {
                    faults.push(format!("{}: {why}", set.name));
                    continue;
                }
            };
            for ((name, actual), expected) in pairs {
                let at = if several { format!(" of {}", set.name) } else { String::new() };
                match compare(actual, expected, (self.request.rtol, self.request.atol)) {
                    Err(error) => faults.push(format!("output `{name}`{at}: {error}")),
                    Ok(figures) => {
                        if !figures.within {
                            faults.push(format!(
                                "output `{name}`{at} {}{}",
                                said(&figures),
                                self.tf32(actual, &figures)
                            ));
                        }
                        compared.push(Compared { name: name.clone(), set: several.then(|| set.name.clone()), figures });
                    }
                }
            }
        }
        let checked = match faults.split_first() {
            None if compared.is_empty() => Checked::error("reference", "there is no output to compare"),
            None => {
                let sets = if several { format!(" in {} sets", expected.len()) } else { String::new() };
                Checked::passed(
                    "reference",
                    format!("{} outputs agree{sets}, {}", compared.len(), tolerances(&compared)),
                )
            }
            Some((first, [])) => Checked::failed("reference", first.clone()),
            Some((first, more)) => Checked::failed("reference", format!("{first}; and {} more", more.len())),
        };
        let differs = checked.status == Status::Failed;
        self.done(Checked { outputs: compared, ..checked });
        if !self.request.first_divergence {
            return;
        }
        let (Reference::Model(other), Some((set, _))) = (reference, expected.first()) else {
            self.done(Checked::skipped(
                "first-divergence",
                "the reference is no model, so that it has no tensors in between",
            ));
            return;
        };
        if !differs {
            return self.done(Checked::skipped("first-divergence", "the outputs agree"));
        }
        self.begin("first-divergence");
        let search = divergence::Search {
            runtime: self.runtime,
            options: Options { record_placement: false, ..self.options() },
            reference_options: Options { record_placement: false, ..self.reference_options() },
            models: [self.request.model.clone(), other.clone()],
            inputs: set.inputs.clone(),
            tolerances: (self.request.rtol, self.request.atol),
        };
        let checked = search.run();
        self.done(checked);
    }

    /// What explains a difference of this size, if it is the rounding of tensor cores.
    fn tf32(&self, actual: &Array, figures: &super::compare::Figures) -> String {
        let on_gpu = matches!(self.request.provider, Provider::Cuda | Provider::TensorRt);
        // TF32 keeps ten bits of a factor; a sum of many products can lose a few more.
        let small = figures.max_abs.zip(figures.worst_expected).is_some_and(|(by, of)| by <= 4e-3 * of.abs().max(1.0));
        if on_gpu && actual.element_type() == ElementType::F32 && small {
            return "; TF32, in which the GPU multiplies single precision, explains a difference of this size"
                .to_owned();
        }
        String::new()
    }

    /// The reference is run where it is most exact: on the processor.
    fn reference_options(&self) -> Options {
        Options { provider: Provider::Cpu, ..self.options() }
    }

    /// Sets of inputs and expected outputs, each with what the model makes of the inputs.
    fn expected(
        &self,
        session: &mut Session,
        reference: &Reference,
        ran: &[Ran],
    ) -> Result<Vec<(TestSet, Named)>, Checked> {
        let unread = |error: stored::StoreError| Checked::error("reference", error.to_string());
        let names: Vec<String> = session.inputs().iter().map(|port| port.name.clone()).collect();
        let sets = match reference {
            Reference::Model(path) => return self.other_model(session, path, ran),
            Reference::Sets(folder) => {
                let folders = stored::folders(folder).map_err(unread)?;
                folders.iter().map(|set| stored::read_set(set)).collect::<Result<Vec<_>, _>>().map_err(unread)?
            }
            Reference::Archive(path) => vec![stored::read_archive(path, &names).map_err(unread)?],
        };
        let run_set = |mut set: TestSet| {
            set.inputs = as_inputs(set.inputs, &names)
                .map_err(|why| Checked::error("reference", format!("{}: {why}", set.name)))?;
            let outputs = run(session, &set.inputs).map_err(|error| {
                Checked::failed("reference", format!("it does not run on the inputs of {}: {error}", set.name))
            })?;
            Ok((set, outputs))
        };
        sets.into_iter().map(run_set).collect()
    }

    fn other_model(&self, session: &mut Session, path: &Path, ran: &[Ran]) -> Result<Vec<(TestSet, Named)>, Checked> {
        if ran.is_empty() {
            return Err(Checked::skipped("reference", UNRUN));
        }
        let mut other = Session::from_file(self.runtime, path, &self.reference_options())
            .map_err(|error| Checked::error("reference", format!("the reference cannot be loaded: {error}")))?;
        let theirs: Vec<String> = other.inputs().iter().map(|port| port.name.clone()).collect();
        let ours = session.inputs().len();
        if theirs.len() != ours {
            let why = format!("the reference has {} inputs, the model {ours}", theirs.len());
            return Err(Checked::failed("reference", why));
        }
        let mut sets = Vec::new();
        for Ran { batch, inputs, outputs } in ran {
            let renamed = as_inputs(inputs.clone(), &theirs).map_err(|why| Checked::failed("reference", why))?;
            match run(&mut other, &renamed) {
                Ok(expected) => {
                    let set = TestSet { name: format!("batch {batch}"), inputs: inputs.clone(), outputs: expected };
                    sets.push((set, outputs.clone()));
                }
                // A reference of a fixed batch says what it can.
                Err(_) if !sets.is_empty() => {}
                Err(error) => {
                    let why = format!("the reference does not run at batch {batch}: {error}");
                    return Err(Checked::error("reference", why));
                }
            }
        }
        Ok(sets)
    }

    fn golden(&mut self, ran: &[Ran]) {
        let Some(folder) = &self.request.golden else { return };
        if ran.is_empty() {
            return self.done(Checked::skipped("golden", UNRUN));
        }
        self.begin("golden");
        let write = |(n, ran): (usize, &Ran)| {
            let name = format!("test_data_set_{n}");
            let set = TestSet { name: name.clone(), inputs: ran.inputs.clone(), outputs: ran.outputs.clone() };
            stored::write_set(&folder.join(name), &set)
        };
        let written = fs::create_dir_all(folder)
            .map_err(|error| error.to_string())
            .and_then(|()| ran.iter().enumerate().try_for_each(write).map_err(|error| error.to_string()));
        self.done(match written {
            Ok(()) => Checked::passed("golden", format!("{} sets", ran.len())),
            Err(error) => Checked::error("golden", error),
        });
    }

    /// Inputs of a batch; whether sizes in them were guessed.
    fn inputs(&self, ports: &[Port], batch: u32, noise: Noise) -> Result<(Named, bool), String> {
        let mut symbols = given_symbols(ports, self.request)?;
        let mut guessed = false;
        let mut inputs = Vec::new();
        for port in ports {
            let Some(ty) = port.element else {
                return Err(format!("input `{}` is {}, which cannot be made up", port.name, port.ty));
            };
            let given = self.request.sizes.get(&port.name);
            let mut shape = Vec::new();
            for (at, dim) in port.dims.iter().enumerate() {
                let symbol = if let PortDim::Named(name) = dim { Some(name.as_str()) } else { None };
                let size = match (dim, given.and_then(|given| given[at])) {
                    (PortDim::Fixed(size), _) => *size,
                    (_, Some(size)) => size,
                    _ => symbol.and_then(|name| symbols.get(name)).copied().unwrap_or_else(|| {
                        guessed |= at > 0;
                        if at == 0 { batch } else { guess(port, at) }
                    }),
                };
                if let Some(symbol) = symbol {
                    symbols.insert(symbol, size);
                }
                shape.push(size);
            }
            let bytes = element_count(&shape).saturating_mul(ty.size());
            if bytes > self.request.max_bytes {
                return Err(format!(
                    "input `{}` has {bytes} bytes at batch {batch}, more than the {} allowed",
                    port.name, self.request.max_bytes
                ));
            }
            inputs.push((port.name.clone(), noise.array(&port.name, ty, &shape)));
        }
        Ok((inputs, guessed))
    }
}

/// What inputs are made of.
#[derive(Debug, Clone, Copy)]
enum Noise {
    /// Unit variance around zero.
    Symmetric,
    /// From zero to one.
    Positive,
}

impl Noise {
    /// Noise that is the same for the same name and image. Bytes are those of pictures; larger integers, which may be
    /// places or counts, are one.
    fn array(self, name: &str, ty: ElementType, shape: &[u32]) -> Array {
        let bound = 3f32.sqrt();
        let images = shape.first().copied().unwrap_or(1);
        let image_shape = shape.get(1..).unwrap_or_default();
        let mut values: Vec<f64> = Vec::new();
        for image in 0..images {
            let noise = Seeded(image.into()).values(name, image_shape, LeafInit::Uniform { bound });
            let noise = noise.unwrap_or_else(|never| match never {});
            values.extend(noise.into_iter().map(|value| {
                let unit = f64::from(value / bound).midpoint(1.0);
                match ty {
                    ElementType::U8 => (unit * 255.0).round(),
                    ElementType::I8 => (unit * 255.0).round() - 128.0,
                    ty if !ty.is_float() => 1.0,
                    _ => match self {
                        Self::Symmetric => value.into(),
                        Self::Positive => unit,
                    },
                }
            }));
        }
        let data = Data::from_f64(ty, values.into_iter());
        Array::new(shape, data).unwrap_or_else(|_| Array::new([0], Data::F32(Vec::new())).expect("no values"))
    }
}

/// A size for a free dimension.
fn guess(port: &Port, at: usize) -> u32 {
    let is = |at: usize, sizes: &[u32]| matches!(port.dims.get(at), Some(PortDim::Fixed(n)) if sizes.contains(n));
    match (port.dims.len(), at) {
        (4, 1) if !is(3, &[1, 3, 4]) => 3,
        (4, 3) if !is(1, &[1, 3, 4]) && matches!(port.dims[1], PortDim::Fixed(_)) => 3,
        (4, _) => IMAGE,
        _ => LENGTH,
    }
}

/// The sizes that are given for named dimensions, if what is given is of inputs that there are and contradicts neither
/// them nor each other.
fn given_symbols<'p>(ports: &'p [Port], request: &Request) -> Result<HashMap<&'p str, u32>, String> {
    let mut symbols: HashMap<&str, u32> = HashMap::new();
    for (name, given) in &request.sizes {
        let Some(port) = ports.iter().find(|port| port.name == *name) else {
            let names: Vec<String> = ports.iter().map(|port| format!("`{}`", port.name)).collect();
            return Err(format!("the model has no input `{name}` to give sizes to; it has {}", names.join(", ")));
        };
        if given.len() != port.dims.len() {
            let (wrong, right) = (given.len(), &port.ty);
            return Err(format!("{wrong} sizes are given for input `{name}`, which is {right}"));
        }
        for (at, (dim, size)) in port.dims.iter().zip(given).enumerate() {
            match (dim, size) {
                (PortDim::Fixed(fixed), Some(size)) if size != fixed => {
                    return Err(format!("input `{name}` has {fixed} in dimension {at}; {size} is given"));
                }
                (PortDim::Named(symbol), Some(size)) => {
                    let known = *symbols.entry(symbol).or_insert(*size);
                    if known != *size {
                        return Err(format!(
                            "`{symbol}` is one size in all inputs; {known} and {size} are given for it"
                        ));
                    }
                }
                _ => {}
            }
        }
    }
    Ok(symbols)
}

/// The batch sizes to run at, and whether they are the model's to choose: those that are asked for, unless sizes are
/// given that have one.
fn wanted_batches(ports: &[Port], request: &Request) -> Result<(Vec<u32>, bool), String> {
    let symbols = given_symbols(ports, request)?;
    let given = ports.first().and_then(|port| match port.dims.first()? {
        PortDim::Fixed(_) => None,
        PortDim::Named(symbol) if symbols.contains_key(symbol.as_str()) => symbols.get(symbol.as_str()).copied(),
        PortDim::Named(_) | PortDim::Unknown => *request.sizes.get(&port.name)?.first()?,
    });
    match given {
        Some(batch) if request.batches.iter().any(|wanted| *wanted != batch) => {
            Err(format!("the sizes that are given are of batch {batch}, and {:?} are asked for", request.batches))
        }
        Some(batch) => Ok((vec![batch], true)),
        None if request.batches.is_empty() => Ok(batches(ports, &BATCHES)),
        None => Ok(batches(ports, &request.batches)),
    }
}

/// The batch sizes to run at, and whether they are the model's to choose.
pub(super) fn batches(inputs: &[Port], wanted: &[u32]) -> (Vec<u32>, bool) {
    match inputs.first().and_then(|port| port.dims.first()) {
        Some(PortDim::Named(_) | PortDim::Unknown) => (wanted.to_vec(), true),
        Some(PortDim::Fixed(batch)) => (vec![*batch], false),
        None => (vec![1], false),
    }
}

pub(super) fn run(session: &mut Session, inputs: &Named) -> Result<Named, RunError> {
    let inputs: Vec<(&str, &Array)> = inputs.iter().map(|(name, array)| (name.as_str(), array)).collect();
    session.run_arrays(&inputs)
}

fn described(inputs: &Named) -> String {
    inputs.iter().map(|(name, array)| format!("`{name}` {array}")).collect::<Vec<_>>().join(", ")
}

fn not_finite(outputs: &Named) -> Option<(String, usize)> {
    outputs.iter().find_map(|(name, array)| Some((name.clone(), Some(array.not_finite()).filter(|&n| n > 0)?)))
}

/// Whether outputs have the element types and sizes the file declares. A size of a name that inputs have as well is theirs.
fn shapes(session: &Session, declared: &BTreeMap<String, Vec<PortDim>>, ran: &[Ran]) -> Checked {
    let mut vague = None;
    for Ran { batch, inputs, outputs } in ran {
        let mut symbols: HashMap<&str, u32> = HashMap::new();
        for (port, (_, array)) in session.inputs().iter().zip(inputs) {
            for (dim, &size) in port.dims.iter().zip(array.shape()) {
                if let PortDim::Named(name) = dim {
                    symbols.insert(name, size);
                }
            }
        }
        for (name, array) in outputs {
            let Some(dims) = declared.get(name) else { continue };
            let fits = dims.len() == array.shape().len()
                && dims.iter().zip(array.shape()).all(|(dim, &size)| match dim {
                    PortDim::Fixed(declared) => *declared == size,
                    PortDim::Named(symbol) => symbols.get(symbol.as_str()).is_none_or(|&declared| declared == size),
                    PortDim::Unknown => true,
                });
            if fits {
                continue;
            }
            let shown = dims.iter().map(|dim| match dim {
                PortDim::Fixed(size) => size.to_string(),
                PortDim::Named(symbol) => symbol.clone(),
                PortDim::Unknown => "?".to_owned(),
            });
            let shown = shown.collect::<Vec<_>>().join(",");
            let text = format!("output `{name}` is {array} at batch {batch}; the file declares [{shown}]");
            let is_vague = dims.iter().any(|dim| !matches!(dim, PortDim::Fixed(_)));
            if !is_vague || dims.len() == array.shape().len() {
                return Checked::failed("shapes", text);
            }
            vague = Some(format!("{text}: of other dimensions and of no fixed size, so that it promises none"));
        }
    }
    if let Some(vague) = vague {
        return Checked::skipped("shapes", vague);
    }
    let outputs = ran.first().map(|ran| described(&ran.outputs)).unwrap_or_default();
    Checked::passed("shapes", outputs)
}

/// What convolves or multiplies matrices, in the graphs that ONNX Runtime makes.
fn is_heavy(op: &str) -> bool {
    ["Conv", "MatMul", "Gemm"].iter().any(|part| op.contains(part)) && !op.starts_with("Memcpy")
}

/// Stored inputs with the model's names: their own if they have such, else in order.
pub(super) fn as_inputs(inputs: Named, names: &[String]) -> Result<Named, String> {
    if inputs.len() != names.len() {
        return Err(format!("it has {} inputs, the model {}", inputs.len(), names.len()));
    }
    if names.iter().all(|name| inputs.iter().any(|(stored, _)| stored == name)) {
        return Ok(inputs);
    }
    Ok(names.iter().cloned().zip(inputs.into_iter().map(|(_, array)| array)).collect())
}

/// The outputs beside what is expected of them: by name where all that is expected has one of ours, else in order.
fn paired<'a>(outputs: &'a Named, expected: &'a Named) -> Result<Pairs<'a>, String> {
    let safe = crate::npz::array_names(outputs.iter().map(|(name, _)| name.as_str()));
    let of = |name: &String| outputs.iter().zip(&safe).find(|((own, _), safe)| own == name || *safe == name);
    if let Some(pairs) = expected
        .iter()
        .map(|(name, array)| Some((of(name)?.0, array)))
        .collect::<Option<Vec<_>>>()
        .filter(|pairs| !pairs.is_empty())
    {
        return Ok(pairs);
    }
    if let (Some((stray, _)), true) =
        (expected.iter().find(|(name, _)| of(name).is_none()), expected.iter().any(|(name, _)| of(name).is_some()))
    {
        return Err(format!("it has `{stray}`, which is no output of the model"));
    }
    if outputs.len() != expected.len() {
        return Err(format!(
            "there are {} outputs and {} expected ones, of other names",
            outputs.len(),
            expected.len()
        ));
    }
    Ok(outputs.iter().zip(expected.iter().map(|(_, array)| array)).collect())
}

/// How far off an output is.
pub(super) fn said(figures: &super::compare::Figures) -> String {
    let number = |value: Option<f64>| value.map_or_else(|| "no number".to_owned(), |value| format!("{value:.6e}"));
    format!(
        "is out of tolerance in {} of {} values: {} instead of {} at {:?}; at the most {} apart, rtol {:e}, atol {:e}",
        figures.outside,
        element_count(&figures.shape),
        number(figures.worst_actual),
        number(figures.worst_expected),
        figures.worst,
        number(figures.max_abs),
        figures.rtol,
        figures.atol,
    )
}

/// The tolerances that were applied, by element type.
fn tolerances(compared: &[Compared]) -> String {
    let mut known = BTreeMap::new();
    for Compared { figures, .. } in compared {
        known.entry(figures.element_type.clone()).or_insert((figures.rtol, figures.atol));
    }
    let each = known.iter().map(|(ty, (rtol, atol))| format!("{ty} within rtol {rtol:e}, atol {atol:e}"));
    let most = compared.iter().filter_map(|compared| compared.figures.max_abs).fold(0.0, f64::max);
    format!("{}; at the most {most:.3e} apart", each.collect::<Vec<_>>().join(", "))
}
