//! X = (I + A)⁻¹ for a skew (skew-Hermitian) A of any size: 0, denormal, 10³⁰⁰, and mixtures of them in one matrix.
//!
//! An ordinary elimination of I + A loses the I beside a large A; for odd b, where a real A is singular, it loses X with it.
//! Here the Hermitian part S (at first I) and the skew part K (at first A) are kept apart. With
//! S + K = [[E, B], [C, D]] and W = C E⁻¹, the Schur complement D − W B is a congruence (Z(S + K)Zᴴ, Z = [−W, I]):
//!
//!   S' = Z S Zᴴ = S₂₂ − W S₁₂ − (W S₁₂)ᴴ + W S₁₁ Wᴴ,   K' = K₂₂ − skew(W B),
//!
//! so S' is positive definite and keeps its own relative accuracy, and rounding errors in K' are skew, of order u‖A‖: a
//! perturbation of A. The pivots are chosen completely: the largest diagonal entry of S + K (E is 1×1) or, if an entry of K
//! beside the diagonal is larger still, that one (E is 2×2, as in Bunch, Math. Comp. 38 (1982) 475–479, for skew
//! matrices). A complex K has a diagonal, too; there the entry must be larger by 1/α = 8/(1 + √17) (Bunch & Kaufman,
//! Math. Comp. 31 (1977) 163–179). With E = S_E + K_E, K_E = [[ia, z], [−z̄, ic]],
//!
//!   Re det E = det S_E + (|z|² − ac),   |ac| ≤ α²|z|²,
//!
//! does not cancel, and |W| is bounded (by 2 and 8 for real A). The inverse is put together from behind: with
//! V = E⁻¹B and X' the inverse of the Schur complement,
//!
//!   X = [[E⁻¹ + V X' W, −V X'], [−X' W, X']].
//!
//! Conditioning: dX = −X dA X, so a relative change ε of A moves X by at most ε‖X‖²‖A‖.

use alloc::vec::Vec;

use super::check_block;
use super::skew::{fill_skew, skew_size};
use crate::error::{Error, Result};
use crate::scalar::{Scalar, Wide};

/// 2⁻⁶⁴, exactly.
const TINY: f64 = 1.0 / (1_u128 << 64) as f64;

/// (I + A)⁻¹ written to `inverse`, for the skew A with strict upper triangle `theta` (row-major, length b(b−1)/2), or the
/// skew-Hermitian A with the imaginary diagonal and then (re, im) of that triangle (length b²).
///
/// Finite for every finite A; entries that are not finite make the result so.
///
/// # Errors
/// [`Error::Length`] if a slice has another length.
pub fn skew_resolvent<W: Wide>(b: usize, theta: &[f64], inverse: &mut [W]) -> Result<()> {
    check_block("inverse", b, inverse.len())?;
    let expected = skew_size::<W>(b);
    if theta.len() != expected {
        return Err(Error::Length { what: "theta", expected, got: theta.len() });
    }
    skew_resolvent_with(b, theta, inverse, &mut Vec::new());
    Ok(())
}

/// [`skew_resolvent`] with scratch that grows to 3b² + 4b numbers once.
pub(crate) fn skew_resolvent_with<W: Wide>(b: usize, theta: &[f64], inverse: &mut [W], scratch: &mut Vec<W>) {
    scratch.clear();
    scratch.resize(3 * b * b + 4 * b, W::zero());
    let (s, rest) = scratch.split_at_mut(b * b);
    let (k, rest) = rest.split_at_mut(b * b);
    let (x, vectors) = rest.split_at_mut(b * b);
    // Room for the growth of K near the end of the exponent range: (I + A)⁻¹ = unit (unit·I + unit·A)⁻¹.
    let largest = theta.iter().fold(0.0, |m: f64, t| m.max(t.abs()));
    let unit = if largest > 1e270 { TINY } else { 1.0 };
    (0..b).for_each(|i| s[i * b + i] = W::from_real(unit));
    fill_skew::<W, W>(b, k, |at, _| unit * theta[at]);
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
            inverse[row * b + column] = W::from_real(unit) * x[i * b + j];
        }
    }
}

/// Chooses the next pivot, exchanges it to the front of the remaining rows and columns, returns its size.
fn pivot<W: Wide>(b: usize, at: usize, [s, k, x]: [&mut [W]; 3], order: &mut [usize]) -> usize {
    let (mut diagonal, mut largest_diagonal) = (at, 0.0);
    let (mut pair, mut largest_k) = ((at, at), 0.0);
    for i in at..b {
        let size = Scalar::abs(s[i * b + i] + k[i * b + i]);
        if size > largest_diagonal {
            (diagonal, largest_diagonal) = (i, size);
        }
        for j in i + 1..b {
            let size = Scalar::abs(k[i * b + j]);
            if size > largest_k {
                (pair, largest_k) = ((i, j), size);
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
    let alpha = if W::IS_COMPLEX { 0.640_388_203_202_208_4 } else { 1.0 };
    if largest_k * alpha > largest_diagonal {
        // i < j, so the second exchange cannot move what the first brought to the front.
        exchange(at, pair.0);
        exchange(at + 1, pair.1);
        2
    } else {
        exchange(at, diagonal);
        1
    }
}

/// x / e, each part rounded once.
fn over<W: Wide>(x: W, e: f64) -> W {
    W::from_parts(x.re() / e, x.im() / e)
}

/// x / det, where |det| is neither tiny nor huge.
fn quotient<W: Wide>(x: W, det: W) -> W {
    if W::IS_COMPLEX { over(x * det.conj(), det.re() * det.re() + det.im() * det.im()) } else { over(x, det.re()) }
}

/// E⁻¹ = F / e, where |F| ≤ 2 (nearly, if complex) for the pivot's size e: dividing by it first keeps det E in range.
fn invert_pivot<W: Wide>(b: usize, at: usize, size: usize, s: &[W], k: &[W]) -> (f64, [[W; 2]; 2]) {
    let (first, second) = (at * b + at, (at + 1) * b + at + 1);
    if size == 1 {
        let pivot = s[first] + k[first];
        let e = Scalar::abs(pivot);
        return (e, [[over(pivot.conj(), e), W::zero()], [W::zero(), W::zero()]]);
    }
    let z = k[first + 1];
    let e = if W::IS_COMPLEX { Scalar::abs(z) } else { z.re() };
    let (p, q, r) = (s[first].re() / e, over(s[first + 1], e), s[second].re() / e);
    let (a, t, c) = (k[first].im() / e, over(z, e), k[second].im() / e);
    let re = (p * r - (q * q.conj()).re()) + ((t * t.conj()).re() - a * c);
    let im = p * c + r * a + 2.0 * (q * t.conj()).im();
    let f = |x| quotient(x, W::from_parts(re, im));
    let corner = |re, im| f(W::from_parts(re, im));
    (e, [[corner(r, c), f(-(q + t))], [f(t.conj() - q.conj()), corner(p, a)]])
}

/// One step: E⁻¹, W and V go to `x` where they will be needed, the Schur complement replaces S and K behind the pivot.
fn eliminate<W: Wide>(b: usize, at: usize, size: usize, s: &mut [W], k: &mut [W], x: &mut [W]) {
    let next = at + size;
    let entry = |s: &[W], k: &[W], i: usize, j: usize| s[i * b + j] + k[i * b + j];
    let (e, f) = invert_pivot(b, at, size, s, k);
    for i in 0..size {
        for j in 0..size {
            x[(at + i) * b + at + j] = over(f[i][j], e);
        }
    }
    for r in next..b {
        for i in 0..size {
            let (mut w, mut v) = (W::zero(), W::zero());
            for (j, f_j) in f.iter().enumerate().take(size) {
                w += over(entry(s, k, r, at + j), e) * f_j[i];
                v += f[i][j] * over(entry(s, k, at + j, r), e);
            }
            x[r * b + at + i] = w;
            x[(at + i) * b + r] = v;
        }
    }
    for i in next..b {
        for j in i..b {
            let (mut sym, mut skew) = (W::zero(), W::zero());
            for p in 0..size {
                let (wi, wj) = (x[i * b + at + p], x[j * b + at + p]);
                sym = sym - (wi * s[(at + p) * b + j] + (wj * s[(at + p) * b + i]).conj());
                for q in 0..size {
                    sym += wi * s[(at + p) * b + at + q] * x[j * b + at + q].conj();
                }
                skew += wi * entry(s, k, at + p, j) - (wj * entry(s, k, at + p, i)).conj();
            }
            s[i * b + j] += sym;
            k[i * b + j] = k[i * b + j] - W::from_real(0.5) * skew;
            if i == j {
                s[i * b + i] = W::from_real(s[i * b + i].re());
                k[i * b + i] = W::from_parts(0.0, k[i * b + i].im());
            } else {
                s[j * b + i] = s[i * b + j].conj();
                k[j * b + i] = -k[i * b + j].conj();
            }
        }
    }
}

/// From the inverse X' behind the pivot to the inverse with it, in place.
fn extend_inverse<W: Wide>(b: usize, at: usize, size: usize, x: &mut [W], vectors: &mut [W]) {
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
            x[r * b + at + i] = -(next..b).fold(-W::zero(), |sum, c| sum + x[r * b + c] * w[i * b + c]);
        }
        for c in next..b {
            x[(at + i) * b + c] = -(next..b).fold(-W::zero(), |sum, r| sum + v[i * b + r] * x[r * b + c]);
        }
    }
    for i in 0..size {
        for j in 0..size {
            let product = (next..b).fold(-W::zero(), |sum, r| sum + v[i * b + r] * x[r * b + at + j]);
            let entry = &mut x[(at + i) * b + at + j];
            *entry = *entry - product;
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
                skew_resolvent::<f64>(b, &theta, &mut x).unwrap();
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
            skew_resolvent::<f64>(3, &[scale, -2.0 * scale, 3.0 * scale], &mut x).unwrap();
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

    /// The complex A as the real skew [[X, −Y], [Y, X]], and the truth of that.
    #[test]
    fn a_complex_inverse_agrees_with_the_truth() {
        use crate::scalar::c64;
        for b in [1, 2, 3, 4, 5, 8, 13] {
            for scale in [1e-8, 0.3, 1.0, 30.0, 1e3, 1e6] {
                let theta: Vec<f64> = noise(b * b).iter().map(|t| t * scale).collect();
                let mut a = alloc::vec![c64::default(); b * b];
                fill_skew::<c64, c64>(b, &mut a, |at, _| theta[at]);
                let part = |i: usize, j: usize| {
                    let z = a[i % b * b + j % b];
                    [[z.re, -z.im], [z.im, z.re]][i / b][j / b]
                };
                let upper: Vec<f64> =
                    (0..2 * b).flat_map(|i| (i + 1..2 * b).map(move |j| (i, j))).map(|(i, j)| part(i, j)).collect();
                let truth = extended::skew_resolvent(2 * b, &upper);
                let mut x = alloc::vec![c64 { re: f64::NAN, im: f64::NAN }; b * b];
                skew_resolvent(b, &theta, &mut x).unwrap();
                let (mut size, mut error) = (0.0f64, 0.0f64);
                for (at, x) in x.iter().enumerate() {
                    let (i, j) = (at / b, at % b);
                    let (re, im) = (truth[i * 2 * b + j].to_f64(), truth[(b + i) * 2 * b + j].to_f64());
                    size = size.max(re.hypot(im));
                    error = error.max((x.re - re).hypot(x.im - im));
                }
                let ratio = error / (size * (1.0 + size * scale * b as f64) * crate::dense::EPS);
                assert!(ratio <= 4.0, "b {b}, scale {scale}: {ratio}");
            }
        }
    }

    #[test]
    fn wrong_lengths_are_errors() {
        assert!(skew_resolvent::<f64>(3, &[0.0; 2], &mut [0.0; 9]).is_err());
        assert!(skew_resolvent::<f64>(3, &[0.0; 3], &mut [0.0; 8]).is_err());
        skew_resolvent::<f64>(0, &[], &mut []).unwrap();
        assert!(skew_resolvent::<crate::scalar::c64>(1, &[], &mut [crate::scalar::c64::default()]).is_err());
    }
}
