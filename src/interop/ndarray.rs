//! ndarray: the rows of a two-dimensional array are a batch of vectors, a one-dimensional array is one vector.
//!
//! Any strides, negative ones included, and no copies. For vectors that are columns, transpose the view (`.t()`,
//! `.reversed_axes()`), which moves nothing.
//!
//! ```
//! use ndarray::Array2;
//! use papilio::{Batch, BatchMut, Op, Orthogonal, Plan, parametrization::Cayley, topology::Butterfly};
//!
//! let plan = Plan::<f32>::new(8, &Butterfly::boft(3, 2)?, Cayley)?;
//! let q = Orthogonal::new(plan.clone(), vec![0.2; plan.num_params()])?;
//! let x = Array2::<f32>::ones((5, 8));
//! let mut y = Array2::zeros((5, 8));
//! q.apply_batch(x.view().into(), y.view_mut().try_into()?, Op::None)?; // y = x Qᵀ: every row is turned
//! q.apply_batch_in_place(y.view_mut().try_into()?, Op::Adjoint)?;
//! assert!(x.iter().zip(&y).all(|(x, y)| (x - y).abs() < 1e-6));
//! let columns: Batch<'_, f32> = x.t().into(); // 8 vectors of length 5
//! assert_eq!((columns.batch(), columns.n()), (8, 5));
//! # Ok::<(), papilio::Error>(())
//! ```

#![allow(unsafe_code)] // views of other libraries are pointers and strides

use ndarray::{ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2};

use crate::batch::{Batch, BatchMut};
use crate::error::{Error, Result};

impl<'a, E: Copy> From<ArrayView2<'a, E>> for Batch<'a, E> {
    /// Its rows.
    fn from(view: ArrayView2<'a, E>) -> Self {
        let (&[batch, n], &[b, e]) = (view.shape(), view.strides()) else { unreachable!("two axes") };
        // SAFETY: the elements of a view are initialised, lie in one allocation, and are borrowed for 'a.
        unsafe { Batch::from_raw_parts(view.as_ptr(), batch, n, b, e) }
    }
}

impl<'a, E: Copy> From<ArrayView1<'a, E>> for Batch<'a, E> {
    /// One vector.
    fn from(view: ArrayView1<'a, E>) -> Self {
        // SAFETY: as above; with one vector the first stride is never used.
        unsafe { Batch::from_raw_parts(view.as_ptr(), 1, view.len(), 0, view.strides()[0]) }
    }
}

impl<'a, E: Copy> TryFrom<ArrayViewMut2<'a, E>> for BatchMut<'a, E> {
    type Error = Error;

    /// Its rows.
    ///
    /// # Errors
    /// [`Error::Overlap`] for views that name an element twice, which ndarray's own never do.
    fn try_from(mut view: ArrayViewMut2<'a, E>) -> Result<Self> {
        let (&[batch, n], &[b, e]) = (view.shape(), view.strides()) else { unreachable!("two axes") };
        // SAFETY: the elements of a mutable view are initialised, lie in one allocation, and are this view's alone for 'a.
        unsafe { BatchMut::from_raw_parts(view.as_mut_ptr(), batch, n, b, e) }
    }
}

impl<'a, E: Copy> TryFrom<ArrayViewMut1<'a, E>> for BatchMut<'a, E> {
    type Error = Error;

    /// One vector.
    ///
    /// # Errors
    /// As for two axes.
    fn try_from(mut view: ArrayViewMut1<'a, E>) -> Result<Self> {
        let (n, e) = (view.len(), view.strides()[0]);
        // SAFETY: as above.
        unsafe { BatchMut::from_raw_parts(view.as_mut_ptr(), 1, n, 0, e) }
    }
}
