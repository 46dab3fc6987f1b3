//! The naive truth: the matrix of a plan by plain loops over its blocks and indices, sharing no code with the kernels.
//!
//! In double precision ([`matrix`], [`apply`]), and in double-double for what double precision cannot see
//! ([`defect`]). O(n²·b·m) and more: for tests, not for work.

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use num_traits::{One, Zero};

use crate::dense::DoubleDouble;
use crate::error::{Error, Result, check_length};
use crate::plan::{Factors, Op, Plan};
use crate::scalar::Scalar;

/// The blocks of stage `k` as they act, block j at j·b², row-major: stored blocks looked up by group, and the adjoint taken
/// where the stage says so.
///
/// # Errors
/// [`Error::Index`] for a stage that the plan lacks; [`Error::Size`] if there is no memory for them; those of [`Plan::block`].
pub fn blocks<T: Scalar>(plan: &Plan<T>, factors: &Factors<T>, k: usize) -> Result<Vec<T::Wide>> {
    let stage = plan.stages().get(k).ok_or(Error::Index { what: "stage", expected: plan.num_stages(), got: k })?;
    let b = stage.layout().block_size();
    let mut all = reserve(b.saturating_mul(b).saturating_mul(stage.layout().num_blocks()))?;
    let mut stored = reserve(stage.matrix_len())?;
    stored.resize(stage.matrix_len(), T::zero());
    for j in 0..stage.layout().num_blocks() {
        plan.block(factors, k, stage.group_of(j), &mut stored)?;
        let block: Vec<T::Wide> = stored.iter().map(|x| x.to_wide()).collect();
        all.extend(if stage.is_adjoint() { adjoint(b, &block) } else { block });
    }
    Ok(all)
}

/// Q = F_m ··· F_1 in double precision, row-major n×n: `matrix[i*n + j]` is Q_ij.
///
/// ```
/// use papilio::{Plan, parametrization::Givens, topology::BlockDiagonal, verify::dense};
/// let plan = Plan::<f64>::new(2, &BlockDiagonal::new(2), Givens)?;
/// let q = dense::matrix(&plan, &plan.realize(&[0.0])?)?;
/// assert_eq!(q, [1.0, 0.0, 0.0, 1.0]);
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// [`Error::Size`] if there is no memory for n² numbers, or for factors of another plan.
pub fn matrix<T: Scalar>(plan: &Plan<T>, factors: &Factors<T>) -> Result<Vec<T::Wide>> {
    let n = plan.n();
    let mut images = identity(n, T::Wide::one(), T::Wide::zero())?;
    for stage in &stages(plan, factors)? {
        let quotient =
            |dot: T::Wide, square: T::Wide| T::Wide::from_parts(dot.re() / square.re(), dot.im() / square.re());
        stage.run(n, &mut images, T::Wide::zero(), T::Wide::one(), |sum, a, x| sum + a * x, quotient);
    }
    // Row j of `images` is the image of the unit vector j, a column of Q.
    let mut q = images.clone();
    for i in 0..n {
        for j in 0..n {
            q[i * n + j] = images[j * n + i];
        }
    }
    Ok(q)
}

/// y = Op(Q) x for vectors one after the other (`[batch, n]`), by the dense [`matrix`].
///
/// # Errors
/// [`Error::Length`] if `x` is not a whole number of vectors; those of [`matrix`].
pub fn apply<T: Scalar>(plan: &Plan<T>, factors: &Factors<T>, x: &[T::Wide], op: Op) -> Result<Vec<T::Wide>> {
    let n = plan.n();
    check_length("vectors", x.len() / n.max(1) * n, x.len())?;
    let q = matrix(plan, factors)?;
    let entry = |i: usize, j: usize| match op {
        Op::None => q[i * n + j],
        Op::Adjoint => q[j * n + i].conj(),
        Op::Transpose => q[j * n + i],
        Op::Conj => q[i * n + j].conj(),
    };
    let mut y = Vec::with_capacity(x.len());
    for x in x.chunks_exact(n.max(1)) {
        y.extend((0..n).map(|i| (0..n).fold(T::Wide::zero(), |sum, j| sum + entry(i, j) * x[j])));
    }
    Ok(y)
}

/// QᴴQ − I of the exact product of the stored blocks, row-major n×n, computed in double-double and rounded once:
/// its entries are right to about m·b·2⁻¹⁰⁴, far below eps. The 2-norm of this matrix is what
/// [`certificate`](super::certificate) bounds.
///
/// # Errors
/// Those of [`matrix`].
pub fn defect<T: Scalar>(plan: &Plan<T>, factors: &Factors<T>) -> Result<Vec<T::Wide>> {
    let (zero, one) = (DoubleDouble::default(), DoubleDouble::from(1.0));
    // Row j is QᴴQ e_j, column j of the matrix.
    let rows: Vec<T::Wide> = if T::IS_COMPLEX {
        let add = |[re, im]: [DoubleDouble; 2], a: T::Wide, x: [DoubleDouble; 2]| {
            [re + x[0] * a.re() + x[1] * -a.im(), im + x[0] * a.im() + x[1] * a.re()]
        };
        let quotient = |[re, im]: [DoubleDouble; 2], [square, _]: [DoubleDouble; 2]| [re / square, im / square];
        let minus_one = |[re, im]: [DoubleDouble; 2]| [re - one, im];
        let rows = normal_minus_identity(plan, factors, [one, zero], [zero; 2], add, minus_one, quotient)?;
        rows.into_iter().map(|[re, im]| T::Wide::from_parts(re.to_f64(), im.to_f64())).collect()
    } else {
        let add = |sum: DoubleDouble, a: T::Wide, x: DoubleDouble| sum + x * a.re();
        let rows = normal_minus_identity(plan, factors, one, zero, add, |x| x - one, |dot, square| dot / square)?;
        rows.into_iter().map(|x| T::Wide::from_real(x.to_f64())).collect()
    };
    let n = plan.n();
    Ok((0..n * n).map(|at| rows[at % n * n + at / n]).collect())
}

/// Row j is (QᴴQ − I) e_j, in the arithmetic of `multiply_add`, `minus_one` and `quotient`.
fn normal_minus_identity<T: Scalar, N: Copy>(
    plan: &Plan<T>,
    factors: &Factors<T>,
    one: N,
    zero: N,
    multiply_add: impl Fn(N, T::Wide, N) -> N,
    minus_one: impl Fn(N) -> N,
    quotient: impl Fn(N, N) -> N,
) -> Result<Vec<N>> {
    let n = plan.n();
    let mut images = identity(n, one, zero)?;
    let forward = stages(plan, factors)?;
    for stage in &forward {
        stage.run(n, &mut images, zero, one, &multiply_add, &quotient);
    }
    for stage in forward.iter().rev() {
        stage.adjoint().run(n, &mut images, zero, one, &multiply_add, &quotient);
    }
    for i in 0..n {
        images[i * n + i] = minus_one(images[i * n + i]);
    }
    Ok(images)
}

/// One stage written out: block j acts on the coordinates `index[j·b..]` with the entries `blocks[j·b²..]`, or by reflections
/// in its `count` vectors of b numbers in `blocks`, the first one first.
struct NaiveStage<W> {
    b: usize,
    index: Vec<usize>,
    blocks: Vec<W>,
    reflections: Option<usize>,
}

fn stages<T: Scalar>(plan: &Plan<T>, factors: &Factors<T>) -> Result<Vec<NaiveStage<T::Wide>>> {
    let naive = |k: usize| {
        let layout = plan.stages()[k].layout();
        let index = (0..layout.num_blocks()).flat_map(|j| layout.indices(j)).collect();
        let (b, reflections) = (layout.block_size(), plan.stages()[k].vectors());
        let blocks = match reflections {
            Some(count) => vectors(plan, factors, k, count),
            None => blocks(plan, factors, k)?,
        };
        Ok(NaiveStage { b, index, blocks, reflections })
    };
    (0..plan.num_stages()).map(naive).collect()
}

/// The vectors of a stage of reflectors as they act, block after block.
fn vectors<T: Scalar>(plan: &Plan<T>, factors: &Factors<T>, k: usize, count: usize) -> Vec<T::Wide> {
    let stage = &plan.stages()[k];
    let mut all = Vec::new();
    for j in 0..stage.layout().num_blocks() {
        for at in 0..count {
            let i = if stage.is_adjoint() { count - 1 - at } else { at };
            let entry = |c| factors.entries()[stage.entry(stage.group_of(j), i, c)].to_wide();
            all.extend((0..stage.layout().block_size()).map(entry));
        }
    }
    all
}

impl<W: Scalar> NaiveStage<W> {
    fn adjoint(&self) -> Self {
        if let Some(count) = self.reflections {
            let reversed = |block: &[W]| block.rchunks_exact(self.b).flatten().copied().collect::<Vec<W>>();
            let blocks = self.blocks.chunks_exact((count * self.b).max(1)).flat_map(reversed).collect();
            return Self { blocks, index: self.index.clone(), ..*self };
        }
        let blocks = self.blocks.chunks_exact(self.b * self.b).flat_map(|block| adjoint(self.b, block)).collect();
        Self { blocks, index: self.index.clone(), ..*self }
    }

    /// Replaces every vector of length n by its image; `multiply_add(s, a, x)` is s + a·x in the vectors' arithmetic, and
    /// `quotient(x, r)` is x/r for a real r.
    fn run<N: Copy>(
        &self,
        n: usize,
        vectors: &mut [N],
        zero: N,
        one: N,
        multiply_add: impl Fn(N, W, N) -> N,
        quotient: impl Fn(N, N) -> N,
    ) {
        let mut old = vec![zero; self.b];
        for x in vectors.chunks_exact_mut(n) {
            if let Some(count) = self.reflections {
                let blocks = self.blocks.chunks_exact((count * self.b).max(1));
                for (index, block) in self.index.chunks_exact(self.b).zip(blocks) {
                    for u in block.chunks_exact(self.b).filter(|u| u.iter().any(|u| *u != W::zero())) {
                        let lift = |a: W| multiply_add(zero, a, one);
                        let square = u.iter().fold(zero, |sum, &a| multiply_add(sum, a.conj(), lift(a)));
                        let dot = u.iter().zip(index).fold(zero, |sum, (&a, &i)| multiply_add(sum, a.conj(), x[i]));
                        let c = multiply_add(zero, W::from_parts(-two::<W>(), W::Real::zero()), quotient(dot, square));
                        for (&a, &i) in u.iter().zip(index) {
                            x[i] = multiply_add(x[i], a, c);
                        }
                    }
                }
                continue;
            }
            let blocks = self.blocks.chunks_exact(self.b * self.b);
            for (index, block) in self.index.chunks_exact(self.b).zip(blocks) {
                for (old, &i) in old.iter_mut().zip(index) {
                    *old = x[i];
                }
                for (&i, row) in index.iter().zip(block.chunks_exact(self.b)) {
                    x[i] = row.iter().zip(&old).fold(zero, |sum, (&a, &x)| multiply_add(sum, a, x));
                }
            }
        }
    }
}

fn two<W: Scalar>() -> W::Real {
    W::Real::one() + W::Real::one()
}

/// Blockᴴ.
fn adjoint<W: Scalar>(b: usize, block: &[W]) -> Vec<W> {
    (0..b * b).map(|at| block[at % b * b + at / b].conj()).collect()
}

/// An empty vector that has room.
fn reserve<N>(len: usize) -> Result<Vec<N>> {
    let mut numbers = Vec::new();
    numbers.try_reserve_exact(len).map_err(|_| Error::Size {
        what: "dense matrix",
        expected: "memory for all its numbers".to_string(),
        got: format!("{len} numbers"),
    })?;
    Ok(numbers)
}

fn identity<N: Copy>(n: usize, one: N, zero: N) -> Result<Vec<N>> {
    let mut rows = reserve(n.saturating_mul(n))?;
    rows.resize(n * n, zero);
    for i in 0..n {
        rows[i * n + i] = one;
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::StageLayout;
    use crate::plan::Source;
    use alloc::sync::Arc;

    /// Two stages on three coordinates by hand: F_1 = [[1, 2], [3, 4]] on (0, 2), F_2 = [[0, 1], [5, 0]] on (1, 0).
    fn by_hand() -> Plan<f64> {
        let table = |index: [u32; 2]| StageLayout::Table { block: 2, index: Arc::from(index) };
        let fixed = |block: [f64; 4]| Source::Fixed(Arc::from(block));
        let stages = [(table([0, 2]), fixed([1.0, 2.0, 3.0, 4.0])), (table([1, 0]), fixed([0.0, 1.0, 5.0, 0.0]))];
        Plan::from_stages(3, stages).unwrap()
    }

    #[test]
    fn product_and_order_are_those_of_the_definition() {
        // x ↦ (x0 + 2 x2, x1, 3 x0 + 4 x2) ↦ y1 = x0', y0 = 5 x1'.
        let plan = by_hand();
        let factors = plan.realize::<f64>(&[]).unwrap();
        let q = [0.0, 5.0, 0.0, 1.0, 0.0, 2.0, 3.0, 0.0, 4.0];
        assert_eq!(matrix(&plan, &factors).unwrap(), q);
        assert_eq!(matrix(&plan.adjoint(), &factors).unwrap(), adjoint(3, &q));
        assert_eq!(apply(&plan, &factors, &[1.0, 10.0, 100.0], Op::None).unwrap(), [50.0, 201.0, 403.0]);
        assert_eq!(apply(&plan, &factors, &[1.0, 10.0, 100.0], Op::Adjoint).unwrap(), [310.0, 5.0, 420.0]);
        assert!(matches!(apply(&plan, &factors, &[1.0; 4], Op::None), Err(Error::Length { expected: 3, got: 4, .. })));
        assert_eq!(defect(&plan, &factors).unwrap(), [9.0, 0.0, 14.0, 0.0, 24.0, 0.0, 14.0, 0.0, 19.0]);
    }

    #[test]
    fn complex_products_conjugate_where_they_should() {
        use crate::scalar::c64;
        // Q = [[1, i], [2, 1 + i]]: QᴴQ = [[5, 2 + 3i], [2 − 3i, 3]].
        let z = |re: i32, im: i32| c64 { re: re.into(), im: im.into() };
        let q = [z(1, 0), z(0, 1), z(2, 0), z(1, 1)];
        let plan = Plan::<c64>::from_stages(2, [(StageLayout::contiguous(2, 1), Source::Fixed(Arc::from(q)))]).unwrap();
        let factors = plan.realize::<f64>(&[]).unwrap();
        assert_eq!(matrix(&plan, &factors).unwrap(), q);
        assert_eq!(matrix(&plan.adjoint(), &factors).unwrap(), [z(1, 0), z(2, 0), z(0, -1), z(1, -1)]);
        assert_eq!(defect(&plan, &factors).unwrap(), [z(4, 0), z(2, 3), z(2, -3), z(2, 0)]);
        let x = [z(1, 1), z(0, -2)];
        for (op, y) in [
            (Op::None, [z(3, 1), z(4, 0)]),
            (Op::Adjoint, [z(1, -3), z(-1, -3)]),
            (Op::Transpose, [z(1, -3), z(1, -1)]),
            (Op::Conj, [z(-1, 1), z(0, 0)]),
        ] {
            assert_eq!(apply(&plan, &factors, &x, op).unwrap(), y, "{op:?}");
        }
    }
}
