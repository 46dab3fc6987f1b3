//! Alternating block polar sweeps (Procrustes): one stage after the other is set to its best blocks, all others held.
//!
//! Every visit is a maximum in closed form, so the error never grows, and there is no step to choose. A sweep costs 5n²b·m
//! multiply-adds. Where sweeps have become slow they go past the maximum (`relax.rs`), still without loss.
//!
//! Over the reals a run may rest in a wrong component: `trap.rs` leads out of it. Rotations are what sweeps over O(b) find with the right
//! signs (`signs.rs`).

use alloc::vec;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use super::polar::nearest;
use super::signs::Signs;
use super::sweep::Sweeper;
use super::trap::Trap;
use super::{Fit, Group, Options, Progress, Start, Stop, Target};
use crate::dense::EPS;
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
    let mut best: Option<Fit<W>> = None;
    for restart in 0..options.restarts.max(1) {
        let mut generator = Generator::new(options.seed.wrapping_add(restart as u64));
        let start = if restart > 0 { Start::Random } else { options.start };
        let blocks = stages.iter().map(|layout| initial(layout, start, options.group, &mut generator)).collect();
        let fit = from_blocks(target, stages, blocks, restart, options, watch)?;
        let (stop, better) = (fit.stop, best.as_ref().is_none_or(|best| fit.error < best.error));
        best = if better { Some(fit) } else { best };
        if matches!(stop, Stop::Exact | Stop::Interrupted) {
            if let Some(best) = &mut best {
                best.stop = stop;
            }
            break;
        }
    }
    best.ok_or(Error::Unsupported { what: "fit", expected: "a start", got: alloc::string::String::new() })
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
    let exact = 0.5 * (4.0 * EPS) * (4.0 * EPS);
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
            // Near enough to a Gaussian, and the same on every machine: the polar factor is Haar distributed then.
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
