//! Numbers: [`Scalar`] computes, [`Real`] is a real one, [`Wide`] is what charts are evaluated in, [`Element`] is stored.
//!
//! The traits are sealed. Blocks are computed in the wide type of the same field and rounded once, because in single
//! precision the orthogonality of a Cayley block degrades with ‖A‖.

use core::fmt::Debug;
use core::ops::{Add, AddAssign, Mul, Neg, Sub};

use bytemuck::Pod;
use num_complex::Complex;
use num_traits::{Float, One, Zero};

use crate::batch::{Batch, BatchMut};

#[cfg(feature = "half")]
mod half;

/// A complex number in single precision.
#[allow(non_camel_case_types)]
pub type c32 = Complex<f32>;
/// A complex number in double precision.
#[allow(non_camel_case_types)]
pub type c64 = Complex<f64>;

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
    impl Sealed for super::c32 {}
    impl Sealed for super::c64 {}
}

/// A number that blocks and vectors are made of.
pub trait Scalar:
    sealed::Sealed
    + Pod
    + Zero
    + One
    + Neg<Output = Self>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + AddAssign
    + PartialEq
    + Debug
    + Send
    + Sync
    + Element<Scalar = Self>
    + crate::simd::Vectorize
{
    /// The real numbers below it: `f32` for `f32` and `c32`.
    type Real: Real;
    /// The double-precision number of the same field: `f64` for the reals, `c64` for complex numbers.
    type Wide: Wide;
    /// Whether conjugation does anything.
    const IS_COMPLEX: bool;
    /// Whether it is double precision already, its own wide type.
    const IS_WIDE: bool;

    /// Complex conjugate.
    fn conj(self) -> Self;
    /// Real part.
    fn re(self) -> Self::Real;
    /// Imaginary part; zero for real scalars.
    fn im(self) -> Self::Real;
    /// A real number as this scalar.
    fn from_real(re: Self::Real) -> Self;
    /// re + i·im; real scalars have no place for `im` and drop it.
    fn from_parts(re: Self::Real, im: Self::Real) -> Self;
    /// Exact conversion to double precision.
    fn to_wide(self) -> Self::Wide;
    /// Rounded once from double precision.
    fn from_wide(wide: Self::Wide) -> Self;
    /// Absolute value.
    fn abs(self) -> Self::Real;
}

/// A real scalar.
pub trait Real: Scalar<Real = Self, Wide = f64> + Float {
    /// Machine epsilon 2u: the distance from 1 to the next number.
    const EPS: Self;
    /// Name as users write it: `f32`, `f64`.
    const NAME: &'static str;
}

/// A scalar in double precision, in which charts are evaluated.
pub trait Wide: Scalar<Real = f64, Wide = Self> {}
impl Wide for f64 {}
impl Wide for c64 {}

/// A number as it is stored in memory: a scalar itself, or, with the feature `half`, `half::bf16` and `half::f16`, which are
/// computed with as `f32`.
pub trait Element: Copy + Default + Debug + Send + Sync + 'static {
    /// What it is converted to before any arithmetic.
    type Scalar: Scalar;
    /// Conversion on the way in (exact).
    fn load(self) -> Self::Scalar;
    /// Conversion on the way out (rounded once).
    fn store(scalar: Self::Scalar) -> Self;
    /// The same slice seen as scalars, if no conversion is needed.
    fn as_scalars(slice: &[Self]) -> Option<&[Self::Scalar]>;
    /// The same slice seen as scalars, if no conversion is needed.
    fn as_scalars_mut(slice: &mut [Self]) -> Option<&mut [Self::Scalar]>;
    /// The same view of scalars, if no conversion is needed.
    #[doc(hidden)]
    fn scalar_batch<'a, 'b>(_: &'a Batch<'b, Self>) -> Option<&'a Batch<'b, Self::Scalar>> {
        None
    }
    /// The same view of scalars, if no conversion is needed.
    #[doc(hidden)]
    fn scalar_batch_mut<'a, 'b>(_: &'a mut BatchMut<'b, Self>) -> Option<&'a mut BatchMut<'b, Self::Scalar>> {
        None
    }
}

/// A scalar is stored as itself.
macro_rules! element {
    ($t:ident) => {
        impl Element for $t {
            type Scalar = $t;
            #[inline(always)]
            fn load(self) -> $t {
                self
            }
            #[inline(always)]
            fn store(scalar: $t) -> Self {
                scalar
            }
            #[inline(always)]
            fn as_scalars(slice: &[Self]) -> Option<&[$t]> {
                Some(slice)
            }
            #[inline(always)]
            fn as_scalars_mut(slice: &mut [Self]) -> Option<&mut [$t]> {
                Some(slice)
            }
            #[inline(always)]
            fn scalar_batch<'a, 'b>(batch: &'a Batch<'b, $t>) -> Option<&'a Batch<'b, $t>> {
                Some(batch)
            }
            #[inline(always)]
            fn scalar_batch_mut<'a, 'b>(batch: &'a mut BatchMut<'b, $t>) -> Option<&'a mut BatchMut<'b, $t>> {
                Some(batch)
            }
        }
    };
}

macro_rules! real {
    ($t:ident, $is_wide:expr) => {
        impl Scalar for $t {
            type Real = $t;
            type Wide = f64;
            const IS_COMPLEX: bool = false;
            const IS_WIDE: bool = $is_wide;
            #[inline(always)]
            fn conj(self) -> Self {
                self
            }
            #[inline(always)]
            fn re(self) -> $t {
                self
            }
            #[inline(always)]
            fn im(self) -> $t {
                0.0
            }
            #[inline(always)]
            fn from_real(re: $t) -> Self {
                re
            }
            #[inline(always)]
            fn from_parts(re: $t, _im: $t) -> Self {
                re
            }
            #[inline(always)]
            fn to_wide(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn from_wide(wide: f64) -> Self {
                wide as $t
            }
            #[inline(always)]
            fn abs(self) -> $t {
                Float::abs(self)
            }
        }
        impl Real for $t {
            const EPS: $t = $t::EPSILON;
            const NAME: &'static str = stringify!($t);
        }
        element!($t);
    };
}
real!(f32, false);
real!(f64, true);

macro_rules! complex {
    ($t:ident, $real:ident, $is_wide:expr) => {
        impl Scalar for $t {
            type Real = $real;
            type Wide = c64;
            const IS_COMPLEX: bool = true;
            const IS_WIDE: bool = $is_wide;
            #[inline(always)]
            fn conj(self) -> Self {
                Complex::conj(&self)
            }
            #[inline(always)]
            fn re(self) -> $real {
                self.re
            }
            #[inline(always)]
            fn im(self) -> $real {
                self.im
            }
            #[inline(always)]
            fn from_real(re: $real) -> Self {
                Self { re, im: 0.0 }
            }
            #[inline(always)]
            fn from_parts(re: $real, im: $real) -> Self {
                Self { re, im }
            }
            #[inline(always)]
            fn to_wide(self) -> c64 {
                c64 { re: f64::from(self.re), im: f64::from(self.im) }
            }
            #[inline(always)]
            fn from_wide(wide: c64) -> Self {
                Self { re: wide.re as $real, im: wide.im as $real }
            }
            #[inline(always)]
            fn abs(self) -> $real {
                Float::hypot(self.re, self.im)
            }
        }
        element!($t);
    };
}
complex!(c32, f32, false);
complex!(c64, f64, true);

/// Neither NaN nor infinite, in any part.
pub(crate) fn is_finite<T: Scalar>(x: T) -> bool {
    Float::is_finite(x.re()) && Float::is_finite(x.im())
}
