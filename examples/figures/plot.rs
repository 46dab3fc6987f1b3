//! Panels of curves side by side, as SVG: points with error bars, one colour and shape for each curve, a legend beside each panel.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::element::DashedPathElement;
use plotters::prelude::*;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Outcome = Result<(), Box<dyn std::error::Error>>;

const INK: RGBColor = RGBColor(40, 40, 40);
const FAINT: RGBColor = RGBColor(225, 225, 225);
/// Okabe and Ito's, which colour-blind readers can tell apart; without yellow, which is too light for thin lines.
const COLORS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(150, 100, 0),
    RGBColor(0, 0, 0),
];
/// Width of a panel with its legend, of the legend, and height.
const PANEL: (u32, u32, u32) = (690, 190, 460);

pub(crate) struct Axis {
    pub(crate) label: &'static str,
    pub(crate) log: bool,
}

/// A point with its standard deviation; open where x is only a bound.
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) sd: f64,
    pub(crate) open: bool,
}

pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) points: Vec<Point>,
}

pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) curves: Vec<Curve>,
}

pub(crate) fn picture(panels: &[Panel]) -> Result<String, Box<dyn std::error::Error>> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (PANEL.0 * panels.len() as u32, PANEL.2)).into_drawing_area();
        root.fill(&WHITE)?;
        for (area, panel) in root.split_evenly((1, panels.len())).iter().zip(panels) {
            panel.draw(area)?;
        }
        root.present()?;
    }
    Ok(svg)
}

impl Axis {
    fn place(&self, x: f64) -> f64 {
        if self.log { x.log10() } else { x }
    }

    /// The values that are drawn, with some space around, as places.
    fn range(&self, values: impl Iterator<Item = f64>) -> Range<f64> {
        let places = values.map(|x| self.place(x)).filter(|x| x.is_finite());
        let (low, high) = places.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(x), h.max(x)));
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        let space = 0.05 * (high - low).max(0.1);
        low - space..high + space
    }

    /// Places with labels.
    fn ticks(&self, range: &Range<f64>) -> Vec<f64> {
        let span = range.end - range.start;
        if self.log {
            let steps: &[f64] = if span < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
            let decades = range.start.floor() as i32..=range.end.ceil() as i32;
            let all = decades.flat_map(|k| steps.iter().map(move |s| s.log10() + f64::from(k)));
            return all.filter(|x| range.contains(x)).collect();
        }
        let rough = 10f64.powf((span / 5.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|s| s * rough).find(|s| span / s <= 8.0).unwrap_or(rough);
        let first = (range.start / step).ceil() as i64;
        (first..).map(|k| k as f64 * step).take_while(|x| *x <= range.end).collect()
    }

    fn tick(&self, place: f64) -> String {
        let x = if self.log { 10f64.powf(place) } else { place };
        if x != 0.0 && x.abs() < 1e-4 { format!("1e{place:.0}") } else { format!("{}", (x * 1e6).round() / 1e6) }
    }
}

/// Places on a line, and those that have labels.
struct Scale(Range<f64>, Vec<f64>);

impl Ranged for Scale {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, limit: (i32, i32)) -> i32 {
        let share = (place - self.0.start) / (self.0.end - self.0.start);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.1.clone()
    }

    fn range(&self) -> Range<f64> {
        self.0.clone()
    }
}

fn font(size: u32) -> TextStyle<'static> {
    TextStyle::from(("sans-serif", size)).color(&INK)
}

impl Panel {
    fn draw(&self, area: &Area) -> Outcome {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let x = self.x.range(points().map(|p| p.x));
        let y = self.y.range(points().flat_map(|p| [p.y - p.sd, p.y + p.sd]));
        area.draw_text(&self.title, &font(15), (16, 10))?;
        let (left, legend) = area.split_horizontally(PANEL.0 - PANEL.1);
        let (x_ticks, y_ticks) = (self.x.ticks(&x), self.y.ticks(&y));
        let mut chart = ChartBuilder::on(&left)
            .margin(10)
            .margin_top(36)
            .x_label_area_size(42)
            .y_label_area_size(58)
            .build_cartesian_2d(Scale(x, x_ticks), Scale(y, y_ticks))?;
        chart
            .configure_mesh()
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .axis_style(INK)
            .label_style(font(12))
            .x_desc(self.x.label)
            .y_desc(self.y.label)
            .x_label_formatter(&|x| self.x.tick(*x))
            .y_label_formatter(&|y| self.y.tick(*y))
            .draw()?;
        let (base, top) = left.get_base_pixel();
        let at = |x: f64, y: f64| {
            let (x, y) = chart.backend_coord(&(self.x.place(x), self.y.place(y)));
            (x - base, y - top)
        };
        for (k, curve) in self.curves.iter().enumerate() {
            let color = COLORS[k % COLORS.len()];
            let path: Vec<_> = curve.points.iter().map(|p| at(p.x, p.y)).collect();
            line(&left, k, path.clone(), color)?;
            for (point, place) in curve.points.iter().zip(path) {
                if point.sd > 0.0 {
                    let ends = [at(point.x, point.y - point.sd), at(point.x, point.y + point.sd)];
                    left.draw(&PathElement::new(ends.to_vec(), color.stroke_width(1)))?;
                    for (x, y) in ends {
                        left.draw(&PathElement::new(vec![(x - 3, y), (x + 3, y)], color.stroke_width(1)))?;
                    }
                }
                mark(&left, k, place, color, point.open)?;
            }
            let y = 46 + 20 * k as i32;
            line(&legend, k, vec![(4, y), (28, y)], color)?;
            mark(&legend, k, (16, y), color, false)?;
            legend.draw_text(&curve.name, &font(12), (36, y - 6))?;
        }
        if points().any(|p| p.open) {
            let y = 56 + 20 * self.curves.len() as i32;
            mark(&legend, 0, (16, y), INK, true)?;
            legend.draw_text("open: at most so many", &font(12), (36, y - 6))?;
        }
        Ok(())
    }
}

/// Dashed from the second round of colours on.
fn line(area: &Area, k: usize, path: Vec<(i32, i32)>, color: RGBColor) -> Outcome {
    if k < COLORS.len() {
        area.draw(&PathElement::new(path, color.stroke_width(1)))?;
    } else {
        area.draw(&DashedPathElement::new(path, 5, 3, color.stroke_width(1)))?;
    }
    Ok(())
}

/// The shape of curve `k`: another one for each round of colours, and neighbours differ.
fn mark(area: &Area, k: usize, (x, y): (i32, i32), color: RGBColor, open: bool) -> Outcome {
    let style: ShapeStyle = color.filled();
    let corners = |points: &[(i32, i32)]| points.iter().map(|(dx, dy)| (x + dx, y + dy)).collect::<Vec<_>>();
    let shape = match (k + 2 * (k / COLORS.len())) % 4 {
        0 => corners(&[(-3, -4), (3, -4), (4, -3), (4, 3), (3, 4), (-3, 4), (-4, 3), (-4, -3)]),
        1 => corners(&[(-5, 4), (5, 4), (0, -5)]),
        2 => corners(&[(-5, 0), (0, -5), (5, 0), (0, 5)]),
        _ => corners(&[(-5, -4), (5, -4), (0, 5)]),
    };
    area.draw(&Polygon::new(shape.clone(), if open { WHITE.filled() } else { style }))?;
    let outline: Vec<_> = shape.iter().copied().chain(shape.first().copied()).collect();
    area.draw(&PathElement::new(outline, color.stroke_width(1)))?;
    Ok(())
}
