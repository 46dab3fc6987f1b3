//! Adapters on disk as PEFT has them: `adapter_model.safetensors` and `adapter_config.json`.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::{Result, input};
use crate::models::Model;
use crate::tuning::{Adapter, Method, Tuning};
use crate::weights::save_directory;

/// A PEFT that means by these files what is written here.
const VERSION: &str = "0.18.0";

impl Model {
    /// Writes the adapter in PEFT's format: a directory that appears whole or not at all, which `papilio merge` merges (not LoRA).
    /// `base` is written down as where the model came from.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) if no adapter is trained; papilio's for a directory with other things, or one that is there and not
    /// to be replaced.
    pub fn save_adapter(&self, directory: &Path, base: Option<&str>, replace: bool) -> Result<()> {
        let Tuning::Adapter(adapter) = self.tuning() else {
            return input("model to save an adapter of", "one with an adapter", "none");
        };
        let tensors = self.variables().all().into_iter().map(|(name, v)| (name, v.as_tensor().detach())).collect();
        let config = serde_json::to_string_pretty(&self.adapter_config(adapter, base)?);
        let config = config.or_else(|e| input("adapter_config.json", "a configuration", e))?;
        save_directory(directory, "adapter_model.safetensors", &tensors, &[("adapter_config.json", config)], replace)
    }

    fn adapter_config(&self, adapter: &Adapter, base: Option<&str>) -> Result<Value> {
        let modules: Vec<&str> = self.adapted().collect();
        let (kind, own): (&str, Value) = match adapter.method {
            Method::Orthogonal(method) => {
                let fields = serde_json::from_str(&method.peft_fields());
                (method.peft_type(), fields.or_else(|e| input("fields of a method", "a JSON object", e))?)
            }
            Method::Lora { rank, alpha } => ("LORA", json!({"r": rank, "lora_alpha": alpha, "lora_dropout": 0.0})),
        };
        let whole = if adapter.whole.is_empty() { Value::Null } else { json!(adapter.whole) };
        let mut config: Map<String, Value> = Map::new();
        for (field, value) in [
            ("base_model_name_or_path", json!(base)),
            ("bias", json!("none")),
            ("fan_in_fan_out", json!(false)),
            ("inference_mode", json!(true)),
            ("modules_to_save", whole),
            ("peft_type", json!(kind)),
            ("peft_version", json!(VERSION)),
            ("target_modules", adapter.targets.json(&modules)),
            ("task_type", json!(self.config().task())),
        ] {
            config.insert(field.into(), value);
        }
        config.extend(own.as_object().cloned().unwrap_or_default());
        Ok(Value::Object(config))
    }
}
