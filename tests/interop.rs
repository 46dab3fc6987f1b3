//! Views and operators of faer, nalgebra and ndarray, against dense products.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::matrix_free::{BiLinOp, LinOp, Precond, bicgstab};
use faer::{Mat, MatRef, Par};
use nalgebra::{DMatrix, SMatrix};
use ndarray::{Array1, Array2, s};
use papilio::generator::Generator;
use papilio::interop::{faer as of_faer, nalgebra as of_nalgebra};
use papilio::parametrization::Cayley;
use papilio::topology::{AnyButterfly, Butterfly};
use papilio::{Batch, BatchMut, Error, Op, Orthogonal, Plan, Scalar, c64};

const N: usize = 8;

fn rotation() -> Orthogonal<f64> {
    let plan = Plan::new(N, &Butterfly::boft(3, 2).unwrap(), Cayley).unwrap();
    let theta: Vec<f64> = (0..plan.num_params()).map(|i| (1.3 * i as f64).sin()).collect();
    Orthogonal::new(plan, theta).unwrap()
}

fn unitary() -> Orthogonal<c64> {
    let plan = Plan::new(N, &AnyButterfly::new(2), Cayley).unwrap();
    let theta: Vec<f64> = (0..plan.num_params()).map(|i| (0.7 * i as f64).cos()).collect();
    Orthogonal::new(plan, theta).unwrap()
}

fn dense<T: Scalar + papilio::Element<Scalar = T> + nalgebra::Scalar>(q: &Orthogonal<T>) -> DMatrix<T> {
    DMatrix::from_row_slice(q.n(), q.n(), &q.to_dense().unwrap())
}

fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut g = Generator::new(seed);
    move || g.uniform() - 0.5
}

#[test]
fn rows_of_ndarray_are_vectors_whatever_their_strides() {
    let (q, mut next) = (rotation(), noise(1));
    let matrix = dense(&q);
    let big = Array2::from_shape_fn((11, 2 * N + 3), |_| next());
    for step in [1, 2, -1, -2] {
        let view = big.slice(s![..;3, 1..1 + 2 * N;step]);
        let width = view.shape()[1].min(N);
        let view = view.slice(s![.., ..width]);
        let mut y = Array2::zeros((view.nrows(), N));
        q.apply_batch(view.into(), y.slice_mut(s![.., ..;-1]).try_into().unwrap(), Op::None).unwrap();
        for (x, y) in view.rows().into_iter().zip(y.rows()) {
            let want = &matrix * nalgebra::DVector::from_iterator(N, x.iter().copied());
            assert!((0..N).all(|i| (want[i] - y[N - 1 - i]).abs() < 1e-14), "step {step}");
        }
    }
    // One vector, columns, nothing.
    let x = Array1::from_shape_fn(2 * N, |_| next());
    let mut y = Array1::zeros(N);
    q.apply_batch(x.slice(s![..;2]).into(), y.view_mut().try_into().unwrap(), Op::None).unwrap();
    let want = &matrix * nalgebra::DVector::from_fn(N, |i, _| x[2 * i]);
    assert!((0..N).all(|i| (want[i] - y[i]).abs() < 1e-14));
    let columns: Batch<'_, f64> = big.t().into();
    assert_eq!((columns.batch(), columns.n(), columns.get(2, 1)), (2 * N + 3, 11, Some(big[[1, 2]])));
    let mut empty = Array2::<f64>::zeros((0, N));
    q.apply_batch_in_place(empty.view_mut().try_into().unwrap(), Op::None).unwrap();
    let mut short = Array2::<f64>::zeros((3, N - 1));
    let refused = q.apply_batch_in_place(short.view_mut().try_into().unwrap(), Op::None);
    assert!(matches!(refused, Err(Error::Length { .. })));
}

#[test]
fn products_of_nalgebra_are_those_of_dense_matrices() {
    let (q, u, mut next) = (rotation(), unitary(), noise(2));
    let matrix = dense(&q);
    let m = SMatrix::<f64, N, 5>::from_fn(|_, _| next());
    assert!((of_nalgebra::product(&q, &m).unwrap() - &matrix * m).norm() < 1e-13);
    let complex = dense(&u);
    let start = DMatrix::<c64>::from_fn(N + 2, N + 3, |_, _| c64::new(next(), next()));
    for op in Op::ALL {
        let acting = match op {
            Op::None => complex.clone(),
            Op::Adjoint => complex.adjoint(),
            Op::Transpose => complex.transpose(),
            Op::Conj => complex.conjugate(),
        };
        // Views with strides, and what lies around them stays.
        let mut left = start.clone();
        of_nalgebra::multiply_left(&u, op, &mut left.view_with_steps_mut((1, 0), (N, 3), (0, 1))).unwrap();
        let mut want = start.clone();
        let turned = &acting * start.view_with_steps((1, 0), (N, 3), (0, 1));
        want.view_with_steps_mut((1, 0), (N, 3), (0, 1)).copy_from(&turned);
        assert!((left - want).norm() < 1e-13, "{op:?}");
        let mut right = start.clone();
        of_nalgebra::multiply_right(&u, op, &mut right.view_mut((0, 2), (N, N))).unwrap();
        let mut want = start.clone();
        want.view_mut((0, 2), (N, N)).copy_from(&(start.view((0, 2), (N, N)) * &acting));
        assert!((right - want).norm() < 1e-13, "{op:?}");
    }
    let mut short = DMatrix::<f64>::zeros(N - 1, N);
    assert!(matches!(of_nalgebra::multiply_left(&q, Op::None, &mut short), Err(Error::Length { .. })));
    assert!(of_nalgebra::multiply_right(&q, Op::None, &mut short).is_ok());
    assert!(of_nalgebra::multiply_left(&q, Op::None, &mut DMatrix::<f64>::zeros(N, 0)).is_ok());
    let (rows, columns) = (of_nalgebra::rows(&short), of_nalgebra::columns(&short));
    assert_eq!((rows.batch(), rows.n(), columns.batch(), columns.n()), (N - 1, N, N, N - 1));
}

#[test]
fn operators_of_faer_are_those_of_dense_matrices() {
    let (u, mut next) = (unitary(), noise(3));
    let inverse = of_faer::Inverse(&u);
    let matrix = dense(&u);
    let matrix = Mat::from_fn(N, N, |i, j| matrix[(i, j)]);
    let x = Mat::from_fn(N, 4, |_, _| c64::new(next(), next()));
    let near = |what: &str, got: MatRef<'_, c64>, want: Mat<c64>| {
        assert!((got - want).norm_l2() < 1e-13, "{what}");
    };
    let mut memory = MemBuffer::new(u.apply_scratch(4, Par::Seq));
    let stack = MemStack::new(&mut memory);
    let mut y = Mat::<c64>::zeros(N, 4);
    let (conjugate, transpose, adjoint) =
        (matrix.conjugate().to_owned(), matrix.transpose().to_owned(), matrix.adjoint().to_owned());
    assert_eq!((LinOp::nrows(&u), LinOp::ncols(&inverse)), (N, N));
    LinOp::apply(&u, y.as_mut(), x.as_ref(), Par::Seq, stack);
    near("Q", y.as_ref(), &matrix * &x);
    LinOp::conj_apply(&u, y.as_mut(), x.as_ref(), Par::Seq, stack);
    near("conj", y.as_ref(), &conjugate * &x);
    BiLinOp::transpose_apply(&u, y.as_mut(), x.as_ref(), Par::Seq, stack);
    near("transpose", y.as_ref(), &transpose * &x);
    BiLinOp::adjoint_apply(&u, y.as_mut(), x.as_ref(), Par::Seq, stack);
    near("adjoint", y.as_ref(), &adjoint * &x);
    LinOp::apply(&inverse, y.as_mut(), x.as_ref(), Par::Seq, stack);
    near("inverse", y.as_ref(), &adjoint * &x);
    LinOp::conj_apply(&inverse, y.as_mut(), x.as_ref(), Par::Seq, stack);
    near("conj of the inverse", y.as_ref(), &transpose * &x);
    BiLinOp::transpose_apply(&inverse, y.as_mut(), x.as_ref(), Par::Seq, stack);
    near("transpose of the inverse", y.as_ref(), &conjugate * &x);
    BiLinOp::adjoint_apply(&inverse, y.as_mut(), x.as_ref(), Par::Seq, stack);
    near("adjoint of the inverse", y.as_ref(), &matrix * &x);
    // In place, in a view with strides; rows by the transpose.
    let mut z = Mat::<c64>::zeros(4, N);
    z.as_mut().transpose_mut().copy_from(&x);
    Precond::apply_in_place(&u, z.as_mut().transpose_mut(), Par::Seq, stack);
    near("in place", z.transpose(), &matrix * &x);
    Precond::conj_apply_in_place(&inverse, z.as_mut().transpose_mut(), Par::Seq, stack);
    near("in place again", z.transpose(), &transpose * (&matrix * &x));
    let batch: BatchMut<'_, c64> = z.as_mut().transpose_mut().try_into().unwrap();
    assert_eq!((batch.batch(), batch.n()), (4, N));
}

/// The inverse as preconditioner makes a system with Q the identity.
#[test]
fn solvers_of_faer_take_operators() {
    let (q, mut next) = (rotation(), noise(4));
    let inverse = of_faer::Inverse(&q);
    let rhs = Mat::from_fn(N, 2, |_, _| next());
    let mut x = Mat::<f64>::zeros(N, 2);
    let scratch = bicgstab::bicgstab_scratch(inverse, inverse, &q, 2, Par::Seq);
    let mut memory = MemBuffer::new(scratch);
    let identity = faer::matrix_free::IdentityPrecond { dim: N };
    let params = bicgstab::BicgParams::default(); // from x = 0
    let info = bicgstab::bicgstab(
        x.as_mut(),
        inverse,
        identity,
        &q,
        rhs.as_ref(),
        params,
        |_| {},
        Par::Seq,
        MemStack::new(&mut memory),
    );
    let info = info.unwrap();
    assert!(info.iter_count <= 2, "{info:?}");
    let mut memory = MemBuffer::new(q.apply_scratch(2, Par::Seq));
    let mut back = Mat::<f64>::zeros(N, 2);
    LinOp::apply(&q, back.as_mut(), x.as_ref(), Par::Seq, MemStack::new(&mut memory));
    assert!((back - rhs).norm_l2() < 1e-12);
}

/// Nothing, one row, rows and columns backwards.
#[test]
fn awkward_views_of_faer() {
    let (q, mut next) = (rotation(), noise(5));
    let mut memory = MemBuffer::new(q.apply_scratch(0, Par::Seq));
    let mut empty = Mat::<f64>::zeros(N, 0);
    LinOp::apply(&q, empty.as_mut(), Mat::zeros(N, 0).as_ref(), Par::Seq, MemStack::new(&mut memory));
    let x = Mat::from_fn(N, 3, |_, _| next());
    let mut turned = Mat::<f64>::zeros(N, 3);
    let (from, to) = (x.as_ref().reverse_rows_and_cols(), turned.as_mut().reverse_cols_mut());
    LinOp::apply(&q, to, from, Par::Seq, MemStack::new(&mut memory));
    let matrix = dense(&q);
    for j in 0..3 {
        let want = &matrix * nalgebra::DVector::from_fn(N, |i, _| x[(N - 1 - i, 2 - j)]);
        assert!((0..N).all(|i| (want[i] - turned[(i, 2 - j)]).abs() < 1e-14));
    }
    let short = std::panic::catch_unwind(|| {
        let mut out = Mat::<f64>::zeros(N - 1, 3);
        let mut memory = MemBuffer::new(rotation().apply_scratch(3, Par::Seq));
        LinOp::apply(&rotation(), out.as_mut(), Mat::zeros(N - 1, 3).as_ref(), Par::Seq, MemStack::new(&mut memory));
    });
    assert!(short.is_err(), "as faer's own operators do");
}
