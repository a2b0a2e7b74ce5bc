//! Measuring a target: from what was asked for to a profile.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZero;
use std::str::FromStr;
use std::time::Duration;

use bbc::census::{self, Census, CommonStage, Representative};
use bbc::conv::{Candidate, ProblemError};
use bbc::profile::conditions::{Caution, Conditions, State};
use bbc::profile::roof::Roof;
use bbc::profile::sampling::{Budget, Progress, Samples, SamplingError, Timed, sample_rounds};
use bbc::profile::{
    BASES, Device, DeviceKind, FORMAT, Incomplete, Instrument, InstrumentKind, Measurement, Profile, Settings,
    StageShare, Task, Timing, UnknownWorkload, Workload,
};
use bbc::tensor::DType;
use indicatif::ProgressBar;

use super::failure::{Explain, Failure};
#[cfg(any(feature = "gpu", feature = "run"))]
use super::roofs;
use super::target::{self, Here, Target, Wish};
use super::{conditions, output};

/// Rounds that are made whatever time they take.
const MIN_ROUNDS: u32 = 10;
/// Rounds before sampling may end early.
pub(crate) const ENOUGH_ROUNDS: u32 = 30;
/// Most rounds.
const MAX_ROUNDS: u32 = 1000;
/// Sampling ends early when every median is known this well, to both sides.
pub(crate) const PRECISION: f64 = 0.02;

/// The time sampling takes at most if nothing else is asked for: where the processor computes, and on a GPU.
const DEFAULT_TIME: [Duration; 2] = [Duration::from_secs(120), Duration::from_secs(30)];

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
    /// How long sampling may take, all instruments together; `None` for what suits the device.
    pub(crate) time: Option<Duration>,
    /// Whether to measure what the device reaches at most.
    pub(crate) roofs: bool,
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
    let load_average = conditions::load_average();
    warn_if_busy(load_average);
    let time = plan.time.unwrap_or_else(|| machine.default_time(&target));
    let mut run = Run {
        plan,
        tasks,
        time,
        gpu: None,
        load_average,
        conditions: None,
        incomplete: None,
        roofs: Vec::new(),
        measurements: Vec::new(),
        versions: versions(),
        rounds: 0,
        threads: None,
    };
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
        time_budget_s: time.as_secs_f64(),
        seed: plan.seed,
        load_average,
    };
    Ok(Profile {
        format: FORMAT,
        device,
        versions: run.versions,
        settings,
        stages: plan.problems.stages(),
        conditions: run.conditions,
        incomplete: run.incomplete,
        roofs: run.roofs,
        measurements: run.measurements,
    })
}

impl Here<'_> {
    fn default_time(&self, target: &Target) -> Duration {
        let software = match target {
            Target::Cpu => true,
            Target::Provider(_) => false,
            Target::Adapter(index) => self.is_software(*index),
        };
        DEFAULT_TIME[usize::from(!software)]
    }
}

/// A measurement under way.
struct Run<'p> {
    plan: &'p Plan,
    tasks: Vec<Task>,
    time: Duration,
    /// The name of the GPU, if it is one.
    gpu: Option<String>,
    /// Before anything was done.
    load_average: Option<f64>,
    conditions: Option<Conditions>,
    incomplete: Option<Incomplete>,
    roofs: Vec<Roof>,
    measurements: Vec<Measurement>,
    versions: BTreeMap<String, String>,
    rounds: u32,
    threads: Option<u32>,
}

/// What was learned about a problem before it was timed.
struct Prepared {
    task: Task,
    instrument: Instrument,
    timing: Timing,
    max_error: f32,
    computed_in: Option<DType>,
}

impl Run<'_> {
    fn processor(&mut self, machine: &Here<'_>) -> Result<Device, Failure> {
        if self.plan.instrument == Some(InstrumentKind::Shader) {
            return Err(Failure::new("shaders do not run on the processor as such")
                .with_hint("name a software adapter with `--target`; `bbc devices` lists them"));
        }
        self.provider(machine, "cpu", self.time)?;
        Ok(Device { name: processor_name(), kind: DeviceKind::Cpu, backend: "cpu".into(), driver: String::new() })
    }

    fn unnamed_gpu(&mut self, machine: &Here<'_>, provider: &str) -> Result<Device, Failure> {
        if self.plan.instrument == Some(InstrumentKind::Shader) {
            return Err(Failure::new("wgpu finds no adapter for this GPU, so that shaders cannot run on it")
                .with_hint("install the Vulkan driver, or measure with `--instrument provider`"));
        }
        let name = format!("the GPU that provider {provider} takes");
        self.gpu = Some(name.clone());
        self.provider(machine, provider, self.time)?;
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
        self.gpu = (!adapter.is_software()).then(|| adapter.name.clone());
        let both = self.plan.instrument.is_none() && provider.is_some();
        let time = if both { self.time / 2 } else { self.time };
        // Shaders are not asked for what they do not compute where something else computes it.
        let computed = matches!(self.plan.dtype, DType::F32 | DType::F16);
        if self.plan.instrument.map_or(computed || !both, |instrument| instrument == InstrumentKind::Shader) {
            self.shaders(adapter, if computed { time } else { self.time })?;
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
        use bbc::profile::shader::{Gpu, GpuError, PrepareError};

        let gpu = Gpu::open(adapter)?;
        let bar = output::timed_progress(self.tasks.len() as u64);
        let (mut prepared, mut tuned) = (Vec::new(), Vec::new());
        let mut failures = Failures::default();
        for task in &self.tasks {
            bar.set_message(format!("choosing the shader for {}", describe(task)));
            match gpu.prepare(&task.problem, TUNING) {
                Ok(problem) => {
                    let shader = problem.shader_name();
                    let (name, variant) = shader.split_once(' ').unwrap_or((&shader, ""));
                    let (name, variant) = (name.to_owned(), variant.to_owned());
                    prepared.push(Prepared {
                        task: task.clone(),
                        instrument: Instrument { kind: InstrumentKind::Shader, name, variant },
                        timing: problem.timing().into(),
                        max_error: problem.max_error(),
                        computed_in: Some(task.problem.dtype()),
                    });
                    tuned.push(problem);
                }
                // A device that is gone does not come back for the next problem.
                Err(error @ PrepareError::Gpu(GpuError::Lost { .. } | GpuError::Timeout { .. })) => {
                    return Err(error).doing(|| format!("cannot measure {} by shaders", describe(task)));
                }
                Err(error) => failures.add(format!("cannot measure {} by shaders", describe(task)), error),
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        self.lacks(failures.unless_all(tuned.len())?);
        if self.plan.roofs {
            self.roofs.extend(roofs::of_adapter(&gpu, self.plan.dtype, time, self.plan.seed));
        }
        self.sample(prepared, &mut tuned, "shaders", time)
    }

    #[cfg(not(feature = "run"))]
    fn provider(&mut self, _: &Here<'_>, _: &str, _: Duration) -> Result<(), Failure> {
        Err(Failure::new("this bbc is built without the feature `run`, so that it cannot use ONNX Runtime"))
    }

    #[cfg(feature = "run")]
    fn provider(&mut self, machine: &Here<'_>, name: &str, time: Duration) -> Result<(), Failure> {
        use bbc::profile::provider::{Copies, Settings};
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
        let (mut prepared, mut copies) = (Vec::new(), Vec::new());
        let mut failures = Failures::default();
        for task in &self.tasks {
            bar.set_message(format!("preparing {} ({name})", describe(task)));
            match Copies::prepare(&runtime, &task.problem, &settings) {
                Ok(problem) => {
                    prepared.push(Prepared {
                        task: task.clone(),
                        instrument: Instrument {
                            kind: InstrumentKind::Provider,
                            name: name.into(),
                            variant: String::new(),
                        },
                        timing: problem.timing(),
                        max_error: problem.max_error(),
                        computed_in: problem.computed_in(),
                    });
                    copies.push(problem);
                }
                Err(error) => {
                    failures.add(format!("cannot measure {} on provider `{name}`", describe(task)), error);
                }
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        self.lacks(failures.unless_all(copies.len())?);
        self.versions.insert("onnx_runtime".into(), runtime.version().to_string());
        self.threads = u32::try_from(threads.get()).ok();
        if self.plan.roofs {
            let dtype = prepared.iter().find_map(|problem| problem.computed_in).unwrap_or(self.plan.dtype);
            self.roofs.extend(roofs::of_provider(&runtime, name, dtype, &settings, time));
        }
        let mut bound = copies.iter_mut().map(Copies::bind).collect::<Result<Vec<_>, _>>()?;
        self.sample(prepared, &mut bound, name, time)
    }

    /// Times all problems and keeps the samples; those taken before a failure as well.
    fn sample<T: Timed<Error: std::error::Error + Send + Sync + 'static>>(
        &mut self,
        prepared: Vec<Prepared>,
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
        let bar = output::timed_progress(1000);
        let mut on_progress = |progress: Progress| show(&bar, &prepared[progress.index].task, by, progress);
        // What is at work by now is what was prepared.
        let before = State { load_average: self.load_average, ..conditions::state(self.gpu.as_deref()) };
        let samples = sample_rounds(problems, budget, self.plan.seed, &mut on_progress);
        let after = conditions::state(self.gpu.as_deref());
        bar.finish_and_clear();
        let before = self.conditions.take().map_or(before, |conditions| conditions.before);
        self.conditions =
            Some(Conditions { debug_build: cfg!(debug_assertions), processors: processor_count(), before, after });
        let samples = samples.or_else(|SamplingError { index, source, samples }| {
            let doing = format!("cannot measure {} by {by} any more", describe(&prepared[index].task));
            if samples.iter().all(Vec::is_empty) {
                return Err(source).doing(|| doing);
            }
            self.lacks(Some(Incomplete { doing, reason: source.to_string() }));
            Ok(samples)
        })?;
        self.keep(prepared, samples);
        Ok(())
    }

    /// Remembers what is missing first.
    fn lacks(&mut self, missing: Option<Incomplete>) {
        self.incomplete = self.incomplete.take().or(missing);
    }

    fn keep(&mut self, prepared: Vec<Prepared>, samples: Samples) {
        let rounds = samples.first().map_or(0, Vec::len);
        self.rounds = self.rounds.max(u32::try_from(rounds).unwrap_or(u32::MAX));
        for (prepared, samples) in prepared.into_iter().zip(samples) {
            let processor_ns: Vec<Option<u64>> =
                samples.iter().map(|sample| sample.and_then(|time| time.processor_ns)).collect();
            let told = processor_ns.iter().any(Option::is_some);
            self.measurements.push(Measurement {
                candidate: prepared.task.candidate,
                layers: prepared.task.layers,
                problem: prepared.task.problem,
                instrument: prepared.instrument,
                timing: prepared.timing,
                max_error: Some(prepared.max_error),
                computed_in: prepared.computed_in,
                samples_ns: samples.iter().map(|sample| sample.map(|time| time.wall_ns)).collect(),
                processor_ns: if told { processor_ns } else { Vec::new() },
            });
        }
    }
}

/// Problems that could not be prepared.
#[derive(Default)]
struct Failures(Vec<(String, anyhow::Error)>);

impl Failures {
    fn add(&mut self, doing: String, error: impl Into<anyhow::Error>) {
        self.0.push((doing, error.into()));
    }

    /// What is missing, where others could be prepared; a failure where none could.
    fn unless_all(self, prepared: usize) -> Result<Option<Incomplete>, Failure> {
        let more = self.0.len().saturating_sub(1);
        let Some((doing, error)) = self.0.into_iter().next() else { return Ok(None) };
        if prepared == 0 {
            return Err(error).doing(|| doing);
        }
        let others =
            if more == 0 { String::new() } else { format!("; {more} more problems could not be measured either") };
        Ok(Some(Incomplete { doing, reason: format!("{error:#}{others}") }))
    }
}

fn show(bar: &ProgressBar, task: &Task, by: &str, progress: Progress) {
    bar.set_position((progress.done * 1000.0) as u64);
    let (task, round) = (describe(task), progress.rounds + 1);
    bar.set_message(format!("timing {task} ({by}), round {round}, {:.0} s left", progress.left.as_secs_f64()));
}

fn warn_if_busy(load_average: Option<f64>) {
    if let Some(busy) = load_average.and_then(|load| Caution::of_load(load, processor_count(), false)) {
        output::warning(&busy.to_string());
    }
}

/// Says what on this machine, or of this build, makes times untrustworthy.
#[cfg(feature = "run")]
pub(crate) fn warn_if_not_trustworthy() {
    if cfg!(debug_assertions) {
        output::warning(&Caution::DebugBuild.to_string());
    }
    warn_if_busy(conditions::load_average());
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

fn processor_count() -> u32 {
    u32::try_from(processors().get()).unwrap_or(u32::MAX)
}

/// The processor's name where the system tells it, else its architecture.
fn processor_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name =
        info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':')).map(|(_, name)| name.trim());
    name.filter(|name| !name.is_empty()).unwrap_or(std::env::consts::ARCH).to_owned()
}

#[cfg(test)]
mod tests {
    use bbc::profile::sampling::Time;

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

    #[derive(Debug, thiserror::Error)]
    #[error("the device was lost")]
    struct Lost;

    /// Takes its number of microseconds so many times.
    struct Fake {
        us: u64,
        times: u32,
    }

    impl Timed for Fake {
        type Error = Lost;

        fn sample(&mut self) -> Result<Option<Time>, Lost> {
            self.times = self.times.checked_sub(1).ok_or(Lost)?;
            Ok(Some(Time { wall_ns: self.us * 1000, processor_ns: None }))
        }
    }

    /// Samples two problems, the second of which can be timed so many times.
    fn sampled(times: u32) -> Result<(Vec<usize>, Option<Incomplete>), String> {
        let plan = Plan {
            target: Wish::Cpu,
            instrument: None,
            problems: Problems::Workload(Workload::Patent),
            time: None,
            roofs: false,
            batch: 1,
            dtype: DType::F32,
            threads: None,
            seed: 0,
        };
        let tasks = plan.problems.tasks(1, DType::F32).unwrap()[..2].to_vec();
        let prepared = tasks.iter().map(|task| Prepared {
            task: task.clone(),
            instrument: Instrument { kind: InstrumentKind::Provider, name: "fake".into(), variant: String::new() },
            timing: Timing::ChainSlope,
            max_error: 0.0,
            computed_in: None,
        });
        let prepared = prepared.collect();
        let mut run = Run {
            plan: &plan,
            tasks,
            time: Duration::ZERO,
            gpu: None,
            load_average: None,
            conditions: None,
            incomplete: None,
            roofs: Vec::new(),
            measurements: Vec::new(),
            versions: BTreeMap::new(),
            rounds: 0,
            threads: None,
        };
        let mut problems = [Fake { us: 5, times: 1000 }, Fake { us: 7, times }];
        run.sample(prepared, &mut problems, "fake", Duration::ZERO).map_err(|failure| failure.to_string())?;
        Ok((run.measurements.iter().map(|m| m.samples_ns.len()).collect(), run.incomplete))
    }

    #[test]
    fn what_was_measured_before_a_failure_is_kept_and_marked() {
        assert_eq!(sampled(1000), Ok((vec![MIN_ROUNDS as usize; 2], None)));
        let (samples, incomplete) = sampled(3).unwrap();
        assert!(samples == [3, 3] || samples == [4, 3], "{samples:?}");
        let doing = "cannot measure conv3x3 at 512x64x64 by fake any more".to_owned();
        assert_eq!(incomplete, Some(Incomplete { doing, reason: "the device was lost".into() }));
    }

    #[test]
    fn problems_that_cannot_be_prepared_are_missing_unless_there_are_no_others() {
        let mut failures = Failures::default();
        assert!(Failures::default().unless_all(0).unwrap().is_none());
        failures.add("cannot measure a".into(), Lost);
        failures.add("cannot measure b".into(), Lost);
        let Some(Incomplete { doing, reason }) = failures.unless_all(1).unwrap() else { panic!("two are missing") };
        assert_eq!(doing, "cannot measure a");
        assert_eq!(reason, "the device was lost; 1 more problems could not be measured either");
        let mut failures = Failures::default();
        failures.add("cannot measure a".into(), Lost);
        insta::assert_snapshot!(failures.unless_all(0).unwrap_err(), @r"
        cannot measure a
          Caused by: the device was lost
        ");
    }
}
