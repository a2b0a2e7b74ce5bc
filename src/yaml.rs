//! The one door for YAML: text to typed value and back.
//!
//! Text may come from anywhere. Before a value is made from it, its size, its nesting, its repeated keys and what its
//! aliases expand to are checked, so that reading takes time and memory in proportion to the text. Errors say line and
//! column, and for an unknown key the known one nearest to it. Tags (`!name`) are refused: no format here has any.

use std::collections::HashSet;
use std::fmt;

use serde::Serialize;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, Visitor};
use serde_yaml::Value;

use crate::nearest::{nearest, suggestion};

/// Most bytes a text may have: 4 MiB.
pub const MAX_BYTES: usize = 4 << 20;

/// Most mappings and sequences that may lie inside each other.
pub const MAX_DEPTH: usize = 32;

/// Most characters of the text that a message repeats.
const MAX_QUOTED: usize = 80;

/// Widest line that [`write`] fills with the elements of a sequence.
const LINE_WIDTH: usize = 100;

/// Why a text is not the value that was asked for, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YamlError {
    /// What is wrong.
    pub problem: Problem,
    /// Where in the text, if it is at one place.
    pub place: Option<Place>,
    /// The keys that lead to the value, such as `stages[0].blocks`; empty at the top.
    pub path: String,
}

/// A position in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// What can be wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// It has more than [`MAX_BYTES`].
    #[error("the text has {bytes} bytes, more than the {} supported", MAX_BYTES)]
    TooLong {
        /// How many it has.
        bytes: usize,
    },
    /// It holds no value.
    #[error("the text is empty")]
    Empty,
    /// More than [`MAX_DEPTH`] mappings and sequences lie inside each other.
    #[error("values are nested more than {} deep", MAX_DEPTH)]
    TooDeep,
    /// Its aliases stand for more values than a text of its length can hold.
    #[error("its aliases expand to more than the text itself could hold")]
    AliasesExpand,
    /// A key stands twice in one mapping.
    #[error("key `{0}` is given twice")]
    DuplicateKey(String),
    /// It has a tag.
    #[error("tag `!{0}` is not supported")]
    Tag(String),
    /// It is not YAML; the parser's words, the place among them.
    #[error("not valid YAML: {0}")]
    Syntax(String),
    /// A key that means nothing here.
    #[error("unknown key `{key}`")]
    UnknownKey {
        /// The key.
        key: String,
        /// The keys that may stand there.
        known: Vec<String>,
    },
    /// A name that is none of those possible here.
    #[error("unknown name `{name}`")]
    UnknownName {
        /// The name.
        name: String,
        /// The names that may stand there.
        known: Vec<String>,
    },
    /// A key that has to be there is not.
    #[error("key `{0}` is missing")]
    MissingKey(String),
    /// A value of the wrong type, or one its type refuses; the reason.
    #[error("{0}")]
    Value(String),
    /// A value that cannot be written as YAML; the reason.
    #[error("cannot be written as YAML: {0}")]
    Unwritable(String),
}

impl YamlError {
    /// The known key or name nearest to the one that is unknown, if one is near.
    pub fn nearest(&self) -> Option<&str> {
        let (Problem::UnknownKey { key: text, known } | Problem::UnknownName { name: text, known }) = &self.problem
        else {
            return None;
        };
        nearest(text, known.iter().map(String::as_str))
    }

    fn new(problem: Problem) -> Self {
        Self { problem, place: None, path: String::new() }
    }
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.problem)?;
        if !self.path.is_empty() && self.problem != Problem::TooDeep {
            write!(f, " in `{}`", self.path)?;
        }
        if let Some(Place { line, column }) = self.place
            && !matches!(self.problem, Problem::Syntax(_))
        {
            write!(f, " at line {line}, column {column}")?;
        }
        let (Problem::UnknownKey { key: text, known } | Problem::UnknownName { name: text, known }) = &self.problem
        else {
            return Ok(());
        };
        write!(f, "; {}", suggestion(text, &known.iter().map(String::as_str).collect::<Vec<_>>()))
    }
}

impl std::error::Error for YamlError {}

/// The value a text stands for.
///
/// # Errors
/// If the text is not one YAML document, is outside the limits of this module, repeats a key, or is not a `T`.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    if text.len() > MAX_BYTES {
        return Err(YamlError::new(Problem::TooLong { bytes: text.len() }));
    }
    // A byte order mark is no part of the text; the parser takes it for the end of an empty document.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if flow_depth(text) > 2 * MAX_DEPTH {
        return Err(YamlError::new(Problem::TooDeep));
    }
    let mut survey = Survey { values_left: 4 * text.len() + 16, found: None };
    let walked = Node { survey: &mut survey, depth: 0 }.deserialize(serde_yaml::Deserializer::from_str(text));
    let only_null = walked.map_err(|error| {
        let located = located(&error);
        let problem = match (survey.found.take(), &located.problem) {
            (Some(found), _) => found,
            // A key that is no text is the one thing of a wrong type that walking can meet.
            (None, Problem::Value(message)) if !message.starts_with("invalid type") => syntax(&error),
            (None, problem) => problem.clone(),
        };
        YamlError { problem, ..located }
    })?;
    if only_null {
        return Err(YamlError::new(Problem::Empty));
    }
    serde_yaml::from_str(text).map_err(|error| located(&error))
}

/// Reads a document whose key `format` says the version of its format. That is looked at first: the keys of another
/// version would only confuse.
///
/// # Errors
/// What `other` makes of another version; else as for [`read`].
pub fn read_version<T: DeserializeOwned, E: From<YamlError>>(
    text: &str,
    format: u32,
    other: impl FnOnce(u64) -> E,
) -> Result<T, E> {
    #[derive(serde::Deserialize)]
    struct Version {
        format: u64,
    }
    match read(text)? {
        Version { format: found } if found == u64::from(format) => Ok(read(text)?),
        Version { format: found } => Err(other(found)),
    }
}

/// The value as YAML, ending in a line break: one key a line, sequences of plain values in one line where they fit.
///
/// # Errors
/// If the value has no YAML form: mappings with other keys than text, or enums inside enums.
pub fn write<T: Serialize>(value: &T) -> Result<String, YamlError> {
    let value = serde_yaml::to_value(value).map_err(|e| YamlError::new(Problem::Unwritable(e.to_string())))?;
    Ok(format!("{}\n", behind(&value, 0)?.trim_start()))
}

/// What is found while walking a document without making anything from it.
struct Survey {
    values_left: usize,
    found: Option<Problem>,
}

/// One value of the document; deserializing it says whether it is null.
struct Node<'a> {
    survey: &'a mut Survey,
    depth: usize,
}

impl Node<'_> {
    fn inner(&mut self) -> Node<'_> {
        Node { survey: self.survey, depth: self.depth + 1 }
    }

    fn found<E: serde::de::Error>(&mut self, problem: Problem) -> E {
        self.survey.found.get_or_insert(problem);
        // The error carries the place; the problem itself is kept aside.
        E::custom("")
    }

    fn enter<E: serde::de::Error>(&mut self) -> Result<(), E> {
        if self.depth >= MAX_DEPTH { Err(self.found(Problem::TooDeep)) } else { Ok(()) }
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<bool, D::Error> {
        match self.survey.values_left.checked_sub(1) {
            Some(left) => self.survey.values_left = left,
            None => return Err(self.found(Problem::AliasesExpand)),
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i128<E>(self, _: i128) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u128<E>(self, _: u128) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_str<E>(self, _: &str) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_none<E>(self) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<bool, A::Error> {
        self.enter()?;
        while elements.next_element_seed(self.inner())?.is_some() {}
        Ok(false)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<bool, A::Error> {
        self.enter()?;
        let mut keys = HashSet::new();
        while let Some(key) = entries.next_key_seed(Key { survey: self.survey, keys: &keys })? {
            keys.insert(key);
            entries.next_value_seed(self.inner())?;
        }
        Ok(false)
    }

    fn visit_enum<A: EnumAccess<'de>>(mut self, data: A) -> Result<bool, A::Error> {
        let (tag, _) = data.variant::<String>()?;
        Err(self.found(Problem::Tag(quoted(&tag))))
    }
}

/// A key of a mapping, which must not be among `keys`.
struct Key<'a> {
    survey: &'a mut Survey,
    keys: &'a HashSet<String>,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text as a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<String, E> {
        if self.keys.contains(key) {
            self.survey.found.get_or_insert(Problem::DuplicateKey(quoted(key)));
            return Err(E::custom(""));
        }
        Ok(key.to_owned())
    }
}

/// The deepest that `[` and `{` can be nested, whatever the characters around them turn out to mean.
///
/// The parser takes time in the square of this depth, so it has to be known before. What is a quote and what a comment
/// depends on the whole grammar; here every reading is followed at once, and the deepest counts. It is never below the
/// true depth, and for text without brackets in quotes or comments it is the true depth.
fn flow_depth(text: &str) -> usize {
    const BEFORE_QUOTE: [char; 10] = ['[', '{', ']', '}', ',', ':', '?', '-', '&', '*'];
    let is_break = |c: char| matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}');
    // The depth reached in each reading, if that reading is possible at this character.
    let (mut plain, mut single, mut double, mut comment): (Option<usize>, Option<usize>, Option<usize>, Option<usize>) =
        (Some(0), None, None, None);
    let mut deepest = 0;
    let mut before = '\n';
    let mut escaped = false;
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        let starts_token = before.is_whitespace() || BEFORE_QUOTE.contains(&before);
        let (was_plain, was_single, was_double) = (plain, single, double);
        match c {
            '[' | '{' => plain = plain.map(|depth| depth + 1),
            ']' | '}' => plain = plain.map(|depth| depth.saturating_sub(1)),
            '#' => {
                comment = comment.max(plain);
                if before.is_whitespace() {
                    plain = None;
                }
            }
            '\'' => {
                // Two of them inside a quoted text stand for one.
                if characters.peek() == Some(&'\'') && was_single.is_some() {
                    characters.next();
                } else {
                    single = starts_token.then_some(was_plain).flatten();
                    plain = plain.max(was_single);
                }
            }
            '"' if !escaped => {
                double = starts_token.then_some(was_plain).flatten();
                plain = plain.max(was_double);
            }
            c if is_break(c) => plain = plain.max(comment.take()),
            _ => {}
        }
        escaped = c == '\\' && !escaped;
        deepest = deepest.max(plain.unwrap_or(0));
        before = c;
    }
    deepest
}

/// The problem, place and path that the parser's error speaks of.
fn located(error: &serde_yaml::Error) -> YamlError {
    let message = error.to_string();
    let place = error.location().map(|at| Place { line: at.line(), column: at.column() });
    let suffix = place.map(|at| format!(" at line {} column {}", at.line, at.column)).unwrap_or_default();
    let message = message.strip_suffix(&suffix).unwrap_or(&message);
    let (path, message) = split_path(message);
    YamlError { problem: problem_of(message), place, path: quoted(path) }
}

/// Parts `stages[0].blocks: invalid type …` into the path and the message.
fn split_path(message: &str) -> (&str, &str) {
    match message.split_once(": ") {
        Some((path, rest)) if !path.contains([' ', '`']) => (path, rest),
        _ => ("", message),
    }
}

/// Reads the kind of problem from the words serde has for it.
fn problem_of(message: &str) -> Problem {
    let unknown = |what: &str| {
        let said = message.strip_prefix(what)?.strip_prefix(" `")?;
        let (name, known) = said.rsplit_once("`, expected ").or_else(|| said.rsplit_once("`, there are no "))?;
        let known = known.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        Some((quoted(name), known))
    };
    if let Some((key, known)) = unknown("unknown field") {
        Problem::UnknownKey { key, known }
    } else if let Some((name, known)) = unknown("unknown variant") {
        Problem::UnknownName { name, known }
    } else if let Some(key) = message.strip_prefix("missing field `") {
        Problem::MissingKey(quoted(key.trim_end_matches('`')))
    } else {
        // What a mapping is called in Rust says nothing to its writer.
        let message = message
            .split_once(", expected struct ")
            .map_or(message.to_owned(), |(found, _)| format!("{found}, expected a mapping"));
        Problem::Value(shortened(&message, 4 * MAX_QUOTED))
    }
}

/// The problem of a text that cannot be parsed.
fn syntax(error: &serde_yaml::Error) -> Problem {
    Problem::Syntax(shortened(&error.to_string().replace(" column ", ", column "), 4 * MAX_QUOTED))
}

/// Text from outside, fit to stand in a message.
fn quoted(text: &str) -> String {
    shortened(text, MAX_QUOTED)
}

/// At most `limit` characters of the text, control characters escaped.
fn shortened(text: &str, limit: usize) -> String {
    let mut short = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == limit {
            short.push('…');
            break;
        }
        if c.is_control() { short.extend(c.escape_default()) } else { short.push(c) }
    }
    short
}

/// The value as it stands behind a `key:` or a `-`; its further lines are `indent` columns in.
fn behind(value: &Value, indent: usize) -> Result<String, YamlError> {
    let line = format!("\n{:indent$}", "");
    let mut text = String::new();
    match value {
        Value::Mapping(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                text += &format!("{line}{}:{}", scalar(key)?, behind(value, indent + 2)?);
            }
        }
        Value::Sequence(elements) if elements.iter().any(|e| matches!(e, Value::Mapping(_) | Value::Sequence(_))) => {
            for element in elements {
                text += &format!("{line}- {}", behind(element, indent + 2)?.trim_start());
            }
        }
        Value::Sequence(elements) => text = format!(" {}", flow(elements, &line)?),
        Value::Mapping(_) => text.push_str(" {}"),
        other => text = format!(" {}", scalar(other)?),
    }
    Ok(text)
}

/// Plain values between brackets, going on at a new `line` where one is full.
fn flow(elements: &[Value], line: &str) -> Result<String, YamlError> {
    let mut text = String::from("[");
    let mut width = line.len();
    for (i, element) in elements.iter().enumerate() {
        let element = scalar(element)?;
        width += element.len() + 2;
        if i > 0 {
            text.push(',');
            if width > LINE_WIDTH {
                text.push_str(line);
                width = line.len() + element.len();
            } else {
                text.push(' ');
            }
        }
        text += &element;
    }
    text.push(']');
    Ok(text)
}

/// A value that is no mapping and no sequence.
fn scalar(value: &Value) -> Result<String, YamlError> {
    match value {
        Value::Null => Ok("null".to_owned()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(value) => Ok(value.to_string()),
        Value::String(value) if stands_plain(value) => Ok(value.clone()),
        Value::String(value) => Ok(in_quotes(value)),
        Value::Sequence(_) | Value::Mapping(_) => Err(YamlError::new(Problem::Unwritable("a key is not text".into()))),
        Value::Tagged(_) => Err(YamlError::new(Problem::Unwritable("it has a tag".into()))),
    }
}

/// Whether a text means itself without quotes, wherever it stands.
fn stands_plain(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '+' | '(' | ')' | ' '))
        && !text.ends_with(' ')
        && matches!(serde_yaml::from_str(text), Ok(Value::String(read)) if read == text)
}

/// The text in double quotes, with every character that could mean something else escaped.
fn in_quotes(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            c if c.is_alphanumeric() => quoted.push(c),
            c => quoted += &format!("\\U{:08X}", u32::from(c)),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Spec {
        name: String,
        stages: Vec<Stage>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Stage {
        blocks: u32,
        channels: u32,
        kind: Kind,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Residual,
        Stacked,
    }

    const SPEC: &str = "\
# The smallest spec.
name: tiny
stages:
  - { blocks: 2, channels: 64, kind: residual }
  - { blocks: 4, channels: 128, kind: stacked }
";

    fn refusal(text: &str) -> String {
        read::<Spec>(text).unwrap_err().to_string()
    }

    #[test]
    fn a_spec_is_read() {
        let spec: Spec = read(SPEC).unwrap();
        assert_eq!(spec.name, "tiny");
        assert_eq!(spec.stages[1], Stage { blocks: 4, channels: 128, kind: Kind::Stacked });
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        let marked = |text: &str| format!("\u{feff}{text}");
        for text in [SPEC.to_owned(), format!("---\n{SPEC}"), SPEC.replace("# The smallest spec.\n", "")] {
            assert_eq!(read::<Spec>(&marked(&text)).unwrap(), read(&text).unwrap(), "{text}");
        }
        let wrong = SPEC.replace("name: tiny", "nam: tiny");
        assert_eq!(refusal(&marked(&wrong)), refusal(&wrong));
        assert_eq!(refusal("\u{feff}"), "the text is empty");
    }

    #[test]
    fn refusals_say_what_and_where() {
        let cases = [
            SPEC.replace("blocks: 4", "blokcs: 4"),
            SPEC.replace("blocks: 4", "frobnicate: 4"),
            SPEC.replace("stacked", "staked"),
            SPEC.replace("stacked", "dense"),
            SPEC.replace("blocks: 4, ", ""),
            SPEC.replace("blocks: 4", "blocks: many"),
            SPEC.replace("blocks: 4", "blocks: -1"),
            SPEC.replace("blocks: 4", "blocks: 4, blocks: 5"),
            SPEC.replace("name: tiny", "name: tiny\nname: other"),
            SPEC.replace("name: tiny", "name: !big tiny"),
            SPEC.replace("name: tiny", "name: [tiny"),
            SPEC.replace("name: tiny", "name: *tiny"),
            format!("{SPEC}---\n{SPEC}"),
            "# nothing\n".to_owned(),
            String::new(),
            "3".to_owned(),
            format!("name: {}1{}", "[".repeat(40), "]".repeat(40)),
            format!("name: {}1{}", "[".repeat(400), "]".repeat(400)),
            "name: \"\\e[31mred\"\nstages: \"\\e[31mred\"".to_owned(),
            "? [a]\n: b\n".to_owned(),
        ];
        let said: Vec<String> = cases.iter().map(|text| refusal(text)).collect();
        insta::assert_snapshot!(said.join("\n"), @r#"
        unknown key `blokcs` in `stages[1]` at line 5, column 7; did you mean `blocks`?
        unknown key `frobnicate` in `stages[1]` at line 5, column 7; known are `blocks`, `channels`, `kind`
        unknown name `staked` in `stages[1].kind` at line 5, column 39; did you mean `stacked`?
        unknown name `dense` in `stages[1].kind` at line 5, column 39; known are `residual`, `stacked`
        key `blocks` is missing in `stages[1]` at line 5, column 5
        invalid type: string "many", expected u32 in `stages[1].blocks` at line 5, column 15
        invalid type: integer `-1`, expected u32 in `stages[1].blocks` at line 5, column 15
        key `blocks` is given twice in `stages[1]` at line 5, column 18
        key `name` is given twice at line 3, column 1
        tag `!big` is not supported in `name` at line 2, column 7
        not valid YAML: did not find expected ',' or ']' at line 3, column 7, while parsing a flow sequence at line 2, column 7
        not valid YAML: unknown anchor at line 2, column 7
        not valid YAML: deserializing from YAML containing more than one document is not supported
        the text is empty
        the text is empty
        invalid type: integer `3`, expected a mapping at line 1, column 1
        values are nested more than 32 deep at line 1, column 38
        values are nested more than 32 deep
        invalid type: string "\u{1b}[31mred", expected a sequence in `stages` at line 2, column 9
        invalid type: sequence, expected text as a key at line 1, column 3
        "#);
    }

    #[test]
    fn the_nearest_name_has_to_be_near() {
        let known = ["blocks", "channels", "stride"].map(str::to_owned).to_vec();
        for (key, expected) in [
            ("blokcs", Some("blocks")),
            ("Channels", Some("channels")),
            ("channel", Some("channels")),
            ("chanels_", Some("channels")),
            ("strides", Some("stride")),
            ("kernel", None),
            ("", None),
        ] {
            let error = YamlError::new(Problem::UnknownKey { key: key.to_owned(), known: known.clone() });
            assert_eq!(error.nearest(), expected, "{key}");
        }
    }

    #[test]
    fn aliases_may_repeat_but_not_multiply() {
        let repeated = "a: &values [1, 2, 3]\nb: *values\n";
        let read_back: BTreeMap<String, Vec<u32>> = read(repeated).unwrap();
        assert_eq!(read_back["a"], read_back["b"]);

        let mut bomb = String::from("a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n");
        for level in 1..12 {
            let before = format!("*a{}, ", level - 1).repeat(9);
            bomb += &format!("a{level}: &a{level} [{before}]\n");
        }
        let error = read::<Value>(&bomb).unwrap_err();
        assert_eq!(error.problem, Problem::AliasesExpand);
        let error = read::<Value>("a: &a [*a]\n").unwrap_err();
        assert_eq!(error.problem, Problem::TooDeep);
    }

    #[test]
    fn a_long_text_is_refused_unread() {
        let text = " ".repeat(MAX_BYTES + 1);
        assert_eq!(refusal(&text), "the text has 4194305 bytes, more than the 4194304 supported");
    }

    #[test]
    fn depth_is_known_before_parsing() {
        for (name, text, expected) in [
            ("block style has none", "a:\n  - b: c\n", 0),
            ("one after the other", "[[1], [2], {a: [3]}]", 3),
            ("brackets in quotes close nothing", "[ \"]\", [ ']', [", 3),
            ("nor do those in comments", "[ # ]\n[ # ]\n[ # ]\n", 3),
            ("nor in a comment without a space before it", "[#]\n[#]\n[", 3),
            ("an apostrophe inside a word opens nothing", "[it's, [don't, [", 3),
            ("an escaped quote closes nothing", r#"["\"]", ["\"]", ["#, 3),
            ("a doubled apostrophe closes nothing", "['it''s ]', [", 2),
            ("other line breaks end a comment", "[ # ]\u{2028}[", 2),
        ] {
            assert_eq!(flow_depth(text), expected, "{name}");
        }
        let lines = "- { name: \"x\", other: '', note: \"it's\" } # it's fine [\n".repeat(100);
        assert_eq!(flow_depth(&lines), 1, "many short mappings are not deep");
    }

    #[test]
    fn written_for_people() {
        let value: Value = serde_yaml::from_str(
            "{name: 'a: b', empty: {}, none: [], two: [3, 3], nested: [[1], [2, {x: y}]], maps: [{a: 1, b: {c: d}}, {a: 2}], \
             text: \"two\\nlines\", yes: 'true', number: '12', float: 1.5e-7}",
        )
        .unwrap();
        insta::assert_snapshot!(write(&value).unwrap(), @r#"
        name: "a: b"
        empty: {}
        none: []
        two: [3, 3]
        nested:
          - [1]
          - - 2
            - x: y
        maps:
          - a: 1
            b:
              c: d
          - a: 2
        text: "two\U0000000Alines"
        yes: "true"
        number: "12"
        float: 1.5e-7
        "#);
        assert_eq!(read::<Value>(&write(&value).unwrap()).unwrap(), value);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            prop::num::f64::NORMAL.prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[ -~]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Sequence),
                prop::collection::btree_map(any::<String>(), inner, 1..6)
                    .prop_map(|map| Value::Mapping(map.into_iter().map(|(k, v)| (Value::from(k), v)).collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in any_value()) {
            let text = write(&value).unwrap();
            if value != Value::Null {
                prop_assert_eq!(read::<Value>(&text).unwrap(), value, "{}", text);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = read::<Spec>(&text);
            let _ = read::<Value>(&text);
        }

        #[test]
        fn any_punctuation_is_read_or_refused(text in "[\\[\\]{}:,&*!|>'\"#?a-c0-2 \n-]{0,60}") {
            let _ = read::<Spec>(&text);
            let _ = read::<Value>(&text);
        }

        #[test]
        fn a_damaged_spec_is_read_or_refused(at in 0..SPEC.len(), with in any::<char>(), cut in any::<bool>()) {
            let mut text = SPEC.to_owned();
            if cut {
                text.truncate(at);
            } else {
                text.replace_range(at..=at, with.encode_utf8(&mut [0; 4]));
            }
            if let Err(error) = read::<Spec>(&text) {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
