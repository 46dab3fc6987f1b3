//! Re-basing: Q stays, θ starts again at zero.
//!
//! Every trainable stage F(θ) becomes C(0) followed by a fixed stage that holds the blocks of F(θ): R = R₀·C(θ') at θ' = 0.
//! At zero a chart is the identity (or fixed signs, B = R₀·C(0)) and best conditioned, so this undoes the saturation of a chart that was driven far
//! out (Cayley flattens like 1/‖A‖² there); it is the merge-then-reinitialise step of POET (arXiv 2506.08001); and beside a
//! fixed reflection it trains operators of determinant −1, which charts of rotations do not reach.
//!
//! The fixed blocks are those of F(θ) before rounding, so the first re-basing changes no entry of Q. A fixed stage merges
//! with a fixed neighbour of the same layout: B₀ ← B₀·B in double precision, and one Newton–Schulz polish keeps a thousand
//! re-basings from adding up (both only where the blocks are orthogonal).

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::{Orthogonal, identity, start};
use crate::dense;
use crate::error::Result;
use crate::layout::StageLayout;
use crate::plan::{Part, Plan, Source, Stage};
use crate::scalar::{Scalar, Wide};

impl<T: Scalar> Orthogonal<T> {
    /// The same Q with θ = 0: each chart stage at zero, composed with a fixed stage that holds its present blocks.
    ///
    /// θ keeps its length and its order, so gradients and the state of an optimiser keep their places. Stages without a
    /// chart stay as they are. The first time every trainable stage gets a fixed one (and apply costs twice as much);
    /// from then on they are updated. Fixed stages that follow one another on the same layout become one.
    ///
    /// ```
    /// use papilio::{Orthogonal, Plan, parametrization::Cayley, topology::BlockDiagonal};
    /// let plan = Plan::<f64>::new(6, &BlockDiagonal::new(3), Cayley)?;
    /// let q = Orthogonal::new(plan, [1e3, 0.0, -1e3, 5.0, 0.1, 0.2])?; // the first block is saturated
    /// let fresh = q.rebase()?;
    /// assert_eq!(fresh.theta(), [0.0; 6]);
    /// assert_eq!(fresh.to_dense()?, q.to_dense()?);
    /// assert_eq!(fresh.rebase()?.plan().num_stages(), 2); // nothing piles up
    /// # Ok::<(), papilio::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Plan::from_stages`], for sizes beyond the memory.
    pub fn rebase(&self) -> Result<Self> {
        let mut parts: Vec<Part<T>> = Vec::new();
        let mut theta = self.theta.clone();
        for (stage, mut part) in self.plan.stages().iter().zip(self.plan.parts()) {
            part.rank *= 2;
            if !matches!(part.source, Source::Chart { .. }) {
                push(&mut parts, part);
                continue;
            }
            theta[stage.theta()].fill(0.0);
            let (blocks, size) = (self.factors.wide_blocks(stage), stage.layout().block_size().pow(2));
            let blocks = without_start::<T>(stage, blocks);
            let groups = (0..stage.layout().num_blocks()).map(|j| stage.group_of(j) * size);
            let fixed: Vec<T::Wide> = groups.flat_map(|at| blocks[at..at + size].iter().copied()).collect();
            let fixed = Part { source: Source::Fixed(fixed.into()), rank: part.rank + 1, ..part.clone() };
            // B = B₀·C(θ'): C acts first. Of Bᴴ = C(θ')ᴴ·B₀ᴴ, it acts last.
            let (first, second) = if part.adjoint { (fixed, part) } else { (part, fixed) };
            push(&mut parts, first);
            push(&mut parts, second);
        }
        Self::new(Plan::assemble(self.n(), parts)?, theta)
    }
}

/// The stored blocks as B₀ = B·C(0)ᴴ. C(0) is the identity, or a diagonal of signs, so nothing is rounded.
fn without_start<T: Scalar>(stage: &Stage<T>, blocks: Vec<T::Wide>) -> Vec<T::Wide> {
    let b = stage.layout().block_size();
    match start(stage) {
        Some(start) if start != identity::<T::Wide>(b) => {
            let start = acting::<T>(stage.layout(), &start, true);
            blocks.chunks_exact(b * b).flat_map(|block| product(b, block, &start)).collect()
        }
        _ => blocks,
    }
}

/// Appends a stage; two fixed ones on the same layout become one.
fn push<T: Scalar>(parts: &mut Vec<Part<T>>, next: Part<T>) {
    if let (Some(last), Source::Fixed(blocks)) = (parts.last_mut(), &next.source)
        && let Source::Fixed(before) = &last.source
        && last.layout == next.layout
    {
        let before = acting::<T>(&last.layout, before, last.adjoint);
        let after = acting::<T>(&next.layout, blocks, next.adjoint);
        *last = Part { source: Source::Fixed(products::<T>(&next.layout, &after, &before)), adjoint: false, ..next };
        return;
    }
    parts.push(next);
}

/// The blocks as they act: themselves, or their adjoints.
fn acting<T: Scalar>(layout: &StageLayout, blocks: &[T::Wide], adjoint: bool) -> Vec<T::Wide> {
    let b = layout.block_size();
    let entry = |at: usize| {
        let (block, i, k) = (at / (b * b) * (b * b), at / b % b, at % b);
        if adjoint { blocks[block + k * b + i].conj() } else { blocks[at] }
    };
    (0..blocks.len()).map(entry).collect()
}

/// Block by block left·right, polished where both are orthogonal.
fn products<T: Scalar>(layout: &StageLayout, left: &[T::Wide], right: &[T::Wide]) -> Arc<[T::Wide]> {
    let b = layout.block_size();
    let mut all = Vec::with_capacity(left.len());
    for (left, right) in left.chunks_exact(b * b).zip(right.chunks_exact(b * b)) {
        let mut out = product(b, left, right);
        let exact = |block: &[T::Wide]| dense::orthogonality_ratio(b, block).is_ok_and(|ratio| ratio <= 2.0);
        if exact(left) && exact(right) {
            // Far inside its domain: the product of two blocks is off by some b·eps.
            let _ = dense::polish(b, &mut out);
        }
        all.extend(out);
    }
    all.into()
}

fn product<W: Wide>(b: usize, left: &[W], right: &[W]) -> Vec<W> {
    let mut out = vec![W::zero(); b * b];
    for (at, out) in out.iter_mut().enumerate() {
        for k in 0..b {
            *out += left[at / b * b + k] * right[k * b + at % b];
        }
    }
    out
}
