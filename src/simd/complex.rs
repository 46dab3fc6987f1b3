//! Vectors of complex numbers: two registers, of real and of imaginary parts.

use core::marker::PhantomData;

use super::{Fused, Fusing, Isa, Job, Lanes, Portable, Vectorize, WithPulp};
use crate::scalar::{c32, c64};

/// A product of complex numbers, or its sum with a third, in the order that all machines keep: re·re, −im·im; re·im,
/// im·re; each step a multiply-add of real numbers.
macro_rules! complex_lanes {
    ($t:ident, $real:ident) => {
        /// Real parts, then imaginary parts.
        impl<S: pulp::Simd> Lanes<$t> for Fused<S> {
            type V = [<Self as Lanes<$real>>::V; 2];
            const LANES: usize = <Self as Lanes<$real>>::LANES;
            const REGISTERS: usize = S::REGISTER_COUNT;
            const FUSED: bool = true;
            const QUARTER: usize = <Self as Lanes<$real>>::QUARTER / 2;
            #[inline(always)]
            fn call<J: Job<$t>>(self, job: J) {
                self.0.vectorize(WithPulp(job, PhantomData));
            }
            complex_lanes!(@methods $t, $real);
        }

        impl Lanes<$t> for Portable {
            type V = [<Self as Lanes<$real>>::V; 2];
            const LANES: usize = <Self as Lanes<$real>>::LANES;
            const REGISTERS: usize = Isa::Portable.registers();
            const FUSED: bool = false;
            const QUARTER: usize = 1;
            #[inline(always)]
            fn call<J: Job<$t>>(self, job: J) {
                <$t>::run_portable(job);
            }
            complex_lanes!(@methods $t, $real);
        }

        impl Vectorize for $t {
            const WIDTH: usize = $real::WIDTH;
            #[inline(always)]
            fn lane_mul<F: Fusing>(a: $t, b: $t) -> $t {
                let (re, im) = (a.re * b.re, a.re * b.im);
                $t { re: $real::lane_mul_add::<F>(-a.im, b.im, re), im: $real::lane_mul_add::<F>(a.im, b.re, im) }
            }
            #[inline(always)]
            fn lane_mul_add<F: Fusing>(a: $t, b: $t, c: $t) -> $t {
                let re = $real::lane_mul_add::<F>(a.re, b.re, c.re);
                let im = $real::lane_mul_add::<F>(a.re, b.im, c.im);
                $t { re: $real::lane_mul_add::<F>(-a.im, b.im, re), im: $real::lane_mul_add::<F>(a.im, b.re, im) }
            }
            #[inline(always)]
            fn lane_conj(a: $t) -> $t {
                $t { re: a.re, im: -a.im }
            }
            #[inline(always)]
            fn put(row: &mut [$t], lanes: usize, v: usize, x: $t) {
                let row: &mut [$real] = bytemuck::cast_slice_mut(row);
                let at = v / lanes * 2 * lanes + v % lanes;
                (row[at], row[at + lanes]) = (x.re, x.im);
            }
            #[inline(always)]
            fn get(row: &[$t], lanes: usize, v: usize) -> $t {
                let row: &[$real] = bytemuck::cast_slice(row);
                let at = v / lanes * 2 * lanes + v % lanes;
                $t { re: row[at], im: row[at + lanes] }
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
    (@methods $t:ident, $real:ident) => {
        #[inline(always)]
        fn splat(self, x: $t) -> Self::V {
            [Lanes::<$real>::splat(self, x.re), Lanes::<$real>::splat(self, x.im)]
        }
        #[inline(always)]
        fn add(self, a: Self::V, b: Self::V) -> Self::V {
            [Lanes::<$real>::add(self, a[0], b[0]), Lanes::<$real>::add(self, a[1], b[1])]
        }
        #[inline(always)]
        fn mul(self, a: Self::V, b: Self::V) -> Self::V {
            let re = Lanes::<$real>::mul(self, a[0], b[0]);
            let im = Lanes::<$real>::mul(self, a[0], b[1]);
            let minus = Lanes::<$real>::mul(self, a[1], Lanes::<$real>::splat(self, -1.0));
            [Lanes::<$real>::mul_add(self, minus, b[1], re), Lanes::<$real>::mul_add(self, a[1], b[0], im)]
        }
        #[inline(always)]
        fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
            let re = Lanes::<$real>::mul_add(self, a[0], b[0], c[0]);
            let im = Lanes::<$real>::mul_add(self, a[0], b[1], c[1]);
            let minus = Lanes::<$real>::mul(self, a[1], Lanes::<$real>::splat(self, -1.0));
            [Lanes::<$real>::mul_add(self, minus, b[1], re), Lanes::<$real>::mul_add(self, a[1], b[0], im)]
        }
        #[inline(always)]
        fn negate_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
            let minus = self.splat(-<$t as num_traits::One>::one());
            Lanes::<$t>::mul_add(self, Lanes::<$t>::mul(self, minus, a), b, c)
        }
        #[inline(always)]
        fn conj(self, a: Self::V) -> Self::V {
            [a[0], Lanes::<$real>::mul(self, a[1], Lanes::<$real>::splat(self, -1.0))]
        }
        #[inline(always)]
        fn sum(self, a: Self::V) -> $t {
            $t { re: Lanes::<$real>::sum(self, a[0]), im: Lanes::<$real>::sum(self, a[1]) }
        }
        #[inline(always)]
        fn zip(self, a: Self::V, b: Self::V) -> [Self::V; 2] {
            let (re, im) = (Lanes::<$real>::zip(self, a[0], b[0]), Lanes::<$real>::zip(self, a[1], b[1]));
            [[re[0], im[0]], [re[1], im[1]]]
        }
        #[inline(always)]
        fn regroup<const FROM: u32, const TO: u32>(self, [a, b]: [Self::V; 2]) -> [Self::V; 2] {
            let re = Lanes::<$real>::regroup::<FROM, TO>(self, [a[0], b[0]]);
            let im = Lanes::<$real>::regroup::<FROM, TO>(self, [a[1], b[1]]);
            [[re[0], im[0]], [re[1], im[1]]]
        }
        #[inline(always)]
        fn swap<const BIT: u32>(self, a: Self::V) -> Self::V {
            [Lanes::<$real>::swap::<BIT>(self, a[0]), Lanes::<$real>::swap::<BIT>(self, a[1])]
        }
    };
}
complex_lanes!(c32, f32);
complex_lanes!(c64, f64);
