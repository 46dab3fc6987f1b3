//! Products of blocks, block by block: eight side by side, compiled for each instruction set.

use alloc::vec;
use alloc::vec::Vec;

use bytemuck::{cast_slice, cast_slice_mut};

use super::block_polar::{PACKED, piece};
use crate::dense::pack::{Pack, Packed};
use crate::dense::register::Memory;
use crate::dense::{Product, blocks, product_on};
use crate::parallel::{Parallelism, for_each};
use crate::scalar::{Wide, c64};
use crate::simd::{Isa, Job, Lanes, dispatch};

/// xy of each pair of blocks, or xᴴy.
pub(super) fn products<W: Wide>(
    b: usize,
    x: &[W],
    adjoint: bool,
    y: &[W],
    isa: Isa,
    parallelism: Parallelism,
) -> Vec<W> {
    let (mut all, piece) = (vec![W::zero(); x.len()], b * b * piece(b));
    let items: Vec<_> = all.chunks_mut(piece).zip(x.chunks(piece).zip(y.chunks(piece))).collect();
    for_each(parallelism, items, |(out, (x, y))| {
        if W::IS_COMPLEX {
            let (x, y, out) = (cast_slice(x), cast_slice(y), cast_slice_mut(out));
            dispatch(isa, Products::<c64> { b, x, adjoint, y, out });
        } else {
            let (x, y, out) = (cast_slice(x), cast_slice(y), cast_slice_mut(out));
            dispatch(isa, Products::<f64> { b, x, adjoint, y, out });
        }
    });
    all
}

struct Products<'a, W> {
    b: usize,
    x: &'a [W],
    adjoint: bool,
    y: &'a [W],
    out: &'a mut [W],
}

impl<W: Packed> Job<f64> for Products<'_, W> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(self, s: S) {
        if self.b <= PACKED { self.on::<W::Lanes, S>(s) } else { self.on::<W, S>(s) }
    }
}

impl<W: Wide> Products<'_, W> {
    #[inline(always)]
    fn on<T: Pack<W>, S: Lanes<f64>>(self, s: S) {
        let size = self.b * self.b;
        let [mut x, mut y, mut out] = core::array::from_fn(|_| Memory::<T>::zeros(size));
        let many = size * T::COUNT;
        for (to, (from, right)) in self.out.chunks_mut(many).zip(self.x.chunks(many).zip(self.y.chunks(many))) {
            blocks::load::<W, T, S>(s, size, from, &mut x);
            blocks::load::<W, T, S>(s, size, right, &mut y);
            product_on(s, self.b, Product { x: &x[..], adjoint: self.adjoint, m: &y[..] }, &mut out);
            blocks::store::<W, T, S>(s, size, &out, to);
        }
    }
}
