//! Two stages of pairs in one pass over the tile.
//!
//! Pairs at distances d and 2d, in either order, never leave the four rows base + r·d, r < 4. So a pass loads four rows, turns
//! them by both stages in registers, and stores them: half the traffic of two passes, and the same bits, since every output is
//! computed as ever. (Three stages on eight rows are no faster in small tiles and slower in large ones: their entries come in
//! 48 streams.)
//!
//! With base = h·4d + q, the pair of rows that differ in bit t of r is block d·(2h + p) + q of its stage, where p is the other bit.

use bytemuck::Zeroable;

use super::{Step, choose};
use crate::scalar::Scalar;
use crate::simd::Lanes;

/// Stages in a pass.
pub(super) const STAGES: usize = 2;
/// Its rows.
const ROWS: usize = 4;

/// Two stages that fit one pass.
pub(super) struct Pass {
    /// The smaller distance.
    distance: usize,
    /// Whether that comes first.
    ascending: bool,
    /// Coordinates that the stages act on.
    covered: usize,
}

impl Pass {
    /// The first two of `steps` as a pass.
    pub(super) fn of<T: Scalar>(steps: &[Step<'_, T>]) -> Option<Self> {
        let [first, second, ..] = steps else { return None };
        let of = |step: &Step<'_, T>| step.reflectors.map_or_else(|| choose::single_pairs(step.layout), |_| None);
        let ((d1, covered), (d2, also)) = (of(first)?, of(second)?);
        let distance = d1.min(d2);
        let fit = d1.max(d2) == 2 * distance && covered == also;
        fit.then_some(Self { distance, ascending: d1 < d2, covered })
    }

    /// tile ← second(first(tile)), with `registers` vectors `S::V` in each row.
    #[inline(always)]
    pub(super) fn apply<T, S>(&self, s: S, steps: &[Step<'_, T>], tile: &mut [S::V], registers: usize)
    where
        T: Scalar,
        S: Lanes<T>,
    {
        if self.ascending {
            self.turn::<T, S, true>(s, steps, tile, registers);
        } else {
            self.turn::<T, S, false>(s, steps, tile, registers);
        }
    }

    #[inline(always)]
    fn turn<T, S, const ASCENDING: bool>(&self, s: S, steps: &[Step<'_, T>], tile: &mut [S::V], registers: usize)
    where
        T: Scalar,
        S: Lanes<T>,
    {
        let d = self.distance;
        let mut entries = [[[S::V::zeroed(); 4]; ROWS / 2]; STAGES];
        for h in 0..self.covered / (d * ROWS) {
            for q in 0..d {
                for (step, entries) in steps.iter().zip(&mut entries) {
                    for (p, entries) in entries.iter_mut().enumerate() {
                        let block = &step.entries[step.start(d * (h * (ROWS / 2) + p) + q)..];
                        for (at, entry) in entries.iter_mut().enumerate() {
                            *entry = s.splat(step.acting(block[step.strides.at(at / 2, at % 2)]));
                        }
                    }
                }
                let base = h * d * ROWS + q;
                for c in 0..registers {
                    let mut x = [S::V::zeroed(); ROWS];
                    for r in 0..ROWS {
                        x[r] = tile[(base + r * d) * registers + c];
                    }
                    for (k, entries) in entries.iter().enumerate() {
                        let bit = if ASCENDING { k } else { STAGES - 1 - k };
                        for (p, e) in entries.iter().enumerate() {
                            let low = if bit == 0 { 2 * p } else { p };
                            let high = low | 1 << bit;
                            let [a, b] = [x[low], x[high]];
                            x[low] = s.mul_add(e[1], b, s.mul(e[0], a));
                            x[high] = s.mul_add(e[3], b, s.mul(e[2], a));
                        }
                    }
                    for r in 0..ROWS {
                        tile[(base + r * d) * registers + c] = x[r];
                    }
                }
            }
        }
    }
}
