//! Charts that reach determinant −1: the block of another chart with some columns negated, B = C(θ)·D, D = diag(±1).
//!
//! D is structure, not a parameter: one sign pattern for all blocks of a stage. Pullback, pushforward and section are those of C
//! with the columns of G, dB or B negated, as D = Dᴴ = D⁻¹.
//!
//! *Reach.* **Every orthogonal (unitary) B is C(A)·D for some signs D and Cayley's C**, and elimination finds them: in LU = B + D
//! without pivoting, step k has the pivot s + d_k, where s depends on earlier signs only. With d_k = 1 for Re s ≥ 0, else −1, all
//! pivots have modulus ≥ 1, so |det(B + D)| ≥ 1. As I + BD = (B + D)D, no eigenvalue of BD is −1; more: all |1 + λ| are at most 2
//! and their product is at least 1, so each is at least 2^{1−b}, which bounds Cayley's conditioning on BD.
//!
//! *Conditioning.* That of C; signs are exact.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::{format, vec::Vec};

use super::Parametrization;
use crate::dense::{ORTHOGONAL, orthogonality_ratio};
use crate::error::{Error, Result};
use crate::scalar::Wide;

/// Another chart's blocks with some columns negated: an odd number of them reaches the orthogonal blocks of determinant −1.
///
/// θ = 0 is the diagonal of signs, not the identity, if the inner chart starts at the identity; blocks are as exact as its.
/// All blocks of a stage have the same signs; blocks with different ones are different stages, on disjoint coordinates:
///
/// ```
/// use papilio::parametrization::{Cayley, Signed};
/// use papilio::{Orthogonal, Plan, Source, StageLayout};
/// use std::sync::Arc;
///
/// let block = |index: [u32; 4]| StageLayout::Table { block: 4, index: Arc::from(index) };
/// let plan = Plan::<f64>::from_stages(
///     8,
///     [
///         (block([0, 1, 2, 3]), Source::chart(Cayley)),
///         (block([4, 5, 6, 7]), Source::chart(Signed::new(Cayley))),
///     ],
/// )?;
/// let q = Orthogonal::new(plan, vec![0.1; 12])?;
/// assert_eq!(q.determinant_sign()?, -1);
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// Which signs does a given block need? [`reaching`](Self::reaching) finds some that suit, for every orthogonal block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<C> {
    chart: C,
    columns: Arc<[usize]>,
}

impl<C> Signed<C> {
    /// The first column negated: determinant −1 for a chart of rotations.
    pub fn new(chart: C) -> Self {
        Self::with_columns(chart, [0])
    }

    /// The given columns negated, none twice; a block size that lacks one of them is refused.
    pub fn with_columns(chart: C, columns: impl IntoIterator<Item = usize>) -> Self {
        let mut columns: Vec<usize> = columns.into_iter().collect();
        columns.sort_unstable();
        columns.dedup();
        Self { chart, columns: columns.into() }
    }

    /// Signs and parameters that give an orthogonal (unitary) b×b block, with the signs of the module's elimination; for Cayley
    /// there are some for every block.
    ///
    /// ```
    /// use papilio::parametrization::{Cayley, Parametrization, Signed};
    /// let reflection = [0.6, 0.8, 0.8, -0.6];
    /// let (chart, theta) = Signed::reaching(Cayley, 2, &reflection)?;
    /// assert_eq!(chart.columns(), [1]);
    /// let mut block = [0.0; 4];
    /// chart.forward(2, &theta, &mut block);
    /// assert!(block.iter().zip(&reflection).all(|(x, y)| (x - y).abs() < 1e-15));
    /// # Ok::<(), papilio::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Length`] unless the slice has length b²; [`Error::Domain`] unless it is orthogonal (ratio at most 30) and the
    /// chart reaches the block with these signs; [`Error::Size`] if the chart has no blocks of size b.
    pub fn reaching<W: Wide>(chart: C, b: usize, block: &[W]) -> Result<(Self, Vec<f64>)>
    where
        C: Parametrization<W>,
    {
        let params = chart.num_params(b)?;
        let ratio = orthogonality_ratio(b, block)?;
        if ratio.is_nan() || ratio > ORTHOGONAL {
            return Err(Error::Domain {
                what: "signs of a block".into(),
                expected: "an orthogonal block, ratio at most 30",
                got: format!("ratio {ratio:e}"),
            });
        }
        let signed = Self::with_columns(chart, signs(b, block));
        let mut theta = alloc::vec![0.0; params];
        signed.inverse(b, block, &mut theta)?;
        Ok((signed, theta))
    }

    /// The chart whose columns are negated.
    pub fn chart(&self) -> &C {
        &self.chart
    }

    /// The negated columns, in ascending order.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// Blocks times D, in place.
    fn negate<W: Wide>(&self, b: usize, blocks: &mut [W]) {
        for row in blocks.chunks_exact_mut(b.max(1)) {
            for &j in self.columns.iter() {
                row[j] = W::zero() - row[j];
            }
        }
    }

    fn negated<W: Wide>(&self, b: usize, blocks: &[W]) -> Vec<W> {
        let mut blocks = blocks.to_vec();
        self.negate(b, &mut blocks);
        blocks
    }
}

/// Columns j with d_j = −1, from the elimination of B + D.
fn signs<W: Wide>(b: usize, block: &[W]) -> Vec<usize> {
    let mut m = block.to_vec();
    let mut columns = Vec::new();
    for k in 0..b {
        let d = if m[k * b + k].re() < 0.0 { -1.0 } else { 1.0 };
        if d < 0.0 {
            columns.push(k);
        }
        let pivot = m[k * b + k] + W::from_real(d);
        let scale = 1.0 / (pivot.re() * pivot.re() + pivot.im() * pivot.im());
        for i in k + 1..b {
            let factor = m[i * b + k] * pivot.conj() * W::from_real(scale);
            for j in k + 1..b {
                m[i * b + j] = m[i * b + j] - factor * m[k * b + j];
            }
        }
    }
    columns
}

impl<W: Wide, C: Parametrization<W>> Parametrization<W> for Signed<C> {
    fn name(&self) -> &'static str {
        "signed"
    }

    fn id(&self) -> String {
        match &self.columns[..] {
            [0] => format!("signed {}", self.chart.id()),
            columns => format!("signed {columns:?} {}", self.chart.id()),
        }
    }

    fn num_params(&self, b: usize) -> Result<usize> {
        match self.columns.last() {
            Some(last) if *last >= b => Err(Error::Size {
                what: "signed block",
                expected: format!("b > {last}, as column {last} is negated"),
                got: format!("b = {b}"),
            }),
            _ => self.chart.num_params(b),
        }
    }

    fn forward(&self, b: usize, theta: &[f64], block: &mut [W]) {
        self.chart.forward(b, theta, block);
        self.negate(b, block);
    }

    fn vjp(&self, b: usize, theta: &[f64], block: &[W], d_block: &[W], d_theta: &mut [f64]) {
        self.chart.vjp(b, theta, &self.negated(b, block), &self.negated(b, d_block), d_theta);
    }

    fn jvp(&self, b: usize, theta: &[f64], block: &[W], d_theta: &[f64], d_block: &mut [W]) {
        self.chart.jvp(b, theta, &self.negated(b, block), d_theta, d_block);
        self.negate(b, d_block);
    }

    fn inverse(&self, b: usize, block: &[W], theta: &mut [f64]) -> Result<()> {
        Parametrization::<W>::num_params(self, b)?;
        crate::error::check_length("block", b.saturating_mul(b), block.len())?;
        self.chart.inverse(b, &self.negated(b, block), theta)
    }

    fn is_exact(&self) -> bool {
        self.chart.is_exact()
    }

    fn starts_at_identity(&self) -> bool {
        self.columns.is_empty() && self.chart.starts_at_identity()
    }

    fn forward_batch(&self, b: usize, theta: &[f64], blocks: &mut [W]) {
        self.chart.forward_batch(b, theta, blocks);
        self.negate(b, blocks);
    }

    fn vjp_batch(&self, b: usize, theta: &[f64], blocks: &[W], d_blocks: &[W], d_theta: &mut [f64]) {
        self.chart.vjp_batch(b, theta, &self.negated(b, blocks), &self.negated(b, d_blocks), d_theta);
    }
}
