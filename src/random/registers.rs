//! What a block does with R registers of C to a unit: the stages that mix only them, and signs.
//!
//! Slices of signs have the registers in order; multiplications by ±1 are exact (see [`super::passes`]).

use bytemuck::Zeroable;

use crate::scalar::Scalar;
use crate::simd::{Lanes, load};

/// The body for every number below a constant, written out, so that arrays indexed by it are registers.
macro_rules! unrolled {
    ($i:ident < $count:ident, $body:block) => {{ unrolled!(@ $i < $count, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15); }};
    (@ $i:ident < $count:ident, $body:block, $($number:literal)*) => {
        $(if const { $number < $count } {
            let $i = $number;
            $body
        })*
    };
}
pub(super) use unrolled;

/// The part of an opening round that is among R registers, its signs unless they have been seen to.
#[inline(always)]
pub(super) fn opening<T: Scalar, S: Lanes<T>, const C: usize, const R: usize, const BACK: bool>(
    s: S,
    x: &mut [S::V; R],
    signs: Option<&[T]>,
    factors: &[T],
) {
    let factors = &factors[..R * S::LANES];
    if BACK {
        add::<T, S, R>(s, x, 1, C, true);
        within::<T, S, R>(s, x, 1, true);
        pairs::<T, S, R>(s, x, factors);
        add::<T, S, R>(s, x, C, R, false);
    }
    if let Some(signs) = signs {
        multiply::<T, S, R>(s, x, signs);
    }
    if !BACK {
        add::<T, S, R>(s, x, C, R, true);
        pairs::<T, S, R>(s, x, factors);
        within::<T, S, R>(s, x, 1, false);
        add::<T, S, R>(s, x, 1, C, false);
    }
}

/// Of a middle round.
#[inline(always)]
pub(super) fn middle<T: Scalar, S: Lanes<T>, const C: usize, const R: usize, const BACK: bool>(
    s: S,
    x: &mut [S::V; R],
    signs: &[T],
) {
    if BACK {
        add::<T, S, R>(s, x, C, R, true);
        multiply::<T, S, R>(s, x, signs);
    } else {
        multiply::<T, S, R>(s, x, signs);
        add::<T, S, R>(s, x, C, R, false);
    }
}

/// Of a closing round; `odd` are the signs of odd units among the registers.
#[inline(always)]
pub(super) fn closing<T: Scalar, S: Lanes<T>, const C: usize, const R: usize, const BACK: bool>(
    s: S,
    x: &mut [S::V; R],
    signs: &[T],
    odd: &[T],
) {
    if BACK {
        add::<T, S, R>(s, x, C, R, true);
        if const { C == R } {
            if !odd.is_empty() {
                multiply::<T, S, R>(s, x, odd);
            }
        } else {
            let odd = &odd[..R / 2 * S::LANES];
            unrolled!(r < R, {
                if r & C != 0 {
                    x[r] = s.mul(x[r], load::<T, S>(&odd[(r / (2 * C) * C + r % C) * S::LANES..]));
                }
            });
        }
        add::<T, S, R>(s, x, 1, C, true);
        within::<T, S, R>(s, x, 0, true);
        multiply::<T, S, R>(s, x, signs);
        return;
    }
    multiply::<T, S, R>(s, x, signs);
    within::<T, S, R>(s, x, 0, false);
    add::<T, S, R>(s, x, 1, C, false);
    if const { C == R } {
        if !odd.is_empty() {
            multiply::<T, S, R>(s, x, odd);
        }
    } else {
        let odd = &odd[..R / 2 * S::LANES];
        unrolled!(r < R, {
            if const { C < R } && r & C == 0 {
                let sign = load::<T, S>(&odd[(r / (2 * C) * C + r % C) * S::LANES..]);
                let (a, b) = (x[r], x[(r + C) % R]);
                (x[r], x[(r + C) % R]) = (s.mul_add(b, sign, a), s.negate_mul_add(b, sign, a));
            }
        });
        add::<T, S, R>(s, x, 2 * C, R, false);
    }
}

/// Sums and differences of registers `from`, 2·`from`, … apart, below `to`; the furthest first if `back`.
#[inline(always)]
pub(super) fn add<T: Scalar, S: Lanes<T>, const R: usize>(s: S, x: &mut [S::V; R], from: usize, to: usize, back: bool) {
    // Distances are written out, too: a loop of them might stay one.
    macro_rules! stages {
        ($($distance:literal)*) => {
            $(if const { $distance < R } && from <= $distance && $distance < to {
                stage::<T, S, R, $distance>(s, x);
            })*
        };
    }
    if back {
        stages!(8 4 2 1);
    } else {
        stages!(1 2 4 8);
    }
}

#[inline(always)]
fn stage<T: Scalar, S: Lanes<T>, const R: usize, const DISTANCE: usize>(s: S, x: &mut [S::V; R]) {
    let one = s.splat(T::one());
    unrolled!(r < R, {
        if r & DISTANCE == 0 {
            let (a, b) = (x[r], x[r + DISTANCE]);
            (x[r], x[r + DISTANCE]) = (s.add(a, b), s.negate_mul_add(b, one, a));
        }
    });
}

/// Registers times signs.
#[inline(always)]
fn multiply<T: Scalar, S: Lanes<T>, const R: usize>(s: S, x: &mut [S::V; R], signs: &[T]) {
    let signs = &signs[..R * S::LANES];
    unrolled!(r < R, {
        x[r] = s.mul(x[r], load::<T, S>(&signs[r * S::LANES..]));
    });
}

/// Neighbouring lanes: each times its factor, plus the other. Its own inverse, but for a factor of 2.
#[inline(always)]
fn pairs<T: Scalar, S: Lanes<T>, const R: usize>(s: S, x: &mut [S::V; R], factors: &[T]) {
    unrolled!(r < R, {
        x[r] = s.mul_add(x[r], load::<T, S>(&factors[r * S::LANES..]), s.swap::<0>(x[r]));
    });
}

/// Stages within registers from lanes 2^`first` apart on, the nearest first; the other way round if `back`.
#[inline(always)]
pub(super) fn within<T: Scalar, S: Lanes<T>, const R: usize>(s: S, x: &mut [S::V; R], first: u32, back: bool) {
    macro_rules! lanes {
        ($($bit:literal)*) => {
            $(if const { S::LANES >> $bit > 1 } && $bit >= first {
                lane::<T, S, R, $bit>(s, x);
            })*
        };
    }
    if back {
        lanes!(3 2 1 0);
    } else {
        lanes!(0 1 2 3);
    }
}

/// Sums and differences of lanes that differ in bit `BIT` of their number.
#[inline(always)]
fn lane<T: Scalar, S: Lanes<T>, const R: usize, const BIT: u32>(s: S, x: &mut [S::V; R]) {
    let mut signs = S::V::zeroed();
    for (l, sign) in bytemuck::cast_slice_mut::<S::V, T>(core::slice::from_mut(&mut signs)).iter_mut().enumerate() {
        *sign = if l >> BIT & 1 == 0 { T::one() } else { -T::one() };
    }
    unrolled!(r < R, {
        x[r] = s.mul_add(x[r], signs, s.swap::<BIT>(x[r]));
    });
}
