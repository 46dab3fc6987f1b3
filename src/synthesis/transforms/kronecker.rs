//! Kronecker products of given orthogonal matrices, Hadamard matrices among them, and signs.
//!
//! A₁ ⊗ A₂ ⊗ ··· ⊗ A_m acts on coordinates i = (…(i₁n₂ + i₂)n₃ + …)n_m + i_m, A_k on digit i_k alone: the stages commute, and
//! each is strided, with blocks A_k at distance n_{k+1}···n_m. n·Σn_k multiply-adds for n² entries.
//!
//! **Hadamard.** H₁ = 1, H_{2n} = H₂ ⊗ H_n (J. Sylvester 1867): entry (i, j) is (−1) to the number of ones that i and j share in
//! binary. R. Paley (J. Math. Phys. 12, 1933) has matrices of order q + 1 for primes q ≡ 3 (mod 4): I + S with
//!
//! > S = [[0, 1ᵀ], [−1, (χ(i − j))]], χ(a) = 1 for squares, −1 for other numbers, and 0 for 0 (mod q),
//!
//! which is skew with SSᵀ = qI; and of order 2(q + 1) for primes q ≡ 1 (mod 4): with the symmetric S = [[0, 1ᵀ], [1, (χ(i − j))]],
//! S ⊗ [[1, 1], [1, −1]] + I ⊗ [[1, −1], [−1, −1]].

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use super::radices::check_size;
use super::{Stages, plan};
use crate::dense::{ORTHOGONAL, orthogonality_ratio};
use crate::error::{Error, Result, check_length};
use crate::layout::StageLayout;
use crate::plan::{Plan, Source};
use crate::scalar::Scalar;

/// Orders of Paley's blocks, at most.
const MOST_PALEY: usize = 64;

/// A₁ ⊗ A₂ ⊗ ···, for orthogonal or unitary matrices given as (size, row-major entries); the last acts on neighbours.
///
/// ```
/// use papilio::{Orthogonal, synthesis};
/// let (turn, swap) = ([0.6, -0.8, 0.8, 0.6], [0.0, 1.0, 1.0, 0.0]);
/// let q = Orthogonal::new(synthesis::kronecker::<f64>(&[(2, &turn), (2, &swap)])?, [0.0; 0])?;
/// assert_eq!(q.apply(&[1.0, 0.0, 0.0, 0.0])?, [0.0, 0.6, 0.0, 0.8]);
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// [`Error::Size`] unless the product of sizes is from 1 to 2²⁴, [`Error::Length`] for a factor that is not square of its size,
/// [`Error::Domain`] for one that is not orthogonal to a ratio of 30.
pub fn kronecker<T: Scalar>(factors: &[(usize, &[T::Wide])]) -> Result<Plan<T>> {
    let n = factors.iter().try_fold(1usize, |n, (b, _)| n.checked_mul(*b)).unwrap_or(usize::MAX);
    check_size("Kronecker product", n)?;
    let mut stages = Vec::with_capacity(factors.len());
    let mut distance = 1;
    for (at, (b, entries)) in factors.iter().enumerate().rev() {
        check_length("factor of a Kronecker product", b.saturating_mul(*b), entries.len())?;
        let ratio = orthogonality_ratio(*b, entries)?;
        if ratio.is_nan() || ratio > ORTHOGONAL {
            return Err(Error::Domain {
                what: format!("factor {at} of a Kronecker product"),
                expected: "an orthogonal matrix: orthogonality ratio at most 30",
                got: format!("ratio {ratio:e}"),
            });
        }
        let blocks = entries.repeat(n / b);
        let layout = StageLayout::Strided { unit: 1, radix: *b, distance, groups: n / (b * distance) };
        stages.push((layout, Source::Fixed(blocks.into())));
        distance *= b;
    }
    Plan::from_stages(n, stages)
}

/// A Hadamard matrix: entries ±n^{−½}. For n = 2ᵏ that of Sylvester, y_i = n^{−½} Σ x_j (−1)^{i·j} with the number i·j of ones that i
/// and j share in binary, in k stages of pairs; for n = m·2ᵏ, m = 12, 20, 28, 36, 44 or 60, it is H_{2ᵏ} ⊗ H_m with a matrix of Paley.
///
/// ```
/// use papilio::{Orthogonal, synthesis};
/// let q = Orthogonal::new(synthesis::hadamard::<f64>(12)?, [0.0; 0])?;
/// let size = 1.0 / 12f64.sqrt();
/// assert!(q.to_dense()?.iter().all(|x| (x.abs() - size).abs() < 1e-16));
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// [`Error::Size`] for other n, or more than 2²⁴.
pub fn hadamard<T: Scalar>(n: usize) -> Result<Plan<T>> {
    check_size("Hadamard matrix", n)?;
    let twos = n.trailing_zeros();
    let odd = n >> twos;
    // Paley's orders are multiples of 4.
    let paley =
        if odd == 1 { Some((1, Vec::new())) } else { paley(4 * odd).filter(|_| twos >= 2).map(|h| (4 * odd, h)) };
    let Some((m, block)) = paley else {
        let expected = "n = m·2^k with m = 1, 12, 20, 28, 36, 44 or 60".to_string();
        return Err(Error::Size { what: "Hadamard matrix", expected, got: format!("n = {n}") });
    };
    let mut stages = Stages::new();
    if m > 1 {
        let scale = 1.0 / Float::sqrt(m as f64);
        let block: Vec<f64> = block.into_iter().map(|x| f64::from(x) * scale).collect();
        stages.push((StageLayout::contiguous(m, n / m), block.repeat(n / m)));
    }
    let h = core::f64::consts::FRAC_1_SQRT_2;
    let mut distance = m;
    while distance < n {
        let layout = StageLayout::Strided { unit: 1, radix: 2, distance, groups: n / (2 * distance) };
        stages.push((layout, [h, h, h, -h].repeat(n / 2)));
        distance *= 2;
    }
    plan(n, stages)
}

/// The diagonal matrix of −1 where `negative` says so, and 1 elsewhere: one stage of the negative coordinates.
///
/// # Errors
/// [`Error::Size`] unless there are 1 to 2²⁴ of them.
pub fn signs<T: Scalar>(negative: &[bool]) -> Result<Plan<T>> {
    check_size("signs", negative.len())?;
    let index: Vec<u32> = (0..).zip(negative).filter(|(_, negative)| **negative).map(|(i, _)| i).collect();
    let blocks = vec![-1.0; index.len()];
    plan(negative.len(), vec![(StageLayout::Table { block: 1, index: index.into() }, blocks)])
}

/// Paley's matrix of ±1 of order n, if there is one with a prime.
fn paley(n: usize) -> Option<Vec<i8>> {
    if n > MOST_PALEY {
        return None;
    }
    let prime = |q: usize| q > 2 && (2..q).all(|p| !q.is_multiple_of(p));
    // S[i][j], with `corner` in the first column.
    let conference = |q: usize, corner: i8, i: usize, j: usize| match (i, j) {
        (0, 0) => 0,
        (0, _) => 1,
        (_, 0) => corner,
        _ if i == j => 0,
        _ if (1..q).any(|a| a * a % q == (i + q - j) % q) => 1,
        _ => -1,
    };
    if prime(n - 1) && n.is_multiple_of(4) {
        let entry = |i: usize, j: usize| conference(n - 1, -1, i, j) + i8::from(i == j);
        return Some((0..n * n).map(|at| entry(at / n, at % n)).collect());
    }
    let q = (n / 2).checked_sub(1).filter(|q| prime(*q) && q % 4 == 1)?;
    let entry = |i: usize, j: usize| match (conference(q, 1, i / 2, j / 2), i % 2 + j % 2) {
        (0, 0) => 1,
        (0, _) => -1,
        (s, 2) => -s,
        (s, _) => s,
    };
    Some((0..n * n).map(|at| entry(at / n, at % n)).collect())
}
