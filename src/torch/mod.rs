//! PyTorch: the network of a spec as a module to train.
//!
//! The text is one file that needs torch and nothing else, with the parts that the spec uses and no others. Its
//! `state_dict` has the names of the network's parameters, so that what is trained can be compiled
//! ([`weights`](crate::weights)).

use std::collections::HashMap;

use crate::backbone::{Aggregation, Batch, Gate, GenerateError, LOGITS, Spec, Stage, StageConv, StemKind, generate};
use crate::conv::{Candidate, Grouping};

/// The module, with `#{ PART` … `#}` around what belongs to a part, `#{ !PART` around what stands for it, and `@WORD@`
/// for what is filled in.
const TEMPLATE: &str = include_str!("template.py");

/// The network of a spec as the text of a Python module, whose class `Backbone` it is.
///
/// # Errors
/// If no network can be generated of the spec.
pub fn module(spec: &Spec) -> Result<String, GenerateError> {
    // What can be generated can be said in PyTorch.
    let first_conv = generate(spec, Batch::Dynamic)?.first_conv;
    let needed = spec.needed_stages();
    let convs: Vec<Candidate> = needed.iter().map(|stage| stacked(stage, first_conv)).collect();
    // What makes the image smaller is depthwise where the first conv of the stage is not.
    let is_down_depthwise = |stage: &Stage| !stage.first_conv.unwrap_or(first_conv).is_depthwise();
    let downs: Vec<bool> = needed.iter().filter(|stage| stage.stride > 1).map(is_down_depthwise).collect();
    let either_down = downs.contains(&true) && downs.contains(&false);
    let any = |holds: &dyn Fn(&Stage) -> bool| needed.iter().any(holds);
    let parts = HashMap::from([
        ("affine", spec.block.affine),
        ("branched", spec.stem.kind == StemKind::Branched),
        ("stacked", spec.stem.kind == StemKind::Stacked),
        ("light", convs.iter().any(|conv| conv.is_depthwise())),
        ("grouped", convs.iter().any(|conv| matches!(conv.grouping, Grouping::Grouped(_)))),
        ("squeeze", any(&|stage| aggregation(stage, spec) == Aggregation::SqueezeExcite)),
        ("ese", any(&|stage| gate(stage, spec) == Gate::Ese)),
        ("depthwise_down", downs.iter().all(|depthwise| *depthwise)),
        ("dense_down", !downs.is_empty() && downs.iter().all(|depthwise| !depthwise)),
        ("either_down", either_down),
        ("head", spec.head.is_some()),
        ("chosen", spec.outputs.is_some()),
    ]);
    let mut in_channels = spec.stem.channels.last().copied().unwrap_or(0);
    let mut stages = Vec::new();
    for (stage, conv) in needed.iter().zip(&convs) {
        let dense_down = either_down && stage.stride > 1 && !is_down_depthwise(stage);
        stages.push(stage_call(stage, *conv, dense_down, spec, in_channels));
        in_channels = stage.out;
    }
    let (hidden, classes) = spec.head.map_or((0, 0), |head| (head.hidden, head.classes));
    let words = [
        ("@NAME@", shown(&spec.name)),
        ("@VERSION@", env!("CARGO_PKG_VERSION").to_owned()),
        ("@IN_CHANNELS@", spec.input.channels.to_string()),
        ("@CLASSES@", classes.to_string()),
        ("@HIDDEN@", hidden.to_string()),
        ("@FEATURES@", in_channels.to_string()),
        ("@STEM@", stem_arguments(spec)),
        ("@STAGES@", stages.join("\n")),
        ("@OUTPUTS@", outputs(spec)),
    ];
    // The name is filled in last: it is the only text from outside.
    let filled = words.iter().rev().fold(chosen(TEMPLATE, &parts), |text, (word, value)| text.replace(word, value));
    Ok(filled)
}

/// The lines of the template whose parts are there.
fn chosen(template: &str, parts: &HashMap<&str, bool>) -> String {
    let mut open: Vec<bool> = Vec::new();
    let mut text = String::with_capacity(template.len());
    for line in template.lines() {
        if let Some(part) = line.strip_prefix("#{ ") {
            let (name, wanted) = part.strip_prefix('!').map_or((part, true), |name| (name, false));
            open.push(parts.get(name).copied().unwrap_or(false) == wanted);
        } else if line == "#}" {
            open.pop();
        } else if open.iter().all(|holds| *holds) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// The outputs that a spec names, as the elements of a list.
fn outputs(spec: &Spec) -> String {
    let features = spec.features();
    let element = |name: &String| match features.iter().position(|feature| feature.name == *name) {
        Some(stage) => format!("features[{stage}]"),
        None if name == LOGITS => "self.head(features[-1])".to_owned(),
        None => String::new(),
    };
    spec.outputs.iter().flatten().map(element).collect::<Vec<_>>().join(", ")
}

fn stacked(stage: &Stage, first_conv: Candidate) -> Candidate {
    match stage.conv {
        StageConv::First => stage.first_conv.unwrap_or(first_conv),
        StageConv::Named(candidate) => candidate,
    }
}

fn aggregation(stage: &Stage, spec: &Spec) -> Aggregation {
    stage.aggregation.unwrap_or(spec.block.aggregation)
}

fn gate(stage: &Stage, spec: &Spec) -> Gate {
    stage.gate.unwrap_or(spec.block.gate)
}

fn stem_arguments(spec: &Spec) -> String {
    let channels: Vec<String> = spec.stem.channels.iter().map(ToString::to_string).collect();
    match spec.stem.kind {
        StemKind::Stacked => format!("[{}]", channels.join(", ")),
        StemKind::Branched => format!("mid={}, out={}", channels[0], channels[channels.len() - 1]),
    }
}

/// A stage as a line of the list; what is as in most is left out.
fn stage_call(stage: &Stage, conv: Candidate, dense_down: bool, spec: &Spec, in_channels: u32) -> String {
    let Stage { blocks, layers, mid, out, .. } = stage;
    let mut call = format!("            Stage({in_channels}, mid={mid}, out={out}, blocks={blocks}, layers={layers}");
    let mut say = |holds: bool, argument: String| {
        if holds {
            call.push_str(", ");
            call.push_str(&argument);
        }
    };
    let [height, width] = conv.window;
    say(stage.stride > 1, format!("stride={}", stage.stride));
    say(dense_down, "dense_down=True".to_owned());
    say(conv.window != [3, 3], format!("window=({height}, {width})"));
    say(!stage.residual.unwrap_or(spec.block.residual), "residual=False".to_owned());
    match conv.grouping {
        Grouping::Full => {}
        Grouping::Depthwise => say(true, "light=True".to_owned()),
        Grouping::Grouped(groups) => say(true, format!("groups={groups}")),
    }
    say(aggregation(stage, spec) == Aggregation::SqueezeExcite, "squeeze_excite=True".to_owned());
    say(gate(stage, spec) == Gate::Ese, "ese=True".to_owned());
    call + "),"
}

/// A name that ends neither a text in quotes nor its line.
fn shown(name: &str) -> String {
    name.chars().map(|c| if matches!(c, '"' | '\\') || c.is_control() { '_' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::{PRESETS, preset};

    #[test]
    fn nothing_is_left_of_the_template() {
        for (name, _) in PRESETS {
            for head in [true, false] {
                let mut spec = preset(name).unwrap();
                spec.head = spec.head.filter(|_| head);
                let text = module(&spec).unwrap();
                assert!(!text.contains('@') && !text.contains("#{") && !text.contains("#}"), "{text}");
                assert_eq!(text.contains("class Head"), head);
                assert!(text.lines().all(|line| line.len() <= 124), "{text}");
            }
        }
    }

    #[test]
    fn only_what_the_spec_uses_is_there() {
        let text = module(&preset("hgnetv2-b4").unwrap()).unwrap();
        for unused in ["LearnableAffine", "SqueezeExcite", "groups: int,", "lab"] {
            assert!(!text.contains(unused), "{unused}");
        }
        let (_, stages) = text.split_once("self.stages").unwrap();
        let (stages, _) = stages.split_once("        ])").unwrap();
        insta::assert_snapshot!(stages, @"
        = nn.ModuleList([
                   Stage(48, mid=48, out=128, blocks=1, layers=6, squeeze_excite=True),
                   Stage(128, mid=96, out=512, blocks=1, layers=6, stride=2, squeeze_excite=True),
                   Stage(512, mid=192, out=1024, blocks=3, layers=6, stride=2, window=(5, 5), light=True, squeeze_excite=True),
                   Stage(1024, mid=384, out=2048, blocks=1, layers=6, stride=2, window=(5, 5), light=True, squeeze_excite=True),
        ");
    }

    #[test]
    fn outputs_that_are_named_are_returned() {
        let named = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect());
        let spec = Spec { head: None, outputs: named(&["c4", "c2"]), ..preset("hgnetv2-b4").unwrap() };
        let text = module(&spec).unwrap();
        assert!(text.contains("return [features[2], features[0]]\n"), "{text}");
        assert_eq!((text.matches("            Stage(").count(), text.contains("class Head")), (3, false));
        let spec = Spec { outputs: named(&["c5", "logits"]), ..preset("hgnetv2-b4").unwrap() };
        let text = module(&spec).unwrap();
        assert!(text.contains("return [features[3], self.head(features[-1])]\n"), "{text}");
    }

    #[test]
    fn stages_go_down_by_another_kind_than_they_are_built_of() {
        let mut spec = preset("hgnet-tiny").unwrap();
        let text = module(&spec).unwrap();
        assert!(!text.contains("dense_down") && text.contains("stride, groups=in_channels, act=False)"), "{text}");
        spec.stages[2].first_conv = Some(Candidate::depthwise(5));
        let text = module(&spec).unwrap();
        assert_eq!(text.matches("dense_down=True").count(), 1);
        assert!(text.contains("groups=1 if dense_down else in_channels, act=False)"), "{text}");
        let third = "            Stage(448, mid=160, out=512, blocks=2, layers=5, stride=2, dense_down=True, window=(5, 5), light=True, ese=True),";
        assert!(text.contains(third), "{text}");
        let text = module(&spec.with_first_conv(Candidate::depthwise(3))).unwrap();
        assert!(!text.contains("dense_down") && text.contains("(3, 3), stride, act=False)"), "{text}");
    }

    #[test]
    fn a_name_stays_a_name() {
        let mut spec = preset("hgnet-tiny").unwrap();
        spec.name = "\"\"\"\\ @STEM@ import os".to_owned();
        let text = module(&spec).unwrap();
        assert!(text.starts_with("\"\"\"____ @STEM@ import os, a backbone written by bbc"), "{text}");
    }
}
