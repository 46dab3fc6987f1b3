//! A weight beside what a merge makes of it, both in double precision, and nothing else of their size.
//!
//! The vectors that are rotated become the rows: those of the weight itself, or, where outputs are rotated, its columns, which
//! are put across while they are read and rotated, a portion at a time.

use std::vec;
use std::vec::Vec;

use super::columns::{Columns, width};
use super::resolve::Entry;
use super::step::{Cut, Step};
use super::strips::{Change, Flaw, Strips, Types};
use super::write::{PORTION, flawed, in_order};
use crate::error::Result;
use crate::storage::{reserve, tensor_error};

/// W and W', as a merge would write it, row-major with `n` numbers in each of `rows` rows.
pub(super) struct Beside {
    pub(super) rows: usize,
    pub(super) n: usize,
    pub(super) before: Vec<f64>,
    pub(super) after: Vec<f64>,
}

impl Beside {
    /// Reads a weight and rotates it. `tell` hears how many bytes of it are done.
    pub(super) fn new(
        entry: &Entry<'_>,
        steps: &[Step],
        types: Types,
        strips: &Strips,
        tell: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Self> {
        let count = entry.source.len();
        let rows = entry.source.shape.first().copied().unwrap_or(0);
        let n = count / rows.max(1);
        match Cut::of(steps, &entry.source.shape) {
            Cut::Rows => {
                let before = entry.file.read_finite(entry.source)?;
                let after = rotated_rows(entry, steps, types, strips, tell)?;
                Ok(Self { rows, n, before, after })
            }
            Cut::Columns(rows, columns) => across(entry, steps, types, (rows, columns), strips, tell),
            Cut::Whole => {
                let (before, mut after) =
                    (entry.file.read_finite(entry.source)?, entry.file.read_finite(entry.source)?);
                for step in steps {
                    step.act((&entry.source.shape, false), &mut after, strips.parallelism, &strips.workspace)?;
                }
                let mut bytes = vec![0; types.to.size() * PORTION.min(count)];
                for (k, portion) in after.chunks_mut(PORTION).enumerate() {
                    if let Some(at) = types.to.encode(portion, &mut bytes[..types.to.size() * portion.len()]) {
                        return Err(flawed(entry, k * PORTION, types.to, Flaw::Overflow { at }));
                    }
                }
                tell(entry.source.num_bytes())?;
                Ok(Self { rows, n, before, after })
            }
        }
    }

    /// ‖fl(W') − W'‖_F/‖W'‖_F, what rounding to the type of the output changes: W' is made again, a portion at a time. `None`
    /// where rows and columns mix.
    pub(super) fn rounding(&self, steps: &[Step], shape: &[usize], strips: &Strips) -> Result<Option<f64>> {
        let (way, n) = (Cut::of(steps, shape), self.n.max(1));
        let count = (PORTION / n).max(1);
        let (mut exact, mut across, mut change) = (Vec::new(), Vec::new(), Change::default());
        for (k, (before, after)) in self.before.chunks(count * n).zip(self.after.chunks(count * n)).enumerate() {
            exact.clear();
            exact.extend_from_slice(before);
            match way {
                Cut::Whole => return Ok(None),
                Cut::Rows => {
                    for step in steps {
                        step.rotate_rows(k * count, n, &mut exact, &strips.workspace)?;
                    }
                }
                Cut::Columns(..) => {
                    across.resize(exact.len(), 0.0);
                    transpose(n, &exact, &mut across);
                    for step in steps {
                        step.rotate_columns(k * count, n, &mut across, strips.parallelism, &strips.workspace)?;
                    }
                    transpose(across.len() / n, &across, &mut exact);
                }
            }
            change.add(Change::of(&exact, after));
        }
        Ok(Some(change.relative()))
    }
}

fn zeros(entry: &Entry<'_>) -> Result<Vec<f64>> {
    let too_large = |got| tensor_error(entry.file.path(), &entry.source.name, "a tensor that fits into memory", got);
    let mut numbers = reserve(entry.source.len()).map_err(too_large)?;
    numbers.resize(entry.source.len(), 0.0);
    Ok(numbers)
}

/// W', whose rows are independent.
fn rotated_rows(
    entry: &Entry<'_>,
    steps: &[Step],
    types: Types,
    strips: &Strips,
    tell: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Vec<f64>> {
    let mut after = zeros(entry)?;
    let count = after.len();
    let n = (count / entry.source.shape.first().copied().unwrap_or(1).max(1)).max(1);
    let (portion, mut bytes) = ((PORTION / n).max(1) * n, Vec::new());
    for first in (0..count).step_by(portion) {
        let numbers = first..count.min(first + portion);
        let range = (numbers.start * types.from.size()) as u64..(numbers.end * types.from.size()) as u64;
        bytes.resize(numbers.len() * types.to.size(), 0);
        let window = entry.file.window(entry.source, range.clone())?;
        let part = strips.rotate(steps, types, (first / n, n), &window, &mut bytes);
        part.map_err(|flaw| flawed(entry, first, types.to, flaw))?;
        types.to.decode(&bytes, &mut after[numbers]);
        tell(range.end)?;
    }
    Ok(after)
}

/// Wᵀ and W'ᵀ, the columns of W being independent.
fn across(
    entry: &Entry<'_>,
    steps: &[Step],
    types: Types,
    (rows, columns): (usize, usize),
    strips: &Strips,
    tell: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Beside> {
    let window = entry.file.window(entry.source, 0..entry.source.num_bytes())?;
    in_order(&window);
    let (mut before, mut after, mut bytes) = (zeros(entry)?, zeros(entry)?, Vec::new());
    let width = width(rows);
    for first in (0..columns).step_by(width) {
        let count = width.min(columns - first);
        let place = first * rows..(first + count) * rows;
        bytes.resize(rows * count * types.to.size(), 0);
        let input = Columns { bytes: &window[..], pitch: columns, first };
        let output = Columns { bytes: &mut bytes[..], pitch: count, first: 0 };
        let part = strips.numbers.with(rows * count, |numbers: &mut [f64]| {
            strips.rotate_columns(steps, types, count, &input, numbers, output)?;
            transpose(count, numbers, &mut after[place.clone()]);
            input.decode(types, 0, count, numbers);
            transpose(count, numbers, &mut before[place.clone()]);
            Ok(())
        });
        part.map_err(|flaw| flawed(entry, 0, types.to, flaw))?;
        tell((place.end * types.from.size()) as u64)?;
    }
    Ok(Beside { rows: columns, n: rows, before, after })
}

/// The columns of a row-major matrix one after the other.
fn transpose(columns: usize, matrix: &[f64], across: &mut [f64]) {
    for (j, column) in across.chunks_exact_mut(matrix.len() / columns).enumerate() {
        for (to, row) in column.iter_mut().zip(matrix.chunks_exact(columns)) {
            *to = row[j];
        }
    }
}
