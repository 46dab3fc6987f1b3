//! Many blocks at once: in packs, one block in each lane, compiled for each instruction set.
//!
//! Nothing is fused, and a pack of one number runs the same code, so every block has the same bits in any batch and on any
//! instruction set.

use core::marker::PhantomData;

use crate::dense::pack::{Pack, Packed};
use crate::dense::skew::skew_size;
use crate::simd::{Isa, Job, Lanes, dispatch};

/// A chart over skew(-Hermitian) parameters whose blocks can be computed in packs.
pub(super) trait InPacks<W: Packed> {
    /// How many of `count` blocks go in packs of [`Packed::Lanes`]; the others are computed one by one.
    fn packed(b: usize, count: usize) -> usize;
    /// Blocks of consecutive θ, `T::COUNT` at a time.
    fn forward<T: Pack<W>>(b: usize, theta: &[f64], blocks: &mut [W]);
    /// Their pullbacks, added to `d_theta`.
    fn vjp<T: Pack<W>>(b: usize, theta: &[f64], blocks: &[W], d_blocks: &[W], d_theta: &mut [f64]);
}

/// `forward_batch` of the chart.
pub(super) fn forward<C: InPacks<W>, W: Packed>(b: usize, theta: &[f64], blocks: &mut [W]) {
    dispatch(Isa::detect(), Forward { b, theta, blocks, chart: PhantomData::<C> });
}

/// `vjp_batch` of the chart.
pub(super) fn vjp<C: InPacks<W>, W: Packed>(
    b: usize,
    theta: &[f64],
    blocks: &[W],
    d_blocks: &[W],
    d_theta: &mut [f64],
) {
    dispatch(Isa::detect(), Vjp { b, theta, blocks, d_blocks, d_theta, chart: PhantomData::<C> });
}

struct Forward<'a, C, W> {
    b: usize,
    theta: &'a [f64],
    blocks: &'a mut [W],
    chart: PhantomData<C>,
}

impl<C: InPacks<W>, W: Packed> Job<f64> for Forward<'_, C, W> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(self, _: S) {
        let size = self.b * self.b;
        let packed = C::packed(self.b, self.blocks.len() / size.max(1));
        let (theta, rest) = self.theta.split_at(packed * skew_size::<W>(self.b));
        let (blocks, others) = self.blocks.split_at_mut(packed * size);
        C::forward::<W::Lanes>(self.b, theta, blocks);
        C::forward::<W>(self.b, rest, others);
    }
}

struct Vjp<'a, C, W> {
    b: usize,
    theta: &'a [f64],
    blocks: &'a [W],
    d_blocks: &'a [W],
    d_theta: &'a mut [f64],
    chart: PhantomData<C>,
}

impl<C: InPacks<W>, W: Packed> Job<f64> for Vjp<'_, C, W> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(self, _: S) {
        let size = self.b * self.b;
        let packed = C::packed(self.b, self.blocks.len() / size.max(1));
        let params = packed * skew_size::<W>(self.b);
        let (theta, rest) = self.theta.split_at(params);
        let (blocks, others) = self.blocks.split_at(packed * size);
        let (d_blocks, d_others) = self.d_blocks.split_at(packed * size);
        let (d_theta, d_rest) = self.d_theta.split_at_mut(params);
        C::vjp::<W::Lanes>(self.b, theta, blocks, d_blocks, d_theta);
        C::vjp::<W>(self.b, rest, others, d_others, d_rest);
    }
}
