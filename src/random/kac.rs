//! FHT–Kac: Walsh–Hadamard transforms of the first and the last 2ᵏ coordinates in turn, and a step of Kac's walk between the halves,
//! as RaBitQ's library rotates vectors whose length is no power of two (Gao & Long 2024, arXiv 2405.12497, its `FhtKacRotator`).

use alloc::vec::Vec;

use super::hadamard::walsh_hadamard;
use super::rotation::check_range;
use crate::error::{Result, check_length};
use crate::generator::Generator;
use crate::scalar::Real;

/// Four rounds of random signs, a transform of 2ᵏ ≤ n coordinates, and sums and differences of halves; here for comparison: it mixes
/// less well than [`RandomRotation`](super::RandomRotation) where n is far from a power of two.
#[derive(Debug, Clone)]
pub struct KacWalk<T> {
    n: usize,
    signs: Vec<T>,
}

impl<T: Real> KacWalk<T> {
    /// For vectors of length `n`.
    ///
    /// # Errors
    /// [`Error::Size`](crate::Error::Size) unless 1 ≤ n ≤ 2²⁶.
    pub fn new(n: usize, seed: u64) -> Result<Self> {
        check_range("length n of FHT–Kac", n, 1 << 26)?;
        let mut generator = Generator::new(seed);
        let sign = |_| if generator.sign() > 0.0 { T::one() } else { -T::one() };
        Ok(Self { n, signs: (0..4 * n).map(sign).collect() })
    }

    /// x ← Q x.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) unless x has n coordinates.
    pub fn apply(&self, x: &mut [T]) -> Result<()> {
        check_length("x of FHT–Kac", self.n, x.len())?;
        let (n, size) = (self.n, 1 << self.n.ilog2());
        let scale = T::one() / T::from_wide(size as f64).sqrt();
        let half = T::from_wide(core::f64::consts::FRAC_1_SQRT_2);
        for (round, signs) in self.signs.chunks_exact(n).enumerate() {
            x.iter_mut().zip(signs).for_each(|(x, sign)| *x = *x * *sign);
            let part = if round % 2 == 0 { &mut x[..size] } else { &mut x[n - size..] };
            part.iter_mut().for_each(|x| *x = *x * scale);
            walsh_hadamard(part)?;
            if size < n {
                for i in 0..n / 2 {
                    let (a, b) = (x[i], x[n - n / 2 + i]);
                    (x[i], x[n - n / 2 + i]) = ((a + b) * half, (a - b) * half);
                }
            }
        }
        Ok(())
    }
}
