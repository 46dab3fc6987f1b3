//! Text, to be continued.

use candle_core::{DType, Device, Tensor};

use super::{AT_ONCE, Tally, check};
use crate::error::{Result, input};
use crate::models::{Llama, Model};
use crate::ops;
use crate::train::{Score, Task};

/// Tokens of a text in blocks of one length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blocks {
    tokens: Vec<u32>,
    length: usize,
}

impl Blocks {
    /// Cuts a text; tokens behind the last whole block are left out.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) for a length below 2.
    pub fn new(mut tokens: Vec<u32>, length: usize) -> Result<Self> {
        if length < 2 {
            return input("length of a block", "at least 2 tokens", length);
        }
        tokens.truncate(tokens.len() / length * length);
        Ok(Self { tokens, length })
    }

    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.tokens.len() / self.length.max(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Tokens of each.
    pub fn blocks(&self) -> impl Iterator<Item = &[u32]> {
        self.tokens.chunks_exact(self.length.max(1))
    }

    /// The last blocks apart, a share of all.
    pub fn split(mut self, share: f64) -> (Self, Self) {
        let held_out = ((self.len() as f64 * share) as usize).min(self.len());
        let kept = (self.len() - held_out) * self.length;
        let tokens = self.tokens.split_off(kept);
        let length = self.length;
        (self, Self { tokens, length })
    }

    fn batch(&self, examples: &[usize]) -> Result<Tensor> {
        check(examples, self.len())?;
        let block = |&i: &usize| self.tokens[i * self.length..(i + 1) * self.length].iter().copied();
        let ids: Vec<u32> = examples.iter().flat_map(block).collect();
        Ok(Tensor::from_vec(ids, (examples.len(), self.length), &Device::Cpu)?)
    }
}

/// Telling the next token.
#[derive(Debug)]
pub struct Language<'a> {
    network: &'a Llama,
    train: &'a Blocks,
    held_out: &'a Blocks,
}

impl<'a> Language<'a> {
    /// By a Llama-like model.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) for another model.
    pub fn new(model: &'a Model, train: &'a Blocks, held_out: &'a Blocks) -> Result<Self> {
        Ok(Self { network: model.llama()?, train, held_out })
    }

    /// Logits of all tokens but the last one, and what comes after them.
    fn answers(&self, ids: &Tensor) -> Result<(Tensor, Tensor)> {
        let (_, length) = ids.dims2()?;
        let logits = self.network.logits(ids)?.narrow(1, 0, length - 1)?;
        let next = ids.narrow(1, 1, length - 1)?.flatten_all()?.to_dtype(DType::U32)?;
        Ok((logits.flatten_to(1)?, next))
    }
}

impl Task for Language<'_> {
    fn len(&self) -> usize {
        self.train.len()
    }

    fn loss(&self, examples: &[usize]) -> Result<Tensor> {
        let (logits, next) = self.answers(&self.train.batch(examples)?)?;
        Ok(ops::cross_entropy(&logits, &next)?)
    }

    fn evaluate(&self) -> Result<Score> {
        let mut tally = Tally::default();
        for examples in (0..self.held_out.len()).collect::<Vec<_>>().chunks(AT_ONCE) {
            let (logits, next) = self.answers(&self.held_out.batch(examples)?)?;
            tally.add(&logits.detach(), &next)?;
        }
        tally.score()
    }
}
