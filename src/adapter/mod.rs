//! Orthogonal adapters: small files that rotate the weights of a big model.
//!
//! An adapter of this kind holds, for each adapted layer, a structured rotation R of the layer's input space and a
//! scale s of its outputs. It acts as y = s ⊙ ((x R) Wᵀ) + bias, so it merges into the weight as
//!
//! > W' = diag(s) · W · Rᵀ.
//!
//! [`Adapter::open`] reads one, [`merge()`] writes the merged model, [`Rotation`] is the layer in papilio's own terms.
//! Foreign conventions end in the module of their dialect ([`peft_boft`]).
//!
//! ```
//! use papilio::adapter::Adapter;
//! let adapter = Adapter::open("examples/data/boft_llama/adapter".as_ref())?;
//! for layer in adapter.layers() {
//!     let rotation = adapter.rotation(layer)?.realize()?;
//!     assert!(rotation.certificate()?.defect < 1e-14, "{}", layer.module);
//! }
//! # Ok::<(), papilio::Error>(())
//! ```

use std::collections::BTreeMap;
use std::format;
use std::path::Path;
use std::string::{String, ToString};
use std::vec::Vec;

use crate::error::Result;
use crate::storage::{Container, TensorInfo, file_error, is_npy, tensor_error};

mod config;
mod merge;
pub mod peft_boft;
mod rotation;
pub mod serve;
pub mod train;

pub use config::PeftConfig;
pub use merge::{
    LayerReport, MergeEvent, MergeOptions, MergeReport, PRESERVED_LIMIT, PreservedLayer, PreservedOptions,
    PreservedReport, Progress, merge, preserved,
};
pub use rotation::{RealizedRotation, Rotation};

use peft_boft::{Key, Shape, parse_key};

/// An adapter file, its keys and shapes checked; numbers are read layer by layer.
#[derive(Debug)]
pub struct Adapter {
    file: Container,
    config: Option<PeftConfig>,
    layers: Vec<Layer>,
    replacements: Vec<Replacement>,
    has_permutations: bool,
    warnings: Vec<String>,
}

/// A module whose weight is rotated.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Path of the module in the base model.
    pub module: String,
    /// Size and wiring of its rotation.
    pub shape: Shape,
    blocks: TensorInfo,
    scale: TensorInfo,
}

/// A tensor of the base model that was trained as a whole: a bias, a head.
#[derive(Debug, Clone)]
pub struct Replacement {
    /// Its name in the base model.
    pub name: String,
    /// Where it lies in the adapter file.
    pub tensor: TensorInfo,
}

impl Layer {
    /// Number of outputs of the module: the rows of its weight, as the shape of its scale says.
    pub fn outputs(&self) -> usize {
        self.scale.len()
    }
}

impl Adapter {
    /// Opens an adapter: a directory with `adapter_model.safetensors` and `adapter_config.json`, or a safetensors file
    /// (with its configuration beside it, if there is one).
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) naming file and tensor: not a BOFT adapter, unknown keys, missing partners,
    /// shapes that are no butterfly, more than one adapter.
    pub fn open(path: &Path) -> Result<Self> {
        let (weights, config) = locate(path)?;
        let read = |path: std::path::PathBuf| PeftConfig::read(&path)?.of_boft(&path);
        let config = config.map(read).transpose()?;
        let file = Container::open(&weights)?;
        Self::from_parts(file, config)
    }

    fn from_parts(file: Container, config: Option<PeftConfig>) -> Result<Self> {
        let (mut blocks, mut scales) = (BTreeMap::new(), BTreeMap::new());
        let (mut replacements, mut has_permutations) = (BTreeMap::new(), false);
        let (mut adapter_names, mut saved_names) = (BTreeMap::new(), BTreeMap::new());
        for tensor in file.tensors() {
            let (slot, name) = match parse_key(&tensor.name) {
                Key::Blocks { module, adapter } => {
                    adapter_names.entry(adapter).or_insert(&tensor.name);
                    (&mut blocks, module.to_string())
                }
                Key::Scale { module, adapter } => {
                    adapter_names.entry(adapter).or_insert(&tensor.name);
                    (&mut scales, module.to_string())
                }
                Key::Whole { name, adapter } => {
                    saved_names.extend(adapter.map(|adapter| (Some(adapter), &tensor.name)));
                    (&mut replacements, name)
                }
                Key::Permutation => {
                    has_permutations = true;
                    continue;
                }
                Key::Untrained => continue,
                Key::Unknown => {
                    let expected = "a tensor of a BOFT adapter (boft_R, boft_s, a bias or a module to save)";
                    return Err(tensor_error(file.path(), &tensor.name, expected, "an unknown key"));
                }
            };
            if let Some(other) = slot.insert(name, tensor) {
                let got = format!("also `{}`", other.name);
                return Err(tensor_error(file.path(), &tensor.name, "one tensor of its kind for its module", got));
            }
        }
        // A key of a saved module may name the adapter where those of the layers do not, but not another one.
        if adapter_names.keys().any(Option::is_some) {
            adapter_names.extend(saved_names.clone());
        }
        for names in [&adapter_names, &saved_names] {
            if let [first, second, ..] = names.values().collect::<Vec<_>>()[..] {
                let got = format!("`{first}` and `{second}`");
                return Err(file_error(file.path(), "one adapter in the file", got));
            }
        }
        if blocks.is_empty() && scales.is_empty() {
            return Err(file_error(file.path(), "a BOFT adapter (tensors that end in .boft_R)", "none of them"));
        }
        let layers = pair(&file, blocks, scales)?;
        let replacements =
            replacements.into_iter().map(|(name, tensor)| Replacement { name, tensor: tensor.clone() }).collect();
        let warnings = config.as_ref().map_or_else(Vec::new, |c| c.mismatches(layers.iter().map(|l| l.shape)));
        Ok(Self { layers, replacements, has_permutations, warnings, config, file })
    }

    /// Whether an adapter rather than a model lies at `path`: a directory with an adapter's files and no model's, or a
    /// safetensors file with tensors of an adapter.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) if there is nothing readable.
    pub fn is_at(path: &Path) -> Result<bool> {
        let metadata = std::fs::metadata(path).map_err(|e| file_error(path, "a file or directory", e))?;
        if metadata.is_dir() {
            let has = |name| path.join(name).exists();
            let is_model = has("model.safetensors") || has("model.safetensors.index.json");
            return Ok(!is_model && (has("adapter_model.safetensors") || has("adapter_config.json")));
        }
        if is_npy(path) {
            return Ok(false);
        }
        let is_adapted = |t: &TensorInfo| matches!(parse_key(&t.name), Key::Blocks { .. } | Key::Scale { .. });
        Ok(Container::open(path)?.tensors().iter().any(is_adapted))
    }

    /// The safetensors file.
    pub fn file(&self) -> &Container {
        &self.file
    }

    /// The configuration, if there is one. Sizes never come from it.
    pub fn config(&self) -> Option<&PeftConfig> {
        self.config.as_ref()
    }

    /// Adapted layers, sorted by module.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Tensors trained as a whole, sorted by name.
    pub fn replacements(&self) -> &[Replacement] {
        &self.replacements
    }

    /// Whether the file holds `boft_P` buffers, as PEFT up to 0.12 wrote them.
    pub fn has_permutations(&self) -> bool {
        self.has_permutations
    }

    /// What a user should know: where the configuration and the tensors disagree.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The numbers of a layer.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) naming the tensor if an entry is NaN or infinite.
    pub fn rotation(&self, layer: &Layer) -> Result<Rotation> {
        let blocks = self.file.read_finite(&layer.blocks)?;
        let scale = self.file.read_finite(&layer.scale)?;
        Rotation::new(layer.shape.plan()?, layer.shape.theta(&blocks)?, scale)
    }
}

/// Matches blocks with scales and checks the shapes.
fn pair(
    file: &Container,
    blocks: BTreeMap<String, &TensorInfo>,
    mut scales: BTreeMap<String, &TensorInfo>,
) -> Result<Vec<Layer>> {
    let mut layers = Vec::with_capacity(blocks.len());
    for (module, blocks) in blocks {
        let error = |tensor: &TensorInfo, expected: &str, got: String| {
            Err(tensor_error(file.path(), &tensor.name, expected, got))
        };
        let Some(scale) = scales.remove(&module) else {
            return error(blocks, "a boft_s of the same module beside it", "none".to_string());
        };
        for tensor in [blocks, scale] {
            file.float_type(tensor)?;
        }
        if !matches!(scale.shape[..], [_, 1] | [1, _]) {
            return error(scale, "shape [out, 1] (Linear) or [1, out] (Conv2d)", format!("{:?}", scale.shape));
        }
        let shape = Shape::from_dims(&blocks.shape).and_then(|s| s.plan::<f64>().map(|_| s));
        let shape = shape.map_err(|e| tensor_error(file.path(), &blocks.name, "a block butterfly", e))?;
        layers.push(Layer { module, shape, blocks: blocks.clone(), scale: scale.clone() });
    }
    match scales.into_values().next() {
        Some(orphan) => Err(tensor_error(file.path(), &orphan.name, "a boft_R of the same module beside it", "none")),
        None => Ok(layers),
    }
}

/// The weights and the configuration of an adapter.
fn locate(path: &Path) -> Result<(std::path::PathBuf, Option<std::path::PathBuf>)> {
    let metadata = std::fs::metadata(path).map_err(|e| file_error(path, "an adapter file or directory", e))?;
    let weights = if metadata.is_dir() { path.join("adapter_model.safetensors") } else { path.into() };
    if metadata.is_dir() && !weights.exists() {
        let got = if path.join("adapter_model.bin").exists() {
            "adapter_model.bin, a pickle (save it again with safe_serialization=True)"
        } else {
            "a directory without it"
        };
        // PEFT saves an adapter that is not called `default` in a subdirectory of its name.
        let inner = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        return Err(match inner.filter(|inner| inner.join("adapter_model.safetensors").is_file()).min() {
            Some(inner) => {
                file_error(path, "adapter_model.safetensors", format!("one in {} (give that path)", inner.display()))
            }
            None => file_error(path, "adapter_model.safetensors", got),
        });
    }
    let config = weights.with_file_name("adapter_config.json");
    Ok((weights, config.exists().then_some(config)))
}
