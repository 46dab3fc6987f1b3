//! Parameters and effective dimension against density, as SVG.
//!
//! On the left, density below one: a faint line for each topology leads through its first stages, with a point where it ends.
//! Most end dense, at density one; on the right these have a column each, in the order of their dimension.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::Finding;
use crate::picture::{Area, BLUE, FAINT, INK, ORANGE, Outcome, axes, font, name, svg};

const PARAMETERS: RGBColor = BLUE;
const DIMENSION: RGBColor = ORANGE;

/// One topology.
struct Dot<'a> {
    name: &'a str,
    density: f64,
    params: f64,
    dimension: Option<f64>,
    /// What the dimension cannot exceed.
    bound: f64,
    /// Density and parameters of the first 1, 2, … stages.
    way: Vec<(f64, f64)>,
}

/// The plot of all that fit.
pub(crate) fn density(n: usize, findings: &[Finding]) -> Result<String, String> {
    let mut dots: Vec<Dot> = findings.iter().filter_map(dot).collect();
    dots.sort_by(|a, b| key(a).total_cmp(&key(b)).then(a.name.cmp(b.name)));
    svg(|svg| draw(n, &dots, svg))
}

fn key(dot: &Dot) -> f64 {
    dot.dimension.unwrap_or(dot.bound)
}

fn dot(finding: &Finding) -> Option<Dot<'_>> {
    let figures = finding.figures.as_ref().ok()?;
    let report = &figures.report;
    let way = report.densities.iter().zip(&figures.params).skip(1);
    Some(Dot {
        name: finding.name,
        density: report.density(),
        params: (report.params as f64).max(1.0),
        dimension: report.dimension.map(|d| (d.value() as f64).max(1.0)),
        bound: (report.dimension_bound as f64).max(1.0),
        way: way.map(|(density, params)| (*density, (*params as f64).max(1.0))).collect(),
    })
}

fn draw(n: usize, dots: &[Dot], svg: &mut String) -> Outcome {
    let dense: Vec<&Dot> = dots.iter().filter(|dot| dot.density == 1.0).collect();
    let (left_width, column) = (520, 26);
    let size = (left_width + 30 + column * dense.len().max(3) as u32, 560);
    let root = SVGBackend::with_string(svg, size).into_drawing_area();
    root.fill(&WHITE)?;
    let values = || dots.iter().flat_map(|dot| [Some(dot.params), dot.dimension]).flatten();
    let lowest = values().chain(dots.iter().flat_map(|dot| dot.way.iter().map(|w| w.1))).fold(f64::INFINITY, f64::min);
    let highest = values().fold(1.0, f64::max);
    let range = (lowest.min(highest) / 1.6).max(0.5)..highest * 1.8;
    let (left, right) = root.split_horizontally(left_width);
    let title = format!("n = {n}: parameters and effective dimension against the density of the product");
    text(&root, &title, (16, 12), 16)?;
    legend(&root)?;
    scatter(n, &left, dots, range.clone())?;
    columns(&right, &dense, range)?;
    root.present()?;
    Ok(())
}

fn text(area: &Area, text: &str, at: (i32, i32), size: u32) -> Outcome {
    Ok(area.draw_text(text, &font(size), at)?)
}

fn legend(root: &Area) -> Outcome {
    root.draw(&Circle::new((22, 46), 4, PARAMETERS.stroke_width(1)))?;
    text(root, "parameters", (32, 40), 12)?;
    root.draw(&Circle::new((122, 46), 4, DIMENSION.filled()))?;
    text(root, "effective dimension", (132, 40), 12)?;
    root.draw(&TriangleMarker::new((272, 47), 5, DIMENSION.stroke_width(1)))?;
    text(root, "at most, where it is not known", (282, 40), 12)
}

const TOP: u32 = 62;
const BOTTOM: u32 = 130;

/// Density below one.
fn scatter(n: usize, area: &Area, dots: &[Dot], range: std::ops::Range<f64>) -> Outcome {
    let least = dots.iter().flat_map(|dot| dot.way.iter().map(|w| w.0)).fold(1.0 / n as f64, f64::min);
    // Decades are labelled from their beginning on: an axis that starts within one would begin without ticks.
    let decade = 10f64.powf(least.log10().floor());
    let start = if least < 4.0 * decade { decade / 1.05 } else { least / 1.3 };
    let mut chart = ChartBuilder::on(area)
        .margin_top(TOP)
        .margin_right(6)
        .margin_bottom(BOTTOM - 44)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d((start..1.12).log_scale(), range.log_scale())?;
    axes(&mut chart, ("density of the product (lines: of the first stages)", &tick), ("", &|y| format!("{y:.0}")))?;
    for dot in dots {
        chart.draw_series([PathElement::new(dot.way.clone(), RGBColor(170, 170, 170).stroke_width(1))])?;
    }
    // Names to the right of their points, moved down where they would cover each other.
    let mut taken: Vec<(i32, i32)> = Vec::new();
    for dot in dots.iter().filter(|dot| dot.density < 1.0).rev() {
        mark(&mut chart, dot.density, dot)?;
        let (x, y) = chart.backend_coord(&(dot.density, key(dot)));
        let (base, top) = area.get_base_pixel();
        let near_edge = dot.density > 0.6;
        let (x, mut y) = (x - base + if near_edge { -9 } else { 9 }, y - top - 14);
        while taken.iter().any(|(tx, ty)| (tx - x).abs() < 150 && (ty - y).abs() < 13) {
            y += 1;
        }
        taken.push((x, y));
        let anchor = if near_edge { HPos::Right } else { HPos::Left };
        name(area, dot.name, 12, Pos::new(anchor, VPos::Top), (x, y))?;
    }
    Ok(())
}

/// 1, 2 or 5 times a power of ten, in percent; nothing for other densities.
fn tick(x: f64) -> String {
    let percent = 100.0 * x;
    let lead = percent / 10f64.powf(percent.log10().floor());
    if [1.0, 2.0, 5.0, 10.0].iter().all(|l| (lead - l).abs() > 1e-6) {
        return String::new();
    }
    format!("{} %", (1e4 * percent).round() / 1e4)
}

/// Density one: a column each.
fn columns(area: &Area, dots: &[&Dot], range: std::ops::Range<f64>) -> Outcome {
    let count = dots.len().max(3) as f64;
    let mut chart = ChartBuilder::on(area)
        .margin_top(TOP)
        .margin_right(24)
        .margin_bottom(BOTTOM)
        .build_cartesian_2d(0.0..count, range.log_scale())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(FAINT)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .draw()?;
    let (base, _) = area.get_base_pixel();
    for (at, dot) in dots.iter().enumerate() {
        let x = at as f64 + 0.5;
        mark(&mut chart, x, dot)?;
        let foot = area.dim_in_pixel().1 as i32 - BOTTOM as i32 + 8;
        let style = font(12).transform(FontTransform::Rotate270).pos(Pos::new(HPos::Right, VPos::Center));
        let (x, _) = chart.backend_coord(&(x, 1.0f64.max(dot.params)));
        area.draw_text(dot.name, &style, (x - base, foot))?;
    }
    text(area, "density 100 %", (4, TOP as i32 - 18), 12)
}

/// Parameters as a ring, dimension as a disc or its bound as a triangle, and a line between them.
fn mark<
    X: plotters::coord::ranged1d::Ranged<ValueType = f64>,
    Y: plotters::coord::ranged1d::Ranged<ValueType = f64>,
>(
    chart: &mut ChartContext<'_, SVGBackend<'_>, Cartesian2d<X, Y>>,
    x: f64,
    dot: &Dot,
) -> Outcome {
    if let Some(dimension) = dot.dimension {
        chart.draw_series([PathElement::new([(x, dot.params), (x, dimension)], INK.stroke_width(1))])?;
        chart.draw_series([Circle::new((x, dimension), 4, DIMENSION.filled())])?;
    } else {
        chart.draw_series([PathElement::new([(x, dot.params), (x, dot.bound)], INK.stroke_width(1))])?;
        chart.draw_series([TriangleMarker::new((x, dot.bound), 5, DIMENSION.stroke_width(1))])?;
    }
    chart.draw_series([Circle::new((x, dot.params), 5, PARAMETERS.stroke_width(1))])?;
    Ok(())
}
