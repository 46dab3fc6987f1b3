//! A frozen weight W and the two products that a layer takes with it: x Wᵀ on the way forward, g W on the way back.
//!
//! The products are faer's, on one thread, and cut into pieces by their shapes alone: at most [`ROWS`] vectors by
//! [`OUTPUTS`] numbers of each. So threads never change bits. (The bits of a vector may depend on how many others
//! there are: a matrix product sums in another order than a product with one vector.)

use std::string::ToString;
use std::sync::Arc;
use std::vec::Vec;

use faer::{MatMut, MatRef};

use crate::error::{Error, Result, check_length};
use crate::parallel::{Parallelism, for_each};
use crate::scalar::Real;

const ROWS: usize = 256;
const OUTPUTS: usize = 1024;

/// A real scalar with a dense product: `f32` or `f64`.
pub trait Dense: Real {
    /// y ← x·m for row-major x `[rows, inner]` and y.
    #[doc(hidden)]
    fn product(x: MatRef<'_, Self>, m: MatRef<'_, Self>, y: MatMut<'_, Self>);
}

macro_rules! dense {
    ($t:ident) => {
        impl Dense for $t {
            fn product(x: MatRef<'_, $t>, m: MatRef<'_, $t>, y: MatMut<'_, $t>) {
                faer::linalg::matmul::matmul(y, faer::Accum::Replace, x, m, 1.0, faer::Par::Seq);
            }
        }
    };
}
dense!(f32);
dense!(f64);

/// The frozen weight of a layer, row-major `[outputs, inputs]`. Clones share it.
#[derive(Debug, Clone)]
pub struct Weight<T> {
    data: Arc<[T]>,
    outputs: usize,
    inputs: usize,
}

impl<T: Dense> Weight<T> {
    /// From its numbers, row after row.
    ///
    /// # Errors
    /// [`Error::Size`] unless both sizes are at least 1, [`Error::Length`] unless there are outputs·inputs numbers.
    pub fn new(data: impl Into<Arc<[T]>>, outputs: usize, inputs: usize) -> Result<Self> {
        let (data, len) = (data.into(), outputs.checked_mul(inputs).unwrap_or(0));
        if len == 0 {
            return Err(Error::Size {
                what: "weight",
                expected: "at least one output and one input, and a product of both that fits the memory".to_string(),
                got: std::format!("{outputs} x {inputs}"),
            });
        }
        check_length("weight", len, data.len())?;
        Ok(Self { data, outputs, inputs })
    }

    /// Its numbers, row-major.
    pub fn data(&self) -> &[T] {
        &self.data
    }

    /// Number of rows.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Number of columns.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// y ← x Wᵀ: `x` is `[batch, inputs]`, `y`, which is overwritten, `[batch, outputs]`.
    ///
    /// # Errors
    /// [`Error::Length`] unless both are whole rows of the same batch.
    pub fn forward(&self, x: &[T], y: &mut [T], parallelism: Parallelism) -> Result<()> {
        let batch = rows("x", x.len(), self.inputs)?;
        check_length("y", batch * self.outputs, y.len())?;
        let matrix = MatRef::from_column_major_slice(&self.data, self.inputs, self.outputs); // Wᵀ
        multiply(x, matrix, y, batch, parallelism);
        Ok(())
    }

    /// x ← g W: `g` is `[batch, outputs]`, `x`, which is overwritten, `[batch, inputs]`.
    ///
    /// # Errors
    /// [`Error::Length`] unless both are whole rows of the same batch.
    pub fn backward(&self, g: &[T], x: &mut [T], parallelism: Parallelism) -> Result<()> {
        let batch = rows("gradient of y", g.len(), self.outputs)?;
        check_length("gradient of x", batch * self.inputs, x.len())?;
        let matrix = MatRef::from_row_major_slice(&self.data, self.outputs, self.inputs);
        multiply(g, matrix, x, batch, parallelism);
        Ok(())
    }
}

/// The number of rows of `width` numbers.
pub(super) fn rows(what: &'static str, len: usize, width: usize) -> Result<usize> {
    check_length(what, len.next_multiple_of(width), len)?;
    Ok(len / width)
}

/// y ← x·m in pieces.
fn multiply<T: Dense>(x: &[T], m: MatRef<'_, T>, y: &mut [T], batch: usize, parallelism: Parallelism) {
    let x = MatRef::from_row_major_slice(x, batch, m.nrows());
    let mut rest = MatMut::from_row_major_slice_mut(y, batch, m.ncols());
    let mut pieces = Vec::new();
    for row in (0..batch).step_by(ROWS) {
        let (mut strip, below) = rest.split_at_row_mut(ROWS.min(batch - row));
        rest = below;
        for column in (0..m.ncols()).step_by(OUTPUTS) {
            let (piece, right) = strip.split_at_col_mut(OUTPUTS.min(m.ncols() - column));
            strip = right;
            pieces.push((row, column, piece));
        }
    }
    for_each(parallelism, pieces, |(row, column, piece)| {
        let (height, width) = (piece.nrows(), piece.ncols());
        T::product(x.subrows(row, height), m.subcols(column, width), piece);
    });
}
