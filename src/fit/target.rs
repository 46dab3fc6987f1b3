//! What is to be approximated: a dense matrix, checked once.
//!
//! *Is it orthogonal?* Up to n = 256 LAPACK's ratio ‖I − QᴴQ‖₁/(n·eps) decides, exactly. Forming QᴴQ of a larger matrix would take longer
//! than the whole fit; there E = I − QᴴQ is measured by 8 vectors of random signs, ‖E‖²_F = E‖Ex‖², and ‖E‖_F takes the place of
//! ‖E‖₁ (they agree for errors spread evenly, and a single entry off by δ shows as δ in every probe).
//!
//! *Rounded matrices.* Entries rounded to a precision of machine epsilon eps are off by eps/2 of their size, so that ‖E‖_F ≤ eps·√n to first order.
//! Ratios in units of that eps say nothing in half precision, where n·eps is above 1 soon.

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use super::dense_polar::polar;
use super::square;
use crate::dense::{EPS, ORTHOGONAL, one_norm, subtract_gram};
use crate::error::{Error, Result, check_length};
use crate::generator::Generator;
use crate::parallel::{Parallelism, for_each};
use crate::scalar::{Scalar, Wide};
use crate::simd::{Isa, Job, Lanes, dispatch};

/// Matrices up to this size are measured exactly.
const EXACT: usize = 256;
const PROBES: usize = 8;
/// ‖I − QᴴQ‖_F of a matrix in few digits that is orthogonal to a ratio of 30 is at most this.
const ROUNDED: f64 = 0.01;
/// Of no orthogonal matrix, whatever the precision, it is more.
const MOST: f64 = 0.5;
/// Rows that a thread takes at a time.
const ROWS: usize = 32;

/// A finite orthogonal (unitary) n×n matrix, row-major.
#[derive(Debug, Clone)]
pub struct Target<W: Wide> {
    n: usize,
    entries: Vec<W>,
    ratio: f64,
    /// ‖I − QᴴQ‖_F
    defect: f64,
}

impl<W: Wide> Target<W> {
    /// Takes a matrix that is orthogonal to a ratio of 30.
    ///
    /// # Errors
    /// [`Error::Size`] unless 1 ≤ n < 2³², [`Error::Length`] unless there are n² entries, [`Error::Domain`] for an entry that is not
    /// finite, named with its place, and for a matrix that is not orthogonal, with its defect.
    pub fn new(n: usize, entries: &[W]) -> Result<Self> {
        let target = Self::finite(n, entries)?;
        target.check()?;
        Ok(target)
    }

    /// Takes a matrix that was orthogonal before it was rounded to a precision with machine epsilon `eps` (2⁻²³ for `f32`, 2⁻⁷ for
    /// `bf16`): ‖I − QᴴQ‖_F is at most 30·n·`eps`, and of the coarser precisions at most 1/100 or 2·√n·`eps`, whichever is larger, and ½. What the
    /// rounding did is undone by [`project`](Self::project); returned with ‖Q − entries‖_F.
    ///
    /// ```
    /// use papilio::fit::Target;
    /// let q = [0.6, -0.8, 0.8, 0.6].map(|x| f64::from(x as f32));
    /// assert!(Target::new(2, &q).is_err());
    /// let (target, moved) = Target::stored(2, &q, f64::from(f32::EPSILON))?;
    /// assert!(target.orthogonality_ratio() < 30.0 && moved < 1e-7);
    /// # Ok::<(), papilio::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn stored(n: usize, entries: &[W], eps: f64) -> Result<(Self, f64)> {
        let target = Self::finite(n, entries)?;
        if !(eps > EPS && eps < 1.0) {
            target.check()?;
        } else {
            let size = n as f64;
            let limit = (ORTHOGONAL * size * eps).min(ROUNDED).max(2.0 * Float::sqrt(size) * eps).min(MOST);
            if target.defect.is_nan() || target.defect > limit {
                return Err(Error::Domain {
                    what: "target".to_string(),
                    expected: "an orthogonal matrix whose entries were rounded, or its projection asked for",
                    got: format!("a defect of ‖I − QᴴQ‖_F = {:e}, more than {limit:e}", target.defect),
                });
            }
        }
        target.projected(entries)
    }

    fn check(&self) -> Result<()> {
        if self.ratio <= ORTHOGONAL {
            return Ok(());
        }
        Err(Error::Domain {
            what: "target".to_string(),
            expected: "an orthogonal matrix: ratio ‖I − QᴴQ‖/(n·eps) at most 30, or its projection asked for",
            got: format!("ratio {:e}, a defect of {:e}", self.ratio, self.ratio * self.n as f64 * EPS),
        })
    }

    /// The orthogonal matrix nearest to `entries`, its polar factor, and the distance ‖Q − entries‖_F it has moved.
    ///
    /// # Errors
    /// As [`new`](Self::new), but for matrices that are not orthogonal: only [`Error::Domain`] for one so near to a singular
    /// matrix that nothing is nearest.
    pub fn project(n: usize, entries: &[W]) -> Result<(Self, f64)> {
        Self::finite(n, entries)?.projected(entries)
    }

    fn projected(mut self, entries: &[W]) -> Result<(Self, f64)> {
        let n = self.n;
        if self.ratio.is_nan() || self.ratio > 1.0 {
            polar(n, &mut self.entries)?;
            (self.ratio, self.defect) = measure(n, &self.entries);
        }
        let moved = distance(n, &self.entries, n, |i, j| entries[i * n + j], Parallelism::default());
        Ok((self, Float::sqrt(moved * 2.0 * n as f64)))
    }

    /// Row i and column j become rows\[i\] and columns\[j\]; orders are permutations, so it is as orthogonal as before.
    pub(super) fn reordered(&self, rows: &[usize], columns: &[usize]) -> Self {
        let n = self.n;
        let mut entries = vec![W::zero(); n * n];
        for (row, i) in self.entries.chunks_exact(n).zip(rows) {
            row.iter().zip(columns).for_each(|(x, j)| entries[i * n + j] = *x);
        }
        Self { entries, ..*self }
    }

    /// All signs of a row are reversed.
    pub(super) fn reflected(mut self, row: usize) -> Self {
        self.entries[row * self.n..][..self.n].iter_mut().for_each(|x| *x = -*x);
        self
    }

    /// Any matrix M, for [`alternating`](super::alternating) sweeps alone, which find the product with the largest Re tr(QᴴM): the
    /// orthogonal Procrustes problem. It is taken at ‖M‖_F = √n, so that e = ‖Q − M‖²_F/(2n) = 1 − Re tr(QᴴM)/n as for orthogonal ones;
    /// e does not come near 0 then. One-pass methods and bounds do not hold for it, and [`fit`](super::fit()) refuses it.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`Error::Domain`] for M = 0.
    pub fn correlation(n: usize, entries: &[W]) -> Result<Self> {
        let mut target = Self::unmeasured(n, entries)?;
        let unit = entries.iter().fold(0.0, |most: f64, x| most.max(x.re().abs()).max(x.im().abs()));
        let square = |x: W| (x.re() / unit) * (x.re() / unit) + (x.im() / unit) * (x.im() / unit);
        let norm = Float::sqrt(entries.iter().map(|x| square(*x)).sum::<f64>());
        if unit == 0.0 {
            let (what, expected) = ("target".to_string(), "a matrix other than 0");
            return Err(Error::Domain { what, expected, got: "0".to_string() });
        }
        let factor = Float::sqrt(n as f64) / norm;
        for x in &mut target.entries {
            *x = W::from_parts(x.re() / unit * factor, x.im() / unit * factor);
        }
        Ok(target)
    }

    fn finite(n: usize, entries: &[W]) -> Result<Self> {
        let target = Self::unmeasured(n, entries)?;
        let (ratio, defect) = measure(n, entries);
        Ok(Self { ratio, defect, ..target })
    }

    /// Whether it is orthogonal, as all but those of [`correlation`](Self::correlation) are.
    pub(super) fn is_orthogonal(&self) -> bool {
        self.ratio.is_finite()
    }

    fn unmeasured(n: usize, entries: &[W]) -> Result<Self> {
        if n == 0 || n > u32::MAX as usize {
            return Err(Error::Size { what: "target", expected: "1 <= n < 2^32".to_string(), got: n.to_string() });
        }
        check_length("target", n.saturating_mul(n), entries.len())?;
        if let Some(at) = entries.iter().position(|x| !(x.re() * 0.0 + x.im() * 0.0 == 0.0)) {
            let got = format!("{:?} in row {}, column {}", entries[at], at / n, at % n);
            return Err(Error::Domain { what: "target".to_string(), expected: "finite numbers", got });
        }
        Ok(Self { n, entries: entries.to_vec(), ratio: f64::INFINITY, defect: f64::INFINITY })
    }

    /// Rows and columns.
    pub fn n(&self) -> usize {
        self.n
    }

    /// The entries, row-major.
    pub fn entries(&self) -> &[W] {
        &self.entries
    }

    /// ‖I − QᴴQ‖/(n·2⁻⁵²): LAPACK's ratio, with the 1-norm, up to n = 256; above, an estimate with the Frobenius norm in its place, from 8
    /// products with random signs.
    pub fn orthogonality_ratio(&self) -> f64 {
        self.ratio
    }
}

/// ‖Q − R‖²_F/(2n) from the difference, for rows of `x` at a distance of `pitch`. Row by row in a fixed order: the same bits for any
/// number of threads.
pub(super) fn distance<W: Wide>(
    n: usize,
    x: &[W],
    pitch: usize,
    y: impl Fn(usize, usize) -> W + Send + Sync,
    parallelism: Parallelism,
) -> f64 {
    let mut sums = vec![0.0; n];
    let items: Vec<_> = sums.chunks_mut(ROWS).zip(x.chunks(ROWS * pitch)).enumerate().collect();
    for_each(parallelism, items, |(chunk, (sums, x))| {
        for (r, (sum, x)) in sums.iter_mut().zip(x.chunks(pitch)).enumerate() {
            let mut parts = [0.0; 8];
            for (j, x) in x[..n].iter().enumerate() {
                let d = *x - y(chunk * ROWS + r, j);
                parts[j % 8] += square(d);
            }
            *sum = parts.iter().sum::<f64>();
        }
    });
    sums.iter().sum::<f64>() / (2.0 * n as f64)
}

/// ‖I − QᴴQ‖/(n·eps) in the 1-norm, and ‖I − QᴴQ‖_F; for large n the Frobenius norm by probes serves for both.
fn measure<W: Wide>(n: usize, entries: &[W]) -> (f64, f64) {
    let unit = n as f64 * EPS;
    if n <= EXACT {
        let mut e = vec![W::zero(); n * n];
        subtract_gram(n, entries, &mut e);
        let sum = e.iter().map(|x| square(*x)).sum::<f64>();
        return (one_norm(n, &e) / unit, Float::sqrt(sum));
    }
    let mut generator = Generator::new(0x0007_a96e_7000);
    let probes: Vec<[f64; PROBES]> = (0..n).map(|_| core::array::from_fn(|_| generator.sign())).collect();
    let mut images = vec![[W::zero(); PROBES]; n];
    let mut back = vec![[W::zero(); PROBES]; n];
    let job = Probe { n, entries, probes: &probes, images: &mut images, back: &mut back };
    dispatch::<f64, _>(Isa::detect(), job);
    let mut sum = 0.0;
    for (back, probe) in back.iter().zip(&probes) {
        for (z, x) in back.iter().zip(probe) {
            let d = *z - W::from_real(*x);
            sum += square(d);
        }
    }
    let defect = Float::sqrt(sum / PROBES as f64);
    (defect / unit, defect)
}

/// `images` ← Q·probes, `back` ← Qᴴ·images.
struct Probe<'a, W> {
    n: usize,
    entries: &'a [W],
    probes: &'a [[f64; PROBES]],
    images: &'a mut [[W; PROBES]],
    back: &'a mut [[W; PROBES]],
}

impl<W: Wide> Job<f64> for Probe<'_, W> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(self, _: S) {
        for (row, image) in self.entries.chunks_exact(self.n).zip(self.images.iter_mut()) {
            let mut sum = [W::zero(); PROBES];
            for (q, x) in row.iter().zip(self.probes) {
                for l in 0..PROBES {
                    sum[l] += *q * W::from_real(x[l]);
                }
            }
            *image = sum;
            for (q, back) in row.iter().zip(self.back.iter_mut()) {
                let q = Scalar::conj(*q);
                for l in 0..PROBES {
                    back[l] += q * sum[l];
                }
            }
        }
    }
}
