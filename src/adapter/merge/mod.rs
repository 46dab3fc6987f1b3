//! Merging an adapter into its base model, tensor by tensor, in bounded memory.
//!
//! 1. Resolve: every tensor of the output gets its source (base or adapter) and, if its module is adapted, its
//!    rotation. Every name, shape, type and adapter number is checked here, before anything is written.
//! 2. Write, shard by shard, in portions of a few megabytes of rows, to a temporary beside the output.
//! 3. Rename into place.

use core::ops::ControlFlow;
use std::format;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::string::{String, ToString};
use std::time::Instant;
use std::vec::Vec;

use serde::Serialize;

use super::storage::{Checkpoint, FloatType, Output, Writer, file_error, tensor_error, unravel};
use super::{Adapter, Layer};
use crate::error::{Error, Result};
use crate::parallel::Parallelism;
use crate::plan::Workspace;

mod companions;
mod resolve;

use resolve::{Action, Entry, Shard};

/// What to merge, and where to.
#[derive(Debug, Clone)]
pub struct MergeOptions {
    /// The base model: a safetensors file, or a directory with one or with shards and their index.
    pub base: PathBuf,
    /// The adapter: a directory as PEFT saves it, or its safetensors file.
    pub adapter: PathBuf,
    /// The output: a file if the base is a file, a directory if it is a directory.
    pub out: PathBuf,
    /// Type of all floating-point tensors (f16, bf16, f32, f64) of the output; `None` keeps each as it is in the base.
    pub dtype: Option<FloatType>,
    /// Replace an existing output.
    pub force: bool,
    /// Threads.
    pub parallelism: Parallelism,
}

/// How far a merge is, told after every portion.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Bytes of the output that are written.
    pub done: u64,
    /// Bytes that it will have.
    pub total: u64,
    /// The tensor at work.
    pub tensor: &'a str,
}

/// One adapted layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerReport {
    /// Path of the module.
    pub name: String,
    /// Size of the rotated space.
    pub n: usize,
    /// Block size b.
    pub block: usize,
    /// Number of stages (butterfly factors) m.
    pub stages: usize,
    /// Free parameters of the rotation, m·(n/b)·b(b−1)/2.
    pub parameters: usize,
    /// Rigorous bound on ‖RᵀR − I‖₂ for the rotation that was applied, in double precision.
    #[serde(serialize_with = "finite")]
    pub defect: f64,
    /// ‖W' − W‖_F / ‖W‖_F, with W' as written.
    #[serde(serialize_with = "finite")]
    pub relative_change: f64,
    /// Time spent on the layer, reading and writing included.
    #[serde(serialize_with = "finite")]
    pub seconds: f64,
}

/// What a merge did. Serialises to the JSON that `papilio merge --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MergeReport {
    /// Adapted layers, in the order in which they were written.
    pub layers: Vec<LayerReport>,
    /// The output.
    pub output: String,
    /// Wall time of the whole merge.
    #[serde(serialize_with = "finite")]
    pub seconds: f64,
    /// Largest resident set of this process so far, as Linux reports it (VmHWM in `/proc/self/status`, which includes
    /// the mapped windows of the files); `None` on other systems.
    pub peak_bytes: Option<u64>,
    /// Number of tensors in the output.
    #[serde(skip)]
    pub tensors: usize,
    /// Bytes of tensors in the output.
    #[serde(skip)]
    pub bytes: u64,
    /// What a user should know.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

/// JSON has no NaN: rather an error than `null`.
pub(super) fn finite<S: serde::Serializer>(x: &f64, serializer: S) -> core::result::Result<S::Ok, S::Error> {
    if x.is_finite() { serializer.serialize_f64(*x) } else { Err(serde::ser::Error::custom("a number is not finite")) }
}

/// Numbers rotated at a time: 8 MiB of `f64`. One row if a row is longer.
const PORTION: usize = 1 << 20;

/// Bytes copied at a time.
const COPY: u64 = 8 << 20;

/// Merges an adapter into a base model: W' = diag(s)·W·Rᵀ for every adapted layer, trained biases and heads in place
/// of the old ones, and everything else byte for byte. `progress` may stop it with [`ControlFlow::Break`].
///
/// Numbers are computed in double precision and rounded once to the type of the output. The order of tensors, the
/// shards, their index, the metadata and (for a directory) the other files of the model are kept. The output appears
/// whole or not at all.
///
/// # Errors
/// [`Error::File`] naming file and tensor for every bad input, before anything is written; also for a full disk or an
/// interruption, after which nothing is left behind.
pub fn merge(options: &MergeOptions, mut progress: impl FnMut(Progress<'_>) -> ControlFlow<()>) -> Result<MergeReport> {
    let start = Instant::now();
    let base = Checkpoint::open(&options.base)?;
    let adapter = Adapter::open(&options.adapter)?;
    check_apart(&options.out, &[&options.base, &options.adapter, adapter.file().path()])?;
    let mut plan = resolve::resolve(&base, &adapter, options.dtype)?;

    let output = if base.is_directory() {
        Output::directory(&options.out, options.force)?
    } else {
        Output::file(&options.out, options.force)?
    };
    let mut writer = ModelWriter {
        adapter: &adapter,
        parallelism: options.parallelism,
        workspace: Workspace::new(),
        numbers: Vec::new(),
        bytes: Vec::new(),
        layers: Vec::new(),
        done: 0,
        total: plan.num_bytes,
        progress: &mut progress,
    };
    for shard in &plan.shards {
        writer.write_shard(shard, &output.path(&shard.file_name))?;
    }
    let layers = writer.layers;
    if base.is_directory() {
        plan.warnings.extend(companions::write(&base, &plan.shards, plan.num_bytes, options.dtype, &output)?);
    }
    output.commit()?;
    Ok(MergeReport {
        layers,
        output: options.out.display().to_string(),
        seconds: start.elapsed().as_secs_f64(),
        peak_bytes: peak_bytes(),
        tensors: plan.shards.iter().map(|s| s.entries.len()).sum(),
        bytes: plan.num_bytes,
        warnings: plan.warnings,
    })
}

/// Writes shards; the buffers live as long as the merge.
struct ModelWriter<'a, P> {
    adapter: &'a Adapter,
    parallelism: Parallelism,
    workspace: Workspace,
    numbers: Vec<f64>,
    bytes: Vec<u8>,
    layers: Vec<LayerReport>,
    done: u64,
    total: u64,
    progress: &'a mut P,
}

impl<P: FnMut(Progress<'_>) -> ControlFlow<()>> ModelWriter<'_, P> {
    fn write_shard(&mut self, shard: &Shard<'_>, path: &Path) -> Result<()> {
        let file = File::create(path).map_err(|e| file_error(path, "room and permission to write", e))?;
        let specs: Vec<_> = shard.entries.iter().map(|entry| entry.spec.clone()).collect();
        let mut out = Writer::new(file, path, shard.metadata, &specs)?;
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
        let (mut first, portion) = (0, (PORTION / n).max(1));
        let (mut change, mut norm) = (0.0, 0.0);
        let mut before = Vec::new();
        while first < rows {
            let count = portion.min(rows - first);
            self.load(entry, from, first * n, count * n)?;
            if let Some(i) = self.numbers.iter().position(|x| !x.is_finite()) {
                let got = format!("{} at {:?}", self.numbers[i], unravel(first * n + i, &entry.source.shape));
                return Err(tensor_error(entry.file.path(), &entry.source.name, "finite numbers to rotate", got));
            }
            before.clone_from(&self.numbers);
            rotation.rotate_rows(first, &mut self.numbers, self.parallelism, &mut self.workspace)?;
            self.store(entry, first * n, to, out)?;
            for (w, v) in before.iter().zip(&self.numbers) {
                norm += w * w;
                change += (v - w) * (v - w);
            }
            first += count;
        }
        let relative_change = if change == 0.0 { 0.0 } else { (change / norm).sqrt() };
        if !defect.is_finite() || !relative_change.is_finite() {
            return Err(Error::Domain {
                what: format!("merged weight `{}`", entry.spec.name),
                expected: "a finite change of a finite weight",
                got: format!("relative change {relative_change}, defect {defect}"),
            });
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
        let was_finite: Vec<bool> = self.numbers.iter().map(|x| x.is_finite()).collect();
        let mut bytes = core::mem::take(&mut self.bytes);
        bytes.resize(self.numbers.len() * to.size(), 0);
        to.encode(&mut self.numbers, &mut bytes);
        let overflow = self.numbers.iter().zip(was_finite).position(|(x, finite)| finite && !x.is_finite());
        if let Some(i) = overflow {
            let got = format!("an overflow at {:?}", unravel(first + i, &entry.source.shape));
            let expected = format!("numbers within the range of {to} (--dtype chooses another type)");
            return Err(tensor_error(entry.file.path(), &entry.source.name, expected, got));
        }
        self.put(entry, &bytes, out)?;
        self.bytes = bytes;
        Ok(())
    }

    fn put(&mut self, entry: &Entry<'_>, bytes: &[u8], out: &mut Writer) -> Result<()> {
        out.write(bytes)?;
        self.done += bytes.len() as u64;
        let step = Progress { done: self.done, total: self.total, tensor: &entry.spec.name };
        match (self.progress)(step) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(tensor_error(
                entry.file.path(),
                &entry.source.name,
                "a merge that runs to its end",
                "an interruption",
            )),
        }
    }
}

/// The output must not be an input, contain one or lie inside one: inputs are never changed.
fn check_apart(out: &Path, inputs: &[&Path]) -> Result<()> {
    let Some((parent, name)) = out.parent().zip(out.file_name()) else { return Ok(()) };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let Ok(parent) = parent.canonicalize() else { return Ok(()) }; // the output's own checks name what is wrong
    let target = parent.join(name);
    let target = target.canonicalize().unwrap_or(target);
    for input in inputs {
        let Ok(real) = input.canonicalize() else { continue };
        if real.starts_with(&target) || (target.starts_with(&real) && real.is_dir()) {
            let expected = "an output apart from the base and the adapter";
            return Err(file_error(out, expected, format!("a path that overlaps {}", input.display())));
        }
    }
    Ok(())
}

/// Largest resident set so far.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
