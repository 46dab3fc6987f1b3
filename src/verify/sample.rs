//! Seeded vectors for the checks, and inner products accurate enough not to hide what is checked.

use alloc::vec::Vec;

use crate::generator::Generator;
use crate::scalar::{Scalar, Wide};

/// `len` numbers of mean 0 and variance `scale`², uniform in ±√3·scale.
pub(crate) fn reals(g: &mut Generator, len: usize, scale: f64) -> Vec<f64> {
    (0..len).map(|_| scale * 1.732_050_807_568_877_2 * (2.0 * g.uniform() - 1.0)).collect()
}

/// `len` scalars of mean 0 and variance E|x|² = 1, rounded to `T`. The two parts of a complex number are independent, with
/// half of the variance each.
pub(crate) fn scalars<T: Scalar>(g: &mut Generator, len: usize) -> Vec<T> {
    let count = parts::<T>();
    let scale = if T::IS_COMPLEX { core::f64::consts::FRAC_1_SQRT_2 } else { 1.0 };
    let numbers = reals(g, count * len, scale);
    let scalar = |x: &[f64]| T::from_wide(T::Wide::from_parts(x[0], if T::IS_COMPLEX { x[1] } else { 0.0 }));
    numbers.chunks_exact(count).map(scalar).collect()
}

/// Real numbers in a scalar.
pub(crate) fn parts<T: Scalar>() -> usize {
    if T::IS_COMPLEX { 2 } else { 1 }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scalar::{c32, c64};

    #[test]
    fn scalars_have_variance_one_and_independent_parts() {
        let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
        let z = scalars::<c64>(&mut Generator::new(3), 40_000);
        let of = |f: &dyn Fn(&c64) -> f64| mean(&z.iter().map(f).collect::<Vec<_>>());
        assert!(of(&|z| z.re).abs() < 0.02 && of(&|z| z.im).abs() < 0.02);
        assert!((of(&|z| z.re * z.re) - 0.5).abs() < 0.02 && (of(&|z| z.im * z.im) - 0.5).abs() < 0.02);
        assert!(of(&|z| z.re * z.im).abs() < 0.02);
        let single = scalars::<c32>(&mut Generator::new(3), 5);
        assert!(single.iter().zip(&z).all(|(s, z)| *s == c32::from_wide(*z)));
        // Real ones are the stream as it comes.
        assert_eq!(scalars::<f64>(&mut Generator::new(7), 9), reals(&mut Generator::new(7), 9, 1.0));
    }

    #[test]
    fn the_first_argument_is_conjugated() {
        let (x, y) = ([c64 { re: 1.0, im: 2.0 }; 9], [c64 { re: 3.0, im: -1.0 }; 9]);
        assert_eq!(inner(&x, &y), c64 { re: 9.0, im: -63.0 }); // (1 − 2i)(3 − i) = 1 − 7i
    }
}
