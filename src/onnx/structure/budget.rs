//! Sizes: of what is stored, and of what the nodes make of it; and windows, where shapes tell how large they may be.

use std::collections::HashMap;

use super::{Aspect, Fault, Faults, Limits};
use crate::onnx::check::{element_bits, label};
use crate::onnx::proto::{
    GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, tensor_proto::DataType, type_proto,
};
use crate::onnx::scan::StoredTensor;
use crate::onnx::shapes::{InputSizes, Shapes, infer};
use crate::tensor::element_count;

/// Height and width of images where the model leaves them free.
const IMAGE: [u32; 2] = [224, 224];

/// A stored tensor of so many bytes.
pub(super) fn stored(tensor: &StoredTensor, bytes: Option<u64>, limits: &Limits, faults: &mut Faults) {
    if let Some(bytes) = bytes.filter(|&bytes| bytes > limits.max_tensor_bytes) {
        let name = tensor.proto.name().to_owned();
        faults
            .add(Aspect::Budget, Fault::TensorTooLarge { what: "tensor", name, bytes, most: limits.max_tensor_bytes });
    }
}

/// Works out what the nodes make, in every graph and function.
pub(super) fn inferred(model: &ModelProto, limits: &Limits, faults: &mut Faults) {
    let Some(graph) = &model.graph else { return };
    let shapes = infer(model, InputSizes::default(), &HashMap::new());
    let has_free = !shapes.free().is_empty();
    check(graph, &shapes, limits, faults);
    if has_free {
        let sizes = InputSizes { batch: None, image: Some(IMAGE) };
        let shapes = infer(model, sizes, &HashMap::new());
        check(graph, &shapes, limits, faults);
    }
    // Inner graphs and functions by themselves: what they get from around them is not known there.
    let mut inner: Vec<&[NodeProto]> = model.functions.iter().map(|function| function.node.as_slice()).collect();
    let mut left: Vec<&GraphProto> = bodies(&graph.node).collect();
    left.extend(inner.iter().flat_map(|nodes| bodies(nodes)));
    while let Some(body) = left.pop() {
        left.extend(bodies(&body.node));
        let alone = ModelProto { graph: Some(body.clone()), ..ModelProto::default() };
        let shapes = infer(&alone, InputSizes::default(), &HashMap::new());
        check(body, &shapes, limits, faults);
    }
    for nodes in inner.drain(..) {
        let body = GraphProto { node: nodes.to_vec(), ..GraphProto::default() };
        let alone = ModelProto { graph: Some(body.clone()), ..ModelProto::default() };
        let shapes = infer(&alone, InputSizes::default(), &HashMap::new());
        check(&body, &shapes, limits, faults);
    }
}

fn bodies(nodes: &[NodeProto]) -> impl Iterator<Item = &GraphProto> {
    let attributes = nodes.iter().flat_map(|node| &node.attribute);
    attributes.flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}

fn check(graph: &GraphProto, shapes: &Shapes<'_>, limits: &Limits, faults: &mut Faults) {
    let most = limits.max_tensor_bytes;
    for gap in shapes.too_large() {
        faults.add(Aspect::Budget, Fault::Overflow { node: gap.node.clone(), op: gap.op.clone(), most });
    }
    let mut types = element_types(graph);
    for input in &graph.input {
        let bytes = shapes.of(input.name()).map_or(0, |shape| bytes(shape, types.get(input.name()).copied()));
        if bytes > most {
            let name = input.name().to_owned();
            faults.add(Aspect::Budget, Fault::TensorTooLarge { what: "input", name, bytes, most });
        }
    }
    for node in &graph.node {
        let ty = result_type(node, &types);
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            let ty = types.get(name.as_str()).copied().or(ty);
            if let Some(ty) = ty {
                types.insert(name, ty);
            }
            let bytes = shapes.of(name).map_or(0, |shape| bytes(shape, ty));
            if bytes > most {
                let (name, what) = (name.clone(), "the result");
                faults.add(Aspect::Budget, Fault::TensorTooLarge { what, name, bytes, most });
            }
        }
        padding(node, most, faults);
        window(node, shapes, faults);
    }
}

/// Bytes of a tensor; four for each element of unknown type.
fn bytes(shape: &[u32], ty: Option<i32>) -> u64 {
    let bits = ty.and_then(|ty| DataType::try_from(ty).ok()).and_then(element_bits).unwrap_or(32);
    element_count(shape).saturating_mul(bits).div_ceil(8)
}

/// Element types of inputs, initializers, and what the file says of other values.
fn element_types(graph: &GraphProto) -> HashMap<&str, i32> {
    let stated = |info: &'_ ValueInfoProto| match &info.r#type.as_ref()?.value {
        Some(type_proto::Value::TensorType(tensor)) => Some(tensor.elem_type()),
        _ => None,
    };
    let infos = graph.value_info.iter().chain(&graph.output).chain(&graph.input);
    let mut types: HashMap<&str, i32> = infos.filter_map(|info| Some((info.name(), stated(info)?))).collect();
    types.extend(graph.initializer.iter().map(|tensor| (tensor.name(), tensor.data_type())));
    types
}

/// The element type of what a node makes.
fn result_type(node: &NodeProto, types: &HashMap<&str, i32>) -> Option<i32> {
    let attribute = |name: &str| node.attribute.iter().find(|attribute| attribute.name() == name);
    let of = |operand: usize| types.get(node.input.get(operand)?.as_str()).copied();
    let tensor = |name: &str| attribute(name)?.t.as_ref().map(TensorProto::data_type);
    match node.op_type() {
        "Cast" => attribute("to").and_then(|to| i32::try_from(to.i()).ok()),
        "Shape" | "Size" | "NonZero" | "ArgMax" | "ArgMin" | "NonMaxSuppression" => Some(DataType::Int64 as i32),
        "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "Not" | "And" | "Or" | "Xor" | "IsNaN"
        | "IsInf" => Some(DataType::Bool as i32),
        "ConstantOfShape" => Some(tensor("value").unwrap_or(DataType::Float as i32)),
        "Constant" => tensor("value"),
        "QuantizeLinear" => Some(of(2).unwrap_or(DataType::Uint8 as i32)),
        "DequantizeLinear" => of(1),
        "Where" | "OneHot" => of(if node.op_type() == "Where" { 1 } else { 2 }),
        "ConvInteger" | "MatMulInteger" => Some(DataType::Int32 as i32),
        _ => of(0),
    }
}

/// Padding so wide that no input would fit into what is allowed.
fn padding(node: &NodeProto, most: u64, faults: &mut Faults) {
    let attribute = |name: &str| node.attribute.iter().find(|attribute| attribute.name() == name);
    let Some(pads) = attribute("pads").map(|pads| pads.ints.as_slice()) else { return };
    let axes = pads.len() / 2;
    if axes == 0 || pads.len() % 2 != 0 {
        return;
    }
    // The padded input, of one element along each dimension at the least: some runtimes make it.
    let along = |axis: usize| pads[axis].max(0).saturating_add(pads[axis + axes].max(0)).saturating_add(1);
    let elements = (0..axes).map(along).fold(1_u64, |n, size| n.saturating_mul(u64::try_from(size).unwrap_or(1)));
    let bytes = elements.saturating_mul(4);
    if bytes > most {
        faults
            .add(Aspect::Budget, Fault::TensorTooLarge { what: "the padded input of", name: label(node), bytes, most });
    }
}

/// A convolution whose channels, groups and windows do not go together.
fn window(node: &NodeProto, shapes: &Shapes<'_>, faults: &mut Faults) {
    let weight = match node.op_type() {
        "Conv" | "FusedConv" | "ConvInteger" | "ConvTranspose" | "DeformConv" => 1,
        "QLinearConv" => 3,
        _ => return,
    };
    let is_transposed = node.op_type() == "ConvTranspose";
    let Some(weight) = node.input.get(weight).and_then(|name| shapes.of(name)) else { return };
    let attribute = |name: &str| node.attribute.iter().find(|attribute| attribute.name() == name);
    let groups = attribute("group").map_or(1, |group| group.i());
    let (&[first, second, ref sizes @ ..], Some(divisor)) = (weight, u64::try_from(groups).ok().filter(|&n| n > 0))
    else {
        return;
    };
    let divides = |channels: u32, of: &'static str, faults: &mut Faults| {
        let channels = u64::from(channels);
        if !channels.is_multiple_of(divisor) {
            faults.add(Aspect::Windows, Fault::Groups { node: label(node), groups, channels, of });
        }
    };
    divides(first, if is_transposed { "input channels" } else { "output channels" }, faults);
    if let Some(&[_, channels, ..]) = node.input.first().and_then(|name| shapes.of(name)) {
        let wanted = if is_transposed { u64::from(first) } else { u64::from(second).saturating_mul(divisor) };
        if u64::from(channels) != wanted {
            let (node, actual) = (label(node), channels.into());
            faults.add(Aspect::Windows, Fault::Channels { node, groups, wanted, actual });
        }
    }
    for (name, times) in [("kernel_shape", 1), ("strides", 1), ("dilations", 1), ("pads", 2)] {
        let Some(values) = attribute(name).map(|attribute| attribute.ints.as_slice()) else { continue };
        let wanted = times * sizes.len();
        if values.len() != wanted {
            let (node, attribute, actual, rank) = (label(node), name.to_owned(), values.len(), weight.len());
            faults.add(Aspect::Windows, Fault::Dimensions { node, attribute, actual, wanted, rank });
        } else if name == "kernel_shape" && values.iter().zip(sizes).any(|(&stated, &size)| stated != i64::from(size)) {
            let (node, stated, actual) = (label(node), values.to_vec(), sizes.to_vec());
            faults.add(Aspect::Windows, Fault::Kernel { node, stated, actual });
        }
    }
}
