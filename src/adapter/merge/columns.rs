//! A portion of a weight's columns, from bytes to bytes, where outputs are rotated: L·W takes every column of W for itself.
//!
//! Numbers of a column lie a row apart in the file, so a portion is a run of numbers in every row of the mapped tensor, at
//! least a cache line. It is decoded into a small matrix of its own, rotated by kernels that share it among the threads, and
//! rounded into its places among the bytes of the output. So of a weight no more is held than these, in the output's type, and
//! one portion in double precision. Pieces are cut by shapes, and sums run over them in order: no thread changes a bit.

use std::vec::Vec;

use super::step::Step;
use super::strips::{Change, Flaw, STRIP, Strips, Types};
use crate::parallel;

/// Numbers in a portion, about: 4 MiB, so that it stays in the last caches while it is rotated.
const PORTION: usize = 1 << 19;

/// Columns in a portion, at least: 64 bytes of the smallest type.
const FEWEST: usize = 32;

/// How many columns of so many rows are a portion.
pub(super) fn width(rows: usize) -> usize {
    (PORTION / rows.max(1) / FEWEST * FEWEST).max(FEWEST)
}

/// Columns `first ..` of a row-major matrix with rows of `pitch` numbers.
pub(super) struct Columns<B> {
    pub(super) bytes: B,
    pub(super) pitch: usize,
    pub(super) first: usize,
}

impl<B> Columns<B> {
    /// Place of the first of these columns in a row.
    fn at(&self, row: usize) -> usize {
        row * self.pitch + self.first
    }
}

impl Columns<&[u8]> {
    /// The numbers of rows `row ..`, to `numbers`, `count` in each row.
    pub(super) fn decode(&self, types: Types, row: usize, count: usize, numbers: &mut [f64]) {
        let size = types.from.size();
        for (row, numbers) in (row..).zip(numbers.chunks_exact_mut(count)) {
            types.from.decode(&self.bytes[self.at(row) * size..][..count * size], numbers);
        }
    }
}

/// The first of some rows of a portion, their numbers, the bytes of the same rows of the output, and what became of them.
type Piece<'a> = (usize, &'a mut [f64], &'a mut [u8], &'a mut Result<Change, Flaw>);

impl Strips {
    /// `count` columns of W, `input`, become those of W': rounded in `numbers`, row-major `[rows, count]`, and as bytes in
    /// `output`, a matrix of as many rows. Flaws are where they are in the matrix W.
    pub(super) fn rotate_columns(
        &self,
        steps: &[Step],
        types: Types,
        count: usize,
        input: &Columns<&[u8]>,
        numbers: &mut [f64],
        output: Columns<&mut [u8]>,
    ) -> Result<Change, Flaw> {
        let height = (STRIP / count).max(1);
        self.pieces(height, count, numbers, &mut [], |row, numbers, _| {
            input.decode(types, row, count, numbers);
            match numbers.iter().position(|x| !x.is_finite()) {
                Some(at) => Err(Flaw::NotFinite { at: input.at(row + at / count) + at % count, value: numbers[at] }),
                None => Ok(Change::default()),
            }
        })?;
        let rows = numbers.len() / count;
        for step in steps {
            let rotated = step.rotate_columns(input.first, rows, numbers, self.parallelism, &self.workspace);
            rotated.map_err(Flaw::Other)?;
        }
        let (size, pitch, first) = (types.to.size(), output.pitch, output.first);
        self.pieces(height, count, numbers, output.bytes, |row, numbers, output| {
            self.numbers.with(numbers.len(), |before: &mut [f64]| {
                input.decode(types, row, count, before);
                let rows = numbers.chunks_exact_mut(count).zip(output.chunks_exact_mut(pitch * size));
                for (row, (numbers, output)) in (row..).zip(rows) {
                    if let Some(at) = types.to.encode(numbers, &mut output[first * size..][..count * size]) {
                        return Err(Flaw::Overflow { at: input.at(row) + at });
                    }
                }
                Ok(Change::of(before, numbers))
            })
        })
    }

    /// `work` on pieces of `height` rows of a portion, and the same rows of an output, by the threads; their changes added in
    /// order, or the first flaw.
    fn pieces(
        &self,
        height: usize,
        count: usize,
        numbers: &mut [f64],
        output: &mut [u8],
        work: impl Fn(usize, &mut [f64], &mut [u8]) -> Result<Change, Flaw> + Send + Sync,
    ) -> Result<Change, Flaw> {
        let row_bytes = output.len() / (numbers.len() / count).max(1);
        let mut results: Vec<_> = numbers.chunks(height * count).map(|_| Ok(Change::default())).collect();
        let mut outputs = output.chunks_mut((height * row_bytes).max(1));
        let pieces = numbers.chunks_mut(height * count).zip(&mut results).enumerate();
        let pieces = pieces
            .map(|(k, (numbers, result))| {
                let output = outputs.next().unwrap_or_default();
                (k * height, numbers, output, result)
            })
            .collect();
        parallel::for_each(self.parallelism, pieces, |(row, numbers, output, result): Piece<'_>| {
            *result = work(row, numbers, output);
        });
        results.into_iter().try_fold(Change::default(), |mut sum, change| {
            sum.add(change?);
            Ok(sum)
        })
    }
}
