//! Ways to adapt the pretrained network: rotations, LoRA, and parts of it trained as they are.

use faer::MatRef;
use papilio::adapter::train::{Adam, Dropout, Gradients, Linear, Weight, block_rates};
use papilio::generator::Generator;
use papilio::parametrization::{Cayley, CayleyNeumann};
use papilio::topology::{BlockDiagonal, Butterfly, GroupAndShuffle, Repeated};
use papilio::{Parallelism, Plan, Workspace};

use crate::data::PIXELS;
use crate::network::{Dense, First, Network, Outcome, WIDTH, product};

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Method {
    /// Nothing.
    None,
    /// m butterfly factors of blocks of b.
    Boft { m: usize, b: usize, dropout: Option<Dropout> },
    /// Blocks of b.
    Oft { b: usize },
    /// Blocks of b, the rate divided by the root of their parameters.
    Scaled { b: usize },
    /// Blocks of b by PEFT's default, the series of five terms.
    Neumann { b: usize },
    /// Two classic butterflies one after the other: what BOFT leaves out.
    Butterflies,
    /// Two factors of blocks of 8 with a perfect shuffle between them.
    Shuffle,
    /// W + BA with r rows in A.
    Lora { r: usize },
    /// All of the first layer.
    First,
    /// All layers.
    All,
    /// The last layer.
    Probe,
}

impl Method {
    pub(crate) fn name(self) -> String {
        match self {
            Self::None => "no adaptation".into(),
            Self::Boft { m, b, .. } => format!("BOFT m = {m}, b = {b}"),
            Self::Oft { b } | Self::Scaled { b } => format!("OFT b = {b}"),
            Self::Neumann { b } => format!("OFT b = {b}, series"),
            Self::Butterflies => "two butterflies".into(),
            Self::Shuffle => "group and shuffle, b = 8".into(),
            Self::Lora { r } => format!("LoRA r = {r}"),
            Self::First => "full, first layer".into(),
            Self::All => "full, all layers".into(),
            Self::Probe => "linear probe".into(),
        }
    }

    /// The rates of Adam that are tried: whole layers need smaller ones.
    pub(crate) fn rates(self) -> &'static [f64] {
        match self {
            Self::None => &[0.0],
            Self::First | Self::All => &[3e-4, 1e-3, 3e-3, 1e-2],
            _ => &[1e-3, 3e-3, 1e-2, 3e-2, 1e-1],
        }
    }

    /// The curve of the plot that it belongs to.
    pub(crate) fn family(self) -> String {
        match self {
            Self::Boft { b, .. } => format!("BOFT(m, {b})"),
            Self::Oft { .. } => "OFT".into(),
            Self::Lora { .. } => "LoRA".into(),
            other => other.name(),
        }
    }

    /// Builds it on the pretrained layers and hands the network to `work`.
    pub(crate) fn build<R>(
        self,
        pretrained: &[Dense; 3],
        rate: f64,
        seed: u64,
        work: impl FnOnce(&mut Network<'_>) -> Outcome<R>,
    ) -> Outcome<R> {
        let [a, b, c] = pretrained.clone();
        let rest = match self {
            Self::All => [b.unfrozen(rate)?, c.unfrozen(rate)?],
            Self::Probe => [b, c.unfrozen(rate)?],
            _ => [b, c],
        };
        let mut first: Box<dyn First> = match self {
            Self::None | Self::Probe => Box::new(a),
            Self::First | Self::All => Box::new(a.unfrozen(rate)?),
            Self::Lora { r } => Box::new(Lora::new(a, r, rate, seed)?),
            Self::Boft { m, b, dropout } => {
                let plan = match m {
                    1 => Plan::new(PIXELS, &BlockDiagonal::new(b), Cayley)?,
                    _ => Plan::new(PIXELS, &Butterfly::boft(m, b)?, Cayley)?,
                };
                Box::new(Rotated::new(&a, plan, dropout, rate, seed)?)
            }
            Self::Oft { b } | Self::Scaled { b } => {
                let plan = Plan::new(PIXELS, &BlockDiagonal::new(b), Cayley)?;
                let mut first = Rotated::new(&a, plan, None, rate, seed)?;
                if let Self::Scaled { .. } = self {
                    first.adam = first.adam.with_factors(block_rates(first.layer.plan()))?;
                }
                Box::new(first)
            }
            Self::Neumann { b } => {
                let plan = Plan::new(PIXELS, &BlockDiagonal::new(b), CayleyNeumann { order: 4 })?;
                Box::new(Rotated::new(&a, plan, None, rate, seed)?)
            }
            Self::Butterflies => {
                let plan = Plan::new(PIXELS, &Repeated::new(Butterfly::classic(2), 2), Cayley)?;
                Box::new(Rotated::new(&a, plan, None, rate, seed)?)
            }
            Self::Shuffle => {
                Box::new(Rotated::new(&a, Plan::new(PIXELS, &GroupAndShuffle::new(8), Cayley)?, None, rate, seed)?)
            }
        };
        work(&mut Network { first: &mut *first, rest })
    }
}

/// A rotation of the pixels before the frozen weight; only angles are trained.
pub(crate) struct Rotated {
    layer: Linear<f32>,
    adam: Adam,
    dropout: Option<Dropout>,
    generator: Generator,
    workspace: Workspace,
}

/// The frozen first layer behind a rotation of this plan.
pub(crate) fn rotated(first: &Dense, plan: Plan<f32>) -> Outcome<Linear<f32>> {
    let mut layer = Linear::new(Weight::new(&first.weight[..], WIDTH, PIXELS)?, plan)?;
    layer.set_bias(&first.bias.iter().map(|b| f64::from(*b)).collect::<Vec<_>>())?;
    Ok(layer)
}

impl Rotated {
    /// A layer as it is.
    pub(crate) fn fixed(layer: Linear<f32>) -> Outcome<Self> {
        let adam = Adam::new(layer.theta().len(), 0.0)?;
        Ok(Self { layer, adam, dropout: None, generator: Generator::new(0), workspace: Workspace::new() })
    }

    fn new(first: &Dense, plan: Plan<f32>, dropout: Option<Dropout>, rate: f64, seed: u64) -> Outcome<Self> {
        let fixed = Self::fixed(rotated(first, plan)?)?;
        let adam = Adam::new(fixed.layer.theta().len(), rate)?;
        Ok(Self { adam, dropout, generator: Generator::new(seed), ..fixed })
    }
}

impl First for Rotated {
    fn prepare(&mut self, training: bool) -> Outcome {
        let Some(dropout) = self.dropout else { return Ok(()) };
        let mask = if training { Some(dropout.draw(self.layer.plan(), &mut self.generator)?) } else { None };
        self.layer.set_mask(mask)
    }

    fn forward(&mut self, x: &[f32]) -> Outcome<Vec<f32>> {
        let mut y = vec![0.0; x.len() / PIXELS * WIDTH];
        self.layer.forward(x, &mut y, Parallelism::None, &mut self.workspace)?;
        Ok(y)
    }

    fn train(&mut self, x: &[f32], g: &[f32]) -> Outcome {
        let mut d_theta = vec![0.0; self.layer.theta().len()];
        let wanted = Gradients { theta: Some(&mut d_theta), ..Gradients::default() };
        self.layer.backward(x, g, wanted, Parallelism::None, &mut self.workspace)?;
        self.layer.step_theta(&mut self.adam, &d_theta)
    }

    fn parameters(&self) -> usize {
        self.layer.theta().len()
    }

    fn weight(&self) -> Outcome<Vec<f32>> {
        self.layer.merged(Parallelism::None, &mut Workspace::new())
    }

    fn rotation(&self) -> Option<&Linear<f32>> {
        Some(&self.layer)
    }
}

/// y = x Wᵀ + b + (x Aᵀ) Bᵀ: A normal with variance 1/64, B zero (Hu et al., arXiv 2106.09685).
struct Lora {
    base: Dense,
    r: usize,
    /// A `[r, 64]`, then B `[256, r]`.
    numbers: Vec<f64>,
    adam: Adam,
}

impl Lora {
    fn new(base: Dense, r: usize, rate: f64, seed: u64) -> Outcome<Self> {
        let mut generator = Generator::new(seed);
        // Box and Muller.
        let mut normal = || {
            let (u, v) = (1.0 - generator.uniform(), generator.uniform());
            (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
        };
        let mut numbers: Vec<f64> = (0..r * PIXELS).map(|_| normal() / (PIXELS as f64).sqrt()).collect();
        numbers.resize(r * (PIXELS + WIDTH), 0.0);
        let adam = Adam::new(numbers.len(), rate)?;
        Ok(Self { base, r, numbers, adam })
    }

    /// A and B in single precision.
    fn factors(&self) -> (Vec<f32>, Vec<f32>) {
        let single = |x: &[f64]| x.iter().map(|x| *x as f32).collect();
        let (a, b) = self.numbers.split_at(self.r * PIXELS);
        (single(a), single(b))
    }

    /// x Aᵀ.
    fn inner(&self, x: &[f32], a: &[f32]) -> Vec<f32> {
        let batch = x.len() / PIXELS;
        let mut u = vec![0.0; batch * self.r];
        let x = MatRef::from_row_major_slice(x, batch, PIXELS);
        product(x, MatRef::from_column_major_slice(a, PIXELS, self.r), &mut u);
        u
    }

    /// With respect to A, then B.
    fn gradient(&self, x: &[f32], g: &[f32]) -> Vec<f64> {
        let (batch, r, (a, b)) = (x.len() / PIXELS, self.r, self.factors());
        let u = self.inner(x, &a);
        let mut d_u = vec![0.0; batch * r];
        let rows = MatRef::from_row_major_slice(g, batch, WIDTH);
        product(rows, MatRef::from_row_major_slice(&b, WIDTH, r), &mut d_u);
        let mut gradient = vec![0.0; self.numbers.len()];
        let (d_a, d_b) = gradient.split_at_mut(r * PIXELS);
        let columns = MatRef::from_column_major_slice(&d_u, r, batch);
        product(columns, MatRef::from_row_major_slice(x, batch, PIXELS), d_a);
        product(rows.transpose(), MatRef::from_row_major_slice(&u, batch, r), d_b);
        gradient.into_iter().map(f64::from).collect()
    }
}

impl First for Lora {
    fn forward(&mut self, x: &[f32]) -> Outcome<Vec<f32>> {
        let (batch, (a, b)) = (x.len() / PIXELS, self.factors());
        let mut y = self.base.forward(x)?;
        let (u, mut more) = (self.inner(x, &a), vec![0.0; batch * WIDTH]);
        let u = MatRef::from_row_major_slice(&u, batch, self.r);
        product(u, MatRef::from_column_major_slice(&b, self.r, WIDTH), &mut more);
        y.iter_mut().zip(&more).for_each(|(y, more)| *y += more);
        Ok(y)
    }

    fn train(&mut self, x: &[f32], g: &[f32]) -> Outcome {
        let gradient = self.gradient(x, g);
        self.adam.step(&mut self.numbers, &gradient)
    }

    fn parameters(&self) -> usize {
        self.numbers.len()
    }

    fn weight(&self) -> Outcome<Vec<f32>> {
        let (a, b) = self.factors();
        let mut weight = vec![0.0; WIDTH * PIXELS];
        let b = MatRef::from_row_major_slice(&b, WIDTH, self.r);
        product(b, MatRef::from_row_major_slice(&a, self.r, PIXELS), &mut weight);
        weight.iter_mut().zip(&self.base.weight).for_each(|(w, base)| *w += base);
        Ok(weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ⟨y, g⟩ is linear in every number of A and of B, so a difference is its derivative.
    #[test]
    fn loras_gradient_is_a_difference() {
        let mut generator = Generator::new(3);
        let mut lora = Lora::new(Dense::random(WIDTH, PIXELS, &mut generator), 2, 0.1, 4).unwrap();
        let mut random = |count: usize| (0..count).map(|_| generator.uniform() as f32 - 0.5).collect::<Vec<f32>>();
        let (x, g) = (random(3 * PIXELS), random(3 * WIDTH));
        lora.numbers = random(lora.numbers.len()).into_iter().map(f64::from).collect();
        let gradient = lora.gradient(&x, &g);
        let largest = gradient.iter().fold(0.0, |m: f64, d| m.max(d.abs()));
        let value = |lora: &mut Lora, at: usize, step: f64| {
            lora.numbers[at] += step;
            let y = lora.forward(&x).unwrap();
            lora.numbers[at] -= step;
            y.iter().zip(&g).map(|(y, g)| f64::from(y * g)).sum::<f64>()
        };
        for (at, d) in gradient.iter().enumerate() {
            let difference = value(&mut lora, at, 0.5) - value(&mut lora, at, -0.5);
            assert!((difference - d).abs() < 1e-5 * largest, "{at}: {difference} {d}");
        }
    }
}
