//! Every shader against the reference, on every adapter of this machine; and every shader's text, on no adapter at all.
//!
//! Every variant of every shader computes random problems; `BBC_SHADER_PROBLEMS=500` says how many each.
//!
//! Without an adapter the tests that need one are reported as ignored; with `BBC_REQUIRE_GPU=1` that is a failure.

use std::time::Duration;

use bbc::conv::{Conv, ConvProblem};
use bbc::profile::roof::RoofKind;
use bbc::profile::sampling::Timed;
use bbc::profile::shader::{
    self, Adapter, CeilingError, ComputeError, Gpu, OpenOptions, Outcome, PrepareError, Sample, Timing, Variant,
};
use bbc::reference;
use bbc::tensor::DType;
use bbc::units::Bytes;
use libtest_mimic::{Arguments, Failed, Trial};
use wgpu::naga;

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = text_trials();
    let adapters = shader::adapters();
    for adapter in &adapters {
        trials.extend(adapter_trials(adapter));
    }
    if adapters.is_empty() {
        trials.push(no_adapter(std::env::var_os("BBC_REQUIRE_GPU").is_some_and(|value| value == "1")));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// What stands for the tests that need an adapter where there is none.
fn no_adapter(required: bool) -> Trial {
    if required {
        Trial::test("shaders on adapters", || Err("no adapter was found, and BBC_REQUIRE_GPU=1 requires one".into()))
    } else {
        Trial::test("shaders on adapters (no adapter was found)", || Ok(())).with_ignored_flag(true)
    }
}

fn text_trials() -> Vec<Trial> {
    let files = shader::SOURCES
        .into_iter()
        .chain(shader::ROOF_SOURCES)
        .map(|(file, source)| Trial::test(format!("{file} is valid as it stands"), move || parse(source).map(drop)));
    let variants = Variant::all().iter().flat_map(|&variant| {
        [DType::F32, DType::F16].map(|dtype| {
            let name = format!("`{variant}` is valid for all its constants, {dtype}");
            Trial::test(name, move || specialise(variant, dtype))
        })
    });
    files.chain(variants).collect()
}

fn parse(source: &str) -> Result<(naga::Module, naga::valid::ModuleInfo), Failed> {
    let capabilities = naga::valid::Capabilities::SHADER_FLOAT16 | naga::valid::Capabilities::SUBGROUP;
    let mut validator = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities);
    let module = naga::front::wgsl::parse_str(source).map_err(|error| error.emit_to_string(source))?;
    let info = validator.validate(&module).map_err(|error| error.emit_to_string(source))?;
    Ok((module, info))
}

/// Sets the constants of every problem of the grid that the variant takes; that validates the result once more.
fn specialise(variant: Variant, dtype: DType) -> Result<(), Failed> {
    let source = variant.source(dtype);
    let (module, info) = parse(&source)?;
    let mut taken = 0;
    for (name, problem) in grid(dtype) {
        if variant.takes(&problem) {
            taken += 1;
            let constants =
                variant.constants(&problem).into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            naga::back::pipeline_constants::process_overrides(&module, &info, None, &constants)
                .map_err(|error| format!("{name}: {error}"))?;
        }
    }
    if taken == 0 { Err("it takes no problem of the grid".into()) } else { Ok(()) }
}

fn adapter_trials(adapter: &Adapter) -> Vec<Trial> {
    let on = |what: &str, test: fn(&Adapter) -> Result<(), Failed>| {
        let kept = adapter.clone();
        Trial::test(format!("{what} on {}", adapter.name), move || test(&kept))
    };
    let mut trials = vec![
        on("probing", |adapter| adapter.probe().map_err(Failed::from)),
        on("the grid", |adapter| {
            let gpu = Gpu::open(adapter)?;
            grid(DType::F32).iter().try_for_each(|(name, problem)| check(&gpu, name, problem))
        }),
        on("many taps", many_taps),
        on("a batch in parts", batch_in_parts),
        on("several dispatches", several_dispatches),
        on("measuring by timestamps", |adapter| measure(adapter, OpenOptions::default())),
        on("measuring by the host's clock", |adapter| {
            measure(adapter, OpenOptions { timestamps: false, ..OpenOptions::default() })
        }),
        on("values that have to be rounded", rounding),
        on("what cannot be computed", refusals),
        on("the roof", roofs),
    ];
    let asked = std::env::var("BBC_SHADER_PROBLEMS").ok().and_then(|text| text.parse::<usize>().ok());
    for variant in Variant::all() {
        for dtype in [DType::F32, DType::F16] {
            if dtype == DType::F16 && !adapter.capabilities.f16 {
                continue;
            }
            // Half precision shares all but the loads and stores, of which the first two windows use every kind.
            let windows = if asked.is_none() && dtype == DType::F16 { 2 } else { usize::MAX };
            let problems = asked.unwrap_or(PROBLEMS).min(windows.saturating_mul(PROBLEMS_OF_A_WINDOW));
            let kept = adapter.clone();
            let name = format!("`{variant}`, {problems} random problems, {dtype}, on {}", adapter.name);
            trials.push(Trial::test(name, move || random_problems(&kept, *variant, dtype, problems, windows)));
        }
    }
    trials
}

/// Lets every variant that takes the problem compute it, and compares every element.
fn check(gpu: &Gpu, name: &str, problem: &ConvProblem) -> Result<(), Failed> {
    let variants: Vec<Variant> = Variant::all().iter().copied().filter(|&v| gpu.takes(v, problem)).collect();
    if variants.is_empty() {
        return Err(format!("{name}: no shader takes {problem:?}").into());
    }
    check_by(gpu, &variants, name, problem)
}

fn check_by(gpu: &Gpu, variants: &[Variant], name: &str, problem: &ConvProblem) -> Result<(), Failed> {
    let mut random = Random(count(problem.output_shape()) as u64);
    let input: Vec<f32> = (0..count(problem.input_shape())).map(|_| random.eighths()).collect();
    let weight: Vec<f32> = (0..count(problem.weight_shape())).map(|_| random.eighths()).collect();
    let expected = reference::conv(problem, &input, &weight);
    for &variant in variants {
        let actual = gpu.compute(variant, problem, &input, &weight).map_err(|error| format!("{name}: {error}"))?;
        // The sums of these values are exact in single precision; half precision rounds the result.
        let tolerance = if problem.dtype() == DType::F16 { 1.0 / 1024.0 } else { 0.0 };
        let agrees = |(actual, expected): (&f32, &f32)| (actual - expected).abs() <= tolerance * expected.abs();
        let wrong = actual.iter().zip(&expected).position(|pair| !agrees(pair));
        if actual.len() != expected.len() || wrong.is_some() {
            let at = wrong.unwrap_or_default();
            let (is, should) = (actual.get(at), expected.get(at));
            return Err(format!("{name}: `{variant}` gives {is:?} for {should:?} at {at}, {problem:?}").into());
        }
    }
    Ok(())
}

fn count(shape: [u32; 4]) -> usize {
    shape.iter().map(|&n| n as usize).product()
}

/// Pseudo-random numbers, the same on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// From `low` to `high`, both included.
    fn within(&mut self, low: u32, high: u32) -> u32 {
        low + (self.next() % u64::from(high - low + 1)) as u32
    }

    /// A multiple of 1/8 from -1 to 1.
    fn eighths(&mut self) -> f32 {
        self.within(0, 16) as f32 / 8.0 - 1.0
    }
}

/// Windows, strides and dilations of the random problems. Each is compiled anew for each variant, so there are not many.
fn random_convs() -> Vec<Conv> {
    let conv = |window, stride, dilation| Conv { stride, dilation, ..Conv::rectangle(window) };
    vec![
        conv([3, 3], [1, 1], [1, 1]),
        conv([1, 1], [1, 1], [1, 1]),
        conv([3, 3], [2, 2], [1, 1]),
        conv([5, 5], [1, 1], [1, 1]),
        conv([1, 7], [1, 1], [1, 1]),
        conv([7, 7], [2, 2], [1, 1]),
        conv([3, 3], [1, 1], [2, 2]),
        conv([1, 1], [2, 3], [1, 1]),
        conv([2, 2], [2, 2], [1, 1]),
        conv([3, 2], [3, 1], [1, 3]),
        conv([4, 5], [2, 3], [2, 1]),
        conv([7, 1], [1, 2], [1, 1]),
    ]
}

/// Random problems of each variant: this many of every window.
const PROBLEMS_OF_A_WINDOW: usize = 3;
const PROBLEMS: usize = 12 * PROBLEMS_OF_A_WINDOW;

/// Lets a variant compute so many random problems that it takes, over all or the first few windows in turn.
fn random_problems(
    adapter: &Adapter,
    variant: Variant,
    dtype: DType,
    problems: usize,
    windows: usize,
) -> Result<(), Failed> {
    let gpu = Gpu::open(adapter)?;
    let number = Variant::all().iter().position(|&other| other == variant).unwrap_or_default();
    let mut random = Random(number as u64 * 1000 + 1);
    let convs: Vec<Conv> = random_convs().into_iter().take(windows).collect();
    let (mut done, mut drawn) = (0, 0);
    while done < problems {
        let conv = convs[drawn / DRAWS % convs.len()];
        drawn += 1;
        if drawn > (problems + 1) * DRAWS * convs.len() {
            return if done == 0 && !gpu.takes(variant, &grid(dtype)[0].1) {
                // Its tiles or its exchange of values are too much for the adapter.
                Ok(())
            } else {
                Err(format!("only {done} problems were found").into())
            };
        }
        let Some(problem) = random_problem(&mut random, conv, dtype) else { continue };
        if gpu.takes(variant, &problem) {
            check_by(&gpu, &[variant], &format!("problem {done}"), &problem)?;
            done += 1;
            // The next window.
            drawn = drawn.next_multiple_of(DRAWS);
        }
    }
    Ok(())
}

/// Problems that are drawn with one window until one is found that the variant takes.
const DRAWS: usize = 50;

/// `None` if what was drawn is no problem, or one that takes the reference too long.
fn random_problem(random: &mut Random, conv: Conv, dtype: DType) -> Option<ConvProblem> {
    let (in_group, out_group, groups) = match random.within(0, 3) {
        0 => (random.within(1, 40), random.within(1, 70), 1),
        1 => (random.within(2, 6), random.within(1, 9), random.within(2, 5)),
        2 => (1, 1, random.within(1, 20)),
        _ => (1, random.within(1, 3), random.within(1, 12)),
    };
    let [height, width] = conv.window;
    let padding = [height, width, height, width].map(|most| random.within(0, most));
    let conv = Conv { padding, groups, ..conv };
    let input = [random.within(1, 20), random.within(1, 26)];
    let batch = random.within(1, 3);
    let problem = ConvProblem::new(conv, batch, in_group * groups, out_group * groups, input, dtype).ok()?;
    (problem.flops().multiply_adds() <= 250_000).then_some(problem)
}

/// Named problems: what networks ask for, and the corners of what the shaders distinguish.
fn grid(dtype: DType) -> Vec<(&'static str, ConvProblem)> {
    let square = Conv::square;
    let plain = |size: u32| square(size).with_padding([0; 4]);
    [
        ("3x3", square(3), 1, [8, 16], [14, 14]),
        ("3x3 on a single pixel", square(3), 1, [3, 5], [1, 1]),
        ("3x3 without padding", plain(3), 2, [5, 17], [9, 10]),
        ("1x1, positions in fours", square(1), 2, [12, 20], [6, 10]),
        ("1x1, an odd number of positions", square(1), 3, [7, 9], [5, 7]),
        ("1x1 with padding", square(1).with_padding([1, 0, 2, 1]), 1, [4, 4], [4, 4]),
        ("stem", square(3).with_stride(2), 1, [3, 32], [33, 32]),
        ("5x5", square(5), 1, [6, 10], [13, 8]),
        ("depthwise 3x3", square(3).with_groups(24), 2, [24, 24], [15, 17]),
        ("depthwise 3x3, stride 2", square(3).with_stride(2).with_groups(9), 1, [9, 9], [28, 28]),
        ("depthwise, three outputs each", square(3).with_groups(4), 1, [4, 12], [8, 8]),
        ("depthwise, stride longer than the window", plain(2).with_stride(3).with_groups(6), 1, [6, 6], [20, 20]),
        ("grouped", square(3).with_groups(4), 1, [16, 24], [10, 10]),
        ("one row, very wide", square(3), 1, [2, 4], [1, 300]),
        ("one column, very high", square(3), 1, [2, 4], [300, 1]),
        ("window as large as the input", plain(5), 1, [3, 4], [5, 5]),
        ("padding larger than the input", square(3).with_padding([5, 4, 6, 7]), 1, [2, 4], [3, 2]),
    ]
    .into_iter()
    .filter_map(|(name, conv, batch, [inputs, outputs], size)| {
        Some((name, ConvProblem::new(conv, batch, inputs, outputs, size, dtype).ok()?))
    })
    .collect()
}

/// Sums long enough for a driver that counts loop iterations to notice.
fn many_taps(adapter: &Adapter) -> Result<(), Failed> {
    let gpu = Gpu::open(adapter)?;
    let deep = |window: u32, channels: u32| {
        let conv = Conv::square(window).with_padding([0; 4]);
        ConvProblem::new(conv, 1, channels, 5, [window + 1, window], DType::F32)
    };
    for (name, problem) in [("1x1", deep(1, 15_000)?), ("3x3", deep(3, 1_666)?), ("1x1, more", deep(1, 30_000)?)] {
        check(&gpu, name, &problem)?;
    }
    Ok(())
}

/// A batch that a shader cannot see at once.
fn batch_in_parts(adapter: &Adapter) -> Result<(), Failed> {
    // One image of 4 x 64 x 64 single-precision elements takes 64 KiB: two fit, and the last part has one.
    let gpu = Gpu::open_with(adapter, OpenOptions { max_binding: Bytes(150 << 10), ..OpenOptions::default() })?;
    let problem = ConvProblem::new(Conv::square(3), 5, 4, 4, [64, 64], DType::F32)?;
    check(&gpu, "five images", &problem)?;
    let mut prepared = gpu.prepare(&problem, Duration::ZERO)?;
    plausible(prepared.sample()?)?;
    let large = ConvProblem::new(Conv::square(3), 5, 4, 4, [128, 128], DType::F32)?;
    let error = gpu.prepare(&large, Duration::from_secs(60)).expect_err("an image is too large").to_string();
    if error.contains("its input image takes 262 kB, but 154 kB is the most") { Ok(()) } else { Err(error.into()) }
}

/// Values whose sums are not exact, so that every variant rounds in its own way: right within the tolerance it is held to
/// before it is timed.
fn rounding(adapter: &Adapter) -> Result<(), Failed> {
    let gpu = Gpu::open(adapter)?;
    for dtype in [DType::F32, DType::F16].into_iter().filter(|&dtype| gpu.supports(dtype)) {
        let problem = ConvProblem::new(Conv::square(3), 1, 64, 64, [14, 14], dtype)?;
        // Sums of 576 products with a variance of 1/9 reach 36, where half precision goes in steps of 1/32.
        let most = if dtype == DType::F16 { 2.0 / 32.0 } else { 1e-4 };
        for variant in Variant::taking(&problem).filter(|&variant| gpu.takes(variant, &problem)) {
            let error = gpu.prepare_from(&[variant], &problem, Duration::ZERO)?.max_error();
            if !(error > 0.0 && error < most) {
                return Err(format!("`{variant}` in {dtype} is off by {error}").into());
            }
        }
    }
    Ok(())
}

/// More work than one dispatch is given on a software adapter.
fn several_dispatches(adapter: &Adapter) -> Result<(), Failed> {
    let gpu = Gpu::open(adapter)?;
    let problem = ConvProblem::new(Conv::square(3), 2, 48, 64, [40, 40], DType::F32)?;
    let prepared = gpu.prepare(&problem, Duration::ZERO)?;
    if prepared.checked().compared < 700 {
        return Err(format!("only {} elements were compared", prepared.checked().compared).into());
    }
    Ok(())
}

fn measure(adapter: &Adapter, options: OpenOptions) -> Result<(), Failed> {
    let gpu = Gpu::open_with(adapter, options)?;
    let problem = ConvProblem::new(Conv::square(3).with_groups(8), 1, 8, 8, [40, 40], DType::F32)?;
    let mut prepared = gpu.prepare(&problem, Duration::from_millis(500))?;
    let expected = if gpu.has_timestamps() { Timing::GpuTimestamps } else { Timing::WallSlope };
    if prepared.timing() != expected || (!options.timestamps && gpu.has_timestamps()) {
        return Err(format!("timed by {:?}", prepared.timing()).into());
    }
    let right = |outcome: &Outcome| matches!(outcome, Outcome::Right { .. } | Outcome::NotTried);
    if let Some(trial) = prepared.trials().iter().find(|trial| !right(&trial.outcome)) {
        return Err(format!("{trial:?}").into());
    }
    let taken = (0..5).map(|_| prepared.sample()).collect::<Result<Vec<_>, _>>()?;
    let dropped = taken.iter().filter(|sample| matches!(sample, Sample::Dropped(_))).count();
    if prepared.dropped().len() != dropped {
        return Err(format!("{dropped} samples were dropped, but {:?} counted", prepared.dropped()).into());
    }
    taken.into_iter().try_for_each(plausible)
}

/// A sample is a time that no adapter is too fast or too slow for.
fn plausible(sample: Sample) -> Result<(), Failed> {
    match sample {
        Sample::Taken(time) if time > Duration::from_secs(5) || time < Duration::from_nanos(100) => {
            Err(format!("a small convolution took {time:?}").into())
        }
        Sample::Taken(_) | Sample::Dropped(_) => Ok(()),
    }
}

/// Both limits in each precision: checked, and of a size that devices have.
fn roofs(adapter: &Adapter) -> Result<(), Failed> {
    let gpu = Gpu::open(adapter)?;
    for dtype in [DType::F32, DType::F16].into_iter().filter(|&dtype| gpu.supports(dtype)) {
        for kind in [RoofKind::Arithmetic, RoofKind::Bandwidth] {
            let mut ceiling = gpu.prepare_roof(kind, dtype)?;
            let time = Timed::sample(&mut ceiling)?.ok_or("no time")?;
            // From a slow processor that imitates a GPU, others at work beside it, to the largest GPUs.
            let per_ns = ceiling.amount() as f64 / time.wall_ns as f64;
            if !(0.01..5e6).contains(&per_ns) {
                return Err(format!("{kind:?} in {dtype}: {per_ns} a nanosecond").into());
            }
        }
    }
    match gpu.prepare_roof(RoofKind::Arithmetic, DType::BF16) {
        Err(CeilingError::Elements { .. }) => Ok(()),
        other => Err(format!("bfloat16: {other:?}").into()),
    }
}

fn refusals(adapter: &Adapter) -> Result<(), Failed> {
    let gpu = Gpu::open(adapter)?;
    let problem = |dtype, conv| ConvProblem::new(conv, 1, 2, 2, [4, 4], dtype);
    let integers = problem(DType::I8, Conv::square(3))?;
    match gpu.prepare(&integers, Duration::ZERO) {
        Err(PrepareError::NoShader { .. }) => {}
        other => return Err(format!("integers: {other:?}").into()),
    }
    let plain = problem(DType::F32, Conv::square(3))?;
    let variant = Variant::taking(&plain).find(|&variant| gpu.takes(variant, &plain)).ok_or("no shader")?;
    match gpu.compute(variant, &plain, &[0.0; 31], &[0.0; 36]) {
        Err(ComputeError::Length { what: "input", values: 31, elements: 32 }) => {}
        other => return Err(format!("too few values: {other:?}").into()),
    }
    let far = problem(DType::F32, Conv { stride: [1 << 30, 1], ..Conv::square(3) })?;
    match gpu.compute(variant, &far, &[0.0; 32], &[0.0; 36]) {
        Err(ComputeError::NotTaken { .. }) => Ok(()),
        other => Err(format!("a stride of 2^30: {other:?}").into()),
    }
}
