//! What training does with the parameters of each block: a constraint on their size, and rates that suit it.
//!
//! *COFT* (Qiu et al., arXiv 2306.07280; the rule is PEFT's since 0.16). The skew S of a block, whose upper triangle are its
//! parameters v, stays within a ball:
//!
//! > ‖S‖_F > e  ⇒  v ← v·e/‖S‖_F,  with ‖S‖_F = √2·‖v‖ and e = ε/√r, r the number of blocks of the factor
//!
//! (those that have parameters of their own), so that the skew of a whole factor has ‖S‖_F ≤ ε. The parameters themselves are
//! replaced, and gradients are those at the projected place: a projected gradient method.
//!
//! *Rates.* An optimiser like Adam moves every parameter by about its rate, so a block of k parameters moves by √k of it, and
//! a rate that is right for small blocks is too large for large ones. Rates times 1/√k move all blocks equally far. (With
//! Adam it is the same as dividing the parameters by √k before Cayley, as OneTrainer does.)

use std::string::ToString;
use std::vec;
use std::vec::Vec;

use super::dropout::trained_ranges;
use crate::error::{Error, Result, check_length};
use crate::plan::Plan;
use crate::scalar::Scalar;

/// Projects every block of `theta` onto ‖S‖_F ≤ e for PEFT's `eps`, which it keeps in single precision. For charts whose
/// parameters are a strict upper triangle (Cayley, its Neumann series, the exponential); of others it limits √2·‖v‖.
///
/// # Errors
/// [`Error::Length`] if `theta` does not fit the plan; [`Error::Domain`] for an eps that is negative or not finite.
pub fn project<T: Scalar>(plan: &Plan<T>, theta: &mut [f64], eps: f32) -> Result<()> {
    check_length("theta", plan.num_params(), theta.len())?;
    if !(0.0..=f32::MAX).contains(&eps) {
        return Err(Error::Domain {
            what: "eps of a constrained rotation".to_string(),
            expected: "a finite number of at least 0",
            got: eps.to_string(),
        });
    }
    for stage in plan.stages() {
        let limit = coft_limit(eps, stage.num_groups());
        for group in trained_ranges(stage) {
            let block = &mut theta[group];
            let largest = block.iter().fold(0.0, |largest: f64, v| largest.max(v.abs()));
            let unit = (2.0 * block.iter().map(|v| (v / largest).powi(2)).sum::<f64>()).sqrt();
            if largest * unit > limit {
                block.iter_mut().for_each(|v| *v = *v / largest / unit * limit);
            }
        }
    }
    Ok(())
}

/// e = ε/√r as PEFT computes it: in single precision, by the reciprocal of the root.
pub(in crate::adapter) fn coft_limit(eps: f32, blocks: usize) -> f64 {
    f64::from((1.0 / (blocks as f32).sqrt()) * eps)
}

/// For each parameter 1/√k, where k is the number of parameters of its block.
pub fn block_rates<T: Scalar>(plan: &Plan<T>) -> Vec<f64> {
    let mut rates = vec![1.0; plan.num_params()];
    for group in plan.stages().iter().flat_map(trained_ranges) {
        let rate = 1.0 / (group.len() as f64).sqrt();
        rates[group].fill(rate);
    }
    rates
}
