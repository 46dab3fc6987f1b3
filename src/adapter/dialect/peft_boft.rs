//! BOFT adapters as HuggingFace PEFT stores them (Liu et al. 2023, arXiv 2311.06243; PEFT 0.11 and later).
//!
//! For a module `mod` the file holds `base_model.model.<mod>.boft_R` of shape `[N, D, b, b]` and `….boft_s` of shape
//! `[out, 1]` (Linear) or `[1, out]` (Conv2d). With M = `boft_R[i, j]`,
//!
//! > S = ½(M − Mᵀ),  Q_ij = (I − S)(I + S)⁻¹,  R = B_{N−1} ··· B_1 B_0,  W' = diag(s)·W·Rᵀ,
//!
//! where factor B_i has the blocks Q_i0 … Q_i(D−1) on pairs of half-blocks at distance 2ⁱ·b/2. That is papilio's
//! [`Butterfly::boft`] with [`Cayley`] blocks, stage i = factor i, and θ the strict upper triangle of S. With N = 1 the
//! half-blocks are neighbours and b may be odd. A Conv2d weight `[out, c, kh, kw]` is taken as `[out, c·kh·kw]`; PEFT up to
//! 0.13 took its buffer as `[c·kh·kw, out]` without transposing it, V' = R·V·diag(s), and trained adapters that way. Neither
//! keys nor shapes tell the two apart. `boft_P`, a buffer of permutation matrices, was written up to 0.12, `peft_version`
//! since 0.18; between them a convolution needs a [`Hint`](super::Hint).
//!
//! Only the skew part of M matters; optimisers keep M skew, but a symmetric part in a file is ignored, as PEFT does.

use std::format;
use std::string::ToString;
use std::sync::Arc;
use std::vec::Vec;

use super::keys::{Grammar, Parameter};
use super::skew::{pairs, pull_skew_part, skew_part};
use super::{Context, Dialect, Form, Misfit, Numbers, Side, Structure, Tensors, extents, need, numbers};
use crate::adapter::method::Method;
use crate::adapter::sides::{Sides, SidesGradient, View};
use crate::error::{Error, Result, check_length};
use crate::orthogonal::Orthogonal;
use crate::parametrization::Cayley;
use crate::plan::Plan;
use crate::scalar::Scalar;
use crate::storage::tensor_error;
use crate::topology::{BlockDiagonal, Butterfly};

pub(super) const DIALECT: Dialect = Dialect {
    name: "peft-boft",
    methods: &["BOFT"],
    grammar: Grammar::Peft,
    parameters: &[
        Parameter::named("boft_R"),
        Parameter::named("boft_s"),
        Parameter { is_derived: true, ..Parameter::named("boft_P") },
    ],
    form,
};

/// The sizes of a `boft_R` tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// N, the number of butterfly factors.
    pub stages: usize,
    /// D, the number of blocks in a factor.
    pub blocks: usize,
    /// b, the size of a block.
    pub block: usize,
}

impl Shape {
    /// From the dimensions `[N, D, b, b]`.
    ///
    /// # Errors
    /// [`Error::Size`] for any other form, or an empty one.
    pub fn from_dims(dims: &[usize]) -> Result<Self> {
        match *dims {
            [stages, blocks, block, columns] if block == columns && stages.min(blocks).min(block) > 0 => {
                Ok(Self { stages, blocks, block })
            }
            _ => Err(Error::Size {
                what: "shape of boft_R",
                expected: "[N, D, b, b], all at least 1".into(),
                got: format!("{dims:?}"),
            }),
        }
    }

    /// d = D·b, the size of the rotated space.
    pub fn n(&self) -> usize {
        self.blocks.saturating_mul(self.block)
    }

    /// Free parameters of R: N·D·b(b−1)/2.
    pub fn num_params(&self) -> usize {
        self.stages.saturating_mul(self.blocks).saturating_mul(pairs(self.block))
    }

    /// The plan of R, over any real scalar.
    ///
    /// # Errors
    /// [`Error::Size`] unless b is even and b·2ᴺ⁻¹ divides d (for N > 1).
    pub fn plan<T: Scalar<Wide = f64>>(&self) -> Result<Plan<T>> {
        if self.stages == 1 {
            Plan::new(self.n(), &BlockDiagonal::new(self.block), Cayley)
        } else {
            Plan::new(self.n(), &Butterfly::boft(self.stages, self.block)?, Cayley)
        }
    }

    /// θ from the stored M: for each block the strict upper triangle of ½(M − Mᵀ), row-major.
    ///
    /// # Errors
    /// [`Error::Length`] unless there are N·D·b² numbers; [`Error::Size`] if memory does not suffice.
    pub fn theta(&self, stored: &[f64]) -> Result<Vec<f64>> {
        let b = self.block;
        check_length("boft_R", self.stages * self.blocks * b * b, stored.len())?;
        Ok(skew_part(b, stored, 0.5, |i| i))
    }

    /// The adjoint of [`theta`](Self::theta): a gradient for θ as the gradient for M, which is skew:
    /// `G[i][j] = ½g`, `G[j][i] = −½g`.
    ///
    /// # Errors
    /// [`Error::Length`] unless there are N·D·b(b−1)/2 numbers.
    pub fn stored_gradient(&self, d_theta: &[f64]) -> Result<Vec<f64>> {
        check_length("gradient of theta", self.num_params(), d_theta.len())?;
        let mut stored = pull_skew_part(self.block, d_theta, 0.5, |i| i);
        stored.resize(self.stages * self.blocks * self.block * self.block, 0.0); // blocks of one number have no parameters
        Ok(stored)
    }
}

/// A layer of one `boft_R` and one `boft_s`.
#[derive(Debug)]
struct Layer {
    shape: Shape,
    outputs: usize,
    /// Whether `boft_s` is `[1, out]`.
    is_convolution: bool,
    /// `None` if nothing tells.
    view: Option<View>,
}

fn form(tensors: &Tensors, cx: &Context<'_>) -> Result<Arc<dyn Form>> {
    let (blocks, scale) = (need(tensors, "boft_R", cx)?, need(tensors, "boft_s", cx)?);
    let is_convolution = match scale.shape[..] {
        // Both for one output: then the weight is as small in either view.
        [_, 1] => false,
        [1, _] => true,
        _ => {
            let expected = "shape [out, 1] (Linear) or [1, out] (Conv2d)";
            return Err(tensor_error(cx.path, &scale.name, expected, format!("{:?}", scale.shape)));
        }
    };
    let shape = Shape::from_dims(&blocks.shape).and_then(|s| s.plan::<f64>().map(|_| s));
    let shape = shape.map_err(|e| tensor_error(cx.path, &blocks.name, "a block butterfly", e))?;
    let view = if is_convolution { view(cx)? } else { Some(View::Weight) };
    Ok(Arc::new(Layer { shape, outputs: scale.len(), is_convolution, view }))
}

/// How this file's convolutions are meant, if anything tells.
fn view(cx: &Context<'_>) -> Result<Option<View>> {
    Ok(match cx.peft_version()? {
        _ if cx.has_permutations => Some(View::Reinterpreted),
        Some(version) if version >= (0, 14) => Some(View::Weight),
        Some(_) => Some(View::Reinterpreted),
        None => None,
    })
}

impl Form for Layer {
    fn structure(&self) -> Structure {
        let Shape { stages, block, .. } = self.shape;
        Structure {
            method: "BOFT".into(),
            side: Side::Input,
            n: Some(self.shape.n()),
            block,
            stages,
            parameters: self.shape.num_params(),
            outputs: Some(self.outputs),
            trained: (self.view != Some(View::Reinterpreted)).then_some(Method::Boft { factors: stages, block }),
        }
    }

    fn sides(&self, all: &Numbers, _weight: Option<&[usize]>) -> Result<Sides> {
        let theta = self.shape.theta(all.get("boft_R").map_or(&[], Vec::as_slice))?;
        let rotation = Some(Orthogonal::owning(self.shape.plan()?, theta)?);
        let scale = Some(numbers(all, "boft_s", self.outputs)?.to_vec());
        Ok(match self.view {
            Some(view @ View::Reinterpreted) => Sides { view, left: rotation, scale, ..Sides::default() },
            _ => Sides { right: rotation, scale, ..Sides::default() },
        })
    }

    fn pull(&self, _all: &Numbers, _weight: Option<&[usize]>, gradient: &SidesGradient) -> Result<Numbers> {
        let theta = if self.view == Some(View::Reinterpreted) { &gradient.left } else { &gradient.right };
        Ok(Numbers::from([("boft_R", self.shape.stored_gradient(theta)?), ("boft_s", gradient.scale.clone())]))
    }

    fn truncate(&self, all: &Numbers, weight: Option<&[usize]>, k: usize) -> Result<Sides> {
        self.sides(all, weight)?.truncate(k)
    }

    fn check_weight(&self, shape: &[usize]) -> core::result::Result<(), Misfit> {
        if !matches!(shape.len(), 2 | 4) {
            return Err(Misfit::new("boft_R", "a layer of a Linear or a Conv2d".into()));
        }
        let (out, inner) = extents(shape);
        if self.shape.n() != inner {
            return Err(Misfit::new("boft_R", format!("D*b = {} for {inner} inputs", self.shape.n())));
        }
        // With one output both are [1, 1], and the views are one.
        let is_convolution = shape.len() == 4;
        if self.outputs != out || (self.is_convolution != is_convolution && out != 1) {
            let want = if is_convolution { [1, out] } else { [out, 1] };
            let have = if self.is_convolution { [1, self.outputs] } else { [self.outputs, 1] };
            let expected = Some(format!("shape {want:?} for a weight of shape {shape:?}"));
            return Err(Misfit { parameter: "boft_s", expected, got: format!("shape {have:?}") });
        }
        if self.is_convolution && self.view.is_none() {
            let expected = "a file that says which PEFT wrote it, for a Conv2d layer: up to 0.13 convolutions were \
                            rotated in another way (give --dialect peft-0.13 or peft-0.14, or what else it was)";
            let got = "no peft_version in its configuration".to_string();
            return Err(Misfit { parameter: "boft_R", expected: Some(expected.to_string()), got });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn theta_ignores_the_symmetric_part_and_its_adjoint_is_skew() {
        let shape = Shape::from_dims(&[1, 2, 3, 3]).unwrap();
        let stored: Vec<f64> = (0..18).map(|i| f64::from(i * i % 7)).collect();
        let theta = shape.theta(&stored).unwrap();
        let symmetric: Vec<f64> =
            (0..18).map(|i| [[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]][i % 9 / 3][i % 3]).collect();
        let shifted: Vec<f64> = stored.iter().zip(&symmetric).map(|(m, s)| m + s).collect();
        assert_eq!(shape.theta(&shifted).unwrap(), theta);
        // <theta(M), g> = <M, stored_gradient(g)>, exactly in these small numbers.
        let g = [1.0, -2.0, 4.0, 8.0, 16.0, -32.0];
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let gradient = shape.stored_gradient(&g).unwrap();
        assert_eq!(dot(&theta, &g), dot(&stored, &gradient));
        assert!((0..18).all(|i| gradient[i] == -gradient[i / 9 * 9 + i % 3 * 3 + i % 9 / 3]));
    }

    #[test]
    fn impossible_shapes_are_errors() {
        for dims in [&[][..], &[1, 4, 4], &[1, 4, 4, 5], &[0, 4, 4, 4], &[1, 0, 4, 4], &[1, 1, 0, 0], &[1; 5]] {
            assert!(Shape::from_dims(dims).is_err(), "{dims:?}");
        }
        let plan = |stages, blocks, block| Shape { stages, blocks, block }.plan::<f64>();
        assert!(plan(1, 5, 3).is_ok() && plan(3, 4, 2).is_ok() && plan(1, 4, 1).is_ok());
        assert!(plan(2, 4, 3).is_err() && plan(2, 5, 4).is_err() && plan(4, 4, 4).is_err());
        assert!(plan(usize::MAX, 4, 4).is_err());
    }
}
