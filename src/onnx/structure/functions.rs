//! Functions of the model's own: none uses itself, and none stands for an endless number of nodes.

use std::collections::{HashMap, HashSet};

use super::{Aspect, Fault, Faults};
use crate::onnx::check::CheckError;
use crate::onnx::proto::{FunctionProto, ModelProto, NodeProto};
use crate::onnx::schema;

/// Most nodes that a function may stand for.
const MAX_NODES: u64 = 1 << 20;

/// Domain, name and overload.
pub(super) type Key<'m> = (&'m str, &'m str, &'m str);

/// The function that a node calls, if the model has one of that name.
pub(super) fn key(node: &NodeProto) -> Key<'_> {
    (schema::named(node.domain()), node.op_type(), node.overload())
}

/// The model's functions by their names.
pub(super) fn of(model: &ModelProto) -> HashMap<Key<'_>, &FunctionProto> {
    model.functions.iter().map(|function| (own_key(function), function)).collect()
}

fn own_key(function: &FunctionProto) -> Key<'_> {
    (schema::named(function.domain()), function.name(), function.overload())
}

/// How far the walk through a function has come.
enum Visit {
    Begun,
    /// Nodes it stands for.
    Done(u64),
}

pub(super) fn check(model: &ModelProto, faults: &mut Faults) {
    let functions = of(model);
    let mut seen = HashSet::new();
    for function in model.functions.iter().filter(|function| !seen.insert(own_key(function))) {
        faults.add(Aspect::Functions, CheckError::DefinedTwice(function.name().to_owned()));
    }
    let mut visits: HashMap<Key<'_>, Visit> = HashMap::new();
    for &start in functions.keys() {
        if visits.contains_key(&start) {
            continue;
        }
        visits.insert(start, Visit::Begun);
        // A stack of our own: functions may call each other in any depth.
        let mut stack = vec![(start, calls(functions[&start], &functions))];
        while let Some((key, (_, left))) = stack.last_mut() {
            let key = *key;
            if let Some(&next) = left.last() {
                match visits.get(&next) {
                    None => {
                        visits.insert(next, Visit::Begun);
                        stack.push((next, calls(functions[&next], &functions)));
                    }
                    Some(Visit::Begun) => {
                        faults.add(Aspect::Functions, Fault::Recursive(next.1.to_owned()));
                        left.pop();
                    }
                    Some(Visit::Done(nodes)) => {
                        let nodes = *nodes;
                        left.pop();
                        if let Some((_, (own, _))) = stack.last_mut() {
                            *own = own.saturating_add(nodes);
                        }
                    }
                }
                continue;
            }
            let Some((_, (nodes, _))) = stack.pop() else { break };
            visits.insert(key, Visit::Done(nodes));
            if nodes > MAX_NODES {
                let name = key.1.to_owned();
                faults.add(Aspect::Functions, Fault::Expands { name, nodes, most: MAX_NODES });
            }
        }
    }
}

/// Nodes of a function itself, and the functions it calls, once for each call.
fn calls<'m>(function: &'m FunctionProto, functions: &HashMap<Key<'m>, &'m FunctionProto>) -> (u64, Vec<Key<'m>>) {
    let mut nodes = 0;
    let mut called = Vec::new();
    let mut left: Vec<&NodeProto> = function.node.iter().collect();
    while let Some(node) = left.pop() {
        nodes += 1;
        if functions.contains_key(&key(node)) {
            called.push(key(node));
        }
        let bodies = node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
        left.extend(bodies.flat_map(|graph| &graph.node));
    }
    (nodes, called)
}
