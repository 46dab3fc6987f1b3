//! faer: the columns of a matrix are a batch of vectors, and operators are those of faer's matrix-free methods.
//!
//! No copies, whatever the strides. For vectors that are rows, transpose the view (`.transpose()`), which moves nothing.
//! [`Orthogonal`] is a [`LinOp`], a [`BiLinOp`], a [`Precond`] and a [`BiPrecond`] that multiplies by Q; so is
//! [`Inverse`](struct@Inverse), which multiplies by Q⁻¹ = Qᴴ.
//!
//! ```
//! use faer::{Mat, dyn_stack::{MemBuffer, MemStack}, Par, matrix_free::LinOp};
//! use papilio::{Op, Orthogonal, Plan, parametrization::Cayley, topology::Butterfly};
//!
//! let plan = Plan::<f64>::new(8, &Butterfly::boft(3, 2)?, Cayley)?;
//! let q = Orthogonal::new(plan.clone(), vec![0.2; plan.num_params()])?;
//! let x = Mat::<f64>::identity(8, 3);
//! let mut y = Mat::<f64>::zeros(8, 3);
//! let mut memory = MemBuffer::new(q.apply_scratch(3, Par::Seq));
//! LinOp::apply(&q, y.as_mut(), x.as_ref(), Par::Seq, MemStack::new(&mut memory));
//! q.apply_batch_in_place(y.as_mut().try_into()?, Op::Adjoint)?;
//! assert!((y - x).norm_l2() < 1e-14);
//! # Ok::<(), papilio::Error>(())
//! ```
//!
//! # Panics
//! The methods of faer's traits have no way to return an error: like faer's own operators they panic if matrices have another
//! size.

#![allow(unsafe_code)] // views of other libraries are pointers and strides

use faer::dyn_stack::{MemStack, StackReq};
use faer::matrix_free::{BiLinOp, BiPrecond, LinOp, Precond};
use faer::traits::ComplexField;
use faer::{MatMut, MatRef, Par};

use crate::batch::{Batch, BatchMut};
use crate::error::{Error, Result};
use crate::orthogonal::Orthogonal;
use crate::parallel::Parallelism;
use crate::plan::{Op, Workspace};
use crate::scalar::{Element, Scalar};

impl<'a, E: Copy> From<MatRef<'a, E>> for Batch<'a, E> {
    /// Its columns.
    fn from(view: MatRef<'a, E>) -> Self {
        // SAFETY: the elements of a view are initialised, lie in one allocation, and are borrowed for 'a.
        unsafe {
            Batch::from_raw_parts(view.as_ptr(), view.ncols(), view.nrows(), view.col_stride(), view.row_stride())
        }
    }
}

impl<'a, E: Copy> TryFrom<MatMut<'a, E>> for BatchMut<'a, E> {
    type Error = Error;

    /// Its columns.
    ///
    /// # Errors
    /// [`Error::Overlap`] for views that name an element twice, which faer's own never do.
    fn try_from(view: MatMut<'a, E>) -> Result<Self> {
        let (columns, rows) = (view.ncols(), view.nrows());
        let (across, down) = (view.col_stride(), view.row_stride());
        // SAFETY: the elements of a mutable view are initialised, lie in one allocation, and are this view's alone for 'a.
        unsafe { BatchMut::from_raw_parts(view.as_ptr_mut(), columns, rows, across, down) }
    }
}

/// Q⁻¹ = Qᴴ as an operator, for methods that want a preconditioner, or the inverse of Q.
#[derive(Debug, Clone, Copy)]
pub struct Inverse<'a, T: Scalar>(pub &'a Orthogonal<T>);

fn threads(par: Par) -> Parallelism {
    // Without faer's own `rayon` there is nothing else.
    if matches!(par, Par::Seq) { Parallelism::None } else { Parallelism::default() }
}

/// out = op(Q)·rhs.
#[track_caller]
fn run<T: Scalar + Element<Scalar = T> + ComplexField>(
    q: &Orthogonal<T>,
    out: MatMut<'_, T>,
    rhs: MatRef<'_, T>,
    op: Op,
    par: Par,
) {
    let mut out = out;
    out.fill(<T as ComplexField>::zero_impl()); // faer's solvers hand over memory that nothing was written to
    let done = BatchMut::try_from(out).and_then(|mut out| {
        q.plan().run(q.factors(), Some(&rhs.into()), &mut out, op, threads(par), &Workspace::new())
    });
    if let Err(e) = done {
        panic!("{e}");
    }
}

/// rhs ← op(Q)·rhs.
#[track_caller]
fn run_in_place<T: Scalar + Element<Scalar = T>>(q: &Orthogonal<T>, rhs: MatMut<'_, T>, op: Op, par: Par) {
    let done = BatchMut::try_from(rhs)
        .and_then(|mut rhs| q.plan().run(q.factors(), None, &mut rhs, op, threads(par), &Workspace::new()));
    if let Err(e) = done {
        panic!("{e}");
    }
}

/// The traits for an operator that does `$op` of the Q that `$q` finds.
macro_rules! operator {
    ($name:ty, |$this:ident| $q:expr, [$none:ident, $conj:ident, $transpose:ident, $adjoint:ident]) => {
        impl<T: Scalar + Element<Scalar = T> + ComplexField> LinOp<T> for $name {
            fn apply_scratch(&self, _rhs_ncols: usize, _par: Par) -> StackReq {
                StackReq::EMPTY
            }

            fn nrows(&self) -> usize {
                let $this = self;
                $q.n()
            }

            fn ncols(&self) -> usize {
                let $this = self;
                $q.n()
            }

            #[track_caller]
            fn apply(&self, out: MatMut<'_, T>, rhs: MatRef<'_, T>, par: Par, _stack: &mut MemStack) {
                let $this = self;
                run($q, out, rhs, Op::$none, par);
            }

            #[track_caller]
            fn conj_apply(&self, out: MatMut<'_, T>, rhs: MatRef<'_, T>, par: Par, _stack: &mut MemStack) {
                let $this = self;
                run($q, out, rhs, Op::$conj, par);
            }
        }

        impl<T: Scalar + Element<Scalar = T> + ComplexField> BiLinOp<T> for $name {
            fn transpose_apply_scratch(&self, _rhs_ncols: usize, _par: Par) -> StackReq {
                StackReq::EMPTY
            }

            #[track_caller]
            fn transpose_apply(&self, out: MatMut<'_, T>, rhs: MatRef<'_, T>, par: Par, _stack: &mut MemStack) {
                let $this = self;
                run($q, out, rhs, Op::$transpose, par);
            }

            #[track_caller]
            fn adjoint_apply(&self, out: MatMut<'_, T>, rhs: MatRef<'_, T>, par: Par, _stack: &mut MemStack) {
                let $this = self;
                run($q, out, rhs, Op::$adjoint, par);
            }
        }

        impl<T: Scalar + Element<Scalar = T> + ComplexField> BiPrecond<T> for $name {
            fn transpose_apply_in_place_scratch(&self, _rhs_ncols: usize, _par: Par) -> StackReq {
                StackReq::EMPTY
            }

            #[track_caller]
            fn transpose_apply_in_place(&self, rhs: MatMut<'_, T>, par: Par, _stack: &mut MemStack) {
                let $this = self;
                run_in_place($q, rhs, Op::$transpose, par);
            }

            #[track_caller]
            fn adjoint_apply_in_place(&self, rhs: MatMut<'_, T>, par: Par, _stack: &mut MemStack) {
                let $this = self;
                run_in_place($q, rhs, Op::$adjoint, par);
            }
        }

        impl<T: Scalar + Element<Scalar = T> + ComplexField> Precond<T> for $name {
            fn apply_in_place_scratch(&self, _rhs_ncols: usize, _par: Par) -> StackReq {
                StackReq::EMPTY
            }

            #[track_caller]
            fn apply_in_place(&self, rhs: MatMut<'_, T>, par: Par, _stack: &mut MemStack) {
                let $this = self;
                run_in_place($q, rhs, Op::$none, par);
            }

            #[track_caller]
            fn conj_apply_in_place(&self, rhs: MatMut<'_, T>, par: Par, _stack: &mut MemStack) {
                let $this = self;
                run_in_place($q, rhs, Op::$conj, par);
            }
        }
    };
}

operator!(Orthogonal<T>, |this| this, [None, Conj, Transpose, Adjoint]);
operator!(Inverse<'_, T>, |this| this.0, [Adjoint, Transpose, Conj, None]);
