//! The checks as JUnit XML: a suite for each model, a case for each check.
//!
//! It has everything that either of the two schemas in use asks for, Jenkins' own and that of Ant's reports, and nothing
//! that one of them does not know.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use bbc::verify::outcome::{Checked, Status};
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::report::{ModelReport, Report};
use crate::cli::failure::{Explain, Failure};

/// The report as XML.
pub(super) fn xml(report: &Report) -> Result<String, Failure> {
    let writing = || "the checks cannot be written as XML".to_owned();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None))).doing(writing)?;
    let suites = |writer: &mut Writer<Vec<u8>>| {
        report.models.iter().enumerate().try_for_each(|(id, model)| suite(writer, id, model, &timestamp(now)))
    };
    writer.create_element("testsuites").write_inner_content(suites).doing(writing)?;
    let mut text = String::from_utf8(writer.into_inner()).doing(writing)?;
    text.push('\n');
    Ok(text)
}

fn suite(writer: &mut Writer<Vec<u8>>, id: usize, model: &ModelReport, timestamp: &str) -> io::Result<()> {
    let count = |status| model.checks.iter().filter(|check| check.status == status).count().to_string();
    let seconds: f64 = model.structure_seconds + model.checks.iter().filter_map(|check| check.seconds).sum::<f64>();
    let name = allowed(&model.model);
    writer
        .create_element("testsuite")
        .with_attribute(("id", id.to_string().as_str()))
        .with_attribute(("name", name.as_str()))
        .with_attribute(("package", "bbc.verify"))
        .with_attribute(("hostname", "localhost"))
        .with_attribute(("timestamp", timestamp))
        .with_attribute(("tests", model.checks.len().to_string().as_str()))
        .with_attribute(("failures", count(Status::Failed).as_str()))
        .with_attribute(("errors", count(Status::Error).as_str()))
        .with_attribute(("skipped", count(Status::Skipped).as_str()))
        .with_attribute(("time", format!("{seconds:.3}").as_str()))
        .write_inner_content(|writer| {
            writer.create_element("properties").write_empty()?;
            model.checks.iter().try_for_each(|check| case(writer, &name, check))?;
            writer.create_element("system-out").write_empty()?;
            writer.create_element("system-err").write_empty()?;
            Ok(())
        })?;
    Ok(())
}

fn case(writer: &mut Writer<Vec<u8>>, model: &str, check: &Checked) -> io::Result<()> {
    let class = format!("bbc.verify.{model}");
    let seconds = format!("{:.3}", check.seconds.unwrap_or(0.0));
    let case = writer
        .create_element("testcase")
        .with_attribute(("name", check.name.as_str()))
        .with_attribute(("classname", class.as_str()))
        .with_attribute(("time", seconds.as_str()));
    let kind = match check.status {
        Status::Passed => return case.write_empty().map(drop),
        Status::Failed => "failure",
        Status::Error => "error",
        Status::Skipped => "skipped",
    };
    let message = allowed(check.message.as_deref().unwrap_or_default());
    case.write_inner_content(|writer| {
        let result =
            writer.create_element(kind).with_attribute(("message", message.lines().next().unwrap_or_default()));
        match check.status {
            Status::Skipped => result.write_empty().map(drop),
            _ => result
                .with_attribute(("type", check.name.as_str()))
                .write_text_content(BytesText::new(&message))
                .map(drop),
        }
    })
    .map(drop)
}

/// Text without the characters that XML does not have.
fn allowed(text: &str) -> String {
    let known = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    text.chars().map(|c| if known(c) { c } else { '\u{fffd}' }).collect()
}

/// Seconds since 1970 as a date and time of day in UTC.
fn timestamp(seconds: u64) -> String {
    // Years that begin in March have their leap day at the end; 400 of them have 146097 days.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (era * 400 + year, month + 3) } else { (era * 400 + year + 1, month - 9) };
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values are those of `date -u -d @SECONDS`.
    #[test]
    fn times_are_dates() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_400, "2000-02-29T00:00:00"),
            (1_709_251_199, "2024-02-29T23:59:59"),
            (1_735_689_600, "2025-01-01T00:00:00"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            assert_eq!(timestamp(seconds), expected);
        }
    }

    #[test]
    fn what_xml_does_not_have_is_replaced() {
        assert_eq!(allowed("a\u{1}b\u{ffff}\tc"), "a\u{fffd}b\u{fffd}\tc");
    }
}
