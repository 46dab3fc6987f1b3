//! The way out of the wrong component.
//!
//! Over the reals O(b) has two components, and the product of all det B is constant while blocks move continuously. Where stages are rich
//! enough to reach the target, sweeps in the wrong component come to rest where Z = RᴴQ is a reflection, I − 2vvᵀ: ‖Z − I‖²_F = 4, an error
//! of exactly 2/n. Every ZⱼⱼBⱼ is positive semidefinite there, so no block wants to change. Then the parity is chosen deliberately: of all
//! blocks of all stages, the one that loses least (2σ_b) is to have the other determinant, and all determinants are held from then on, so
//! that the way back is closed. If that is no gain in the end, the blocks from before are what counts.

use alloc::vec::Vec;

use super::sweep::Sweeper;
use crate::parallel::Parallelism;
use crate::scalar::Wide;
use crate::simd::Isa;

/// An error within this part of 2/n is that of a reflection.
const TRAP: f64 = 0.05;

/// Error and blocks at the rest.
pub(super) struct Trap<W> {
    error: f64,
    blocks: Vec<Vec<W>>,
}

impl<W: Wide> Trap<W> {
    /// At a rest: if it is that of a reflection, a determinant is reversed, and sweeps should go on.
    pub(super) fn escape(sweeper: &mut Sweeper<'_, W>, n: usize, error: f64, parallelism: Parallelism) -> Option<Self> {
        if W::IS_COMPLEX || (0.5 * error * n as f64 - 1.0).abs() > TRAP {
            return None;
        }
        let blocks = sweeper.stages.iter().map(|stage| stage.blocks.clone()).collect();
        let mut least = (f64::INFINITY, 0, 0);
        for (i, stage) in sweeper.stages.iter_mut().enumerate() {
            let signs = stage.signs(Isa::detect(), parallelism);
            for (j, (found, parity)) in signs.iter().zip(&mut stage.parity).enumerate() {
                *parity = found.sign;
                if found.loss < least.0 {
                    least = (found.loss, i, j);
                }
            }
        }
        let parity = sweeper.stages.get_mut(least.1)?.parity.get_mut(least.2)?;
        *parity = -*parity;
        Some(Self { error, blocks })
    }

    /// The blocks of the rest, if what there is at `error` is no gain.
    pub(super) fn better(self, error: f64) -> Option<Vec<Vec<W>>> {
        (self.error < error).then_some(self.blocks)
    }
}
