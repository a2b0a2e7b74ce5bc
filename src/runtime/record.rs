//! What ONNX Runtime recorded of its runs: every node it really ran, where, on what, and for how long.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::Deserialize;

use crate::units::{Bytes, Flops};

/// A node of the graph that ONNX Runtime made of a model, over all runs that were recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeRecord {
    /// Its name; ONNX Runtime makes up names for nodes it fuses or adds.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// The provider, as ONNX Runtime names it: `CPUExecutionProvider`.
    pub provider: String,
    /// Element types and shapes of its inputs, weights included.
    pub inputs: Vec<TypeAndShape>,
    /// Element types and shapes of its outputs.
    pub outputs: Vec<TypeAndShape>,
    /// Bytes of its inputs, weights and outputs.
    pub bytes: Bytes,
    /// How long it took in each run.
    pub times: Vec<Duration>,
}

/// Element type, as ONNX Runtime names it, and shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeAndShape {
    /// Such as `float` or `int8`.
    pub element_type: String,
    /// Outermost dimension first.
    pub shape: Vec<u64>,
}

impl NodeRecord {
    /// Operations of a convolution or matrix product in one run; `None` for other operators.
    ///
    /// Counted on the shapes that ONNX Runtime computes on, in which channels may have been padded.
    pub fn flops(&self) -> Option<Flops> {
        let count = |shape: &[u64]| shape.iter().fold(1u64, |n, &size| n.saturating_mul(size));
        let output = count(&self.outputs.first()?.shape);
        let operand = |index: usize| self.inputs.get(index).map(|input| input.shape.as_slice());
        let per_element = match self.op.as_str() {
            "Conv" | "FusedConv" | "ConvInteger" | "NhwcFusedConv" => count(operand(1)?.get(1..)?),
            "QLinearConv" => count(operand(3)?.get(1..)?),
            "MatMul" | "FusedMatMul" | "MatMulInteger" => *operand(0)?.last()?,
            "QLinearMatMul" => *operand(0)?.last()?,
            // Either operand may be transposed; the inner size is what both have besides the result's.
            "Gemm" | "FusedGemm" | "QGemm" => {
                let &[rows, _] = self.outputs.first()?.shape.as_slice() else { return None };
                count(operand(0)?).checked_div(rows)?
            }
            _ => return None,
        };
        Some(Flops::from_multiply_adds(output.saturating_mul(per_element)))
    }
}

/// Bytes of the matrix of weights that ONNX Runtime has packed beforehand and does not count; zero if there is none.
fn packed_weights(op: &str, inputs: &[TypeAndShape], outputs: &[TypeAndShape]) -> Bytes {
    let is_product = matches!(op, "Gemm" | "FusedGemm" | "MatMul" | "FusedMatMul");
    let is_listed = inputs.iter().skip(1).any(|input| input.shape.len() > 1);
    let sides = inputs.first().and_then(|input| input.shape.last()).zip(outputs.first().and_then(|o| o.shape.last()));
    match sides.filter(|_| is_product && !is_listed) {
        Some((inner, columns)) => {
            let size = if inputs[0].element_type == "float16" { 2 } else { 4 };
            Bytes(inner.saturating_mul(*columns).saturating_mul(size))
        }
        None => Bytes(0),
    }
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    cat: String,
    #[serde(default)]
    name: String,
    /// Microseconds.
    #[serde(default)]
    dur: u64,
    #[serde(default)]
    args: Args,
}

#[derive(Deserialize, Default)]
struct Args {
    #[serde(default)]
    op_name: String,
    #[serde(default)]
    provider: String,
    #[serde(default)]
    input_type_shape: Vec<BTreeMap<String, Vec<i64>>>,
    #[serde(default)]
    output_type_shape: Vec<BTreeMap<String, Vec<i64>>>,
    #[serde(default)]
    activation_size: String,
    #[serde(default)]
    parameter_size: String,
    #[serde(default)]
    output_size: String,
}

/// Reads ONNX Runtime's own profile; the nodes in the order in which they first ran.
///
/// # Errors
/// If it is not in the form expected.
pub fn from_json(json: &[u8]) -> Result<Vec<NodeRecord>, serde_json::Error> {
    let events: Vec<Event> = serde_json::from_slice(json)?;
    let mut nodes: Vec<NodeRecord> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for event in events {
        let Some(name) = event.name.strip_suffix("_kernel_time").filter(|_| event.cat == "Node") else { continue };
        if event.args.provider.is_empty() {
            continue;
        }
        let place = *places.entry(name.to_owned()).or_insert(nodes.len());
        if place == nodes.len() {
            nodes.push(event.args.into_node(name));
        }
        nodes[place].times.push(Duration::from_micros(event.dur));
    }
    Ok(nodes)
}

impl Args {
    fn into_node(self, name: &str) -> NodeRecord {
        let operand = |operand: BTreeMap<String, Vec<i64>>| {
            let (element_type, shape) = operand.into_iter().next().unwrap_or_default();
            TypeAndShape { element_type, shape: shape.into_iter().map(|n| u64::try_from(n).unwrap_or(0)).collect() }
        };
        let sizes = [self.activation_size, self.parameter_size, self.output_size];
        let counted: Bytes = sizes.iter().map(|size| Bytes(size.parse().unwrap_or(0))).sum();
        let inputs: Vec<_> = self.input_type_shape.into_iter().map(operand).collect();
        let outputs: Vec<_> = self.output_type_shape.into_iter().map(operand).collect();
        NodeRecord {
            name: name.to_owned(),
            bytes: counted + packed_weights(&self.op_name, &inputs, &outputs),
            op: self.op_name,
            provider: self.provider,
            inputs,
            outputs,
            times: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = r#"[
        {"cat": "Session", "name": "model_run", "dur": 900, "args": {}},
        {"cat": "Node", "name": "a_nchwc_kernel_time", "dur": 448, "args": {
            "op_name": "Conv", "provider": "CPUExecutionProvider",
            "input_type_shape": [{"float": [1, 3, 224, 224]}, {"float": [16, 3, 3, 3]}, {"float": [16]}],
            "output_type_shape": [{"float": [1, 16, 112, 112]}],
            "activation_size": "602112", "parameter_size": "1792", "output_size": "802816"}},
        {"cat": "Node", "name": "b_kernel_time", "dur": 7, "args": {
            "op_name": "Gemm", "provider": "CUDAExecutionProvider",
            "input_type_shape": [{"float": [2, 512]}, {"float": [1000]}],
            "output_type_shape": [{"float": [2, 1000]}],
            "activation_size": "4096", "parameter_size": "4000", "output_size": "8000"}},
        {"cat": "Node", "name": "a_nchwc_kernel_time", "dur": 440, "args": {
            "op_name": "Conv", "provider": "CPUExecutionProvider"}},
        {"cat": "Node", "name": "a_fence_before", "dur": 1, "args": {}}
    ]"#;

    #[test]
    fn runs_of_a_node_are_gathered() {
        let nodes = from_json(RECORD.as_bytes()).unwrap();
        assert_eq!(nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["a_nchwc", "b"]);
        assert_eq!(nodes[0].times, [Duration::from_micros(448), Duration::from_micros(440)]);
        assert_eq!(nodes[0].bytes, Bytes(602_112 + 1792 + 802_816));
        assert_eq!(nodes[1].provider, "CUDAExecutionProvider");
        assert_eq!(nodes[1].bytes, Bytes(4096 + 4000 + 8000 + 512 * 1000 * 4), "with the weights that were packed");
    }

    /// By hand: 16 x 112 x 112 results of 27 taps; 2 x 1000 results of 512.
    #[test]
    fn operations_follow_from_the_shapes() {
        let nodes = from_json(RECORD.as_bytes()).unwrap();
        assert_eq!(nodes[0].flops(), Some(Flops(2 * 16 * 112 * 112 * 27)));
        assert_eq!(nodes[1].flops(), Some(Flops(2 * 2 * 1000 * 512)));
    }

    #[test]
    fn what_is_no_record_is_an_error() {
        for text in ["", "{}", "[1]", r#"[{"cat": 3}]"#] {
            assert!(from_json(text.as_bytes()).is_err(), "{text}");
        }
    }
}
