//! Structured Gaussian maps: projections that keep lengths (Johnson–Lindenstrauss), as a subsampled random rotation.
//!
//! y = √(n/k)·(k random coordinates of Qx). The choice makes ‖y‖² an estimate of ‖x‖² without bias, whatever Q; a uniformly random Q
//! gives it the relative variance 2(n − k)/(k(n + 2)), below the 2/k of a Gaussian matrix (‖y‖²/‖x‖² is Beta distributed with
//! parameters k/2 and (n − k)/2, times n/k). For k > n several rotations stand one below the other.

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use super::rotation::{RandomRotation, check_range};
use crate::error::{Error, Result, check_length};
use crate::generator::Generator;
use crate::scalar::Real;

/// A map from n to k dimensions that acts like a Gaussian matrix with variance 1/k, in O(n log n).
///
/// ```
/// use papilio::random::GaussianMap;
/// let map = GaussianMap::<f32>::new(1000, 100, 1)?;
/// let (x, mut y) = (vec![1.0; 1000], vec![0.0; 100]);
/// map.apply(&x, &mut y, &mut map.scratch())?;
/// let norm = y.iter().map(|y| y * y).sum::<f32>().sqrt();
/// assert!((norm / 1000f32.sqrt() - 1.0).abs() < 0.3);
/// # Ok::<(), papilio::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct GaussianMap<T: Real> {
    k: usize,
    rotations: Vec<RandomRotation<T>>,
    /// Coordinates of the last rotation's result that are kept, in order.
    kept: Vec<u32>,
    scale: T,
}

impl<T: Real> GaussianMap<T> {
    /// From `n` to `k` dimensions.
    ///
    /// # Errors
    /// [`Error::Size`] unless 1 ≤ n, k ≤ 2²⁶ and k ≤ 256·n.
    pub fn new(n: usize, k: usize, seed: u64) -> Result<Self> {
        check_range("dimensions n that are projected", n, 1 << 26)?;
        check_range("dimensions k to project to", k, 1 << 26)?;
        if k.div_ceil(n) > 256 {
            let expected = format!("at most 256 n = {}", 256 * n);
            return Err(Error::Size { what: "dimensions k to project to", expected, got: k.to_string() });
        }
        let mut seeds = Generator::new(seed);
        let rotations = (0..k.div_ceil(n)).map(|_| RandomRotation::new(n, seeds.next_u64())).collect::<Result<_>>()?;
        let (mut all, count) = ((0..n as u32).collect::<Vec<_>>(), k - (k - 1) / n * n);
        seeds.shuffle(&mut all);
        let mut kept = all[..count].to_vec();
        kept.sort_unstable();
        Ok(Self { k, rotations, kept, scale: T::from_wide(n as f64 / k as f64).sqrt() })
    }

    /// A k for which the squared norms of all differences of `points` vectors are kept to a factor 1 ± `epsilon` with probability ½
    /// at least, if Q were uniform: 4·ln(2·points²)/(ε² − ε³·2/3), rounded up (the tails of Dasgupta & Gupta 2003, doi 10.1002/rsa.10073,
    /// summed over pairs).
    ///
    /// # Errors
    /// [`Error::Domain`] unless 0 < ε < 1.
    pub fn dimensions(points: usize, epsilon: f64) -> Result<usize> {
        if !(epsilon > 0.0 && epsilon < 1.0) {
            let (expected, got) = ("0 < epsilon < 1", epsilon.to_string());
            return Err(Error::Domain { what: "distortion".to_string(), expected, got });
        }
        let points = points.max(2);
        let needed = 4.0 * num_traits::Float::ln(2.0 * points as f64 * points as f64)
            / (epsilon * epsilon * (1.0 - epsilon * 2.0 / 3.0));
        Ok(num_traits::Float::ceil(needed) as usize)
    }

    /// Length of inputs.
    pub fn n(&self) -> usize {
        self.rotations[0].n()
    }

    /// Length of results.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Scratch memory for [`apply`](Self::apply): n numbers.
    pub fn scratch(&self) -> Vec<T> {
        vec![T::zero(); self.n()]
    }

    /// y ← √(n/k) (k coordinates of Q x).
    ///
    /// # Errors
    /// [`Error::Length`] unless x and the scratch have n numbers and y has k.
    pub fn apply(&self, x: &[T], y: &mut [T], scratch: &mut [T]) -> Result<()> {
        check_length("x of a Gaussian map", self.n(), x.len())?;
        check_length("y of a Gaussian map", self.k, y.len())?;
        check_length("scratch of a Gaussian map", self.n(), scratch.len())?;
        let last = self.rotations.len() - 1;
        for (number, (rotation, y)) in self.rotations.iter().zip(y.chunks_mut(x.len())).enumerate() {
            scratch.copy_from_slice(x);
            rotation.apply(scratch)?;
            if number == last {
                y.iter_mut().zip(&self.kept).for_each(|(y, at)| *y = scratch[*at as usize] * self.scale);
            } else {
                y.iter_mut().zip(&*scratch).for_each(|(y, x)| *y = *x * self.scale);
            }
        }
        Ok(())
    }
}
