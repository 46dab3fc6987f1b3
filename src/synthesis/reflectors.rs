//! Theorem 1 of BOFT (Liu et al., ICLR 2024, arXiv 2311.06243) as a construction: any Q ∈ SO(n) is a product of n − 1 pairs
//! B₁·B₂ᵀ, where B₁ and B₂ are products of plane rotations wired as a butterfly, or any other dense wiring of pairs.
//!
//! **Reflections.** Householder's elimination takes the columns of Q to unit vectors one by one:
//! H_k ··· H₁ Q = R with H = I − 2uuᵀ, and R differs from I only in the last two coordinates p, q. (u ∝ x − ‖x‖e_c for a column x;
//! where x_c > 0 its c-th entry is −σ/(x_c + ‖x‖), σ = Σ_{i≠c} x_i², without cancellation.) Columns that are done are skipped.
//! det R = (−1)ᵏ, so R is one more reflection if k is odd and a rotation if k is even: always an even number of reflections,
//! and perhaps one rotation of the plane (p, q), n − 1 things at most.
//!
//! **A reflection as rotations.** The wiring B = G_{m−1} ··· G₀ is dense, so every coordinate has a path to coordinate t = 0 in
//! Bᵀ = G₀ᵀ ··· G_{m−1}ᵀ. From T_{−1} = {t}, let T_k be T_{k−1} and what shares a block of stage k with it; density says that T_{m−1}
//! is everything. (It is enough that coordinate 0 of B reaches all: a reversed binary tree does it with n − 1 angles.) A vector supported on T_k is rotated into T_{k−1} by G_kᵀ: a block with one
//! coordinate in T_{k−1} moves its length there; a block with two rests. So Bᵀu = e_t for suitable angles, and
//! H = B D Bᵀ with D = diag(1, …, −1, …, 1), −1 at t. In a pair of reflections D is conjugated away:
//!
//! > H_i H_j = B_i·(D B_i D)ᵀ · (D B_j D)·B_jᵀ,
//!
//! two pairs of the theorem. D B D has the angles of B with other signs in the blocks that contain t: still rotations.
//!
//! **The rotation** of (p, q) is the pair B₁·I, if p and q meet in a block: they are chosen to.
//!
//! The error is that of n − 1 reflections and 2m(n − 1) stages, each about u: LAPACK-like, O(n·u) in norm.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use super::{check_determinant, eliminating, orthogonal};
use crate::error::{Error, Result};
use crate::layout::{Sharing, StageLayout};
use crate::parametrization::Givens;
use crate::plan::{Plan, Source};
use crate::scalar::{Scalar, Wide};
use crate::topology::Topology;

/// The coordinate t in which reflections happen.
const TARGET: usize = 0;

/// Entries below this do not matter; their squares can be summed.
const NEGLIGIBLE: f64 = 1e-140;

/// The plan of n − 1 pairs B₁·B₂ᵀ of `wiring` with [`Givens`], and its angles θ for a rotation `q` (row-major n×n).
///
/// The wiring is one of 2×2 blocks, in which coordinate 0 reaches all others: every dense one does, such as
/// [`AnyButterfly::new(2)`](crate::topology::AnyButterfly); the least is [`Reversed`](crate::topology::Reversed)
/// [`BinaryTree`](crate::topology::BinaryTree). The plan is that of
/// [`Repeated`](crate::topology::Repeated) [`Kaleidoscope`](crate::topology::Kaleidoscope), n − 1 times; pairs that are not needed
/// have θ = 0.
///
/// ```
/// use papilio::{Orthogonal, synthesis, topology::AnyButterfly};
/// let q = [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0];
/// let (plan, theta) = synthesis::reflector_pairs(3, &q, &AnyButterfly::new(2))?;
/// assert_eq!(plan.num_stages(), 2 * 2 * 3); // two pairs; a butterfly for n = 3 has three stages
/// let found = Orthogonal::new(plan, &theta)?.to_dense()?;
/// assert!(found.iter().zip(&q).all(|(x, y)| (x - y).abs() < 1e-14));
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// [`Error::Size`] for a size of zero or one that the wiring refuses, [`Error::Length`] for another number of entries,
/// [`Error::Domain`] if q is not orthogonal to a ratio of 30 or its determinant is −1, [`Error::Unsupported`] for a wiring that
/// has other blocks, shares them, or does not reach all coordinates.
pub fn reflector_pairs(n: usize, q: &[f64], wiring: &dyn Topology) -> Result<(Plan<f64>, Vec<f64>)> {
    let mut a = orthogonal(n, q)?;
    let tree = Tree::new(n, wiring)?;
    let plan = tree.plan(n)?;
    let mut theta = vec![0.0; plan.num_params()];
    let Some((stage, p, q)) = tree.meeting() else {
        return check_determinant(a[0]).map(|()| (plan, theta)); // n = 1
    };

    let mut order: Vec<usize> = (0..n).filter(|i| *i != p && *i != q).collect();
    order.extend([p, q]);
    let mut reflectors = Vec::new();
    for done in 0..n - 2 {
        if let Some(u) = reflector(n, &a, &order[done..]) {
            reflect(n, &mut a, &u);
            reflectors.push(u);
        }
    }
    let [xx, xy, yx, yy] = [a[p * n + p], a[p * n + q], a[q * n + p], a[q * n + q]];
    let odd = reflectors.len() % 2 == 1;
    check_determinant((xx * yy - xy * yx) * if odd { -1.0 } else { 1.0 })?;

    // What acts first is set first: R, then the last reflections.
    let mut pair = 0;
    if odd {
        // Where the columns are unit vectors already, q is what is reflected.
        let unit = || (0..n).map(|i| f64::from(i == q)).collect();
        reflectors.push(reflector(n, &a, &order[n - 2..]).unwrap_or_else(unit));
    } else {
        let turn = Float::atan2(yx - xy, xx + yy);
        if turn != 0.0 {
            let at = tree.forward(&plan, pair, stage);
            theta[at + tree.number(stage, p)] = turn;
            pair += 1;
        }
    }
    for (k, u) in reflectors.iter().rev().enumerate() {
        tree.set(&plan, pair + k, u, k % 2 == 0, &mut theta);
    }
    Ok((plan, theta))
}

/// The unit vector u whose reflection takes column `rest[0]` of `a`, in the coordinates `rest`, to a multiple of a unit vector:
/// a positive one of real vectors, one with the phase of what stands there of complex ones. `None` if it is one.
pub(crate) fn reflector<W: Wide>(n: usize, a: &[W], rest: &[usize]) -> Option<Vec<W>> {
    let c = rest[0];
    let mut u = vec![W::zero(); n];
    let (mut sigma, mut largest) = (0.0, 0.0);
    for &i in &rest[1..] {
        let x = a[i * n + c];
        u[i] = x;
        sigma += (x.conj() * x).re();
        largest = Float::max(largest, Scalar::abs(x));
    }
    let x = a[c * n + c];
    let length = Scalar::abs(x);
    let phase = if W::IS_COMPLEX && length > 0.0 { x * W::from_real(1.0 / length) } else { W::one() };
    let along = if W::IS_COMPLEX { length } else { x.re() };
    if along > 0.0 && largest < NEGLIGIBLE {
        return None;
    }
    let norm = Float::sqrt(along * along + sigma);
    let moved = if along > 0.0 { -sigma / (along + norm) } else { along - norm };
    u[c] = phase * W::from_real(moved);
    let length = Float::sqrt(sigma + moved * moved);
    u.iter_mut().for_each(|u| *u = W::from_parts(u.re() / length, u.im() / length));
    Some(u)
}

/// A ← (I − 2uuᴴ)A.
pub(crate) fn reflect<W: Wide>(n: usize, a: &mut [W], u: &[W]) {
    let mut product = vec![W::zero(); n];
    for (row, &u) in a.chunks_exact(n).zip(u).filter(|(_, u)| **u != W::zero()) {
        product.iter_mut().zip(row).for_each(|(sum, a)| *sum += u.conj() * *a);
    }
    for (row, &u) in a.chunks_exact_mut(n).zip(u).filter(|(_, u)| **u != W::zero()) {
        let twice = W::from_real(2.0) * u;
        row.iter_mut().zip(&product).for_each(|(a, sum)| *a = *a - twice * *sum);
    }
}

/// How a wiring B collects any vector in one coordinate: Bᵀu = ‖u‖e_t.
struct Tree {
    layouts: Vec<StageLayout>,
    /// For each stage, the blocks that move what they hold, and whether to their first coordinate.
    moves: Vec<Vec<(usize, bool)>>,
}

impl Tree {
    fn new(n: usize, wiring: &dyn Topology) -> Result<Self> {
        let refused = |got: String| Error::Unsupported {
            what: "wiring of reflections",
            expected: "2x2 blocks that share nothing and take coordinate 0 to all others",
            got,
        };
        let mut tree = Self { layouts: Vec::new(), moves: Vec::new() };
        let mut reached = vec![false; n];
        reached[TARGET] = true;
        for k in 0..wiring.num_stages(n)? {
            let layout = wiring.stage(n, k);
            layout.validate(n)?;
            if layout.block_size() != 2 || wiring.sharing(n, k) != Sharing::PerBlock {
                return Err(refused(format!("{wiring:?}, stage {k}")));
            }
            let mut moves = Vec::new();
            for j in 0..layout.num_blocks() {
                let pair = [layout.index(j, 0), layout.index(j, 1)];
                if reached[pair[0]] != reached[pair[1]] {
                    moves.push((j, reached[pair[0]]));
                    (reached[pair[0]], reached[pair[1]]) = (true, true);
                }
            }
            tree.layouts.push(layout);
            tree.moves.push(moves);
        }
        match reached.iter().position(|reached| !reached) {
            None => Ok(tree),
            Some(i) => Err(refused(format!("{wiring:?}, where coordinate {TARGET} does not reach coordinate {i}"))),
        }
    }

    /// n − 1 pairs: the stages backwards, then forwards.
    fn plan(&self, n: usize) -> Result<Plan<f64>> {
        let m = self.layouts.len();
        if m.checked_mul(2 * (n - 1)).is_none_or(|stages| stages > u32::MAX as usize / n) {
            let expected = "fewer than 2^32 coordinates in all stages".to_string();
            return Err(Error::Size { what: "pairs of reflections", expected, got: format!("n = {n}") });
        }
        let pair = self.layouts.iter().rev().chain(&self.layouts);
        let all = core::iter::repeat_n(pair, n - 1).flatten();
        Plan::from_stages(n, all.map(|layout| (layout.clone(), Source::chart(Givens))))
    }

    /// A block: its stage and coordinates.
    fn meeting(&self) -> Option<(usize, usize, usize)> {
        let stage = self.layouts.iter().position(|layout| layout.num_blocks() > 0)?;
        Some((stage, self.layouts[stage].index(0, 0), self.layouts[stage].index(0, 1)))
    }

    /// The number of the block of a stage whose first coordinate is `p`.
    fn number(&self, stage: usize, p: usize) -> usize {
        let layout = &self.layouts[stage];
        (0..layout.num_blocks()).find(|j| layout.index(*j, 0) == p).unwrap_or(0)
    }

    /// Where in θ stage k of B₁ begins, in the given pair.
    fn forward(&self, plan: &Plan<f64>, pair: usize, k: usize) -> usize {
        plan.stages()[(2 * pair + 1) * self.layouts.len() + k].theta().start
    }

    /// Where in θ stage k of B₂ᵀ begins, in the given pair.
    fn backward(&self, plan: &Plan<f64>, pair: usize, k: usize) -> usize {
        plan.stages()[(2 * pair + 1) * self.layouts.len() - 1 - k].theta().start
    }

    /// Sets a pair to (D B D)·Bᵀ if it comes `first` of the two, or to B·(D B D)ᵀ, where Bᵀu = e_t.
    fn set(&self, plan: &Plan<f64>, pair: usize, u: &[f64], first: bool, theta: &mut [f64]) {
        let mut u = u.to_vec();
        for k in (0..self.layouts.len()).rev() {
            let (layout, to, from) = (&self.layouts[k], self.forward(plan, pair, k), self.backward(plan, pair, k));
            for &(j, keep_first) in &self.moves[k] {
                let [i0, i1] = [layout.index(j, 0), layout.index(j, 1)];
                let angle = eliminating(u[i0], u[i1], keep_first);
                let length = Float::hypot(u[i0], u[i1]);
                (u[i0], u[i1]) = if keep_first { (length, 0.0) } else { (0.0, length) };
                let conjugated = if i0 == TARGET || i1 == TARGET { -angle } else { angle };
                let (b1, b2) = if first { (conjugated, angle) } else { (angle, conjugated) };
                theta[to + j] = b1;
                theta[from + j] = -b2;
            }
        }
    }
}
