//! What a fit came to, as text and as JSON.

use papilio::fit::Stop;
use serde_json::{Value, json};

use super::Finding;
use super::explored::Tried;
use crate::text::{Table, count, number, printable, seconds};

pub(super) fn json(f: &Finding) -> Value {
    json!({
        "target": f.name,
        "n": f.n,
        "field": f.field,
        "moved": f.moved,
        "topology": f.topology,
        "block": f.block,
        "stages": f.stages,
        "error": f.error,
        "relative_frobenius": f.relative_frobenius,
        "orthogonality_ratio": f.ratio,
        "parameters": f.parameters,
        "effective_dimension": f.dimension,
        "sweeps": f.sweeps,
        "stop": stop(f.stop),
        "bound": f.bound,
        "seconds": f.seconds,
        "apply_ns": f.apply_ns,
        "dense_apply_ns": f.dense_apply_ns,
        "curve": f.curve,
        "tried": f.tried.as_ref().map(|all| all.iter().map(tried).collect::<Vec<_>>()),
        "written": f.written.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
    })
}

fn tried(t: &Tried) -> Value {
    json!({
        "name": t.name,
        "block": t.block,
        "stages": t.stages,
        "parameters": t.parameters,
        "effective_dimension": t.dimension,
        "flops": t.flops,
        "error": t.error,
        "sweeps": t.sweeps,
        "apply_ns": t.apply_ns,
        "pareto": t.pareto,
        "pareto_dimension": t.pareto_dimension,
    })
}

/// All structures; stars are on the front.
fn table(f: &Finding, all: &[Tried]) -> String {
    let mut table =
        Table::new(["structure", "stages", "b", "parameters", "dimension", "flops", "e", "apply", "dense/apply", ""]);
    for t in all {
        let dimension = t.dimension.map_or_else(|| format!("≤ {}", t.effective), |d| d.to_string());
        let apply = t.apply_ns.map_or_else(|| "–".to_string(), nanoseconds);
        let times = t.apply_ns.zip(f.dense_apply_ns).map_or_else(|| "–".to_string(), |(a, d)| format!("{:.1}", d / a));
        let [stages, b, parameters] = [t.stages, t.block, t.parameters].map(|x| x.to_string());
        let star = [(t.pareto, "p"), (t.pareto_dimension, "d")].map(|(on, mark)| if on { mark } else { "" }).concat();
        let flops = t.flops.to_string();
        table.row([t.name.clone(), stages, b, parameters, dimension, flops, error(t.error), apply, times, star]);
    }
    format!("{}\np, d: none has a smaller error for as few parameters, directions\n\n", table.render())
}

fn stop(stop: Stop) -> &'static str {
    match stop {
        Stop::Exact => "exact",
        Stop::Converged => "converged",
        Stop::Sweeps => "sweeps",
        Stop::Interrupted => "interrupted",
        _ => "direct",
    }
}

pub(super) fn text(f: &Finding) -> String {
    let mut lines = Vec::new();
    let moved = f.moved.map_or_else(String::new, |m| format!(", ‖target − file‖_F = {}", number(m)));
    lines.push(("target", format!("{}, {} {}×{}{moved}", printable(&f.name), f.field, f.n, f.n)));
    if let Some((constructor, stages)) = f.known {
        let stages = count(stages, "stage");
        lines.push(("known", format!("exactly, as {stages} without any search: papilio::synthesis::{constructor}")));
    }
    let dimension = f.dimension.map_or_else(|| "not known".to_string(), |d| d.to_string());
    let dense = if f.field == "real" { f.n * (f.n - 1) / 2 } else { f.n * f.n };
    lines.push((
        "product",
        format!(
            "{}, {} of blocks up to {}; {} parameters, effective dimension {dimension} of {dense}",
            f.topology,
            count(f.stages, "stage"),
            f.block,
            f.parameters
        ),
    ));
    let bound = match f.bound {
        Some(bound) if bound > 0.1 * f.error => {
            format!("; no orthogonal product of this wiring is below {}", number(bound))
        }
        _ => String::new(),
    };
    lines.push(("error", format!("e = {}, relative {}{bound}", error(f.error), error(f.relative_frobenius))));
    if f.reflection {
        let text = "e is 2/n: rotations do not reach a target of determinant −1; --group full does";
        lines.push(("", text.to_string()));
    }
    let after = match f.stop {
        Stop::Exact => {
            let after = if f.sweeps == 0 { "one pass".to_string() } else { count(f.sweeps, "sweep") };
            format!("{} after {after}", if f.goal { "at its goal" } else { "exact" })
        }
        Stop::Converged => format!("converged after {}", count(f.sweeps, "sweep")),
        Stop::Sweeps => format!("{}, as many as allowed", count(f.sweeps, "sweep")),
        Stop::Interrupted => format!("interrupted after {}", count(f.sweeps, "sweep")),
        _ => "one pass".to_string(),
    };
    lines.push(("fit", format!("{after}, {}", seconds(f.seconds))));
    lines.push(("orthogonal", format!("to a ratio of {}", number(f.ratio))));
    if let Some(apply) = f.apply_ns {
        let dense = f.dense_apply_ns.map_or_else(String::new, |dense| {
            format!("; dense product {}: {:.1} × as long", nanoseconds(dense), dense / apply)
        });
        lines.push(("apply", format!("{} a vector{dense}", nanoseconds(apply))));
    }
    for path in &f.written {
        lines.push(("written", printable(path.display())));
    }
    let lines = lines.iter().map(|(what, text)| format!("{what:<11} {text}\n"));
    f.tried.iter().map(|all| table(f, all)).chain(lines).collect()
}

fn error(e: f64) -> String {
    if e == 0.0 { "0".to_string() } else { number(e) }
}

fn nanoseconds(ns: f64) -> String {
    if ns < 1e3 { format!("{ns:.0} ns") } else { format!("{:.2} µs", ns * 1e-3) }
}
