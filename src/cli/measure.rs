//! Measuring a target: from what was asked for to a profile.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZero;
use std::str::FromStr;
use std::time::Duration;

use bbc::census::{self, Census, CommonStage, Representative};
use bbc::conv::{Candidate, ProblemError};
use bbc::profile::sampling::{Budget, Progress, Samples, SamplingError, Timed, sample_rounds};
use bbc::profile::{
    BASES, Device, DeviceKind, FORMAT, Instrument, InstrumentKind, Measurement, Profile, Settings, StageShare, Task,
    Timing, UnknownWorkload, Workload,
};
use bbc::tensor::DType;
use indicatif::ProgressBar;

use super::failure::{Explain, Failure};
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

/// What to measure, and how.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// On which device.
    pub(crate) target: Wish,
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
    pub(crate) threads: Option<NonZero<usize>>,
    /// Seed of order, weights and inputs.
    pub(crate) seed: u64,
}

/// Measures a target of this machine.
pub(crate) fn measure(machine: &Here<'_>, plan: &Plan) -> Result<Profile, Failure> {
    let tasks = plan
        .problems
        .tasks(plan.batch, plan.dtype)
        .doing(|| format!("workload `{}` cannot be computed with batch {}", plan.problems, plan.batch))?;
    let target = target::resolve(&plan.target, machine)?;
    let load_average = load_average();
    warn_if_busy(load_average);
    let mut run = Run { plan, tasks, measurements: Vec::new(), versions: versions(), rounds: 0, threads: None };
    let device = match &target {
        Target::Cpu => run.processor(machine)?,
        Target::Provider(name) => run.unnamed_gpu(machine, name)?,
        Target::Adapter(index) => run.adapter(machine, *index)?,
    };
    let settings = Settings {
        workload: plan.problems.to_string(),
        dtype: plan.dtype,
        batch: plan.batch,
        threads: run.threads,
        rounds: run.rounds,
        time_budget_s: plan.time.as_secs_f64(),
        seed: plan.seed,
        load_average,
    };
    let stages = plan.problems.stages();
    Ok(Profile { format: FORMAT, device, versions: run.versions, settings, stages, measurements: run.measurements })
}

/// A measurement under way.
struct Run<'p> {
    plan: &'p Plan,
    tasks: Vec<Task>,
    measurements: Vec<Measurement>,
    versions: BTreeMap<String, String>,
    rounds: u32,
    threads: Option<u32>,
}

/// What was learned about a problem before it was timed.
struct Prepared {
    instrument: Instrument,
    timing: Timing,
    max_error: f32,
}

impl Run<'_> {
    fn processor(&mut self, machine: &Here<'_>) -> Result<Device, Failure> {
        if self.plan.instrument == Some(InstrumentKind::Shader) {
            return Err(Failure::new("shaders do not run on the processor as such")
                .with_hint("name a software adapter with `--target`; `bbc devices` lists them"));
        }
        self.provider(machine, "cpu", self.plan.time)?;
        Ok(Device { name: processor_name(), kind: DeviceKind::Cpu, backend: "cpu".into(), driver: String::new() })
    }

    fn unnamed_gpu(&mut self, machine: &Here<'_>, provider: &str) -> Result<Device, Failure> {
        if self.plan.instrument == Some(InstrumentKind::Shader) {
            return Err(Failure::new("wgpu finds no adapter for this GPU, so that shaders cannot run on it")
                .with_hint("install the Vulkan driver, or measure with `--instrument provider`"));
        }
        self.provider(machine, provider, self.plan.time)?;
        let name = format!("the GPU that provider {provider} takes");
        Ok(Device { name, kind: DeviceKind::OtherGpu, backend: provider.into(), driver: String::new() })
    }

    #[cfg(not(feature = "gpu"))]
    fn adapter(&mut self, _: &Here<'_>, _: usize) -> Result<Device, Failure> {
        Err(Failure::new("this bbc is built without the feature `gpu`"))
    }

    #[cfg(feature = "gpu")]
    fn adapter(&mut self, machine: &Here<'_>, index: usize) -> Result<Device, Failure> {
        let adapter = &machine.wgpu_adapters()[index];
        let provider = machine.provider_of(&Target::Adapter(index));
        let both = self.plan.instrument.is_none() && provider.is_some();
        let time = if both { self.plan.time / 2 } else { self.plan.time };
        if self.plan.instrument != Some(InstrumentKind::Provider) {
            self.shaders(adapter, time)?;
        }
        match (self.plan.instrument, provider) {
            (Some(InstrumentKind::Provider), None) => {
                return Err(Failure::new(format!("no execution provider computes on adapter `{}`", adapter.name))
                    .with_hint("measure it with `--instrument shader`"));
            }
            (Some(InstrumentKind::Provider), Some(provider)) => self.provider(machine, &provider, time)?,
            (None, Some(provider)) => {
                if let Err(failure) = self.provider(machine, &provider, time) {
                    output::warning(&format!("provider `{provider}` is not measured, only shaders are: {failure}"));
                }
            }
            (Some(_), _) | (None, None) => {}
        }
        Ok(Device::from(adapter))
    }

    #[cfg(feature = "gpu")]
    fn shaders(&mut self, adapter: &bbc::profile::shader::Adapter, time: Duration) -> Result<(), Failure> {
        use bbc::profile::shader::Gpu;

        let gpu = Gpu::open(adapter)?;
        let bar = output::timed_progress(self.tasks.len() as u64);
        let mut tuned = Vec::new();
        for task in &self.tasks {
            bar.set_message(format!("choosing the shader for {}", describe(task)));
            let prepared = gpu.prepare(&task.problem, TUNING);
            tuned.push(prepared.doing(|| format!("cannot measure {} by shaders", describe(task)))?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        let prepared = tuned
            .iter()
            .map(|tuned| {
                let shader = tuned.shader_name();
                let (name, variant) = shader.split_once(' ').unwrap_or((&shader, ""));
                let (name, variant) = (name.to_owned(), variant.to_owned());
                Prepared {
                    instrument: Instrument { kind: InstrumentKind::Shader, name, variant },
                    timing: tuned.timing().into(),
                    max_error: tuned.max_error(),
                }
            })
            .collect();
        let samples = self.sample(&mut tuned, "shaders", time)?;
        self.keep(prepared, samples);
        Ok(())
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
        let threads = self.plan.threads.unwrap_or_else(processors);
        let settings = Settings { provider, threads, seed: self.plan.seed };
        let bar = output::timed_progress(self.tasks.len() as u64);
        let mut chains = Vec::new();
        for task in &self.tasks {
            bar.set_message(format!("preparing {} ({name})", describe(task)));
            let prepared = Chains::prepare(&runtime, &task.problem, &settings);
            chains.push(prepared.doing(|| format!("cannot measure {} on provider `{name}`", describe(task)))?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        let instrument = Instrument { kind: InstrumentKind::Provider, name: name.into(), variant: String::new() };
        let prepared = chains
            .iter()
            .map(|chain| Prepared {
                instrument: instrument.clone(),
                timing: Timing::ChainSlope,
                max_error: chain.max_error(),
            })
            .collect();
        let mut bound = chains.iter_mut().map(Chains::bind).collect::<Result<Vec<_>, _>>()?;
        let samples = self.sample(&mut bound, name, time)?;
        self.versions.insert("onnx_runtime".into(), runtime.version().to_string());
        self.threads = u32::try_from(threads.get()).ok();
        self.keep(prepared, samples);
        Ok(())
    }

    /// Times all tasks.
    fn sample<T: Timed<Error: std::error::Error + Send + Sync + 'static>>(
        &self,
        problems: &mut [T],
        by: &str,
        time: Duration,
    ) -> Result<Samples, Failure> {
        let budget = Budget {
            time,
            min_rounds: MIN_ROUNDS,
            enough_rounds: ENOUGH_ROUNDS,
            max_rounds: MAX_ROUNDS,
            precision: PRECISION,
        };
        let bar = output::timed_progress(1000);
        let mut on_progress = |progress: Progress| self.show(&bar, by, progress);
        let samples = sample_rounds(problems, budget, self.plan.seed, &mut on_progress);
        bar.finish_and_clear();
        samples.map_err(|SamplingError { index, source }| {
            let error: Result<Samples, _> = Err(source);
            match error.doing(|| format!("cannot measure {} by {by} any more", describe(&self.tasks[index]))) {
                Err(failure) => failure,
                Ok(_) => unreachable!("an error stays one"),
            }
        })
    }

    fn show(&self, bar: &ProgressBar, by: &str, progress: Progress) {
        bar.set_position((progress.done * 1000.0) as u64);
        let (task, round) = (describe(&self.tasks[progress.index]), progress.rounds + 1);
        bar.set_message(format!("timing {task} ({by}), round {round}, {:.0} s left", progress.left.as_secs_f64()));
    }

    fn keep(&mut self, prepared: Vec<Prepared>, samples: Samples) {
        let rounds = samples.first().map_or(0, Vec::len);
        self.rounds = self.rounds.max(u32::try_from(rounds).unwrap_or(u32::MAX));
        for ((task, prepared), samples_ns) in self.tasks.iter().zip(prepared).zip(samples) {
            self.measurements.push(Measurement {
                candidate: task.candidate,
                layers: task.layers,
                problem: task.problem.clone(),
                instrument: prepared.instrument,
                timing: prepared.timing,
                max_error: Some(prepared.max_error),
                samples_ns,
            });
        }
    }
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
