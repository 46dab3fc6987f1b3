//! One dialect to another, where that is exact, and to a low-rank sum, where it is not.
//!
//! - R of one block-diagonal Cayley stage is the same in PEFT's OFT (exact) and in BOFT with one factor, M = S, s = 1.
//! - L of one block-diagonal Cayley stage is the same in LyCORIS's diag-oft and kohya's OFT, M = q/2, with a constraint that
//!   does not bind; and it is what PEFT up to 0.13 called OFT.
//! - L and R are different groups acting on W: nothing turns the one into the other. Truncated series are not Cayley's map.
//! - Any dialect is W' = W + ΔW for a given base, and ΔW ≈ B·A with r columns (LoRA): the best such sum is the truncated
//!   singular value decomposition. Rotations are not of low rank; what is lost is told for every layer.

use core::ops::ControlFlow;
use std::format;
use std::path::PathBuf;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use serde::Serialize;
use serde_json::json;

use super::dialect::peft_boft::Shape;
use super::draft::{Draft, float_type};
use super::low_rank;
use super::merge::{MergeEvent, Progress, interrupted, names::Names};
use super::sides::View;
use super::{Adapter, Hint, Layer, Sides};
use crate::error::{Error, Result};
use crate::layout::Sharing;
use crate::orthogonal::Orthogonal;
use crate::parallel::Parallelism;
use crate::plan::{Source, Workspace};
use crate::storage::{Checkpoint, FloatType, tensor_error};

/// What to make of an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConvertTo {
    /// PEFT's BOFT.
    PeftBoft,
    /// PEFT's OFT since 0.18, exact.
    PeftOft,
    /// LyCORIS's diag-oft.
    LycorisDiagOft,
    /// kohya's OFT.
    Kohya,
    /// PEFT's LoRA of this rank, which is not exact.
    Lora(usize),
}

impl ConvertTo {
    /// `peft-boft`, `peft-oft`, `lycoris-diag-oft`, `kohya-oft`, `lora`.
    pub fn name(self) -> &'static str {
        match self {
            Self::PeftBoft => "peft-boft",
            Self::PeftOft => "peft-oft",
            Self::LycorisDiagOft => "lycoris-diag-oft",
            Self::Kohya => "kohya-oft",
            Self::Lora(_) => "lora",
        }
    }
}

/// What to convert, and where to.
#[derive(Debug, Clone)]
pub struct ConvertOptions {
    /// The adapter.
    pub adapter: PathBuf,
    /// Its dialect, if it does not say it itself.
    pub dialect: Option<Hint>,
    /// What it becomes.
    pub to: ConvertTo,
    /// The base model: for LoRA, for numbers that follow from the shapes of weights, and for names that have to be unflattened.
    pub base: Option<PathBuf>,
    /// The output: a directory for PEFT's, else a file.
    pub out: PathBuf,
    /// Replace an existing output.
    pub force: bool,
}

/// One converted layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ConvertedLayer {
    /// Path of the module, as in the output.
    pub name: String,
    /// ‖ΔW − B·A‖_F/‖ΔW‖_F for LoRA. For exact conversions how much numbers are rounded in the type of the output, relative
    /// to their norm: 0 if they are only moved, scaled by 2 or turned round, at most about 6e-8 in single precision. Half
    /// precision becomes single where it would round.
    pub error: f64,
    /// Numbers stored.
    pub numbers: usize,
}

/// Converts an adapter. `tell` hears of progress and may stop it.
///
/// # Errors
/// [`Error::Unsupported`] naming the layer, if there is no exact conversion or it needs a base; those of [`Adapter::open_as`];
/// [`Error::File`](crate::Error::File) for an output that cannot be written; [`Error::Interrupted`](crate::Error::Interrupted).
pub fn convert(
    options: &ConvertOptions,
    mut tell: impl FnMut(MergeEvent<'_>) -> ControlFlow<()>,
) -> Result<Vec<ConvertedLayer>> {
    let adapter = Adapter::open_as(&options.adapter, options.dialect)?;
    let base = options.base.as_ref().map(|path| Checkpoint::open(path)).transpose()?;
    let names = base.as_ref().map(|base| Names::new(base, true));
    let mut draft = match options.to {
        ConvertTo::PeftBoft => Draft::peft("BOFT", json!({})),
        ConvertTo::PeftOft => Draft::peft("OFT", json!({})),
        ConvertTo::Lora(r) => {
            let fields = json!({"r": r, "lora_alpha": r, "lora_dropout": 0.0, "use_rslora": false, "use_dora": false});
            Draft::peft("LORA", fields)
        }
        ConvertTo::LycorisDiagOft | ConvertTo::Kohya => Draft::flat(),
    };
    let is_flat = matches!(options.to, ConvertTo::LycorisDiagOft | ConvertTo::Kohya);
    if is_flat && !adapter.replacements().is_empty() {
        let name = &adapter.replacements()[0].name;
        return Err(refused(
            name,
            options.to,
            "a tensor that was trained as a whole, which this dialect has not".into(),
        ));
    }
    let (mut layers, mut found_sizes) = (Vec::new(), Vec::new());
    for (done, layer) in adapter.layers().iter().enumerate() {
        let (done, total) = (done as u64, adapter.layers().len() as u64);
        if tell(MergeEvent::Portion(Progress { done, total, tensor: &layer.module })).is_break() {
            return Err(interrupted(format!("at `{}`", layer.module)));
        }
        let found = match &names {
            Some(names) => names.module(&adapter, layer)?,
            None => None,
        };
        let weight = match (&base, &found) {
            (Some(base), Some(module)) => base.get(&format!("{module}.weight")),
            _ => None,
        };
        if let Some((_, tensor)) = weight {
            let misfit = layer.form.check_weight(&tensor.shape).err();
            if let Some(misfit) = misfit {
                let expected = misfit.expected.unwrap_or_else(|| format!("sizes that fit shape {:?}", tensor.shape));
                return Err(tensor_error(adapter.file().path(), layer.first(), expected, misfit.got));
            }
        }
        let path = match adapter.dialect.grammar.flat_path(&layer.module) {
            Some(_) if is_flat => renamed(&layer.module, options.to)
                .ok_or_else(|| refused(&layer.module, options.to, "a part of a model that has no name there".into()))?,
            None if is_flat => {
                renamed(&format!("lycoris_{}", layer.module.replace('.', "_")), options.to).unwrap_or_default()
            }
            Some(_) => found.clone().ok_or_else(|| {
                refused(
                    &layer.module,
                    options.to,
                    "a flattened name, for which a base with the module is needed".into(),
                )
            })?,
            None => layer.module.clone(),
        };
        let shape = weight.map(|(_, tensor)| &tensor.shape[..]);
        let sides = adapter.sides(layer, shape)?;
        let is_embedding = layer.tensors.contains_key("oft_embedding_R");
        if is_embedding && !matches!(options.to, ConvertTo::Lora(_) | ConvertTo::PeftOft) {
            return Err(refused(&layer.module, options.to, "an embedding, which only OFT and LoRA have".into()));
        }
        let has_bias = match (&base, &found) {
            (Some(base), Some(module)) => base.get(&format!("{module}.bias")).is_some(),
            _ => false,
        };
        let one =
            Work { layer, sides, path: &path, shape, to: options.to, dtype: float_type(layer), has_bias, is_embedding };
        let (error, numbers) = match (options.to, weight) {
            (ConvertTo::PeftBoft, _) => one.boft(&mut draft)?,
            (ConvertTo::PeftOft, _) => one.oft(&mut draft)?,
            (ConvertTo::LycorisDiagOft, _) => one.diag_oft(&mut draft, false)?,
            (ConvertTo::Kohya, _) => one.diag_oft(&mut draft, true)?,
            (ConvertTo::Lora(rank), Some((file, tensor))) => one.lora(&mut draft, rank, file.read_finite(tensor)?)?,
            (ConvertTo::Lora(_), None) => return Err(one.refused("no base with its weight".into())),
        };
        let structure = layer.structure();
        let n = one.sides.rotations().next().map_or(0, Orthogonal::n);
        found_sizes.push((structure.block, n / structure.block.max(1), structure.stages));
        layers.push(ConvertedLayer { name: path.clone(), error, numbers });
    }
    if !is_flat {
        draft.add_replacements(&adapter)?;
    }
    draft.set(sizes(options.to, &found_sizes)?);
    draft.write(&options.out, options.force)?;
    Ok(layers)
}

/// Sizes that PEFT wants in the configuration: one for all layers, the block's or else the number of blocks.
fn sizes(to: ConvertTo, sizes: &[(usize, usize, usize)]) -> Result<serde_json::Value> {
    let same = |of: fn(&(usize, usize, usize)) -> usize| {
        let first = sizes.first().map_or(0, of);
        sizes.iter().all(|size| of(size) == first).then_some(first)
    };
    let (block, count, stages) = (same(|s| s.0), same(|s| s.1), same(|s| s.2));
    let differ = |what: &str| refused("the whole adapter", to, format!("layers of different {what}"));
    Ok(match to {
        ConvertTo::PeftBoft | ConvertTo::PeftOft if block.is_none() && count.is_none() => {
            return Err(differ("block sizes and numbers of blocks, of which its configuration holds one"));
        }
        ConvertTo::PeftBoft => json!({
            "boft_block_size": block.unwrap_or(0),
            "boft_block_num": if block.is_some() { 0 } else { count.unwrap_or(0) },
            "boft_dropout": 0.0,
            "boft_n_butterfly_factor": stages.ok_or_else(|| differ("numbers of factors"))?,
        }),
        ConvertTo::PeftOft => json!({
            "r": if block.is_some() { 0 } else { count.unwrap_or(0) },
            "oft_block_size": block.unwrap_or(0),
            "block_share": false, "coft": false, "eps": 6e-5, "module_dropout": 0.0, "use_cayley_neumann": false,
            "num_cayley_neumann_terms": 5,
        }),
        _ => json!({}),
    })
}

/// A flattened name as the other library has it: the front for its part of a model, and the same path.
fn renamed(module: &str, to: ConvertTo) -> Option<String> {
    /// Of LyCORIS alone, of LyCORIS in kohya's scripts, of kohya itself.
    const FRONTS: [[&str; 3]; 4] = [
        ["lycoris_", "lora_unet_", "oft_unet_"],
        ["lora_te1_", "lora_te1_", "oft_te1_"],
        ["lora_te2_", "lora_te2_", "oft_te2_"],
        ["lora_te_", "lora_te_", "oft_te_"],
    ];
    let of = |fronts: &[&'static str; 3]| {
        fronts.iter().find_map(|front| Some((*fronts, *front, module.strip_prefix(front)?)))
    };
    let (fronts, front, path) = FRONTS.iter().find_map(of)?;
    let new = match to {
        ConvertTo::Kohya => fronts[2],
        _ if front == fronts[2] => fronts[1],
        _ => front,
    };
    Some(format!("{new}{path}"))
}

fn refused(module: &str, to: ConvertTo, got: String) -> Error {
    Error::Unsupported { what: "conversion", expected: exact(to), got: format!("`{module}`: {got}") }
}

fn exact(to: ConvertTo) -> &'static str {
    match to {
        ConvertTo::PeftBoft => {
            "a rotation of the inputs by Cayley blocks, block-diagonal or of BOFT's factors (peft-boft)"
        }
        ConvertTo::PeftOft => {
            "a rotation of the inputs by one block-diagonal factor of Cayley blocks, without scale (peft-oft)"
        }
        ConvertTo::LycorisDiagOft => {
            "a rotation of the outputs by one block-diagonal factor of Cayley blocks (lycoris-diag-oft)"
        }
        ConvertTo::Kohya => {
            "a rotation of the outputs by one block-diagonal factor of Cayley blocks, without scale (kohya-oft)"
        }
        ConvertTo::Lora(_) => "a base model with the weight of the layer, by --base (lora)",
    }
}

/// A layer on its way.
struct Work<'a> {
    layer: &'a Layer,
    sides: Sides,
    path: &'a str,
    shape: Option<&'a [usize]>,
    to: ConvertTo,
    dtype: FloatType,
    has_bias: bool,
    is_embedding: bool,
}

/// A rotation whose stages are all of Cayley blocks: for each stage, its block size and the skew matrices of its blocks.
struct Skews {
    block: usize,
    blocks: usize,
    shared: bool,
    /// Upper triangles of A, for each stage.
    stages: Vec<Vec<f64>>,
}

impl Work<'_> {
    fn refused(&self, got: String) -> Error {
        refused(&self.layer.module, self.to, got)
    }

    /// The stages of a rotation that is BOFT with m factors (m = 1: block-diagonal).
    fn skews(&self, q: &Orthogonal<f64>) -> Result<Skews> {
        let plan = q.plan();
        let (block, m) = match plan.stages().first() {
            Some(stage) => (stage.layout().block_size(), plan.num_stages()),
            None => return Err(self.refused("a rotation without blocks".into())),
        };
        let shape = Shape { stages: m, blocks: plan.n() / block.max(1), block };
        let wanted = shape.plan::<f64>().map_err(|e| self.refused(e.to_string()))?;
        let mut skews = Skews { block, blocks: shape.blocks, shared: false, stages: Vec::new() };
        for (stage, same) in plan.stages().iter().zip(wanted.stages()) {
            let Source::Chart { chart, sharing } = stage.source() else {
                return Err(self.refused("blocks that are given as they are".into()));
            };
            let layouts = (0..shape.blocks).all(|j| {
                (stage.layout().num_blocks() == shape.blocks) && stage.layout().indices(j).eq(same.layout().indices(j))
            });
            if chart.id() != "Cayley" || !layouts {
                let method = self.layer.structure().method;
                return Err(self.refused(format!("{method}, with {} blocks", chart.id())));
            }
            skews.shared = *sharing == Sharing::All;
            let sign = if stage.is_adjoint() { -1.0 } else { 1.0 };
            skews.stages.push(q.theta()[stage.theta()].iter().map(|x| sign * x).collect());
        }
        Ok(skews)
    }

    /// R, if it is all there is besides a scale.
    fn right(&self) -> Result<&Orthogonal<f64>> {
        match &self.sides {
            Sides { view: View::Weight, left: None, right: Some(right), turns_bias: false, .. } => Ok(right),
            _ => Err(self.refused(self.layer.structure().method)),
        }
    }

    /// How much was rounded, and the numbers stored.
    fn boft(&self, draft: &mut Draft) -> Result<(f64, usize)> {
        let skews = self.skews(self.right()?)?;
        let (m, b, blocks) = (skews.stages.len(), skews.block, skews.blocks);
        let is_convolution = self.shape.is_some_and(|shape| shape.len() == 4);
        let scale = match (&self.sides.scale, self.shape) {
            (Some(scale), _) => scale.clone(),
            (None, Some(shape)) => vec![1.0; shape.first().copied().unwrap_or(0)],
            (None, None) => return Err(self.refused("one without a scale, whose length is in the base alone".into())),
        };
        let mut stored = Vec::new();
        for theta in &skews.stages {
            let squares = squares(b, theta, 1.0);
            let copies = if skews.shared { blocks } else { 1 };
            (0..copies).for_each(|_| stored.extend_from_slice(&squares));
        }
        let scale_shape = if is_convolution { [1, scale.len()] } else { [scale.len(), 1] };
        let rotation = draft.add(self.path, "boft_R", self.dtype, &[m, blocks, b, b], &stored)?;
        let factors = draft.add(self.path, "boft_s", self.dtype, &scale_shape, &scale)?;
        Ok((rotation.max(factors), stored.len() + scale.len()))
    }

    fn oft(&self, draft: &mut Draft) -> Result<(f64, usize)> {
        let skews = self.skews(self.right()?)?;
        if skews.stages.len() != 1 || !self.is_unscaled() {
            return Err(self.refused(format!("{} factors, or a scale", skews.stages.len())));
        }
        let pairs = skews.block * (skews.block - 1) / 2;
        // One block for all is written as often as it serves: `block_share` is one flag for all layers.
        let mut theta = skews.stages[0].repeat(if skews.shared { skews.blocks } else { 1 });
        let shape = [theta.len() / pairs.max(1), pairs];
        if self.is_embedding {
            // E' = E·R, where layers are W·Rᵀ.
            theta.iter_mut().for_each(|x| *x = -*x);
        }
        let parameter = if self.is_embedding { "oft_embedding_R.weight" } else { "oft_R.weight" };
        Ok((draft.add(self.path, parameter, self.dtype, &shape, &theta)?, theta.len()))
    }

    fn is_unscaled(&self) -> bool {
        self.sides.scale.iter().flatten().all(|s| *s == 1.0)
    }

    /// LyCORIS's, or kohya's with a constraint that is as long as q.
    fn diag_oft(&self, draft: &mut Draft, kohya: bool) -> Result<(f64, usize)> {
        let left = match &self.sides {
            Sides { view: View::Weight, left: Some(left), right: None, turns_bias: false, .. } => left,
            _ => return Err(self.refused(self.layer.structure().method)),
        };
        let skews = self.skews(left)?;
        if skews.stages.len() != 1 || (kohya && !self.is_unscaled()) {
            return Err(self.refused(format!("{} factors, or a scale", skews.stages.len())));
        }
        let (b, blocks) = (skews.block, skews.blocks);
        let copies = if skews.shared { blocks } else { 1 };
        let squares = squares(b, &skews.stages[0], 0.5).repeat(copies);
        let module = self.path;
        let mut rounding = draft.add(module, "oft_blocks", self.dtype, &[blocks, b, b], &squares)?;
        let length = (2.0 * copies as f64 * skews.stages[0].iter().map(|x| x * x).sum::<f64>()).sqrt();
        // A constraint that does not bind.
        let alpha = if kohya { (2.0 * length / (b * blocks) as f64).max(1.0) } else { 0.0 };
        draft.add(module, "alpha", FloatType::F32, &[], &[alpha])?;
        if let (false, Some(scale)) = (kohya, &self.sides.scale) {
            let mut shape = vec![1; self.shape.map_or(2, <[usize]>::len)];
            shape[0] = scale.len();
            rounding = rounding.max(draft.add(module, "rescale", self.dtype, &shape, scale)?);
        }
        Ok((rounding, squares.len() + 1))
    }

    fn lora(&self, draft: &mut Draft, rank: usize, weight: Vec<f64>) -> Result<(f64, usize)> {
        let shape = self.shape.unwrap_or_default();
        let &[out, inner] = shape else {
            return Err(self.refused(format!("a weight of shape {shape:?}; only matrices become LoRA here")));
        };
        if self.sides.turns_bias && self.has_bias {
            return Err(self.refused("a bias that turns along, which LoRA leaves as it is".into()));
        }
        let mut delta = weight.clone();
        self.sides.merge(shape, &mut delta, Parallelism::Rayon, &Workspace::new())?;
        delta.iter_mut().zip(&weight).for_each(|(d, w)| *d -= w);
        let (b, a, error) = low_rank::nearest(out, inner, &delta, rank).map_err(|e| self.refused(e.to_string()))?;
        let rank = a.len() / inner.max(1);
        if self.is_embedding {
            // ΔE = (B_e·A_e)ᵀ for A_e [r, tokens] and B_e [features, r].
            let transposed = |matrix: &[f64], columns: usize| -> Vec<f64> {
                (0..columns).flat_map(|j| matrix.iter().skip(j).step_by(columns)).copied().collect()
            };
            draft.add(self.path, "lora_embedding_A", FloatType::F32, &[rank, out], &transposed(&b, rank))?;
            draft.add(self.path, "lora_embedding_B", FloatType::F32, &[inner, rank], &transposed(&a, inner))?;
        } else {
            draft.add(self.path, "lora_A.weight", FloatType::F32, &[rank, inner], &a)?;
            draft.add(self.path, "lora_B.weight", FloatType::F32, &[out, rank], &b)?;
        }
        Ok((error, a.len() + b.len()))
    }
}

/// Whole squares c·A from upper triangles of A.
pub(super) fn squares(b: usize, theta: &[f64], c: f64) -> Vec<f64> {
    let pairs = b * (b - 1) / 2;
    let mut stored = vec![0.0; theta.len() / pairs.max(1) * b * b];
    for (block, theta) in stored.chunks_exact_mut(b * b).zip(theta.chunks_exact(pairs.max(1))) {
        let mut theta = theta.iter();
        for i in 0..b {
            for j in i + 1..b {
                let x = c * theta.next().copied().unwrap_or(0.0);
                (block[i * b + j], block[j * b + i]) = (x, -x);
            }
        }
    }
    stored
}
