//! Fine-tuning of transformers on disk by rotations, with candle: BERT-like sentence classifiers, Llama-like language models and
//! vision transformers, from `config.json` and safetensors with the names of transformers.
//!
//! | what | where |
//! |---|---|
//! | networks that candle can differentiate | [`models`], [`ops`] |
//! | BOFT, OFT or LoRA on modules chosen by name, heads trained as a whole | [`Tuning`], [`Targets`] |
//! | optimisers, checkpoints that go on bit by bit, early stopping | [`train`] |
//! | adapters in the format of PEFT, for `papilio merge` | [`Model::save_adapter`] |
//! | merged models, with their configurations | [`Model::save_merged`] |
//!
//! `candle_transformers` has these models too, for inference: its fused operations end the graph silently, and its layers are its
//! own. Here it lends the types of configurations, and is the truth in tests.

mod error;
mod frozen;
mod hash;
mod layers;
mod lora;
mod merged;
pub mod models;
pub mod ops;
mod peft;
mod targets;
pub mod tasks;
pub mod train;
mod tuning;
mod variables;
mod weights;

pub use error::{Error, Result};
pub use hash::Fnv;
pub use layers::{Conv2d, Embedding, Linear};
pub use models::{Config, Model};
pub use targets::Targets;
pub use tuning::{Adapter, Method, Tuning};
pub use variables::Variables;
pub use weights::{Init, Weights, save_directory};
