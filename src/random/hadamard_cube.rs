//! HD³: H D₃ H D₂ H D₁ with random signs and padding to a power of two (Andoni et al. 2015, arXiv 1509.02897).

use alloc::vec::Vec;

use super::hadamard::walsh_hadamard;
use super::rotation::check_range;
use crate::error::{Result, check_length};
use crate::generator::Generator;
use crate::scalar::Real;

/// Three rounds of random signs and a Walsh–Hadamard transform of the next power of two: the usual construction, here for
/// comparison. Between powers of two it makes vectors longer, up to twice.
#[derive(Debug, Clone)]
pub struct HadamardCube<T> {
    n: usize,
    signs: Vec<T>,
}

impl<T: Real> HadamardCube<T> {
    /// For vectors of length `n`.
    ///
    /// # Errors
    /// [`Error::Size`](crate::Error::Size) unless 1 ≤ n ≤ 2²⁶.
    pub fn new(n: usize, seed: u64) -> Result<Self> {
        check_range("length n of HD³", n, 1 << 26)?;
        let padded = n.next_power_of_two();
        let mut generator = Generator::new(seed);
        let scale = T::one() / T::from_wide(padded as f64).sqrt();
        let signs = (0..3 * padded).map(|_| if generator.sign() > 0.0 { scale } else { -scale }).collect();
        Ok(Self { n, signs })
    }

    /// Length of the results: n or the next power of two.
    pub fn padded(&self) -> usize {
        self.signs.len() / 3
    }

    /// y ← H D₃ H D₂ H D₁ (x, 0, …, 0).
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) unless x has n coordinates and y [`padded`](Self::padded).
    pub fn apply(&self, x: &[T], y: &mut [T]) -> Result<()> {
        check_length("x of HD³", self.n, x.len())?;
        check_length("y of HD³", self.padded(), y.len())?;
        y[..self.n].copy_from_slice(x);
        y[self.n..].fill(T::zero());
        for signs in self.signs.chunks_exact(self.padded()) {
            y.iter_mut().zip(signs).for_each(|(y, sign)| *y = *y * *sign);
            walsh_hadamard(y)?;
        }
        Ok(())
    }
}
