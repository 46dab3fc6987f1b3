//! One vector where it lies, stage by stage: planar stages along the vector, large blocks by their columns, the others block by block with one lane.

use bytemuck::Zeroable;

use super::{Step, apply_stage, choose, large};
use crate::layout::StageLayout;
use crate::scalar::Scalar;
use crate::simd::{Lanes, OneLane, load, store};

/// vector ← all steps(vector), in place. `scratch` holds at least a block size of numbers.
#[inline(always)]
pub(super) fn run<T, S>(s: S, steps: &[Step<'_, T>], vector: &mut [T], scratch: &mut [T])
where
    T: Scalar,
    S: Lanes<T>,
{
    for step in steps {
        if large::serves(step) {
            large::apply_one(s, step, vector, scratch);
            continue;
        }
        let (radix, distance, groups) = match *step.layout {
            _ if !step.strides.is_planar() => (1, 0, 0),
            StageLayout::Strided { radix, distance, groups, unit: 1 } => (radix, distance, groups),
            _ => choose::single_pairs(step.layout)
                .map_or((1, 0, 0), |(distance, covered)| (2, distance, covered / (2 * distance))),
        };
        match radix {
            2 => apply_groups::<T, S, 2>(s, step, vector, distance, groups),
            4 => apply_groups::<T, S, 4>(s, step, vector, distance, groups),
            8 => apply_groups::<T, S, 8>(s, step, vector, distance, groups),
            _ => apply_stage(OneLane::of(s), step, vector, 1, scratch),
        }
    }
}

/// R runs of `distance` coordinates in each group; lane q belongs to block g·distance + q.
#[inline(always)]
fn apply_groups<T, S, const R: usize>(s: S, step: &Step<'_, T>, vector: &mut [T], distance: usize, groups: usize)
where
    T: Scalar,
    S: Lanes<T>,
{
    for g in 0..groups {
        let group = &mut vector[g * R * distance..(g + 1) * R * distance];
        // Registers of blocks lie in one panel.
        if distance.is_multiple_of(S::LANES) {
            for q in (0..distance).step_by(S::LANES) {
                apply_lanes::<T, S, R>(s, step, group, g * distance, q);
            }
        } else {
            for q in 0..distance {
                apply_lanes::<T, OneLane<S>, R>(OneLane::of(s), step, group, g * distance, q);
            }
        }
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
    let entries = &step.entries[step.start(first + q)..];
    let mut x = [S::V::zeroed(); R];
    for k in 0..R {
        x[k] = load::<T, S>(&group[k * distance + q..]);
    }
    for i in 0..R {
        let mut y = s.mul(load::<T, S>(&entries[step.strides.at(i, 0)..]), x[0]);
        for k in 1..R {
            y = s.mul_add(load::<T, S>(&entries[step.strides.at(i, k)..]), x[k], y);
        }
        store::<T, S>(&mut group[i * distance + q..], y);
    }
}
