//! Targets to try a fit on: drawn from the Haar measure, planted products of random blocks, with or without noise, and transforms
//! that are plans already.

use alloc::string::ToString;
use alloc::vec::Vec;

use num_traits::Float;

use super::alternating::{check, initial};
use super::{Group, Start, Target, written_out};
use crate::dense::determinant_sign;
use crate::error::{Error, Result};
use crate::generator::{Generator, Normal};
use crate::layout::StageLayout;
use crate::parallel::Parallelism;
use crate::plan::{Plan, Source};
use crate::scalar::Wide;

/// Streams of their own: with the seed of a fit its random start would be the planted product, and noise from the numbers that a Haar
/// target was made of would only stretch it.
const HAAR: u64 = 0x6861_6172;
const PLANTED: u64 = 0x706c_616e_7465_6421;
const NOISE: u64 = 0x006e_6f69_7365;

impl<W: Wide> Target<W> {
    /// A matrix from the Haar measure of O(n) or SO(n), over complex numbers of U(n): the polar factor of a Gaussian matrix, its
    /// first row reversed where the determinant asks for it. Its bits depend on the platform's logarithm and cosine.
    ///
    /// ```
    /// use papilio::fit::{Group, Target};
    /// let q = Target::<f64>::haar(2, Group::Special, 1)?;
    /// let [a, b, c, d] = *q.entries() else { unreachable!() };
    /// assert!((a * d - b * c - 1.0).abs() < 1e-15);
    /// # Ok::<(), papilio::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Size`] unless 1 ≤ n < 2³² and there is memory for n² numbers; [`Error::Unsupported`] for [`Group::Special`] over the
    /// complex numbers.
    pub fn haar(n: usize, group: Group, seed: u64) -> Result<Self> {
        check(n, &[], group, W::IS_COMPLEX)?;
        let mut entries = square(n)?;
        let mut normal = Normal::new(seed ^ HAAR);
        entries.resize_with(n * n, || scalar(&mut normal));
        let target = Self::project(n, &entries)?.0;
        if group == Group::Full || determinant_sign(n, &mut target.entries().to_vec()) > 0 {
            return Ok(target);
        }
        Ok(target.reflected(0))
    }

    /// A product of random blocks of these layouts, nearly from the Haar measure of `group`.
    ///
    /// # Errors
    /// As [`haar`](Self::haar), and as [`alternating`](super::alternating) for the layouts and the group.
    pub fn planted(n: usize, stages: &[StageLayout], group: Group, seed: u64) -> Result<Self> {
        square::<W>(n)?;
        check(n, stages, group, W::IS_COMPLEX)?;
        let mut generator = Generator::new(seed ^ PLANTED);
        let mut stage = |layout: &StageLayout| {
            (layout.clone(), Source::Fixed(initial(layout, Start::Random, group, &mut generator).into()))
        };
        Self::of(&Plan::from_stages(n, stages.iter().map(&mut stage))?)
    }

    /// The matrix of a plan without parameters, such as [`synthesis`](crate::synthesis)'s transforms.
    ///
    /// ```
    /// use papilio::{fit::Target, synthesis};
    /// let q = Target::of(&synthesis::dct2::<f64>(8)?)?;
    /// assert!((q.entries()[0] - 0.125f64.sqrt()).abs() < 1e-15);
    /// # Ok::<(), papilio::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Length`] for a plan with parameters; as [`haar`](Self::haar).
    pub fn of(plan: &Plan<W>) -> Result<Self> {
        square::<W>(plan.n())?;
        Self::new(plan.n(), &written_out(plan, Parallelism::default())?)
    }

    /// The polar factor of Q + σ·G/√n with a Gaussian matrix G: of every direction, Q moves by about σ.
    ///
    /// # Errors
    /// [`Error::Domain`] unless σ is finite; as [`project`](Self::project).
    pub fn with_noise(&self, sigma: f64, seed: u64) -> Result<Self> {
        if !sigma.is_finite() {
            let (what, got) = ("sigma of noise".to_string(), sigma.to_string());
            return Err(Error::Domain { what, expected: "a finite number", got });
        }
        let n = self.n();
        let scale = W::from_real(sigma / Float::sqrt(n as f64));
        let mut normal = Normal::new(seed ^ NOISE);
        let noisy: Vec<W> = self.entries().iter().map(|x| *x + scale * scalar::<W>(&mut normal)).collect();
        Ok(Self::project(n, &noisy)?.0)
    }
}

/// An empty vector with room for n² numbers.
fn square<W>(n: usize) -> Result<Vec<W>> {
    let mut entries = Vec::new();
    let fits = (1..=u32::MAX as usize).contains(&n);
    match n.checked_mul(n).filter(|_| fits).map(|count| entries.try_reserve_exact(count)) {
        Some(Ok(())) => Ok(entries),
        _ => Err(Error::Size {
            what: "target",
            expected: "1 <= n < 2^32, and memory for n^2 numbers".to_string(),
            got: n.to_string(),
        }),
    }
}

/// A normal number of variance 1, complex where W is.
fn scalar<W: Wide>(normal: &mut Normal) -> W {
    let re = normal.next();
    let half = core::f64::consts::FRAC_1_SQRT_2;
    if W::IS_COMPLEX { W::from_parts(half * re, half * normal.next()) } else { W::from_real(re) }
}
