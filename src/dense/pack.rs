//! One algorithm, two widths: a [`Pack`] is one number, or eight of them from eight different blocks.
//!
//! The lanes never meet, and Rust neither reorders nor contracts floating-point operations; so a block gets the same
//! bits from a pack of one, from any lane of a pack of eight, and beside any neighbours.

use core::array::from_fn;
use core::ops::{Add, Mul, Neg, Sub};

use super::register::{Columns, Complexes, Reals, Register};
use crate::scalar::{Scalar, Wide, c64};
use crate::simd::{Lanes as Machine, lane_mul_add};

/// What matrix products need: a ring with conjugation and absolute values.
pub(crate) trait Number:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Neg<Output = Self>
{
    fn from_f64(x: f64) -> Self;
    fn conj(self) -> Self;
    /// The absolute value as a number of the same kind; |re| + |im| of a complex number, at most √2 times that.
    fn magnitude(self) -> Self;
    fn recip(self) -> Self;
    /// x·y + z, with the machine's roundings.
    fn mul_add<S: Machine<f64>>(s: S, x: Self, y: Self, z: Self) -> Self;
    /// What products compute with where `IN_REGISTERS`: see [`Register`].
    type Register<S: Machine<f64>>: Register<S, Self>;
    /// The same of half as many columns, for what does not fill a register.
    type Half<S: Machine<f64>>: Register<S, Self>;
    /// Otherwise they compute with the numbers as they are.
    const IN_REGISTERS: bool;
    /// The same numbers, if they are plain real ones.
    #[inline(always)]
    fn plain(_: &[Self]) -> Option<&[f64]> {
        None
    }
    /// The same.
    #[inline(always)]
    fn plain_mut(_: &mut [Self]) -> Option<&mut [f64]> {
        None
    }
    /// Whether it holds numbers of several blocks.
    const IS_PACK: bool;
}

impl<W: Wide> Number for W {
    type Register<S: Machine<f64>> = Columns<S, W, 1>;
    type Half<S: Machine<f64>> = Columns<S, W, 2>;
    /// A complex number fills a register's half as it is.
    const IN_REGISTERS: bool = !W::IS_COMPLEX;
    const IS_PACK: bool = false;
    #[inline(always)]
    fn plain(numbers: &[Self]) -> Option<&[f64]> {
        if W::IS_COMPLEX { None } else { Some(bytemuck::cast_slice(numbers)) }
    }
    #[inline(always)]
    fn plain_mut(numbers: &mut [Self]) -> Option<&mut [f64]> {
        if W::IS_COMPLEX { None } else { Some(bytemuck::cast_slice_mut(numbers)) }
    }
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
        let re = f64::abs(self.re());
        W::from_real(if W::IS_COMPLEX { re + f64::abs(self.im()) } else { re })
    }
    #[inline(always)]
    fn recip(self) -> Self {
        if W::IS_COMPLEX { recip(self) } else { W::from_real(1.0 / self.re()) }
    }
    #[inline(always)]
    fn mul_add<S: Machine<f64>>(s: S, x: Self, y: Self, z: Self) -> Self {
        if S::FUSED { lane_mul_add(s, x, y, z) } else { z + x * y }
    }
}

/// Numbers of the field `W` from `COUNT` blocks side by side.
pub(crate) trait Pack<W: Wide = f64>: Number {
    const COUNT: usize;
    /// The pack whose lane `l` holds `f(l)`.
    fn gather(f: impl FnMut(usize) -> W) -> Self;
    fn lane(&self, l: usize) -> W;
    fn set_lane(&mut self, l: usize, x: W);
    /// The lanes of `other` whose mask has all bits set, its own where there are none.
    fn replaced(self, other: Self, mask: &[u64; 8]) -> Self;
    /// The lanes of a pack of real numbers.
    #[inline(always)]
    fn reals(&mut self) -> Option<&mut [f64]> {
        None
    }
}

impl<W: Wide> Pack<W> for W {
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
    fn replaced(self, other: Self, mask: &[u64; 8]) -> Self {
        if mask[0] == 0 { self } else { other }
    }
}

/// A field with a pack of eight.
pub(crate) trait Packed: Wide {
    type Lanes: Pack<Self>;
}
impl Packed for f64 {
    type Lanes = Lanes;
}
impl Packed for c64 {
    type Lanes = ComplexLanes;
}

/// Eight lanes: one AVX-512 register, two of AVX2, four of SSE2 or NEON. The loops are left to the compiler.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(align(64))]
pub(crate) struct Lanes([f64; 8]);

impl Lanes {
    pub(crate) const WIDTH: usize = 8;
    #[inline(always)]
    pub(super) fn lanes(&self) -> &[f64; Self::WIDTH] {
        &self.0
    }
    #[inline(always)]
    pub(super) fn lanes_mut(&mut self) -> &mut [f64; Self::WIDTH] {
        &mut self.0
    }
}

impl Number for Lanes {
    type Register<S: Machine<f64>> = Reals<S>;
    type Half<S: Machine<f64>> = Reals<S>;
    const IN_REGISTERS: bool = true;
    const IS_PACK: bool = true;
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
    #[inline(always)]
    fn recip(self) -> Self {
        Self(self.0.map(|x| 1.0 / x))
    }
    #[inline(always)]
    fn mul_add<S: Machine<f64>>(s: S, x: Self, y: Self, z: Self) -> Self {
        // A loop: a closure may be compiled without the machine's features, and would call a function for each lane.
        let mut sum = z;
        for (l, sum) in sum.0.iter_mut().enumerate() {
            *sum = lane_mul_add(s, x.0[l], y.0[l], *sum);
        }
        sum
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
    fn replaced(mut self, other: Self, mask: &[u64; 8]) -> Self {
        for ((x, y), mask) in self.0.iter_mut().zip(other.0).zip(mask) {
            *x = f64::from_bits(x.to_bits() & !mask | y.to_bits() & mask);
        }
        self
    }
    #[inline(always)]
    fn reals(&mut self) -> Option<&mut [f64]> {
        Some(&mut self.0)
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

/// Complex numbers from eight blocks: their real parts side by side, and their imaginary parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ComplexLanes {
    re: Lanes,
    im: Lanes,
}

impl ComplexLanes {
    #[inline(always)]
    pub(super) fn parts(&self) -> [&Lanes; 2] {
        [&self.re, &self.im]
    }
    #[inline(always)]
    pub(super) fn parts_mut(&mut self) -> [&mut Lanes; 2] {
        [&mut self.re, &mut self.im]
    }
}

impl Number for ComplexLanes {
    type Register<S: Machine<f64>> = Complexes<S>;
    type Half<S: Machine<f64>> = Complexes<S>;
    const IN_REGISTERS: bool = true;
    const IS_PACK: bool = true;
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
    #[inline(always)]
    fn recip(self) -> Self {
        Self::gather(|l| recip(self.lane(l)))
    }
    #[inline(always)]
    fn mul_add<S: Machine<f64>>(s: S, x: Self, y: Self, z: Self) -> Self {
        if !S::FUSED {
            return z + x * y;
        }
        let re = Number::mul_add(s, x.re, y.re, z.re);
        let im = Number::mul_add(s, x.re, y.im, z.im);
        Self { re: Number::mul_add(s, -x.im, y.im, re), im: Number::mul_add(s, x.im, y.re, im) }
    }
}

impl Pack<c64> for ComplexLanes {
    const COUNT: usize = 8;
    #[inline(always)]
    fn gather(f: impl FnMut(usize) -> c64) -> Self {
        let lanes: [c64; 8] = from_fn(f);
        Self { re: Lanes(lanes.map(|z| z.re)), im: Lanes(lanes.map(|z| z.im)) }
    }
    #[inline(always)]
    fn lane(&self, l: usize) -> c64 {
        c64::new(self.re.0[l], self.im.0[l])
    }
    #[inline(always)]
    fn set_lane(&mut self, l: usize, z: c64) {
        (self.re.0[l], self.im.0[l]) = (z.re, z.im);
    }
    #[inline(always)]
    fn replaced(self, other: Self, mask: &[u64; 8]) -> Self {
        Self { re: self.re.replaced(other.re, mask), im: self.im.replaced(other.im, mask) }
    }
}

impl Add for ComplexLanes {
    type Output = Self;
    #[inline(always)]
    fn add(self, z: Self) -> Self {
        Self { re: self.re + z.re, im: self.im + z.im }
    }
}

impl Sub for ComplexLanes {
    type Output = Self;
    #[inline(always)]
    fn sub(self, z: Self) -> Self {
        Self { re: self.re - z.re, im: self.im - z.im }
    }
}

/// As `num_complex` multiplies, so that a lane has the bits of a single number.
impl Mul for ComplexLanes {
    type Output = Self;
    #[inline(always)]
    fn mul(self, z: Self) -> Self {
        Self { re: self.re * z.re - self.im * z.im, im: self.re * z.im + self.im * z.re }
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
    fn a_lane_has_the_bits_of_a_single_number() {
        let z = |l: usize| c64::new((l as f64 * 1.7).sin(), (l as f64 * 0.3 + 1.0).cos());
        let w = |l: usize| c64::new(1.0 / (l as f64 - 2.5), (l as f64).exp());
        let (x, y) = (ComplexLanes::gather(z), ComplexLanes::gather(w));
        for l in 0..8 {
            assert_eq!((x * y).lane(l), z(l) * w(l));
            assert_eq!((x + y).lane(l), z(l) + w(l));
            assert_eq!((x - y).lane(l), z(l) - w(l));
            assert_eq!((-x).lane(l), -z(l));
            assert_eq!(Number::conj(x).lane(l), Number::conj(z(l)));
            assert_eq!(x.magnitude().lane(l), Number::magnitude(z(l)));
            assert_eq!(Number::recip(x).lane(l), Number::recip(z(l)));
        }
    }
}
