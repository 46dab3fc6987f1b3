//! `adapter_config.json` as PEFT writes it.
//!
//! Only the method is believed. PEFT silently trains with one butterfly factor where its CUDA extension cannot be
//! built, while the file keeps the number that was asked for; so sizes come from the tensors and the configuration is
//! compared with them.

use std::format;
use std::path::Path;
use std::string::String;
use std::vec::Vec;

use serde::Deserialize;

use super::peft_boft::Shape;
use super::storage::{read_json, tensor_error};
use crate::error::Result;

/// The fields of `adapter_config.json` that matter here.
#[derive(Debug, Clone, Deserialize)]
pub struct PeftConfig {
    /// The method: `BOFT`.
    pub peft_type: Option<String>,
    /// Version of PEFT that wrote the file (0.18 and later).
    #[serde(default)]
    pub peft_version: Option<String>,
    /// The block size asked for; 0 if the number of blocks was given.
    #[serde(default)]
    pub boft_block_size: Option<usize>,
    /// The number of blocks asked for; 0 if the block size was given.
    #[serde(default)]
    pub boft_block_num: Option<usize>,
    /// The number of factors asked for.
    #[serde(default)]
    pub boft_n_butterfly_factor: Option<usize>,
    /// Which biases were trained: `none`, `all` or `boft_only`.
    #[serde(default)]
    pub bias: Option<String>,
    /// Modules that were trained as a whole.
    #[serde(default)]
    pub modules_to_save: Option<Vec<String>>,
}

impl PeftConfig {
    /// Reads a file and checks the method.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File): no JSON, other types than PEFT writes, an unknown `peft_type`.
    pub fn read(path: &Path) -> Result<Self> {
        let config: Self = read_json(path)?;
        match config.peft_type.as_deref() {
            Some("BOFT") => Ok(config),
            Some(other) => Err(field_error(path, "peft_type", "`BOFT`", format!("`{other}`"))),
            None => Err(field_error(path, "peft_type", "`BOFT`", "no such field".into())),
        }
    }

    /// Whether the module was trained as a whole according to the configuration, by PEFT's rule: the path is one of
    /// the names or ends in a dot and one of them.
    pub fn saves(&self, module: &str) -> bool {
        self.modules_to_save
            .iter()
            .flatten()
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

fn field_error(path: &Path, field: &str, expected: &str, got: String) -> crate::Error {
    match tensor_error(path, field, expected, got) {
        crate::Error::File { what, expected, got } => {
            crate::Error::File { what: what.replace(", tensor `", ", field `"), expected, got }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> PeftConfig {
        serde_json::from_str(json).unwrap()
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
    fn modules_to_save_match_whole_path_components() {
        let config = config(r#"{"modules_to_save": ["classifier", "a.b"]}"#);
        assert!(config.saves("classifier") && config.saves("model.classifier") && config.saves("x.a.b"));
        assert!(!config.saves("preclassifier") && !config.saves("classifier.weight") && !config.saves("b"));
    }
}
