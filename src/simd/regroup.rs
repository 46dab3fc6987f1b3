//! Two neighbouring vectors exchange lanes, so that pairs of coordinates at any distance lie lane by lane over each other.
//!
//! Two vectors of L lanes hold 2L coordinates. In grouping t the first vector holds, in order, those whose bit t is 0, and the
//! second their partners, whose bit t is 1. Grouping log₂ L, or any above, is the natural order.

#[cfg(target_arch = "x86_64")]
use core::arch::x86_64::{__m256, __m256d};

use bytemuck::Pod;

#[cfg(target_arch = "x86_64")]
use super::zip;

/// The natural order on any machine.
pub(crate) const NATURAL: u32 = 31;

/// The grouping that `t` stands for on a machine with that many lanes.
const fn clamped(t: u32, lanes: usize) -> u32 {
    let natural = lanes.trailing_zeros();
    if t < natural { t } else { natural }
}

/// Coordinate of lane `l` of vector `r` in grouping `t`.
const fn coordinate(t: u32, r: usize, l: usize) -> usize {
    l >> t << (t + 1) | r << t | l & ((1 << t) - 1)
}

/// Where in grouping `t` a coordinate is: in lane l of the first vector as l, of the second as `lanes` + l.
const fn place(t: u32, lanes: usize, c: usize) -> usize {
    (c >> t & 1) * lanes + (c >> (t + 1) << t | c & ((1 << t) - 1))
}

/// From grouping `FROM` to grouping `TO`: which of the 2L lanes goes to lane `l` of vector `r`.
const fn source(from: u32, to: u32, lanes: usize, r: usize, l: usize) -> usize {
    place(clamped(from, lanes), lanes, coordinate(clamped(to, lanes), r, l))
}

/// On any machine; the compiler finds instructions for it.
#[inline(always)]
pub(super) fn lane_by_lane<T: Pod, V: Pod, const FROM: u32, const TO: u32>(pair: [V; 2]) -> [V; 2] {
    let lanes = size_of::<V>() / size_of::<T>();
    if clamped(FROM, lanes) == clamped(TO, lanes) {
        return pair;
    }
    let mut y = [V::zeroed(); 2];
    let from: &[T] = bytemuck::cast_slice(&pair);
    for (at, y) in bytemuck::cast_slice_mut::<V, T>(&mut y).iter_mut().enumerate() {
        *y = from[source(FROM, TO, lanes, at / lanes, at % lanes)];
    }
    y
}

/// Lanes whose number has bit `t` in the first vector change places with those that have not in the second: from grouping t to
/// t + 1, and back.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn exchanged_f32s(v3: pulp::x86::V3, t: u32, [a, b]: [__m256; 2]) -> [__m256; 2] {
    const ODD: i32 = 0b1010_1010;
    let avx = v3.avx;
    match t {
        0 => [
            avx._mm256_blend_ps::<ODD>(a, avx._mm256_moveldup_ps(b)),
            avx._mm256_blend_ps::<ODD>(avx._mm256_movehdup_ps(a), b),
        ],
        1 => exchanged_f64s(v3, 0, [a, b].map(bytemuck::cast)).map(bytemuck::cast),
        _ => [avx._mm256_permute2f128_ps::<0x20>(a, b), avx._mm256_permute2f128_ps::<0x31>(a, b)],
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn exchanged_f64s(v3: pulp::x86::V3, t: u32, [a, b]: [__m256d; 2]) -> [__m256d; 2] {
    let avx = v3.avx;
    match t {
        0 => [avx._mm256_unpacklo_pd(a, b), avx._mm256_unpackhi_pd(a, b)],
        _ => [avx._mm256_permute2f128_pd::<0x20>(a, b), avx._mm256_permute2f128_pd::<0x31>(a, b)],
    }
}

/// From the natural order to grouping 0, in fewer steps than one by one.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn split_f32s(v3: pulp::x86::V3, [a, b]: [__m256; 2]) -> [__m256; 2] {
    let turns = [v3.avx._mm256_shuffle_ps::<0b10_00_10_00>(a, b), v3.avx._mm256_shuffle_ps::<0b11_01_11_01>(a, b)];
    let [a, b]: [__m256d; 2] = turns.map(bytemuck::cast);
    let halves = [v3.avx2._mm256_permute4x64_pd::<0b11_01_10_00>(a), v3.avx2._mm256_permute4x64_pd::<0b11_01_10_00>(b)];
    halves.map(bytemuck::cast)
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn split_f64s(v3: pulp::x86::V3, pair: [__m256d; 2]) -> [__m256d; 2] {
    let [a, b] = exchanged_f64s(v3, 0, pair);
    [v3.avx2._mm256_permute4x64_pd::<0b11_01_10_00>(a), v3.avx2._mm256_permute4x64_pd::<0b11_01_10_00>(b)]
}

macro_rules! regroup {
    ($name:ident, $t:ident, $v:ident, $index:ident, $lanes:literal, $permute:ident, $zip:ident, $exchanged:ident, $split:ident) => {
        #[inline(always)]
        pub(super) fn $name<S: pulp::Simd, const FROM: u32, const TO: u32>(s: S, pair: [S::$v; 2]) -> [S::$v; 2] {
            let lanes = size_of::<S::$v>() / size_of::<$t>();
            if clamped(FROM, lanes) == clamped(TO, lanes) {
                return pair;
            }
            let machine: &dyn core::any::Any = &s;
            #[cfg(target_arch = "x86_64")]
            if let Some(v4) = machine.downcast_ref::<pulp::x86::V4>() {
                let index = const {
                    let mut index = [[0 as $index; $lanes]; 2];
                    let mut at = 0;
                    while at < 2 * $lanes {
                        index[at / $lanes][at % $lanes] = source(FROM, TO, $lanes, at / $lanes, at % $lanes) as $index;
                        at += 1;
                    }
                    index
                };
                // No closures: they may be compiled without the machine's features.
                let (a, b) = (bytemuck::cast(pair[0]), bytemuck::cast(pair[1]));
                let first = v4.avx512f.$permute(a, bytemuck::cast(index[0]), b);
                let second = v4.avx512f.$permute(a, bytemuck::cast(index[1]), b);
                return [bytemuck::cast(first), bytemuck::cast(second)];
            }
            #[cfg(target_arch = "x86_64")]
            if let Some(v3) = machine.downcast_ref::<pulp::x86::V3>() {
                let (from, to) = (clamped(FROM, lanes), clamped(TO, lanes));
                if from == 0 && to == clamped(NATURAL, lanes) {
                    return zip::$zip(s, pair[0], pair[1]);
                }
                let mut pair = [bytemuck::cast(pair[0]), bytemuck::cast(pair[1])];
                if to == 0 && from == clamped(NATURAL, lanes) {
                    pair = $split(*v3, pair);
                    return [bytemuck::cast(pair[0]), bytemuck::cast(pair[1])];
                }
                // Grouping by grouping.
                for t in [0, 1, 2] {
                    if from <= t && t < to {
                        pair = $exchanged(*v3, t, pair);
                    }
                }
                for t in [2, 1, 0] {
                    if to <= t && t < from {
                        pair = $exchanged(*v3, t, pair);
                    }
                }
                return [bytemuck::cast(pair[0]), bytemuck::cast(pair[1])];
            }
            let _ = machine;
            lane_by_lane::<$t, S::$v, FROM, TO>(pair)
        }
    };
}
regroup!(regroup_f32s, f32, f32s, u32, 16, _mm512_permutex2var_ps, zip_f32s, exchanged_f32s, split_f32s);
regroup!(regroup_f64s, f64, f64s, u64, 8, _mm512_permutex2var_pd, zip_f64s, exchanged_f64s, split_f64s);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scalar::Scalar;
    use crate::simd::{Isa, Job, Lanes, dispatch, load, store};

    /// Every regrouping of numbered lanes, and where they should be.
    struct All;

    impl<T: Scalar> Job<T> for All {
        #[inline(always)]
        fn run<S: Lanes<T>>(self, s: S) {
            let mut numbers = [T::zero(); 32];
            for l in 1..32 {
                numbers[l] = numbers[l - 1] + T::one();
            }
            macro_rules! check {
                ($($from:literal: $($to:literal)*),*) => {
                    $($({
                        let pair = [load::<T, S>(&numbers), load::<T, S>(&numbers[S::LANES..])];
                        let [a, b] = s.regroup::<$from, $to>(pair);
                        let mut got = [T::zero(); 32];
                        store::<T, S>(&mut got, a);
                        store::<T, S>(&mut got[S::LANES..], b);
                        for at in 0..2 * S::LANES {
                            let source = source($from, $to, S::LANES, at / S::LANES, at % S::LANES);
                            assert!(got[at] == numbers[source], "{} lanes, {} to {}: {got:?}", S::LANES, $from, $to);
                        }
                    })*)*
                };
            }
            check!(0: 0 1 2 3 31, 1: 0 1 2 3 31, 2: 0 1 2 3 31, 3: 0 1 2 3 31, 31: 0 1 2 3 31);
        }
    }

    #[test]
    fn every_grouping_comes_from_every_other() {
        for isa in Isa::available() {
            dispatch::<f32, _>(isa, All);
            dispatch::<f64, _>(isa, All);
        }
    }
}
