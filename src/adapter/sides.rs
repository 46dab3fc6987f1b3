//! What an adapter does to a weight, in papilio's own terms: W' = diag(s)·L·W·Rᵀ.
//!
//! L turns the outputs, R the inputs, each a plan with its parameters; s scales the rows. Most dialects have one side only.
//! Neither L nor R is ever formed: row i of W·Rᵀ is (R wᵢ)ᵀ, so the rows of W are a batch for R, and its columns one for L.
//! Without L, rows are independent and may come in any portions; without R, columns. Everything is computed in `f64`.
//!
//! As a layer, y = W'x + b' = s ⊙ L(W(Rᵀx)) + b'. The bias b' is b, unless the dialect says that it turns along: diag(s)·L·b.
//!
//! # Gradient
//! For a loss with ∂ℓ/∂W' = G and V = L·W·Rᵀ: ∂s_i = Σ_j G_ij V_ij; with G_V = diag(s)·G the rest are the vjps of the two
//! plans, of L with the columns of W·Rᵀ and G_V as batches, of R with the rows of W and of Lᵀ·G_V.

use std::string::ToString;
use std::vec;
use std::vec::Vec;

use crate::batch::{Batch, BatchMut};
use crate::error::{Error, Result, check_length};
use crate::orthogonal::Orthogonal;
use crate::parallel::Parallelism;
use crate::plan::{Op, Plan, Saved, Source, Workspace};
use crate::verify::certificate;

mod act;
mod fraction;
mod undo;

pub(super) use act::Way;
use act::run;

pub use undo::Undo;

/// Which matrix the numbers of a weight are taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum View {
    /// `[out, in]` as it lies there; of a convolution `[out, c·kh·kw]`.
    #[default]
    Weight,
    /// The buffer of a convolution `[out, c, kh, kw]` read as if it were `[c·kh·kw, out]`, without being transposed. PEFT up to
    /// 0.13 did so by mistake, and adapters were trained that way. s scales the columns then.
    Reinterpreted,
}

/// The two rotations and the scale of an adapted layer: W' = diag(s)·L·W·Rᵀ.
#[derive(Debug, Clone, Default)]
pub struct Sides {
    /// How the weight is read.
    pub view: View,
    /// L, of the size of the outputs; `None` is the identity.
    pub left: Option<Orthogonal<f64>>,
    /// R, of the size of the inputs; `None` is the identity.
    pub right: Option<Orthogonal<f64>>,
    /// s, one factor for each output; `None` is all ones.
    pub scale: Option<Vec<f64>>,
    /// Whether the bias is multiplied by diag(s)·L, too.
    pub turns_bias: bool,
}

/// What [`Sides::vjp`] gives back.
#[derive(Debug, Clone, Default)]
pub struct SidesGradient {
    /// For the parameters of L; empty if there is none.
    pub left: Vec<f64>,
    /// For the parameters of R, likewise.
    pub right: Vec<f64>,
    /// For s, likewise.
    pub scale: Vec<f64>,
    /// For the weight.
    pub weight: Vec<f64>,
}

impl Sides {
    /// Only R: W' = W·Rᵀ.
    pub fn right(right: Orthogonal<f64>) -> Self {
        Self { right: Some(right), ..Self::default() }
    }

    /// Only L: W' = L·W.
    pub fn left(left: Orthogonal<f64>) -> Self {
        Self { left: Some(left), ..Self::default() }
    }

    /// The same with a scale.
    pub fn scaled(self, scale: Option<Vec<f64>>) -> Self {
        Self { scale, ..self }
    }

    /// L and R, as far as they are not the identity.
    pub fn rotations(&self) -> impl Iterator<Item = &Orthogonal<f64>> {
        self.left.iter().chain(&self.right)
    }

    /// Bound on the defects ‖QᵀQ − I‖₂ of the rotations as stored, rigorous: the larger one.
    ///
    /// # Errors
    /// Those of [`certificate`].
    pub fn defect(&self) -> Result<f64> {
        let defects = self.rotations().map(|q| Ok(certificate(q.plan(), q.factors())?.defect));
        defects.collect::<Result<Vec<_>>>().map(|defects| defects.into_iter().fold(0.0, f64::max))
    }

    /// The same without the parameters of the rotations, which may be as large as these: only weights can be rotated then.
    pub(crate) fn shed(mut self) -> Self {
        self.left.iter_mut().chain(&mut self.right).for_each(Orthogonal::shed);
        self
    }

    /// Free parameters of the rotations.
    pub fn num_params(&self) -> usize {
        self.rotations().map(|q| q.plan().num_params()).sum()
    }

    /// Rows and columns of the matrix that a weight of this shape is taken for.
    ///
    /// # Errors
    /// [`Error::Size`] if L, R or s has another size; [`Error::Unsupported`] for a reinterpreted view of anything but a
    /// convolution.
    pub fn matrix(&self, shape: &[usize]) -> Result<(usize, usize)> {
        let (&out, rest) = shape.split_first().ok_or_else(|| Error::Size {
            what: "adapted weight",
            expected: "at least one dimension".into(),
            got: "none".into(),
        })?;
        let inner = rest.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent)).unwrap_or(usize::MAX);
        let (rows, columns) = match self.view {
            View::Weight => (out, inner),
            View::Reinterpreted if rest.len() == 3 => (inner, out),
            View::Reinterpreted => {
                let expected = "a convolution [out, c, kh, kw]";
                return Err(Error::Unsupported {
                    what: "reinterpreted view",
                    expected,
                    got: std::format!("{shape:?}"),
                });
            }
        };
        let check = |what, have: Option<usize>, want: usize| match have {
            Some(have) if have != want => {
                let expected = std::format!("{want} for a weight of shape {shape:?}");
                Err(Error::Size { what, expected, got: have.to_string() })
            }
            _ => Ok(()),
        };
        check("rotation of the outputs", self.left.as_ref().map(Orthogonal::n), rows)?;
        check("rotation of the inputs", self.right.as_ref().map(Orthogonal::n), columns)?;
        check("scale", self.scale.as_ref().map(Vec::len), out)?;
        Ok((rows, columns))
    }

    /// Gradients for the parameters and the weight from ∂ℓ/∂W' = `d_merged` at W = `weight`.
    ///
    /// # Errors
    /// As [`merge`](Self::merge).
    pub fn vjp(&self, shape: &[usize], weight: &[f64], d_merged: &[f64]) -> Result<SidesGradient> {
        let (rows, columns) = self.matrix(shape)?;
        check_length("weight", rows.saturating_mul(columns), weight.len())?;
        check_length("gradient of the merged weight", weight.len(), d_merged.len())?;
        let ws = &mut Workspace::new();
        let par = Parallelism::Rayon;
        let mut gradient = SidesGradient::default();
        let mut turned = weight.to_vec();
        if let Some(right) = &self.right {
            run(right, &mut BatchMut::rows(&mut turned, columns)?, Op::None, par, ws)?;
        }
        let mut d = d_merged.to_vec();
        if let Some(scale) = &self.scale {
            let mut both = turned.clone();
            if let Some(left) = &self.left {
                run(left, &mut BatchMut::columns(&mut both, rows)?, Op::None, par, ws)?;
            }
            gradient.scale = vec![0.0; scale.len()];
            for (at, (v, g)) in both.iter().zip(d_merged).enumerate() {
                gradient.scale[if self.view == View::Weight { at / columns } else { at % columns }] += v * g;
            }
            self.stretch(Way::Forth, 0, columns, &mut d);
        }
        if let Some(left) = &self.left {
            let batches = (Batch::columns(&turned, rows)?, Batch::columns(&d, rows)?);
            let mut d_turned = vec![0.0; d.len()];
            gradient.left = pull(left, batches, BatchMut::columns(&mut d_turned, rows)?, ws)?;
            d = d_turned;
        }
        gradient.weight = match &self.right {
            None => d,
            Some(right) => {
                let batches = (Batch::rows(weight, columns)?, Batch::rows(&d, columns)?);
                let mut d_weight = vec![0.0; d.len()];
                gradient.right = pull(right, batches, BatchMut::rows(&mut d_weight, columns)?, ws)?;
                d_weight
            }
        };
        Ok(gradient)
    }

    /// Every block B becomes I + t(B − I), as LyCORIS has its multiplier: *not* orthogonal for 0 < t < 1. s stays.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for products of reflections, which have no blocks.
    pub fn blend(&self, t: f64) -> Result<Self> {
        self.map(|q| {
            let stages = q.plan().stages().iter().enumerate().map(|(k, stage)| {
                let b = stage.layout().block_size();
                if stage.vectors().is_some() {
                    let (what, expected) = ("linear blend", "blocks");
                    return Err(Error::Unsupported { what, expected, got: "reflections".to_string() });
                }
                let mut blocks = Vec::new();
                for j in 0..stage.layout().num_blocks() {
                    let unit = |at: usize| f64::from(u8::from(at.is_multiple_of(b + 1)));
                    let block = acting_block(q, k, j)?;
                    blocks.extend(block.iter().enumerate().map(|(at, x)| unit(at) + t * (x - unit(at))));
                }
                Ok((stage.layout().clone(), Source::Fixed(blocks.into())))
            });
            let stages = stages.collect::<Result<Vec<_>>>()?;
            Orthogonal::new::<f64>(Plan::from_stages(q.n(), stages)?, [])
        })
    }

    /// Only the k stages of each rotation that act first, as BOFT's weight interpolation has it ([`Orthogonal::truncate`]); all
    /// where there are fewer.
    ///
    /// # Errors
    /// As [`Orthogonal::truncate`].
    pub fn truncate(&self, k: usize) -> Result<Self> {
        self.map(|q| q.truncate(k.min(q.plan().num_stages())))
    }

    /// The same with other rotations.
    fn map(&self, f: impl Fn(&Orthogonal<f64>) -> Result<Orthogonal<f64>>) -> Result<Self> {
        let [left, right] = [&self.left, &self.right].map(|side| side.as_ref().map(&f).transpose());
        Ok(Self { left: left?, right: right?, ..self.clone() })
    }
}

/// Block j of stage k as it acts, row-major.
fn acting_block(q: &Orthogonal<f64>, k: usize, j: usize) -> Result<Vec<f64>> {
    let stage = &q.plan().stages()[k];
    let b = stage.layout().block_size();
    let mut block = vec![0.0; b * b];
    q.plan().block(q.factors(), k, stage.group_of(j), &mut block)?;
    if stage.is_adjoint() {
        block = (0..b * b).map(|at| block[at % b * b + at / b]).collect();
    }
    Ok(block)
}

/// The gradient of θ; that of the input is written to `d_x`.
fn pull(
    q: &Orthogonal<f64>,
    (x, g): (Batch<'_, f64>, Batch<'_, f64>),
    d_x: BatchMut<'_, f64>,
    ws: &mut Workspace,
) -> Result<Vec<f64>> {
    let (plan, mut d_factors) = (q.plan(), vec![0.0; q.plan().num_entries()]);
    let (saved, par) = (Saved::Input(x), Parallelism::Rayon);
    plan.apply_vjp(q.factors(), saved, Op::None, g, Some(d_x), Some(&mut d_factors), par, ws)?;
    let mut d_theta = vec![0.0; plan.num_params()];
    plan.realize_vjp(q.theta(), q.factors(), &d_factors, &mut d_theta)?;
    Ok(d_theta)
}
