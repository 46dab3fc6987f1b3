//! BERT and what is built like it (MiniLM and other sentence encoders), with a classifier on the pooled first token:
//! `BertForSequenceClassification` of transformers, without dropout.

use candle_core::{IndexOp, Result as CandleResult, Tensor};
use candle_nn::{Activation, Module};
use candle_transformers::models::bert::{Config, HiddenAct};

use crate::error::{Result, input};
use crate::layers::{Embedding, Layers, Linear};
use crate::ops;

/// In front of the encoder's names; models that were saved without a head leave it away.
pub(crate) const FRONT: &str = "bert.";

/// A sentence classifier.
#[derive(Debug, Clone)]
pub struct Bert {
    words: Embedding,
    positions: Tensor,
    types: Tensor,
    norm: Norm,
    layers: Vec<Layer>,
    pooler: Linear,
    classifier: Linear,
    longest: usize,
}

#[derive(Debug, Clone)]
struct Norm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl Norm {
    fn new(layers: &Layers<'_>, module: &str, config: &Config) -> Result<Self> {
        let (weight, bias) = layers.norm(module, config.hidden_size)?;
        Ok(Self { weight, bias, eps: config.layer_norm_eps })
    }

    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        ops::layer_norm(x, &self.weight, &self.bias, self.eps)
    }
}

#[derive(Debug, Clone)]
struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    heads: usize,
    attended: (Linear, Norm),
    widened: Linear,
    activation: Activation,
    output: (Linear, Norm),
}

impl Layer {
    fn new(layers: &Layers<'_>, at: &str, config: &Config) -> Result<Self> {
        let (n, wide) = (config.hidden_size, config.intermediate_size);
        let linear = |name: &str, inputs, outputs| layers.linear(&format!("{at}.{name}"), inputs, outputs, true);
        let norm = |name: &str| Norm::new(layers, &format!("{at}.{name}"), config);
        Ok(Self {
            query: linear("attention.self.query", n, n)?,
            key: linear("attention.self.key", n, n)?,
            value: linear("attention.self.value", n, n)?,
            heads: config.num_attention_heads,
            attended: (linear("attention.output.dense", n, n)?, norm("attention.output.LayerNorm")?),
            widened: linear("intermediate.dense", n, wide)?,
            activation: match config.hidden_act {
                HiddenAct::Gelu => Activation::Gelu,
                HiddenAct::GeluApproximate => Activation::NewGelu,
                HiddenAct::Relu => Activation::Relu,
            },
            output: (linear("output.dense", wide, n)?, norm("output.LayerNorm")?),
        })
    }

    fn forward(&self, x: &Tensor, mask: &Tensor) -> CandleResult<Tensor> {
        let head = |layer: &Linear| ops::split_heads(&layer.forward(x)?, self.heads);
        let y = ops::attention(&head(&self.query)?, &head(&self.key)?, &head(&self.value)?, Some(mask))?;
        let y = self.attended.0.forward(&ops::join_heads(&y)?)?;
        let x = self.attended.1.forward(&(y + x)?)?;
        let y = ops::activation(self.activation, &self.widened.forward(&x)?)?;
        self.output.1.forward(&(self.output.0.forward(&y)? + x)?)
    }
}

impl Bert {
    pub(crate) fn new(config: &Config, labels: usize, layers: &Layers<'_>) -> Result<Self> {
        let (n, heads) = (config.hidden_size, config.num_attention_heads);
        if heads == 0 || n % heads != 0 {
            return input("config.json, `num_attention_heads`", format!("a divisor of {n}"), heads);
        }
        let small = crate::weights::Init::Normal(0.02);
        let table = |name: &str, count| layers.tensor(&format!("bert.embeddings.{name}"), "weight", &[count, n], small);
        let layer = |i| Layer::new(layers, &format!("bert.encoder.layer.{i}"), config);
        Ok(Self {
            words: layers.embedding("bert.embeddings.word_embeddings", config.vocab_size, n)?,
            positions: table("position_embeddings", config.max_position_embeddings)?,
            types: table("token_type_embeddings", config.type_vocab_size)?,
            norm: Norm::new(layers, "bert.embeddings.LayerNorm", config)?,
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            pooler: layers.linear("bert.pooler.dense", n, n, true)?,
            classifier: layers.linear("classifier", n, labels, true)?,
            longest: config.max_position_embeddings,
        })
    }

    /// The last hidden states `[batch, length, n]` of tokens `[batch, length]`; `mask` is 1 where there is one. All are of the
    /// first type.
    ///
    /// # Errors
    /// candle's: tokens beyond the vocabulary, sequences longer than the positions.
    pub fn hidden(&self, ids: &Tensor, mask: &Tensor) -> CandleResult<Tensor> {
        let (_, length) = ids.dims2()?;
        if length > self.longest {
            candle_core::bail!("tokens of a sequence: expected at most {}, got {length}", self.longest);
        }
        let x = self.words.forward(ids)?;
        let fixed = self.positions.narrow(0, 0, length)?.broadcast_add(&self.types.narrow(0, 0, 1)?)?;
        let mut x = self.norm.forward(&x.broadcast_add(&fixed)?)?;
        let mask = ops::padding_mask(mask, x.dtype())?;
        for layer in &self.layers {
            x = layer.forward(&x, &mask)?;
        }
        Ok(x)
    }

    /// `[batch, labels]`.
    ///
    /// # Errors
    /// As [`hidden`](Self::hidden).
    pub fn logits(&self, ids: &Tensor, mask: &Tensor) -> CandleResult<Tensor> {
        let first = self.hidden(ids, mask)?.i((.., 0, ..))?.contiguous()?;
        self.classifier.forward(&self.pooler.forward(&first)?.tanh()?)
    }
}
