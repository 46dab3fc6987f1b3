//! Runs: one method with one rate on one split of the labels; and the best rate by validation.

use papilio::generator::Generator;
use papilio::verify::certificate;

use crate::adapters::Method;
use crate::data::{Camera, KNOWN, PIXELS};
use crate::network::{Dense, Outcome, WIDTH};

/// How much of everything.
pub(crate) struct Effort {
    pub(crate) pretraining: usize,
    pub(crate) steps: usize,
    pub(crate) seeds: u64,
    /// What to choose from.
    pub(crate) rates: fn(Method) -> &'static [f64],
}

/// Labels for a new camera, and how many of them are for validation.
pub(crate) const LABELS: usize = 300;
pub(crate) const VALIDATION: usize = 60;

/// What a run came to.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) validation: (f64, f64),
    pub(crate) accuracy: f64,
    pub(crate) parameters: usize,
    pub(crate) rate: f64,
    pub(crate) seconds: f64,
    /// The parameters of a rotation.
    pub(crate) theta: Vec<f64>,
}

/// What is seen on the way: the step, ‖RᵀR − I‖ (certified), and ‖W'‖₂ over ‖W‖₂.
pub(crate) struct Sight {
    pub(crate) step: usize,
    pub(crate) defect: Option<f64>,
    pub(crate) norm: f64,
}

/// Trains once; `watch` is every how many steps to look, 0 for never.
pub(crate) fn run(
    method: Method,
    camera: &Camera,
    pretrained: &[Dense; 3],
    (steps, rate, seed): (usize, f64, u64),
    watch: usize,
) -> Outcome<(Run, Vec<Sight>)> {
    let started = std::time::Instant::now();
    let mut order: Vec<usize> = (0..KNOWN).collect();
    Generator::new(100 + seed).shuffle(&mut order);
    let (train, validation) = order[..LABELS].split_at(LABELS - VALIDATION);
    let (train, validation) = (camera.known.pick(train), camera.known.pick(validation));
    let generator = &mut Generator::new(1000 + seed);
    let start = largest_singular_value(&pretrained[0].weight);
    method.build(pretrained, rate, seed, |network| {
        let mut sights = Vec::new();
        for step in 0..=steps {
            if watch > 0 && step % watch == 0 {
                network.first.prepare(false)?;
                let rotation = network.first.rotation();
                let defect = rotation.map(|layer| certificate(layer.plan(), layer.factors())).transpose()?;
                let norm = largest_singular_value(&network.first.weight()?) / start;
                sights.push(Sight { step, defect: defect.map(|c| c.defect), norm });
            }
            if step < steps && network.parameters() > 0 {
                network.step(&train.batch(128, generator))?;
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        let (validation, test) = (network.score(&validation)?, network.score(&camera.test)?);
        let run = Run {
            validation: (validation.accuracy, validation.loss),
            accuracy: test.accuracy,
            parameters: network.parameters(),
            rate,
            seconds,
            theta: network.first.rotation().map_or(Vec::new(), |layer| layer.theta().to_vec()),
        };
        Ok((run, sights))
    })
}

/// The run with the best validation: accuracy first, then loss.
pub(crate) fn best(runs: &[Run]) -> Option<&Run> {
    let better =
        |a: &&Run, b: &&Run| a.validation.0.total_cmp(&b.validation.0).then(b.validation.1.total_cmp(&a.validation.1));
    runs.iter().max_by(better)
}

fn largest_singular_value(weight: &[f32]) -> f64 {
    let matrix = faer::MatRef::from_row_major_slice(weight, WIDTH, PIXELS);
    matrix.singular_values().map_or(f64::NAN, |values| f64::from(values[0]))
}

/// Mean and standard deviation.
pub(crate) fn mean(numbers: &[f64]) -> (f64, f64) {
    let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
    let square = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    (mean, (square / (numbers.len() as f64 - 1.0).max(1.0)).sqrt())
}
