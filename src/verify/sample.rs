//! Seeded vectors for the checks, and inner products accurate enough not to hide what is checked.

use alloc::vec::Vec;

use crate::generator::Generator;
use crate::scalar::{Scalar, Wide};

/// `len` numbers of mean 0 and variance `scale`², uniform in ±√3·scale.
pub(crate) fn reals(g: &mut Generator, len: usize, scale: f64) -> Vec<f64> {
    (0..len).map(|_| scale * 1.732_050_807_568_877_2 * (2.0 * g.uniform() - 1.0)).collect()
}

/// `len` scalars of variance 1, rounded to `T`.
pub(crate) fn scalars<T: Scalar>(g: &mut Generator, len: usize) -> Vec<T> {
    reals(g, len, 1.0).into_iter().map(|x| T::from_wide(T::Wide::from_real(x))).collect()
}

/// Σ conj(x_i)·y_i by pairwise summation: error about u·log₂ n.
pub(crate) fn inner<W: Wide>(x: &[W], y: &[W]) -> W {
    if x.len() <= 8 {
        return x.iter().zip(y).fold(W::zero(), |sum, (&a, &b)| sum + a.conj() * b);
    }
    let ((x0, x1), (y0, y1)) = (x.split_at(x.len() / 2), y.split_at(x.len() / 2));
    inner(x0, y0) + inner(x1, y1)
}

/// Exact conversion to double precision.
pub(crate) fn widen<T: Scalar>(x: &[T]) -> Vec<T::Wide> {
    x.iter().map(|x| x.to_wide()).collect()
}
