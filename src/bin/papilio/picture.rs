//! What all pictures have in common: colours, text, axes.

use plotters::coord::Shift;
use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::Pos;

pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(crate) type Outcome = Result<(), Box<dyn std::error::Error>>;

pub(crate) const INK: RGBColor = RGBColor(40, 40, 40);
pub(crate) const FAINT: RGBColor = RGBColor(225, 225, 225);
pub(crate) const GREY: RGBColor = RGBColor(160, 160, 160);
pub(crate) const BLUE: RGBColor = RGBColor(37, 99, 235);
pub(crate) const ORANGE: RGBColor = RGBColor(194, 65, 12);

/// The SVG of what `draw` draws.
pub(crate) fn svg(draw: impl FnOnce(&mut String) -> Outcome) -> Result<String, String> {
    let mut svg = String::new();
    draw(&mut svg).map_err(|e| format!("plot: {e}"))?;
    Ok(svg)
}

pub(crate) fn font(size: u32) -> TextStyle<'static> {
    TextStyle::from(("sans-serif", size)).color(&INK)
}

/// A name at a place, with a halo: lines may pass behind it.
pub(crate) fn name(area: &Area, text: &str, size: u32, at: Pos, (x, y): (i32, i32)) -> Outcome {
    let halo = TextStyle::from(("sans-serif", size)).color(&WHITE).pos(at);
    for (dx, dy) in [(-2, 0), (2, 0), (0, -1), (0, 1), (-1, -1), (1, 1), (-1, 1), (1, -1)] {
        area.draw_text(text, &halo, (x + dx, y + dy))?;
    }
    Ok(area.draw_text(text, &font(size).pos(at), (x, y))?)
}

/// Axes and faint lines at their ticks.
pub(crate) fn axes<X, Y>(
    chart: &mut ChartContext<'_, SVGBackend<'_>, Cartesian2d<X, Y>>,
    x: (&str, &dyn Fn(f64) -> String),
    y: (&str, &dyn Fn(f64) -> String),
) -> Outcome
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .bold_line_style(FAINT)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .label_style(font(12))
        .x_labels(9) // of one decade only its ends: with more, the last comes twice
        .x_desc(x.0)
        .y_desc(y.0)
        .x_label_formatter(&|tick| (x.1)(*tick))
        .y_label_formatter(&|tick| (y.1)(*tick))
        .draw()?;
    Ok(())
}
