//! The discrete Fourier transform of real vectors, and those that differ from it by rotations of its last stage.
//!
//! | | row k of Q, up to the factor | |
//! |---|---|---|
//! | [`real_dft`] | cos(2πjk/n) for 2k ≤ n, sin(2πj(n − k)/n) for 2k > n | the real Fourier basis |
//! | [`hartley`] | cos(2πjk/n) + sin(2πjk/n) | R. Hartley 1942; symmetric |
//! | [`dct2`] | cos(π(2j + 1)k/(2n)) | eigenvectors of the path, Neumann at both ends |
//! | [`dst2`] | sin(π(2j + 1)(k + 1)/(2n)) | Dirichlet |
//!
//! The factor makes rows unit vectors: √(2/n), or 1/√n for a row of ±1 and for Hartley.
//!
//! # A stage
//! With decimation in time (`radices.rs`) a stage of radix r joins r transforms of size m. In unitary terms, and as the
//! transforms E⁽ˢ⁾ of real vectors are conjugate at k and m − k,
//!
//! > X_f = r^{−½} Σ_s e^{−2πisf/(rm)} E⁽ˢ⁾_{f mod m}.
//!
//! Of orthonormal coordinates, c_k = √2 Re E_k at k and s_k = −√2 Im E_k at m − k, for each k with 0 < 2k < m the 2r numbers at
//! k and m − k of all r transforms become the 2r numbers of X at the same places: {k + mq} and {rm − (k + mq)} are
//! {sm + k, sm + m − k}. So a stage is orthogonal 2r×2r blocks and works in place, and the last one leaves the natural order
//! of H. Sorensen et al., Real-valued fast Fourier transform algorithms, IEEE TASSP 35 (1987). An entry is a cosine or sine of
//!
//! > ψ = 2πsf/(rm), f = min(p, rm − p) for the row at place p,
//!
//! times r^{−½}. At k = 0 and at k = m/2 E is real, and the block has r coordinates: entries are √(2/r) times cosines and
//! sines, where X is complex. Both make one block of 2r if m is even, which it is in all stages but the first for even n, and
//! in none for odd n.
//!
//! # The last stage
//! Numbers f and n − f of X are in one block of the last stage, so a rotation by an angle α_f of each such pair only
//! adds α_f to its ψ: no stage, no further rounding.
//! - Hartley: (c + s)/√2 and (c − s)/√2, α = −π/4 and a sign.
//! - DCT-II: J. Makhoul, A fast cosine transform in one and two dimensions, IEEE TASSP 28 (1980). With v = (x₀, x₂, x₄, …, x₅,
//!   x₃, x₁), y_k = √2 Re e^{−iπk/(2n)} V_k and y_{n−k} = −√2 Im e^{−iπk/(2n)} V_k: α_f = πf/(2n).
//! - DST-II is J·C·D (rows reversed, odd columns negated), by sin(π(2j + 1)/2 − φ) = (−1)ʲ cos φ. D goes into the first
//!   stage's columns, J into the tables.
//!
//! The tables of stages may name any coordinates, so v and the digits' reversal are one permutation, of at most two stages.

use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use super::angles::cos_sin;
use super::radices::{even_first, reversed};
use super::{plan, swaps};
use crate::error::Result;
use crate::layout::StageLayout;
use crate::plan::Plan;
use crate::scalar::Scalar;

/// The discrete Fourier transform of real vectors in orthonormal coordinates, y = Q x with
///
/// - y₀ = n^{−½} Σ x_j,
/// - y_k = (2/n)^½ Σ x_j cos(2πjk/n) for 0 < 2k < n,
/// - y_{n/2} = n^{−½} Σ (−1)ʲ x_j for even n,
/// - y_{n−k} = (2/n)^½ Σ x_j sin(2πjk/n) for 0 < 2k < n.
///
/// (FFTW's halfcomplex order, with −1 for sines.) For n = 4ᵏ it is a stage of swaps, one of blocks of 4 and k − 1 of blocks of 8:
/// 8k − 2 multiply-adds for each number. Radix 2 would take as many, in twice the stages.
///
/// ```
/// use papilio::{Orthogonal, synthesis};
/// let q = Orthogonal::new(synthesis::real_dft::<f64>(12)?, [0.0; 0])?;
/// let wave: Vec<f64> = (0..12).map(|j| (std::f64::consts::TAU * 2.0 * j as f64 / 12.0).sin()).collect();
/// let y = q.apply(&wave)?; // all of it is the sine of frequency 2
/// assert!((y[10] - 6f64.sqrt()).abs() < 1e-14 && y.iter().filter(|y| y.abs() > 1e-14).count() == 1);
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// [`Error::Size`](crate::Error::Size) unless 1 ≤ n ≤ 2²⁴ and no prime factor of n is above 31.
pub fn real_dft<T: Scalar>(n: usize) -> Result<Plan<T>> {
    Shape { what: "real DFT", n, last: Last::Plain, folded: false, mirrored: false }.plan()
}

/// The discrete Hartley transform y_k = n^{−½} Σ x_j (cos(2πjk/n) + sin(2πjk/n)), which is its own inverse.
///
/// The stages are those of [`real_dft`], with other angles in the last.
///
/// # Errors
/// Those of [`real_dft`].
pub fn hartley<T: Scalar>(n: usize) -> Result<Plan<T>> {
    Shape { what: "Hartley transform", n, last: Last::Hartley, folded: false, mirrored: false }.plan()
}

/// The discrete cosine transform of type II, y_k = a_k (2/n)^½ Σ x_j cos(π(2j + 1)k/(2n)) with a₀ = 2^{−½} and otherwise a_k = 1:
/// the one of JPEG.
///
/// The stages are those of [`real_dft`] with other angles in the last, and one more of swaps: for n = 1024 these are 2 of
/// swaps, one of blocks of 4 and 4 of blocks of 8, 40 multiply-adds for each number.
///
/// ```
/// use papilio::{Orthogonal, synthesis};
/// let q = Orthogonal::new(synthesis::dct2::<f64>(1000)?, [0.0; 0])?;
/// let y = q.apply(&[1.0; 1000])?;
/// assert!((y[0] - 1000f64.sqrt()).abs() < 1e-13 && y[1..].iter().all(|y| y.abs() < 1e-13));
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// Those of [`real_dft`].
pub fn dct2<T: Scalar>(n: usize) -> Result<Plan<T>> {
    Shape { what: "DCT-II", n, last: Last::Cosine, folded: true, mirrored: false }.plan()
}

/// The discrete cosine transform of type III, y_k = (2/n)^½ Σ a_j x_j cos(π(2k + 1)j/(2n)) with a₀ = 2^{−½} and otherwise a_j = 1:
/// the inverse of [`dct2`], as its adjoint plan.
///
/// # Errors
/// Those of [`real_dft`].
pub fn dct3<T: Scalar>(n: usize) -> Result<Plan<T>> {
    let inverse = Shape { what: "DCT-III", n, last: Last::Cosine, folded: true, mirrored: false };
    inverse.plan().map(|plan| plan.adjoint())
}

/// The discrete sine transform of type II, y_k = a_k (2/n)^½ Σ x_j sin(π(2j + 1)(k + 1)/(2n)) with a_{n−1} = 2^{−½} and otherwise
/// a_k = 1.
///
/// The stages are those of [`dct2`].
///
/// # Errors
/// Those of [`real_dft`].
pub fn dst2<T: Scalar>(n: usize) -> Result<Plan<T>> {
    Shape { what: "DST-II", n, last: Last::Cosine, folded: true, mirrored: true }.plan()
}

/// The discrete sine transform of type III, y_k = (2/n)^½ Σ a_j x_j sin(π(2k + 1)(j + 1)/(2n)) with a_{n−1} = 2^{−½} and otherwise
/// a_j = 1: the inverse of [`dst2`], as its adjoint plan.
///
/// # Errors
/// Those of [`real_dft`].
pub fn dst3<T: Scalar>(n: usize) -> Result<Plan<T>> {
    let inverse = Shape { what: "DST-III", n, last: Last::Cosine, folded: true, mirrored: true };
    inverse.plan().map(|plan| plan.adjoint())
}

/// What happens to the pairs of the last stage.
#[derive(Clone, Copy)]
enum Last {
    Plain,
    Hartley,
    Cosine,
}

/// One of the transforms.
struct Shape {
    what: &'static str,
    n: usize,
    last: Last,
    /// Whether inputs are taken in the order x₀, x₂, x₄, …, x₅, x₃, x₁.
    folded: bool,
    /// Whether outputs come in reverse order and odd inputs are negated.
    mirrored: bool,
}

impl Shape {
    fn plan<T: Scalar>(&self) -> Result<Plan<T>> {
        let n = self.n;
        let radices = even_first(self.what, n)?;
        // Input i is number j of what is transformed, and starts at the place of j's reversed digits.
        let mut to = vec![0; n];
        let mut negated = vec![false; n]; // by place
        for (i, to) in to.iter_mut().enumerate() {
            let j = match i % 2 {
                _ if !self.folded => i,
                0 => i / 2,
                _ => n - 1 - i / 2,
            };
            let place = reversed(&radices, j);
            *to = self.coordinate(place) as u32;
            negated[place] = self.mirrored && i % 2 == 1;
        }
        let mut stages = swaps::stages(&to);
        let mut m = 1;
        for &r in &radices {
            if m == 1 {
                let mut first = self.stage(r, m, &(0..r).collect::<Vec<_>>(), r);
                let signs = negated.chunks_exact(r).flat_map(|block| core::iter::repeat_n(block, r).flatten());
                first.1.iter_mut().zip(signs).for_each(|(x, negated)| *x = if *negated { 0.0 - *x } else { *x });
                stages.push(first);
            } else {
                let real = (0..r).map(|s| s * m);
                if m % 2 == 1 {
                    stages.push(self.stage(r, m, &real.clone().collect::<Vec<_>>(), r));
                }
                let of = |k: usize| (0..r).flat_map(move |s| [s * m + k, s * m + (m - k)]);
                let middle = real.filter(|_| m % 2 == 0).flat_map(|at| [at, at + m / 2]);
                let places: Vec<_> = middle.chain((1..m.div_ceil(2)).flat_map(of)).collect();
                if !places.is_empty() {
                    stages.push(self.stage(r, m, &places, 2 * r));
                }
            }
            m *= r;
        }
        plan(n, stages)
    }

    /// The coordinate of a place in the natural order.
    fn coordinate(&self, place: usize) -> usize {
        if self.mirrored { self.n - 1 - place } else { place }
    }

    /// A stage of `b`×`b` blocks that joins r transforms of size m, from the places of the blocks of the first group of rm.
    fn stage(&self, r: usize, m: usize, places: &[usize], b: usize) -> (StageLayout, Vec<f64>) {
        let groups = self.n / (r * m);
        let mut blocks = Vec::with_capacity(groups * places.len() * b);
        for places in places.chunks_exact(b) {
            // Rows of cosines and of sines share their angles.
            let mut known: Vec<(usize, Vec<(f64, f64)>)> = Vec::with_capacity(b);
            for p in places {
                let f = *p.min(&(r * m - p));
                let at = known.iter().position(|(of, _)| *of == f).unwrap_or_else(|| {
                    known.push((f, (0..r).map(|s| self.angle(r * m, s, f)).collect()));
                    known.len() - 1
                });
                let angles = &known[at].1;
                blocks.extend(places.iter().map(|c| self.entry(r, m, *p, *c, angles[c / m])));
            }
        }
        let index = (0..groups).flat_map(|g| places.iter().map(move |p| g * r * m + p));
        let index = index.map(|place| self.coordinate(place) as u32).collect();
        (StageLayout::Table { block: b, index }, blocks.repeat(groups))
    }

    /// (cos ψ, sin ψ) of frequency f of a transform of `size` and number s of those that it joins.
    fn angle(&self, size: usize, s: usize, f: usize) -> (f64, f64) {
        let n = self.n as i64;
        let turn = match self.last {
            Last::Hartley if size == self.n => -n,
            Last::Cosine if size == self.n => 2 * f as i64,
            _ => 0,
        };
        cos_sin(8 * (self.n / size * s * f) as i64 + turn, 4 * n)
    }

    /// What place `p` of a transform of size rm takes from place `c`, which is place k of the transform number s of size m,
    /// with their ψ.
    fn entry(&self, r: usize, m: usize, p: usize, c: usize, (cos, sin): (f64, f64)) -> f64 {
        let size = r * m;
        let (s, k) = (c / m, c % m);
        let of = p.min(size - p) % m; // the number of E that X_f is made of
        let real = k == 0 || 2 * k == m;
        if if real { of != k } else { of.min(m - of) != k.min(m - k) } {
            return 0.0; // two real blocks in one
        }
        let scale = |factor: f64| Float::sqrt(factor / r as f64);
        if p == 0 || 2 * p == size {
            return if p > 0 && s % 2 == 1 { -scale(1.0) } else { scale(1.0) };
        }
        let sign = if size == self.n && matches!(self.last, Last::Hartley) { -1.0 } else { 1.0 };
        // E_of is E_k or its conjugate, of which s_k has the other sign.
        let conjugate = if 2 * of > m { -1.0 } else { 1.0 };
        let value = match (2 * p > size, real || 2 * k < m) {
            (false, true) => cos,
            (true, true) => sign * sin,
            (false, false) => -conjugate * sin,
            (true, false) => sign * conjugate * cos,
        };
        value * scale(if real { 2.0 } else { 1.0 })
    }
}
