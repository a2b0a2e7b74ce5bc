//! The `provider` instrument: convolutions as one execution provider of ONNX Runtime computes them.
//!
//! A single convolution is too short to be timed: calling into the runtime takes longer than many of them. So a model is
//! made of many copies of it, each followed by its activation and each with weights of its own, and a second model of
//! fewer copies. The difference of their times, divided by the difference of their counts, is what one layer takes inside
//! a network; whatever a run costs once falls out.
//!
//! Where the result is an input of the same convolution, the copies are a *chain*: each reads what the one before it has
//! just written, as in a network. Where it is not (a stride, other channels out than in), they are a *fan*: all of them
//! read the same input. The input of a fan is as warm as that of a chain, since the copy before it has just read it, but
//! each copy begins with an output nobody has touched. On the processor, results that leave a model are first brought
//! into the order of NCHW; so that this is not timed, one position of each result is picked by a pool, and only that
//! leaves, which adds the call of a kernel that does nothing. On other providers the results themselves are the model's
//! outputs and stay on the device.
//!
//! Before copies are timed, one layer is compared with the reference, its nodes are shown to run on the provider, and the
//! runtime's own record tells in which precision: half precision may have been turned into single, and eight-bit
//! integers have to be computed as integers. See [`Copies::computed_in`].

use std::convert::Infallible;
use std::num::NonZero;
use std::time::Duration;

use half::{bf16, f16};

use self::models::INPUT;
use crate::conv::ConvProblem;
use crate::ir::{BuildError, Graph, Init, Seeded, Weight};
use crate::onnx::Lowered;
use crate::profile::sampling::{Time, Timed, median};
use crate::profile::{Timing, processor};
use crate::random::SplitMix64;
use crate::reference::conv_element;
use crate::runtime::Runtime;
use crate::runtime::provider::Provider;
use crate::runtime::record::NodeRecord;
use crate::runtime::session::{Bound, Options, PlacementError, RunError, Session, SessionError};
use crate::tensor::{DType, Tensor, element_count};

mod models;
mod roof;

pub use self::roof::Ceiling;

/// How long the longer model of a pair should take.
const LONG_RUN: Duration = Duration::from_millis(15);

/// Most runs of each model in one sample.
const MAX_RUNS: u32 = 7;

/// Longest that one run on a device other than the processor may take.
const LONGEST_RUN: Duration = Duration::from_millis(250);

/// Fewest and most copies in the longer model.
const COPIES: [u32; 2] = [3, 64];

/// Most bytes of weights, and of results that are kept, in the longer model.
const MAX_MEMORY: u64 = 96 << 20;

/// Elements of a result that are compared with the reference.
const COMPARED: usize = 256;

/// Multiply-adds that comparing may take.
const COMPARED_WORK: u64 = 50_000_000;

/// Runs before a time is believed.
const WARM_UP: usize = 2;

/// How copies are made and run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// What computes.
    pub provider: Provider,
    /// Processor threads it may use.
    pub threads: NonZero<usize>,
    /// Seed of weights and inputs.
    pub seed: u64,
}

/// How the copies of a convolution in one model are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrangement {
    /// Each reads the result of the one before.
    Chain,
    /// All read the same input.
    Fan,
}

impl Arrangement {
    /// How a problem's copies are connected: in a chain wherever its result can be its input.
    pub fn of(problem: &ConvProblem) -> Self {
        if problem.input_shape() == problem.output_shape() { Self::Chain } else { Self::Fan }
    }

    fn graph(self, problem: &ConvProblem, copies: u32, provider: Provider) -> Result<Graph, BuildError> {
        match self {
            Self::Chain => models::chain(problem, copies),
            Self::Fan => models::fan(problem, copies, provider == Provider::Cpu),
        }
    }
}

/// Two models of copies of one problem, checked and warm.
#[derive(Debug)]
pub struct Copies {
    pair: Pair,
    arrangement: Arrangement,
    max_error: f32,
    computed_in: Option<DType>,
}

/// Why a problem cannot be timed by a provider.
#[derive(Debug, thiserror::Error)]
pub enum CopiesError {
    /// The model cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// ONNX Runtime refuses the model.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// ONNX Runtime fails to run it.
    #[error(transparent)]
    Run(#[from] RunError),
    /// It is not known where the nodes ran.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// The provider left nodes to another one.
    #[error("{elsewhere} of {nodes} nodes did not run on `{provider}`: `{first}` ran on {first_provider}")]
    Elsewhere {
        /// What should have computed.
        provider: Provider,
        /// How many nodes there are.
        nodes: usize,
        /// How many of them ran elsewhere.
        elsewhere: usize,
        /// The first of those.
        first: String,
        /// Where that one ran.
        first_provider: String,
    },
    /// The result is not the reference's.
    #[error("the result is wrong: {found} instead of {expected} at {index:?}")]
    Wrong {
        /// Position in the result.
        index: [u32; 4],
        /// What the provider computes there.
        found: f32,
        /// What is right.
        expected: f32,
    },
    /// It was not computed in integers, as asked for.
    #[error("it was to be computed in eight-bit integers, but `{op}` ran in {dtype}")]
    NotIntegers {
        /// The operator that ran.
        op: String,
        /// What it ran in.
        dtype: DType,
    },
    /// The runtime has left out what was to be timed.
    #[error("{found} of {expected} `{op}` nodes are left of the model that was to be timed")]
    LeftOut {
        /// The operator.
        op: &'static str,
        /// How many ran.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// One run would take too long for a device that also draws the screen.
    #[error("{copies} layers would take about {} ms in one run, more than the {} ms allowed", took.as_millis(), LONGEST_RUN.as_millis())]
    TooLong {
        /// Layers of the smallest model that can be timed.
        copies: u32,
        /// How long it would take.
        took: Duration,
    },
}

impl Copies {
    /// Makes both models of a problem, compares one layer with the reference, and warms up.
    ///
    /// # Errors
    /// If the provider cannot compute the problem, computes it wrong, or in another precision than integers where those
    /// are asked for.
    pub fn prepare(runtime: &Runtime, problem: &ConvProblem, settings: &Settings) -> Result<Self, CopiesError> {
        let dtype = problem.dtype();
        let input = input(problem, settings);
        let one = models::chain(problem, 1)?;
        let model = |graph: &Graph| models::model(graph, dtype, settings.provider);
        let mut recorded = settings.recorded(runtime, &model(&one))?;
        let max_error = compare(problem, &one, &input, settings, &mut recorded)?;
        placed(recorded, settings.provider)?;
        // What becomes of one layer need not become of several.
        let arrangement = Arrangement::of(problem);
        let mut recorded = settings.recorded(runtime, &model(&arrangement.graph(problem, 2, settings.provider)?))?;
        recorded.run(&[(INPUT, &input)])?;
        let computed_in = computed_in(&placed(recorded, settings.provider)?, dtype)?;

        let mut single = settings.session(runtime, &model(&one))?;
        let layer = warm_time(&mut single, &input)?;
        drop(single);
        let memory = |shape: &[u32]| element_count(shape) * dtype.size();
        let kept = match arrangement {
            Arrangement::Chain => 0,
            Arrangement::Fan => memory(&problem.output_shape()),
        };
        let counts = counts(memory(&problem.weight_shape()) + kept, layer, settings.provider)?;
        let pair = Pair::new(runtime, counts, input, settings, |copies| {
            Ok(model(&arrangement.graph(problem, copies, settings.provider)?))
        })?;
        Ok(Self { pair, arrangement, max_error, computed_in })
    }

    /// Greatest absolute difference to the reference, over the elements compared. The results have about unit variance.
    pub fn max_error(&self) -> f32 {
        self.max_error
    }

    /// How many copies the smaller and the larger model have.
    pub fn counts(&self) -> [u32; 2] {
        self.pair.counts
    }

    /// How the copies are connected.
    pub fn arrangement(&self) -> Arrangement {
        self.arrangement
    }

    /// How their time is taken.
    pub fn timing(&self) -> Timing {
        match self.arrangement {
            Arrangement::Chain => Timing::ChainSlope,
            Arrangement::Fan => Timing::FanSlope,
        }
    }

    /// The precision that the convolution was found to be computed in, by the types of the nodes that ran; `None` where
    /// the provider hides its nodes in one of its own.
    pub fn computed_in(&self) -> Option<DType> {
        self.computed_in
    }

    /// The models with their input in place.
    ///
    /// # Errors
    /// If ONNX Runtime cannot take the input.
    pub fn bind(&mut self) -> Result<BoundPair<'_>, CopiesError> {
        self.pair.bind()
    }
}

impl Settings {
    fn options(&self) -> Options {
        Options { threads: Some(self.threads), ..Options::on(self.provider) }
    }

    fn session(&self, runtime: &Runtime, model: &Lowered) -> Result<Session, SessionError> {
        Session::from_bytes(runtime, &model.to_bytes(&Seeded(self.seed)), &self.options())
    }

    /// A session that records which node runs where.
    fn recorded(&self, runtime: &Runtime, model: &Lowered) -> Result<Session, SessionError> {
        let options = Options { record_placement: true, ..self.options() };
        Session::from_bytes(runtime, &model.to_bytes(&Seeded(self.seed)), &options)
    }
}

/// Two models that differ in how often they do the same, warm.
#[derive(Debug)]
struct Pair {
    short: Session,
    long: Session,
    /// How often each of them does it.
    counts: [u32; 2],
    /// How often each is run for one sample.
    runs: u32,
    input: Tensor,
}

impl Pair {
    fn new(
        runtime: &Runtime,
        counts: [u32; 2],
        input: Tensor,
        settings: &Settings,
        model: impl Fn(u32) -> Result<Lowered, CopiesError>,
    ) -> Result<Self, CopiesError> {
        let mut short = settings.session(runtime, &model(counts[0])?)?;
        let mut long = settings.session(runtime, &model(counts[1])?)?;
        warm_time(&mut short, &input)?;
        let runs = runs(warm_time(&mut long, &input)?);
        Ok(Self { short, long, counts, runs, input })
    }

    fn bind(&mut self) -> Result<BoundPair<'_>, CopiesError> {
        let on_processor = self.short.provider() == Provider::Cpu;
        let short = self.short.bind(&[(INPUT, &self.input)])?;
        let long = self.long.bind(&[(INPUT, &self.input)])?;
        let added = f64::from(self.counts[1] - self.counts[0]);
        Ok(BoundPair { short, long, runs: self.runs, added, on_processor })
    }
}

/// Two models ready to be timed.
#[derive(Debug)]
pub struct BoundPair<'c> {
    short: Bound<'c>,
    long: Bound<'c>,
    /// How often each is run for one sample.
    runs: u32,
    /// How much more often the longer does the same.
    added: f64,
    /// Whether this process's threads compute.
    on_processor: bool,
}

/// Times of several runs of one model, in nanoseconds.
#[derive(Default)]
struct Runs {
    wall: Vec<f64>,
    processor: Vec<f64>,
}

impl Runs {
    fn add(&mut self, bound: &mut Bound<'_>, on_processor: bool) -> Result<(), RunError> {
        let before = if on_processor { processor::time() } else { None };
        self.wall.extend(bound.time(1)?.into_iter().map(|ns| ns as f64));
        let taken = before.and_then(|before| processor::time()?.checked_sub(before));
        self.processor.extend(taken.map(|time| time.as_nanos() as f64));
        Ok(())
    }
}

impl Timed for BoundPair<'_> {
    type Error = CopiesError;

    /// Runs both models in turn and compares their median times. The sample is thrown away if the longer took no longer.
    fn sample(&mut self) -> Result<Option<Time>, CopiesError> {
        let (mut short, mut long) = (Runs::default(), Runs::default());
        for _ in 0..self.runs {
            short.add(&mut self.short, self.on_processor)?;
            long.add(&mut self.long, self.on_processor)?;
        }
        let slope = |long: &[f64], short: &[f64]| {
            let difference = median(long).zip(median(short)).map(|(long, short)| (long - short) / self.added);
            difference.map(f64::round).filter(|&ns| ns >= 1.0).map(|ns| ns as u64)
        };
        let processor_ns = slope(&long.processor, &short.processor);
        Ok(slope(&long.wall, &short.wall).map(|wall_ns| Time { wall_ns, processor_ns }))
    }
}

/// An input of unit variance, its values as the model computes with them.
fn input(problem: &ConvProblem, settings: &Settings) -> Tensor {
    let shape = problem.input_shape();
    let weight = Weight::new(INPUT, shape, Init::Uniform { bound: models::INPUT_BOUND });
    let steps = models::quantization(settings.provider).of_input();
    let values = made(&weight, settings.seed).into_iter().map(|value| match problem.dtype() {
        DType::I8 => steps.rounded(value),
        dtype => rounded(value, dtype),
    });
    let values = values.collect();
    // The weight has as many values as its shape.
    Tensor::new(shape, values).unwrap_or_else(|error| unreachable!("{error}"))
}

fn made(weight: &Weight, seed: u64) -> Vec<f32> {
    weight.values(&Seeded(seed)).unwrap_or_else(|never: Infallible| match never {})
}

/// The values of a layer's kernel as the model computes with them.
fn kernel(weight: &Weight, problem: &ConvProblem, seed: u64) -> Vec<f32> {
    let (stored, scale) = models::kernel_in(weight, problem.dtype());
    let values = made(&stored, seed).into_iter();
    match problem.dtype() {
        DType::I8 => values.map(|value| value.round() * scale).collect(),
        dtype => values.map(|value| rounded(value, dtype)).collect(),
    }
}

/// The value nearest to this one that the element type has.
fn rounded(value: f32, dtype: DType) -> f32 {
    match dtype {
        DType::F32 | DType::I8 => value,
        DType::F16 => f16::from_f32(value).to_f32(),
        DType::BF16 => bf16::from_f32(value).to_f32(),
    }
}

/// Compares one layer with the reference at sampled positions; the greatest difference.
fn compare(
    problem: &ConvProblem,
    one: &Graph,
    input: &Tensor,
    settings: &Settings,
    session: &mut Session,
) -> Result<f32, CopiesError> {
    let weight = one.weights().next();
    let weight = weight.map(|(_, weight)| kernel(weight, problem, settings.seed)).unwrap_or_default();
    let outputs = session.run(&[(INPUT, input)])?;
    let found = outputs.first().map(|(_, tensor)| tensor.data()).unwrap_or_default();
    let tolerance = tolerance(problem.dtype(), settings.provider);
    // Integers have a greatest value; none of the others comes near that of its type.
    let most = match problem.dtype() {
        DType::I8 => models::quantization(settings.provider).inner,
        DType::F32 | DType::F16 | DType::BF16 => f32::INFINITY,
    };
    greatest_error(problem, input.data(), &weight, found, [tolerance, most], settings.seed)
}

/// The greatest difference between a layer's result and the reference, which is cut off at `most`, at sampled positions.
fn greatest_error(
    problem: &ConvProblem,
    input: &[f32],
    weight: &[f32],
    found: &[f32],
    [tolerance, most]: [f32; 2],
    seed: u64,
) -> Result<f32, CopiesError> {
    let mut max_error = 0f32;
    for index in positions(problem, seed) {
        let expected = (conv_element(problem, input, weight, index) as f32).clamp(0.0, most);
        let flat = problem.output_shape().iter().zip(index).fold(0, |at, (&n, i)| at * n as usize + i as usize);
        let found = found.get(flat).copied().unwrap_or(f32::NAN);
        let difference = (found - expected).abs();
        // NaN is no agreement.
        if difference.is_nan() || difference > tolerance {
            return Err(CopiesError::Wrong { index, found, expected });
        }
        max_error = max_error.max(difference);
    }
    Ok(max_error)
}

/// How far a result of unit variance may be off. GPUs multiply in ten bits of mantissa where single precision is asked
/// for, unless told not to.
fn tolerance(dtype: DType, provider: Provider) -> f32 {
    match (dtype, provider) {
        (DType::F32, Provider::Cpu) => 1e-4,
        (DType::F32 | DType::F16, _) => 2e-2,
        // Two steps of the integers that results are rounded to.
        (DType::I8, _) => 2.0 * models::quantization(provider).of_inner(true).scale,
        (DType::BF16, _) => 1e-1,
    }
}

/// Positions at which a result is compared: its first and last element, and others at random.
fn positions(problem: &ConvProblem, seed: u64) -> Vec<[u32; 4]> {
    let shape = problem.output_shape();
    let per_element = problem.flops().multiply_adds() / element_count(&shape).max(1);
    let count = COMPARED.min(usize::try_from(COMPARED_WORK / per_element.max(1)).unwrap_or(COMPARED));
    let mut random = SplitMix64::new(seed);
    let ends = [[0; 4], shape.map(|n| n - 1)];
    let others = std::iter::repeat_with(|| shape.map(|n| random.below(n as usize) as u32));
    ends.into_iter().chain(others.take(count)).collect()
}

/// Checks that every node of the session ran on the provider; which they were.
fn placed(session: Session, provider: Provider) -> Result<Vec<NodeRecord>, CopiesError> {
    let nodes = session.record()?;
    let elsewhere: Vec<&NodeRecord> = nodes.iter().filter(|node| node.provider != provider.ort_name()).collect();
    match elsewhere.first() {
        None => Ok(nodes),
        Some(first) => Err(CopiesError::Elsewhere {
            provider,
            nodes: nodes.len(),
            elsewhere: elsewhere.len(),
            first: first.name.clone(),
            first_provider: first.provider.clone(),
        }),
    }
}

/// The precision of the nodes that do the work, whatever the runtime has made of them: `Conv`, `FusedConv`,
/// `QLinearConv`, `QGemm`. `None` if there are none.
///
/// # Errors
/// If integers were asked for and it is another.
fn computed_in(nodes: &[NodeRecord], asked: DType) -> Result<Option<DType>, CopiesError> {
    let works = |op: &str| ["Conv", "Gemm", "MatMul"].iter().any(|word| op.contains(word));
    let mut found = None;
    for node in nodes.iter().filter(|node| works(&node.op)) {
        let dtype = match node.inputs.first().map(|input| input.element_type.as_str()) {
            Some("float") => DType::F32,
            Some("float16") => DType::F16,
            Some("bfloat16") => DType::BF16,
            Some("int8" | "uint8") => DType::I8,
            Some(_) | None => continue,
        };
        if asked == DType::I8 && dtype != DType::I8 {
            return Err(CopiesError::NotIntegers { op: node.op.clone(), dtype });
        }
        // Of several, the one that takes the most.
        found = found.filter(|other: &DType| other.size() >= dtype.size()).or(Some(dtype));
    }
    Ok(found)
}

/// The time of a run once the session is warm.
fn warm_time(session: &mut Session, input: &Tensor) -> Result<Duration, CopiesError> {
    let times = session.bind(&[(INPUT, input)])?.time(WARM_UP + 1)?;
    Ok(Duration::from_nanos(times.last().copied().unwrap_or(0)))
}

/// Copies in the smaller and the larger model, for a layer that needs so many bytes for itself and takes this long.
fn counts(bytes: u64, layer: Duration, provider: Provider) -> Result<[u32; 2], CopiesError> {
    let [fewest, most] = COPIES;
    let by_time = LONG_RUN.as_nanos() / layer.as_nanos().max(1);
    let by_memory = MAX_MEMORY / bytes.max(1);
    let long = u32::try_from(by_time.min(by_memory.into())).unwrap_or(most).clamp(fewest, most);
    if provider != Provider::Cpu && layer * long > LONGEST_RUN {
        return Err(CopiesError::TooLong { copies: long, took: layer * long });
    }
    Ok([long / 3, long])
}

/// How often models are run for one sample: more than once where even the longest is short. An odd number, so that
/// the median is one of them.
fn runs(long: Duration) -> u32 {
    let fitting = LONG_RUN.as_nanos() / long.as_nanos().max(1);
    let runs = u32::try_from(fitting).unwrap_or(MAX_RUNS).clamp(1, MAX_RUNS);
    runs - (runs + 1) % 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::{Candidate, Conv};
    use crate::reference;
    use crate::runtime::record::TypeAndShape;
    use crate::units::Bytes;

    fn problem(candidate: Candidate, channels: u32, size: u32) -> ConvProblem {
        let conv = candidate.conv(channels);
        ConvProblem::new(conv, 1, channels, channels, [size, size], DType::F32).unwrap()
    }

    #[test]
    fn a_chain_has_weights_of_its_own_in_every_layer() {
        let graph = models::chain(&problem(Candidate::full(3), 8, 6), 3).unwrap();
        insta::assert_snapshot!(graph, @r"
        backbone chain
          %0 x           = input                    : f32[1,8,6,6]
          %1 layer0.conv = conv(%0) 3x3 pad=1 out=8 : f32[1,8,6,6]   41.5 kFLOP
          %2 layer0.act  = relu(%1)                 : f32[1,8,6,6]
          %3 layer1.conv = conv(%2) 3x3 pad=1 out=8 : f32[1,8,6,6]   41.5 kFLOP
          %4 layer1.act  = relu(%3)                 : f32[1,8,6,6]
          %5 layer2.conv = conv(%4) 3x3 pad=1 out=8 : f32[1,8,6,6]   41.5 kFLOP
          %6 layer2.act  = relu(%5)                 : f32[1,8,6,6]
          output y = %6
        ");
        let weights: Vec<Vec<f32>> = graph.weights().map(|(_, weight)| made(weight, 0)).collect();
        assert_eq!(weights.len(), 3);
        assert!(weights[0] != weights[1] && weights[1] != weights[2]);
    }

    #[test]
    fn a_wrong_element_is_found() {
        let problem = problem(Candidate::full(3), 4, 5);
        let settings = Settings { provider: Provider::Cpu, threads: NonZero::<usize>::MIN, seed: 0 };
        let input = input(&problem, &settings);
        let weight: Vec<f32> = (0..4 * 4 * 9).map(|i| (i % 7) as f32 - 3.0).collect();
        let right: Vec<f32> =
            reference::conv(&problem, input.data(), &weight).into_iter().map(|value| value.max(0.0)).collect();
        let error = |found: &[f32]| greatest_error(&problem, input.data(), &weight, found, [1e-4, f32::INFINITY], 0);
        assert!(error(&right).unwrap() < 1e-6);
        // More positions are sampled than there are elements; the last is always among them.
        for wrong in [right[99] + 1e-3, f32::NAN] {
            let mut found = right.clone();
            found[99] = wrong;
            let found_at = match error(&found) {
                Err(CopiesError::Wrong { index, .. }) => index,
                other => panic!("{other:?}"),
            };
            assert_eq!(found_at, [0, 3, 4, 4]);
        }
        assert!(error(&right[..50]).is_err(), "a result that is too short is wrong");
    }

    #[test]
    fn there_are_as_many_copies_as_time_and_memory_allow() {
        // The weights of 3x3 at 64 channels, and of 5x5 at 512.
        let (small, large) = (147_456, 26_214_400);
        let us = Duration::from_micros;
        for (name, bytes, layer, provider, expected) in [
            ("fifteen milliseconds", small, us(500), Provider::Cpu, Some([10, 30])),
            ("no longer than 64", small, us(1), Provider::Cpu, Some([21, 64])),
            ("no shorter than 3", small, us(100_000), Provider::Cpu, Some([1, 3])),
            ("weights of 26 MB leave room for three", large, us(10), Provider::Cpu, Some([1, 3])),
            ("the processor may take its time", small, us(500_000), Provider::Cpu, Some([1, 3])),
            ("a GPU may not", small, us(100_000), Provider::Cuda, None),
        ] {
            assert_eq!(counts(bytes, layer, provider).ok(), expected, "{name}");
        }
        insta::assert_snapshot!(counts(small, us(100_000), Provider::Cuda).unwrap_err(), @r"3 layers would take about 300 ms in one run, more than the 250 ms allowed");
    }

    #[test]
    fn short_models_run_several_times() {
        for (ms, expected) in [(100, 1), (15, 1), (6, 1), (5, 3), (3, 5), (2, 7), (1, 7), (0, 7)] {
            assert_eq!(runs(Duration::from_millis(ms)), expected, "{ms} ms");
        }
    }

    #[test]
    fn a_fan_has_weights_of_its_own_in_every_branch() {
        let conv = Conv::square(3).with_stride(2);
        let problem = ConvProblem::new(conv, 1, 4, 8, [6, 6], DType::F32).unwrap();
        assert_eq!(Arrangement::of(&problem), Arrangement::Fan);
        insta::assert_snapshot!(Arrangement::Fan.graph(&problem, 2, Provider::Cpu).unwrap(), @r"
        backbone fan
          %0 x              = input                             : f32[1,4,6,6]
          %1 branch0.conv   = conv(%0) 3x3 stride=2 pad=1 out=8 : f32[1,8,3,3]   5.18 kFLOP
          %2 branch0.act    = relu(%1)                          : f32[1,8,3,3]
          %3 branch0.corner = max_pool(%2) 1x1 stride=3         : f32[1,8,1,1]
          %4 branch1.conv   = conv(%0) 3x3 stride=2 pad=1 out=8 : f32[1,8,3,3]   5.18 kFLOP
          %5 branch1.act    = relu(%4)                          : f32[1,8,3,3]
          %6 branch1.corner = max_pool(%5) 1x1 stride=3         : f32[1,8,1,1]
          output y0 = %3
          output y1 = %6
        ");
        let weights: Vec<Vec<f32>> =
            models::fan(&problem, 2, false).unwrap().weights().map(|(_, w)| made(w, 0)).collect();
        assert!(weights.len() == 2 && weights[0] != weights[1]);
    }

    #[test]
    fn the_precision_is_that_of_the_nodes_that_do_the_work() {
        let operand = |ty: &&str| TypeAndShape { element_type: (*ty).to_owned(), shape: Vec::new() };
        let node = |(op, inputs): &(&str, &[&str])| NodeRecord {
            name: (*op).to_owned(),
            op: (*op).to_owned(),
            provider: "CPUExecutionProvider".into(),
            inputs: inputs.iter().map(operand).collect(),
            outputs: Vec::new(),
            bytes: Bytes(0),
            times: Vec::new(),
        };
        type Nodes = &'static [(&'static str, &'static [&'static str])];
        let of = |nodes: Nodes, asked| computed_in(&nodes.iter().map(node).collect::<Vec<_>>(), asked);
        let half_as_single: Nodes = &[("Cast", &["float16"]), ("FusedConv", &["float", "float"]), ("Cast", &["float"])];
        let integers: Nodes = &[("QuantizeLinear", &["float"]), ("QLinearConv", &["int8", "float", "int8", "int8"])];
        for (name, nodes, asked, expected) in [
            ("turned into single precision", half_as_single, DType::F16, Some(DType::F32)),
            ("as asked", &[("Conv", &["float16", "float16"])], DType::F16, Some(DType::F16)),
            ("integers", integers, DType::I8, Some(DType::I8)),
            ("a matrix product", &[("QGemm", &["int8"])], DType::I8, Some(DType::I8)),
            ("hidden in one node", &[("TRTKernel_graph", &["float"])], DType::I8, None),
        ] {
            assert_eq!(of(nodes, asked).unwrap(), expected, "{name}");
        }
        let error = of(&[("DequantizeLinear", &["int8"]), ("FusedConv", &["float"])], DType::I8).unwrap_err();
        insta::assert_snapshot!(error, @"it was to be computed in eight-bit integers, but `FusedConv` ran in f32");
    }

    #[test]
    fn positions_lie_in_the_result() {
        let conv = Conv::square(3).with_stride(2);
        let problem = ConvProblem::new(conv, 2, 3, 5, [9, 7], DType::F32).unwrap();
        let positions = positions(&problem, 3);
        assert_eq!(positions.len(), COMPARED + 2);
        assert!(positions.iter().all(|p| p.iter().zip([2, 5, 5, 4]).all(|(&i, n)| i < n)));
    }
}
