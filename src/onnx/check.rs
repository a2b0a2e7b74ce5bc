//! Structure of a model from anywhere: checked before any runtime sees its bytes.

use std::collections::HashSet;

use crate::onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, tensor_proto::DataLocation,
    tensor_proto::DataType,
};
use crate::onnx::scan::Held;

/// What is wrong with a model, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// A version nobody has published, or one too old to be read.
    #[error("{what} {version} is not supported; {oldest} to {newest} are")]
    Version {
        /// `IR version` or `opset`.
        what: &'static str,
        /// The model's.
        version: i64,
        /// Oldest supported.
        oldest: i64,
        /// Newest supported.
        newest: i64,
    },
    /// The model does not say which operator set it uses.
    #[error("the model does not import the default operator set")]
    NoOpset,
    /// A name is used before anything has it.
    #[error("node `{node}` uses `{name}`, which nothing before it defines")]
    Undefined {
        /// The node.
        node: String,
        /// The name.
        name: String,
    },
    /// An output of the model that nothing computes.
    #[error("output `{0}` is computed by no node")]
    NoSuchOutput(String),
    /// A name is defined twice.
    #[error("`{0}` is defined twice")]
    DefinedTwice(String),
    /// An attribute's value makes no sense.
    #[error("node `{node}`: {attribute} is {value}, it has to be {needed}")]
    Attribute {
        /// The node.
        node: String,
        /// The attribute.
        attribute: String,
        /// Its value.
        value: i64,
        /// What it has to be.
        needed: &'static str,
    },
    /// A tensor's shape is negative or overflows.
    #[error("tensor `{name}` has the impossible shape {dims:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its dimensions.
        dims: Vec<i64>,
    },
    /// A tensor has no known element type.
    #[error("tensor `{name}` has the unknown element type {data_type}")]
    ElementType {
        /// The tensor.
        name: String,
        /// Number of the type.
        data_type: i32,
    },
    /// A tensor has more or fewer bytes than its shape.
    #[error("tensor `{name}` has {actual} bytes of data, its shape needs {expected}")]
    DataLength {
        /// The tensor.
        name: String,
        /// Bytes of its shape.
        expected: u64,
        /// Bytes in the file.
        actual: u64,
    },
    /// External data outside the model's folder.
    #[error("tensor `{name}` keeps its data at `{location}`, which is not a plain path below the model's folder")]
    Location {
        /// The tensor.
        name: String,
        /// Where it says the data is.
        location: String,
    },
    /// A tensor has more or fewer strings than its shape.
    #[error("tensor `{name}` has {actual} strings, its shape needs {expected}")]
    StringCount {
        /// The tensor.
        name: String,
        /// Strings of its shape.
        expected: u64,
        /// Strings in the file.
        actual: u64,
    },
    /// A tensor's data is in more than one place.
    #[error("tensor `{0}` has its data in more than one place; readers differ in which they take")]
    DataTwice(String),
}

/// Oldest and newest IR version.
pub(super) const IR_VERSIONS: (i64, i64) = (3, 14);
/// Oldest and newest version of the default operator set.
pub(super) const OPSETS: (i64, i64) = (7, 28);

/// Checks versions, names, order, attributes of windows, and that every tensor has the data its shape needs.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(model: &ModelProto) -> Result<(), CheckError> {
    within("IR version", model.ir_version(), IR_VERSIONS)?;
    let opset = model.opset_import.iter().find(|set| matches!(set.domain(), "" | "ai.onnx"));
    within("opset", opset.ok_or(CheckError::NoOpset)?.version(), OPSETS)?;
    for function in &model.functions {
        let names = distinct(function.input.iter().map(String::as_str))?;
        check_nodes(&function.node, &mut Scope { names, outer: None })?;
    }
    let Some(graph) = &model.graph else { return Ok(()) };
    check_graph(graph, None)
}

/// Names that a graph's nodes may use: its own, and those of the graphs around it. A chain, since to copy the names
/// of a large graph for each of its many inner ones would take forever.
struct Scope<'a, 'o> {
    names: HashSet<&'a str>,
    outer: Option<&'o Scope<'a, 'o>>,
}

impl Scope<'_, '_> {
    fn knows(&self, name: &str) -> bool {
        self.names.contains(name) || self.outer.is_some_and(|outer| outer.knows(name))
    }
}

pub(super) fn within(what: &'static str, version: i64, (oldest, newest): (i64, i64)) -> Result<(), CheckError> {
    if (oldest..=newest).contains(&version) {
        return Ok(());
    }
    Err(CheckError::Version { what, version, oldest, newest })
}

fn check_graph<'a>(graph: &'a GraphProto, outer: Option<&Scope<'a, '_>>) -> Result<(), CheckError> {
    graph.initializer.iter().try_for_each(check_tensor)?;
    // Up to IR version 3 every initializer is an input as well, later it may be.
    let mut names = distinct(graph.initializer.iter().map(TensorProto::name))?;
    names.extend(distinct(graph.input.iter().map(|input| input.name()))?);
    graph.sparse_initializer.iter().try_for_each(check_sparse_tensor)?;
    let sparse = graph.sparse_initializer.iter().filter_map(|tensor| tensor.values.as_ref());
    names.extend(sparse.map(TensorProto::name));
    let mut scope = Scope { names, outer };
    check_nodes(&graph.node, &mut scope)?;
    let missing = graph.output.iter().find(|output| !scope.knows(output.name()));
    missing.map_or(Ok(()), |output| Err(CheckError::NoSuchOutput(output.name().to_owned())))
}

fn check_nodes<'a>(nodes: &'a [NodeProto], scope: &mut Scope<'a, '_>) -> Result<(), CheckError> {
    for node in nodes {
        for name in node.input.iter().filter(|name| !name.is_empty()) {
            if !scope.knows(name) {
                return Err(CheckError::Undefined { node: label(node), name: name.clone() });
            }
        }
        for attribute in &node.attribute {
            check_attribute(node, attribute)?;
            attribute.t.iter().chain(&attribute.tensors).try_for_each(check_tensor)?;
            attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors).try_for_each(check_sparse_tensor)?;
            attribute.g.iter().chain(&attribute.graphs).try_for_each(|graph| check_graph(graph, Some(scope)))?;
        }
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            if !scope.names.insert(name) {
                return Err(CheckError::DefinedTwice(name.clone()));
            }
        }
    }
    Ok(())
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Result<HashSet<&'a str>, CheckError> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(CheckError::DefinedTwice(name.to_owned()));
        }
    }
    Ok(seen)
}

/// Windows, strides, dilations and groups of zero or less end some runtimes with a crash.
pub(super) fn check_attribute(node: &NodeProto, attribute: &AttributeProto) -> Result<(), CheckError> {
    let Some(least) = least(node.op_type(), attribute.name()) else { return Ok(()) };
    let wrong = attribute.ints.iter().chain(&attribute.i).find(|&&n| n < least || n > i64::from(i32::MAX));
    let Some(&value) = wrong else { return Ok(()) };
    let needed = if least == 1 { "1 or more, in 31 bits" } else { "0 or more, in 31 bits" };
    Err(CheckError::Attribute { node: label(node), attribute: attribute.name().to_owned(), value, needed })
}

/// The least value of an attribute that something is divided by, or counted with.
fn least(op: &str, attribute: &str) -> Option<i64> {
    match (op, attribute) {
        (
            "Conv" | "ConvTranspose" | "ConvInteger" | "QLinearConv" | "FusedConv" | "NhwcConv" | "NhwcFusedConv"
            | "DeformConv" | "MaxPool" | "AveragePool" | "QLinearAveragePool" | "LpPool" | "MaxUnpool" | "Col2Im",
            _,
        ) => match attribute {
            "kernel_shape" | "strides" | "dilations" | "group" | "offset_group" => Some(1),
            "pads" | "output_padding" => Some(0),
            _ => None,
        },
        ("DepthToSpace" | "SpaceToDepth", "blocksize") | ("LRN", "size") | ("Split", "num_outputs") => Some(1),
        ("MaxRoiPool", "pooled_shape") | ("RoiAlign", "output_height" | "output_width") => Some(1),
        ("RoiAlign", "sampling_ratio") => Some(0),
        ("GroupNormalization", "num_groups") => Some(1),
        _ => None,
    }
}

fn check_tensor(tensor: &TensorProto) -> Result<(), CheckError> {
    check_stored(tensor, &Held::of(tensor)).map(drop)
}

/// Checks a tensor whose file has this much data for it; bytes of its elements, if their size is fixed.
pub(super) fn check_stored(tensor: &TensorProto, held: &Held) -> Result<Option<u64>, CheckError> {
    let name = || tensor.name().to_owned();
    let elements = tensor.dims.iter().try_fold(1u64, |product, &n| product.checked_mul(u64::try_from(n).ok()?));
    let shape_error = || CheckError::Shape { name: name(), dims: tensor.dims.clone() };
    let elements = elements.ok_or_else(shape_error)?;
    let data_type = DataType::try_from(tensor.data_type()).ok().filter(|ty| *ty != DataType::Undefined);
    let Some(data_type) = data_type else {
        return Err(CheckError::ElementType { name: name(), data_type: tensor.data_type() });
    };
    let is_external = tensor.data_location() == DataLocation::External;
    if held.fields() + usize::from(is_external) > 1 {
        return Err(CheckError::DataTwice(name()));
    }
    let expected = match element_bits(data_type) {
        Some(bits) => Some(elements.checked_mul(bits).ok_or_else(shape_error)?.div_ceil(8)),
        None => None,
    };
    if is_external {
        return check_location(tensor).map(|()| expected);
    }
    let Some((bits, needed)) = element_bits(data_type).zip(expected) else {
        // Of strings, whose bytes are not known beforehand, the number counts.
        if held.strings != elements {
            return Err(CheckError::StringCount { name: name(), expected: elements, actual: held.strings });
        }
        return Ok(None);
    };
    let actual = held.raw.unwrap_or_else(|| typed_bytes(held, data_type, bits));
    if actual != needed {
        return Err(CheckError::DataLength { name: name(), expected: needed, actual });
    }
    Ok(expected)
}

fn check_sparse_tensor(tensor: &SparseTensorProto) -> Result<(), CheckError> {
    tensor.values.iter().chain(&tensor.indices).try_for_each(check_tensor)
}

fn check_location(tensor: &TensorProto) -> Result<(), CheckError> {
    let location =
        tensor.external_data.iter().find(|entry| entry.key() == "location").map_or("", |entry| entry.value());
    let has_drive = matches!(location.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
    let plain = !location.is_empty()
        && !has_drive
        && !location.contains(['\\', '\0'])
        && location.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !location.contains("_ORT_MEM_ADDR_");
    if plain {
        return Ok(());
    }
    Err(CheckError::Location { name: tensor.name().to_owned(), location: location.to_owned() })
}

/// Bits of one element; `None` for strings, whose size is not fixed.
pub(super) fn element_bits(data_type: DataType) -> Option<u64> {
    Some(match data_type {
        DataType::Undefined | DataType::String => return None,
        DataType::Uint2 | DataType::Int2 => 2,
        DataType::Uint4 | DataType::Int4 | DataType::Float4e2m1 => 4,
        DataType::Float6e2m3 | DataType::Float6e3m2 => 6,
        DataType::Uint8
        | DataType::Int8
        | DataType::Bool
        | DataType::Float8e4m3fn
        | DataType::Float8e4m3fnuz
        | DataType::Float8e5m2
        | DataType::Float8e5m2fnuz
        | DataType::Float8e8m0 => 8,
        DataType::Uint16 | DataType::Int16 | DataType::Float16 | DataType::Bfloat16 => 16,
        DataType::Float | DataType::Int32 | DataType::Uint32 => 32,
        DataType::Int64 | DataType::Uint64 | DataType::Double | DataType::Complex64 => 64,
        DataType::Complex128 => 128,
    })
}

/// Bytes of the elements in the typed field that belongs to the element type.
fn typed_bytes(held: &Held, data_type: DataType, bits: u64) -> u64 {
    let elements = match data_type {
        DataType::Float => held.floats,
        DataType::Complex64 => held.floats / 2,
        DataType::Double => held.doubles,
        DataType::Complex128 => held.doubles / 2,
        DataType::Int64 => held.int64s,
        DataType::Uint32 | DataType::Uint64 => held.uint64s,
        // Elements of two or four bits are packed, a byte to each integer.
        _ if bits < 6 => return held.int32s,
        _ => held.int32s,
    };
    elements.saturating_mul(bits).div_ceil(8)
}

/// A node as messages name it: its name, or its op and first output.
pub(super) fn label(node: &NodeProto) -> String {
    match node.name() {
        "" => format!("{} of {}", node.op_type(), node.output.first().map_or("nothing", String::as_str)),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::Conv;
    use crate::ir::{GraphBuilder, Seeded};
    use crate::onnx::proto::{FunctionProto, StringStringEntryProto};
    use crate::onnx::{Options, lower, read};
    use crate::tensor::{Dim, TensorType};

    fn model() -> ModelProto {
        let mut g = GraphBuilder::new("x");
        let x = g.input("image", TensorType::f32([1, 3, 8, 8].map(Dim::Fixed))).unwrap();
        let x = g.conv("a", x, Conv::square(3), 4).unwrap();
        let x = g.relu("b", x).unwrap();
        let graph = g.finish([("out", x)]).unwrap();
        read(lower(&graph, &Options::default()).to_bytes(&Seeded(0)).into()).unwrap()
    }

    #[test]
    fn our_own_models_pass() {
        assert_eq!(check(&model()), Ok(()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        fn graph(model: &mut ModelProto) -> &mut GraphProto {
            model.graph.as_mut().unwrap()
        }
        let location = |location: &'static str| {
            move |m: &mut ModelProto| {
                let tensor = &mut graph(m).initializer[0];
                tensor.raw_data = None;
                tensor.data_location = Some(DataLocation::External.into());
                let entry = StringStringEntryProto { key: Some("location".into()), value: Some(location.into()) };
                tensor.external_data = vec![entry];
            }
        };
        let attribute = |at: usize, value: i64| {
            move |m: &mut ModelProto| {
                let attribute = &mut graph(m).node[0].attribute[at];
                attribute.i.iter_mut().chain(&mut attribute.ints).for_each(|n| *n = value);
            }
        };
        type Spoil = Box<dyn Fn(&mut ModelProto)>;
        let cases: Vec<(&str, Spoil)> = vec![
            ("IR version 99 is not supported; 3 to 14 are", Box::new(|m| m.ir_version = Some(99))),
            ("opset 5 is not supported; 7 to 28 are", Box::new(|m| m.opset_import[0].version = Some(5))),
            ("the model does not import the default operator set", Box::new(|m| m.opset_import.clear())),
            (
                "node `/b` uses `c`, which nothing before it defines",
                Box::new(|m| {
                    graph(m).node[1].input[0] = "c".into();
                }),
            ),
            ("node `/b` uses `a`, which nothing before it defines", Box::new(|m| graph(m).node.swap(0, 1))),
            ("`a` is defined twice", Box::new(|m| graph(m).node[1].output[0] = "a".into())),
            (
                "`a.weight` is defined twice",
                Box::new(|m| {
                    let tensor = graph(m).initializer[0].clone();
                    graph(m).initializer.push(tensor);
                }),
            ),
            ("output `nothing` is computed by no node", Box::new(|m| graph(m).output[0].name = Some("nothing".into()))),
            ("node `/a`: dilations is 0, it has to be 1 or more, in 31 bits", Box::new(attribute(0, 0))),
            ("node `/a`: group is -3, it has to be 1 or more, in 31 bits", Box::new(attribute(1, -3))),
            ("node `/a`: pads is -1, it has to be 0 or more, in 31 bits", Box::new(attribute(3, -1))),
            ("node `/a`: strides is 0, it has to be 1 or more, in 31 bits", Box::new(attribute(4, 0))),
            (
                "tensor `a.weight` has the impossible shape [-4, 3, 3, 3]",
                Box::new(|m| {
                    graph(m).initializer[0].dims[0] = -4;
                }),
            ),
            (
                "tensor `a.weight` has the impossible shape [4611686018427387904, 3, 3, 3]",
                Box::new(|m| {
                    graph(m).initializer[0].dims[0] = 1 << 62;
                }),
            ),
            (
                "tensor `a.weight` has 432 bytes of data, its shape needs 540",
                Box::new(|m| {
                    graph(m).initializer[0].dims[0] = 5;
                }),
            ),
            (
                "tensor `a.weight` has the unknown element type 77",
                Box::new(|m| {
                    graph(m).initializer[0].data_type = Some(77);
                }),
            ),
            (
                "tensor `a.weight` keeps its data at `../secret`, which is not a plain path below the model's folder",
                Box::new(location("../secret")),
            ),
            (
                "tensor `a.weight` keeps its data at `/etc/passwd`, which is not a plain path below the model's folder",
                Box::new(location("/etc/passwd")),
            ),
        ];
        for (expected, spoil) in cases {
            let mut model = model();
            spoil(&mut model);
            assert_eq!(check(&model).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn external_data_is_below_the_model() {
        let of = |location: &str| {
            let mut model = model();
            let tensor = &mut model.graph.as_mut().unwrap().initializer[0];
            tensor.raw_data = None;
            tensor.data_location = Some(DataLocation::External.into());
            let entry = StringStringEntryProto { key: Some("location".into()), value: Some(location.into()) };
            tensor.external_data = vec![entry];
            check(&model)
        };
        for location in ["big.onnx.data", "big:1.onnx.data", "1:2", "weights/c:0", "weights/..data", "ü:x"] {
            assert_eq!(of(location), Ok(()), "{location}");
        }
        let refused = [
            "",
            "c:",
            "c:data",
            "C:/data",
            "/data",
            "a//b",
            "a/",
            ".",
            "./a",
            "../a",
            "a/../b",
            "a\\b",
            "a\0b",
            "*/_ORT_MEM_ADDR_/*",
        ];
        for location in refused {
            assert!(matches!(of(location), Err(CheckError::Location { .. })), "{location}");
        }
    }

    #[test]
    fn functions_and_sparse_tensors_are_looked_at() {
        let mut with_function = model();
        let graph = with_function.graph.as_ref().unwrap();
        let function = FunctionProto { node: vec![graph.node[1].clone()], ..FunctionProto::default() };
        with_function.functions.push(function);
        let error = check(&with_function).unwrap_err().to_string();
        assert_eq!(error, "node `/b` uses `a`, which nothing before it defines");
        with_function.functions[0].input.push("a".into());
        assert_eq!(check(&with_function), Ok(()));

        let mut with_sparse = model();
        let graph = with_sparse.graph.as_mut().unwrap();
        let mut values = graph.initializer[0].clone();
        (values.name, values.dims) = (Some("sparse".into()), vec![3]);
        graph.sparse_initializer.push(SparseTensorProto { values: Some(values), ..SparseTensorProto::default() });
        let error = check(&with_sparse).unwrap_err().to_string();
        assert_eq!(error, "tensor `sparse` has 432 bytes of data, its shape needs 12");
    }

    #[test]
    fn inner_graphs_see_the_outer_names() {
        let mut model = model();
        let graph = model.graph.as_mut().unwrap();
        let inner = GraphProto { node: vec![graph.node[1].clone()], ..GraphProto::default() };
        let attribute = AttributeProto { name: Some("then_branch".into()), g: Some(inner), ..Default::default() };
        graph.node[1].attribute.push(attribute);
        assert_eq!(check(&model), Ok(()));
    }
}
