//! y = s ⊙ ((x R) Wᵀ) + bias as one operation: W and bias frozen, x, R's parameters and s (if there is one) differentiable.
//!
//! With g the cotangent of y, p = (x R) Wᵀ and h = (g ⊙ s) W: ∂x and ∂θ are the pullback of x R at (x, h), and ∂s = Σ g ⊙ p
//! over the batch. There is no gradient of W, hence two products with W in all, one forward and one backward; candle's own
//! product makes a third one even where the weight is frozen.
//!
//! **∂s without a product.** The graph hands y back, and p = (y − bias)/s. That is p to rounding, unless the bias hides it
//! or s is next to nothing: outputs for which Σ|g·bias| > 8·Σ|g·(y − bias)|, or |s| is below what the numbers resolve, are
//! multiplied again, and only those. So at most three bits of ∂s are lost.
//!
//! Sums over the batch are cut by its size alone, so threads do not change bits.

use std::vec;
use std::vec::Vec;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, WithDType};
use num_traits::{Float, Zero};

use super::numbers::{Number, Vectors, like, narrowed, on_cpu, wide, wide_tensor};
use super::rotate::{RealPlan, Stored, pulled, rotated, with_number};
use super::{door, tensor};
use crate::batch::Batch;
use crate::error::check_length;
use crate::parallel::{Parallelism, for_each};
use crate::plan::Op;
use crate::scalar::{Element, Scalar};

/// Fewest rows that are summed before sums are added, and most such pieces.
const ROWS: usize = 16;
const PIECES: usize = 64;
/// How much larger than p a bias may be before p is computed again.
const HIDDEN: f64 = 8.0;

/// What is frozen, and the structure of R.
#[derive(Debug, Clone)]
pub(super) struct Frozen {
    pub(super) plan: RealPlan,
    pub(super) stored: Stored,
    /// `[out, in]`, of the type of x.
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
}

impl CustomOp2 for Frozen {
    fn name(&self) -> &'static str {
        "papilio-linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, t: &CpuStorage, lt: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward(x, lx, &wide(t, lt)?, None)
    }

    fn bwd(&self, x: &Tensor, t: &Tensor, y: &Tensor, g: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (d_x, d_t, _) = self.backward(x, t, None, y, g)?;
        Ok((d_x, d_t))
    }
}

impl CustomOp3 for Frozen {
    fn name(&self) -> &'static str {
        "papilio-scaled-linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        t: &CpuStorage,
        lt: &Layout,
        s: &CpuStorage,
        ls: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(x, lx, &wide(t, lt)?, Some(&wide(s, ls)?))
    }

    fn bwd(&self, x: &Tensor, t: &Tensor, s: &Tensor, y: &Tensor, g: &Tensor) -> Result<Three> {
        self.backward(x, t, Some(s), y, g)
    }
}

type Three = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

impl Frozen {
    fn outputs(&self) -> usize {
        self.weight.dims()[0]
    }

    fn forward(&self, x: &CpuStorage, lx: &Layout, t: &[f64], s: Option<&[f64]>) -> Result<(CpuStorage, Shape)> {
        let theta = self.stored.theta(t.to_vec())?;
        door(check_length("scale", self.outputs(), s.map_or(self.outputs(), <[f64]>::len)))?;
        let bias = self.bias.as_ref().map(wide_tensor).transpose()?;
        let y = with_number!(&self.plan, x.dtype(), |plan, E| {
            let x = Vectors::<E>::new("last dimension of x", x, lx, plan.n())?;
            let factors = door(plan.realize(&theta))?;
            let z = door(rotated(plan, &factors, &x, Op::Transpose))?;
            let mut y = E::cpu_storage_data(self.product(&E::to_cpu_storage_owned(z), 0, x.batch(), true)?)?;
            finish::<E>(&mut y, self.outputs(), s, bias.as_deref());
            Ok(E::to_cpu_storage_owned(y))
        })?;
        let mut dims = lx.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = self.outputs();
        }
        Ok((y, Shape::from(dims)))
    }

    /// z Wᵀ, or g W, of the rows of `left` from number `start` on.
    fn product(&self, left: &CpuStorage, start: usize, batch: usize, transposed: bool) -> Result<CpuStorage> {
        let (outputs, n) = self.weight.dims2()?;
        on_cpu(&self.weight, |weight, layout| {
            let layout = if transposed { layout.transpose(0, 1)? } else { layout.clone() };
            let (inner, width) = if transposed { (n, outputs) } else { (outputs, n) };
            let rows = Layout::contiguous_with_offset((batch, inner), start);
            left.matmul(weight, (1, batch, width, inner), &rows, &layout)
        })
    }

    fn backward(&self, x: &Tensor, t: &Tensor, s: Option<&Tensor>, y: &Tensor, g: &Tensor) -> Result<Three> {
        let (wanted, outputs) = ((x.track_op(), t.track_op()), self.outputs());
        let theta = self.stored.theta(wide_tensor(t)?)?;
        let s_wide = s.map(wide_tensor).transpose()?;
        let bias = self.bias.as_ref().map(wide_tensor).transpose()?;
        let g = g.contiguous()?;
        with_number!(&self.plan, x.dtype(), |plan, E| {
            let mut d_s = None;
            let (scaled, sums) = on_cpu(y, |ys, ly| {
                on_cpu(&g, |gs, lg| {
                    let (g, y) = (numbers::<E>(gs, lg)?, numbers::<E>(ys, ly)?);
                    Ok(match (&s_wide, s.is_some_and(Tensor::track_op)) {
                        (None, _) => (None, None),
                        (Some(s), false) => (Some(scaled(g, s)), None),
                        (Some(s), true) => {
                            let (scaled, sums) = scaled_and_summed(g, y, s, bias.as_deref());
                            (Some(scaled), Some(sums))
                        }
                    })
                })
            })?;
            let batch = g.elem_count() / outputs.max(1);
            on_cpu(x, |xs, lx| {
                let x = &Vectors::<E>::new("last dimension of x", xs, lx, plan.n())?;
                let factors = door(plan.realize(&theta))?;
                if let (Some(sums), Some(s), Some(like_s)) = (sums, &s_wide, s) {
                    let (mut d, again) = sums.finish(s, E::LEAST_SCALE);
                    if !again.is_empty() {
                        let z = tensor(door(rotated(plan, &factors, x, Op::Transpose))?, &[batch, plan.n()])?;
                        self.multiplied_again(&z, &g, &again, &mut d)?;
                    }
                    d_s = Some(like(like_s, &d)?);
                }
                if wanted == (false, false) {
                    return Ok((None, None, d_s));
                }
                let h = match scaled {
                    Some(scaled) => self.product(&E::to_cpu_storage_owned(scaled), 0, batch, false)?,
                    None => on_cpu(&g, |g, layout| self.product(g, layout.start_offset(), batch, false))?,
                };
                let h = E::cpu_storage_data(h)?;
                let h = door(Batch::rows(&h, plan.n()))?;
                let (d_x, d_theta) = door(pulled(plan, &factors, &theta, x, h, Op::Transpose, wanted))?;
                let d_theta = d_theta.map(|d| like(t, &self.stored.pull(d)?));
                Ok((d_x.map(|d| tensor(d, lx.dims())).transpose()?, d_theta.transpose()?, d_s))
            })
        })
    }

    /// Σ g ⊙ p for some outputs, p by a product with their rows of W.
    fn multiplied_again(&self, z: &Tensor, g: &Tensor, outputs: &[u32], d: &mut [f64]) -> Result<()> {
        let index = tensor(outputs.to_vec(), &[outputs.len()])?;
        let p = z.matmul(&self.weight.index_select(&index, 0)?.t()?)?;
        let g = g.reshape(((), self.outputs()))?.index_select(&index, 1)?;
        let (p, g) = (wide_tensor(&p)?, wide_tensor(&g)?);
        outputs.iter().for_each(|o| d[*o as usize] = 0.0);
        for (p, g) in p.chunks_exact(outputs.len()).zip(g.chunks_exact(outputs.len())) {
            outputs.iter().zip(p.iter().zip(g)).for_each(|(o, (p, g))| d[*o as usize] += p * g);
        }
        Ok(())
    }
}

/// The numbers of a contiguous tensor.
fn numbers<'a, E: Number>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [E]> {
    let (from, to) =
        layout.contiguous_offsets().ok_or(candle_core::Error::RequiresContiguous { op: "papilio-linear" })?;
    Ok(&storage.as_slice::<E>()?[from..to])
}

/// The scalars of a layer in the precision of the sums.
fn scalars<E: Number>(numbers: &[f64]) -> Vec<E::Scalar> {
    narrowed::<E>(numbers).into_iter().map(E::load).collect()
}

/// Rows of a piece.
fn piece(len: usize, width: usize) -> usize {
    width.max(1) * ROWS.max((len / width.max(1)).div_ceil(PIECES))
}

/// y ← s ⊙ y + bias.
fn finish<E: Number>(y: &mut [E], outputs: usize, scale: Option<&[f64]>, bias: Option<&[f64]>) {
    if scale.is_none() && bias.is_none() {
        return;
    }
    let scale = scale.map(scalars::<E>);
    let bias = bias.map_or_else(|| vec![E::Scalar::zero(); outputs], scalars::<E>);
    let pieces = y.chunks_mut(piece(y.len(), outputs)).collect();
    for_each(Parallelism::Rayon, pieces, |rows: &mut [E]| {
        for row in rows.chunks_exact_mut(outputs) {
            match &scale {
                Some(scale) => {
                    for (y, (s, b)) in row.iter_mut().zip(scale.iter().zip(&bias)) {
                        *y = E::store(*s * y.load() + *b);
                    }
                }
                None => row.iter_mut().zip(&bias).for_each(|(y, b)| *y = E::store(y.load() + *b)),
            }
        }
    });
}

/// g ⊙ s.
fn scaled<E: Number>(g: &[E], scale: &[f64]) -> Vec<E> {
    let (s, mut scaled, size) = (scalars::<E>(scale), vec![E::default(); g.len()], piece(g.len(), scale.len()));
    let pieces = scaled.chunks_mut(size).zip(g.chunks(size)).collect();
    for_each(Parallelism::Rayon, pieces, |(rows, g): (&mut [E], &[E])| {
        for (row, g) in rows.chunks_exact_mut(s.len()).zip(g.chunks_exact(s.len())) {
            row.iter_mut().zip(g.iter().zip(&s)).for_each(|(to, (g, s))| *to = E::store(g.load() * *s));
        }
    });
    scaled
}

/// Sums over the batch for each output: of g·(y − bias), of its magnitude, of |g·bias|.
struct Sums {
    product: Vec<f64>,
    seen: Vec<f64>,
    hidden: Vec<f64>,
}

impl Sums {
    /// Σ g ⊙ p, and the outputs where that is not known well.
    fn finish(self, scale: &[f64], least: f64) -> (Vec<f64>, Vec<u32>) {
        let unknown = |o: &usize| scale[*o].abs() < least || self.hidden[*o] > HIDDEN * self.seen[*o];
        let again = (0..scale.len()).filter(unknown).map(|o| o as u32).collect();
        (self.product.iter().zip(scale).map(|(d, s)| d / s).collect(), again)
    }
}

/// Some rows: of g ⊙ s, of g and y, and their sums.
type Piece<'a, E> = ((&'a mut [E], (&'a [E], &'a [E])), &'a mut [<E as Element>::Scalar]);

/// g ⊙ s, and the sums, in one pass.
fn scaled_and_summed<E: Number>(g: &[E], y: &[E], scale: &[f64], bias: Option<&[f64]>) -> (Vec<E>, Sums) {
    let (s, outputs) = (scalars::<E>(scale), scale.len());
    let (mut scaled, size) = (vec![E::default(); g.len()], piece(g.len(), outputs));
    let sums = if bias.is_some() { 3 } else { 1 } * outputs;
    let mut partial = vec![E::Scalar::zero(); g.len().div_ceil(size) * sums];
    let bias = bias.map(scalars::<E>);
    let rows = g.chunks(size).zip(y.chunks(size));
    let pieces = scaled.chunks_mut(size).zip(rows).zip(partial.chunks_mut(sums.max(1))).collect();
    for_each(Parallelism::Rayon, pieces, |((scaled, (g, y)), sums): Piece<'_, E>| {
        let (product, rest) = sums.split_at_mut(outputs);
        let rows = g.chunks_exact(outputs).zip(y.chunks_exact(outputs));
        for (to, (g, y)) in scaled.chunks_exact_mut(outputs).zip(rows) {
            to.iter_mut().zip(g.iter().zip(&s)).for_each(|(to, (g, s))| *to = E::store(g.load() * *s));
            match &bias {
                Some(bias) => {
                    let (seen, hidden) = rest.split_at_mut(outputs);
                    let sums = product.iter_mut().zip(seen.iter_mut().zip(hidden));
                    for ((product, (seen, hidden)), ((g, y), b)) in sums.zip(g.iter().zip(y).zip(bias)) {
                        let d = g.load() * (y.load() - *b);
                        *product += d;
                        *seen += Float::abs(d);
                        *hidden += Float::abs(g.load() * *b);
                    }
                }
                None => {
                    let sums = product.iter_mut().zip(g.iter().zip(y));
                    sums.for_each(|(sum, (g, y))| *sum += g.load() * y.load());
                }
            }
        }
    });
    let total = |which: usize| {
        let mut total = vec![0.0; outputs];
        for piece in partial.chunks_exact(sums.max(1)) {
            let piece = piece.get(which * outputs..(which + 1) * outputs).unwrap_or_default();
            total.iter_mut().zip(piece).for_each(|(t, x)| *t += x.to_wide());
        }
        total
    };
    (scaled, Sums { product: total(0), seen: total(1), hidden: total(2) })
}
