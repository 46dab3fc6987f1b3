//! Which stages of pairs run together along the vector, decided once when a plan is made.
//!
//! Pairs of single coordinates:
//!
//! A pass keeps R registers, a power of two, and runs stages that only mix them. Register r holds the L coordinates from
//! h·R·D + r·D + q on, where D is the distance of the registers. Pairs at distance D·2ᵏ turn registers that differ in bit k of r.
//! Where D = L the registers are neighbours, and pairs closer than L can be turned, too: two neighbouring registers are regrouped
//! so that all first coordinates of pairs are in one and their partners in the other
//! ([`Lanes::regroup`](crate::simd::Lanes::regroup)).
//!
//! In any case, with p for r without its bit k, the pair of registers is blocks h·(R/2)·D + p·D + q … of its stage, L of
//! them side by side: planar entries are read in order.
//!
//! Pairs of runs of U coordinates, blocks of 2U, are the same with runs for coordinates: registers of L runs, which are U of the
//! machine's; only, a pass holds them for several vectors in the nearest cache, so distances may come in any order.

use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::blocks;
use crate::scalar::Scalar;
use crate::simd::{Isa, NATURAL};

/// A stage of pairs of runs, c … c + unit − 1 and the same + distance, whose entries are planar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pairs {
    /// Coordinates in a run: 1, 2 or 4.
    pub(crate) unit: usize,
    /// Of the coordinates of a pair.
    pub(crate) distance: usize,
    /// Coordinates that the stage acts on: 0 to here.
    pub(crate) covered: usize,
    /// Where its entries start among all of the plan.
    pub(crate) entries: usize,
    /// Whether blocks act transposed.
    pub(crate) transposed: bool,
}

impl Pairs {
    pub(super) fn transposed(&self) -> Self {
        Self { transposed: !self.transposed, ..*self }
    }
}

/// Which distances a pass serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Every power of 2 that its registers, which are neighbours, hold a pair of: 1, 2, …, R·L/2; of runs any of these.
    Near,
    /// One power of 2 up to L, given as an exponent, in two neighbouring registers.
    One(usize),
    /// D·2ᵏ for every bit k of a register's number.
    Far,
}

/// Stages that run together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pass {
    pub(super) reach: Reach,
    /// Of single coordinates: whether distances double from one stage to the next, rather than halve.
    pub(super) ascending: bool,
    /// R; of runs each is as many registers of the machine as a run has coordinates.
    pub(in crate::kernel) registers: usize,
    /// D, in the stages: where the blocks of registers are.
    pub(in crate::kernel) distance: usize,
    /// D, in the vector: the same, but in strips.
    pub(super) apart: usize,
    /// Coordinates that all its stages act on.
    pub(in crate::kernel) covered: usize,
    /// How often R·D divides that; pairs of registers of runs may end beyond it.
    pub(super) spans: usize,
    /// In the order in which they act.
    pub(in crate::kernel) stages: Vec<Pairs>,
}

impl Pass {
    /// Coordinates in a run of its pairs.
    #[inline]
    pub(in crate::kernel) fn unit(&self) -> usize {
        self.stages.first().map_or(1, |stage| stage.unit)
    }

    /// Of runs, registers of a window forward: neighbouring ones are copied together.
    pub(super) fn together(&self, lanes: usize) -> usize {
        let (unit, mut registers) = (self.unit(), self.registers);
        while self.distance == unit * lanes
            && 2 * registers * unit <= blocks::MOST_REGISTERS
            && self.covered.is_multiple_of(2 * registers * unit * lanes)
        {
            registers *= 2;
        }
        registers
    }

    /// Of runs, coordinates of a window forward from the first to the last; those backwards divide it.
    pub(super) fn span(&self, lanes: usize) -> usize {
        self.together(lanes) * self.apart
    }

    /// What the pass does, backwards: all stages transposed in reverse order.
    pub(in crate::kernel) fn transposed(&self) -> Self {
        let stages = self.stages.iter().rev().map(|stage| stage.transposed()).collect();
        Self { ascending: !self.ascending, stages, ..*self }
    }

    /// The same over fewer spans of a vector in which registers are `apart`.
    pub(in crate::kernel) fn within(&self, apart: usize, spans: usize) -> Self {
        Self { apart, spans, covered: spans * self.registers * apart, ..self.clone() }
    }

    /// The block that span `h` begins with in every stage.
    #[inline(always)]
    pub(in crate::kernel) fn first_block(&self, h: usize) -> usize {
        h * (self.registers / 2) * self.distance / self.unit()
    }

    /// Which bit of a register's number the pairs of stage `k` differ in, and how two neighbouring registers are grouped then.
    pub(super) fn place(&self, k: usize, lanes: usize) -> (usize, u32) {
        let level = if self.ascending { k } else { self.stages.len() - 1 - k };
        let inside = lanes.trailing_zeros() as usize;
        match self.reach {
            Reach::Far => (level, NATURAL),
            Reach::Near if level >= inside => (level - inside, NATURAL),
            Reach::Near => (0, level as u32),
            Reach::One(level) if level >= inside => (0, NATURAL),
            Reach::One(level) => (0, level as u32),
        }
    }
}

/// All passes that begin with the first of `stages`, in at most `most` registers of `lanes` numbers.
fn beginnings(stages: &[Pairs], lanes: usize, most: usize) -> impl Iterator<Item = Pass> {
    let runs = stages.iter().take_while(|stage| stage.unit > 1).count();
    let of_runs = (1..=runs).map_while(move |count| fit_runs(&stages[..count], lanes));
    let longest = (lanes * most).trailing_zeros() as usize;
    let of_singles = stages.first().into_iter().flat_map(|first| [(first, true), (first, false)]).flat_map(
        move |(first, ascending)| {
            let next =
                move |d: usize| if ascending { d.checked_mul(2) } else { Some(d / 2).filter(|half| 2 * half == d) };
            let distances = core::iter::successors(Some(first.distance), move |d| next(*d));
            let like = |(stage, d): &(&Pairs, usize)| {
                let all = (stage.unit, stage.distance, stage.covered, stage.transposed);
                all == (1, *d, first.covered, first.transposed)
            };
            let run = stages.iter().zip(distances).take(longest).take_while(like).count();
            (1..=run).filter_map(move |count| fit(&stages[..count], ascending, lanes, most))
        },
    );
    of_runs.chain(of_singles)
}

/// Stages whose distances double or halve as a pass, if they fit one.
fn fit(stages: &[Pairs], ascending: bool, lanes: usize, most: usize) -> Option<Pass> {
    let (first, last) = (stages.first()?, stages.last()?);
    let (low, high) = if ascending { (first.distance, last.distance) } else { (last.distance, first.distance) };
    let (reach, registers, distance) = if low == 1 && high >= 2 * lanes {
        (Reach::Near, 2 * high / lanes, lanes)
    } else if low == high && low <= lanes && low.is_power_of_two() {
        (Reach::One(low.trailing_zeros() as usize), 2, lanes)
    } else {
        (Reach::Far, 2 * high / low, low)
    };
    let fits = distance % lanes == 0 && registers <= most && first.covered % (registers * distance) == 0;
    fits.then(|| {
        let (covered, spans) = (first.covered, first.covered / (registers * distance));
        Pass { reach, ascending, registers, distance, apart: distance, covered, spans, stages: stages.to_vec() }
    })
}

/// Stages of runs as a pass, if they fit one.
fn fit_runs(stages: &[Pairs], lanes: usize) -> Option<Pass> {
    let Pairs { unit, covered, .. } = *stages.first()?;
    let (lanes, distances) = (unit * lanes, || stages.iter().map(|stage| stage.distance));
    let (low, high) = (distances().min()?, distances().max()?);
    let (reach, distance) = if low >= lanes && low % lanes == 0 { (Reach::Far, low) } else { (Reach::Near, lanes) };
    let regular = distances()
        .all(|d| if d < lanes { d.is_power_of_two() } else { d % distance == 0 && (d / distance).is_power_of_two() });
    let registers = (2 * high / distance).max(2);
    let alike = stages.iter().all(|stage| (stage.unit, stage.covered) == (unit, covered));
    // The last of many pairs of neighbouring registers may be partly beyond the blocks.
    let whole = covered % (registers * distance) == 0 || registers == 2 && distance == lanes;
    let fits = regular && alike && registers * unit <= blocks::MOST_REGISTERS && whole;
    let spans = covered.div_ceil(registers * distance);
    fits.then(|| {
        let stages = stages.to_vec();
        Pass { reach, ascending: true, registers, distance, apart: distance, covered, spans, stages }
    })
}

/// All stages as the fewest passes of at most half of `registers`, the longest of them first; `None` if a stage fits none.
fn compile(stages: &[Pairs], lanes: usize, registers: usize) -> Option<Vec<Pass>> {
    // How many passes the stages from each one on take, and the first of these; from the last stage back.
    let mut best: Vec<Option<(usize, Option<Pass>)>> = vec![Some((0, None))];
    for start in (0..stages.len()).rev() {
        let rest = |pass: &Pass| best[stages.len() - start - pass.stages.len()].as_ref().map(|(count, _)| 1 + count);
        let all =
            beginnings(&stages[start..], lanes, registers / 2).filter_map(|pass| Some((rest(&pass)?, Some(pass))));
        let fewest = all.min_by_key(|(count, pass)| (*count, pass.as_ref().map(|pass| Reverse(pass.stages.len()))));
        best.push(fewest);
    }
    let mut passes = Vec::new();
    let mut left = stages.len();
    while let Some(pass) = best.get_mut(left)?.take()?.1 {
        left -= pass.stages.len();
        passes.push(pass);
    }
    Some(passes)
}

/// The passes of a plan all of whose stages are pairs, for every machine, forward and transposed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Passes([[Option<Vec<Pass>>; 2]; Isa::ALL.len()]);

impl Passes {
    /// Of stages in the order in which they act, if they are all pairs (and there are any: nothing copies x to y without a pass).
    pub(crate) fn new<T: Scalar>(stages: Option<Vec<Pairs>>) -> Self {
        let Some(forward) = stages.filter(|stages| !stages.is_empty()) else { return Self::default() };
        let transposed: Vec<_> = forward.iter().rev().map(Pairs::transposed).collect();
        Self(Isa::ALL.map(|isa| {
            let (lanes, registers) = (isa.register_bytes() / size_of::<T>(), isa.registers());
            [compile(&forward, lanes, registers), compile(&transposed, lanes, registers)]
        }))
    }

    /// Those for a machine.
    pub(crate) fn get(&self, isa: Isa, transposed: bool) -> Option<&[Pass]> {
        self.0[isa as usize][usize::from(transposed)].as_deref()
    }
}

/// Whether planar pairs are all rotations (c, −s; s, c) to the last bit, signs of zeros included.
pub(crate) fn are_rotations<T: Scalar>(entries: &[T]) -> bool {
    let same = |a: &[T], b: &[T], sign: T| {
        a.iter().zip(b).all(|(a, b)| bytemuck::bytes_of(a) == bytemuck::bytes_of(&(*b * sign)))
    };
    entries.chunks_exact(4 * T::WIDTH).all(|panel| {
        let (first, second) = panel.split_at(2 * T::WIDTH);
        let ((e00, e10), (e01, e11)) = (first.split_at(T::WIDTH), second.split_at(T::WIDTH));
        same(e00, e11, T::one()) && same(e01, e10, -T::one())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stages(distances: &[usize], covered: usize) -> Vec<Pairs> {
        let stage = |(k, distance): (usize, &usize)| Pairs {
            unit: 1,
            distance: *distance,
            covered,
            entries: 2 * covered * k,
            transposed: false,
        };
        distances.iter().enumerate().map(stage).collect()
    }

    /// Reach, registers and their distance, for 16 lanes and 32 registers.
    fn shapes(distances: &[usize], covered: usize) -> Option<Vec<(Reach, usize, usize)>> {
        let passes = compile(&stages(distances, covered), 16, 32)?;
        let all: Vec<_> = passes.iter().flat_map(|pass| pass.stages.iter().map(|s| s.distance)).collect();
        assert_eq!(all, distances);
        Some(passes.into_iter().map(|pass| (pass.reach, pass.registers, pass.distance)).collect())
    }

    #[test]
    fn butterflies_take_few_passes() {
        use Reach::{Far, Near};
        let up: Vec<usize> = (0..12).map(|k| 1 << k).collect();
        let down: Vec<usize> = up.iter().rev().copied().collect();
        assert_eq!(shapes(&up[..7], 128), Some(vec![(Near, 8, 16)]));
        assert_eq!(shapes(&up[..8], 256), Some(vec![(Near, 16, 16)]));
        assert_eq!(shapes(&up[..10], 1024), Some(vec![(Near, 16, 16), (Far, 4, 256)]));
        assert_eq!(shapes(&down[2..], 1024), Some(vec![(Far, 16, 64), (Near, 4, 16)]));
        assert_eq!(shapes(&up, 4096), Some(vec![(Near, 16, 16), (Far, 16, 256)]));
        assert_eq!(shapes(&up[..6], 64), Some(vec![(Near, 4, 16)]));
        // A Beneš network: the longest pass down would leave distances that fit no pass together.
        let benes: Vec<usize> = up[..10].iter().chain(down[3..].iter()).copied().collect();
        assert_eq!(shapes(&benes, 1024), Some(vec![(Near, 16, 16), (Far, 4, 256), (Far, 8, 64), (Near, 4, 16)]));
    }

    #[test]
    fn other_distances_run_alone() {
        use Reach::{Far, One};
        assert_eq!(
            shapes(&[2, 2, 8, 4], 96),
            Some(vec![(One(1), 2, 16), (One(1), 2, 16), (One(3), 2, 16), (One(2), 2, 16)])
        );
        assert_eq!(shapes(&[48, 96], 192), Some(vec![(Far, 4, 48)]));
        assert_eq!(shapes(&[16, 32], 64), Some(vec![(Far, 4, 16)]));
        assert_eq!(shapes(&[1, 24], 96), None); // 24 coordinates are no whole registers
        assert_eq!(shapes(&[3], 96), None);
        assert_eq!(shapes(&[1], 48), None); // one and a half pairs of registers
        assert_eq!(shapes(&[], 48), Some(vec![]));
    }

    #[test]
    fn blocks_of_8_take_tall_registers() {
        let shapes = |distances: &[usize], covered: usize, lanes: usize| {
            let runs: Vec<_> = stages(distances, covered).into_iter().map(|pairs| Pairs { unit: 4, ..pairs }).collect();
            let passes = compile(&runs, lanes, 32)?;
            Some(passes.into_iter().map(|pass| (pass.reach, pass.registers, pass.distance, pass.spans)).collect())
        };
        use Reach::{Far, Near};
        assert_eq!(shapes(&[4, 8, 16, 32, 64], 1024, 16), Some(vec![(Near, 2, 64, 8)]));
        assert_eq!(shapes(&[4, 64, 128, 8], 1024, 16), Some(vec![(Near, 4, 64, 4)]));
        assert_eq!(shapes(&[4, 256, 128], 1024, 16), Some(vec![(Near, 2, 64, 8), (Far, 4, 128, 2)]));
        assert_eq!(shapes(&[4, 8, 16, 32], 320, 16), Some(vec![(Near, 2, 64, 3)])); // half of the last one
        assert_eq!(shapes(&[4, 8, 16, 32], 320, 8), Some(vec![(Near, 2, 32, 5)]));
        assert_eq!(shapes(&[4, 8, 16, 32], 320, 2), Some(vec![(Near, 4, 8, 10), (Far, 2, 32, 5)]));
        assert_eq!(shapes(&[4, 24], 48, 16), None);
    }

    #[test]
    fn rotations_are_told_from_other_pairs() {
        let mut panel = [0.0f64; 32];
        for (l, pair) in panel.chunks_exact_mut(8).enumerate() {
            pair.fill([0.8, 0.6, -0.6, 0.8][l]);
        }
        assert!(are_rotations(&panel));
        panel[17] = 0.6; // a reflection's sign
        assert!(!are_rotations(&panel));
        (panel[9], panel[17]) = (0.0, 0.0); // not minus zero
        assert!(!are_rotations(&panel));
    }
}
