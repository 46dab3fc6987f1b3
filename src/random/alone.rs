//! Blocks that are R registers, no more: all of their stages at once, and several of them at a time if they are short, or one would
//! wait for itself.

use core::ops::Range;

use bytemuck::Zeroable;

use super::passes::{Block, CLOSING, MIDDLE, OPENING, Rounds, fetched};
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
                    of_vectors::<T, S, R, 1, BACK>(s, [block(round + b)], y, 0..1);
                }
                for b in (first..each).step_by(V) {
                    of_vectors::<T, S, R, V, BACK>(s, core::array::from_fn(|v| block(round + b + v)), y, 0..1);
                }
            }
            return;
        }
        // Block by block over several vectors: one does not wait for another, nor does a core that looks ahead.
        for first in (0..batch).step_by(together) {
            let last = batch.min(first + together);
            if BACK {
                fetched(y, first..last);
            }
            let pairs = last - (last - first) % V;
            for b in 0..count {
                let block = block(b);
                of_vectors::<T, S, R, V, BACK>(s, [block; V], y, first..pairs);
                if V > 1 {
                    of_vectors::<T, S, R, 1, BACK>(s, [block], y, pairs..last);
                }
            }
        }
    }
}

/// The same block of these vectors, V at a time, or V blocks of a round that do not overlap, of one.
#[inline(always)]
fn of_vectors<T: Scalar, S: Lanes<T>, const R: usize, const V: usize, const BACK: bool>(
    s: S,
    blocks: [Block<'_, T>; V],
    y: &mut BatchMut<'_, T>,
    vectors: Range<usize>,
) {
    match blocks[0].round {
        Round::Opening => each::<T, S, R, V, OPENING, BACK>(s, blocks, y, vectors),
        Round::Middle => each::<T, S, R, V, MIDDLE, BACK>(s, blocks, y, vectors),
        Round::Closing => each::<T, S, R, V, CLOSING, BACK>(s, blocks, y, vectors),
    }
}

#[inline(always)]
fn each<T: Scalar, S: Lanes<T>, const R: usize, const V: usize, const ROUND: u8, const BACK: bool>(
    s: S,
    blocks: [Block<'_, T>; V],
    y: &mut BatchMut<'_, T>,
    vectors: Range<usize>,
) {
    let (places, last) = (blocks.map(|block| block.places.group::<R>(0)), vectors.end.saturating_sub(1));
    for vector in vectors.step_by(V) {
        let mut x = [[S::V::zeroed(); R]; V];
        unrolled!(v < V, {
            let Some(row) = y.row_mut(last.min(vector + v)) else { return };
            x[v] = places[v].load::<T, S>(row);
        });
        unrolled!(v < V, {
            let Block { signs, between, .. } = blocks[v];
            if const { ROUND == OPENING } {
                opening::<T, S, 1, R, BACK>(s, &mut x[v], Some(signs), between);
            } else if const { ROUND == MIDDLE } {
                middle::<T, S, 1, R, BACK>(s, &mut x[v], signs);
            } else {
                closing::<T, S, 1, R, BACK>(s, &mut x[v], signs, between);
            }
        });
        unrolled!(v < V, {
            let Some(row) = y.row_mut(last.min(vector + v)) else { return };
            places[v].store::<T, S>(row, &x[v]);
        });
    }
}
