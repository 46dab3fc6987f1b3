//! A tiny pretrained model and a task that is a bit different, made on the spot.
//!
//! The model learns to tell (or to write) whether things are praised: "the film was lovely", "I found our room dull". The new
//! task also negates: "the film was never dull" is praise. Whoever looks at the adjective alone is right in half of the new sentences.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use candle_core::DType;
use papilio::generator::Generator;
use papilio_finetune::tasks::{Blocks, Classification, Labelled, Language, Tokens, byte_tokenizer};
use papilio_finetune::train::{End, Optimiser, Settings, Task, Trainer};
use papilio_finetune::{Config, Model, Tuning, Weights, save_directory};
use serde_json::json;

use crate::support::{Outcome, run};

const WHOSE: [&str; 6] = ["the", "this", "her", "his", "our", "their"];
const THINGS: [&str; 10] = ["film", "book", "song", "meal", "room", "talk", "play", "wine", "walk", "game"];
const PRAISE: [&str; 8] = ["great", "lovely", "bright", "fresh", "rich", "warm", "kind", "fine"];
const BLAME: [&str; 8] = ["dull", "awful", "stale", "rude", "poor", "bleak", "loud", "weak"];

fn one<'a>(generator: &mut Generator, words: &[&'a str]) -> &'a str {
    words[generator.below(words.len() as u64) as usize]
}

/// A sentence, and whether it praises.
fn sentence(generator: &mut Generator, negates: bool) -> (String, bool) {
    let thing = format!("{} {}", one(generator, &WHOSE), one(generator, &THINGS));
    let praises = generator.below(2) == 0;
    let is_negated = negates && generator.below(2) == 0;
    let word = one(generator, if praises != is_negated { &PRAISE } else { &BLAME });
    let text = match (generator.below(3), is_negated) {
        (0, false) => format!("{thing} was {word}"),
        (1, false) => format!("{thing} was really {word}"),
        (_, false) => format!("I found {thing} {word}"),
        (0, true) => format!("{thing} was not {word}"),
        (1, true) => format!("{thing} was never {word}"),
        (_, true) => format!("I did not find {thing} {word}"),
    };
    (text, praises)
}

fn labelled(count: usize, negates: bool, seed: u64) -> Vec<(String, String)> {
    let mut generator = Generator::new(seed);
    let mut pair = || {
        let (text, praises) = sentence(&mut generator, negates);
        (text, if praises { "praise" } else { "blame" }.to_string())
    };
    (0..count).map(|_| pair()).collect()
}

/// A text of sentences with their verdicts.
fn text(count: usize, negates: bool, seed: u64) -> String {
    labelled(count, negates, seed).into_iter().map(|(text, label)| format!("{text}: {label}.\n")).collect()
}

/// The file of the new task's data, beside the pretrained model.
pub(crate) fn data_name(is_llama: bool) -> &'static str {
    if is_llama { "data.txt" } else { "data.csv" }
}

fn data(is_llama: bool) -> String {
    if is_llama {
        return text(1200, true, 21);
    }
    let rows = labelled(800, true, 21).into_iter().map(|(text, label)| format!("{text},{label}\n"));
    "text,label\n".to_string() + &rows.collect::<String>()
}

/// Where the pretrained model and the new task's data go.
pub(crate) fn directory(out: &Path, is_llama: bool, quick: bool) -> PathBuf {
    out.join(match (is_llama, quick) {
        (false, false) => "tiny-bert",
        (true, false) => "tiny-llama",
        (false, true) => "quick-bert",
        (true, true) => "quick-llama",
    })
}

/// Writes the pretrained model and the new task's data, unless they are there.
pub(crate) fn base(directory: &Path, is_llama: bool, quick: bool, stop: &AtomicBool) -> Outcome<End> {
    if directory.join("model.safetensors").exists() {
        println!("tiny model from {}", directory.display());
        return Ok(End::Finished);
    }
    let common = json!({"vocab_size": 259, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 128, "max_position_embeddings": 64});
    let own = if is_llama {
        json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_key_value_heads": 2, "hidden_act": "silu",
            "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": false, "bos_token_id": null,
            "eos_token_id": null, "pad_token_id": 0})
    } else {
        json!({"architectures": ["BertForSequenceClassification"], "model_type": "bert", "hidden_act": "gelu",
            "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "type_vocab_size": 2, "initializer_range": 0.02,
            "layer_norm_eps": 1e-12, "pad_token_id": 0, "id2label": {"0": "blame", "1": "praise"},
            "label2id": {"blame": 0, "praise": 1}})
    };
    let mut fields = common.as_object().cloned().unwrap_or_default();
    fields.extend(own.as_object().cloned().unwrap_or_default());
    let config = Config::from_json(fields.clone(), None, "config.json")?;
    let tokenizer = byte_tokenizer(!is_llama)?;
    let tokens = Tokens::from_json(tokenizer.as_bytes(), "tokenizer of bytes")?;

    let model = Model::new(&config, &Weights::random(1, 0.08, DType::F32), &Tuning::Everything)?;
    println!("pretraining a tiny model of {} parameters", model.variables().count());
    let end = if is_llama {
        let (train, held_out) = Blocks::new(tokens.text(&text(4000, false, 11))?, 64)?.split(0.05);
        pretrain(&model, &Language::new(&model, &train, &held_out)?, if quick { 60 } else { 600 }, stop)?
    } else {
        let (train, held_out) = Labelled::new(labelled(4000, false, 11)).split(0.05, 1);
        let (train, held_out) = (tokens.sentences(&train, 64)?, tokens.sentences(&held_out, 64)?);
        pretrain(&model, &Classification::new(&model, &train, &held_out)?, if quick { 100 } else { 400 }, stop)?
    };
    if end == End::Interrupted {
        return Ok(end);
    }
    let config = ("config.json", serde_json::to_string_pretty(&fields)?);
    let texts = [config, ("tokenizer.json", tokenizer), (data_name(is_llama), data(is_llama))];
    save_directory(directory, "model.safetensors", &model.merged()?, &texts, false)?;
    println!("tiny model and data of the new task in {}", directory.display());
    Ok(end)
}

fn pretrain(model: &Model, task: &dyn Task, steps: u64, stop: &AtomicBool) -> Outcome<End> {
    let settings =
        Settings { steps, batch: 16, evaluate_every: steps / 2, checkpoint_every: 0, patience: None, seed: 1 };
    let optimiser = Optimiser::adam(model.variables(), 0.003, 0.0)?.clipped(Some(1.0))?;
    let mut trainer = Trainer::new(task, optimiser, settings, 0)?;
    run::train("pretraining", task, &mut trainer, steps, None, false, stop)
}
