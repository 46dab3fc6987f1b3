//! Blocks and pullbacks of the Cayley chart, one block in each lane of a pack.

use alloc::{vec, vec::Vec};

use super::{Field, plane};
use crate::dense::pack::{Number, Pack};
use crate::dense::skew::{fill_skew, pull_skew, skew_size};
use crate::dense::{invert_unpivoted, newton_schulz, polish_with, product, skew_resolvent_with, subtract_gram, update};
use crate::scalar::Scalar;

/// Largest mean column sum of |I − QᴴQ|, in units of b·eps, that elimination without pivoting may leave. Standard
/// normal parameters leave at most 2 (b ≥ 8) to 6 (b = 3).
const SMALL_DEFECT: f64 = 8.0;
/// Largest ½‖A‖_F², in units of b², with which it is tried. Beyond, a defect does not tell: for A → ∞ a wrong inverse that
/// is merely small gives Q = −I, which is orthogonal.
const SMALL_SQUARES: f64 = 8.0;
/// I + Q is taken from Q unless its mean column sum is below this: then the sum has cancelled, and 2(I + A)⁻¹ is
/// computed again.
const CANCELLED: f64 = 0.125;

/// Blocks of consecutive θ, `T::COUNT` at a time.
#[inline(always)]
pub(super) fn forward_packs<W: Field, T: Pack<W>>(b: usize, theta: &[f64], blocks: &mut [W]) {
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
    let zero = T::from_f64(0.0);
    let (mut q, mut e, mut row) = (vec![zero; size], vec![zero; size], vec![zero; b]);
    let mut safe = Safe::default();
    for (blocks, theta) in blocks.chunks_mut(size * T::COUNT).zip(theta.chunks(p * T::COUNT)) {
        let count = blocks.len() / size;
        let squares = fill_skew::<W, T>(b, &mut q, |at, l| if l < count { theta[l * p + at] } else { 0.0 });
        add_identity(b, &mut q, 1.0);
        invert_unpivoted::<W, T>(b, &mut q, &mut row);
        double_minus_identity(b, &mut q, &mut row);
        let defect = subtract_gram(b, &q, &mut e);
        newton_schulz(b, &mut q, &e, &mut row);
        for (l, (block, theta)) in blocks.chunks_exact_mut(size).zip(theta.chunks_exact(p)).enumerate() {
            let small = SMALL_DEFECT * b as f64 * f64::EPSILON;
            if squares.lane(l).re() <= SMALL_SQUARES * size as f64 && defect.lane(l).re() <= small {
                block.iter_mut().zip(&q).for_each(|(x, q)| *x = q.lane(l));
            } else {
                safe.block(b, theta, block);
            }
        }
    }
}

/// Pullbacks of consecutive blocks, `T::COUNT` at a time: `p` holds Pᴴ, `t` PᴴG, and `g` first G and then PᴴGPᴴ.
#[inline(always)]
pub(super) fn vjp_packs<W: Field, T: Pack<W>>(
    b: usize,
    theta: &[f64],
    blocks: &[W],
    d_blocks: &[W],
    d_theta: &mut [f64],
) {
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
    let (zero, nothing) = (T::from_f64(0.0), W::from_real(0.0));
    let (mut p, mut g, mut t) = (vec![zero; size], vec![zero; size], vec![zero; size]);
    let mut safe = Safe::default();
    let chunks = blocks.chunks(size * T::COUNT).zip(d_blocks.chunks(size * T::COUNT));
    let thetas = theta.chunks(params * T::COUNT).zip(d_theta.chunks_mut(params * T::COUNT));
    for ((blocks, d_blocks), (theta, d_theta)) in chunks.zip(thetas) {
        let count = blocks.len() / size;
        let mut sum = zero;
        for at in 0..size {
            let (i, j) = (at / b, at % b);
            g[at] = T::gather(|l| if l < count { d_blocks[l * size + at] } else { nothing });
            p[at] = T::gather(|l| if l < count { Scalar::conj(blocks[l * size + j * b + i]) } else { nothing });
            if i == j {
                p[at] = p[at] + T::from_f64(1.0);
            }
            sum = sum + p[at].magnitude();
        }
        for (l, theta) in theta.chunks_exact(params).enumerate() {
            if sum.lane(l).re() < CANCELLED * b as f64 {
                let x = safe.resolvent(b, theta);
                let two = W::from_real(2.0);
                (0..size).for_each(|at| p[at].set_lane(l, two * Scalar::conj(x[at % b * b + at / b])));
            }
        }
        product(b, &p, &g, &mut t);
        product(b, &t, &p, &mut g);
        pull_skew::<W, T>(b, &g, -0.5, d_theta);
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
    if p.iter().map(|x| Number::magnitude(*x).re()).sum::<f64>() < CANCELLED * b as f64 {
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

/// Q = 2X − I in place.
#[inline(always)]
fn double_minus_identity<T: Number>(b: usize, x: &mut [T], row: &mut [T]) {
    for (i, x) in x.chunks_exact_mut(b).enumerate() {
        row.copy_from_slice(x);
        update(x, row, |x, y| x + y);
        x[i] = x[i] - T::from_f64(1.0);
    }
}

/// The path for any A, one block at a time, with scratch that is allocated by the first block that needs it.
struct Safe<W> {
    x: Vec<W>,
    row: Vec<W>,
    scratch: Vec<W>,
}

impl<W> Default for Safe<W> {
    fn default() -> Self {
        Self { x: Vec::new(), row: Vec::new(), scratch: Vec::new() }
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
        self.row.resize(b, W::zero());
        double_minus_identity(b, block, &mut self.row);
        polish_with(b, block, &mut self.x, &mut self.row);
    }
}
