//! Alternating block polar sweeps (Procrustes): one stage after the other is set to its best blocks, all others held.
//!
//! Every visit is a maximum in closed form, so the error never grows, and there is no step to choose. A sweep costs 5n²b·m
//! multiply-adds. Where sweeps have become slow they go past the maximum (`relax.rs`), still without loss.
//!
//! **The trap of the determinant.** Over the reals O(b) has two components, and the product of all det B is constant while blocks move
//! continuously. Where stages are rich enough to reach the target, sweeps in the wrong component come to rest where Z = I − 2vvᵀ:
//! ‖Z − I‖²_F = 4, an error of exactly 2/n. Every ZⱼⱼBⱼ is positive semidefinite there, so no block wants to change. Then the parity
//! is chosen deliberately: of all blocks of all stages, the one that loses least (2σ_b, remembered from its last visit) is to have the
//! other determinant, and all determinants are held from then on, so that the way back is closed. If that is no gain in the end, the blocks
//! from before are what counts.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use super::polar::nearest;
use super::sweep::Sweeper;
use super::{Fit, Group, Options, Progress, Start, Stop, Target};
use crate::dense::EPS;
use crate::error::{Error, Result};
use crate::generator::Generator;
use crate::layout::StageLayout;
use crate::scalar::Wide;
use crate::simd::Isa;

/// An error within this part of 2/n is that of a reflection.
const TRAP: f64 = 0.05;

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
    let parity = i8::from(options.group == Group::Special);
    let mut sweeper = Sweeper::new(n, target.entries(), stages, blocks, parity, options.parallelism)?;
    let mut curve = vec![sweeper.error()];
    let mut trapped: Option<(f64, Vec<Vec<W>>)> = None;
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
            let free = !W::IS_COMPLEX && options.group == Group::Full && trapped.is_none();
            if free && (error * n as f64 * 0.5 - 1.0).abs() <= TRAP && sweep < options.sweeps {
                trapped = Some((error, sweeper.stages.iter().map(|stage| stage.blocks.clone()).collect()));
                change_parity(&mut sweeper);
                judged = sweep + 2; // the reversed block loses at first
            } else {
                break Stop::Converged;
            }
        }
        if sweep >= options.sweeps {
            break Stop::Sweeps;
        }
        sweeper.sweep(sweep >= EAGER && error > SLOW * curve[sweep - 1])?;
        curve.push(sweeper.error());
    };
    let mut blocks: Vec<Vec<W>> = sweeper.stages.into_iter().map(|stage| stage.blocks).collect();
    if let Some((error, before)) = trapped
        && error < curve[curve.len() - 1]
    {
        blocks = before;
    }
    let mut fit = Fit::new(target, stages, blocks, options.parallelism)?;
    (fit.sweeps, fit.curve, fit.stop) = (curve.len() - 1, curve, stop);
    Ok(fit)
}

/// Holds all determinants, that of the block that loses least reversed.
fn change_parity<W: Wide>(sweeper: &mut Sweeper<'_, W>) {
    let mut least = (f64::INFINITY, 0, 0);
    for (i, stage) in sweeper.stages.iter_mut().enumerate() {
        for (j, (gain, parity)) in stage.gains.iter().zip(&mut stage.parity).enumerate() {
            *parity = gain.sign;
            if gain.loss < least.0 {
                least = (gain.loss, i, j);
            }
        }
    }
    if let Some(parity) = sweeper.stages.get_mut(least.1).and_then(|stage| stage.parity.get_mut(least.2)) {
        *parity = -*parity;
    }
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
            nearest(b, &mut blocks, &parity, Isa::detect(), crate::parallel::Parallelism::None);
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
