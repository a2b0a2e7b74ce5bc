//! Sizes: of what is stored, and of what the nodes make of it; and windows, where shapes tell how large they may be.

use std::collections::HashMap;

use super::{Aspect, Fault, Faults, Limits};
use crate::onnx::check::{element_bits, label};
use crate::onnx::proto::{
    FunctionProto, GraphProto, ModelProto, NodeProto, ValueInfoProto, tensor_proto::DataType, type_proto,
};
use crate::onnx::scan::StoredTensor;
use crate::onnx::schema::result_type;
use crate::onnx::shapes::{InputSizes, Shapes, infer_graph};
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
    let is_free = check(graph, InputSizes::default(), limits, faults);
    if is_free {
        check(graph, InputSizes { batch: None, image: Some(IMAGE) }, limits, faults);
    }
    // Inner graphs and functions by themselves: what they get from around them is not known there.
    let body = |function: &FunctionProto| GraphProto { node: function.node.clone(), ..GraphProto::default() };
    let functions: Vec<GraphProto> = model.functions.iter().map(body).collect();
    let mut left: Vec<&GraphProto> = bodies(&graph.node).chain(&functions).collect();
    while let Some(body) = left.pop() {
        left.extend(bodies(&body.node));
        check(body, InputSizes::default(), limits, faults);
    }
}

fn bodies(nodes: &[NodeProto]) -> impl Iterator<Item = &GraphProto> {
    let attributes = nodes.iter().flat_map(|node| &node.attribute);
    attributes.flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}

/// Works out what the nodes of a graph make of inputs of these sizes; whether there are images of a size that is still
/// free.
fn check(graph: &GraphProto, sizes: InputSizes, limits: &Limits, faults: &mut Faults) -> bool {
    let most = limits.max_tensor_bytes;
    let shapes = infer_graph(graph, sizes, &HashMap::new());
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
        for (result, name) in node.output.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            let operand = |at: usize| types.get(node.input.get(at)?.as_str()).copied();
            let ty = types.get(name.as_str()).copied().or_else(|| result_type(node, result, &operand));
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
        window(node, &shapes, faults);
    }
    !shapes.free().is_empty()
}

/// Bytes of a tensor; four for each element of unknown type.
fn bytes(shape: &[u32], ty: Option<DataType>) -> u64 {
    let bits = ty.and_then(element_bits).unwrap_or(32);
    element_count(shape).saturating_mul(bits).div_ceil(8)
}

/// Element types of inputs, initializers, and what the file says of other values.
fn element_types(graph: &GraphProto) -> HashMap<&str, DataType> {
    let stated = |info: &'_ ValueInfoProto| match &info.r#type.as_ref()?.value {
        Some(type_proto::Value::TensorType(tensor)) => DataType::try_from(tensor.elem_type()).ok(),
        _ => None,
    };
    let infos = graph.value_info.iter().chain(&graph.output).chain(&graph.input);
    let mut types: HashMap<&str, DataType> = infos.filter_map(|info| Some((info.name(), stated(info)?))).collect();
    let tensors = graph.initializer.iter();
    types.extend(tensors.filter_map(|tensor| Some((tensor.name(), DataType::try_from(tensor.data_type()).ok()?))));
    types
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
