//! Curves of trainings as an SVG file.

use std::path::Path;

use plotters::prelude::*;

use super::Outcome;

/// A named curve.
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
    /// Points only.
    pub(crate) is_dotted: bool,
}

/// The mean of the last steps, so that batches do not hide the way down.
pub(crate) fn smoothed(losses: &[f64]) -> Vec<(f64, f64)> {
    let width = (losses.len() / 30).clamp(1, 20);
    let mean = |i: usize| {
        let window = &losses[i.saturating_sub(width - 1)..=i];
        window.iter().sum::<f64>() / window.len() as f64
    };
    (0..losses.len()).map(|i| ((i + 1) as f64, mean(i))).collect()
}

pub(crate) fn draw(path: &Path, title: &str, labels: [&str; 2], curves: &[Curve]) -> Outcome {
    let points = || curves.iter().flat_map(|curve| &curve.points).filter(|(x, y)| x.is_finite() && y.is_finite());
    let most = |f: fn(&(f64, f64)) -> f64| points().map(f).fold(0.0f64, f64::max).max(1e-9);
    // Curves begin at zero; points alone fill the picture.
    let is_scattered = curves.iter().all(|curve| curve.is_dotted);
    let least = |f: fn(&(f64, f64)) -> f64| if is_scattered { points().map(f).fold(most(f), f64::min) } else { 0.0 };
    let range = |f: fn(&(f64, f64)) -> f64| {
        let margin = 0.05 * (most(f) - least(f));
        (least(f) - if is_scattered { margin } else { 0.0 })..most(f) + margin
    };
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (760, 380)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(55)
            .build_cartesian_2d(range(|p| p.0), range(|p| p.1))?;
        chart.configure_mesh().light_line_style(TRANSPARENT).x_desc(labels[0]).y_desc(labels[1]).draw()?;
        for (i, curve) in curves.iter().enumerate() {
            let colour = Palette99::pick(i).to_rgba();
            let series = if curve.is_dotted {
                chart.draw_series(curve.points.iter().map(|p| Circle::new(*p, 4, colour.filled())))?
            } else {
                chart.draw_series([PathElement::new(curve.points.clone(), colour.stroke_width(2))])?
            };
            series
                .label(&curve.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
        }
        chart.configure_series_labels().border_style(BLACK.mix(0.3)).background_style(WHITE.mix(0.8)).draw()?;
        area.present()?;
    }
    Ok(std::fs::write(path, text)?)
}
