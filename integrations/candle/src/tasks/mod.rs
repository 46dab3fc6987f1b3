//! What models are trained for: a loss over examples, and a score on held-out ones.

mod images;
mod language;
mod sentences;
mod text;

pub use images::{Images, Pictures};
pub use language::{Blocks, Language};
pub use sentences::{Classification, Sentences};
pub use text::{Labelled, Tokens, byte_tokenizer};

use candle_core::{DType, Tensor};

use crate::error::Result;
use crate::ops;
use crate::train::Score;

/// Loss and hits of some answers, summed.
#[derive(Debug, Default)]
struct Tally {
    count: usize,
    loss: f64,
    hits: f64,
}

impl Tally {
    /// `logits` `[n, classes]`, `targets` `[n]`.
    fn add(&mut self, logits: &Tensor, targets: &Tensor) -> Result<()> {
        let count = targets.elem_count();
        if count > 0 {
            let loss = ops::cross_entropy(logits, targets)?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
            let hits = logits.argmax(1)?.eq(&targets.to_dtype(DType::U32)?)?.to_dtype(DType::F64)?.sum_all()?;
            self.count += count;
            self.loss += loss * count as f64;
            self.hits += hits.to_scalar::<f64>()?;
        }
        Ok(())
    }

    fn score(&self) -> Score {
        let count = self.count.max(1) as f64;
        Score { loss: self.loss / count, accuracy: self.hits / count }
    }
}

/// Rows of an evaluation that are computed at once.
const AT_ONCE: usize = 64;
