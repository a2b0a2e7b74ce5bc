//! Measuring a target: from what was asked for to a profile.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZero;
use std::ops::ControlFlow;
use std::str::FromStr;
use std::time::Duration;

use bbc::census::{self, Census, CommonStage, Representative};
use bbc::conv::{Candidate, ProblemError};
#[cfg(any(feature = "gpu", feature = "run"))]
use bbc::profile::Instrument;
#[cfg(feature = "run")]
use bbc::profile::Timing;
use bbc::profile::journal::{Event, FORMAT as JOURNAL_FORMAT, Header, Sample};
#[cfg(any(feature = "gpu", feature = "run"))]
use bbc::profile::journal::{Prepared, Source};
use bbc::profile::plan::{Plan, Settings, Shard};
use bbc::profile::sampling::{Budget, Progress, SamplingError, Taken, Timed, sample_rounds_from};
use bbc::profile::{BASES, Device, DeviceKind, InstrumentKind, Profile, StageShare, Task, UnknownWorkload, Workload};
use bbc::tensor::DType;
use indicatif::ProgressBar;

use super::failure::{Explain, Failure};
use super::journal::{Keep, Log};
use super::output;
use super::target::{self, Here, Target, Wish};

/// Rounds that are made whatever time they take.
const MIN_ROUNDS: u32 = 10;
/// Rounds before sampling may end early.
const ENOUGH_ROUNDS: u32 = 30;
/// Most rounds.
const MAX_ROUNDS: u32 = 1000;
/// Sampling ends early when every median is known this well.
const PRECISION: f64 = 0.01;

/// How long shaders are tried for one problem.
#[cfg(feature = "gpu")]
const TUNING: Duration = Duration::from_millis(1500);

/// Which problems to measure.
#[derive(Debug, Clone)]
pub(crate) enum Problems {
    /// A built-in list.
    Workload(Workload),
    /// The candidates of the built-in bases and the published ones, at stages that stand for theirs.
    BuiltIn,
    /// The candidates at the stages of these bases.
    Bases(Census),
}

impl FromStr for Problems {
    type Err = UnknownWorkload;

    fn from_str(text: &str) -> Result<Self, UnknownWorkload> {
        if text == BASES { Ok(Self::BuiltIn) } else { text.parse().map(Self::Workload) }
    }
}

impl Problems {
    fn tasks(&self, batch: u32, dtype: DType) -> Result<Vec<Task>, ProblemError> {
        match self {
            Self::Workload(workload) => workload.tasks(&Candidate::PUBLISHED, batch, dtype),
            Self::BuiltIn => {
                let census = census::all_built_in();
                let problems = census::problems(&census.representative_stages(), &census.candidates(), batch, dtype)?;
                // One layer at each stage, as in the plain list of stages.
                let task = |Representative { candidate, problem, .. }| Task { candidate, layers: 1, problem };
                Ok(problems.into_iter().map(task).collect())
            }
            Self::Bases(census) => {
                let problems = census::problems(&census.stages(), &census.candidates(), batch, dtype)?;
                let task = |Representative { candidate, layers, problem }| Task { candidate, layers, problem };
                Ok(problems.into_iter().map(task).collect())
            }
        }
    }

    /// Where the bases have their operations.
    fn stages(&self) -> Vec<StageShare> {
        match self {
            Self::Workload(_) => Vec::new(),
            Self::BuiltIn => shares(&census::all_built_in().representative_stages()),
            Self::Bases(census) => shares(&census.stages()),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(workload) => workload.fmt(f),
            Self::BuiltIn => f.pad(BASES),
            Self::Bases(census) => {
                let names: Vec<&str> = census.bases.iter().map(|base| base.name.as_str()).collect();
                write!(f, "census of {}", names.join(", "))
            }
        }
    }
}

/// The stages of bases as a profile keeps them.
pub(crate) fn shares(stages: &[CommonStage]) -> Vec<StageShare> {
    let share = |stage: &CommonStage| StageShare { channels: stage.width, input: stage.size, share: stage.share };
    stages.iter().map(share).collect()
}

/// What to measure, as it is asked for on the command line.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// With which instrument; `None` for all that belong to the target and can be used.
    pub(crate) instrument: Option<InstrumentKind>,
    /// Which problems.
    pub(crate) problems: Problems,
    /// How long sampling may take, all instruments together.
    pub(crate) time: Duration,
    /// Images in every problem.
    pub(crate) batch: u32,
    /// Element type of every problem.
    pub(crate) dtype: DType,
    /// Processor threads for an execution provider; `None` for as many as there are processors.
    pub(crate) threads: Option<NonZero<u32>>,
    /// Seed of order, weights and inputs.
    pub(crate) seed: u64,
}

impl Wanted {
    /// The plan of it.
    pub(crate) fn plan(&self) -> Result<Plan, Failure> {
        let Self { instrument, ref problems, time, batch, dtype, threads, seed } = *self;
        let tasks = problems
            .tasks(batch, dtype)
            .doing(|| format!("workload `{problems}` cannot be computed with batch {batch}"))?;
        let settings = Settings {
            workload: problems.to_string(),
            instrument,
            dtype,
            batch,
            threads,
            time_budget_s: time.as_secs_f64(),
            seed,
        };
        Ok(Plan::new(settings, problems.stages(), tasks)?)
    }
}

/// Measures a plan on a target of this machine, without a journal.
pub(crate) fn measure(machine: &Here<'_>, target: &Wish, plan: &Plan) -> Result<Profile, Failure> {
    Ok(measure_share(machine, target, plan, None, None)?.record().profile())
}

/// Measures a share of a plan on a target of this machine, or the rest of it.
pub(crate) fn measure_share(
    machine: &Here<'_>,
    target: &Wish,
    plan: &Plan,
    shard: Option<Shard>,
    keep: Option<&Keep>,
) -> Result<Log, Failure> {
    let target = target::resolve(target, machine)?;
    let load_average = load_average();
    warn_if_busy(load_average);
    let header = Header {
        journal: JOURNAL_FORMAT,
        run: run_name(),
        device: device(machine, &target),
        versions: versions(),
        load_average,
        shard,
        plan: plan.clone(),
    };
    let log = Log::begin(header, keep)?;
    let tasks = log.record().share().iter().map(|&place| log.record().task(place).clone()).collect();
    let mut run = Run { settings: &plan.settings, tasks, log };
    if run.tasks.is_empty() || run.log.record().is_finished() {
        return Ok(run.log);
    }
    let measured = match &target {
        Target::Cpu => run.processor(machine),
        Target::Provider(name) => run.unnamed_gpu(machine, name),
        Target::Adapter(index) => run.adapter(machine, *index),
    };
    match (measured, run.log.left()) {
        (Ok(()), _) => Ok(run.log),
        (Err(failure), None) => Err(failure),
        (Err(failure), Some(left)) => Err(failure.with_hint(left)),
    }
}

/// The device that a target is.
fn device(machine: &Here<'_>, target: &Target) -> Device {
    match target {
        Target::Cpu => {
            Device { name: processor_name(), kind: DeviceKind::Cpu, backend: "cpu".into(), driver: String::new() }
        }
        Target::Provider(provider) => Device {
            name: format!("the GPU that provider {provider} takes"),
            kind: DeviceKind::OtherGpu,
            backend: provider.clone(),
            driver: String::new(),
        },
        Target::Adapter(index) => machine.device(*index),
    }
}

/// A measurement under way.
struct Run<'p> {
    settings: &'p Settings,
    /// The problems of this share.
    tasks: Vec<Task>,
    log: Log,
}

impl Run<'_> {
    fn time(&self) -> Duration {
        Duration::from_secs_f64(self.settings.time_budget_s)
    }

    fn processor(&mut self, machine: &Here<'_>) -> Result<(), Failure> {
        if self.settings.instrument == Some(InstrumentKind::Shader) {
            return Err(Failure::new("shaders do not run on the processor as such")
                .with_hint("name a software adapter with `--target`; `bbc devices` lists them"));
        }
        self.provider(machine, "cpu", self.time())
    }

    fn unnamed_gpu(&mut self, machine: &Here<'_>, provider: &str) -> Result<(), Failure> {
        if self.settings.instrument == Some(InstrumentKind::Shader) {
            return Err(Failure::new("wgpu finds no adapter for this GPU, so that shaders cannot run on it")
                .with_hint("install the Vulkan driver, or measure with `--instrument provider`"));
        }
        self.provider(machine, provider, self.time())
    }

    #[cfg(not(feature = "gpu"))]
    fn adapter(&mut self, _: &Here<'_>, _: usize) -> Result<(), Failure> {
        Err(Failure::new("this bbc is built without the feature `gpu`"))
    }

    #[cfg(feature = "gpu")]
    fn adapter(&mut self, machine: &Here<'_>, index: usize) -> Result<(), Failure> {
        let adapter = &machine.wgpu_adapters()[index];
        let provider = machine.provider_of(&Target::Adapter(index));
        let instrument = self.settings.instrument;
        let both = instrument.is_none() && provider.is_some();
        let time = if both { self.time() / 2 } else { self.time() };
        if instrument != Some(InstrumentKind::Provider) {
            self.shaders(adapter, time)?;
        }
        match (instrument, provider) {
            (Some(InstrumentKind::Provider), None) => {
                return Err(Failure::new(format!("no execution provider computes on adapter `{}`", adapter.name))
                    .with_hint("measure it with `--instrument shader`"));
            }
            (Some(InstrumentKind::Provider), Some(provider)) => self.provider(machine, &provider, time)?,
            (None, Some(provider)) => {
                if let Err(failure) = self.provider(machine, &provider, time) {
                    // What is half measured is no result.
                    if self.log.record().has_samples_by(InstrumentKind::Provider) {
                        return Err(failure);
                    }
                    output::warning(&format!("provider `{provider}` is not measured, only shaders are: {failure}"));
                }
            }
            (Some(_), _) | (None, None) => {}
        }
        Ok(())
    }

    #[cfg(feature = "gpu")]
    fn shaders(&mut self, adapter: &bbc::profile::shader::Adapter, time: Duration) -> Result<(), Failure> {
        use bbc::profile::shader::{Gpu, Variant};

        let kind = InstrumentKind::Shader;
        let source = Source { kind, name: String::new(), threads: None, versions: BTreeMap::new() };
        let source = self.log.source(source)?;
        if self.log.record().is_sampled(source) {
            return Ok(());
        }
        let gpu = Gpu::open(adapter)?;
        let bar = output::timed_progress(self.tasks.len() as u64);
        let mut tuned = Vec::new();
        for (task, place) in self.tasks.iter().zip(self.log.record().share().to_vec()) {
            bar.set_message(format!("choosing the shader for {}", describe(task)));
            let before = self.log.record().prepared(source, place).map(|before| before.instrument.clone());
            let prepared = match before {
                None => gpu.prepare(&task.problem, TUNING),
                // What was begun with one shader goes on with it.
                Some(before) => {
                    let known = |variant: &Variant| shader_instrument(&variant.to_string()) == before;
                    let variants: Vec<Variant> = Variant::taking(&task.problem).filter(known).collect();
                    gpu.prepare_from(&variants, &task.problem, TUNING)
                }
            };
            let prepared = prepared.doing(|| format!("cannot measure {} by shaders", describe(task)))?;
            self.log.prepared(Prepared {
                source,
                problem: place,
                instrument: shader_instrument(&prepared.shader_name()),
                timing: prepared.timing().into(),
                max_error: Some(prepared.max_error()),
            })?;
            tuned.push(prepared);
            bar.inc(1);
        }
        bar.finish_and_clear();
        self.sample(source, &mut tuned, "shaders", time)
    }

    #[cfg(not(feature = "run"))]
    fn provider(&mut self, _: &Here<'_>, _: &str, _: Duration) -> Result<(), Failure> {
        Err(Failure::new("this bbc is built without the feature `run`, so that it cannot use ONNX Runtime"))
    }

    #[cfg(feature = "run")]
    fn provider(&mut self, machine: &Here<'_>, name: &str, time: Duration) -> Result<(), Failure> {
        use bbc::profile::provider::{Chains, Settings};
        use bbc::runtime::provider::Provider;

        let provider = Provider::named(name).ok_or_else(|| Failure::new(format!("there is no provider `{name}`")))?;
        let runtime = machine.runtime()?;
        let verdict = super::ort::try_provider(&runtime, provider)?;
        if !verdict.usable {
            return Err(verdict.into_failure(provider));
        }
        let threads =
            self.settings.threads.and_then(|threads| NonZero::try_from(threads).ok()).unwrap_or_else(processors);
        let source = self.log.source(Source {
            kind: InstrumentKind::Provider,
            name: name.to_owned(),
            threads: u32::try_from(threads.get()).ok(),
            versions: BTreeMap::from([("onnx_runtime".to_owned(), runtime.version().to_string())]),
        })?;
        if self.log.record().is_sampled(source) {
            return Ok(());
        }
        let settings = Settings { provider, threads, seed: self.settings.seed };
        let bar = output::timed_progress(self.tasks.len() as u64);
        let mut chains = Vec::new();
        for (task, place) in self.tasks.iter().zip(self.log.record().share().to_vec()) {
            bar.set_message(format!("preparing {} ({name})", describe(task)));
            let prepared = Chains::prepare(&runtime, &task.problem, &settings);
            let prepared = prepared.doing(|| format!("cannot measure {} on provider `{name}`", describe(task)))?;
            self.log.prepared(Prepared {
                source,
                problem: place,
                instrument: Instrument {
                    kind: InstrumentKind::Provider,
                    name: name.to_owned(),
                    variant: String::new(),
                },
                timing: Timing::ChainSlope,
                max_error: Some(prepared.max_error()),
            })?;
            chains.push(prepared);
            bar.inc(1);
        }
        bar.finish_and_clear();
        let mut bound = chains.iter_mut().map(Chains::bind).collect::<Result<Vec<_>, _>>()?;
        self.sample(source, &mut bound, name, time)
    }

    /// Times all tasks, from where it stands.
    fn sample<T: Timed<Error: std::error::Error + Send + Sync + 'static>>(
        &mut self,
        source: usize,
        problems: &mut [T],
        by: &str,
        time: Duration,
    ) -> Result<(), Failure> {
        let budget = Budget {
            time,
            min_rounds: MIN_ROUNDS,
            enough_rounds: ENOUGH_ROUNDS,
            max_rounds: MAX_ROUNDS,
            precision: PRECISION,
        };
        let Self { settings, tasks, log } = self;
        let (begun, share) = (log.record().begun(source), log.record().share().to_vec());
        let bar = output::timed_progress(1000);
        let mut on_progress = |progress: Progress| show(&bar, &tasks[progress.index], by, progress);
        let mut failed = None;
        let mut on_sample = |taken: Taken| {
            let elapsed_us = u64::try_from(taken.elapsed.as_micros()).unwrap_or(u64::MAX);
            let Taken { index, round, sample: ns, .. } = taken;
            match log.add(Event::Sample(Sample { source, problem: share[index], round, ns, elapsed_us })) {
                Ok(()) => ControlFlow::Continue(()),
                Err(failure) => {
                    failed = Some(failure);
                    ControlFlow::Break(())
                }
            }
        };
        let sampled = sample_rounds_from(problems, budget, settings.seed, begun, &mut on_progress, &mut on_sample);
        bar.finish_and_clear();
        if let Some(failure) = failed {
            return Err(failure);
        }
        if let Err(SamplingError { index, source }) = sampled {
            let error: Result<(), _> = Err(source);
            return error.doing(|| format!("cannot measure {} by {by} any more", describe(&tasks[index])));
        }
        log.add(Event::Sampled { source })
    }
}

fn show(bar: &ProgressBar, task: &Task, by: &str, progress: Progress) {
    bar.set_position((progress.done * 1000.0) as u64);
    let (task, round) = (describe(task), progress.rounds + 1);
    bar.set_message(format!("timing {task} ({by}), round {round}, {:.0} s left", progress.left.as_secs_f64()));
}

/// A shader by its name and tile sizes, as `conv_direct 8x1x8` has them.
#[cfg(feature = "gpu")]
fn shader_instrument(shader: &str) -> Instrument {
    let (name, variant) = shader.split_once(' ').unwrap_or((shader, ""));
    Instrument { kind: InstrumentKind::Shader, name: name.to_owned(), variant: variant.to_owned() }
}

/// A name that no other run has.
fn run_name() -> String {
    use std::hash::{BuildHasher, Hasher};

    // The hasher's keys are random, and anew in every process.
    let mut hasher = std::hash::RandomState::new().build_hasher();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    hasher.write_u128(now.as_nanos());
    hasher.write_u32(std::process::id());
    format!("run-{:016x}", hasher.finish())
}

/// A task in a few words: `conv3x3 at 64x56x56`.
fn describe(task: &Task) -> String {
    let [height, width] = task.problem.input();
    format!("{} at {}x{height}x{width}", task.candidate, task.problem.in_channels())
}

fn versions() -> BTreeMap<String, String> {
    BTreeMap::from([("bbc".to_owned(), env!("CARGO_PKG_VERSION").to_owned())])
}

/// Processors this process may use.
pub(crate) fn processors() -> NonZero<usize> {
    std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN)
}

/// The processor's name where the system tells it, else its architecture.
fn processor_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name =
        info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':')).map(|(_, name)| name.trim());
    name.filter(|name| !name.is_empty()).unwrap_or(std::env::consts::ARCH).to_owned()
}

/// Mean number of running processes over the last minute, where the system tells it.
fn load_average() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok().filter(|load: &f64| load.is_finite() && *load >= 0.0)
}

/// Says what on this machine, or of this build, makes times untrustworthy.
#[cfg(feature = "run")]
pub(crate) fn warn_if_not_trustworthy() {
    if cfg!(debug_assertions) {
        output::warning("this is a debug build of bbc: times of short runs hold more of it than they should");
    }
    warn_if_busy(load_average());
}

fn warn_if_busy(load_average: Option<f64>) {
    let processors = processors();
    if let Some(load) = load_average.filter(|load| *load > 0.5 * processors.get() as f64) {
        output::warning(&format!(
            "the machine is busy: {load} running processes on {processors} processors in the last minute; figures will \
             be low and spread widely, least so with `--threads 1`"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a base has and the published five do not name is measured too, at the stages that have a fair part of its
    /// operations; ResNet-50's stem, at 112x112, has 2.9 %.
    #[test]
    fn problems_of_base_models() {
        let problems = Problems::Bases(bbc::census::built_in("resnet50").unwrap());
        assert_eq!(problems.to_string(), "census of resnet50");
        let tasks = problems.tasks(2, DType::F16).unwrap();
        let shown: Vec<String> = tasks
            .iter()
            .filter(|task| task.candidate.window != [1, 1])
            .map(|Task { candidate, layers, problem }| format!("{candidate} {:?} {layers}", problem.output_shape()))
            .collect();
        let stages = [([2, 64, 56, 56], 11), ([2, 128, 28, 28], 13), ([2, 256, 14, 14], 19), ([2, 512, 7, 7], 9)];
        let candidates = ["conv5x5", "conv3x3", "dw3x3", "dw5x5", "conv7x7"];
        let expected = stages.iter().flat_map(|(shape, layers)| {
            candidates.iter().map(move |candidate| format!("{candidate} {shape:?} {layers}"))
        });
        assert_eq!(shown, expected.collect::<Vec<_>>());
        assert!(problems.tasks(0, DType::F16).is_err());
        let shares: Vec<(u32, u32)> =
            problems.stages().iter().map(|s| (s.channels, (s.share * 1000.0).round() as u32)).collect();
        assert_eq!(shares, [(64, 189), (128, 251), (256, 358), (512, 173)]);
    }

    /// The published candidates and 7x7, which ResNets have, once at each of four stages.
    #[test]
    fn problems_of_the_built_in_bases() {
        let problems: Problems = "bases".parse().unwrap();
        assert_eq!(problems.to_string(), "bases");
        let tasks = problems.tasks(1, DType::F32).unwrap();
        assert_eq!(tasks.len(), 24);
        assert!(tasks.iter().all(|task| task.layers == 1));
        let at_7x7: Vec<String> = tasks
            .iter()
            .filter(|task| task.problem.input() == [7, 7])
            .map(|task| format!("{} {}", task.candidate, task.problem.in_channels()))
            .collect();
        assert_eq!(at_7x7, ["conv5x5 512", "conv3x3 512", "conv1x1 512", "dw3x3 512", "dw5x5 512", "conv7x7 512"]);
        assert_eq!(problems.stages().len(), 4);
        assert_eq!("stages".parse::<Problems>().unwrap().stages(), []);
        assert!("base".parse::<Problems>().unwrap_err().to_string().contains("did you mean `bases`?"));
    }
}
