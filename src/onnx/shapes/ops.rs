//! What each operator makes of the shapes, and of small values, that it is given.

use super::content::{Content, MAX_VALUES};
use super::window::spatial;
use super::{Inference, Layout, MAX_RANK, Reason};
use crate::onnx::proto::{AttributeProto, NodeProto};
use crate::tensor::element_count;

/// A result: its shape, and its values where they are known.
pub(super) struct Value {
    pub(super) shape: Vec<u32>,
    pub(super) content: Option<Content>,
}

/// Why there is no result.
#[derive(Debug, Clone, Copy)]
pub(super) enum Missing {
    /// An operand's shape is not known: the reason lies before.
    Operand,
    /// The reason lies here.
    Here(Reason),
}

impl Missing {
    pub(super) fn reason(self) -> Option<Reason> {
        match self {
            Self::Operand => None,
            Self::Here(reason) => Some(reason),
        }
    }
}

impl From<Reason> for Missing {
    fn from(reason: Reason) -> Self {
        Self::Here(reason)
    }
}

const fn contradiction(what: &'static str) -> Missing {
    Missing::Here(Reason::Contradiction(what))
}

const VALUES: Missing = Missing::Here(Reason::Values);
const TOO_LARGE: Missing = Missing::Here(Reason::TooLarge);
const RANK: Missing = contradiction("an operand has another number of dimensions than the operator takes");
const AXIS: Missing = contradiction("an axis is outside the dimensions of its operand");
const FEW_OPERANDS: Missing = contradiction("an operand is missing");

/// A node with what is known so far.
pub(super) struct Call<'m, 'i, 'o> {
    node: &'m NodeProto,
    known: &'i Inference<'m, 'o>,
}

impl<'m, 'i, 'o> Call<'m, 'i, 'o> {
    pub(super) fn new(node: &'m NodeProto, known: &'i Inference<'m, 'o>) -> Self {
        Self { node, known }
    }

    /// The order of dimensions in the results of four dimensions.
    pub(super) fn layout(&self) -> Layout {
        let is_last = |name: &String| self.known.shapes.layout(name) == Layout::Nhwc;
        match self.node.op_type() {
            "Conv" | "FusedConv" | "ConvInteger" | "QLinearConv" | "ConvTranspose" | "MaxPool" | "AveragePool"
            | "LpPool" | "GlobalAveragePool" | "GlobalMaxPool" | "BatchNormalization" | "DepthToSpace"
            | "SpaceToDepth" => Layout::Nchw,
            "Transpose" => match (self.ints_attribute("perm"), self.node.input.first().is_some_and(is_last)) {
                (Some([0, 2, 3, 1]), false) => Layout::Nhwc,
                (Some([0, 3, 1, 2]), true) => Layout::Nchw,
                (_, true) => Layout::Nhwc,
                (_, false) => Layout::Nchw,
            },
            _ if self.node.input.iter().any(is_last) => Layout::Nhwc,
            _ => Layout::Nchw,
        }
    }

    /// The results that are known, in the node's order.
    pub(super) fn results(&self) -> Result<Vec<Value>, Missing> {
        let standard = matches!(self.node.domain(), "" | "ai.onnx");
        match self.node.op_type() {
            "FusedConv" if self.node.domain() == "com.microsoft" => one(self.conv(1)?),
            "Gelu" | "BiasGelu" | "QuickGelu" if self.node.domain() == "com.microsoft" => self.same(),
            _ if !standard => self.unknown(),

            "Identity" | "Dropout" => Ok(vec![
                Value { shape: self.shape(0)?.to_vec(), content: self.content(0) },
                shape_only(self.shape(0)?.to_vec()),
            ]),
            "Cast" => {
                let to = self.int("to").and_then(|to| i32::try_from(to).ok());
                let content = self.content(0).zip(to).and_then(|(content, to)| content.cast(to));
                Ok(vec![Value { shape: self.shape(0)?.to_vec(), content }])
            }
            op @ ("Neg" | "Abs" | "Not" | "Floor" | "Ceil" | "Round" | "Sqrt" | "Reciprocal") => {
                let content = self.content(0).and_then(|content| content.map(op));
                Ok(vec![Value { shape: self.shape(0)?.to_vec(), content }])
            }
            "Relu"
            | "LeakyRelu"
            | "ThresholdedRelu"
            | "Sigmoid"
            | "HardSigmoid"
            | "HardSwish"
            | "Swish"
            | "Mish"
            | "Gelu"
            | "Elu"
            | "Celu"
            | "Selu"
            | "Softplus"
            | "Softsign"
            | "Tanh"
            | "Exp"
            | "Log"
            | "Erf"
            | "Sign"
            | "Sin"
            | "Cos"
            | "Tan"
            | "Asin"
            | "Acos"
            | "Atan"
            | "Sinh"
            | "Cosh"
            | "Asinh"
            | "Acosh"
            | "Atanh"
            | "Shrink"
            | "PRelu"
            | "Clip"
            | "CastLike"
            | "BatchNormalization"
            | "InstanceNormalization"
            | "LayerNormalization"
            | "GroupNormalization"
            | "RMSNormalization"
            | "LRN"
            | "LpNormalization"
            | "MeanVarianceNormalization"
            | "Softmax"
            | "LogSoftmax"
            | "Hardmax"
            | "IsNaN"
            | "IsInf"
            | "QuantizeLinear"
            | "DequantizeLinear"
            | "CumSum"
            | "Trilu"
            | "EyeLike"
            | "BitwiseNot"
            | "ScatterND"
            | "ScatterElements"
            | "ReverseSequence"
            | "RandomNormalLike"
            | "RandomUniformLike"
            | "Bernoulli" => self.same(),

            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Mod" | "Max" | "Min" | "Sum" | "Mean" | "And" | "Or" | "Xor"
            | "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "BitwiseAnd" | "BitwiseOr"
            | "BitwiseXor" | "BitShift" => self.elementwise(),
            "Where" => self.choose(),

            "Conv" => one(self.conv(1)?),
            "ConvInteger" => one(self.conv(1)?),
            "QLinearConv" => one(self.conv(3)?),
            "ConvTranspose" => one(self.conv_transpose()?),
            "MaxPool" | "AveragePool" | "LpPool" => {
                let shape = self.pool()?;
                Ok(vec![shape_only(shape.clone()), shape_only(shape)])
            }
            "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool" => {
                let shape = self.shape(0)?;
                one(shape.iter().enumerate().map(|(axis, &n)| if axis < 2 { n } else { 1 }).collect())
            }
            "Gemm" => self.gemm(),
            "MatMul" | "MatMulInteger" => one(self.mat_mul(1)?),
            "QLinearMatMul" => one(self.mat_mul(3)?),

            "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceL1" | "ReduceL2"
            | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceSumSquare" => self.reduce(),
            "ArgMax" | "ArgMin" => {
                let shape = self.shape(0)?;
                let axis = axis(self.int("axis").unwrap_or(0), shape.len())?;
                one(without(shape, &[axis], self.int("keepdims") != Some(0)))
            }

            "Shape" => self.shape_op(),
            "Size" => {
                let elements = i64::try_from(element_count(self.shape(0)?)).map_err(|_| TOO_LARGE)?;
                Ok(vec![Value { shape: Vec::new(), content: Some(Content::Ints([elements].into())) }])
            }
            "Constant" => self.constant(),
            "ConstantOfShape" => self.constant_of_shape(),
            "Range" => self.range(),
            "Concat" => self.concat(),
            "Split" => self.split(),
            "Slice" => self.slice(),
            "Gather" => self.gather(),
            "GatherElements" => one(self.shape(1)?.to_vec()),
            "GatherND" => self.gather_nd(),
            "Reshape" => self.reshape(),
            "Flatten" => self.flatten(),
            "Squeeze" => self.squeeze(),
            "Unsqueeze" => self.unsqueeze(),
            "Transpose" => self.transpose(),
            "Expand" => self.expand(),
            "Tile" => self.tile(),
            "Pad" => self.pad(),
            "DepthToSpace" | "SpaceToDepth" => self.rearrange(),
            "Resize" | "Upsample" => self.resize(),
            "TopK" => self.top_k(),
            "OneHot" => self.one_hot(),
            "GridSample" => match (self.shape(0)?, self.shape(1)?) {
                (&[batch, channels, _, _], &[_, height, width, 2]) => one(vec![batch, channels, height, width]),
                _ => Err(RANK),
            },
            _ => self.unknown(),
        }
    }

    /// For an operator that is not covered: the reason lies here only if all that it needs is known.
    fn unknown(&self) -> Result<Vec<Value>, Missing> {
        let known = |name: &String| name.is_empty() || self.known.shapes.of(name).is_some();
        if self.node.input.iter().all(known) { Err(Reason::Operator.into()) } else { Err(Missing::Operand) }
    }

    // What is given.

    fn has(&self, operand: usize) -> bool {
        self.node.input.get(operand).is_some_and(|name| !name.is_empty())
    }

    fn shape(&self, operand: usize) -> Result<&'i [u32], Missing> {
        let name = self.node.input.get(operand).filter(|name| !name.is_empty()).ok_or(FEW_OPERANDS)?;
        self.known.shapes.of(name).ok_or(Missing::Operand)
    }

    fn content(&self, operand: usize) -> Option<Content> {
        self.known.content(self.node.input.get(operand)?)
    }

    /// The integers that an operand has to have.
    fn ints(&self, operand: usize) -> Result<Vec<i64>, Missing> {
        self.shape(operand)?;
        let content = self.content(operand).ok_or(VALUES)?;
        Ok(content.ints().ok_or(VALUES)?.to_vec())
    }

    fn attribute(&self, name: &str) -> Option<&'m AttributeProto> {
        self.node.attribute.iter().find(|attribute| attribute.name() == name)
    }

    fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name).map(|attribute| attribute.i())
    }

    fn ints_attribute(&self, name: &str) -> Option<&'m [i64]> {
        self.attribute(name).map(|attribute| attribute.ints.as_slice())
    }

    /// Integers that are an attribute in older operator sets and an operand in newer ones; `None` if not given.
    fn ints_either(&self, name: &str, operand: usize) -> Result<Option<Vec<i64>>, Missing> {
        match self.ints_attribute(name) {
            Some(ints) => Ok(Some(ints.to_vec())),
            None if self.has(operand) => Ok(Some(self.ints(operand)?)),
            None => Ok(None),
        }
    }

    /// Axes that are an attribute or an operand, counted from the front.
    fn axes(&self, operand: usize, rank: usize) -> Result<Option<Vec<usize>>, Missing> {
        let Some(axes) = self.ints_either("axes", operand)? else { return Ok(None) };
        if axes.len() > MAX_RANK {
            return Err(AXIS);
        }
        axes.into_iter().map(|at| axis(at, rank)).collect::<Result<_, _>>().map(Some)
    }

    // What is made of it.

    fn same(&self) -> Result<Vec<Value>, Missing> {
        one(self.shape(0)?.to_vec())
    }

    fn elementwise(&self) -> Result<Vec<Value>, Missing> {
        let mut shape = self.shape(0)?.to_vec();
        for operand in 1..self.node.input.len() {
            shape = broadcast(&shape, self.shape(operand)?)?;
        }
        // Only what shapes are computed with: numbers and lists of them.
        let is_small = shape.len() <= 1 && element_count(&shape) <= MAX_VALUES as u64;
        let content = if is_small { self.folded() } else { None };
        Ok(vec![Value { shape, content }])
    }

    fn folded(&self) -> Option<Content> {
        let (first, rest) = (self.content(0)?, 1..self.node.input.len().min(8));
        rest.map(|operand| self.content(operand)).try_fold(first, |a, b| a.zip(self.node.op_type(), &b?))
    }

    fn choose(&self) -> Result<Vec<Value>, Missing> {
        let shape = broadcast(&broadcast(self.shape(0)?, self.shape(1)?)?, self.shape(2)?)?;
        let chosen = || {
            let (condition, yes, no) = (self.content(0)?, self.content(1)?, self.content(2)?);
            let (condition, yes, no) = (condition.ints()?, yes.ints()?, no.ints()?);
            let length = usize::try_from(element_count(&shape)).ok().filter(|&n| n <= MAX_VALUES && shape.len() < 2)?;
            let at = |values: &[i64], i: usize| values.get(if values.len() == 1 { 0 } else { i }).copied();
            let pick = |i| if at(condition, i)? != 0 { at(yes, i) } else { at(no, i) };
            Some(Content::Ints((0..length).map(pick).collect::<Option<_>>()?))
        };
        let content = chosen();
        Ok(vec![Value { shape, content }])
    }

    fn conv(&self, kernel: usize) -> Result<Vec<u32>, Missing> {
        let (input, kernel) = (self.shape(0)?, self.shape(kernel)?);
        let ([batch, _, sizes @ ..], [out_channels, ..]) = (input, kernel) else { return Err(RANK) };
        let output = spatial(self.node, Some(kernel), sizes)?.output(sizes, false);
        let output = output.ok_or(contradiction("its window is larger than its padded input"))?;
        Ok([&[*batch, *out_channels], &output[..]].concat())
    }

    fn conv_transpose(&self) -> Result<Vec<u32>, Missing> {
        let (input, kernel) = (self.shape(0)?, self.shape(1)?);
        let ([batch, _, sizes @ ..], [_, per_group, ..]) = (input, kernel) else { return Err(RANK) };
        let window = spatial(self.node, Some(kernel), sizes)?;
        let channels = per_group.checked_mul(window.groups).ok_or(TOO_LARGE)?;
        let output = window.transposed(self.node, sizes).ok_or(contradiction("its result has no size"))?;
        Ok([&[*batch, channels], &output[..]].concat())
    }

    fn pool(&self) -> Result<Vec<u32>, Missing> {
        let [batch, channels, sizes @ ..] = self.shape(0)? else { return Err(RANK) };
        let output = spatial(self.node, None, sizes)?.output(sizes, self.int("ceil_mode") == Some(1));
        let output = output.ok_or(contradiction("its window is larger than its padded input"))?;
        Ok([&[*batch, *channels], &output[..]].concat())
    }

    fn gemm(&self) -> Result<Vec<Value>, Missing> {
        let (&[a0, a1], &[b0, b1]) = (self.shape(0)?, self.shape(1)?) else { return Err(RANK) };
        let turned = |name| self.int(name).is_some_and(|n| n != 0);
        let (rows, inner) = if turned("transA") { (a1, a0) } else { (a0, a1) };
        let (other, columns) = if turned("transB") { (b1, b0) } else { (b0, b1) };
        if inner != other {
            return Err(contradiction("its matrices do not fit each other"));
        }
        one(vec![rows, columns])
    }

    fn mat_mul(&self, second: usize) -> Result<Vec<u32>, Missing> {
        let (a, b) = (self.shape(0)?, self.shape(second)?);
        let ([outer_a @ .., inner_a], Some(&last_b)) = (a, b.last()) else { return Err(RANK) };
        let (rows, batch_a) = match outer_a {
            [batch @ .., rows] => (Some(*rows), batch),
            [] => (None, &[][..]),
        };
        let (inner_b, columns, batch_b) = match b {
            [batch @ .., inner, columns] => (*inner, Some(*columns), batch),
            _ => (last_b, None, &[][..]),
        };
        if *inner_a != inner_b {
            return Err(contradiction("its matrices do not fit each other"));
        }
        let mut shape = broadcast(batch_a, batch_b)?;
        shape.extend(rows.into_iter().chain(columns));
        Ok(shape)
    }

    fn reduce(&self) -> Result<Vec<Value>, Missing> {
        let shape = self.shape(0)?;
        let axes = match self.axes(1, shape.len())? {
            Some(axes) if !axes.is_empty() => axes,
            _ if self.int("noop_with_empty_axes") == Some(1) => Vec::new(),
            _ => (0..shape.len()).collect(),
        };
        let reduced = without(shape, &axes, self.int("keepdims") != Some(0));
        let content = self.content(0).filter(|_| shape.len() == 1 && !axes.is_empty()).and_then(|content| {
            let mut ints = content.ints()?.iter().copied();
            let value = match self.node.op_type() {
                "ReduceProd" => ints.try_fold(1, i64::checked_mul),
                "ReduceSum" => ints.try_fold(0, i64::checked_add),
                "ReduceMax" => ints.max(),
                "ReduceMin" => ints.min(),
                _ => None,
            };
            Some(Content::Ints([value?].into()))
        });
        Ok(vec![Value { shape: reduced, content }])
    }

    fn shape_op(&self) -> Result<Vec<Value>, Missing> {
        let shape = self.shape(0)?;
        let rank = shape.len() as i64;
        let place = |name: &str, default: i64| {
            let at = self.int(name).unwrap_or(default);
            (if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank) as usize
        };
        let (start, end) = (place("start", 0), place("end", rank));
        let part = shape.get(start..end).unwrap_or_default();
        list(part.iter().map(|&n| n.into()).collect())
    }

    fn constant(&self) -> Result<Vec<Value>, Missing> {
        let attribute = self.node.attribute.first().ok_or(contradiction("it has no value"))?;
        match attribute.name() {
            "value" => {
                let tensor = attribute.t.as_ref().ok_or(contradiction("it has no value"))?;
                let dims = tensor.dims.iter().map(|&n| u32::try_from(n).ok()).collect::<Option<Vec<_>>>();
                let shape = dims.filter(|dims| dims.len() <= MAX_RANK).ok_or(TOO_LARGE)?;
                Ok(vec![Value { shape, content: Content::of(tensor) }])
            }
            "value_int" => Ok(vec![Value { shape: Vec::new(), content: Some(Content::Ints([attribute.i()].into())) }]),
            "value_float" => {
                let value = Content::Floats([f64::from(attribute.f())].into());
                Ok(vec![Value { shape: Vec::new(), content: Some(value) }])
            }
            "value_ints" => list(attribute.ints.clone()),
            "value_floats" => {
                let shape = vec![u32::try_from(attribute.floats.len()).map_err(|_| TOO_LARGE)?];
                let is_small = attribute.floats.len() <= MAX_VALUES;
                let values = || Content::Floats(attribute.floats.iter().map(|&x| x.into()).collect());
                Ok(vec![Value { shape, content: is_small.then(values) }])
            }
            _ => Err(Reason::Operator.into()),
        }
    }

    fn constant_of_shape(&self) -> Result<Vec<Value>, Missing> {
        let shape = sizes(&self.ints(0)?)?;
        let elements = element_count(&shape);
        let value = self.attribute("value").and_then(|attribute| attribute.t.as_ref());
        let value = value.map_or(Some(Content::Floats([0.0].into())), Content::of);
        let is_small = shape.len() <= 1 && elements <= MAX_VALUES as u64;
        let repeated = || value?.at(std::iter::repeat_n(0, elements as usize));
        let content = if is_small { repeated() } else { None };
        Ok(vec![Value { shape, content }])
    }

    fn range(&self) -> Result<Vec<Value>, Missing> {
        let number = |operand: usize| {
            self.shape(operand)?;
            self.content(operand).filter(|content| content.len() == 1).ok_or(VALUES)
        };
        let (start, end, step) = (number(0)?, number(1)?, number(2)?);
        let length = ((end.floats()[0] - start.floats()[0]) / step.floats()[0]).ceil().max(0.0);
        if !(length.is_finite() && length <= f64::from(u32::MAX)) {
            return Err(TOO_LARGE);
        }
        let values = || {
            let (start, step) = (start.ints()?[0], step.ints()?[0]);
            let at = |i| start.checked_add(step.checked_mul(i)?);
            Some(Content::Ints((0..length as i64).map(at).collect::<Option<_>>()?))
        };
        let content = if length <= MAX_VALUES as f64 { values() } else { None };
        Ok(vec![Value { shape: vec![length as u32], content }])
    }

    fn concat(&self) -> Result<Vec<Value>, Missing> {
        let mut shape = self.shape(0)?.to_vec();
        let along = axis(self.int("axis").unwrap_or(1), shape.len())?;
        for operand in 1..self.node.input.len() {
            let other = self.shape(operand)?;
            let fits = |(at, (a, b)): (usize, (&u32, &u32))| at == along || a == b;
            if other.len() != shape.len() || !shape.iter().zip(other).enumerate().all(fits) {
                return Err(contradiction(
                    "its operands differ in other dimensions than the one they are joined along",
                ));
            }
            shape[along] = shape[along].checked_add(other[along]).ok_or(TOO_LARGE)?;
        }
        let is_small = shape.len() == 1 && shape[0] <= MAX_VALUES as u32;
        let parts = || (0..self.node.input.len()).map(|operand| self.content(operand)).collect::<Option<Vec<_>>>();
        let content = if is_small { parts().and_then(|parts| Content::concat(&parts)) } else { None };
        Ok(vec![Value { shape, content }])
    }

    fn split(&self) -> Result<Vec<Value>, Missing> {
        let shape = self.shape(0)?;
        let axis = axis(self.int("axis").unwrap_or(0), shape.len())?;
        let parts = match self.ints_either("split", 1)? {
            Some(parts) => sizes_of_parts(&parts, self.node.output.len())?,
            None => {
                let parts = u32::try_from(self.node.output.len()).ok().filter(|&n| n > 0).ok_or(TOO_LARGE)?;
                let each = shape[axis].div_ceil(parts);
                let part = |i: u32| each.min(shape[axis].saturating_sub(each.saturating_mul(i)));
                (0..parts).map(part).collect()
            }
        };
        if parts.iter().map(|&n| u64::from(n)).sum::<u64>() != u64::from(shape[axis]) {
            return Err(contradiction("its parts do not add up to the dimension that is split"));
        }
        let content = self.content(0).filter(|_| shape.len() == 1);
        let mut begin = 0;
        let part = |size: u32| {
            let mut part = shape.to_vec();
            part[axis] = size;
            let places = begin..begin + size as usize;
            begin += size as usize;
            Value { shape: part, content: content.as_ref().and_then(|content| content.at(places)) }
        };
        Ok(parts.into_iter().map(part).collect())
    }

    fn slice(&self) -> Result<Vec<Value>, Missing> {
        let mut shape = self.shape(0)?.to_vec();
        let given = |name, operand| self.ints_either(name, operand);
        let (starts, ends) = (given("starts", 1)?.ok_or(FEW_OPERANDS)?, given("ends", 2)?.ok_or(FEW_OPERANDS)?);
        if starts.len() != ends.len() || starts.len() > MAX_RANK {
            return Err(contradiction("its starts and ends differ in number"));
        }
        let axes = self.axes(3, shape.len())?.unwrap_or_else(|| (0..starts.len()).collect());
        let steps = if self.has(4) { self.ints(4)? } else { vec![1; starts.len()] };
        if axes.len() != starts.len() || steps.len() != starts.len() {
            return Err(contradiction("its axes and starts differ in number"));
        }
        let before = shape.clone();
        // First place, and distance from one place to the next, along each dimension.
        let mut taken: Vec<(i64, i64)> = vec![(0, 1); shape.len()];
        for (at, &axis) in axes.iter().enumerate() {
            let size = i64::from(*shape.get(axis).ok_or(AXIS)?);
            let step = steps[at];
            let from_end = |n: i64| if n < 0 { n.saturating_add(size) } else { n };
            let (start, end) = (from_end(starts[at]), from_end(ends[at]));
            let (start, end) = match step {
                1.. => (start.clamp(0, size), end.clamp(0, size)),
                // Backwards, the end may lie one before the first.
                ..=-1 => (start.clamp(0, (size - 1).max(0)), end.clamp(-1, size)),
                0 => return Err(contradiction("its step is zero")),
            };
            let span = if step > 0 { end - start } else { start - end };
            let count = u64::try_from(span).map_or(0, |span| span.div_ceil(step.unsigned_abs()));
            shape[axis] = u32::try_from(count).map_err(|_| TOO_LARGE)?;
            taken[axis] = (start, step);
        }
        let content = self.content(0).and_then(|content| {
            let place = |axis: usize, i: u32| {
                let (start, step) = taken[axis];
                start.checked_add(step.checked_mul(i.into())?)
            };
            content.at(places(&shape, &row_major(&before), place)?.into_iter())
        });
        Ok(vec![Value { shape, content }])
    }

    fn gather(&self) -> Result<Vec<Value>, Missing> {
        let (data, indices) = (self.shape(0)?, self.shape(1)?);
        let axis = axis(self.int("axis").unwrap_or(0), data.len())?;
        let shape = ranked([&data[..axis], indices, &data[axis + 1..]].concat())?;
        let gathered = || {
            let (content, chosen) = (self.content(0)?, self.content(1)?);
            let (length, inner) = (i64::from(data[axis]), element_count(&data[axis + 1..]) as usize);
            let place = |&i: &i64| usize::try_from(if i < 0 { i.saturating_add(length) } else { i }).ok();
            let chosen = chosen.ints()?.iter().map(place).collect::<Option<Vec<_>>>()?;
            let outer = element_count(&data[..axis]) as usize;
            if !(1..=MAX_VALUES).contains(&outer.checked_mul(chosen.len())?.checked_mul(inner)?) {
                return None;
            }
            let rows = (0..outer).flat_map(|o| chosen.iter().map(move |&i| (o, i)));
            let rows: Vec<usize> =
                rows.map(|(o, i)| o.checked_mul(length as usize)?.checked_add(i)).collect::<Option<_>>()?;
            content.at(rows
                .into_iter()
                .flat_map(|row| (0..inner).map(move |i| row.saturating_mul(inner).saturating_add(i))))
        };
        let content = gathered();
        Ok(vec![Value { shape, content }])
    }

    fn gather_nd(&self) -> Result<Vec<Value>, Missing> {
        let (data, indices) = (self.shape(0)?, self.shape(1)?);
        let batch = self.int("batch_dims").map_or(Ok(0), usize::try_from).map_err(|_| AXIS)?;
        let [outer @ .., depth] = indices else { return Err(RANK) };
        let from = batch.checked_add(*depth as usize).ok_or(AXIS)?;
        one(ranked([outer, data.get(from..).ok_or(AXIS)?].concat())?)
    }

    fn reshape(&self) -> Result<Vec<Value>, Missing> {
        const UNEVEN: Missing = contradiction("it changes the number of elements");
        let shape = self.shape(0)?;
        let wanted = self.ints(1)?;
        if wanted.len() > MAX_RANK {
            return Err(TOO_LARGE);
        }
        let keep_zero = self.int("allowzero") == Some(1);
        let mut rest = None;
        let mut result = Vec::with_capacity(wanted.len());
        for (at, &size) in wanted.iter().enumerate() {
            result.push(match size {
                -1 if rest.is_none() => {
                    rest = Some(at);
                    1
                }
                0 if !keep_zero => *shape.get(at).ok_or(AXIS)?,
                size => u32::try_from(size).map_err(|_| UNEVEN)?,
            });
        }
        let elements = element_count(shape);
        if let Some(at) = rest {
            let others = element_count(&result);
            if others == 0 || !elements.is_multiple_of(others) {
                return Err(UNEVEN);
            }
            result[at] = u32::try_from(elements / others).map_err(|_| TOO_LARGE)?;
        }
        if element_count(&result) != elements {
            return Err(UNEVEN);
        }
        Ok(vec![Value { shape: result, content: self.content(0) }])
    }

    fn flatten(&self) -> Result<Vec<Value>, Missing> {
        let shape = self.shape(0)?;
        let rank = shape.len() as i64;
        let at = self.int("axis").unwrap_or(1);
        let at = if at < 0 { at.saturating_add(rank) } else { at };
        let (outer, inner) = usize::try_from(at).ok().and_then(|at| shape.split_at_checked(at)).ok_or(AXIS)?;
        let size = |part: &[u32]| u32::try_from(element_count(part)).map_err(|_| TOO_LARGE);
        Ok(vec![Value { shape: vec![size(outer)?, size(inner)?], content: self.content(0) }])
    }

    fn squeeze(&self) -> Result<Vec<Value>, Missing> {
        let shape = self.shape(0)?;
        let axes = match self.axes(1, shape.len())? {
            Some(axes) => axes,
            None => (0..shape.len()).filter(|&axis| shape[axis] == 1).collect(),
        };
        if axes.iter().any(|&axis| shape[axis] != 1) {
            return Err(contradiction("it removes a dimension that is not one"));
        }
        Ok(vec![Value { shape: without(shape, &axes, false), content: self.content(0) }])
    }

    fn unsqueeze(&self) -> Result<Vec<Value>, Missing> {
        let shape = self.shape(0)?;
        let axes = self.ints_either("axes", 1)?.ok_or(FEW_OPERANDS)?;
        let rank = shape.len() + axes.len();
        if rank > MAX_RANK {
            return Err(TOO_LARGE);
        }
        let axes = axes.into_iter().map(|at| axis(at, rank)).collect::<Result<Vec<_>, _>>()?;
        let mut rest = shape.iter();
        let size = |axis| if axes.contains(&axis) { Some(1) } else { rest.next().copied() };
        let result: Vec<u32> = (0..rank).map_while(size).collect();
        if result.len() != rank || rest.next().is_some() {
            return Err(contradiction("it adds a dimension twice"));
        }
        Ok(vec![Value { shape: result, content: self.content(0) }])
    }

    fn transpose(&self) -> Result<Vec<Value>, Missing> {
        let shape = self.shape(0)?;
        let order = match self.ints_attribute("perm") {
            Some(order) if order.len() != shape.len() => return Err(RANK),
            Some(order) => order.iter().map(|&at| axis(at, shape.len())).collect::<Result<Vec<_>, _>>()?,
            None => (0..shape.len()).rev().collect(),
        };
        let turned: Vec<u32> = order.iter().map(|&at| shape[at]).collect();
        let distances = row_major(shape);
        let distances: Vec<u64> = order.iter().map(|&at| distances[at]).collect();
        let content = self
            .content(0)
            .and_then(|content| content.at(places(&turned, &distances, |_, i| Some(i.into()))?.into_iter()));
        Ok(vec![Value { shape: turned, content }])
    }

    fn expand(&self) -> Result<Vec<Value>, Missing> {
        let shape = broadcast(self.shape(0)?, &sizes(&self.ints(1)?)?)?;
        let elements = element_count(&shape);
        let repeated = self.content(0).filter(|_| shape.len() < 2).and_then(|content| match content.len() {
            1 if elements <= MAX_VALUES as u64 => content.at(std::iter::repeat_n(0, elements as usize)),
            n if n as u64 == elements => Some(content),
            _ => None,
        });
        Ok(vec![Value { shape, content: repeated }])
    }

    fn tile(&self) -> Result<Vec<Value>, Missing> {
        let (shape, times) = (self.shape(0)?, sizes(&self.ints(1)?)?);
        if times.len() != shape.len() {
            return Err(RANK);
        }
        let size = |(&size, &times): (&u32, &u32)| size.checked_mul(times).ok_or(TOO_LARGE);
        one(shape.iter().zip(&times).map(size).collect::<Result<_, _>>()?)
    }

    fn pad(&self) -> Result<Vec<Value>, Missing> {
        let shape = self.shape(0)?;
        let pads = self.ints_either("pads", 1)?.ok_or(FEW_OPERANDS)?;
        let axes = if self.has(3) { self.axes(3, shape.len())? } else { None };
        let axes = axes.unwrap_or_else(|| (0..shape.len()).collect());
        if pads.len() != 2 * axes.len() {
            return Err(contradiction("it does not say two sizes for each dimension that is padded"));
        }
        let mut result = shape.to_vec();
        for (at, &axis) in axes.iter().enumerate() {
            let size = i64::from(result[axis]).checked_add(pads[at]).and_then(|n| n.checked_add(pads[at + axes.len()]));
            result[axis] = size.and_then(|n| u32::try_from(n).ok()).ok_or(TOO_LARGE)?;
        }
        one(result)
    }

    fn rearrange(&self) -> Result<Vec<Value>, Missing> {
        let &[batch, channels, height, width] = self.shape(0)? else { return Err(RANK) };
        let block = self.int("blocksize").and_then(|n| u32::try_from(n).ok()).filter(|&n| n > 0);
        let block = block.ok_or(contradiction("its block has no size"))?;
        let area = block.checked_mul(block).ok_or(TOO_LARGE)?;
        let times = |n: u32, by: u32| n.checked_mul(by).ok_or(TOO_LARGE);
        one(match self.node.op_type() {
            "DepthToSpace" => vec![batch, channels / area, times(height, block)?, times(width, block)?],
            _ => vec![batch, times(channels, area)?, height / block, width / block],
        })
    }

    fn resize(&self) -> Result<Vec<Value>, Missing> {
        let shape = self.shape(0)?;
        // Until operator set 10 the factors are the second operand, from 11 on the third after a region of interest.
        let is_old = self.node.op_type() == "Upsample" || self.node.input.len() == 2;
        let (factors, wanted) = if is_old { (1, usize::MAX) } else { (2, 3) };
        let axes = match self.ints_attribute("axes") {
            Some(axes) if axes.len() <= MAX_RANK => {
                axes.iter().map(|&at| axis(at, shape.len())).collect::<Result<Vec<_>, _>>()?
            }
            Some(_) => return Err(AXIS),
            None => (0..shape.len()).collect(),
        };
        let mut result = shape.to_vec();
        if self.has(wanted) {
            let wanted = sizes(&self.ints(wanted)?)?;
            if self.attribute("keep_aspect_ratio_policy").is_some_and(|policy| policy.s() != b"stretch") {
                return Err(Reason::Operator.into());
            }
            if wanted.len() != axes.len() {
                return Err(RANK);
            }
            axes.iter().zip(wanted).for_each(|(&axis, size)| result[axis] = size);
            return one(result);
        }
        let factors = match self.attribute("scales") {
            Some(scales) => scales.floats.iter().map(|&x| f64::from(x)).collect(),
            None => {
                self.shape(factors)?;
                self.content(factors).ok_or(VALUES)?.floats()
            }
        };
        if factors.len() != axes.len() {
            return Err(RANK);
        }
        for (&axis, factor) in axes.iter().zip(factors) {
            let size = (f64::from(result[axis]) * factor).floor();
            if !(0.0..=f64::from(u32::MAX)).contains(&size) {
                return Err(TOO_LARGE);
            }
            result[axis] = size as u32;
        }
        one(result)
    }

    fn top_k(&self) -> Result<Vec<Value>, Missing> {
        let mut shape = self.shape(0)?.to_vec();
        let axis = axis(self.int("axis").unwrap_or(-1), shape.len())?;
        let count = match self.int("k") {
            Some(count) => count,
            None => *self.ints(1)?.first().ok_or(FEW_OPERANDS)?,
        };
        shape[axis] = u32::try_from(count).map_err(|_| TOO_LARGE)?;
        Ok(vec![shape_only(shape.clone()), shape_only(shape)])
    }

    fn one_hot(&self) -> Result<Vec<Value>, Missing> {
        let indices = self.shape(0)?;
        let depth = *self.ints(1)?.first().ok_or(FEW_OPERANDS)?;
        let depth = u32::try_from(depth).map_err(|_| TOO_LARGE)?;
        let axis = axis(self.int("axis").unwrap_or(-1), indices.len() + 1)?;
        one(ranked([&indices[..axis], &[depth], &indices[axis..]].concat())?)
    }
}

fn shape_only(shape: Vec<u32>) -> Value {
    Value { shape, content: None }
}

fn one(shape: Vec<u32>) -> Result<Vec<Value>, Missing> {
    Ok(vec![shape_only(ranked(shape)?)])
}

fn ranked(shape: Vec<u32>) -> Result<Vec<u32>, Missing> {
    if shape.len() <= MAX_RANK { Ok(shape) } else { Err(TOO_LARGE) }
}

/// A list of integers as a result.
fn list(values: Vec<i64>) -> Result<Vec<Value>, Missing> {
    let shape = vec![u32::try_from(values.len()).map_err(|_| TOO_LARGE)?];
    let content = (values.len() <= MAX_VALUES).then(|| Content::Ints(values.into()));
    Ok(vec![Value { shape, content }])
}

/// An axis counted from the front; a negative one counts from the back.
fn axis(at: i64, rank: usize) -> Result<usize, Missing> {
    let at = if at < 0 { at.saturating_add(rank as i64) } else { at };
    usize::try_from(at).ok().filter(|&at| at < rank).ok_or(AXIS)
}

/// Values as the sizes of a shape.
fn sizes(values: &[i64]) -> Result<Vec<u32>, Missing> {
    if values.len() > MAX_RANK {
        return Err(TOO_LARGE);
    }
    values.iter().map(|&n| u32::try_from(n).map_err(|_| TOO_LARGE)).collect()
}

fn sizes_of_parts(values: &[i64], outputs: usize) -> Result<Vec<u32>, Missing> {
    if values.len() != outputs {
        return Err(contradiction("it has not as many parts as results"));
    }
    values.iter().map(|&n| u32::try_from(n).map_err(|_| TOO_LARGE)).collect()
}

/// The shape with these axes as one, or without them.
fn without(shape: &[u32], axes: &[usize], keep: bool) -> Vec<u32> {
    let size = |(axis, &size): (usize, &u32)| match (axes.contains(&axis), keep) {
        (false, _) => Some(size),
        (true, true) => Some(1),
        (true, false) => None,
    };
    shape.iter().enumerate().filter_map(size).collect()
}

/// How far apart neighbours lie along each dimension of a tensor in row-major order.
fn row_major(shape: &[u32]) -> Vec<u64> {
    (0..shape.len()).map(|axis| element_count(&shape[axis + 1..])).collect()
}

/// For each element of a shape, where it is taken from: `along` gives its place along a dimension, which counts
/// `distances` elements. `None` for no elements, too many, and places before the first.
fn places(shape: &[u32], distances: &[u64], along: impl Fn(usize, u32) -> Option<i64>) -> Option<Vec<usize>> {
    if !(1..=MAX_VALUES as u64).contains(&element_count(shape)) {
        return None;
    }
    let mut places = vec![0_u64];
    for (axis, &size) in shape.iter().enumerate() {
        let steps = (0..size).map(|i| u64::try_from(along(axis, i)?).ok()?.checked_mul(distances[axis]));
        let steps = steps.collect::<Option<Vec<_>>>()?;
        places = places.iter().flat_map(|place| steps.iter().map(move |step| place.saturating_add(*step))).collect();
    }
    places.into_iter().map(|place| usize::try_from(place).ok()).collect()
}

/// The shape that both can be repeated to: missing dimensions in front and ones stand for any size.
fn broadcast(a: &[u32], b: &[u32]) -> Result<Vec<u32>, Missing> {
    let rank = a.len().max(b.len());
    let size = |shape: &[u32], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |at| shape[at]);
    let both = |axis| match (size(a, axis), size(b, axis)) {
        (1, n) | (n, 1) => Ok(n),
        (n, m) if n == m => Ok(n),
        _ => Err(contradiction("its operands have shapes that do not fit each other")),
    };
    (0..rank).map(both).collect()
}
