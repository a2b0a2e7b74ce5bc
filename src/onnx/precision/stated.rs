//! The precision that a file says each of its convolutions is computed in.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::onnx::check::label;
use crate::onnx::proto::{ModelProto, NodeProto, tensor_proto::DataType};
use crate::tensor::DType;

/// A convolution in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatedConv {
    /// Its own name, and those by which a runtime may call it once it has fused it: of what it makes, and of what the
    /// activations behind it make.
    pub names: Vec<String>,
    /// What it is to be computed in; `None` where the file does not tell.
    pub precision: Option<DType>,
}

/// The convolutions of a model, in their order. One is on integers where it takes a value and a weight that are both
/// dequantised, which is what runtimes fuse; any other is in the type of its weight.
pub fn stated_convs(model: &ModelProto) -> Vec<StatedConv> {
    let Some(graph) = &model.graph else { return Vec::new() };
    let mut users: HashMap<&str, Vec<&NodeProto>> = HashMap::new();
    let mut makers: HashMap<&str, &NodeProto> = HashMap::new();
    for node in &graph.node {
        for name in node.input.iter().filter(|name| !name.is_empty()) {
            users.entry(name).or_default().push(node);
        }
        makers.extend(node.output.iter().map(|name| (name.as_str(), node)));
    }
    let stored: HashMap<&str, i32> = graph.initializer.iter().map(|t| (t.name(), t.data_type())).collect();
    let is_dequantised = |name: Option<&String>| {
        name.and_then(|name| makers.get(name.as_str())).is_some_and(|node| node.op_type() == "DequantizeLinear")
    };
    let precision = |node: &NodeProto| {
        if matches!(node.op_type(), "QLinearConv" | "ConvInteger") {
            return Some(DType::I8);
        }
        let weight = node.input.get(1)?;
        match (is_dequantised(Some(weight)), is_dequantised(node.input.first())) {
            (true, true) => return Some(DType::I8),
            (true, false) => return Some(DType::F32),
            (false, _) => {}
        }
        let attribute = |node: &NodeProto, name: &str| node.attribute.iter().find(|a| a.name() == name).cloned();
        let ty = stored.get(weight.as_str()).copied().or_else(|| {
            let maker = makers.get(weight.as_str())?;
            match maker.op_type() {
                "Constant" => Some(attribute(maker, "value")?.t?.data_type()),
                "Cast" => i32::try_from(attribute(maker, "to")?.i()).ok(),
                _ => None,
            }
        });
        dtype(DataType::try_from(ty?).ok()?)
    };
    let is_conv = |node: &&NodeProto| {
        matches!(node.domain(), "" | "ai.onnx") && matches!(node.op_type(), "Conv" | "QLinearConv" | "ConvInteger")
    };
    let conv = |node: &NodeProto| {
        let mut names = vec![label(node)];
        for made in &node.output {
            names.push(made.clone());
            let behind = users.get(made.as_str()).into_iter().flatten();
            let activations = behind.filter(|node| matches!(node.op_type(), "Relu" | "Clip" | "LeakyRelu" | "Sigmoid"));
            names.extend(activations.flat_map(|node| node.output.iter().cloned()));
        }
        StatedConv { names, precision: precision(node) }
    };
    graph.node.iter().filter(is_conv).map(conv).collect()
}

fn dtype(ty: DataType) -> Option<DType> {
    match ty {
        DataType::Float => Some(DType::F32),
        DataType::Float16 => Some(DType::F16),
        DataType::Bfloat16 => Some(DType::BF16),
        DataType::Int8 | DataType::Uint8 => Some(DType::I8),
        _ => None,
    }
}
