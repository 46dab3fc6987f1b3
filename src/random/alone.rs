//! Blocks that are R registers, no more: all of their stages at once, and several of them at a time if they are short, or one would
//! wait for itself.

use bytemuck::Zeroable;

use super::passes::{Block, Rounds};
use super::registers::{closing, middle, opening, unrolled};
use super::wiring::Round;
use crate::batch::BatchMut;
use crate::scalar::Scalar;
use crate::simd::{Job, Lanes};

/// V blocks at a time, of R registers that are units.
pub(super) struct Alone<'a, 'b, T, const R: usize, const V: usize, const BACK: bool> {
    pub(super) rounds: &'a Rounds<'a, T>,
    pub(super) y: &'a mut BatchMut<'b, T>,
    /// Vectors that go through the blocks together.
    pub(super) together: usize,
}

impl<T: Scalar, const R: usize, const V: usize, const BACK: bool> Job<T> for Alone<'_, '_, T, R, V, BACK> {
    #[inline(always)]
    fn run<S: Lanes<T>>(self, s: S) {
        let Self { rounds, y, together } = self;
        let (batch, count) = (y.batch(), rounds.blocks.len());
        let block = |b: usize| rounds.block(if BACK { count - 1 - b } else { b }, R);
        if V > 1 && batch == 1 && rounds.shape.n == rounds.shape.blocks * rounds.shape.block {
            // Blocks of a round that do not overlap, most of them last: so less waits for the last of a round.
            let each = rounds.shape.blocks;
            for round in (0..count).step_by(each) {
                let first = each % V;
                for b in 0..first {
                    at_once::<T, S, R, 1, BACK>(s, [block(round + b)], y, 0);
                }
                for b in (first..each).step_by(V) {
                    at_once::<T, S, R, V, BACK>(s, core::array::from_fn(|v| block(round + b + v)), y, 0);
                }
            }
            return;
        }
        // Block by block over several vectors: one does not wait for another, nor does a core that looks ahead.
        for first in (0..batch).step_by(together) {
            let last = batch.min(first + together);
            for b in 0..count {
                let block = block(b);
                let mut v = first;
                while v + V <= last {
                    at_once::<T, S, R, V, BACK>(s, [block; V], y, v);
                    v += V;
                }
                if V > 1 {
                    for v in v..last {
                        at_once::<T, S, R, 1, BACK>(s, [block], y, v);
                    }
                }
            }
        }
    }
}

/// Blocks of one round: the same one of V vectors from `vector` on, or V that do not overlap of one vector, which is then the last.
#[inline(always)]
fn at_once<T: Scalar, S: Lanes<T>, const R: usize, const V: usize, const BACK: bool>(
    s: S,
    blocks: [Block<'_, T>; V],
    y: &mut BatchMut<'_, T>,
    vector: usize,
) {
    let last = y.batch() - 1;
    let mut x = [[S::V::zeroed(); R]; V];
    unrolled!(v < V, {
        let Some(row) = y.row_mut(last.min(vector + v)) else { return };
        x[v] = blocks[v].places.group::<R>(0).load::<T, S>(row);
    });
    match blocks[0].round {
        Round::Opening => unrolled!(v < V, {
            opening::<T, S, 1, R, BACK>(s, &mut x[v], Some(blocks[v].signs), blocks[v].between);
        }),
        Round::Middle => unrolled!(v < V, {
            middle::<T, S, 1, R, BACK>(s, &mut x[v], blocks[v].signs);
        }),
        Round::Closing => unrolled!(v < V, {
            closing::<T, S, 1, R, BACK>(s, &mut x[v], blocks[v].signs, blocks[v].between);
        }),
    }
    unrolled!(v < V, {
        let Some(row) = y.row_mut(last.min(vector + v)) else { return };
        blocks[v].places.group::<R>(0).store::<T, S>(row, &x[v]);
    });
}
