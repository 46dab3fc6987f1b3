//! What is to be made small: a function of y = Qx and its gradient.
//!
//! The ready ones are scaled like e: with D = Q − R and a fixed or random x,
//!
//! > Σ‖Dx‖²/(2Σ‖x‖²), and for random signs E‖Dx‖² = ‖D‖²_F, ‖x‖² = n, so its mean is ‖Q − R‖²_F/(2n) = e.
//!
//! Signs have the least variance of all independent probes (Hutchinson 1989, doi 10.1080/03610919008812866): that of DᴴD's part beside the
//! diagonal.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::super::square;
use crate::error::{Error, Result, check_length};
use crate::generator::Generator;
use crate::scalar::Scalar;

/// A function of y = Qx. The vectors of a batch are rows, one after the other.
///
/// ```
/// use papilio::fit::Loss;
///
/// /// Σ√(1 + (y − t)²) − 1: outliers pull with a bounded force.
/// struct Robust { x: Vec<f64>, t: Vec<f64> }
///
/// impl Loss<f64> for Robust {
///     fn inputs(&self) -> &[f64] {
///         &self.x
///     }
///     fn evaluate(&self, y: &[f64], gradient: &mut [f64]) -> f64 {
///         let mut loss = 0.0;
///         for ((y, t), g) in y.iter().zip(&self.t).zip(gradient) {
///             let d = y - t;
///             let root = (1.0 + d * d).sqrt();
///             loss += root - 1.0;
///             *g = d / root;
///         }
///         loss
///     }
/// }
/// ```
pub trait Loss<T: Scalar> {
    /// Prepares the batch of a round. A loss whose batches never change has nothing to do; others give the same batch for the same round, so
    /// that a descent can be repeated.
    ///
    /// # Errors
    /// Whatever hinders it; the descent ends with that error.
    fn prepare(&mut self, round: usize) -> Result<()> {
        let _ = round;
        Ok(())
    }

    /// Whether rounds differ: then values of single rounds are noise around the loss that is meant.
    fn is_random(&self) -> bool {
        false
    }

    /// The inputs x of the round, `[batch, n]`.
    fn inputs(&self) -> &[T];

    /// The loss of the outputs `y` `[batch, n]`; overwrites `gradient`, of the same shape, with ∂L/∂y (for complex numbers ∂L/∂Re +
    /// i·∂L/∂Im). It sums in an order of its own, always the same one.
    fn evaluate(&self, y: &[T], gradient: &mut [T]) -> f64;
}

/// Σ‖Qx − t‖²/(2Σ‖x‖²) over given pairs.
#[derive(Debug, Clone, PartialEq)]
pub struct LeastSquares<T> {
    inputs: Vec<T>,
    images: Vec<T>,
    /// 1/Σ‖x‖²
    scale: f64,
}

impl<T: Scalar> LeastSquares<T> {
    /// Inputs x and wanted outputs t, both `[batch, n]`.
    ///
    /// # Errors
    /// [`Error::Length`] unless there are as many numbers in both; [`Error::Size`] if there are none; [`Error::Domain`] for a number
    /// that is not finite, and if all inputs are zero.
    pub fn new(inputs: &[T], images: &[T]) -> Result<Self> {
        check_length("images", inputs.len(), images.len())?;
        if inputs.is_empty() {
            let expected = "at least one vector".to_string();
            return Err(Error::Size { what: "pairs of a loss", expected, got: "none".to_string() });
        }
        let mut pairs = Self { inputs: inputs.to_vec(), images: images.to_vec(), scale: 0.0 };
        pairs.rescale()?;
        pairs.check_images()?;
        Ok(pairs)
    }

    fn rescale(&mut self) -> Result<()> {
        let sum: f64 = self.inputs.iter().map(|x| square(x.to_wide())).sum();
        if !(sum > 0.0 && sum < f64::INFINITY) {
            return Err(Error::Domain {
                what: "inputs of a loss".to_string(),
                expected: "finite numbers, not all zero",
                got: format!("a sum of squares of {sum}"),
            });
        }
        self.scale = 1.0 / sum;
        Ok(())
    }

    fn check_images(&self) -> Result<()> {
        match self.images.iter().position(|t| !crate::scalar::is_finite(*t)) {
            None => Ok(()),
            Some(at) => Err(Error::Domain {
                what: "images of a loss".to_string(),
                expected: "finite numbers",
                got: format!("{:?} at position {at}", self.images[at]),
            }),
        }
    }
}

impl<T: Scalar> Loss<T> for LeastSquares<T> {
    fn inputs(&self) -> &[T] {
        &self.inputs
    }

    fn evaluate(&self, y: &[T], gradient: &mut [T]) -> f64 {
        let mut sum = 0.0;
        for ((y, t), g) in y.iter().zip(&self.images).zip(gradient) {
            let d = (*y - *t).to_wide();
            sum += square(d);
            *g = T::from_wide(T::Wide::from_real(self.scale) * d);
        }
        0.5 * self.scale * sum
    }
}

/// Least squares on random signs x against a target that can only be applied: no matrix exists, so n may be millions.
///
/// Every round draws `batch` new vectors. One round's loss is e with a relative deviation of at most √(2/batch), and far less for errors that
/// are spread over many entries.
pub struct BlackBox<T, F> {
    apply: F,
    seed: u64,
    pairs: LeastSquares<T>,
}

impl<T, F> core::fmt::Debug for BlackBox<T, F> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("BlackBox").field("seed", &self.seed).finish_non_exhaustive()
    }
}

impl<T: Scalar, F: FnMut(&[T], &mut [T]) -> Result<()>> BlackBox<T, F> {
    /// `apply(x, t)` writes the images t of the vectors x, both `[batch, n]`.
    ///
    /// # Errors
    /// [`Error::Size`] for n = 0, an empty batch, and more numbers than memory can hold.
    pub fn new(n: usize, batch: usize, seed: u64, apply: F) -> Result<Self> {
        let len = n.saturating_mul(batch);
        let (mut inputs, mut images) = (Vec::new(), Vec::new());
        if len == 0 || inputs.try_reserve_exact(len).is_err() || images.try_reserve_exact(len).is_err() {
            let expected = "at least one vector, and as many as fit the memory".to_string();
            return Err(Error::Size { what: "batch of probes", expected, got: format!("{batch} of length {n}") });
        }
        inputs.resize(len, T::one());
        images.resize(len, T::one());
        let pairs = LeastSquares { images, inputs, scale: 1.0 / len as f64 };
        Ok(Self { apply, seed, pairs })
    }
}

impl<T: Scalar, F: FnMut(&[T], &mut [T]) -> Result<()>> Loss<T> for BlackBox<T, F> {
    fn prepare(&mut self, round: usize) -> Result<()> {
        let LeastSquares { inputs, images, .. } = &mut self.pairs;
        let mut generator = Generator::new(self.seed);
        generator.skip((round as u64).wrapping_mul(inputs.len() as u64));
        inputs.fill_with(|| T::from_real(T::Real::from_wide(generator.sign())));
        (self.apply)(inputs, images)?;
        self.pairs.check_images()
    }

    fn is_random(&self) -> bool {
        true
    }

    fn inputs(&self) -> &[T] {
        &self.pairs.inputs
    }

    fn evaluate(&self, y: &[T], gradient: &mut [T]) -> f64 {
        self.pairs.evaluate(y, gradient)
    }
}
