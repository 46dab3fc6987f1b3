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

use crate::error::{Result, input};
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

    /// Of nothing there is none: a loss of 0 would be the best one.
    fn score(&self) -> Result<Score> {
        if self.count == 0 {
            return input("examples to evaluate on", "at least one", "none");
        }
        let count = self.count as f64;
        Ok(Score { loss: self.loss / count, accuracy: self.hits / count })
    }
}

/// That a batch has examples, and that there are `len` of which these are some.
fn check(examples: &[usize], len: usize) -> Result<()> {
    match examples.iter().find(|example| **example >= len) {
        Some(example) => input("examples of a batch", format!("numbers below {len}"), example),
        None if examples.is_empty() => input("examples of a batch", "at least one", "none"),
        None => Ok(()),
    }
}

/// Rows of an evaluation that are computed at once.
const AT_ONCE: usize = 64;
