//! Alternating block polar sweeps (Procrustes): one stage after the other is set to its best blocks, all others held.
//!
//! Every visit is a maximum in closed form, so the error never grows, and there is no step to choose. A sweep costs about 3n²b·m
//! multiply-adds: two products with the blocks of a stage on its way to the next, and one with all of them when it begins. Where
//! sweeps have become slow they go past the maximum (`relax.rs`), still without loss.
//!
//! Over the reals a run may rest in a wrong component: `trap.rs` leads out of it, at the price of one sweep that raises the error; if nothing comes
//! of it, the blocks from before are the result. Rotations are what sweeps over O(b) find with the right
//! signs (`signs.rs`).

use alloc::vec;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use super::polar::nearest;
use super::signs::Signs;
use super::sweep::Sweeper;
use super::trap::Trap;
use super::{Fit, Group, Options, Progress, Start, Stop, Target, rounding};
use crate::error::{Error, Result};
use crate::generator::Generator;
use crate::layout::StageLayout;
use crate::parallel::Parallelism;
use crate::scalar::Wide;
use crate::simd::Isa;

/// The first sweeps do not need to hurry, nor do those that leave less than this part of the error.
const EAGER: usize = 3;
const SLOW: f64 = 0.8;

/// Sweeps from [`Options::start`] with as many seeds as [`Options::restarts`] says; the best of all is the fit.
///
/// # Errors
/// What [`StageLayout::validate`] finds wrong with a layout; [`Error::Unsupported`] for [`Group::Special`] over the complex numbers.
pub fn alternating<W: Wide>(
    target: &Target<W>,
    stages: &[StageLayout],
    options: &Options,
    watch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Fit<W>> {
    check(target.n(), stages, options.group, W::IS_COMPLEX)?;
    runs(target, stages, None, options, watch)
}

/// As many runs as [`Options::restarts`] says; the first one from the blocks that are given, the next one (or the first) from
/// [`Options::start`], all others from random blocks.
pub(super) fn runs<W: Wide>(
    target: &Target<W>,
    stages: &[StageLayout],
    first: Option<Vec<Vec<W>>>,
    options: &Options,
    watch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Fit<W>> {
    let started = usize::from(first.is_some());
    let random = |restart: usize| -> Vec<Vec<W>> {
        let mut generator = Generator::new(options.seed.wrapping_add(restart as u64));
        let start = if restart > started { Start::Random } else { options.start };
        stages.iter().map(|layout| initial(layout, start, options.group, &mut generator)).collect()
    };
    let mut best = from_blocks(target, stages, first.unwrap_or_else(|| random(0)), 0, options, watch)?;
    for restart in 1..options.restarts {
        if matches!(best.stop, Stop::Exact | Stop::Interrupted) {
            break;
        }
        let fit = from_blocks(target, stages, random(restart), restart, options, watch)?;
        let stop = fit.stop;
        best = if fit.error < best.error { fit } else { best };
        if matches!(stop, Stop::Exact | Stop::Interrupted) {
            best.stop = stop;
        }
    }
    Ok(best)
}

/// Sweeps from given blocks.
pub(super) fn from_blocks<W: Wide>(
    target: &Target<W>,
    stages: &[StageLayout],
    blocks: Vec<Vec<W>>,
    restart: usize,
    options: &Options,
    watch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Fit<W>> {
    let n = target.n();
    let signs = (options.group == Group::Special).then(|| Signs::new(n, stages));
    let mut sweeper = Sweeper::new(n, target.entries(), stages, blocks, signs, options.parallelism)?;
    let mut curve = vec![sweeper.error()];
    let mut trap = None;
    let mut judged = 1; // the first sweep that is compared with the one before
    let exact = rounding(stages.len());
    let stop = loop {
        let (sweep, error) = (curve.len() - 1, curve[curve.len() - 1]);
        if watch(&Progress { restart, sweep, error }).is_break() {
            break Stop::Interrupted;
        }
        if error <= exact.max(options.goal) {
            break Stop::Exact;
        }
        let stalled = sweep >= judged && curve[sweep - 1] - error <= options.tolerance * error;
        if stalled {
            if trap.is_none() && options.group == Group::Full && sweep < options.sweeps {
                trap = Trap::escape(&mut sweeper, n, error, options.parallelism);
                judged = sweep + 2; // the reversed block loses at first
            }
            if trap.is_none() || judged <= sweep {
                break Stop::Converged;
            }
        }
        if sweep >= options.sweeps {
            break Stop::Sweeps;
        }
        sweeper.sweep(sweep >= EAGER && error > SLOW * curve[sweep - 1])?;
        curve.push(sweeper.error());
    };
    let blocks = trap.and_then(|trap| trap.better(curve[curve.len() - 1]));
    let blocks = blocks.unwrap_or_else(|| sweeper.into_blocks(stages));
    let mut fit = Fit::new(target, stages, blocks, options.parallelism)?;
    (fit.sweeps, fit.curve, fit.stop) = (curve.len() - 1, curve, stop);
    Ok(fit)
}

/// The blocks to start a stage from.
pub(super) fn initial<W: Wide>(layout: &StageLayout, start: Start, group: Group, generator: &mut Generator) -> Vec<W> {
    let (b, count) = (layout.block_size(), layout.num_blocks());
    let mut blocks = vec![W::zero(); b * b * count];
    match start {
        Start::Identity => {
            blocks.iter_mut().enumerate().filter(|(at, _)| at % (b * b) % (b + 1) == 0).for_each(|(_, x)| {
                *x = W::one();
            })
        }
        Start::Random => {
            // Nearly Gaussian, and the same on every machine: the polar factor nearly has the Haar measure then.
            let mut normal = || (0..12).map(|_| generator.uniform()).sum::<f64>() - 6.0;
            blocks.fill_with(|| {
                let re = normal();
                W::from_parts(re, if W::IS_COMPLEX { normal() } else { 0.0 })
            });
            let parity = vec![i8::from(group == Group::Special); count];
            nearest(b, &mut blocks, &parity, Isa::detect(), Parallelism::None);
        }
    }
    blocks
}

pub(super) fn check(n: usize, stages: &[StageLayout], group: Group, complex: bool) -> Result<()> {
    stages.iter().try_for_each(|layout| layout.validate(n))?;
    if complex && group == Group::Special {
        return Err(Error::Unsupported {
            what: "group of complex blocks",
            expected: "Group::Full, the unitary blocks",
            got: alloc::format!("{group:?}"),
        });
    }
    Ok(())
}
