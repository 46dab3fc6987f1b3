//! OFT of kohya's sd-scripts (`networks/oft.py`).
//!
//! `oft_unet_<module with _ for .>` has `oft_blocks` M `[n, b, b]` and `alpha`; modules that join several projections (Flux) have
//! `oft_blocks.0`, `oft_blocks.1`, …, one after the other along the outputs. As in LyCORIS's diag-oft, q = M − Mᵀ,
//! R = (I + q)(I − q)⁻¹, W' = Rᵀ·W, and R is papilio's Cayley block at −q, Rᵀ that at q.
//!
//! The constraint differs: L = alpha·out *also for alpha = 0*, where R is I, and q is taken at q·(min(‖q‖_F, L) + ε)/(‖q‖_F + ε) with
//! ε = 10⁻⁸ and the norm and `out` of each tensor for itself. The bias stays as it is.

use std::format;
use std::sync::Arc;
use std::vec::Vec;

use super::keys::{Grammar, Parameter};
use super::lycoris::length;
use super::skew::{pairs, pull_skew_part, skew_part};
use super::{Context, Dialect, Form, Misfit, Numbers, Side, Structure, Tensors, numbers};
use crate::adapter::sides::{Sides, SidesGradient};
use crate::error::{Error, Result};
use crate::layout::StageLayout;
use crate::orthogonal::Orthogonal;
use crate::parametrization::Cayley;
use crate::plan::{Plan, Source};
use crate::storage::tensor_error;

pub(super) const DIALECT: Dialect = Dialect {
    name: "kohya-oft",
    methods: &[],
    grammar: Grammar::Flat(&["oft_unet_", "oft_te1_", "oft_te2_", "oft_te_"]),
    parameters: &[
        Parameter::named("oft_blocks"),
        Parameter::named("oft_blocks.0"),
        Parameter::named("oft_blocks.1"),
        Parameter::named("oft_blocks.2"),
        Parameter::named("oft_blocks.3"),
        Parameter::named("oft_blocks.4"),
        Parameter::named("alpha"),
    ],
    form,
};

/// ε of the constraint.
const EPSILON: f64 = 1e-8;

/// Some blocks of one size.
#[derive(Debug)]
struct Part {
    name: &'static str,
    blocks: usize,
    block: usize,
}

/// A layer: parts one after the other.
#[derive(Debug)]
struct Layer {
    parts: Vec<Part>,
}

fn form(tensors: &Tensors, cx: &Context<'_>) -> Result<Arc<dyn Form>> {
    let mut parts = Vec::new();
    for (name, tensor) in tensors.iter().filter(|(name, _)| **name != "alpha") {
        match tensor.shape[..] {
            [blocks, b, c] if b == c && blocks.min(b) > 0 => parts.push(Part { name, blocks, block: b }),
            _ => {
                let expected = "shape [n, b, b]";
                return Err(tensor_error(cx.path, &tensor.name, expected, format!("{:?}", tensor.shape)));
            }
        }
    }
    let first = super::any(tensors);
    let is_row =
        parts.iter().enumerate().all(|(i, part)| part.name.strip_prefix("oft_blocks.") == Some(&format!("{i}")));
    if parts.is_empty() || !(is_row || (parts.len() == 1 && parts[0].name == "oft_blocks")) {
        let expected = "oft_blocks, or oft_blocks.0, .1, … without gaps";
        return Err(tensor_error(cx.path, first, expected, format!("{} of them", parts.len())));
    }
    match tensors.get("alpha") {
        Some(alpha) if alpha.len() == 1 => {}
        Some(alpha) => {
            return Err(tensor_error(cx.path, &alpha.name, "one number", format!("shape {:?}", alpha.shape)));
        }
        None => return Err(tensor_error(cx.path, first, "an alpha beside it, which is the constraint", "none")),
    }
    let layer = Layer { parts };
    layer.plan().map_err(|e| tensor_error(cx.path, first, "the blocks of a rotation", e))?;
    Ok(Arc::new(layer))
}

impl Part {
    fn n(&self) -> usize {
        self.blocks.saturating_mul(self.block)
    }

    fn params(&self) -> usize {
        self.blocks.saturating_mul(pairs(self.block))
    }

    /// Upper triangles of q, the factor that the constraint allows, and ‖q‖_F.
    fn q(&self, all: &Numbers) -> Result<(Vec<f64>, f64, f64)> {
        let b = self.block;
        let q = skew_part(b, numbers(all, self.name, self.blocks.saturating_mul(b * b))?, 1.0, |i| i);
        let norm = length(&q);
        let most = all.get("alpha").and_then(|alpha| alpha.first()).map_or(0.0, |alpha| alpha * self.n() as f64);
        Ok((q, (norm.min(most) + EPSILON) / (norm + EPSILON), norm))
    }
}

impl Layer {
    fn n(&self) -> usize {
        self.parts.iter().fold(0, |n, part| n.saturating_add(part.n()))
    }

    fn plan(&self) -> Result<Plan<f64>> {
        let n = self.n();
        let mut first = 0;
        let mut stages = Vec::new();
        for part in &self.parts {
            let layout = if self.parts.len() == 1 {
                StageLayout::contiguous(part.block, part.blocks)
            } else {
                if u32::try_from(n).is_err() {
                    let (what, expected) = ("outputs", "fewer than 2^32".into());
                    return Err(Error::Size { what, expected, got: format!("{n}") });
                }
                let index: Vec<u32> = (first as u32..(first + part.n()) as u32).collect();
                StageLayout::Table { block: part.block, index: index.into() }
            };
            first += part.n();
            stages.push((layout, Source::chart(Cayley)));
        }
        Plan::from_stages(n, stages)
    }

    fn theta(&self, all: &Numbers) -> Result<Vec<f64>> {
        let mut theta = Vec::new();
        for part in &self.parts {
            let (mut q, factor, _) = part.q(all)?;
            q.iter_mut().for_each(|x| *x *= factor);
            if theta.is_empty() {
                theta = q;
            } else {
                theta.extend(q);
            }
        }
        Ok(theta)
    }

    fn at(&self, theta: Vec<f64>) -> Result<Sides> {
        Ok(Sides::left(Orthogonal::owning(self.plan()?, theta)?))
    }
}

impl Form for Layer {
    fn structure(&self) -> Structure {
        Structure {
            method: "kohya OFT".into(),
            side: Side::Output,
            n: Some(self.n()),
            block: self.parts.iter().map(|part| part.block).max().unwrap_or(0),
            stages: 1,
            parameters: self.parts.iter().fold(0, |n, part| n.saturating_add(part.params())),
            outputs: None,
            trained: None,
        }
    }

    fn sides(&self, all: &Numbers, _weight: Option<&[usize]>) -> Result<Sides> {
        self.at(self.theta(all)?)
    }

    fn sides_from(&self, numbers: Numbers, _weight: Option<&[usize]>) -> Result<Sides> {
        let theta = self.theta(&numbers)?;
        drop(numbers);
        self.at(theta)
    }

    fn pull(&self, all: &Numbers, _weight: Option<&[usize]>, gradient: &SidesGradient) -> Result<Numbers> {
        let (mut pulled, mut first) = (Numbers::new(), 0);
        for part in &self.parts {
            let (q, factor, norm) = part.q(all)?;
            let g = gradient.left.get(first..first + q.len()).unwrap_or_default();
            first += q.len();
            // factor = (L + ε)/(‖q‖ + ε) beyond L, else 1.
            let inner: f64 = q.iter().zip(g).map(|(x, g)| x * g).sum();
            let slope = if factor < 1.0 { 2.0 * inner / norm * factor / (norm + EPSILON) } else { 0.0 };
            let d: Vec<f64> = q.iter().zip(g).map(|(x, g)| factor * g - slope * x).collect();
            let mut stored = pull_skew_part(part.block, &d, 1.0, |i| i);
            stored.resize(part.blocks * part.block * part.block, 0.0);
            pulled.insert(part.name, stored);
        }
        Ok(pulled)
    }

    fn check_weight(&self, shape: &[usize]) -> core::result::Result<(), Misfit> {
        match shape.first() {
            Some(out) if *out == self.n() => Ok(()),
            _ => Err(Misfit::new("oft_blocks", format!("blocks for {} outputs", self.n()))),
        }
    }
}
