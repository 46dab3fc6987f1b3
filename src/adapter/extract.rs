//! The best orthogonal explanation of a fine-tuned model: the R with W' ≈ W·Rᵀ for every weight that changed.
//!
//! ‖W' − W·Rᵀ‖²_F = ‖W'‖² + ‖W‖² − 2⟨R, M⟩ with M = W'ᵀW, an orthogonal Procrustes problem (Schönemann 1966) in the class of R:
//! - block-diagonal (OFT): each block is the rotation nearest to its block of M, in closed form;
//! - BOFT(m, b): alternating sweeps, [`fit::alternating`](crate::fit::alternating) from the identity, which needs all of M.
//!
//! With `scale`, each output has a factor as well. ‖diag(s)·W·Rᵀ‖ does not depend on R, so R for a given s is the same problem
//! for diag(s)·W; and s for a given R is s_o = ⟨w'_o, R w_o⟩/‖w_o‖². The two alternate, from s_o = ‖w'_o‖/‖w_o‖, which is s itself
//! where the explanation is exact and s > 0. Blocks become Cayley's parameters; what is left is told for every layer as
//! ‖W' − diag(s)·W·Rᵀ‖/‖W' − W‖: 1 explains nothing.
//!
//! Embeddings are told by their names, unless the user tells them, and become OFT's alone: PEFT's BOFT has none.

use core::ops::ControlFlow;
use std::format;
use std::path::PathBuf;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use serde::Serialize;
use serde_json::json;

use super::dialect::peft_boft::Shape;
use super::draft::Draft;
use super::merge::{MergeEvent, Progress, interrupted};
use super::polar::nearest_rotation;
use super::sides::Sides;
use crate::error::{Error, Result};
use crate::fit::{self, Group, Options, Start, Target};
use crate::layout::StageLayout;
use crate::orthogonal::Orthogonal;
use crate::parallel::Parallelism;
use crate::parametrization::{Cayley, Parametrization};
use crate::plan::Workspace;
use crate::storage::{Checkpoint, FloatType, file_error, tensor_error};

/// Rounds in which R and s take turns, at most, and how much of the residual a round must take away.
const ROUNDS: usize = 12;
const GAIN: f64 = 1e-3;

/// What to explain, and by what.
#[derive(Debug, Clone)]
pub struct ExtractOptions {
    /// The model before.
    pub base: PathBuf,
    /// The model after.
    pub tuned: PathBuf,
    /// The adapter to write, a directory as PEFT loads it: OFT for one factor without scale, else BOFT.
    pub out: PathBuf,
    /// Block size b.
    pub block: usize,
    /// Factors m; 1 is block-diagonal.
    pub stages: usize,
    /// Whether outputs get factors, too.
    pub scale: bool,
    /// Only weights whose path contains one of these; all if there are none.
    pub layers: Vec<String>,
    /// Weights whose path contains one of these are embeddings, and no others are. `None`: those with names that embeddings
    /// have in the usual models (`embed_tokens`, `embed_in`, `wte`, `wpe`, `shared`, `…embedding`, `…embeddings` and others). PEFT
    /// loads what was a guess gone wrong without the layer, or not at all.
    pub embeddings: Option<Vec<String>>,
    /// Sweeps of BOFT for one weight, at most; with factors of outputs, all rounds together.
    pub sweeps: usize,
    /// Replace an existing output.
    pub force: bool,
}

impl ExtractOptions {
    /// BOFT(m, b) without scale for all layers.
    pub fn new(
        base: impl Into<PathBuf>,
        tuned: impl Into<PathBuf>,
        out: impl Into<PathBuf>,
        (stages, block): (usize, usize),
    ) -> Self {
        let (base, tuned, out) = (base.into(), tuned.into(), out.into());
        Self {
            base,
            tuned,
            out,
            block,
            stages,
            scale: false,
            layers: Vec::new(),
            embeddings: None,
            sweeps: 100,
            force: false,
        }
    }
}

impl ExtractOptions {
    fn is_embedding(&self, module: &str) -> bool {
        if let Some(named) = &self.embeddings {
            return named.iter().any(|part| module.contains(part.as_str()));
        }
        const KNOWN: [&str; 8] =
            ["embed", "embed_in", "embed_tokens", "embed_positions", "relative_attention_bias", "shared", "wpe", "wte"];
        let last = module.rsplit('.').next().unwrap_or_default();
        let ends = last.ends_with("embedding") || last.ends_with("embeddings");
        (KNOWN.contains(&last) || ends) && !last.contains("patch")
    }
}

/// One explained weight.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ExtractedLayer {
    /// Path of the module.
    pub name: String,
    /// Size of the rotated space.
    pub n: usize,
    /// ‖W' − W‖_F/‖W‖_F: what there was to explain.
    pub change: f64,
    /// ‖W' − diag(s)·W·Rᵀ‖_F/‖W' − W‖_F: what is left of it.
    pub residual: f64,
    /// Sweeps that it took; with one factor, solutions in closed form.
    pub sweeps: usize,
    /// Whether it is taken for an embedding.
    pub embedding: bool,
}

/// What an extraction found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ExtractReport {
    /// Weights that are explained, in the order of the base.
    pub layers: Vec<ExtractedLayer>,
    /// Names of tensors that changed and are not explained: no matrices, or of sizes that the blocks do not fit.
    pub unexplained: Vec<String>,
}

/// Finds the orthogonal explanation of what changed between two models, and writes it as an adapter. `tell` hears of progress
/// and may stop it.
///
/// # Errors
/// [`Error::File`](crate::Error::File) for models that differ in names, shapes or types, that are not finite, that do not
/// differ at all where they should be explained, and for an output that cannot be written; [`Error::Size`] for blocks that do not
/// exist; [`Error::Interrupted`](crate::Error::Interrupted). Nothing is written then.
pub fn extract(
    options: &ExtractOptions,
    mut tell: impl FnMut(MergeEvent<'_>) -> ControlFlow<()>,
) -> Result<ExtractReport> {
    let (base, tuned) = (Checkpoint::open(&options.base)?, Checkpoint::open(&options.tuned)?);
    let (b, m) = (options.block, options.stages);
    if b < 2 || m == 0 {
        let (what, expected) = ("blocks of an extraction", "b >= 2 and at least one factor".to_string());
        return Err(Error::Size { what, expected, got: format!("b = {b}, m = {m}") });
    }
    let is_oft = m == 1 && !options.scale;
    let mut draft = if is_oft {
        Draft::peft(
            "OFT",
            json!({
                "r": 0, "oft_block_size": b, "block_share": false, "coft": false, "eps": 6e-5, "module_dropout": 0.0,
                "use_cayley_neumann": false, "num_cayley_neumann_terms": 5,
            }),
        )
    } else {
        Draft::peft(
            "BOFT",
            json!({"boft_block_size": b, "boft_block_num": 0, "boft_dropout": 0.0, "boft_n_butterfly_factor": m}),
        )
    };
    let mut report = ExtractReport { layers: Vec::new(), unexplained: Vec::new() };
    let total = base.tensors().map(|tensor| tensor.num_bytes()).sum();
    let mut done = 0;
    for tensor in base.tensors() {
        if tell(MergeEvent::Portion(Progress { done, total, tensor: &tensor.name })).is_break() {
            return Err(interrupted(format!("at `{}`", tensor.name)));
        }
        done += tensor.num_bytes();
        let Some((file, _)) = base.get(&tensor.name) else { continue };
        let Some((tuned_file, other)) = tuned.get(&tensor.name) else {
            return Err(file_error(tuned.path(), format!("a tensor `{}`, as the base has", tensor.name), "none"));
        };
        if other.shape != tensor.shape {
            let expected = format!("shape {:?}, as in the base", tensor.shape);
            return Err(tensor_error(tuned_file.path(), &tensor.name, expected, format!("{:?}", other.shape)));
        }
        if FloatType::from_dtype(tensor.dtype).is_none() || FloatType::from_dtype(other.dtype).is_none() {
            continue;
        }
        let (before, after) = (file.read_finite(tensor)?, tuned_file.read_finite(other)?);
        if before == after {
            continue;
        }
        let module = tensor.name.strip_suffix(".weight").filter(|module| {
            options.layers.is_empty() || options.layers.iter().any(|part| module.contains(part.as_str()))
        });
        let n = tensor.shape.iter().skip(1).product::<usize>();
        let shape = Shape { stages: m, blocks: n / b, block: b };
        let fits = matches!(tensor.shape.len(), 2 | 4) && n % b == 0 && n > 0 && shape.plan::<f64>().is_ok();
        let is_embedding = tensor.shape.len() == 2 && module.is_some_and(|module| options.is_embedding(module));
        let (Some(module), true) = (module, fits && (is_oft || !is_embedding)) else {
            report.unexplained.push(tensor.name.clone());
            continue;
        };
        let name = &tensor.name;
        let mut stop = || tell(MergeEvent::Portion(Progress { done, total, tensor: name }));
        let found = explain(options, shape, &before, &after, &mut stop).map_err(|e| match e {
            Error::Interrupted { .. } => interrupted(format!("at `{name}`")),
            e => tensor_error(tuned_file.path(), name, "a change that a rotation can be sought for", e),
        })?;
        match is_oft {
            true => add_oft(&mut draft, module, shape, is_embedding, &found)?,
            false => add_boft(&mut draft, module, shape, tensor.shape.len() == 4, &found)?,
        }
        let out = tensor.shape[0];
        let mut merged = before.clone();
        let sides = Sides::right(Orthogonal::new(shape.plan()?, &found.theta)?).scaled(found.scale);
        sides.merge(&[out, n], &mut merged, Parallelism::Rayon, &Workspace::new())?;
        let (norm, change) = (distance(&before, &vec![0.0; before.len()]), distance(&after, &before));
        report.layers.push(ExtractedLayer {
            name: module.to_string(),
            n,
            change: if norm > 0.0 { change / norm } else { f64::MAX },
            residual: distance(&after, &merged) / change,
            sweeps: found.sweeps,
            embedding: is_embedding,
        });
    }
    if report.layers.is_empty() {
        let expected = format!("weights that changed and that blocks of {b} in {m} factors fit");
        return Err(file_error(tuned.path(), expected, "none"));
    }
    draft.write(&options.out, options.force)?;
    Ok(report)
}

/// What explains one weight.
struct Found {
    theta: Vec<f64>,
    scale: Option<Vec<f64>>,
    sweeps: usize,
}

fn explain(
    options: &ExtractOptions,
    shape: Shape,
    before: &[f64],
    after: &[f64],
    stop: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Found> {
    let n = shape.n();
    if !options.scale {
        let (theta, sweeps) = rotation(options.sweeps, shape, before, after, stop)?;
        // BOFT's files have a scale in any case.
        let scale = (shape.stages > 1).then(|| vec![1.0; before.len() / n]);
        return Ok(Found { theta, scale, sweeps });
    }
    let rows = || before.chunks_exact(n).zip(after.chunks_exact(n));
    let zeros = vec![0.0; n];
    let length = |row: &[f64]| distance(row, &zeros);
    let ratio = |long: f64, short: f64| if short > 0.0 { long / short } else { 1.0 };
    let mut scale: Vec<f64> = rows().map(|(w, v)| ratio(length(v), length(w))).collect();
    let (mut best, mut least, mut sweeps) = (None, f64::INFINITY, 0);
    let shape_of = [before.len() / n, n];
    for _ in 0..ROUNDS {
        let mut turned = before.to_vec();
        stretch(n, &mut turned, &scale);
        // Each round begins anew, so all but the last of the sweeps are shared out evenly.
        let share = (options.sweeps / ROUNDS).max(1).min(options.sweeps - sweeps);
        let (theta, more) = rotation(share, shape, &turned, after, stop)?;
        sweeps += more;
        turned.copy_from_slice(before);
        let sides = Sides::right(Orthogonal::new(shape.plan()?, &theta)?);
        sides.merge(&shape_of, &mut turned, Parallelism::Rayon, &Workspace::new())?;
        let factor = |(t, v): (&[f64], &[f64])| {
            let (dot, square) = t.iter().zip(v).fold((0.0, 0.0), |(d, s), (t, v)| (d + t * v, s + t * t));
            ratio(dot, square)
        };
        scale = turned.chunks_exact(n).zip(after.chunks_exact(n)).map(factor).collect();
        stretch(n, &mut turned, &scale);
        let residual = distance(after, &turned);
        let enough = residual >= (1.0 - GAIN) * least;
        if residual < least {
            (best, least) = (Some((theta, scale.clone())), residual);
        }
        if enough || sweeps >= options.sweeps {
            break;
        }
    }
    let (theta, scale) = best.unwrap_or_else(|| (Vec::new(), scale)); // there is a first round
    Ok(Found { theta, scale: Some(scale), sweeps })
}

/// Rows times their factors.
fn stretch(n: usize, rows: &mut [f64], scale: &[f64]) {
    rows.chunks_exact_mut(n).zip(scale).for_each(|(row, s)| row.iter_mut().for_each(|x| *x *= s));
}

/// Parameters of the rotation that takes the rows of one weight nearest to those of another, and the sweeps that it took.
fn rotation(
    sweeps: usize,
    shape: Shape,
    before: &[f64],
    after: &[f64],
    stop: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<(Vec<f64>, usize)> {
    if stop().is_break() {
        return Err(interrupted(""));
    }
    let (n, b) = (shape.n(), shape.block);
    let plan = shape.plan::<f64>()?;
    let layouts: Vec<StageLayout> = plan.stages().iter().map(|stage| stage.layout().clone()).collect();
    let mut fit_options = Options { group: Group::Special, start: Start::Identity, ..Options::default() };
    // e is far from 0 here, and what is left of the change shows in its last digits.
    (fit_options.sweeps, fit_options.tolerance) = (sweeps, 1e-12);
    // The blocks of the fit, as plan with fixed blocks: stage by stage.
    let (blocks, sweeps): (Vec<Vec<f64>>, usize) = if shape.stages == 1 {
        let mut blocks = Vec::with_capacity(n * b);
        for j in 0..shape.blocks {
            let corner = correlation(n, j * b..(j + 1) * b, before, after);
            blocks.extend(nearest_rotation(b, &corner)?);
        }
        ([blocks].to_vec(), 1)
    } else {
        let target = Target::correlation(n, &correlation(n, 0..n, before, after))?;
        let found = fit::alternating(&target, &layouts, &fit_options, &mut |_| stop())?;
        let factors = found.plan().realize::<f64>(&[])?;
        let mut stages = Vec::new();
        for (k, stage) in found.plan().stages().iter().enumerate() {
            let mut blocks = vec![0.0; stage.layout().num_blocks() * b * b];
            for (j, block) in blocks.chunks_exact_mut(b * b).enumerate() {
                found.plan().block(&factors, k, stage.group_of(j), block)?;
            }
            stages.push(blocks);
        }
        (stages, found.sweeps)
    };
    let pairs = b * (b - 1) / 2;
    let mut theta = vec![0.0; plan.num_params()];
    for (blocks, stage) in blocks.iter().zip(plan.stages()) {
        let at = &mut theta[stage.theta()];
        for (block, theta) in blocks.chunks_exact(b * b).zip(at.chunks_exact_mut(pairs)) {
            // A block that turns a plane by π is out of Cayley's reach, or its parameters are out of that of the file. It stays at
            // the identity, which the residual then tells.
            let is_reached = Cayley.inverse(b, block, theta).is_ok() && theta.iter().all(|x| (*x as f32).is_finite());
            if !is_reached {
                theta.fill(0.0);
            }
        }
    }
    Ok((theta, sweeps))
}

/// Rows and columns `range` of M = W'ᵀW.
fn correlation(n: usize, range: core::ops::Range<usize>, before: &[f64], after: &[f64]) -> Vec<f64> {
    let rows = before.len() / n;
    let part = |weight: &[f64]| faer::Mat::from_fn(rows, range.len(), |i, j| weight[i * n + range.start + j]);
    let product = part(after).transpose() * part(before);
    (0..range.len()).flat_map(|i| (0..range.len()).map(move |j| (i, j))).map(|(i, j)| product[(i, j)]).collect()
}

fn add_oft(draft: &mut Draft, module: &str, shape: Shape, is_embedding: bool, found: &Found) -> Result<()> {
    let shape = [shape.blocks, shape.block * (shape.block - 1) / 2];
    if is_embedding {
        // E' = E·R, where layers are W·Rᵀ.
        let turned: Vec<f64> = found.theta.iter().map(|x| -x).collect();
        return draft.add(module, "oft_embedding_R.weight", FloatType::F32, &shape, &turned).map(drop);
    }
    draft.add(module, "oft_R.weight", FloatType::F32, &shape, &found.theta).map(drop)
}

fn add_boft(draft: &mut Draft, module: &str, shape: Shape, is_convolution: bool, found: &Found) -> Result<()> {
    let Shape { stages, blocks, block: b } = shape;
    let squares = super::convert::squares(b, &found.theta, 1.0);
    draft.add(module, "boft_R", FloatType::F32, &[stages, blocks, b, b], &squares)?;
    let scale = found.scale.as_deref().unwrap_or_default();
    let shape = if is_convolution { [1, scale.len()] } else { [scale.len(), 1] };
    draft.add(module, "boft_s", FloatType::F32, &shape, scale).map(drop)
}

/// ‖a − b‖_F.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    let unit = a.iter().zip(b).fold(0.0f64, |most, (a, b)| most.max((a - b).abs()));
    if unit == 0.0 {
        return 0.0;
    }
    unit * a.iter().zip(b).map(|(a, b)| ((a - b) / unit) * ((a - b) / unit)).sum::<f64>().sqrt()
}
