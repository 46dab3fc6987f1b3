//! Blocks that lie one after the other, into packs and out of them: transposes, in registers as far as possible.

use core::slice::{from_mut, from_ref};

use bytemuck::Zeroable;

use super::pack::Pack;
use crate::scalar::Wide;
use crate::simd::{Lanes, MOST, transposed};

/// `packs[at]` ← number `at` of up to `T::COUNT` blocks of `size` numbers; lanes without a block are zero.
#[inline(always)]
pub(crate) fn load<W: Wide, T: Pack<W>, S: Lanes<f64>>(s: S, size: usize, blocks: &[W], packs: &mut [T]) {
    if let (Some(numbers), false) = (T::plain_mut(packs), W::IS_COMPLEX) {
        return numbers[..size].copy_from_slice(bytemuck::cast_slice(&blocks[..size]));
    }
    let count = blocks.len() / size.max(1);
    if in_squares::<W, T, S>(S::LANES, count) && size > 0 && size < S::LANES {
        // A square with what follows the blocks.
        let blocks: &[f64] = bytemuck::cast_slice(blocks);
        for first in (0..T::COUNT).step_by(S::LANES) {
            let mut square = [S::V::zeroed(); MOST];
            for (l, row) in square.iter_mut().enumerate().take(S::LANES) {
                let from = &blocks[(first + l) * size..];
                let row: &mut [f64] = bytemuck::cast_slice_mut(from_mut(row));
                if let Some(from) = from.get(..S::LANES) {
                    row.copy_from_slice(from);
                } else {
                    row[..size].copy_from_slice(&from[..size]);
                }
            }
            let square = transposed::<f64, S, MOST>(s, square);
            for (pack, row) in packs[..size].iter_mut().zip(&square) {
                if let Some(lanes) = pack.reals() {
                    lanes[first..first + S::LANES].copy_from_slice(bytemuck::cast_slice(from_ref(row)));
                }
            }
        }
        return;
    }
    if !in_squares::<W, T, S>(size, count) {
        for (at, pack) in packs.iter_mut().enumerate().take(size) {
            *pack = T::gather(|l| if l < count { blocks[l * size + at] } else { W::zero() });
        }
        return;
    }
    let blocks: &[f64] = bytemuck::cast_slice(blocks);
    for first in (0..T::COUNT).step_by(S::LANES) {
        for (start, _) in starts(size, S::LANES) {
            let mut square = [S::V::zeroed(); MOST];
            for (l, row) in square.iter_mut().enumerate().take(S::LANES) {
                let from = &blocks[(first + l) * size + start..][..S::LANES];
                bytemuck::cast_slice_mut(from_mut(row)).copy_from_slice(from);
            }
            let square = transposed::<f64, S, MOST>(s, square);
            for (pack, row) in packs[start..start + S::LANES].iter_mut().zip(&square) {
                if let Some(lanes) = pack.reals() {
                    lanes[first..first + S::LANES].copy_from_slice(bytemuck::cast_slice(from_ref(row)));
                }
            }
        }
    }
}

/// [`load`] of real numbers, whatever the field.
#[inline(always)]
pub(crate) fn load_reals<W: Wide, T: Pack<W>, S: Lanes<f64>>(s: S, size: usize, blocks: &[f64], packs: &mut [T]) {
    if !W::IS_COMPLEX {
        return load::<W, T, S>(s, size, bytemuck::cast_slice(blocks), packs);
    }
    let count = blocks.len() / size.max(1);
    for (at, pack) in packs.iter_mut().enumerate().take(size) {
        *pack = T::gather(|l| W::from_real(if l < count { blocks[l * size + at] } else { 0.0 }));
    }
}

/// The way back, for as many blocks as there is room for.
#[inline(always)]
pub(crate) fn store<W: Wide, T: Pack<W>, S: Lanes<f64>>(s: S, size: usize, packs: &[T], blocks: &mut [W]) {
    unload::<W, T, S, false>(s, size, packs, blocks);
}

/// The way back, added to what is there.
#[inline(always)]
pub(crate) fn add<W: Wide, T: Pack<W>, S: Lanes<f64>>(s: S, size: usize, packs: &[T], blocks: &mut [W]) {
    unload::<W, T, S, true>(s, size, packs, blocks);
}

#[inline(always)]
fn unload<W: Wide, T: Pack<W>, S: Lanes<f64>, const ADD: bool>(s: S, size: usize, packs: &[T], blocks: &mut [W]) {
    if let (Some(numbers), false, false) = (T::plain(packs), W::IS_COMPLEX, ADD) {
        return bytemuck::cast_slice_mut(&mut blocks[..size]).copy_from_slice(&numbers[..size]);
    }
    let count = blocks.len() / size.max(1);
    if in_squares::<W, T, S>(S::LANES, count) && size > 0 && size < S::LANES {
        let blocks: &mut [f64] = bytemuck::cast_slice_mut(blocks);
        for first in (0..T::COUNT).step_by(S::LANES) {
            let mut square = [S::V::zeroed(); MOST];
            for (row, &(mut pack)) in square.iter_mut().zip(&packs[..size]) {
                if let Some(lanes) = pack.reals() {
                    bytemuck::cast_slice_mut(from_mut(row)).copy_from_slice(&lanes[first..first + S::LANES]);
                }
            }
            let square = transposed::<f64, S, MOST>(s, square);
            for (row, to) in square.iter().zip(blocks[first * size..].chunks_exact_mut(size)).take(S::LANES) {
                let from: &[f64] = bytemuck::cast_slice(from_ref(row));
                for (to, from) in to.iter_mut().zip(from) {
                    *to = if ADD { *to + from } else { *from };
                }
            }
        }
        return;
    }
    if !in_squares::<W, T, S>(size, count) {
        for (l, block) in blocks.chunks_exact_mut(size.max(1)).enumerate() {
            for (x, pack) in block.iter_mut().zip(packs) {
                *x = if ADD { *x + pack.lane(l) } else { pack.lane(l) };
            }
        }
        return;
    }
    let blocks: &mut [f64] = bytemuck::cast_slice_mut(blocks);
    for first in (0..T::COUNT).step_by(S::LANES) {
        for (start, new) in starts(size, S::LANES) {
            let mut square = [S::V::zeroed(); MOST];
            for (row, &(mut pack)) in square.iter_mut().zip(&packs[start..start + S::LANES]) {
                if let Some(lanes) = pack.reals() {
                    bytemuck::cast_slice_mut(from_mut(row)).copy_from_slice(&lanes[first..first + S::LANES]);
                }
            }
            let square = transposed::<f64, S, MOST>(s, square);
            for (l, row) in square.iter().enumerate().take(S::LANES) {
                let from: &[f64] = bytemuck::cast_slice(from_ref(row));
                let to = &mut blocks[(first + l) * size + start..][..S::LANES];
                if !ADD {
                    to.copy_from_slice(from);
                } else if new == 0 {
                    (0..S::LANES).for_each(|at| to[at] += from[at]);
                } else {
                    (new..S::LANES).for_each(|at| to[at] += from[at]);
                }
            }
        }
    }
}

/// Whether `count` blocks of that size are transposed in squares.
#[inline(always)]
fn in_squares<W: Wide, T: Pack<W>, S: Lanes<f64>>(size: usize, count: usize) -> bool {
    !W::IS_COMPLEX && T::COUNT == count && T::COUNT >= S::LANES && S::LANES > 1 && S::LANES <= MOST && size >= S::LANES
}

/// Where squares begin, one after the other, the last one so that it ends at the end; and what of it was there before.
#[inline(always)]
fn starts(size: usize, lanes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..size).step_by(lanes).map(move |at| {
        let start = at.min(size - lanes);
        (start, at - start)
    })
}
