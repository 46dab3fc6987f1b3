//! Memory that is asked for while something else is computed, so that nobody waits for it.
//!
//! Passes go from row to row and from one part of a row to another, which no CPU guesses. So the vectors that come next are asked for
//! row by row while the ones before them are computed.

use core::ops::Range;

use super::choose;
use crate::batch::Batch;
use crate::simd::{LINE, prefetch};

/// Rows of up to three batches that will be read or written, by their addresses: nothing is borrowed, nothing is read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ahead {
    /// Where the next row of each batch is; 0 for none.
    rows: [usize; 3],
    /// Bytes from row to row.
    strides: [usize; 3],
    /// Bytes of a row, and of a number.
    len: usize,
    size: usize,
    /// Rows that are left.
    count: usize,
    /// How far the first of them has been asked for, in bytes.
    at: usize,
    /// How often it is asked meanwhile for as many bytes as there are: each time for a part.
    times: usize,
}

impl Ahead {
    /// These batches of one shape, if they are rows that are worth asking for; each memory once.
    pub(super) fn of<E: Copy>(batches: [Option<Batch<'_, E>>; 3]) -> Self {
        let mut ahead = Self { times: 1, size: size_of::<E>(), ..Self::default() };
        for (k, batch) in batches.iter().enumerate() {
            let Some(batch) = batch.filter(|batch| choose::asking_pays::<E>(batch.n(), batch.batch())) else {
                continue;
            };
            let address = |v: usize| batch.row(v).map(|row| row.as_ptr().addr());
            let Some(start) = address(0).filter(|start| !ahead.rows.contains(start)) else { continue };
            ahead.rows[k] = start;
            ahead.strides[k] = address(1).map_or(0, |second| second.wrapping_sub(start));
            (ahead.len, ahead.count) = (batch.n() * size_of::<E>(), batch.batch());
        }
        ahead
    }

    /// The rows from number `first` on, at most `count`.
    pub(super) fn chunk(self, first: usize, count: usize) -> Self {
        let rows = [0, 1, 2].map(|k| self.rows[k].wrapping_add(first.wrapping_mul(self.strides[k])));
        Self { rows, count: self.count.saturating_sub(first).min(count), ..self }
    }

    /// These coordinates of all rows.
    pub(super) fn part(self, coordinates: &Range<usize>) -> Self {
        let rows = self.rows.map(|row| if row == 0 { 0 } else { row.wrapping_add(coordinates.start * self.size) });
        Self { rows, len: coordinates.len() * self.size, ..self }
    }

    /// While the vectors before them are gone over so many times.
    pub(super) fn during(self, times: usize) -> Self {
        Self { times, ..self }
    }

    /// Lines to ask for with every so many bytes of those.
    #[inline(always)]
    pub(super) fn lines(&self, bytes: usize) -> usize {
        if self.count == 0 { 0 } else { bytes.div_ceil(LINE * self.times) }
    }

    /// Asks for the next so many lines of the cache.
    #[inline(always)]
    pub(super) fn ask(&mut self, lines: usize) {
        for _ in 0..lines {
            if self.count == 0 {
                return;
            }
            for row in self.rows {
                if row != 0 {
                    prefetch(row.wrapping_add(self.at));
                }
            }
            self.at += LINE;
            if self.at >= self.len {
                *self = self.chunk(1, usize::MAX);
                self.at = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchMut;
    use alloc::vec;

    #[test]
    fn rows_are_found_by_their_addresses() {
        let n = 1 << 18;
        let (x, mut y) = (vec![0f32; 3 * n], vec![0f32; 4 * n]);
        let (from, to) = (x.as_ptr().addr(), y.as_ptr().addr());
        let (x, y) = (Batch::rows(&x, n).unwrap(), BatchMut::strided(&mut y, 3, n - 1, n + 1, 1).unwrap());
        let mut ahead = Ahead::of([Some(x), Some(y.as_batch()), Some(x)]).chunk(1, 7);
        assert_eq!(ahead.rows, [from + 4 * n, to + 4 * n + 4, 0]);
        assert_eq!((ahead.strides, ahead.count), ([4 * n, 4 * n + 4, 0], 2));
        let part = ahead.part(&(5..8));
        assert_eq!((part.rows, part.len), ([from + 4 * n + 20, to + 4 * n + 24, 0], 12));
        ahead.ask(n / 16);
        assert_eq!((ahead.rows[1], ahead.count, ahead.at), (to + 8 * n + 8, 1, 0));
        ahead.ask(usize::MAX);
        assert_eq!((ahead.count, ahead.lines(100)), (0, 0));
        let nothing = |batch: Batch<'_, f32>| Ahead::of([Some(batch), None, None]).count == 0;
        assert!(nothing(Batch::rows(&vec![0f32; 64], 8).unwrap()));
        assert!(nothing(Batch::columns(&vec![0f32; 2 * n], n).unwrap()));
    }
}
