//! How the entries of a stage's blocks lie.

use crate::scalar::Scalar;

/// Entry (i, k) of block g is at `start(g)` + `at(i, k)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Strides {
    /// Numbers of a block.
    block: usize,
    /// Blocks that lie side by side in a panel, as a power of 2, and the distance of their equal entries.
    side: u32,
    apart: usize,
    row: usize,
    column: usize,
}

impl Strides {
    /// One row-major block after the other.
    pub(crate) fn row_major(b: usize) -> Self {
        Self { block: b * b, side: 0, apart: b * b, row: b, column: 1 }
    }

    /// One column-major block after the other.
    pub(crate) fn column_major(b: usize) -> Self {
        Self::row_major(b).transposed()
    }

    /// Panels of `T::WIDTH` blocks, column by column, whose equal entries are neighbours: so SIMD lanes are blocks. Of rotations only
    /// the first half of a panel is ever read. The last panel is as large as the others.
    pub(crate) fn planar<T: Scalar>(b: usize) -> Self {
        Self { block: b * b, side: T::WIDTH.trailing_zeros(), apart: 1, row: T::WIDTH, column: b * T::WIDTH }
    }

    /// Runs of `numbers` numbers, without rows: those of reflectors lie as their panel does.
    pub(crate) fn runs(numbers: usize) -> Self {
        Self { block: numbers, side: 0, apart: numbers, row: 0, column: 0 }
    }

    /// Those of the transposed blocks.
    pub(crate) fn transposed(self) -> Self {
        Self { row: self.column, column: self.row, ..self }
    }

    /// Blocks in a panel, and the distance of their equal entries; blocks one after the other are all one panel.
    pub(crate) fn panel(self) -> (usize, usize) {
        (if self.is_planar() { 1 << self.side } else { usize::MAX }, self.apart)
    }

    /// Whether SIMD lanes are neighbouring blocks.
    pub(crate) fn is_planar(self) -> bool {
        self.side > 0
    }

    /// Where block `g` starts.
    #[inline(always)]
    pub(crate) fn start(self, g: usize) -> usize {
        (((g >> self.side) * self.block) << self.side) + (g & ((1 << self.side) - 1)) * self.apart
    }

    /// Where row `i` of block `g` starts, and the distance of its entries (of blocks as they are stored).
    pub(crate) fn row(self, g: usize, i: usize) -> (usize, usize) {
        (self.start(g) + i * self.row, self.column)
    }

    /// Where entry (i, k) is in its block.
    #[inline(always)]
    pub(crate) fn at(self, i: usize, k: usize) -> usize {
        i * self.row + k * self.column
    }
}
