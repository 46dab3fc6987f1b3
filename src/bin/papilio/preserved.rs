//! `papilio verify --base … --adapter …`: what an adapter preserves of a model.

use papilio::adapter::{PreservedLayer, PreservedOptions, PreservedReport, preserved};
use serde_json::json;

use crate::Outcome;
use crate::progress::shown;
use crate::text::{Table, complain, count, number, print, print_json, seconds};

/// Compares, prints, and judges by the largest ratio that passes.
pub(crate) fn run(options: &PreservedOptions, limit: f64, json: bool) -> Result<Outcome, String> {
    let Some(report) = shown(|tell| preserved(options, tell))? else {
        complain("interrupted", "nothing is reported");
        return Ok(Outcome::Interrupted);
    };
    let (ratio, kept) = (report.ratio(), report.ratio() <= limit);
    if json {
        print_json(&json!({"layers": report.layers, "ratio": ratio, "preserved": kept}))?;
    } else {
        print(&text(&report, limit))?;
    }
    Ok(if kept { Outcome::Done } else { Outcome::NotOrthogonal })
}

fn text(report: &PreservedReport, limit: f64) -> String {
    let header = [
        "layer",
        "weight",
        "change",
        "lost",
        "max |Δcos|",
        "rms",
        "energy",
        "max |Δσ|/σ₁",
        "‖W‖₂",
        "s",
        "ratio",
        "time",
    ];
    let mut table = Table::new(header);
    for layer in &report.layers {
        let arrow = |[before, after]: [f64; 2]| format!("{} → {}", number(before), number(after));
        let mark = |holds: bool, mark: &'static str| if holds { mark } else { "" };
        table.row([
            layer.name.clone(),
            format!("{}×{} {}", layer.rows, layer.n, layer.dtype),
            number(layer.change),
            layer.lost.map_or("".into(), |lost| format!("{lost:.1e}")),
            format!("{:.1e}{}", layer.cosine_max, mark(layer.sampled, "*")),
            format!("{:.1e}{}", layer.cosine_rms, mark(layer.sampled, "*")),
            format!("{}{}", arrow(layer.energy), mark(layer.sampled, "*")),
            format!("{:.1e}{}", layer.singular_max, mark(!layer.all_singular_values, "†")),
            format!("{}{}", arrow(layer.spectral_norm), mark(!layer.all_singular_values, "†")),
            layer.scale.map_or("1".into(), |[low, high]| format!("{}…{}", number(low), number(high))),
            format!("{}{}", number(layer.ratio), mark(layer.ratio > limit, " !")),
            seconds(layer.seconds),
        ]);
    }
    let mut text = table.render() + "\n";
    let layers = || report.layers.iter();
    let most = |of: fn(&PreservedLayer) -> usize| layers().filter(|l| l.sampled).map(of).max();
    if let (Some(neurons), Some(pairs)) = (most(|l| l.neurons), most(|l| l.pairs)) {
        text += &format!("* {pairs} pairs of a sample of {neurons} neurons (--neurons, --seed)\n");
    }
    if layers().any(|l| !l.all_singular_values) {
        text += "† the largest singular value alone, a lower bound by power iteration (--singular-values)\n";
    }
    if layers().any(|l| l.scale.is_some()) {
        text += "s ≠ 1 scales neurons: it changes their lengths and the spectral norm, not their angles. Δσ is the \
                 rotation's part.\n";
    }
    if layers().any(|l| l.scale.is_some_and(|[low, _]| low < 0.0)) {
        text += "s < 0 turns neurons round: the energy is that of the weight with its signs.\n";
    }
    let worst = report.ratio();
    let verdict = if worst <= limit { "preserved" } else { "NOT preserved" };
    let layers = count(report.layers.len(), "layer");
    text + &format!("{verdict}: ratio {} (limit {limit}) over {layers}\n", number(worst))
}
