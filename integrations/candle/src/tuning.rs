//! What of a model is trained.

use papilio::interop::candle::Method as Orthogonal;

use crate::targets::Targets;

/// What of a model is trained.
#[derive(Debug, Clone)]
pub enum Tuning {
    /// Nothing.
    Frozen,
    /// Every tensor, from a seed where weights are a random start.
    Everything,
    /// An adapter on some modules.
    Adapter(Adapter),
}

/// An adapter.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// What is put on the modules.
    pub method: Method,
    /// Which modules.
    pub targets: Targets,
    /// Modules that are trained as a whole, heads above all: PEFT's `modules_to_save`. Where the model lacks them, or has them for
    /// other classes, they are new.
    pub whole: Vec<String>,
    /// Of everything that starts at random.
    pub seed: u64,
}

/// What is put on a module.
#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    /// BOFT or OFT.
    Orthogonal(Orthogonal),
    /// LoRA.
    Lora {
        /// The rank.
        rank: usize,
        /// The product counts alpha/rank times.
        alpha: f64,
    },
}

impl Tuning {
    pub(crate) fn seed(&self) -> u64 {
        match self {
            Self::Adapter(adapter) => adapter.seed,
            _ => 0,
        }
    }
}

impl Targets {
    /// Whether a module of a kind is meant. As in PEFT, `all-linear` leaves the head out.
    pub(crate) fn is_meant(&self, module: &str, is_linear: bool) -> bool {
        let is_inner = is_linear && !["lm_head", "classifier"].contains(&module);
        self.matches(module) && (is_inner || !matches!(self, Self::AllLinear))
    }
}
