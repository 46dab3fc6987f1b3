//! Are the directional derivatives right? `realize_jvp` and `apply_jvp` against `realize_vjp` and `apply_vjp`, whose
//! correctness [`plan_gradient`](super::plan_gradient) establishes: ⟨G, J d⟩ = ⟨Jᴴ G, d⟩ for random G and d.

use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use super::isometry::larger;
use super::sample::{inner, reals, scalars};
use crate::batch::{Batch, BatchMut};
use crate::error::Result;
use crate::generator::Generator;
use crate::parallel::Parallelism;
use crate::plan::{Op, Plan, Saved, Workspace};
use crate::scalar::Wide;

/// Gap between ⟨G, J d⟩ and ⟨Jᴴ G, d⟩ relative to |G|·|J d|, the larger of three: along θ alone, along x alone, along both.
/// A few eps times the number of stages if `jvp` and `vjp` are adjoint.
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) if `theta` does not fit, and what the verbs return.
pub fn plan_tangent<W: Wide>(plan: &Plan<W>, theta: &[f64], op: Op, seed: u64) -> Result<f64> {
    const VECTORS: usize = 3;
    let n = plan.n();
    let mut g = Generator::new(seed);
    let mut vectors = || -> Vec<W> { scalars(&mut g, VECTORS * n) };
    let (x, dx, gy) = (vectors(), vectors(), vectors());
    let d_theta = reals(&mut g, theta.len(), 1.0);
    let factors = plan.realize(theta)?;
    let (par, mut ws) = (Parallelism::None, Workspace::new());

    let (mut gx, mut g_factors) = (vec![W::zero(); x.len()], vec![W::zero(); plan.num_entries()]);
    let (saved, out) = (Saved::Input(Batch::rows(&x, n)?), BatchMut::rows(&mut gx, n)?);
    plan.apply_vjp(&factors, saved, op, Batch::rows(&gy, n)?, Some(out), Some(&mut g_factors), par, &mut ws)?;
    let mut g_theta = vec![0.0; theta.len()];
    plan.realize_vjp(theta, &factors, &g_factors, &mut g_theta)?;

    let mut d_factors = vec![W::from_real(f64::NAN); plan.num_entries()];
    plan.realize_jvp(theta, &factors, &d_theta, &mut d_factors)?;
    let mut worst = 0.0;
    for (along_x, along_theta) in [(true, false), (false, true), (true, true)] {
        let mut dy = vec![W::from_real(f64::NAN); x.len()];
        let direction = along_x.then(|| Batch::rows(&dx, n)).transpose()?;
        let d = along_theta.then_some(&d_factors[..]);
        plan.apply_jvp(&factors, Batch::rows(&x, n)?, op, direction, d, BatchMut::rows(&mut dy, n)?, par, &mut ws)?;
        let mut pulled = 0.0;
        if along_x {
            pulled += inner(&gx, &dx).re();
        }
        if along_theta {
            pulled += inner(&g_theta, &d_theta);
        }
        let size = Float::sqrt(inner(&gy, &gy).re() * inner(&dy, &dy).re());
        let gap = Float::abs(inner(&gy, &dy).re() - pulled);
        worst = larger(worst, if gap == 0.0 { 0.0 } else { gap / size });
    }
    Ok(worst)
}
