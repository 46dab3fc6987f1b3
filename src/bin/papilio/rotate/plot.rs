//! Distance of the mean kurtosis from Haar's against n, as SVG: one panel for each input, one colour for each construction.

use plotters::prelude::*;

use super::Finding;
use crate::picture::{BLUE, FAINT, GREY, INK, ORANGE, Outcome, axes, font, svg};

pub(crate) fn kurtosis(findings: &[Finding]) -> Result<String, String> {
    svg(|svg| draw(findings, svg))
}

/// Beyond, points lie on the edge.
const EDGE: f64 = 0.3;

/// The lengths themselves, smallest first, without those whose names would touch.
fn ticks(findings: &[Finding]) -> Vec<f64> {
    let mut lengths: Vec<f64> = findings.iter().map(|f| f.n as f64).collect();
    lengths.sort_by(f64::total_cmp);
    let apart = (lengths.last().unwrap_or(&1.0) / lengths.first().unwrap_or(&1.0)).powf(0.12);
    let mut ticks: Vec<f64> = Vec::new();
    for n in lengths {
        if ticks.last().is_none_or(|last| n >= last * apart && n > *last) {
            ticks.push(n);
        }
    }
    ticks
}

fn draw(findings: &[Finding], svg: &mut String) -> Outcome {
    let Some(inputs) = findings.first().and_then(|f| f.constructions.first()).map(|c| &c.2) else { return Ok(()) };
    let root = SVGBackend::with_string(svg, (420 * inputs.len() as u32, 400)).into_drawing_area();
    root.fill(&WHITE)?;
    let (first, last) = findings.iter().fold((f64::INFINITY, 0f64), |(a, b), f| (a.min(f.n as f64), b.max(f.n as f64)));
    for (at, area) in root.split_evenly((1, inputs.len())).iter().enumerate() {
        let mut chart = ChartBuilder::on(area)
            .margin(14)
            .caption(inputs[at].input.name(), font(15))
            .x_label_area_size(40)
            .y_label_area_size(56)
            .build_cartesian_2d((first / 1.2..last * 1.2).log_scale().with_key_points(ticks(findings)), -EDGE..EDGE)?;
        axes(
            &mut chart,
            ("n", &|n| format!("{n:.0}")),
            ("mean kurtosis less that of a Haar matrix", &|y| {
                if y.abs() < 0.05 { "0".into() } else { format!("{y:+.1}") }
            }),
        )?;
        chart.draw_series([Rectangle::new([(first / 1.2, -0.02), (last * 1.2, 0.02)], FAINT.filled())])?;
        let colors = [BLUE, ORANGE, GREY];
        for (c, color) in (0..findings[0].constructions.len()).zip(colors) {
            let points = findings.iter().map(|f| {
                let (_, reference, qualities) = &f.constructions[c];
                (f.n as f64, (qualities[at].kurtosis - reference.kurtosis).clamp(-EDGE, EDGE))
            });
            let name = findings[0].constructions[c].0;
            let series = chart.draw_series(points.map(|(x, y)| Circle::new((x, y), 4, color.filled())))?;
            if at == 0 {
                series.label(name).legend(move |(x, y)| Circle::new((x + 10, y), 4, color.filled()));
            }
        }
        if at == 0 {
            let position = SeriesLabelPosition::UpperRight;
            chart.configure_series_labels().position(position).label_font(font(12)).border_style(INK).draw()?;
        }
    }
    root.present()?;
    Ok(())
}
