//! Gradients of entries are sums over the batch: partial ones, of pieces of the batch, added in order.

use alloc::vec::Vec;

use super::Both;
use crate::batch::{Batch, BatchMut};
use crate::parallel::{self, Parallelism, Pool};
use crate::scalar::Element;

/// Partial gradients that are summed in order at the end: enough for a few cores, few enough to stay small.
const PARTIALS: usize = 8;

/// Calls `work` with consecutive vectors, from one to before the other and a multiple of `width`, with their part of `gx`, and
/// with gradients to add to. Those are summed in order at the end.
pub(super) fn in_pieces<E: Element>(
    width: usize,
    gy: Batch<'_, E>,
    gx: Option<BatchMut<'_, E>>,
    d_factors: Option<Both<&mut [E::Scalar]>>,
    parallelism: Parallelism,
    pool: &Pool,
    work: impl Fn((usize, usize), Option<BatchMut<'_, E>>, Option<Both<&mut [E::Scalar]>>) + Send + Sync,
) {
    let chunks = gy.batch().div_ceil(width);
    let pieces = chunks.min(PARTIALS);
    let cuts: Vec<usize> = (1..=pieces).map(|p| (p * chunks / pieces * width).min(gy.batch())).collect();
    let mut d_factors = d_factors;
    let (entries, couplings) = d_factors.as_ref().map_or((0, 0), |d| (d.0.len(), d.1.len()));
    let mut gx: Vec<Option<BatchMut<'_, E>>> = match gx {
        Some(gx) => gx.split(cuts.iter().copied()).map(Some).collect(),
        None => cuts.iter().map(|_| None).collect(),
    };
    if let ([end], Some(gx)) = (&cuts[..], gx.pop_if(|_| pieces == 1)) {
        return work((0, *end), gx, d_factors); // no partial sums
    }
    let numbers = entries + couplings;
    // One after the other they share a partial gradient, which stays in cache.
    let held = if parallelism == Parallelism::None { 1 } else { pieces };
    pool.with(held * numbers, |partials: &mut [E::Scalar]| {
        let mut add = |partial: &[E::Scalar]| {
            if let Some((d_entries, d_couplings)) = &mut d_factors {
                let (entries, couplings) = partial.split_at(entries);
                d_entries.iter_mut().zip(entries).for_each(|(d, p)| *d += *p);
                d_couplings.iter_mut().zip(couplings).for_each(|(d, p)| *d += *p);
            }
        };
        partials.fill(num_traits::Zero::zero());
        let starts = core::iter::once(0).chain(cuts.iter().copied());
        let items = starts.zip(&cuts).zip(gx.drain(..)).map(|((start, end), gx)| (start, *end, gx));
        if held < pieces {
            for (start, end, gx) in items {
                let d = (numbers > 0).then(|| partials.split_at_mut(entries));
                work((start, end), gx, d);
                add(partials);
                partials.fill(num_traits::Zero::zero());
            }
            return;
        }
        let mut gradients = partials.chunks_mut(numbers.max(1));
        let items = items.map(|(start, end, gx)| (start, end, gx, gradients.next().map(|d| d.split_at_mut(entries))));
        parallel::for_each(parallelism, items.collect(), |(start, end, gx, d)| work((start, end), gx, d));
        partials.chunks(numbers.max(1)).for_each(add);
    });
}
