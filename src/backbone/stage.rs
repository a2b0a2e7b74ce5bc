//! A stage: down-sampling, then blocks at one resolution.

use crate::backbone::block::{self, Act, Block, conv_norm_act};
use crate::backbone::spec::{Spec, Stage, StageConv};
use crate::backbone::{StageFacts, downsampling};
use crate::conv::Candidate;
use crate::ir::{BuildError, GraphBuilder, Label, ValueId};

/// Builds a stage under the current scope, whose path is `path`. `first_conv` is the network's.
pub(super) fn build(
    g: &mut GraphBuilder,
    input: ValueId,
    stage: &Stage,
    spec: &Spec,
    first_conv: Candidate,
    path: &str,
) -> Result<(ValueId, StageFacts), BuildError> {
    let mut x = input;
    let first_conv = stage.first_conv.unwrap_or(first_conv);
    let downsampling = (stage.stride > 1).then(|| downsampling(first_conv));
    if let Some(candidate) = downsampling {
        let channels = g.channels(x);
        let conv = candidate.conv(channels).with_stride(stage.stride);
        x = conv_norm_act(g, &"downsample".into(), x, conv, channels, Act::None)?;
    }
    let conv = match stage.conv {
        StageConv::First => first_conv,
        StageConv::Named(candidate) => candidate,
    };
    let mut blocks = Vec::new();
    for i in 0..stage.blocks {
        let block = Block {
            conv,
            layers: stage.layers,
            mid_channels: stage.mid,
            out_channels: stage.out,
            aggregation: stage.aggregation.unwrap_or(spec.block.aggregation),
            gate: stage.gate.unwrap_or(spec.block.gate),
            affine: spec.block.affine,
            residual: i > 0 && stage.residual.unwrap_or(spec.block.residual),
        };
        let name = format!("block{}", i + 1);
        let block_path = format!("{path}.{name}");
        blocks.push(block.facts(g.channels(x), block_path));
        x = g.scope(Label::new(name, format!("blocks.{i}")), |g| block::build(g, x, &block))?;
    }
    Ok((x, StageFacts { path: path.to_owned(), downsampling, blocks }))
}
