//! What is trained, by name.

use std::collections::BTreeMap;
use std::fmt::{Debug, Formatter};

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};

use crate::error::Result;

/// Trained tensors by the names that they are saved under, which are PEFT's.
#[derive(Clone)]
pub struct Variables {
    map: VarMap,
}

impl Default for Variables {
    fn default() -> Self {
        Self { map: VarMap::new() }
    }
}

impl Debug for Variables {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.all().keys()).finish()
    }
}

/// In front of the module paths in PEFT's files.
pub(crate) const FRONT: &str = "base_model.model.";

impl Variables {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// The variable `name`, new from `start` unless there is one.
    pub(crate) fn get_or(&self, name: &str, start: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
        let found = self.lock(|map| map.get(name).cloned());
        let variable = match found {
            Some(variable) => variable,
            None => {
                let variable = Var::from_tensor(&start()?)?;
                self.lock(|map| map.insert(name.to_string(), variable.clone()));
                variable
            }
        };
        Ok(variable.as_tensor().clone())
    }

    /// For papilio's layers: names below `base_model.model.<module>`.
    pub(crate) fn of_module(&self, module: &str, dtype: DType) -> VarBuilder<'static> {
        VarBuilder::from_varmap(&self.map, dtype, &Device::Cpu).pp(format!("{FRONT}{module}"))
    }

    /// All, sorted by name.
    pub fn all(&self) -> BTreeMap<String, Var> {
        self.lock(|map| map.iter().map(|(name, variable)| (name.clone(), variable.clone())).collect())
    }

    /// Numbers in all of them.
    pub fn count(&self) -> usize {
        self.all().values().map(|variable| variable.elem_count()).sum()
    }

    fn lock<R>(&self, work: impl FnOnce(&mut std::collections::HashMap<String, Var>) -> R) -> R {
        let mut map = self.map.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        work(&mut map)
    }
}
