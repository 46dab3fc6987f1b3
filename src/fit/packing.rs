//! Rotations of pairs, packed into stages: each goes to the first stage in which both its coordinates are free. Rotations of
//! disjoint pairs commute, so the product stays what it was. Coordinates that no rotation of a stage names pass through it.

use alloc::vec;
use alloc::vec::Vec;

use crate::layout::StageLayout;
use crate::scalar::Wide;

pub(super) struct Packing<W> {
    /// The first stage in which a coordinate is free.
    free: Vec<usize>,
    /// Pairs and their blocks.
    stages: Vec<(Vec<u32>, Vec<W>)>,
}

impl<W: Wide> Packing<W> {
    pub(super) fn new(n: usize) -> Self {
        Self { free: vec![0; n], stages: Vec::new() }
    }

    /// A block (row-major) on coordinates i and j that acts after all that are there.
    pub(super) fn push(&mut self, i: usize, j: usize, block: [W; 4]) {
        let stage = self.free[i].max(self.free[j]);
        (self.free[i], self.free[j]) = (stage + 1, stage + 1);
        if stage == self.stages.len() {
            self.stages.push((Vec::new(), Vec::new()));
        }
        let (index, blocks) = &mut self.stages[stage];
        index.extend([i as u32, j as u32]);
        blocks.extend(block);
    }

    /// Layouts and blocks, the stage that acts first before all others.
    pub(super) fn finish(self) -> (Vec<StageLayout>, Vec<Vec<W>>) {
        let layout = |(index, blocks): (Vec<u32>, _)| (StageLayout::Table { block: 2, index: index.into() }, blocks);
        self.stages.into_iter().map(layout).unzip()
    }
}
