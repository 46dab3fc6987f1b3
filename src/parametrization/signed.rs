//! Charts that reach determinant −1: the block of another chart with some columns negated, B = C(θ)·D, D = diag(±1).
//!
//! D is structure, not a parameter: one sign pattern for all blocks of a stage. Pullback, pushforward and section are those of C
//! with the columns of G, dB or B negated, as D = Dᴴ = D⁻¹.
//!
//! *Reach.* **Every orthogonal (unitary) B is C(A)·D for some signs D and Cayley's C**, and elimination finds them: in LU = B + D
//! with diagonal pivots, step k has the pivot s + d_k, where s depends on earlier signs only. With d_k = 1 for Re s ≥ 0, else −1,
//! all pivots have modulus ≥ 1, so |det(B + D)| ≥ 1. As I + BD = (B + D)D, no eigenvalue of BD is −1; more: all |1 + λ| are at
//! most 2 and their product is at least 1, so each is at least 2^{1−b}. In the natural order of pivots the
//! reflection I − 2vvᵀ with v_k² just below 2^{−k} has a product of about 2 and |1 + λ| ≈ 2^{−b/2}, too near to −1 for numbers
//! from b = 16 on. So the largest pivot left is taken, in this example the opposite order, and |1 + λ| = √2.
//!
//! *Conditioning.* That of C; signs are exact.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::{format, vec, vec::Vec};

use super::{Cayley, Charts, Parametrization};
use crate::dense::{ORTHOGONAL, orthogonality_ratio};
use crate::error::{Error, Result};
use crate::scalar::{Wide, c64};

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

/// How the chart is known by name.
pub(super) fn register<W: Wide>(charts: &mut Charts<W>) {
    charts.register_over::<f64>(Signed::new(Cayley));
    charts.register_over::<c64>(Signed::new(Cayley));
    charts.register_family(|charts, id| {
        let rest = id.strip_prefix("signed ")?;
        let (columns, inner) = match rest.strip_prefix('[') {
            None => (vec![0], rest),
            Some(list) => {
                let (list, inner) = list.split_once("] ")?;
                (list.split(", ").map(|column| column.parse().ok()).collect::<Option<Vec<usize>>>()?, inner)
            }
        };
        if inner.starts_with("signed ") {
            return None; // signs twice are signs once
        }
        Some(Arc::new(Signed::with_columns(charts.find(inner)?, columns)))
    });
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
        let mut theta = vec![0.0; params];
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
    let (mut columns, mut left): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..b).collect());
    while !left.is_empty() {
        let pivot = |k: usize| m[k * b + k] + W::from_real(if m[k * b + k].re() < 0.0 { -1.0 } else { 1.0 });
        let larger = |best: usize, at: usize| if pivot(left[at]).abs() > pivot(left[best]).abs() { at } else { best };
        let at = (0..left.len()).fold(0, larger);
        let (k, pivot) = (left[at], pivot(left[at]));
        left.remove(at);
        if pivot.re() < 0.0 {
            columns.push(k);
        }
        let scale = 1.0 / (pivot.re() * pivot.re() + pivot.im() * pivot.im());
        for &i in &left {
            let factor = m[i * b + k] * pivot.conj() * W::from_real(scale);
            for &j in &left {
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

    fn lipschitz(&self, b: usize) -> Option<f64> {
        self.chart.lipschitz(b)
    }

    fn forward_batch(&self, b: usize, theta: &[f64], blocks: &mut [W]) {
        self.chart.forward_batch(b, theta, blocks);
        self.negate(b, blocks);
    }

    fn vjp_batch(&self, b: usize, theta: &[f64], blocks: &[W], d_blocks: &[W], d_theta: &mut [f64]) {
        self.chart.vjp_batch(b, theta, &self.negated(b, blocks), &self.negated(b, d_blocks), d_theta);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense::determinant_sign;
    use crate::generator::Generator;
    use crate::parametrization::{Cayley, Givens, miss};
    use crate::scalar::c64;

    /// Products of reflections I − 2vvᴴ/‖v‖², `count` of them.
    fn reflections<W: Wide>(b: usize, count: usize, g: &mut Generator) -> Vec<W> {
        let mut q: Vec<W> = (0..b * b).map(|at| if at % (b + 1) == 0 { W::one() } else { W::zero() }).collect();
        for _ in 0..count {
            let v: Vec<W> = (0..b).map(|_| W::from_parts(g.uniform() - 0.5, g.uniform() - 0.5)).collect();
            let norm: f64 = v.iter().map(|v| (v.conj() * *v).re()).sum();
            for row in q.chunks_exact_mut(b) {
                let dot = row.iter().zip(&v).fold(W::zero(), |sum, (x, v)| sum + *x * *v);
                row.iter_mut().zip(&v).for_each(|(x, v)| *x = *x - W::from_real(2.0 / norm) * dot * v.conj());
            }
        }
        q
    }

    fn reach<W: Wide>(b: usize, block: &[W]) -> usize
    where
        Cayley: Parametrization<W>,
    {
        let (chart, theta) = Signed::reaching(Cayley, b, block).unwrap();
        let mut again = alloc::vec![W::zero(); b * b];
        chart.forward(b, &theta, &mut again);
        assert!(miss(b, &again, block) <= ORTHOGONAL);
        chart.columns().len()
    }

    #[test]
    fn every_orthogonal_block_is_reached() {
        let mut g = Generator::new(4);
        for b in 1..=9 {
            for count in 0..=b + 1 {
                let block = reflections::<f64>(b, count, &mut g);
                let flips = reach(b, &block);
                assert_eq!(flips % 2, count % 2, "the signs carry the determinant");
                assert_eq!(determinant_sign(b, &mut block.clone()), if flips % 2 == 1 { -1 } else { 1 });
                reach(b, &reflections::<c64>(b, count, &mut g));
            }
            // −I, every column of which is a half turn, and exchanges of coordinates.
            let minus: Vec<f64> = reflections::<f64>(b, 0, &mut g).iter().map(|x| 0.0 - x).collect();
            assert_eq!(reach(b, &minus), b);
            let reversed: Vec<f64> = (0..b * b).map(|at| f64::from(u8::from(at / b + at % b + 1 == b))).collect();
            reach(b, &reversed);
        }
        // Pivots in their natural order would choose signs next to an eigenvalue −1 here.
        for b in [16, 32, 64] {
            let squares: Vec<f64> =
                (1..=b).map(|k| if k < b { 0.49 * 0.51f64.powi(k - 1) } else { 0.51f64.powi(b - 1) }).collect();
            let b = b as usize;
            let entry = |i: usize, j: usize| f64::from(u8::from(i == j)) - 2.0 * (squares[i] * squares[j]).sqrt();
            let graded: Vec<f64> = (0..b * b).map(|at| entry(at / b, at % b)).collect();
            reach(b, &graded);
            reach(b, &graded.iter().map(|x| c64 { re: 0.0, im: *x }).collect::<Vec<_>>());
        }
    }

    #[test]
    fn theta_zero_is_the_diagonal_of_signs() {
        let mut block = [f64::NAN; 9];
        Signed::with_columns(Cayley, [2, 0, 2]).forward(3, &[0.0; 3], &mut block);
        assert_eq!(block, [-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0]);
        let starts = |columns: &[usize]| {
            Parametrization::<f64>::starts_at_identity(&Signed::with_columns(Cayley, columns.iter().copied()))
        };
        assert!(starts(&[]) && !starts(&[0]));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let far = Signed::with_columns(Cayley, [3, usize::MAX]);
        assert!(matches!(Parametrization::<f64>::num_params(&far, 4), Err(Error::Size { .. })));
        assert!(matches!(far.inverse(4, &[0.0; 16], &mut [0.0; 6]), Err(Error::Size { .. })));
        let signed = Signed::new(Givens);
        assert!(matches!(signed.inverse(2, &[1.0, 0.0, 0.0, 1.0], &mut [0.0]), Err(Error::Domain { .. })));
        assert!(matches!(signed.inverse(2, &[1.0, 0.0], &mut [0.0]), Err(Error::Length { .. })));
        for bad in [2.0, f64::NAN] {
            let result = Signed::reaching(Cayley, 1, &[bad]);
            assert!(matches!(result, Err(Error::Domain { .. })), "{result:?}");
        }
        assert!(matches!(Signed::reaching(Cayley, 2, &[1.0]), Err(Error::Length { .. })));
        assert!(matches!(Signed::reaching(Givens, 3, &[1.0; 9]), Err(Error::Size { .. })));
    }
}
