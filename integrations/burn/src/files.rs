//! PEFT's files: `adapter_model.safetensors` and `adapter_config.json`, through papilio's own reader and writer.
//!
//! Modules are named by their paths in burn: a rotation at `layers.0.query` is `base_model.model.layers.0.query`. That
//! fits a base model whose tensors have the same names.

use std::collections::BTreeSet;
use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, Reparameterization};
use burn::tensor::{DType, Tensor};
use papilio::adapter::{Adapter, TrainedTensor};
use papilio::storage::FloatType;
use papilio::{Error, Result};

use crate::method::Method;
use crate::number::{tensor, wide};
use crate::rotation::Rotation;

/// Fields of a [`Rotation`], PEFT's names of them, and those of the numbers that an [`Adapter`] reads.
const NAMES: [(&str, &str, &str); 4] = [
    ("boft_r", "boft_R", "boft_R"),
    ("boft_s", "boft_s", "boft_s"),
    ("oft_r", "oft_R.weight", "oft_R"),
    ("oft_embedding_r", "oft_embedding_R.weight", "oft_embedding_R"),
];

/// Writes all rotations of a model, whether of papilio's layers or [attached](crate::Rotations) to others, as a directory that
/// PEFT, [`Adapter::open`] and `papilio merge` read. It appears whole or not at all.
///
/// # Errors
/// A model without rotations, or with such as the method does not make; numbers that are not finite; a directory that exists,
/// unless `force` is given; the system's.
pub fn save<M: Module>(model: &M, method: Method, out: &Path, force: bool) -> Result<()> {
    let mut collect = Collect { walk: Walk::default(), tensors: Ok(Vec::new()) };
    model.visit(&mut collect);
    papilio::adapter::Method::from(method).save(&collect.tensors?, out, force)
}

/// Reads what [`save`] or PEFT wrote into the rotations of a model.
///
/// # Errors
/// A file that is no adapter of theirs; a rotation that it lacks, or has in another shape or made by another map; one that the
/// model lacks.
pub fn load<M: Module>(model: M, method: Method, path: &Path) -> Result<M> {
    let adapter = Adapter::open(path)?;
    if let Some(other) =
        adapter.layers().iter().find(|layer| !papilio::adapter::Method::from(method).made(&layer.structure()))
    {
        return Err(unfit(path, &other.module, format!("{method:?}"), format!("{:?}", other.structure())));
    }
    let mut fill = Fill { walk: Walk::default(), adapter: &adapter, seen: BTreeSet::new(), error: None };
    let model = model.map(&mut fill);
    if let Some(error) = fill.error {
        return Err(error);
    }
    match adapter.layers().iter().find(|layer| !fill.seen.contains(&layer.module)) {
        None => Ok(model),
        Some(layer) => Err(unfit(path, &layer.module, "a rotation in the model", "none")),
    }
}

fn unfit(path: &Path, module: &str, expected: impl Into<String>, got: impl Into<String>) -> Error {
    Error::File { what: format!("{}, module `{module}`", path.display()), expected: expected.into(), got: got.into() }
}

/// Where a walk through a model is.
#[derive(Default)]
struct Walk {
    path: Vec<(String, bool)>,
}

impl Walk {
    fn enter(&mut self, name: &str, container: &str) {
        self.path.push((name.to_string(), container == "Struct:Rotation"));
    }

    fn exit(&mut self) {
        self.path.pop();
    }

    /// The module that is rotated and PEFT's names of this parameter, if it is one of a rotation.
    fn names(&self) -> Option<(String, &'static str, &'static str)> {
        let (field, is_ours) = self.path.last()?;
        let (_, name, number) = NAMES.iter().find(|(known, _, _)| *is_ours && known == field)?;
        let above = &self.path[..self.path.len() - 1];
        // module.rotation, or module.weight with the reparameterization.
        let module = match above.split_last() {
            Some(((last, _), rest)) if last == <Rotation as Reparameterization>::NAME => &rest[..rest.len().max(1) - 1],
            Some((_, rest)) => rest,
            None => above,
        };
        let module: Vec<_> = module.iter().map(|(name, _)| name.as_str()).collect();
        Some((module.join("."), name, number))
    }
}

struct Collect {
    walk: Walk,
    tensors: Result<Vec<TrainedTensor>>,
}

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.walk.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.walk.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let (Some((module, name, _)), Ok(tensors)) = (self.walk.names(), &mut self.tensors) else { return };
        let value = param.base();
        let dtype = match value.dtype() {
            DType::F64 => FloatType::F64,
            DType::BF16 => FloatType::Bf16,
            DType::F16 => FloatType::F16,
            _ => FloatType::F32,
        };
        match wide(&value) {
            Ok(numbers) => {
                let (name, shape) = (name.to_string(), value.dims().to_vec());
                tensors.push(TrainedTensor { module, name, dtype, shape, numbers });
            }
            Err(error) => self.tensors = Err(error),
        }
    }
}

struct Fill<'a> {
    walk: Walk,
    adapter: &'a Adapter,
    seen: BTreeSet<String>,
    error: Option<Error>,
}

impl Fill<'_> {
    /// The numbers of a variable.
    fn numbers(&mut self, module: &str, name: &str, number: &str, shape: &[usize]) -> Result<Vec<f64>> {
        let path = self.adapter.file().path();
        let layer = self.adapter.layers().iter().find(|layer| layer.module == module);
        let layer = layer.ok_or_else(|| unfit(path, module, format!("a {name}"), "no such module"))?;
        let spelled = |t: &&papilio::storage::TensorInfo| t.name.ends_with(&format!("{module}.{name}"));
        let found = layer.tensors().find(spelled).ok_or_else(|| unfit(path, module, format!("a {name}"), "none"))?;
        if found.shape != shape {
            return Err(unfit(path, module, format!("{name} of shape {shape:?}"), format!("{:?}", found.shape)));
        }
        self.seen.insert(module.to_string());
        self.adapter.numbers(layer)?.remove(number).ok_or_else(|| unfit(path, module, format!("a {name}"), "none"))
    }
}

impl ModuleMapper for Fill<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.walk.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.walk.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some((module, name, number)) = self.walk.names() else { return param };
        let old = param.base();
        match self.numbers(&module, name, number, &old.dims()) {
            Ok(numbers) => {
                let grad = old.is_require_grad();
                let new = tensor(numbers, old.dims(), old.dtype(), &old.device());
                param.map(|_| new.set_require_grad(grad))
            }
            Err(error) => {
                self.error.get_or_insert(error);
                param
            }
        }
    }
}
