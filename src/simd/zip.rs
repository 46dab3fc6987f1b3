//! Interleaving two vectors, of which transposes are made.
//!
//! `pulp`'s generic machine has no such operation, its machines have the instructions. Which machine it is is known when the
//! code is compiled for it, so the questions here cost nothing.

use bytemuck::Pod;

/// On any machine.
#[inline(always)]
pub(super) fn lane_by_lane<T: Pod, V: Pod>(a: V, b: V) -> [V; 2] {
    let mut y = [V::zeroed(); 2];
    let (a, b): (&[T], &[T]) =
        (bytemuck::cast_slice(core::slice::from_ref(&a)), bytemuck::cast_slice(core::slice::from_ref(&b)));
    for (pair, (a, b)) in bytemuck::cast_slice_mut::<V, T>(&mut y).chunks_exact_mut(2).zip(a.iter().zip(b)) {
        (pair[0], pair[1]) = (*a, *b);
    }
    y
}

macro_rules! zip {
    ($name:ident, $t:ident, $v:ident, $index:ident, $lanes:expr, $permute:ident, $low:ident, $high:ident, $halves:ident, $neon_low:ident, $neon_high:ident) => {
        #[inline(always)]
        pub(super) fn $name<S: pulp::Simd>(s: S, a: S::$v, b: S::$v) -> [S::$v; 2] {
            let machine: &dyn core::any::Any = &s;
            #[cfg(target_arch = "x86_64")]
            if let Some(v4) = machine.downcast_ref::<pulp::x86::V4>() {
                const LOW: [$index; $lanes] = turns(0);
                const HIGH: [$index; $lanes] = turns($lanes / 2);
                const fn turns(first: usize) -> [$index; $lanes] {
                    let mut index = [0; $lanes];
                    let mut l = 0;
                    while l < $lanes {
                        index[l] = (first + l / 2 + l % 2 * $lanes) as $index;
                        l += 1;
                    }
                    index
                }
                let (a, b) = (bytemuck::cast(a), bytemuck::cast(b));
                let low = v4.avx512f.$permute(a, bytemuck::cast(LOW), b);
                let high = v4.avx512f.$permute(a, bytemuck::cast(HIGH), b);
                return [bytemuck::cast(low), bytemuck::cast(high)];
            }
            #[cfg(target_arch = "x86_64")]
            if let Some(v3) = machine.downcast_ref::<pulp::x86::V3>() {
                let (a, b) = (bytemuck::cast(a), bytemuck::cast(b));
                // In turn within each half of the register.
                let (low, high) = (v3.avx.$low(a, b), v3.avx.$high(a, b));
                let (first, second) = (v3.avx.$halves::<0x20>(low, high), v3.avx.$halves::<0x31>(low, high));
                return [bytemuck::cast(first), bytemuck::cast(second)];
            }
            #[cfg(target_arch = "aarch64")]
            if let Some(neon) = machine.downcast_ref::<pulp::aarch64::Neon>() {
                let (a, b) = (bytemuck::cast(a), bytemuck::cast(b));
                return [bytemuck::cast(neon.neon.$neon_low(a, b)), bytemuck::cast(neon.neon.$neon_high(a, b))];
            }
            let _ = machine;
            lane_by_lane::<$t, S::$v>(a, b)
        }
    };
}
zip!(
    zip_f32s,
    f32,
    f32s,
    u32,
    16,
    _mm512_permutex2var_ps,
    _mm256_unpacklo_ps,
    _mm256_unpackhi_ps,
    _mm256_permute2f128_ps,
    vzip1q_f32,
    vzip2q_f32
);
zip!(
    zip_f64s,
    f64,
    f64s,
    u64,
    8,
    _mm512_permutex2var_pd,
    _mm256_unpacklo_pd,
    _mm256_unpackhi_pd,
    _mm256_permute2f128_pd,
    vzip1q_f64,
    vzip2q_f64
);
