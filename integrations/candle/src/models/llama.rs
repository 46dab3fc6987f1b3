//! Llama: a causal language model, `LlamaForCausalLM` of transformers.

use std::f64::consts::TAU;

use candle_core::{DType, Device, Result as CandleResult, Tensor};
use candle_nn::Module;
use candle_transformers::models::llama::{Llama3RopeType, LlamaConfig};

use crate::error::{Result, input};
use crate::layers::{Embedding, Layers, Linear};
use crate::ops;

/// A causal language model.
#[derive(Debug, Clone)]
pub struct Llama {
    words: Embedding,
    layers: Vec<Layer>,
    norm: Tensor,
    /// The embedding itself where they are tied.
    head: Head,
    eps: f64,
    frequencies: Vec<f64>,
    longest: usize,
}

#[derive(Debug, Clone)]
enum Head {
    Own(Linear),
    Tied(Tensor),
}

#[derive(Debug, Clone)]
struct Layer {
    before: (Tensor, Tensor),
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    gate: Linear,
    up: Linear,
    down: Linear,
    heads: (usize, usize),
    eps: f64,
}

/// What turns at the positions of a batch, and what hides later ones.
struct Positions {
    cos: Tensor,
    sin: Tensor,
    mask: Tensor,
}

impl Layer {
    fn new(layers: &Layers<'_>, at: &str, config: &LlamaConfig) -> Result<Self> {
        let (n, wide) = (config.hidden_size, config.intermediate_size);
        let heads = (config.num_attention_heads, config.num_key_value_heads());
        let shared = n / heads.0 * heads.1;
        let linear = |name: &str, inputs, outputs| layers.linear(&format!("{at}.{name}"), inputs, outputs, false);
        let norm = |name: &str| layers.scale(&format!("{at}.{name}"), n);
        Ok(Self {
            before: (norm("input_layernorm")?, norm("post_attention_layernorm")?),
            query: linear("self_attn.q_proj", n, n)?,
            key: linear("self_attn.k_proj", n, shared)?,
            value: linear("self_attn.v_proj", n, shared)?,
            output: linear("self_attn.o_proj", n, n)?,
            gate: linear("mlp.gate_proj", n, wide)?,
            up: linear("mlp.up_proj", n, wide)?,
            down: linear("mlp.down_proj", wide, n)?,
            heads,
            eps: config.rms_norm_eps,
        })
    }

    fn forward(&self, x: &Tensor, at: &Positions) -> CandleResult<Tensor> {
        let z = ops::rms_norm(x, &self.before.0, self.eps)?;
        let turned =
            |layer: &Linear, heads| ops::rotary(&ops::split_heads(&layer.forward(&z)?, heads)?, &at.cos, &at.sin);
        let (query, key) = (turned(&self.query, self.heads.0)?, turned(&self.key, self.heads.1)?);
        let value = ops::split_heads(&self.value.forward(&z)?, self.heads.1)?;
        let (key, value) = (self.repeated(&key)?, self.repeated(&value)?);
        let y = ops::attention(&query, &key, &value, Some(&at.mask))?;
        let x = (self.output.forward(&ops::join_heads(&y)?)? + x)?;
        let z = ops::rms_norm(&x, &self.before.1, self.eps)?;
        let z = self.gate.forward(&z)?.silu()?.mul(&self.up.forward(&z)?)?;
        self.down.forward(&z)? + x
    }

    /// Each head of keys and values for the queries that share it.
    fn repeated(&self, x: &Tensor) -> CandleResult<Tensor> {
        let times = self.heads.0 / self.heads.1;
        if times == 1 {
            return Ok(x.clone());
        }
        let (batch, heads, length, width) = x.dims4()?;
        let x = x.unsqueeze(2)?.broadcast_as((batch, heads, times, length, width))?;
        x.contiguous()?.reshape((batch, heads * times, length, width))
    }
}

impl Llama {
    pub(crate) fn new(config: &LlamaConfig, layers: &Layers<'_>) -> Result<Self> {
        let (n, heads, shared) = (config.hidden_size, config.num_attention_heads, config.num_key_value_heads());
        if heads == 0 || n % (2 * heads) != 0 {
            return input("config.json, `num_attention_heads`", format!("heads of an even size for {n}"), heads);
        }
        if shared == 0 || heads % shared != 0 {
            return input("config.json, `num_key_value_heads`", format!("a divisor of {heads}"), shared);
        }
        let words = layers.embedding("model.embed_tokens", config.vocab_size, n)?;
        let head = match (&words, config.tie_word_embeddings.unwrap_or(false)) {
            (Embedding::Plain(words), true) => Head::Tied(words.embeddings().clone()),
            (Embedding::Orthogonal(_), true) => {
                let expected = "an embedding that is not tied to the head, which would be rotated with it when merged";
                return input("module `model.embed_tokens`", expected, "`tie_word_embeddings`: true");
            }
            (_, false) => Head::Own(layers.linear("lm_head", n, config.vocab_size, false)?),
        };
        let layer = |i| Layer::new(layers, &format!("model.layers.{i}"), config);
        Ok(Self {
            words,
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            norm: layers.scale("model.norm", n)?,
            head,
            eps: config.rms_norm_eps,
            frequencies: frequencies(config),
            longest: config.max_position_embeddings,
        })
    }

    /// `[batch, length, vocabulary]` for tokens `[batch, length]`: what comes after each.
    ///
    /// # Errors
    /// candle's: tokens beyond the vocabulary, sequences longer than the positions.
    pub fn logits(&self, ids: &Tensor) -> CandleResult<Tensor> {
        let (_, length) = ids.dims2()?;
        if length > self.longest {
            candle_core::bail!("tokens of a sequence: expected at most {}, got {length}", self.longest);
        }
        let mut x = self.words.forward(ids)?;
        let at = self.positions(length, x.dtype())?;
        for layer in &self.layers {
            x = layer.forward(&x, &at)?;
        }
        let x = ops::rms_norm(&x, &self.norm, self.eps)?;
        match &self.head {
            Head::Own(layer) => layer.forward(&x),
            Head::Tied(table) => x.broadcast_matmul(&table.t()?),
        }
    }

    fn positions(&self, length: usize, dtype: DType) -> CandleResult<Positions> {
        let angles = |f: fn(f64) -> f64| {
            let numbers = (0..length).flat_map(|t| self.frequencies.iter().map(move |w| f(t as f64 * w)));
            Tensor::from_iter(numbers, &Device::Cpu)?.reshape((length, self.frequencies.len()))?.to_dtype(dtype)
        };
        let hidden = (0..length * length).map(|i| if i % length > i / length { f64::from(f32::MIN) } else { 0.0 });
        let mask = Tensor::from_iter(hidden, &Device::Cpu)?.reshape((1, 1, length, length))?.to_dtype(dtype)?;
        Ok(Positions { cos: angles(f64::cos)?, sin: angles(f64::sin)?, mask })
    }
}

/// Radians from position to position for each pair of a head, with the rescaling of Llama 3.1 where the configuration asks for it:
/// wavelengths beyond the old context are stretched by a factor, short ones are left, those between are mixed.
fn frequencies(config: &LlamaConfig) -> Vec<f64> {
    let half = config.hidden_size / config.num_attention_heads / 2;
    let plain = (0..half).map(|i| f64::from(config.rope_theta).powf(-(i as f64) / half as f64));
    match &config.rope_scaling {
        Some(scaling) if matches!(scaling.rope_type, Llama3RopeType::Llama3) => {
            let [factor, low, high] =
                [scaling.factor, scaling.low_freq_factor, scaling.high_freq_factor].map(f64::from);
            plain
                .map(|w| {
                    let turns = scaling.original_max_position_embeddings as f64 * w / TAU; // in the old context
                    let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    w * (kept + (1.0 - kept) / factor)
                })
                .collect()
        }
        _ => plain.collect(),
    }
}
