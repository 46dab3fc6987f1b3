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
    row: Axis,
    column: Axis,
}

/// Where neighbouring rows, or columns, are: runs of 2^`run` side by side, one every `step` numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Axis {
    run: u32,
    step: usize,
}

impl Axis {
    #[inline(always)]
    fn at(self, i: usize) -> usize {
        (i >> self.run) * self.step + (i & ((1 << self.run) - 1))
    }
}

impl Strides {
    /// One row-major block after the other.
    pub(crate) fn row_major(b: usize) -> Self {
        let (row, column) = (Axis { run: 0, step: b }, Axis { run: 0, step: 1 });
        Self { block: b * b, side: 0, apart: b * b, row, column }
    }

    /// One column-major block after the other.
    pub(crate) fn column_major(b: usize) -> Self {
        Self::row_major(b).transposed()
    }

    /// Panels of 64 bytes' worth of rows of blocks whose coordinates lie in runs of `unit`, a power of 2: `T::WIDTH` / `unit` blocks.
    /// Column by column, and in each run by run of rows; in a run block by block, and only there row by row. So SIMD lanes are
    /// neighbouring coordinates of neighbouring blocks. With runs of one, lanes are blocks, and of rotations only the first half
    /// of a panel is ever read.
    pub(crate) fn planar<T: Scalar>(b: usize, unit: usize) -> Self {
        let (width, run) = (T::WIDTH, unit.trailing_zeros());
        let (row, column) = (Axis { run, step: width }, Axis { run: 0, step: b / unit * width });
        Self { block: b * b, side: (width / unit).trailing_zeros(), apart: unit, row, column }
    }

    /// Runs of `numbers` numbers, without rows: those of reflectors lie as their panel does.
    pub(crate) fn runs(numbers: usize) -> Self {
        let none = Axis { run: 0, step: 0 };
        Self { block: numbers, side: 0, apart: numbers, row: none, column: none }
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
        (self.start(g) + self.row.at(i), self.column.step)
    }

    /// Columns from the first one on, so many of which are equally far apart before it goes on in the next run: that many, their
    /// distance, and that of runs.
    #[inline(always)]
    pub(crate) fn columns(self) -> (usize, usize, usize) {
        match self.column.run {
            0 => (usize::MAX, self.column.step, 0),
            run => (1 << run, 1, self.column.step),
        }
    }

    /// Where entry (i, k) is in its block.
    #[inline(always)]
    pub(crate) fn at(self, i: usize, k: usize) -> usize {
        self.row.at(i) + self.column.at(k)
    }
}
