//! `bbc run`: pictures through a model.
//!
//! A picture that cannot be read is named and counted and does not stop the others; the command then ends with 2.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use bbc::image::{self, Picture, Preprocess};
use bbc::npz;
use bbc::onnx::keys;
use bbc::onnx::proto::{ModelProto, TensorProto};
use bbc::runtime::Runtime;
use bbc::runtime::provider::Provider;
use bbc::runtime::session::{Options, PortDim, Session, SessionError};
use bbc::tensor::{Tensor, element_count};
use serde::Serialize;

use super::failure::{Explain, Failure};
use super::files::Staged;
use super::{Global, Outcome, files, inspect, network, ort, output};

/// The most bytes a picture's file may have.
const MAX_PICTURE_FILE: u64 = 256 << 20;
/// The most bytes a file of labels may have.
const MAX_LABELS_FILE: u64 = 16 << 20;
/// The most bytes one batch may have.
const MAX_BATCH: u64 = 2 << 30;
/// The most bytes of results that are kept to be saved.
const MAX_SAVED: u64 = 4 << 30;

/// Options of `bbc run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model, in ONNX
    model: PathBuf,
    /// Pictures in JPEG or PNG, or folders of them
    #[arg(required = true, value_name = "PICTURE")]
    pictures: Vec<PathBuf>,
    /// What computes: cpu, cuda, tensorrt, coreml or directml
    #[arg(long, default_value = "cpu", value_parser = ort::provider)]
    provider: Provider,
    /// Pictures that go together, where the model leaves it free [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// Height and width of the model's input, where the model leaves them free
    #[arg(long, value_name = "HxW", value_parser = network::image_size)]
    input_size: Option<[u32; 2]>,
    /// How many classes are named for each picture
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// The names of a classifier's classes, one a line
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Write the outputs, stacked over the pictures, for `numpy.load`
    #[arg(long, value_name = "FILE.npz")]
    save: Option<PathBuf>,
}

/// The results of a model for one batch, each with its name.
type Outputs = Vec<(String, Tensor)>;

/// What a model says of itself.
#[derive(Debug, Clone)]
pub(super) struct Interface {
    /// The name of its input.
    pub(super) input: String,
    /// The sizes of its input, outermost first; `None` is free.
    dims: Vec<Option<u32>>,
    /// How it wants its pictures, as its metadata has it.
    preprocess: Option<String>,
}

/// What the user asked for beyond the model and the pictures.
#[derive(Debug, Clone, Default)]
pub(super) struct Wishes {
    /// `[height, width]`, where the model leaves them free.
    pub(super) input_size: Option<[u32; 2]>,
    /// How many pictures go together, where the model leaves it free.
    pub(super) batch: Option<u32>,
}

/// How pictures are brought to a model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub(super) preprocess: Preprocess,
    /// Whether the model said so itself.
    pub(super) stated: bool,
    /// The most pictures that go together.
    pub(super) batch: usize,
    /// Whether the model takes no fewer.
    batch_is_fixed: bool,
}

/// What is named among the pictures.
#[derive(Debug, PartialEq)]
struct Source {
    path: PathBuf,
    /// Why it is a folder that gives no pictures.
    problem: Option<String>,
}

/// What is made of the results.
#[derive(Debug, Default)]
struct Wanted {
    /// How many classes are named for each picture.
    top: usize,
    /// The names of the classes.
    labels: Option<Vec<String>>,
    /// Whether the tensors are kept.
    keep: bool,
}

/// What came out for a picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    /// The likeliest classes, the likeliest first.
    Classes(Vec<Class>),
    /// Every output, described.
    Outputs(Vec<Description>),
    /// Why the picture could not be read.
    Error(String),
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Class {
    class: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    score: f32,
    /// `None` if a score is not finite.
    probability: Option<f64>,
}

/// An output for one picture. The figures are over its finite values; `None` where there are none.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Description {
    name: String,
    shape: Vec<u32>,
    min: Option<f32>,
    max: Option<f32>,
    mean: Option<f64>,
    std: Option<f64>,
    not_finite: usize,
}

/// What came out for all pictures.
#[derive(Debug)]
struct Results {
    /// One for each picture, in order.
    answers: Vec<Answer>,
    /// The outputs, stacked over the pictures that were read; empty unless they were to be kept.
    kept: Outputs,
}

/// The document `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    model: String,
    provider: &'static str,
    preprocess: serde_json::Value,
    preprocess_from_model: bool,
    batch: usize,
    pictures: Vec<Entry>,
    pictures_read: usize,
    pictures_not_read: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    saved: Option<Saved>,
}

#[derive(Debug, Serialize)]
struct Entry {
    picture: String,
    #[serde(flatten)]
    answer: Answer,
}

#[derive(Debug, Serialize)]
struct Saved {
    file: String,
    arrays: Vec<SavedArray>,
}

#[derive(Debug, Serialize)]
struct SavedArray {
    array: String,
    output: String,
    shape: Vec<u32>,
}

/// Runs the model on every picture and says what comes out.
pub(crate) fn run(global: &Global, args: &Args) -> Result<Outcome, Failure> {
    let pictures = pictures(&args.pictures);
    let labels = args.labels.as_deref().map(labels).transpose()?;
    let (proto, _) = inspect::read(&args.model)?;
    let staged = args.save.as_deref().map(|save| begin(save, &inputs(args, &proto, &pictures))).transpose()?;
    drop(proto);
    let mut session = open(&args.model, args.provider, || ort::runtime(global))?;
    let model = Interface::of(&session)?;
    let plan = plan(&model, &Wishes { input_size: args.input_size, batch: args.batch })?;
    if !plan.stated {
        let [height, width] = plan.preprocess.size();
        output::note(&format!(
            "the model does not say how it wants its pictures; they are brought to {height}x{width} as ImageNet models want them"
        ));
    }
    let wanted = Wanted { top: args.top as usize, labels, keep: args.save.is_some() };
    let results =
        run_all(&pictures, &plan, &wanted, &mut |images| Ok(session.run(&[(model.input.as_str(), &images)])?))?;

    let saved = match args.save.as_deref().zip(staged) {
        Some((path, staged)) if !results.kept.is_empty() => Some(save(&results.kept, path, staged)?),
        _ => None,
    };
    let report = Report::new(args, &plan, &pictures, results.answers, saved)?;
    if args.json {
        output::json(&report)?;
    } else if report.pictures_read > 0 {
        output::result(&show(&report.pictures))?;
    }
    for picture in report.not_finite() {
        let picture = output::printable(picture);
        output::warning(&format!("for `{picture}` the model gives values that are infinite or no number"));
    }
    if let Some(saved) = report.saved.filter(|_| !args.json) {
        let arrays: Vec<String> =
            saved.arrays.iter().map(|array| format!("{} {:?}", array.array, array.shape)).collect();
        output::note(&format!("wrote `{}`: {}", saved.file, arrays.join(", ")));
    }
    match report.pictures_not_read {
        0 => Ok(Outcome::Done),
        n => Err(Failure::new(format!("{n} of {} pictures could not be read", pictures.len()))),
    }
}

fn open(
    model: &Path,
    provider: Provider,
    runtime: impl FnOnce() -> Result<Runtime, Failure>,
) -> Result<Session, Failure> {
    let opening = || format!("cannot run `{}`", model.display());
    match Session::from_file(&runtime()?, model, &Options::on(provider)) {
        Err(SessionError::Provider(error)) => {
            let remedy = error.remedy();
            let failure: Result<Session, Failure> = Err(error.into());
            match remedy {
                Some(remedy) => failure.doing(opening).hint(|| remedy),
                None => failure.doing(opening),
            }
        }
        session => session.doing(opening),
    }
}

impl Interface {
    pub(super) fn of(session: &Session) -> Result<Self, Failure> {
        let [input] = session.inputs() else {
            let names: Vec<String> = session.inputs().iter().map(|port| format!("`{}`", port.name)).collect();
            return Err(Failure::new(format!(
                "the model has {} inputs, {}, not one for pictures",
                names.len(),
                names.join(", ")
            )));
        };
        let size = |dim: &PortDim| match dim {
            PortDim::Fixed(size) => Some(*size),
            PortDim::Named(_) | PortDim::Unknown => None,
        };
        let preprocess = session.metadata()?.into_iter().find(|(key, _)| key == keys::PREPROCESS);
        Ok(Self {
            input: input.name.clone(),
            dims: input.dims.iter().map(size).collect(),
            preprocess: preprocess.map(|(_, text)| text),
        })
    }
}

impl Report {
    fn new(
        args: &Args,
        plan: &Plan,
        pictures: &[Source],
        answers: Vec<Answer>,
        saved: Option<Saved>,
    ) -> Result<Self, Failure> {
        let not_read = answers.iter().filter(|answer| matches!(answer, Answer::Error(_))).count();
        let entry = |(source, answer): (&Source, Answer)| Entry { picture: source.path.display().to_string(), answer };
        Ok(Self {
            schema: 1,
            model: args.model.display().to_string(),
            provider: args.provider.name(),
            preprocess: serde_json::from_str(&plan.preprocess.to_json())?,
            preprocess_from_model: plan.stated,
            batch: plan.batch,
            pictures_read: answers.len() - not_read,
            pictures_not_read: not_read,
            pictures: pictures.iter().zip(answers).map(entry).collect(),
            saved,
        })
    }

    /// The pictures for which values came out that are not finite.
    fn not_finite(&self) -> Vec<&str> {
        let is_not_finite = |entry: &&Entry| match &entry.answer {
            Answer::Classes(classes) => classes.iter().any(|class| class.probability.is_none()),
            Answer::Outputs(outputs) => outputs.iter().any(|output| output.not_finite > 0),
            Answer::Error(_) => false,
        };
        self.pictures.iter().filter(is_not_finite).map(|entry| entry.picture.as_str()).collect()
    }
}

/// How pictures are brought to this model.
pub(super) fn plan(model: &Interface, wishes: &Wishes) -> Result<Plan, Failure> {
    let name = &model.input;
    let [batch, channels, height, width] = model.dims[..] else {
        return Err(Failure::new(format!(
            "the input `{name}` has {} dimensions, where pictures need 4",
            model.dims.len()
        )));
    };
    if channels.is_some_and(|channels| channels != 3) {
        let shape = show_dims(&model.dims);
        return Err(Failure::new(format!("the input `{name}` is {shape}, where pictures need [N,3,height,width]")));
    }
    let stated = match &model.preprocess {
        Some(text) => {
            Some(Preprocess::from_json(text).doing(|| format!("cannot use the model's `{}`", keys::PREPROCESS))?)
        }
        None => None,
    };
    let asked = wishes.input_size.or(stated.as_ref().map(Preprocess::size));
    let size = match ([height, width], asked) {
        ([Some(height), Some(width)], None) => [height, width],
        (free, Some(asked)) if fits(free, asked) => asked,
        ([height, width], Some([asked_height, asked_width])) => {
            return Err(Failure::new(format!(
                "pictures of {asked_height}x{asked_width} do not fit the input `{name}`, which is {}",
                show_dims(&[batch, channels, height, width]),
            )));
        }
        (_, None) => {
            return Err(Failure::new(format!("the model leaves the size of its input `{name}` free")))
                .hint(|| "give the size with `--input-size HEIGHTxWIDTH`".into());
        }
    };
    let stated_preprocess = stated.is_some();
    let preprocess = match stated {
        Some(stated) => stated.with_size(size)?,
        None => Preprocess::imagenet(size)?,
    };
    let batch_is_fixed = batch.is_some();
    let batch = match (batch, wishes.batch) {
        (Some(fixed), Some(asked)) if fixed != asked => {
            return Err(Failure::new(format!("the model takes {fixed} pictures at a time, not {asked}")));
        }
        (Some(batch), _) | (None, Some(batch)) => batch,
        (None, None) => 1,
    };
    let bytes = element_count(&[batch, 3, size[0], size[1]]).saturating_mul(4);
    if batch == 0 || bytes > MAX_BATCH {
        return Err(Failure::new(format!("a batch of {batch} pictures has {bytes} bytes, not 1 to {MAX_BATCH}")));
    }
    Ok(Plan { preprocess, stated: stated_preprocess, batch: batch as usize, batch_is_fixed })
}

/// Whether `[height, width]` is what the model fixes of it.
fn fits(fixed: [Option<u32>; 2], asked: [u32; 2]) -> bool {
    fixed.iter().zip(asked).all(|(fixed, asked)| fixed.is_none_or(|fixed| fixed == asked))
}

/// The files to read: folders give theirs that look like pictures by content or by name, sorted; other paths are kept as
/// they are.
fn pictures(inputs: &[PathBuf]) -> Vec<Source> {
    let mut all = Vec::new();
    for input in inputs {
        let found = if input.is_dir() { pictures_in(input) } else { Ok(vec![input.clone()]) };
        match found {
            Ok(found) => all.extend(found.into_iter().map(|path| Source { path, problem: None })),
            Err(failure) => all.push(Source { path: input.clone(), problem: Some(in_one_line(&failure)) }),
        }
    }
    all
}

pub(super) fn pictures_in(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let listing = || format!("cannot list the folder `{}`", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).doing(listing)? {
        let path = entry.doing(listing)?.path();
        if path.is_file() && (is_named_as_picture(&path) || begins_as_picture(&path)) {
            found.push(path);
        }
    }
    if found.is_empty() {
        let folder = folder.display();
        return Err(Failure::new(format!(
            "there is no JPEG or PNG in the folder `{folder}`; folders in it are not searched"
        )));
    }
    found.sort();
    Ok(found)
}

fn is_named_as_picture(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
    extension.is_some_and(|extension| ["jpg", "jpeg", "png"].iter().any(|known| extension == *known))
}

fn begins_as_picture(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(16).read_to_end(&mut start));
    read.is_ok() && image::is_picture(&start)
}

/// The files that are read, or may be.
fn inputs(args: &Args, model: &ModelProto, pictures: &[Source]) -> Vec<PathBuf> {
    let weights = model.graph.iter().flat_map(|graph| &graph.initializer);
    let locations = weights.flat_map(|tensor: &TensorProto| &tensor.external_data);
    let locations = locations.filter(|entry| entry.key() == "location");
    let beside: BTreeSet<PathBuf> = locations.map(|entry| args.model.with_file_name(entry.value())).collect();
    let pictures = pictures.iter().map(|source| source.path.clone());
    [args.model.clone()].into_iter().chain(args.labels.clone()).chain(beside).chain(pictures).collect()
}

/// Begins the file of results: where none can be made, that is found out before anything is computed.
fn begin(save: &Path, inputs: &[PathBuf]) -> Result<Staged, Failure> {
    if save.is_file()
        && let Some(input) = inputs.iter().find(|input| is_same_file(save, input))
    {
        let input = input.display();
        return Err(Failure::new(format!("`--save` names the same file as `{input}`, which is read")))
            .hint(|| "give the results a file of their own".into());
    }
    Staged::beside(save)
}

/// Whether two paths lead to one file, be it through links.
fn is_same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let identity = |path: &Path| fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        identity(a).is_some_and(|a| Some(a) == identity(b))
    }
    #[cfg(not(unix))]
    {
        let identity = |path: &Path| fs::canonicalize(path).ok();
        identity(a).is_some_and(|a| Some(a) == identity(b))
    }
}

/// One label a line, as many as the model has classes. Lines may be empty; the line break after the last may be missing.
fn labels(path: &Path) -> Result<Vec<String>, Failure> {
    let text = files::read_text(path, MAX_LABELS_FILE)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    Ok(text.lines().map(|line| line.trim().to_owned()).collect())
}

/// Brings every picture to the model and describes what comes out.
fn run_all(
    pictures: &[Source],
    plan: &Plan,
    wanted: &Wanted,
    model: &mut dyn FnMut(Tensor) -> Result<Outputs, Failure>,
) -> Result<Results, Failure> {
    let bar = output::progress(pictures.len() as u64);
    let mut answers: Vec<Option<Answer>> = vec![None; pictures.len()];
    let mut kept = Kept { pictures: pictures.len(), outputs: Vec::new() };
    let mut waiting: Vec<(usize, Tensor)> = Vec::new();
    for (index, source) in pictures.iter().enumerate() {
        let prepared = match &source.problem {
            None => prepare(&source.path, &plan.preprocess).map_err(|failure| in_one_line(&failure)),
            Some(problem) => Err(problem.clone()),
        };
        match prepared {
            Ok(tensor) => waiting.push((index, tensor)),
            Err(message) => {
                bar.suspend(|| output::warning(&message));
                answers[index] = Some(Answer::Error(message));
            }
        }
        let last = index + 1 == pictures.len();
        if waiting.len() == plan.batch || (last && !waiting.is_empty()) {
            let indices: Vec<usize> = waiting.iter().map(|(index, _)| *index).collect();
            let batch = if plan.batch_is_fixed { plan.batch } else { waiting.len() };
            let outputs = model(stack(std::mem::take(&mut waiting), batch, plan.preprocess.size())?)?;
            for (i, index) in indices.into_iter().enumerate() {
                let outputs = of_picture(&outputs, i, batch)?;
                answers[index] = Some(describe(&outputs, wanted)?);
                if wanted.keep {
                    kept.add(outputs)?;
                }
            }
        }
        bar.set_position(index as u64 + 1);
    }
    bar.finish_and_clear();
    Ok(Results { answers: answers.into_iter().flatten().collect(), kept: kept.stacked()? })
}

pub(super) fn prepare(path: &Path, preprocess: &Preprocess) -> Result<Tensor, Failure> {
    let bytes = files::read(path, MAX_PICTURE_FILE)?;
    let picture = Picture::decode(&bytes).doing(|| format!("cannot read `{}`", path.display()))?;
    Ok(preprocess.apply(&picture))
}

/// One batch; places that no picture is left for repeat the last one.
pub(super) fn stack(waiting: Vec<(usize, Tensor)>, batch: usize, [height, width]: [u32; 2]) -> Result<Tensor, Failure> {
    let mut data: Vec<f32> = waiting.into_iter().flat_map(|(_, tensor)| tensor.into_data()).collect();
    let one = 3 * height as usize * width as usize;
    while data.len() < one * batch {
        data.extend_from_within(data.len() - one..);
    }
    Ok(Tensor::new([batch as u32, 3, height, width], data)?)
}

/// The part of every output that belongs to the `i`th picture of a batch.
fn of_picture(outputs: &Outputs, i: usize, batch: usize) -> Result<Outputs, Failure> {
    let part = |(name, tensor): &(String, Tensor)| match tensor.shape() {
        [first, rest @ ..] if *first as usize == batch => {
            let size = tensor.data().len() / batch;
            let shape: Vec<u32> = std::iter::once(&1).chain(rest).copied().collect();
            Ok((name.clone(), Tensor::new(shape, tensor.data()[i * size..][..size].to_vec())?))
        }
        _ if batch == 1 => Ok((name.clone(), tensor.clone())),
        shape => Err(Failure::new(format!(
            "the output `{name}` has shape {shape:?}, which cannot be shared out to a batch of {batch} pictures"
        ))),
    };
    outputs.iter().map(part).collect()
}

/// The likeliest classes if the model is a classifier, else what its outputs are like.
fn describe(outputs: &Outputs, wanted: &Wanted) -> Result<Answer, Failure> {
    match (&outputs[..], &wanted.labels) {
        ([(_, scores)], labels) if matches!(scores.shape(), [1, classes] if *classes > 1) => {
            let classes = scores.data().len();
            if let Some(labels) = labels.as_ref().filter(|labels| labels.len() != classes) {
                return Err(Failure::new(format!(
                    "there are {} labels, but the model has {classes} classes",
                    labels.len()
                )));
            }
            Ok(Answer::Classes(top(scores.data(), wanted.top, labels.as_deref())))
        }
        (_, Some(_)) => Err(Failure::new("labels are given, but the model is no classifier"))
            .hint(|| "a classifier has one output, of shape [N,classes]".into()),
        (outputs, None) => {
            Ok(Answer::Outputs(outputs.iter().map(|(name, tensor)| Description::of(name, tensor)).collect()))
        }
    }
}

/// The `n` greatest scores; of equal ones the first comes first.
fn top(scores: &[f32], n: usize, labels: Option<&[String]>) -> Vec<Class> {
    let probabilities = probabilities(scores);
    let mut order: Vec<usize> = (0..scores.len()).collect();
    // What is not a number comes last.
    let key = |i: usize| if scores[i].is_nan() { f32::NEG_INFINITY } else { scores[i] };
    order.sort_by(|&a, &b| key(b).total_cmp(&key(a)));
    let class = |class: usize| Class {
        class,
        label: labels.map(|labels| labels[class].clone()),
        score: scores[class],
        probability: probabilities.as_ref().map(|probabilities| probabilities[class]),
    };
    order.into_iter().take(n).map(class).collect()
}

/// Softmax, or the scores themselves where the model has done it: none is negative and they sum up to 1.
///
/// `None` if a score is not finite.
fn probabilities(scores: &[f32]) -> Option<Vec<f64>> {
    if !scores.iter().all(|score| score.is_finite()) {
        return None;
    }
    let scores: Vec<f64> = scores.iter().copied().map(f64::from).collect();
    let sum: f64 = scores.iter().sum();
    if scores.iter().all(|score| *score >= 0.0) && (sum - 1.0).abs() < 1e-3 {
        return Some(scores);
    }
    let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = scores.iter().map(|score| (score - greatest).exp()).collect();
    let total: f64 = powers.iter().sum();
    Some(powers.into_iter().map(|power| power / total).collect())
}

impl Description {
    fn of(name: &str, tensor: &Tensor) -> Self {
        let values = || tensor.data().iter().copied().filter(|value| value.is_finite());
        let n = values().count();
        let mean_of =
            |f: &dyn Fn(f64) -> f64| (n > 0).then(|| values().map(|v| f(f64::from(v))).sum::<f64>() / n as f64);
        let mean = mean_of(&|value| value);
        let variance = mean.and_then(|mean| mean_of(&|value| (value - mean).powi(2)));
        Self {
            name: name.to_owned(),
            shape: tensor.shape().to_vec(),
            min: values().reduce(f32::min),
            max: values().reduce(f32::max),
            mean,
            std: variance.map(f64::sqrt),
            not_finite: tensor.data().len() - n,
        }
    }
}

/// Outputs on their way to a file, stacked over the pictures.
struct Kept {
    /// How many pictures may come.
    pictures: usize,
    outputs: Vec<KeptOutput>,
}

struct KeptOutput {
    name: String,
    /// Of one picture, without the batch.
    shape: Vec<u32>,
    data: Vec<f32>,
    pictures: u32,
}

impl Kept {
    fn add(&mut self, outputs: Outputs) -> Result<(), Failure> {
        if self.outputs.is_empty() {
            let elements: u64 = outputs.iter().map(|(_, tensor)| tensor.data().len() as u64).sum();
            let bytes = elements.saturating_mul(4).saturating_mul(self.pictures as u64);
            if bytes > MAX_SAVED {
                return Err(Failure::new(format!(
                    "the results of {} pictures have {bytes} bytes, more than the {MAX_SAVED} that are saved in one file",
                    self.pictures
                )))
                .hint(|| "save fewer pictures at a time".into());
            }
            let empty = |(name, tensor): &(String, Tensor)| KeptOutput {
                name: name.clone(),
                shape: without_batch(tensor.shape()).to_vec(),
                data: Vec::new(),
                pictures: 0,
            };
            self.outputs = outputs.iter().map(empty).collect();
        }
        for (kept, (name, tensor)) in self.outputs.iter_mut().zip(outputs) {
            let shape = without_batch(tensor.shape());
            if kept.shape != shape {
                return Err(Failure::new(format!(
                    "the output `{name}` cannot be stacked over the pictures: its shape is {:?} for one and {shape:?} for another",
                    kept.shape
                )));
            }
            kept.pictures += 1;
            kept.data.extend(tensor.into_data());
        }
        Ok(())
    }

    fn stacked(self) -> Result<Outputs, Failure> {
        let stack = |kept: KeptOutput| {
            let shape: Vec<u32> = std::iter::once(kept.pictures).chain(kept.shape).collect();
            Ok((kept.name, Tensor::new(shape, kept.data)?))
        };
        self.outputs.into_iter().map(stack).collect()
    }
}

fn without_batch(shape: &[u32]) -> &[u32] {
    match shape {
        [1, rest @ ..] => rest,
        shape => shape,
    }
}

/// Writes the kept outputs and says what they are called in the file.
fn save(kept: &Outputs, path: &Path, staged: Staged) -> Result<Saved, Failure> {
    let tensors: Vec<(&str, &Tensor)> = kept.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    staged.write(staged.path(), |out| Ok(npz::write(&tensors, out)?))?;
    staged.finish()?;
    let arrays = npz::array_names(tensors.iter().map(|(name, _)| *name)).into_iter().zip(kept);
    let arrays = arrays.map(|(array, (output, tensor))| SavedArray {
        array,
        output: output.clone(),
        shape: tensor.shape().to_vec(),
    });
    Ok(Saved { file: path.display().to_string(), arrays: arrays.collect() })
}

/// The answers as people read them.
fn show(pictures: &[Entry]) -> String {
    let mut classes = vec![["picture", "class", "probability", "label"].map(String::from).to_vec()];
    let mut outputs = vec![["picture", "output", "shape", "min", "max", "mean", "std"].map(String::from).to_vec()];
    for Entry { picture, answer } in pictures {
        // A picture is named in its first row only.
        let mut picture = output::printable(picture);
        match answer {
            Answer::Classes(found) => classes.extend(found.iter().map(|found| {
                let probability = found.probability.map_or_else(|| "not finite".into(), |p| format!("{p:.4}"));
                let label = found.label.as_deref().map(output::printable).unwrap_or_default();
                vec![std::mem::take(&mut picture), found.class.to_string(), probability, label]
            })),
            Answer::Outputs(found) => outputs.extend(found.iter().map(|found| {
                let figure = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.4}"));
                let [min, max] = [found.min, found.max].map(|value| figure(value.map(f64::from)));
                let name = output::printable(&found.name);
                let shape = format!("{:?}", found.shape).replace(' ', "");
                vec![std::mem::take(&mut picture), name, shape, min, max, figure(found.mean), figure(found.std)]
            })),
            Answer::Error(_) => {}
        }
    }
    if classes[1..].iter().all(|row| row[3].is_empty()) {
        classes.iter_mut().for_each(|row| row.truncate(3));
    }
    let tables = [(classes, &[0, 3][..]), (outputs, &[0, 1, 2][..])];
    let tables = tables.iter().filter(|(rows, _)| rows.len() > 1).map(|(rows, left)| output::table(rows, left));
    tables.collect::<Vec<_>>().join("\n")
}

fn show_dims(dims: &[Option<u32>]) -> String {
    let sizes: Vec<String> = dims.iter().map(|dim| dim.map_or_else(|| "?".into(), |n| n.to_string())).collect();
    format!("[{}]", sizes.join(","))
}

fn in_one_line(failure: &Failure) -> String {
    output::printable(failure.to_string().trim_end().replace("\n  Caused by: ", ": ").replace('\n', " ").trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/images").join(name)
    }

    fn interface(dims: [Option<u32>; 4]) -> Interface {
        Interface { input: "image".into(), dims: dims.to_vec(), preprocess: None }
    }

    fn small_plan(batch: usize, batch_is_fixed: bool) -> Plan {
        Plan { preprocess: Preprocess::imagenet([4, 6]).unwrap(), stated: true, batch, batch_is_fixed }
    }

    /// Three scores for each picture: the means of its channels.
    fn channel_means(images: Tensor) -> Result<Outputs, Failure> {
        let batch = images.shape()[0];
        let plane = (images.shape()[2] * images.shape()[3]) as usize;
        let means = images.data().chunks(plane).map(|plane| plane.iter().sum::<f32>() / plane.len() as f32).collect();
        Ok(vec![("scores".into(), Tensor::new([batch, 3], means)?)])
    }

    #[test]
    fn a_plan_follows_the_model() {
        let size = |plan: Plan| (plan.preprocess.size(), plan.batch, plan.batch_is_fixed, plan.stated);
        let fixed = interface([Some(1), Some(3), Some(32), Some(64)]);
        assert_eq!(size(plan(&fixed, &Wishes::default()).unwrap()), ([32, 64], 1, true, false));

        let free = interface([None, None, None, None]);
        let wishes = Wishes { input_size: Some([96, 128]), batch: Some(8) };
        assert_eq!(size(plan(&free, &wishes).unwrap()), ([96, 128], 8, false, false));

        let stated = Preprocess::imagenet([64, 64]).unwrap().with_crop(0.5).unwrap();
        let ours = Interface { preprocess: Some(stated.to_json()), ..free };
        let plan = plan(&ours, &Wishes::default()).unwrap();
        assert_eq!(plan, Plan { preprocess: stated, stated: true, batch: 1, batch_is_fixed: false });
    }

    #[test]
    fn a_model_that_takes_no_such_pictures_is_refused() {
        let message = |dims: &[Option<u32>], preprocess: Option<&str>, input_size, batch| {
            let preprocess = preprocess.map(String::from);
            let model = Interface { input: "x".into(), dims: dims.to_vec(), preprocess };
            plan(&model, &Wishes { input_size, batch }).unwrap_err().to_string()
        };
        let square = Preprocess::imagenet([224, 224]).unwrap().to_json();
        let messages = [
            message(&[Some(1), Some(10)], None, None, None),
            message(&[Some(1), Some(224), Some(224), Some(3)], None, None, None),
            message(&[None, Some(3), None, None], None, None, None),
            message(&[None, Some(3), Some(32), None], None, Some([64, 64]), None),
            message(&[None, Some(3), Some(32), Some(32)], Some(&square), None, None),
            message(&[Some(8), Some(3), Some(32), Some(32)], None, None, Some(4)),
            message(&[Some(u32::MAX), Some(3), Some(32), Some(32)], None, None, None),
            message(&[None, Some(3), Some(32), Some(32)], Some("{}"), None, None),
            message(&[None, Some(3), Some(0), Some(32)], None, None, None),
        ];
        insta::assert_snapshot!(messages.join("\n---\n"), @r"
        the input `x` has 2 dimensions, where pictures need 4
        ---
        the input `x` is [1,224,224,3], where pictures need [N,3,height,width]
        ---
        the model leaves the size of its input `x` free

        hint: give the size with `--input-size HEIGHTxWIDTH`
        ---
        pictures of 64x64 do not fit the input `x`, which is [?,3,32,?]
        ---
        pictures of 224x224 do not fit the input `x`, which is [?,3,32,32]
        ---
        the model takes 8 pictures at a time, not 4
        ---
        a batch of 4294967295 pictures has 52776558120960 bytes, not 1 to 2147483648
        ---
        cannot use the model's `bbc.preprocess`
          Caused by: the preprocessing is not as expected
          Caused by: missing field `format` at line 1 column 2
        ---
        the input size is 0x32, where sides of 1 to 16384 and at most 67 million positions can be made
        ");
    }

    #[test]
    fn folders_give_their_pictures_sorted() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::copy(fixture("photo.jpg"), at("b.data")).unwrap();
        fs::copy(fixture("gray.png"), at("c")).unwrap();
        fs::write(at("a.JPG"), b"").unwrap();
        fs::write(at("notes.txt"), b"no picture").unwrap();
        fs::create_dir(at("inner.png")).unwrap();
        let inputs = [at("notes.txt"), at("inner.png"), folder.path().to_owned(), at("missing.jpg")];
        let expected = [at("notes.txt"), at("inner.png"), at("a.JPG"), at("b.data"), at("c"), at("missing.jpg")];
        let found = pictures(&inputs);
        assert_eq!(found.iter().map(|source| source.path.clone()).collect::<Vec<_>>(), expected);
        let problems: Vec<&str> = found.iter().filter_map(|source| source.problem.as_deref()).collect();
        let inner = at("inner.png").display().to_string();
        assert_eq!(
            problems,
            [format!("there is no JPEG or PNG in the folder `{inner}`; folders in it are not searched").as_str()]
        );
    }

    #[test]
    fn a_bad_picture_does_not_stop_the_others() {
        let paths = ["photo.jpg", "make.py", "gray.png", "missing.png", "alpha.png"].map(fixture);
        let sources = paths.clone().map(|path| Source { path, problem: None });
        let wanted = Wanted { top: 1, labels: None, keep: true };
        let cases: [(usize, bool, &[u32]); 7] = [
            (1, true, &[1, 1, 1]),
            (2, true, &[2, 2]),
            (3, true, &[3]),
            (8, true, &[8]),
            (2, false, &[2, 1]),
            (3, false, &[3]),
            (8, false, &[3]),
        ];
        for (batch, is_fixed, expected) in cases {
            let mut sizes = Vec::new();
            let mut model = |images: Tensor| {
                sizes.push(images.shape()[0]);
                channel_means(images)
            };
            let results = run_all(&sources, &small_plan(batch, is_fixed), &wanted, &mut model).unwrap();
            assert_eq!(sizes, expected, "{batch} {is_fixed}");

            let [
                Answer::Classes(photo),
                Answer::Error(text),
                Answer::Classes(gray),
                Answer::Error(missing),
                Answer::Classes(_),
            ] = &results.answers[..]
            else {
                panic!("{batch}: {:?}", results.answers);
            };
            assert!(text.ends_with("make.py`: it is neither JPEG nor PNG"), "{text}");
            assert!(missing.contains("missing.png`: No such file"), "{missing}");
            // Blue has the least mean to be taken off, so gray is bluest.
            assert_eq!(gray[0].class, 2, "{batch}");

            // Each picture's row is what it gives alone.
            let [(name, scores)] = &results.kept[..] else { panic!("{:?}", results.kept) };
            assert_eq!((name.as_str(), scores.shape()), ("scores", &[3, 3][..]));
            for (row, path) in [&paths[0], &paths[2], &paths[4]].into_iter().enumerate() {
                let alone = channel_means(prepare(path, &small_plan(1, true).preprocess).unwrap()).unwrap();
                assert_eq!(scores.data()[row * 3..][..3], *alone[0].1.data(), "{batch}");
            }
            assert_eq!(photo[0].score, scores.data()[photo[0].class]);
        }
    }

    #[test]
    fn softmax_withstands_great_scores_and_is_not_done_twice() {
        let near = |scores: &[f32], expected: &[f64]| {
            let probabilities = probabilities(scores).unwrap();
            assert!(probabilities.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{probabilities:?}");
        };
        near(&[0.0, 3_f32.ln()], &[0.25, 0.75]);
        near(&[1e30, 1e30, -1e30], &[0.5, 0.5, 0.0]);
        near(&[0.1, 0.2, 0.7], &[0.1, 0.2, 0.7]);
        assert_eq!(probabilities(&[1.0, f32::NAN]), None);
    }

    #[test]
    fn the_likeliest_come_first() {
        let labels: Vec<String> = ["ant", "bee", "cat", "dog"].map(String::from).to_vec();
        let order = |scores: &[f32]| -> Vec<usize> { top(scores, 3, None).iter().map(|found| found.class).collect() };
        assert_eq!(order(&[1.0, 3.0, 2.0, 3.0]), [1, 3, 2]);
        assert_eq!(order(&[f32::NAN, -1.0, 0.0, f32::NAN]), [2, 1, 0]);
        assert_eq!(top(&[0.0, 1.0], 9, Some(&labels)).len(), 2);
        assert_eq!(top(&[0.0, 1.0], 1, Some(&labels))[0].label.as_deref(), Some("bee"));
    }

    #[test]
    fn labels_have_to_match() {
        let outputs = |shape: &[u32]| {
            let tensor = Tensor::new(shape, vec![0.0; element_count(shape) as usize]).unwrap();
            vec![("y".to_owned(), tensor)]
        };
        let wanted = Wanted { top: 5, labels: Some(vec!["a".into(); 999]), keep: false };
        let message = |shape: &[u32]| describe(&outputs(shape), &wanted).unwrap_err().to_string();
        insta::assert_snapshot!(format!("{}\n---\n{}", message(&[1, 1000]), message(&[1, 8, 7, 7])), @r"
        there are 999 labels, but the model has 1000 classes
        ---
        labels are given, but the model is no classifier

        hint: a classifier has one output, of shape [N,classes]
        ");
    }

    #[test]
    fn labels_are_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.txt");
        fs::write(&path, "\u{feff}tench\r\n\r\ngreat white shark \n\n").unwrap();
        assert_eq!(labels(&path).unwrap(), ["tench", "", "great white shark", ""]);
        for text in ["a\nb", "a\nb\n", "a\r\nb\r\n"] {
            fs::write(&path, text).unwrap();
            assert_eq!(labels(&path).unwrap(), ["a", "b"], "{text:?}");
        }
    }

    #[test]
    fn a_feature_map_is_described() {
        let tensor = Tensor::new([1, 1, 2, 2], vec![1.0, 3.0, f32::INFINITY, 5.0]).unwrap();
        let found = Description::of("c2", &tensor);
        assert_eq!((found.min, found.max, found.mean, found.not_finite), (Some(1.0), Some(5.0), Some(3.0), 1));
        // Population: squares 4, 0 and 4 over three values.
        assert!((found.std.unwrap() - (8.0_f64 / 3.0).sqrt()).abs() < 1e-12);
        let none = Description::of("empty", &Tensor::new([1, 0], vec![]).unwrap());
        assert_eq!((none.min, none.mean, none.std), (None, None, None));
    }

    #[test]
    fn a_batch_that_cannot_be_shared_out_is_refused() {
        let outputs = vec![("boxes".to_owned(), Tensor::new([7, 6], vec![0.0; 42]).unwrap())];
        assert_eq!(of_picture(&outputs, 0, 1).unwrap()[0].1.shape(), [7, 6]);
        insta::assert_snapshot!(of_picture(&outputs, 0, 2).unwrap_err(), @r"the output `boxes` has shape [7, 6], which cannot be shared out to a batch of 2 pictures");
    }

    #[test]
    fn what_people_and_programs_read() {
        let class =
            |class, label: &str, probability| Class { class, label: Some(label.into()), score: 1.5, probability };
        let map = Description::of("c2", &Tensor::new([1, 1, 1, 2], vec![-1.0, 2.0]).unwrap());
        let entry = |picture: &str, answer| Entry { picture: picture.into(), answer };
        let classes = [
            entry("a.jpg", Answer::Classes(vec![class(281, "tabby", Some(0.75)), class(7, "cock\x1b[2J", None)])),
            entry("b\n.jpg", Answer::Error("cannot read".into())),
            entry("c.jpg", Answer::Classes(vec![class(0, "tench", Some(1.0))])),
        ];
        insta::assert_snapshot!(show(&classes), @r"
        picture  class  probability  label
        a.jpg      281       0.7500  tabby
                     7   not finite  cock\u{1b}[2J
        c.jpg        0       1.0000  tench
        ");
        let unlabelled = Class { label: None, ..class(3, "", Some(0.5)) };
        insta::assert_snapshot!(show(&[entry("a.jpg", Answer::Classes(vec![unlabelled]))]), @r"
        picture  class  probability
        a.jpg        3       0.5000
        ");
        let maps = [entry("a.jpg", Answer::Outputs(vec![map.clone(), map]))];
        insta::assert_snapshot!(show(&maps), @r"
        picture  output  shape          min     max    mean     std
        a.jpg    c2      [1,1,1,2]  -1.0000  2.0000  0.5000  1.5000
                 c2      [1,1,1,2]  -1.0000  2.0000  0.5000  1.5000
        ");
        insta::assert_snapshot!(serde_json::to_string(&classes[0]).unwrap(), @r#"{"picture":"a.jpg","classes":[{"class":281,"label":"tabby","score":1.5,"probability":0.75},{"class":7,"label":"cock\u001b[2J","score":1.5,"probability":null}]}"#);
        insta::assert_snapshot!(serde_json::to_string(&classes[1]).unwrap(), @r#"{"picture":"b\n.jpg","error":"cannot read"}"#);
        insta::assert_snapshot!(serde_json::to_string(&maps[0]).unwrap(), @r#"{"picture":"a.jpg","outputs":[{"name":"c2","shape":[1,1,1,2],"min":-1.0,"max":2.0,"mean":0.5,"std":1.5,"not_finite":0},{"name":"c2","shape":[1,1,1,2],"min":-1.0,"max":2.0,"mean":0.5,"std":1.5,"not_finite":0}]}"#);
    }

    #[test]
    fn results_replace_nothing_that_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["model.onnx", "old.npz"] {
            fs::write(at(name), name).unwrap();
        }
        let inputs = [at("missing.jpg"), at("model.onnx")];
        let around = folder.path().join(".").join("model.onnx");
        for path in [at("model.onnx"), around] {
            let refusal = begin(&path, &inputs).err().unwrap().to_string();
            assert!(refusal.starts_with("`--save` names the same file as `"), "{refusal}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(at("model.onnx"), at("link")).unwrap();
            assert!(begin(&at("link"), &inputs).is_err());
            // What is no regular file is not replaced.
            assert!(begin(Path::new("/dev/null"), &["/dev/null".into()]).is_ok());
        }
        for free in ["old.npz", "new.npz", "missing.jpg"] {
            assert!(begin(&at(free), &inputs).is_ok(), "{free}");
        }
    }

    #[test]
    fn saved_tensors_are_named_in_the_report() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.npz");
        let kept = vec![("../c2".to_owned(), Tensor::new([2, 1], vec![1.0, 2.0]).unwrap())];
        let saved = save(&kept, &path, begin(&path, &[]).unwrap()).unwrap();
        assert_eq!((saved.arrays[0].array.as_str(), saved.arrays[0].output.as_str()), ("_c2", "../c2"));
        assert!(fs::read(&path).unwrap().starts_with(b"PK"));
    }
}
