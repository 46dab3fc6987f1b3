//! What sides do to a weight or a bias, W' = diag(s)·L·W·Rᵀ, and what takes it back.
//!
//! The way back is that of the inverse rotations with s first, and divided by. Without L rows are independent, without R columns
//! are, so either may come in portions.

use std::vec::Vec;

use super::{Sides, View};
use crate::batch::BatchMut;
use crate::error::{Error, Result, check_length};
use crate::orthogonal::Orthogonal;
use crate::parallel::Parallelism;
use crate::plan::{Op, Workspace};

/// Whether sides act, or, having the inverse rotations, take back what they did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Forth,
    Back,
}

impl Sides {
    /// Whether rows of W become the same rows of W', so that they may be taken in portions.
    pub fn is_row_by_row(&self) -> bool {
        self.left.is_none() && self.view == View::Weight
    }

    /// Rows `first ..` of W become the same rows of W'; `rows` is row-major `[count, n]`, n the length of a row.
    ///
    /// # Errors
    /// [`Error::Unsupported`] unless [`is_row_by_row`](Self::is_row_by_row); [`Error::Length`] if `rows` is not whole rows or
    /// reaches beyond the last scale.
    pub fn rotate_rows(
        &self,
        first: usize,
        n: usize,
        rows: &mut [f64],
        par: Parallelism,
        ws: &Workspace,
    ) -> Result<()> {
        self.act_on_rows(Way::Forth, (first, n), rows, par, ws)
    }

    /// Whether columns of the matrix may be taken in portions.
    pub fn is_column_by_column(&self) -> bool {
        self.right.is_none()
    }

    /// Columns `first ..` of the [matrix](Self::matrix) become the same columns of W'; `columns` is row-major
    /// `[rows, count]`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] unless [`is_column_by_column`](Self::is_column_by_column); [`Error::Length`] if `columns` is
    /// not whole columns, or there are more or fewer factors of s.
    pub fn rotate_columns(
        &self,
        first: usize,
        rows: usize,
        columns: &mut [f64],
        par: Parallelism,
        ws: &Workspace,
    ) -> Result<()> {
        self.act_on_columns(Way::Forth, (first, rows), columns, par, ws)
    }

    /// W becomes W'; `weight` holds all numbers of a tensor of this shape.
    ///
    /// # Errors
    /// Those of [`matrix`](Self::matrix); [`Error::Length`] if there are more or fewer numbers.
    pub fn merge(&self, shape: &[usize], weight: &mut [f64], par: Parallelism, ws: &Workspace) -> Result<()> {
        self.act_on_weight(Way::Forth, shape, weight, par, ws)
    }

    /// b becomes b'.
    ///
    /// # Errors
    /// [`Error::Length`] unless there is one number for each output.
    pub fn merge_bias(&self, bias: &mut [f64], ws: &Workspace) -> Result<()> {
        self.act_on_bias(Way::Forth, bias, ws)
    }

    /// [`rotate_rows`](Self::rotate_rows), either way.
    pub(crate) fn act_on_rows(
        &self,
        way: Way,
        (first, n): (usize, usize),
        rows: &mut [f64],
        par: Parallelism,
        ws: &Workspace,
    ) -> Result<()> {
        if !self.is_row_by_row() {
            return Err(mixed("some rows of a weight", "an adapter that leaves the outputs alone", "rows"));
        }
        let count = rows.len() / n.max(1);
        check_length("rows", count * n, rows.len())?;
        let scale = match &self.scale {
            None => &[][..],
            Some(scale) => {
                let own = scale.get(first..).and_then(|s| s.get(..count)).unwrap_or_default();
                check_length("scale factors for these rows", count, own.len())?;
                own
            }
        };
        let stretch = |rows: &mut [f64]| {
            for (row, s) in rows.chunks_exact_mut(n.max(1)).zip(scale) {
                row.iter_mut().for_each(|w| way.stretch(w, *s));
            }
        };
        if way == Way::Back {
            stretch(rows);
        }
        if let Some(right) = &self.right {
            run(right, &mut BatchMut::rows(rows, n)?, Op::None, par, ws)?;
        }
        if way == Way::Forth {
            stretch(rows);
        }
        Ok(())
    }

    /// [`rotate_columns`](Self::rotate_columns), either way.
    pub(crate) fn act_on_columns(
        &self,
        way: Way,
        (first, rows): (usize, usize),
        columns: &mut [f64],
        par: Parallelism,
        ws: &Workspace,
    ) -> Result<()> {
        if !self.is_column_by_column() {
            return Err(mixed("some columns of a weight", "an adapter that leaves the inputs alone", "columns"));
        }
        let count = columns.len() / rows.max(1);
        check_length("columns", count * rows, columns.len())?;
        if let Some(scale) = &self.scale {
            let end = first.saturating_add(count);
            let (wanted, found) = match self.view {
                View::Weight => (rows, scale.len()),
                View::Reinterpreted => (end, end.min(scale.len())),
            };
            check_length("scale factors for these columns", wanted, found)?;
        }
        if way == Way::Back {
            self.stretch(way, first, count, columns);
        }
        if let Some(left) = &self.left {
            run(left, &mut BatchMut::columns(columns, rows)?, Op::None, par, ws)?;
        }
        if way == Way::Forth {
            self.stretch(way, first, count, columns);
        }
        Ok(())
    }

    /// [`merge`](Self::merge), either way.
    pub(crate) fn act_on_weight(
        &self,
        way: Way,
        shape: &[usize],
        weight: &mut [f64],
        par: Parallelism,
        ws: &Workspace,
    ) -> Result<()> {
        let (rows, columns) = self.matrix(shape)?;
        check_length("weight", rows.saturating_mul(columns), weight.len())?;
        if weight.is_empty() {
            return Ok(());
        }
        let inputs = |weight: &mut [f64]| match &self.right {
            Some(right) => run(right, &mut BatchMut::rows(weight, columns)?, Op::None, par, ws),
            None => Ok(()),
        };
        let outputs = |weight: &mut [f64]| match &self.left {
            Some(left) => run(left, &mut BatchMut::columns(weight, rows)?, Op::None, par, ws),
            None => Ok(()),
        };
        match way {
            Way::Forth => {
                inputs(weight)?;
                outputs(weight)?;
                self.stretch(way, 0, columns, weight);
            }
            Way::Back => {
                self.stretch(way, 0, columns, weight);
                outputs(weight)?;
                inputs(weight)?;
            }
        }
        Ok(())
    }

    /// [`merge_bias`](Self::merge_bias), either way.
    pub(crate) fn act_on_bias(&self, way: Way, bias: &mut [f64], ws: &Workspace) -> Result<()> {
        if !self.turns_bias {
            return Ok(());
        }
        for size in [self.left.as_ref().map(Orthogonal::n), self.scale.as_ref().map(Vec::len)].into_iter().flatten() {
            check_length("bias", size, bias.len())?;
        }
        let stretch = |bias: &mut [f64]| {
            bias.iter_mut().zip(self.scale.iter().flatten()).for_each(|(b, s)| way.stretch(b, *s));
        };
        if way == Way::Back {
            stretch(bias);
        }
        if let Some(left) = &self.left {
            run(left, &mut BatchMut::rows(bias, left.n())?, Op::None, Parallelism::None, ws)?;
        }
        if way == Way::Forth {
            stretch(bias);
        }
        Ok(())
    }

    /// Every number of columns `first ..` of the matrix, row-major with `count` numbers in a row, times its factor, or over it.
    pub(super) fn stretch(&self, way: Way, first: usize, count: usize, columns: &mut [f64]) {
        let Some(scale) = &self.scale else { return };
        for (i, row) in columns.chunks_exact_mut(count.max(1)).enumerate() {
            match self.view {
                View::Weight => row.iter_mut().for_each(|w| way.stretch(w, scale[i])),
                View::Reinterpreted => row.iter_mut().zip(&scale[first..]).for_each(|(w, s)| way.stretch(w, *s)),
            }
        }
    }
}

impl Way {
    #[inline]
    fn stretch(self, w: &mut f64, s: f64) {
        match self {
            Self::Forth => *w *= s,
            Self::Back => *w /= s,
        }
    }
}

pub(super) fn run(
    q: &Orthogonal<f64>,
    y: &mut BatchMut<'_, f64>,
    op: Op,
    par: Parallelism,
    ws: &Workspace,
) -> Result<()> {
    q.plan().run(q.factors(), None, y, op, par, ws)
}

fn mixed(what: &'static str, expected: &'static str, got: &str) -> Error {
    Error::Unsupported { what, expected, got: std::format!("one that mixes {got}") }
}
