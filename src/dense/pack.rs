//! One algorithm, two widths: a [`Pack`] is one number, or eight of them from eight different blocks.
//!
//! The lanes never meet, and Rust neither reorders nor contracts floating-point operations; so a block gets the same
//! bits from a pack of one, from any lane of a pack of eight, and beside any neighbours.

use core::array::from_fn;
use core::ops::{Add, Mul, Neg, Sub};

use crate::scalar::{Scalar, Wide, c64};

/// What matrix products need: a ring with conjugation and absolute values.
pub(crate) trait Number:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Neg<Output = Self>
{
    fn from_f64(x: f64) -> Self;
    fn conj(self) -> Self;
    /// The absolute value, as a number of the same kind; of a complex number |re| + |im|, which is at most √2 larger and
    /// takes no root.
    fn magnitude(self) -> Self;
}

impl<W: Wide> Number for W {
    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        W::from_real(x)
    }
    #[inline(always)]
    fn conj(self) -> Self {
        Scalar::conj(self)
    }
    #[inline(always)]
    fn magnitude(self) -> Self {
        if W::IS_COMPLEX { W::from_real(self.re().abs() + self.im().abs()) } else { W::from_real(self.abs()) }
    }
}

/// Numbers from `COUNT` blocks side by side.
pub(crate) trait Pack: Number {
    /// What the blocks are made of.
    type Entry: Wide;
    const COUNT: usize;
    /// The pack whose lane `l` holds `f(l)`.
    fn gather(f: impl FnMut(usize) -> Self::Entry) -> Self;
    fn lane(&self, l: usize) -> Self::Entry;
    fn set_lane(&mut self, l: usize, x: Self::Entry);
    /// 1/x; for complex numbers by the plain formula, which wants |x|² in range.
    fn recip(self) -> Self;
}

impl<W: Wide> Pack for W {
    type Entry = W;
    const COUNT: usize = 1;
    #[inline(always)]
    fn gather(mut f: impl FnMut(usize) -> W) -> Self {
        f(0)
    }
    #[inline(always)]
    fn lane(&self, _: usize) -> W {
        *self
    }
    #[inline(always)]
    fn set_lane(&mut self, _: usize, x: W) {
        *self = x;
    }
    #[inline(always)]
    fn recip(self) -> Self {
        if !W::IS_COMPLEX {
            return W::from_real(1.0 / self.re());
        }
        let r = 1.0 / (self.re() * self.re() + self.im() * self.im());
        W::from_parts(self.re() * r, -(self.im() * r))
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
    type Entry = f64;
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

/// Eight complex lanes, with the arithmetic of one [`c64`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ComplexLanes {
    re: Lanes,
    im: Lanes,
}

impl Number for ComplexLanes {
    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        Self { re: Lanes::from_f64(x), im: Lanes::from_f64(0.0) }
    }
    #[inline(always)]
    fn conj(self) -> Self {
        Self { re: self.re, im: -self.im }
    }
    #[inline(always)]
    fn magnitude(self) -> Self {
        Self { re: self.re.magnitude() + self.im.magnitude(), im: Lanes::from_f64(0.0) }
    }
}

impl Pack for ComplexLanes {
    type Entry = c64;
    const COUNT: usize = 8;
    #[inline(always)]
    fn gather(mut f: impl FnMut(usize) -> c64) -> Self {
        let mut z = Self::from_f64(0.0);
        (0..8).for_each(|l| z.set_lane(l, f(l)));
        z
    }
    #[inline(always)]
    fn lane(&self, l: usize) -> c64 {
        c64 { re: self.re.0[l], im: self.im.0[l] }
    }
    #[inline(always)]
    fn set_lane(&mut self, l: usize, x: c64) {
        (self.re.0[l], self.im.0[l]) = (x.re, x.im);
    }
    #[inline(always)]
    fn recip(self) -> Self {
        let r = (self.re * self.re + self.im * self.im).recip();
        Self { re: self.re * r, im: -(self.im * r) }
    }
}

impl Add for ComplexLanes {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self { re: self.re + other.re, im: self.im + other.im }
    }
}

impl Sub for ComplexLanes {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self { re: self.re - other.re, im: self.im - other.im }
    }
}

impl Mul for ComplexLanes {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self { re: self.re * other.re - self.im * other.im, im: self.re * other.im + self.im * other.re }
    }
}

impl Neg for ComplexLanes {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Self { re: -self.re, im: -self.im }
    }
}

/// The reciprocal of a wide number, through its absolute value so that nothing overflows early.
#[inline(always)]
pub(crate) fn recip<W: Wide>(z: W) -> W {
    let r = W::from_real(1.0 / z.abs());
    Number::conj(z) * r * r
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complex_lane_computes_as_one_complex_number_does() {
        let x = |l: usize| c64 { re: 0.3 + l as f64, im: 1.0 / (1.0 + l as f64) };
        let y = |l: usize| c64 { re: (l as f64).sin(), im: -0.7 };
        let (xs, ys) = (ComplexLanes::gather(x), ComplexLanes::gather(y));
        for l in 0..8 {
            let (x, y) = (x(l), y(l));
            assert_eq!((xs * ys).lane(l), x * y);
            assert_eq!((xs + ys - -xs.conj()).lane(l), x + y - -Number::conj(x));
            assert_eq!(xs.recip().lane(l), Pack::recip(x));
            assert_eq!(ys.magnitude().lane(l), Number::magnitude(y));
            assert!((xs * xs.recip() - ComplexLanes::from_f64(1.0)).magnitude().lane(l).re <= 4e-16);
        }
    }
}
