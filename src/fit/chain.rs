//! Which lists of layouts are butterflies, the shape that hierarchical factorization and projection need.
//!
//! Stage k joins r_k runs of u neighbouring coordinates at distance u·r₀···r_{k−1}: radix-b butterflies and mixed radices (u = 1), BOFT's
//! block butterfly (u = b/2, r = 2). Where r₀···r_{m−1}·u = w is less than n, the product is block-diagonal with *windows* of w. Backwards, with
//! the distances decreasing, the stages make the adjoint of such a product.

use alloc::vec;
use alloc::vec::Vec;

use super::alternating::check;
use super::signs::Signs;
use super::{Group, Options, Target};
use crate::error::{Error, Result};
use crate::layout::StageLayout;
use crate::scalar::{Scalar, Wide};

/// The blocks of each stage in the order of its layout, and a gain.
pub(super) type Found<W> = (Vec<Vec<W>>, f64);

/// The blocks that `find` finds window by window (from the entries, whose rows lie n apart), stage by stage, in the group that is asked for;
/// and the sum of the gains, with that of coordinates that pass through.
pub(super) fn by_windows<W: Wide>(
    target: &Target<W>,
    stages: &[StageLayout],
    options: &Options,
    find: impl Fn(&Chain, &[W]) -> Result<Found<W>>,
) -> Result<Found<W>> {
    check(target.n(), stages, options.group, W::IS_COMPLEX)?;
    if !target.is_orthogonal() {
        let (what, expected) = ("factorization in one pass", "an orthogonal target");
        return Err(Error::Unsupported { what, expected, got: "a correlation".into() });
    }
    let chain = Chain::of(stages).ok_or_else(|| Error::Unsupported {
        what: "factorization in one pass",
        expected: "layouts that chain: strided, of one unit, each distance the one before times its radix",
        got: alloc::format!("{} stages that do not", stages.len()),
    })?;
    let n = target.n();
    let turned = if chain.reversed { adjoint(n, target.entries()) } else { Vec::new() };
    let entries = if chain.reversed { &turned[..] } else { target.entries() };
    let window = chain.window();
    let mut blocks = vec![Vec::new(); stages.len()];
    let mut gain = (chain.windows * window..n).map(|i| entries[i * (n + 1)].re()).sum::<f64>();
    for w in 0..chain.windows {
        let (found, part) = find(&chain, &entries[w * window * (n + 1)..])?;
        blocks.iter_mut().zip(found).for_each(|(all, new)| all.extend(new));
        gain += part;
    }
    if chain.reversed {
        for (k, blocks) in blocks.iter_mut().enumerate() {
            let b = chain.unit * chain.radices[k];
            blocks.chunks_exact_mut(b * b).for_each(|block| block.copy_from_slice(&adjoint(b, block)));
        }
        blocks.reverse();
    }
    if options.group == Group::Special {
        Signs::new(n, stages).rotations(stages, &mut blocks);
    }
    Ok((blocks, gain))
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) unit: usize,
    /// Smallest distance first.
    pub(super) radices: Vec<usize>,
    /// Number of windows; coordinates behind them pass through.
    pub(super) windows: usize,
    /// The stage with the largest distance acts first.
    pub(super) reversed: bool,
}

impl Chain {
    pub(super) fn of(stages: &[StageLayout]) -> Option<Self> {
        let forward = |reversed| {
            let mut order: Vec<&StageLayout> = stages.iter().collect();
            if reversed {
                order.reverse();
            }
            let StageLayout::Strided { unit: first, .. } = order.first()? else { return None };
            let (mut expected, mut radices, mut cover) = (*first, Vec::new(), None);
            for layout in order {
                let StageLayout::Strided { unit, radix, distance, groups } = layout else { return None };
                let covered = radix * distance * groups;
                if unit != first || *distance != expected || *cover.get_or_insert(covered) != covered {
                    return None;
                }
                expected *= radix;
                radices.push(*radix);
            }
            let windows = cover?.checked_div(expected)?;
            Some(Self { unit: *first, radices, windows, reversed })
        };
        forward(false).or_else(|| forward(true))
    }

    /// Coordinates of a window.
    pub(super) fn window(&self) -> usize {
        self.unit * self.radices.iter().product::<usize>()
    }
}

/// The adjoint of an n×n matrix.
pub(super) fn adjoint<W: Wide>(n: usize, x: &[W]) -> Vec<W> {
    let mut y = alloc::vec![W::zero(); x.len()];
    const SIDE: usize = 16;
    for i in (0..n).step_by(SIDE) {
        for j in (0..n).step_by(SIDE) {
            for a in i..(i + SIDE).min(n) {
                (j..(j + SIDE).min(n)).for_each(|b| y[b * n + a] = Scalar::conj(x[a * n + b]));
            }
        }
    }
    y
}
