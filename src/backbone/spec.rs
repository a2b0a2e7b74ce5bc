//! The spec: a backbone as a YAML file of sizes.
//!
//! `schema/spec.example.yaml` shows every key with its meaning, and [`SCHEMA`] tells editors.

use serde::{Deserialize, Serialize};

use crate::conv::{Candidate, CandidateError};
use crate::yaml::{self, YamlError};

/// Version of the spec's format.
pub const FORMAT: u32 = 1;

/// The format as a JSON Schema.
pub const SCHEMA: &str = include_str!("../../schema/spec.schema.json");

/// A backbone described by its sizes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Version of the format: 1.
    pub format: u32,
    /// Name of the network.
    pub name: String,
    /// The convolution that blocks are built of; left open, it is what a profile says is densest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_conv: Option<Candidate>,
    /// Size of the image.
    #[serde(default)]
    pub input: InputSize,
    /// The first layers.
    pub stem: Stem,
    /// What all blocks have in common.
    #[serde(default)]
    pub block: BlockOptions,
    /// The stages in order.
    pub stages: Vec<Stage>,
    /// The classifier; without it the outputs are the stages' feature maps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Head>,
}

/// Channels, height and width of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InputSize {
    /// Channels, 3 for colour.
    pub channels: u32,
    /// Height in pixels.
    pub height: u32,
    /// Width in pixels.
    pub width: u32,
}

impl Default for InputSize {
    fn default() -> Self {
        Self { channels: 3, height: 224, width: 224 }
    }
}

/// The first layers, which make the image four times smaller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stem {
    /// How they are connected.
    pub kind: StemKind,
    /// Stacked: channels of each convolution. Branched: channels inside, and channels handed on.
    pub channels: Vec<u32>,
}

/// How the layers of the stem are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StemKind {
    /// 3x3 convolutions one after the other and a max pool, as in PP-HGNet.
    Stacked,
    /// A max pool beside two 2x2 convolutions, as in PP-HGNetV2.
    Branched,
}

/// What all blocks have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BlockOptions {
    /// How the concatenated channels are brought back down.
    pub aggregation: Aggregation,
    /// What the result is multiplied by.
    pub gate: Gate,
    /// Whether every block of a stage but its first adds its input to its result.
    pub residual: bool,
    /// Whether a learnable affine follows every ReLU.
    pub affine: bool,
}

impl Default for BlockOptions {
    fn default() -> Self {
        Self { aggregation: Aggregation::Single, gate: Gate::None, residual: true, affine: false }
    }
}

/// How the concatenated channels are brought back down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// One 1x1 convolution.
    Single,
    /// A 1x1 convolution to half of the channels, another to all of them.
    SqueezeExcite,
}

/// What the result of a block is multiplied by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Nothing.
    None,
    /// Effective squeeze-and-excitation: a factor for each channel, from the means of all.
    Ese,
}

/// Blocks at one resolution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Number of blocks.
    pub blocks: u32,
    /// Convolutions stacked in each block.
    pub layers: u32,
    /// Channels of each of them.
    pub mid: u32,
    /// Channels of each block's result.
    pub out: u32,
    /// How much smaller the image gets on the way in: 1 or 2.
    #[serde(default = "no_stride")]
    pub stride: u32,
    /// The first conv of this stage, where it is another than the network's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_conv: Option<Candidate>,
    /// Which convolution is stacked.
    #[serde(default)]
    pub conv: StageConv,
    /// Overrides the blocks' common one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregation: Option<Aggregation>,
    /// Overrides the blocks' common one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// Overrides the blocks' common one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residual: Option<bool>,
}

fn no_stride() -> u32 {
    1
}

/// Which convolution a stage stacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StageConv {
    /// The first conv of the stage, or else of the spec; written `first`.
    #[default]
    First,
    /// This one, whatever the first conv is.
    Named(Candidate),
}

impl Serialize for StageConv {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::First => serializer.serialize_str("first"),
            Self::Named(candidate) => candidate.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for StageConv {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "first" => Ok(Self::First),
            name => name.parse().map(Self::Named).map_err(serde::de::Error::custom),
        }
    }
}

/// Global pool, fully connected layer with activation, classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Features of the fully connected layer.
    pub hidden: u32,
    /// Classes told apart.
    pub classes: u32,
}

/// Why a spec makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SpecError {
    /// It is no YAML of a spec.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// It is written in a format of another version.
    #[error("the spec has format {found}, this version reads format {FORMAT}")]
    Format {
        /// Version in the file.
        found: u32,
    },
    /// A size is outside of what makes sense.
    #[error("{what} is {value}; it has to be from {least} to {most}")]
    OutOfRange {
        /// Key, with its stage.
        what: String,
        /// What it is.
        value: u64,
        /// Smallest sensible value.
        least: u64,
        /// Greatest sensible value.
        most: u64,
    },
    /// A number of channels that has to be even is not.
    #[error("{what} is {value}; it has to be even, since half of it is needed")]
    Odd {
        /// Key, with its stage.
        what: String,
        /// What it is.
        value: u32,
    },
    /// A convolution that cannot be written down, with an even window or a single group for example.
    #[error("{what}: {source}")]
    Candidate {
        /// Key, with its stage.
        what: String,
        /// What is wrong with it.
        source: CandidateError,
    },
    /// The name of the network is empty or has control characters.
    #[error("the name of the network has to be 1 to 100 printable characters")]
    Name,
}

/// Limits that keep a spec's network in bounds, far beyond any sensible one.
const MAX_STAGES: usize = 16;
const MAX_BLOCKS: u32 = 64;
const MAX_LAYERS: u32 = 64;
const MAX_STACKED: u64 = 4096;
const MAX_CHANNELS: u32 = 1 << 16;
const MAX_SIDE: u32 = 1 << 14;

impl Stem {
    /// How much smaller it makes the image.
    pub fn stride(&self) -> u32 {
        4
    }
}

impl Spec {
    /// The spec in a YAML text, validated.
    ///
    /// # Errors
    /// If it is no spec, of another format version, or makes no sense.
    pub fn read(text: &str) -> Result<Self, SpecError> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        // The version comes first: keys of another one would only confuse.
        if let Ok(Version { format }) = yaml::read::<Version>(text)
            && format != FORMAT
        {
            return Err(SpecError::Format { found: format });
        }
        let spec: Self = yaml::read(text)?;
        spec.validate()?;
        Ok(spec)
    }

    /// The spec as YAML.
    ///
    /// # Errors
    /// If it makes no sense.
    pub fn write(&self) -> Result<String, SpecError> {
        self.validate()?;
        Ok(yaml::write(self)?)
    }

    /// Whether any stage is built of the spec's first conv.
    pub fn uses_first_conv(&self) -> bool {
        self.stages.iter().any(|stage| stage.conv == StageConv::First && stage.first_conv.is_none())
    }

    /// The spec with this first conv in all of its stages.
    #[must_use]
    pub fn with_first_conv(mut self, candidate: Candidate) -> Self {
        self.first_conv = Some(candidate);
        self.stages.iter_mut().for_each(|stage| stage.first_conv = None);
        self
    }

    /// Height and width of the image in each stage, behind its down-sampling.
    pub fn stage_sizes(&self) -> Vec<[u32; 2]> {
        let smaller = |[height, width]: [u32; 2], stride: u32| [height.div_ceil(stride), width.div_ceil(stride)];
        let mut size = smaller([self.input.height, self.input.width], self.stem.stride());
        let of_stage = |stage: &Stage| {
            size = smaller(size, stage.stride.max(1));
            size
        };
        self.stages.iter().map(of_stage).collect()
    }

    /// Checks every size against what makes sense.
    ///
    /// # Errors
    /// The first size that does not.
    pub fn validate(&self) -> Result<(), SpecError> {
        if self.format != FORMAT {
            return Err(SpecError::Format { found: self.format });
        }
        if self.name.is_empty() || self.name.len() > 100 || self.name.chars().any(char::is_control) {
            return Err(SpecError::Name);
        }
        in_range("input.channels", self.input.channels, 1, MAX_CHANNELS)?;
        in_range("input.height", self.input.height, 1, MAX_SIDE)?;
        in_range("input.width", self.input.width, 1, MAX_SIDE)?;
        self.validate_stem()?;
        let stages = self.stages.len() as u64;
        if !(1..=MAX_STAGES as u64).contains(&stages) {
            let what = "the number of stages".to_owned();
            return Err(SpecError::OutOfRange { what, value: stages, least: 1, most: MAX_STAGES as u64 });
        }
        self.first_conv.map_or(Ok(()), |candidate| possible("first_conv", candidate))?;
        let layers = self.stages.iter().map(|stage| u64::from(stage.blocks) * u64::from(stage.layers)).sum::<u64>();
        if layers > MAX_STACKED {
            let what = "the number of stacked convolutions, blocks times layers over all stages,".to_owned();
            return Err(SpecError::OutOfRange { what, value: layers, least: 1, most: MAX_STACKED });
        }
        self.stages.iter().enumerate().try_for_each(|(i, stage)| self.validate_stage(i + 1, stage))?;
        if let Some(head) = self.head {
            in_range("head.hidden", head.hidden, 1, MAX_CHANNELS)?;
            in_range("head.classes", head.classes, 1, 1 << 20)?;
        }
        Ok(())
    }

    fn validate_stem(&self) -> Result<(), SpecError> {
        let count = u32::try_from(self.stem.channels.len()).unwrap_or(u32::MAX);
        match self.stem.kind {
            StemKind::Stacked => in_range("the number of stem.channels", count, 1, 8)?,
            StemKind::Branched => in_range("the number of stem.channels", count, 2, 2)?,
        }
        self.stem.channels.iter().try_for_each(|&n| in_range("stem.channels", n, 1, MAX_CHANNELS))?;
        match self.stem.kind {
            StemKind::Branched => even("stem.channels[0]", self.stem.channels[0]),
            StemKind::Stacked => Ok(()),
        }
    }

    fn validate_stage(&self, number: usize, stage: &Stage) -> Result<(), SpecError> {
        let check = |key: &str, value, most| in_range(&format!("stage {number}: {key}"), value, 1, most);
        check("blocks", stage.blocks, MAX_BLOCKS)?;
        check("layers", stage.layers, MAX_LAYERS)?;
        check("mid", stage.mid, MAX_CHANNELS)?;
        check("out", stage.out, MAX_CHANNELS)?;
        check("stride", stage.stride, 2)?;
        if let Some(candidate) = stage.first_conv {
            possible(&format!("stage {number}: first_conv"), candidate)?;
        }
        if let StageConv::Named(candidate) = stage.conv {
            possible(&format!("stage {number}: conv"), candidate)?;
        }
        match stage.aggregation.unwrap_or(self.block.aggregation) {
            Aggregation::Single => Ok(()),
            Aggregation::SqueezeExcite => even(&format!("stage {number}: out"), stage.out),
        }
    }
}

fn in_range(what: &str, value: u32, least: u32, most: u32) -> Result<(), SpecError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let (value, least, most) = (value.into(), least.into(), most.into());
    Err(SpecError::OutOfRange { what: what.to_owned(), value, least, most })
}

/// A candidate is possible if it is read as what it was written.
fn possible(what: &str, candidate: Candidate) -> Result<(), SpecError> {
    let error = |source| SpecError::Candidate { what: what.to_owned(), source };
    candidate.to_string().parse::<Candidate>().map(drop).map_err(error)
}

fn even(what: &str, value: u32) -> Result<(), SpecError> {
    if value.is_multiple_of(2) { Ok(()) } else { Err(SpecError::Odd { what: what.to_owned(), value }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "\
format: 1
name: small
stem: { kind: stacked, channels: [8, 16] }
stages:
  - { blocks: 1, layers: 2, mid: 8, out: 32 }
";

    #[test]
    fn what_is_left_out_has_a_default() {
        let spec = Spec::read(SMALL).unwrap();
        assert_eq!(spec.input, InputSize { channels: 3, height: 224, width: 224 });
        assert_eq!(spec.stages[0].conv, StageConv::First);
        assert_eq!((spec.stages[0].stride, spec.block.residual, spec.first_conv), (1, true, None));
        assert_eq!(Spec::read(&spec.write().unwrap()).unwrap(), spec);
    }

    /// Half of 95 is 48, and half of that 24, as convolutions with padding have it.
    #[test]
    fn sizes_of_stages() {
        let mut spec = Spec::read(SMALL).unwrap();
        let next = Stage { stride: 2, first_conv: Some(Candidate::full(5)), ..spec.stages[0].clone() };
        spec.stages.push(next);
        (spec.input.height, spec.input.width) = (95, 224);
        assert_eq!(spec.stage_sizes(), [[24, 56], [12, 28]]);
        let graph = crate::backbone::generate(
            &spec.clone().with_first_conv(Candidate::full(3)),
            crate::backbone::Batch::Fixed(1),
        );
        let graph = graph.unwrap().graph;
        let shapes: Vec<Vec<u32>> = graph.outputs().iter().map(|o| graph.value(o.value).ty().shape(1)).collect();
        assert_eq!(shapes, [[1, 32, 24, 56], [1, 32, 12, 28]]);
        assert!(spec.uses_first_conv());
        spec.stages.remove(0);
        assert!(!spec.uses_first_conv());
        assert!(spec.with_first_conv(Candidate::full(1)).uses_first_conv());
    }

    #[test]
    fn a_candidate_made_by_hand_is_held_to_what_can_be_written() {
        let mut spec = Spec::read(SMALL).unwrap();
        spec.stages[0].conv = StageConv::Named(Candidate::full(2));
        let expected =
            "stage 1: conv: `conv2x2` is not a convolution: the sides of the window have to be odd, from 1 to 31";
        assert_eq!(spec.validate().unwrap_err().to_string(), expected);
        spec.first_conv = Some(Candidate { grouping: crate::conv::Grouping::Grouped(1), ..Candidate::full(3) });
        let expected = "first_conv: `group1conv3x3` is not a convolution: the number of groups is not above 1";
        assert_eq!(spec.validate().unwrap_err().to_string(), expected);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (from, to, expected) in [
            ("format: 1", "format: 2", "the spec has format 2, this version reads format 1"),
            (
                "blocks: 1",
                "blokcs: 1",
                "unknown key `blokcs` in `stages[0]` at line 5, column 7; did you mean `blocks`?",
            ),
            ("mid: 8", "mid: 0", "stage 1: mid is 0; it has to be from 1 to 65536"),
            ("out: 32", "out: 32, stride: 4", "stage 1: stride is 4; it has to be from 1 to 2"),
            (
                "out: 32",
                "out: 31, aggregation: squeeze_excite",
                "stage 1: out is 31; it has to be even, since half of it is needed",
            ),
            ("[8, 16]", "[]", "the number of stem.channels is 0; it has to be from 1 to 8"),
            ("stacked", "branched", "the number of stem.channels is 2; it has to be from 2 to 2"),
            ("name: small", "name: \"\"", "the name of the network has to be 1 to 100 printable characters"),
            ("out: 32", "out: 32, conv: conv2x2", "`conv2x2` is not a convolution"),
            ("kind: stacked", "kind: stackd", "unknown name `stackd`"),
        ] {
            let text = SMALL.replace(from, to);
            let text = if to == "branched" { text.replace("[8, 16]", "[8, 16, 4]") } else { text };
            let error = Spec::read(&text).unwrap_err().to_string();
            let expected = expected.replace("is 2; it has to be from 2", "is 3; it has to be from 2");
            assert!(error.starts_with(&expected), "{to}: {error}");
        }
    }
}
