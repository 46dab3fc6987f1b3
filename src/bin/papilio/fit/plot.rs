//! The error of a fit, sweep by sweep; and the errors of many structures against their prices.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::Finding;
use super::explored::Tried;
use crate::picture::{Area, BLUE, GREY, ORANGE, Outcome, axes, font, name, svg};

const ERROR: RGBColor = BLUE;
const BOUND: RGBColor = ORANGE;
const SIZE: (u32, u32) = (720, 440);
const E: &str = "e = ‖Q − R‖² / 2n";
/// What an error of zero is drawn as.
const LEAST: f64 = 1e-33;

/// e against sweeps, logarithmic, with the bound where there is one.
pub(super) fn errors(finding: &Finding) -> Result<String, String> {
    svg(|svg| draw(finding, svg))
}

fn draw(finding: &Finding, svg: &mut String) -> Outcome {
    let curve: Vec<(f64, f64)> = finding.curve.iter().enumerate().map(|(k, e)| (k as f64, e.max(LEAST))).collect();
    let bound = finding.bound.filter(|bound| *bound > 0.0);
    let values = || curve.iter().map(|point| point.1).chain(bound);
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(LEAST, f64::max));
    // At least half a decade, so that the axis has a label.
    let range = low / 1.3..(high * 1.3).max(low * 4.0);
    let last = (curve.len() - 1).max(1) as f64;
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let title = format!("{}: {}, b = {}, {} stages", finding.name, finding.topology, finding.block, finding.stages);
    let mut chart = ChartBuilder::on(&root)
        .caption(title, font(16))
        .margin(14)
        .margin_right(28)
        .x_label_area_size(40)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..last * 1.02, range.clone().log_scale().with_key_points(ticks(range)))?;
    let whole = |x: f64| if x.fract() == 0.0 { format!("{x}") } else { String::new() };
    axes(&mut chart, ("sweeps", &whole), (E, &tick))?;
    if let Some(bound) = bound {
        chart.draw_series([PathElement::new([(0.0, bound), (last, bound)], BOUND.stroke_width(1))])?;
        let ((x, y), (left, top)) = (chart.backend_coord(&(last, bound)), root.get_base_pixel());
        let right = font(12).pos(Pos::new(HPos::Right, VPos::Bottom));
        root.draw_text("no product of this wiring is below", &right, (x - left, y - top - 3))?;
    }
    chart.draw_series([PathElement::new(curve.clone(), ERROR.stroke_width(2))])?;
    if curve.len() <= 60 {
        chart.draw_series(curve.iter().map(|point| Circle::new(*point, 3, ERROR.filled())))?;
    }
    root.present()?;
    Ok(())
}

/// e against parameters, and against effective dimensions: all structures, and the front of those that are worth their price.
pub(super) fn pareto(target: &str, tried: &[Tried]) -> Result<String, String> {
    svg(|svg| draw_pareto(target, tried, svg))
}

fn draw_pareto(target: &str, tried: &[Tried], svg: &mut String) -> Outcome {
    let root = SVGBackend::with_string(svg, (2 * SIZE.0, SIZE.1 + 30)).into_drawing_area();
    root.fill(&WHITE)?;
    let title = format!("{target}: error of structures against their price");
    let (head, rest) = root.split_vertically(30);
    head.draw_text(&title, &font(16), (16, 8))?;
    let (left, right) = rest.split_horizontally(SIZE.0);
    panel(&left, tried, "parameters", |t| (t.parameters, t.pareto))?;
    panel(&right, tried, "effective dimension, or its bound", |t| (t.effective, t.pareto_dimension))
}

fn panel(area: &Area, tried: &[Tried], x: &str, price: fn(&Tried) -> (usize, bool)) -> Outcome {
    // A logarithmic axis has no zero.
    let priced = tried.iter().any(|t| price(t).0 > 0);
    let tried: Vec<&Tried> = tried.iter().filter(|t| !priced || price(t).0 > 0).collect();
    let at = |t: &Tried| (price(t).0.max(1) as f64, t.error.max(LEAST));
    let range = |of: fn((f64, f64)) -> f64, room: f64| {
        let values = || tried.iter().map(|t| of(at(t)));
        let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
        low / room..(high * room).max(low * 4.0)
    };
    let (xs, ys) = (range(|p| p.0, 1.25), range(|p| p.1, 1.3));
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .margin_right(28)
        .x_label_area_size(40)
        .y_label_area_size(72)
        .build_cartesian_2d(
            xs.clone().log_scale().with_key_points(ticks(xs)),
            ys.clone().log_scale().with_key_points(ticks(ys)),
        )?;
    axes(&mut chart, (x, &|x| format!("{x}")), (E, &tick))?;
    chart.draw_series(tried.iter().map(|t| Circle::new(at(t), 3, GREY.filled())))?;
    let mut front: Vec<&Tried> = tried.iter().copied().filter(|t| price(t).1).collect();
    front.sort_by_key(|t| price(t).0);
    chart.draw_series([PathElement::new(front.iter().map(|t| at(t)).collect::<Vec<_>>(), ERROR.stroke_width(2))])?;
    chart.draw_series(front.iter().map(|t| Circle::new(at(t), 4, ERROR.filled())))?;
    // Names where there is room for them, from the cheapest on.
    let (left, top) = area.get_base_pixel();
    let (width, mut taken) = (area.dim_in_pixel().0 as i32, Vec::<(i32, i32)>::new());
    for t in front {
        let (x, y) = chart.backend_coord(&at(t));
        let (x, y) = (x - left, y - top);
        if taken.iter().any(|(tx, ty)| (tx - x).abs() < 130 && (ty - y).abs() < 15) {
            continue;
        }
        taken.push((x, y));
        let (anchor, dx) = if x > width - 150 { (HPos::Right, -7) } else { (HPos::Left, 7) };
        name(area, &t.name, 11, Pos::new(anchor, VPos::Bottom), (x + dx, y - 2))?;
    }
    Ok(())
}

/// Powers of ten, at most about eight; 1, 2, 5, 10, … within two decades.
fn ticks(range: std::ops::Range<f64>) -> Vec<f64> {
    let (low, high) = (range.start.log10().floor() as i32, range.end.log10().ceil() as i32);
    let decades = range.end / range.start;
    let steps: &[f64] = if decades < 10.0 {
        &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
    } else if decades < 1e3 {
        &[1.0, 2.0, 5.0]
    } else {
        &[1.0]
    };
    let every = ((high - low) / 8).max(1);
    let all = (low..=high).filter(|e| e % every == 0 || steps.len() > 1);
    all.flat_map(|e| steps.iter().map(move |step| step * 10f64.powi(e))).filter(|t| range.contains(t)).collect()
}

fn tick(y: f64) -> String {
    if y >= 1e-3 { format!("{}", (y * 1e6).round() / 1e6) } else { format!("{y:.0e}") }
}
