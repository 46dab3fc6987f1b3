//! Writing the tensors of the output, in portions.

use core::ops::ControlFlow;
use std::format;
use std::fs::File;
use std::path::Path;
use std::time::Instant;
use std::vec::Vec;

use super::columns::{Columns, width};
use super::peak::Peak;
use super::resolve::{Action, Entry, Part, Shard};
use super::step::{Cut, How, Step, steps};
use super::strips::{Change, Flaw, Strips, Types};
use super::{LayerReport, MergeEvent, Progress, interrupted};
use crate::error::{Error, Result};
use crate::parallel::{Parallelism, Pool};
use crate::plan::Workspace;
use crate::storage::{FloatType, Writer, tensor_error, unravel, unwritable};

/// Numbers rotated at a time: 8 MiB of `f64`. One row if a row is longer.
pub(super) const PORTION: usize = 1 << 20;

/// Bytes copied at a time.
const COPY: u64 = 8 << 20;

/// Writes shards; its buffers live as long as the merge.
pub(super) struct ModelWriter<'a, P> {
    how: How,
    strips: Strips,
    peak: &'a Peak,
    numbers: Vec<f64>,
    bytes: Vec<u8>,
    layers: Vec<LayerReport>,
    done: u64,
    total: u64,
    tell: &'a mut P,
}

impl<'a, P: FnMut(MergeEvent<'_>) -> ControlFlow<()>> ModelWriter<'a, P> {
    pub(super) fn new(how: How, parallelism: Parallelism, total: u64, peak: &'a Peak, tell: &'a mut P) -> Self {
        let strips = Strips { parallelism, workspace: Workspace::new(), numbers: Pool::default() };
        let (numbers, bytes, layers) = (Vec::new(), Vec::new(), Vec::new());
        Self { how, strips, peak, numbers, bytes, layers, done: 0, total, tell }
    }

    /// Reports of the layers written so far.
    pub(super) fn into_layers(self) -> Vec<LayerReport> {
        self.layers
    }

    /// Writes one file of the output to `path`; messages call it `shown`.
    pub(super) fn write_shard(&mut self, shard: &Shard<'_>, path: &Path, shown: &Path) -> Result<()> {
        let file = File::create(path).map_err(|e| unwritable(shown, e))?;
        let specs: Vec<_> = shard.entries.iter().map(|entry| entry.spec.clone()).collect();
        let mut out = Writer::new(file, shown, shard.metadata, &specs)?;
        for entry in &shard.entries {
            match &entry.action {
                Action::Copy => self.copy(entry, &mut out)?,
                Action::Convert { from, to } => self.convert(entry, *from, *to, &mut out)?,
                Action::Rotate { layers, is_bias, from, to } => {
                    self.rotate(entry, (layers, *is_bias), Types { from: *from, to: *to }, &mut out)?;
                }
            }
        }
        out.finish()
    }

    fn copy(&mut self, entry: &Entry<'_>, out: &mut Writer) -> Result<()> {
        let mut at = 0;
        while at < entry.source.num_bytes() {
            let window = entry.file.window(entry.source, at..at + COPY)?;
            at += window.len() as u64;
            self.put(entry, &window, out)?;
        }
        Ok(())
    }

    fn convert(&mut self, entry: &Entry<'_>, from: FloatType, to: FloatType, out: &mut Writer) -> Result<()> {
        let (mut first, count) = (0, entry.source.len());
        while first < count {
            let portion = PORTION.min(count - first);
            self.load(entry, from, first, portion)?;
            self.store(entry, first, to, out)?;
            first += portion;
        }
        Ok(())
    }

    fn rotate(
        &mut self,
        entry: &Entry<'_>,
        (parts, is_bias): (&[Part<'_>], bool),
        types: Types,
        out: &mut Writer,
    ) -> Result<()> {
        let start = Instant::now();
        let shape = &entry.source.shape;
        let placed =
            |e: Error| tensor_error(entry.file.path(), &entry.source.name, "a weight that the adapter fits", e);
        let (steps, defect) = steps(parts, shape, self.how).map_err(placed)?;
        // A bias `[out]` is a matrix of one column, and whoever turns it leaves the inputs alone.
        let change = match if is_bias { Cut::Whole } else { Cut::of(&steps, shape) } {
            Cut::Rows => self.rotate_rows(entry, &steps, types, out)?,
            Cut::Columns(rows, columns) => self.rotate_columns(entry, &steps, types, (rows, columns), out)?,
            Cut::Whole => self.rotate_whole(entry, &steps, is_bias, types, out)?,
        };
        let relative_change = change.relative();
        if !defect.is_finite() || !relative_change.is_finite() {
            let got = format!("relative change {relative_change}, defect {defect}");
            return Err(tensor_error(entry.file.path(), &entry.source.name, "a finite change of the weight", got));
        }
        if is_bias {
            return Ok(());
        }
        for part in parts {
            let structure = part.layer.structure();
            self.layers.push(LayerReport {
                name: part.layer.module.clone(),
                method: structure.method,
                side: structure.side.name(),
                n: structure.n.unwrap_or_else(|| part.size(shape)),
                block: structure.block,
                stages: structure.stages,
                parameters: structure.parameters,
                defect,
                relative_change,
                seconds: start.elapsed().as_secs_f64() / parts.len() as f64,
            });
        }
        Ok(())
    }

    /// In portions of rows, where none is mixed with others.
    fn rotate_rows(&mut self, entry: &Entry<'_>, steps: &[Step], types: Types, out: &mut Writer) -> Result<Change> {
        let Types { from, to } = types;
        let rows = entry.source.shape.first().copied().unwrap_or(0);
        let n = entry.source.len() / rows.max(1);
        let portion = (PORTION / n.max(1)).max(1);
        let mut change = Change::default();
        for first in (0..rows).step_by(portion) {
            let numbers = portion.min(rows - first) * n;
            let range = (first * n * from.size()) as u64..((first * n + numbers) * from.size()) as u64;
            let window = entry.file.window(entry.source, range)?;
            let mut bytes = core::mem::take(&mut self.bytes);
            bytes.resize(numbers * to.size(), 0);
            let part = self.strips.rotate(steps, types, (first, n), &window, &mut bytes);
            change.add(part.map_err(|flaw| flawed(entry, first * n, to, flaw))?);
            self.peak.sample();
            self.put(entry, &bytes, out)?;
            self.bytes = bytes;
        }
        Ok(change)
    }

    /// In portions of columns, where none is mixed with others. The output is held until it is whole.
    fn rotate_columns(
        &mut self,
        entry: &Entry<'_>,
        steps: &[Step],
        types: Types,
        (rows, columns): (usize, usize),
        out: &mut Writer,
    ) -> Result<Change> {
        let window = entry.file.window(entry.source, 0..entry.source.num_bytes())?;
        in_order(&window);
        let mut bytes = core::mem::take(&mut self.bytes);
        let count = entry.source.len() * types.to.size();
        if bytes.try_reserve_exact(count.saturating_sub(bytes.len())).is_err() {
            let expected = "a tensor that fits into memory";
            return Err(tensor_error(entry.file.path(), &entry.source.name, expected, format!("{count} bytes")));
        }
        bytes.resize(count, 0);
        let (width, mut change) = (width(rows), Change::default());
        for first in (0..columns).step_by(width) {
            let count = width.min(columns - first);
            let input = Columns { bytes: &window[..], pitch: columns, first };
            let output = Columns { bytes: &mut bytes[..], pitch: columns, first };
            let part = self.strips.numbers.with(rows * count, |numbers: &mut [f64]| {
                self.strips.rotate_columns(steps, types, count, &input, numbers, output)
            });
            change.add(part.map_err(|flaw| flawed(entry, 0, types.to, flaw))?);
            self.peak.sample();
            self.tell(entry)?;
        }
        for portion in bytes.chunks(COPY as usize) {
            self.put(entry, portion, out)?;
        }
        self.bytes = bytes;
        Ok(change)
    }

    /// The whole tensor in double precision.
    fn rotate_whole(
        &mut self,
        entry: &Entry<'_>,
        steps: &[Step],
        is_bias: bool,
        types: Types,
        out: &mut Writer,
    ) -> Result<Change> {
        self.bytes = Vec::new();
        let mut numbers = entry.file.read_finite(entry.source)?;
        for step in steps {
            let shape = (&entry.source.shape[..], is_bias);
            step.act(shape, &mut numbers, self.strips.parallelism, &self.strips.workspace)?;
        }
        let mut change = Change::default();
        for first in (0..numbers.len()).step_by(PORTION) {
            let after = &numbers[first..numbers.len().min(first + PORTION)];
            self.load(entry, types.from, first, after.len())?;
            let before = self.numbers.clone();
            self.numbers.copy_from_slice(after);
            self.store(entry, first, types.to, out)?;
            change.add(Change::of(&before, &self.numbers));
            self.peak.sample();
        }
        Ok(change)
    }

    /// Fills `numbers` with `count` numbers of the source from number `first` on.
    fn load(&mut self, entry: &Entry<'_>, from: FloatType, first: usize, count: usize) -> Result<()> {
        let range = (first * from.size()) as u64..((first + count) * from.size()) as u64;
        let window = entry.file.window(entry.source, range)?;
        self.numbers.resize(count, 0.0);
        from.decode(&window, &mut self.numbers);
        Ok(())
    }

    /// Rounds `numbers`, which begin at number `first` of the tensor, and writes them. A finite number stays finite.
    fn store(&mut self, entry: &Entry<'_>, first: usize, to: FloatType, out: &mut Writer) -> Result<()> {
        let mut bytes = core::mem::take(&mut self.bytes);
        bytes.resize(self.numbers.len() * to.size(), 0);
        if let Some(i) = to.encode(&mut self.numbers, &mut bytes) {
            return Err(overflow(entry, first + i, to));
        }
        self.put(entry, &bytes, out)?;
        self.bytes = bytes;
        Ok(())
    }

    fn put(&mut self, entry: &Entry<'_>, bytes: &[u8], out: &mut Writer) -> Result<()> {
        out.write(bytes)?;
        self.done += bytes.len() as u64;
        self.tell(entry)
    }

    fn tell(&mut self, entry: &Entry<'_>) -> Result<()> {
        let step = Progress { done: self.done, total: self.total, tensor: &entry.spec.name };
        match (self.tell)(MergeEvent::Portion(step)) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(interrupted(format!("at `{}`", entry.spec.name))),
        }
    }
}

/// Touches the pages of a mapping one after the other: systems read ahead for those who read in order, and columns do not.
pub(super) fn in_order(window: &[u8]) {
    const PAGE: usize = 4096;
    let sum = window.iter().step_by(PAGE).fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    core::hint::black_box(sum);
}

/// The error for what is wrong with a portion that begins at number `first` of the tensor.
pub(super) fn flawed(entry: &Entry<'_>, first: usize, to: FloatType, flaw: Flaw) -> Error {
    match flaw {
        Flaw::NotFinite { at, value } => {
            let got = format!("{value} at {:?}", unravel(first + at, &entry.source.shape));
            tensor_error(entry.file.path(), &entry.source.name, "finite numbers to rotate", got)
        }
        Flaw::Overflow { at } => overflow(entry, first + at, to),
        Flaw::Other(error) => error,
    }
}

fn overflow(entry: &Entry<'_>, at: usize, to: FloatType) -> Error {
    let got = format!("an overflow at {:?}", unravel(at, &entry.source.shape));
    let expected = format!("numbers within the range of {to} (--dtype chooses another type)");
    tensor_error(entry.file.path(), &entry.source.name, expected, got)
}
