//! The inverse of a merge: W = L⁻¹·diag(1/s)·W'·R⁻ᵀ.
//!
//! Exactly orthogonal sides are undone by their transposes, with the error of one application. Others, truncated series above
//! all, by the inverses of their blocks: F⁻¹ = P·diag(B_j⁻¹)·Pᵀ, stages in reverse order.

use std::string::ToString;
use std::vec::Vec;

use super::{Sides, Way, acting_block};
use crate::dense;
use crate::error::{Error, Result};
use crate::orthogonal::Orthogonal;
use crate::parallel::Parallelism;
use crate::plan::{Plan, Source, Workspace};

/// What takes a merge back: the inverses of the rotations, and the factors to divide by.
#[derive(Debug, Clone)]
pub struct Undo(Sides);

impl Sides {
    /// What takes a merge back. Blocks that are not orthogonal are inverted once, here.
    ///
    /// # Errors
    /// [`Error::Domain`] for a singular block or a scale of 0, which no one can undo.
    pub fn inverse(&self) -> Result<Undo> {
        self.clone().into_inverse()
    }

    /// [`inverse`](Self::inverse), with the numbers of these sides where it has the same.
    pub(crate) fn into_inverse(mut self) -> Result<Undo> {
        if let Some(at) = self.scale.iter().flatten().position(|s| *s == 0.0) {
            let (what, expected) = (std::format!("scale of output {at}"), "a factor other than 0, to be undone");
            return Err(Error::Domain { what, expected, got: "0".to_string() });
        }
        self.left = self.left.take().map(inverted).transpose()?;
        self.right = self.right.take().map(inverted).transpose()?;
        Ok(Undo(self))
    }
}

impl Undo {
    /// Whether rows may be taken in portions.
    pub fn is_row_by_row(&self) -> bool {
        self.0.is_row_by_row()
    }

    /// Rows `first ..` of W' become those of W, as [`Sides::rotate_rows`].
    ///
    /// # Errors
    /// Those of [`Sides::rotate_rows`].
    pub fn rotate_rows(&self, first: usize, n: usize, w: &mut [f64], par: Parallelism, ws: &Workspace) -> Result<()> {
        self.0.act_on_rows(Way::Back, (first, n), w, par, ws)
    }

    /// Whether columns may be taken in portions.
    pub fn is_column_by_column(&self) -> bool {
        self.0.is_column_by_column()
    }

    /// Columns `first ..` of W', of so many rows, become those of W, as [`Sides::rotate_columns`].
    ///
    /// # Errors
    /// Those of [`Sides::rotate_columns`].
    pub fn rotate_columns(
        &self,
        first: usize,
        n: usize,
        w: &mut [f64],
        par: Parallelism,
        ws: &Workspace,
    ) -> Result<()> {
        self.0.act_on_columns(Way::Back, (first, n), w, par, ws)
    }

    /// W' becomes W, as [`Sides::merge`].
    ///
    /// # Errors
    /// Those of [`Sides::merge`].
    pub fn merge(&self, shape: &[usize], weight: &mut [f64], par: Parallelism, ws: &Workspace) -> Result<()> {
        self.0.act_on_weight(Way::Back, shape, weight, par, ws)
    }

    /// b' becomes b, as [`Sides::merge_bias`].
    ///
    /// # Errors
    /// Those of [`Sides::merge_bias`].
    pub fn merge_bias(&self, bias: &mut [f64], ws: &Workspace) -> Result<()> {
        self.0.act_on_bias(Way::Back, bias, ws)
    }

    /// The sides with the inverse rotations, for [`Way::Back`].
    pub(crate) fn into_sides(self) -> Sides {
        self.0
    }
}

/// Q⁻¹: Qᵀ if every stage is orthogonal.
fn inverted(q: Orthogonal<f64>) -> Result<Orthogonal<f64>> {
    if q.plan().is_exact() {
        return Ok(q.into_adjoint());
    }
    let mut stages = Vec::new();
    for (k, stage) in q.plan().stages().iter().enumerate().rev() {
        if stage.vectors().is_some() {
            // Reflections undo themselves in reverse order: those of a plan that has series beside them are turned alone.
            let (what, expected) = ("inverse of an adapter", "reflections without series beside them");
            return Err(Error::Unsupported { what, expected, got: std::format!("both, in stage {k}") });
        }
        let b = stage.layout().block_size();
        let mut inverses = Vec::new();
        for j in 0..stage.layout().num_blocks() {
            let mut block = acting_block(&q, k, j)?;
            let mut inverse: Vec<f64> = (0..b * b).map(|at| f64::from(u8::from(at.is_multiple_of(b + 1)))).collect();
            dense::solve(b, &mut block, &mut inverse).map_err(|_| Error::Domain {
                what: std::format!("block {j} of stage {k}"),
                expected: "an invertible block, to be undone",
                got: "a singular one".to_string(),
            })?;
            inverses.extend(inverse);
        }
        stages.push((stage.layout().clone(), Source::Fixed(inverses.into())));
    }
    Orthogonal::new::<f64>(Plan::from_stages(q.n(), stages)?, [])
}
