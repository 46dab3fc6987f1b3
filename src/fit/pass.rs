//! Z ← F Z F'ᴴ in one pass over memory, for a stage with blocks B before a visit and B' after it.
//!
//! The rows of some blocks are closed under F. Such a strip of rows is multiplied from the left into scratch that stays in an inner cache,
//! there from the right by the kernel that serves any batch of rows, and goes back, leaving behind what the next stage needs: of each row the
//! entries in the columns of its own block. So Z is read once and written once in a visit, where two products would go over it twice
//! and gathering a third time. A visit takes 2n²b multiply-adds, which are all that counts from b = 16 on; below, it is the way of
//! Z through the caches.

use alloc::vec;
use alloc::vec::Vec;

use crate::batch::BatchMut;
use crate::error::Result;
use crate::layout::StageLayout;
use crate::parallel::{Parallelism, Pool, for_each};
use crate::plan::{Factors, Op, Plan, Workspace};
use crate::scalar::Wide;
use crate::simd::{Job, Lanes, dispatch};

/// Rows of a strip, about.
const STRIP: usize = 32;
/// Rows of Z are as long as so many numbers divide: every machine's registers do.
pub(super) const ROUND: usize = 8;

/// Where the rows of a stage are.
pub(super) struct Rows {
    pub(super) b: usize,
    /// The coordinates of all blocks one after the other, then those in no block.
    pub(super) rows: Vec<usize>,
    /// In blocks.
    covered: usize,
    /// The block that a coordinate belongs to.
    pub(super) owner: Vec<Option<usize>>,
}

impl Rows {
    pub(super) fn new(n: usize, layout: &StageLayout) -> Self {
        let mut rows: Vec<usize> = (0..layout.num_blocks()).flat_map(|j| layout.indices(j)).collect();
        let (b, covered) = (layout.block_size(), rows.len());
        let mut owner = vec![None; n];
        rows.iter().enumerate().for_each(|(at, i)| owner[*i] = Some(at / b));
        rows.extend((0..n).filter(|i| owner[*i].is_none()));
        Self { b, rows, covered, owner }
    }

    /// The coordinates of block j.
    pub(super) fn members(&self, j: usize) -> &[usize] {
        &self.rows[j * self.b..(j + 1) * self.b]
    }

    /// Where the row of a coordinate is.
    pub(super) fn places(&self) -> Vec<usize> {
        let mut places = vec![0; self.rows.len()];
        self.rows.iter().enumerate().for_each(|(at, i)| places[*i] = at);
        places
    }

    /// Of row i, the entries in the columns of its block.
    fn pick<W: Wide>(&self, i: usize, row: &[W], to: &mut [W]) {
        if let Some(j) = self.owner[i] {
            to.iter_mut().zip(self.members(j)).for_each(|(to, k)| *to = row[*k]);
        }
    }
}

/// What a stage needs of Z, picked row by row in the order of the pass that came before.
#[derive(Default)]
pub(super) struct Picked<W> {
    pub(super) rows: Vec<W>,
    /// Where the row of a coordinate is.
    pub(super) place: Vec<usize>,
}

impl<W: Wide> Picked<W> {
    /// From all of Z.
    pub(super) fn of(z: &[W], pitch: usize, order: &Rows) -> Self {
        let n = order.owner.len();
        let mut rows = vec![W::zero(); n * order.b];
        for (i, (to, row)) in rows.chunks_exact_mut(order.b).zip(z.chunks_exact(pitch)).enumerate() {
            order.pick(i, row, to);
        }
        Self { rows, place: (0..n).collect() }
    }

    /// All Zⱼⱼ, one after the other.
    pub(super) fn parts(&self, order: &Rows) -> Vec<W> {
        let row = |i: &usize| self.rows[self.place[*i] * order.b..][..order.b].iter().copied();
        order.rows[..order.covered].iter().flat_map(row).collect()
    }
}

pub(super) struct Pass<'a, W: Wide> {
    pub(super) order: &'a Rows,
    /// B, row-major one after the other, and B'.
    pub(super) left: &'a [W],
    pub(super) blocks: &'a [W],
    /// The stage with B'.
    pub(super) right: (&'a Plan<W>, &'a Factors<W>),
    pub(super) next: &'a Rows,
    pub(super) pitch: usize,
    pub(super) parallelism: Parallelism,
    pub(super) workspace: &'a Workspace,
    pub(super) pool: &'a Pool,
}

/// A piece of the work: rows of Z, their coordinates, the blocks that they belong to (none for those that pass), and what is left behind.
struct Strip<'a, W> {
    rows: Vec<&'a mut [W]>,
    coordinates: &'a [usize],
    left: &'a [W],
    picked: &'a mut [W],
    result: &'a mut Result<()>,
}

impl<W: Wide> Pass<'_, W> {
    pub(super) fn run(&self, z: &mut [W]) -> Result<Picked<W>> {
        let (n, b) = (self.order.owner.len(), self.order.b);
        let most = STRIP.next_multiple_of(b);
        let mut picked = vec![W::zero(); n * self.next.b];
        let place = self.order.places();
        let (blocks, others) = self.order.rows.split_at(self.order.covered);
        let chunks =
            blocks.chunks(most).map(|chunk| (chunk, true)).chain(others.chunks(most).map(|chunk| (chunk, false)));
        let chunks: Vec<_> = chunks.collect();
        let mut results: Vec<Result<()>> = chunks.iter().map(|_| Ok(())).collect();
        let mut free: Vec<Option<&mut [W]>> = z.chunks_exact_mut(self.pitch).map(Some).collect();
        let (mut left, mut behind) = (self.left, &mut picked[..]);
        let mut strips = Vec::with_capacity(chunks.len());
        for ((coordinates, turned), result) in chunks.into_iter().zip(&mut results) {
            let rows = coordinates.iter().filter_map(|i| free[*i].take()).collect();
            let (mine, rest) = left.split_at(if turned { coordinates.len() * b } else { 0 });
            let (picked, after) = behind.split_at_mut(coordinates.len() * self.next.b);
            (left, behind) = (rest, after);
            strips.push(Strip { rows, coordinates, left: mine, picked, result });
        }
        for_each(self.parallelism, strips, |mut strip| {
            self.pool.with(strip.rows.len() * self.pitch, |scratch: &mut [W]| {
                *strip.result = self.strip(&mut strip.rows, strip.coordinates, strip.left, strip.picked, scratch);
            });
        });
        results.into_iter().collect::<Result<()>>()?;
        Ok(Picked { rows: picked, place })
    }

    fn strip(
        &self,
        rows: &mut [&mut [W]],
        coordinates: &[usize],
        left: &[W],
        picked: &mut [W],
        scratch: &mut [W],
    ) -> Result<()> {
        let (n, b, pitch) = (self.order.owner.len(), self.order.b, self.pitch);
        if left.is_empty() {
            scratch.chunks_exact_mut(pitch).zip(rows.iter()).for_each(|(to, row)| to.copy_from_slice(row));
        } else {
            dispatch::<f64, _>(self.workspace.isa(), Left { b, pitch, blocks: left, rows: &*rows, out: scratch });
        }
        let mut batch = BatchMut::strided(scratch, rows.len(), n, pitch, 1)?;
        self.right.0.run(self.right.1, None, &mut batch, Op::Conj, Parallelism::None, self.workspace)?;
        let picked = picked.chunks_exact_mut(self.next.b);
        for (((from, row), i), picked) in scratch.chunks_exact(pitch).zip(rows).zip(coordinates).zip(picked) {
            self.next.pick(*i, from, picked);
            row[..n].copy_from_slice(&from[..n]);
        }
        Ok(())
    }
}

/// `out` ← blocks·rows
struct Left<'a, 'b, W> {
    b: usize,
    pitch: usize,
    blocks: &'a [W],
    rows: &'a [&'b mut [W]],
    out: &'a mut [W],
}

/// Registers side by side in a tile of at most four rows.
const ACROSS: usize = 4;

impl<W: Wide> Job<f64> for Left<'_, '_, W> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(self, s: S) {
        let Self { b, pitch, blocks, rows, out } = self;
        let blocks = blocks.chunks_exact(b * b).zip(rows.chunks_exact(b)).zip(out.chunks_exact_mut(b * pitch));
        for ((block, rows), out) in blocks {
            if W::IS_COMPLEX {
                complex(b, pitch, block, rows, out);
                continue;
            }
            let (block, out): (&[f64], &mut [f64]) = (bytemuck::cast_slice(block), bytemuck::cast_slice_mut(out));
            let mut column = 0;
            while column < pitch {
                let across = if column + ACROSS * S::LANES <= pitch { ACROSS } else { 1 };
                let mut i = 0;
                while i < b {
                    let high = if i + 4 <= b { 4 } else { 1 };
                    let (block, out) = (&block[i * b..(i + high) * b], &mut out[i * pitch + column..]);
                    match (high, across) {
                        (4, ACROSS) => tile::<W, S, 4, ACROSS>(s, b, block, rows, column, pitch, out),
                        (4, _) => tile::<W, S, 4, 1>(s, b, block, rows, column, pitch, out),
                        (_, ACROSS) => tile::<W, S, 1, ACROSS>(s, b, block, rows, column, pitch, out),
                        _ => tile::<W, S, 1, 1>(s, b, block, rows, column, pitch, out),
                    }
                    i += high;
                }
                column += across * S::LANES;
            }
        }
    }
}

/// H rows of a block times all rows, in C registers from `column` on.
#[inline(always)]
fn tile<W: Wide, S: Lanes<f64>, const H: usize, const C: usize>(
    s: S,
    b: usize,
    block: &[f64],
    rows: &[&mut [W]],
    column: usize,
    pitch: usize,
    out: &mut [f64],
) {
    let mut sums = [[s.splat(0.0); C]; H];
    for (k, row) in rows.iter().enumerate() {
        let row: &[f64] = bytemuck::cast_slice(row);
        let x: &[S::V] = bytemuck::cast_slice(&row[column..column + C * S::LANES]);
        for h in 0..H {
            let entry = s.splat(block[h * b + k]);
            for c in 0..C {
                sums[h][c] = s.mul_add(entry, x[c], sums[h][c]);
            }
        }
    }
    for (h, sums) in sums.iter().enumerate() {
        let to: &mut [S::V] = bytemuck::cast_slice_mut(&mut out[h * pitch..h * pitch + C * S::LANES]);
        to.copy_from_slice(sums);
    }
}

/// Columns at a time, so that inputs stay in the nearest cache.
const COLUMNS: usize = 32;

#[inline(always)]
fn complex<W: Wide>(b: usize, pitch: usize, block: &[W], rows: &[&mut [W]], out: &mut [W]) {
    for first in (0..pitch).step_by(COLUMNS) {
        let columns = first..(first + COLUMNS).min(pitch);
        for (entries, out) in block.chunks_exact(b).zip(out.chunks_exact_mut(pitch)) {
            let out = &mut out[columns.clone()];
            out.fill(W::zero());
            for (entry, row) in entries.iter().zip(rows) {
                out.iter_mut().zip(&row[columns.clone()]).for_each(|(out, x)| *out += *entry * *x);
            }
        }
    }
}
