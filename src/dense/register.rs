//! What matrices of [`Number`]s are computed with: registers of the machine.
//!
//! Loops over the lanes of a pack are left to the compiler, which does not always find the registers in a large function; here
//! they are written down. Each lane rounds as a single number does on the same machine, so the bits are the same.

use core::marker::PhantomData;
use core::ops::{Add, Deref, DerefMut, Mul};
use core::slice::{from_mut, from_ref};

use alloc::{vec, vec::Vec};

use bytemuck::{Pod, Zeroable};

use super::pack::{ComplexLanes, Lanes as RealLanes, Number, recip};
use crate::scalar::{Wide, c64};
use crate::simd::Lanes;

/// Some neighbours in a row of a matrix of `T`, or a part of one of its packs.
pub(crate) trait Register<S, T>: Copy + Add<Output = Self> + Mul<Output = Self> {
    /// Neighbours that it holds.
    const COLUMNS: usize;
    /// As many of them hold all lanes of a number.
    const PARTS: usize;
    /// The same real number everywhere.
    fn constant(s: S, x: f64) -> Self;
    fn load(s: S, row: &[T], part: usize) -> Self;
    fn store(self, row: &mut [T], part: usize);
    /// One number for all columns.
    fn spread(s: S, x: &T, part: usize) -> Self;
    fn conj(self) -> Self;
    fn recip(self) -> Self;
    /// x·y + z, with the machine's roundings.
    fn mul_add(s: S, x: Self, y: Self, z: Self) -> Self;
}

/// Numbers that start at a cache line, so that no register of them crosses one.
pub(crate) struct Memory<T> {
    numbers: Vec<T>,
    start: usize,
    len: usize,
}

/// A cache line, and the widest register, in bytes.
const LINE: usize = 64;

impl<T: Number> Memory<T> {
    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        let spare = LINE / size_of::<T>().clamp(1, LINE) - 1;
        let numbers = vec![T::from_f64(0.0); len + spare];
        let start = numbers.as_ptr().align_offset(LINE).min(spare);
        Self { numbers, start, len }
    }
}

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Self { numbers: Vec::new(), start: 0, len: 0 }
    }
}

impl<T> Deref for Memory<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.numbers[self.start..self.start + self.len]
    }
}

impl<T> DerefMut for Memory<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.numbers[self.start..self.start + self.len]
    }
}

/// One number alone.
impl<S: Lanes<f64>, T: Number> Register<S, T> for T {
    const COLUMNS: usize = 1;
    const PARTS: usize = 1;
    #[inline(always)]
    fn constant(_: S, x: f64) -> Self {
        T::from_f64(x)
    }
    #[inline(always)]
    fn load(_: S, row: &[T], _: usize) -> Self {
        row[0]
    }
    #[inline(always)]
    fn store(self, row: &mut [T], _: usize) {
        row[0] = self;
    }
    #[inline(always)]
    fn spread(_: S, x: &T, _: usize) -> Self {
        *x
    }
    #[inline(always)]
    fn conj(self) -> Self {
        Number::conj(self)
    }
    #[inline(always)]
    fn recip(self) -> Self {
        Number::recip(self)
    }
    #[inline(always)]
    fn mul_add(s: S, x: Self, y: Self, z: Self) -> Self {
        T::mul_add(s, x, y, z)
    }
}

/// Real numbers: a part of a pack, or columns of a matrix of `f64`.
#[derive(Clone, Copy)]
pub(crate) struct Reals<S: Lanes<f64>> {
    s: S,
    v: S::V,
}

impl<S: Lanes<f64>> Reals<S> {
    #[inline(always)]
    fn splat(s: S, x: f64) -> Self {
        Self { s, v: s.splat(x) }
    }
    #[inline(always)]
    fn read(s: S, from: &[f64]) -> Self {
        Self::read_part::<1>(s, from)
    }
    /// The first lanes; the others are zero.
    #[inline(always)]
    fn read_part<const PART: usize>(s: S, from: &[f64]) -> Self {
        let mut v = S::V::zeroed();
        lanes_of(&mut v)[..S::LANES / PART].copy_from_slice(&from[..S::LANES / PART]);
        Self { s, v }
    }
    #[inline(always)]
    fn times_plus(self, y: Self, z: Self) -> Self {
        Self { s: self.s, v: self.s.mul_add(self.v, y.v, z.v) }
    }
    #[inline(always)]
    fn reciprocals(mut self) -> Self {
        for x in lanes_of(&mut self.v) {
            *x = 1.0 / *x;
        }
        self
    }
    #[inline(always)]
    fn write(self, to: &mut [f64]) {
        self.write_part::<1>(to);
    }
    #[inline(always)]
    fn write_part<const PART: usize>(self, to: &mut [f64]) {
        let lanes: &[f64] = bytemuck::cast_slice(from_ref(&self.v));
        to[..S::LANES / PART].copy_from_slice(&lanes[..S::LANES / PART]);
    }
}

#[inline(always)]
fn lanes_of<V: Pod>(v: &mut V) -> &mut [f64] {
    bytemuck::cast_slice_mut(from_mut(v))
}

impl<S: Lanes<f64>> Add for Reals<S> {
    type Output = Self;
    #[inline(always)]
    fn add(self, y: Self) -> Self {
        Self { s: self.s, v: self.s.add(self.v, y.v) }
    }
}

impl<S: Lanes<f64>> Mul for Reals<S> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, y: Self) -> Self {
        Self { s: self.s, v: self.s.mul(self.v, y.v) }
    }
}

impl<S: Lanes<f64>> Register<S, RealLanes> for Reals<S> {
    const COLUMNS: usize = 1;
    const PARTS: usize = RealLanes::WIDTH / S::LANES;
    #[inline(always)]
    fn constant(s: S, x: f64) -> Self {
        Self::splat(s, x)
    }
    #[inline(always)]
    fn load(s: S, row: &[RealLanes], part: usize) -> Self {
        Self::read(s, &row[0].lanes()[part * S::LANES..])
    }
    #[inline(always)]
    fn store(self, row: &mut [RealLanes], part: usize) {
        self.write(&mut row[0].lanes_mut()[part * S::LANES..]);
    }
    #[inline(always)]
    fn spread(s: S, x: &RealLanes, part: usize) -> Self {
        Self::read(s, &x.lanes()[part * S::LANES..])
    }
    #[inline(always)]
    fn conj(self) -> Self {
        self
    }
    #[inline(always)]
    fn recip(self) -> Self {
        self.reciprocals()
    }
    #[inline(always)]
    fn mul_add(_: S, x: Self, y: Self, z: Self) -> Self {
        x.times_plus(y, z)
    }
}

/// Columns of a matrix of plain real numbers, in one `PART`th of a register. (Of complex ones nothing is ever made of these.)
#[derive(Clone, Copy)]
pub(crate) struct Columns<S: Lanes<f64>, W, const PART: usize>(Reals<S>, PhantomData<W>);

impl<S: Lanes<f64>, W, const PART: usize> Add for Columns<S, W, PART> {
    type Output = Self;
    #[inline(always)]
    fn add(self, y: Self) -> Self {
        Self(self.0 + y.0, PhantomData)
    }
}

impl<S: Lanes<f64>, W, const PART: usize> Mul for Columns<S, W, PART> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, y: Self) -> Self {
        Self(self.0 * y.0, PhantomData)
    }
}

impl<S: Lanes<f64>, W: Wide, const PART: usize> Register<S, W> for Columns<S, W, PART> {
    const COLUMNS: usize = S::LANES / PART;
    const PARTS: usize = 1;
    #[inline(always)]
    fn constant(s: S, x: f64) -> Self {
        Self(Reals::splat(s, x), PhantomData)
    }
    #[inline(always)]
    fn load(s: S, row: &[W], _: usize) -> Self {
        Self(Reals::read_part::<PART>(s, bytemuck::cast_slice(row)), PhantomData)
    }
    #[inline(always)]
    fn store(self, row: &mut [W], _: usize) {
        self.0.write_part::<PART>(bytemuck::cast_slice_mut(row));
    }
    #[inline(always)]
    fn spread(s: S, x: &W, _: usize) -> Self {
        Self(Reals::splat(s, x.re()), PhantomData)
    }
    #[inline(always)]
    fn conj(self) -> Self {
        self
    }
    #[inline(always)]
    fn recip(self) -> Self {
        Self(self.0.reciprocals(), PhantomData)
    }
    #[inline(always)]
    fn mul_add(_: S, x: Self, y: Self, z: Self) -> Self {
        Self(x.0.times_plus(y.0, z.0), PhantomData)
    }
}

/// A part of a pack of complex numbers.
#[derive(Clone, Copy)]
pub(crate) struct Complexes<S: Lanes<f64>> {
    re: Reals<S>,
    im: Reals<S>,
}

impl<S: Lanes<f64>> Complexes<S> {
    #[inline(always)]
    fn negative(x: Reals<S>) -> Reals<S> {
        x * Reals::splat(x.s, -1.0)
    }
}

impl<S: Lanes<f64>> Add for Complexes<S> {
    type Output = Self;
    #[inline(always)]
    fn add(self, z: Self) -> Self {
        Self { re: self.re + z.re, im: self.im + z.im }
    }
}

/// As `num_complex` multiplies.
impl<S: Lanes<f64>> Mul for Complexes<S> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, z: Self) -> Self {
        let re = self.re * z.re + Self::negative(self.im) * z.im;
        Self { re, im: self.re * z.im + self.im * z.re }
    }
}

impl<S: Lanes<f64>> Register<S, ComplexLanes> for Complexes<S> {
    const COLUMNS: usize = 1;
    const PARTS: usize = <Reals<S> as Register<S, RealLanes>>::PARTS;
    #[inline(always)]
    fn constant(s: S, x: f64) -> Self {
        Self { re: Reals::splat(s, x), im: Reals::splat(s, 0.0) }
    }
    #[inline(always)]
    fn load(s: S, row: &[ComplexLanes], part: usize) -> Self {
        Self::spread(s, &row[0], part)
    }
    #[inline(always)]
    fn store(self, row: &mut [ComplexLanes], part: usize) {
        let [re, im] = row[0].parts_mut();
        Register::store(self.re, from_mut(re), part);
        Register::store(self.im, from_mut(im), part);
    }
    #[inline(always)]
    fn spread(s: S, x: &ComplexLanes, part: usize) -> Self {
        let [re, im] = x.parts();
        Self { re: Register::spread(s, re, part), im: Register::spread(s, im, part) }
    }
    #[inline(always)]
    fn conj(self) -> Self {
        Self { re: self.re, im: Self::negative(self.im) }
    }
    #[inline(always)]
    fn recip(mut self) -> Self {
        let (re, im) = (lanes_of(&mut self.re.v), lanes_of(&mut self.im.v));
        for (re, im) in re.iter_mut().zip(im) {
            let z = recip(c64 { re: *re, im: *im });
            (*re, *im) = (z.re, z.im);
        }
        self
    }
    #[inline(always)]
    fn mul_add(_: S, x: Self, y: Self, z: Self) -> Self {
        if !S::FUSED {
            return z + x * y;
        }
        let (re, im) = (x.re.times_plus(y.re, z.re), x.re.times_plus(y.im, z.im));
        Self { re: Self::negative(x.im).times_plus(y.im, re), im: x.im.times_plus(y.re, im) }
    }
}
