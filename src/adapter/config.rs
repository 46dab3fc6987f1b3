//! `adapter_config.json` as PEFT writes it.
//!
//! Sizes are not believed. PEFT silently trains with one butterfly factor where its CUDA extension cannot be
//! built, while the file keeps the number that was asked for; so sizes come from the tensors and the configuration is
//! compared with them.

use std::format;
use std::path::Path;
use std::string::String;
use std::vec::Vec;

use serde_json::{Map, Value};

use super::Layer;
use crate::error::Result;
use crate::storage::read_json;

/// The fields of `adapter_config.json` that matter here. A field of another type than PEFT writes counts as absent: the
/// tensors decide.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeftConfig {
    /// The method: `BOFT`, `OFT`, …
    pub peft_type: Option<String>,
    /// Version of PEFT that wrote the file (0.18 and later).
    pub peft_version: Option<String>,
    /// The block size asked for; 0 if the number of blocks was given.
    pub boft_block_size: Option<usize>,
    /// The number of blocks asked for; 0 if the block size was given.
    pub boft_block_num: Option<usize>,
    /// The number of factors asked for.
    pub boft_n_butterfly_factor: Option<usize>,
    /// Modules that were trained as a whole.
    pub modules_to_save: Vec<String>,
    /// All fields.
    fields: Map<String, Value>,
}

impl PeftConfig {
    /// Reads a file, of any method.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) unless it holds one JSON object.
    pub fn read(path: &Path) -> Result<Self> {
        Ok(Self::from_json(&read_json(path)?))
    }

    fn from_json(fields: &Map<String, Value>) -> Self {
        let text = |field: &str| fields.get(field).and_then(Value::as_str).map(String::from);
        let size = |field: &str| fields.get(field).and_then(whole_number);
        let modules = match fields.get("modules_to_save") {
            Some(Value::String(one)) => [one.clone()].to_vec(),
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).map(String::from).collect(),
            _ => Vec::new(),
        };
        Self {
            peft_type: text("peft_type"),
            peft_version: text("peft_version"),
            boft_block_size: size("boft_block_size"),
            boft_block_num: size("boft_block_num"),
            boft_n_butterfly_factor: size("boft_n_butterfly_factor"),
            modules_to_save: modules,
            fields: fields.clone(),
        }
    }

    /// All fields, as they are in the file.
    pub(super) fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// A field that is true or false.
    pub fn flag(&self, field: &str) -> Option<bool> {
        self.fields.get(field)?.as_bool()
    }

    /// A field that is a size: 4, also written as 4.0.
    pub fn size(&self, field: &str) -> Option<usize> {
        self.fields.get(field).and_then(whole_number)
    }

    /// A field that is a finite number.
    pub fn number(&self, field: &str) -> Option<f64> {
        self.fields.get(field)?.as_f64().filter(|x| x.is_finite())
    }

    /// A field that is a text.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.fields.get(field)?.as_str()
    }

    /// Whether the module was trained as a whole according to the configuration, by PEFT's rule: the path is one of
    /// the names or ends in a dot and one of them.
    pub fn saves(&self, module: &str) -> bool {
        self.modules_to_save
            .iter()
            .any(|name| module.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
    }

    /// One sentence for each size that the configuration gives and the tensors contradict. (OFT's block size is only a wish:
    /// PEFT takes the nearest divisor, layer by layer.)
    pub(crate) fn mismatches(&self, layers: &[Layer]) -> Vec<String> {
        let mut sentences = Vec::new();
        let structures: Vec<_> = layers.iter().map(Layer::structure).collect();
        let mut compare = |field: &str, asked: Option<usize>, stored: Vec<usize>, why: &str| {
            let Some(asked) = asked.filter(|&asked| asked != 0) else { return };
            let others: Vec<usize> = stored.iter().copied().filter(|&s| s != asked).collect();
            if let (Some(least), Some(most)) = (others.iter().min(), others.iter().max()) {
                let got = if least == most { format!("{least}") } else { format!("{least} to {most}") };
                sentences.push(format!(
                    "adapter_config.json says {field} = {asked}, but the tensors of {} of {} layers hold {got}{why}; \
                     the tensors count",
                    others.len(),
                    stored.len()
                ));
            }
        };
        let why = " (PEFT trains with 1 where its CUDA extension cannot be built)";
        let stages = structures.iter().map(|s| s.stages).collect();
        compare("boft_n_butterfly_factor", self.boft_n_butterfly_factor, stages, why);
        compare("boft_block_size", self.boft_block_size, structures.iter().map(|s| s.block).collect(), "");
        let blocks = structures.iter().filter_map(|s| s.n.map(|n| n / s.block.max(1))).collect();
        compare("boft_block_num", self.boft_block_num, blocks, "");
        sentences
    }
}

/// A size: 4, also written as 4.0.
fn whole_number(value: &Value) -> Option<usize> {
    let number = value.as_f64().filter(|x| (0.0..=9e15).contains(x) && x.fract() == 0.0)?;
    Some(number as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> PeftConfig {
        PeftConfig::from_json(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn fields_of_another_type_are_absent() {
        let odd = config(
            r#"{"peft_type": "BOFT", "boft_block_size": 4.0, "boft_block_num": -1, "boft_n_butterfly_factor": "x",
                "modules_to_save": "head", "peft_version": 1, "bias": 7}"#,
        );
        let modules_to_save = [String::from("head")].to_vec();
        let expected = PeftConfig {
            peft_type: Some("BOFT".into()),
            boft_block_size: Some(4),
            modules_to_save,
            fields: odd.fields.clone(),
            ..PeftConfig::default()
        };
        assert_eq!(odd, expected);
        assert_eq!((odd.size("boft_block_num"), odd.flag("bias"), odd.text("peft_version")), (None, None, None));
        assert_eq!((odd.number("bias"), odd.size("bias")), (Some(7.0), Some(7)));
    }

    #[test]
    fn modules_to_save_match_whole_path_components() {
        let config = config(r#"{"modules_to_save": ["classifier", "a.b"]}"#);
        assert!(config.saves("classifier") && config.saves("model.classifier") && config.saves("x.a.b"));
        assert!(!config.saves("preclassifier") && !config.saves("classifier.weight") && !config.saves("b"));
    }
}
