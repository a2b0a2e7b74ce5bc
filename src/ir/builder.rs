//! Making graphs: every call infers the type of its result and fails there and then, naming the place.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::conv::Conv;
use crate::ir::moments::Moments;
use crate::ir::op::{Activation, Op, ShapeError, Window, features, image};
use crate::ir::verify::name_taken;
use crate::ir::{Def, Graph, Id, Init, Output, Value, ValueId, Weight, WeightId};
use crate::tensor::{DType, Dim, TensorType};

/// Where building failed, and on what.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("cannot build `{path}` ({op}){}", on(inputs))]
pub struct BuildError {
    /// Path of the value that could not be made.
    pub path: String,
    /// Name of its op.
    pub op: &'static str,
    /// Types of its operands.
    pub inputs: Vec<TensorType>,
    /// Why.
    pub source: ShapeError,
}

fn on(inputs: &[TensorType]) -> String {
    let inputs: Vec<String> = inputs.iter().map(ToString::to_string).collect();
    if inputs.is_empty() { String::new() } else { format!(" on {}", inputs.join(", ")) }
}

/// What a value or a scope is called, and what its parameters are called.
///
/// The two differ where a published network's parameter names are kept: values are named for readers of the graph,
/// parameters for the files they come from. A plain text is both.
///
/// ```
/// use bbc::conv::Conv;
/// use bbc::ir::{GraphBuilder, Label};
/// use bbc::tensor::{Dim, TensorType};
///
/// let mut g = GraphBuilder::new("one");
/// let x = g.input("image", TensorType::f32([1, 3, 8, 8].map(Dim::Fixed)))?;
/// let y = g.scope(Label::new("stage1", "stages.0"), |g| g.conv(Label::new("conv1", "layers.0"), x, Conv::square(3), 4))?;
/// let graph = g.finish([("out", y)])?;
/// assert_eq!(graph.value(y).path(), "stage1.conv1");
/// assert_eq!(graph.weights().next().map(|(_, weight)| weight.name()), Some("stages.0.layers.0.weight"));
/// # Ok::<(), bbc::ir::BuildError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Label<'a> {
    value: Cow<'a, str>,
    parameters: Cow<'a, str>,
}

impl<'a> Label<'a> {
    /// A label whose value and whose parameters have names of their own. Parameters of no name are called after the
    /// scope alone.
    pub fn new(value: impl Into<Cow<'a, str>>, parameters: impl Into<Cow<'a, str>>) -> Self {
        Self { value: value.into(), parameters: parameters.into() }
    }

    /// What the value is called.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The label of something below this one; an empty name stays at this one's.
    pub fn below(&self, value: &str, parameters: &str) -> Label<'static> {
        Label::new(join(&self.value, value), join(&self.parameters, parameters))
    }
}

impl<'a> From<&'a str> for Label<'a> {
    fn from(name: &'a str) -> Self {
        Self::new(name, name)
    }
}

impl<'a> From<&'a String> for Label<'a> {
    fn from(name: &'a String) -> Self {
        Self::from(name.as_str())
    }
}

impl From<String> for Label<'_> {
    fn from(name: String) -> Self {
        Self::new(name.clone(), name)
    }
}

/// Two names, one below the other; an empty one is left out.
fn join(above: &str, below: &str) -> String {
    if above.is_empty() || below.is_empty() { format!("{above}{below}") } else { format!("{above}.{below}") }
}

/// Makes a [`Graph`], value by value.
///
/// ```
/// use bbc::conv::Conv;
/// use bbc::ir::GraphBuilder;
/// use bbc::tensor::{Dim, TensorType};
///
/// let mut g = GraphBuilder::new("dense3x3");
/// let x = g.input("image", TensorType::f32([1, 3, 224, 224].map(Dim::Fixed)))?;
/// let x = g.scope("stem", |g| {
///     let x = g.conv("conv", x, Conv::square(3).with_stride(2), 32)?;
///     g.relu("act", x)
/// })?;
/// let graph = g.finish([("feature", x)])?;
/// assert_eq!(graph.value(x).ty().to_string(), "f32[1,32,112,112]");
/// # Ok::<(), bbc::ir::BuildError>(())
/// ```
#[derive(Debug)]
pub struct GraphBuilder {
    name: String,
    values: Vec<Value>,
    moments: Vec<Moments>,
    weights: Vec<Weight>,
    paths: HashSet<String>,
    /// The scopes around what is made next, joined: the first for values, the second for parameters.
    scope: Label<'static>,
}

impl GraphBuilder {
    /// An empty graph of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            values: Vec::new(),
            moments: Vec::new(),
            weights: Vec::new(),
            paths: HashSet::new(),
            scope: Label::new("", ""),
        }
    }

    /// Puts everything that `build` makes under `name`.
    pub fn scope<'a, T>(&mut self, label: impl Into<Label<'a>>, build: impl FnOnce(&mut Self) -> T) -> T {
        let label = label.into();
        let inner = self.scope.below(&label.value, &label.parameters);
        let outer = std::mem::replace(&mut self.scope, inner);
        let result = build(self);
        self.scope = outer;
        result
    }

    /// The type of a value made before.
    ///
    /// # Panics
    /// If the value is another builder's.
    pub fn ty(&self, value: ValueId) -> &TensorType {
        &self.values[value.index()].ty
    }

    /// Channels of a value: its second dimension, or 0 if that is not fixed.
    pub fn channels(&self, value: ValueId) -> u32 {
        match self.ty(value).dims.get(1) {
            Some(Dim::Fixed(channels)) => *channels,
            Some(Dim::Batch | Dim::Side(_)) | None => 0,
        }
    }

    /// An input of the network.
    ///
    /// # Errors
    /// If the name is taken, or the elements are integers.
    pub fn input(&mut self, name: &str, ty: TensorType) -> Result<ValueId, BuildError> {
        let path = self.path(name);
        let error = |path, source| BuildError { path, op: "input", inputs: Vec::new(), source };
        if ty.dtype == DType::I8 {
            return Err(error(path, ShapeError::ElementType(ty.dtype)));
        }
        self.insert(path, ty, Def::Input, Moments::UNIT).map_err(|(path, source)| error(path, source))
    }

    /// A convolution to `out_channels` without a bias, its kernel named `PARAMETERS.weight`.
    ///
    /// # Errors
    /// If it cannot be computed on `x`.
    pub fn conv<'a>(
        &mut self,
        label: impl Into<Label<'a>>,
        x: ValueId,
        conv: Conv,
        out_channels: u32,
    ) -> Result<ValueId, BuildError> {
        self.any_conv(&label.into(), x, conv, out_channels, false)
    }

    /// A convolution to `out_channels` with a bias, which starts at zero.
    ///
    /// # Errors
    /// If it cannot be computed on `x`.
    pub fn conv_bias<'a>(
        &mut self,
        label: impl Into<Label<'a>>,
        x: ValueId,
        conv: Conv,
        out_channels: u32,
    ) -> Result<ValueId, BuildError> {
        self.any_conv(&label.into(), x, conv, out_channels, true)
    }

    fn any_conv(
        &mut self,
        label: &Label<'_>,
        x: ValueId,
        conv: Conv,
        out_channels: u32,
        with_bias: bool,
    ) -> Result<ValueId, BuildError> {
        let (_, in_channels, size) =
            image(self.ty(x)).map_err(|source| self.error(&label.value, "conv", &[x], source))?;
        let in_group = in_channels.checked_div(conv.groups).unwrap_or(0);
        let taps = conv.mean_taps(size.map(|side| side.size(1))).unwrap_or(1.0);
        let bound = self.uniform_bound(x, taps * f64::from(in_group));
        let shape = [out_channels, in_group, conv.window[0], conv.window[1]];
        let weight = self.named_weight(label, "weight", shape, Init::Uniform { bound });
        let bias = with_bias.then(|| self.named_weight(label, "bias", [out_channels], Init::Constant(0.0)));
        self.push(&label.value, Op::Conv { conv, weight, bias }, &[x])
    }

    /// Batch normalisation with the statistics of the identity.
    ///
    /// # Errors
    /// If `x` is no image.
    pub fn batch_norm<'a>(
        &mut self,
        label: impl Into<Label<'a>>,
        x: ValueId,
        epsilon: f32,
    ) -> Result<ValueId, BuildError> {
        let label = label.into();
        let channels = self.channels(x);
        let mut weight = |what, value| self.named_weight(&label, what, [channels], Init::Constant(value));
        let (scale, shift) = (weight("weight", 1.0), weight("bias", 0.0));
        let (mean, variance) = (weight("running_mean", 0.0), weight("running_var", 1.0));
        self.push(&label.value, Op::BatchNorm { scale, shift, mean, variance, epsilon }, &[x])
    }

    /// The learnable affine `x * scale + bias`, starting as the identity.
    ///
    /// # Errors
    /// If the name is taken.
    pub fn affine<'a>(&mut self, label: impl Into<Label<'a>>, x: ValueId) -> Result<ValueId, BuildError> {
        let label = label.into();
        let scale = self.named_weight(&label, "scale", [1], Init::Constant(1.0));
        let bias = self.named_weight(&label, "bias", [1], Init::Constant(0.0));
        self.push(&label.value, Op::Affine { scale, bias }, &[x])
    }

    /// `max(x, 0)`.
    ///
    /// # Errors
    /// If the name is taken.
    pub fn relu(&mut self, name: &str, x: ValueId) -> Result<ValueId, BuildError> {
        self.push(name, Op::Activation(Activation::Relu), &[x])
    }

    /// `1 / (1 + exp(-x))`.
    ///
    /// # Errors
    /// If the name is taken.
    pub fn sigmoid(&mut self, name: &str, x: ValueId) -> Result<ValueId, BuildError> {
        self.push(name, Op::Activation(Activation::Sigmoid), &[x])
    }

    /// Elementwise sum.
    ///
    /// # Errors
    /// If the types differ.
    pub fn add(&mut self, name: &str, a: ValueId, b: ValueId) -> Result<ValueId, BuildError> {
        self.push(name, Op::Add, &[a, b])
    }

    /// Every channel of `x` times its element of `gate`, an `[n, channels, 1, 1]` value.
    ///
    /// # Errors
    /// If the gate does not fit.
    pub fn gate(&mut self, name: &str, x: ValueId, gate: ValueId) -> Result<ValueId, BuildError> {
        self.push(name, Op::Gate, &[x, gate])
    }

    /// The channels of all values one after the other.
    ///
    /// # Errors
    /// If they differ in anything but their channels, or there are none.
    pub fn concat(&mut self, name: &str, values: &[ValueId]) -> Result<ValueId, BuildError> {
        self.push(name, Op::Concat, values)
    }

    /// Zeros around the image: top, left, bottom, right.
    ///
    /// # Errors
    /// If `x` is no image.
    pub fn pad(&mut self, name: &str, x: ValueId, padding: [u32; 4]) -> Result<ValueId, BuildError> {
        self.push(name, Op::Pad(padding), &[x])
    }

    /// The greatest value under a window.
    ///
    /// # Errors
    /// If the window does not fit.
    pub fn max_pool(&mut self, name: &str, x: ValueId, window: Window) -> Result<ValueId, BuildError> {
        self.push(name, Op::MaxPool(window), &[x])
    }

    /// The mean under a window, without padding.
    ///
    /// # Errors
    /// If the window does not fit.
    pub fn average_pool(&mut self, name: &str, x: ValueId, window: Window) -> Result<ValueId, BuildError> {
        self.push(name, Op::AveragePool(window), &[x])
    }

    /// The mean of each channel, as a 1x1 image.
    ///
    /// # Errors
    /// If `x` is no image.
    pub fn global_average_pool(&mut self, name: &str, x: ValueId) -> Result<ValueId, BuildError> {
        self.push(name, Op::GlobalAveragePool, &[x])
    }

    /// An image as one row of features.
    ///
    /// # Errors
    /// If `x` is no image.
    pub fn flatten(&mut self, name: &str, x: ValueId) -> Result<ValueId, BuildError> {
        self.push(name, Op::Flatten, &[x])
    }

    /// A fully connected layer with a bias, which starts at zero.
    ///
    /// # Errors
    /// If `x` is no row of features.
    pub fn linear<'a>(
        &mut self,
        label: impl Into<Label<'a>>,
        x: ValueId,
        out_features: u32,
    ) -> Result<ValueId, BuildError> {
        let label = label.into();
        let (_, in_features) =
            features(self.ty(x)).map_err(|source| self.error(&label.value, "linear", &[x], source))?;
        let bound = self.uniform_bound(x, f64::from(in_features));
        let weight = self.named_weight(&label, "weight", [out_features, in_features], Init::Uniform { bound });
        let bias = self.named_weight(&label, "bias", [out_features], Init::Constant(0.0));
        self.push(&label.value, Op::Linear { weight, bias: Some(bias) }, &[x])
    }

    /// A weight for ops that are added with [`push`](Self::push).
    pub fn weight(&mut self, weight: Weight) -> WeightId {
        self.weights.push(weight);
        Id::new(self.weights.len() - 1)
    }

    /// Any op on any operands, under the current scope.
    ///
    /// # Errors
    /// If the op cannot be computed on them, or the name is taken.
    pub fn push(&mut self, name: &str, op: Op, args: &[ValueId]) -> Result<ValueId, BuildError> {
        let path = self.path(name);
        self.push_at(path, op, args)
    }

    /// Any op under a complete path, whatever the scope.
    pub(crate) fn push_at(&mut self, path: String, op: Op, args: &[ValueId]) -> Result<ValueId, BuildError> {
        let types: Vec<&TensorType> = args.iter().map(|&arg| self.ty(arg)).collect();
        let name = op.name();
        let inferred = op.infer(&types, |id| &self.weights[id.index()]);
        let moments: Vec<_> = args.iter().map(|&arg| (self.moments[arg.index()], self.channels(arg))).collect();
        let inputs = || types.iter().map(|&ty| ty.clone()).collect();
        match inferred {
            Ok(ty) => {
                let area = types.first().map_or(1.0, |first| ty.elements(1) as f64 / first.elements(1).max(1) as f64);
                let moments = Moments::of(&op, &moments, area);
                let inputs = inputs();
                let def = Def::Op { op, args: args.to_vec() };
                self.insert(path, ty, def, moments).map_err(|(path, source)| BuildError {
                    path,
                    op: name,
                    inputs,
                    source,
                })
            }
            Err(source) => Err(BuildError { path, op: name, inputs: inputs(), source }),
        }
    }

    /// The graph, handing out these values under these names. Values that no output needs are left out.
    ///
    /// # Errors
    /// If two outputs or weights have the same name, or one has a value's that it is not.
    pub fn finish<'a>(self, outputs: impl IntoIterator<Item = (&'a str, ValueId)>) -> Result<Graph, BuildError> {
        let outputs = outputs.into_iter().map(|(name, value)| Output { name: name.to_owned(), value }).collect();
        let graph = self.without_unused(outputs);
        match name_taken(&graph) {
            Some((_, name)) => {
                let op = if graph.outputs.iter().any(|output| output.name == name) { "output" } else { "weight" };
                Err(BuildError { path: name.to_owned(), op, inputs: Vec::new(), source: ShapeError::NameTaken })
            }
            None => Ok(graph),
        }
    }

    fn without_unused(self, outputs: Vec<Output>) -> Graph {
        let mut used = vec![false; self.values.len()];
        for output in &outputs {
            used[output.value.index()] = true;
        }
        for (i, value) in self.values.iter().enumerate().rev() {
            used[i] |= value.def == Def::Input;
            if used[i] {
                value.args().iter().for_each(|arg| used[arg.index()] = true);
            }
        }
        let mut weight_ids: Vec<Option<WeightId>> = vec![None; self.weights.len()];
        let mut weights: Vec<Option<Weight>> = self.weights.into_iter().map(Some).collect();
        let mut kept_weights = Vec::new();
        let mut value_ids: Vec<ValueId> = Vec::with_capacity(used.len());
        let mut values = Vec::new();
        for (value, used) in self.values.into_iter().zip(used) {
            value_ids.push(Id::new(values.len()));
            if !used {
                continue;
            }
            let def = match value.def {
                Def::Input => Def::Input,
                Def::Op { op, args } => Def::Op {
                    op: op.map_weights(|id| {
                        *weight_ids[id.index()].get_or_insert_with(|| {
                            kept_weights.extend(weights[id.index()].take());
                            Id::new(kept_weights.len() - 1)
                        })
                    }),
                    args: args.into_iter().map(|arg| value_ids[arg.index()]).collect(),
                },
            };
            values.push(Value { def, ..value });
        }
        let outputs = outputs.into_iter().map(|o| Output { value: value_ids[o.value.index()], ..o }).collect();
        Graph { name: self.name, values, weights: kept_weights, outputs }
    }

    /// Half-width of the uniform distribution that gives a sum over `fan_in` products with elements of `x` a second
    /// moment of one.
    fn uniform_bound(&self, x: ValueId, fan_in: f64) -> f32 {
        // The variance of a uniform distribution is a third of its squared half-width.
        (3.0 / (fan_in * self.moments[x.index()].square).max(f64::MIN_POSITIVE)).sqrt() as f32
    }

    fn named_weight(&mut self, of: &Label<'_>, what: &str, shape: impl Into<Vec<u32>>, init: Init) -> WeightId {
        let name = join(&join(&self.scope.parameters, &of.parameters), what);
        self.weight(Weight::new(name, shape, init))
    }

    fn path(&self, name: &str) -> String {
        join(&self.scope.value, name)
    }

    fn error(&self, name: &str, op: &'static str, args: &[ValueId], source: ShapeError) -> BuildError {
        let inputs = args.iter().map(|&arg| self.ty(arg).clone()).collect();
        BuildError { path: self.path(name), op, inputs, source }
    }

    fn insert(
        &mut self,
        path: String,
        ty: TensorType,
        def: Def,
        moments: Moments,
    ) -> Result<ValueId, (String, ShapeError)> {
        if !self.paths.insert(path.clone()) {
            return Err((path, ShapeError::NameTaken));
        }
        self.values.push(Value { path, ty, def });
        self.moments.push(moments);
        Ok(Id::new(self.values.len() - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Axis, Side};

    fn image_of(channels: u32, size: u32) -> TensorType {
        TensorType::f32([1, channels, size, size].map(Dim::Fixed))
    }

    fn shown(error: &BuildError) -> String {
        format!("{error}: {}", error.source)
    }

    #[test]
    fn failures_name_the_place_and_the_reason() {
        let mut g = GraphBuilder::new("x");
        let x = g.input("image", image_of(72, 8)).unwrap();
        let row = g.flatten("row", x).unwrap();
        let grouped = Conv::square(3).with_groups(16);
        let error = g.scope("stage2", |g| g.scope("block1", |g| g.conv("conv", x, grouped, 32))).unwrap_err();
        assert_eq!(
            shown(&error),
            "cannot build `stage2.block1.conv` (conv) on f32[1,72,8,8]: 16 groups do not divide 72 input channels"
        );
        for (error, expected) in [
            (g.conv("c", x, Conv::square(3), 0), "the number of output channels is zero"),
            (g.conv("c", x, Conv::square(3).with_groups(0), 8), "the number of groups is zero"),
            (g.conv("c", row, Conv::square(3), 8), "an operand with 4 dimensions is needed, not f32[1,4608]"),
            (g.linear("c", row, 0), "the number of output features is zero"),
            (g.linear("c", row, 1 << 20), "its weight has 4831838208 elements, more than the 2147483647 supported"),
            (g.linear("c", x, 8), "an operand with 2 dimensions is needed, not f32[1,72,8,8]"),
            (g.add("c", x, row), "the operands differ: f32[1,72,8,8] and f32[1,4608]"),
            (g.gate("c", x, x), "the operands differ: f32[1,72,1,1] and f32[1,72,8,8]"),
            (g.concat("c", &[]), "1 or more operands are needed, 0 were given"),
            (g.max_pool("c", x, Window::square(9, 1, 0)), "a 9x9 window does not fit a 8x8 input"),
            (g.max_pool("c", x, Window::square(2, 2, 2)), "a 2x2 window does not fit a 8x8 input"),
            (g.pad("c", x, [u32::MAX; 4]), "the result has a dimension of more than 4294967295"),
            (g.relu("row", x), "there is another value of that name"),
        ] {
            assert_eq!(error.unwrap_err().source.to_string(), expected);
        }
    }

    #[test]
    fn what_would_depend_on_a_free_size_is_refused() {
        let mut g = GraphBuilder::new("x");
        let [height, width] = [Axis::Height, Axis::Width].map(|axis| Dim::Side(Side::of_input(axis, 8)));
        let x = g.input("image", TensorType::f32([Dim::Batch, Dim::Fixed(3), height, width])).unwrap();
        let even = Conv::square(2).with_padding([0; 4]).with_stride(2);
        for (error, expected) in [
            (
                g.flatten("row", x),
                "cannot build `row` (flatten) on f32[N,3,H,W]: \
                 the size of the image is free, and the number of features would depend on it",
            ),
            (
                g.conv("a", x, even, 4),
                "cannot build `a` (conv) on f32[N,3,H,W]: \
                 the size of the image is free, and that of the result is no plain part of it",
            ),
            (
                g.max_pool("b", x, Window::square(2, 2, 0)),
                "cannot build `b` (max_pool) on f32[N,3,H,W]: \
                 the size of the image is free, and that of the result is no plain part of it",
            ),
        ] {
            assert_eq!(shown(&error.unwrap_err()), expected);
        }
        let y = g.conv("down", x, Conv::square(3).with_stride(2), 4).unwrap();
        assert_eq!(g.ty(y).to_string(), "f32[N,4,H/2,W/2]");
        let y = g.pad("pad", y, [0, 0, 1, 2]).unwrap();
        assert_eq!(g.ty(y).to_string(), "f32[N,4,H/2+1,W/2+2]");
        let means = g.global_average_pool("means", y).unwrap();
        assert_eq!(g.flatten("features", means).map(|row| g.ty(row).to_string()), Ok("f32[N,4]".to_owned()));
    }

    #[test]
    fn a_name_belongs_to_one_thing() {
        let built = |outputs: &[&str], weight: &str| {
            let mut g = GraphBuilder::new("x");
            let x = g.input("image", image_of(3, 8)).unwrap();
            let x = g.conv("a", x, Conv::square(1), 3).unwrap();
            let scale = g.weight(Weight::new(weight, [1], Init::Constant(1.0)));
            let x = g.push("b", Op::Affine { scale, bias: scale }, &[x]).unwrap();
            g.finish(outputs.iter().map(|name| (*name, x))).map(drop).map_err(|error| shown(&error))
        };
        assert_eq!(built(&["out", "b"], "scale"), Ok(()));
        for (outputs, weight, expected) in [
            (&["out", "out"][..], "scale", "cannot build `out` (output)"),
            (&["a"], "scale", "cannot build `a` (output)"),
            (&["image"], "scale", "cannot build `image` (output)"),
            (&["scale"], "scale", "cannot build `scale` (output)"),
            (&["out"], "a.weight", "cannot build `a.weight` (weight)"),
            (&["out"], "a", "cannot build `a` (weight)"),
        ] {
            let expected = format!("{expected}: there is another value of that name");
            assert_eq!(built(outputs, weight), Err(expected));
        }
    }

    #[test]
    fn what_no_output_needs_is_left_out() {
        let mut g = GraphBuilder::new("x");
        let x = g.input("image", image_of(3, 8)).unwrap();
        let unused = g.conv("unused", x, Conv::square(3), 4).unwrap();
        let used = g.conv("used", x, Conv::square(3), 4).unwrap();
        g.add("sum", unused, used).unwrap();
        let graph = g.finish([("out", used)]).unwrap();
        let paths: Vec<_> = graph.values().map(|(_, value)| value.path()).collect();
        assert_eq!(paths, ["image", "used"]);
        let weights: Vec<_> = graph.weights().map(|(_, weight)| weight.name()).collect();
        assert_eq!(weights, ["used.weight"]);
    }

    #[test]
    fn kernels_are_scaled_to_their_input() {
        let mut g = GraphBuilder::new("x");
        let x = g.input("image", image_of(3, 100)).unwrap();
        let a = g.conv("a", x, Conv::square(1), 12).unwrap();
        let act = g.relu("act", a).unwrap();
        let b = g.conv("b", act, Conv::square(1), 4).unwrap();
        let graph = g.finish([("out", b)]).unwrap();
        let bounds: Vec<_> = graph.weights().map(|(_, w)| w.init().clone()).collect();
        // 3 / 3 inputs of unit square; 3 / (12 inputs of half the square).
        assert_eq!(bounds, [Init::Uniform { bound: 1.0 }, Init::Uniform { bound: 0.5f32.sqrt() }]);
    }
}
