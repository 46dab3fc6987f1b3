//! The choice among methods.
//!
//! Layouts that chain are first factorized in one pass. Exact: done. Near the class, that is where sweeps go on from; they have little left to
//! do. A target that is far away (e above ½) gains nothing from singular vectors of its parts, which are noise: there a random start does
//! better, 0.83 against 0.94 for a Haar matrix of 512. Sweeps are a local search all the same: other starts sometimes end lower (the
//! DCT-IV of 8: 0.343 from one pass, 0.302 from half of all random starts), so there are restarts.

use core::ops::ControlFlow;

use super::alternating::{alternating, check, runs};
use super::chain::Chain;
use super::hierarchical::hierarchical;
use super::{Fit, Options, Progress, Stop, Target, rounding};
use crate::error::Result;
use crate::layout::StageLayout;
use crate::scalar::Wide;

/// Errors above are those of a target far from the class.
const FAR: f64 = 0.5;

/// The best of what there is: [`hierarchical`] where the layouts chain, polished by sweeps; [`alternating`] everywhere else, and for
/// targets far from the class.
///
/// Of [`Options::restarts`] runs the first one begins with the product of that pass, the second from [`Options::start`], and others from
/// random blocks; the best is kept. With one run a near target gets the first only, and [`alternating`] may find better ones.
///
/// # Errors
/// As [`alternating`].
pub fn fit<W: Wide>(
    target: &Target<W>,
    stages: &[StageLayout],
    options: &Options,
    watch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Fit<W>> {
    check(target.n(), stages, options.group, W::IS_COMPLEX)?;
    if Chain::of(stages).is_none() {
        return alternating(target, stages, options, watch);
    }
    let direct = hierarchical(target, stages, options)?;
    if direct.error <= rounding(stages.len()).max(options.goal) {
        return Ok(Fit { stop: Stop::Exact, ..direct });
    }
    let bound = direct.bound;
    let first = if direct.error <= FAR { Some(direct.into_blocks()) } else { None };
    let mut fit = runs(target, stages, first, options, watch)?;
    fit.bound = bound;
    Ok(fit)
}
