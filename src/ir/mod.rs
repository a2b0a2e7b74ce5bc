//! The graph a backbone is generated as: typed values in an arena, weights as recipes.
//!
//! A [`Graph`] that exists is valid: only [`GraphBuilder`] makes one, and it infers the type of every value as it is
//! added. Operands come before their users, so there are no cycles and storage order is execution order. Every op has
//! exactly one result, so a value *is* its op. Paths (`stage2.block1.conv1`) are labels for people and for ONNX; edges
//! are [`ValueId`]s.
//!
//! Weights are not numbers here but how to make them ([`weight`]), so that a large network stays small until it is
//! written.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use crate::conv::ConvProblem;
use crate::tensor::TensorType;
use crate::units::{Bytes, Flops};

pub use self::builder::{BuildError, GraphBuilder, Label};
pub use self::op::{Activation, Op, ShapeError, Window};
pub use self::verify::{VerifyError, verify};
pub use self::weight::{ChannelAffine, Init, Seeded, Weight, WeightSource, WriteError};

mod builder;
mod moments;
mod op;
mod text;
mod verify;
pub mod weight;

/// A place in an arena of `T`.
pub struct Id<T> {
    index: u32,
    of: PhantomData<fn() -> T>,
}

/// A value of a [`Graph`].
pub type ValueId = Id<Value>;
/// A weight of a [`Graph`].
pub type WeightId = Id<Weight>;

impl<T> Id<T> {
    fn new(index: usize) -> Self {
        // An arena of 2^32 values does not fit into memory.
        Self { index: u32::try_from(index).unwrap_or(u32::MAX), of: PhantomData }
    }

    /// The position in storage order, from 0.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Id<T> {}

impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index
    }
}

impl<T> Eq for Id<T> {}

impl<T> Hash for Id<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.index.hash(state);
    }
}

impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.index)
    }
}

impl<T> fmt::Display for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.index)
    }
}

/// A valid network: see the [module](self) for what that means.
#[derive(Debug, Clone)]
pub struct Graph {
    name: String,
    values: Vec<Value>,
    weights: Vec<Weight>,
    outputs: Vec<Output>,
}

/// An input of the network, or the one result of an op.
#[derive(Debug, Clone)]
pub struct Value {
    path: String,
    ty: TensorType,
    def: Def,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Def {
    /// It is given when the network runs.
    Input,
    /// It is computed.
    Op {
        /// What computes it.
        op: Op,
        /// The operands.
        args: Vec<ValueId>,
    },
}

/// A value the network hands out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Name of the output.
    pub name: String,
    /// Which value it is.
    pub value: ValueId,
}

impl Value {
    /// Label of the value, its scopes joined by dots: `stage2.block1.conv1`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Element type and dimensions.
    pub fn ty(&self) -> &TensorType {
        &self.ty
    }

    /// Where it comes from.
    pub fn def(&self) -> &Def {
        &self.def
    }

    /// Its op, unless it is an input.
    pub fn op(&self) -> Option<&Op> {
        match &self.def {
            Def::Input => None,
            Def::Op { op, .. } => Some(op),
        }
    }

    /// The operands of its op; none for an input.
    pub fn args(&self) -> &[ValueId] {
        match &self.def {
            Def::Input => &[],
            Def::Op { args, .. } => args,
        }
    }
}

impl Graph {
    /// Name of the network.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All values in execution order.
    pub fn values(&self) -> impl ExactSizeIterator<Item = (ValueId, &Value)> {
        self.values.iter().enumerate().map(|(i, value)| (Id::new(i), value))
    }

    /// One value.
    ///
    /// # Panics
    /// If the id is another graph's and lies outside this one.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// All weights in the order in which they were made.
    pub fn weights(&self) -> impl ExactSizeIterator<Item = (WeightId, &Weight)> {
        self.weights.iter().enumerate().map(|(i, weight)| (Id::new(i), weight))
    }

    /// One weight.
    ///
    /// # Panics
    /// If the id is another graph's and lies outside this one.
    pub fn weight(&self, id: WeightId) -> &Weight {
        &self.weights[id.index()]
    }

    /// What the network hands out.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// The values given when the network runs.
    pub fn inputs(&self) -> impl Iterator<Item = (ValueId, &Value)> {
        self.values().filter(|(_, value)| value.def == Def::Input)
    }

    /// The same graph with the scalars of every learnable affine known, as the source has them: passes can then look
    /// at them.
    ///
    /// # Errors
    /// If the source cannot be read: the name of the weight, and why.
    pub fn with_scalars_of<S: WeightSource>(mut self, source: &S) -> Result<Self, (String, S::Error)> {
        let ops = self.values.iter().filter_map(Value::op);
        let scalars = ops.filter_map(|op| match op {
            Op::Affine { scale, bias } => Some([*scale, *bias]),
            _ => None,
        });
        for id in scalars.flatten().collect::<Vec<_>>() {
            let weight = &self.weights[id.index()];
            let values = weight.values(source).map_err(|error| (weight.name().to_owned(), error))?;
            self.weights[id.index()] = Weight::new(weight.name(), weight.shape(), Init::Values(values.into()));
        }
        Ok(self)
    }

    /// How often each value is an operand or an output.
    pub fn use_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.values.len()];
        let args = self.values.iter().flat_map(|value| value.args().iter().copied());
        for id in args.chain(self.outputs.iter().map(|output| output.value)) {
            counts[id.index()] += 1;
        }
        counts
    }

    /// The convolution that one value is the result of, at this batch size; `None` if it is another op's.
    pub fn conv_problem(&self, id: ValueId, batch: u32) -> Option<ConvProblem> {
        let value = self.value(id);
        let Some(Op::Conv { conv, .. }) = value.op() else { return None };
        let input = self.value(*value.args().first()?).ty();
        let [n, channels, height, width] = input.shape(batch)[..] else { return None };
        let out = value.ty().shape(batch).get(1).copied()?;
        ConvProblem::new(*conv, n, channels, out, [height, width], input.dtype).ok()
    }

    /// Operations of one value's op at this batch size, wherever the batch is free.
    pub fn flops_of(&self, id: ValueId, batch: u32) -> Flops {
        let value = self.value(id);
        let Some(op) = value.op() else { return Flops::default() };
        let args: Vec<&TensorType> = value.args().iter().map(|&arg| self.value(arg).ty()).collect();
        op.flops(&args, value.ty(), batch)
    }

    /// Operations of the whole network at this batch size.
    pub fn flops(&self, batch: u32) -> Flops {
        self.values().map(|(id, _)| self.flops_of(id, batch)).sum()
    }

    /// Number of values in one op's weights.
    pub fn parameters_of(&self, id: ValueId) -> u64 {
        let op = self.value(id).op();
        op.map_or(0, |op| op.weights().map(|weight| self.weight(weight).elements()).sum())
    }

    /// Number of values in all weights.
    pub fn parameters(&self) -> u64 {
        self.weights.iter().map(Weight::elements).sum()
    }

    /// Bytes one op has to move at the least: operands, weights and result once each.
    pub fn min_bytes_of(&self, id: ValueId, batch: u32) -> Bytes {
        let value = self.value(id);
        if value.def == Def::Input {
            return Bytes::default();
        }
        let args = value.args().iter().map(|&arg| self.value(arg).ty().bytes(batch)).sum::<Bytes>();
        args + value.ty().bytes(batch) + Bytes(self.parameters_of(id) * value.ty().dtype.size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::Conv;
    use crate::tensor::Dim;

    #[test]
    fn costs_add_up() {
        let mut g = GraphBuilder::new("two");
        let x = g.input("image", TensorType::f32([Dim::Batch, Dim::Fixed(3), Dim::Fixed(8), Dim::Fixed(8)])).unwrap();
        let a = g.conv("a", x, Conv::square(3), 4).unwrap();
        let b = g.conv("b", a, Conv::square(1), 4).unwrap();
        let sum = g.add("sum", a, b).unwrap();
        let graph = g.finish([("out", sum)]).unwrap();

        let a_flops = 2 * 64 * 4 * 3 * 9;
        let b_flops = 2 * 64 * 4 * 4;
        assert_eq!(graph.flops(1), Flops(a_flops + b_flops + 64 * 4));
        assert_eq!(graph.flops(3), graph.flops(1) * 3);
        assert_eq!(graph.parameters(), 4 * 3 * 9 + 4 * 4);
        assert_eq!(graph.min_bytes_of(b, 1), Bytes(4 * (64 * 4 + 16 + 64 * 4)));
        assert_eq!(graph.use_counts(), [1, 2, 1, 1]);
    }
}
