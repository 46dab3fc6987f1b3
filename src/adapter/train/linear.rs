//! A linear layer with a frozen weight behind a rotation that is trained, forward and backward.
//!
//! > y = s ⊙ ((x R) Wᵀ) + bias, row by row, as if the weight were diag(s)·W·Rᵀ.
//!
//! R is never formed: x R is `Op::Transpose` of its plan. With g the cotangent of y, z = x R, p = z Wᵀ and h = (g ⊙ s) W,
//!
//! > ∂bias = Σ g,  ∂s = Σ g ⊙ p,  ∂x = h Rᵀ,  ∂θ from the pullback of z = x R at (x, h),
//!
//! with sums over the batch. Nothing is kept between forward and backward but x; z and p are computed again where they are
//! needed, which costs a product with W only if ∂s is wanted.

use std::string::ToString;
use std::vec;
use std::vec::Vec;

use super::blocks::project;
use super::weight::rows;
use super::{Adam, Dense, Mask, Weight};
use crate::batch::{Batch, BatchMut};
use crate::error::{Error, Result, check_length};
use crate::parallel::Parallelism;
use crate::parametrization::Cayley;
use crate::plan::{Factors, Op, Plan, Saved, Source, Workspace};
use crate::topology::{BlockDiagonal, Butterfly, Shared};

/// A layer y = s ⊙ ((x R) Wᵀ) + bias with trainable R (by θ), s and bias.
///
/// Batches are row-major: `x` is `[batch, inputs]`, `y` `[batch, outputs]`. Parameters are in double precision whatever `T`.
///
/// ```
/// use papilio::adapter::train::{Adam, Gradients, Linear, Weight};
/// use papilio::{Parallelism, Workspace};
///
/// let weight = Weight::new((0..32).map(|i| (i as f32).sin()).collect::<Vec<_>>(), 4, 8)?;
/// let (mut layer, mut ws) = (Linear::boft(weight, 2, 4)?, Workspace::new());
/// let mut adam = Adam::new(layer.theta().len(), 0.01)?;
/// let (x, target) = ([1.0f32; 8], [0.5f32; 4]);
/// let mut y = [0.0; 4];
/// for _ in 0..100 {
///     layer.forward(&x, &mut y, Parallelism::None, &mut ws)?;
///     let g: Vec<f32> = y.iter().zip(&target).map(|(y, t)| y - t).collect(); // of ½‖y − t‖²
///     let mut d_theta = vec![0.0; layer.theta().len()];
///     let wanted = Gradients { theta: Some(&mut d_theta), ..Gradients::default() };
///     layer.backward(&x, &g, wanted, Parallelism::None, &mut ws)?;
///     layer.step_theta(&mut adam, &d_theta)?;
/// }
/// # Ok::<(), papilio::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Linear<T: Dense> {
    weight: Weight<T>,
    plan: Plan<T>,
    theta: Vec<f64>,
    scale: Vec<f64>,
    bias: Vec<f64>,
    mask: Option<Mask>,
    eps: Option<f32>,
    factors: Factors<T>,
}

/// The gradients that [`Linear::backward`] is asked for. Those of parameters are added to what is there, that of the input
/// is overwritten.
#[derive(Debug, Default)]
pub struct Gradients<'a, T> {
    /// For θ.
    pub theta: Option<&'a mut [f64]>,
    /// For the scale of each output.
    pub scale: Option<&'a mut [f64]>,
    /// For the bias.
    pub bias: Option<&'a mut [f64]>,
    /// For x, `[batch, inputs]`.
    pub input: Option<&'a mut [T]>,
}

impl<T: Dense> Linear<T> {
    /// BOFT: m butterfly factors of blocks of size b (even, unless m = 1), by Cayley; R = I.
    ///
    /// # Errors
    /// [`Error::Size`] unless m ≥ 1 and b·2ᵐ⁻¹ divides the number of inputs.
    pub fn boft(weight: Weight<T>, m: usize, b: usize) -> Result<Self> {
        let n = weight.inputs();
        let plan = match m {
            0 => return Err(Error::Size { what: "factors of BOFT", expected: "at least 1".into(), got: "0".into() }),
            1 => Plan::new(n, &BlockDiagonal::new(b), Cayley)?,
            _ => Plan::new(n, &Butterfly::boft(m, b)?, Cayley)?,
        };
        Self::new(weight, plan)
    }

    /// OFT: one factor of blocks of size b, all of them the same if `shared`, by Cayley; R = I.
    ///
    /// # Errors
    /// [`Error::Size`] unless b divides the number of inputs.
    pub fn oft(weight: Weight<T>, b: usize, shared: bool) -> Result<Self> {
        let (n, blocks) = (weight.inputs(), BlockDiagonal::new(b));
        let plan =
            if shared { Plan::new(n, &Shared::by_stage(blocks), Cayley)? } else { Plan::new(n, &blocks, Cayley)? };
        Self::new(weight, plan)
    }

    /// R of any plan at θ = 0, scale 1, no bias: wirings and charts of your own, several adapters one after the other
    /// ([`Plan::then`]), or a frozen layer ([`Plan::identity`]).
    ///
    /// # Errors
    /// [`Error::Length`] if the plan is not for as many coordinates as the weight has columns; [`Error::Unsupported`] for a
    /// chart that is not the identity at 0.
    pub fn new(weight: Weight<T>, plan: Plan<T>) -> Result<Self> {
        check_length("plan of a layer", weight.inputs(), plan.n())?;
        for stage in plan.stages() {
            if let Source::Chart { chart, .. } = stage.source()
                && !chart.starts_at_identity()
            {
                return Err(Error::Unsupported {
                    what: "chart of a layer",
                    expected: "one that is the identity at 0",
                    got: chart.id(),
                });
            }
        }
        let theta = vec![0.0; plan.num_params()];
        let factors = plan.realize(&theta)?;
        let (scale, bias) = (vec![1.0; weight.outputs()], vec![0.0; weight.outputs()]);
        Ok(Self { weight, plan, theta, scale, bias, mask: None, eps: None, factors })
    }

    /// The frozen weight.
    pub fn weight(&self) -> &Weight<T> {
        &self.weight
    }

    /// The structure of R.
    pub fn plan(&self) -> &Plan<T> {
        &self.plan
    }

    /// The blocks that act now: those of θ, less the dropped ones.
    pub fn factors(&self) -> &Factors<T> {
        &self.factors
    }

    /// The parameters of R.
    pub fn theta(&self) -> &[f64] {
        &self.theta
    }

    /// The factor of each output.
    pub fn scale(&self) -> &[f64] {
        &self.scale
    }

    /// What is added to each output.
    pub fn bias(&self) -> &[f64] {
        &self.bias
    }

    /// Moves to other parameters; under a [constraint](Self::constrain), to their projection.
    ///
    /// # Errors
    /// As [`Plan::realize`]; the layer is unchanged then.
    pub fn set_theta(&mut self, theta: &[f64]) -> Result<()> {
        self.replace(self.projected(theta.to_vec(), self.eps)?)
    }

    /// Exactly these parameters, which a constraint let through once: projections round, so a second one might move them.
    pub(super) fn bring_back(&mut self, theta: &[f64]) -> Result<()> {
        self.replace(theta.to_vec())
    }

    /// Other factors of the outputs.
    ///
    /// # Errors
    /// [`Error::Length`] for another number, [`Error::Domain`] for one that is not finite.
    pub fn set_scale(&mut self, scale: &[f64]) -> Result<()> {
        check_numbers("scale of a layer", self.weight.outputs(), scale)?;
        self.scale.copy_from_slice(scale);
        Ok(())
    }

    /// Another bias.
    ///
    /// # Errors
    /// As [`set_scale`](Self::set_scale).
    pub fn set_bias(&mut self, bias: &[f64]) -> Result<()> {
        check_numbers("bias of a layer", self.weight.outputs(), bias)?;
        self.bias.copy_from_slice(bias);
        Ok(())
    }

    /// Blocks to be the identity from here on, [drawn](super::Dropout::draw) for a step of training; `None` for evaluation.
    ///
    /// # Errors
    /// [`Error::Length`] for a mask of another plan.
    pub fn set_mask(&mut self, mask: Option<Mask>) -> Result<()> {
        let factors = self.plan.realize(&masked(&self.plan, &self.theta, mask.as_ref())?)?;
        (self.factors, self.mask) = (factors, mask);
        Ok(())
    }

    /// COFT: keeps every block within PEFT's ball, ‖S‖_F ≤ eps/√(blocks of the factor), from here on. θ is
    /// [projected](super::project) now and by every [`set_theta`](Self::set_theta). `None` lifts it.
    ///
    /// # Errors
    /// [`Error::Domain`] for an eps that is negative or not finite.
    pub fn constrain(&mut self, eps: Option<f32>) -> Result<()> {
        self.replace(self.projected(self.theta.clone(), eps)?)?;
        self.eps = eps;
        Ok(())
    }

    /// One step of an optimiser on θ.
    ///
    /// # Errors
    /// As [`Adam::step`] and [`set_theta`](Self::set_theta).
    pub fn step_theta(&mut self, adam: &mut Adam, d_theta: &[f64]) -> Result<()> {
        let mut theta = self.theta.clone();
        adam.step(&mut theta, d_theta)?;
        self.replace(self.projected(theta, self.eps)?)
    }

    /// One step on the scale.
    ///
    /// # Errors
    /// As [`Adam::step`].
    pub fn step_scale(&mut self, adam: &mut Adam, d_scale: &[f64]) -> Result<()> {
        adam.step(&mut self.scale, d_scale)
    }

    /// One step on the bias.
    ///
    /// # Errors
    /// As [`Adam::step`].
    pub fn step_bias(&mut self, adam: &mut Adam, d_bias: &[f64]) -> Result<()> {
        adam.step(&mut self.bias, d_bias)
    }

    fn projected(&self, mut theta: Vec<f64>, eps: Option<f32>) -> Result<Vec<f64>> {
        if let Some(eps) = eps {
            project(&self.plan, &mut theta, eps)?;
        }
        Ok(theta)
    }

    fn replace(&mut self, theta: Vec<f64>) -> Result<()> {
        check_length("theta", self.plan.num_params(), theta.len())?;
        self.factors = self.plan.realize(&masked(&self.plan, &theta, self.mask.as_ref())?)?;
        self.theta = theta;
        Ok(())
    }

    /// y ← s ⊙ ((x R) Wᵀ) + bias.
    ///
    /// # Errors
    /// [`Error::Length`] unless x and y are whole rows of the same batch. Nothing is written then.
    pub fn forward(&self, x: &[T], y: &mut [T], parallelism: Parallelism, workspace: &mut Workspace) -> Result<()> {
        let batch = rows("x", x.len(), self.weight.inputs())?;
        check_length("y", batch * self.weight.outputs(), y.len())?;
        let rotated = self.rotate(x, parallelism, workspace)?;
        self.weight.forward(&rotated, y, parallelism)?;
        let [scale, bias] = [&self.scale, &self.bias].map(|v| v.iter().map(|x| T::from_wide(*x)).collect::<Vec<T>>());
        for row in y.chunks_exact_mut(self.weight.outputs()) {
            for (y, (s, b)) in row.iter_mut().zip(scale.iter().zip(&bias)) {
                *y = *s * *y + *b;
            }
        }
        Ok(())
    }

    /// The gradients of a loss whose gradient with respect to y is `g`. `x` is that of the forward pass, as are all parameters.
    ///
    /// # Errors
    /// [`Error::Length`] for wrong lengths. Nothing is written then.
    pub fn backward(
        &self,
        x: &[T],
        g: &[T],
        wanted: Gradients<'_, T>,
        parallelism: Parallelism,
        workspace: &mut Workspace,
    ) -> Result<()> {
        let (n, outputs) = (self.weight.inputs(), self.weight.outputs());
        let batch = rows("x", x.len(), n)?;
        check_length("gradient of y", batch * outputs, g.len())?;
        let Gradients { theta: d_theta, scale: d_scale, bias: d_bias, input: d_x } = wanted;
        for (what, expected, got) in [
            ("gradient of theta", self.theta.len(), d_theta.as_ref().map(|d| d.len())),
            ("gradient of the scale", outputs, d_scale.as_ref().map(|d| d.len())),
            ("gradient of the bias", outputs, d_bias.as_ref().map(|d| d.len())),
            ("gradient of x", x.len(), d_x.as_ref().map(|d| d.len())),
        ] {
            check_length(what, expected, got.unwrap_or(expected))?;
        }
        if let Some(d_bias) = d_bias {
            for row in g.chunks_exact(outputs) {
                d_bias.iter_mut().zip(row).for_each(|(d, g)| *d += g.to_wide());
            }
        }
        if let Some(d_scale) = d_scale {
            let mut product = vec![T::zero(); g.len()];
            self.weight.forward(&self.rotate(x, parallelism, workspace)?, &mut product, parallelism)?;
            for (g, p) in g.chunks_exact(outputs).zip(product.chunks_exact(outputs)) {
                d_scale.iter_mut().zip(g.iter().zip(p)).for_each(|(d, (g, p))| *d += g.to_wide() * p.to_wide());
            }
        }
        if d_theta.is_none() && d_x.is_none() {
            return Ok(());
        }
        let scale: Vec<T> = self.scale.iter().map(|s| T::from_wide(*s)).collect();
        let scaled: Vec<T> =
            g.chunks_exact(outputs).flat_map(|row| row.iter().zip(&scale).map(|(g, s)| *g * *s)).collect();
        let mut d_rotated = vec![T::zero(); x.len()];
        self.weight.backward(&scaled, &mut d_rotated, parallelism)?;
        drop(scaled);
        let mut d_factors = d_theta.as_ref().map(|_| vec![T::zero(); self.plan.num_entries()]);
        self.plan.apply_vjp(
            &self.factors,
            Saved::Input(Batch::rows(x, n)?),
            Op::Transpose,
            Batch::rows(&d_rotated, n)?,
            d_x.map(|d_x| BatchMut::rows(d_x, n)).transpose()?,
            d_factors.as_deref_mut(),
            parallelism,
            workspace,
        )?;
        if let (Some(d_theta), Some(d_factors)) = (d_theta, d_factors) {
            let theta = masked(&self.plan, &self.theta, self.mask.as_ref())?;
            let mut d = vec![0.0; theta.len()];
            self.plan.realize_vjp(&theta, &self.factors, &d_factors, &mut d)?;
            if let Some(mask) = &self.mask {
                mask.apply(&self.plan, &mut d)?;
            }
            d_theta.iter_mut().zip(&d).for_each(|(sum, d)| *sum += d);
        }
        Ok(())
    }

    /// The weight that acts, diag(s)·W·Rᵀ, row-major.
    ///
    /// # Errors
    /// Those of [`Plan::apply`].
    pub fn merged(&self, parallelism: Parallelism, workspace: &mut Workspace) -> Result<Vec<T>> {
        let mut merged = self.weight.data().to_vec();
        let rows = BatchMut::rows(&mut merged, self.weight.inputs())?;
        self.plan.apply_in_place(&self.factors, rows, Op::None, parallelism, workspace)?; // row w of W becomes R w
        for (row, s) in merged.chunks_exact_mut(self.weight.inputs()).zip(&self.scale) {
            row.iter_mut().for_each(|w| *w = T::from_wide(w.to_wide() * s));
        }
        Ok(merged)
    }

    /// x R.
    fn rotate(&self, x: &[T], parallelism: Parallelism, workspace: &mut Workspace) -> Result<Vec<T>> {
        let n = self.weight.inputs();
        let mut rotated = vec![T::zero(); x.len()];
        let (input, output) = (Batch::rows(x, n)?, BatchMut::rows(&mut rotated, n)?);
        self.plan.apply(&self.factors, input, output, Op::Transpose, parallelism, workspace)?;
        Ok(rotated)
    }
}

/// θ with the blocks that a mask drops at zero.
fn masked<T: Dense>(plan: &Plan<T>, theta: &[f64], mask: Option<&Mask>) -> Result<Vec<f64>> {
    let mut theta = theta.to_vec();
    if let Some(mask) = mask {
        mask.apply(plan, &mut theta)?;
    }
    Ok(theta)
}

/// As many finite numbers as expected.
fn check_numbers(what: &'static str, expected: usize, numbers: &[f64]) -> Result<()> {
    check_length(what, expected, numbers.len())?;
    match numbers.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(at) => Err(Error::Domain {
            what: what.to_string(),
            expected: "finite numbers",
            got: std::format!("{} at position {at}", numbers[at]),
        }),
    }
}
