//! A page of everything a search has found: one HTML file that needs no network and no script.
//!
//! [`html`] lays out what others have computed; charts are SVG in the page. Every text that comes from outside (names of
//! models, devices, layers) is escaped.

use std::fmt::Write;
use std::time::Duration;

use crate::backbone::{Backbone, StageFacts, cost_of};
use crate::profile::roof::Roofline;
use crate::search::predict::Compared;
use crate::search::verdict::{Answer, Budget, Latency, Verdict};
use crate::select::Ranking;
use crate::units::{Bytes, Flops, FlopsPerSecond, show_duration};

mod chart;

use self::chart::{Bar, Mark, bars, scatter};

/// What is laid out.
#[derive(Debug)]
pub struct Page<'a> {
    /// What the search has come to.
    pub verdict: &'a Verdict,
    /// Densities of single convolutions.
    pub rankings: &'a [Ranking],
    /// The network.
    pub backbone: &'a Backbone,
    /// Its nodes in order, as the runtime ran them.
    pub layers: &'a [Layer],
    /// Networks of the profile that predictions do not rest on.
    pub compared: &'a [Compared],
    /// Predicted seconds and operations of the networks that no other is both faster and better than, fastest first.
    pub front: Vec<(f64, Flops)>,
    /// What the device reaches at most, if that was measured.
    pub roofline: Option<Roofline>,
}

/// A node of the network.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Its name.
    pub path: String,
    /// Its op.
    pub op: String,
    /// What was predicted of it.
    pub predicted_s: Option<f64>,
    /// The median of what it took.
    pub measured_s: Option<f64>,
    /// Operations, of a convolution.
    pub operations: Option<Flops>,
    /// What it has to move at the least.
    pub bytes: Bytes,
}

const STYLE: &str = include_str!("page/style.css");

/// The page.
pub fn html(page: &Page<'_>) -> String {
    let mut out = String::new();
    let verdict = page.verdict;
    let (class, badge) = match verdict.answer {
        Answer::Better => ("good", "Better"),
        Answer::NotBetter => ("bad", "Not better"),
        Answer::PredictedOnly => ("open", "Predicted only"),
    };
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{badge}: a backbone for {device}</title>\n<style>{STYLE}</style></head>\
         <body><main>\n<header><p class=\"badge {class}\">{badge}</p><h1>A backbone for {device}</h1><p>{reason}.</p>\
         </header>\n",
        device = escaped(&verdict.target.device),
        reason = escaped(&verdict.reason),
    );
    out += &figures(verdict);
    out += &comparison(verdict);
    out += &network(page);
    out += &densities(page.rankings);
    out += &layers(page.layers);
    out += &roofs(page);
    out += &predictions(page);
    out += &front(page);
    out += &provenance(verdict);
    out += "</main></body></html>\n";
    out
}

/// The text with what HTML gives a meaning to written so that it has none.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn time(seconds: f64) -> String {
    show_duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

fn section(title: &str, note: &str, body: &str) -> String {
    let note = if note.is_empty() { String::new() } else { format!("<p>{note}</p>\n") };
    format!("<section><h2>{title}</h2>\n{note}{body}</section>\n")
}

/// A table: columns after the first are numbers. The cells are HTML.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let cells = |cells: &[String], tag: &str| -> String {
        let cell = |(i, cell): (usize, &String)| match i {
            0 => format!("<{tag}>{cell}</{tag}>"),
            _ => format!("<{tag} class=\"n\">{cell}</{tag}>"),
        };
        cells.iter().enumerate().map(cell).collect()
    };
    let head: Vec<String> = head.iter().map(ToString::to_string).collect();
    let rows: String = rows.iter().map(|row| format!("<tr>{}</tr>\n", cells(row, "td"))).collect();
    format!(
        "<div class=\"wide\"><table><thead><tr>{}</tr></thead><tbody>\n{rows}</tbody></table></div>\n",
        cells(&head, "th")
    )
}

/// The figures that matter, large.
fn figures(verdict: &Verdict) -> String {
    let model = &verdict.model;
    let mut figures: Vec<(String, String)> = Vec::new();
    if let Some(ratio) = verdict.ratios.first() {
        let base = escaped(&ratio.base);
        figures.push((format!("{:.2}×", ratio.operations), format!("operations of {base}")));
        if let Some(latency) = ratio.latency {
            figures.push((format!("{latency:.3}×"), format!("latency of {base}")));
        }
    }
    match &model.latency {
        Some(latency) => figures.push((time(latency.median_s), "measured latency, median".to_owned())),
        None => figures.push((time(verdict.prediction.latency_s), "predicted latency".to_owned())),
    }
    figures.push((Flops(model.operations_flop).to_string(), "operations".to_owned()));
    figures.push((FlopsPerSecond(model.density_flop_per_s).to_string(), "density of the whole network".to_owned()));
    figures.push((format!("{:.1} M", model.parameters as f64 / 1e6), "parameters".to_owned()));
    let figure = |(value, what): &(String, String)| format!("<div><b>{value}</b><span>{what}</span></div>");
    format!("<div class=\"figures\">{}</div>\n", figures.iter().map(figure).collect::<String>())
}

fn comparison(verdict: &Verdict) -> String {
    let row = |name: &str, operations: u64, latency: Option<&Latency>, density: Option<f64>| {
        let dash = || "–".to_owned();
        vec![
            name.to_owned(),
            Flops(operations).to_string(),
            latency.map_or_else(dash, |latency| time(latency.median_s)),
            latency
                .and_then(|latency| latency.median_interval_s)
                .map_or_else(dash, |[low, high]| format!("{} to {}", time(low), time(high))),
            latency.map_or_else(dash, |latency| time(latency.p90_s)),
            density.map_or_else(dash, |density| FlopsPerSecond(density).to_string()),
        ]
    };
    let mut rows: Vec<Vec<String>> = verdict
        .bases
        .iter()
        .map(|base| row(&escaped(&base.name), base.operations_flop, base.latency.as_ref(), base.density_flop_per_s))
        .collect();
    let model = &verdict.model;
    rows.push(row(
        "<b>this network</b>",
        model.operations_flop,
        model.latency.as_ref(),
        Some(model.density_flop_per_s),
    ));
    let head = ["", "operations", "latency", "95 % interval", "90th percentile", "density"];
    let limit = match verdict.budget {
        Budget::Base { latency_s } => format!("the latency of the base, {}", time(latency_s)),
        Budget::Latency { latency_s } => format!("a latency of {}", time(latency_s)),
        Budget::Operations { operations_flop } => Flops(operations_flop).to_string(),
    };
    let mut note = format!("Budget: {limit}. Wanted: the greatest {}.", escaped(&verdict.objective));
    if !verdict.bases.is_empty() && model.latency.is_some() {
        note += " All were timed in turn, in one run.";
    }
    let mut body = table(&head, &rows);
    if let Some(bound) = &verdict.channel_bound {
        let stages: Vec<String> = bound.stages.iter().map(|stage| stage.last_output_channels.to_string()).collect();
        let verb = if bound.holds { "below" } else { "<b>not below</b>" };
        let _ = writeln!(
            body,
            "<p>Channel bound: the first convs have {:.1} channels in the mean, {verb} the last output channels of the \
             base's stages, {}.</p>",
            bound.mean_channels,
            stages.join(", ")
        );
    }
    section("Against the base", &note, &body)
}

/// The network stage by stage.
fn network(page: &Page<'_>) -> String {
    let graph = &page.backbone.graph;
    let seconds = |layer: &Layer| layer.measured_s.or(layer.predicted_s).unwrap_or(0.0);
    let all_time: f64 = page.layers.iter().map(seconds).sum();
    let all_flops = graph.flops(1).0.max(1) as f64;
    let shares = |path: &str| {
        let prefix = format!("{path}.");
        let inside = page.layers.iter().filter(|layer| layer.path.starts_with(&prefix));
        let of_time = inside.map(seconds).sum::<f64>() / all_time.max(f64::MIN_POSITIVE);
        (cost_of(graph, path).0.0 as f64 / all_flops, of_time)
    };
    let size = |path: &str| {
        let prefix = format!("{path}.");
        let last = graph.values().filter(|(_, value)| value.path().starts_with(&prefix)).last();
        let shape = last.map(|(_, value)| value.ty().shape(1)).unwrap_or_default();
        shape.iter().skip(1).map(ToString::to_string).collect::<Vec<_>>().join("×")
    };
    let card = |path: &str, what: &str, inside: &str| {
        let (flops, of_time) = shares(path);
        let meter = |share: f64, label: &str| {
            format!(
                "<div class=\"meter\"><i style=\"width:{:.1}%\"></i><span>{:.0} % of {label}</span></div>",
                share.clamp(0.0, 1.0) * 100.0,
                share * 100.0
            )
        };
        format!(
            "<li><h3>{path} <small>{}</small></h3>{what}{inside}{}{}</li>\n",
            size(path),
            meter(flops, "operations"),
            meter(of_time, "time")
        )
    };
    let mut cards = card("stem", "<p>a quarter of the image's size</p>", "");
    for stage in &page.backbone.stages {
        cards += &card(&stage.path, &stage_in_words(stage), &drawing(stage));
    }
    if page.backbone.classes.is_some() {
        cards += &card("head", "<p>pool, fully connected, classifier</p>", "");
    }
    section("The network", "", &format!("<ol class=\"net\">{cards}</ol>\n"))
}

fn stage_in_words(stage: &StageFacts) -> String {
    let Some(block) = stage.blocks.first() else { return String::new() };
    let down = stage.downsampling.map_or_else(String::new, |conv| format!("{conv} halves the size, no activation; "));
    let blocks = stage.blocks.len();
    let plural = if blocks == 1 { "block" } else { "blocks" };
    let fields: Vec<String> = block.receptive_fields.iter().map(|[height, _]| height.to_string()).collect();
    format!(
        "<p>{down}{blocks} {plural} of {} × {} with {} channels; fields {} side by side; {} concatenated → {}</p>",
        block.receptive_fields.len() - 1,
        block.conv,
        block.mid_channels,
        fields.join(" "),
        block.concatenated_channels,
        block.out_channels
    )
}

/// A block as boxes: its input and every stacked convolution lead into the concatenation.
fn drawing(stage: &StageFacts) -> String {
    let Some(block) = stage.blocks.first() else { return String::new() };
    let layers = block.receptive_fields.len().saturating_sub(1);
    let boxes = layers + 1;
    let step = 236.0 / boxes as f64;
    let mut svg = format!(
        "<svg class=\"block\" viewBox=\"0 0 300 62\" role=\"img\" aria-label=\"{layers} stacked {} and their concatenation\">",
        block.conv
    );
    for i in 0..boxes {
        let x = 2.0 + step * i as f64;
        let width = (step - 6.0).max(4.0);
        let class = if i == 0 { "input" } else { "conv" };
        let _ =
            write!(svg, "<rect class=\"{class}\" x=\"{x:.1}\" y=\"4\" width=\"{width:.1}\" height=\"20\" rx=\"3\"/>");
        let middle = x + width / 2.0;
        let _ = write!(svg, "<path d=\"M{middle:.1} 24V48H246\"/>");
        if i + 1 < boxes {
            let _ = write!(svg, "<path d=\"M{:.1} 14h6\"/>", x + width);
        }
    }
    let _ = write!(
        svg,
        "<rect class=\"concat\" x=\"246\" y=\"36\" width=\"24\" height=\"24\" rx=\"3\"/><path d=\"M270 48h6\"/><rect \
         class=\"conv\" x=\"276\" y=\"36\" width=\"22\" height=\"24\" rx=\"3\"/></svg>"
    );
    svg
}

fn densities(rankings: &[Ranking]) -> String {
    let mut body = String::new();
    for ranking in rankings {
        let mut rows = Vec::new();
        let mut chart = Vec::new();
        for ranked in &ranking.ranks {
            let interval = ranked.interval();
            rows.push(vec![
                ranked.candidate.to_string(),
                ranked.operations.to_string(),
                show_duration(ranked.latency),
                ranked.spread().map_or_else(|| "–".to_owned(), |spread| format!("±{:.1} %", spread * 100.0)),
                ranked.density.to_string(),
            ]);
            chart.push(Bar {
                label: ranked.candidate.to_string(),
                value: ranked.density.0,
                interval: interval.map(|interval| [interval.low, interval.high]),
                shown: ranked.density.to_string(),
            });
        }
        if rows.is_empty() {
            continue;
        }
        let _ = write!(body, "<h3>{}</h3>", escaped(&ranking.source.to_string()));
        body += &bars(&chart);
        body += &table(&["candidate", "operations", "latency", "spread", "density"], &rows);
    }
    if body.is_empty() {
        return String::new();
    }
    section(
        "Densities of single convolutions",
        "Operations per second really reached, over the stages of a backbone; the thin line holds the true value with \
         95 % confidence. Density is not accuracy.",
        &body,
    )
}

/// Every node with its time.
fn layers(layers: &[Layer]) -> String {
    let most =
        layers.iter().filter_map(|layer| layer.measured_s.or(layer.predicted_s)).fold(f64::MIN_POSITIVE, f64::max);
    let dash = || "–".to_owned();
    let row = |layer: &Layer| {
        let width = layer.measured_s.or(layer.predicted_s).unwrap_or(0.0) / most * 100.0;
        let shown = layer.measured_s.or(layer.predicted_s);
        let density = layer
            .operations
            .zip(shown)
            .and_then(|(flops, seconds)| flops.per(Duration::try_from_secs_f64(seconds).ok()?));
        vec![
            format!("{}<div class=\"bar\"><i style=\"width:{width:.1}%\"></i></div>", escaped(&layer.path)),
            escaped(&layer.op),
            layer.measured_s.map_or_else(dash, time),
            layer.predicted_s.map_or_else(dash, time),
            layer.operations.map_or_else(dash, |flops| flops.to_string()),
            layer.bytes.to_string(),
            density.map_or_else(dash, |density| density.to_string()),
        ]
    };
    let rows: Vec<Vec<String>> = layers.iter().map(row).collect();
    let head = ["node as it ran", "op", "time", "predicted", "operations", "moved", "density"];
    let body = format!("<details open><summary>{} nodes</summary>{}</details>\n", rows.len(), table(&head, &rows));
    section(
        "Time of every node",
        "Medians of the runtime's own record; nodes without a prediction were added by it.",
        &body,
    )
}

/// Where every convolution stands below the roof.
fn roofs(page: &Page<'_>) -> String {
    let Some(Roofline { arithmetic, bandwidth }) = page.roofline else { return String::new() };
    let marks: Vec<Mark> = page
        .layers
        .iter()
        .filter_map(|layer| {
            let (flops, seconds) = (layer.operations?.0 as f64, layer.measured_s.or(layer.predicted_s)?);
            let class = if layer.measured_s.is_some() { "layer" } else { "test" };
            Some(Mark { x: flops / layer.bytes.0 as f64, y: flops / seconds * 1e-9, class, title: layer.path.clone() })
        })
        .filter(|mark| mark.x.is_finite() && mark.y.is_finite())
        .collect();
    if marks.is_empty() {
        return String::new();
    }
    let ridge = arithmetic.0 / bandwidth.0;
    let [least, most] = marks.iter().fold([ridge, ridge], |[least, most], mark| [least.min(mark.x), most.max(mark.x)]);
    let roof = |x: f64| [x, arithmetic.0.min(bandwidth.0 * x) * 1e-9];
    let line = [roof(least), roof(ridge), roof(most)];
    section(
        "Below the roof",
        &format!(
            "Each convolution of the network; the line is what the device was measured to reach, {arithmetic} and \
             {bandwidth}. What stands above it does fewer operations than the direct algorithm, or finds its bytes in a \
             cache."
        ),
        &scatter(&marks, &line, ["operations by byte", "GFLOP/s"], None, None),
    )
}

fn predictions(page: &Page<'_>) -> String {
    let mut marks: Vec<Mark> = page
        .compared
        .iter()
        .map(|pair| Mark { x: pair.measured * 1e3, y: pair.predicted * 1e3, class: "test", title: pair.name.clone() })
        .collect();
    for candidate in &page.verdict.candidates {
        let class = if candidate.taken { "taken" } else { "candidate" };
        marks.push(Mark {
            x: candidate.latency.median_s * 1e3,
            y: candidate.predicted_s * 1e3,
            class,
            title: format!("candidate of round {}", candidate.round),
        });
    }
    if marks.is_empty() {
        return String::new();
    }
    let prediction = &page.verdict.prediction;
    let note = match (prediction.mean_error, prediction.p90_error) {
        (Some(mean), Some(p90)) => format!(
            "{} networks that predictions do not rest on (hollow) are missed by {:.1} % in the mean, nine in ten by less \
             than {:.1} %. Filled: candidates of this search. The band is a tenth to both sides.",
            prediction.test_networks,
            mean * 100.0,
            p90 * 100.0
        ),
        (None, _) | (_, None) => "Candidates of this search. The band is a tenth to both sides.".to_owned(),
    };
    let chart = scatter(&marks, &[], ["measured, ms", "predicted, ms"], Some(0.1), None);
    let rows: Vec<Vec<String>> = page
        .verdict
        .candidates
        .iter()
        .map(|candidate| {
            let name = format!("round {}{}", candidate.round, if candidate.taken { ", <b>taken</b>" } else { "" });
            vec![
                name,
                Flops(candidate.operations_flop).to_string(),
                time(candidate.predicted_s),
                time(candidate.latency.median_s),
                if candidate.holds { "keeps the budget".to_owned() } else { "too slow".to_owned() },
            ]
        })
        .collect();
    let candidates = if rows.is_empty() {
        String::new()
    } else {
        table(&["candidate", "operations", "predicted", "measured", ""], &rows)
    };
    section("Predicted and measured", &note, &format!("{chart}{candidates}"))
}

fn front(page: &Page<'_>) -> String {
    if page.front.len() < 2 {
        return String::new();
    }
    let line: Vec<[f64; 2]> =
        page.front.iter().map(|(seconds, flops)| [seconds * 1e3, flops.0 as f64 * 1e-9]).collect();
    let mut marks = vec![Mark {
        x: page.verdict.prediction.latency_s * 1e3,
        y: page.verdict.model.operations_flop as f64 * 1e-9,
        class: "taken",
        title: "this network".to_owned(),
    }];
    for base in &page.verdict.bases {
        if let Some(latency) = &base.latency {
            let (x, y) = (latency.median_s * 1e3, base.operations_flop as f64 * 1e-9);
            marks.push(Mark { x, y, class: "base", title: base.name.clone() });
        }
    }
    let limit = match page.verdict.budget {
        Budget::Base { latency_s } | Budget::Latency { latency_s } => {
            Some(latency_s * 1e3 / page.verdict.prediction.correction)
        }
        Budget::Operations { .. } => None,
    };
    let chart = scatter(&marks, &line, ["predicted latency, ms", "GFLOP"], None, limit);
    section(
        "What a budget buys",
        "Networks that no other is both faster and better than, as predicted. The large dot is this network, squares are \
         bases as measured, the upright line is the budget in predicted time.",
        &chart,
    )
}

fn provenance(verdict: &Verdict) -> String {
    let target = &verdict.target;
    let mut rows = vec![
        ("device", target.device.clone()),
        ("interface and driver", format!("{} {}", target.backend, target.driver)),
        ("provider", target.provider.clone()),
        ("threads", target.threads.map_or_else(|| "–".to_owned(), |threads| threads.to_string())),
        ("batch and precision", format!("{}, {}", target.batch, target.precision)),
        ("seed", verdict.search.seed.to_string()),
        ("networks looked at", verdict.search.evaluations.iter().sum::<u64>().to_string()),
        ("sha256 of the profile", verdict.profile_sha256.clone()),
    ];
    rows.extend(verdict.model.sha256.clone().map(|hash| ("sha256 of the model", hash)));
    rows.extend(
        verdict
            .bases
            .iter()
            .filter_map(|base| Some(("sha256 of a base", format!("{} {}", base.name, base.sha256.as_ref()?)))),
    );
    let versions: Vec<String> = target.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    rows.push(("versions", format!("bbc {}; {}", verdict.bbc, versions.join(", "))));
    let rows: String =
        rows.iter().map(|(what, value)| format!("<dt>{what}</dt><dd>{}</dd>\n", escaped(value))).collect();
    section("What this rests on", "", &format!("<dl>{rows}</dl>\n"))
}

#[cfg(test)]
mod tests;
