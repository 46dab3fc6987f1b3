//! What every tensor of the output is made of. Everything that can be wrong with names, shapes and types, and every
//! number of the adapter, is checked here.

use std::collections::HashMap;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::model_config::ModelConfig;
use crate::adapter::{Adapter, Layer};
use crate::error::Result;
use crate::storage::{Checkpoint, Container, FloatType, TensorInfo, TensorSpec, tensor_error};

/// All files of the output.
pub(super) struct Resolved<'a> {
    pub(super) shards: Vec<Shard<'a>>,
    pub(super) num_bytes: u64,
    /// Whether there are tensors that the base lacks.
    pub(super) has_new: bool,
    pub(super) warnings: Vec<String>,
}

/// One file of the output.
pub(super) struct Shard<'a> {
    pub(super) file_name: String,
    pub(super) metadata: Option<&'a HashMap<String, String>>,
    pub(super) entries: Vec<Entry<'a>>,
}

/// One tensor of the output.
pub(super) struct Entry<'a> {
    /// What it will be called and look like.
    pub(super) spec: TensorSpec,
    /// The file that its numbers come from …
    pub(super) file: &'a Container,
    /// … and the tensor there.
    pub(super) source: &'a TensorInfo,
    /// What is done to its numbers.
    pub(super) action: Action<'a>,
}

/// What is done to the numbers of a tensor.
pub(super) enum Action<'a> {
    /// Nothing: byte for byte.
    Copy,
    /// Rounded to another type.
    Convert { from: FloatType, to: FloatType },
    /// W' = diag(s)·W·Rᵀ, then rounded.
    Rotate { layer: &'a Layer, from: FloatType, to: FloatType },
}

pub(super) fn resolve<'a>(
    base: &'a Checkpoint,
    adapter: &'a Adapter,
    config: Option<&ModelConfig>,
    dtype: Option<FloatType>,
) -> Result<Resolved<'a>> {
    let layers = layers_by_weight(base, adapter)?;
    let replaced: HashMap<&str, &TensorInfo> =
        adapter.replacements().iter().map(|r| (r.name.as_str(), &r.tensor)).collect();
    let mut warnings = Vec::from_iter(old_convolutions(&layers, base, adapter));

    let mut shards = Vec::with_capacity(base.shards().len());
    for shard in base.shards() {
        let mut entries = Vec::with_capacity(shard.tensors().len());
        for tensor in shard.tensors() {
            let (file, source) = match replaced.get(tensor.name.as_str()) {
                Some(source) => (adapter.file(), *source),
                None => (shard, tensor),
            };
            if source.shape != tensor.shape {
                let expected = format!("shape {:?} of the base tensor `{}`", tensor.shape, tensor.name);
                return Err(tensor_error(file.path(), &source.name, expected, format!("{:?}", source.shape)));
            }
            entries.push(entry(tensor, file, source, layers.get(&tensor.name).copied(), dtype)?);
        }
        let file_name = shard.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        shards.push(Shard { file_name, metadata: shard.metadata(), entries });
    }
    let mut has_new = false;
    for new in adapter.replacements().iter().filter(|r| base.get(&r.name).is_none()) {
        check_addition(base, adapter, &new.name, &new.tensor)?;
        // A tied head is the embedding: it has the same shape.
        let has_twin = base.tensors().any(|tensor| tensor.shape == new.tensor.shape);
        let tied = if has_twin && config.is_some_and(ModelConfig::ties_head) {
            "; but its config.json ties the output head to the embedding (tie_word_embeddings), so loaders may ignore it"
        } else {
            ""
        };
        warnings.push(format!("the base has no `{}`: added from the adapter (modules_to_save){tied}", new.name));
        has_new = true;
        let added = TensorInfo { name: new.name.clone(), ..new.tensor.clone() };
        if let Some(shard) = shards.last_mut() {
            shard.entries.push(entry(&added, adapter.file(), &new.tensor, None, dtype)?);
        }
    }
    if dtype.is_some() || has_new {
        // Element sizes descend through a file, as safetensors has it, so that every tensor is aligned.
        for shard in &mut shards {
            shard.entries.sort_by_key(|entry| core::cmp::Reverse(entry.spec.dtype.bitsize()));
        }
    }
    for tensor in adapter.layers().iter().flat_map(|l| [&l.blocks, &l.scale]) {
        adapter.file().check_finite(tensor)?;
    }
    for tensor in adapter.replacements().iter().map(|r| &r.tensor) {
        if FloatType::from_dtype(tensor.dtype).is_some() {
            adapter.file().check_finite(tensor)?;
        }
    }
    let mut num_bytes = 0;
    for entry in shards.iter().flat_map(|shard| &shard.entries) {
        num_bytes += entry.spec.num_bytes(base.path())?;
    }
    Ok(Resolved { shards, num_bytes, has_new, warnings })
}

/// The tensor `target` of the base, made from `source`.
fn entry<'a>(
    target: &TensorInfo,
    file: &'a Container,
    source: &'a TensorInfo,
    layer: Option<&'a Layer>,
    dtype: Option<FloatType>,
) -> Result<Entry<'a>> {
    let from = FloatType::from_dtype(source.dtype);
    let to = FloatType::from_dtype(target.dtype).map(|kept| dtype.unwrap_or(kept));
    let action = match (layer, from, to) {
        (Some(layer), Some(from), Some(to)) => Action::Rotate { layer, from, to },
        (None, Some(from), Some(to)) if from != to => Action::Convert { from, to },
        (None, _, _) if from.is_some() == to.is_some() && (to.is_some() || source.dtype == target.dtype) => {
            Action::Copy
        }
        (Some(_), _, _) => {
            let expected = "an adapted weight of type F16, BF16, F32 or F64 (a quantised base cannot be merged)";
            return Err(tensor_error(file.path(), &source.name, expected, source.dtype));
        }
        (None, _, _) => {
            let expected = format!("type {} of the base tensor `{}`", target.dtype, target.name);
            return Err(tensor_error(file.path(), &source.name, expected, source.dtype));
        }
    };
    let dtype = to.map_or(target.dtype, FloatType::dtype);
    let spec = TensorSpec { name: target.name.clone(), dtype, shape: target.shape.clone() };
    Ok(Entry { spec, file, source, action })
}

/// The adapted layers by the name of their weight in the base, their sizes compared with it.
fn layers_by_weight<'a>(base: &Checkpoint, adapter: &'a Adapter) -> Result<HashMap<String, &'a Layer>> {
    let mut layers = HashMap::new();
    for layer in adapter.layers() {
        let weight = format!("{}.weight", layer.module);
        let error = |tensor: &TensorInfo, expected: String, got: String| {
            Err(tensor_error(adapter.file().path(), &tensor.name, expected, got))
        };
        let Some((shard, tensor)) = base.get(&weight) else {
            let expected = format!("a base model with a tensor `{weight}`");
            return error(&layer.blocks, expected, absence(base, &weight));
        };
        let (&rows, columns) = match &tensor.shape[..] {
            [rows, columns @ ..] if matches!(columns.len(), 1 | 3) => (rows, columns),
            other => {
                let expected = "a Linear weight [out, in] or a Conv2d weight [out, c, kh, kw]";
                return Err(tensor_error(shard.path(), &weight, expected, format!("shape {other:?}")));
            }
        };
        let is_conv = columns.len() == 3;
        if is_conv && adapter.has_permutations() {
            let expected = "an adapter from PEFT 0.14 or later for a Conv2d layer";
            let got = "one from 0.13 or before (it holds boft_P), where convolutions rotate a reinterpreted weight";
            return error(&layer.blocks, expected.to_string(), got.to_string());
        }
        let n = columns.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
        if n != Some(layer.shape.n()) {
            let n = n.map_or_else(|| "an impossible size".to_string(), |n| n.to_string());
            let expected = format!("D*b = {n} for the base tensor `{weight}` of shape {:?}", tensor.shape);
            return error(&layer.blocks, expected, format!("shape {:?}", layer.blocks.shape));
        }
        let scale = if is_conv { [1, rows] } else { [rows, 1] };
        if layer.scale.shape != scale {
            let expected = format!("shape {scale:?} for the base tensor `{weight}` of shape {:?}", tensor.shape);
            return error(&layer.scale, expected, format!("{:?}", layer.scale.shape));
        }
        layers.insert(weight, layer);
    }
    Ok(layers)
}

/// A warning if convolutions are adapted and the adapter may stem from a PEFT that rotated them in another way. Neither
/// keys nor shapes tell; `peft_version` is written since 0.18.
fn old_convolutions(layers: &HashMap<String, &Layer>, base: &Checkpoint, adapter: &Adapter) -> Option<String> {
    let is_conv = |name: &&String| base.get(name).is_some_and(|(_, tensor)| tensor.shape.len() == 4);
    let first = layers.keys().filter(is_conv).min()?;
    if adapter.config().is_some_and(|config| config.peft_version.is_some()) {
        return None;
    }
    Some(format!(
        "`{first}` is a Conv2d weight and no peft_version says who wrote the adapter: merged as PEFT 0.14 and later \
         have it. PEFT 0.13 rotated convolutions in another way; an adapter from there gives a wrong model"
    ))
}

/// A tensor that the base lacks may come from the adapter only if the configuration names its module.
fn check_addition(base: &Checkpoint, adapter: &Adapter, name: &str, tensor: &TensorInfo) -> Result<()> {
    let is_saved = |config: &crate::adapter::PeftConfig| {
        name.match_indices('.').any(|(dot, _)| config.saves(&name[..dot])) // any module that it lies in
    };
    if adapter.config().is_some_and(is_saved) {
        return Ok(());
    }
    let expected = format!("a base model with a tensor `{name}`, or its module among modules_to_save");
    Err(tensor_error(adapter.file().path(), &tensor.name, expected, absence(base, name)))
}

/// What to say when the base lacks a tensor: the one that differs from it only in front, if there is one.
fn absence(base: &Checkpoint, name: &str) -> String {
    let path = base.path().display();
    let ends = |long: &str, short: &str| long.strip_suffix(short).is_some_and(|front| front.ends_with('.'));
    let is_like = |other: &&TensorInfo| ends(&other.name, name) || ends(name, &other.name);
    match base.tensors().filter(is_like).max_by_key(|t| t.name.len()) {
        Some(other) => {
            format!("none in {path}, only `{}`: is it the model that the adapter was trained on?", other.name)
        }
        None => format!("none in {path}"),
    }
}
