//! Lanes in groups of U neighbours: one number of each group in all its lanes, and squares of U vectors transposed group by group.

use bytemuck::Pod;

/// Which lane goes to lane `l` where number `k` mod `u` of each group of `u` lanes goes to all of them.
const fn broadcast_source(u: usize, k: usize, l: usize) -> usize {
    l / u * u + k % u
}

/// Which of the 2L lanes of two vectors goes to lane `l` of vector `r` where they exchange bit `t` of the lane with the number of
/// the vector.
const fn exchange_source(t: u32, lanes: usize, r: usize, l: usize) -> usize {
    let bit = 1 << t;
    if l & bit == 0 { l + r * bit } else { lanes + l - bit + r * bit }
}

/// On any machine; the compiler finds instructions for it.
#[inline(always)]
pub(super) fn broadcast_lane_by_lane<T: Pod, V: Pod, const U: usize, const K: usize>(a: V) -> V {
    let mut y = V::zeroed();
    let from: &[T] = bytemuck::cast_slice(core::slice::from_ref(&a));
    for (l, y) in bytemuck::cast_slice_mut::<V, T>(core::slice::from_mut(&mut y)).iter_mut().enumerate() {
        *y = from[broadcast_source(U, K, l)];
    }
    y
}

/// On any machine.
#[inline(always)]
pub(super) fn exchange_lane_by_lane<T: Pod, V: Pod, const BIT: u32>(pair: [V; 2]) -> [V; 2] {
    let lanes = size_of::<V>() / size_of::<T>();
    let mut y = [V::zeroed(); 2];
    let from: &[T] = bytemuck::cast_slice(&pair);
    for (at, y) in bytemuck::cast_slice_mut::<V, T>(&mut y).iter_mut().enumerate() {
        *y = from[exchange_source(BIT, lanes, at / lanes, at % lanes)];
    }
    y
}

macro_rules! groups {
    ($broadcast:ident, $exchange:ident, $t:ident, $v:ident, $index:ident, $lanes:literal, $permute2:ident, $($unit:literal $k:literal $permute:ident $control:literal),*) => {
        #[inline(always)]
        pub(super) fn $broadcast<S: pulp::Simd, const U: usize, const K: usize>(s: S, a: S::$v) -> S::$v {
            let machine: &dyn core::any::Any = &s;
            #[cfg(target_arch = "x86_64")]
            if let Some(v4) = machine.downcast_ref::<pulp::x86::V4>() {
                let a = bytemuck::cast(a);
                let y = match (U, K % U) {
                    $(($unit, $k) => v4.avx512f.$permute::<$control>(a),)*
                    _ => a,
                };
                return bytemuck::cast(y);
            }
            let _ = machine;
            broadcast_lane_by_lane::<$t, S::$v, U, K>(a)
        }

        #[inline(always)]
        pub(super) fn $exchange<S: pulp::Simd, const BIT: u32>(s: S, pair: [S::$v; 2]) -> [S::$v; 2] {
            let machine: &dyn core::any::Any = &s;
            #[cfg(target_arch = "x86_64")]
            if let Some(v4) = machine.downcast_ref::<pulp::x86::V4>() {
                let index = const {
                    let mut index = [[0 as $index; $lanes]; 2];
                    let mut at = 0;
                    while at < 2 * $lanes {
                        index[at / $lanes][at % $lanes] =
                            exchange_source(BIT, $lanes, at / $lanes, at % $lanes) as $index;
                        at += 1;
                    }
                    index
                };
                // No closures: they may be compiled without the machine's features.
                let (a, b) = (bytemuck::cast(pair[0]), bytemuck::cast(pair[1]));
                let first = v4.avx512f.$permute2(a, bytemuck::cast(index[0]), b);
                let second = v4.avx512f.$permute2(a, bytemuck::cast(index[1]), b);
                return [bytemuck::cast(first), bytemuck::cast(second)];
            }
            let _ = machine;
            exchange_lane_by_lane::<$t, S::$v, BIT>(pair)
        }
    };
}
groups!(
    broadcast_f32s, exchange_f32s, f32, f32s, u32, 16, _mm512_permutex2var_ps,
    2 0 _mm512_permute_ps 0b10_10_00_00, 2 1 _mm512_permute_ps 0b11_11_01_01,
    4 0 _mm512_permute_ps 0, 4 1 _mm512_permute_ps 0b01_01_01_01,
    4 2 _mm512_permute_ps 0b10_10_10_10, 4 3 _mm512_permute_ps 0b11_11_11_11
);
groups!(
    broadcast_f64s, exchange_f64s, f64, f64s, u64, 8, _mm512_permutex2var_pd,
    2 0 _mm512_permute_pd 0, 2 1 _mm512_permute_pd 0b1111_1111,
    4 0 _mm512_permutex_pd 0, 4 1 _mm512_permutex_pd 0b01_01_01_01,
    4 2 _mm512_permutex_pd 0b10_10_10_10, 4 3 _mm512_permutex_pd 0b11_11_11_11
);
