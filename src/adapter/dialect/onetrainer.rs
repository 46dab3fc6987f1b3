//! OFT v2 of OneTrainer.
//!
//! `<front>_<module with _ for .>` has `oft_R.weight` `[in/b or 1, b(b−1)/2]`, the upper triangles of S, and W' = W·Rᵀ with the blocks
//! I + 2S + 2S² + 2S³ + S⁴ of PEFT 0.18 and later (`peft_oft.rs`). With `oft_R.scaled_oft` beside it, S is what is stored over the
//! square root of b(b − 1)/2. Nothing in a file says whether the trainer was set to another map (it has had exact and exponential
//! ones), or to the constraint of COFT; so a [`Hint`] must say that it was not.

use std::format;
use std::sync::Arc;

use super::keys::{Grammar, Parameter};
use super::{Context, Dialect, Form, Hint, Tensors, need, peft_oft};
use crate::error::Result;
use crate::storage::tensor_error;

pub(super) const DIALECT: Dialect = Dialect {
    name: "onetrainer-oft",
    methods: &[],
    grammar: Grammar::Flat(&[
        "lora_unet_",
        "lora_te1_",
        "lora_te2_",
        "lora_te3_",
        "lora_te_",
        "lora_transformer_",
        "lora_prior_unet_",
        "lora_prior_te_",
    ]),
    parameters: &[
        Parameter { name: "oft_R", spelled: "oft_R.weight", tail: "", is_derived: false },
        Parameter { name: "scaled_oft", spelled: "oft_R.scaled_oft", tail: "", is_derived: false },
    ],
    form,
};

fn form(tensors: &Tensors, cx: &Context<'_>) -> Result<Arc<dyn Form>> {
    let tensor = need(tensors, "oft_R", cx)?;
    if cx.hint != Some(Hint::OneTrainer) {
        let expected =
            "to be told how it was trained: --dialect onetrainer stands for the series of 5 terms, without COFT";
        return Err(tensor_error(cx.path, &tensor.name, expected, "nothing in the file that says it"));
    }
    let count = tensor.shape.last().copied().unwrap_or(0) as f64;
    let divisor = if tensors.contains_key("scaled_oft") { count.sqrt() } else { 1.0 };
    let layer = peft_oft::onetrainer(&tensor.shape, "oft_R", divisor).ok_or_else(|| {
        tensor_error(cx.path, &tensor.name, "shape [blocks, b(b - 1)/2]", format!("{:?}", tensor.shape))
    })?;
    layer.check().map_err(|e| tensor_error(cx.path, &tensor.name, "blocks for a rotation", e))?;
    Ok(Arc::new(layer))
}
