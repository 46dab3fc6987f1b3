//! The parts of transformers out of operations that candle can differentiate.
//!
//! `candle_nn`'s own `layer_norm`, `rms_norm`, `softmax_last_dim` and `rope` are fused for inference: they end the graph
//! *without a word*, and nothing below them is trained. And the derivatives of `Tensor::gelu` and `gelu_erf` are computed with
//! constants of six digits. So these are composed here; the tests compare them with candle's values, and their
//! gradients with differences.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::Activation;

/// (x − mean)/√(variance + eps)·weight + bias over the last dimension.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    rms_norm(&x, weight, eps)?.broadcast_add(bias)
}

/// x/√(mean of squares + eps)·weight over the last dimension.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let size = (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
    x.broadcast_div(&size)?.broadcast_mul(weight)
}

/// Over the last dimension. The largest entry is taken out as a constant, which changes no gradient.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    let e = x.broadcast_sub(&x.detach().max_keepdim(D::Minus1)?)?.exp()?;
    e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
}

/// −log of the probability of each target, averaged. `logits` is `[n, classes]`, `targets` are n class numbers.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let shifted = logits.broadcast_sub(&logits.detach().max_keepdim(D::Minus1)?)?;
    let total = shifted.exp()?.sum(D::Minus1)?.log()?;
    (total - shifted.gather(&targets.unsqueeze(1)?, 1)?.squeeze(1)?)?.mean_all()
}

/// ½x(1 + erf(x/√2)).
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    let erf = (x * std::f64::consts::FRAC_1_SQRT_2)?.erf()?;
    (x * 0.5)?.mul(&(erf + 1.0)?)
}

/// ½x(1 + tanh(√(2/π)(x + 0.044715x³))).
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    let inner = ((x.sqr()? * 0.044715)? + 1.0)?.mul(x)?;
    let tanh = (inner * std::f64::consts::FRAC_2_PI.sqrt())?.tanh()?;
    (x * 0.5)?.mul(&(tanh + 1.0)?)
}

/// The activation of a configuration.
///
/// # Errors
/// candle's, for one whose derivative is missing there.
pub fn activation(which: Activation, x: &Tensor) -> Result<Tensor> {
    match which {
        Activation::Gelu => gelu(x),
        Activation::NewGelu | Activation::GeluPytorchTanh => gelu_tanh(x),
        Activation::Relu => x.relu(),
        Activation::Silu | Activation::Swish => x.silu(),
        other => {
            candle_core::bail!("activation: expected gelu, gelu_new, gelu_pytorch_tanh, relu or silu, got {other:?}")
        }
    }
}

/// softmax(q kᵀ/√d + mask) v. Heads are a dimension of their own: `[batch, heads, length, d]`; `mask` is added to
/// `[batch, heads, length, length]` and broadcast.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let scores = (q.matmul(&k.t()?)? / (q.dim(D::Minus1)? as f64).sqrt())?;
    let scores = mask.map_or(Ok(scores.clone()), |mask| scores.broadcast_add(mask))?;
    softmax(&scores)?.matmul(v)
}

/// `[batch, length, heads·d]` as `[batch, heads, length, d]`.
pub fn split_heads(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (batch, length, width) = x.dims3()?;
    x.reshape((batch, length, heads, width / heads.max(1)))?.transpose(1, 2)?.contiguous()
}

/// And back.
pub fn join_heads(x: &Tensor) -> Result<Tensor> {
    x.transpose(1, 2)?.contiguous()?.flatten_from(2)
}

/// 0 where `mask` is 1 and the lowest number where it is 0: `[batch, length]` to `[batch, 1, 1, length]`.
pub fn padding_mask(mask: &Tensor, dtype: DType) -> Result<Tensor> {
    let hidden = (1.0 - mask.to_dtype(dtype)?)?;
    (hidden * f64::from(f32::MIN))?.unsqueeze(1)?.unsqueeze(1)
}

/// Rotary positions: pairs (i, i + d/2) of each head turn. `cos` and `sin` are `[length, d/2]`.
pub fn rotary(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let (a, b) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
    let first = (a.broadcast_mul(cos)? - b.broadcast_mul(sin)?)?;
    let second = (b.broadcast_mul(cos)? + a.broadcast_mul(sin)?)?;
    Tensor::cat(&[first, second], D::Minus1)
}
