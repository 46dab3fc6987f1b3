//! Polar factors of blocks by products alone, eight blocks side by side.
//!
//! X ← X·p(XᴴX), p(s) = a + bs + cs², acts on singular values as the odd quintic σ ↦ aσ + bσ³ + cσ⁵. The first three are the best there
//! are in turn: each brings the interval that the one before has left as near to 1 as a quintic can (equal ripples; Remez), from [0.1, 1] on.
//! That such a composition is optimal is a theorem (N. Amsel, D. Persson, C. Musco, R. M. Gower, *The Polar Express*, arXiv 2505.16932); the
//! coefficients are computed from it. Then σ(15 − 10σ² + 3σ⁴)/8 converges with order three, and lets what was below 0.1 catch up. A step is
//! three products of b×b matrices, of which symmetry saves one; five to seven steps do. Jacobi rotations cost about ten times as much, and
//! only they know singular vectors; so they remain for the few blocks that this does not settle: where a singular value is below about
//! 1e-4 of the largest, or where the determinant must be other than that of the polar factor.
//!
//! *Errors.* The result is orthogonal to rounding. Along the group it is off by at most a few eps·σ₁/σ_b, which the objective, a maximum
//! there, knows of only squared.

use num_traits::Float;

use crate::dense::pack::{Pack, Packed};
use crate::dense::register::Memory;
use crate::dense::{EPS, Product, Shape, Sum, blocks, determinant_sign, scale, squares};
use crate::scalar::{Wide, c64};
use crate::simd::{Isa, Job, Lanes, dispatch};

/// From [0.1, 1]: to within 0.45, 0.063, 0.00015 of 1.
const FAR: [[f64; 3]; 3] =
    [[5.603695, -13.883690, 9.733413], [2.130612, -1.511648, 0.401984], [1.879156, -1.254610, 0.375461]];
pub(super) const NEAR: [f64; 3] = [15.0 / 8.0, -10.0 / 8.0, 3.0 / 8.0];
/// ‖I − XᴴX‖ from which convergence of the last one is fast, and from which [`FAR`] may begin with the second.
const CLOSE: f64 = 0.5;
const MIDDLE: f64 = 0.9;
/// A defect that one more step takes to nothing.
const LAST: f64 = 1e-5;
/// Steps, at most.
const STEPS: usize = 16;
/// Larger blocks are computed one by one: eight of them would leave the caches.
pub(super) const PACKED: usize = 32;

/// Blocks that one piece of work settles: whole packs.
pub(super) fn piece(b: usize) -> usize {
    (2048 / (b * b)).next_multiple_of(8).max(8)
}

/// Replaces blocks by their polar factors where that succeeds, and says so by the sign of the determinant in `signs`: ±1, and 1 for
/// complex numbers. 0 says that it does not; what is left in the block then is of no use.
pub(super) fn polar<W: Wide>(b: usize, blocks: &mut [W], signs: &mut [i8], isa: Isa) {
    if W::IS_COMPLEX {
        dispatch(isa, Polar::<c64> { b, blocks: bytemuck::cast_slice_mut(blocks), signs });
    } else {
        dispatch(isa, Polar::<f64> { b, blocks: bytemuck::cast_slice_mut(blocks), signs });
    }
}

struct Polar<'a, W> {
    b: usize,
    blocks: &'a mut [W],
    signs: &'a mut [i8],
}

impl<W: Packed> Job<f64> for Polar<'_, W> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(self, s: S) {
        if self.b <= PACKED { s.call(On::<W, W::Lanes>::of(self)) } else { s.call(On::<W, W>::of(self)) }
    }
}

/// On packs `T`.
struct On<'a, W, T> {
    job: Polar<'a, W>,
    x: Memory<T>,
    next: Memory<T>,
    /// I − XᴴX
    defect: Memory<T>,
    p: Memory<T>,
}

impl<'a, W: Wide, T: Pack<W>> On<'a, W, T> {
    #[inline(always)]
    fn of(job: Polar<'a, W>) -> Self {
        let memory = || Memory::zeros(job.b * job.b);
        Self { x: memory(), next: memory(), defect: memory(), p: memory(), job }
    }
}

impl<W: Wide, T: Pack<W>> Job<f64> for On<'_, W, T> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(self, s: S) {
        let Self { job: Polar { b, blocks, signs }, mut x, mut next, mut defect, mut p } = self;
        let size = b * b;
        for (blocks, signs) in blocks.chunks_mut(size * T::COUNT).zip(signs.chunks_mut(T::COUNT)) {
            blocks::load::<W, T, S>(s, size, blocks, &mut x);
            for l in signs.len()..T::COUNT {
                x.iter_mut().step_by(b + 1).for_each(|x| x.set_lane(l, W::one()));
            }
            gram(s, b, &x, &mut defect);
            let mut off = [f64::INFINITY; 8];
            let mut worst = norms::<W, T, S>(s, &defect, &mut off);
            if worst > MIDDLE || worst.is_nan() {
                shrink::<W, T, S>(s, b, &mut x, &mut defect);
                worst = norms::<W, T, S>(s, &defect, &mut off);
            }
            // What is allowed to be left: what the last step takes out, or rounding.
            let (mut far, mut left) = (0, 4.0 * b as f64 * EPS);
            for _ in 0..STEPS {
                let c = if worst <= CLOSE || far == FAR.len() {
                    NEAR
                } else {
                    far = if worst <= MIDDLE { far.max(1) } else { far } + 1;
                    FAR[far - 1]
                };
                // p(I − E) in powers of E.
                let products = &[Product { x: &defect[..], adjoint: false, m: &defect[..] }];
                let sums = &[(-(c[1] + 2.0 * c[2]), &defect[..])];
                let identity = c[0] + c[1] + c[2];
                Sum { b, shape: Shape::Hermitian, products, scale: c[2], sums, identity, out: &mut p }.on(s);
                let products = &[Product { x: &x[..], adjoint: false, m: &p[..] }];
                let shape = Shape::General;
                Sum { b, shape, products, scale: 1.0, sums: &[], identity: 0.0, out: &mut next }.on(s);
                core::mem::swap(&mut x, &mut next);
                if worst <= LAST {
                    left = LAST;
                    break;
                }
                gram(s, b, &x, &mut defect);
                worst = norms::<W, T, S>(s, &defect, &mut off);
                if worst <= 0.25 * b as f64 * EPS {
                    break;
                }
            }
            blocks::store::<W, T, S>(s, size, &x, blocks);
            let certain = if W::IS_COMPLEX { [1; 8] } else { determinants::<W, T>(b, &mut x) };
            for (l, (sign, block)) in signs.iter_mut().zip(blocks.chunks_exact(size)).enumerate() {
                *sign = match certain[l] {
                    _ if off[l] > left || off[l].is_nan() => 0,
                    0 => determinant_sign(b, &mut block.to_vec()),
                    sign => sign,
                };
            }
        }
    }
}

/// `out` ← I − XᴴX
#[inline(always)]
fn gram<W: Wide, T: Pack<W>, S: Lanes<f64>>(s: S, b: usize, x: &[T], out: &mut [T]) {
    let products = &[Product { x, adjoint: true, m: x }];
    Sum { b, shape: Shape::Hermitian, products, scale: -1.0, sums: &[], identity: 1.0, out }.on(s);
}

/// Frobenius norms in every lane; the largest, or NaN.
#[inline(always)]
fn norms<W: Wide, T: Pack<W>, S: Lanes<f64>>(s: S, m: &[T], norms: &mut [f64; 8]) -> f64 {
    let sums: T = squares(s, m);
    let mut worst = 0.0;
    for (l, norm) in norms.iter_mut().enumerate().take(T::COUNT) {
        *norm = Float::sqrt(sums.lane(l).re());
        worst = if *norm > worst || norm.is_nan() { *norm } else { worst };
    }
    worst
}

/// X ← X/α, where α² = ‖XᴴX‖_F is at least σ₁² and not much more; and its defect.
#[inline(always)]
fn shrink<W: Wide, T: Pack<W>, S: Lanes<f64>>(s: S, b: usize, x: &mut [T], defect: &mut [T]) {
    let one = T::from_f64(1.0);
    let negate = |defect: &mut [T]| {
        defect.iter_mut().for_each(|x| *x = -*x);
        defect.iter_mut().step_by(b + 1).for_each(|x| *x = *x + one);
    };
    negate(defect);
    let mut large = [0.0; 8];
    norms::<W, T, S>(s, defect, &mut large);
    let unit = |x: f64| W::from_real(if x > 0.0 { 1.0 / x } else { 0.0 });
    scale(s, &T::gather(|l| unit(large[l])), defect);
    scale(s, &T::gather(|l| unit(Float::sqrt(large[l]))), x);
    negate(defect);
}

/// Signs of determinants by elimination without pivoting, and 0 where that is not to be relied on: where factors of nearly
/// orthogonal matrices grow so much that their errors reach 1. Overwrites x.
#[inline(always)]
fn determinants<W: Wide, T: Pack<W>>(b: usize, x: &mut [T]) -> [i8; 8] {
    let (mut signs, mut largest) = ([1; 8], T::from_f64(0.0));
    for k in 0..b {
        let (above, below) = x.split_at_mut((k + 1) * b);
        let row = &above[k * b..];
        for (l, sign) in signs.iter_mut().enumerate().take(T::COUNT) {
            *sign = if row[k].lane(l).re() < 0.0 { -*sign } else { *sign };
        }
        let inverse = row[k].recip();
        for below in below.chunks_exact_mut(b) {
            let factor = below[k] * inverse;
            largest = largest + factor.magnitude();
            for (x, y) in below[k + 1..].iter_mut().zip(&row[k + 1..]) {
                *x = *x - factor * *y;
                largest = largest + x.magnitude();
            }
        }
    }
    for (l, sign) in signs.iter_mut().enumerate().take(T::COUNT) {
        let growth = largest.lane(l).re();
        *sign = if growth * growth * EPS < 1e-3 { *sign } else { 0 };
    }
    signs
}
