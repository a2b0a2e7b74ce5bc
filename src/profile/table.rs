//! Tables of latencies that others have measured, as comma-separated values.
//!
//! A row is one convolution and its latency. Every [`Field`] is looked for in a column of its own name unless
//! [`Import::columns`] says otherwise. What is needed is the latency in one unit, `channels` or both of `in_channels` and
//! `out_channels`, `height`, `window`, and `kind` or `groups`; `width` is the height and `stride` is 1 where they are not
//! there, and `precision` and `batch` may be given for the whole table instead.
//!
//! Padding is taken to keep the size of the input. Rows of the same convolution are samples of one measurement.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use csv::StringRecord;

use crate::conv::{Candidate, Conv, ConvProblem};
use crate::nearest::suggestion;
use crate::profile::{Instrument, InstrumentKind, MAX_MEASUREMENTS, MAX_SAMPLES, Measurement, Timing};
use crate::tensor::DType;

/// Most bytes a table may have.
pub const MAX_BYTES: u64 = 64 << 20;

/// Most rows that are named when they make no sense.
const MAX_NAMED: usize = 5;

/// Longest latency that is believed, in nanoseconds: an hour.
const MAX_LATENCY_NS: f64 = 3.6e12;

/// Most characters of a stranger's value that are repeated.
const MAX_SHOWN: usize = 40;

/// What a column can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// Element type: `fp32`, `fp16`, `bf16`, `int8`, or as it is written here.
    Precision,
    /// Images.
    Batch,
    /// Channels of the input and of the result.
    Channels,
    /// Channels of the input.
    InChannels,
    /// Channels of the result.
    OutChannels,
    /// Height of the input.
    Height,
    /// Width of the input.
    Width,
    /// `full` or `depthwise`.
    Kind,
    /// Number of groups.
    Groups,
    /// The window: one odd number, or height by width.
    Window,
    /// Steps of the window.
    Stride,
    /// Latency in nanoseconds.
    LatencyNs,
    /// Latency in microseconds.
    LatencyUs,
    /// Latency in milliseconds.
    LatencyMs,
    /// Latency in seconds.
    LatencyS,
}

impl Field {
    /// Every field.
    pub const ALL: [Self; 15] = [
        Self::Precision,
        Self::Batch,
        Self::Channels,
        Self::InChannels,
        Self::OutChannels,
        Self::Height,
        Self::Width,
        Self::Kind,
        Self::Groups,
        Self::Window,
        Self::Stride,
        Self::LatencyNs,
        Self::LatencyUs,
        Self::LatencyMs,
        Self::LatencyS,
    ];

    /// Its name, which is that of its column if nothing else is said.
    pub fn name(self) -> &'static str {
        match self {
            Self::Precision => "precision",
            Self::Batch => "batch",
            Self::Channels => "channels",
            Self::InChannels => "in_channels",
            Self::OutChannels => "out_channels",
            Self::Height => "height",
            Self::Width => "width",
            Self::Kind => "kind",
            Self::Groups => "groups",
            Self::Window => "window",
            Self::Stride => "stride",
            Self::LatencyNs => "latency_ns",
            Self::LatencyUs => "latency_us",
            Self::LatencyMs => "latency_ms",
            Self::LatencyS => "latency_s",
        }
    }

    /// Nanoseconds in its unit, if it is a latency.
    fn unit_ns(self) -> Option<f64> {
        match self {
            Self::LatencyNs => Some(1.0),
            Self::LatencyUs => Some(1e3),
            Self::LatencyMs => Some(1e6),
            Self::LatencyS => Some(1e9),
            Self::Precision
            | Self::Batch
            | Self::Channels
            | Self::InChannels
            | Self::OutChannels
            | Self::Height
            | Self::Width
            | Self::Kind
            | Self::Groups
            | Self::Window
            | Self::Stride => None,
        }
    }
}

/// The text names no field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown field `{}`; {}", .0, suggestion(.0, &Field::ALL.map(Field::name)))]
pub struct UnknownField(pub String);

impl FromStr for Field {
    type Err = UnknownField;

    fn from_str(text: &str) -> Result<Self, UnknownField> {
        Self::ALL.into_iter().find(|field| field.name() == text).ok_or_else(|| UnknownField(text.to_owned()))
    }
}

/// What of a table is wanted, and where in it that is.
#[derive(Debug, Clone, PartialEq)]
pub struct Import {
    /// Names of columns where they are not those of their fields.
    pub columns: Vec<(Field, String)>,
    /// What separates columns.
    pub delimiter: u8,
    /// Rows of this element type; of all rows, where the table has no column for it.
    pub dtype: Option<DType>,
    /// Rows of so many images; of all rows, where the table has no column for it.
    pub batch: Option<u32>,
    /// Rows whose channels are in this range, input and result alike.
    pub channels: RangeInclusive<u32>,
    /// Rows whose height and width are in this range.
    pub sizes: RangeInclusive<u32>,
    /// Rows of these channels and this height and width, in the order of the shapes; all if empty.
    pub shapes: Vec<(u32, [u32; 2])>,
    /// What measured them, as its name is to stand in the profile.
    pub instrument: String,
}

impl Default for Import {
    fn default() -> Self {
        Self {
            columns: Vec::new(),
            delimiter: b',',
            dtype: None,
            batch: None,
            channels: 0..=u32::MAX,
            sizes: 0..=u32::MAX,
            shapes: Vec::new(),
            instrument: "published".to_owned(),
        }
    }
}

/// What was read of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The element type of every row that was taken.
    pub dtype: DType,
    /// The images of every row that was taken.
    pub batch: u32,
    /// The convolutions with their latencies, one layer each, in the order of the table.
    pub measurements: Vec<Measurement>,
    /// Rows that were taken.
    pub rows: usize,
    /// Rows that were not wanted.
    pub others: usize,
}

/// Why a table cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// It is no table of comma-separated values.
    #[error("{0}")]
    Csv(String),
    /// Columns are missing.
    #[error("it has no column `{}`; its columns are `{}`", missing.join("`, no column `"), found.join("`, `"))]
    MissingColumns {
        /// What is looked for.
        missing: Vec<String>,
        /// What it has.
        found: Vec<String>,
    },
    /// Two columns have the same name.
    #[error("it has two columns `{0}`")]
    TwoColumns(String),
    /// Rows make no sense.
    #[error("{}", bad_rows(rows, *count))]
    BadRows {
        /// The first of them.
        rows: Vec<BadRow>,
        /// How many there are.
        count: usize,
    },
    /// A profile has one element type and one batch, and the table has several.
    #[error("it has rows of {what} {}, and a profile has one", found.join(", "))]
    Mixed {
        /// `precision` or `batch`.
        what: &'static str,
        /// What it has.
        found: Vec<String>,
    },
    /// The table does not say it, and nobody else did.
    #[error("it has no column `{0}`, and it was not given for the whole table")]
    Unsaid(&'static str),
    /// No row is left.
    #[error("none of its {rows} rows is wanted")]
    Nothing {
        /// How many rows it has.
        rows: usize,
    },
    /// Too many rows are left.
    #[error("it has more than {most} {what}; want fewer of its rows")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there may be.
        most: usize,
    },
}

/// A row that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// Its line, from 1.
    pub line: u64,
    /// The column, and what stands there; `None` if the row as a whole is wrong.
    pub cell: Option<(String, String)>,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cell {
            Some((column, value)) => write!(f, "line {}: `{column}` is `{value}`, {}", self.line, self.reason),
            None => write!(f, "line {}: {}", self.line, self.reason),
        }
    }
}

fn bad_rows(rows: &[BadRow], count: usize) -> String {
    let named: Vec<String> = rows.iter().map(ToString::to_string).collect();
    let more = count.saturating_sub(rows.len());
    let more = if more > 0 { format!("\nand {more} more rows that make no sense") } else { String::new() };
    named.join("\n") + &more
}

/// Reads a table.
///
/// # Errors
/// If it is no table, lacks a column, has rows that make no sense, or is of several element types or batches while none
/// is asked for.
pub fn read(bytes: &[u8], import: &Import) -> Result<Imported, TableError> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(import.delimiter)
        .trim(csv::Trim::All)
        .comment(Some(b'#'))
        .from_reader(bytes);
    if reader.headers().map_err(of_csv)?.is_empty() {
        return Err(TableError::Csv("it is empty".to_owned()));
    }
    let columns = Columns::find(reader.headers().map_err(of_csv)?, import)?;
    let mut taken = Taken::default();
    let mut record = StringRecord::new();
    loop {
        match reader.read_record(&mut record) {
            Ok(false) => break,
            Ok(true) => taken.take(&Row { columns: &columns, record: &record }, import)?,
            Err(error) => match error.kind() {
                csv::ErrorKind::UnequalLengths { pos, expected_len, len } => taken.bad(BadRow {
                    line: pos.as_ref().map_or(0, csv::Position::line),
                    cell: None,
                    reason: format!("it has {len} values, the head has {expected_len}"),
                }),
                _ => return Err(of_csv(error)),
            },
        }
    }
    taken.finish(import)
}

fn of_csv(error: csv::Error) -> TableError {
    TableError::Csv(match error.kind() {
        csv::ErrorKind::Utf8 { pos, .. } => {
            let line = pos.as_ref().map_or(0, csv::Position::line);
            format!("line {line}: it is no text in UTF-8")
        }
        _ => error.to_string(),
    })
}

/// Where each field stands in a row.
struct Columns {
    places: HashMap<Field, usize>,
    names: HashMap<Field, String>,
    latency: (Field, f64),
}

impl Columns {
    fn find(header: &StringRecord, import: &Import) -> Result<Self, TableError> {
        let named = |field: Field| import.columns.iter().rev().find(|(known, _)| *known == field).map(|(_, name)| name);
        let (mut places, mut names) = (HashMap::new(), HashMap::new());
        let mut missing = Vec::new();
        for field in Field::ALL {
            let name = named(field).map_or(field.name(), String::as_str);
            let mut found = header.iter().enumerate().filter(|(_, column)| *column == name).map(|(place, _)| place);
            if let Some(place) = found.next() {
                if found.next().is_some() {
                    return Err(TableError::TwoColumns(shown(name)));
                }
                places.insert(field, place);
                names.insert(field, name.to_owned());
            } else if named(field).is_some() {
                missing.push(name.to_owned());
            }
        }
        let has = |field: Field| places.contains_key(&field);
        let latency =
            Field::ALL.into_iter().find_map(|field| field.unit_ns().filter(|_| has(field)).map(|ns| (field, ns)));
        for (is_there, name) in [
            (has(Field::Channels) || (has(Field::InChannels) && has(Field::OutChannels)), "channels"),
            (has(Field::Height), "height"),
            (has(Field::Window), "window"),
            (has(Field::Kind) || has(Field::Groups), "kind"),
            (latency.is_some(), "latency_ms"),
        ] {
            // A name that was given and is not there says it better.
            if !is_there && import.columns.iter().all(|(field, _)| field.name() != name) {
                missing.push(name.to_owned());
            }
        }
        match latency {
            Some(latency) if missing.is_empty() => Ok(Self { places, names, latency }),
            _ => {
                let found = header.iter().take(64).map(shown).collect();
                Err(TableError::MissingColumns { missing, found })
            }
        }
    }
}

/// A row, as what it says.
struct Row<'r> {
    columns: &'r Columns,
    record: &'r StringRecord,
}

impl Row<'_> {
    fn line(&self) -> u64 {
        self.record.position().map_or(0, csv::Position::line)
    }

    /// What stands in the column of a field, if there is one.
    fn text(&self, field: Field) -> Option<&str> {
        self.columns.places.get(&field).and_then(|&place| self.record.get(place))
    }

    fn bad(&self, field: Field, reason: impl Into<String>) -> BadRow {
        let name = self.columns.names.get(&field).map_or(field.name(), String::as_str);
        let cell = Some((name.to_owned(), shown(self.text(field).unwrap_or_default())));
        BadRow { line: self.line(), cell, reason: reason.into() }
    }

    /// A number from 1 up; `None` without a column for it.
    fn number(&self, field: Field) -> Result<Option<u32>, BadRow> {
        let Some(text) = self.text(field) else { return Ok(None) };
        let number = text.parse().ok().filter(|&number: &u32| number > 0);
        number.map(Some).ok_or_else(|| self.bad(field, "not a whole number from 1 up"))
    }

    fn required(&self, field: Field) -> Result<u32, BadRow> {
        self.number(field)?.ok_or_else(|| self.bad(field, "not there"))
    }

    /// Channels of input and result.
    fn channels(&self) -> Result<[u32; 2], BadRow> {
        match self.number(Field::Channels)? {
            Some(channels) => Ok([channels; 2]),
            None => Ok([self.required(Field::InChannels)?, self.required(Field::OutChannels)?]),
        }
    }

    /// Height and width of the input.
    fn size(&self) -> Result<[u32; 2], BadRow> {
        let height = self.required(Field::Height)?;
        Ok([height, self.number(Field::Width)?.unwrap_or(height)])
    }

    fn window(&self) -> Result<[u32; 2], BadRow> {
        let text = self.text(Field::Window).unwrap_or_default();
        let (height, width) = text.split_once(['x', 'X']).unwrap_or((text, text));
        let window = height.trim().parse().ok().zip(width.trim().parse().ok());
        window.map(Into::into).ok_or_else(|| self.bad(Field::Window, "not a side or HEIGHTxWIDTH"))
    }

    fn groups(&self, in_channels: u32) -> Result<u32, BadRow> {
        if let Some(groups) = self.number(Field::Groups)? {
            return Ok(groups);
        }
        match self.text(Field::Kind).unwrap_or_default().to_ascii_lowercase().as_str() {
            "full" | "conv" | "dense" | "regular" | "standard" => Ok(1),
            "depthwise" | "dw" | "dwconv" => Ok(in_channels),
            _ => Err(self.bad(Field::Kind, "neither `full` nor `depthwise`")),
        }
    }

    fn latency_ns(&self) -> Result<u64, BadRow> {
        let (field, unit) = self.columns.latency;
        let ns = self.text(field).and_then(|text| text.parse::<f64>().ok()).map(|latency| (latency * unit).round());
        let ns = ns.filter(|ns| (1.0..=MAX_LATENCY_NS).contains(ns));
        ns.map(|ns| ns as u64).ok_or_else(|| self.bad(field, "not a time from a nanosecond to an hour"))
    }

    fn problem(&self, channels: [u32; 2], size: [u32; 2], batch: u32, dtype: DType) -> Result<ConvProblem, BadRow> {
        let groups = self.groups(channels[0])?;
        let window = self.window()?;
        let stride = self.number(Field::Stride)?.unwrap_or(1);
        let conv = Conv::rectangle(window).with_stride(stride).with_groups(groups);
        let whole = |reason: String| BadRow { line: self.line(), cell: None, reason };
        let problem = ConvProblem::new(conv, batch, channels[0], channels[1], size, dtype);
        let problem = problem.map_err(|error| whole(error.to_string()))?;
        // What can be read back by its name can stand in a profile.
        Candidate::of(&problem).to_string().parse::<Candidate>().map_err(|error| whole(error.to_string()))?;
        Ok(problem)
    }
}

/// What has been read.
#[derive(Default)]
struct Taken {
    measurements: Vec<Measurement>,
    places: HashMap<ConvProblem, usize>,
    rows: usize,
    others: usize,
    bad: Vec<BadRow>,
    bad_count: usize,
    precisions: BTreeSet<String>,
    batches: BTreeSet<u32>,
    of: Option<(DType, u32)>,
}

impl Taken {
    fn bad(&mut self, row: BadRow) {
        self.bad_count += 1;
        if self.bad.len() < MAX_NAMED {
            self.bad.push(row);
        }
    }

    fn take(&mut self, row: &Row<'_>, import: &Import) -> Result<(), TableError> {
        let (dtype, batch) = match (self.dtype(row, import)?, self.batch(row, import)) {
            (Some(dtype), Ok(Some(batch))) => (dtype, batch),
            (Some(_), Err(bad)) => {
                self.bad(bad);
                return Ok(());
            }
            (None, _) | (Some(_), Ok(None)) => {
                self.others += 1;
                return Ok(());
            }
        };
        let sample = row.channels().and_then(|channels| {
            let size = row.size()?;
            if !import.wants(channels, size) {
                return Ok(None);
            }
            Ok(Some((row.problem(channels, size, batch, dtype)?, row.latency_ns()?)))
        });
        match sample {
            Err(bad) => self.bad(bad),
            Ok(None) => self.others += 1,
            Ok(Some((problem, ns))) => {
                self.of = Some((dtype, batch));
                self.keep(problem, ns, import)?;
            }
        }
        Ok(())
    }

    /// The element type of a row that is wanted for it.
    fn dtype(&mut self, row: &Row<'_>, import: &Import) -> Result<Option<DType>, TableError> {
        let Some(text) = row.text(Field::Precision) else {
            return import.dtype.map(Some).ok_or(TableError::Unsaid("precision"));
        };
        let dtype = precision(text);
        if import.dtype.is_none() {
            if self.precisions.len() <= MAX_NAMED {
                self.precisions.insert(shown(text));
            }
            if dtype.is_none() {
                self.bad(row.bad(Field::Precision, "not one of fp32, fp16, bf16 and int8"));
            }
        }
        Ok(dtype.filter(|dtype| import.dtype.is_none_or(|wanted| wanted == *dtype)))
    }

    /// The images of a row that is wanted for them.
    fn batch(&mut self, row: &Row<'_>, import: &Import) -> Result<Option<u32>, BadRow> {
        let Some(batch) = row.number(Field::Batch)? else { return Ok(Some(import.batch.unwrap_or(1))) };
        if import.batch.is_none() && self.batches.len() <= MAX_NAMED {
            self.batches.insert(batch);
        }
        Ok(import.batch.is_none_or(|wanted| wanted == batch).then_some(batch))
    }

    fn keep(&mut self, problem: ConvProblem, ns: u64, import: &Import) -> Result<(), TableError> {
        self.rows += 1;
        if let Some(&place) = self.places.get(&problem) {
            let samples = &mut self.measurements[place].samples_ns;
            if samples.len() == MAX_SAMPLES {
                return Err(TableError::TooMany { what: "rows of one convolution", most: MAX_SAMPLES });
            }
            samples.push(Some(ns));
            return Ok(());
        }
        if self.measurements.len() == MAX_MEASUREMENTS {
            return Err(TableError::TooMany { what: "convolutions", most: MAX_MEASUREMENTS });
        }
        self.places.insert(problem.clone(), self.measurements.len());
        self.measurements.push(Measurement {
            candidate: Candidate::of(&problem),
            layers: 1,
            problem,
            instrument: Instrument {
                kind: InstrumentKind::Published,
                name: import.instrument.clone(),
                variant: String::new(),
            },
            timing: Timing::Unstated,
            max_error: None,
            computed_in: None,
            samples_ns: vec![Some(ns)],
            processor_ns: Vec::new(),
            runs: std::collections::BTreeMap::new(),
        });
        Ok(())
    }

    fn finish(self, import: &Import) -> Result<Imported, TableError> {
        for (what, found) in [
            ("precision", Vec::from_iter(self.precisions)),
            ("batch", self.batches.iter().map(ToString::to_string).collect()),
        ] {
            if found.len() > 1 {
                return Err(TableError::Mixed { what, found });
            }
        }
        if self.bad_count > 0 {
            return Err(TableError::BadRows { rows: self.bad, count: self.bad_count });
        }
        let Some((dtype, batch)) = self.of else { return Err(TableError::Nothing { rows: self.others }) };
        let mut measurements = self.measurements;
        let place = |measurement: &Measurement| {
            let problem = &measurement.problem;
            import.shapes.iter().position(|shape| *shape == (problem.in_channels(), problem.input()))
        };
        measurements.sort_by_key(place);
        Ok(Imported { dtype, batch, measurements, rows: self.rows, others: self.others })
    }
}

impl Import {
    fn wants(&self, channels: [u32; 2], size: [u32; 2]) -> bool {
        let is_named = |&(named, sides): &(u32, [u32; 2])| [named; 2] == channels && sides == size;
        channels.iter().all(|n| self.channels.contains(n))
            && size.iter().all(|side| self.sizes.contains(side))
            && (self.shapes.is_empty() || self.shapes.iter().any(is_named))
    }
}

/// The element type that goes by this name.
pub fn precision(text: &str) -> Option<DType> {
    match text.to_ascii_lowercase().as_str() {
        "fp32" | "f32" | "float32" | "float" | "single" => Some(DType::F32),
        "fp16" | "f16" | "float16" | "half" => Some(DType::F16),
        "bf16" | "bfloat16" => Some(DType::BF16),
        "int8" | "i8" => Some(DType::I8),
        _ => None,
    }
}

/// As much of a stranger's text as fits into a message.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TABLE: &str = "\
precision,batch,channels,height,kind,window,latency_ms
fp32,1,64,56,full,3,0.5
# by hand
fp32,1,64,56,depthwise,5,0.25
fp16,1,64,56,full,3,0.125
fp32,1,64,56,full,3,0.7
fp32,1,128,28,full,1x3,1e-3
fp32,32,64,56,full,3,2
";

    fn of(dtype: DType, batch: u32) -> Import {
        Import { dtype: Some(dtype), batch: Some(batch), ..Import::default() }
    }

    fn shown_of(imported: &Imported) -> Vec<String> {
        imported
            .measurements
            .iter()
            .map(|Measurement { candidate, problem, samples_ns, .. }| {
                format!("{candidate} {:?} {samples_ns:?}", problem.input_shape())
            })
            .collect()
    }

    #[test]
    fn rows_that_are_wanted_are_taken() {
        let imported = read(TABLE.as_bytes(), &of(DType::F32, 1)).unwrap();
        assert_eq!((imported.rows, imported.others, imported.dtype, imported.batch), (4, 2, DType::F32, 1));
        insta::assert_snapshot!(shown_of(&imported).join("\n"), @r"
        conv3x3 [1, 64, 56, 56] [Some(500000), Some(700000)]
        dw5x5 [1, 64, 56, 56] [Some(250000)]
        conv1x3 [1, 128, 28, 28] [Some(1000)]
        ");
        assert_eq!(imported.measurements[0].median(), Some(Duration::from_micros(600)));

        let narrow = Import { channels: 65..=512, sizes: 28..=28, ..of(DType::F32, 1) };
        assert_eq!(shown_of(&read(TABLE.as_bytes(), &narrow).unwrap()), ["conv1x3 [1, 128, 28, 28] [Some(1000)]"]);
        let in_order = Import { shapes: vec![(128, [28, 28]), (64, [56, 56])], ..of(DType::F32, 1) };
        let imported = read(TABLE.as_bytes(), &in_order).unwrap();
        assert_eq!(imported.measurements[0].problem.in_channels(), 128);
        assert_eq!(imported.measurements.len(), 3);
        let none = Import { sizes: 7..=14, ..of(DType::F32, 1) };
        assert_eq!(read(TABLE.as_bytes(), &none), Err(TableError::Nothing { rows: 6 }));
    }

    #[test]
    fn columns_go_by_other_names() {
        let table = "N;C;M;H;W;groups;k;s;us\n2;32;64;8;16;4;3;2;1.5\n2;32;32;8;16;32;3;1;1\n2;32;32;8;16;1;5;1;1\n";
        let name = |field: &str, name: &str| (field.parse().unwrap(), name.to_owned());
        let columns = [
            name("batch", "N"),
            name("in_channels", "C"),
            name("out_channels", "M"),
            name("height", "H"),
            name("width", "W"),
            name("window", "k"),
            name("stride", "s"),
            name("latency_us", "us"),
        ];
        let import =
            Import { columns: columns.to_vec(), delimiter: b';', dtype: Some(DType::F16), ..Import::default() };
        let imported = read(table.as_bytes(), &import).unwrap();
        insta::assert_snapshot!(shown_of(&imported).join("\n"), @r"
        group4conv3x3 [2, 32, 8, 16] [Some(1500)]
        dw3x3 [2, 32, 8, 16] [Some(1000)]
        conv5x5 [2, 32, 8, 16] [Some(1000)]
        ");
        assert_eq!(imported.measurements[0].problem.output_shape(), [2, 64, 4, 8]);
    }

    #[test]
    fn what_makes_no_sense_is_named_by_its_line() {
        let row = |from: &str, to: &str| TABLE.replacen(from, to, 1);
        let said: Vec<String> = [
            row("latency_ms", "latency"),
            row("kind,window", "kind,kind"),
            row("3,0.5", "3,NaN"),
            row("3,0.5", "3,-0.5"),
            row("3,0.5", "3,1e300"),
            row("3,0.5", "3,0"),
            row("3,0.5", "2,0.5"),
            row("3,0.5", "333,0.5"),
            row("3,0.5", "99999999999,0.5"),
            row("3,0.5", "3,0.5,7"),
            row("64,56,full", "-64,56,full"),
            row("64,56,full", "4294967295,4294967295,full"),
            row("64,56,full", "64,0,full"),
            row("64,56,full", "64,56,winograd"),
            row("fp32,1,", "fp32,one,"),
            row("fp32,1,64", &format!("fp32,1,{}", "x".repeat(500))),
            TABLE.replace("full", "f"),
            "name,size".to_owned(),
            String::new(),
        ]
        .iter()
        .map(|text| read(text.as_bytes(), &of(DType::F32, 1)).unwrap_err().to_string())
        .collect();
        insta::assert_snapshot!(said.join("\n"), @r"
        it has no column `latency_ms`; its columns are `precision`, `batch`, `channels`, `height`, `kind`, `window`, `latency`
        it has two columns `kind`
        line 2: `latency_ms` is `NaN`, not a time from a nanosecond to an hour
        line 2: `latency_ms` is `-0.5`, not a time from a nanosecond to an hour
        line 2: `latency_ms` is `1e300`, not a time from a nanosecond to an hour
        line 2: `latency_ms` is `0`, not a time from a nanosecond to an hour
        line 2: `conv2x2` is not a convolution: the sides of the window have to be odd, from 1 to 31
        line 2: `conv333x333` is not a convolution: the sides of the window have to be odd, from 1 to 31
        line 2: `window` is `99999999999`, not a side or HEIGHTxWIDTH
        line 2: it has 8 values, the head has 7
        line 2: `channels` is `-64`, not a whole number from 1 up
        line 2: its input has 18446744073709551615 elements, more than the 2147483647 supported
        line 2: `height` is `0`, not a whole number from 1 up
        line 2: `kind` is `winograd`, neither `full` nor `depthwise`
        line 2: `batch` is `one`, not a whole number from 1 up
        line 2: `channels` is `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...`, not a whole number from 1 up
        line 2: `kind` is `f`, neither `full` nor `depthwise`
        line 6: `kind` is `f`, neither `full` nor `depthwise`
        line 7: `kind` is `f`, neither `full` nor `depthwise`
        it has no column `channels`, no column `height`, no column `window`, no column `kind`, no column `latency_ms`; its columns are `name`, `size`
        it is empty
        ");
        let text = [TABLE.as_bytes(), b"fp32,1,64,56,full,3,\xff\n"].concat();
        let error = read(&text, &of(DType::F32, 1)).unwrap_err().to_string();
        assert_eq!(error, "line 9: it is no text in UTF-8");
        let many = format!("{TABLE}{}", "fp32,1,64,56,full,3,x\n".repeat(1000));
        let error = read(many.as_bytes(), &of(DType::F32, 1)).unwrap_err().to_string();
        assert_eq!(error.lines().count(), MAX_NAMED + 1);
        assert!(error.ends_with("and 995 more rows that make no sense"), "{error}");
    }

    #[test]
    fn a_profile_has_one_element_type_and_one_batch() {
        let said = |import: Import| read(TABLE.as_bytes(), &import).unwrap_err().to_string();
        let mixed = [said(Import::default()), said(Import { dtype: Some(DType::F32), ..Import::default() })];
        insta::assert_snapshot!(mixed.join("\n"), @r"
        it has rows of precision fp16, fp32, and a profile has one
        it has rows of batch 1, 32, and a profile has one
        ");
        let unsaid = "channels,height,kind,window,latency_ms\n64,56,full,3,1\n";
        assert_eq!(read(unsaid.as_bytes(), &Import::default()), Err(TableError::Unsaid("precision")));
        let whole = Import { dtype: Some(DType::F16), ..Import::default() };
        assert_eq!(read(unsaid.as_bytes(), &whole).unwrap().batch, 1);
    }

    mod any_damage {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #[test]
            fn is_read_or_refused(at in 0..TABLE.len(), length in 0..40usize, with in "[ -~\n]{0,6}") {
                let mut text = TABLE.to_owned();
                text.replace_range(at..(at + length).min(TABLE.len()), &with);
                for import in [of(DType::F32, 1), Import::default()] {
                    if let Ok(imported) = read(text.as_bytes(), &import) {
                        prop_assert!(imported.measurements.iter().all(|measured| measured.median().is_some()));
                    }
                }
            }
        }
    }
}
