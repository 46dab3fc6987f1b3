//! How orthogonal a dense matrix is, as LAPACK measures it.
//!
//! xORT01 and xUNT01 (LAPACK `TESTING/EIG/dort01.f`, `zunt01.f`): ‖I − QᴴQ‖₁ / (m·eps) for an m×n matrix with m ≥ n, whose columns should be
//! orthonormal, and ‖I − QQᴴ‖₁ / (n·eps) for m < n, whose rows should be; eps = 2u is 2⁻⁵² or 2⁻²³. LAPACK accepts ratios
//! up to 30. What papilio forms is far below: 0.02–0.2 for butterflies of n ≥ 64.
//!
//! The Gram matrix is accumulated in `f64`: for `f64` input its own rounding contributes about √m·u to every entry, far
//! below m·eps. It costs m·n² operations (half of a full product, because it is symmetric) through the SIMD of the machine.
//!
//! Of a complex matrix, the column q is the real vector u = (Re q, Im q) of twice the length, and iq is Ju = (−Im q, Re q);
//! qᵢᴴqⱼ = uᵢ·uⱼ − i·(uᵢ·Juⱼ). So the Gram matrix is two real ones, UᵀU and UᵀJU, and its entries count with their moduli.

use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use super::panels::{PANEL, STRIP, gram, pack, tile};
use super::sample::parts;
use crate::error::{Result, check_length};
use crate::parallel::{Parallelism, for_each};
use crate::scalar::{Real, Scalar};

/// Figures of one dense matrix.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Orthogonality {
    /// LAPACK's ratio ‖I − QᴴQ‖₁ / (m·eps). Infinite if an entry is NaN or infinite.
    pub ratio: f64,
    /// min(‖QᴴQ − I‖₁, ‖QᴴQ − I‖_F), at least ‖QᴴQ − I‖₂ up to the rounding of the Gram matrix (about √m·2⁻⁵³).
    /// Not a proof; for a structured matrix [`certificate`](super::certificate) is one. Infinite as above.
    pub defect: f64,
}

/// LAPACK's ratio (xORT01, xUNT01) of a dense row-major matrix: ‖I − QᴴQ‖₁ / (rows·eps), or ‖I − QQᴴ‖₁ / (cols·eps) if rows < cols.
///
/// NaN or infinite entries give an infinite ratio; an empty matrix gives 0.
///
/// ```
/// let ratio = papilio::verify::orthogonality_ratio(2, 2, &[0.6, -0.8, 0.8, 0.6f64])?;
/// assert!(ratio < 1.0);
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) if `data` does not have rows·cols entries.
pub fn orthogonality_ratio<T: Scalar>(rows: usize, cols: usize, data: &[T]) -> Result<f64> {
    orthogonality(rows, cols, data, Parallelism::default()).map(|o| o.ratio)
}

/// [`orthogonality_ratio`] together with a bound of ‖QᴴQ − I‖₂. The result has the same bits for every `parallelism`.
///
/// # Errors
/// Those of [`orthogonality_ratio`].
pub fn orthogonality<T: Scalar>(
    rows: usize,
    cols: usize,
    data: &[T],
    parallelism: Parallelism,
) -> Result<Orthogonality> {
    check_length("dense matrix", rows.saturating_mul(cols), data.len())?;
    let (depth, width) = (rows.max(cols), rows.min(cols));
    if width == 0 {
        return Ok(Orthogonality { ratio: 0.0, defect: 0.0 });
    }
    let at = |k: usize, j: usize| if rows < cols { data[j * cols + k] } else { data[k * cols + j] };
    let long = depth * parts::<T>();
    let part = |k: usize, j: usize| {
        let x = at(k % depth, j).to_wide();
        if k < depth { x.re() } else { x.im() }
    };
    let turned = |k: usize, j: usize| if k < depth { -part(k + depth, j) } else { part(k - depth, j) };
    let panels = Panels { u: pack(long, width, part), turned: T::IS_COMPLEX.then(|| pack(long, width, turned)) };
    let mut strips: Vec<Strip> =
        (0..width.div_ceil(STRIP * PANEL)).map(|index| Strip { index, sums: vec![0.0; width], squares: 0.0 }).collect();
    for_each(parallelism, strips.iter_mut().collect(), |strip: &mut Strip| strip.measure(&panels, long));
    let mut sums = vec![0.0; width];
    let mut squares = 0.0;
    for strip in &strips {
        squares += strip.squares;
        for (total, part) in sums.iter_mut().zip(&strip.sums) {
            *total += part;
        }
    }
    let one_norm = sums.iter().fold(0.0, |a: f64, &s| if a > s || a.is_nan() { a } else { s });
    let defect = if squares.is_finite() { one_norm.min(Float::sqrt(squares)) } else { f64::INFINITY };
    let ratio = if one_norm.is_finite() { one_norm / (depth as f64 * T::Real::EPS.to_wide()) } else { f64::INFINITY };
    Ok(Orthogonality { ratio, defect })
}

/// The columns as real vectors, and those of i times the columns if they are complex.
struct Panels {
    u: Vec<f64>,
    turned: Option<Vec<f64>>,
}

/// The part of |I − QᴴQ| above the diagonal in `STRIP` panels of columns.
struct Strip {
    index: usize,
    /// Column sums of the whole symmetric matrix, as far as they come from this strip.
    sums: Vec<f64>,
    /// Its part of ‖I − QᴴQ‖_F².
    squares: f64,
}

impl Strip {
    fn measure(&mut self, panels: &Panels, depth: usize) {
        let first = self.index * STRIP;
        let last = (first + STRIP).min(panels.u.len() / (depth * PANEL).max(1));
        let real = gram(&panels.u, &panels.u, depth, first..last);
        let imaginary = panels.turned.as_ref().map(|turned| gram(&panels.u, turned, depth, first..last));
        for p in 0..last {
            for q in first.max(p)..last {
                let tile = |gram| tile(gram, p * (last - first) + q - first);
                self.add(p * PANEL, q * PANEL, tile(&real), imaginary.as_deref().map(tile));
            }
        }
    }

    /// Adds the entries on and above the diagonal, which is real, of one tile, those above twice.
    fn add(&mut self, row: usize, column: usize, real: &[f64], imaginary: Option<&[f64]>) {
        let width = self.sums.len();
        for (i, tile_row) in (row..width).zip(real.chunks_exact(PANEL)) {
            for (j, &x) in (column..width).zip(tile_row) {
                if i == j {
                    let e = Float::abs(x - 1.0);
                    self.sums[i] += e;
                    self.squares += e * e;
                } else if i < j {
                    let e = match imaginary {
                        Some(y) => Float::hypot(x, y[(i - row) * PANEL + j - column]),
                        None => Float::abs(x),
                    };
                    self.sums[i] += e;
                    self.sums[j] += e;
                    self.squares += 2.0 * e * e;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::generator::Generator;

    fn naive(rows: usize, cols: usize, q: &[f64]) -> (f64, f64) {
        let (depth, width) = (rows.max(cols), rows.min(cols));
        let at = |k: usize, j: usize| if rows < cols { q[j * cols + k] } else { q[k * cols + j] };
        let e = |i: usize, j: usize| (0..depth).map(|k| at(k, i) * at(k, j)).sum::<f64>() - f64::from(u8::from(i == j));
        let columns = (0..width).map(|j| (0..width).map(|i| e(i, j).abs()).sum::<f64>());
        let one_norm = columns.fold(0.0, f64::max);
        let squares: f64 = (0..width).flat_map(|j| (0..width).map(move |i| e(i, j).powi(2))).sum();
        (one_norm / (depth.max(1) as f64 * f64::EPSILON), one_norm.min(squares.sqrt()))
    }

    #[test]
    fn no_columns_are_orthonormal() {
        for (rows, cols) in [(0, 0), (usize::MAX, 0), (0, usize::MAX)] {
            assert_eq!(orthogonality_ratio::<f64>(rows, cols, &[]).unwrap(), 0.0);
        }
    }

    #[test]
    fn agrees_with_the_definition_on_any_shape() {
        let mut g = Generator::new(3);
        for (rows, cols) in [(0, 0), (0, 3), (1, 1), (2, 2), (5, 3), (3, 5), (16, 16), (17, 70), (130, 67), (300, 65)] {
            let q: Vec<f64> = (0..rows * cols).map(|_| g.uniform() - 0.5).collect();
            let (ratio, defect) = naive(rows, cols, &q);
            for parallelism in [Parallelism::None, Parallelism::Rayon] {
                let got = orthogonality(rows, cols, &q, parallelism).unwrap();
                assert!((got.ratio - ratio).abs() <= 1e-13 * ratio, "{rows}×{cols}: {} {ratio}", got.ratio);
                assert!((got.defect - defect).abs() <= 1e-13 * defect, "{rows}×{cols}: {} {defect}", got.defect);
            }
        }
    }

    #[test]
    fn complex_matrices_agree_with_the_definition_on_any_shape() {
        use crate::scalar::c64;
        let mut g = Generator::new(4);
        for (rows, cols) in [(0, 0), (0, 3), (1, 1), (2, 2), (5, 3), (3, 5), (17, 70), (130, 67), (300, 65)] {
            let q: Vec<c64> = (0..rows * cols).map(|_| c64 { re: g.uniform() - 0.5, im: g.uniform() - 0.5 }).collect();
            let (depth, width) = (rows.max(cols), rows.min(cols));
            let at = |k: usize, j: usize| if rows < cols { q[j * cols + k].conj() } else { q[k * cols + j] };
            let e = |i: usize, j: usize| {
                let sum: c64 = (0..depth).map(|k| at(k, i).conj() * at(k, j)).sum();
                Float::hypot(sum.re - f64::from(u8::from(i == j)), sum.im)
            };
            let entries: Vec<f64> = (0..width * width).map(|at| e(at / width, at % width)).collect();
            let one_norm = entries.chunks_exact(width.max(1)).map(|row| row.iter().sum()).fold(0.0, f64::max);
            let squares: f64 = entries.iter().map(|e| e * e).sum();
            let found = [Parallelism::None, Parallelism::Rayon].map(|p| orthogonality(rows, cols, &q, p).unwrap());
            assert_eq!(found[0], found[1]);
            let ratio = one_norm / (depth.max(1) as f64 * f64::EPSILON);
            assert!((found[0].ratio - ratio).abs() <= 1e-13 * ratio, "{rows}×{cols}: {} {ratio}", found[0].ratio);
            let defect = one_norm.min(squares.sqrt());
            assert!((found[0].defect - defect).abs() <= 1e-13 * defect, "{rows}×{cols}");
        }
    }

    #[test]
    fn the_fourier_matrix_is_unitary() {
        use crate::scalar::{c32, c64};
        let n = 48;
        let entry = |at: usize| {
            let angle = core::f64::consts::TAU * ((at / n * (at % n)) % n) as f64 / n as f64;
            let size = 1.0 / (n as f64).sqrt();
            c64 { re: size * angle.cos(), im: size * angle.sin() }
        };
        let q: Vec<c64> = (0..n * n).map(entry).collect();
        let single: Vec<c32> = q.iter().map(|&z| c32::from_wide(z)).collect();
        assert!(orthogonality_ratio(n, n, &q).unwrap() < 1.0 && orthogonality_ratio(n, n, &single).unwrap() < 1.0);
        assert!(orthogonality_ratio(n / 3, n, &q[..n / 3 * n]).unwrap() < 1.0);
        let mut damaged = q.clone();
        damaged[5].im += 1e-6;
        let found = orthogonality_ratio(n, n, &damaged).unwrap() * n as f64 * f64::EPSILON;
        assert!((1e-6..1e-5).contains(&found), "{found:e}");
        for bad in [f64::NAN, f64::INFINITY] {
            damaged[5].im = bad;
            assert_eq!(orthogonality_ratio(n, n, &damaged).unwrap(), f64::INFINITY);
        }
    }

    #[test]
    fn exact_and_damaged_matrices() {
        let n = 37;
        let mut q: Vec<f32> = (0..n * n).map(|i| if i % n == (i / n + 5) % n { 1.0 } else { 0.0 }).collect();
        assert_eq!(orthogonality_ratio(n, n, &q).unwrap(), 0.0);
        q[5] = 1.0 + f32::EPSILON; // one column longer by eps: ‖I − QᵀQ‖₁ = 2·eps + eps²
        let ratio = orthogonality_ratio(n, n, &q).unwrap();
        assert!((ratio * n as f64 - 2.0).abs() < 1e-6);
    }

    #[test]
    fn numbers_that_are_none_are_infinitely_wrong() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e200] {
            for position in [0, 7, 70, 99] {
                let mut q: Vec<f64> = (0..100).map(|i| f64::from(u8::from(i % 11 == 0))).collect();
                q[position] = bad;
                let got = orthogonality(10, 10, &q, Parallelism::None).unwrap();
                assert_eq!((got.ratio, got.defect), (f64::INFINITY, f64::INFINITY), "{bad} at {position}");
            }
        }
        assert!(matches!(orthogonality_ratio(2, 3, &[0.0f32; 5]), Err(Error::Length { expected: 6, got: 5, .. })));
        assert!(orthogonality_ratio(usize::MAX, 2, &[0.0f32; 5]).is_err());
    }
}
