//! Merged models on disk: plain ones, as transformers has them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use candle_core::DType;
use serde_json::{Map, Value, json};

use crate::error::{Result, input};
use crate::models::{Config, Model};
use crate::weights::save_directory;

/// What of a model's directory stays the same and is taken along if it is there.
const COMPANIONS: [&str; 5] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "preprocessor_config.json",
];

impl Model {
    /// Writes a plain model that does the same: a directory that appears whole or not at all. Configuration and tokenizer are those
    /// of the directory `base`, changed where the model differs: its class, its type of numbers, its labels.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) for labels of a model without classes, or as many as it has not; files of `base` that cannot
    /// be read; a directory that is or holds `base`, `replace` or not; papilio's for a directory with other things, or one that is there
    /// and not to be replaced.
    pub fn save_merged(&self, directory: &Path, base: &Path, labels: Option<&[String]>, replace: bool) -> Result<()> {
        if let (Ok(target), Ok(source)) = (directory.canonicalize(), base.canonicalize())
            && source.starts_with(target)
        {
            let what = format!("directory {} to write", directory.display());
            return input(what, "another place than that of the model", base.display());
        }
        let read = |name: &str| {
            let path = base.join(name);
            fs::read_to_string(&path).or_else(|e| input(path.display().to_string(), "a readable file", e))
        };
        let mut texts = Vec::new();
        for name in COMPANIONS.into_iter().filter(|name| base.join(name).exists()) {
            texts.push((name, read(name)?));
        }
        let shown = base.join("config.json").display().to_string();
        let fields = serde_json::from_str(&read("config.json")?).or_else(|e| input(shown, "a JSON object", e))?;
        let config = serde_json::to_string_pretty(&self.merged_config(fields, labels)?);
        texts.push(("config.json", config.or_else(|e| input("config.json", "a configuration", e))?));
        save_directory(directory, "model.safetensors", &self.merged()?, &texts, replace)
    }

    /// The fields of the base's configuration, for what is written.
    fn merged_config(&self, mut fields: Map<String, Value>, labels: Option<&[String]>) -> Result<Map<String, Value>> {
        let (class, count) = match self.config() {
            Config::Bert(_, count) => ("BertForSequenceClassification", *count),
            Config::Llama(_) => ("LlamaForCausalLM", 0),
            Config::Vit(_, count) => ("ViTForImageClassification", *count),
        };
        if let Some(labels) = labels.filter(|labels| labels.len() != count) {
            return input("labels", format!("{count}, as the model has"), labels.len());
        }
        fields.insert("architectures".into(), json!([class]));
        let dtype = if self.dtype() == DType::F64 { "float64" } else { "float32" };
        for field in ["dtype", "torch_dtype"] {
            if let Some(value) = fields.get_mut(field) {
                *value = dtype.into();
            }
        }
        let known = fields.get("id2label").and_then(Value::as_object).map_or(0, Map::len);
        if count > 0 && (labels.is_some() || known != count) {
            let plain: Vec<String> = (0..count).map(|i| format!("LABEL_{i}")).collect(); // as transformers calls them
            let names = labels.unwrap_or(&plain);
            let by_number: Map<String, Value> =
                (0..).map(|i: usize| i.to_string()).zip(names.iter().map(|n| json!(n))).collect();
            let by_name: BTreeMap<&String, usize> = names.iter().zip(0..).collect();
            fields.insert("id2label".into(), by_number.into());
            fields.insert("label2id".into(), json!(by_name));
            fields.shift_remove("num_labels"); // transformers counts the names
        }
        Ok(fields)
    }
}
