//! Merging an adapter into its base model, tensor by tensor, in bounded memory.
//!
//! 1. Resolve: every tensor of the output gets its source (base or adapter) and, if its module is adapted, its
//!    rotation. Every name, shape, type and adapter number is checked here, before anything is written.
//! 2. Write, shard by shard, in portions of a few megabytes of rows, to a temporary beside the output.
//! 3. Rename into place.

use core::ops::ControlFlow;
use std::format;
use std::path::{Path, PathBuf};
use std::string::{String, ToString};
use std::time::Instant;
use std::vec::Vec;

use serde::Serialize;

use super::Adapter;
use super::storage::{Checkpoint, FloatType, Output, file_error};
use crate::error::Result;
use crate::parallel::Parallelism;

mod companions;
mod resolve;
mod strips;
mod write;

use write::ModelWriter;

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

/// Merges an adapter into a base model: W' = diag(s)·W·Rᵀ for every adapted layer, trained biases and heads in place
/// of the old ones, and everything else byte for byte. `progress` may stop it with [`ControlFlow::Break`].
///
/// Numbers are computed in double precision and rounded once to the type of the output. The order of tensors, the
/// shards, their index, the metadata and (for a directory) the other files of the model are kept. The output appears
/// whole or not at all.
///
/// # Errors
/// [`Error::File`](crate::Error::File) naming file and tensor for every bad input, before anything is written; also for a full disk or an
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
    let mut writer = ModelWriter::new(&adapter, options.parallelism, plan.num_bytes, &mut progress);
    for shard in &plan.shards {
        writer.write_shard(shard, &output.path(&shard.file_name), &output.shown(&shard.file_name))?;
    }
    let layers = writer.into_layers();
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
