//! A portion of a weight's rows, from bytes to bytes: decoded, rotated, rounded, compared. Strips of rows go to the threads;
//! how rows are cut depends on their length alone, and sums run over strips in order, so no thread changes a bit.

use std::vec::Vec;

use super::step::Step;
use crate::error::Error;
use crate::parallel::{self, Parallelism, Pool};
use crate::plan::Workspace;
use crate::simd::{Isa, Job, Lanes, dispatch};
use crate::storage::FloatType;

/// Numbers in a strip, about: with its copy it stays in a cache of 1 MiB. One row if a row is longer.
pub(super) const STRIP: usize = 1 << 16;

/// Frobenius norms of W' − W, with W' as written, and of W.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Change {
    difference: Norm,
    weight: Norm,
}

impl Change {
    /// From rows before and after.
    pub(super) fn of(before: &[f64], after: &[f64]) -> Self {
        let mut change = Self::default();
        dispatch(Isa::detect(), Compare { before, after, change: &mut change });
        change
    }

    /// Adds the next rows.
    pub(super) fn add(&mut self, next: Self) {
        self.difference.add(next.difference);
        self.weight.add(next.weight);
    }

    /// ‖W' − W‖ / ‖W‖.
    pub(super) fn relative(self) -> f64 {
        let (change, norm) = (self.difference, self.weight);
        if change.squares == 0.0 { 0.0 } else { (change.unit / norm.unit) * (change.squares / norm.squares).sqrt() }
    }
}

/// Largest magnitudes first, then sums, in eight chains each, so that neither waits for the number before.
struct Compare<'a> {
    before: &'a [f64],
    after: &'a [f64],
    change: &'a mut Change,
}

impl Job<f64> for Compare<'_> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(self, _s: S) {
        const CHAINS: usize = 8;
        let larger = |a: f64, b: f64| if b > a { b } else { a };
        let (before, before_rest) = self.before.as_chunks::<CHAINS>();
        let (after, after_rest) = self.after.as_chunks::<CHAINS>();
        let (mut old, mut new) = ([0.0f64; CHAINS], [0.0f64; CHAINS]);
        for (w, v) in before.iter().zip(after) {
            for k in 0..CHAINS {
                (old[k], new[k]) = (larger(old[k], w[k].abs()), larger(new[k], v[k].abs()));
            }
        }
        for (k, (w, v)) in before_rest.iter().zip(after_rest).enumerate() {
            (old[k], new[k]) = (larger(old[k], w.abs()), larger(new[k], v.abs()));
        }
        let largest = |chains: [f64; CHAINS]| chains.into_iter().fold(0.0, larger);
        let (own, both) = (Norm::unit(largest(old)), Norm::unit(larger(largest(old), largest(new))));
        let (to_own, to_both) = (1.0 / own, 1.0 / both);
        let (mut weight, mut difference) = ([0.0f64; CHAINS], [0.0f64; CHAINS]);
        let mut add = |k: usize, w: f64, v: f64| {
            let (x, d) = (w * to_own, v * to_both - w * to_both);
            (weight[k], difference[k]) = (weight[k] + x * x, difference[k] + d * d);
        };
        for (w, v) in before.iter().zip(after) {
            (0..CHAINS).for_each(|k| add(k, w[k], v[k]));
        }
        before_rest.iter().zip(after_rest).enumerate().for_each(|(k, (w, v))| add(k, *w, *v));
        *self.change = Change {
            difference: Norm { unit: both, squares: difference.iter().sum() },
            weight: Norm { unit: own, squares: weight.iter().sum() },
        };
    }
}

/// unit·√squares: squares of f64 numbers overflow from 1e154 on, those of numbers in a fitting unit do not (as in LAPACK's
/// lassq). Units are powers of two, so nothing is rounded that would not be without them.
#[derive(Debug, Clone, Copy)]
struct Norm {
    unit: f64,
    squares: f64,
}

impl Default for Norm {
    fn default() -> Self {
        Self { unit: f64::MIN_POSITIVE, squares: 0.0 }
    }
}

impl Norm {
    /// The power of two at or below a magnitude.
    fn unit(largest: f64) -> f64 {
        f64::from_bits(largest.to_bits() & f64::INFINITY.to_bits()).max(f64::MIN_POSITIVE)
    }

    fn add(&mut self, other: Self) {
        let (large, small) = if self.unit >= other.unit { (*self, other) } else { (other, *self) };
        let ratio = small.unit / large.unit;
        *self = Self { unit: large.unit, squares: large.squares + small.squares * ratio * ratio };
    }
}

/// What can be wrong with a portion; places count its numbers.
#[derive(Debug)]
pub(super) enum Flaw {
    NotFinite { at: usize, value: f64 },
    Overflow { at: usize },
    Other(Error),
}

/// How the numbers are stored before and after.
#[derive(Debug, Clone, Copy)]
pub(super) struct Types {
    pub(super) from: FloatType,
    pub(super) to: FloatType,
}

/// Scratch memory and threads, kept from portion to portion.
#[derive(Debug)]
pub(super) struct Strips {
    pub(super) parallelism: Parallelism,
    pub(super) workspace: Workspace,
    pub(super) numbers: Pool,
}

struct Strip<'a> {
    first: usize,
    input: &'a [u8],
    output: &'a mut [u8],
    result: &'a mut Result<Change, Flaw>,
}

impl Strips {
    /// Rows `first ..` of W, `input`, of n numbers each, become those of W', `output`.
    pub(super) fn rotate(
        &self,
        steps: &[Step],
        types: Types,
        (first, n): (usize, usize),
        input: &[u8],
        output: &mut [u8],
    ) -> Result<Change, Flaw> {
        let rows = (STRIP / n).max(1);
        let size = rows * n;
        let mut results: Vec<_> =
            (0..input.len().div_ceil(size * types.from.size())).map(|_| Ok(Change::default())).collect();
        let inputs = input.chunks(size * types.from.size());
        let outputs = output.chunks_mut(size * types.to.size());
        let strips = inputs.zip(outputs).zip(&mut results).enumerate();
        let strips = strips
            .map(|(k, ((input, output), result))| Strip { first: first + k * rows, input, output, result })
            .collect();
        parallel::for_each(self.parallelism, strips, |strip: Strip<'_>| {
            *strip.result = self.strip(steps, types, (strip.first, n), strip.input, strip.output);
        });
        let mut sum = Change::default();
        for (k, result) in results.into_iter().enumerate() {
            let change = result.map_err(|flaw| match flaw {
                Flaw::NotFinite { at, value } => Flaw::NotFinite { at: k * size + at, value },
                Flaw::Overflow { at } => Flaw::Overflow { at: k * size + at },
                other => other,
            })?;
            sum.add(change);
        }
        Ok(sum)
    }

    fn strip(
        &self,
        steps: &[Step],
        types: Types,
        (first, n): (usize, usize),
        input: &[u8],
        output: &mut [u8],
    ) -> Result<Change, Flaw> {
        let count = input.len() / types.from.size();
        self.numbers.with(2 * count, |numbers: &mut [f64]| {
            let (before, after) = numbers.split_at_mut(count);
            types.from.decode(input, before);
            if let Some(at) = before.iter().position(|x| !x.is_finite()) {
                return Err(Flaw::NotFinite { at, value: before[at] });
            }
            after.copy_from_slice(before);
            for step in steps {
                step.rotate_rows(first, n, after, &self.workspace).map_err(Flaw::Other)?;
            }
            if let Some(at) = types.to.encode(after, output) {
                return Err(Flaw::Overflow { at });
            }
            Ok(Change::of(before, after))
        })
    }
}
