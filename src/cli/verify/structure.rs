//! The checks of a model's structure, as they are reported.

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use bbc::onnx::proto::GraphProto;
use bbc::onnx::scan::Scanned;
use bbc::onnx::schema;
use bbc::onnx::structure::{Aspect, Examined, Limits, examine};
use bbc::units::Bytes;
use bbc::verify::outcome::{Checked, Status};

use super::report::ModelReport;
use crate::cli::failure::{Explain, Failure};

/// Examines a model's file; its external data lies beside it.
pub(crate) fn of(path: &Path, limits: &Limits) -> Result<ModelReport, Failure> {
    let begun = Instant::now();
    let reading = || format!("cannot read `{}`", path.display());
    // Looked at before it is opened: a pipe opens only when somebody writes to it.
    if !std::fs::metadata(path).doing(reading)?.is_file() {
        return Err(Failure::new("it is no regular file")).doing(reading);
    }
    let file = File::open(path).doing(reading)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let examined = examine(file, folder, limits);
    let seconds = begun.elapsed().as_secs_f64();
    let checks = Aspect::ALL.into_iter().map(|aspect| checked(aspect, &examined));
    let (ir_version, opsets, bytes) = match &examined.scanned {
        Some(scanned) => {
            let opsets = scanned.model.opset_import.iter();
            let opsets = opsets.map(|set| (schema::named(set.domain()).to_owned(), set.version())).collect();
            (Some(scanned.model.ir_version()), opsets, scanned.bytes)
        }
        None => (None, Vec::new(), std::fs::metadata(path).map_or(0, |metadata| metadata.len())),
    };
    Ok(ModelReport {
        model: path.display().to_string(),
        file_bytes: bytes,
        ir_version,
        opsets,
        structure_seconds: seconds,
        checks: checks.collect(),
        scanned: examined.scanned,
    })
}

fn checked(aspect: Aspect, examined: &Examined) -> Checked {
    let mut faults: Vec<String> = examined.faults(aspect).map(|fault| cut(fault.to_string())).collect();
    if !faults.is_empty() {
        if examined.more(aspect) > 0 {
            faults.push(format!("and {} more of the kind", examined.more(aspect)));
        }
        return Checked::failed(aspect.name(), faults.join("\n"));
    }
    match &examined.scanned {
        None => Checked::skipped(aspect.name(), "the bytes are no model"),
        Some(_) if aspect == Aspect::Budget && !examined.holds() => {
            Checked::skipped(aspect.name(), "sizes are worked out only where everything else holds")
        }
        Some(scanned) => Checked::new(aspect.name(), Status::Passed, said(aspect, scanned)),
    }
}

/// A message of readable length, its middle left out: names in it are as long as a stranger made them.
fn cut(message: String) -> String {
    const START: usize = 800;
    const END: usize = 200;
    let start = message.char_indices().nth(START).map(|(at, _)| at);
    let end = message.char_indices().rev().nth(END).map(|(at, _)| at);
    match start.zip(end) {
        Some((start, end)) if start < end => format!("{} … {}", &message[..start], &message[end..]),
        _ => message,
    }
}

/// What there is of an aspect in a model.
fn said(aspect: Aspect, scanned: &Scanned) -> Option<String> {
    let model = &scanned.model;
    let nodes = model.graph.iter().map(|graph: &GraphProto| graph.node.len()).sum::<usize>();
    Some(match aspect {
        Aspect::Format => Bytes(scanned.bytes).to_string(),
        Aspect::Versions => {
            let opsets =
                model.opset_import.iter().map(|set| format!("{} {}", schema::named(set.domain()), set.version()));
            format!("IR version {}, {}", model.ir_version(), opsets.collect::<Vec<_>>().join(", "))
        }
        Aspect::Operators => format!("{nodes} nodes"),
        Aspect::Tensors => format!("{} tensors", scanned.tensors.len()),
        Aspect::Functions if model.functions.is_empty() => "none".to_owned(),
        Aspect::Functions => format!("{} functions", model.functions.len()),
        Aspect::ExternalData => {
            match scanned.tensors.iter().filter(|stored| !stored.proto.external_data.is_empty()).count() {
                0 => "none".to_owned(),
                n => format!("{n} tensors"),
            }
        }
        Aspect::Names | Aspect::Windows | Aspect::Budget | Aspect::ControlFlow => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_lose_their_middle() {
        assert_eq!(cut("short".into()), "short");
        let long = format!("start {} end", "é".repeat(5000));
        let cut = cut(long);
        assert!(cut.starts_with("start é") && cut.ends_with("é end") && cut.chars().count() < 1100, "{cut}");
    }
}
