//! The derivative of all stages along given directions of x and of the blocks: two tiles go through the stages together.
//!
//! With x_{k+1} = F_k x_k the directions obey ẋ_{k+1} = F_k ẋ_k + Ḟ_k x_k. Coordinates that a stage does not name pass
//! through in both tiles.

use alloc::vec::Vec;

use super::compiled::{OnScalars, on_scalars};
use super::drive::Forward;
use super::{Both, Reflectors, Step, choose, pack, reflect, tile};
use crate::batch::{Batch, BatchMut};
use crate::parallel::{self, Parallelism, Pool};
use crate::scalar::{Element, Scalar};
use crate::simd::{self, Isa, Job, Lanes, Vectorize};

/// dy ← the derivative of steps(x) along `dx` (zero if absent) and `d_factors`, the directions of the plan's entries
/// and couplings (likewise).
#[allow(clippy::too_many_arguments)] // one verb, its two optional directions and who runs it
pub(crate) fn apply_jvp<E: Element>(
    steps: &[Step<'_, E::Scalar>],
    x: Batch<'_, E>,
    dx: Option<Batch<'_, E>>,
    d_factors: Option<Both<&[E::Scalar]>>,
    dy: BatchMut<'_, E>,
    isa: Isa,
    parallelism: Parallelism,
    pool: &Pool,
) {
    let (n, batch) = (x.n(), x.batch());
    let lanes = simd::lanes::<E::Scalar>(isa);
    let width = choose::tile_width::<E::Scalar>(n, batch, 2);
    let scratch = super::scratch(steps) * E::Scalar::WIDTH;
    let directions: Option<Vec<_>> = d_factors.map(|(entries, couplings)| {
        let of = |r: Reflectors<'_, _>| &couplings[r.offset..r.offset + r.couplings.len()];
        let directions = steps.iter().map(|step| Step {
            entries: &entries[step.offset..step.offset + step.entries.len()],
            reflectors: step.reflectors.map(|r| Reflectors { couplings: of(r), ..r }),
            ..*step
        });
        directions.collect()
    });
    let cuts = (1..=batch.div_ceil(width)).map(|c| (c * width).min(batch));
    let pieces: Vec<_> = dy
        .split(cuts)
        .scan(0, |start, piece| {
            let from = (x.chunk(*start, piece.batch()), dx.map(|dx| dx.chunk(*start, piece.batch())));
            *start += piece.batch();
            Some((from, piece))
        })
        .collect();
    parallel::for_each(parallelism, pieces, |((x, dx), dy)| {
        pool.with(2 * n * width + scratch, |buffer: &mut [E::Scalar]| {
            let (tile, rest) = buffer.split_at_mut(n * width);
            let (direction, scratch) = rest.split_at_mut(n * width);
            match dx {
                Some(dx) => pack::pack(isa, dx, 0, direction, width, lanes),
                None => direction.fill(num_traits::Zero::zero()),
            }
            if directions.is_some() {
                pack::pack(isa, x, 0, tile, width, lanes);
            }
            let directions = directions.as_deref();
            run(isa, steps, directions, tile, direction, scratch, width);
            pack::unpack(isa, direction, width, lanes, dy, 0);
        });
    });
}

/// `direction` ← `steps` of it + `directions` of `tile`, and tile ← steps(tile), stage by stage.
fn run<T: Scalar>(
    isa: Isa,
    steps: &[Step<'_, T>],
    directions: Option<&[Step<'_, T>]>,
    tile: &mut [T],
    direction: &mut [T],
    scratch: &mut [T],
    width: usize,
) {
    for (k, step) in steps.iter().enumerate() {
        let d_step = directions.map(|directions| &directions[k]);
        if let (Some(d_step), Some(_)) = (d_step, &step.reflectors) {
            reflect::jvp(step, d_step, tile, direction, width);
            continue;
        }
        let steps = core::slice::from_ref(step);
        on_scalars(isa, OnScalars::Forward(Forward { steps, tile: &mut *direction, scratch: &mut *scratch, width }));
        if let Some(step) = d_step {
            on_scalars(isa, OnScalars::Add(Add { step, x: &*tile, tile: &mut *direction, width }));
            on_scalars(isa, OnScalars::Forward(Forward { steps, tile: &mut *tile, scratch: &mut *scratch, width }));
        }
    }
}

/// tile += step(x).
pub(super) struct Add<'a, T> {
    step: &'a Step<'a, T>,
    x: &'a [T],
    tile: &'a mut [T],
    width: usize,
}

impl<T: Scalar> Job<T> for Add<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<T>>(self, s: S) {
        let (x, tile) = (bytemuck::cast_slice(self.x), bytemuck::cast_slice_mut(self.tile));
        tile::add_stage(s, self.step, x, tile, self.width / S::LANES);
    }
}
