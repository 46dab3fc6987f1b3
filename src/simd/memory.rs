//! Registers from and to slices, at any alignment.

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
