//! One algorithm, two widths: a [`Pack`] is one `f64`, or eight of them from eight different blocks.
//!
//! The lanes never meet, and Rust neither reorders nor contracts floating-point operations; so a block gets the same
//! bits from a pack of one, from any lane of a pack of eight, and beside any neighbours.

use core::array::from_fn;
use core::ops::{Add, Mul, Neg, Sub};

use crate::scalar::Wide;

/// What matrix products need: a ring with conjugation and absolute values.
pub(crate) trait Number:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Neg<Output = Self>
{
    fn from_f64(x: f64) -> Self;
    fn conj(self) -> Self;
    /// The absolute value, as a number of the same kind.
    fn magnitude(self) -> Self;
}

impl<W: Wide> Number for W {
    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        W::from_real(x)
    }
    #[inline(always)]
    fn conj(self) -> Self {
        crate::scalar::Scalar::conj(self)
    }
    #[inline(always)]
    fn magnitude(self) -> Self {
        W::from_real(self.abs())
    }
}

/// Real numbers from `COUNT` blocks side by side.
pub(crate) trait Pack: Number {
    const COUNT: usize;
    /// The pack whose lane `l` holds `f(l)`.
    fn gather(f: impl FnMut(usize) -> f64) -> Self;
    fn lane(&self, l: usize) -> f64;
    fn set_lane(&mut self, l: usize, x: f64);
    fn recip(self) -> Self;
}

impl Pack for f64 {
    const COUNT: usize = 1;
    #[inline(always)]
    fn gather(mut f: impl FnMut(usize) -> f64) -> Self {
        f(0)
    }
    #[inline(always)]
    fn lane(&self, _: usize) -> f64 {
        *self
    }
    #[inline(always)]
    fn set_lane(&mut self, _: usize, x: f64) {
        *self = x;
    }
    #[inline(always)]
    fn recip(self) -> Self {
        1.0 / self
    }
}

/// Eight lanes: one AVX-512 register, two of AVX2, four of SSE2 or NEON. The loops are left to the compiler.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(align(64))]
pub(crate) struct Lanes([f64; 8]);

impl Number for Lanes {
    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        Self([x; 8])
    }
    #[inline(always)]
    fn conj(self) -> Self {
        self
    }
    #[inline(always)]
    fn magnitude(self) -> Self {
        Self(self.0.map(f64::abs))
    }
}

impl Pack for Lanes {
    const COUNT: usize = 8;
    #[inline(always)]
    fn gather(f: impl FnMut(usize) -> f64) -> Self {
        Self(from_fn(f))
    }
    #[inline(always)]
    fn lane(&self, l: usize) -> f64 {
        self.0[l]
    }
    #[inline(always)]
    fn set_lane(&mut self, l: usize, x: f64) {
        self.0[l] = x;
    }
    #[inline(always)]
    fn recip(self) -> Self {
        Self(self.0.map(|x| 1.0 / x))
    }
}

macro_rules! lanewise {
    ($($trait:ident $method:ident $op:tt),*) => {$(
        impl $trait for Lanes {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Self(from_fn(|l| self.0[l] $op other.0[l]))
            }
        }
    )*};
}
lanewise!(Add add +, Sub sub -, Mul mul *);

impl Neg for Lanes {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Self(self.0.map(|x| -x))
    }
}

/// The reciprocal of a wide number, through its absolute value so that nothing overflows early.
#[inline(always)]
pub(crate) fn recip<W: Wide>(z: W) -> W {
    let r = W::from_real(1.0 / z.abs());
    Number::conj(z) * r * r
}
