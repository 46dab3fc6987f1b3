//! What runs where: decisions that depend on shapes and never change a bit of the result.

use super::along::{self, Pass};
use crate::layout::StageLayout;
use crate::parallel::Parallelism;
use crate::scalar::Scalar;

/// Cache that a tile may fill, in bytes: half of a common L2.
const TILE_BYTES: usize = 256 * 1024;

/// Rows that run along the vector together, in bytes.
const TOGETHER_BYTES: usize = 256 * 1024;
/// Batches that are asked for, in bytes: half of a common L2.
const ASKED_BYTES: usize = 512 * 1024;
/// Vectors that are long, in bytes.
const LONG_BYTES: usize = 256 * 1024;

/// Cache that all tiles of a gradient may fill, in bytes: three quarters of a large L2. (Narrower tiles cost more than misses.)
const BACKWARD_BYTES: usize = 768 * 1024;

/// Cache that the tile of a window should fill, in bytes: a common L1.
const WINDOW_BYTES: usize = 32 * 1024;

/// Multiples of 64 bytes in a tile's row, at most.
pub(super) const WIDEST: usize = 4;

/// Pairs of runs of neighbouring coordinates: length of a run, distance of its runs, and the number of coordinates, from 0 on, that
/// a stage of such blocks acts on. Blocks of neighbours are two halves side by side.
pub(crate) fn pairs(layout: &StageLayout) -> Option<(usize, usize, usize)> {
    match *layout {
        StageLayout::Strided { unit, radix: 2, distance, groups } => Some((unit, distance, 2 * distance * groups)),
        StageLayout::Strided { unit, radix: 1, distance, groups } if unit > 0 && unit % 2 == 0 => {
            Some((unit / 2, unit / 2, distance * groups))
        }
        _ => None,
    }
}

/// The same of single coordinates: their distance and the number of coordinates.
pub(crate) fn single_pairs(layout: &StageLayout) -> Option<(usize, usize)> {
    pairs(layout).and_then(|(unit, distance, covered)| (unit == 1).then_some((distance, covered)))
}

/// Whether a stage's entries are stored so that it can run along the vector: pairs of runs of 1, 2 or 4; or runs of one, whole
/// registers apart, of a radix that fits the registers. This takes real numbers and whole panels of blocks, the last of which may be
/// padded if runs are longer than one.
pub(crate) fn is_planar<T: Scalar>(layout: &StageLayout) -> bool {
    let whole = layout.num_blocks().is_multiple_of(T::WIDTH);
    let fits = match (pairs(layout), layout) {
        (Some((unit @ (2 | 4), distance, _)), _) => {
            let enough = whole || layout.num_blocks() >= T::WIDTH / 4;
            enough && (distance.is_power_of_two() || distance.is_multiple_of(unit * T::WIDTH))
        }
        (Some((1, ..)), _) => whole,
        (_, StageLayout::Strided { unit: 1, radix: 4 | 8, distance, .. }) => whole && distance.is_multiple_of(T::WIDTH),
        _ => false,
    };
    fits && !T::IS_COMPLEX
}

/// Whether passes serve a batch better than tiles do. Passes of single stages cost a way through memory each, tiles two
/// transposes in all; but very few vectors do not fill a tile.
pub(super) fn along_pays<T: Scalar>(passes: &[Pass], batch: usize) -> bool {
    let stages = || passes.iter().map(|pass| pass.stages.len()).sum::<usize>();
    passes.len() <= 2 || one_by_one::<T>(batch) || 2 * passes.len() <= stages()
}

/// Vectors that always run along the vector together, however long they are.
pub(super) const TOGETHER_AT_LEAST: usize = 2;

/// Vectors that run along the vector together: their rows stay in the inner caches while all passes go over them. (A pass of
/// blocks that is alone goes over rows once, and over its entries, which are more, once for all of them.)
pub(super) fn together<T: Scalar>(passes: &[Pass], n: usize) -> usize {
    if let [pass] = passes
        && pass.unit() > 1
    {
        return along::TOGETHER;
    }
    (TOGETHER_BYTES / n.saturating_mul(size_of::<T>()).max(1)).clamp(TOGETHER_AT_LEAST, 16) & !1
}

/// Coordinates of a section of a pass of blocks, in whole spans of this length, where so many numbers for each are wanted again soon.
pub(super) fn section<T: Scalar>(numbers: usize, span: usize) -> usize {
    (BACKWARD_BYTES / numbers.saturating_mul(size_of::<T>()).saturating_mul(span).max(1)).max(1) * span
}

/// Vectors that go through all sections, so many at a time, before others do: all, or some for each of many threads.
pub(super) fn in_sections(batch: usize, together: usize, parallelism: Parallelism) -> usize {
    match parallelism {
        Parallelism::None => batch.max(1),
        Parallelism::Rayon => together * (batch / (16 * together)).clamp(1, 8),
    }
}

/// Whether vectors are so long that their passes are better cut than the batch: none of them stays in the inner caches from pass to
/// pass, and threads may have only one of them to work on.
pub(super) fn strips_pay<T: Scalar>(n: usize) -> bool {
    n.saturating_mul(size_of::<T>()) >= LONG_BYTES
}

/// Whether a batch is asked for while vectors before it are computed: it stays in no inner cache.
pub(super) fn asking_pays<E>(n: usize, batch: usize) -> bool {
    n.saturating_mul(batch).saturating_mul(size_of::<E>()) > ASKED_BYTES
}

/// Vectors in a tile for `batch` vectors of length `n`: a multiple of the 64-byte width.
pub(crate) fn tile_width<T: Scalar>(n: usize, batch: usize, tiles: usize) -> usize {
    let fits = TILE_BYTES / n.saturating_mul(64 * tiles).max(1);
    let needed = batch.div_ceil(T::WIDTH);
    T::WIDTH * fits.clamp(1, WIDEST).min(needed).max(1)
}

/// The same for gradients, whose tiles are wider: their sums over the lanes cost as much for few vectors as for many.
pub(super) fn backward_width<T: Scalar>(rows: usize, batch: usize) -> usize {
    let fits = BACKWARD_BYTES / rows.saturating_mul(64).max(1);
    T::WIDTH * fits.clamp(1, WIDEST).min(batch.div_ceil(T::WIDTH)).max(1)
}

/// Vectors that go backwards along the vector together, of rows that are `numbers` long in all. Several passes from the output go
/// over more: what they read once for all of them is as long.
pub(super) fn backward_together<T: Scalar>(passes: &[Pass], reversible: bool, numbers: usize, batch: usize) -> usize {
    let most = if reversible && passes.len() > 1 { 32 } else { 16 };
    (BACKWARD_BYTES / numbers.saturating_mul(size_of::<T>()).max(1)).clamp(4, most).min(batch).max(1)
}

/// Coordinates of the windows in which runs of stages go backwards, at most.
pub(super) const BACKWARD_ROWS: usize = 64;

/// Coordinates of a window for `batch` vectors.
pub(super) fn window<T: Scalar>(batch: usize) -> usize {
    WINDOW_BYTES / (tile_width::<T>(1, batch, 1) * size_of::<T>())
}

/// Whether a chunk of `count` vectors is better served one by one, in place, than transposed into a tile.
pub(crate) fn one_by_one<T: Scalar>(count: usize) -> bool {
    count < T::WIDTH / 4
}

/// Whether a chunk of `count` vectors is better served one by one along their route than in a tile, which is never narrower
/// than 64 bytes.
pub(super) fn routes_pay<T: Scalar>(count: usize) -> bool {
    count <= T::WIDTH / 4
}

/// Whether blocks of this size are stored column by column: their columns are whole registers, on any machine.
pub(crate) fn by_columns<T: Scalar>(b: usize) -> bool {
    !T::IS_COMPLEX && b > 0 && b.is_multiple_of(T::WIDTH)
}

/// Vectors for which a large block is read once, at most: four times as many as fit the registers of a large machine.
const LARGE_TOGETHER: usize = 48;
/// At least, of rows of any length.
const LARGE_AT_LEAST: usize = 12;

/// Vectors of `len` coordinates, that many times, that go through large blocks together.
pub(super) fn large_together<T: Scalar>(len: usize, batch: usize, times: usize) -> usize {
    let fits = 2 * TILE_BYTES / len.saturating_mul(times * size_of::<T>()).max(1);
    (fits.clamp(LARGE_AT_LEAST, LARGE_TOGETHER) / LARGE_AT_LEAST * LARGE_AT_LEAST).min(batch).max(1)
}

/// Coordinates of a window of that many vectors for large blocks: their entries share the nearest cache with it.
pub(super) fn large_window<T: Scalar>(vectors: usize) -> usize {
    WINDOW_BYTES / 2 / (vectors * size_of::<T>())
}

/// Coordinates that are copied together for them, in several windows: long enough that memory is read ahead.
pub(super) fn large_copied<T: Scalar>(vectors: usize) -> usize {
    48 * 1024 / (vectors * size_of::<T>())
}

/// The same for gradients, of as many windows for each: these share a cache that is larger.
pub(super) fn large_backward_window<T: Scalar>(vectors: usize, windows: usize) -> usize {
    TILE_BYTES / (vectors * windows * size_of::<T>())
}
