//! The layers that models are built of: frozen, trained as a whole, or adapted, as a [`Tuning`] says.

use std::cell::RefCell;
use std::collections::BTreeMap;

use candle_core::{D, DType, Tensor};
use candle_nn::{Conv2dConfig, Module};
use papilio::interop::candle::{OrthogonalConv2d, OrthogonalEmbedding, OrthogonalLinear};

use crate::error::{Error, Result, input};
use crate::frozen::Frozen;
use crate::lora::Lora;
use crate::targets::lies_in;
use crate::tuning::{Method, Tuning};
use crate::variables::{FRONT, Variables};
use crate::weights::{Init, Weights, start};

/// BERT's deviation, and Llama's and ViT's.
const NORMAL: Init = Init::Normal(0.02);

/// Builds layers by the paths of their modules, which are those of transformers, and remembers what it built.
#[derive(Debug)]
pub(crate) struct Layers<'a> {
    weights: &'a Weights,
    tuning: &'a Tuning,
    variables: Variables,
    built: RefCell<Built>,
    /// What stands in front of the paths and may be missing on disk, such as `bert.`.
    optional: &'static str,
}

/// What a model consists of.
#[derive(Debug, Default)]
pub(crate) struct Built {
    /// Every tensor of the model by its name; variables among them.
    pub(crate) tensors: BTreeMap<String, Tensor>,
    /// Adapted modules.
    pub(crate) adapted: BTreeMap<String, Adapted>,
    /// Modules that could have been.
    candidates: Vec<String>,
}

/// An adapted module.
#[derive(Debug, Clone)]
pub(crate) enum Adapted {
    Linear(OrthogonalLinear),
    Conv2d(OrthogonalConv2d),
    Embedding(OrthogonalEmbedding),
    Lora(Lora),
}

impl Adapted {
    /// The weight of a plain layer that does the same.
    pub(crate) fn merged(&self) -> Result<Tensor> {
        Ok(match self {
            Self::Linear(layer) => layer.merge()?.weight().clone(),
            Self::Conv2d(layer) => layer.merge()?.weight().clone(),
            Self::Embedding(layer) => layer.merge()?.embeddings().clone(),
            Self::Lora(layer) => layer.merged()?,
        })
    }

    /// A bound on ‖RᵀR − I‖₂, for rotations.
    pub(crate) fn defect(&self) -> Result<Option<f64>> {
        Ok(match self {
            Self::Linear(layer) => Some(layer.defect()?),
            Self::Conv2d(layer) => Some(layer.defect()?),
            Self::Embedding(layer) => Some(layer.defect()?),
            Self::Lora(_) => None,
        })
    }
}

/// A linear layer, whatever is trained of it.
#[derive(Debug, Clone)]
pub struct Linear {
    kind: Kind,
    bias: Option<Tensor>,
}

#[derive(Debug, Clone)]
enum Kind {
    Frozen(Frozen),
    Trained(Tensor),
    Orthogonal(Box<OrthogonalLinear>), // with its bias
    Lora(Lora),
}

impl Linear {
    /// Nothing of it is trained: no gradient of the weight is computed.
    ///
    /// # Errors
    /// candle's, unless the weight is `[outputs, inputs]`.
    pub fn frozen(weight: &Tensor, bias: Option<Tensor>) -> candle_core::Result<Self> {
        Ok(Self { kind: Kind::Frozen(Frozen::new(weight)?), bias })
    }
}

impl Module for Linear {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = match &self.kind {
            Kind::Frozen(layer) => layer.apply(x)?,
            Kind::Trained(weight) => {
                let rows = x.contiguous()?.reshape(((), x.dim(D::Minus1)?))?;
                let mut dims = x.dims().to_vec();
                dims.pop();
                dims.push(weight.dim(0)?);
                rows.matmul(&weight.t()?)?.reshape(dims)?
            }
            Kind::Orthogonal(layer) => return layer.forward(x),
            Kind::Lora(layer) => layer.forward(x)?,
        };
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

/// An embedding.
#[derive(Debug, Clone)]
pub enum Embedding {
    /// Frozen or trained.
    Plain(candle_nn::Embedding),
    /// Rotated.
    Orthogonal(Box<OrthogonalEmbedding>),
}

impl Module for Embedding {
    fn forward(&self, ids: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Plain(layer) => layer.forward(ids),
            Self::Orthogonal(layer) => layer.forward(ids),
        }
    }
}

/// A convolution.
#[derive(Debug, Clone)]
pub enum Conv2d {
    /// Frozen or trained.
    Plain(candle_nn::Conv2d),
    /// Its patches rotated.
    Orthogonal(Box<OrthogonalConv2d>),
}

impl Module for Conv2d {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Plain(layer) => layer.forward(x),
            Self::Orthogonal(layer) => layer.forward(x),
        }
    }
}

impl<'a> Layers<'a> {
    /// For a model of these weights. Names in the files may lack `optional` in front.
    pub(crate) fn new(weights: &'a Weights, tuning: &'a Tuning, variables: &Variables, optional: &'static str) -> Self {
        Self { weights, tuning, variables: variables.clone(), built: RefCell::default(), optional }
    }

    /// The type of numbers.
    pub(crate) fn dtype(&self) -> DType {
        self.weights.dtype()
    }

    /// What was built; that every target, and everything that is trained as a whole, was found.
    pub(crate) fn finish(self) -> Result<Built> {
        let built = self.built.into_inner();
        if let Tuning::Adapter(adapter) = self.tuning {
            let adapted: Vec<&str> = built.adapted.keys().map(String::as_str).collect();
            if let Some(name) = adapter.targets.unmatched(&adapted).first() {
                let shown = built.candidates.iter().take(12).map(String::as_str).collect::<Vec<_>>().join(", ");
                let expected = format!("one that adapts a module; there are {shown}, …");
                return input("targets", expected, format!("`{name}`"));
            }
            let modules = || built.tensors.keys().map(|name| name.rsplit_once('.').map_or("", |(module, _)| module));
            if let Some(name) = adapter.whole.iter().find(|name| !modules().any(|module| lies_in(module, name))) {
                return input("modules to train as a whole", "names of modules of the model", format!("`{name}`"));
            }
        }
        Ok(built)
    }

    /// The name of a tensor in the files: in older ones normalisations have a gamma and a beta.
    fn stored(&self, name: &str) -> String {
        let old = [("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")];
        let old = old.iter().find_map(|(new, old)| Some(format!("{}{old}", name.strip_suffix(new)?)));
        let names = || [Some(name), old.as_deref()].into_iter().flatten();
        let short = names().filter_map(|name| name.strip_prefix(self.optional));
        names().chain(short).find(|name| self.weights.has(name)).unwrap_or(name).to_string()
    }

    /// Whether the module is trained as a whole.
    fn is_whole(&self, module: &str) -> bool {
        match self.tuning {
            Tuning::Frozen => false,
            Tuning::Everything => true,
            Tuning::Adapter(adapter) => adapter.whole.iter().any(|name| lies_in(module, name)),
        }
    }

    /// A tensor of a module that is frozen or trained as a whole.
    pub(crate) fn tensor(&self, module: &str, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        let full = if module.is_empty() { name.to_string() } else { format!("{module}.{name}") };
        let stored = self.stored(&full);
        // A head that is trained anyway may be missing, or be there for other classes.
        let read = || match self.tuning {
            Tuning::Adapter(adapter)
                if self.is_whole(module) && self.weights.shape(&stored).as_deref() != Some(shape) =>
            {
                start(&full, adapter.seed, shape, init, self.dtype())
            }
            _ => self.weights.get(&stored, shape, init),
        };
        let tensor = match self.tuning {
            Tuning::Everything => self.variables.get_or(&full, read)?,
            _ if self.is_whole(module) => self.variables.get_or(&format!("{FRONT}{full}"), read)?,
            _ => read()?,
        };
        self.built.borrow_mut().tensors.insert(full, tensor.clone());
        Ok(tensor)
    }

    /// The method for a module, if it is adapted.
    fn method(&self, module: &str, is_linear: bool) -> Option<&'a Method> {
        if self.is_whole(module) {
            return None;
        }
        self.built.borrow_mut().candidates.push(module.to_string());
        match self.tuning {
            Tuning::Adapter(adapter) if adapter.targets.is_meant(module, is_linear) => Some(&adapter.method),
            _ => None,
        }
    }

    fn remember(&self, module: &str, adapted: Adapted) {
        self.built.borrow_mut().adapted.insert(module.to_string(), adapted);
    }

    /// What goes wrong with a module, with its name.
    fn named<T, E: Into<Error>>(module: &str, result: std::result::Result<T, E>) -> Result<T> {
        result.or_else(|e| {
            let text = e.into().to_string(); // candle may put a backtrace behind
            let got = text.lines().next().unwrap_or_default();
            input(format!("module `{module}`"), "a layer that fits the method", got)
        })
    }

    /// `module`.weight `[outputs, inputs]`, and `module`.bias.
    pub(crate) fn linear(&self, module: &str, inputs: usize, outputs: usize, bias: bool) -> Result<Linear> {
        let weight = self.tensor(module, "weight", &[outputs, inputs], NORMAL)?;
        let bias = bias.then(|| self.tensor(module, "bias", &[outputs], Init::Constant(0.0))).transpose()?;
        let kind = match self.method(module, true) {
            None if self.is_whole(module) => Kind::Trained(weight),
            None => Kind::Frozen(Frozen::new(&weight)?),
            Some(Method::Orthogonal(method)) => {
                let base = candle_nn::Linear::new(weight, bias.clone());
                let names = self.variables.of_module(module, self.dtype());
                let layer = Self::named(module, OrthogonalLinear::new(base, *method, names))?;
                self.remember(module, Adapted::Linear(layer.clone()));
                return Ok(Linear { kind: Kind::Orthogonal(Box::new(layer)), bias: None });
            }
            Some(Method::Lora { rank, alpha }) => {
                let layer = Lora::new(module, &weight, *rank, *alpha, self.tuning.seed(), &self.variables)?;
                self.remember(module, Adapted::Lora(layer.clone()));
                Kind::Lora(layer)
            }
        };
        Ok(Linear { kind, bias })
    }

    /// `module`.weight `[count, width]`.
    pub(crate) fn embedding(&self, module: &str, count: usize, width: usize) -> Result<Embedding> {
        let table = self.tensor(module, "weight", &[count, width], NORMAL)?;
        let base = candle_nn::Embedding::new(table, width);
        match self.method(module, false) {
            None => Ok(Embedding::Plain(base)),
            Some(Method::Orthogonal(method)) => {
                let names = self.variables.of_module(module, self.dtype());
                let layer = Self::named(module, OrthogonalEmbedding::new(base, *method, names))?;
                self.remember(module, Adapted::Embedding(layer.clone()));
                Ok(Embedding::Orthogonal(Box::new(layer)))
            }
            Some(Method::Lora { .. }) => input(format!("module `{module}`"), "a linear layer for LoRA", "an embedding"),
        }
    }

    /// `module`.weight `[outputs, inputs, size, size]`, and `module`.bias.
    pub(crate) fn conv2d(&self, module: &str, shape: [usize; 3], config: Conv2dConfig) -> Result<Conv2d> {
        let [inputs, outputs, size] = shape;
        let weight = self.tensor(module, "weight", &[outputs, inputs, size, size], NORMAL)?;
        let bias = self.tensor(module, "bias", &[outputs], Init::Constant(0.0))?;
        let base = candle_nn::Conv2d::new(weight, Some(bias), config);
        match self.method(module, false) {
            None => Ok(Conv2d::Plain(base)),
            Some(Method::Orthogonal(method)) => {
                let names = self.variables.of_module(module, self.dtype());
                let layer = Self::named(module, OrthogonalConv2d::new(base, *method, names))?;
                self.remember(module, Adapted::Conv2d(layer.clone()));
                Ok(Conv2d::Orthogonal(Box::new(layer)))
            }
            Some(Method::Lora { .. }) => {
                input(format!("module `{module}`"), "a linear layer for LoRA", "a convolution")
            }
        }
    }

    /// Weight (ones at first) and bias (zeros) of a normalisation.
    pub(crate) fn norm(&self, module: &str, width: usize) -> Result<(Tensor, Tensor)> {
        let bias = self.tensor(module, "bias", &[width], Init::Constant(0.0))?;
        Ok((self.tensor(module, "weight", &[width], Init::Constant(1.0))?, bias))
    }

    /// Weight (ones at first) of a normalisation without bias.
    pub(crate) fn scale(&self, module: &str, width: usize) -> Result<Tensor> {
        self.tensor(module, "weight", &[width], Init::Constant(1.0))
    }
}
