//! The first tensor in which two models part.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::compare::compare;
use super::judge::{Named, as_inputs, run, said};
use super::outcome::{Checked, Compared};
use crate::onnx::scan::scan;
use crate::onnx::shapes::{InputSizes, infer};
use crate::onnx::survey::exposed;
use crate::runtime::Runtime;
use crate::runtime::session::{Options, Session};
use crate::tensor::array::Array;
use crate::tensor::element_count;

/// Values that are looked at in one run take up to so many bytes; one whose shape is not known counts as 16 MiB.
const MAX_BYTES: u64 = 256 << 20;
const UNKNOWN_BYTES: u64 = 16 << 20;

const CHECK: &str = "first-divergence";

/// Two models, and what they are run on.
pub(super) struct Search<'r> {
    pub(super) runtime: &'r Runtime,
    pub(super) options: Options,
    pub(super) reference_options: Options,
    pub(super) models: [PathBuf; 2],
    pub(super) inputs: Named,
    pub(super) tolerances: (Option<f64>, Option<f64>),
}

/// A value of a model, in the order in which they are computed.
struct Value {
    name: String,
    node: String,
    op: String,
    bytes: u64,
}

impl Search<'_> {
    pub(super) fn run(&self) -> Checked {
        self.found().unwrap_or_else(|why| Checked::error(CHECK, why))
    }

    fn found(&self) -> Result<Checked, String> {
        let [ours, theirs] = [values(&self.models[0])?, values(&self.models[1])?];
        let pairs = aligned(&ours, &theirs);
        if pairs.is_empty() {
            return Ok(Checked::skipped(CHECK, "the models have no tensors in between that belong together"));
        }
        let mut compared = 0;
        for part in parts(&pairs, &ours) {
            let wanted = |of: &[Value], side: fn(&(usize, usize)) -> usize| -> Vec<String> {
                part.iter().map(|pair| of[side(pair)].name.clone()).collect()
            };
            let actual = self.exposed(0, &self.options, &wanted(&ours, |pair| pair.0))?;
            let expected = self.exposed(1, &self.reference_options, &wanted(&theirs, |pair| pair.1))?;
            for &(our, their) in part {
                let value = &ours[our];
                let (Some(a), Some(e)) = (actual.get(&value.name), expected.get(&theirs[their].name)) else { continue };
                let place = format!("tensor `{}` of node `{}` ({})", value.name, value.node, value.op);
                match compare(a, e, self.tolerances) {
                    Ok(figures) if figures.within => compared += 1,
                    Ok(figures) => {
                        let text = format!("{place} {}; the {compared} before it agree", said(&figures));
                        let outputs = vec![Compared { name: value.name.clone(), set: None, figures }];
                        return Ok(Checked { outputs, ..Checked::failed(CHECK, text) });
                    }
                    // Values that were paired by their order may not belong together after all.
                    Err(_) if value.name != theirs[their].name => {}
                    Err(error) => {
                        return Ok(Checked::failed(CHECK, format!("{place}: {error}; the {compared} before it agree")));
                    }
                }
            }
        }
        let text = format!(
            "all {compared} tensors in between that belong together agree: the models part after them, or in what fusing does"
        );
        Ok(Checked::failed(CHECK, text))
    }

    /// What a model makes of the inputs in these values.
    fn exposed(&self, which: usize, options: &Options, names: &[String]) -> Result<HashMap<String, Array>, String> {
        let path = &self.models[which];
        let reading = |error| format!("`{}` cannot be read: {error}", path.display());
        let mut bytes = fs::read(path).map_err(reading)?;
        bytes.extend(exposed(names));
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let weights = fs::canonicalize(folder).map_err(reading)?;
        let options = Options { weights: Some(weights), ..options.clone() };
        let failed = |error: String| format!("`{}` with its tensors exposed: {error}", path.display());
        let mut session =
            Session::from_bytes(self.runtime, &bytes, &options).map_err(|error| failed(error.to_string()))?;
        drop(bytes);
        let own: Vec<String> = session.inputs().iter().map(|port| port.name.clone()).collect();
        let inputs = as_inputs(self.inputs.clone(), &own)?;
        Ok(run(&mut session, &inputs).map_err(|error| failed(error.to_string()))?.into_iter().collect())
    }
}

/// What the nodes of a model make that is not handed out anyway.
fn values(path: &Path) -> Result<Vec<Value>, String> {
    let reading = |error: String| format!("`{}` cannot be read: {error}", path.display());
    let file = fs::File::open(path).map_err(|error| reading(error.to_string()))?;
    let model = scan(file).map_err(|error| reading(error.to_string()))?.model;
    let shapes = infer(&model, InputSizes::default(), &HashMap::new());
    let graph = model.graph.iter();
    let outputs: HashSet<&str> = graph.clone().flat_map(|graph| &graph.output).map(|output| output.name()).collect();
    let mut values = Vec::new();
    for node in graph.flat_map(|graph| &graph.node) {
        // What is no tensor cannot be compared, and what is given cannot differ.
        let is_kept = !node.op_type().starts_with("Sequence") && node.op_type() != "Constant";
        for name in node.output.iter().filter(|name| is_kept && !name.is_empty() && !outputs.contains(name.as_str())) {
            let bytes = shapes.of(name).map_or(UNKNOWN_BYTES, |shape| element_count(shape).saturating_mul(8));
            let node_name = if node.name().is_empty() { name } else { node.name() };
            values.push(Value { name: name.clone(), node: node_name.to_owned(), op: node.op_type().to_owned(), bytes });
        }
    }
    Ok(values)
}

/// The values that belong together: those of the same name; of the others those of the same operator, in order.
fn aligned(ours: &[Value], theirs: &[Value]) -> Vec<(usize, usize)> {
    let by_name: HashMap<&str, usize> =
        theirs.iter().enumerate().map(|(at, value)| (value.name.as_str(), at)).collect();
    let mut taken: HashSet<usize> = HashSet::new();
    let mut pairs: Vec<Option<usize>> = ours.iter().map(|value| by_name.get(value.name.as_str()).copied()).collect();
    taken.extend(pairs.iter().flatten());
    let mut from = 0;
    for (at, pair) in pairs.iter_mut().enumerate() {
        if let Some(named) = pair {
            from = from.max(*named + 1);
            continue;
        }
        let next = (from..theirs.len()).find(|next| !taken.contains(next) && theirs[*next].op == ours[at].op);
        if let Some(next) = next {
            *pair = Some(next);
            from = next + 1;
        }
    }
    pairs.into_iter().enumerate().filter_map(|(at, pair)| Some((at, pair?))).collect()
}

/// The pairs in parts that are run together.
fn parts<'p>(pairs: &'p [(usize, usize)], ours: &[Value]) -> Vec<&'p [(usize, usize)]> {
    let mut parts = Vec::new();
    let (mut start, mut bytes) = (0, 0_u64);
    for (at, pair) in pairs.iter().enumerate() {
        bytes = bytes.saturating_add(ours[pair.0].bytes);
        if bytes > MAX_BYTES && at > start {
            parts.push(&pairs[start..at]);
            (start, bytes) = (at, ours[pair.0].bytes);
        }
    }
    parts.push(&pairs[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str, op: &str, bytes: u64) -> Value {
        Value { name: name.into(), node: name.into(), op: op.into(), bytes }
    }

    #[test]
    fn values_are_aligned_by_name_then_by_order() {
        let ours = [value("a", "Conv", 1), value("x", "Relu", 1), value("b", "Conv", 1), value("y", "Relu", 1)];
        let theirs = [value("a", "Conv", 1), value("u", "Relu", 1), value("b", "Conv", 1), value("w", "Relu", 1)];
        assert_eq!(aligned(&ours, &theirs), [(0, 0), (1, 1), (2, 2), (3, 3)]);
        let fused = [value("p", "Conv", 1), value("q", "Conv", 1)];
        assert_eq!(aligned(&ours, &fused), [(0, 0), (2, 1)]);
    }

    #[test]
    fn large_values_are_looked_at_one_after_the_other() {
        let ours = [value("a", "Conv", MAX_BYTES), value("b", "Conv", MAX_BYTES), value("c", "Conv", 1)];
        let pairs = [(0, 0), (1, 1), (2, 2)];
        assert_eq!(parts(&pairs, &ours), [&pairs[..1], &pairs[1..2], &pairs[2..]]);
    }
}
