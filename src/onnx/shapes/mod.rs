//! The shape of every value of a model, worked out from the shapes of its inputs.
//!
//! It covers the operators that vision networks have, and the arithmetic on shapes that exporters leave in a graph
//! (`Shape`, `Gather`, `Concat`, `Reshape`). What is not known stays unknown: an operator that is not covered ends the
//! inference only for what depends on its results, and there the file's own `value_info` is taken if it says something.
//!
//! Time and memory are in proportion to the file. Shapes have at most [`MAX_RANK`] dimensions; values are followed
//! only for small tensors, which is what shapes are computed with.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use crate::onnx::check::label;
use crate::onnx::proto::{
    GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto, tensor_shape_proto::Dimension,
    tensor_shape_proto::dimension, type_proto,
};
use crate::tensor::channels_last;

use self::content::Content;
use self::ops::Call;
pub(super) use self::window::spatial;

mod content;
mod ops;
mod window;

/// Most dimensions of a shape that is followed.
pub const MAX_RANK: usize = 16;

/// Most reasons that are kept for shapes that are not known.
const MAX_GAPS: usize = 16;

/// What takes the place of the sizes a model leaves free in its image inputs, those of four dimensions.
///
/// A size that is given here also overrides one that the model fixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InputSizes {
    /// Number of images; one if it is not given here and free in the model.
    pub batch: Option<u32>,
    /// Height and width.
    pub image: Option<[u32; 2]>,
}

/// Why the shape of a value, and of all that depends on it, is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The node that makes the value.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// What is in the way.
    pub reason: Reason,
}

/// What can be in the way of working out a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The operator is not covered.
    #[error("the operator is not known")]
    Operator,
    /// The shape depends on values that only running the model can tell.
    #[error("its shape depends on values that are not known before the model runs")]
    Values,
    /// A size of it, or its number of dimensions, is beyond any tensor.
    #[error("its result is too large")]
    TooLarge,
    /// Operands or attributes contradict each other or the operator's definition.
    #[error("{0}")]
    Contradiction(&'static str),
}

/// The order of an image's dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Batch, channels, height, width.
    Nchw,
    /// Batch, height, width, channels.
    Nhwc,
}

impl Layout {
    /// Height and width of a shape of four dimensions.
    pub(super) fn size(self, shape: &[u32]) -> Option<[u32; 2]> {
        match (self, shape) {
            (Self::Nchw, &[_, _, height, width]) | (Self::Nhwc, &[_, height, width, _]) => Some([height, width]),
            _ => None,
        }
    }

    /// Channels of a shape of four dimensions.
    pub(super) fn channels(self, shape: &[u32]) -> Option<u32> {
        match (self, shape) {
            (Self::Nchw, &[_, channels, _, _]) | (Self::Nhwc, &[_, _, _, channels]) => Some(channels),
            _ => None,
        }
    }
}

/// The shapes of a model's values that are known.
#[derive(Debug, Clone, Default)]
pub struct Shapes<'m> {
    known: HashMap<&'m str, Vec<u32>>,
    last: HashSet<&'m str>,
    gaps: Vec<Gap>,
    too_large: Vec<Gap>,
    free: Vec<&'m str>,
}

impl<'m> Shapes<'m> {
    /// The shape of a value: an input, an initializer or a node's result.
    pub fn of(&self, name: &str) -> Option<&[u32]> {
        self.known.get(name).map(Vec::as_slice)
    }

    /// The first reasons why shapes are not known, each at the node where it begins.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// The first nodes whose results are beyond any tensor, other gaps or not.
    pub fn too_large(&self) -> &[Gap] {
        &self.too_large
    }

    /// Image inputs whose height or width is free and was not given.
    pub fn free(&self) -> &[&'m str] {
        &self.free
    }

    /// The order of dimensions in a value of four.
    pub(super) fn layout(&self, name: &str) -> Layout {
        if self.last.contains(name) { Layout::Nhwc } else { Layout::Nchw }
    }
}

/// Works out the shapes of a model's values.
///
/// `observed` are shapes that were seen when the model ran; they are believed before anything else.
pub fn infer<'m>(model: &'m ModelProto, sizes: InputSizes, observed: &HashMap<String, Vec<u32>>) -> Shapes<'m> {
    model.graph.as_ref().map_or_else(Shapes::default, |graph| infer_graph(graph, sizes, observed))
}

/// The same for a graph alone.
pub(super) fn infer_graph<'m>(
    graph: &'m GraphProto,
    sizes: InputSizes,
    observed: &HashMap<String, Vec<u32>>,
) -> Shapes<'m> {
    let mut inference = Inference::new(graph, observed);
    inference.bind_inputs(graph, sizes);
    for node in &graph.node {
        inference.visit(node);
    }
    inference.shapes
}

/// Dimensions of an input or `value_info`: `Err` for a size that is free, with its name if it has one.
pub(super) type Dims<'m> = Vec<Result<u32, &'m str>>;

/// The dimensions that a file states for a value; sizes below zero are free.
pub(super) fn stated(info: &ValueInfoProto) -> Option<Dims<'_>> {
    let TypeProto { value: Some(type_proto::Value::TensorType(tensor)), .. } = info.r#type.as_ref()? else {
        return None;
    };
    let dims = &tensor.shape.as_ref()?.dim;
    let dim = |dim: &'_ Dimension| match &dim.value {
        Some(dimension::Value::DimValue(n)) => u32::try_from(*n).ok(),
        Some(dimension::Value::DimParam(_)) | None => None,
    };
    fn name(dim: &Dimension) -> &str {
        match &dim.value {
            Some(dimension::Value::DimParam(name)) => name,
            _ => "",
        }
    }
    (dims.len() <= MAX_RANK).then(|| dims.iter().map(|d| dim(d).ok_or(name(d))).collect())
}

/// The order of an input's dimensions.
pub(super) fn input_layout(dims: &Dims<'_>) -> Layout {
    let known: Vec<Option<u32>> = dims.iter().map(|dim| dim.ok()).collect();
    if channels_last(&known) { Layout::Nhwc } else { Layout::Nchw }
}

/// The walk over the nodes.
struct Inference<'m, 'o> {
    shapes: Shapes<'m>,
    contents: HashMap<&'m str, Content>,
    tensors: HashMap<&'m str, &'m TensorProto>,
    /// What the file says of values whose shape cannot be worked out.
    stated: HashMap<&'m str, Dims<'m>>,
    /// Sizes of free dimensions, by their names.
    names: HashMap<&'m str, u32>,
    batch: u32,
    observed: &'o HashMap<String, Vec<u32>>,
    /// How many more values may be kept.
    room: Cell<usize>,
}

impl<'m, 'o> Inference<'m, 'o> {
    fn new(graph: &'m GraphProto, observed: &'o HashMap<String, Vec<u32>>) -> Self {
        let tensors: HashMap<_, _> = graph.initializer.iter().map(|tensor| (tensor.name(), tensor)).collect();
        let shape = |tensor: &TensorProto| {
            let dims = tensor.dims.iter().map(|&n| u32::try_from(n).ok()).collect::<Option<Vec<_>>>();
            dims.filter(|dims| dims.len() <= MAX_RANK)
        };
        let known = graph.initializer.iter().filter_map(|tensor| Some((tensor.name(), shape(tensor)?))).collect();
        Self {
            shapes: Shapes { known, ..Shapes::default() },
            contents: HashMap::new(),
            tensors,
            stated: HashMap::new(),
            names: HashMap::new(),
            batch: 1,
            observed,
            room: Cell::new(content::MAX_KEPT),
        }
    }

    /// Gives every input a shape, and decides whether the other shapes that the file states hold for these inputs.
    fn bind_inputs(&mut self, graph: &'m GraphProto, sizes: InputSizes) {
        let mut as_stated = true;
        let inputs = graph.input.iter().filter(|input| !self.tensors.contains_key(input.name()));
        let inputs: Vec<_> = inputs.filter_map(|input| Some((input.name(), stated(input)?))).collect();
        // From the back, so that the first of several stays.
        let convs = graph.node.iter().rev().filter(|node| node.op_type() == "Conv");
        let first_convs: HashMap<&str, &NodeProto> =
            convs.filter_map(|node| Some((node.input.first()?.as_str(), node))).collect();
        let mut bound = Vec::new();
        for (name, dims) in &inputs {
            let layout = input_layout(dims);
            let [height, width] = if layout == Layout::Nhwc { [1, 2] } else { [2, 3] };
            let is_image = dims.len() == 4;
            let given = |at: usize| match sizes.image {
                _ if !is_image => None,
                _ if at == 0 => sizes.batch,
                Some([h, _]) if at == height => Some(h),
                Some([_, w]) if at == width => Some(w),
                _ => None,
            };
            let size = |(at, dim): (usize, &Result<u32, &'m str>)| match (given(at), dim) {
                (Some(size), _) => Some(size),
                (None, Ok(size)) => Some(*size),
                (None, Err(_)) if at == 0 => Some(sizes.batch.unwrap_or(1)),
                (None, Err(_)) if is_image && at != height && at != width => {
                    first_convs.get(name).and_then(|conv| channels_wanted(conv, &self.tensors))
                }
                (None, Err(_)) => None,
            };
            let shape: Vec<Option<u32>> = dims.iter().enumerate().map(size).collect();
            for (at, (dim, size)) in dims.iter().zip(&shape).enumerate() {
                match (dim, size) {
                    (Ok(dim), Some(size)) => as_stated &= dim == size,
                    (Err(free), Some(size)) if !free.is_empty() && *free != "?" => {
                        self.names.insert(free, *size);
                    }
                    _ => {}
                }
                if is_image && at == 0 {
                    self.batch = size.unwrap_or(1);
                }
            }
            if is_image && (shape[height].is_none() || shape[width].is_none()) {
                self.shapes.free.push(name);
            }
            if layout == Layout::Nhwc {
                self.shapes.last.insert(name);
            }
            bound.push((*name, shape));
        }
        for (name, shape) in bound {
            if let Some(shape) = shape.into_iter().collect() {
                self.shapes.known.insert(name, shape);
            }
        }
        if as_stated {
            let infos = graph.value_info.iter().chain(&graph.output);
            self.stated = infos.filter_map(|info| Some((info.name(), stated(info)?))).collect();
        }
    }

    fn visit(&mut self, node: &'m NodeProto) {
        let results = Call::new(node, self).results();
        let (results, reason) = match results {
            Ok(results) => (results, None),
            Err(missing) => (Vec::new(), missing.reason()),
        };
        if reason == Some(Reason::TooLarge) && self.shapes.too_large.len() < MAX_GAPS {
            let gap = Gap { node: label(node), op: node.op_type().to_owned(), reason: Reason::TooLarge };
            self.shapes.too_large.push(gap);
        }
        let layout = Call::new(node, self).layout();
        let mut results = results.into_iter();
        let mut first = true;
        for name in &node.output {
            let result = results.next();
            if name.is_empty() {
                continue;
            }
            let (shape, content) = match result {
                Some(result) => (Some(result.shape), result.content),
                None => (None, None),
            };
            let observed = self.observed.get(name.as_str()).filter(|shape| shape.len() <= MAX_RANK).cloned();
            let agrees = observed.is_none() || observed == shape;
            let shape = observed.or(shape).or_else(|| self.stated_shape(name));
            if let (true, None, Some(reason)) = (first, &shape, reason)
                && self.shapes.gaps.len() < MAX_GAPS
            {
                self.shapes.gaps.push(Gap { node: label(node), op: node.op_type().to_owned(), reason });
            }
            first = false;
            let Some(shape) = shape else { continue };
            if shape.len() == 4 && layout == Layout::Nhwc {
                self.shapes.last.insert(name);
            }
            self.shapes.known.insert(name, shape);
            if let Some(content) = content.filter(|content| agrees && self.has_room(content.len())) {
                self.contents.insert(name, content);
            }
        }
    }

    fn has_room(&self, values: usize) -> bool {
        let left = self.room.get().checked_sub(values);
        self.room.set(left.unwrap_or(0));
        left.is_some()
    }

    /// The shape that the file states, with free sizes as they are bound: the batch to its size, others by their names.
    fn stated_shape(&self, name: &str) -> Option<Vec<u32>> {
        let dims = self.stated.get(name)?;
        let size = |(at, dim): (usize, &Result<u32, &str>)| match *dim {
            Ok(size) => Some(size),
            Err(free) => self.names.get(free).copied().or((at == 0 && dims.len() > 1).then_some(self.batch)),
        };
        dims.iter().enumerate().map(size).collect()
    }

    /// The values of a small tensor, if they are known.
    fn content(&self, name: &str) -> Option<Content> {
        match self.contents.get(name) {
            Some(content) => Some(content.clone()),
            None => Content::of(self.tensors.get(name)?),
        }
    }
}

/// The channels that a convolution wants.
fn channels_wanted(conv: &NodeProto, tensors: &HashMap<&str, &TensorProto>) -> Option<u32> {
    let kernel = tensors.get(conv.input.get(1)?.as_str())?;
    let groups = conv.attribute.iter().find(|a| a.name() == "group").map_or(1, |a| a.i());
    u32::try_from(kernel.dims.get(1)?.checked_mul(groups)?).ok()
}

#[cfg(test)]
mod tests;
