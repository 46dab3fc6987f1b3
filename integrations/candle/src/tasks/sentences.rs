//! Sentences and their classes.

use candle_core::{Device, Tensor};

use super::{AT_ONCE, Tally, check};
use crate::error::{Result, input};
use crate::models::{Bert, Model};
use crate::ops;
use crate::train::{Score, Task};

/// Tokens of sentences, with their classes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sentences {
    tokens: Vec<Vec<u32>>,
    classes: Vec<u32>,
}

/// Some of them: tokens `[batch, length]`, a mask of the same shape, classes `[batch]`.
#[derive(Debug)]
struct Batch {
    ids: Tensor,
    mask: Tensor,
    classes: Tensor,
}

impl Sentences {
    /// As many classes as sentences.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) if that is not so, or a sentence has no token.
    pub fn new(tokens: Vec<Vec<u32>>, classes: Vec<u32>) -> Result<Self> {
        if tokens.len() != classes.len() {
            return input("classes", format!("one for each of {} sentences", tokens.len()), classes.len());
        }
        match tokens.iter().position(Vec::is_empty) {
            Some(at) => input(format!("sentence {at}"), "at least one token", "none"),
            None => Ok(Self { tokens, classes }),
        }
    }

    /// Number of sentences.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Tokens of each.
    pub fn tokens(&self) -> &[Vec<u32>] {
        &self.tokens
    }

    /// Class of each.
    pub fn classes(&self) -> &[u32] {
        &self.classes
    }

    /// Padded to the longest of them.
    fn batch(&self, examples: &[usize]) -> Result<Batch> {
        check(examples, self.len())?;
        let length = examples.iter().map(|&i| self.tokens[i].len()).max().unwrap_or(0);
        let (mut ids, mut mask) = (Vec::new(), Vec::new());
        for &i in examples {
            let tokens = &self.tokens[i];
            ids.extend((0..length).map(|t| tokens.get(t).copied().unwrap_or(0)));
            mask.extend((0..length).map(|t| u32::from(t < tokens.len())));
        }
        let classes: Vec<u32> = examples.iter().map(|&i| self.classes[i]).collect();
        let shape = (examples.len(), length);
        Ok(Batch {
            ids: Tensor::from_vec(ids, shape, &Device::Cpu)?,
            mask: Tensor::from_vec(mask, shape, &Device::Cpu)?,
            classes: Tensor::from_vec(classes, examples.len(), &Device::Cpu)?,
        })
    }
}

/// Telling classes of sentences apart.
#[derive(Debug)]
pub struct Classification<'a> {
    network: &'a Bert,
    train: &'a Sentences,
    held_out: &'a Sentences,
}

impl<'a> Classification<'a> {
    /// By a BERT-like model.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) for another model.
    pub fn new(model: &'a Model, train: &'a Sentences, held_out: &'a Sentences) -> Result<Self> {
        Ok(Self { network: model.bert()?, train, held_out })
    }

    /// Logits `[batch, classes]` of some examples to train on.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) for none, and for numbers that are not below [`len`](Task::len); candle's.
    pub fn logits(&self, examples: &[usize]) -> Result<Tensor> {
        let batch = self.train.batch(examples)?;
        Ok(self.network.logits(&batch.ids, &batch.mask)?)
    }
}

impl Task for Classification<'_> {
    fn len(&self) -> usize {
        self.train.len()
    }

    fn loss(&self, examples: &[usize]) -> Result<Tensor> {
        let batch = self.train.batch(examples)?;
        Ok(ops::cross_entropy(&self.network.logits(&batch.ids, &batch.mask)?, &batch.classes)?)
    }

    fn evaluate(&self) -> Result<Score> {
        let mut tally = Tally::default();
        for examples in (0..self.held_out.len()).collect::<Vec<_>>().chunks(AT_ONCE) {
            let batch = self.held_out.batch(examples)?;
            tally.add(&self.network.logits(&batch.ids, &batch.mask)?.detach(), &batch.classes)?;
        }
        tally.score()
    }
}
