//! Where the blocks of a rotation are, and what the seed draws for them: version 1 of the definition, which never changes.

use alloc::vec::Vec;

use crate::generator::Generator;

/// Sizes that n fixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) n: usize,
    /// Coordinates of a block, a power of two.
    pub(super) block: usize,
    /// Coordinates of a unit, a power of two: blocks are made of runs of that many neighbours.
    pub(super) unit: usize,
    /// Blocks of a round.
    pub(super) blocks: usize,
}

/// Coordinates of a unit, at most: 64 bytes of `f32`.
pub(super) const UNIT: usize = 16;
/// Coordinates of a block as long as n is at most its square over [`UNIT`].
const BLOCK: usize = 256;

impl Shape {
    /// For n ≥ 1.
    pub(super) fn of(n: usize) -> Self {
        let mut block = match n {
            0..8 => 1 << n.max(1).ilog2(),
            _ => BLOCK.min(1 << (n.ilog2() - 1)),
        };
        // At most as many blocks as units in each, so that every block can give one unit to every other.
        while n > BLOCK * BLOCK / UNIT && block * (block / UNIT) < n {
            block *= 2;
        }
        Self { n, block, unit: (block / 4).clamp(1, UNIT), blocks: n.div_ceil(block) }
    }

    /// Units of a block.
    pub(super) fn units(self) -> usize {
        self.block / self.unit
    }

    /// Where unit `u` of block `b` starts, before it is shuffled. Even rounds cut the vector into runs of whole blocks; odd
    /// rounds cut it into as many runs as a block has units, and block b takes unit b of each.
    pub(super) fn start(self, round: usize, b: usize, u: usize) -> usize {
        if self.blocks == 1 {
            u * self.unit
        } else if round.is_multiple_of(2) {
            self.run(self.blocks, self.block, b) + u * self.unit
        } else {
            self.run(self.units(), self.blocks * self.unit, u) + b * self.unit
        }
    }

    /// Start of run `i` of `count` > 1 runs of `width` that cover 0..n: evenly spread, all but the last at multiples of a unit.
    fn run(self, count: usize, width: usize, i: usize) -> usize {
        if i + 1 == count {
            return self.n - width;
        }
        // Products of two lengths, wherever a `usize` has 32 bits.
        let (spread, step) = (i as u64 * (self.n - width) as u64, (count - 1) as u64 * self.unit as u64);
        spread.div_ceil(step) as usize * self.unit
    }
}

/// All that is drawn for one block of a round, in this order.
pub(super) struct Drawn {
    /// Where its units start, shuffled.
    pub(super) starts: Vec<u32>,
    /// A bit for each coordinate: minus before the stages within units.
    pub(super) before: Vec<u64>,
    /// Minus between those and the stages of units.
    pub(super) between: Vec<u64>,
}

/// What the seed draws, block by block of round by round.
pub(super) fn draw(shape: Shape, seed: u64, rounds: usize) -> impl Iterator<Item = Drawn> {
    let mut generator = Generator::new(Generator::new(seed).next_u64() ^ shape.n as u64);
    let blocks = (0..rounds).flat_map(move |round| (0..shape.blocks).map(move |b| (round, b)));
    blocks.map(move |(round, b)| {
        let mut starts: Vec<u32> = (0..shape.units()).map(|u| shape.start(round, b, u) as u32).collect();
        generator.shuffle(&mut starts);
        let mut words = || (0..shape.block.div_ceil(64)).map(|_| generator.next_u64()).collect();
        Drawn { starts, before: words(), between: words() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    /// Every coordinate is in a block of every round, no block names one twice, and blocks have enough units to deal.
    #[test]
    fn blocks_cover_all_coordinates() {
        let large = (13..27).flat_map(|k| [(1 << k) - 1, 1 << k, (1 << k) + 1]);
        for n in (1..4300).chain(large) {
            let shape = Shape::of(n);
            assert!(n < 8 || shape.blocks <= shape.units(), "{shape:?}");
            assert!(shape.blocks * shape.block < 2 * n, "{shape:?}");
            for round in 0..2 {
                let mut covered = vec![false; n];
                for b in 0..shape.blocks {
                    let mut end = 0;
                    for start in (0..shape.units()).map(|u| shape.start(round, b, u)) {
                        assert!(start >= end && start + shape.unit <= n, "{shape:?}, round {round}, block {b}");
                        end = start + shape.unit;
                        covered[start..end].fill(true);
                    }
                }
                assert!(covered.iter().all(|c| *c), "{shape:?}, round {round}");
            }
        }
    }
}
