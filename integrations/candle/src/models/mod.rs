//! The models: one file each, their configurations as `config.json` has them.

mod bert;
mod config;
mod llama;
mod vit;

pub use bert::Bert;
pub use config::Config;
pub use llama::Llama;
pub use vit::Vit;

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use crate::error::{Result, input};
use crate::hash::Fnv;
use crate::layers::{Built, Layers};
use crate::tuning::Tuning;
use crate::variables::Variables;
use crate::weights::Weights;

/// What computes.
#[derive(Debug, Clone)]
pub enum Network {
    /// Sentences to classes.
    Bert(Bert),
    /// Tokens to what comes next.
    Llama(Llama),
    /// Images to classes.
    Vit(Vit),
}

/// A network, what is trained of it, and what it is made of.
#[derive(Debug)]
pub struct Model {
    network: Network,
    config: Config,
    tuning: Tuning,
    variables: Variables,
    dtype: DType,
    pub(crate) built: Built,
}

impl Model {
    /// Builds the network of a configuration. Variables are new and start where the adapter changes nothing.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) naming a tensor that is missing or of another shape, a field of the configuration that is not
    /// supported, a target that no module has, sizes that a method does not fit.
    pub fn new(config: &Config, weights: &Weights, tuning: &Tuning) -> Result<Self> {
        config.check()?;
        let variables = Variables::new();
        let layers = Layers::new(weights, tuning, &variables, config.front());
        let network = match config {
            Config::Bert(config, labels) => Network::Bert(Bert::new(config, *labels, &layers)?),
            Config::Llama(config) => Network::Llama(Llama::new(config, &layers)?),
            Config::Vit(config, labels) => Network::Vit(Vit::new(config, *labels, &layers)?),
        };
        let built = layers.finish()?;
        Ok(Self { network, config: config.clone(), tuning: tuning.clone(), variables, dtype: weights.dtype(), built })
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What is trained of it.
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// The type of its numbers.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// What is trained, by name.
    pub fn variables(&self) -> &Variables {
        &self.variables
    }

    /// Paths of the adapted modules.
    pub fn adapted(&self) -> impl Iterator<Item = &str> {
        self.built.adapted.keys().map(String::as_str)
    }

    /// The largest of the rigorous bounds on ‖RᵀR − I‖₂ of all rotations; none without rotations.
    ///
    /// # Errors
    /// Parameters that are not finite.
    pub fn defect(&self) -> Result<Option<f64>> {
        let mut largest = None;
        for layer in self.built.adapted.values() {
            if let Some(defect) = layer.defect()? {
                largest = Some(f64::max(defect, largest.unwrap_or(0.0)));
            }
        }
        Ok(largest)
    }

    /// All tensors of a plain model that does the same.
    ///
    /// # Errors
    /// Parameters that are not finite.
    pub fn merged(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors: BTreeMap<_, _> =
            self.built.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.detach())).collect();
        for (module, layer) in &self.built.adapted {
            tensors.insert(format!("{module}.weight"), layer.merged()?);
        }
        Ok(tensors)
    }

    /// Tells models apart: a hash of names, shapes and numbers of all tensors, trained ones as they are now.
    ///
    /// # Errors
    /// candle's.
    pub fn fingerprint(&self) -> Result<u64> {
        let mut hash = Fnv::default();
        let variables = self.variables.all();
        let trained = variables.iter().map(|(name, variable)| (name, variable.as_tensor()));
        for (name, tensor) in self.built.tensors.iter().chain(trained) {
            hash.write(name.as_bytes());
            tensor.dims().iter().for_each(|dim| hash.write(&dim.to_le_bytes()));
            let numbers = tensor.flatten_all()?;
            match numbers.dtype() {
                DType::F32 => numbers.to_vec1::<f32>()?.iter().for_each(|x| hash.write(&x.to_le_bytes())),
                _ => numbers.to_dtype(DType::F64)?.to_vec1::<f64>()?.iter().for_each(|x| hash.write(&x.to_le_bytes())),
            }
        }
        Ok(hash.0)
    }

    /// The sentence classifier that this is.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) if it is another network.
    pub fn bert(&self) -> Result<&Bert> {
        match &self.network {
            Network::Bert(network) => Ok(network),
            _ => input("model", "a BERT-like one", self.config.kind()),
        }
    }

    /// The language model that this is.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) if it is another network.
    pub fn llama(&self) -> Result<&Llama> {
        match &self.network {
            Network::Llama(network) => Ok(network),
            _ => input("model", "a Llama-like one", self.config.kind()),
        }
    }

    /// The image classifier that this is.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) if it is another network.
    pub fn vit(&self) -> Result<&Vit> {
        match &self.network {
            Network::Vit(network) => Ok(network),
            _ => input("model", "a ViT-like one", self.config.kind()),
        }
    }
}
