//! Charts as SVG, in colours that the page's style gives them.

use std::fmt::Write;

use super::escaped;

/// A bar with its interval.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) value: f64,
    pub(super) interval: Option<[f64; 2]>,
    /// The value as text.
    pub(super) shown: String,
}

/// A dot; `class` gives its look.
pub(super) struct Mark {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) class: &'static str,
    /// What is shown when it is pointed at.
    pub(super) title: String,
}

/// Width and height of a scatter chart, and what the axes need at the left and below.
const SIZE: [f64; 2] = [420.0, 300.0];
const MARGIN: [f64; 2] = [52.0, 40.0];
const ROW: f64 = 26.0;

/// Bars under each other, from zero.
pub(super) fn bars(bars: &[Bar]) -> String {
    let ends = bars.iter().flat_map(|bar| [bar.value, bar.interval.map_or(0.0, |[_, high]| high)]);
    let most = ends.filter(|value| value.is_finite()).fold(f64::MIN_POSITIVE, f64::max);
    let (left, right) = (76.0, 330.0);
    let at = |value: f64| left + (right - left) * (value / most).clamp(0.0, 1.0);
    let mut svg = format!(
        "<svg class=\"chart\" viewBox=\"0 0 420 {:.0}\" role=\"img\" aria-label=\"densities\">",
        ROW * bars.len() as f64 + 6.0
    );
    for (i, bar) in bars.iter().enumerate() {
        let y = ROW * i as f64 + 4.0;
        let middle = y + ROW / 2.0 - 2.0;
        let _ = write!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text><rect class=\"value\" x=\"{left}\" y=\"{y:.1}\" \
             width=\"{:.1}\" height=\"{:.1}\" rx=\"2\"/>",
            left - 6.0,
            middle + 4.0,
            escaped(&bar.label),
            at(bar.value) - left,
            ROW - 6.0
        );
        if let Some([low, high]) = bar.interval {
            let _ = write!(svg, "<path class=\"interval\" d=\"M{:.1} {middle:.1}H{:.1}\"/>", at(low), at(high));
        }
        let _ = write!(svg, "<text x=\"{:.0}\" y=\"{:.1}\">{}</text>", right + 8.0, middle + 4.0, escaped(&bar.shown));
    }
    svg + "</svg>\n"
}

/// Dots and a line, by the logarithms of their values. `band` draws the diagonal and this share to both sides of it, `limit` an upright line.
pub(super) fn scatter(
    marks: &[Mark],
    line: &[[f64; 2]],
    titles: [&str; 2],
    band: Option<f64>,
    limit: Option<f64>,
) -> String {
    let points = marks.iter().map(|mark| [mark.x, mark.y]).chain(line.iter().copied());
    let points: Vec<[f64; 2]> = points.filter(|point| point.iter().all(|v| v.is_finite() && *v > 0.0)).collect();
    let mut ranges = [0, 1].map(|axis| range(points.iter().map(|point| point[axis])));
    if band.is_some() {
        let [x, y] = ranges;
        ranges = [[x[0].min(y[0]), x[1].max(y[1])]; 2];
    }
    let [width, height] = SIZE;
    let [left, below] = MARGIN;
    let along = |axis: usize, value: f64| {
        let [least, most] = ranges[axis];
        (value / least).ln() / (most / least).ln()
    };
    let x = |value: f64| left + (width - left - 10.0) * along(0, value);
    let y = |value: f64| height - below - (height - below - 10.0) * along(1, value);
    let title = escaped(&format!("{} against {}", titles[1], titles[0]));
    let mut svg = format!("<svg class=\"chart\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\">");
    for tick in ticks(ranges[0]) {
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{at:.1} 10V{:.1}\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{tick}</text>",
            height - below,
            height - below + 14.0,
            at = x(tick)
        );
    }
    for tick in ticks(ranges[1]) {
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{left} {at:.1}H{:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>",
            width - 10.0,
            left - 6.0,
            y(tick) + 4.0,
            at = y(tick)
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text><text transform=\"rotate(-90 12 {m:.1})\" x=\"12\" \
         y=\"{m:.1}\" text-anchor=\"middle\">{}</text>",
        (left + width) / 2.0,
        height - 6.0,
        escaped(titles[0]),
        escaped(titles[1]),
        m = (height - below) / 2.0,
    );
    if let Some(band) = band {
        let [least, most] = ranges[0];
        let _ = write!(
            svg,
            "<clipPath id=\"inside\"><path d=\"M{left} 10H{r:.1}V{b:.1}H{left}Z\"/></clipPath><path class=\"band\" \
             clip-path=\"url(#inside)\" d=\"M{a:.1} {:.1}L{z:.1} {:.1}V{:.1}L{a:.1} {:.1}Z\"/><path class=\"diagonal\" \
             d=\"M{a:.1} {:.1}L{z:.1} {:.1}\"/>",
            y(least * (1.0 + band)),
            y(most * (1.0 + band)),
            y(most * (1.0 - band)),
            y(least * (1.0 - band)),
            y(least),
            y(most),
            a = x(least),
            z = x(most),
            r = width - 10.0,
            b = height - below
        );
    }
    if let Some(limit) = limit.filter(|limit| (ranges[0][0]..=ranges[0][1]).contains(limit)) {
        let _ = write!(svg, "<path class=\"limit\" d=\"M{:.1} 10V{:.1}\"/>", x(limit), height - below);
    }
    let points: Vec<String> = line.iter().map(|point| format!("{:.1},{:.1}", x(point[0]), y(point[1]))).collect();
    if !points.is_empty() {
        let _ = write!(svg, "<polyline class=\"front\" points=\"{}\"/>", points.join(" "));
    }
    for mark in marks.iter().filter(|mark| mark.x > 0.0 && mark.y > 0.0) {
        let (x, y, title) = (x(mark.x), y(mark.y), escaped(&mark.title));
        let _ = match mark.class {
            "base" => write!(
                svg,
                "<rect class=\"base\" x=\"{:.1}\" y=\"{:.1}\" width=\"9\" height=\"9\"><title>{title}</title></rect>",
                x - 4.5,
                y - 4.5
            ),
            class => {
                let radius = if class == "taken" { 6.0 } else { 4.0 };
                write!(
                    svg,
                    "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"><title>{title}</title></circle>"
                )
            }
        };
    }
    svg + "</svg>\n"
}

/// The least and greatest value, with some room.
fn range(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let [least, most] = values.fold([f64::INFINITY, 0.0], |[least, most]: [f64; 2], v| [least.min(v), most.max(v)]);
    if least.is_finite() && most > 0.0 { [least / 1.15, most * 1.15] } else { [0.1, 10.0] }
}

/// Round numbers between these: 1, 2 and 5 times powers of ten, fewer where there would be many.
fn ticks([least, most]: [f64; 2]) -> Vec<f64> {
    let powers = least.log10().floor() as i32..=most.log10().ceil() as i32;
    let inside = |digits: &[f64]| -> Vec<f64> {
        let all = powers.clone().flat_map(|power| digits.iter().map(move |digit| digit * 10f64.powi(power)));
        all.filter(|tick| (least..=most).contains(tick)).map(rounded).collect()
    };
    let (fine, coarse) = (inside(&[1.0, 2.0, 5.0]), inside(&[1.0]));
    match fine.len() {
        0..2 => inside(&[1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]),
        2..9 => fine,
        _ => coarse,
    }
}

/// Without the last digits, which powers of ten bring in.
fn rounded(value: f64) -> f64 {
    format!("{value:.6e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_not_many() {
        for (range, expected) in [
            ([0.8, 30.0], &[1.0, 2.0, 5.0, 10.0, 20.0][..]),
            ([0.0009, 1100.0], &[0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]),
            ([5.5, 8.2], &[6.0, 7.0, 8.0]),
        ] {
            assert_eq!(ticks(range), expected, "{range:?}");
        }
    }

    #[test]
    fn values_that_are_no_numbers_draw_nothing_wrong() {
        let mark = |x| Mark { x, y: 1.0, class: "test", title: "<b>".into() };
        let svg = scatter(&[mark(f64::NAN), mark(0.0), mark(2.0)], &[], ["<x>", "y"], Some(0.1), Some(1e9));
        assert!(!svg.contains("NaN") && !svg.contains("inf") && !svg.contains("<b>") && !svg.contains("<x>"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 1);
    }
}
