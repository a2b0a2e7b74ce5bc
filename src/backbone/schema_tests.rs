//! The JSON Schema of specs says what the reader does.

use serde_json::Value;

use super::*;
use crate::yaml::{self, Problem};

/// What is wrong with a value by a schema, in the words of JSON Schema that ours uses; it fails at any other.
fn faults(root: &Value, schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut hold = |holds: bool, key: &str| {
        if !holds {
            faults.push(format!("{path}: {key}"));
        }
    };
    let size = |length: usize, limit: &Value| (length as u64).cmp(&limit.as_u64().unwrap());
    let length = value.as_str().map(|text| text.chars().count()).or_else(|| value.as_array().map(Vec::len));
    let mut inner = Vec::new();
    for (key, rule) in schema.as_object().unwrap() {
        match key.as_str() {
            "$schema" | "$id" | "$defs" | "title" | "description" | "default" | "examples" | "if" => {}
            "$ref" => {
                let target = root.pointer(rule.as_str().unwrap().strip_prefix('#').unwrap());
                inner.push((target.expect("a definition"), value, path.to_owned()));
            }
            "type" => hold(
                match rule.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_u64() || value.is_i64(),
                    other => panic!("type {other}"),
                },
                key,
            ),
            "const" => hold(value == rule, key),
            "enum" => hold(rule.as_array().unwrap().contains(value), key),
            "minimum" => hold(value.as_i64().is_none_or(|n| n >= rule.as_i64().unwrap()), key),
            "maximum" => hold(value.as_i64().is_none_or(|n| n <= rule.as_i64().unwrap()), key),
            "multipleOf" => hold(value.as_u64().is_none_or(|n| n.is_multiple_of(rule.as_u64().unwrap())), key),
            "minLength" | "minItems" => hold(length.is_none_or(|n| size(n, rule).is_ge()), key),
            "maxLength" | "maxItems" => hold(length.is_none_or(|n| size(n, rule).is_le()), key),
            "pattern" => {
                let pattern = regex::Regex::new(rule.as_str().unwrap()).unwrap();
                hold(value.as_str().is_none_or(|text| pattern.is_match(text)), key);
            }
            "anyOf" => {
                let any = rule.as_array().unwrap().iter().any(|rule| self::faults(root, rule, value, path).is_empty());
                hold(any, key);
            }
            "then" => {
                if self::faults(root, &schema["if"], value, path).is_empty() {
                    inner.push((rule, value, path.to_owned()));
                }
            }
            "required" => {
                let there = |name: &Value| value.get(name.as_str().unwrap()).is_some();
                hold(rule.as_array().unwrap().iter().all(there), key);
            }
            "additionalProperties" => {
                assert_eq!(rule, &Value::Bool(false));
                let known = |name| schema["properties"].get(name).is_some();
                hold(value.as_object().is_none_or(|map| map.keys().all(known)), key);
            }
            "properties" => {
                let there = rule.as_object().unwrap().iter();
                inner.extend(there.filter_map(|(name, rule)| Some((rule, value.get(name)?, format!("{path}.{name}")))));
            }
            "items" => {
                let items = value.as_array().into_iter().flatten();
                inner.extend(items.map(|item| (rule, item, format!("{path}[]"))));
            }
            "prefixItems" => {
                let pairs = rule.as_array().unwrap().iter().zip(value.as_array().into_iter().flatten());
                inner.extend(pairs.map(|(rule, item)| (rule, item, format!("{path}[]"))));
            }
            other => panic!("`{other}` means nothing to this test"),
        }
    }
    faults.extend(inner.into_iter().flat_map(|(rule, value, path)| self::faults(root, rule, value, &path)));
    faults
}

fn faults_of(text: &str) -> Vec<String> {
    let schema = serde_json::from_str(SCHEMA).unwrap();
    let value: Value = yaml::read(text).unwrap();
    faults(&schema, &schema, &value, "spec")
}

const EXAMPLE: &str = include_str!("../../schema/spec.example.yaml");

#[test]
fn it_admits_the_presets_and_the_example() {
    for (name, text) in PRESETS.into_iter().chain([("the example", EXAMPLE)]) {
        assert_eq!(faults_of(text), Vec::<String>::new(), "{name}");
        let written = Spec::read(text).unwrap().write().unwrap();
        assert_eq!(faults_of(&written), Vec::<String>::new(), "{name}, written again");
    }
}

#[test]
fn it_knows_the_keys_that_the_reader_knows() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    for (text, pointer) in [
        ("unknown: 1", ""),
        ("input: { unknown: 1 }", "/properties/input"),
        ("stem: { unknown: 1 }", "/properties/stem"),
        ("block: { unknown: 1 }", "/properties/block"),
        ("stages: [{ unknown: 1 }]", "/$defs/stage"),
        ("head: { unknown: 1 }", "/properties/head"),
    ] {
        let Err(SpecError::Yaml(error)) = Spec::read(text) else { panic!("{text}") };
        let Problem::UnknownKey { mut known, .. } = error.problem else { panic!("{error}") };
        known.sort();
        let properties = schema.pointer(&format!("{pointer}/properties")).unwrap().as_object().unwrap();
        let mut keys: Vec<&String> = properties.keys().collect();
        keys.sort();
        assert_eq!(keys, known.iter().collect::<Vec<_>>(), "{text}");
    }
}

/// The same texts are refused by the schema and by the reader, and the neighbouring ones by neither.
#[test]
fn it_refuses_what_the_reader_refuses() {
    const SMALL: &str = "\
format: 1
name: small
first_conv: conv3x3
input: { channels: 3, height: 8, width: 8 }
stem: { kind: stacked, channels: [8, 16] }
block: { affine: false }
stages:
  - { blocks: 1, layers: 2, mid: 8, out: 32, stride: 1, conv: first }
head: { hidden: 8, classes: 8 }
";
    let with = |from: &str, to: &str| {
        assert!(SMALL.contains(from), "{from}");
        SMALL.replacen(from, to, 1)
    };
    let cases = [
        ("format: 1", "format: 1", "format: 2"),
        ("name: small", "name: s", "name: \"\""),
        ("name: small", "name: \"a b\"", "name: \"a\\tb\""),
        ("conv3x3", "group2conv1x31", "group1conv1x31"),
        ("conv3x3", "dw29x1", "dw29x2"),
        ("conv3x3", "conv1x7", "conv33x1"),
        ("channels: 3", "channels: 65536", "channels: 65537"),
        ("height: 8", "height: 16384", "height: 16385"),
        ("width: 8", "width: 1", "width: 0"),
        ("kind: stacked", "kind: branched", "kind: branchd"),
        ("stacked, channels: [8, 16]", "branched, channels: [2, 3]", "branched, channels: [3, 2]"),
        ("stacked, channels: [8, 16]", "stacked, channels: [1]", "branched, channels: [2]"),
        ("[8, 16]", "[1, 1, 1, 1, 1, 1, 1, 1]", "[1, 1, 1, 1, 1, 1, 1, 1, 1]"),
        ("[8, 16]", "[1]", "[]"),
        ("affine: false", "affine: true", "affine: 1"),
        ("affine: false", "aggregation: squeeze_excite", "aggregation: squeeze"),
        ("affine: false", "gate: ese", "gate: se"),
        ("blocks: 1", "blocks: 64", "blocks: 65"),
        ("layers: 2", "layers: 64", "layers: 65"),
        ("mid: 8", "mid: 65536", "mid: 0"),
        ("out: 32", "out: 65536", "out: 65537"),
        ("stride: 1", "stride: 2", "stride: 3"),
        ("conv: first", "conv: dw5x5", "conv: second"),
        ("conv: first", "residual: false", "residual: no_way"),
        ("mid: 8, ", "mid: 9, ", ""),
        ("hidden: 8", "hidden: 65536", "hidden: 65537"),
        ("classes: 8", "classes: 1048576", "classes: 1048577"),
        ("head: { hidden: 8, classes: 8 }", "", "head: { hidden: 8 }"),
        ("head: { hidden: 8, classes: 8 }", "outputs: [c2]", "outputs: []"),
        ("head:", "outputs: [c2, logits]\nhead:", "outputs: [logit]\nhead:"),
    ];
    for (from, right, wrong) in cases {
        let (right, wrong) = (with(from, right), with(from, wrong));
        assert!(Spec::read(&right).is_ok(), "{right}");
        assert_eq!(faults_of(&right), Vec::<String>::new(), "{right}");
        assert!(Spec::read(&wrong).is_err(), "{wrong}");
        assert_ne!(faults_of(&wrong), Vec::<String>::new(), "{wrong}");
    }
    let stages = |n| with("head", &("  - { blocks: 1, layers: 1, mid: 1, out: 1 }\n".repeat(n) + "head"));
    assert_eq!((Spec::read(&stages(15)).is_ok(), faults_of(&stages(15)).len()), (true, 0));
    assert_eq!((Spec::read(&stages(16)).is_ok(), faults_of(&stages(16)).len()), (false, 1));
}
