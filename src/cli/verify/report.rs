//! What was found of all models: for people, and as JSON after `schema/verify.schema.json`.

use std::path::Path;

use bbc::onnx::scan::Scanned;
use bbc::onnx::structure::Aspect;
use bbc::units::Bytes;
use bbc::verify::judge::CHECKS;
use bbc::verify::outcome::{Checked, Status};
use serde::{Serialize, Serializer};

use super::deployments;
use crate::cli::failure::Failure;
use crate::cli::output;

/// Version of the JSON document.
const SCHEMA: u32 = 1;

/// What was found of all models.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    schema: u32,
    pub(super) verdict: Status,
    pub(super) models: Vec<ModelReport>,
}

/// What was found of a model.
#[derive(Debug)]
pub(crate) struct ModelReport {
    pub(crate) model: String,
    pub(crate) file_bytes: u64,
    pub(crate) ir_version: Option<i64>,
    pub(crate) opsets: Vec<(String, i64)>,
    pub(crate) structure_seconds: f64,
    pub(crate) checks: Vec<Checked>,
    /// What was read of the file.
    pub(crate) scanned: Option<Scanned>,
}

impl Serialize for ModelReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Opset<'a> {
            domain: &'a str,
            version: i64,
        }
        #[derive(Serialize)]
        struct Document<'a> {
            model: &'a str,
            verdict: Status,
            file_bytes: u64,
            ir_version: Option<i64>,
            opsets: Vec<Opset<'a>>,
            structure_seconds: f64,
            checks: &'a [Checked],
        }
        let opsets = self.opsets.iter().map(|(domain, version)| Opset { domain, version: *version });
        Document {
            model: &self.model,
            verdict: self.verdict(),
            file_bytes: self.file_bytes,
            ir_version: self.ir_version,
            opsets: opsets.collect(),
            structure_seconds: self.structure_seconds,
            checks: &self.checks,
        }
        .serialize(serializer)
    }
}

impl ModelReport {
    /// A model that cannot be read.
    pub(super) fn unread(model: &Path, why: &Failure) -> Self {
        let error = Checked::error(Aspect::Format.name(), why.to_string());
        let rest =
            Aspect::ALL.iter().skip(1).map(|aspect| aspect.name()).chain(CHECKS).chain([deployments::NAME, "contract"]);
        let skipped = rest.map(|name| Checked::skipped(name, "the file cannot be read"));
        Self {
            model: model.display().to_string(),
            file_bytes: 0,
            ir_version: None,
            opsets: Vec::new(),
            structure_seconds: 0.0,
            checks: std::iter::once(error).chain(skipped).collect(),
            scanned: None,
        }
    }

    /// Whether there was a file to look at.
    pub(super) fn was_read(&self) -> bool {
        self.checks.len() == Aspect::ALL.len()
    }

    /// Failed if a check failed, else in error if one could not be made.
    pub(crate) fn verdict(&self) -> Status {
        worst(self.checks.iter().map(|check| check.status))
    }

    fn count(&self, status: Status) -> usize {
        self.checks.iter().filter(|check| check.status == status).count()
    }

    fn text(&self) -> String {
        let mut rows = Vec::new();
        for check in &self.checks {
            let mut lines = check.message.as_deref().unwrap_or_default().lines();
            let first = lines.next().map(output::printable).unwrap_or_default();
            rows.push(vec![format!("  {}", check.status.name()), check.name.clone(), first]);
            rows.extend(lines.map(|line| vec![String::new(), String::new(), output::printable(line)]));
            for output in &check.outputs {
                let set = output.set.as_ref().map(|set| format!(" of {set}")).unwrap_or_default();
                let figures = &output.figures;
                let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3e}"));
                let cosine = figures.cosine.map_or_else(|| "-".to_owned(), |cosine| format!("{cosine:.9}"));
                rows.push(vec![
                    String::new(),
                    String::new(),
                    format!(
                        "{}{set}: absolute {} (mean {}), relative {} (mean {}), cosine {cosine}, worst at {:?}",
                        output::printable(&output.name),
                        number(figures.max_abs),
                        number(figures.mean_abs),
                        number(figures.max_rel),
                        number(figures.mean_rel),
                        figures.worst,
                    ),
                ]);
            }
        }
        let table = output::table(&rows, &[0, 1, 2]);
        let verdict = match self.verdict() {
            Status::Passed | Status::Skipped => {
                format!("holds: {} checks passed, {} skipped", self.count(Status::Passed), self.count(Status::Skipped))
            }
            Status::Failed => {
                format!("does not hold: {} of {} checks failed", self.count(Status::Failed), self.checks.len())
            }
            Status::Error => format!("could not be judged: {} checks could not be made", self.count(Status::Error)),
        };
        let model = output::printable(&self.model);
        format!("{model}: {}\n{table}{model} {verdict}\n", Bytes(self.file_bytes))
    }
}

impl Report {
    pub(super) fn new(models: Vec<ModelReport>) -> Self {
        Self { schema: SCHEMA, verdict: worst(models.iter().map(ModelReport::verdict)), models }
    }

    pub(super) fn text(&self) -> String {
        self.models.iter().map(ModelReport::text).collect::<Vec<_>>().join("\n")
    }

    /// Why the question could not be answered.
    pub(super) fn undecided(&self) -> String {
        let checks = self.models.iter().flat_map(|model| model.checks.iter().map(move |check| (model, check)));
        let errors = checks.filter(|(_, check)| check.status == Status::Error);
        let said = errors.map(|(model, check)| {
            format!(
                "`{}` cannot be judged: {}: {}",
                model.model,
                check.name,
                check.message.as_deref().unwrap_or_default()
            )
        });
        said.collect::<Vec<_>>().join("\n")
    }
}

fn worst(statuses: impl Iterator<Item = Status>) -> Status {
    statuses.fold(Status::Passed, |worst, status| match (worst, status) {
        (Status::Failed, _) | (_, Status::Failed) => Status::Failed,
        (Status::Error, _) | (_, Status::Error) => Status::Error,
        _ => Status::Passed,
    })
}
