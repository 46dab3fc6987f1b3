//! Long vectors along the vector: each pass in strips, which can go to different threads.
//!
//! A pass of R registers at distance D runs over independent blocks: coordinates h·R·D + r·D + q, r < R. A strip is all blocks of some
//! neighbouring q, or of some whole spans of R·D coordinates where these are short. Its runs of coordinates are copied together, so
//! that a strip is a short vector, in which registers are as far apart as its runs are long; it goes through the pass and back. So
//! no two coordinates of a strip get in each other's way in a cache because they are a power of two apart, entries are read in long
//! runs, and those of a strip serve all vectors of a batch while they are in cache: with long vectors, entries are most of what comes
//! from memory. Strips are cut by shapes alone.

use alloc::vec::Vec;

use super::ahead::Ahead;
use super::along::{self, PairsOf, Pass};
use super::compiled::run_along;
use crate::batch::{Batch, BatchMut};
use crate::parallel::{self, Parallelism, Pool};
use crate::scalar::Scalar;
use crate::simd::Isa;

/// Coordinates of a strip.
const STRIP: usize = 4096;
/// Vectors that share the entries of a strip.
pub(super) const TOGETHER: usize = 16;

/// y ← all passes(x), or y ← all passes(y) without `x`; both rows. `false`, and nothing is touched, if strips would begin amid
/// panels of entries.
pub(super) fn apply<T: Scalar>(
    pairs: &PairsOf<'_, T>,
    x: Option<&Batch<'_, T>>,
    y: &mut BatchMut<'_, T>,
    isa: Isa,
    parallelism: Parallelism,
    pool: &Pool,
) -> bool {
    let whole = |blocks: usize| blocks.is_multiple_of(T::WIDTH);
    if pairs.passes.iter().any(|pass| !pass.covered.is_multiple_of(pass.registers * pass.distance)) {
        return false;
    }
    if !pairs
        .passes
        .iter()
        .all(|pass| whole(pass.first_block(1)) && (!is_cut(pass) || whole(pass.distance / pass.unit())))
    {
        return false;
    }
    for start in (0..y.batch()).step_by(TOGETHER) {
        let count = TOGETHER.min(y.batch() - start);
        let (mut x, mut y) = (x.map(|x| x.chunk(start, count)), y.chunk_mut(start, count));
        for pass in pairs.passes {
            for v in 0..count {
                if let (Some(x), Some(y)) = (x.and_then(|x| x.row(v)), y.row_mut(v)) {
                    y[pass.covered..].copy_from_slice(&x[pass.covered..]);
                }
            }
            let all = strips(pass, x, y.reborrow());
            parallel::for_each(parallelism, all, |strip| strip.run(isa, pairs, pass, pool));
            x = None;
        }
    }
    true
}

/// Whether even one span is too long for a strip.
fn is_cut(pass: &Pass) -> bool {
    pass.registers * pass.distance > STRIP
}

/// Some blocks of a pass for some vectors.
struct Strip<'a, T> {
    /// Its first block in every stage.
    first: usize,
    /// Of each vector, the runs as columns: where they are read, and where they are written and read without the former.
    runs: Vec<(Option<Batch<'a, T>>, BatchMut<'a, T>)>,
}

/// All strips of a pass.
fn strips<'a, T: Scalar>(pass: &Pass, x: Option<Batch<'a, T>>, y: BatchMut<'a, T>) -> Vec<Strip<'a, T>> {
    let (cut, batch, span) = (is_cut(pass), y.batch(), pass.registers * pass.distance);
    // Neighbouring coordinates that are cut into strips alike, in so many runs, of so many coordinates in each strip.
    let (part, runs) = if cut { (span, pass.registers) } else { (STRIP / span * span, 1) };
    let run = if cut { STRIP / runs } else { part };
    let mut all: Vec<Strip<'a, T>> = Vec::new();
    for (v, row) in y.split(1..=batch).filter_map(BatchMut::into_row).enumerate() {
        let from = x.and_then(|x| x.row(v));
        let mut number = 0;
        for (h, part_of_row) in row[..pass.covered].chunks_mut(part).enumerate() {
            let from = from.and_then(|from| Batch::columns(&from[h * part..][..part_of_row.len()], runs).ok());
            let Ok(columns) = BatchMut::columns(part_of_row, runs) else { continue };
            let width = columns.batch();
            for (q, to) in columns.split((1..=width.div_ceil(run)).map(|c| (c * run).min(width))).enumerate() {
                let from = from.map(|from| from.chunk(q * run, to.batch()));
                if v == 0 {
                    let first = pass.first_block(h * part / span) + q * run / pass.unit();
                    all.push(Strip { first, runs: Vec::with_capacity(batch) });
                }
                all[number].runs.push((from, to));
                number += 1;
            }
        }
    }
    all
}

impl<T: Scalar> Strip<'_, T> {
    fn run(mut self, isa: Isa, pairs: &PairsOf<'_, T>, pass: &Pass, pool: &Pool) {
        let Some((_, first)) = self.runs.first() else { return };
        let (width, count) = (first.batch(), first.n());
        let (len, batch) = (width * count, self.runs.len());
        let apart = if count == 1 { pass.distance } else { width };
        let short = pass.within(apart, len / (pass.registers * apart));
        let pairs = PairsOf {
            passes: &[short],
            entries: &pairs.entries[4 * pass.unit() * pass.unit() * self.first..],
            ..*pairs
        };
        let stride = len + T::WIDTH;
        let window = along::window::<T>(pairs.passes, isa, batch);
        pool.with(window + batch * stride, |buffer: &mut [T]| {
            let (window, rows) = buffer.split_at_mut(window);
            for (row, (from, to)) in rows.chunks_exact_mut(stride).zip(&self.runs) {
                for (r, row) in row[..len].chunks_exact_mut(width).enumerate() {
                    if let Some(run) = from.map_or(to.as_batch().column(r), |from| from.column(r)) {
                        row.copy_from_slice(run);
                    }
                }
            }
            if let Ok(mut y) = BatchMut::strided(rows, batch, len, stride, 1) {
                run_along(isa, &pairs, None, &mut y, window, &mut Ahead::default());
            }
            for (row, (_, to)) in rows.chunks_exact(stride).zip(&mut self.runs) {
                for (r, row) in row[..len].chunks_exact(width).enumerate() {
                    if let Some(run) = to.column_mut(r) {
                        run.copy_from_slice(row);
                    }
                }
            }
        });
    }
}
