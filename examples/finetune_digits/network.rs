//! A classifier 64-256-256-10 with rectifiers: dense layers that are trained as a whole, and a first layer of any kind.

use faer::{Accum, MatMut, MatRef, Par};
use papilio::adapter::train::Adam;
use papilio::generator::Generator;

use crate::data::{CLASSES, PIXELS, Set};

pub(crate) const WIDTH: usize = 256;

pub(crate) type Outcome<T = ()> = papilio::Result<T>;

/// The first layer, as an adapter changes it: 64 inputs, 256 outputs.
pub(crate) trait First: Send {
    /// Before each step of training (`true`: what is random is drawn) and before evaluation.
    fn prepare(&mut self, training: bool) -> Outcome {
        let _ = training;
        Ok(())
    }
    fn forward(&mut self, x: &[f32]) -> Outcome<Vec<f32>>;
    /// A step against the gradient that `g`, the cotangent of y, has.
    fn train(&mut self, x: &[f32], g: &[f32]) -> Outcome;
    /// Numbers that are trained.
    fn parameters(&self) -> usize;
    /// The weight that acts, `[256, 64]`.
    fn weight(&self) -> Outcome<Vec<f32>>;
    /// What an optimiser moves, where that is a rotation.
    fn rotation(&self) -> Option<&papilio::adapter::train::Linear<f32>> {
        None
    }
}

/// y = x Wᵀ + b. Trained if it has an optimiser.
#[derive(Clone)]
pub(crate) struct Dense {
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    inputs: usize,
    trained: Option<(Vec<f64>, Adam)>,
}

/// y ← x·m.
pub(crate) fn product(x: MatRef<'_, f32>, m: MatRef<'_, f32>, y: &mut [f32]) {
    let y = MatMut::from_row_major_slice_mut(y, x.nrows(), m.ncols());
    faer::linalg::matmul::matmul(y, Accum::Replace, x, m, 1.0, Par::Seq);
}

impl Dense {
    /// Uniform in ±1/√inputs.
    pub(crate) fn random(outputs: usize, inputs: usize, generator: &mut Generator) -> Self {
        let bound = 1.0 / (inputs as f64).sqrt();
        let mut numbers = |count: usize| -> Vec<f32> {
            (0..count).map(|_| (bound * (2.0 * generator.uniform() - 1.0)) as f32).collect()
        };
        Self { weight: numbers(outputs * inputs), bias: numbers(outputs), inputs, trained: None }
    }

    /// From here on with an optimiser.
    pub(crate) fn unfrozen(mut self, rate: f64) -> Outcome<Self> {
        let all: Vec<f64> = self.weight.iter().chain(&self.bias).map(|w| f64::from(*w)).collect();
        let adam = Adam::new(all.len(), rate)?;
        self.trained = Some((all, adam));
        Ok(self)
    }

    pub(crate) fn frozen(mut self) -> Self {
        self.trained = None;
        self
    }

    fn output(&self, x: &[f32]) -> Vec<f32> {
        let (batch, outputs) = (x.len() / self.inputs, self.bias.len());
        let mut y = vec![0.0; batch * outputs];
        let x = MatRef::from_row_major_slice(x, batch, self.inputs);
        product(x, MatRef::from_column_major_slice(&self.weight, self.inputs, outputs), &mut y);
        y.chunks_exact_mut(outputs).for_each(|row| row.iter_mut().zip(&self.bias).for_each(|(y, b)| *y += b));
        y
    }

    /// The cotangent of x.
    pub(crate) fn pull(&self, g: &[f32]) -> Vec<f32> {
        let outputs = self.bias.len();
        let mut x = vec![0.0; g.len() / outputs * self.inputs];
        let g = MatRef::from_row_major_slice(g, g.len() / outputs, outputs);
        product(g, MatRef::from_row_major_slice(&self.weight, outputs, self.inputs), &mut x);
        x
    }

    /// With respect to the weight, then the bias.
    fn gradient(&self, x: &[f32], g: &[f32]) -> Vec<f64> {
        let (batch, outputs) = (x.len() / self.inputs, self.bias.len());
        let mut d_weight = vec![0.0; self.weight.len()];
        let rows = MatRef::from_column_major_slice(g, outputs, batch); // gᵀ
        product(rows, MatRef::from_row_major_slice(x, batch, self.inputs), &mut d_weight);
        let mut gradient: Vec<f64> = d_weight.into_iter().map(f64::from).collect();
        gradient.resize(self.weight.len() + outputs, 0.0);
        for row in g.chunks_exact(outputs) {
            gradient[self.weight.len()..].iter_mut().zip(row).for_each(|(d, g)| *d += f64::from(*g));
        }
        gradient
    }
}

impl First for Dense {
    fn forward(&mut self, x: &[f32]) -> Outcome<Vec<f32>> {
        Ok(self.output(x))
    }

    fn train(&mut self, x: &[f32], g: &[f32]) -> Outcome {
        if self.trained.is_none() {
            return Ok(());
        }
        let gradient = self.gradient(x, g);
        let Some((all, adam)) = &mut self.trained else { return Ok(()) };
        adam.step(all, &gradient)?;
        for (w, all) in self.weight.iter_mut().chain(&mut self.bias).zip(all) {
            *w = *all as f32;
        }
        Ok(())
    }

    fn parameters(&self) -> usize {
        self.trained.as_ref().map_or(0, |(all, _)| all.len())
    }

    fn weight(&self) -> Outcome<Vec<f32>> {
        Ok(self.weight.clone())
    }
}

/// The classifier with a first layer of its own.
pub(crate) struct Network<'a> {
    pub(crate) first: &'a mut dyn First,
    pub(crate) rest: [Dense; 2],
}

/// Accuracy in percent and mean cross entropy.
pub(crate) struct Score {
    pub(crate) accuracy: f64,
    pub(crate) loss: f64,
}

fn rectify(y: &mut [f32]) {
    y.iter_mut().for_each(|y| *y = y.max(0.0));
}

/// The gradient of a rectifier with the output `y`.
fn mask(g: &mut [f32], y: &[f32]) {
    g.iter_mut().zip(y).for_each(|(g, y)| *g = if *y > 0.0 { *g } else { 0.0 });
}

/// Scores of rows of logits, which become the gradient of the mean cross entropy.
fn cross_entropy(logits: &mut [f32], labels: &[usize]) -> Score {
    let (mut right, mut loss) = (0u32, 0.0);
    for (row, &label) in logits.chunks_exact_mut(CLASSES).zip(labels) {
        let largest = row.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
        right += u32::from(row.iter().position(|x| *x == largest) == Some(label));
        let distance = row[label] - largest;
        row.iter_mut().for_each(|x| *x = (*x - largest).exp());
        let sum: f32 = row.iter().sum();
        loss += f64::from(sum.ln() - distance);
        row.iter_mut().for_each(|x| *x /= sum * labels.len() as f32);
        row[label] -= 1.0 / labels.len() as f32;
    }
    Score { accuracy: 100.0 * f64::from(right) / labels.len() as f64, loss: loss / labels.len() as f64 }
}

impl Network<'_> {
    pub(crate) fn parameters(&self) -> usize {
        self.first.parameters() + self.rest.iter().map(Dense::parameters).sum::<usize>()
    }

    /// One step of training on these images.
    pub(crate) fn step(&mut self, batch: &Set) -> Outcome {
        self.first.prepare(true)?;
        let mut a = self.first.forward(&batch.images)?;
        rectify(&mut a);
        let mut b = self.rest[0].output(&a);
        rectify(&mut b);
        let mut g = self.rest[1].output(&b);
        cross_entropy(&mut g, &batch.labels);
        let mut g_b = self.rest[1].pull(&g);
        mask(&mut g_b, &b);
        if self.first.parameters() + self.rest[0].parameters() > 0 {
            let mut g_a = self.rest[0].pull(&g_b);
            mask(&mut g_a, &a);
            self.first.train(&batch.images, &g_a)?;
        }
        self.rest[0].train(&a, &g_b)?;
        self.rest[1].train(&b, &g)
    }

    pub(crate) fn score(&mut self, set: &Set) -> Outcome<Score> {
        self.first.prepare(false)?;
        let mut a = self.first.forward(&set.images)?;
        rectify(&mut a);
        let mut b = self.rest[0].output(&a);
        rectify(&mut b);
        let mut logits = self.rest[1].output(&b);
        Ok(cross_entropy(&mut logits, &set.labels))
    }
}

/// The three layers, trained on `set` from chance.
pub(crate) fn pretrained(set: &Set, steps: usize, mut tell: impl FnMut()) -> Outcome<[Dense; 3]> {
    let generator = &mut Generator::new(1);
    let mut layer = |outputs, inputs| Dense::random(outputs, inputs, generator).unfrozen(1e-3);
    let (mut first, rest) = (layer(WIDTH, PIXELS)?, [layer(WIDTH, WIDTH)?, layer(CLASSES, WIDTH)?]);
    let mut network = Network { first: &mut first, rest };
    let generator = &mut Generator::new(2);
    for _ in 0..steps {
        network.step(&set.batch(128, generator))?;
        tell();
    }
    let [second, third] = network.rest;
    Ok([first, second, third].map(Dense::frozen))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(count: usize, generator: &mut Generator) -> Vec<f32> {
        (0..count).map(|_| generator.uniform() as f32 - 0.5).collect()
    }

    /// ⟨y, g⟩ is linear in every number, so a difference is its derivative.
    #[test]
    fn the_gradient_of_a_layer_is_a_difference() {
        let generator = &mut Generator::new(5);
        let mut layer = Dense::random(6, 5, generator);
        let (x, g) = (random(15, generator), random(18, generator));
        let gradient = layer.gradient(&x, &g);
        for (at, d) in gradient.iter().enumerate() {
            let mut value = |step: f32| {
                let number = if at < 30 { &mut layer.weight[at] } else { &mut layer.bias[at - 30] };
                *number += step;
                layer.output(&x).iter().zip(&g).map(|(y, g)| f64::from(y * g)).sum::<f64>()
            };
            let difference = value(1.0) - value(-1.0);
            assert!((difference - d).abs() < 1e-5, "{at}: {difference} {d}");
        }
    }

    /// What reaches the first layer, for one image: the derivative by its bias.
    #[test]
    fn the_cotangent_of_the_first_layer_is_a_difference() {
        struct Listener(Dense, Vec<f32>);
        impl First for Listener {
            fn forward(&mut self, x: &[f32]) -> Outcome<Vec<f32>> {
                self.0.forward(x)
            }
            fn train(&mut self, _: &[f32], g: &[f32]) -> Outcome {
                self.1 = g.to_vec();
                Ok(())
            }
            fn parameters(&self) -> usize {
                1
            }
            fn weight(&self) -> Outcome<Vec<f32>> {
                self.0.weight()
            }
        }
        let generator = &mut Generator::new(6);
        let set = Set { images: random(PIXELS, generator), labels: vec![3] };
        let first = Dense::random(WIDTH, PIXELS, generator);
        let rest = [Dense::random(WIDTH, WIDTH, generator), Dense::random(CLASSES, WIDTH, generator)];
        let mut listener = Listener(first, Vec::new());
        Network { first: &mut listener, rest: rest.clone() }.step(&set).unwrap();
        let Listener(mut first, g) = listener;
        let (mut wrong, mut all) = (0.0, 0.0);
        for (at, g) in g.iter().enumerate() {
            let mut loss = |step: f32| {
                first.bias[at] += step;
                Network { first: &mut first, rest: rest.clone() }.score(&set).unwrap().loss
            };
            let slope = (loss(0.004) - loss(-0.008)) / 0.008;
            loss(0.004);
            wrong += (slope - f64::from(*g)).powi(2);
            all += f64::from(g * g);
        }
        // Of 256 rectifiers some have their kink on the way.
        assert!(wrong < 0.05f64.powi(2) * all, "{wrong:e} {all:e}");
    }
}
