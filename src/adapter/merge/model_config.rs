//! `config.json` of the base model, as far as a merge concerns it.

use std::path::Path;
use std::string::String;

use serde_json::{Map, Value};

use crate::error::Result;
use crate::storage::{FloatType, read_json};

/// The fields of a model configuration.
#[derive(Debug, Clone)]
pub(super) struct ModelConfig(Map<String, Value>);

impl ModelConfig {
    pub(super) const FILE_NAME: &str = "config.json";

    /// Reads the configuration in a model's directory, if there is one.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join(Self::FILE_NAME);
        if path.exists() { read_json(&path).map(Self).map(Some) } else { Ok(None) }
    }

    /// Whether the output head shares the weight of the embedding, also in the text part of a multimodal model.
    pub(super) fn ties_head(&self) -> bool {
        let ties = |fields: &Map<String, Value>| fields.get("tie_word_embeddings") == Some(&Value::Bool(true));
        ties(&self.0) || self.0.get("text_config").and_then(Value::as_object).is_some_and(ties)
    }

    /// With `dtype` and `torch_dtype` set wherever they name a floating-point type.
    pub(super) fn with_dtype(self, dtype: FloatType) -> Value {
        let mut json = Value::Object(self.0);
        set_dtype(&mut json, dtype);
        json
    }
}

fn set_dtype(json: &mut Value, dtype: FloatType) {
    let Some(fields) = json.as_object_mut() else { return };
    for (key, value) in fields {
        let names_type = value.as_str().is_some_and(|name| name.parse::<FloatType>().is_ok());
        if names_type && (key == "dtype" || key == "torch_dtype") {
            *value = dtype.torch_name().into();
        }
        set_dtype(value, dtype);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_fields_that_name_a_type_change() {
        let mut config = json!({
            "torch_dtype": "float16", "text_config": {"dtype": "bfloat16"}, "dtype": null,
            "quantization": {"bnb_4bit_compute_dtype": "float16"}, "name": "float16",
        });
        set_dtype(&mut config, FloatType::F32);
        assert_eq!(
            config,
            json!({
                "torch_dtype": "float32", "text_config": {"dtype": "float32"}, "dtype": null,
                "quantization": {"bnb_4bit_compute_dtype": "float16"}, "name": "float16",
            })
        );
    }
}
