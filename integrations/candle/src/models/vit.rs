//! Vision transformers: `ViTForImageClassification` of transformers, without dropout.
//!
//! The names are those of the files, which transformers 5 reads although it calls its modules differently.

use candle_core::{IndexOp, Result as CandleResult, Tensor};
use candle_nn::{Activation, Conv2dConfig, Module};
use candle_transformers::models::vit::Config;

use crate::error::{Result, input};
use crate::layers::{Conv2d, Layers, Linear};
use crate::ops;
use crate::weights::Init;

/// In front of the encoder's names.
pub(crate) const FRONT: &str = "vit.";

/// An image classifier.
#[derive(Debug, Clone)]
pub struct Vit {
    patches: Conv2d,
    first: Tensor,
    positions: Tensor,
    layers: Vec<Layer>,
    norm: (Tensor, Tensor),
    classifier: Linear,
    eps: f64,
}

#[derive(Debug, Clone)]
struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attended: Linear,
    widened: Linear,
    output: Linear,
    before: (Tensor, Tensor),
    after: (Tensor, Tensor),
    heads: usize,
    activation: Activation,
    eps: f64,
}

impl Layer {
    fn new(layers: &Layers<'_>, at: &str, config: &Config) -> Result<Self> {
        let (n, wide) = (config.hidden_size, config.intermediate_size);
        let linear = |name: &str, inputs, outputs, bias| layers.linear(&format!("{at}.{name}"), inputs, outputs, bias);
        let attention = |name: &str| linear(&format!("attention.attention.{name}"), n, n, config.qkv_bias);
        let norm = |name: &str| layers.norm(&format!("{at}.{name}"), n);
        Ok(Self {
            query: attention("query")?,
            key: attention("key")?,
            value: attention("value")?,
            attended: linear("attention.output.dense", n, n, true)?,
            widened: linear("intermediate.dense", n, wide, true)?,
            output: linear("output.dense", wide, n, true)?,
            before: norm("layernorm_before")?,
            after: norm("layernorm_after")?,
            heads: config.num_attention_heads,
            activation: config.hidden_act,
            eps: config.layer_norm_eps,
        })
    }

    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        let z = ops::layer_norm(x, &self.before.0, &self.before.1, self.eps)?;
        let head = |layer: &Linear| ops::split_heads(&layer.forward(&z)?, self.heads);
        let y = ops::attention(&head(&self.query)?, &head(&self.key)?, &head(&self.value)?, None)?;
        let x = (self.attended.forward(&ops::join_heads(&y)?)? + x)?;
        let z = ops::layer_norm(&x, &self.after.0, &self.after.1, self.eps)?;
        let z = ops::activation(self.activation, &self.widened.forward(&z)?)?;
        self.output.forward(&z)? + x
    }
}

impl Vit {
    pub(crate) fn new(config: &Config, labels: usize, layers: &Layers<'_>) -> Result<Self> {
        let (n, heads) = (config.hidden_size, config.num_attention_heads);
        if heads == 0 || n % heads != 0 {
            return input("config.json, `num_attention_heads`", format!("a divisor of {n}"), heads);
        }
        if !config.image_size.is_multiple_of(config.patch_size) {
            return input(
                "config.json, `patch_size`",
                format!("a divisor of {}", config.image_size),
                config.patch_size,
            );
        }
        let count = (config.image_size / config.patch_size).pow(2);
        let convolution = Conv2dConfig { stride: config.patch_size, ..Conv2dConfig::default() };
        let sizes = [config.num_channels, n, config.patch_size];
        let token = |name: &str, length| layers.tensor("vit.embeddings", name, &[1, length, n], Init::Normal(0.02));
        let layer = |i| Layer::new(layers, &format!("vit.encoder.layer.{i}"), config);
        Ok(Self {
            patches: layers.conv2d("vit.embeddings.patch_embeddings.projection", sizes, convolution)?,
            first: token("cls_token", 1)?,
            positions: token("position_embeddings", count + 1)?,
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            norm: layers.norm("vit.layernorm", n)?,
            classifier: layers.linear("classifier", n, labels, true)?,
            eps: config.layer_norm_eps,
        })
    }

    /// `[batch, labels]` for images `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// candle's, for images of another size.
    pub fn logits(&self, images: &Tensor) -> CandleResult<Tensor> {
        let patches = self.patches.forward(images)?.flatten_from(2)?.transpose(1, 2)?;
        let (batch, _, n) = patches.dims3()?;
        let first = self.first.broadcast_as((batch, 1, n))?;
        let mut x = Tensor::cat(&[&first, &patches], 1)?.broadcast_add(&self.positions)?;
        for layer in &self.layers {
            x = layer.forward(&x)?;
        }
        let first = x.i((.., 0, ..))?.contiguous()?;
        self.classifier.forward(&ops::layer_norm(&first, &self.norm.0, &self.norm.1, self.eps)?)
    }
}
