//! What runs where: decisions that depend on shapes and never change a bit of the result.

use crate::layout::StageLayout;
use crate::scalar::Scalar;

/// Cache that a tile may fill, in bytes: half of a common L2.
const TILE_BYTES: usize = 256 * 1024;

/// Multiples of 64 bytes in a tile's row, at most.
pub(super) const WIDEST: usize = 4;

/// Whether a stage's blocks are stored entry by entry, so that it can run along the vector: runs of single coordinates
/// at least a vector register apart, a radix that fits the registers, real numbers.
pub(crate) fn is_planar<T: Scalar>(layout: &StageLayout) -> bool {
    !T::IS_COMPLEX
        && matches!(layout, StageLayout::Strided { unit: 1, radix: 2 | 4 | 8, distance, .. } if *distance >= T::WIDTH)
}

/// Vectors in a tile for `batch` vectors of length `n`: a multiple of the 64-byte width.
pub(crate) fn tile_width<T: Scalar>(n: usize, batch: usize, tiles: usize) -> usize {
    let fits = TILE_BYTES / n.saturating_mul(64 * tiles).max(1);
    let needed = batch.div_ceil(T::WIDTH);
    T::WIDTH * fits.clamp(1, WIDEST).min(needed).max(1)
}

/// Whether a chunk of `count` vectors is better served one by one, in place, than transposed into a tile.
pub(crate) fn one_by_one<T: Scalar>(count: usize) -> bool {
    count < T::WIDTH / 4
}
