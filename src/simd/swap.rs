//! Lanes that differ in one bit of their number change places.

use bytemuck::Pod;

/// On any machine; the compiler finds instructions for it.
#[inline(always)]
pub(super) fn lane_by_lane<T: Pod, V: Pod, const BIT: u32>(a: V) -> V {
    let mut y = V::zeroed();
    let from: &[T] = bytemuck::cast_slice(core::slice::from_ref(&a));
    for (l, y) in bytemuck::cast_slice_mut::<V, T>(core::slice::from_mut(&mut y)).iter_mut().enumerate() {
        *y = from[l ^ (1 << BIT)];
    }
    y
}

macro_rules! swap {
    ($name:ident, $t:ident, $v:ident, v4: $($bit4:literal $feature4:ident $permute4:ident $control4:literal $(twice $twice4:ident)?),*; v3: $($bit3:literal $permute3:ident $control3:literal $(twice $twice3:ident)?),*) => {
        #[inline(always)]
        pub(super) fn $name<S: pulp::Simd, const BIT: u32>(s: S, a: S::$v) -> S::$v {
            let machine: &dyn core::any::Any = &s;
            #[cfg(target_arch = "x86_64")]
            if let Some(v4) = machine.downcast_ref::<pulp::x86::V4>() {
                let a = bytemuck::cast(a);
                let y = match BIT {
                    $($bit4 => v4.$feature4.$permute4::<$control4>(a $(, $twice4(a))?),)*
                    _ => a,
                };
                return bytemuck::cast(y);
            }
            #[cfg(target_arch = "x86_64")]
            if let Some(v3) = machine.downcast_ref::<pulp::x86::V3>() {
                let a = bytemuck::cast(a);
                let y = match BIT {
                    $($bit3 => v3.avx.$permute3::<$control3>(a $(, $twice3(a))?),)*
                    _ => a,
                };
                return bytemuck::cast(y);
            }
            let _ = machine;
            lane_by_lane::<$t, S::$v, BIT>(a)
        }
    };
}
/// The second operand of a shuffle of two vectors.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn same<V>(a: V) -> V {
    a
}
swap!(
    swap_f32s, f32, f32s,
    v4: 0 avx512f _mm512_permute_ps 0b10_11_00_01, 1 avx512f _mm512_permute_ps 0b01_00_11_10,
        2 avx512f _mm512_shuffle_f32x4 0b10_11_00_01 twice same, 3 avx512f _mm512_shuffle_f32x4 0b01_00_11_10 twice same;
    v3: 0 _mm256_permute_ps 0b10_11_00_01, 1 _mm256_permute_ps 0b01_00_11_10, 2 _mm256_permute2f128_ps 1 twice same
);
swap!(
    swap_f64s, f64, f64s,
    v4: 0 avx512f _mm512_permute_pd 0b01_01_01_01, 1 avx512f _mm512_permutex_pd 0b01_00_11_10,
        2 avx512f _mm512_shuffle_f64x2 0b01_00_11_10 twice same;
    v3: 0 _mm256_permute_pd 0b0101, 1 _mm256_permute2f128_pd 1 twice same
);
