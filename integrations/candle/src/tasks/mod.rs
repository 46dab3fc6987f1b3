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

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Two classes with logits (0, x): a loss of ln(1 + e^∓x), whatever the sizes of the batches.
    #[test]
    fn every_example_counts_alike() -> Result<()> {
        let examples = [(2.0f64, 1u32), (-1.0, 1), (0.5, 0), (3.0, 1), (-0.25, 0)];
        let mut tally = Tally::default();
        for batch in [&examples[..3], &examples[3..3], &examples[3..4], &examples[4..]] {
            let logits: Vec<f64> = batch.iter().flat_map(|(x, _)| [0.0, *x]).collect();
            let targets: Vec<u32> = batch.iter().map(|(_, class)| *class).collect();
            let logits = Tensor::from_vec(logits, (batch.len(), 2), &Device::Cpu)?;
            tally.add(&logits, &Tensor::from_vec(targets, batch.len(), &Device::Cpu)?)?;
        }
        let loss = |(x, class): &(f64, u32)| (1.0 + if *class == 1 { (-x).exp() } else { x.exp() }).ln();
        let mean = examples.iter().map(loss).sum::<f64>() / 5.0;
        let score = tally.score()?;
        assert!((score.loss - mean).abs() < 4.0 * f64::EPSILON * mean, "{} instead of {mean}", score.loss);
        assert_eq!(score.accuracy, 3.0 / 5.0); // the first, the fourth and the last
        Ok(())
    }
}
