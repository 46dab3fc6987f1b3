//! Tiny models and data that several tests need.
#![allow(dead_code)] // no test uses all of it

use candle_core::{DType, Device, Tensor};
use papilio::generator::Generator;
use papilio_finetune::tasks::{Blocks, Pictures, Sentences};
use papilio_finetune::{Adapter, Config, Method, Targets, Tuning};
use serde_json::{Value, json};

pub(crate) fn config(fields: &Value) -> Config {
    Config::from_json(fields.as_object().unwrap().clone(), Some(3), "config").unwrap()
}

pub(crate) fn bert() -> Value {
    json!({"model_type": "bert", "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "hidden_act": "gelu", "hidden_dropout_prob": 0.0, "max_position_embeddings": 24,
        "type_vocab_size": 2, "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 0})
}

pub(crate) fn llama() -> Value {
    json!({"model_type": "llama", "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 64, "hidden_act": "silu", "rms_norm_eps": 1e-5,
        "max_position_embeddings": 64, "rope_theta": 100.0})
}

pub(crate) fn vit() -> Value {
    json!({"model_type": "vit", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "image_size": 8, "patch_size": 2,
        "num_channels": 1, "qkv_bias": true})
}

pub(crate) fn adapter(method: Method, targets: &str, whole: &[&str]) -> Tuning {
    let whole = whole.iter().map(|name| name.to_string()).collect();
    Tuning::Adapter(Adapter { method, targets: Targets::parse(targets).unwrap(), whole, seed: 1 })
}

/// Whole numbers below `bound`.
pub(crate) fn ids(count: usize, bound: u64, seed: u64) -> Vec<u32> {
    let mut generator = Generator::new(seed);
    (0..count).map(|_| generator.below(bound) as u32).collect()
}

pub(crate) fn id_tensor(batch: usize, length: usize, seed: u64) -> Tensor {
    Tensor::from_vec(ids(batch * length, 40, seed), (batch, length), &Device::Cpu).unwrap()
}

/// Sentences of all lengths from 3 to 14 whose class is decided by a token.
pub(crate) fn sentences(count: usize) -> Sentences {
    let tokens: Vec<Vec<u32>> = (0..count).map(|i| ids(3 + i % 12, 40, i as u64)).collect();
    let classes = tokens.iter().map(|t| t[1] % 3).collect();
    Sentences::new(tokens, classes).unwrap()
}

/// A text in which most tokens follow from the one before.
pub(crate) fn blocks(count: usize, length: usize) -> Blocks {
    let mut generator = Generator::new(4);
    let mut last = 1u32;
    let next = |_| {
        last = if generator.below(4) == 0 { generator.below(40) as u32 } else { (7 * last + 3) % 40 };
        last
    };
    Blocks::new((0..count * length).map(next).collect(), length).unwrap()
}

/// Images with a bright row, whose place is the class.
pub(crate) fn pictures(count: usize, dtype: DType) -> Pictures {
    let mut generator = Generator::new(5);
    let classes: Vec<u32> = (0..count as u32).map(|i| i % 3).collect();
    let pixel = |i: usize| generator.uniform() + if (i / 8 % 8) as u32 == 2 * (i as u32 / 64 % 3) { 1.0 } else { 0.0 };
    Pictures::new((0..count * 64).map(pixel).collect(), classes, 1, 8, dtype).unwrap()
}

/// Largest difference relative to the largest number.
pub(crate) fn difference(a: &Tensor, b: &Tensor) -> f64 {
    let numbers = |t: &Tensor| t.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
    let (a, b) = (numbers(a), numbers(b));
    assert_eq!(a.len(), b.len());
    let most = |x: &mut dyn Iterator<Item = f64>| x.fold(0.0f64, |m, x| if x.is_nan() { x } else { m.max(x.abs()) });
    most(&mut a.iter().zip(&b).map(|(a, b)| a - b)) / most(&mut b.iter().copied()).max(f64::MIN_POSITIVE)
}
