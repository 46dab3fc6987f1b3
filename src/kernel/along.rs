//! Along the vector: for strided stages the lanes are neighbouring coordinates, one per neighbouring block, so one
//! vector is served where it lies, without any transpose.
//!
//! Such a stage is stored planar (entry (i, k) of neighbouring blocks side by side) and has runs of single coordinates
//! at least a register apart.

use bytemuck::{Pod, Zeroable};

use super::{Step, apply_stage};
use crate::layout::StageLayout;
use crate::scalar::Scalar;
use crate::simd::{Lanes, OneLane};

/// vector ← all steps(vector), in place. `scratch` holds at least a block size of numbers.
#[inline(always)]
pub(super) fn run<T, S>(s: S, steps: &[Step<'_, T>], vector: &mut [T], scratch: &mut [T])
where
    T: Scalar,
    S: Lanes<T>,
{
    for step in steps {
        match step.layout {
            StageLayout::Strided { radix, distance, groups, .. } if step.planar => {
                for g in 0..*groups {
                    let group = &mut vector[g * radix * distance..(g + 1) * radix * distance];
                    match radix {
                        2 => apply_group::<T, S, 2>(s, step, group, g * distance),
                        4 => apply_group::<T, S, 4>(s, step, group, g * distance),
                        _ => apply_group::<T, S, 8>(s, step, group, g * distance),
                    }
                }
            }
            _ => apply_stage(OneLane::of(s), step, vector, 1, scratch),
        }
    }
}

/// R runs of `group.len() / R` coordinates; lane q belongs to block `first + q`.
#[inline(always)]
fn apply_group<T, S, const R: usize>(s: S, step: &Step<'_, T>, group: &mut [T], first: usize)
where
    T: Scalar,
    S: Lanes<T>,
{
    let distance = group.len() / R;
    let whole = distance - distance % S::LANES;
    for q in (0..whole).step_by(S::LANES) {
        apply_lanes::<T, S, R>(s, step, group, first, q);
    }
    for q in whole..distance {
        apply_lanes::<T, OneLane<S>, R>(OneLane::of(s), step, group, first, q);
    }
}

#[inline(always)]
fn apply_lanes<T: Scalar, S: Lanes<T>, const R: usize>(
    s: S,
    step: &Step<'_, T>,
    group: &mut [T],
    first: usize,
    q: usize,
) {
    let distance = group.len() / R;
    let (row, column) = (step.strides.row, step.strides.column);
    let entries = &step.entries[first + q..];
    let mut x = [S::V::zeroed(); R];
    for k in 0..R {
        x[k] = load::<T, S>(&group[k * distance + q..]);
    }
    for i in 0..R {
        let mut y = s.mul(load::<T, S>(&entries[i * row..]), x[0]);
        for k in 1..R {
            y = s.mul_add(load::<T, S>(&entries[i * row + k * column..]), x[k], y);
        }
        group[i * distance + q..][..S::LANES].copy_from_slice(bytemuck::cast_slice(core::slice::from_ref(&y)));
    }
}

#[inline(always)]
fn load<T: Pod, S: Lanes<T>>(from: &[T]) -> S::V {
    bytemuck::pod_read_unaligned(bytemuck::cast_slice(&from[..S::LANES]))
}
