//! What is known of each operator: the one table that both conversions go by.

use crate::onnx::proto::NodeProto;

/// How an operator takes half precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HalfRule {
    /// It computes in half precision.
    Half,
    /// It sums over more than a window, or divides by such a sum, and stays in single precision.
    Single,
    /// Its types are stated by attributes, or have nothing to do with those of the values.
    Stated,
}

/// The rule for an operator of the default domain; `None` if there is none.
pub(super) fn half_rule(op: &str) -> Option<HalfRule> {
    Some(match op {
        "Conv" | "ConvTranspose" | "Gemm" | "MatMul" | "BatchNormalization" => HalfRule::Half,
        "Relu" | "Clip" | "LeakyRelu" | "PRelu" | "Elu" | "Selu" | "Celu" | "Sigmoid" | "HardSigmoid" | "HardSwish"
        | "Tanh" | "Softplus" | "Softsign" | "Gelu" | "Mish" | "Erf" => HalfRule::Half,
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Sqrt" | "Exp" | "Log" | "Neg" | "Abs" | "Reciprocal" | "Max"
        | "Min" | "Floor" | "Ceil" | "Round" | "Sum" | "Mean" => HalfRule::Half,
        "MaxPool" | "AveragePool" | "GlobalMaxPool" | "ReduceMax" | "ReduceMin" => HalfRule::Half,
        "Concat" | "Flatten" | "Reshape" | "Transpose" | "Squeeze" | "Unsqueeze" | "Identity" | "Dropout" | "Pad"
        | "Slice" | "Split" | "Gather" | "Expand" | "Tile" | "DepthToSpace" | "SpaceToDepth" | "Resize" | "Where"
        | "Equal" | "Greater" | "Less" | "GreaterOrEqual" | "LessOrEqual" | "And" | "Or" | "Not" => HalfRule::Half,
        "GlobalAveragePool"
        | "ReduceMean"
        | "ReduceSum"
        | "ReduceL1"
        | "ReduceL2"
        | "ReduceSumSquare"
        | "Softmax"
        | "LogSoftmax"
        | "LayerNormalization"
        | "InstanceNormalization"
        | "GroupNormalization"
        | "LRN"
        | "LpNormalization"
        | "GlobalLpPool"
        | "CumSum" => HalfRule::Single,
        "Shape" | "Size" | "Cast" | "ConstantOfShape" | "Range" => HalfRule::Stated,
        _ => return None,
    })
}

/// Whether an operand of floating point follows the type of the values: the scales of a `Resize` do not.
pub(super) fn follows(node: &NodeProto, operand: usize) -> bool {
    match node.op_type() {
        "Resize" => operand == 0,
        "Dropout" => operand == 0,
        _ => true,
    }
}

/// Operators of models that have been quantised.
pub(super) fn is_quantised(op: &str) -> bool {
    op.starts_with("QLinear")
        || matches!(
            op,
            "QuantizeLinear"
                | "DequantizeLinear"
                | "DynamicQuantizeLinear"
                | "ConvInteger"
                | "MatMulInteger"
                | "QGemm"
                | "QAttention"
        )
}
