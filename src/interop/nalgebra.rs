//! nalgebra: the columns of a matrix are a batch of vectors, or its rows; matrices, views and vectors, static and dynamic.
//!
//! No copies, whatever the strides of a view. [`multiply_left()`] and [`multiply_right()`] work in place on any of them.
//!
//! ```
//! use nalgebra::{DMatrix, SMatrix};
//! use papilio::{Op, Orthogonal, Plan, parametrization::Cayley, topology::Butterfly};
//! use papilio::interop::nalgebra::{multiply_left, multiply_right, product};
//!
//! let plan = Plan::<f64>::new(8, &Butterfly::boft(3, 2)?, Cayley)?;
//! let q = Orthogonal::new(plan.clone(), vec![0.2; plan.num_params()])?;
//! let m = SMatrix::<f64, 8, 3>::from_fn(|i, j| (i + j) as f64);
//! let qm = product(&q, &m)?; // Q·M
//! let mut back = qm;
//! multiply_left(&q, Op::Adjoint, &mut back)?; // Qᵀ·Q·M
//! assert!((back - m).norm() < 1e-13);
//! let mut wide = DMatrix::<f64>::identity(8, 8);
//! multiply_right(&q, Op::None, &mut wide)?; // I·Q
//! assert!((wide * m - qm).norm() < 1e-13);
//! # Ok::<(), papilio::Error>(())
//! ```

#![allow(unsafe_code)] // views of other libraries are pointers and strides

use nalgebra::allocator::Allocator;
use nalgebra::{DefaultAllocator, Dim, Matrix, OMatrix, RawStorage, RawStorageMut, Scalar as Entry, Storage};

use crate::batch::{Batch, BatchMut};
use crate::error::{Result, check_length};
use crate::orthogonal::Orthogonal;
use crate::plan::Op;
use crate::scalar::{Element, Scalar};

/// The columns of a matrix, as vectors.
pub fn columns<E: Copy, R: Dim, C: Dim, S: RawStorage<E, R, C>>(matrix: &Matrix<E, R, C, S>) -> Batch<'_, E> {
    let ((rows, columns), (down, across)) = (matrix.shape(), matrix.data.strides());
    // SAFETY: a storage promises that its elements are initialised and lie at these strides from its pointer, in one
    // allocation; they are borrowed with `matrix`.
    unsafe { Batch::from_raw_parts(matrix.data.ptr(), columns, rows, across.value() as isize, down.value() as isize) }
}

/// The rows of a matrix, as vectors.
pub fn rows<E: Copy, R: Dim, C: Dim, S: RawStorage<E, R, C>>(matrix: &Matrix<E, R, C, S>) -> Batch<'_, E> {
    let ((rows, columns), (down, across)) = (matrix.shape(), matrix.data.strides());
    // SAFETY: as in `columns`.
    unsafe { Batch::from_raw_parts(matrix.data.ptr(), rows, columns, down.value() as isize, across.value() as isize) }
}

/// The columns of a matrix, as vectors to be written.
///
/// # Errors
/// [`Error::Overlap`](crate::Error::Overlap) for a storage that names an element twice, which nalgebra's own never do.
pub fn columns_mut<E: Copy, R: Dim, C: Dim, S: RawStorageMut<E, R, C>>(
    matrix: &mut Matrix<E, R, C, S>,
) -> Result<BatchMut<'_, E>> {
    let ((rows, columns), (down, across)) = (matrix.shape(), matrix.data.strides());
    let (down, across) = (down.value() as isize, across.value() as isize);
    // SAFETY: as in `columns`; they are borrowed mutably.
    unsafe { BatchMut::from_raw_parts(matrix.data.ptr_mut(), columns, rows, across, down) }
}

/// The rows of a matrix, as vectors to be written.
///
/// # Errors
/// As [`columns_mut`].
pub fn rows_mut<E: Copy, R: Dim, C: Dim, S: RawStorageMut<E, R, C>>(
    matrix: &mut Matrix<E, R, C, S>,
) -> Result<BatchMut<'_, E>> {
    let ((rows, columns), (down, across)) = (matrix.shape(), matrix.data.strides());
    let (down, across) = (down.value() as isize, across.value() as isize);
    // SAFETY: as in `columns`; they are borrowed mutably.
    unsafe { BatchMut::from_raw_parts(matrix.data.ptr_mut(), rows, columns, down, across) }
}

/// M ← op(Q)·M.
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) unless M has n rows.
pub fn multiply_left<T, R, C, S>(q: &Orthogonal<T>, op: Op, matrix: &mut Matrix<T, R, C, S>) -> Result<()>
where
    T: Scalar + Element<Scalar = T>,
    R: Dim,
    C: Dim,
    S: RawStorageMut<T, R, C>,
{
    check_length("rows of the matrix", q.n(), matrix.nrows())?;
    q.apply_batch_in_place(columns_mut(matrix)?, op)
}

/// M ← M·op(Q).
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) unless M has n columns.
pub fn multiply_right<T, R, C, S>(q: &Orthogonal<T>, op: Op, matrix: &mut Matrix<T, R, C, S>) -> Result<()>
where
    T: Scalar + Element<Scalar = T>,
    R: Dim,
    C: Dim,
    S: RawStorageMut<T, R, C>,
{
    check_length("columns of the matrix", q.n(), matrix.ncols())?;
    // A row r becomes r·Q, so as a column Qᵀ·rᵀ.
    let turned = match op {
        Op::None => Op::Transpose,
        Op::Transpose => Op::None,
        Op::Adjoint => Op::Conj,
        Op::Conj => Op::Adjoint,
    };
    q.apply_batch_in_place(rows_mut(matrix)?, turned)
}

/// Q·M, in a matrix of its own.
///
/// # Errors
/// As [`multiply_left`].
pub fn product<T, R, C, S>(q: &Orthogonal<T>, matrix: &Matrix<T, R, C, S>) -> Result<OMatrix<T, R, C>>
where
    T: Scalar + Element<Scalar = T> + Entry,
    R: Dim,
    C: Dim,
    S: Storage<T, R, C>,
    DefaultAllocator: Allocator<R, C>,
{
    let mut copy = matrix.clone_owned();
    multiply_left(q, Op::None, &mut copy)?;
    Ok(copy)
}
