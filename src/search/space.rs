//! The networks that are searched: members of the family, drawn and changed at random.

use std::collections::BTreeMap;

use crate::backbone::{
    self, Aggregation, Backbone, Batch, BlockOptions, FORMAT, Gate, GenerateError, Head, InputSize, Spec, Stage,
    StageConv, Stem, StemKind,
};
use crate::census::Base;
use crate::conv::Candidate;
use crate::random::SplitMix64;

/// Stages of a member: strides 4, 8, 16 and 32.
pub const STAGES: usize = 4;

/// Most blocks of a stage, and fewest and most convolutions stacked in a block.
const MAX_BLOCKS: u32 = 8;
const LAYERS: [u32; 2] = [2, 8];

/// Most channels of stacked convolutions, and of what a stage hands on, by stage.
const MAX_MID: [u32; STAGES] = [192, 256, 384, 512];
const MAX_OUT: [u32; STAGES] = [512, 1024, 2048, 2048];

/// Channels of the fully connected layer in front of the classifier, most of whose time is the reading of weights.
const HIDDEN: [u32; 3] = [512, 1024, 2048];

/// Most channels in the stem.
const MAX_STEM: [u32; 2] = [64, 128];

/// What members are made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Space {
    /// The image.
    pub input: InputSize,
    /// Every number of channels is a multiple of this.
    pub multiple: u32,
    /// The convolutions a stage may stack; at least one.
    pub convs: Vec<Candidate>,
    /// Whether all stages stack the same.
    pub uniform: bool,
    /// The classifier, if there is one; its hidden channels are the most that members have.
    pub head: Option<Head>,
}

/// A member of a space.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Member {
    /// Whether the stem is branched, as in PP-HGNetV2, or stacked.
    branched: bool,
    /// Channels inside the stem, and channels it hands on.
    stem: [u32; 2],
    stages: [StageGenes; STAGES],
    /// Which of the numbers of hidden channels in the head.
    hidden: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct StageGenes {
    blocks: u32,
    layers: u32,
    mid: u32,
    out: u32,
    /// Which of the space's convolutions.
    conv: usize,
}

impl Space {
    /// The member with the fewest channels and layers.
    pub fn smallest(&self) -> Member {
        let stage = StageGenes { blocks: 1, layers: LAYERS[0], mid: self.multiple, out: self.multiple, conv: 0 };
        self.repaired(Member { branched: true, stem: [self.multiple; 2], stages: [stage; STAGES], hidden: 0 })
    }

    pub(super) fn random(&self, random: &mut SplitMix64) -> Member {
        let mut stages = [StageGenes { blocks: 1, layers: 2, mid: 0, out: 0, conv: 0 }; STAGES];
        for (i, stage) in stages.iter_mut().enumerate() {
            *stage = StageGenes {
                blocks: 1 + random.below(3) as u32,
                layers: LAYERS[0] + random.below(5) as u32,
                mid: spread(random, self.multiple, MAX_MID[i]),
                out: spread(random, 2 * self.multiple, MAX_OUT[i]),
                conv: random.below(self.convs.len()),
            };
        }
        let stem = [spread(random, self.multiple, MAX_STEM[0]), spread(random, self.multiple, MAX_STEM[1])];
        let hidden = random.below(HIDDEN.len());
        self.repaired(Member { branched: random.below(2) == 0, stem, stages, hidden })
    }

    /// A member with one to three sizes changed.
    pub(super) fn changed(&self, member: &Member, random: &mut SplitMix64) -> Member {
        let mut member = member.clone();
        for _ in 0..=random.below(3) {
            let stage = &mut member.stages[random.below(STAGES)];
            match random.below(13) {
                0 | 1 => stage.blocks = stepped(random, stage.blocks),
                2 | 3 => stage.layers = stepped(random, stage.layers),
                4..=6 => stage.mid = self.scaled(random, stage.mid),
                7 | 8 => stage.out = self.scaled(random, stage.out),
                9 => stage.conv = random.below(self.convs.len()),
                10 => {
                    let of = random.below(2);
                    member.stem[of] = self.scaled(random, member.stem[of]);
                }
                11 => member.hidden = random.below(HIDDEN.len()),
                _ => member.branched = !member.branched,
            }
        }
        self.repaired(member)
    }

    /// Brings every size into its limits: channels never shrink from stage to stage, and a stage hands on at least as
    /// many as it works in.
    fn repaired(&self, mut member: Member) -> Member {
        let rounded = |n: u32, most: u32| n.min(most).max(1).next_multiple_of(self.multiple);
        for (channels, most) in member.stem.iter_mut().zip(MAX_STEM) {
            *channels = rounded(*channels, most);
        }
        let (mut mid, mut out) = (0, 0);
        let first = member.stages[0].conv;
        for (i, stage) in member.stages.iter_mut().enumerate() {
            stage.blocks = stage.blocks.clamp(1, MAX_BLOCKS);
            stage.layers = stage.layers.clamp(LAYERS[0], LAYERS[1]);
            stage.mid = rounded(stage.mid, MAX_MID[i]).max(mid);
            stage.out = rounded(stage.out, MAX_OUT[i]).max(out).max(stage.mid);
            if self.uniform {
                stage.conv = first;
            }
            (mid, out) = (stage.mid, stage.out);
        }
        member
    }

    /// A number of channels made larger or smaller: by one step, or in proportion.
    fn scaled(&self, random: &mut SplitMix64, channels: u32) -> u32 {
        match random.below(6) {
            0 => channels + self.multiple,
            1 => channels.saturating_sub(self.multiple),
            2 => channels + channels / 4,
            3 => channels - channels / 4,
            4 => channels + channels / 2,
            _ => channels - channels / 3,
        }
    }

    /// The member as a spec of this name.
    pub fn spec(&self, member: &Member, name: &str) -> Spec {
        let [inside, handed_on] = member.stem;
        let stem = if member.branched {
            Stem { kind: StemKind::Branched, channels: vec![inside, handed_on] }
        } else {
            Stem { kind: StemKind::Stacked, channels: vec![inside, inside, handed_on] }
        };
        let first_conv = self.convs[self.most_used(member)];
        let stage = |(i, genes): (usize, &StageGenes)| {
            let conv = self.convs[genes.conv];
            Stage {
                blocks: genes.blocks,
                layers: genes.layers,
                mid: genes.mid,
                out: genes.out,
                stride: if i == 0 { 1 } else { 2 },
                first_conv: None,
                conv: if conv == first_conv { StageConv::First } else { StageConv::Named(conv) },
                aggregation: None,
                gate: None,
                residual: None,
            }
        };
        Spec {
            format: FORMAT,
            name: name.to_owned(),
            first_conv: Some(first_conv),
            input: self.input,
            stem,
            block: BlockOptions { aggregation: Aggregation::Single, gate: Gate::None, residual: true, affine: false },
            stages: member.stages.iter().enumerate().map(stage).collect(),
            head: self.head.map(|head| Head { hidden: head.hidden.min(HIDDEN[member.hidden]), ..head }),
            outputs: None,
        }
    }

    /// The convolution that is stacked most often; of equals the first of the space.
    fn most_used(&self, member: &Member) -> usize {
        let mut counts: BTreeMap<usize, u32> = BTreeMap::new();
        for stage in &member.stages {
            *counts.entry(stage.conv).or_default() += stage.blocks * stage.layers;
        }
        let most = counts.into_iter().max_by_key(|&(conv, count)| (count, std::cmp::Reverse(conv)));
        most.map_or(0, |(conv, _)| conv)
    }

    /// The member's network at this batch.
    ///
    /// # Errors
    /// If the image is too small for it.
    pub fn generate(&self, member: &Member, batch: u32) -> Result<Backbone, GenerateError> {
        backbone::generate(&self.spec(member, "backbone"), Batch::Fixed(batch))
    }
}

/// A number of channels between these, small ones as likely as large ones.
fn spread(random: &mut SplitMix64, least: u32, most: u32) -> u32 {
    let share = random.below(1001) as f64 / 1000.0;
    (f64::from(least) * (f64::from(most.max(least)) / f64::from(least)).powf(share)).round() as u32
}

fn stepped(random: &mut SplitMix64, n: u32) -> u32 {
    if random.below(2) == 0 { n + 1 } else { n.saturating_sub(1) }
}

/// The method's sixth step: the mean number of channels of the stacked first convs stays below the last output channels
/// of every stage of the base.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelBound {
    /// Height and width of the base's stages, and the channels they end in.
    pub stages: Vec<([u32; 2], u32)>,
}

impl ChannelBound {
    /// The bound that base models set. Their stages are the resolutions from a quarter of the image down, as those of a
    /// backbone are; of several bases the smallest channels count. `None` if no stage of theirs is known.
    pub fn of(bases: &[Base]) -> Option<Self> {
        let mut stages: Vec<([u32; 2], u32)> = Vec::new();
        for base in bases {
            let image = base.input.iter().rev().take(2).copied().max().unwrap_or(0);
            let small = |size: [u32; 2]| size[0].max(size[1]) * 4 <= image.next_multiple_of(4);
            stages.extend(base.ends.iter().filter(|end| small(end.size)).map(|end| (end.size, end.channels)));
        }
        (!stages.is_empty()).then_some(Self { stages })
    }

    /// The number that the mean has to stay below.
    pub fn least(&self) -> u32 {
        self.stages.iter().map(|(_, channels)| *channels).min().unwrap_or(u32::MAX)
    }
}

/// The mean number of channels of the stacked convolutions of a network.
pub fn mean_channels(spec: &Spec) -> f64 {
    let count = |stage: &Stage| f64::from(stage.blocks) * f64::from(stage.layers);
    let all: f64 = spec.stages.iter().map(count).sum();
    let channels: f64 = spec.stages.iter().map(|stage| count(stage) * f64::from(stage.mid)).sum();
    channels / all.max(1.0)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::census::built_in;

    pub(in crate::search) fn space() -> Space {
        Space {
            input: InputSize::default(),
            multiple: 16,
            convs: vec![Candidate::full(3), Candidate::full(5), Candidate::depthwise(5)],
            uniform: false,
            head: Some(Head { hidden: 2048, classes: 1000 }),
        }
    }

    #[test]
    fn members_keep_the_form_of_the_family() {
        let mut random = SplitMix64::new(5);
        for uniform in [false, true] {
            let space = Space { uniform, ..space() };
            let mut member = space.random(&mut random);
            for _ in 0..500 {
                let spec = space.spec(&member, "m");
                spec.validate().unwrap();
                assert!(spec.stages.iter().all(|s| s.mid.is_multiple_of(16) && s.out.is_multiple_of(16)), "{spec:?}");
                assert!(spec.stages.is_sorted_by_key(|stage| stage.out), "{spec:?}");
                assert!(spec.stages.is_sorted_by_key(|stage| stage.mid), "{spec:?}");
                assert!(spec.stages.iter().all(|stage| stage.mid <= stage.out && stage.layers >= 2), "{spec:?}");
                assert!(!uniform || spec.stages.iter().all(|stage| stage.conv == StageConv::First), "{spec:?}");
                member = space.changed(&member, &mut random);
            }
        }
    }

    #[test]
    fn the_smallest_member_is_no_larger_than_any_other() {
        let space = space();
        let least = space.generate(&space.smallest(), 1).unwrap().graph.parameters();
        let mut random = SplitMix64::new(8);
        for _ in 0..50 {
            let member = space.random(&mut random);
            assert!(space.generate(&member, 1).unwrap().graph.parameters() >= least);
        }
    }

    /// ResNet-34 ends its stages in 64, 128, 256 and 512 channels; its stem, at half of the image, is none of them.
    #[test]
    fn the_bound_of_a_base() {
        let bound = ChannelBound::of(&built_in("resnet34").unwrap().bases).unwrap();
        assert_eq!(bound.stages.iter().map(|(_, channels)| *channels).collect::<Vec<_>>(), [64, 128, 256, 512]);
        assert_eq!(bound.least(), 64);
        assert_eq!(ChannelBound::of(&[]), None);
    }

    /// By hand: (5 * 96 + 5 * 128 + 10 * 160 + 5 * 192) / 25.
    #[test]
    fn the_mean_counts_every_stacked_convolution() {
        assert!((mean_channels(&backbone::preset("hgnet-tiny").unwrap()) - 147.2).abs() < 1e-9);
    }
}
