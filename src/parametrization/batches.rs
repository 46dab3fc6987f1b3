//! Many blocks at once: in packs, one block in each lane, compiled for each instruction set.
//!
//! A pack of one number runs the same code, so every block has the same bits in any batch. All instruction sets with a fused
//! multiply-add agree, too.

use core::marker::PhantomData;

use crate::dense::pack::{Pack, Packed};
use crate::dense::skew::skew_size;
use crate::simd::{Isa, Job, Lanes, dispatch};

/// A chart over skew(-Hermitian) parameters whose blocks can be computed in packs.
pub(super) trait InPacks<W: Packed> {
    /// How many of `count` blocks go in packs of [`Packed::Lanes`]; the others are computed one by one.
    fn packed(b: usize, count: usize) -> usize;
    /// The same for pullbacks, on a machine whose registers hold that many numbers.
    fn packed_vjp(b: usize, count: usize, _lanes: usize) -> usize {
        Self::packed(b, count)
    }
    /// Blocks of consecutive θ, `T::COUNT` at a time, on machine `s`.
    fn forward<T: Pack<W>, S: Lanes<f64>>(s: S, b: usize, theta: &[f64], blocks: &mut [W]);
    /// Their pullbacks, added to `d_theta`.
    fn vjp<T: Pack<W>, S: Lanes<f64>>(s: S, b: usize, theta: &[f64], blocks: &[W], d_blocks: &[W], d_theta: &mut [f64]);
}

/// `forward` and `forward_batch` of the chart.
pub(super) fn forward<C: InPacks<W>, W: Packed>(b: usize, theta: &[f64], blocks: &mut [W]) {
    forward_on::<C, W>(Isa::detect(), b, theta, blocks);
}

/// `vjp` and `vjp_batch` of the chart.
pub(super) fn vjp<C: InPacks<W>, W: Packed>(
    b: usize,
    theta: &[f64],
    blocks: &[W],
    d_blocks: &[W],
    d_theta: &mut [f64],
) {
    vjp_on::<C, W>(Isa::detect(), b, theta, blocks, d_blocks, d_theta);
}

fn forward_on<C: InPacks<W>, W: Packed>(isa: Isa, b: usize, theta: &[f64], blocks: &mut [W]) {
    dispatch(isa, Forward { b, theta, blocks, chart: PhantomData::<C> });
}

fn vjp_on<C: InPacks<W>, W: Packed>(
    isa: Isa,
    b: usize,
    theta: &[f64],
    blocks: &[W],
    d_blocks: &[W],
    d_theta: &mut [f64],
) {
    dispatch(isa, Vjp { b, theta, blocks, d_blocks, d_theta, chart: PhantomData::<C> });
}

struct Forward<'a, C, W> {
    b: usize,
    theta: &'a [f64],
    blocks: &'a mut [W],
    chart: PhantomData<C>,
}

impl<C: InPacks<W>, W: Packed> Job<f64> for Forward<'_, C, W> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(self, s: S) {
        let size = self.b * self.b;
        let packed = C::packed(self.b, self.blocks.len() / size.max(1));
        let (theta, rest) = self.theta.split_at(packed * skew_size::<W>(self.b));
        let (blocks, others) = self.blocks.split_at_mut(packed * size);
        C::forward::<W::Lanes, S>(s, self.b, theta, blocks);
        C::forward::<W, S>(s, self.b, rest, others);
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
    fn run<S: Lanes<f64>>(self, s: S) {
        let size = self.b * self.b;
        let packed = C::packed_vjp(self.b, self.blocks.len() / size.max(1), S::LANES);
        let params = packed * skew_size::<W>(self.b);
        let (theta, rest) = self.theta.split_at(params);
        let (blocks, others) = self.blocks.split_at(packed * size);
        let (d_blocks, d_others) = self.d_blocks.split_at(packed * size);
        let (d_theta, d_rest) = self.d_theta.split_at_mut(params);
        C::vjp::<W::Lanes, S>(s, self.b, theta, blocks, d_blocks, d_theta);
        C::vjp::<W, S>(s, self.b, rest, others, d_others, d_rest);
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use super::*;
    use crate::generator::Generator;
    use crate::parametrization::{Cayley, Exponential};
    use crate::scalar::c64;

    fn bits<W: Packed>(numbers: &[W]) -> Vec<u64> {
        numbers.iter().flat_map(|x| [x.re().to_bits(), x.im().to_bits()]).collect()
    }

    /// The largest difference, and the largest number.
    fn distance<W: Packed>(x: &[W], y: &[W]) -> (f64, f64) {
        assert!(x.iter().chain(y).all(|x| x.re().is_finite() && x.im().is_finite()));
        let largest = |m: f64, x: W| m.max(x.re().abs()).max(x.im().abs());
        let miss = x.iter().zip(y).fold(0.0, |m, (x, y)| largest(m, *x - *y));
        (miss, y.iter().fold(0.0, |m, y| largest(m, *y)))
    }

    /// Moderate, small and large parameters, so that lanes of a pack take different paths.
    fn same_on_every_machine<C: InPacks<W>, W: Packed>() {
        let mut g = Generator::new(9);
        for b in (1..=9).chain([12, 15, 16, 17, 32, 33]) {
            for count in [1, 5, 8, 21] {
                let p = skew_size::<W>(b);
                let scales = [1.0, 0.1, 1e3, 1.0, 4.0];
                let mut number = |at: usize| (g.uniform() - 0.5) * scales[at / p.max(1) % 5];
                let theta: Vec<f64> = (0..count * p).map(&mut number).collect();
                let cotangent: Vec<W> = (0..count * b * b).map(|_| W::from_parts(number(0), number(0))).collect();
                let results = Isa::available().into_iter().map(|isa| {
                    let (mut blocks, mut d) = (vec![W::zero(); count * b * b], vec![0.25; count * p]);
                    forward_on::<C, W>(isa, b, &theta, &mut blocks);
                    vjp_on::<C, W>(isa, b, &theta, &blocks, &cotangent, &mut d);
                    (isa, blocks, d)
                });
                let results: Vec<_> = results.collect();
                let fused = results.iter().find(|(isa, ..)| *isa != Isa::Portable);
                for (isa, blocks, d) in &results {
                    if let (Some((_, same, same_d)), true) = (fused, *isa != Isa::Portable) {
                        assert!(bits(blocks) == bits(same), "blocks, {isa:?}, b = {b}, {count} of them");
                        assert!(bits(d) == bits(same_d), "gradients, {isa:?}, b = {b}, {count} of them");
                    }
                    // With other roundings: angles of 10³ carry an error of 10³ units.
                    let (miss, size) = distance(blocks, &results[0].1);
                    assert!(miss <= 1e-11 * size, "blocks, {isa:?}, b = {b}, {count} of them: {miss:e}");
                    let (miss, size) = distance(d, &results[0].2);
                    assert!(miss <= 1e-9 * size, "gradients, {isa:?}, b = {b}, {count} of them: {miss:e}");
                }
            }
        }
    }

    #[test]
    fn blocks_and_gradients_are_the_same_on_every_machine() {
        same_on_every_machine::<Cayley, f64>();
        same_on_every_machine::<Cayley, c64>();
        same_on_every_machine::<Exponential, f64>();
        same_on_every_machine::<Exponential, c64>();
    }
}
