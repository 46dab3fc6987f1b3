//! A block times several vectors in registers, and the sum of their outer products: lanes are neighbouring rows of the block.
//!
//! Columns are registers as they lie in memory; numbers of the vectors are read into all lanes at once, which costs no more than
//! reading. So for each column R registers of rows and one number of each of V vectors are loaded for R·V multiply-adds, and
//! nothing is shuffled.

use bytemuck::Zeroable;

use crate::scalar::Scalar;
use crate::simd::{Lanes, load, store};

/// Neighbouring coordinates of a vector that lie side by side.
pub(super) const RUN: usize = 8;

/// Runs of coordinates of all vectors: run p of vector v from `starts[p]` + v·RUN on.
#[derive(Clone, Copy)]
pub(super) struct Runs<'a, T> {
    pub(super) numbers: &'a [T],
    pub(super) starts: &'a [usize],
}

impl<'a, T> Runs<'a, T> {
    /// The run of V vectors from `first` on.
    #[inline(always)]
    fn of<const V: usize>(self, start: usize, first: usize) -> Option<&'a [[T; RUN]; V]> {
        self.numbers[start + first * RUN..].as_chunks().0.first_chunk()
    }
}

/// y ← R registers of rows of a block, column by column, times V vectors from `first` on, one vector after the other, in the order
/// that all kernels keep. (Sums stay in registers where only stores at known places follow.)
#[inline(always)]
pub(super) fn times<T: Scalar, S: Lanes<T>, const R: usize, const V: usize>(
    s: S,
    columns: &[T],
    x: Runs<'_, T>,
    first: usize,
    y: &mut [T],
) {
    let to = &mut y[..V * R * S::LANES];
    // Added to −0, a product keeps its bits.
    let mut y = [[s.splat(-T::zero()); R]; V];
    for (start, columns) in x.starts.iter().zip(columns.chunks_exact(RUN * R * S::LANES)) {
        let Some(xs) = x.of::<V>(*start, first) else { return };
        for k in 0..RUN {
            let mut e = [S::V::zeroed(); R];
            for r in 0..R {
                e[r] = load::<T, S>(&columns[(k * R + r) * S::LANES..]);
            }
            for v in 0..V {
                let x = s.splat(xs[v][k]);
                for r in 0..R {
                    y[v][r] = s.mul_add(e[r], x, y[v][r]);
                }
            }
        }
    }
    for v in 0..V {
        for r in 0..R {
            store::<T, S>(&mut to[(v * R + r) * S::LANES..], y[v][r]);
        }
    }
}

/// The K columns from number `first` of `run` on += Σ of g xᵀ over all vectors, in R registers of rows: those of `g` one vector after
/// the other. They begin at `d`, one every `step` numbers.
#[inline(always)]
pub(super) fn add_outer<T: Scalar, S: Lanes<T>, const R: usize, const K: usize>(
    s: S,
    g: &[T],
    run: &[[T; RUN]],
    first: usize,
    d: &mut [T],
    step: usize,
) {
    let mut sums = [[S::V::zeroed(); R]; K];
    for (g, x) in g.chunks_exact(R * S::LANES).zip(run) {
        let x = &x[first..][..K];
        let mut rows = [S::V::zeroed(); R];
        for r in 0..R {
            rows[r] = load::<T, S>(&g[r * S::LANES..]);
        }
        for k in 0..K {
            let x = s.splat(x[k]);
            for r in 0..R {
                sums[k][r] = s.mul_add(rows[r], x, sums[k][r]);
            }
        }
    }
    let d = &mut d[..(K - 1) * step + R * S::LANES];
    for k in 0..K {
        for r in 0..R {
            let d = &mut d[k * step + r * S::LANES..];
            let sum = s.add(load::<T, S>(d), sums[k][r]);
            store::<T, S>(d, sum);
        }
    }
}
