//! An adapter to be written: tensors and a configuration, in the form that its library loads.
//!
//! What is written is read again to the same bytes: tensors sorted by name, numbers in their own type. A directory or file appears whole or not at all.

use std::collections::{BTreeMap, HashMap};
use std::format;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use serde_json::{Map, Value, json};

use super::{Adapter, Layer};
use crate::error::{Error, Result};
use crate::storage::{Dtype, FloatType, Output, TensorSpec, Writer, file_error, unwritable};

/// A PEFT whose meaning the drafts have; it is written into their configurations.
const PEFT: &str = "0.18.0";

/// A tensor of a draft.
#[derive(Debug, Clone)]
pub(super) struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// An adapter to be written.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    /// `adapter_config.json`; without one the draft is a single file.
    config: Option<Map<String, Value>>,
    metadata: HashMap<String, String>,
    tensors: BTreeMap<String, Tensor>,
}

impl Draft {
    /// Of PEFT: method and further fields of the configuration. Modules are filled in by [`add`](Self::add).
    pub(super) fn peft(method: &str, fields: Value) -> Self {
        let mut config = Map::new();
        for (field, value) in [
            ("base_model_name_or_path", Value::Null),
            ("bias", json!("none")),
            ("fan_in_fan_out", json!(false)),
            ("inference_mode", json!(true)),
            ("peft_type", json!(method)),
            ("peft_version", json!(PEFT)),
            ("target_modules", json!([])),
            ("task_type", Value::Null),
        ] {
            config.insert(field.to_string(), value);
        }
        config.extend(fields.as_object().cloned().unwrap_or_default());
        let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
        Self { config: Some(config), metadata, tensors: BTreeMap::new() }
    }

    /// A single file with flattened names.
    pub(super) fn flat() -> Self {
        Self { config: None, metadata: HashMap::new(), tensors: BTreeMap::new() }
    }

    /// An adapter as it is: its own tensors and configuration, in the canonical order.
    pub(super) fn copy(adapter: &Adapter) -> Result<Self> {
        let file = adapter.file();
        let mut tensors = BTreeMap::new();
        for tensor in file.tensors() {
            let bytes = file.window(tensor, 0..tensor.num_bytes())?.to_vec();
            tensors.insert(tensor.name.clone(), Tensor { dtype: tensor.dtype, shape: tensor.shape.clone(), bytes });
        }
        let config = adapter.config().map(|config| config.fields().clone());
        Ok(Self { config, metadata: file.metadata().cloned().unwrap_or_default(), tensors })
    }

    /// Adds a parameter of a module, in `dtype`, or in single precision if half would round. Gives back how much the numbers
    /// are rounded, relative to their norm.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if it is there already: two modules would have one name; [`Error::Domain`] for numbers beyond
    /// `dtype`.
    pub(super) fn add(
        &mut self,
        module: &str,
        parameter: &str,
        dtype: FloatType,
        shape: &[usize],
        numbers: &[f64],
    ) -> Result<f64> {
        let name = match &mut self.config {
            Some(config) => {
                let modules = config.get_mut("target_modules").and_then(Value::as_array_mut);
                if let Some(modules) = modules.filter(|modules| !modules.iter().any(|known| known == module)) {
                    modules.push(json!(module));
                }
                format!("base_model.model.{module}.{parameter}")
            }
            None => format!("{module}.{parameter}"),
        };
        let (mut dtype, (mut bytes, mut rounding)) = (dtype, encoded(dtype, numbers));
        if rounding != 0.0 && dtype.size() < FloatType::F32.size() {
            dtype = FloatType::F32;
            (bytes, rounding) = encoded(dtype, numbers);
        }
        if !rounding.is_finite() {
            let (what, expected) = (format!("numbers of `{name}`"), "numbers within the type that they are stored in");
            let largest = numbers.iter().fold(0.0f64, |most, x| most.max(x.abs()));
            return Err(Error::Domain { what, expected, got: format!("{largest:e} as {dtype}") });
        }
        let twice = Error::Unsupported {
            what: "adapter",
            expected: "modules with names of their own",
            got: format!("two that are `{name}`"),
        };
        match self.tensors.insert(name, Tensor { dtype: dtype.dtype(), shape: shape.to_vec(), bytes }) {
            None => Ok(rounding),
            Some(_) => Err(twice),
        }
    }

    /// Adds what an adapter trained as a whole.
    pub(super) fn add_replacements(&mut self, adapter: &Adapter) -> Result<()> {
        for replacement in adapter.replacements() {
            let (tensor, file) = (&replacement.tensor, adapter.file());
            let bytes = file.window(tensor, 0..tensor.num_bytes())?.to_vec();
            // The bias of an adapted module lies inside of its wrapper.
            let owner = replacement.name.rsplit_once('.').filter(|(_, parameter)| *parameter == "bias");
            let is_inner = owner.is_some_and(|(owner, _)| adapter.layers().iter().any(|layer| layer.module == owner));
            let name = match owner.filter(|_| is_inner) {
                Some((owner, parameter)) => format!("base_model.model.{owner}.base_layer.{parameter}"),
                None => format!("base_model.model.{}", replacement.name),
            };
            self.tensors.insert(name, Tensor { dtype: tensor.dtype, shape: tensor.shape.clone(), bytes });
        }
        let (Some(config), Some(old)) = (&mut self.config, adapter.config()) else { return Ok(()) };
        if !old.modules_to_save.is_empty() {
            config.insert("modules_to_save".to_string(), json!(old.modules_to_save));
        }
        // `oft_only` is `boft_only` in the other method.
        if let Some(trained) = old.fields().get("bias").and_then(Value::as_str) {
            let method = config.get("peft_type").and_then(Value::as_str).unwrap_or_default().to_lowercase();
            let own = if trained.ends_with("_only") { format!("{method}_only") } else { trained.to_string() };
            config.insert("bias".to_string(), json!(own));
        }
        Ok(())
    }

    /// Sets fields of the configuration.
    pub(super) fn set(&mut self, fields: Value) {
        if let (Some(config), Value::Object(fields)) = (&mut self.config, fields) {
            config.extend(fields);
        }
    }

    /// Writes it: a directory if there is a configuration, else a file.
    ///
    /// # Errors
    /// [`Error::File`] if `out` exists and may not be replaced, or from the system.
    pub(super) fn write(&self, out: &Path, force: bool) -> Result<()> {
        const WEIGHTS: &str = "adapter_model.safetensors";
        const CONFIG: &str = "adapter_config.json";
        let Some(config) = &self.config else {
            let output = Output::file(out, force)?;
            self.write_tensors(&output.path(""), out)?;
            return output.commit();
        };
        if out.extension().is_some_and(|extension| extension == "safetensors") {
            return Err(file_error(out, "a directory, as this dialect has a configuration", "the name of a file"));
        }
        let output = Output::directory(out, force, [WEIGHTS, CONFIG].map(PathBuf::from))?;
        self.write_tensors(&output.path(WEIGHTS), &output.shown(WEIGHTS))?;
        let shown = output.shown(CONFIG);
        let text = serde_json::to_string_pretty(config).map_err(|e| file_error(&shown, "a configuration", e))?;
        let write = || {
            let mut file = File::create(output.path(CONFIG))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write().map_err(|e| unwritable(&shown, e))?;
        output.commit()
    }

    fn write_tensors(&self, path: &Path, shown: &Path) -> Result<()> {
        let spec = |(name, tensor): (&String, &Tensor)| TensorSpec {
            name: name.clone(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
        };
        // Wide elements first, as safetensors has it, so that every tensor is aligned.
        let mut sorted: Vec<_> = self.tensors.iter().collect();
        sorted.sort_by_key(|(_, tensor)| core::cmp::Reverse(tensor.dtype.bitsize()));
        let specs: Vec<_> = sorted.iter().map(|entry| spec(*entry)).collect();
        let metadata = Some(&self.metadata).filter(|metadata| !metadata.is_empty());
        let file = File::create(path).map_err(|e| unwritable(shown, e))?;
        let mut writer = Writer::new(file, shown, metadata, &specs)?;
        for (_, tensor) in sorted {
            writer.write(&tensor.bytes)?;
        }
        writer.finish()
    }
}

impl Adapter {
    /// Writes the adapter again, in its own dialect: a directory with its configuration, or a file if it has none. Written
    /// files are the same bytes every time, whatever the order of tensors was.
    ///
    /// # Errors
    /// [`Error::File`] if `out` exists and `force` is not given or it may not be replaced, or from the
    /// system; nothing is left behind then.
    pub fn save(&self, out: &Path, force: bool) -> Result<()> {
        Draft::copy(self)?.write(out, force)
    }
}

/// Numbers in a type, and how much they are rounded: ‖x̂ − x‖/‖x‖, which is no number if one is beyond the type.
fn encoded(dtype: FloatType, numbers: &[f64]) -> (Vec<u8>, f64) {
    let (mut bytes, mut kept) = (vec![0; numbers.len() * dtype.size()], vec![0.0; numbers.len()]);
    dtype.encode(&mut numbers.to_vec(), &mut bytes);
    dtype.decode(&bytes, &mut kept);
    if numbers == kept {
        return (bytes, 0.0);
    }
    let unit = numbers.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| (x / unit).powi(2)).sum::<f64>().sqrt();
    let lost = norm(&mut numbers.iter().zip(&kept).map(|(x, y)| x - y));
    (bytes, lost / norm(&mut numbers.iter().copied()))
}

/// The widest type of a layer's numbers.
pub(super) fn float_type(layer: &Layer) -> FloatType {
    let types = layer.tensors().filter_map(|tensor| FloatType::from_dtype(tensor.dtype));
    types.max_by_key(|dtype| dtype.size()).unwrap_or(FloatType::F32)
}
