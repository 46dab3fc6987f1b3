//! LyCORIS's boft and diag-oft (Yeh et al. 2023, arXiv 2309.14859; its versions 2 and 3 of 2024 and later).
//!
//! `<front>_<module with _ for .>` has `oft_blocks` M, of shape `[m, n, b, b]` (boft) or `[n, b, b]` (diag-oft), a number `alpha`,
//! and perhaps `rescale` `[out, 1, …]`. With q = M − Mᵀ and R = (I + q)(I − q)⁻¹ for each block,
//!
//! > boft: W' = rescale ⊙ (B_{m−1} ··· B_0 W),  diag-oft: W' = rescale ⊙ (Rᵀ W).
//!
//! R is papilio's Cayley block at −q, Rᵀ that at q. Block j of boft's factor i is on the same coordinates as PEFT's, two runs of b/2
//! at distance k = 2ⁱ·b/2, but takes them alternately, a, a + k, a + 1, a + 1 + k, …; so M is read in the order σ(j) = 2j for
//! j < b/2, 2(j − b/2) + 1 for the others, and all is papilio's [`Butterfly::boft`].
//!
//! *Constraint.* `alpha` is none of LoRA's: if it is above 0, L = alpha·out and ν = ‖q‖_F + 10⁻⁸ over the whole tensor, q is taken at
//! q·L/ν where ν > L. The derivative of that: for θ ↦ θ·L/ν(θ), g ↦ (L/ν)·g − (L/ν²)·⟨θ, g⟩·∂ν/∂θ.
//!
//! Files up to February 2024 hold `oft_diag` instead, the blocks R themselves.
//!
//! Weights are rotated and the bias is not, as LyCORIS merges (its bypass mode turns the bias, too).

use std::format;
use std::sync::Arc;
use std::vec::Vec;

use super::keys::{Grammar, Parameter};
use super::skew::{pairs, pull_skew_part, skew_part};
use super::{Context, Dialect, Form, Hint, Misfit, Numbers, Side, Structure, Tensors, need, numbers};
use crate::adapter::sides::{Sides, SidesGradient};
use crate::error::{Error, Result};
use crate::layout::StageLayout;
use crate::orthogonal::Orthogonal;
use crate::parametrization::Cayley;
use crate::plan::{Plan, Source};
use crate::storage::{TensorInfo, tensor_error};
use crate::topology::{BlockDiagonal, Butterfly, Topology};

pub(super) const DIALECT: Dialect = Dialect {
    name: "lycoris",
    methods: &[],
    grammar: Grammar::Flat(&["lycoris_", "lora_unet_", "lora_te1_", "lora_te2_", "lora_te3_", "lora_te_"]),
    parameters: &[
        Parameter::named("oft_blocks"),
        Parameter::named("oft_diag"),
        Parameter::named("alpha"),
        Parameter::named("rescale"),
    ],
    form,
};

/// A layer.
#[derive(Debug)]
struct Layer {
    /// Factors of boft; `None` for diag-oft.
    stages: Option<usize>,
    blocks: usize,
    block: usize,
    rescale: Option<usize>,
    /// Whether the file holds the blocks themselves.
    finished: bool,
}

fn form(tensors: &Tensors, cx: &Context<'_>) -> Result<Arc<dyn Form>> {
    let finished = tensors.contains_key("oft_diag");
    let name = if finished { "oft_diag" } else { "oft_blocks" };
    let tensor = need(tensors, name, cx)?;
    if finished && tensors.contains_key("oft_blocks") {
        return Err(tensor_error(cx.path, &tensor.name, "one format for a module", "also oft_blocks"));
    }
    let (stages, blocks, block) = match tensor.shape[..] {
        // Its blocks are two runs, taken alternately.
        [m, n, b, c] if b == c && m.min(n).min(b) > 0 && b.is_multiple_of(2) => (Some(m), n, b),
        [n, b, c] if b == c && n.min(b) > 0 => (None, n, b),
        _ => {
            let expected = "shape [m, n, b, b] with an even b (boft) or [n, b, b] (diag-oft)";
            return Err(tensor_error(cx.path, &tensor.name, expected, format!("{:?}", tensor.shape)));
        }
    };
    match tensors.get("alpha") {
        Some(alpha) if alpha.len() != 1 => {
            return Err(tensor_error(cx.path, &alpha.name, "one number", format!("shape {:?}", alpha.shape)));
        }
        None if !finished && cx.hint != Some(Hint::Lycoris) => {
            let expected = "an alpha beside it, which is the constraint (--dialect lycoris says that there is none)";
            return Err(tensor_error(cx.path, &tensor.name, expected, "none"));
        }
        _ => {}
    }
    let rescale = tensors.get("rescale").map(TensorInfo::len);
    let layer = Layer { stages, blocks, block, rescale, finished };
    let fits = layer.topology().and_then(|topology| Plan::<f64>::new(layer.n(), &*topology, Cayley));
    fits.map_err(|e| tensor_error(cx.path, &tensor.name, "the blocks of a rotation", e))?;
    if let Some(scale) = tensors.get("rescale")
        && scale.len() != layer.n()
    {
        return Err(tensor_error(cx.path, &scale.name, format!("{} numbers", layer.n()), format!("{:?}", scale.shape)));
    }
    Ok(Arc::new(layer))
}

/// q, given by its upper triangles, at the length that `alpha` allows: the factor, and ν.
pub(super) fn constraint(theta: &[f64], most: f64) -> (f64, f64) {
    let norm = length(theta) + 1e-8;
    (if most > 0.0 && norm > most { most / norm } else { 1.0 }, norm)
}

/// ‖q‖_F of what these are the upper triangles of.
pub(super) fn length(theta: &[f64]) -> f64 {
    (2.0 * theta.iter().map(|x| x * x).sum::<f64>()).sqrt()
}

impl Layer {
    fn n(&self) -> usize {
        self.blocks.saturating_mul(self.block)
    }

    fn topology(&self) -> Result<Arc<dyn Topology>> {
        Ok(match self.stages {
            Some(m) if m > 1 => Arc::new(Butterfly::boft(m, self.block)?),
            _ => Arc::new(BlockDiagonal::new(self.block)),
        })
    }

    /// Where coordinate j of papilio's block is in one of the file.
    fn order(&self) -> impl Fn(usize) -> usize {
        let (half, is_interleaved) = (self.block / 2, self.stages.is_some());
        move |j| match is_interleaved {
            true if j < half => 2 * j,
            true => 2 * (j - half) + 1,
            false => j,
        }
    }

    /// Sign of θ against q, and of what is read of M.
    fn sign(&self) -> f64 {
        if self.stages.is_some() { -1.0 } else { 1.0 }
    }

    fn count(&self) -> usize {
        self.stages.unwrap_or(1).saturating_mul(self.blocks)
    }

    fn theta(&self, all: &Numbers) -> Result<Vec<f64>> {
        let b = self.block;
        let stored = numbers(all, "oft_blocks", self.count().saturating_mul(b * b))?;
        Ok(skew_part(b, stored, self.sign(), self.order()))
    }

    /// L = alpha·out; 0 for none.
    fn most(&self, all: &Numbers) -> f64 {
        all.get("alpha").and_then(|alpha| alpha.first()).map_or(0.0, |alpha| alpha * self.n() as f64)
    }

    /// θ at the length that is allowed.
    fn shortened(&self, all: &Numbers) -> Result<Vec<f64>> {
        let mut theta = self.theta(all)?;
        let (factor, _) = constraint(&theta, self.most(all));
        theta.iter_mut().for_each(|x| *x *= factor);
        Ok(theta)
    }

    fn at(&self, theta: Vec<f64>) -> Result<Orthogonal<f64>> {
        Orthogonal::owning(Plan::new(self.n(), &*self.topology()?, Cayley)?, theta)
    }

    fn scale(&self, all: &Numbers) -> Result<Option<Vec<f64>>> {
        let scale = self.rescale.map(|count| numbers(all, "rescale", count)).transpose()?;
        Ok(scale.map(<[f64]>::to_vec))
    }

    /// The blocks of the file as they are.
    fn fixed(&self, all: &Numbers) -> Result<Orthogonal<f64>> {
        let b = self.block;
        let stored = numbers(all, "oft_diag", self.count().saturating_mul(b * b))?;
        let (order, topology) = (self.order(), self.topology()?);
        let is_boft = self.stages.is_some();
        let stages = stored.chunks_exact(self.blocks * b * b).enumerate().map(|(i, blocks)| {
            let turned = |(at, _): (usize, &f64)| {
                let (block, i, j) = (at / (b * b), at / b % b, at % b);
                // diag-oft applies blocks transposed.
                let (i, j) = if is_boft { (order(i), order(j)) } else { (j, i) };
                blocks[block * b * b + i * b + j]
            };
            let layout: StageLayout = topology.stage(self.n(), i);
            (layout, Source::Fixed(blocks.iter().enumerate().map(turned).collect::<Vec<_>>().into()))
        });
        Orthogonal::new::<f64>(Plan::from_stages(self.n(), stages)?, [])
    }
}

impl Form for Layer {
    fn structure(&self) -> Structure {
        Structure {
            method: match (self.stages, self.finished) {
                (Some(_), false) => "LyCORIS boft",
                (None, false) => "LyCORIS diag-oft",
                (Some(_), true) => "LyCORIS boft, finished blocks",
                (None, true) => "LyCORIS diag-oft, finished blocks",
            }
            .into(),
            side: Side::Output,
            n: Some(self.n()),
            block: self.block,
            stages: self.stages.unwrap_or(1),
            parameters: if self.finished { 0 } else { self.count().saturating_mul(pairs(self.block)) },
            outputs: self.rescale,
            trained: None,
        }
    }

    fn sides(&self, all: &Numbers, _weight: Option<&[usize]>) -> Result<Sides> {
        let scale = self.scale(all)?;
        let left = if self.finished { self.fixed(all)? } else { self.at(self.shortened(all)?)? };
        Ok(Sides::left(left).scaled(scale))
    }

    fn sides_from(&self, numbers: Numbers, weight: Option<&[usize]>) -> Result<Sides> {
        if self.finished {
            return self.sides(&numbers, weight);
        }
        let (scale, theta) = (self.scale(&numbers)?, self.shortened(&numbers)?);
        drop(numbers);
        Ok(Sides::left(self.at(theta)?).scaled(scale))
    }

    fn pull(&self, all: &Numbers, _weight: Option<&[usize]>, gradient: &SidesGradient) -> Result<Numbers> {
        if self.finished {
            let (what, expected) = ("gradient of a LyCORIS layer", "parameters (oft_blocks)");
            return Err(Error::Unsupported { what, expected, got: "finished blocks (oft_diag)".into() });
        }
        let theta = self.theta(all)?;
        let d_theta = pull_constraint(&theta, &gradient.left, constraint(&theta, self.most(all)));
        let mut stored = pull_skew_part(self.block, &d_theta, self.sign(), self.order());
        stored.resize(self.count() * self.block * self.block, 0.0);
        let mut pulled = Numbers::from([("oft_blocks", stored)]);
        if self.rescale.is_some() {
            pulled.insert("rescale", gradient.scale.clone());
        }
        Ok(pulled)
    }

    fn truncate(&self, all: &Numbers, weight: Option<&[usize]>, k: usize) -> Result<Sides> {
        self.sides(all, weight)?.truncate(k)
    }

    fn check_weight(&self, shape: &[usize]) -> core::result::Result<(), Misfit> {
        match shape.first() {
            Some(out) if *out == self.n() => Ok(()),
            _ => Err(Misfit::new("oft_blocks", format!("{} blocks of {} for the outputs", self.blocks, self.block))),
        }
    }
}

/// Gradient of θ from that of `factor`·θ, factor = L/ν or 1.
pub(super) fn pull_constraint(theta: &[f64], d: &[f64], (factor, norm): (f64, f64)) -> Vec<f64> {
    if factor == 1.0 {
        return d.to_vec();
    }
    let inner: f64 = theta.iter().zip(d).map(|(x, g)| x * g).sum();
    // ∂ν/∂θ = 2θ/‖q‖
    let slope = 2.0 * inner / length(theta) * factor / norm;
    theta.iter().zip(d).map(|(x, g)| factor * g - slope * x).collect()
}
