//! Writing the tensors of the output, in portions.

use core::ops::ControlFlow;
use std::format;
use std::fs::File;
use std::path::Path;
use std::time::Instant;
use std::vec::Vec;

use super::resolve::{Action, Entry, Shard};
use super::strips::{Change, Flaw, Strips, Types};
use super::{LayerReport, MergeEvent, Progress, interrupted};
use crate::adapter::{Adapter, Layer};
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
    adapter: &'a Adapter,
    strips: Strips,
    numbers: Vec<f64>,
    bytes: Vec<u8>,
    layers: Vec<LayerReport>,
    done: u64,
    total: u64,
    tell: &'a mut P,
}

impl<'a, P: FnMut(MergeEvent<'_>) -> ControlFlow<()>> ModelWriter<'a, P> {
    pub(super) fn new(adapter: &'a Adapter, parallelism: Parallelism, total: u64, tell: &'a mut P) -> Self {
        let strips = Strips { parallelism, workspace: Workspace::new(), numbers: Pool::default() };
        let (numbers, bytes, layers) = (Vec::new(), Vec::new(), Vec::new());
        Self { adapter, strips, numbers, bytes, layers, done: 0, total, tell }
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
            match entry.action {
                Action::Copy => self.copy(entry, &mut out)?,
                Action::Convert { from, to } => self.convert(entry, from, to, &mut out)?,
                Action::Rotate { layer, from, to } => self.rotate(entry, layer, from, to, &mut out)?,
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
        layer: &Layer,
        from: FloatType,
        to: FloatType,
        out: &mut Writer,
    ) -> Result<()> {
        let start = Instant::now();
        let rotation = self.adapter.rotation(layer)?;
        let (n, parameters) = (rotation.plan().n(), rotation.plan().num_params());
        let rotation = rotation.realize()?;
        let defect = rotation.certificate()?.defect;
        let rows = entry.source.shape.first().copied().unwrap_or(0);
        let (types, portion) = (Types { from, to }, (PORTION / n).max(1));
        let mut change = Change::default();
        for first in (0..rows).step_by(portion) {
            let numbers = portion.min(rows - first) * n;
            let range = (first * n * from.size()) as u64..((first * n + numbers) * from.size()) as u64;
            let window = entry.file.window(entry.source, range)?;
            let mut bytes = core::mem::take(&mut self.bytes);
            bytes.resize(numbers * to.size(), 0);
            let part = self.strips.rotate(&rotation, types, first, &window, &mut bytes);
            change.add(part.map_err(|flaw| flawed(entry, first * n, to, flaw))?);
            self.put(entry, &bytes, out)?;
            self.bytes = bytes;
        }
        let relative_change = change.relative();
        if !defect.is_finite() || !relative_change.is_finite() {
            let got = format!("relative change {relative_change}, defect {defect}");
            return Err(tensor_error(entry.file.path(), &entry.source.name, "a finite change of the weight", got));
        }
        self.layers.push(LayerReport {
            name: layer.module.clone(),
            n,
            block: layer.shape.block,
            stages: layer.shape.stages,
            parameters,
            defect,
            relative_change,
            seconds: start.elapsed().as_secs_f64(),
        });
        Ok(())
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
        let step = Progress { done: self.done, total: self.total, tensor: &entry.spec.name };
        match (self.tell)(MergeEvent::Portion(step)) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(interrupted(format!("at `{}`", entry.spec.name))),
        }
    }
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
