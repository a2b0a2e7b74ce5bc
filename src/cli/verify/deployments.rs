//! The check of a model against the documentation of runtimes that are not here, and the line that builds it for TensorRT.

use bbc::onnx::precision::{Deployment, Finding, Severity, check_for, trtexec};
use bbc::onnx::shapes::InputSizes;
use bbc::precision::Expected;
use bbc::verify::outcome::{Checked, Status};

use super::report::ModelReport;

/// Name of the check.
pub(super) const NAME: &str = "for";

/// Most findings of one severity that are told for one runtime.
const SHOWN: usize = 12;

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Other runtimes")]
pub(super) struct DeploymentArgs {
    /// Check the model against the public documentation of tensorrt, openvino, coreml or directml, several with commas;
    /// for tensorrt the command that builds its engine is told too
    #[arg(long = "for", value_name = "RUNTIME,…", value_delimiter = ',')]
    deployments: Vec<Deployment>,
}

/// A precision by its name.
pub(super) fn precision(name: &str) -> Result<Expected, String> {
    Expected::named(name).ok_or_else(|| "there are fp32, fp16, bf16 and int8".to_owned())
}

/// What the documentation of the runtimes says: a failure where one does not take the model, notes where it is slow.
pub(super) fn check(args: &DeploymentArgs, report: &ModelReport, shapes: &[(String, Vec<Option<u32>>)]) -> Checked {
    if args.deployments.is_empty() {
        return Checked::skipped(NAME, "`--for` was not given");
    }
    let Some(scanned) = report.scanned.as_ref() else {
        return Checked::skipped(NAME, "the structure does not hold");
    };
    let mut lines = Vec::new();
    let mut status = Status::Passed;
    for &deployment in &args.deployments {
        let findings = check_for(deployment, &scanned.model);
        let is_refused = |finding: &&Finding| finding.severity == Severity::Refused;
        let (refused, slow): (Vec<&Finding>, Vec<&Finding>) = findings.iter().partition(is_refused);
        if findings.is_empty() {
            lines.push(format!("{deployment}: nothing in its documentation speaks against the model"));
        }
        for (word, findings) in [("refused", &refused), ("slow", &slow)] {
            for Finding { place, what, page, .. } in findings.iter().take(SHOWN) {
                let place = if place.is_empty() { "the model".to_owned() } else { format!("`{place}`") };
                lines.push(format!("{deployment}: {word}: {place}: {what} ({page})"));
            }
            if findings.len() > SHOWN {
                lines.push(format!("{deployment}: {word}: and {} more", findings.len() - SHOWN));
            }
        }
        if !refused.is_empty() {
            status = Status::Failed;
        }
        if deployment == Deployment::TensorRt {
            let image = shapes.iter().find_map(|(_, sizes)| match sizes[..] {
                [_, Some(height), Some(width), Some(1..=4)] if height > 4 => Some([height, width]),
                [_, _, Some(height), Some(width)] => Some([height, width]),
                _ => None,
            });
            let sizes = InputSizes { batch: None, image };
            lines.push(match trtexec(&scanned.model, &report.model, sizes) {
                Some(line) => format!("{deployment}: {line}"),
                None => format!("{deployment}: sizes are free; name them with `--input-shapes` for its command"),
            });
        }
    }
    Checked::new(NAME, status, lines.join("\n"))
}
