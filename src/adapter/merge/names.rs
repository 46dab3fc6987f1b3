//! Which module of the base a layer belongs to.
//!
//! PEFT writes module paths. Others flatten them, `model.layers.0.mlp` to `model_layers_0_mlp`, and leave away what stands in
//! front of a model in a file of several (`model.diffusion_model.`). A flattened name stands for the module that has it
//! whole, or else for the only one that ends with it.

use std::collections::HashMap;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use crate::adapter::{Adapter, Layer};
use crate::error::Result;
use crate::storage::{Checkpoint, tensor_error};

/// Modules of a base by their flattened names and all ends of these.
pub(in crate::adapter) struct Names<'a> {
    base: &'a Checkpoint,
    whole: HashMap<String, Vec<&'a str>>,
    ends: HashMap<String, Vec<&'a str>>,
}

impl<'a> Names<'a> {
    /// `flattened` tells whether there are flattened names to be found.
    pub(in crate::adapter) fn new(base: &'a Checkpoint, flattened: bool) -> Self {
        let (mut whole, mut ends) = (HashMap::<String, Vec<&str>>::new(), HashMap::<String, Vec<&str>>::new());
        for tensor in base.tensors().filter(|_| flattened) {
            let Some(module) = tensor.name.strip_suffix(".weight") else { continue };
            let flat = module.replace('.', "_");
            // Only where a path begins: a name of nothing but underscores has as many ends as letters.
            for (at, _) in module.match_indices('.') {
                ends.entry(flat[at + 1..].to_string()).or_default().push(module);
            }
            whole.entry(flat).or_default().push(module);
        }
        Self { base, whole, ends }
    }

    /// The module of a layer, if the base has it.
    pub(in crate::adapter) fn module(&self, adapter: &Adapter, layer: &Layer) -> Result<Option<String>> {
        let Some(path) = adapter.dialect.grammar.flat_path(&layer.module) else {
            return Ok(self.base.get(&format!("{}.weight", layer.module)).map(|_| layer.module.clone()));
        };
        match self.whole.get(path).or_else(|| self.ends.get(path)).map_or(&[][..], Vec::as_slice) {
            [] => Ok(None),
            [module] => Ok(Some(module.to_string())),
            [first, second, ..] => {
                let expected = "one module of the base with this flattened path";
                let got = format!("`{first}` and `{second}`");
                Err(tensor_error(adapter.file().path(), layer.first(), expected, got))
            }
        }
    }
}
