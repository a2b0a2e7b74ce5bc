//! In which precision a runtime really ran a model's convolutions.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{ObserveError, Samples, borrowed};
use crate::onnx::precision::StatedConv;
use crate::runtime::Runtime;
use crate::runtime::provider::Provider;
use crate::runtime::record::NodeRecord;
use crate::runtime::session::{Options, Session};
use crate::tensor::DType;

/// The precision convolutions are to run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// Single precision.
    Fp32,
    /// IEEE half precision.
    Fp16,
    /// bfloat16.
    Bf16,
    /// Eight-bit integers.
    Int8,
}

impl Expected {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }

    /// The element type it is.
    pub fn dtype(self) -> DType {
        match self {
            Self::Fp32 => DType::F32,
            Self::Fp16 => DType::F16,
            Self::Bf16 => DType::BF16,
            Self::Int8 => DType::I8,
        }
    }

    /// The precision of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Fp32, Self::Fp16, Self::Bf16, Self::Int8].into_iter().find(|precision| precision.name() == name)
    }
}

/// A convolution as it ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvRun {
    /// Name of the node.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// The provider, as ONNX Runtime names it.
    pub provider: String,
    /// What it computed in; `None` for an element type that is none of those.
    pub precision: Option<Expected>,
}

/// The convolutions of a model as they ran.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Executed {
    /// All of them, in the order in which they first ran.
    pub convs: Vec<ConvRun>,
}

impl Executed {
    /// The convolutions among the nodes that ran.
    pub fn of(record: &[NodeRecord]) -> Self {
        let is_conv = |node: &&NodeRecord| {
            matches!(
                node.op.as_str(),
                "Conv" | "FusedConv" | "NhwcFusedConv" | "QLinearConv" | "ConvInteger" | "NhwcConv"
            )
        };
        let conv = |node: &NodeRecord| {
            let element_type = node.inputs.first().map_or("", |input| input.element_type.as_str());
            let precision = match (node.op.as_str(), element_type) {
                ("QLinearConv" | "ConvInteger", _) | (_, "uint8" | "int8") => Some(Expected::Int8),
                (_, "float") => Some(Expected::Fp32),
                (_, "float16") => Some(Expected::Fp16),
                (_, "bfloat16") => Some(Expected::Bf16),
                _ => None,
            };
            ConvRun { node: node.name.clone(), op: node.op.clone(), provider: node.provider.clone(), precision }
        };
        Self { convs: record.iter().filter(is_conv).map(conv).collect() }
    }

    /// How many ran in a precision.
    pub fn count(&self, precision: Expected) -> usize {
        self.convs.iter().filter(|conv| conv.precision == Some(precision)).count()
    }

    /// Those that ran in another precision.
    pub fn others(&self, precision: Expected) -> impl Iterator<Item = &ConvRun> {
        self.convs.iter().filter(move |conv| conv.precision != Some(precision))
    }

    /// Those that the file states in a precision and that did not run in it, or that nothing in the file is known of.
    /// ONNX Runtime puts words behind the names of nodes it rewrites: what ran is held to be the node with the longest
    /// name that it begins with.
    pub fn missing<'a>(&'a self, precision: Expected, stated: &'a [StatedConv]) -> impl Iterator<Item = &'a ConvRun> {
        let names: HashMap<&str, Option<DType>> =
            stated.iter().flat_map(|conv| conv.names.iter().map(|name| (name.as_str(), conv.precision))).collect();
        let is_meant = move |conv: &&ConvRun| {
            let ends = conv.node.char_indices().rev().filter(|(_, c)| *c == '_').map(|(at, _)| at);
            let stated = std::iter::once(conv.node.len()).chain(ends).find_map(|end| names.get(&conv.node[..end]));
            stated.is_none_or(|stated| *stated == Some(precision.dtype()))
        };
        self.others(precision).filter(is_meant)
    }
}

/// Runs a model in a file once and tells how its convolutions ran.
///
/// # Errors
/// If it does not run, or ONNX Runtime does not write its record.
pub fn executed(
    runtime: &Runtime,
    model: &Path,
    provider: Provider,
    samples: &dyn Samples,
    scratch: Option<&Path>,
) -> Result<Executed, ObserveError> {
    if samples.count() == 0 {
        return Err(ObserveError::NoSamples);
    }
    let options = Options {
        cpu_fallback: true,
        record_placement: true,
        scratch: scratch.map(Path::to_owned),
        ..Options::on(provider)
    };
    let mut session = Session::from_file(runtime, model, &options)?;
    session.run(&borrowed(&samples.inputs(0)?))?;
    Ok(Executed::of(&session.record()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::record::TypeAndShape;
    use crate::units::Bytes;

    fn ran(name: &str, op: &str, element_type: &str) -> NodeRecord {
        NodeRecord {
            name: name.into(),
            op: op.into(),
            provider: "CPUExecutionProvider".into(),
            inputs: vec![TypeAndShape { element_type: element_type.into(), shape: vec![1, 3, 8, 8] }],
            outputs: Vec::new(),
            bytes: Bytes(0),
            times: Vec::new(),
        }
    }

    #[test]
    fn a_convolution_that_ran_in_another_precision_is_found() {
        let record = [
            ran("/a_nchwc", "Conv", "float"),
            ran("/b_quant", "QLinearConv", "uint8"),
            ran("/b2_nchwc", "Conv", "float"),
            ran("/c", "MaxPool", "uint8"),
            ran("/d", "FusedConv", "float16"),
        ];
        let executed = Executed::of(&record);
        assert_eq!(executed.convs.len(), 4);
        assert_eq!([Expected::Fp32, Expected::Int8, Expected::Fp16].map(|p| executed.count(p)), [2, 1, 1]);
        let stated = |name: &str, precision| StatedConv { names: vec![name.to_owned()], precision: Some(precision) };
        // The last is not the first of them, though its name begins as that one's.
        let record = [&record[..], &[ran("/a_2_nchwc", "Conv", "float"), ran("/new", "Conv", "float")][..]].concat();
        let executed = Executed::of(&record);
        let stated = [
            stated("/a", DType::F32),
            stated("/b", DType::I8),
            stated("/b2", DType::I8),
            stated("/d", DType::F16),
            stated("/a_2", DType::I8),
        ];
        let missing: Vec<&str> = executed.missing(Expected::Int8, &stated).map(|conv| conv.node.as_str()).collect();
        assert_eq!(missing, ["/b2_nchwc", "/a_2_nchwc", "/new"]);
    }
}
