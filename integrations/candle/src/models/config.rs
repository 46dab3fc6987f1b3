//! `config.json` of a model. What it may say and these networks do not do is refused rather than passed over.

use std::path::Path;

use candle_transformers::models::{bert, llama, vit};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{bert as our_bert, vit as our_vit};
use crate::error::{Error, Result, input};

/// Sizes of a network, and how many classes it tells apart.
#[derive(Debug, Clone)]
pub enum Config {
    /// BERT with a classifier of so many labels.
    Bert(bert::Config, usize),
    /// Llama.
    Llama(llama::LlamaConfig),
    /// ViT with a classifier of so many labels.
    Vit(vit::Config, usize),
}

/// Largest size that is believed.
const LARGEST: u64 = 1 << 24;

impl Config {
    /// Reads `config.json` of a directory. `labels` counts for classifiers; by default as many as the file says, or 2.
    ///
    /// # Errors
    /// [`Error::Input`] naming the file and field: no such file, no JSON object, another `model_type`, fields that are missing or that
    /// this crate does not compute.
    pub fn read(directory: &Path, labels: Option<usize>) -> Result<Self> {
        let path = directory.join("config.json");
        let shown = path.display().to_string();
        let text = std::fs::read(&path).or_else(|e| input(shown.clone(), "a readable file", e))?;
        let fields = serde_json::from_slice(&text).or_else(|e| input(shown.clone(), "a JSON object", e))?;
        Self::from_json(fields, labels, &shown)
    }

    /// The same of a JSON object; `shown` stands for it in errors.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn from_json(mut fields: Map<String, Value>, labels: Option<usize>, shown: &str) -> Result<Self> {
        let kind = fields.get("model_type").and_then(Value::as_str).unwrap_or("nothing").to_string();
        for (field, value) in &fields {
            if value.as_u64().is_some_and(|size| size > LARGEST) && !field.ends_with("token_id") {
                return input(format!("{shown}, `{field}`"), format!("at most {LARGEST}"), value);
            }
        }
        let labels = match labels {
            Some(labels) => labels,
            None => match fields.get("id2label").and_then(Value::as_object).map(Map::len) {
                Some(labels) => labels,
                None => fields.get("num_labels").and_then(Value::as_u64).unwrap_or(2) as usize,
            },
        };
        match kind.as_str() {
            "bert" => {
                allow(&fields, shown, "position_embedding_type", &["absolute".into()])?;
                allow(&fields, shown, "is_decoder", &[false.into()])?;
                Ok(Self::Bert(parsed(fields, shown)?, labels))
            }
            "llama" => {
                rope_parameters(&mut fields, shown)?;
                allow(&fields, shown, "hidden_act", &["silu".into()])?;
                for field in ["attention_bias", "mlp_bias"] {
                    allow(&fields, shown, field, &[false.into()])?;
                }
                let config: llama::LlamaConfig = parsed(fields.clone(), shown)?;
                let each = config.hidden_size.checked_div(config.num_attention_heads).unwrap_or_default();
                allow(&fields, shown, "head_dim", &[each.into()])?;
                Ok(Self::Llama(config))
            }
            "vit" => Ok(Self::Vit(parsed(fields, shown)?, labels)),
            other => input(format!("{shown}, `model_type`"), "`bert`, `llama` or `vit`", format!("`{other}`")),
        }
    }

    /// That no size is 0 or beyond belief: products of three of them fit, and no loop is endless.
    pub(crate) fn check(&self) -> Result<()> {
        let sizes: &[(&str, usize)] = match self {
            Self::Bert(c, labels) => &[
                ("hidden_size", c.hidden_size),
                ("intermediate_size", c.intermediate_size),
                ("num_attention_heads", c.num_attention_heads),
                ("num_hidden_layers", c.num_hidden_layers),
                ("vocab_size", c.vocab_size),
                ("max_position_embeddings", c.max_position_embeddings),
                ("type_vocab_size", c.type_vocab_size),
                ("num_labels", *labels),
            ],
            Self::Llama(c) => &[
                ("hidden_size", c.hidden_size),
                ("intermediate_size", c.intermediate_size),
                ("num_attention_heads", c.num_attention_heads),
                ("num_key_value_heads", c.num_key_value_heads()),
                ("num_hidden_layers", c.num_hidden_layers),
                ("vocab_size", c.vocab_size),
                ("max_position_embeddings", c.max_position_embeddings),
            ],
            Self::Vit(c, labels) => &[
                ("hidden_size", c.hidden_size),
                ("intermediate_size", c.intermediate_size),
                ("num_attention_heads", c.num_attention_heads),
                ("num_hidden_layers", c.num_hidden_layers),
                ("image_size", c.image_size),
                ("patch_size", c.patch_size),
                ("num_channels", c.num_channels),
                ("num_labels", *labels),
            ],
        };
        match sizes.iter().find(|(_, size)| *size == 0 || *size as u64 > LARGEST) {
            Some((field, size)) => input(format!("config.json, `{field}`"), format!("1 to {LARGEST}"), size),
            None => Ok(()),
        }
    }

    /// `model_type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Bert(..) => "bert",
            Self::Llama(_) => "llama",
            Self::Vit(..) => "vit",
        }
    }

    /// Tokens of the longest sequence, of models of text.
    pub fn longest(&self) -> Option<usize> {
        match self {
            Self::Bert(config, _) => Some(config.max_position_embeddings),
            Self::Llama(config) => Some(config.max_position_embeddings),
            Self::Vit(..) => None,
        }
    }

    /// PEFT's `task_type`.
    pub(crate) fn task(&self) -> Option<&'static str> {
        match self {
            Self::Bert(..) => Some("SEQ_CLS"),
            Self::Llama(_) => Some("CAUSAL_LM"),
            Self::Vit(..) => None,
        }
    }

    /// What models that were saved without a head leave away from names.
    pub(crate) fn front(&self) -> &'static str {
        match self {
            Self::Bert(..) => our_bert::FRONT,
            Self::Llama(_) => "",
            Self::Vit(..) => our_vit::FRONT,
        }
    }
}

fn parsed<T: DeserializeOwned>(fields: Map<String, Value>, shown: &str) -> Result<T> {
    serde_json::from_value(Value::Object(fields)).or_else(|e| input(shown, "the fields of its model type", e))
}

/// That a field, where it is there and not null, has one of these values.
fn allow(fields: &Map<String, Value>, shown: &str, field: &str, values: &[Value]) -> Result<()> {
    match fields.get(field) {
        Some(value) if !value.is_null() && !values.contains(value) => {
            let expected: Vec<String> = values.iter().map(Value::to_string).collect();
            Err(Error::Input {
                what: format!("{shown}, `{field}`"),
                expected: expected.join(" or "),
                got: value.to_string(),
            })
        }
        _ => Ok(()),
    }
}

/// transformers 5 writes the rotary settings into a field of their own; candle's type knows the older ones.
fn rope_parameters(fields: &mut Map<String, Value>, shown: &str) -> Result<()> {
    if let Some(Value::Object(rope)) = fields.remove("rope_parameters") {
        if let Some(theta) = rope.get("rope_theta") {
            fields.insert("rope_theta".into(), theta.clone());
        }
        fields.insert("rope_scaling".into(), Value::Object(rope));
    }
    let Some(Value::Object(rope)) = fields.get("rope_scaling") else { return Ok(()) };
    let kind = rope.get("rope_type").or_else(|| rope.get("type")).and_then(Value::as_str).unwrap_or("default");
    match kind {
        "default" => drop(fields.remove("rope_scaling")),
        "llama3" => {}
        other => return input(format!("{shown}, `rope_type`"), "`default` or `llama3`", format!("`{other}`")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<Config> {
        let Value::Object(fields) = value else { unreachable!("an object") };
        Config::from_json(fields, None, "config.json")
    }

    fn llama(more: Value) -> Result<Config> {
        let mut fields = json!({"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "vocab_size": 300,
            "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
            "max_position_embeddings": 64});
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        read(fields)
    }

    #[test]
    fn rotary_settings_are_found_where_either_version_writes_them() {
        let theta = |more| match llama(more).unwrap() {
            Config::Llama(config) => (config.rope_theta, config.rope_scaling.is_some()),
            _ => unreachable!(),
        };
        assert_eq!(theta(json!({})), (10_000.0, false));
        assert_eq!(theta(json!({"rope_theta": 5e5})), (5e5, false));
        assert_eq!(theta(json!({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}})), (5e5, false));
        let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16});
        assert_eq!(theta(json!({"rope_scaling": scaling})), (10_000.0, true));
    }

    #[test]
    fn what_is_not_computed_is_refused_by_name() {
        for (more, field) in [
            (json!({"rope_scaling": {"rope_type": "yarn"}}), "rope_type"),
            (json!({"attention_bias": true}), "attention_bias"),
            (json!({"head_dim": 16}), "head_dim"),
            (json!({"hidden_act": "gelu"}), "hidden_act"),
            (json!({"hidden_size": 1u64 << 40}), "hidden_size"),
            (json!({"model_type": "t5"}), "model_type"),
            (json!({"vocab_size": null}), "config.json"),
        ] {
            let text = llama(more.clone()).unwrap_err().to_string();
            assert!(text.contains(field), "{more}: {text}");
        }
        assert!(llama(json!({"head_dim": 8, "attention_bias": false})).is_ok());
    }
}
