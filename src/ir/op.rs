//! The ops of the graph: the type of their result, what they cost, which weights they have.

use crate::conv::{Conv, ConvProblem, MAX_ELEMENTS, ProblemError, positions};
use crate::ir::{Weight, WeightId};
use crate::tensor::{DType, Dim, TensorType, element_count};
use crate::units::Flops;

/// What computes a value. Images are NCHW.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Convolution; the weight is `[out, in / groups, height, width]`, the bias `[out]`.
    Conv {
        /// Window, stride, padding, dilation and groups.
        conv: Conv,
        /// The kernel.
        weight: WeightId,
        /// Added to every position of a channel.
        bias: Option<WeightId>,
    },
    /// `(x - mean) / sqrt(variance + epsilon) * scale + shift` in each channel; the weights are `[channels]`.
    BatchNorm {
        /// Factor of each channel.
        scale: WeightId,
        /// Added to each channel afterwards.
        shift: WeightId,
        /// Running mean of each channel.
        mean: WeightId,
        /// Running variance of each channel.
        variance: WeightId,
        /// Keeps the root away from zero.
        epsilon: f32,
    },
    /// `x * scale + bias` with two learned scalars, weights of shape `[1]`: the learnable affine block of PP-HGNetV2.
    Affine {
        /// The factor.
        scale: WeightId,
        /// What is added.
        bias: WeightId,
    },
    /// An elementwise function.
    Activation(Activation),
    /// Elementwise sum of two values of the same type.
    Add,
    /// Product with a gate: every channel of the first operand times the `[n, channels, 1, 1]` second one.
    Gate,
    /// The operands' channels one after the other.
    Concat,
    /// Zeros around the image: top, left, bottom, right.
    Pad([u32; 4]),
    /// The greatest value under the window; padding never wins.
    MaxPool(Window),
    /// The mean under the window; padding does not count.
    AveragePool(Window),
    /// The mean of each channel, as a 1x1 image.
    GlobalAveragePool,
    /// `[n, c, h, w]` to `[n, c * h * w]`.
    Flatten,
    /// Fully connected layer; the weight is `[out, in]`, the bias `[out]`.
    Linear {
        /// The matrix.
        weight: WeightId,
        /// Added to the product.
        bias: Option<WeightId>,
    },
}

/// An elementwise function.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `x` kept inside the bounds that are given.
    Clip {
        /// Lower bound.
        min: Option<f32>,
        /// Upper bound.
        max: Option<f32>,
    },
}

/// The window of a pool, `[height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Height and width.
    pub size: [u32; 2],
    /// Steps between two positions.
    pub stride: [u32; 2],
    /// Top, left, bottom, right.
    pub padding: [u32; 4],
}

impl Window {
    /// A `size` × `size` window with this stride and the same padding on all sides.
    pub fn square(size: u32, stride: u32, padding: u32) -> Self {
        Self { size: [size; 2], stride: [stride; 2], padding: [padding; 4] }
    }

    fn output(&self, input: [u32; 2]) -> Option<[u32; 2]> {
        let [top, left, bottom, right] = self.padding;
        Some([
            positions(input[0], [top, bottom], self.size[0], self.stride[0], 1)?,
            positions(input[1], [left, right], self.size[1], self.stride[1], 1)?,
        ])
    }

    /// The window as a convolution has it.
    fn as_conv(&self) -> Conv {
        let Self { size: window, stride, padding } = *self;
        Conv { window, stride, padding, dilation: [1; 2], groups: 1 }
    }
}

/// Why the type of a result cannot be computed. Knows nothing of the graph.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ShapeError {
    /// The convolution is impossible.
    #[error(transparent)]
    Conv(#[from] ProblemError),
    /// An operand is not an image, or not a row of features.
    #[error("an operand with {expected} dimensions is needed, not {ty}")]
    Rank {
        /// How many dimensions are needed.
        expected: usize,
        /// What was given.
        ty: TensorType,
    },
    /// Two operands have to be of one type and are not.
    #[error("the operands differ: {left} and {right}")]
    OperandsDiffer {
        /// First operand.
        left: TensorType,
        /// The one that differs.
        right: TensorType,
    },
    /// Another number of operands is needed.
    #[error("{expected} operands are needed, {actual} were given")]
    OperandCount {
        /// How many are needed.
        expected: &'static str,
        /// How many were given.
        actual: usize,
    },
    /// The window of a pool does not fit into its padded input, or only covers padding.
    #[error("a {}x{} window does not fit a {}x{} input", window[0], window[1], input[0], input[1])]
    WindowLargerThanInput {
        /// Height and width of the window.
        window: [u32; 2],
        /// Height and width of the input.
        input: [u32; 2],
    },
    /// A weight does not have the shape the op needs.
    #[error("weight `{name}` has shape {actual:?}, {expected:?} is needed")]
    WeightShape {
        /// Name of the weight.
        name: String,
        /// What the op needs.
        expected: Vec<u32>,
        /// What it has.
        actual: Vec<u32>,
    },
    /// A size does not fit into 32 bits.
    #[error("the result has a dimension of more than {}", u32::MAX)]
    Overflow,
    /// The element type is not one that ops compute in.
    #[error("{0} is not an element type that ops compute in; f32, f16 and bf16 are")]
    ElementType(DType),
    /// The path is another value's.
    #[error("there is another value of that name")]
    NameTaken,
    /// What comes out depends on the size of the image in a way that cannot be said before that is known.
    #[error("the size of the image is free, and {what}")]
    FreeSize {
        /// What follows from that.
        what: &'static str,
    },
}

/// A value's type read as an image: batch, channels, height and width, of which neither is free as a batch is.
pub(super) fn image(ty: &TensorType) -> Result<(Dim, u32, [Dim; 2]), ShapeError> {
    match ty.dims[..] {
        [
            batch,
            Dim::Fixed(channels),
            height @ (Dim::Fixed(_) | Dim::Side(_)),
            width @ (Dim::Fixed(_) | Dim::Side(_)),
        ] => Ok((batch, channels, [height, width])),
        _ => Err(ShapeError::Rank { expected: 4, ty: ty.clone() }),
    }
}

/// `[height, width]` as numbers, the nominal ones where they are free.
fn sizes(sides: [Dim; 2]) -> [u32; 2] {
    sides.map(|side| side.size(1))
}

/// The sides of what a window gives on this input: the numbers where they are fixed, what follows from the input where
/// that is free.
fn slide(conv: &Conv, input: [Dim; 2], output: [u32; 2]) -> Result<[Dim; 2], ShapeError> {
    let [top, left, bottom, right] = conv.padding;
    let side = |i: usize, padding: [u32; 2]| {
        let Dim::Side(side) = input[i] else { return Ok(Dim::Fixed(output[i])) };
        let reach = i64::from(conv.dilation[i]) * (i64::from(conv.window[i]) - 1);
        let slack = i64::from(padding[0]) + i64::from(padding[1]) - reach;
        let out = side.positions(slack, conv.stride[i]);
        out.map(Dim::Side).ok_or(ShapeError::FreeSize { what: "that of the result is no plain part of it" })
    };
    Ok([side(0, [top, bottom])?, side(1, [left, right])?])
}

/// A side with zeros at its ends.
fn grow(side: Dim, by: [u32; 2]) -> Result<Dim, ShapeError> {
    let by = i64::from(by[0]) + i64::from(by[1]);
    let grown = match side {
        Dim::Side(side) => side.grown(by).map(Dim::Side),
        Dim::Fixed(n) => u32::try_from(i64::from(n) + by).ok().map(Dim::Fixed),
        Dim::Batch => None,
    };
    grown.ok_or(ShapeError::Overflow)
}

/// A value's type read as rows of features: batch and how many.
pub(super) fn features(ty: &TensorType) -> Result<(Dim, u32), ShapeError> {
    match ty.dims[..] {
        [batch, Dim::Fixed(features)] => Ok((batch, features)),
        _ => Err(ShapeError::Rank { expected: 2, ty: ty.clone() }),
    }
}

fn one<'a>(args: &[&'a TensorType]) -> Result<&'a TensorType, ShapeError> {
    match args {
        [arg] => Ok(arg),
        _ => Err(ShapeError::OperandCount { expected: "1", actual: args.len() }),
    }
}

fn two<'a>(args: &[&'a TensorType]) -> Result<[&'a TensorType; 2], ShapeError> {
    match args {
        [left, right] => Ok([left, right]),
        _ => Err(ShapeError::OperandCount { expected: "2", actual: args.len() }),
    }
}

fn product(sizes: &[u32]) -> Result<u32, ShapeError> {
    sizes.iter().try_fold(1u32, |product, &n| product.checked_mul(n)).ok_or(ShapeError::Overflow)
}

impl Op {
    /// Name of the op in the printed form and in messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Conv { .. } => "conv",
            Self::BatchNorm { .. } => "batch_norm",
            Self::Affine { .. } => "affine",
            Self::Activation(Activation::Relu) => "relu",
            Self::Activation(Activation::Sigmoid) => "sigmoid",
            Self::Activation(Activation::Clip { .. }) => "clip",
            Self::Add => "add",
            Self::Gate => "gate",
            Self::Concat => "concat",
            Self::Pad(_) => "pad",
            Self::MaxPool(_) => "max_pool",
            Self::AveragePool(_) => "average_pool",
            Self::GlobalAveragePool => "global_average_pool",
            Self::Flatten => "flatten",
            Self::Linear { .. } => "linear",
        }
    }

    /// The op's weights, in the order of its fields.
    pub fn weights(&self) -> impl Iterator<Item = WeightId> {
        let weights: [Option<WeightId>; 4] = match *self {
            Self::Conv { weight, bias, .. } | Self::Linear { weight, bias } => [Some(weight), bias, None, None],
            Self::BatchNorm { scale, shift, mean, variance, .. } => [scale, shift, mean, variance].map(Some),
            Self::Affine { scale, bias } => [Some(scale), Some(bias), None, None],
            Self::Activation(_)
            | Self::Add
            | Self::Gate
            | Self::Concat
            | Self::Pad(_)
            | Self::MaxPool(_)
            | Self::AveragePool(_)
            | Self::GlobalAveragePool
            | Self::Flatten => [None; 4],
        };
        weights.into_iter().flatten()
    }

    /// The same op with every weight replaced by what `map` makes of it.
    pub(crate) fn map_weights(self, mut map: impl FnMut(WeightId) -> WeightId) -> Self {
        match self {
            Self::Conv { conv, weight, bias } => Self::Conv { conv, weight: map(weight), bias: bias.map(&mut map) },
            Self::BatchNorm { scale, shift, mean, variance, epsilon } => Self::BatchNorm {
                scale: map(scale),
                shift: map(shift),
                mean: map(mean),
                variance: map(variance),
                epsilon,
            },
            Self::Affine { scale, bias } => Self::Affine { scale: map(scale), bias: map(bias) },
            Self::Linear { weight, bias } => Self::Linear { weight: map(weight), bias: bias.map(&mut map) },
            other @ (Self::Activation(_)
            | Self::Add
            | Self::Gate
            | Self::Concat
            | Self::Pad(_)
            | Self::MaxPool(_)
            | Self::AveragePool(_)
            | Self::GlobalAveragePool
            | Self::Flatten) => other,
        }
    }

    /// The type of the result.
    pub(super) fn infer<'w>(
        &self,
        args: &[&TensorType],
        weight: impl Fn(WeightId) -> &'w Weight,
    ) -> Result<TensorType, ShapeError> {
        let check = |id: WeightId, expected: &[u32]| {
            let weight = weight(id);
            if weight.shape() == expected {
                return Ok(());
            }
            Err(ShapeError::WeightShape {
                name: weight.name().to_owned(),
                expected: expected.to_vec(),
                actual: weight.shape().to_vec(),
            })
        };
        let like = |ty: &TensorType, dims: Vec<Dim>| TensorType { dtype: ty.dtype, dims };
        match self {
            Self::Conv { conv, weight: kernel, bias } => {
                let ty = one(args)?;
                let (batch, channels, input) = image(ty)?;
                let out_channels = weight(*kernel).shape().first().copied().unwrap_or(0);
                let problem = ConvProblem::new(*conv, batch.size(1), channels, out_channels, sizes(input), ty.dtype)?;
                check(*kernel, &problem.weight_shape())?;
                if let Some(bias) = bias {
                    check(*bias, &[out_channels])?;
                }
                let [height, width] = slide(conv, input, problem.output())?;
                Ok(like(ty, vec![batch, Dim::Fixed(out_channels), height, width]))
            }
            Self::BatchNorm { scale, shift, mean, variance, .. } => {
                let ty = one(args)?;
                let (_, channels, _) = image(ty)?;
                for id in [scale, shift, mean, variance] {
                    check(*id, &[channels])?;
                }
                Ok(ty.clone())
            }
            Self::Affine { scale, bias } => {
                check(*scale, &[1])?;
                check(*bias, &[1])?;
                Ok(one(args)?.clone())
            }
            Self::Activation(_) => Ok(one(args)?.clone()),
            Self::Add => {
                let [left, right] = two(args)?;
                if left != right {
                    return Err(ShapeError::OperandsDiffer { left: left.clone(), right: right.clone() });
                }
                Ok(left.clone())
            }
            Self::Gate => {
                let [value, gate] = two(args)?;
                let (batch, channels, _) = image(value)?;
                let wanted = like(value, vec![batch, Dim::Fixed(channels), Dim::Fixed(1), Dim::Fixed(1)]);
                if *gate != wanted {
                    return Err(ShapeError::OperandsDiffer { left: wanted, right: gate.clone() });
                }
                Ok(value.clone())
            }
            Self::Concat => infer_concat(args),
            Self::Pad([top, left, bottom, right]) => {
                let ty = one(args)?;
                let (batch, channels, [height, width]) = image(ty)?;
                let (height, width) = (grow(height, [*top, *bottom])?, grow(width, [*left, *right])?);
                Ok(like(ty, vec![batch, Dim::Fixed(channels), height, width]))
            }
            Self::MaxPool(window) | Self::AveragePool(window) => {
                let ty = one(args)?;
                let (batch, channels, input) = image(ty)?;
                let [top, left, bottom, right] = window.padding;
                let error = ShapeError::WindowLargerThanInput { window: window.size, input: sizes(input) };
                // A window that can lie on padding alone has no value there.
                if top.max(bottom) >= window.size[0] || left.max(right) >= window.size[1] {
                    return Err(error);
                }
                let [height, width] = slide(&window.as_conv(), input, window.output(sizes(input)).ok_or(error)?)?;
                Ok(like(ty, vec![batch, Dim::Fixed(channels), height, width]))
            }
            Self::GlobalAveragePool => {
                let ty = one(args)?;
                let (batch, channels, _) = image(ty)?;
                Ok(like(ty, vec![batch, Dim::Fixed(channels), Dim::Fixed(1), Dim::Fixed(1)]))
            }
            Self::Flatten => {
                let ty = one(args)?;
                let (batch, channels, [Dim::Fixed(height), Dim::Fixed(width)]) = image(ty)? else {
                    return Err(ShapeError::FreeSize { what: "the number of features would depend on it" });
                };
                Ok(like(ty, vec![batch, Dim::Fixed(product(&[channels, height, width])?)]))
            }
            Self::Linear { weight: matrix, bias } => {
                let ty = one(args)?;
                let (batch, features) = features(ty)?;
                let out = weight(*matrix).shape().first().copied().unwrap_or(0);
                let elements = element_count(&[out, features]);
                if elements > MAX_ELEMENTS {
                    return Err(ProblemError::TooLarge { what: "weight", elements }.into());
                }
                if out == 0 {
                    return Err(ProblemError::Zero { what: "the number of output features" }.into());
                }
                check(*matrix, &[out, features])?;
                if let Some(bias) = bias {
                    check(*bias, &[out])?;
                }
                Ok(like(ty, vec![batch, Dim::Fixed(out)]))
            }
        }
    }

    /// Operations at this batch size, wherever the batch is free: a multiply-add is two, an elementwise function one.
    /// A bias is not counted, as is the field's habit.
    pub(super) fn flops(&self, args: &[&TensorType], result: &TensorType, batch: u32) -> Flops {
        let elements = result.elements(batch);
        let arg_elements = args.first().map_or(0, |ty| ty.elements(batch));
        match self {
            Self::Conv { conv, .. } => {
                let (Some(Ok((n, in_channels, input))), Ok((_, out_channels, _))) =
                    (args.first().map(|ty| image(ty)), image(result))
                else {
                    return Flops::default();
                };
                // The type was inferred through the same problem, so there is one.
                ConvProblem::new(*conv, n.size(1), in_channels, out_channels, sizes(input), result.dtype)
                    .map_or(Flops::default(), |p| p.flops() * u64::from(if n == Dim::Batch { batch } else { 1 }))
            }
            Self::Linear { .. } => {
                let in_features = args.first().and_then(|ty| ty.dims.get(1)).map_or(0, |dim| dim.size(1));
                Flops::from_multiply_adds(elements.saturating_mul(in_features.into()))
            }
            Self::BatchNorm { .. } | Self::Affine { .. } => Flops::from_multiply_adds(elements),
            Self::Activation(_) | Self::Add | Self::Gate => Flops(elements),
            Self::MaxPool(window) | Self::AveragePool(window) => {
                Flops(elements.saturating_mul(u64::from(window.size[0]) * u64::from(window.size[1])))
            }
            Self::GlobalAveragePool => Flops(arg_elements),
            Self::Concat | Self::Pad(_) | Self::Flatten => Flops::default(),
        }
    }
}

fn infer_concat(args: &[&TensorType]) -> Result<TensorType, ShapeError> {
    let Some((&first, rest)) = args.split_first() else {
        return Err(ShapeError::OperandCount { expected: "1 or more", actual: 0 });
    };
    let (batch, mut channels, size) = image(first)?;
    for &ty in rest {
        let (other_batch, more, other_size) = image(ty)?;
        if (other_batch, other_size, ty.dtype) != (batch, size, first.dtype) {
            return Err(ShapeError::OperandsDiffer { left: first.clone(), right: ty.clone() });
        }
        channels = channels.checked_add(more).ok_or(ShapeError::Overflow)?;
    }
    let dims = vec![batch, Dim::Fixed(channels), size[0], size[1]];
    Ok(TensorType { dtype: first.dtype, dims })
}
