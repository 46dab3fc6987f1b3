//! A fit up to the order of rows and columns: Q[i][j] ≈ R[rows[i]][columns[j]].
//!
//! Many fast transforms are butterflies only after their inputs or outputs are put in another order. With R held, the best order of
//! rows is a linear assignment (`assignment.rs`) with weights Re A, A = QRᴴ. Where a stage names coordinate r, its last such block
//! may turn row r by any phase (sign) within U(b) or O(b), so that |A| counts instead, and the block takes the phase over. The same for columns
//! and first blocks. With the orders held, sweeps go on from the blocks that are there, or the automatic choice begins anew if that is
//! better. Every step is a maximum or keeps what there is: the error never grows. It is a local search, so it starts from several orders.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use super::alternating::{check, from_blocks};
use super::assignment::assignment;
use super::{Fit, Group, Options, Progress, Stop, Target, fit};
use crate::batch::BatchMut;
use crate::error::{Error, Result};
use crate::generator::Generator;
use crate::layout::StageLayout;
use crate::plan::{Op, Workspace};
use crate::scalar::{Scalar, Wide};

/// Sweeps between two assignments.
const SWEEPS: usize = 20;
/// Assignments from one start, at most.
const ROUNDS: usize = 30;

/// A structured product near a target whose rows and columns are in another order.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Permuted<W: Wide> {
    /// Row i of the target is near row `rows[i]` of R.
    pub rows: Vec<usize>,
    /// Column j of the target is near column `columns[j]` of R.
    pub columns: Vec<usize>,
    /// The fit of R to the target in the order of R.
    pub fit: Fit<W>,
    /// The error of the best start after each of its rounds; it never grows.
    pub curve: Vec<f64>,
}

/// Which orders are free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sides {
    /// Rows only: Q ≈ P·R.
    #[default]
    Rows,
    /// Rows and columns: Q ≈ P·R·P'.
    Both,
}

/// The best fit found over orders of rows, and of columns if asked for. Starts are the identity; for n = 2ᵏ also bit reversal, and with and
/// without it Gray code and Makhoul's order (even ones upwards, then odd ones downwards); and [`Options::restarts`] − 1 random orders. `watch`
/// is told before every sweep, with the number of the start in [`Progress::restart`].
///
/// # Errors
/// Those of [`fit`].
pub fn permuted<W: Wide>(
    target: &Target<W>,
    stages: &[StageLayout],
    sides: Sides,
    options: &Options,
    watch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Permuted<W>> {
    let n = target.n();
    check(n, stages, options.group, W::IS_COMPLEX)?;
    let identity: Vec<usize> = (0..n).collect();
    let mut best: Option<Permuted<W>> = None;
    for (start, order) in starts(n, options).enumerate() {
        let mut pairs = vec![[order.clone(), identity.clone()]];
        if sides == Sides::Both && start > 0 {
            pairs.push([identity.clone(), order.clone()]);
            pairs.push([order.clone(), order]);
        }
        for pair in pairs {
            let mut tell = |p: &Progress| watch(&Progress { restart: start, ..*p });
            let found = search(target, stages, sides, pair, options, &mut tell)?;
            let (stop, better) = (found.fit.stop, best.as_ref().is_none_or(|best| found.fit.error < best.fit.error));
            let kept = if better { best.insert(found) } else { best.get_or_insert(found) };
            if matches!(stop, Stop::Exact | Stop::Interrupted) {
                kept.fit.stop = stop;
                return Ok(kept.clone());
            }
        }
    }
    best.ok_or(Error::Unsupported { what: "fit", expected: "a start", got: alloc::string::String::new() })
}

/// From one start.
fn search<W: Wide>(
    target: &Target<W>,
    stages: &[StageLayout],
    sides: Sides,
    [mut rows, mut columns]: [Vec<usize>; 2],
    options: &Options,
    watch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Permuted<W>> {
    let short = Options { sweeps: options.sweeps.min(SWEEPS), restarts: 1, ..options.clone() };
    let mut now = target.reordered(&rows, &columns);
    let mut found = fit(&now, stages, &short, watch)?;
    let mut curve = vec![found.error];
    let each: &[Side] = if sides == Sides::Both { &[Side::Rows, Side::Columns] } else { &[Side::Rows] };
    let mut resting = 0; // sides that stayed as they were, one after the other
    for round in 0..ROUNDS {
        if matches!(found.stop, Stop::Exact | Stop::Interrupted) || resting == each.len() {
            break;
        }
        let side = each[round % each.len()];
        let (order, blocks) = side.best(&now, stages, &found, options)?;
        if order.iter().enumerate().all(|(i, to)| i == *to) {
            resting += 1;
            continue;
        }
        resting = 0;
        let moved = if side == Side::Rows { &mut rows } else { &mut columns };
        moved.iter_mut().for_each(|i| *i = order[*i]);
        now = target.reordered(&rows, &columns);
        found = from_blocks(&now, stages, blocks, 0, &short, watch)?;
        if found.stop != Stop::Interrupted {
            let fresh = fit(&now, stages, &short, watch)?;
            let interrupted = fresh.stop == Stop::Interrupted;
            found = if fresh.error < found.error { fresh } else { found };
            if interrupted {
                found.stop = Stop::Interrupted; // whichever was better
            }
        }
        curve.push(found.error);
    }
    if !matches!(found.stop, Stop::Exact | Stop::Interrupted) && options.sweeps > 0 {
        let bound = found.bound;
        found = from_blocks(&now, stages, found.into_blocks(), 0, options, watch)?;
        found.bound = bound;
        curve.push(found.error);
    }
    Ok(Permuted { rows, columns, fit: found, curve })
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Rows,
    Columns,
}

impl Side {
    /// Where each row (column) of `target` goes, and the blocks with the phases that this takes.
    fn best<W: Wide>(
        self,
        target: &Target<W>,
        stages: &[StageLayout],
        found: &Fit<W>,
        options: &Options,
    ) -> Result<(Vec<usize>, Vec<Vec<W>>)> {
        let (n, parallelism, free) = (target.n(), options.parallelism, options.group == Group::Full);
        // Row i of A: the inner products of row (column) i of the target with all those of R.
        let mut a = target.entries().to_vec();
        if self == Side::Columns {
            (0..n).for_each(|i| (0..i).for_each(|j| a.swap(i * n + j, j * n + i)));
        }
        let op = if self == Side::Rows { Op::Conj } else { Op::Adjoint };
        let factors = found.plan().realize::<f64>(&[])?;
        found.plan().apply_in_place(&factors, BatchMut::rows(&mut a, n)?, op, parallelism, &mut Workspace::new())?;
        // The block that may turn a row (column): the last (first) one that names its coordinate.
        let mut places = vec![None; if free { n } else { 0 }];
        for at in 0..stages.len() {
            let k = if self == Side::Rows { at } else { stages.len() - 1 - at };
            for j in 0..if free { stages[k].num_blocks() } else { 0 } {
                stages[k].indices(j).enumerate().for_each(|(i, coordinate)| places[coordinate] = Some((k, j, i)));
            }
        }
        let place = |coordinate: usize| places.get(coordinate).copied().flatten();
        let weight = |(at, x): (usize, &W)| if place(at % n).is_some() { Scalar::abs(*x) } else { x.re() };
        let order = assignment(n, &a.iter().enumerate().map(weight).collect::<Vec<f64>>());
        let mut blocks = found.clone().into_blocks();
        for (i, to) in order.iter().enumerate() {
            let (x, Some((k, j, row))) = (a[i * n + to], place(*to)) else { continue };
            let (b, size) = (stages[k].block_size(), Scalar::abs(x));
            let phase = if size > f64::MIN_POSITIVE { x * W::from_real(1.0 / size) } else { W::one() };
            for l in 0..b {
                let at = if self == Side::Rows { row * b + l } else { l * b + row };
                let entry = &mut blocks[k][j * b * b + at];
                *entry = *entry * phase;
            }
        }
        Ok((order, blocks))
    }
}

/// The orders to start from, as where each row goes, made one by one.
fn starts(n: usize, options: &Options) -> impl Iterator<Item = Vec<usize>> {
    let reversed = move |i: usize| i.reverse_bits() >> (n.leading_zeros() + 1);
    let gray = |i: usize| i ^ (i >> 1);
    let makhoul = move |i: usize| if i.is_multiple_of(2) { i / 2 } else { n - 1 - i / 2 };
    let known = move |start: usize| -> Vec<usize> {
        let place = |i: usize| match start {
            0 => i,
            1 => reversed(i),
            2 => gray(i),
            3 => reversed(gray(i)),
            4 => makhoul(i),
            _ => reversed(makhoul(i)),
        };
        (0..n).map(place).collect()
    };
    let count = if n.is_power_of_two() && n > 2 { 6 } else { 1 };
    let mut generator = Generator::new(options.seed);
    let random = (1..options.restarts).map(move |_| {
        let mut order: Vec<usize> = (0..n).collect();
        generator.shuffle(&mut order);
        order
    });
    (0..count).map(known).chain(random)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::c64;
    use crate::parallel::Parallelism;
    use crate::topology::{AnyButterfly, BinaryTree, Topology};

    /// The best order with its signs (phases) wins exactly the sum of its weights, before any sweep.
    fn check<W: Wide>(n: usize, topology: &dyn Topology, group: Group, side: Side) {
        let target = Target::<W>::haar(n, Group::Full, 3).unwrap();
        let stages = super::super::layouts(n, topology).unwrap();
        let options = Options { group, sweeps: 3, ..Options::default() };
        let found = fit(&target, &stages, &options, &mut |_| ControlFlow::Continue(())).unwrap();
        let (order, blocks) = side.best(&target, &stages, &found, &options).unwrap();
        let identity: Vec<usize> = (0..n).collect();
        let (rows, columns) = if side == Side::Rows { (&order, &identity) } else { (&identity, &order) };
        let moved = target.reordered(rows, columns);
        let r = found.matrix(Parallelism::None).unwrap();
        let at = |q: &[W], i: usize, k: usize| if side == Side::Rows { q[i * n + k] } else { q[k * n + i] };
        let inner = |i: usize, to: usize| {
            (0..n).fold(W::zero(), |sum, k| sum + at(target.entries(), i, k) * Scalar::conj(at(&r, to, k)))
        };
        let named = |coordinate: usize| {
            stages.iter().any(|s| (0..s.num_blocks()).any(|j| s.indices(j).any(|c| c == coordinate)))
        };
        let weight = |(i, to): (usize, &usize)| {
            if group == Group::Full && named(*to) { Scalar::abs(inner(i, *to)) } else { inner(i, *to).re() }
        };
        let expected = 1.0 - order.iter().enumerate().map(weight).sum::<f64>() / n as f64;
        let now = Fit::new(&moved, &stages, blocks, Parallelism::None).unwrap().error;
        assert!((now - expected).abs() < 1e-13 && now < found.error + 1e-13, "{now} {expected} {}", found.error);
    }

    #[test]
    fn phases_go_to_the_blocks_that_they_belong_to() {
        for side in [Side::Rows, Side::Columns] {
            for n in [8, 13] {
                check::<f64>(n, &AnyButterfly::new(2), Group::Full, side);
                check::<f64>(n, &AnyButterfly::new(3), Group::Special, side);
                check::<c64>(n, &AnyButterfly::new(3), Group::Full, side);
                check::<c64>(n, &BinaryTree, Group::Full, side);
            }
        }
    }
}
