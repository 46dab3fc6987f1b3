//! One adapter's effect on one tensor, or what takes it back.

use std::vec::Vec;

use super::Strength;
use super::resolve::Part;
use crate::adapter::sides::Way;
use crate::adapter::{Side, Sides};
use crate::error::Result;
use crate::parallel::Parallelism;
use crate::plan::Workspace;

/// One adapter's effect on one tensor: its sides, or those of the inverse rotations and the way back.
pub(super) struct Step {
    sides: Sides,
    way: Way,
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
        let sides = part.sides(shape, how.strength)?.shed();
        sides.matrix(shape)?;
        defect = defect.max(defect_of(&sides)?);
        steps.push(match how.undo {
            true => Step { sides: sides.into_inverse()?.into_sides(), way: Way::Back },
            false => Step::merging(sides),
        });
    }
    if how.undo {
        steps.reverse();
    }
    Ok((steps, defect))
}

/// The bound of [`Sides::defect`]; infinite if it is none.
pub(super) fn defect_of(sides: &Sides) -> Result<f64> {
    sides.defect().map(|defect| if defect.is_nan() { f64::INFINITY } else { defect })
}

/// How a weight may be taken to pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// In rows: no step mixes them.
    Rows,
    /// In columns of a matrix of so many rows and columns.
    Columns(usize, usize),
    /// Not at all: one step mixes rows, another one columns.
    Whole,
}

impl Cut {
    /// How these steps leave a weight of this shape to be cut.
    pub(super) fn of(steps: &[Step], shape: &[usize]) -> Self {
        if steps.iter().all(Step::is_row_by_row) {
            return Self::Rows;
        }
        let mut matrices = steps.iter().map(|step| step.columns(shape));
        match matrices.next().flatten() {
            Some(first) if matrices.all(|other| other == Some(first)) => Self::Columns(first.0, first.1),
            _ => Self::Whole,
        }
    }
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
        match strength {
            Strength::Whole => form.sides_from(numbers, Some(shape)),
            Strength::Fraction(t) => form.interpolate(&numbers, Some(shape), t),
            Strength::LinearBlend(t) => form.sides_from(numbers, Some(shape))?.blend(t),
            Strength::Stages(k) => form.truncate(&numbers, Some(shape), k),
        }
    }
}

impl Step {
    pub(super) fn merging(sides: Sides) -> Self {
        Self { sides, way: Way::Forth }
    }

    pub(super) fn is_row_by_row(&self) -> bool {
        self.sides.is_row_by_row()
    }

    pub(super) fn rotate_rows(&self, first: usize, n: usize, rows: &mut [f64], ws: &Workspace) -> Result<()> {
        self.sides.act_on_rows(self.way, (first, n), rows, Parallelism::None, ws)
    }

    /// Rows and columns of the matrix that a weight is taken for, if its columns may be taken in portions.
    fn columns(&self, shape: &[usize]) -> Option<(usize, usize)> {
        self.sides.matrix(shape).ok().filter(|_| self.sides.is_column_by_column())
    }

    pub(super) fn rotate_columns(
        &self,
        first: usize,
        rows: usize,
        columns: &mut [f64],
        par: Parallelism,
        ws: &Workspace,
    ) -> Result<()> {
        self.sides.act_on_columns(self.way, (first, rows), columns, par, ws)
    }

    /// Acts on a whole tensor: a weight, or a bias that turns along.
    pub(super) fn act(
        &self,
        (shape, is_bias): (&[usize], bool),
        numbers: &mut [f64],
        par: Parallelism,
        ws: &Workspace,
    ) -> Result<()> {
        match is_bias {
            true => self.sides.act_on_bias(self.way, numbers, ws),
            false => self.sides.act_on_weight(self.way, shape, numbers, par, ws),
        }
    }
}
