//! Where the blocks of a rotation are, and what the seed draws for them: version 1 of the definition, which never changes.

use alloc::vec::Vec;

use crate::generator::Generator;

/// Sizes that n fixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) n: usize,
    /// Coordinates of a block, a power of two.
    pub(crate) block: usize,
    /// Coordinates of a unit, a power of two: blocks are made of runs of that many neighbours.
    pub(crate) unit: usize,
    /// Blocks of a round.
    pub(crate) blocks: usize,
}

/// Coordinates of a unit, at most: 64 bytes of `f32`.
pub(crate) const UNIT: usize = 16;
/// Coordinates of a block unless n asks for more.
const BLOCK: usize = 256;

/// What rounds do, in turn. (Why so: docs/random.md.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Round {
    /// Blocks are runs; signs, across units, signs within pairs of neighbours, within units.
    Opening,
    /// Blocks are combs; signs, across units.
    Middle,
    /// Blocks are diagonals of the combs; signs, within units, signs of every other unit, across units.
    Closing,
}

impl Round {
    pub(crate) fn of(number: usize) -> Self {
        [Self::Opening, Self::Middle, Self::Closing][number % 3]
    }
}

impl Shape {
    /// For n ≥ 1.
    pub(crate) fn of(n: usize) -> Self {
        let mut block = BLOCK.min(1 << n.ilog2());
        if n == 384 {
            block = 128; // three of them; two of 256 would overlap by half
        } else if n > 5 * BLOCK && !n.is_multiple_of(BLOCK) {
            block = 2 * BLOCK; // twice as many units, to be dealt evenly to blocks that overlap
        }
        // At most as many blocks as units in each, so that every block can give one unit to every other.
        while n > BLOCK * BLOCK / UNIT && block * (block / UNIT) < n {
            block *= 2;
        }
        Self { n, block, unit: (block / 8).clamp(1, UNIT), blocks: n.div_ceil(block) }
    }

    /// Units of a block.
    pub(crate) fn units(self) -> usize {
        self.block / self.unit
    }

    /// Where unit `u` of block `b` starts, before units are shuffled. Runs are neighbouring units. For combs the vector is cut into as
    /// many runs as a block has units, and block b takes unit b of each; for diagonals unit b + d of run u, around the end, where d goes
    /// through 0..m as evenly as it can, in large steps.
    pub(crate) fn start(self, round: Round, b: usize, u: usize) -> usize {
        let (units, blocks) = (self.units(), self.blocks);
        // A block and less than a unit can only be cut like this; so few blocks meet evenly in runs as well.
        let as_runs = self.n < self.block + self.unit || (round == Round::Closing && blocks < 6);
        if blocks == 1 {
            u * self.unit
        } else if round == Round::Opening || as_runs {
            self.run(blocks, units, b) + u * self.unit
        } else {
            let d = if round == Round::Middle { 0 } else { blocks * ((units / 2 - 1) * u % units) / units };
            self.run(units, blocks, u) + (b + d) % blocks * self.unit
        }
    }

    /// Start of run `i` of `count` > 1 runs of `width` units that cover 0..n: evenly spread, all but the last at multiples of a unit,
    /// and no unit of the last one meets the same unit of another.
    fn run(self, count: usize, width: usize, i: usize) -> usize {
        let last = self.n - width * self.unit;
        if i + 1 == count {
            return last;
        }
        // Products of two lengths, wherever a `usize` has 32 bits.
        let (spread, step) = (i as u64 * last as u64, (count - 1) as u64 * self.unit as u64);
        (spread.div_ceil(step) as usize).min((last / self.unit + i + 1).saturating_sub(count)) * self.unit
    }

    /// Number of the signs between.
    pub(crate) fn between(self, round: Round) -> usize {
        match round {
            Round::Opening if self.unit > 1 => self.block / 2,
            Round::Closing if self.units() > 1 => self.block / 2,
            _ => 0,
        }
    }

    /// Stages of a block: sums and differences at so many distances.
    pub(crate) fn stages(self, round: Round) -> u32 {
        if round == Round::Middle { self.units().ilog2() } else { self.block.ilog2() }
    }
}

/// All that is drawn for one block of a round, in this order.
pub(crate) struct Drawn {
    pub(crate) round: Round,
    /// Where its units start, shuffled.
    pub(crate) starts: Vec<u32>,
    /// A bit for each coordinate: minus at the beginning.
    pub(crate) signs: Vec<u64>,
    /// A bit for every other coordinate: minus between what happens across units and within. In an opening round coordinates 2i and
    /// 2i + 1 of the block have bit i; in a closing round the odd units have them, one after the other; else there is none.
    pub(crate) between: Vec<u64>,
}

/// What the seed draws, block by block of round by round.
pub(crate) fn draw(shape: Shape, seed: u64, rounds: usize) -> impl Iterator<Item = Drawn> {
    let mut generator = Generator::new(Generator::new(seed).next_u64() ^ shape.n as u64);
    let blocks = (0..rounds).flat_map(move |round| (0..shape.blocks).map(move |b| (Round::of(round), b)));
    blocks.map(move |(round, b)| {
        let mut starts: Vec<u32> = (0..shape.units()).map(|u| shape.start(round, b, u) as u32).collect();
        if shape.blocks > 1 {
            generator.shuffle(&mut starts);
        }
        let mut words = |bits: usize| (0..bits.div_ceil(64)).map(|_| generator.next_u64()).collect();
        let signs = words(shape.block);
        let between = words(shape.between(round));
        Drawn { round, starts, signs, between }
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
            assert!(shape.blocks <= shape.units().max(2), "{shape:?}");
            assert!(shape.blocks * shape.block < 2 * n, "{shape:?}");
            for round in [Round::Opening, Round::Middle, Round::Closing] {
                let mut covered = vec![usize::MAX; n];
                for b in 0..shape.blocks {
                    for start in (0..shape.units()).map(|u| shape.start(round, b, u)) {
                        for by in &mut covered[start..start + shape.unit] {
                            assert!(*by != b, "{shape:?}, {round:?}, block {b}: twice from {start}");
                            *by = b;
                        }
                    }
                }
                assert!(!covered.contains(&usize::MAX), "{shape:?}, {round:?}");
            }
        }
    }

    /// Least and largest n·E yᵢ² over coordinates i, one-hot inputs and nothing but signs at random: a transform gives each of its
    /// coordinates the mean of their energies. Inputs that are in the same blocks of the opening round come out alike.
    fn energies(n: usize) -> (f64, f64) {
        let shape = Shape::of(n);
        let places = |round, b| -> Vec<usize> { (0..shape.units()).map(|u| shape.start(round, b, u)).collect() };
        let inside = |i: usize| -> Vec<bool> {
            let covers = |b| places(Round::Opening, b).iter().any(|start| (*start..start + shape.unit).contains(&i));
            (0..shape.blocks).map(covers).collect()
        };
        // Where that changes, a run starts or ends.
        let edges = (0..shape.blocks).map(|b| places(Round::Opening, b)[0]).flat_map(|at| [at, at + shape.block]);
        let mut inputs: Vec<_> = edges.filter(|i| *i < n).map(|i| (inside(i), i)).collect();
        inputs.sort();
        inputs.dedup_by(|a, b| a.0 == b.0);
        let (mut low, mut high) = (f64::INFINITY, 0.0);
        for (_, input) in inputs {
            let mut energy = vec![0.0; n];
            energy[input] = n as f64;
            for round in [Round::Opening, Round::Middle, Round::Closing] {
                for starts in (0..shape.blocks).map(|b| places(round, b)) {
                    let mut means: Vec<f64> = (0..shape.unit)
                        .map(|l| starts.iter().map(|at| energy[at + l]).sum::<f64>() / starts.len() as f64)
                        .collect();
                    if round != Round::Middle {
                        let mean = means.iter().sum::<f64>() / shape.unit as f64;
                        means.fill(mean);
                    }
                    starts.iter().for_each(|at| energy[*at..at + shape.unit].copy_from_slice(&means));
                }
            }
            assert!((energy.iter().sum::<f64>() / n as f64 - 1.0).abs() < 1e-12);
            (low, high) = energy.iter().fold((low, high), |(low, high), e| (f64::min(low, *e), f64::max(high, *e)));
        }
        (low, high)
    }

    /// The bounds are what `tests/peers/random_rotation.py --energies` found, too.
    #[test]
    fn energy_is_spread_evenly() {
        let some = (1300..4200).step_by(61).chain((5..=16).map(|m| 256 * m)).chain([3000, 5000, 10_007, 11_008]);
        for n in (1..1300usize).chain(some) {
            let bound = match n {
                0..8 => 0.063,
                384 => 0.0313,
                8..=1024 => 0.02,
                1025..=1280 => 0.0283,
                _ if n.is_multiple_of(256) => 0.055,
                _ => 0.0366,
            };
            let (low, high) = energies(n);
            assert!(1.0 - low <= bound && high - 1.0 <= bound, "n = {n}: {low} to {high}");
        }
        for n in [128, 256, 512, 1024, 2048, 4096] {
            assert_eq!(energies(n), (1.0, 1.0), "n = {n}");
        }
    }
}
