//! What every tensor of the output is made of. Everything that can be wrong with names, shapes and types, and every
//! number of the adapter, is checked here.

use std::collections::HashMap;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::model_config::ModelConfig;
use super::names::Names;
use crate::adapter::dialect::keys::Grammar;
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
    /// W' = diag(s)·L·W·Rᵀ for one adapter after the other, then rounded; of a bias that turns along, b' = diag(s)·L·b.
    Rotate { layers: Vec<Part<'a>>, is_bias: bool, from: FloatType, to: FloatType },
}

/// A layer of one of the adapters.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) adapter: &'a Adapter,
    pub(super) layer: &'a Layer,
}

/// Adapters by the tensors of the base that they act on.
type Work<'a> = HashMap<String, (Vec<Part<'a>>, bool)>;

pub(super) fn resolve<'a>(
    base: &'a Checkpoint,
    adapters: &'a [Adapter],
    config: Option<&ModelConfig>,
    dtype: Option<FloatType>,
) -> Result<Resolved<'a>> {
    let mut work = Work::new();
    let mut warnings = Vec::new();
    let mut replaced: HashMap<&str, (&Adapter, &TensorInfo)> = HashMap::new();
    let names = Names::new(base, adapters.iter().any(|adapter| adapter.dialect.grammar != Grammar::Peft));
    for adapter in adapters {
        // What an adapter trained as a whole takes the place of what adapters before it made.
        for replacement in adapter.replacements() {
            if work.remove(&replacement.name).is_some() {
                warnings.push(format!(
                    "`{}` is replaced by {}: what adapters before it do to it is lost",
                    replacement.name,
                    adapter.file().path().display()
                ));
            }
        }
        add_layers(base, &names, adapter, &mut work)?;
        for layer in adapter.layers().iter().filter(|layer| layer.tensors.contains_key("oft_embedding_R")) {
            if config.is_some_and(ModelConfig::ties_head) {
                warnings.push(format!(
                    "`{}` is an embedding, and config.json ties the output head to it (tie_word_embeddings): the merged \
                     model turns its head, too, which the adapter did not",
                    layer.module
                ));
            }
        }
        for replacement in adapter.replacements() {
            if let Some((other, _)) = replaced.insert(&replacement.name, (adapter, &replacement.tensor)) {
                warnings.push(format!(
                    "`{}` is in more than one adapter: that of {} replaces that of {}",
                    replacement.name,
                    adapter.file().path().display(),
                    other.file().path().display()
                ));
            }
        }
    }

    let mut shards = Vec::with_capacity(base.shards().len());
    for shard in base.shards() {
        let mut entries = Vec::with_capacity(shard.tensors().len());
        for tensor in shard.tensors() {
            let (file, source) = match replaced.get(tensor.name.as_str()) {
                Some((adapter, source)) => (adapter.file(), *source),
                None => (shard, tensor),
            };
            if source.shape != tensor.shape {
                let expected = format!("shape {:?} of the base tensor `{}`", tensor.shape, tensor.name);
                return Err(tensor_error(file.path(), &source.name, expected, format!("{:?}", source.shape)));
            }
            entries.push(entry(tensor, file, source, work.remove(&tensor.name), dtype)?);
        }
        let file_name = shard.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        shards.push(Shard { file_name, metadata: shard.metadata(), entries });
    }
    let mut has_new = false;
    let mut added: Vec<_> = replaced.into_iter().filter(|(name, _)| base.get(name).is_none()).collect();
    added.sort_by_key(|(name, _)| *name);
    for (name, (adapter, tensor)) in added {
        check_addition(base, adapter, name, tensor)?;
        // A tied head is the embedding: it has the same shape.
        let has_twin = base.tensors().any(|other| other.shape == tensor.shape);
        let tied = if has_twin && config.is_some_and(ModelConfig::ties_head) {
            "; but its config.json ties the output head to the embedding (tie_word_embeddings), so loaders may ignore it"
        } else {
            ""
        };
        warnings.push(format!("the base has no `{name}`: added from the adapter (modules_to_save){tied}"));
        has_new = true;
        let new = TensorInfo { name: name.to_string(), ..tensor.clone() };
        if let Some(shard) = shards.last_mut() {
            shard.entries.push(entry(&new, adapter.file(), tensor, None, dtype)?);
        }
    }
    if dtype.is_some() || has_new {
        // Element sizes descend through a file, as safetensors has it, so that every tensor is aligned.
        for shard in &mut shards {
            shard.entries.sort_by_key(|entry| core::cmp::Reverse(entry.spec.dtype.bitsize()));
        }
    }
    for adapter in adapters {
        let layers = adapter.layers().iter().flat_map(Layer::tensors);
        for tensor in layers.chain(adapter.replacements().iter().map(|r| &r.tensor)) {
            if FloatType::from_dtype(tensor.dtype).is_some() {
                adapter.file().check_finite(tensor)?;
            }
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
    work: Option<(Vec<Part<'a>>, bool)>,
    dtype: Option<FloatType>,
) -> Result<Entry<'a>> {
    let from = FloatType::from_dtype(source.dtype);
    let to = FloatType::from_dtype(target.dtype).map(|kept| dtype.unwrap_or(kept));
    let action = match (work, from, to) {
        (Some((layers, is_bias)), Some(from), Some(to)) => Action::Rotate { layers, is_bias, from, to },
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

/// Adds the layers of an adapter to the tensors that they act on, their sizes compared with these.
fn add_layers<'a>(base: &Checkpoint, names: &Names<'_>, adapter: &'a Adapter, work: &mut Work<'a>) -> Result<()> {
    let mut seen = HashMap::new();
    for layer in adapter.layers() {
        let error =
            |expected: String, got: String| Err(tensor_error(adapter.file().path(), layer.first(), expected, got));
        let Some(module) = names.module(adapter, layer)? else {
            let weight = format!("{}.weight", layer.module);
            return error(format!("a base model with a tensor `{weight}`"), absence(base, &weight));
        };
        if let Some(other) = seen.insert(module.clone(), layer) {
            return error(format!("one layer for `{module}`"), format!("also `{}`", other.first()));
        }
        let weight = format!("{module}.weight");
        let Some((shard, tensor)) = base.get(&weight) else {
            return error(format!("a base model with a tensor `{weight}`"), absence(base, &weight));
        };
        if !matches!(tensor.shape.len(), 2..=5) {
            let expected = "a Linear weight [out, in] or a convolution's [out, c, …]";
            return Err(tensor_error(shard.path(), &weight, expected, format!("shape {:?}", tensor.shape)));
        }
        layer.form.check_weight(&tensor.shape).map_err(|misfit| {
            let tensor_name = layer.tensors.get(misfit.parameter).map_or(layer.first(), |tensor| &tensor.name);
            let expected = misfit
                .expected
                .unwrap_or_else(|| format!("sizes that fit the base tensor `{weight}` of shape {:?}", tensor.shape));
            tensor_error(adapter.file().path(), tensor_name, expected, misfit.got)
        })?;
        let part = Part { adapter, layer };
        work.entry(weight).or_default().0.push(part);
        if layer.form.turns_bias() {
            let bias = format!("{module}.bias");
            if base.get(&bias).is_some() {
                let (parts, is_bias) = work.entry(bias).or_default();
                parts.push(part);
                *is_bias = true;
            }
        }
    }
    Ok(())
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
