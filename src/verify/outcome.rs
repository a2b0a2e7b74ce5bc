//! What a check of a model came to: the part of the report that every check has.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::compare::Figures;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It holds.
    Passed,
    /// It does not hold.
    Failed,
    /// It was not asked for, or does not apply; the message says which.
    Skipped,
    /// It could not be found out.
    Error,
}

impl Status {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Error => "error",
        }
    }
}

/// One check and what it came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// Its name.
    pub name: String,
    /// How it ended.
    pub status: Status,
    /// What was found, or why nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How long it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// How many nodes ran on each provider, by the names ONNX Runtime has for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub placement: BTreeMap<String, usize>,
    /// How each output differs from what was expected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Compared>,
}

/// One output beside what was expected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// Its name.
    pub name: String,
    /// Where what was expected is from, if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
    /// The figures.
    #[serde(flatten)]
    pub figures: Figures,
}

impl Checked {
    /// A check that ended like this.
    pub fn new(name: impl Into<String>, status: Status, message: impl Into<Option<String>>) -> Self {
        Self {
            name: name.into(),
            status,
            message: message.into(),
            seconds: None,
            placement: BTreeMap::new(),
            outputs: Vec::new(),
        }
    }

    /// A check that holds.
    pub fn passed(name: &str, message: impl Into<Option<String>>) -> Self {
        Self::new(name, Status::Passed, message)
    }

    /// A check that does not hold, and why.
    pub fn failed(name: &str, why: impl Into<String>) -> Self {
        Self::new(name, Status::Failed, Some(why.into()))
    }

    /// A check that was not made, and why.
    pub fn skipped(name: &str, why: impl Into<String>) -> Self {
        Self::new(name, Status::Skipped, Some(why.into()))
    }

    /// A check that could not be made, and why.
    pub fn error(name: &str, why: impl Into<String>) -> Self {
        Self::new(name, Status::Error, Some(why.into()))
    }
}
