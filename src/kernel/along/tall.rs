//! Tall registers: U = 2 or 4 vectors, one for each coordinate of L neighbouring runs. What happens in them, and ends of rows that do
//! not fill them.

use bytemuck::Zeroable;

use crate::scalar::Scalar;
use crate::simd::{Lanes, NATURAL, load, store};

/// The outputs of L blocks for V vectors, in the order that all kernels keep.
#[inline(always)]
pub(super) fn outputs<T: Scalar, S: Lanes<T>, const U: usize, const V: usize, const TRANSPOSED: bool>(
    s: S,
    panel: &[T],
    x: &[[&[S::V; U]; 2]; V],
    y: &mut [[[S::V; U]; 2]; V],
) {
    let (row, column) = if TRANSPOSED { (2 * U * T::WIDTH, T::WIDTH) } else { (T::WIDTH, 2 * U * T::WIDTH) };
    let mut sums = [[[S::V::zeroed(); U]; 2]; V];
    macro_rules! inputs {
        ($($k:literal)*) => {
            $(if const { $k < 2 * U } {
                let panel = &panel[$k * column..][..(2 * U - 1) * row + S::LANES];
                for half in 0..2 {
                    for t in 0..U {
                        let entry = load::<T, S>(&panel[(half * U + t) * row..]);
                        for v in 0..V {
                            let (x, sum) = (x[v][$k / U][$k % U], &mut sums[v][half][t]);
                            *sum = if $k == 0 { s.mul(entry, x) } else { s.mul_add(entry, x, *sum) };
                        }
                    }
                }
            })*
        };
    }
    inputs!(0 1 2 3 4 5 6 7);
    // Machines without fused multiply-add are arrays. Seen together with the regrouping that follows, the compiler multiplies their lanes
    // two by two in the order that they will have then, which takes half as long again to twice as long.
    *y = if S::FUSED { sums } else { core::hint::black_box(sums) };
}

/// Runs $run with a constant that names what `level` is: below log₂ L two neighbouring registers are regrouped so that the
/// runs of pairs at distance 2^`level` lie over each other.
macro_rules! at_level {
    ($level:expr, $s:ident, $run:ident $(, $from:expr)?) => {
        match $level {
            0 => $run!(0 $(, $from)?),
            1 if const { $s::LANES >> 1 > 1 } => $run!(1 $(, $from)?),
            2 if const { $s::LANES >> 2 > 1 } => $run!(2 $(, $from)?),
            3 if const { $s::LANES >> 3 > 1 } => $run!(3 $(, $from)?),
            _ => $run!(NATURAL $(, $from)?),
        }
    };
}

/// Pairs of tall registers from one grouping to another.
#[inline(always)]
pub(super) fn regrouped<T: Scalar, S: Lanes<T>, const U: usize, const V: usize>(
    s: S,
    x: &mut [[[S::V; U]; 2]; V],
    from: u32,
    to: u32,
) {
    if from == to {
        return;
    }
    macro_rules! run {
        ($to:expr, $from:expr) => {
            for [low, high] in x {
                for t in 0..U {
                    [low[t], high[t]] = s.regroup::<{ $from }, { $to }>([low[t], high[t]]);
                }
            }
        };
    }
    macro_rules! from {
        ($from:expr) => {
            at_level!(to, S, run, $from)
        };
    }
    at_level!(from, S, from);
}

/// U neighbouring vectors made a tall register.
#[inline(always)]
pub(super) fn raised<T: Scalar, S: Lanes<T>, const U: usize>(s: S, mut x: [S::V; U]) -> [S::V; U] {
    for bit in 0..U.trailing_zeros() {
        x = exchanged::<T, S, U, true>(s, x, 1 << bit);
    }
    x
}

/// And back.
#[inline(always)]
pub(super) fn lowered<T: Scalar, S: Lanes<T>, const U: usize>(s: S, mut x: [S::V; U]) -> [S::V; U] {
    for bit in (0..U.trailing_zeros()).rev() {
        x = exchanged::<T, S, U, false>(s, x, 1 << bit);
    }
    x
}

/// This bit of the number of a vector becomes the lowest of the number of a lane, or the other way round.
#[inline(always)]
fn exchanged<T: Scalar, S: Lanes<T>, const U: usize, const UP: bool>(s: S, mut x: [S::V; U], bit: usize) -> [S::V; U] {
    for t in 0..U {
        if t & bit == 0 {
            let pair = [x[t], x[t | bit]];
            [x[t], x[t | bit]] = if UP { s.regroup::<NATURAL, 0>(pair) } else { s.regroup::<0, NATURAL>(pair) };
        }
    }
    x
}

/// A vector from a row that may end in it or before it.
#[inline(always)]
pub(super) fn load_end<T: Scalar, S: Lanes<T>>(row: &[T], at: usize) -> S::V {
    if at + S::LANES <= row.len() {
        return load::<T, S>(&row[at..]);
    }
    let mut x = S::V::zeroed();
    if let Some(end) = row.get(at..) {
        bytemuck::cast_slice_mut(core::slice::from_mut(&mut x))[..end.len()].copy_from_slice(end);
    }
    x
}

/// And back.
#[inline(always)]
pub(super) fn store_end<T: Scalar, S: Lanes<T>>(row: &mut [T], at: usize, x: S::V) {
    if at + S::LANES <= row.len() {
        return store::<T, S>(&mut row[at..], x);
    }
    if let Some(end) = row.get_mut(at..) {
        let len = end.len();
        end.copy_from_slice(&bytemuck::cast_slice(core::slice::from_ref(&x))[..len]);
    }
}
