//! Charts: how a small orthogonal block is given by real numbers θ.
//!
//! A chart is one file with one type implementing [`Parametrization`]; it may live outside this crate. It is written
//! in double precision only: a plan over `f32` rounds the finished block once.

use core::fmt::Debug;

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;

use crate::error::Result;
use crate::scalar::Wide;

mod batches;
mod charts;

pub use charts::Charts;

/// One line for each chart: its file, its type. The file says in `register` how the chart is known by name; from there, files
/// and the tests of every chart know it.
macro_rules! family {
    ($($file:ident::$chart:ident,)*) => {
        $(pub use $file::$chart;)*
        fn register<W: Wide>(charts: &mut Charts<W>) {
            $($file::register(charts);)*
        }
    };
}

mod cayley;
mod cayley_series;
mod exponential;
mod givens;
mod mach_zehnder;
mod neumann;
mod newton_schulz;
mod polynomial;
mod signed;
mod unitary_phases;

family! {
    cayley::Cayley,
    cayley_series::CayleySeries,
    exponential::Exponential,
    givens::Givens,
    mach_zehnder::MachZehnder,
    neumann::CayleyNeumann,
    newton_schulz::NewtonSchulz,
    signed::Signed,
    unitary_phases::UnitaryPhases,
}

/// A smooth map θ ↦ block from real parameters to b×b orthogonal (unitary) matrices, with its exact pullback.
///
/// Blocks are row-major. `W` is `f64` for orthogonal and `c64` for unitary blocks; θ is always real.
///
/// # Laws
/// Each is a function in [`verify::laws`](crate::verify::laws):
/// 1. θ = 0 gives the identity, exactly; a diagonal of ±1 if [`starts_at_identity`](Self::starts_at_identity) is `false`.
/// 2. Unless [`is_exact`](Self::is_exact) is `false`, every block from finite θ is orthogonal to LAPACK ratio ≤ 2
///    (‖I − BᴴB‖₁ / (b·eps), eps = 2⁻⁵²).
/// 3. `vjp` is the exact adjoint of the derivative of `forward`: d_theta += Jᵀ d_block, with ⟨G, dB⟩ = Re tr(Gᴴ dB).
/// 4. `jvp` is the derivative itself: ⟨G, jvp(dθ)⟩ = ⟨vjp(G), dθ⟩, overwritten.
/// 5. `inverse` is a section: `forward(inverse(B)) = B` wherever it does not return an error.
/// 6. `forward`, `vjp` and `jvp` depend on nothing but their arguments.
pub trait Parametrization<W: Wide>: Debug + Send + Sync {
    /// The field's name for it, for messages.
    fn name(&self) -> &'static str;

    /// Its name with whatever settings it has: equal for charts that are the same map, different for others. Files name a
    /// chart by it, and [`Factors`](crate::Factors) remember it.
    fn id(&self) -> String {
        self.name().to_string()
    }

    /// Parameters of one b×b block.
    ///
    /// # Errors
    /// [`Error::Size`](crate::Error::Size) if blocks of this size do not exist in this chart.
    fn num_params(&self, b: usize) -> Result<usize>;

    /// The block at `theta` (length `num_params(b)`, finite), written to `block` (length b²).
    fn forward(&self, b: usize, theta: &[f64], block: &mut [W]);

    /// Pullback: adds Jᵀ `d_block` to `d_theta`, where `block` is what `forward` returned at `theta`.
    fn vjp(&self, b: usize, theta: &[f64], block: &[W], d_block: &[W], d_theta: &mut [f64]);

    /// Pushforward: `d_block` ← J `d_theta`, overwritten. By default column by column through [`vjp`](Self::vjp): exact, and
    /// b² times slower than a chart's own.
    fn jvp(&self, b: usize, theta: &[f64], block: &[W], d_theta: &[f64], d_block: &mut [W]) {
        let mut unit = vec![W::zero(); b * b];
        let mut row = vec![0.0; theta.len()];
        for at in 0..b * b {
            let mut part = |of: W| {
                unit[at] = of;
                row.fill(0.0);
                self.vjp(b, theta, block, &unit, &mut row);
                unit[at] = W::zero();
                row.iter().zip(d_theta).map(|(j, d)| j * d).sum::<f64>()
            };
            d_block[at] =
                W::from_parts(part(W::one()), if W::IS_COMPLEX { part(W::from_parts(0.0, 1.0)) } else { 0.0 });
        }
    }

    /// Some θ with `forward(θ) = block`.
    ///
    /// # Errors
    /// [`Error::Domain`](crate::Error::Domain) if the block is not orthogonal or the chart does not reach it.
    fn inverse(&self, b: usize, block: &[W], theta: &mut [f64]) -> Result<()>;

    /// `false` for truncated series, whose blocks are only nearly orthogonal. Such stages cannot be run backwards.
    fn is_exact(&self) -> bool {
        true
    }

    /// `false` for charts whose block at θ = 0 is a diagonal of ±1 other than the identity, or may be:
    /// [`Signed`] ones, which reach determinant −1.
    fn starts_at_identity(&self) -> bool {
        true
    }

    /// A constant L with ‖B(θ) − B(θ')‖_F ≤ L‖θ − θ'‖₂ for all θ and θ' of one b×b block, if one is known. (‖J‖ ≤ L
    /// everywhere is the same.) [`Plan::lipschitz`](crate::Plan::lipschitz) composes it over blocks and stages.
    fn lipschitz(&self, _b: usize) -> Option<f64> {
        None
    }

    /// `forward` for consecutive blocks: θ and blocks lie one after the other. A chart overrides it to work on several
    /// blocks at once; every block must equal, bit for bit, what `forward` gives for it.
    fn forward_batch(&self, b: usize, theta: &[f64], blocks: &mut [W]) {
        let count = blocks.len() / (b * b).max(1);
        let p = theta.len() / count.max(1);
        for (j, block) in blocks.chunks_exact_mut((b * b).max(1)).enumerate() {
            self.forward(b, &theta[j * p..(j + 1) * p], block);
        }
    }

    /// `vjp` for consecutive blocks, accumulated into `d_theta`.
    fn vjp_batch(&self, b: usize, theta: &[f64], blocks: &[W], d_blocks: &[W], d_theta: &mut [f64]) {
        let size = (b * b).max(1);
        let count = blocks.len() / size;
        let p = theta.len() / count.max(1);
        for (j, (block, d_block)) in blocks.chunks_exact(size).zip(d_blocks.chunks_exact(size)).enumerate() {
            self.vjp(b, &theta[j * p..(j + 1) * p], block, d_block, &mut d_theta[j * p..(j + 1) * p]);
        }
    }
}

impl<W: Wide, P: Parametrization<W> + ?Sized> Parametrization<W> for Arc<P> {
    fn name(&self) -> &'static str {
        (**self).name()
    }
    fn id(&self) -> String {
        (**self).id()
    }
    fn num_params(&self, b: usize) -> Result<usize> {
        (**self).num_params(b)
    }
    fn forward(&self, b: usize, theta: &[f64], block: &mut [W]) {
        (**self).forward(b, theta, block);
    }
    fn vjp(&self, b: usize, theta: &[f64], block: &[W], d_block: &[W], d_theta: &mut [f64]) {
        (**self).vjp(b, theta, block, d_block, d_theta);
    }
    fn jvp(&self, b: usize, theta: &[f64], block: &[W], d_theta: &[f64], d_block: &mut [W]) {
        (**self).jvp(b, theta, block, d_theta, d_block);
    }
    fn inverse(&self, b: usize, block: &[W], theta: &mut [f64]) -> Result<()> {
        (**self).inverse(b, block, theta)
    }
    fn is_exact(&self) -> bool {
        (**self).is_exact()
    }
    fn starts_at_identity(&self) -> bool {
        (**self).starts_at_identity()
    }
    fn lipschitz(&self, b: usize) -> Option<f64> {
        (**self).lipschitz(b)
    }
    fn forward_batch(&self, b: usize, theta: &[f64], blocks: &mut [W]) {
        (**self).forward_batch(b, theta, blocks);
    }
    fn vjp_batch(&self, b: usize, theta: &[f64], blocks: &[W], d_blocks: &[W], d_theta: &mut [f64]) {
        (**self).vjp_batch(b, theta, blocks, d_blocks, d_theta);
    }
}

/// ‖X − B‖₁ in units of b·eps: what a section leaves. Infinite unless everything is finite.
fn miss<W: Wide>(b: usize, x: &[W], block: &[W]) -> f64 {
    let column = |j: usize| (0..b).map(|i| (x[i * b + j] - block[i * b + j]).abs()).sum::<f64>();
    let sums = (0..b).map(column).fold(0.0, |m: f64, sum| if sum <= m { m } else { sum });
    if sums.is_finite() { sums / (b as f64 * f64::EPSILON) } else { f64::INFINITY }
}
