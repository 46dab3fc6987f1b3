//! How Gaussian the results of a random rotation look, for inputs that make it hard.
//!
//! Through a uniformly random (Haar) matrix any vector x comes out as ‖x‖ times a uniform direction u, whatever x is. What is
//! measured of a construction, over seeds and inputs, is therefore compared with uniform directions:
//! - the kurtosis n·Σuᵢ⁴, whose mean is 3n/(n + 2);
//! - the cosine of u and its signs, Σ|uᵢ|/√n, on which 1-bit codes depend: its mean is √n·Γ(n/2)/(√π·Γ((n + 1)/2)) → √(2/π);
//! - that cosine's 5% quantile, from a sample of directions;
//! - the correlation of neighbours, n·Σuᵢ²uⱼ² over coordinates 1, 2, 4, … apart, whose mean is n/(n + 2): the one furthest from it.

use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use super::rotation::{RandomRotation, check_between, check_range};
use crate::error::Result;
use crate::generator::{Generator, Normal};

/// Inputs that structured rotations find hard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Input {
    /// All in one coordinate; every coordinate in turn.
    OneHot,
    /// Eight equal neighbours, anywhere.
    EqualNeighbours,
    /// Gaussian with standard deviations e^{−i/20}.
    Decaying,
}

impl Input {
    /// All three.
    pub const ALL: [Input; 3] = [Input::OneHot, Input::EqualNeighbours, Input::Decaying];

    /// A name for tables.
    pub fn name(self) -> &'static str {
        match self {
            Input::OneHot => "one-hot",
            Input::EqualNeighbours => "8 equal neighbours",
            Input::Decaying => "decaying spectrum",
        }
    }

    /// Number v of seed `seed`: one-hot vectors of all seeds together go through all coordinates in turn.
    fn fill(self, seed: usize, v: usize, vectors: usize, x: &mut [f32]) {
        let n = x.len();
        x.fill(0.0);
        let at = seed * vectors + v;
        match self {
            Input::OneHot => x[at % n] = 1.0,
            Input::EqualNeighbours => {
                let places = (n + 1).saturating_sub(8).max(1) as u64;
                let start = Generator::new(at as u64).below(places) as usize;
                x[start..n.min(start + 8)].fill(1.0);
            }
            Input::Decaying => {
                let mut normal = Normal::new(at as u64);
                for (i, x) in x.iter_mut().enumerate() {
                    *x = (normal.next() * Float::exp(-(i as f64) / 20.0)) as f32;
                }
            }
        }
    }
}

/// What uniform directions of n coordinates give.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reference {
    /// Length of the results, n or what padding makes of it.
    pub n: usize,
    /// Mean kurtosis, exactly.
    pub kurtosis: f64,
    /// Mean cosine with the signs, exactly.
    pub cosine: f64,
    /// 5% quantile of that cosine, from a sample.
    pub quantile: f64,
    /// Standard error of the quantile.
    pub quantile_error: f64,
}

impl Reference {
    /// For n ≥ 1, with a sample of that many directions (at least 200 say anything about a quantile).
    ///
    /// # Errors
    /// [`Error::Size`](crate::Error::Size) unless 1 ≤ n ≤ 2²⁶ and 20 ≤ sample ≤ 2²⁶.
    pub fn new(n: usize, sample: usize) -> Result<Self> {
        check_range("length n of directions", n, 1 << 26)?;
        check_between("sample of directions", sample, 20, 1 << 26)?;
        let mut normal = Normal::new(0x6f09_52c3);
        let mut x = vec![0.0; n];
        let mut cosines: Vec<f64> = (0..sample)
            .map(|_| {
                x.iter_mut().for_each(|x| *x = normal.next() as f32);
                Measures::of(&x).cosine
            })
            .collect();
        let quantile = Quantile::of(&mut cosines);
        // √n·Γ(n/2)/(√π·Γ((n + 1)/2)) by g(n) = Γ(n/2)/Γ((n + 1)/2), g(n)·g(n + 1) = 2/n, from g(1) = √π.
        let root = Float::sqrt(core::f64::consts::PI);
        let ratio = (1..n).fold(root, |g, n| 2.0 / (n as f64 * g));
        let real = n as f64;
        Ok(Self {
            n,
            kurtosis: 3.0 * real / (real + 2.0),
            cosine: Float::sqrt(real) * ratio / root,
            quantile: quantile.value,
            quantile_error: quantile.error,
        })
    }
}

/// What a construction gives for one kind of input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// The inputs.
    pub input: Input,
    /// Mean kurtosis.
    pub kurtosis: f64,
    /// Standard error of that, from its spread over seeds.
    pub kurtosis_error: f64,
    /// Largest kurtosis of any vector.
    pub worst_kurtosis: f64,
    /// Mean cosine with the signs.
    pub cosine: f64,
    /// Standard error of that.
    pub cosine_error: f64,
    /// 5% quantile of the cosine.
    pub quantile: f64,
    /// Standard error of that.
    pub quantile_error: f64,
    /// n·Σuᵢ²uⱼ²·(n + 2)/n − 1 for the distance where it is furthest from 0.
    pub correlation: f64,
}

impl Quality {
    /// Whether kurtosis, mean cosine and its quantile differ from those of uniform directions by at most 3 standard errors or 0.02.
    pub fn is_like_haar(&self, reference: &Reference) -> bool {
        let near = |a: f64, b: f64, error: f64| Float::abs(a - b) <= Float::max(3.0 * error, 0.02);
        let quantile_error = Float::hypot(self.quantile_error, reference.quantile_error);
        near(self.kurtosis, reference.kurtosis, self.kurtosis_error)
            && near(self.cosine, reference.cosine, self.cosine_error)
            && near(self.quantile, reference.quantile, quantile_error)
    }
}

/// Measures a construction: `rotated(seed, x)` is the result of the rotation of that seed for x, of any length. One-hot inputs go through
/// all coordinates if seeds·vectors ≥ n.
///
/// # Errors
/// [`Error::Size`](crate::Error::Size) unless 1 ≤ n ≤ 2²⁶, seeds ≥ 2, vectors ≥ 1 and seeds·vectors ≤ 2²⁶; those of `rotated`.
pub fn quality(
    n: usize,
    input: Input,
    seeds: usize,
    vectors: usize,
    mut rotated: impl FnMut(usize, &[f32]) -> Result<Vec<f32>>,
) -> Result<Quality> {
    check_range("length n of random rotations", n, 1 << 26)?;
    check_between("seeds of random rotations", seeds, 2, 1 << 20)?;
    check_range("vectors of each seed", vectors, 1 << 20)?;
    check_range("vectors of all seeds", seeds.saturating_mul(vectors), 1 << 26)?;
    let mut x = vec![0.0; n];
    let (mut kurtosis, mut cosine) = (Means::default(), Means::default());
    let (mut worst, mut cosines, mut products) = (0.0, Vec::with_capacity(seeds * vectors), [0.0; 16]);
    let mut pairs = 0.0;
    for seed in 0..seeds {
        let (mut k, mut c) = (0.0, 0.0);
        for v in 0..vectors {
            input.fill(seed, v, vectors, &mut x);
            let y = rotated(seed, &x)?;
            let measures = Measures::of(&y);
            (k, c) = (k + measures.kurtosis, c + measures.cosine);
            worst = Float::max(worst, measures.kurtosis);
            cosines.push(measures.cosine);
            add_products(&y, &mut products);
            pairs = y.len() as f64 / (y.len() as f64 + 2.0);
        }
        kurtosis.add(k / vectors as f64);
        cosine.add(c / vectors as f64);
    }
    let count = (seeds * vectors) as f64;
    let off = products.iter().filter(|p| **p > 0.0).map(|p| p / count / pairs - 1.0);
    let correlation = off.fold(0.0, |worst: f64, off| if Float::abs(off) > Float::abs(worst) { off } else { worst });
    let quantile = Quantile::of(&mut cosines);
    let ((kurtosis, kurtosis_error), (cosine, cosine_error)) = (kurtosis.result(), cosine.result());
    let (value, error) = (quantile.value, quantile.error);
    let worst_kurtosis = worst;
    Ok(Quality {
        input,
        kurtosis,
        kurtosis_error,
        worst_kurtosis,
        cosine,
        cosine_error,
        quantile: value,
        quantile_error: error,
        correlation,
    })
}

/// [`RandomRotation`] with that many rounds, for all inputs, and what uniform directions give.
///
/// ```
/// let (reference, report) = papilio::random::quality_report(200, 3, 64, 20)?;
/// assert!(report.iter().all(|quality| quality.is_like_haar(&reference)));
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// Those of [`quality`] and [`RandomRotation::with_rounds`].
pub fn quality_report(n: usize, rounds: usize, seeds: usize, vectors: usize) -> Result<(Reference, [Quality; 3])> {
    let reference = Reference::new(n, 4000)?;
    let mut drawn: Option<(usize, RandomRotation<f32>)> = None;
    let mut measure = |input| {
        quality(n, input, seeds, vectors, |seed, x| {
            let mut y = x.to_vec();
            match &drawn {
                Some((of, rotation)) if *of == seed => rotation.apply(&mut y)?,
                _ => drawn.insert((seed, RandomRotation::with_rounds(n, seed as u64, rounds)?)).1.apply(&mut y)?,
            }
            Ok(y)
        })
    };
    let [a, b, c] = Input::ALL;
    Ok((reference, [measure(a)?, measure(b)?, measure(c)?]))
}

/// Of one vector.
struct Measures {
    kurtosis: f64,
    cosine: f64,
}

impl Measures {
    fn of(y: &[f32]) -> Self {
        let n = y.len() as f64;
        let sum = |power: fn(f64) -> f64| y.iter().map(|y| power(f64::from(*y))).sum::<f64>();
        let (one, two, four) = (sum(Float::abs), sum(|y| y * y), sum(|y| y * y * y * y));
        Self { kurtosis: n * four / (two * two), cosine: one / Float::sqrt(n * two) }
    }
}

/// Adds n·Σuᵢ²uⱼ² (pairs 2ᵏ apart, around the end) for every k, for u = y/‖y‖.
fn add_products(y: &[f32], products: &mut [f64; 16]) {
    let n = y.len();
    let square = |y: f32| f64::from(y) * f64::from(y);
    let energy = y.iter().map(|y| square(*y)).sum::<f64>();
    for (k, product) in products.iter_mut().enumerate().filter(|(k, _)| 2 << k <= n) {
        let pairs = (0..n).map(|i| square(y[i]) * square(y[(i + (1 << k)) % n]));
        *product += n as f64 * pairs.sum::<f64>() / (energy * energy);
    }
}

/// Mean and standard error.
#[derive(Default)]
struct Means {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Means {
    fn add(&mut self, x: f64) {
        (self.count, self.sum, self.squares) = (self.count + 1.0, self.sum + x, self.squares + x * x);
    }

    fn result(&self) -> (f64, f64) {
        let mean = self.sum / self.count;
        let variance = Float::max(self.squares / self.count - mean * mean, 0.0);
        (mean, Float::sqrt(variance / (self.count - 1.0)))
    }
}

/// The 5% quantile of a sample.
struct Quantile {
    value: f64,
    error: f64,
}

impl Quantile {
    /// Its error from the order statistics one standard deviation of their number to either side.
    fn of(sample: &mut [f64]) -> Self {
        sample.sort_unstable_by(f64::total_cmp);
        let (count, p) = (sample.len() as f64, 0.05);
        let at = |rank: f64| sample[(Float::max(rank, 0.0) as usize).min(sample.len() - 1)];
        let spread = Float::sqrt(count * p * (1.0 - p));
        Self { value: at(count * p), error: (at(count * p + spread) - at(count * p - spread)) / 2.0 }
    }
}
