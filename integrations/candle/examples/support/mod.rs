//! What the examples share: arguments, a run with a progress bar that Ctrl-C ends cleanly, curves.
#![allow(dead_code)] // no example uses all of it

pub(crate) mod curves;
pub(crate) mod run;

use clap::{Args, ValueEnum};
use papilio::interop::candle::Method as Orthogonal;
use papilio_finetune::{Adapter, Method, Targets, Tuning};

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MethodName {
    Boft,
    Oft,
    Lora,
}

/// What is put on which modules.
#[derive(Debug, Clone, Args)]
pub(crate) struct AdapterArguments {
    /// What is put on the modules.
    #[arg(long, value_enum, default_value = "boft")]
    pub(crate) method: MethodName,
    /// Size of the blocks of BOFT and OFT.
    #[arg(long, value_name = "B", default_value_t = 8)]
    pub(crate) block: usize,
    /// Factors of BOFT: block·2^(factors − 1) must divide the inputs of every module.
    #[arg(long, value_name = "M", default_value_t = 2)]
    pub(crate) factors: usize,
    /// Rank of LoRA.
    #[arg(long, value_name = "R", default_value_t = 8)]
    pub(crate) rank: usize,
    /// Modules to adapt: names with commas between (`query,value`), a pattern for whole paths, or `all-linear`. By default
    /// all of attention.
    #[arg(long, value_name = "MODULES")]
    pub(crate) targets: Option<String>,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

impl AdapterArguments {
    pub(crate) fn method(&self) -> Method {
        match self.method {
            MethodName::Boft => Method::Orthogonal(Orthogonal::Boft { factors: self.factors, block: self.block }),
            MethodName::Oft => Method::Orthogonal(Orthogonal::Oft { block: self.block, share: false, terms: None }),
            MethodName::Lora => Method::Lora { rank: self.rank, alpha: 2.0 * self.rank as f64 },
        }
    }

    pub(crate) fn tuning(&self, otherwise: &str, whole: Vec<String>) -> Outcome<Tuning> {
        let targets = Targets::parse(self.targets.as_deref().unwrap_or(otherwise))?;
        Ok(Tuning::Adapter(Adapter { method: self.method(), targets, whole, seed: self.seed }))
    }
}
