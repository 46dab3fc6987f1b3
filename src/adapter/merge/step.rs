//! One adapter's effect on one tensor, or what takes it back.

use std::vec::Vec;

use super::Strength;
use super::resolve::Part;
use crate::adapter::{Side, Sides, Undo};
use crate::error::Result;
use crate::parallel::Parallelism;
use crate::plan::Workspace;

/// One adapter's effect on one tensor.
pub(super) enum Step {
    Merge(Sides),
    Undo(Undo),
}

/// How much of an adapter, and which way.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    pub(super) strength: Strength,
    pub(super) undo: bool,
}

/// The effects of several adapters on a weight of this shape, in the order in which they act, and the largest of their defects.
pub(super) fn steps(parts: &[Part<'_>], shape: &[usize], how: How) -> Result<(Vec<Step>, f64)> {
    let (mut steps, mut defect) = (Vec::with_capacity(parts.len()), 0.0f64);
    for part in parts {
        let sides = part.sides(shape, how.strength)?;
        sides.matrix(shape)?;
        let own = sides.defect()?;
        defect = if own.is_nan() { f64::INFINITY } else { defect.max(own) };
        steps.push(if how.undo { Step::Undo(sides.inverse()?) } else { Step::Merge(sides) });
    }
    if how.undo {
        steps.reverse();
    }
    Ok((steps, defect))
}

impl Part<'_> {
    /// Size of the rotated space in a weight of this shape.
    pub(super) fn size(&self, shape: &[usize]) -> usize {
        match self.layer.structure().side {
            Side::Output => shape.first().copied().unwrap_or(0),
            Side::Input => shape.iter().skip(1).product(),
        }
    }

    /// The sides of the layer for a weight of this shape, at some strength.
    pub(super) fn sides(&self, shape: &[usize], strength: Strength) -> Result<Sides> {
        let numbers = self.adapter.numbers(self.layer)?;
        let form = &self.layer.form;
        let whole = || form.sides(&numbers, Some(shape));
        match strength {
            Strength::Whole => whole(),
            Strength::Fraction(t) => form.interpolate(&numbers, Some(shape), t),
            Strength::LinearBlend(t) => whole()?.blend(t),
            Strength::Stages(k) => form.truncate(&numbers, Some(shape), k),
        }
    }
}

impl Step {
    pub(super) fn is_row_by_row(&self) -> bool {
        match self {
            Self::Merge(sides) => sides.is_row_by_row(),
            Self::Undo(undo) => undo.is_row_by_row(),
        }
    }

    pub(super) fn rotate_rows(&self, first: usize, n: usize, rows: &mut [f64], ws: &Workspace) -> Result<()> {
        match self {
            Self::Merge(sides) => sides.rotate_rows(first, n, rows, Parallelism::None, ws),
            Self::Undo(undo) => undo.rotate_rows(first, n, rows, Parallelism::None, ws),
        }
    }

    /// Acts on a whole tensor: a weight, or a bias that turns along.
    pub(super) fn act(
        &self,
        (shape, is_bias): (&[usize], bool),
        numbers: &mut [f64],
        par: Parallelism,
        ws: &Workspace,
    ) -> Result<()> {
        match self {
            Self::Merge(sides) if is_bias => sides.merge_bias(numbers, ws),
            Self::Merge(sides) => sides.merge(shape, numbers, par, ws),
            Self::Undo(undo) if is_bias => undo.merge_bias(numbers, ws),
            Self::Undo(undo) => undo.merge(shape, numbers, par, ws),
        }
    }
}
