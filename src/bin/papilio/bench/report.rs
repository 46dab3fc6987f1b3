//! The table and the JSON object.

use std::path::Path;

use papilio::{ExplainedPass, Isa};
use serde_json::{Map, Value, json};

use super::Finding;
use super::case::{Contender, Times, VERBS};
use crate::text::{Table, printable};

impl Finding {
    fn name(&self) -> String {
        let stages = self.result.as_ref().map_or(String::new(), |(stages, _)| format!(" m={stages}"));
        let threads = if self.threads == 1 { String::new() } else { format!(" {} threads", self.threads) };
        format!("b={}{stages} n={} batch={} {}{threads}", self.block, self.n, self.batch, self.kind)
    }

    /// Coordinates of the batch.
    fn elements(&self) -> f64 {
        (self.n * self.batch) as f64
    }

    /// Nanoseconds for each coordinate.
    pub(super) fn per_element(&self, seconds: f64) -> f64 {
        1e9 * seconds / self.elements()
    }

    pub(super) fn times(&self) -> Option<&Times> {
        self.result.as_ref().ok().map(|(_, times)| times)
    }
}

impl Times {
    pub(crate) fn apply(&self) -> f64 {
        self.of(Contender::Apply).map_or(f64::NAN, |t| t.median)
    }

    /// Part of the peak that `apply` reaches.
    pub(super) fn share_of_peak(&self) -> f64 {
        self.explanation.flops() as f64 / self.apply() / self.peak
    }

    /// Seconds that arithmetic at the peak, or else a copy of the batch, would take.
    fn bound(&self) -> f64 {
        (self.explanation.flops() as f64 / self.peak).max(self.copy().unwrap_or(0.0))
    }

    fn spread(&self) -> f64 {
        self.of(Contender::Apply).map_or(f64::NAN, |t| t.spread / t.median)
    }
}

pub(super) fn json(isa: Isa, topology: &str, chart: &str, findings: &[Finding], plot: Option<&Path>) -> Value {
    let cases = findings.iter().map(|finding| {
        let Finding { n, batch, block, kind, threads, .. } = finding;
        let mut case = json!({
            "n": n, "batch": batch, "block": block, "topology": topology, "chart": chart, "type": kind, "threads": threads,
        });
        let figures = match &finding.result {
            Err(reason) => json!({"does_not_fit": reason}),
            Ok((stages, times)) => figures(finding, *stages, times),
        };
        if let (Value::Object(case), Value::Object(figures)) = (&mut case, figures) {
            case.extend(figures);
        }
        case
    });
    let plot = plot.map(|path| path.to_string_lossy());
    json!({"isa": format!("{isa:?}"), "cases": cases.collect::<Vec<_>>(), "plot": plot})
}

fn figures(finding: &Finding, stages: usize, times: &Times) -> Value {
    let median = |contender| times.of(contender).map(|t| t.median);
    let mut seconds: Map<String, Value> =
        VERBS.iter().map(|(name, verb)| (name.to_string(), json!(median(*verb)))).collect();
    seconds.insert("copy".into(), json!(times.copy()));
    seconds.insert("dense".into(), json!(times.dense()));
    seconds.insert("naive".into(), json!(median(Contender::Naive)));
    json!({
        "stages": stages,
        "parameters": times.parameters,
        "entry_bytes": times.explanation.entry_bytes(),
        "flops": times.explanation.flops(),
        "peak": times.peak,
        "seconds": seconds,
        "bound": times.bound(),
        "spread": times.spread(),
        "ns_per_element": finding.per_element(times.apply()),
        "share_of_peak": times.share_of_peak(),
        "times_copy": times.copy().map(|copy| times.apply() / copy),
        "dense_over_apply": times.dense().map(|dense| dense / times.apply()),
        "passes": times.explanation.passes.iter().map(pass).collect::<Vec<_>>(),
    })
}

fn pass(pass: &ExplainedPass) -> Value {
    json!({
        "kernel": pass.kernel.to_string(),
        "stages": [pass.stages.start, pass.stages.end],
        "block": pass.block,
        "wirings": pass.wirings,
        "flops": pass.flops,
        "entry_bytes": pass.entry_bytes,
    })
}

pub(super) fn text(
    isa: Isa,
    topology: &str,
    findings: &[Finding],
    plot: Option<&Path>,
    markdown: bool,
    explain: bool,
) -> String {
    let mut table = Table::new([
        "case",
        "ns/element",
        "±",
        "of peak",
        "× copy",
        "dense",
        "adjoint",
        "vjp",
        "realize",
        "realize_vjp",
        "naive",
        "copy ns",
        "dense ns",
        "peak GF/s",
    ]);
    let or_dash = |x: Option<f64>, shown: fn(f64) -> String| x.map_or("–".into(), shown);
    let percent = |x: f64| format!("{:.0} %", 100.0 * x);
    let mut misfits = String::new();
    for finding in findings {
        let times = match &finding.result {
            Ok((_, times)) => times,
            Err(reason) => {
                misfits += &format!("{} does not fit: {}\n", finding.name(), printable(reason));
                continue;
            }
        };
        let relative = |contender| or_dash(times.of(contender).map(|t| t.median / times.apply()), multiple);
        table.row([
            finding.name(),
            short(finding.per_element(times.apply())),
            percent(times.spread()),
            percent(times.share_of_peak()),
            or_dash(times.copy().map(|copy| times.apply() / copy), multiple),
            or_dash(times.dense().map(|dense| dense / times.apply()), multiple),
            relative(Contender::Adjoint),
            relative(Contender::Vjp),
            relative(Contender::Realize),
            relative(Contender::RealizeVjp),
            relative(Contender::Naive),
            or_dash(times.copy().map(|copy| finding.per_element(copy)), short),
            or_dash(times.dense().map(|dense| finding.per_element(dense)), short),
            format!("{:.0}", times.peak / 1e9),
        ]);
    }
    let table = if markdown { table.markdown() } else { table.render() };
    let mut text = format!("{topology}, {isa:?}\n\n{table}{misfits}");
    for (finding, times) in findings.iter().filter(|_| explain).filter_map(|f| Some((f, f.times()?))) {
        let bound = short(finding.per_element(times.bound()));
        text += &format!("\n{}: {}; a bound is {bound} ns/element\n", finding.name(), times.explanation);
    }
    if let Some(plot) = plot {
        text += &format!("{} written\n", printable(plot.display()));
    }
    text
}

/// Three digits that matter.
fn short(x: f64) -> String {
    match x {
        x if x < 1.0 => format!("{x:.3}"),
        x if x < 10.0 => format!("{x:.2}"),
        x if x < 100.0 => format!("{x:.1}"),
        x => format!("{x:.0}"),
    }
}

fn multiple(x: f64) -> String {
    format!("{}×", if x < 10.0 { format!("{x:.2}") } else { format!("{x:.0}") })
}
