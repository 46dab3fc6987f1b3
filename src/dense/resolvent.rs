//! X = (I + A)⁻¹ for a real skew A of any size: 0, denormal, 10³⁰⁰, and mixtures of them in one matrix.
//!
//! An ordinary elimination of I + A loses the I beside a large A; for odd b, where A is singular, it loses X with it.
//! Here the symmetric part S (at first I) and the skew part K (at first A) are kept apart. With
//! S + K = [[E, B], [C, D]] and W = C E⁻¹, the Schur complement D − W B is a congruence (Zᵀ(S + K)Z, Z = [−Wᵀ; I]):
//!
//!   S' = Zᵀ S Z = S₂₂ − W S₁₂ − (W S₁₂)ᵀ + W S₁₁ Wᵀ,   K' = K₂₂ − skew(W B),
//!
//! so S' is positive definite and keeps its own relative accuracy, and rounding errors in K' are skew, of order u‖A‖: a
//! perturbation of A. The pivots are chosen completely: the largest diagonal entry of S (E is 1×1) or, if an entry of K
//! is larger still, that one (E is 2×2, as in Bunch, Math. Comp. 38 (1982) 475–479, for skew matrices). Then
//! det E ≥ k² does not cancel, and |W| is bounded (by 2 and 8). The inverse is put together from behind: with
//! V = E⁻¹B and X' the inverse of the Schur complement,
//!
//!   X = [[E⁻¹ + V X' W, −V X'], [−X' W, X']].
//!
//! Conditioning: dX = −X dA X, so a relative change ε of A moves X by at most ε‖X‖²‖A‖.

use alloc::vec::Vec;

use super::check_block;
use crate::error::{Error, Result};

/// 2⁻⁶⁴, exactly.
const TINY: f64 = 1.0 / (1_u128 << 64) as f64;

/// (I + A)⁻¹ for the skew A with strict upper triangle `theta` (row-major, length b(b−1)/2), written to `inverse`.
///
/// Finite for every finite A; entries that are not finite make the result so.
///
/// # Errors
/// [`Error::Length`] if a slice has another length.
pub fn skew_resolvent(b: usize, theta: &[f64], inverse: &mut [f64]) -> Result<()> {
    check_block("inverse", b, inverse.len())?;
    let expected = b * b.saturating_sub(1) / 2;
    if theta.len() != expected {
        return Err(Error::Length { what: "theta", expected, got: theta.len() });
    }
    skew_resolvent_with(b, theta, inverse, &mut Vec::new());
    Ok(())
}

/// [`skew_resolvent`] with scratch that grows to 3b² + 4b numbers once.
pub(crate) fn skew_resolvent_with(b: usize, theta: &[f64], inverse: &mut [f64], scratch: &mut Vec<f64>) {
    scratch.clear();
    scratch.resize(3 * b * b + 4 * b, 0.0);
    let (s, rest) = scratch.split_at_mut(b * b);
    let (k, rest) = rest.split_at_mut(b * b);
    let (x, vectors) = rest.split_at_mut(b * b);
    // Room for the growth of K near the end of the exponent range: (I + A)⁻¹ = unit (unit·I + unit·A)⁻¹.
    let largest = theta.iter().fold(0.0, |m: f64, t| m.max(t.abs()));
    let unit = if largest > 1e270 { TINY } else { 1.0 };
    let mut upper = theta.iter();
    for i in 0..b {
        s[i * b + i] = unit;
        for (j, t) in (i + 1..b).zip(upper.by_ref()) {
            k[i * b + j] = unit * t;
            k[j * b + i] = -unit * t;
        }
    }
    let mut order: Vec<usize> = (0..b).collect();
    let mut sizes = Vec::with_capacity(b);
    let mut at = 0;
    while at < b {
        let size = pivot(b, at, [&mut *s, &mut *k, &mut *x], &mut order);
        eliminate(b, at, size, s, k, x);
        sizes.push(size);
        at += size;
    }
    for &size in sizes.iter().rev() {
        at -= size;
        extend_inverse(b, at, size, x, vectors);
    }
    for (i, &row) in order.iter().enumerate() {
        for (j, &column) in order.iter().enumerate() {
            inverse[row * b + column] = unit * x[i * b + j];
        }
    }
}

/// Chooses the next pivot, exchanges it to the front of the remaining rows and columns, returns its size.
fn pivot(b: usize, at: usize, [s, k, x]: [&mut [f64]; 3], order: &mut [usize]) -> usize {
    let (mut diagonal, mut largest_s) = (at, 0.0);
    let (mut pair, mut largest_k) = ((at, at), 0.0);
    for i in at..b {
        if s[i * b + i] > largest_s {
            (diagonal, largest_s) = (i, s[i * b + i]);
        }
        for j in i + 1..b {
            if k[i * b + j].abs() > largest_k {
                (pair, largest_k) = ((i, j), k[i * b + j].abs());
            }
        }
    }
    let mut exchange = |p: usize, q: usize| {
        if p != q {
            order.swap(p, q);
            // In `x` this moves the rows of the W and the columns of the V of earlier steps.
            for m in [&mut *s, &mut *k, &mut *x] {
                (0..b).for_each(|j| m.swap(p * b + j, q * b + j));
                (0..b).for_each(|i| m.swap(i * b + p, i * b + q));
            }
        }
    };
    if largest_k > largest_s {
        // i < j, so the second exchange cannot move what the first brought to the front.
        exchange(at, pair.0);
        exchange(at + 1, pair.1);
        2
    } else {
        exchange(at, diagonal);
        1
    }
}

/// One step: E⁻¹, W and V go to `x` where they will be needed, the Schur complement replaces S and K behind the pivot.
fn eliminate(b: usize, at: usize, size: usize, s: &mut [f64], k: &mut [f64], x: &mut [f64]) {
    let next = at + size;
    let entry = |s: &[f64], k: &[f64], i: usize, j: usize| s[i * b + j] + k[i * b + j];
    // E⁻¹ = F / e with |F| ≤ 2: dividing by the pivot's size e first keeps det E in range.
    let (e, f) = if size == 1 {
        (s[at * b + at], [[1.0, 0.0], [0.0, 0.0]])
    } else {
        let e = k[at * b + at + 1];
        let (p, q, r) = (s[at * b + at] / e, s[at * b + at + 1] / e, s[(at + 1) * b + at + 1] / e);
        let det = (p * r - q * q) + 1.0;
        (e, [[r / det, -(q + 1.0) / det], [(1.0 - q) / det, p / det]])
    };
    for i in 0..size {
        for j in 0..size {
            x[(at + i) * b + at + j] = f[i][j] / e;
        }
    }
    for r in next..b {
        for i in 0..size {
            let (mut w, mut v) = (0.0, 0.0);
            for (j, f_j) in f.iter().enumerate().take(size) {
                w += entry(s, k, r, at + j) / e * f_j[i];
                v += f[i][j] * (entry(s, k, at + j, r) / e);
            }
            x[r * b + at + i] = w;
            x[(at + i) * b + r] = v;
        }
    }
    for i in next..b {
        for j in i..b {
            let (mut sym, mut skew) = (0.0, 0.0);
            for p in 0..size {
                let (wi, wj) = (x[i * b + at + p], x[j * b + at + p]);
                sym -= wi * s[(at + p) * b + j] + wj * s[(at + p) * b + i];
                for q in 0..size {
                    sym += wi * s[(at + p) * b + at + q] * x[j * b + at + q];
                }
                skew += wi * entry(s, k, at + p, j) - wj * entry(s, k, at + p, i);
            }
            s[i * b + j] += sym;
            s[j * b + i] = s[i * b + j];
            k[i * b + j] -= 0.5 * skew;
            k[j * b + i] = -k[i * b + j];
        }
    }
}

/// From the inverse X' behind the pivot to the inverse with it, in place.
fn extend_inverse(b: usize, at: usize, size: usize, x: &mut [f64], vectors: &mut [f64]) {
    let next = at + size;
    let (w, v) = vectors.split_at_mut(2 * b);
    for i in 0..size {
        for r in next..b {
            w[i * b + r] = x[r * b + at + i];
            v[i * b + r] = x[(at + i) * b + r];
        }
    }
    for i in 0..size {
        for r in next..b {
            x[r * b + at + i] = -(next..b).map(|c| x[r * b + c] * w[i * b + c]).sum::<f64>();
        }
        for c in next..b {
            x[(at + i) * b + c] = -(next..b).map(|r| v[i * b + r] * x[r * b + c]).sum::<f64>();
        }
    }
    for i in 0..size {
        for j in 0..size {
            let product: f64 = (next..b).map(|r| v[i * b + r] * x[r * b + at + j]).sum();
            x[(at + i) * b + at + j] -= product;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense::extended;

    /// Numbers without a pattern in (−1, 1).
    fn noise(n: usize) -> Vec<f64> {
        (1..=n).map(|i| ((i * i) as f64 * 0.7368).sin()).collect()
    }

    #[test]
    fn agrees_with_the_truth() {
        for b in [1, 2, 3, 4, 5, 8, 13] {
            for scale in [1e-8, 0.3, 1.0, 30.0, 1e3, 1e6] {
                let theta: Vec<f64> = noise(b * (b - 1) / 2).iter().map(|t| t * scale).collect();
                let mut x = alloc::vec![f64::NAN; b * b];
                skew_resolvent(b, &theta, &mut x).unwrap();
                let truth = extended::skew_resolvent(b, &theta);
                let size = truth.iter().fold(0.0, |m: f64, t| m.max(t.to_f64().abs()));
                let error = x.iter().zip(&truth).fold(0.0, |m: f64, (x, t)| m.max((x - t.to_f64()).abs()));
                // The bound in terms of the conditioning, ‖X‖²‖A‖ (relative: ‖X‖‖A‖).
                let ratio = error / (size * (1.0 + size * scale * b as f64) * crate::dense::EPS);
                assert!(ratio <= 4.0, "b {b}, scale {scale}: {ratio}");
            }
        }
    }

    #[test]
    fn an_odd_matrix_keeps_its_kernel() {
        // (I + A)⁻¹ → v vᵀ with A v = 0; for b = 3, v ∝ (a₂₃, −a₁₃, a₁₂).
        for scale in [1e9, 1e17, 1e150, 1e299, f64::MAX / 4.0] {
            let mut x = [f64::NAN; 9];
            skew_resolvent(3, &[scale, -2.0 * scale, 3.0 * scale], &mut x).unwrap();
            let v = [3.0, 2.0, 1.0];
            for (at, x) in x.iter().enumerate() {
                assert!((x - v[at / 3] * v[at % 3] / 14.0).abs() <= 1.0 / scale + 4e-16, "{scale:e}: {x}");
            }
        }
    }

    #[test]
    fn growth_at_the_end_of_the_exponent_range_does_not_overflow() {
        // The Schur complement of the first pivot is a₃₄ − (a₁₃a₂₄ − a₁₄a₂₃)/a₁₂, three times the largest number here.
        let max = f64::MAX;
        let mut x = [f64::NAN; 16];
        skew_resolvent(4, &[max, max, max, max, -max, max], &mut x).unwrap();
        assert!(x.iter().all(|x| x.abs() <= 1.0 / max), "{x:?}");
        // A⁻¹ has the entries of A, exchanged, over the Pfaffian 3 max².
        assert!((x[1] * max + 1.0 / 3.0).abs() <= 1e-15, "{x:?}");
    }

    #[test]
    fn wrong_lengths_are_errors() {
        assert!(skew_resolvent(3, &[0.0; 2], &mut [0.0; 9]).is_err());
        assert!(skew_resolvent(3, &[0.0; 3], &mut [0.0; 8]).is_err());
        skew_resolvent(0, &[], &mut []).unwrap();
    }
}
