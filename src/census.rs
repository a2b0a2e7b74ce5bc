//! The census of base models: every convolution of networks in use today, as candidates and stages.
//!
//! A [`Base`] is what one model computes on one input: its convolutions, equal ones counted together, and the channels
//! in which each of its stages ends. A stage is a resolution, that of what a convolution makes. A [`Census`] of some
//! bases is also a file format; the bases that are built in ([`built_in`]) are such files.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::conv::{Candidate, Conv, ConvProblem, Grouping, ProblemError};
use crate::onnx::proto::ModelProto;
use crate::onnx::shapes::{Gap, InputSizes};
use crate::onnx::survey::{self, FoundConv};
use crate::tensor::DType;
use crate::units::{Bytes, Flops};
use crate::yaml::{self, YamlError};

#[cfg(feature = "run")]
mod observe;

#[cfg(feature = "run")]
pub use self::observe::{ObserveError, observe};

/// The version of the file format that is written, and the only one that is read.
pub const FORMAT: u32 = 1;

/// Most bases a census may have.
const MAX_BASES: usize = 64;

/// Most different convolutions a base may have.
const MAX_CONVS: usize = 20_000;

/// Most candidates that are taken from a census besides the published ones.
const MAX_CANDIDATES: usize = 16;

/// Least share of a base's operations for a stage to be measured.
const MIN_SHARE: f64 = 0.05;

/// Least share of the operations of several bases, on average, for a resolution to stand for them.
const MIN_MEAN_SHARE: f64 = 0.1;

/// Convolutions of base models. This is the file format, version included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Census {
    /// [`FORMAT`].
    pub format: u32,
    /// The models.
    pub bases: Vec<Base>,
}

/// What one model computes on one input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// Its name.
    pub name: String,
    /// Where the figures come from.
    pub source: String,
    /// Shape of the image input.
    pub input: Vec<u32>,
    /// The convolutions, in the order in which they first stand in the model.
    pub convs: Vec<Convs>,
    /// Where its stages end, from the highest resolution.
    pub ends: Vec<StageEnd>,
    /// Other layers that multiply and add.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Others>,
}

/// Equal convolutions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ConvsFields", into = "ConvsFields")]
pub struct Convs {
    /// What each of them computes.
    pub problem: ConvProblem,
    /// Whether they work on pooled values, one for each channel of the whole image.
    pub pooled: bool,
    /// How many there are; at least one.
    pub count: u32,
}

/// Convolutions as they stand in a file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConvsFields {
    window: [u32; 2],
    #[serde(default = "ones", skip_serializing_if = "are_ones")]
    stride: [u32; 2],
    #[serde(default, skip_serializing_if = "are_zeros")]
    padding: [u32; 4],
    #[serde(default = "ones", skip_serializing_if = "are_ones")]
    dilation: [u32; 2],
    #[serde(default = "one", skip_serializing_if = "is_one")]
    groups: u32,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    batch: u32,
    in_channels: u32,
    out_channels: u32,
    input: [u32; 2],
    #[serde(default = "single", skip_serializing_if = "is_single")]
    dtype: DType,
    #[serde(default, skip_serializing_if = "is_false")]
    pooled: bool,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    count: u32,
}

/// The end of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageEnd {
    /// Height and width.
    pub size: [u32; 2],
    /// Channels of its last output.
    pub channels: u32,
}

/// Layers of another op that multiplies and adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Others {
    /// What they are, as ONNX names it.
    pub op: String,
    /// How many there are.
    pub count: u32,
    /// Their multiply-adds; `null` if not known of all of them.
    pub multiply_adds: Option<u64>,
}

/// Why a text is not a census.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ReadError {
    /// It is not the YAML of a census.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// It is of another version of the format.
    #[error("the census has format {found}, this bbc reads format {FORMAT}; make it again with `bbc census`")]
    Version {
        /// The version it has.
        found: u64,
    },
    /// There are too many bases.
    #[error("it has {found} bases, more than the {MAX_BASES} supported")]
    TooManyBases {
        /// How many there are.
        found: usize,
    },
    /// A base has too many different convolutions.
    #[error("`bases[{base}]` has {found} convolutions, more than the {MAX_CONVS} supported")]
    TooManyConvs {
        /// Which base, from 0.
        base: usize,
        /// How many there are.
        found: usize,
    },
    /// A base has none.
    #[error("`bases[{base}]` has no convolution")]
    NoConvs {
        /// Which base, from 0.
        base: usize,
    },
}

/// Why convolutions in a file cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvsError {
    /// They cannot be computed.
    #[error(transparent)]
    Problem(#[from] ProblemError),
    /// There are none of them.
    #[error("`count` is zero")]
    NoneOfThem,
}

/// Why there is no census of a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CensusError {
    /// The size of the image is free and was not given.
    #[error("its input `{input}` leaves height or width free")]
    FreeSize {
        /// The input.
        input: String,
    },
    /// Too many of its convolutions differ.
    #[error("it has {found} different convolutions, more than the {MAX_CONVS} supported")]
    TooMany {
        /// How many there are.
        found: usize,
    },
    /// The model has no convolution.
    #[error("it has no convolution")]
    NoConvs,
    /// The shape of no convolution is known.
    #[error("the shape of none of its {count} convolutions can be worked out{}", because(.gap.as_ref()))]
    AllUnknown {
        /// How many it has.
        count: usize,
        /// Where the first shape that is not known is made.
        gap: Option<Gap>,
    },
}

fn because(gap: Option<&Gap>) -> String {
    gap.map_or_else(String::new, |Gap { node, op, reason }| format!(": at node `{node}` ({op}), {reason}"))
}

/// A base, and what of the model is not in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// What is known.
    pub base: Base,
    /// Names of the convolutions whose shapes are not known.
    pub unknown: Vec<String>,
    /// Where the first shapes that are not known are made.
    pub gaps: Vec<Gap>,
    /// Convolutions in the bodies of loops and branches.
    pub inner: usize,
}

/// Counts the convolutions of a model that [`check`](crate::onnx::check()) has passed.
///
/// `observed` are shapes that were seen when the model ran; an empty map if it did not.
///
/// # Errors
/// If the size of its image is free and not given, or no convolution is found or known.
pub fn take(
    name: &str,
    model: &ModelProto,
    sizes: InputSizes,
    observed: &HashMap<String, Vec<u32>>,
) -> Result<Taken, CensusError> {
    let found = survey::survey(model, sizes, observed);
    if let (false, Some(input)) = (found.unknown.is_empty(), found.free.first()) {
        return Err(CensusError::FreeSize { input: input.clone() });
    }
    if found.convs.is_empty() {
        return Err(match found.unknown.len() {
            0 => CensusError::NoConvs,
            count => CensusError::AllUnknown { count, gap: found.gaps.into_iter().next() },
        });
    }
    let convs = counted(found.convs);
    if convs.len() > MAX_CONVS {
        return Err(CensusError::TooMany { found: convs.len() });
    }
    let others = found.others.into_iter().map(|(op, layers)| Others {
        op,
        count: layers.count,
        multiply_adds: (layers.unknown == 0).then(|| layers.flops.multiply_adds()),
    });
    let image = found.inputs.into_iter().filter_map(|(_, shape)| shape).find(|shape| shape.len() == 4);
    let base = Base {
        name: name.to_owned(),
        source: format!("its ONNX model{}", if observed.is_empty() { "" } else { ", run once" }),
        input: image.unwrap_or_default(),
        convs,
        ends: found.stages.into_iter().map(|(size, channels)| StageEnd { size, channels }).collect(),
        others: others.collect(),
    };
    Ok(Taken { base, unknown: found.unknown, gaps: found.gaps, inner: found.inner })
}

/// Equal convolutions together, in the order of their first.
fn counted(found: Vec<FoundConv>) -> Vec<Convs> {
    let mut places: HashMap<(ConvProblem, bool), usize> = HashMap::new();
    let mut convs: Vec<Convs> = Vec::new();
    for FoundConv { problem, pooled, .. } in found {
        match places.get(&(problem.clone(), pooled)) {
            Some(&place) => convs[place].count = convs[place].count.saturating_add(1),
            None => {
                places.insert((problem.clone(), pooled), convs.len());
                convs.push(Convs { problem, pooled, count: 1 });
            }
        }
    }
    convs
}

/// Names of the bases that are built in.
pub const BUILT_IN: [&str; 4] = ["resnet34", "resnet50", "vovnet39", "mobilenetv3-large"];

const FILES: [&str; 4] = [
    include_str!("census/bases/resnet34.yaml"),
    include_str!("census/bases/resnet50.yaml"),
    include_str!("census/bases/vovnet39.yaml"),
    include_str!("census/bases/mobilenetv3-large.yaml"),
];

/// The census of a base that is built in, on one image of 224x224; `None` if there is none of this name.
pub fn built_in(name: &str) -> Option<Census> {
    let at = BUILT_IN.iter().position(|known| *known == name)?;
    Census::read(FILES[at]).ok()
}

/// Convolutions of one form and stride.
#[derive(Debug, Clone, PartialEq)]
pub struct CandidateRow {
    /// Their form. Its window may be even, which no backbone is built of.
    pub candidate: Candidate,
    /// Their stride.
    pub stride: [u32; 2],
    /// How many there are.
    pub count: u32,
    /// Their operations.
    pub flops: Flops,
    /// The part their operations are of those of all convolutions of the base.
    pub share: f64,
    /// Bytes they have to move at the least.
    pub bytes: Bytes,
    /// How many stand in each stage, from the highest resolution.
    pub stages: Vec<([u32; 2], u32)>,
}

/// The convolutions of one stage.
#[derive(Debug, Clone, PartialEq)]
pub struct StageRow {
    /// Height and width of what they make; `None` for those that work on pooled values.
    pub size: Option<[u32; 2]>,
    /// Channels of the stage's last output; `None` where that is not known.
    pub channels: Option<u32>,
    /// Channels that its operations are done in: the median, weighted by operations, of the output channels of the
    /// convolutions with windows above 1x1, or of all if there is no such.
    pub width: u32,
    /// How many there are.
    pub count: u32,
    /// Their operations.
    pub flops: Flops,
    /// The part their operations are of those of all convolutions of the base.
    pub share: f64,
    /// Bytes they have to move at the least.
    pub bytes: Bytes,
}

/// A stage that stands for those of one or several bases, as candidates are measured at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CommonStage {
    /// Height and width.
    pub size: [u32; 2],
    /// Channels that operations are done in.
    pub width: u32,
    /// How many convolutions it has.
    pub count: u32,
    /// The part of the operations that stands there, the mean over the bases.
    pub share: f64,
}

/// A problem that stands for layers of the bases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Representative {
    /// The form of convolution.
    pub candidate: Candidate,
    /// How many convolutions the stage has.
    pub layers: u32,
    /// The candidate at the stage's resolution and channels, stride 1.
    pub problem: ConvProblem,
}

impl Convs {
    /// Operations of all of them.
    pub fn flops(&self) -> Flops {
        self.problem.flops() * u64::from(self.count)
    }

    /// Bytes all of them have to move at the least.
    pub fn bytes(&self) -> Bytes {
        Bytes(self.problem.min_bytes().0.saturating_mul(u64::from(self.count)))
    }
}

impl Base {
    /// How many convolutions it has.
    pub fn count(&self) -> u32 {
        self.convs.iter().fold(0, |count, convs| count.saturating_add(convs.count))
    }

    /// Operations of its convolutions.
    pub fn flops(&self) -> Flops {
        self.convs.iter().map(Convs::flops).sum()
    }

    /// Operations of its convolutions and of the other layers they are known of.
    pub fn total_flops(&self) -> Flops {
        let others = self.others.iter().filter_map(|others| others.multiply_adds);
        self.flops() + others.map(Flops::from_multiply_adds).sum()
    }

    /// Its convolutions by form and stride, those with the most operations first.
    pub fn candidates(&self) -> Vec<CandidateRow> {
        let mut rows: BTreeMap<(Candidate, [u32; 2]), CandidateRow> = BTreeMap::new();
        for convs in &self.convs {
            let (candidate, stride) = (Candidate::of(&convs.problem), convs.problem.conv().stride);
            let row = rows.entry((candidate, stride)).or_insert(CandidateRow {
                candidate,
                stride,
                count: 0,
                flops: Flops::default(),
                share: 0.0,
                bytes: Bytes::default(),
                stages: Vec::new(),
            });
            row.count = row.count.saturating_add(convs.count);
            row.flops += convs.flops();
            row.bytes += convs.bytes();
            row.stages.push((convs.problem.output(), convs.count));
        }
        let mut rows: Vec<CandidateRow> = rows.into_values().collect();
        let all = self.flops();
        for row in &mut rows {
            row.share = share(row.flops, all);
            row.stages.sort_by_key(|&(size, _)| Reverse((area(size), size)));
            row.stages.dedup_by(|next, kept| {
                let same = next.0 == kept.0;
                kept.1 = if same { kept.1.saturating_add(next.1) } else { kept.1 };
                same
            });
        }
        rows.sort_by_key(|row| Reverse(row.flops));
        rows
    }

    /// Its stages from the highest resolution; the convolutions on pooled values come last.
    pub fn stages(&self) -> Vec<StageRow> {
        let ends: HashMap<[u32; 2], u32> = self.ends.iter().map(|end| (end.size, end.channels)).collect();
        let size = |convs: &Convs| (!convs.pooled).then(|| convs.problem.output());
        let mut sorted: Vec<&Convs> = self.convs.iter().collect();
        sorted.sort_by_key(|convs| Reverse(size(convs).map(|size| (area(size), size))));
        let all = self.flops();
        let row = |convs: &[&Convs]| {
            let flops = convs.iter().map(|convs| convs.flops()).sum();
            StageRow {
                size: size(convs[0]),
                channels: size(convs[0]).and_then(|size| ends.get(&size).copied()),
                width: width(convs),
                count: convs.iter().fold(0, |count, convs| count.saturating_add(convs.count)),
                flops,
                share: share(flops, all),
                bytes: convs.iter().map(|convs| convs.bytes()).sum(),
            }
        };
        sorted.chunk_by(|a, b| size(a) == size(b)).map(row).collect()
    }
}

/// The part that these operations are of all; zero if there are none.
fn share(flops: Flops, all: Flops) -> f64 {
    if all.0 == 0 { 0.0 } else { flops.0 as f64 / all.0 as f64 }
}

fn area([height, width]: [u32; 2]) -> u64 {
    u64::from(height) * u64::from(width)
}

/// The median of output channels, weighted by operations.
fn width(convs: &[&Convs]) -> u32 {
    let is_point = |convs: &&&Convs| convs.problem.conv().window == [1, 1];
    let mut counted: Vec<&&Convs> = convs.iter().filter(|convs| !is_point(convs)).collect();
    if counted.is_empty() {
        counted = convs.iter().collect();
    }
    counted.sort_by_key(|convs| convs.problem.out_channels());
    let half = counted.iter().map(|convs| convs.flops()).sum::<Flops>().0 / 2;
    let mut below = Flops::default();
    let middle = counted.iter().find(|convs| {
        below += convs.flops();
        below.0 >= half
    });
    middle.map_or(1, |convs| convs.problem.out_channels())
}

impl Census {
    /// A census of these bases.
    pub fn of(bases: Vec<Base>) -> Self {
        Self { format: FORMAT, bases }
    }

    /// Reads a census.
    ///
    /// # Errors
    /// If the text is not a census of this version of the format, or its values make no sense.
    pub fn read(text: &str) -> Result<Self, ReadError> {
        let census: Self = yaml::read_version(text, FORMAT, |found| ReadError::Version { found })?;
        if census.bases.len() > MAX_BASES {
            return Err(ReadError::TooManyBases { found: census.bases.len() });
        }
        for (base, Base { convs, .. }) in census.bases.iter().enumerate() {
            match convs.len() {
                0 => return Err(ReadError::NoConvs { base }),
                found if found > MAX_CONVS => return Err(ReadError::TooManyConvs { base, found }),
                _ => {}
            }
        }
        Ok(census)
    }

    /// The text of the census; [`Census::read`] gives an equal one back.
    ///
    /// # Errors
    /// Never for a census that [`Census::read`] accepts.
    pub fn write(&self) -> Result<String, YamlError> {
        yaml::write(self)
    }

    /// The forms of convolution to measure: the published ones, then those of the bases that a backbone could be built
    /// of, the ones with the most operations first.
    pub fn candidates(&self) -> Vec<Candidate> {
        let mut found: BTreeMap<Candidate, Flops> = BTreeMap::new();
        for convs in self.bases.iter().flat_map(|base| &base.convs).filter(|convs| !convs.pooled) {
            *found.entry(Candidate::of(&convs.problem)).or_default() += convs.flops();
        }
        // What can be read back by its name can be built of.
        found.retain(|candidate, _| {
            !Candidate::PUBLISHED.contains(candidate) && candidate.to_string().parse() == Ok(*candidate)
        });
        let mut found: Vec<(Candidate, Flops)> = found.into_iter().collect();
        found.sort_by_key(|&(_, flops)| Reverse(flops));
        let found = found.into_iter().map(|(candidate, _)| candidate).take(MAX_CANDIDATES);
        Candidate::PUBLISHED.into_iter().chain(found).collect()
    }

    /// The stages that have a fair part of their base's operations, from the highest resolution. Those of several bases
    /// that have the same size and channels are one.
    ///
    /// A share is the mean over the bases: a large one counts no more than a small one.
    pub fn stages(&self) -> Vec<CommonStage> {
        let mut found: Vec<CommonStage> = Vec::new();
        for stage in self.bases.iter().flat_map(Base::stages).filter(|stage| stage.share >= MIN_SHARE) {
            let Some(size) = stage.size else { continue };
            let StageRow { width, count, share, .. } = stage;
            let share = share / self.bases.len() as f64;
            match found.iter_mut().find(|known| (known.size, known.width) == (size, width)) {
                Some(known) => {
                    known.count = known.count.saturating_add(count);
                    known.share += share;
                }
                None => found.push(CommonStage { size, width, count, share }),
            }
        }
        found.sort_by_key(|stage| Reverse((area(stage.size), stage.size)));
        found
    }

    /// One stage for each resolution that has, on average, a tenth of the bases' operations or more, from the highest.
    /// It has the middle one of the bases' channels there, the lower of two.
    pub fn representative_stages(&self) -> Vec<CommonStage> {
        let mut by_size: BTreeMap<[u32; 2], Vec<StageRow>> = BTreeMap::new();
        for stage in self.bases.iter().flat_map(Base::stages) {
            if let Some(size) = stage.size {
                by_size.entry(size).or_default().push(stage);
            }
        }
        let of_size = |(size, mut stages): ([u32; 2], Vec<StageRow>)| {
            stages.sort_by_key(|stage| stage.width);
            CommonStage {
                size,
                width: stages[(stages.len() - 1) / 2].width,
                count: stages.iter().fold(0, |count, stage| count.saturating_add(stage.count)),
                share: stages.iter().map(|stage| stage.share).sum::<f64>() / self.bases.len() as f64,
            }
        };
        let mut found: Vec<CommonStage> = by_size.into_iter().map(of_size).collect();
        found.retain(|stage| stage.share >= MIN_MEAN_SHARE);
        found.sort_by_key(|stage| Reverse((area(stage.size), stage.size)));
        found
    }
}

/// Every candidate at the resolution and channels of every stage.
///
/// Where groups do not divide the channels, the next number that they divide is taken. Equal problems of several
/// stages are one, which stands for the layers of all.
///
/// # Errors
/// If the batch is zero or makes a tensor too large.
pub fn problems(
    stages: &[CommonStage],
    candidates: &[Candidate],
    batch: u32,
    dtype: DType,
) -> Result<Vec<Representative>, ProblemError> {
    let mut found: Vec<Representative> = Vec::new();
    let mut places: HashMap<(Candidate, ConvProblem), usize> = HashMap::new();
    for stage in stages {
        for &candidate in candidates {
            let channels = match candidate.grouping {
                Grouping::Grouped(groups) => stage.width.checked_next_multiple_of(groups).unwrap_or(stage.width),
                Grouping::Full | Grouping::Depthwise => stage.width,
            };
            let conv = candidate.conv(channels);
            let problem = ConvProblem::new(conv, batch, channels, channels, stage.size, dtype)?;
            match places.get(&(candidate, problem.clone())) {
                Some(&place) => found[place].layers = found[place].layers.saturating_add(stage.count),
                None => {
                    places.insert((candidate, problem.clone()), found.len());
                    found.push(Representative { candidate, layers: stage.count, problem });
                }
            }
        }
    }
    Ok(found)
}

/// The bases that are built in, as one census.
pub fn all_built_in() -> Census {
    Census::of(BUILT_IN.iter().filter_map(|name| built_in(name)).flat_map(|census| census.bases).collect())
}

impl TryFrom<ConvsFields> for Convs {
    type Error = ConvsError;

    fn try_from(f: ConvsFields) -> Result<Self, ConvsError> {
        let conv =
            Conv { window: f.window, stride: f.stride, padding: f.padding, dilation: f.dilation, groups: f.groups };
        let problem = ConvProblem::new(conv, f.batch, f.in_channels, f.out_channels, f.input, f.dtype)?;
        if f.count == 0 {
            return Err(ConvsError::NoneOfThem);
        }
        Ok(Self { problem, pooled: f.pooled, count: f.count })
    }
}

impl From<Convs> for ConvsFields {
    fn from(convs: Convs) -> Self {
        let Conv { window, stride, padding, dilation, groups } = convs.problem.conv();
        Self {
            window,
            stride,
            padding,
            dilation,
            groups,
            batch: convs.problem.batch(),
            in_channels: convs.problem.in_channels(),
            out_channels: convs.problem.out_channels(),
            input: convs.problem.input(),
            dtype: convs.problem.dtype(),
            pooled: convs.pooled,
            count: convs.count,
        }
    }
}

fn one() -> u32 {
    1
}

fn ones() -> [u32; 2] {
    [1, 1]
}

fn single() -> DType {
    DType::F32
}

fn is_one(n: &u32) -> bool {
    *n == 1
}

fn are_ones(pair: &[u32; 2]) -> bool {
    *pair == [1, 1]
}

fn are_zeros(padding: &[u32; 4]) -> bool {
    *padding == [0; 4]
}

fn is_single(dtype: &DType) -> bool {
    *dtype == DType::F32
}

fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::{GraphProto, NodeProto};
    use crate::onnx::testing::Net;

    fn taken(net: &Net) -> Base {
        take("net", &net.0, InputSizes::default(), &HashMap::new()).unwrap().base
    }

    fn small() -> Net {
        Net::new(7)
            .input("image", "N 3 32 32")
            .conv("image", "stem", [3, 8], 7, 2, 1)
            .node("MaxPool stem -> pool", "kernel_shape=3,3 strides=2,2 pads=1,1,1,1")
            .conv("pool", "a", [8, 8], 3, 1, 1)
            .conv("a", "b", [8, 8], 3, 1, 1)
            .conv("b", "c", [8, 8], 3, 1, 2)
            .conv("c", "d", [8, 8], 3, 2, 8)
            .conv("d", "e", [8, 16], 1, 1, 1)
            .node("GlobalAveragePool e -> f", "")
            .conv("f", "g", [16, 10], 1, 1, 1)
            .output("g")
    }

    /// Multiply-adds by the definition: one for each tap of each output of each input channel of its group.
    fn naive(graph: &GraphProto, mut sizes: HashMap<String, u64>) -> u64 {
        let ints = |node: &NodeProto, name: &str| -> Vec<u64> {
            let found = node.attribute.iter().find(|a| a.name() == name).unwrap();
            found.ints.iter().map(|&n| n as u64).collect()
        };
        let mut all = 0;
        for node in &graph.node {
            let size = sizes[&node.input[0]];
            let out = match node.op_type() {
                "Conv" => {
                    let weight = graph.initializer.iter().find(|t| t.name() == node.input[1]).unwrap();
                    let (pads, window) = (ints(node, "pads"), weight.dims[2] as u64);
                    let fits = |i: &u64| i * ints(node, "strides")[0] + window <= size + 2 * pads[0];
                    let out = (0..).take_while(fits).count() as u64;
                    all += out * out * weight.dims.iter().product::<i64>() as u64;
                    out
                }
                "MaxPool" => size / 2,
                "GlobalAveragePool" => 1,
                op => panic!("{op}"),
            };
            sizes.insert(node.output[0].clone(), out);
        }
        all
    }

    #[test]
    fn rows_of_a_small_network() {
        let net = small();
        let base = taken(&net);
        let sizes = HashMap::from([("image".to_owned(), 32)]);
        assert_eq!(base.flops().multiply_adds(), naive(net.0.graph.as_ref().unwrap(), sizes));
        assert_eq!(base.count(), 7);
        let rows: Vec<String> = base
            .candidates()
            .iter()
            .map(|row| {
                let CandidateRow { candidate, stride, count, flops, bytes, stages, .. } = row;
                format!("{candidate} {stride:?} {count} {} {} {stages:?}", flops.multiply_adds(), bytes.0)
            })
            .collect();
        insta::assert_snapshot!(rows.join("\n"), @r"
        conv7x7 [2, 2] 1 301056 25184 [([16, 16], 1)]
        conv3x3 [1, 1] 2 73728 12800 [([8, 8], 2)]
        group2conv3x3 [1, 1] 1 18432 5248 [([8, 8], 1)]
        conv1x1 [1, 1] 2 2208 2792 [([4, 4], 1), ([1, 1], 1)]
        dw3x3 [2, 2] 1 1152 2848 [([4, 4], 1)]
        ");
        let rows: Vec<String> = base
            .stages()
            .iter()
            .map(|StageRow { size, channels, width, count, flops, bytes, .. }| {
                format!(
                    "{size:?} ends in {channels:?}, works in {width}: {count} {} {}",
                    flops.multiply_adds(),
                    bytes.0
                )
            })
            .collect();
        insta::assert_snapshot!(rows.join("\n"), @r"
        Some([16, 16]) ends in Some(8), works in 8: 1 301056 25184
        Some([8, 8]) ends in Some(8), works in 8: 3 92160 18048
        Some([4, 4]) ends in Some(16), works in 8: 2 3200 4896
        None ends in None, works in 10: 1 160 744
        ");
    }

    /// Totals as published: timm's for ResNet-34, ResNet-50 and MobileNetV3-Large, in millions of multiply-adds.
    #[test]
    fn built_in_bases() {
        for (name, convs, millions, ends) in [
            ("resnet34", 36, 3_664, &[64, 64, 128, 256, 512]),
            ("resnet50", 53, 4_089, &[64, 256, 512, 1024, 2048]),
            ("vovnet39", 39, 7_072, &[64, 256, 512, 768, 1024]),
            ("mobilenetv3-large", 63, 217, &[16, 24, 40, 112, 960]),
        ] {
            let census = built_in(name).unwrap();
            let [base] = &census.bases[..] else { panic!("one base in {name}") };
            assert_eq!((base.name.as_str(), base.count()), (name, convs));
            assert_eq!((base.total_flops().multiply_adds() + 500_000) / 1_000_000, millions, "{name}");
            let found: Vec<u32> = base.stages().iter().filter_map(|stage| stage.channels).collect();
            assert_eq!(found, ends, "{name}");
            assert!(base.stages().iter().all(|stage| stage.size.is_none() || stage.channels.is_some()), "{name}");
            assert_eq!(Census::read(&census.write().unwrap()), Ok(census));
        }
        assert_eq!(built_in("resnet51"), None);
        assert!(FILES.iter().zip(BUILT_IN).all(|(text, name)| Census::read(text).unwrap().bases[0].name == name));
    }

    #[test]
    fn problems_of_bases() {
        let census = Census::of(vec![taken(&small())]);
        let names: Vec<String> = census.candidates().iter().map(ToString::to_string).collect();
        let published = ["conv5x5", "conv3x3", "conv1x1", "dw3x3", "dw5x5"];
        assert_eq!(names, [&published[..], &["conv7x7", "group2conv3x3"]].concat());
        let candidates = ["conv3x3".parse().unwrap(), "group3conv1x7".parse().unwrap()];
        let shown: Vec<String> = problems(&census.stages(), &candidates, 2, DType::F16)
            .unwrap()
            .iter()
            .map(|Representative { candidate, layers, problem }| {
                format!("{layers} {candidate} {:?} {}", problem.output_shape(), problem.dtype())
            })
            .collect();
        insta::assert_snapshot!(shown.join("\n"), @r"
        1 conv3x3 [2, 8, 16, 16] f16
        1 group3conv1x7 [2, 9, 16, 16] f16
        3 conv3x3 [2, 8, 8, 8] f16
        3 group3conv1x7 [2, 9, 8, 8] f16
        ");

        // Stages of ResNet-34 and ResNet-50 do their work in the same channels.
        let both = ["resnet34", "resnet50"].map(|name| built_in(name).unwrap().bases).concat();
        let both = problems(&Census::of(both).stages(), &[Candidate::full(3)], 1, DType::F32).unwrap();
        let shown: Vec<(u32, u32, u32)> =
            both.iter().map(|p| (p.problem.in_channels(), p.problem.input()[0], p.layers)).collect();
        assert_eq!(shown, [(64, 56, 6 + 11), (128, 28, 9 + 13), (256, 14, 13 + 19), (512, 7, 7 + 9)]);
        assert!(problems(&census.stages(), &[Candidate::full(3)], 0, DType::F32).is_err());
    }

    /// By hand from `bbc census` of the four: the mean of their shares at each resolution, and the second of their four
    /// widths in order: 64 64 72 128, 120 128 128 160, 192 256 256 480 and 224 512 512 960. At 112x112 they have 5.9 %.
    #[test]
    fn stages_that_stand_for_the_built_in_bases() {
        let shown: Vec<String> = all_built_in()
            .representative_stages()
            .iter()
            .map(|CommonStage { size, width, count, share }| format!("{size:?} {width} {count} {share:.3}"))
            .collect();
        insta::assert_snapshot!(shown.join("\n"), @r"
        [56, 56] 64 30 0.235
        [28, 28] 128 37 0.209
        [14, 14] 256 62 0.333
        [7, 7] 512 37 0.160
        ");
        let shares: f64 = all_built_in().stages().iter().map(|stage| stage.share).sum();
        assert!((0.8..1.0).contains(&shares), "{shares}");
    }

    #[test]
    fn what_has_no_census_is_said() {
        let said = |net: Net| take("net", &net.0, InputSizes::default(), &HashMap::new()).unwrap_err().to_string();
        let said = [
            said(Net::new(9).input("image", "N 3 H W").conv("image", "a", [3, 8], 3, 1, 1)),
            said(Net::new(9).input("image", "N 3 8 8").node("Relu image -> a", "")),
            said(Net::new(9).input("image", "N 3 8 8").node("Sing image -> a", "").conv("a", "b", [3, 8], 3, 1, 1)),
        ];
        insta::assert_snapshot!(said.join("\n"), @r"
        its input `image` leaves height or width free
        it has no convolution
        the shape of none of its 1 convolutions can be worked out: at node `Sing of a` (Sing), the operator is not known
        ");
    }

    #[test]
    fn files_that_make_no_sense_are_refused() {
        const TEXT: &str = FILES[0];
        let said: Vec<String> = [
            TEXT.replace("format: 1", "format: 2"),
            TEXT.replace("window: [7, 7]", "window: [7, 0]"),
            TEXT.replace("count: 6", "count: 0"),
            TEXT.replace("ends:", "end:"),
            "format: 1\nbases:\n  - { name: a, source: b, input: [], convs: [], ends: [] }".to_owned(),
            format!("format: 1\nbases: [{}]", "{ name: a, source: b, input: [], convs: [], ends: [] }, ".repeat(65)),
        ]
        .iter()
        .map(|text| Census::read(text).unwrap_err().to_string())
        .collect();
        insta::assert_snapshot!(said.join("\n"), @r"
        the census has format 2, this bbc reads format 1; make it again with `bbc census`
        the window width is zero in `bases[0].convs` at line 7, column 7
        `count` is zero in `bases[0].convs` at line 7, column 7
        unknown key `end` in `bases[0]` at line 18, column 5; did you mean `ends`?
        `bases[0]` has no convolution
        it has 65 bases, more than the 64 supported
        ");
    }

    mod any {
        use proptest::prelude::*;

        use super::*;
        use crate::onnx::proto::{AttributeProto, ModelProto};

        const OPS: &[&str] = &[
            "Conv",
            "ConvTranspose",
            "MaxPool",
            "AveragePool",
            "Reshape",
            "Concat",
            "Slice",
            "Gather",
            "Transpose",
            "Pad",
            "Resize",
            "Upsample",
            "Split",
            "Expand",
            "Tile",
            "Range",
            "ConstantOfShape",
            "TopK",
            "OneHot",
            "Squeeze",
            "Unsqueeze",
            "Flatten",
            "ReduceMean",
            "ReduceProd",
            "MatMul",
            "Gemm",
            "Where",
            "Shape",
            "Size",
            "Add",
            "Div",
            "Mod",
            "DepthToSpace",
            "SpaceToDepth",
            "GatherND",
            "GridSample",
            "Constant",
            "GlobalAveragePool",
            "Cast",
        ];
        const NAMES: &[&str] = &[
            "kernel_shape",
            "strides",
            "pads",
            "dilations",
            "group",
            "auto_pad",
            "axis",
            "axes",
            "perm",
            "split",
            "starts",
            "ends",
            "blocksize",
            "scales",
            "keepdims",
            "output_shape",
            "to",
            "value_ints",
            "transA",
            "output_padding",
        ];

        fn number() -> impl Strategy<Value = i64> {
            prop_oneof![-3..20_i64, Just(i64::MAX), Just(i64::MIN), Just(1 << 32), Just((1 << 31) - 1)]
        }

        #[derive(Debug, Clone)]
        enum Change {
            Op(usize, usize),
            Attribute(usize, usize, Vec<i64>),
            Operand(usize, usize, usize),
            More(usize, usize),
            Dims(usize, Vec<i64>),
            Values(usize, Vec<i64>),
        }

        fn change() -> impl Strategy<Value = Change> {
            let numbers = || proptest::collection::vec(number(), 0..9);
            prop_oneof![
                (0..99usize, 0..OPS.len()).prop_map(|(n, op)| Change::Op(n, op)),
                (0..99usize, 0..NAMES.len(), numbers()).prop_map(|(n, name, v)| Change::Attribute(n, name, v)),
                (0..99usize, 0..4usize, 0..99usize).prop_map(|(n, at, from)| Change::Operand(n, at, from)),
                (0..99usize, 0..99usize).prop_map(|(n, from)| Change::More(n, from)),
                (0..99usize, numbers()).prop_map(|(n, v)| Change::Dims(n, v)),
                (0..99usize, numbers()).prop_map(|(n, v)| Change::Values(n, v)),
            ]
        }

        fn apply(model: &mut ModelProto, change: Change) {
            let graph = model.graph.as_mut().unwrap();
            let mut names: Vec<String> = graph.node.iter().flat_map(|node| node.output.clone()).collect();
            names.extend(graph.initializer.iter().map(|tensor| tensor.name().to_owned()));
            let (nodes, tensors) = (graph.node.len(), graph.initializer.len());
            match change {
                Change::Op(n, op) => graph.node[n % nodes].op_type = Some(OPS[op].into()),
                Change::Attribute(n, name, ints) => {
                    let node = &mut graph.node[n % nodes];
                    node.attribute.retain(|attribute| attribute.name() != NAMES[name]);
                    let floats = ints.iter().map(|&n| n as f32).collect();
                    let i = ints.first().copied();
                    let attribute =
                        AttributeProto { name: Some(NAMES[name].into()), i, ints, floats, ..Default::default() };
                    node.attribute.insert(0, attribute);
                }
                Change::Operand(n, at, from) => {
                    let node = &mut graph.node[n % nodes];
                    let at = at % node.input.len().max(1);
                    if let Some(operand) = node.input.get_mut(at) {
                        operand.clone_from(&names[from % names.len()]);
                    }
                }
                Change::More(n, from) => {
                    let from = names[from % names.len()].clone();
                    graph.node[n % nodes].input.push(from);
                }
                Change::Dims(n, dims) => graph.initializer[n % tensors].dims = dims,
                Change::Values(n, values) => {
                    let tensor = &mut graph.initializer[n % tensors];
                    tensor.dims = vec![values.len() as i64];
                    tensor.data_type = Some(crate::onnx::proto::tensor_proto::DataType::Int64.into());
                    tensor.int64_data = values;
                }
            }
        }

        proptest! {
            #![proptest_config(ProptestConfig::with_cases(2000))]

            #[test]
            fn model_is_counted_or_refused(changes in proptest::collection::vec(change(), 1..25), side in number()) {
                let net = small()
                    .list("axes", &[0, 1])
                    .node("Shape e -> s", "")
                    .node("Gather s axes -> t", "")
                    .node("Mul t axes -> u", "")
                    .node("Concat u axes -> v", "axis=0")
                    .node("Reshape e v -> w", "")
                    .node("Split w -> x y", "axis=1");
                let mut model = net.0;
                changes.into_iter().for_each(|change| apply(&mut model, change));
                let side = u32::try_from(side).ok();
                let sizes = InputSizes { batch: side, image: side.map(|side| [side, side / 2]) };
                if let Ok(taken) = take("net", &model, sizes, &HashMap::new()) {
                    let census = Census::of(vec![taken.base]);
                    prop_assert_eq!(Census::read(&census.write().unwrap()), Ok(census.clone()));
                    census.bases[0].candidates();
                    let problems = problems(&census.stages(), &census.candidates(), 1, DType::F32);
                    prop_assert!(problems.is_err() || problems.unwrap().len() <= 32 * 21);
                }
            }
        }

        proptest! {
            #[test]
            fn damage_is_read_or_refused(at in 0..FILES[0].len(), length in 0..40usize, with in "[ -~\n]{0,3}") {
                let mut text = FILES[0].to_owned();
                text.replace_range(at..(at + length).min(text.len()), &with);
                if let Ok(census) = Census::read(&text) {
                    prop_assert_eq!(Census::read(&census.write().unwrap()), Ok(census));
                }
            }
        }
    }
}
