//! A table of pairs over the tile, the commonest stage of few operations: all that the general loop would look up again for every
//! block is known before the first. A function of its own, so that its registers are its own, too.

use super::Step;
use crate::layout::StageLayout;
use crate::scalar::Scalar;
use crate::simd::{Job, Lanes};

/// tile ← stage(tile).
struct Table<'a, T, V> {
    /// Pairs of rows.
    index: &'a [[u32; 2]],
    /// Their row-major blocks.
    blocks: &'a [[T; 4]],
    step: &'a Step<'a, T>,
    tile: &'a mut [V],
    registers: usize,
}

/// Runs the stage if it is a table of pairs, each with a block of its own; `false` if it is not.
#[inline(always)]
pub(super) fn apply<T: Scalar, S: Lanes<T>>(s: S, step: &Step<'_, T>, tile: &mut [S::V], registers: usize) -> bool {
    let StageLayout::Table { block: 2, index } = step.layout else { return false };
    let own = step.groups.is_none() && step.first == 0 && step.stride == 1 && step.reflectors.is_none();
    if S::LANES == 1 || !own || step.strides.is_planar() || !matches!(registers, 1 | 2 | 4 | 8) {
        return false;
    }
    let ((index, _), (blocks, _)) = (index.as_chunks(), step.entries.as_chunks());
    s.call(Over::<T, S> { table: Table { index, blocks, step, tile, registers }, s });
    true
}

/// The table with the machine that its tile belongs to.
struct Over<'a, T, S: Lanes<T>> {
    table: Table<'a, T, S::V>,
    s: S,
}

impl<T: Scalar, M: Lanes<T>> Job<T> for Over<'_, T, M> {
    #[inline(always)]
    fn run<S: Lanes<T>>(self, _: S) {
        let Self { table, s } = self;
        match table.registers {
            1 => table.run::<M, 1>(s),
            2 => table.run::<M, 2>(s),
            4 => table.run::<M, 4>(s),
            _ => table.run::<M, 8>(s),
        }
    }
}

impl<T: Scalar, V: bytemuck::Pod> Table<'_, T, V> {
    #[inline(always)]
    fn run<S: Lanes<T, V = V>, const C: usize>(self, s: S) {
        let (step, (rows, _)) = (self.step, self.tile.as_chunks_mut::<C>());
        let transposed = step.strides.at(1, 0) == 1;
        for (&[first, second], block) in self.index.iter().zip(self.blocks) {
            let (first, second) = (first as usize, second as usize);
            let [e00, mut e01, mut e10, e11] = *block;
            if transposed {
                (e01, e10) = (e10, e01);
            }
            let [e00, e01] = [s.splat(step.acting(e00)), s.splat(step.acting(e01))];
            let [e10, e11] = [s.splat(step.acting(e10)), s.splat(step.acting(e11))];
            let (a, b) = (rows[first], rows[second]);
            for c in 0..C {
                rows[first][c] = s.mul_add(e01, b[c], s.mul(e00, a[c]));
                rows[second][c] = s.mul_add(e11, b[c], s.mul(e10, a[c]));
            }
        }
    }
}
