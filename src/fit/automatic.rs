//! The choice among methods.
//!
//! Layouts that chain are first factorized in one pass. Exact: done. Near the class, that is where sweeps go on from; they have little left to
//! do. A target that is far away (e above ½) gains nothing from singular vectors of its parts, which are noise: there a random start does
//! better, 0.83 against 0.94 for a Haar matrix of 512.

use core::ops::ControlFlow;

use super::alternating::{alternating, from_blocks};
use super::chain::Chain;
use super::hierarchical::hierarchical;
use super::{Fit, Options, Progress, Stop, Target};
use crate::dense::EPS;
use crate::error::Result;
use crate::layout::StageLayout;
use crate::scalar::Wide;

/// Errors above are those of a target far from the class.
const FAR: f64 = 0.5;

/// The best of what there is: [`hierarchical`] where the layouts chain, polished by sweeps; [`alternating`] everywhere else, and for
/// targets far from the class.
///
/// # Errors
/// As [`alternating`].
pub fn fit<W: Wide>(
    target: &Target<W>,
    stages: &[StageLayout],
    options: &Options,
    watch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Fit<W>> {
    if Chain::of(stages).is_none() {
        return alternating(target, stages, options, watch);
    }
    let direct = hierarchical(target, stages, options)?;
    if direct.relative_frobenius <= 4.0 * EPS * stages.len() as f64 || direct.error <= options.goal {
        return Ok(Fit { stop: Stop::Exact, ..direct });
    }
    let bound = direct.bound;
    let mut fit = if direct.error <= FAR {
        let blocks = direct.into_blocks();
        from_blocks(target, stages, blocks, 0, options, watch)?
    } else {
        alternating(target, stages, options, watch)?
    };
    fit.bound = bound;
    Ok(fit)
}
