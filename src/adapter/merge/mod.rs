//! Merging adapters into their base model, and taking them out again, tensor by tensor, in bounded memory.
//!
//! 1. Resolve: every tensor of the output gets its source (base or adapter) and, if its module is adapted, its
//!    rotation. Every name, shape, type and adapter number is checked here, before anything is written.
//! 2. Write, shard by shard, in portions of a few megabytes, to a temporary beside the output. Rows are written as they come. A
//!    weight whose outputs are rotated goes in portions of columns, and is held in the type of the output until it is whole. Where
//!    one adapter rotates inputs and another one outputs of the same weight, it is held in double precision.
//! 3. Rename into place.

use core::ops::ControlFlow;
use std::format;
use std::path::{Path, PathBuf};
use std::string::{String, ToString};
use std::time::Instant;
use std::vec::Vec;

use serde::Serialize;

use super::{Adapter, Hint};
use crate::error::{Error, Result};
use crate::parallel::Parallelism;
use crate::storage::{Checkpoint, FloatType, Output, file_error, parent};

mod beside;
mod columns;
mod companions;
mod model_config;
pub(super) mod names;
mod peak;
mod preserved;
mod resolve;
mod singular;
mod step;
mod strips;
mod write;

use companions::Companions;
use model_config::ModelConfig;
use peak::Peak;
pub use preserved::{LIMIT as PRESERVED_LIMIT, PreservedLayer, PreservedOptions, PreservedReport, preserved};
use resolve::Resolved;
use step::How;
use write::ModelWriter;

/// What to merge, and where to.
#[derive(Debug, Clone)]
pub struct MergeOptions {
    /// The base model: a safetensors file, or a directory with one or with shards and their index.
    pub base: PathBuf,
    /// The adapters: directories as PEFT saves them, or safetensors files. They act in this order.
    pub adapters: Vec<PathBuf>,
    /// The dialect of adapters that do not say it themselves.
    pub dialect: Option<Hint>,
    /// How much of the adapters.
    pub strength: Strength,
    /// The output: a file if the base is a file, a directory if it is a directory.
    pub out: PathBuf,
    /// Type of all floating-point tensors (f16, bf16, f32, f64) of the output; `None` keeps each as it is in the base.
    pub dtype: Option<FloatType>,
    /// Replace an existing output.
    pub force: bool,
    /// Threads.
    pub parallelism: Parallelism,
}

impl MergeOptions {
    /// All of one adapter, into a new output, by all threads.
    pub fn new(base: impl Into<PathBuf>, adapter: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Self {
            base: base.into(),
            adapters: [adapter.into()].to_vec(),
            dialect: None,
            strength: Strength::Whole,
            out: out.into(),
            dtype: None,
            force: false,
            parallelism: Parallelism::Rayon,
        }
    }
}

/// How much of an adapter is merged.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Strength {
    /// All of it.
    #[default]
    Whole,
    /// A fraction t: every block along its one-parameter group, so that the rotation stays one. [`Sides::interpolate`](super::Sides::interpolate).
    Fraction(f64),
    /// I + t(B − I) in place of every block B, as LyCORIS has its multiplier: not orthogonal in between.
    /// [`Sides::blend`](super::Sides::blend).
    LinearBlend(f64),
    /// The first k stages of the rotations, as in BOFT's weight interpolation. [`Sides::truncate`](super::Sides::truncate).
    Stages(usize),
}

/// What a merge, or [`preserved`], tells while it runs.
#[derive(Debug, Clone, Copy)]
pub enum MergeEvent<'a> {
    /// A sentence that a user should know; also in [`MergeReport::warnings`], if the merge succeeds.
    Warning(&'a str),
    /// Another portion is written.
    Portion(Progress<'a>),
}

/// How far a merge is, told after every portion.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Bytes of the output that are written; of weights that are looked at, for [`preserved`].
    pub done: u64,
    /// Bytes that it will have.
    pub total: u64,
    /// The tensor at work.
    pub tensor: &'a str,
}

/// One adapted layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerReport {
    /// Path of the module, as in the adapter.
    pub name: String,
    /// Size of the rotated space.
    pub n: usize,
    /// Block size b.
    pub block: usize,
    /// Number of stages (butterfly factors) m.
    pub stages: usize,
    /// Free parameters of the rotation.
    pub parameters: usize,
    /// Rigorous bound on ‖QᵀQ − I‖₂ for the rotations that were applied to the weight, in double precision; the largest, if
    /// several adapters were.
    #[serde(serialize_with = "finite")]
    pub defect: f64,
    /// ‖W' − W‖_F / ‖W‖_F, with W' as written.
    #[serde(serialize_with = "finite")]
    pub relative_change: f64,
    /// Time spent on the layer, reading and writing included.
    #[serde(serialize_with = "finite")]
    pub seconds: f64,
    /// The method: `BOFT`, `OFT`, …
    pub method: String,
    /// The rotated side, `input` or `output`.
    pub side: &'static str,
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
    /// Largest anonymous memory of this process during the merge (RssAnon in `/proc/self/status`, looked at after every portion
    /// and every few milliseconds): what it holds of its own, without the mapped pages of files, which the system may take back.
    /// `None` where the system is not Linux.
    pub peak_bytes: Option<u64>,
    /// Number of tensors in the output.
    #[serde(skip)]
    pub tensors: usize,
    /// Number of those that come from the adapter as they are: biases, heads.
    #[serde(skip)]
    pub replaced: usize,
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

/// Merges adapters into a base model: W' = diag(s)·L·W·Rᵀ for every adapted layer, trained biases and heads in place
/// of the old ones, and everything else byte for byte. `tell` hears of warnings and progress, and may stop the merge with
/// [`ControlFlow::Break`].
///
/// Numbers are computed in double precision and rounded once to the type of the output, whatever the number of adapters. The
/// order of tensors, the shards, their index, the metadata and (for a directory) the other files of the model are kept. The
/// output appears whole or not at all. Besides a few megabytes and the rotations of a layer it holds one weight at a time, and that
/// only where outputs are rotated: in the type of the output, or in double precision where other adapters rotate its inputs.
///
/// # Errors
/// [`Error::File`](crate::Error::File) naming file and tensor.
///
/// Before anything is written: every name, shape and type; every number of the adapters; configurations and indexes;
/// links to nothing; an output that exists, or overlaps an input. While writing, after which nothing is left behind:
/// weights of the base that are not finite, numbers beyond the type of the output, files that cannot be read to their
/// end, a full disk. [`Error::Interrupted`](crate::Error::Interrupted) if `tell` stops it: nothing is left behind either.
pub fn merge(options: &MergeOptions, tell: impl FnMut(MergeEvent<'_>) -> ControlFlow<()>) -> Result<MergeReport> {
    run(options, false, tell)
}

/// Takes adapters out of a model that they were merged into, the last one first: W = L⁻¹·diag(1/s)·W'·R⁻ᵀ, by transposes
/// where rotations are orthogonal, by the inverses of their blocks where they are not. The weights come back up to the rounding
/// of the merged ones. Tensors that an adapter replaced as a whole (biases, heads) stay as they are, with a warning, for no
/// file holds the old ones.
///
/// # Errors
/// As [`merge`]; [`Error::File`](crate::Error::File) too for a layer that cannot be undone, such as a scale of 0.
pub fn unmerge(options: &MergeOptions, tell: impl FnMut(MergeEvent<'_>) -> ControlFlow<()>) -> Result<MergeReport> {
    run(options, true, tell)
}

fn run(
    options: &MergeOptions,
    undo: bool,
    mut tell: impl FnMut(MergeEvent<'_>) -> ControlFlow<()>,
) -> Result<MergeReport> {
    let start = Instant::now();
    let mut warnings = Vec::new();
    let mut warn = |sentences: Vec<String>, tell: &mut dyn FnMut(MergeEvent<'_>) -> ControlFlow<()>| {
        let stop = sentences.iter().any(|sentence| tell(MergeEvent::Warning(sentence)).is_break());
        warnings.extend(sentences);
        if stop { Err(interrupted("before anything was written")) } else { Ok(()) }
    };
    let base = Checkpoint::open(&options.base)?;
    let open = |path: &PathBuf| Adapter::open_as(path, options.dialect);
    let mut adapters = options.adapters.iter().map(open).collect::<Result<Vec<_>>>()?;
    if adapters.is_empty() {
        let (what, expected) = ("adapters of a merge", "at least one");
        return Err(Error::Size { what, expected: expected.into(), got: "none".into() });
    }
    for adapter in &mut adapters {
        warn(adapter.warnings().to_vec(), &mut tell)?;
        if undo && !adapter.replacements.is_empty() {
            let names = adapter.replacements.iter().map(|r| format!("`{}`", r.name)).collect::<Vec<_>>().join(", ");
            warn([format!("trained as a whole, so their old numbers are unknown; kept: {names}")].to_vec(), &mut tell)?;
            adapter.replacements.clear();
        }
    }
    let config = if base.is_directory() { read_config(&base, options.dtype.is_some())? } else { None };
    let mut resolved = resolve::resolve(&base, &adapters, config.as_ref(), options.dtype)?;
    warn(core::mem::take(&mut resolved.warnings), &mut tell)?;
    let companions =
        if base.is_directory() { Companions::list(&base, &resolved.shards)? } else { Companions::default() };
    warn(companions.warnings(), &mut tell)?;
    check_apart(&options.out, &inputs(options, &base, &adapters, &companions))?;

    let output = if base.is_directory() {
        let index = base.index().map(|index| PathBuf::from(&index.file_name));
        let weights = resolved.shards.iter().map(|shard| PathBuf::from(&shard.file_name));
        Output::directory(&options.out, options.force, weights.chain(index).chain(companions.files.iter().cloned()))?
    } else {
        Output::file(&options.out, options.force)?
    };
    let how = How { strength: options.strength, undo };
    let peak = Peak::default();
    let mut writer = ModelWriter::new(how, options.parallelism, resolved.num_bytes, &peak, &mut tell);
    peak.watch(|| {
        let mut shards = resolved.shards.iter();
        shards.try_for_each(|s| writer.write_shard(s, &output.path(&s.file_name), &output.shown(&s.file_name)))
    })?;
    let layers = writer.into_layers();
    companions.write(&base, &resolved, config, options.dtype, &output)?;
    output.commit()?;
    let replaced = adapters.iter().map(|adapter| adapter.replacements().len()).sum();
    Ok(report(options, (start, &peak), resolved, layers, warnings, replaced))
}

fn report(
    options: &MergeOptions,
    (start, peak): (Instant, &Peak),
    resolved: Resolved<'_>,
    layers: Vec<LayerReport>,
    warnings: Vec<String>,
    replaced: usize,
) -> MergeReport {
    MergeReport {
        layers,
        output: options.out.display().to_string(),
        seconds: start.elapsed().as_secs_f64(),
        peak_bytes: peak.bytes(),
        tensors: resolved.shards.iter().map(|s| s.entries.len()).sum(),
        replaced,
        bytes: resolved.num_bytes,
        warnings,
    }
}

pub(super) fn interrupted(at: impl Into<String>) -> Error {
    Error::Interrupted { what: "merge", expected: "to run to its end", got: format!("an interruption {}", at.into()) }
}

/// The configuration of a base directory. If it will not be rewritten it is copied as it is, good or bad.
fn read_config(base: &Checkpoint, is_needed: bool) -> Result<Option<ModelConfig>> {
    let config = ModelConfig::read(base.path());
    if is_needed { config } else { Ok(config.unwrap_or_default()) }
}

/// Every path that the merge reads from.
fn inputs(options: &MergeOptions, base: &Checkpoint, adapters: &[Adapter], companions: &Companions) -> Vec<PathBuf> {
    let mut paths = [options.base.clone()].to_vec();
    paths.extend(options.adapters.iter().cloned());
    for weights in adapters.iter().map(|adapter| adapter.file().path()) {
        paths.extend([weights.into(), weights.with_file_name("adapter_config.json")]);
    }
    paths.extend(base.shards().iter().map(|shard| shard.path().to_path_buf()));
    paths.extend(base.index().map(|index| base.path().join(&index.file_name)));
    paths.extend(companions.files.iter().map(|file| base.path().join(file)));
    paths
}

/// The output must not be an input, contain one or lie inside one: inputs are never changed.
fn check_apart(out: &Path, inputs: &[PathBuf]) -> Result<()> {
    let Some(name) = out.file_name() else { return Ok(()) }; // the output's own checks name what is wrong
    let Ok(parent) = parent(out).canonicalize() else { return Ok(()) };
    let link = parent.join(name);
    let target = link.canonicalize().unwrap_or_else(|_| link.clone());
    for input in inputs {
        let Ok(real) = input.canonicalize() else { continue };
        let contains = [&link, &target].into_iter().any(|out| real.starts_with(out));
        if contains || (target.starts_with(&real) && real.is_dir()) {
            let expected = "an output apart from the base and the adapter";
            return Err(file_error(out, expected, format!("a path that overlaps {}", input.display())));
        }
    }
    Ok(())
}
