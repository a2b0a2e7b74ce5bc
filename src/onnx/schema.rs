//! What the operators of each operator set take, give and are told: `schema/onnx_ops.txt` as a table.

use std::collections::HashMap;
use std::str::{FromStr, SplitAsciiWhitespace};
use std::sync::LazyLock;

use crate::onnx::proto::attribute_proto::AttributeType;
use crate::onnx::proto::{NodeProto, tensor_proto::DataType};

/// The name of the domain that is meant where none is named.
pub const DEFAULT_DOMAIN: &str = "ai.onnx";

/// One form of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// Version of the operator set that brought this form.
    pub since: i64,
    /// How many inputs it takes.
    pub inputs: Span,
    /// How many outputs it has.
    pub outputs: Span,
    /// Whether it was taken out of the operator set with this form.
    pub deprecated: bool,
    /// What it can be told.
    pub attributes: Vec<Attribute>,
}

/// Least and most of something; no most for any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The least.
    pub least: usize,
    /// The most.
    pub most: Option<usize>,
}

/// An attribute of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub ty: AttributeType,
    /// Whether it has to be given.
    pub required: bool,
}

/// What is known of an operator in an operator set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// Its form there.
    Known(&'static Operator),
    /// The domain is not in the table.
    UnknownDomain,
    /// The operator set has no such operator; a newer one may.
    NoSuchOperator {
        /// The version that brought it.
        newer: Option<i64>,
    },
}

struct Domain {
    newest: i64,
    operators: HashMap<&'static str, Vec<Operator>>,
}

static DOMAINS: LazyLock<HashMap<&'static str, Domain>> =
    LazyLock::new(|| parse(include_str!("../../schema/onnx_ops.txt")).unwrap_or_default());

/// The form of an operator in this version of a domain's operator set.
pub fn lookup(domain: &str, op: &str, version: i64) -> Lookup {
    let Some(domain) = DOMAINS.get(named(domain)) else { return Lookup::UnknownDomain };
    let forms = domain.operators.get(op).map_or(&[][..], Vec::as_slice);
    match forms.iter().rev().find(|form| form.since <= version) {
        Some(form) if !form.deprecated => Lookup::Known(form),
        Some(_) => Lookup::NoSuchOperator { newer: None },
        None => Lookup::NoSuchOperator { newer: forms.first().map(|form| form.since) },
    }
}

/// The newest version of a domain's operator set; `None` for a domain that is not in the table.
pub fn newest(domain: &str) -> Option<i64> {
    DOMAINS.get(named(domain)).map(|domain| domain.newest)
}

/// The domain by its name, the default one too.
pub fn named(domain: &str) -> &str {
    if domain.is_empty() { DEFAULT_DOMAIN } else { domain }
}

/// The element type of one of a node's results, from those of its operands; `None` where it is not known.
pub(super) fn result_type(
    node: &NodeProto,
    result: usize,
    operand: &dyn Fn(usize) -> Option<DataType>,
) -> Option<DataType> {
    let attribute = |name: &str| node.attribute.iter().find(|attribute| attribute.name() == name);
    let tensor = |name: &str| DataType::try_from(attribute(name)?.t.as_ref()?.data_type()).ok();
    match (node.op_type(), result) {
        ("Cast", _) => attribute("to").and_then(|to| DataType::try_from(i32::try_from(to.i()).ok()?).ok()),
        ("Shape" | "Size" | "NonZero" | "ArgMax" | "ArgMin" | "NonMaxSuppression", _) | ("MaxPool" | "TopK", 1) => {
            Some(DataType::Int64)
        }
        (
            "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "Not" | "And" | "Or" | "Xor" | "IsNaN"
            | "IsInf",
            _,
        )
        | ("Dropout", 1) => Some(DataType::Bool),
        ("ConstantOfShape", _) => Some(tensor("value").unwrap_or(DataType::Float)),
        ("Constant", _) if attribute("value_int").or(attribute("value_ints")).is_some() => Some(DataType::Int64),
        ("Constant", _) if attribute("value_float").or(attribute("value_floats")).is_some() => Some(DataType::Float),
        ("Constant", _) => tensor("value"),
        ("QuantizeLinear", _) => Some(operand(2).unwrap_or(DataType::Uint8)),
        ("DynamicQuantizeLinear", 1) => Some(DataType::Float),
        ("DynamicQuantizeLinear", _) => Some(DataType::Uint8),
        ("DequantizeLinear" | "Where", _) => operand(1),
        ("OneHot", _) => operand(2),
        ("ConvInteger" | "MatMulInteger", _) => Some(DataType::Int32),
        _ => operand(0),
    }
}

impl Span {
    /// Whether so many are allowed.
    pub fn holds(self, n: usize) -> bool {
        n >= self.least && self.most.is_none_or(|most| n <= most)
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.most {
            Some(most) if most == self.least => write!(f, "{most}"),
            Some(most) => write!(f, "{} to {most}", self.least),
            None => write!(f, "{} or more", self.least),
        }
    }
}

impl FromStr for Span {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (least, most) = text.split_once('-').ok_or(())?;
        let most = if most == "*" { None } else { Some(most.parse().map_err(drop)?) };
        Ok(Self { least: least.parse().map_err(drop)?, most })
    }
}

fn parse(table: &'static str) -> Option<HashMap<&'static str, Domain>> {
    let mut domains: HashMap<&'static str, Domain> = HashMap::new();
    let mut current = None;
    for line in table.lines() {
        let mut words = line.split_ascii_whitespace();
        let name = words.next()?;
        if name == "@" {
            let domain = Domain { newest: 0, operators: HashMap::new() };
            let domain_name = words.next()?;
            current = Some(domain_name);
            domains.insert(domain_name, Domain { newest: words.next()?.parse().ok()?, ..domain });
            continue;
        }
        // The forms of an operator stand in the order of their versions.
        domains.get_mut(current?)?.operators.entry(name).or_default().push(operator(words)?);
    }
    Some(domains)
}

fn operator(mut words: SplitAsciiWhitespace<'static>) -> Option<Operator> {
    let since = words.next()?.parse().ok()?;
    let (inputs, outputs) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let mut words = words.peekable();
    let deprecated = words.next_if_eq(&"deprecated").is_some();
    let attributes = words.map(attribute).collect::<Option<Vec<_>>>()?;
    Some(Operator { since, inputs, outputs, deprecated, attributes })
}

fn attribute(word: &'static str) -> Option<Attribute> {
    let (name, ty) = word.split_once(':')?;
    let ty = match ty.trim_end_matches('!') {
        "i" => AttributeType::Int,
        "f" => AttributeType::Float,
        "s" => AttributeType::String,
        "t" => AttributeType::Tensor,
        "g" => AttributeType::Graph,
        "p" => AttributeType::SparseTensor,
        "y" => AttributeType::TypeProto,
        "I" => AttributeType::Ints,
        "F" => AttributeType::Floats,
        "S" => AttributeType::Strings,
        "T" => AttributeType::Tensors,
        "G" => AttributeType::Graphs,
        "P" => AttributeType::SparseTensors,
        "Y" => AttributeType::TypeProtos,
        _ => return None,
    };
    Some(Attribute { name, ty, required: word.ends_with('!') })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(domain: &str, op: &str, version: i64) -> &'static Operator {
        match lookup(domain, op, version) {
            Lookup::Known(operator) => operator,
            other => panic!("{op}: {other:?}"),
        }
    }

    #[test]
    fn results_have_the_types_that_onnx_gives_them() {
        use crate::onnx::proto::{AttributeProto, TensorProto};
        let node = |op: &str, attribute: &[AttributeProto]| NodeProto {
            op_type: Some(op.to_owned()),
            attribute: attribute.to_vec(),
            ..NodeProto::default()
        };
        let named = |name: &str| AttributeProto { name: Some(name.to_owned()), ..AttributeProto::default() };
        let to = AttributeProto { i: Some(10), ..named("to") };
        let value = TensorProto { data_type: Some(7), ..TensorProto::default() };
        let value = AttributeProto { t: Some(value), ..named("value") };
        let (half, double, int64) = (DataType::Float16, DataType::Double, DataType::Int64);
        let operands = [half, double, int64];
        for (node, result, expected) in [
            (node("Relu", &[]), 0, Some(half)),
            (node("Cast", &[to]), 0, Some(half)),
            (node("Cast", &[]), 0, None),
            (node("Shape", &[]), 0, Some(int64)),
            (node("MaxPool", &[]), 0, Some(half)),
            (node("MaxPool", &[]), 1, Some(int64)),
            (node("Dropout", &[]), 1, Some(DataType::Bool)),
            (node("Where", &[]), 0, Some(double)),
            (node("OneHot", &[]), 0, Some(int64)),
            (node("ConstantOfShape", &[]), 0, Some(DataType::Float)),
            (node("ConstantOfShape", std::slice::from_ref(&value)), 0, Some(int64)),
            (node("Constant", &[value]), 0, Some(int64)),
            (node("Constant", &[named("value_floats")]), 0, Some(DataType::Float)),
            (node("ConvInteger", &[]), 0, Some(DataType::Int32)),
        ] {
            let found = result_type(&node, result, &|operand| operands.get(operand).copied());
            assert_eq!(found, expected, "{} {result}", node.op_type());
        }
    }

    #[test]
    fn the_table_is_read() {
        assert_eq!(newest(""), newest("ai.onnx"));
        assert!(newest("").unwrap() >= 27);
        assert_eq!(newest("com.example"), None);
    }

    /// Written down from the text of the specification.
    #[test]
    fn operators_have_the_forms_of_the_specification() {
        assert_eq!(form("", "Clip", 6).inputs, Span { least: 1, most: Some(1) });
        assert_eq!(form("", "Clip", 11).inputs, Span { least: 1, most: Some(3) });
        assert_eq!(form("", "Clip", 10).since, 6);
        assert_eq!(form("", "Concat", 17).inputs, Span { least: 1, most: None });
        let axis = Attribute { name: "axis", ty: AttributeType::Int, required: true };
        assert_eq!(form("", "Concat", 17).attributes, [axis]);
        assert_eq!(lookup("", "Upsample", 10), Lookup::NoSuchOperator { newer: None });
        assert_eq!(lookup("", "Gelu", 17), Lookup::NoSuchOperator { newer: Some(20) });
        assert_eq!(lookup("", "Nonsense", 17), Lookup::NoSuchOperator { newer: None });
        assert_eq!(lookup("com.example", "Relu", 1), Lookup::UnknownDomain);
        assert!(form("com.microsoft", "FusedConv", 1).attributes.iter().any(|a| a.name == "activation"));
    }
}
