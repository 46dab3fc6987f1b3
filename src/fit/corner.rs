//! Z ← F Z F'ᴴ where only the blocks of the last stage are wanted of it, since then a sweep begins again.
//!
//! Row i is wanted in the columns of its block of the last stage. These lie in a few blocks of the stage before: two for butterflies, of
//! any size. So of all n/b pairs of blocks that a row of blocks has in Z, two are multiplied, BⱼZⱼₖB'ₖᴴ, and the others left
//! alone: the last pass of a sweep costs next to nothing.

use alloc::vec;
use alloc::vec::Vec;

use super::pass::{Pass, Picked, Rows};
use super::products::products;
use crate::scalar::{Scalar, Wide};

/// More pairs than this part of all are left to the pass over all of Z.
const FEW: usize = 4;

impl<W: Wide> Pass<'_, W> {
    /// What [`run`](Self::run) leaves behind for the last stage, if that is little and every coordinate is in a block.
    pub(super) fn corner(&self, z: &[W]) -> Option<Picked<W>> {
        let (order, next, isa) = (self.order, self.next, self.workspace.isa());
        let (b, n) = (order.b, order.rows.len());
        let pairs = pairs(order, next)?;
        let adjoint = |block: &[W], to: &mut Vec<W>| {
            to.extend((0..b * b).map(|at| Scalar::conj(block[at % b * b + at / b])));
        };
        let [mut parts, mut left, mut right] = [(); 3].map(|()| Vec::with_capacity(pairs.len() * b * b));
        for &(j, k) in &pairs {
            for i in order.members(j) {
                parts.extend(order.members(k).iter().map(|c| z[i * self.pitch + c]));
            }
            adjoint(&self.left[j * b * b..(j + 1) * b * b], &mut left);
            right.extend_from_slice(&self.blocks[k * b * b..(k + 1) * b * b]);
        }
        // The adjoints of all BZB'ᴴ.
        let turned = products(b, &parts, true, &left, isa, self.parallelism);
        let found = products(b, &right, false, &turned, isa, self.parallelism);
        let place = order.places();
        let mut rows = vec![W::zero(); n * next.b];
        for ((j, k), found) in pairs.into_iter().zip(found.chunks_exact(b * b)) {
            for (a, i) in order.members(j).iter().enumerate() {
                let members = next.owner[*i].map_or(&[][..], |owner| next.members(owner));
                for (to, c) in rows[(j * b + a) * next.b..].iter_mut().zip(members) {
                    if order.owner[*c] == Some(k) {
                        *to = Scalar::conj(found[(place[*c] - k * b) * b + a]);
                    }
                }
            }
        }
        Some(Picked { rows, place })
    }
}

/// Blocks j and k of a stage where block j has rows that the next stage wants in columns of block k.
fn pairs(order: &Rows, next: &Rows) -> Option<Vec<(usize, usize)>> {
    let blocks = order.rows.len() / order.b;
    if order.owner.contains(&None) {
        return None;
    }
    let mut pairs = Vec::new();
    for j in 0..blocks {
        let first = pairs.len();
        for members in order.members(j).iter().filter_map(|i| next.owner[*i]).map(|owner| next.members(owner)) {
            for k in members.iter().filter_map(|c| order.owner[*c]) {
                if !pairs[first..].contains(&(j, k)) {
                    pairs.push((j, k));
                }
            }
        }
        if pairs.len() * FEW > blocks * blocks {
            return None;
        }
    }
    Some(pairs)
}
