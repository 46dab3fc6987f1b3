//! The instruction set, chosen at run time: the same generic kernel compiled for each, through `pulp`.
//!
//! A kernel is a [`Job`]: a struct with one generic method, never a closure (closures lose the target features silently).
//! All machines multiply and add in the same order. Those with fused multiply-add round once per step and agree bit for
//! bit with each other; [`Isa::Portable`] rounds the product and the sum.
//!
//! Everything in a kernel is inlined, or it would lack the machine's features. The operations that kernels are made of are not where
//! debug assertions are on: compiled without optimisation, every use of an inlined function keeps its own variables on the stack,
//! megabytes of them (`tests/stack.rs`). Where such code is optimised nevertheless, the compiler inlines them of its own accord.

use core::marker::PhantomData;
use core::ops::{Add, Neg};

use bytemuck::Pod;
use num_traits::Float;

mod complex;
mod isa;
mod memory;
mod regroup;
mod square;
mod swap;
mod zip;

pub use isa::Isa;
pub(crate) use memory::{LINE, load, prefetch, store};
pub(crate) use regroup::NATURAL;
pub(crate) use square::{MOST, transposed};

/// The operations a kernel may use, on vectors `V` of `LANES` numbers `T`.
pub(crate) trait Lanes<T>: Copy {
    type V: Pod;
    const LANES: usize;
    /// Vector registers.
    const REGISTERS: usize;
    /// Whether `mul_add` rounds once.
    const FUSED: bool;
    /// Four times as many vectors leave half of the machine's registers free.
    const QUARTER: usize;
    fn splat(self, x: T) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a·b + c
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// c − a·b
    fn negate_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Complex conjugates; the vector itself for real numbers.
    fn conj(self, a: Self::V) -> Self::V;
    /// Sum of the lanes by a fixed tree.
    fn sum(self, a: Self::V) -> T;
    /// Lanes in turn: a₀ b₀ a₁ b₁ … in two vectors. Complex numbers: real and imaginary parts each for themselves.
    fn zip(self, a: Self::V, b: Self::V) -> [Self::V; 2];
    /// Runs the job in a function of its own for the same machine, which is compiled once however often it is called.
    fn call<J: Job<T>>(self, job: J);
    /// Two neighbouring vectors from one grouping to another (`simd/regroup.rs`): in grouping t the first one holds the
    /// coordinates whose bit t is 0. Grouping log₂ `LANES`, or any above, is the natural order.
    fn regroup<const FROM: u32, const TO: u32>(self, pair: [Self::V; 2]) -> [Self::V; 2];
    /// Lanes that differ only in this bit of their number change places.
    fn swap<const BIT: u32>(self, a: Self::V) -> Self::V;
}

/// A kernel to be compiled for every machine.
pub(crate) trait Job<T> {
    fn run<S: Lanes<T>>(self, s: S);
}

/// Scalars that have SIMD vectors. Those of complex numbers are two registers, of real and of imaginary parts.
pub trait Vectorize: Sized {
    /// Real parts in 64 bytes: the width of a tile, whatever the machine.
    const WIDTH: usize;
    /// a·b as one lane computes it.
    #[doc(hidden)]
    fn lane_mul<F: Fusing>(a: Self, b: Self) -> Self;
    /// a·b + c as one lane computes it.
    #[doc(hidden)]
    fn lane_mul_add<F: Fusing>(a: Self, b: Self, c: Self) -> Self;
    #[doc(hidden)]
    fn lane_conj(a: Self) -> Self;
    /// Number `v` of a tile's row for a machine with that many lanes, where its vectors expect it.
    #[doc(hidden)]
    fn put(row: &mut [Self], lanes: usize, v: usize, x: Self);
    /// What [`put`](Self::put) has put there.
    #[doc(hidden)]
    fn get(row: &[Self], lanes: usize, v: usize) -> Self;
    #[doc(hidden)]
    #[allow(private_bounds)]
    fn run_with<S: pulp::Simd, J: Job<Self>>(s: S, job: J);
    #[doc(hidden)]
    #[allow(private_bounds)]
    fn run_portable<J: Job<Self>>(job: J);
}

struct WithPulp<T, J>(J, PhantomData<T>);

impl<T: Vectorize, J: Job<T>> pulp::WithSimd for WithPulp<T, J> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, s: S) {
        T::run_with(s, self.0);
    }
}

/// Runs the job compiled for `isa` (or for the portable machine, should the CPU lack it).
pub(crate) fn dispatch<T: Vectorize, J: Job<T>>(isa: Isa, job: J) {
    let job = WithPulp(job, PhantomData);
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => {
            if let Some(v4) = pulp::x86::V4::try_new() {
                return pulp::Simd::vectorize(v4, job);
            }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => {
            if let Some(v3) = pulp::x86::V3::try_new() {
                return pulp::Simd::vectorize(v3, job);
            }
        }
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => {
            if let Some(neon) = pulp::aarch64::Neon::try_new() {
                return pulp::Simd::vectorize(neon, job);
            }
        }
        _ => {}
    }
    T::run_portable(job.0);
}

/// A machine of `pulp`, with fused multiply-add.
#[derive(Clone, Copy)]
pub(crate) struct Fused<S>(S);

/// Bytes of a vector of the portable machine, a register of every common CPU. (Longer arrays become several registers and spill:
/// several times the code, and slower.)
const PORTABLE: usize = Isa::Portable.register_bytes();

/// No assumption about the CPU: short arrays that the compiler vectorises as it can, products rounded. Its operations are written
/// out lane by lane: kernels are made of thousands of them, and so many loops take minutes to compile.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

/// One lane with the rounding of machine `S`: the same bits as any lane of its vectors.
#[derive(Clone, Copy)]
pub(crate) struct OneLane<S>(PhantomData<S>);

impl<S> OneLane<S> {
    #[inline(always)]
    pub(crate) fn of(_: S) -> Self {
        Self(PhantomData)
    }
}

/// Whether a multiply-add rounds once, as a type.
#[doc(hidden)]
pub trait Fusing {
    const FUSED: bool;
}

/// `Fusing` as machine `S` does it.
struct As<S, T>(PhantomData<(S, T)>);
impl<T, S: Lanes<T>> Fusing for As<S, T> {
    const FUSED: bool = S::FUSED;
}

impl<T: Vectorize + Pod + Neg<Output = T> + Add<Output = T>, S: Lanes<T>> Lanes<T> for OneLane<S> {
    type V = T;
    const LANES: usize = 1;
    const REGISTERS: usize = S::REGISTERS;
    const FUSED: bool = S::FUSED;
    const QUARTER: usize = 1;
    #[inline(always)]
    fn splat(self, x: T) -> T {
        x
    }
    #[inline(always)]
    fn add(self, a: T, b: T) -> T {
        a + b
    }
    #[inline(always)]
    fn mul(self, a: T, b: T) -> T {
        T::lane_mul::<As<S, T>>(a, b)
    }
    #[inline(always)]
    fn mul_add(self, a: T, b: T, c: T) -> T {
        T::lane_mul_add::<As<S, T>>(a, b, c)
    }
    #[inline(always)]
    fn negate_mul_add(self, a: T, b: T, c: T) -> T {
        T::lane_mul_add::<As<S, T>>(-a, b, c)
    }
    #[inline(always)]
    fn conj(self, a: T) -> T {
        T::lane_conj(a)
    }
    #[inline(always)]
    fn sum(self, a: T) -> T {
        a
    }
    #[inline(always)]
    fn zip(self, a: T, b: T) -> [T; 2] {
        [a, b]
    }
    #[inline(always)]
    fn call<J: Job<T>>(self, job: J) {
        job.run(self);
    }
    #[inline(always)]
    fn regroup<const FROM: u32, const TO: u32>(self, pair: [T; 2]) -> [T; 2] {
        pair
    }
    #[inline(always)]
    fn swap<const BIT: u32>(self, a: T) -> T {
        a
    }
}

/// a·b + c, rounded as machine `S` rounds real numbers in double precision.
#[inline(always)]
pub(crate) fn lane_mul_add<T: Vectorize, S: Lanes<f64>>(_: S, a: T, b: T, c: T) -> T {
    T::lane_mul_add::<As<S, f64>>(a, b, c)
}

/// Lanes of the vectors that `isa` computes with.
pub(crate) fn lanes<T: Vectorize>(isa: Isa) -> usize {
    struct Count<'a>(&'a mut usize);
    impl<T> Job<T> for Count<'_> {
        fn run<S: Lanes<T>>(self, _: S) {
            *self.0 = S::LANES;
        }
    }
    let mut count = 1;
    dispatch::<T, _>(isa, Count(&mut count));
    count
}

macro_rules! lanes {
    ($t:ident, $v:ident, $lanes:ident, $splat:ident, $mul:ident, $mul_add:ident, $negate_mul_add:ident, $add:ident, $sum:ident, $zip:ident, $regroup:ident, $swap:ident, [$($l:literal)*]) => {
        impl<S: pulp::Simd> Lanes<$t> for Fused<S> {
            type V = S::$v;
            const LANES: usize = S::$lanes;
            const REGISTERS: usize = S::REGISTER_COUNT;
            const FUSED: bool = true;
            const QUARTER: usize = S::REGISTER_COUNT / 8;
            #[inline(always)]
            fn splat(self, x: $t) -> S::$v {
                self.0.$splat(x)
            }
            #[cfg_attr(debug_assertions, inline)]
            #[cfg_attr(not(debug_assertions), inline(always))]
            fn mul(self, a: S::$v, b: S::$v) -> S::$v {
                self.0.$mul(a, b)
            }
            #[cfg_attr(debug_assertions, inline)]
            #[cfg_attr(not(debug_assertions), inline(always))]
            fn add(self, a: S::$v, b: S::$v) -> S::$v {
                self.0.$add(a, b)
            }
            #[cfg_attr(debug_assertions, inline)]
            #[cfg_attr(not(debug_assertions), inline(always))]
            fn mul_add(self, a: S::$v, b: S::$v, c: S::$v) -> S::$v {
                self.0.$mul_add(a, b, c)
            }
            #[cfg_attr(debug_assertions, inline)]
            #[cfg_attr(not(debug_assertions), inline(always))]
            fn negate_mul_add(self, a: S::$v, b: S::$v, c: S::$v) -> S::$v {
                self.0.$negate_mul_add(a, b, c)
            }
            #[inline(always)]
            fn conj(self, a: S::$v) -> S::$v {
                a
            }
            #[inline(always)]
            fn sum(self, a: S::$v) -> $t {
                self.0.$sum(a)
            }
            #[inline(always)]
            fn zip(self, a: S::$v, b: S::$v) -> [S::$v; 2] {
                zip::$zip(self.0, a, b)
            }
            #[inline(always)]
            fn call<J: Job<$t>>(self, job: J) {
                self.0.vectorize(WithPulp(job, PhantomData));
            }
            #[cfg_attr(debug_assertions, inline)]
            #[cfg_attr(not(debug_assertions), inline(always))]
            fn regroup<const FROM: u32, const TO: u32>(self, pair: [S::$v; 2]) -> [S::$v; 2] {
                regroup::$regroup::<S, FROM, TO>(self.0, pair)
            }
            #[cfg_attr(debug_assertions, inline)]
            #[cfg_attr(not(debug_assertions), inline(always))]
            fn swap<const BIT: u32>(self, a: S::$v) -> S::$v {
                swap::$swap::<S, BIT>(self.0, a)
            }
        }

        impl Lanes<$t> for Portable {
            type V = [$t; PORTABLE / size_of::<$t>()];
            const LANES: usize = PORTABLE / size_of::<$t>();
            const REGISTERS: usize = Isa::Portable.registers();
            const FUSED: bool = false;
            const QUARTER: usize = Isa::Portable.registers() / 8;
            #[inline(always)]
            fn splat(self, x: $t) -> Self::V {
                [x; PORTABLE / size_of::<$t>()]
            }
            #[inline(always)]
            fn mul(self, a: Self::V, b: Self::V) -> Self::V {
                [$(a[$l] * b[$l]),*]
            }
            #[inline(always)]
            fn add(self, a: Self::V, b: Self::V) -> Self::V {
                [$(a[$l] + b[$l]),*]
            }
            #[inline(always)]
            fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
                [$(a[$l] * b[$l] + c[$l]),*]
            }
            #[inline(always)]
            fn negate_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
                [$(c[$l] - a[$l] * b[$l]),*]
            }
            #[inline(always)]
            fn conj(self, a: Self::V) -> Self::V {
                a
            }
            #[inline(always)]
            fn sum(self, mut a: Self::V) -> $t {
                let mut half = <Self as Lanes<$t>>::LANES / 2;
                while half > 0 {
                    for l in 0..half {
                        a[l] += a[l + half];
                    }
                    half /= 2;
                }
                a[0]
            }
            #[inline(always)]
            fn zip(self, a: Self::V, b: Self::V) -> [Self::V; 2] {
                zip::lane_by_lane::<$t, Self::V>(a, b)
            }
            #[inline(always)]
            fn call<J: Job<$t>>(self, job: J) {
                <$t>::run_portable(job);
            }
            #[inline(always)]
            fn regroup<const FROM: u32, const TO: u32>(self, pair: [Self::V; 2]) -> [Self::V; 2] {
                regroup::lane_by_lane::<$t, Self::V, FROM, TO>(pair)
            }
            #[inline(always)]
            fn swap<const BIT: u32>(self, a: Self::V) -> Self::V {
                swap::lane_by_lane::<$t, Self::V, BIT>(a)
            }
        }

        impl Vectorize for $t {
            const WIDTH: usize = 64 / size_of::<$t>();
            #[inline(always)]
            fn lane_mul<F: Fusing>(a: $t, b: $t) -> $t {
                a * b
            }
            #[inline(always)]
            fn lane_mul_add<F: Fusing>(a: $t, b: $t, c: $t) -> $t {
                if F::FUSED { Float::mul_add(a, b, c) } else { a * b + c }
            }
            #[inline(always)]
            fn lane_conj(a: $t) -> $t {
                a
            }
            #[inline(always)]
            fn put(row: &mut [$t], _lanes: usize, v: usize, x: $t) {
                row[v] = x;
            }
            #[inline(always)]
            fn get(row: &[$t], _lanes: usize, v: usize) -> $t {
                row[v]
            }
            #[inline(always)]
            #[allow(private_bounds)]
            fn run_with<S: pulp::Simd, J: Job<$t>>(s: S, job: J) {
                job.run(Fused(s));
            }
            #[inline(never)] // jobs are functions of their own, as they are on machines with features
            #[allow(private_bounds)]
            fn run_portable<J: Job<$t>>(job: J) {
                job.run(Portable);
            }
        }
    };
}
lanes!(
    f32,
    f32s,
    F32_LANES,
    splat_f32s,
    mul_f32s,
    mul_add_f32s,
    negate_mul_add_f32s,
    add_f32s,
    reduce_sum_f32s,
    zip_f32s,
    regroup_f32s,
    swap_f32s,
    [0 1 2 3]
);
lanes!(
    f64,
    f64s,
    F64_LANES,
    splat_f64s,
    mul_f64s,
    mul_add_f64s,
    negate_mul_add_f64s,
    add_f64s,
    reduce_sum_f64s,
    zip_f64s,
    regroup_f64s,
    swap_f64s,
    [0 1]
);
