//! Registers from and to slices, at any alignment; and asking for memory beforehand.

#![allow(unsafe_code)] // one hint to the CPU

use bytemuck::Pod;

use super::Lanes;

#[cfg_attr(debug_assertions, inline)]
#[cfg_attr(not(debug_assertions), inline(always))]
pub(crate) fn load<T: Pod, S: Lanes<T>>(from: &[T]) -> S::V {
    bytemuck::pod_read_unaligned(bytemuck::cast_slice(&from[..S::LANES]))
}

#[cfg_attr(debug_assertions, inline)]
#[cfg_attr(not(debug_assertions), inline(always))]
pub(crate) fn store<T: Pod, S: Lanes<T>>(to: &mut [T], x: S::V) {
    to[..S::LANES].copy_from_slice(bytemuck::cast_slice(core::slice::from_ref(&x)));
}

/// Bytes of a cache line of common CPUs.
pub(crate) const LINE: usize = 64;

/// Asks for the cache line of this address, which is going to be read or written, where a machine can be asked. (On others than
/// `x86_64` stable Rust has no way.)
#[inline(always)]
pub(crate) fn prefetch(address: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint to the CPU, which neither reads nor faults, whatever the address; SSE is part of every x86_64.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(core::ptr::without_provenance(address));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
