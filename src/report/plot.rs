//! A profile as a picture: for each source the densities as bars with their intervals, and every problem's density over
//! its intensity, with the roof of the device where it is known.
//!
//! On white, and told apart by form rather than colour, so that it reads the same in print. The figures are those of
//! [`select`](crate::select).

use super::draw::{Anchor, BLACK, BLUE, DIM, GREY, Sheet, WHITE, fitted, png, svg};
use crate::conv::Candidate;
use crate::profile::roof::Roofline;
use crate::profile::sampling::Interval;
use crate::profile::{Device, Measurement, Profile};
use crate::select::{Ranked, Ranking, Rules, Source, rankings};
use crate::units::{FlopsPerByte, counted};

/// Most sources that are drawn.
const MAX_SOURCES: usize = 4;

/// Most candidates of a source that are drawn.
const MAX_CANDIDATES: usize = 30;

/// What a picture is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Scalable, for web pages and print.
    Svg,
    /// Of dots.
    Png,
}

/// Why a picture cannot be drawn: the words of what draws.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the picture cannot be drawn: {0}")]
pub struct PlotError(pub(super) String);

/// Draws a profile.
///
/// # Errors
/// If what draws fails.
pub fn draw(profile: &Profile, format: Format) -> Result<Vec<u8>, PlotError> {
    let page = Page::of(profile);
    let size = (WIDTH as u32, page.height().ceil() as u32);
    let draw = |sheet: &mut dyn Sheet| page.draw(sheet);
    match format {
        Format::Svg => svg(size, draw),
        Format::Png => png(size, draw),
    }
}

// Sizes in dots of the sheet.
const WIDTH: f64 = 960.0;
const MARGIN: f64 = 28.0;
const TITLE: f64 = 18.0;
const TEXT: f64 = 12.0;
const SMALL: f64 = 11.0;
const HEAD: f64 = 100.0;
const WARNING: f64 = 26.0;
const SOURCE_HEAD: f64 = 34.0;
const ROW: f64 = 27.0;
const AXIS: f64 = 58.0;
const LABELS: f64 = 172.0;
const VALUES: f64 = 190.0;
const ROOFLINE: f64 = 400.0;
const LEGEND_ROW: f64 = 19.0;
const GAP: f64 = 26.0;

struct Page<'p> {
    profile: &'p Profile,
    sources: Vec<Panel<'p>>,
    /// Sources that are not drawn.
    left_out: usize,
}

struct Panel<'p> {
    ranking: Ranking,
    /// Candidates that are not drawn.
    left_out: usize,
    measurements: Vec<&'p Measurement>,
    roof: Option<Roofline>,
}

impl<'p> Page<'p> {
    fn of(profile: &'p Profile) -> Self {
        let mut all = rankings(profile, Rules::default());
        let left_out = all.len().saturating_sub(MAX_SOURCES);
        all.truncate(MAX_SOURCES);
        let panel = |mut ranking: Ranking| {
            let left_out = ranking.ranks.len().saturating_sub(MAX_CANDIDATES);
            ranking.ranks.truncate(MAX_CANDIDATES);
            let is_shown = |m: &&Measurement| {
                let shown = || candidates(&ranking).take(MAX_CANDIDATES).any(|candidate| candidate == m.candidate);
                Source::of(m) == ranking.source && m.density().is_some() && shown()
            };
            let measurements: Vec<&Measurement> = profile.measurements.iter().filter(is_shown).collect();
            let roof = measurements.iter().find_map(|m| Roofline::over(m, &profile.roofs));
            Panel { left_out, measurements, roof, ranking }
        };
        Self { profile, sources: all.into_iter().map(panel).collect(), left_out }
    }

    fn is_software(&self) -> bool {
        self.profile.device.kind.is_software()
    }

    fn head(&self) -> f64 {
        HEAD + if self.is_software() { WARNING } else { 0.0 }
    }

    fn height(&self) -> f64 {
        let sources: f64 = self.sources.iter().map(Panel::height).sum();
        self.head() + sources.max(60.0) + MARGIN
    }

    fn draw(&self, sheet: &mut dyn Sheet) {
        let Device { name, backend, driver, .. } = &self.profile.device;
        let settings = &self.profile.settings;
        let wide = WIDTH - 2.0 * MARGIN;
        let title = fitted(sheet, &format!("How densely {name} computes convolutions"), TITLE, wide);
        sheet.text(&title, (MARGIN, 32.0), TITLE, Anchor::Left, BLACK);
        let reached = if driver.is_empty() { backend.clone() } else { format!("{backend}, {driver}") };
        let threads = settings.threads.map(|n| format!(", {}", counted(n.into(), "thread"))).unwrap_or_default();
        let how = format!(
            "workload {}, {}, batch {}{threads}, up to {}",
            settings.workload,
            settings.dtype,
            settings.batch,
            counted(settings.rounds.into(), "round")
        );
        for (line, y) in [(reached, 57.0), (how, 77.0)] {
            let line = fitted(sheet, &line, TEXT, wide);
            sheet.text(&line, (MARGIN, y), TEXT, Anchor::Left, DIM);
        }
        if self.is_software() {
            let warning = "SOFTWARE ADAPTER: its results are right, its speed means nothing";
            sheet.text(warning, (MARGIN, 100.0), TEXT, Anchor::Left, BLACK);
        }
        let mut top = self.head();
        for panel in &self.sources {
            panel.draw(sheet, top, self.is_software());
            top += panel.height();
        }
        if self.sources.is_empty() {
            sheet.text("nothing was measured", (MARGIN, top + 20.0), TEXT, Anchor::Left, BLACK);
        }
        if self.left_out > 0 {
            let more = format!("and {} not shown", counted(self.left_out as u64, "source"));
            sheet.text(&more, (MARGIN, top + 4.0), SMALL, Anchor::Left, DIM);
        }
    }
}

/// The candidates of a ranking, those that could not be compared last.
fn candidates(ranking: &Ranking) -> impl Iterator<Item = Candidate> {
    let compared = ranking.ranks.iter().map(|ranked| ranked.candidate);
    compared.chain(ranking.left_out.iter().map(|left_out| left_out.candidate))
}

impl Panel<'_> {
    fn height(&self) -> f64 {
        let plot = if self.measurements.is_empty() { 0.0 } else { self.roofline_height() + GAP };
        SOURCE_HEAD + self.bars_height() + plot
    }

    fn bars_height(&self) -> f64 {
        if self.ranking.ranks.is_empty() { 30.0 } else { self.ranking.ranks.len() as f64 * ROW + AXIS }
    }

    fn roofline_height(&self) -> f64 {
        ROOFLINE.max(self.shown().len() as f64 * LEGEND_ROW + 40.0) + AXIS
    }

    /// The candidates that have a measurement, in order of rank.
    fn shown(&self) -> Vec<Candidate> {
        let measured = |candidate: &Candidate| self.measurements.iter().any(|m| m.candidate == *candidate);
        candidates(&self.ranking).filter(measured).take(MAX_CANDIDATES).collect()
    }

    fn draw(&self, sheet: &mut dyn Sheet, top: f64, software: bool) {
        let mark = if software { " (software)" } else { "" };
        let more = match self.left_out {
            0 => String::new(),
            left_out => format!("{left_out} more candidates not shown"),
        };
        let room = WIDTH - 2.0 * MARGIN - sheet.width(&more, SMALL) - 20.0;
        let head = fitted(sheet, &format!("measured by: {}{mark}", self.ranking.source), TEXT + 1.5, room);
        sheet.text(&more, (WIDTH - MARGIN, top + 18.0), SMALL, Anchor::Right, DIM);
        sheet.line(&[(MARGIN, top), (WIDTH - MARGIN, top)], GREY, 1.0);
        sheet.text(&head, (MARGIN, top + 18.0), TEXT + 1.5, Anchor::Left, BLACK);
        self.bars(sheet, top + SOURCE_HEAD, software);
        if !self.measurements.is_empty() {
            self.roofline(sheet, top + SOURCE_HEAD + self.bars_height() + GAP / 2.0);
        }
    }

    fn bars(&self, sheet: &mut dyn Sheet, top: f64, software: bool) {
        let ranks = &self.ranking.ranks;
        if ranks.is_empty() {
            sheet.text("no candidate was measured on every problem", (MARGIN, top + 12.0), TEXT, Anchor::Left, DIM);
            return;
        }
        let intervals: Vec<Option<Interval>> = ranks.iter().map(Ranked::interval).collect();
        let end = |(ranked, interval): (&Ranked, &Option<Interval>)| {
            interval.map_or(ranked.density.0, |interval| interval.high.max(ranked.density.0))
        };
        let highest = ranks.iter().zip(&intervals).map(end).fold(0.0, f64::max);
        let (unit, prefix) = prefix(highest);
        let axis = Linear::up_to(highest / unit);
        let (left, right) = (MARGIN + LABELS, WIDTH - MARGIN - VALUES);
        let x = |value: f64| left + (right - left) * (value / unit / axis.end).clamp(0.0, 1.0);
        let bottom = top + ranks.len() as f64 * ROW;
        for tick in axis.ticks() {
            let at = x(tick * unit);
            sheet.line(&[(at, top), (at, bottom)], GREY, 1.0);
            sheet.text(&number(tick), (at, bottom + 13.0), SMALL, Anchor::Middle, BLACK);
        }
        let title = format!("density ({prefix}FLOP/s), with the interval that holds it with 95 % confidence");
        sheet.text(&title, ((left + right) / 2.0, bottom + 34.0), SMALL, Anchor::Middle, BLACK);
        for (row, (ranked, interval)) in ranks.iter().zip(&intervals).enumerate() {
            let middle = top + (row as f64 + 0.5) * ROW;
            let name = fitted(sheet, &ranked.candidate.to_string(), TEXT, LABELS - 12.0);
            sheet.text(&name, (left - 10.0, middle), TEXT, Anchor::Right, BLACK);
            sheet.rectangle((left, middle - 8.0), (x(ranked.density.0), middle + 8.0), BLUE);
            let mut end = x(ranked.density.0);
            if let Some(interval) = interval {
                let (low, high) = (x(interval.low), x(interval.high));
                sheet.line(&[(low, middle), (high, middle)], BLACK, 1.6);
                for cap in [low, high] {
                    sheet.line(&[(cap, middle - 5.0), (cap, middle + 5.0)], BLACK, 1.6);
                }
                end = end.max(high);
            }
            let mark = if software { " (software)" } else { "" };
            let value = format!("{}{mark}", ranked.density);
            // No line of the axis goes through it.
            let width = sheet.width(&value, TEXT);
            sheet.rectangle((end + 6.0, middle - 9.0), (end + 12.0 + width, middle + 9.0), WHITE);
            sheet.text(&value, (end + 9.0, middle), TEXT, Anchor::Left, BLACK);
        }
        sheet.line(&[(left, top), (left, bottom)], BLACK, 1.2);
    }

    fn roofline(&self, sheet: &mut dyn Sheet, top: f64) {
        let points: Vec<(Candidate, f64, f64)> = self
            .measurements
            .iter()
            .filter_map(|m| Some((m.candidate, m.intensity().0, m.density()?.0)))
            .filter(|(_, intensity, density)| intensity.is_finite() && *intensity > 0.0 && *density > 0.0)
            .collect();
        let highest =
            points.iter().map(|point| point.2).chain(self.roof.map(|roof| roof.arithmetic.0)).fold(0.0, f64::max);
        let (unit, prefix) = prefix(highest);
        let ridge = self.roof.map(|roof| roof.arithmetic.0 / roof.bandwidth.0);
        let horizontal = Log::over(points.iter().map(|point| point.1).chain(ridge));
        let vertical =
            Log::over(points.iter().map(|point| point.2 / unit).chain(self.roof.map(|r| r.arithmetic.0 / unit)));
        let (left, right) = (MARGIN + 62.0, WIDTH - MARGIN - VALUES);
        let bottom = top + self.roofline_height() - AXIS;
        let x = |value: f64| left + (right - left) * horizontal.share(value);
        let y = |value: f64| bottom - (bottom - top) * vertical.share(value / unit);
        for (tick, is_labelled) in horizontal.ticks() {
            let at = x(tick);
            sheet.line(&[(at, top), (at, bottom)], GREY, 1.0);
            if is_labelled {
                sheet.text(&number(tick), (at, bottom + 13.0), SMALL, Anchor::Middle, BLACK);
            }
        }
        for (tick, is_labelled) in vertical.ticks() {
            let at = y(tick * unit);
            sheet.line(&[(left, at), (right, at)], GREY, 1.0);
            if is_labelled {
                sheet.text(&number(tick), (left - 8.0, at), SMALL, Anchor::Right, BLACK);
            }
        }
        sheet.line(&[(left, top), (left, bottom), (right, bottom)], BLACK, 1.2);
        let title = "intensity (FLOP per byte that has to be moved)";
        sheet.text(title, ((left + right) / 2.0, bottom + 34.0), SMALL, Anchor::Middle, BLACK);
        let title = format!("density ({prefix}FLOP/s)");
        sheet.text(&title, (MARGIN + 6.0, (top + bottom) / 2.0), SMALL, Anchor::Upwards, BLACK);
        if let Some(roof) = self.roof {
            let limit = |intensity: f64| roof.at(FlopsPerByte(intensity)).0.0;
            let ridge = roof.arithmetic.0 / roof.bandwidth.0;
            // The sloping part begins where it comes into the picture.
            let begin = (vertical.low * unit / roof.bandwidth.0).clamp(horizontal.low, horizontal.high);
            let line =
                [begin, ridge.clamp(horizontal.low, horizontal.high), horizontal.high].map(|at| (x(at), y(limit(at))));
            sheet.line(&line, BLACK, 2.2);
            let label = format!("{} measured at most", roof.arithmetic);
            sheet.text(&label, (right - 6.0, y(roof.arithmetic.0) - 11.0), SMALL, Anchor::Right, BLACK);
        }
        let shown = self.shown();
        for (candidate, intensity, density) in &points {
            let Some(form) = shown.iter().position(|known| known == candidate) else { continue };
            mark(sheet, form, (x(*intensity), y(*density)));
        }
        for (row, candidate) in shown.iter().enumerate() {
            let middle = top + 10.0 + row as f64 * LEGEND_ROW;
            mark(sheet, row, (right + 24.0, middle));
            let name = fitted(sheet, &candidate.to_string(), SMALL, VALUES - 44.0);
            sheet.text(&name, (right + 38.0, middle), SMALL, Anchor::Left, BLACK);
        }
        let legend = "one mark for each layer";
        sheet.text(legend, (right + 16.0, top + 16.0 + shown.len() as f64 * LEGEND_ROW), SMALL, Anchor::Left, DIM);
    }
}

/// One of sixteen forms, filled and hollow; after those they begin again.
fn mark(sheet: &mut dyn Sheet, form: usize, (x, y): (f64, f64)) {
    let around = |angles: &[f64], radius: f64| -> Vec<(f64, f64)> {
        let at = |degrees: &f64| (x + radius * degrees.to_radians().sin(), y - radius * degrees.to_radians().cos());
        angles.iter().map(at).collect()
    };
    let filled = form.is_multiple_of(2);
    match form / 2 % 8 {
        0 => sheet.circle((x, y), 4.6, filled, BLACK),
        1 => sheet.polygon(&around(&[45.0, 135.0, 225.0, 315.0], 6.0), filled, BLACK),
        2 => sheet.polygon(&around(&[0.0, 120.0, 240.0], 6.2), filled, BLACK),
        3 => sheet.polygon(&around(&[0.0, 90.0, 180.0, 270.0], 6.2), filled, BLACK),
        4 => sheet.polygon(&around(&[60.0, 180.0, 300.0], 6.2), filled, BLACK),
        5 => sheet.polygon(&around(&[0.0, 72.0, 144.0, 216.0, 288.0], 6.0), filled, BLACK),
        6 => sheet.polygon(&around(&[90.0, 210.0, 330.0], 6.2), filled, BLACK),
        _ => {
            let turn = if filled { 0.0 } else { 45.0 };
            for angle in [turn, turn + 90.0] {
                sheet.line(&around(&[angle, angle + 180.0], 6.0), BLACK, 2.0);
            }
        }
    }
}

/// An axis from zero.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Linear {
    step: f64,
    end: f64,
}

impl Linear {
    /// Up to the first tick at or above a value; the ticks, four to ten, at round numbers.
    fn up_to(most: f64) -> Self {
        let most = if most > 0.0 && most.is_finite() { most } else { 1.0 };
        let decade = 10f64.powf((most / 4.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * decade).into_iter().rfind(|step| most / step >= 4.0);
        let step = step.unwrap_or(decade);
        Self { step, end: (most / step).ceil() * step }
    }

    fn ticks(self) -> impl Iterator<Item = f64> {
        (0..=(self.end / self.step).round() as u32).map(move |n| f64::from(n) * self.step)
    }
}

/// A logarithmic axis.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Log {
    low: f64,
    high: f64,
}

impl Log {
    /// Over these values with a margin, and over a factor of ten at least.
    fn over(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values
            .filter(|value| value.is_finite() && *value > 0.0)
            .fold((f64::INFINITY, 0.0f64), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return Self { low: 1.0, high: 10.0 };
        }
        let margin = 1.3f64.max((10.0 / (high / low)).sqrt());
        Self { low: (low / margin).max(f64::MIN_POSITIVE), high: (high * margin).min(f64::MAX) }
    }

    fn share(self, value: f64) -> f64 {
        ((value.ln() - self.low.ln()) / (self.high.ln() - self.low.ln())).clamp(0.0, 1.0)
    }

    /// Round numbers, and whether they are written beside the axis: 1, 2 and 5 of each decade, or less where there are
    /// many decades.
    fn ticks(self) -> Vec<(f64, bool)> {
        let decades = self.high.log10() - self.low.log10();
        let first = self.low.log10().floor() as i32;
        let last = self.high.log10().ceil() as i32;
        let mut ticks = Vec::new();
        for decade in first..=last {
            for factor in 1..=9 {
                let tick = f64::from(factor) * 10f64.powi(decade);
                let inside = tick >= self.low * 0.999 && tick <= self.high * 1.001;
                let is_drawn = decades <= 4.0 && matches!(factor, 1 | 2 | 5) || factor == 1;
                let is_labelled = factor == 1 && (decades <= 9.0 || decade % 3 == 0) || decades <= 3.0;
                if inside && is_drawn {
                    ticks.push((tick, is_labelled));
                }
            }
        }
        ticks
    }
}

/// The unit in which the greatest of some values has one to three digits before the point, with its prefix.
fn prefix(most: f64) -> (f64, &'static str) {
    const PREFIXES: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let thousands = if most >= 1.0 { (most.log10() / 3.0 + 1e-12).floor() as usize } else { 0 };
    let thousands = thousands.min(PREFIXES.len() - 1);
    (1000f64.powi(thousands as i32), PREFIXES[thousands])
}

/// A round number without needless digits.
fn number(value: f64) -> String {
    let text = if value >= 1e6 || value != 0.0 && value < 1e-4 { format!("{value:e}") } else { format!("{value:.4}") };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::roof::{Roof, RoofKind};
    use crate::profile::{Instrument, InstrumentKind, Timing};
    use crate::tensor::DType;

    const RECORDED: [&str; 4] = [
        include_str!("../../fixtures/profiles/epyc-cpu-2-threads.yaml"),
        include_str!("../../fixtures/profiles/llvmpipe.yaml"),
        include_str!("../../fixtures/profiles/patent.yaml"),
        include_str!("../../schema/profile.example.yaml"),
    ];

    /// What is written on a picture.
    fn texts(svg: &[u8]) -> Vec<String> {
        let svg = String::from_utf8(svg.to_vec()).unwrap();
        let inside =
            svg.split("<text").skip(1).map(|rest| rest.split_once('>').unwrap().1.split_once("</text>").unwrap().0);
        inside.map(|text| text.trim().to_owned()).collect()
    }

    #[test]
    fn what_a_picture_says() {
        let drawn = draw(&Profile::read(RECORDED[1]).unwrap(), Format::Svg).unwrap();
        let texts = texts(&drawn);
        for expected in [
            "How densely llvmpipe (LLVM 15.0.6, 256 bits) computes convolutions",
            "SOFTWARE ADAPTER: its results are right, its speed means nothing",
            "measured by: shaders (software)",
            "density (MFLOP/s), with the interval that holds it with 95 % confidence",
            "529 MFLOP/s (software)",
            "intensity (FLOP per byte that has to be moved)",
        ] {
            assert!(texts.iter().any(|text| text == expected), "`{expected}` is not among {texts:#?}");
        }
        assert_eq!(texts.iter().filter(|text| *text == "dw5x5").count(), 2, "beside its bar and in the legend");
    }

    #[test]
    fn every_recorded_profile_is_drawn_in_both_formats() {
        for text in RECORDED {
            let profile = Profile::read(text).unwrap();
            let svg = draw(&profile, Format::Svg).unwrap();
            assert!(svg.starts_with(b"<svg"));
            let png = draw(&profile, Format::Png).unwrap();
            let picture = image::load_from_memory(&png).unwrap().to_rgb8();
            assert_eq!(picture.width(), 1920);
            assert_eq!(picture.get_pixel(0, 0).0, [255; 3], "white, whatever shows it");
            let dark = picture.pixels().filter(|pixel| pixel.0.iter().all(|&part| part < 100)).count();
            assert!(dark > 5000, "{dark} dark dots");
        }
    }

    #[test]
    fn a_roof_is_drawn_where_it_is_known() {
        let drawn = |roofs: &[Roof]| {
            let profile = Profile { roofs: roofs.to_vec(), ..Profile::read(RECORDED[0]).unwrap() };
            draw(&profile, Format::Svg).unwrap()
        };
        // 200 and 20 a nanosecond.
        let roofs_of = |kind, name: &str| {
            [(RoofKind::Arithmetic, 200_000), (RoofKind::Bandwidth, 20_000)].map(|(limit, amount)| Roof {
                kind: limit,
                instrument: Instrument { kind, name: name.to_owned(), variant: String::new() },
                dtype: DType::F32,
                amount,
                timing: Timing::ChainSlope,
                samples_ns: vec![Some(1000)],
            })
        };
        let with = texts(&drawn(&roofs_of(InstrumentKind::Provider, "cpu")));
        assert!(with.contains(&"200 GFLOP/s measured at most".to_owned()), "{with:?}");
        assert_eq!(drawn(&roofs_of(InstrumentKind::Shader, "roof_fma")), drawn(&[]), "another source's says nothing");
    }

    /// Names that would break the file, or go over the edge, and more candidates and sources than fit.
    #[test]
    fn any_profile_is_drawn() {
        let mut profile = Profile::read(RECORDED[0]).unwrap();
        profile.device.name = format!("<b>&amp;\u{1b}[31m\u{202e}{}", "W".repeat(5000));
        profile.settings.workload = "\n\0".repeat(1000);
        let one = profile.measurements[0].clone();
        profile.measurements.clear();
        for source in 0..9 {
            for side in 0..16u32 {
                for other in 0..3u32 {
                    let mut more = one.clone();
                    more.candidate = Candidate { window: [2 * side + 1, 2 * other + 1], ..one.candidate };
                    more.instrument.name = format!("provider {source} {}", "x".repeat(300));
                    profile.measurements.push(more);
                }
            }
        }
        let svg = String::from_utf8(draw(&profile, Format::Svg).unwrap()).unwrap();
        assert!(!svg.contains("<b>") && !svg.contains('\u{1b}') && !svg.contains('\0'));
        assert!(svg.contains("18 more candidates not shown") && svg.contains("5 sources not shown"), "{}", svg.len());
        assert!(draw(&profile, Format::Png).unwrap().len() < 8 << 20);
        profile.measurements.clear();
        assert!(texts(&draw(&profile, Format::Svg).unwrap()).contains(&"nothing was measured".to_owned()));
        assert!(draw(&profile, Format::Png).is_ok());
    }

    #[test]
    fn axes_have_round_numbers() {
        for (most, step, end) in
            [(177.0, 20.0, 180.0), (1.0, 0.2, 1.0), (4.0, 1.0, 4.0), (99.0, 20.0, 100.0), (0.0, 0.2, 1.0)]
        {
            let axis = Linear::up_to(most);
            assert!((axis.step - step).abs() < 1e-9 && (axis.end - end).abs() < 1e-9, "{most}: {axis:?}");
            assert!((4..=11).contains(&axis.ticks().count()), "{most}");
        }
        let axis = Log::over([3.0, 40.0].into_iter());
        let labelled: Vec<f64> = axis.ticks().into_iter().filter(|tick| tick.1).map(|tick| tick.0).collect();
        assert_eq!(labelled, [5.0, 10.0, 20.0, 50.0]);
        assert_eq!(Log::over(std::iter::empty()), Log { low: 1.0, high: 10.0 });
        for value in [1e-300, 1e300, f64::MAX, f64::MIN_POSITIVE] {
            let axis = Log::over([value, 1.0].into_iter());
            assert!((0.0..=1.0).contains(&axis.share(value)) && axis.ticks().len() < 700, "{value}");
        }
        let shown: Vec<String> = [0.5, 200.0, 0.0, 1e7, 0.002].map(number).to_vec();
        assert_eq!(shown, ["0.5", "200", "0", "1e7", "0.002"]);
        assert_eq!([598e9, 999.0, 1e12, 0.0].map(|value| prefix(value).1), ["G", "", "T", ""]);
    }
}
