//! Orthogonal adapters: small files that rotate the weights of a big model.
//!
//! An adapter of this kind holds, for each adapted layer, rotations of the layer's inputs or outputs and perhaps a scale. It
//! merges into the weight as
//!
//! > W' = diag(s) · L · W · Rᵀ
//!
//! with L or R the identity in most dialects. [`Adapter::open`] reads one, [`merge()`] writes the merged model, [`Sides`] is a
//! layer in papilio's own terms. Foreign conventions end in the module of their [dialect].
//!
//! ```
//! use papilio::adapter::Adapter;
//! let adapter = Adapter::open("examples/data/boft_llama/adapter".as_ref())?;
//! for layer in adapter.layers() {
//!     let sides = adapter.sides(layer, None)?;
//!     assert!(sides.defect()? < 1e-14, "{}", layer.module);
//! }
//! # Ok::<(), papilio::Error>(())
//! ```

use std::collections::BTreeMap;
use std::format;
use std::path::Path;
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec::Vec;

use crate::error::Result;
use crate::storage::{Container, FloatType, TensorInfo, field_error, file_error, is_npy, tensor_error};

mod config;
mod convert;
pub mod dialect;
mod draft;
mod extract;
mod low_rank;
mod merge;
mod method;
mod polar;
mod rotations;
mod save;
pub mod serve;
mod sides;
pub mod train;

pub use config::PeftConfig;
pub use convert::{ConvertOptions, ConvertTo, ConvertedLayer, convert};
pub use dialect::{Hint, Numbers, Side, Structure};
pub use dialect::{peft_boft, peft_psoft};
pub use extract::{ExtractOptions, ExtractReport, ExtractedLayer, extract};
pub use merge::{
    LayerReport, MergeEvent, MergeOptions, MergeReport, PRESERVED_LIMIT, PreservedLayer, PreservedOptions,
    PreservedReport, Progress, Strength, merge, preserved, unmerge,
};
pub use method::{LayerKind, Method, Trainable, Variable};
pub use rotations::{RotationReport, rotation_warnings};
pub use save::TrainedTensor;
pub use sides::{Sides, SidesGradient, Undo, View};

use dialect::keys::{Grammar, Key, parse_key};
use dialect::{Context, DIALECTS, Dialect, Form, Tensors};

/// An adapter file, its keys and shapes checked; numbers are read layer by layer.
pub struct Adapter {
    file: Container,
    config: Option<PeftConfig>,
    dialect: &'static Dialect,
    layers: Vec<Layer>,
    replacements: Vec<Replacement>,
    has_permutations: bool,
    warnings: Vec<String>,
}

/// A module whose weight is rotated.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Path of the module in the base model; in the files of LyCORIS and its kin with `_` for `.`, and a front.
    pub module: String,
    tensors: Tensors,
    form: Arc<dyn Form>,
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
    /// Size and kind of its rotation.
    pub fn structure(&self) -> Structure {
        self.form.structure()
    }

    /// Its tensors.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.values()
    }

    /// The sides at other numbers than those of the file, such as while training: by the names of
    /// [`Adapter::numbers`]. `weight` is the shape of the weight in the base; without it what depends on it is as small as the
    /// tensors allow.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) if there are more or fewer numbers than in the file;
    /// [`Error::Domain`](crate::Error::Domain) for numbers that are not finite.
    pub fn sides(&self, numbers: &Numbers, weight: Option<&[usize]>) -> Result<Sides> {
        self.form.sides(numbers, weight)
    }

    /// The sides at a fraction t of the layer's effect, as `papilio merge --strength` takes it.
    ///
    /// # Errors
    /// As [`sides`](Self::sides) and [`Sides::interpolate`].
    pub fn interpolate(&self, numbers: &Numbers, weight: Option<&[usize]>, t: f64) -> Result<Sides> {
        self.form.interpolate(numbers, weight, t)
    }

    /// Gradients for the stored numbers from those for the [sides](Self::sides), [`Sides::vjp`].
    ///
    /// # Errors
    /// As [`sides`](Self::sides); [`Error::Unsupported`](crate::Error::Unsupported) where there is none.
    pub fn pull(&self, numbers: &Numbers, weight: Option<&[usize]>, gradient: &SidesGradient) -> Result<Numbers> {
        self.form.pull(numbers, weight, gradient)
    }

    /// A tensor that stands for the layer in messages.
    fn first(&self) -> &str {
        dialect::any(&self.tensors)
    }

    /// For PSOFT, which is not of the form of [`Sides`]: the rotated core of its low-rank part.
    ///
    /// # Errors
    /// As [`sides`](Self::sides).
    pub fn core(&self, numbers: &Numbers) -> Option<Result<peft_psoft::Core>> {
        self.form.core(numbers)
    }

    /// Gradients for the stored numbers of PSOFT from that for the rotation of its [core](Self::core)
    /// ([`Core::pull`](peft_psoft::Core::pull)).
    ///
    /// # Errors
    /// As [`core`](Self::core); [`Error::Length`](crate::Error::Length) unless the gradient is r×r.
    pub fn pull_core(&self, numbers: &Numbers, d_rotation: &[f64]) -> Option<Result<Numbers>> {
        self.form.pull_core(numbers, d_rotation)
    }
}

impl core::fmt::Debug for Adapter {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let path = self.file.path();
        f.debug_struct("Adapter").field("path", &path).field("dialect", &self.dialect.name).finish_non_exhaustive()
    }
}

impl Adapter {
    /// Opens an adapter: a directory with `adapter_model.safetensors` and `adapter_config.json`, or a safetensors file
    /// (with its configuration beside it, if there is one).
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) naming file and tensor: no orthogonal adapter, unknown keys, missing partners,
    /// shapes that do not fit, more than one adapter, files whose meaning needs a [`Hint`].
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_as(path, None)
    }

    /// Opens an adapter that does not say in which dialect it is written.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_as(path: &Path, hint: Option<Hint>) -> Result<Self> {
        let (weights, config) = locate(path)?;
        let config = config.map(|path| PeftConfig::read(&path)).transpose()?;
        let file = Container::open(&weights)?;
        Self::from_parts(file, config, hint)
    }

    fn from_parts(file: Container, config: Option<PeftConfig>, hint: Option<Hint>) -> Result<Self> {
        let method = config.as_ref().and_then(|config| config.peft_type.as_deref());
        let refused = |expected: String, got: &str| {
            let path = file.path().with_file_name("adapter_config.json");
            Err(field_error(&path, "peft_type", expected, format!("`{got}`")))
        };
        if let Some(method) = method.filter(|method| !Self::knows(method)) {
            let known: Vec<&str> = DIALECTS.iter().flat_map(|dialect| dialect.methods).copied().collect();
            return refused(format!("a method that rotates weights: {}", known.join(", ")), method);
        }
        let mut modules: BTreeMap<String, Tensors> = BTreeMap::new();
        let (mut replacements, mut has_permutations) = (BTreeMap::new(), false);
        let (mut adapter_names, mut saved_names) = (BTreeMap::new(), BTreeMap::new());
        let mut dialects: BTreeMap<&'static str, &TensorInfo> = BTreeMap::new();
        let twice = |tensor: &TensorInfo, other: &str| {
            let got = format!("also `{other}`");
            Err(tensor_error(file.path(), &tensor.name, "one tensor of its kind for its module", got))
        };
        for tensor in file.tensors() {
            match parse_key(&tensor.name) {
                Key::Parameter { dialect, parameter, module, adapter } => {
                    adapter_names.entry(adapter).or_insert(&tensor.name);
                    dialects.entry(dialect).or_insert(tensor);
                    let layer = modules.entry(module.to_string()).or_default();
                    if let Some(other) = layer.insert(parameter, tensor.clone()) {
                        return twice(tensor, &other.name);
                    }
                }
                Key::Whole { name, adapter } => {
                    saved_names.extend(adapter.map(|adapter| (Some(adapter), &tensor.name)));
                    if let Some(other) = replacements.insert(name, tensor) {
                        return twice(tensor, &other.name);
                    }
                }
                Key::Derived { .. } => has_permutations = true,
                Key::Untrained => {}
                Key::Unknown { method } => {
                    let expected = "a tensor of an orthogonal adapter (boft_R, oft_R, …, a bias or a module to save)";
                    let got = match method {
                        Some(method) => format!("one of {method}, which is no rotation"),
                        None => "an unknown key".to_string(),
                    };
                    return Err(tensor_error(file.path(), &tensor.name, expected, got));
                }
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
        let dialect = match dialects.into_iter().collect::<Vec<_>>()[..] {
            [(name, _)] => DIALECTS.iter().find(|dialect| dialect.name == name),
            [(_, first), (_, second), ..] => {
                let got = format!("`{}` and `{}`", first.name, second.name);
                return Err(file_error(file.path(), "an adapter in one dialect", got));
            }
            [] => None,
        };
        let Some(dialect) = dialect else {
            let expected = "an orthogonal adapter: BOFT, OFT and others, with tensors such as boft_R or oft_R";
            return Err(file_error(file.path(), expected, "none of them"));
        };
        if config.is_some() && method.is_none() && dialect.grammar == Grammar::Peft {
            return refused(format!("{}, as the tensors are", dialect.methods.join(" or ")), "no such text");
        }
        if let Some(method) = method.filter(|method| !dialect.methods.contains(method)) {
            return refused(format!("{}, as the tensors are", dialect.methods.join(" or ")), method);
        }
        let cx = Context { path: file.path(), config: config.as_ref(), hint, has_permutations };
        let mut layers = Vec::with_capacity(modules.len());
        for (module, tensors) in modules {
            let form = (dialect.form)(&tensors, &cx)?;
            layers.push(Layer { module, tensors, form });
        }
        for tensor in layers.iter().flat_map(Layer::tensors) {
            if !is_whole_number(tensor) {
                file.float_type(tensor)?;
            }
        }
        let replacements =
            replacements.into_iter().map(|(name, tensor)| Replacement { name, tensor: tensor.clone() }).collect();
        let warnings = config.as_ref().map_or_else(Vec::new, |c| c.mismatches(&layers));
        Ok(Self { layers, replacements, has_permutations, warnings, config, dialect, file })
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
        let is_adapted = |t: &TensorInfo| matches!(parse_key(&t.name), Key::Parameter { .. });
        Ok(Container::open(path)?.tensors().iter().any(is_adapted))
    }

    /// Whether `peft_type` = `method` is one of the dialects.
    pub fn knows(method: &str) -> bool {
        DIALECTS.iter().any(|dialect| dialect.methods.contains(&method))
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

    /// Name of the dialect: `peft-boft`, `peft-oft`, …
    pub fn dialect(&self) -> &'static str {
        self.dialect.name
    }

    /// Whether the file holds `boft_P` buffers, as PEFT up to 0.12 wrote them.
    pub fn has_permutations(&self) -> bool {
        self.has_permutations
    }

    /// What a user should know: where the configuration and the tensors disagree.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The numbers of a layer, by the names of their parameters.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) naming the tensor if an entry is NaN or infinite.
    pub fn numbers(&self, layer: &Layer) -> Result<Numbers> {
        let read = |tensor: &TensorInfo| {
            if is_whole_number(tensor) { self.file.read_integers(tensor) } else { self.file.read_finite(tensor) }
        };
        layer.tensors.iter().map(|(name, tensor)| Ok((*name, read(tensor)?))).collect()
    }

    /// A layer's rotations and scale. `weight` is the shape of the weight in the base; without it what depends on it is as
    /// small as the tensors allow.
    ///
    /// # Errors
    /// As [`numbers`](Self::numbers); [`Error::Domain`](crate::Error::Domain) for numbers that define no rotation.
    pub fn sides(&self, layer: &Layer, weight: Option<&[usize]>) -> Result<Sides> {
        layer.sides(&self.numbers(layer)?, weight)
    }
}

/// Whether a tensor holds integers: LyCORIS stores a constraint of 0 as one.
fn is_whole_number(tensor: &TensorInfo) -> bool {
    FloatType::from_dtype(tensor.dtype).is_none() && tensor.name.ends_with(".alpha")
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
