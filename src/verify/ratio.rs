//! How orthogonal a dense matrix is, as LAPACK measures it.
//!
//! xORT01 (LAPACK `TESTING/EIG/dort01.f`): ‖I − QᴴQ‖₁ / (m·eps) for an m×n matrix with m ≥ n, whose columns should be
//! orthonormal, and ‖I − QQᴴ‖₁ / (n·eps) for m < n, whose rows should be; eps = 2u is 2⁻⁵² or 2⁻²³. LAPACK accepts ratios
//! up to 30. What papilio forms is far below: 0.02–0.2 for butterflies of n ≥ 64.
//!
//! The Gram matrix is accumulated in `f64`: for `f64` input its own rounding contributes about √m·u to every entry, far
//! below m·eps. It costs m·n² operations (half of a full product, because it is symmetric) through the SIMD of the machine.

use alloc::vec;
use alloc::vec::Vec;

use bytemuck::Zeroable;
use num_traits::Float;

use crate::error::{Error, Result, check_length};
use crate::parallel::{Parallelism, for_each};
use crate::scalar::{Real, Scalar};
use crate::simd::{Isa, Job, Lanes, dispatch};

/// Columns of a panel: a multiple of twice the lanes of every machine.
const PANEL: usize = 16;
/// Rows that stay in the first cache: 256·16 doubles are 32 KiB.
const ROWS: usize = 256;
/// Panels of a strip, the piece of work of a thread: their rows stay in the second cache.
const STRIP: usize = 4;
/// Rows of a register tile, of two SIMD vectors each.
const TILE: usize = 4;

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

/// LAPACK's ratio (xORT01) of a dense row-major matrix: ‖I − QᴴQ‖₁ / (rows·eps), or ‖I − QQᴴ‖₁ / (cols·eps) if rows < cols.
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
/// [`Error::Length`] if `data` does not have rows·cols entries; [`Error::Unsupported`] for complex scalars.
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
    if T::IS_COMPLEX {
        return Err(Error::Unsupported {
            what: "orthogonality of a dense matrix",
            expected: "a real scalar",
            got: alloc::string::String::from("a complex one"),
        });
    }
    let (depth, width) = (rows.max(cols), rows.min(cols));
    if width == 0 {
        return Ok(Orthogonality { ratio: 0.0, defect: 0.0 });
    }
    let at = |k: usize, j: usize| if rows < cols { data[j * cols + k] } else { data[k * cols + j] };
    let panels = pack(depth, width, |k, j| at(k, j).to_wide().re());
    let mut strips: Vec<Strip> =
        (0..width.div_ceil(STRIP * PANEL)).map(|index| Strip { index, sums: vec![0.0; width], squares: 0.0 }).collect();
    for_each(parallelism, strips.iter_mut().collect(), |strip: &mut Strip| strip.measure(&panels, depth));
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

/// Columns in panels of `PANEL`, each panel row by row, the last one filled up with zeros.
fn pack(depth: usize, width: usize, at: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let mut panels = vec![0.0; width.div_ceil(PANEL) * depth * PANEL];
    for (p, panel) in panels.chunks_exact_mut((depth * PANEL).max(1)).enumerate() {
        for (k, row) in panel.chunks_exact_mut(PANEL).enumerate() {
            for (j, x) in (p * PANEL..width).zip(row) {
                *x = at(k, j);
            }
        }
    }
    panels
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
    fn measure(&mut self, panels: &[f64], depth: usize) {
        let size = depth * PANEL;
        let first = self.index * STRIP;
        let last = (first + STRIP).min(panels.len() / size.max(1));
        let mut gram = vec![0.0; last * (last - first) * PANEL * PANEL];
        let mut k = 0;
        while k < depth {
            let rows = k * PANEL..depth.min(k + ROWS) * PANEL;
            for p in 0..last {
                for q in first.max(p)..last {
                    let tile = (p * (last - first) + q - first) * PANEL * PANEL;
                    dispatch(
                        Isa::detect(),
                        TileProduct {
                            a: &panels[p * size..][rows.clone()],
                            b: &panels[q * size..][rows.clone()],
                            c: &mut gram[tile..][..PANEL * PANEL],
                        },
                    );
                }
            }
            k += ROWS;
        }
        for p in 0..last {
            for q in first.max(p)..last {
                let tile = &gram[(p * (last - first) + q - first) * PANEL * PANEL..][..PANEL * PANEL];
                self.add(p * PANEL, q * PANEL, tile);
            }
        }
    }

    /// Adds the entries on and above the diagonal of one tile, those above twice.
    fn add(&mut self, row: usize, column: usize, tile: &[f64]) {
        let width = self.sums.len();
        for (i, tile_row) in (row..width).zip(tile.chunks_exact(PANEL)) {
            for (j, &x) in (column..width).zip(tile_row) {
                if i == j {
                    let e = Float::abs(x - 1.0);
                    self.sums[i] += e;
                    self.squares += e * e;
                } else if i < j {
                    let e = Float::abs(x);
                    self.sums[i] += e;
                    self.sums[j] += e;
                    self.squares += 2.0 * e * e;
                }
            }
        }
    }
}

/// c += aᵀ·b for panels a and b of the same number of rows.
struct TileProduct<'a> {
    a: &'a [f64],
    b: &'a [f64],
    c: &'a mut [f64],
}

impl Job<f64> for TileProduct<'_> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(self, s: S) {
        let Self { a, b, c } = self;
        let lanes = S::LANES;
        for i in (0..PANEL).step_by(TILE) {
            for j in (0..PANEL).step_by(2 * lanes) {
                let mut sums = [[S::V::zeroed(); 2]; TILE];
                for (a, b) in a.chunks_exact(PANEL).zip(b.chunks_exact(PANEL)) {
                    let b = [load::<S>(&b[j..j + lanes]), load::<S>(&b[j + lanes..j + 2 * lanes])];
                    for (sum, &x) in sums.iter_mut().zip(&a[i..i + TILE]) {
                        let x = s.splat(x);
                        *sum = [s.mul_add(x, b[0], sum[0]), s.mul_add(x, b[1], sum[1])];
                    }
                }
                for (row, sum) in sums.iter().enumerate() {
                    let out = &mut c[(i + row) * PANEL + j..][..2 * lanes];
                    for (o, x) in out.iter_mut().zip(bytemuck::cast_slice::<S::V, f64>(sum)) {
                        *o += x;
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn load<S: Lanes<f64>>(x: &[f64]) -> S::V {
    bytemuck::pod_read_unaligned(bytemuck::cast_slice(x))
}

#[cfg(test)]
mod tests {
    use super::*;
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
