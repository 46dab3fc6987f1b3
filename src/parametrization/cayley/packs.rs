//! Blocks and pullbacks of the Cayley chart, one block in each lane of a pack.

use alloc::{vec, vec::Vec};

use super::quaternions::{has_quaternions, quaternions};
use super::{Field, plane};
use crate::dense::blocks::{load, load_reals, store};
use crate::dense::pack::{Number, Pack};
use crate::dense::register::Memory;
use crate::dense::skew::{fill_skew, fill_skew_packs, pull_skew_packs, skew_size};
use crate::dense::{
    Product, invert_unpivoted, newton_schulz_on, polish_with, product, product_here, product_on, room, scale,
    skew_resolvent_with, squares, subtract_gram_on,
};
use crate::simd::Lanes;

/// Largest ‖I − QᴴQ‖_F, in units of b·eps, that elimination without pivoting may leave. Standard
/// normal parameters leave at most 2 (b ≥ 8) to 6 (b = 3).
const SMALL_DEFECT: f64 = 8.0;
/// Largest Σθ², in units of b², with which it is tried. Beyond, a defect does not tell: for A → ∞ a wrong inverse that
/// is merely small gives Q = −I, which is orthogonal.
const SMALL_SQUARES: f64 = 4.0;
/// P = I + Q is taken from Q unless its trace over b, which is ½‖P‖_F²/b, is below this: then the sum has cancelled, and
/// 2(I + A)⁻¹ is computed again.
const CANCELLED: f64 = 1.0 / 128.0;

/// Blocks of consecutive θ, `T::COUNT` at a time: Q = (½I + ½A)⁻¹ − I.
#[inline(always)]
pub(super) fn forward_packs<W: Field, T: Pack<W>, S: Lanes<f64>>(s: S, b: usize, theta: &[f64], blocks: &mut [W]) {
    let (p, size) = (skew_size::<W>(b), b * b);
    if p == 0 {
        return blocks.fill(W::from_real(1.0));
    }
    if b == W::PLANE {
        for (theta, block) in theta.iter().zip(blocks.chunks_exact_mut(size)) {
            let (c, s, _) = plane(*theta);
            W::turned(c, s, block);
        }
        return;
    }
    if blocks.is_empty() {
        return;
    }
    let zero = T::from_f64(0.0);
    let (mut q, mut e, mut next) = (Memory::zeros(room(b)), Memory::zeros(size), Memory::zeros(size));
    let mut t = vec![zero; p];
    let mut safe = Safe::default();
    for (blocks, theta) in blocks.chunks_mut(size * T::COUNT).zip(theta.chunks(p * T::COUNT)) {
        load_reals::<W, T, S>(s, p, theta, &mut t);
        let half_norm = squares(s, &t);
        let mut defect = zero;
        if has_quaternions::<W>(b) {
            quaternions::<W, T, S>(s, b, &t, &mut next);
        } else {
            scale(s, &T::from_f64(0.5), &mut t);
            fill_skew_packs(s, b, &mut q, &t);
            add_identity(b, &mut q[..size], 0.5);
            invert_unpivoted(s, b, &mut q);
            let q = &mut q[..size];
            add_identity(b, q, -1.0);
            subtract_gram_on(s, b, q, 0.5, &mut e);
            defect = squares(s, &e);
            newton_schulz_on(s, b, q, &e, &mut next);
        }
        store(s, size, &next, blocks);
        for (l, (block, theta)) in blocks.chunks_exact_mut(size).zip(theta.chunks_exact(p)).enumerate() {
            let small = 0.5 * SMALL_DEFECT * b as f64 * f64::EPSILON;
            let squares = half_norm.lane(l).re();
            if !(squares <= SMALL_SQUARES * size as f64 && defect.lane(l).re() <= small * small) {
                safe.block(b, theta, block);
            }
        }
    }
}

/// Pullbacks of consecutive blocks, `T::COUNT` at a time: with N = P GᴴP, which is −2G_Aᴴ, dA = ½(N − Nᴴ).
#[inline(always)]
pub(super) fn vjp_packs<W: Field, T: Pack<W>, S: Lanes<f64>, const B: usize>(
    s: S,
    b: usize,
    theta: &[f64],
    blocks: &[W],
    d_blocks: &[W],
    d_theta: &mut [f64],
) {
    let b = if B == 0 { b } else { B };
    let (params, size) = (skew_size::<W>(b), b * b);
    if params == 0 {
        return;
    }
    if b == W::PLANE {
        // The pullback of a rotation by φ, times dφ/dθ = 2/(1 + θ²).
        for ((theta, g), d_theta) in theta.iter().zip(d_blocks.chunks_exact(size)).zip(d_theta) {
            let (c, s, speed) = plane(*theta);
            *d_theta += speed * W::torque(c, s, g);
        }
        return;
    }
    if blocks.is_empty() {
        return;
    }
    let zero = T::from_f64(0.0);
    let (mut p, mut g, mut t) = (Memory::zeros(size), Memory::zeros(size), Memory::zeros(size));
    // Zeros that change nothing they are added to.
    let mut identity = vec![T::from_f64(-0.0); if T::plain(&p).is_none() { 0 } else { size }];
    identity.iter_mut().step_by(b + 1).for_each(|x| *x = T::from_f64(1.0));
    let mut safe = Safe::default();
    let chunks = blocks.chunks(size * T::COUNT).zip(d_blocks.chunks(size * T::COUNT));
    let thetas = theta.chunks(params * T::COUNT).zip(d_theta.chunks_mut(params * T::COUNT));
    for ((blocks, d_blocks), (theta, d_theta)) in chunks.zip(thetas) {
        load(s, size, d_blocks, &mut g);
        load(s, size, blocks, &mut p);
        if T::plain(&p).is_none() {
            add_identity(b, &mut p, 1.0);
        } else {
            // By whole registers: rows are read at once, and a register that waits for one number of it waits long.
            p.iter_mut().zip(identity.iter()).for_each(|(p, i)| *p = *p + *i);
        }
        let trace = p.iter().step_by(b + 1).fold(zero, |sum, p| sum + *p);
        for (l, theta) in theta.chunks_exact(params).enumerate() {
            if trace.lane(l).re() < CANCELLED * b as f64 {
                let x = safe.resolvent(b, theta);
                let two = W::from_real(2.0);
                p.iter_mut().zip(x).for_each(|(p, x)| p.set_lane(l, two * *x));
            }
        }
        let first = Product { x: &g, adjoint: true, m: &p };
        if const { B == 8 } {
            product_here::<T, S, 8>(s, first, &mut t);
            product_here::<T, S, 8>(s, Product { x: &p, adjoint: false, m: &t }, &mut g);
        } else {
            product_on(s, b, first, &mut t);
            product_on(s, b, Product { x: &p, adjoint: false, m: &t }, &mut g);
        }
        pull_skew_packs(s, b, &g, 0.5, &mut t, d_theta);
    }
}

/// dQ = −½ P dA P for one block.
pub(super) fn pushforward<W: Field>(b: usize, theta: &[f64], block: &[W], d_theta: &[f64], d_block: &mut [W]) {
    let size = b * b;
    if d_theta.is_empty() {
        return d_block.fill(W::zero());
    }
    if b == W::PLANE {
        // A quarter turn ahead of the block, times dφ.
        let (c, s, speed) = plane(theta[0]);
        let rate = speed * d_theta[0];
        return W::turned(0.0 - s * rate, c * rate, d_block);
    }
    let mut p = block.to_vec();
    add_identity(b, &mut p, 1.0);
    if p.iter().step_by(b + 1).map(|x| x.re()).sum::<f64>() < CANCELLED * b as f64 {
        let mut safe: Safe<W> = Safe::default();
        p.iter_mut().zip(safe.resolvent(b, theta)).for_each(|(p, x)| *p = *x + *x);
    }
    let (mut a, mut t) = (vec![W::zero(); size], vec![W::zero(); size]);
    fill_skew::<W, W>(b, &mut a, |at, _| -0.5 * d_theta[at]);
    product(b, &p, &a, &mut t);
    product(b, &t, &p, d_block);
}

/// M + x·I in place.
#[inline(always)]
fn add_identity<T: Number>(b: usize, m: &mut [T], x: f64) {
    for m in m.iter_mut().step_by(b + 1) {
        *m = *m + T::from_f64(x);
    }
}

/// The path for any A, one block at a time, with scratch that is allocated by the first block that needs it.
struct Safe<W> {
    x: Vec<W>,
    next: Vec<W>,
    scratch: Vec<W>,
}

impl<W> Default for Safe<W> {
    fn default() -> Self {
        Self { x: Vec::new(), next: Vec::new(), scratch: Vec::new() }
    }
}

impl<W: Field> Safe<W> {
    /// (I + A)⁻¹.
    fn resolvent(&mut self, b: usize, theta: &[f64]) -> &mut [W] {
        self.x.resize(b * b, W::zero());
        skew_resolvent_with(b, theta, &mut self.x, &mut self.scratch);
        &mut self.x
    }

    /// 2(I + A)⁻¹ − I, polished.
    fn block(&mut self, b: usize, theta: &[f64], block: &mut [W]) {
        block.copy_from_slice(self.resolvent(b, theta));
        self.next.resize(b * b, W::zero());
        block.iter_mut().for_each(|x| *x = *x + *x);
        add_identity(b, block, -1.0);
        polish_with(b, block, &mut self.x, &mut self.next);
    }
}
