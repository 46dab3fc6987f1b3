//! `adapter_config.json` as PEFT writes it.
//!
//! Only the method is believed. PEFT silently trains with one butterfly factor where its CUDA extension cannot be
//! built, while the file keeps the number that was asked for; so sizes come from the tensors and the configuration is
//! compared with them.

use std::format;
use std::path::Path;
use std::string::{String, ToString};
use std::vec::Vec;

use serde_json::{Map, Value};

use super::peft_boft::Shape;
use crate::error::Result;
use crate::storage::{field_error, read_json};

/// The fields of `adapter_config.json` that matter here. A field of another type than PEFT writes counts as absent: the
/// tensors decide.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeftConfig {
    /// The method: `BOFT`.
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
        }
    }

    /// Itself, if the method is BOFT; `path` serves for the message.
    pub(super) fn of_boft(self, path: &Path) -> Result<Self> {
        match self.peft_type.as_deref() {
            Some("BOFT") => Ok(self),
            Some(other) => Err(field_error(path, "peft_type", "`BOFT`", format!("`{other}`"))),
            None => Err(field_error(path, "peft_type", "`BOFT`", "no such text".to_string())),
        }
    }

    /// Whether the module was trained as a whole according to the configuration, by PEFT's rule: the path is one of
    /// the names or ends in a dot and one of them.
    pub fn saves(&self, module: &str) -> bool {
        self.modules_to_save
            .iter()
            .any(|name| module.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
    }

    /// One sentence for each size that the configuration gives and the tensors contradict.
    pub(crate) fn mismatches(&self, shapes: impl Iterator<Item = Shape>) -> Vec<String> {
        let shapes: Vec<Shape> = shapes.collect();
        let mut sentences = Vec::new();
        let mut compare = |field: &str, asked: Option<usize>, stored: fn(&Shape) -> usize, why: &str| {
            let Some(asked) = asked.filter(|&asked| asked != 0) else { return };
            let others: Vec<usize> = shapes.iter().map(stored).filter(|&s| s != asked).collect();
            if let (Some(least), Some(most)) = (others.iter().min(), others.iter().max()) {
                let got = if least == most { format!("{least}") } else { format!("{least} to {most}") };
                sentences.push(format!(
                    "adapter_config.json says {field} = {asked}, but the tensors of {} of {} layers hold {got}{why}; \
                     the tensors count",
                    others.len(),
                    shapes.len()
                ));
            }
        };
        let why = " (PEFT trains with 1 where its CUDA extension cannot be built)";
        compare("boft_n_butterfly_factor", self.boft_n_butterfly_factor, |s| s.stages, why);
        compare("boft_block_size", self.boft_block_size, |s| s.block, "");
        compare("boft_block_num", self.boft_block_num, |s| s.blocks, "");
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
    fn contradictions_are_told_once() {
        let config = config(r#"{"peft_type": "BOFT", "boft_n_butterfly_factor": 3, "boft_block_size": 4}"#);
        let shape = |stages| Shape { stages, blocks: 8, block: 4 };
        assert!(config.mismatches([shape(3), shape(3)].into_iter()).is_empty());
        let sentences = config.mismatches([shape(1), shape(3), shape(1)].into_iter());
        assert_eq!(sentences.len(), 1);
        assert!(sentences[0].contains("2 of 3 layers hold 1 "), "{}", sentences[0]);
    }

    #[test]
    fn only_the_method_is_fatal() {
        let odd = config(
            r#"{"peft_type": "BOFT", "boft_block_size": 4.0, "boft_block_num": -1, "boft_n_butterfly_factor": "x",
                "modules_to_save": "head", "peft_version": 1, "bias": 7}"#,
        );
        let modules_to_save = ["head".to_string()].to_vec();
        let expected = PeftConfig {
            peft_type: Some("BOFT".into()),
            boft_block_size: Some(4),
            modules_to_save,
            ..PeftConfig::default()
        };
        assert_eq!(odd, expected);
        assert!(odd.of_boft(Path::new("x")).is_ok());
        assert!(config(r#"{"peft_type": 3}"#).of_boft(Path::new("x")).is_err());
    }

    #[test]
    fn modules_to_save_match_whole_path_components() {
        let config = config(r#"{"modules_to_save": ["classifier", "a.b"]}"#);
        assert!(config.saves("classifier") && config.saves("model.classifier") && config.saves("x.a.b"));
        assert!(!config.saves("preclassifier") && !config.saves("classifier.weight") && !config.saves("b"));
    }
}
