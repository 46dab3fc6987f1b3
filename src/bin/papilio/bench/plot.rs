//! Results as SVG: one panel for each thing that was varied.
//!
//! Against n, logarithmic both ways, the dense product rises in proportion to n and crosses ours; against the block size,
//! the share of the peak; against the work of one thread, how much faster several are.

use std::ops::Range;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::Finding;
use super::case::Times;
use crate::picture::{Area, BLUE, GREY, INK, ORANGE, Outcome, axes, font, svg};
use crate::text::count;

const COLORS: [RGBColor; 8] = [
    BLUE,
    ORANGE,
    RGBColor(22, 128, 60),
    RGBColor(147, 51, 180),
    RGBColor(180, 140, 10),
    RGBColor(10, 140, 150),
    RGBColor(200, 40, 110),
    RGBColor(90, 90, 90),
];

/// Width and height of a panel.
const PANEL: (u32, u32) = (520, 420);

/// Points that belong together.
struct Line {
    name: String,
    color: RGBColor,
    /// Drawn thin, and named where it ends.
    yardstick: bool,
    points: Vec<(f64, f64)>,
}

struct Panel {
    x: &'static str,
    /// Whether x goes through powers of two.
    doubling: bool,
    y: &'static str,
    lines: Vec<Line>,
}

/// The picture of what fits.
pub(super) fn draw(findings: &[Finding]) -> Result<String, String> {
    let varied = |key: fn(&Finding) -> usize| {
        let mut found = findings.iter().filter(|f| f.times().is_some()).map(key);
        found.next().is_some_and(|first| found.any(|other| other != first))
    };
    let (blocks, threads) = (varied(|f| f.block), varied(|f| f.threads));
    let mut panels = Vec::new();
    if varied(|f| f.n) || !(blocks || threads) {
        panels.push(against_n(findings));
    }
    if blocks {
        panels.push(against_blocks(findings));
    }
    if threads {
        panels.push(against_work(findings));
    }
    svg(|svg| pictured(&panels, svg))
}

/// Lines of `point`, one for each `name`, in the order in which names come.
fn lines(
    findings: &[Finding],
    name: impl Fn(&Finding) -> String,
    point: impl Fn(&Finding, &Times) -> Option<(f64, f64)>,
) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for finding in findings {
        let Some(point) = finding.times().and_then(|times| point(finding, times)) else { continue };
        let name = name(finding);
        let at = lines.iter().position(|line| line.name == name).unwrap_or_else(|| {
            let color = COLORS[lines.len() % COLORS.len()];
            lines.push(Line { name, color, yardstick: false, points: Vec::new() });
            lines.len() - 1
        });
        lines[at].points.push(point);
    }
    for line in &mut lines {
        line.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    lines
}

/// What tells lines apart in addition, where not all cases have the same.
fn suffix(findings: &[Finding], finding: &Finding) -> String {
    let several_kinds = findings.iter().any(|f| f.kind != finding.kind);
    let several_threads = findings.iter().any(|f| f.threads != finding.threads);
    let kind = if several_kinds { format!(", {}", finding.kind) } else { String::new() };
    let threads = if several_threads { format!(", {}", count(finding.threads, "thread")) } else { String::new() };
    format!("{kind}{threads}")
}

fn against_n(findings: &[Finding]) -> Panel {
    let of = |f: &Finding| format!("batch {}{}", f.batch, suffix(findings, f));
    let mut all =
        lines(findings, |f| format!("b = {}, {}", f.block, of(f)), |f, t| Some((f.n as f64, f.per_element(t.apply()))));
    for (kind, color, seconds) in
        [("dense", INK, Times::dense as fn(&Times) -> Option<f64>), ("copy", GREY, Times::copy)]
    {
        let name = |f: &Finding| format!("{kind}, {}", of(f));
        for mut line in lines(findings, name, |f, t| Some((f.n as f64, f.per_element(seconds(t)?)))) {
            line.points.dedup_by_key(|point| point.0); // whatever b is
            all.push(Line { color, yardstick: true, ..line });
        }
    }
    Panel { x: "n", doubling: true, y: "ns for each coordinate", lines: all }
}

fn against_blocks(findings: &[Finding]) -> Panel {
    let name = |f: &Finding| format!("n = {}, batch {}{}", f.n, f.batch, suffix(findings, f));
    let lines = lines(findings, name, |f, t| Some((f.block as f64, 100.0 * t.share_of_peak())));
    Panel { x: "block size", doubling: true, y: "% of the peak of multiply-add", lines }
}

fn against_work(findings: &[Finding]) -> Panel {
    let alone = |f: &Finding| {
        let same = |g: &&Finding| (g.n, g.batch, g.block, &g.kind, g.threads) == (f.n, f.batch, f.block, &f.kind, 1);
        findings.iter().find(same).and_then(Finding::times).map(Times::apply)
    };
    let point = |f: &Finding, t: &Times| alone(f).filter(|_| f.threads > 1).map(|one| (1e3 * one, one / t.apply()));
    let mut lines = lines(findings, |f| format!("b = {}, {}", f.block, count(f.threads, "thread")), point);
    if let Some((low, high)) = range(&lines, |p| p.0) {
        lines.push(Line {
            name: "one thread".into(),
            color: GREY,
            yardstick: true,
            points: vec![(low, 1.0), (high, 1.0)],
        });
    }
    Panel { x: "ms of work for one thread", doubling: false, y: "times faster than one thread", lines }
}

/// Smallest and largest of a coordinate.
fn range(lines: &[Line], coordinate: fn(&(f64, f64)) -> f64) -> Option<(f64, f64)> {
    let values =
        || lines.iter().flat_map(|line| line.points.iter().map(coordinate)).filter(|x| x.is_finite() && *x > 0.0);
    Some((values().reduce(f64::min)?, values().reduce(f64::max)?))
}

fn pictured(panels: &[Panel], svg: &mut String) -> Outcome {
    let root = SVGBackend::with_string(svg, (PANEL.0 * panels.len() as u32, PANEL.1)).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, panel) in root.split_evenly((1, panels.len())).iter().zip(panels) {
        panel.draw(area)?;
    }
    root.present()?;
    Ok(())
}

impl Panel {
    fn draw(&self, area: &Area) -> Outcome {
        let (Some(x), Some(y)) = (range(&self.lines, |p| p.0), range(&self.lines, |p| p.1)) else {
            return Ok(area.draw_text("no case fits", &font(14), (16, 12))?);
        };
        let (x, y) = (x.0 / 1.2..x.1 * 1.2, y.0 / 1.4..y.1 * 1.4);
        let (x_ticks, y_ticks) = (ticks(&x, self.doubling), ticks(&y, false));
        let rows = self.lines.iter().filter(|line| !line.yardstick).count().div_ceil(2) as i32;
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .margin_top(16 * rows + 16)
            .margin_right(24)
            .x_label_area_size(38)
            .y_label_area_size(60)
            .build_cartesian_2d(x.log_scale().with_key_points(x_ticks), y.log_scale().with_key_points(y_ticks))?;
        axes(&mut chart, (self.x, &tick), (self.y, &tick))?;
        let mut named = 0;
        for line in &self.lines {
            let style = line.color.stroke_width(if line.yardstick { 1 } else { 2 });
            let points = || line.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite() && *y > 0.0);
            chart.draw_series([PathElement::new(points().collect::<Vec<_>>(), style)])?;
            if line.yardstick {
                // Named where they end, on the right.
                if let Some(last) = points().next_back() {
                    let ((x, y), (left, top)) = (chart.backend_coord(&last), area.get_base_pixel());
                    let right = font(11).pos(Pos::new(HPos::Right, VPos::Bottom));
                    area.draw_text(&line.name, &right, (x - left, y - top - 3))?;
                }
                continue;
            }
            chart.draw_series(points().map(|point| Circle::new(point, 3, line.color.filled())))?;
            let key = (16 + 250 * (named % 2), 14 + 16 * (named / 2));
            area.draw(&PathElement::new([(key.0, key.1 + 6), (key.0 + 22, key.1 + 6)], style))?;
            area.draw_text(&line.name, &font(12), (key.0 + 28, key.1))?;
            named += 1;
        }
        Ok(())
    }
}

/// Where an axis has labels: at powers of two, of ten, or at 1, 2, 5, 10, … where it spans few decades.
fn ticks(axis: &Range<f64>, doubling: bool) -> Vec<f64> {
    let few = axis.end / axis.start < 500.0;
    let steps: &[f64] = if few && !doubling { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let base: f64 = if doubling { 2.0 } else { 10.0 };
    let exponents = axis.start.log(base).floor() as i32..=axis.end.log(base).ceil() as i32;
    let all = exponents.flat_map(|e| steps.iter().map(move |step| step * base.powi(e)));
    all.filter(|tick| axis.contains(tick)).collect()
}

/// Without the digits that powers of ten have too many.
fn tick(x: f64) -> String {
    format!("{}", (x * 1e9).round() / 1e9)
}
