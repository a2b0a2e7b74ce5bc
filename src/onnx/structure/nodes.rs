//! The nodes of every graph and function: operators, names, attributes, loops and branches.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::functions::{self, Key};
use super::{Aspect, Fault, Faults, Limits};
use crate::onnx::check::{CheckError, check_attribute, label};
use crate::onnx::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto,
    attribute_proto::AttributeType, tensor_shape_proto::dimension, type_proto,
};
use crate::onnx::schema::{self, Lookup, Operator, Span};

/// Longest name, in bytes. Older libraries write past a buffer of 2048 when they put a longer one into a message.
const MAX_NAME: usize = 2000;

/// Most loops and branches inside each other. Runtimes look through inner graphs once for each level around them.
const MAX_NESTED: usize = 6;

pub(super) fn check(model: &ModelProto, limits: &Limits, faults: &mut Faults) {
    let mut walk = Walk { functions: functions::of(model), limits, faults };
    for function in &model.functions {
        walk.function(function);
    }
    if let Some(graph) = &model.graph {
        walk.ports(graph);
        walk.graph(graph, None, &Place { imports: imports(&model.opset_import), depth: 0, in_function: false });
    }
}

/// The versions of the operator sets by their domains.
fn imports(imports: &[OperatorSetIdProto]) -> Rc<HashMap<&str, i64>> {
    Rc::new(imports.iter().map(|import| (schema::named(import.domain()), import.version())).collect())
}

/// Where nodes stand.
struct Place<'m> {
    imports: Rc<HashMap<&'m str, i64>>,
    depth: usize,
    in_function: bool,
}

/// Names that nodes may use: those of their graph, and of the graphs around it.
struct Scope<'m, 'o> {
    names: HashSet<&'m str>,
    outer: Option<&'o Scope<'m, 'o>>,
}

impl Scope<'_, '_> {
    fn knows(&self, name: &str) -> bool {
        let mut scope = Some(self);
        while let Some(here) = scope {
            if here.names.contains(name) {
                return true;
            }
            scope = here.outer;
        }
        false
    }
}

struct Walk<'m, 'f> {
    functions: HashMap<Key<'m>, &'m FunctionProto>,
    limits: &'f Limits,
    faults: &'f mut Faults,
}

impl<'m> Walk<'m, '_> {
    fn function(&mut self, function: &'m FunctionProto) {
        let mut scope = Scope { names: HashSet::new(), outer: None };
        for name in &function.input {
            self.define(&mut scope, name);
        }
        let place = Place { imports: imports(&function.opset_import), depth: 0, in_function: true };
        self.nodes(&function.node, &mut scope, &place);
        for output in function.output.iter().filter(|output| !scope.knows(output)) {
            self.faults.add(Aspect::Names, CheckError::NoSuchOutput(output.clone()));
        }
    }

    /// What the model itself takes and gives.
    fn ports(&mut self, graph: &'m GraphProto) {
        for (what, ports) in [("input", &graph.input), ("output", &graph.output)] {
            for (index, port) in ports.iter().enumerate() {
                if port.name().is_empty() {
                    self.faults.add(Aspect::Names, Fault::Unnamed { what, index });
                }
            }
        }
        for info in graph.input.iter().chain(&graph.output).chain(&graph.value_info) {
            if let Some(fault) = impossible(info) {
                self.faults.add(Aspect::Tensors, fault);
            }
        }
    }

    fn graph(&mut self, graph: &'m GraphProto, outer: Option<&Scope<'m, '_>>, place: &Place<'m>) {
        let mut scope = Scope { names: HashSet::new(), outer };
        let sparse = graph.sparse_initializer.iter().filter_map(|sparse| sparse.values.as_ref());
        for tensor in graph.initializer.iter().chain(sparse) {
            self.define(&mut scope, tensor.name());
        }
        // Up to IR version 3 every initializer is an input as well, later it may be.
        let mut inputs = Scope { names: HashSet::new(), outer: None };
        for input in &graph.input {
            self.define(&mut inputs, input.name());
        }
        scope.names.extend(inputs.names);
        self.nodes(&graph.node, &mut scope, place);
        for output in graph.output.iter().filter(|output| !output.name().is_empty() && !scope.knows(output.name())) {
            self.faults.add(Aspect::Names, CheckError::NoSuchOutput(output.name().to_owned()));
        }
    }

    fn define(&mut self, scope: &mut Scope<'m, '_>, name: &'m str) {
        self.name(name);
        if !name.is_empty() && !scope.names.insert(name) {
            self.faults.add(Aspect::Names, CheckError::DefinedTwice(name.to_owned()));
        }
    }

    fn name(&mut self, name: &str) {
        if name.len() > MAX_NAME {
            let start = name.chars().take(40).collect();
            self.faults.add(Aspect::Names, Fault::LongName { length: name.len(), start, most: MAX_NAME });
        }
    }

    fn nodes(&mut self, nodes: &'m [NodeProto], scope: &mut Scope<'m, '_>, place: &Place<'m>) {
        let mut later: Option<HashSet<&str>> = None;
        for node in nodes {
            [node.name(), node.op_type(), node.domain()].into_iter().for_each(|name| self.name(name));
            for name in node.input.iter().filter(|name| !name.is_empty()) {
                if scope.knows(name) {
                    continue;
                }
                let later =
                    later.get_or_insert_with(|| nodes.iter().flat_map(|n| &n.output).map(String::as_str).collect());
                let (node, name) = (label(node), name.clone());
                if later.contains(name.as_str()) {
                    self.faults.add(Aspect::Names, Fault::OutOfOrder { node, name });
                } else {
                    self.faults.add(Aspect::Names, CheckError::Undefined { node, name });
                }
            }
            self.operator(node, place);
            let graphs = node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
            let mut graphs = graphs.peekable();
            if graphs.peek().is_some() {
                self.bodies(node, graphs, scope, place);
            }
            for name in &node.output {
                self.define(scope, name);
            }
        }
    }

    /// The graphs in a node.
    fn bodies(
        &mut self,
        node: &'m NodeProto,
        graphs: impl Iterator<Item = &'m GraphProto>,
        scope: &Scope<'m, '_>,
        place: &Place<'m>,
    ) {
        let op = node.op_type().to_owned();
        if !self.limits.allow_control_flow {
            self.faults.add(Aspect::ControlFlow, Fault::ControlFlow { node: label(node), op });
        } else if place.depth >= MAX_NESTED {
            let depth = place.depth + 1;
            self.faults
                .add(Aspect::ControlFlow, Fault::NestedTooDeep { node: label(node), op, depth, most: MAX_NESTED });
            return;
        }
        let inner =
            Place { imports: Rc::clone(&place.imports), depth: place.depth + 1, in_function: place.in_function };
        for graph in graphs {
            self.graph(graph, Some(scope), &inner);
        }
    }

    /// Whether the node is as its operator set, or the model's own function, has it.
    fn operator(&mut self, node: &'m NodeProto, place: &Place<'m>) {
        self.attributes(node, place);
        if let Some(function) = self.functions.get(&functions::key(node)) {
            let most = |names: &[String]| Span { least: 0, most: Some(names.len()) };
            let (inputs, outputs) = (most(&function.input), most(&function.output));
            let attributes: Vec<&str> = function.attribute.iter().map(String::as_str).collect();
            let defaults = function.attribute_proto.iter().map(AttributeProto::name);
            let known: HashSet<&str> = attributes.into_iter().chain(defaults).collect();
            self.count(node, "inputs", node.input.len(), inputs);
            self.count(node, "outputs", node.output.len(), outputs);
            for attribute in node.attribute.iter().filter(|attribute| !known.contains(attribute.name())) {
                let (node, op, attribute) = named(node, attribute);
                self.faults.add(Aspect::Operators, Fault::UnknownAttribute { node, op, attribute });
            }
            return;
        }
        let domain = schema::named(node.domain());
        if self.limits.domains.iter().any(|allowed| allowed == domain) {
            return;
        }
        let (label, op) = (label(node), node.op_type().to_owned());
        let Some(&version) = place.imports.get(domain) else {
            let domain = domain.to_owned();
            // Of the default domain it is said once, with the versions.
            if domain != schema::DEFAULT_DOMAIN {
                let known = schema::newest(&domain).is_some();
                let fault = if known {
                    Fault::NotImported { node: label, op, domain }
                } else {
                    Fault::UnknownDomain { node: label, op, domain }
                };
                self.faults.add(if known { Aspect::Operators } else { Aspect::Versions }, fault);
            }
            return;
        };
        match schema::lookup(domain, node.op_type(), version) {
            Lookup::Known(operator) => self.form(node, operator),
            Lookup::UnknownDomain => {
                self.faults.add(Aspect::Versions, Fault::UnknownDomain { node: label, op, domain: domain.to_owned() });
            }
            Lookup::NoSuchOperator { newer } => {
                let domain = domain.to_owned();
                self.faults.add(Aspect::Operators, Fault::NoSuchOperator { node: label, op, domain, version, newer });
            }
        }
    }

    fn form(&mut self, node: &NodeProto, operator: &'static Operator) {
        self.count(node, "inputs", node.input.len(), operator.inputs);
        self.count(node, "outputs", node.output.len(), operator.outputs);
        for attribute in &node.attribute {
            let (label, op, name) = named(node, attribute);
            let Some(known) = operator.attributes.iter().find(|known| known.name == attribute.name()) else {
                self.faults.add(Aspect::Operators, Fault::UnknownAttribute { node: label, op, attribute: name });
                continue;
            };
            if let Some(actual) = mistyped(attribute, known.ty) {
                let wanted = type_name(known.ty);
                self.faults
                    .add(Aspect::Operators, Fault::AttributeType { node: label, op, attribute: name, actual, wanted });
            }
        }
        for wanted in operator.attributes.iter().filter(|attribute| attribute.required) {
            if !node.attribute.iter().any(|attribute| attribute.name() == wanted.name) {
                let (node, op) = (label(node), node.op_type().to_owned());
                self.faults.add(Aspect::Operators, Fault::AttributeMissing { node, op, attribute: wanted.name });
            }
        }
    }

    fn count(&mut self, node: &NodeProto, what: &'static str, actual: usize, allowed: Span) {
        if !allowed.holds(actual) {
            let (node, op) = (label(node), node.op_type().to_owned());
            self.faults.add(Aspect::Operators, Fault::Count { node, op, what, actual, allowed });
        }
    }

    /// What holds for attributes of every operator.
    fn attributes(&mut self, node: &'m NodeProto, place: &Place<'m>) {
        let mut seen = HashSet::new();
        for attribute in &node.attribute {
            self.name(attribute.name());
            let (label, op, name) = named(node, attribute);
            if !seen.insert(attribute.name()) {
                self.faults.add(Aspect::Operators, Fault::AttributeTwice { node: label, op, attribute: name });
            } else if !attribute.ref_attr_name().is_empty() && !place.in_function {
                let actual = "taken from a function around it, of which there is none".to_owned();
                let fault = Fault::AttributeType { node: label, op, attribute: name, actual, wanted: "a value" };
                self.faults.add(Aspect::Operators, fault);
            }
            self.faults.take(Aspect::Windows, check_attribute(node, attribute));
        }
    }
}

fn named(node: &NodeProto, attribute: &AttributeProto) -> (String, String, String) {
    (label(node), node.op_type().to_owned(), attribute.name().to_owned())
}

/// What an attribute is, if it is not of this type.
fn mistyped(attribute: &AttributeProto, wanted: AttributeType) -> Option<String> {
    let stated = attribute.r#type();
    if attribute.r#type.is_some_and(|ty| AttributeType::try_from(ty).is_err()) {
        return Some(format!("of the unknown type {}", attribute.r#type.unwrap_or_default()));
    }
    if stated != AttributeType::Undefined && stated != wanted {
        return Some(type_name(stated).to_owned());
    }
    // A value of another type than stated: readers differ in which they take.
    held(attribute).into_iter().find(|&ty| ty != wanted).map(|ty| format!("{} as well", type_name(ty)))
}

/// The types of the values in an attribute.
fn held(attribute: &AttributeProto) -> Vec<AttributeType> {
    let mut types = Vec::new();
    let mut note = |is: bool, ty| {
        if is {
            types.push(ty);
        }
    };
    // Some writers give numbers their default where they mean another field.
    note(attribute.f.is_some_and(|f| f != 0.0), AttributeType::Float);
    note(attribute.i.is_some_and(|i| i != 0), AttributeType::Int);
    note(attribute.s.as_ref().is_some_and(|s| !s.is_empty()), AttributeType::String);
    note(attribute.t.is_some(), AttributeType::Tensor);
    note(attribute.g.is_some(), AttributeType::Graph);
    note(attribute.sparse_tensor.is_some(), AttributeType::SparseTensor);
    note(attribute.tp.is_some(), AttributeType::TypeProto);
    note(!attribute.floats.is_empty(), AttributeType::Floats);
    note(!attribute.ints.is_empty(), AttributeType::Ints);
    note(!attribute.strings.is_empty(), AttributeType::Strings);
    note(!attribute.tensors.is_empty(), AttributeType::Tensors);
    note(!attribute.graphs.is_empty(), AttributeType::Graphs);
    note(!attribute.sparse_tensors.is_empty(), AttributeType::SparseTensors);
    note(!attribute.type_protos.is_empty(), AttributeType::TypeProtos);
    types
}

fn type_name(ty: AttributeType) -> &'static str {
    match ty {
        AttributeType::Undefined => "of no type",
        AttributeType::Float => "a float",
        AttributeType::Int => "an integer",
        AttributeType::String => "a string",
        AttributeType::Tensor => "a tensor",
        AttributeType::Graph => "a graph",
        AttributeType::SparseTensor => "a sparse tensor",
        AttributeType::TypeProto => "a type",
        AttributeType::Floats => "a list of floats",
        AttributeType::Ints => "a list of integers",
        AttributeType::Strings => "a list of strings",
        AttributeType::Tensors => "a list of tensors",
        AttributeType::Graphs => "a list of graphs",
        AttributeType::SparseTensors => "a list of sparse tensors",
        AttributeType::TypeProtos => "a list of types",
    }
}

/// A declared shape that no tensor can have; -1 is how some writers say that a size is free.
fn impossible(info: &ValueInfoProto) -> Option<Fault> {
    let Some(type_proto::Value::TensorType(tensor)) = &info.r#type.as_ref()?.value else { return None };
    let mut elements = Some(1_u64);
    for (dim, size) in tensor.shape.as_ref()?.dim.iter().enumerate() {
        let Some(dimension::Value::DimValue(size)) = size.value else { continue };
        elements = u64::try_from(size.max(1)).ok().and_then(|n| elements?.checked_mul(n)).filter(|&n| n < 1 << 62);
        if size < -1 || elements.is_none() {
            return Some(Fault::DeclaredSize { name: info.name().to_owned(), dim, size });
        }
    }
    None
}
