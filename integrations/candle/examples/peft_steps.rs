//! Trains tiny transformers with rotations in double precision and writes down every loss, for `tests/peers/peft_trains.py` of
//! papilio to do the same with PEFT: `cargo run --example peft_steps -- OUT [STEPS]`.
//!
//! For `bert` and `llama` there is a model in `OUT/<kind>/base`, and `run.json` with the examples and the batches; for each
//! method an adapter in `OUT/<kind>/<method>`, and `<method>.json` with the losses and the logits after the last step.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use papilio::generator::Generator;
use papilio::interop::candle::Method as Orthogonal;
use papilio_finetune::tasks::{Blocks, Classification, Language, Sentences};
use papilio_finetune::train::{Optimiser, Order, Task};
use papilio_finetune::{Adapter, Config, Method, Model, Targets, Tuning, Weights, save_directory};
use serde_json::{Value, json};

const BATCH: usize = 8;
/// So small that rounding does not grow: a difference of 1e-10 becomes one of 6e-9 at most in 200 steps. At 0.2 it becomes 1.
const RATE: f64 = 0.02;
const METHODS: [(&str, Orthogonal); 2] = [
    ("boft", Orthogonal::Boft { factors: 3, block: 4 }),
    ("oft", Orthogonal::Oft { block: 8, share: false, terms: None }),
];

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let Some(out) = arguments.next() else { return Err("a directory to write to is expected".into()) };
    let steps = arguments.next().map_or(Ok(200), |text| text.parse())?;
    bert(Path::new(&out), steps)?;
    llama(Path::new(&out), steps)
}

fn bert(out: &Path, steps: usize) -> Outcome {
    let fields = json!({"architectures": ["BertForSequenceClassification"], "model_type": "bert", "vocab_size": 40,
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "max_position_embeddings": 24,
        "type_vocab_size": 2, "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 0,
        "id2label": {"0": "no", "1": "yes", "2": "perhaps"}, "label2id": {"no": 0, "yes": 1, "perhaps": 2}});
    let mut generator = Generator::new(3);
    let (mut tokens, mut classes) = (Vec::new(), Vec::new());
    for _ in 0..64 {
        let length = 5 + generator.below(16) as usize; // so that batches are padded
        let ids: Vec<u32> = (0..length).map(|_| 1 + generator.below(39) as u32).collect();
        classes.push(ids.iter().filter(|id| **id < 14).count() as u32 % 3);
        tokens.push(ids);
    }
    let targets = Targets::parse("query, key, value, dense")?;
    let whole = vec!["classifier".into()];
    let examples = json!({"tokens": tokens, "classes": classes});
    let sentences = Sentences::new(tokens, classes)?;
    train(&out.join("bert"), fields, examples, steps, (targets, whole), |model, run| {
        let task = Classification::new(model, &sentences, &sentences)?;
        run(&task, &|examples| Ok(task.logits(examples)?))
    })
}

fn llama(out: &Path, steps: usize) -> Outcome {
    let fields = json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 40, "hidden_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64,
        "hidden_act": "silu", "rms_norm_eps": 1e-5, "max_position_embeddings": 24, "rope_theta": 10000.0,
        "tie_word_embeddings": false, "attention_bias": false, "mlp_bias": false, "bos_token_id": null, "eos_token_id": null});
    let mut generator = Generator::new(4);
    let (mut ids, mut last) = (Vec::new(), 1u32);
    for _ in 0..64 * 16 {
        last = if generator.below(4) == 0 { generator.below(40) as u32 } else { (7 * last + 3) % 40 };
        ids.push(last);
    }
    let blocks = Blocks::new(ids, 16)?;
    let targets = Targets::parse(r".*\.(self_attn|mlp)\.\w+_proj")?;
    let examples = json!({"tokens": blocks.blocks().collect::<Vec<_>>()});
    train(&out.join("llama"), fields, examples, steps, (targets, Vec::new()), |model, run| {
        let task = Language::new(model, &blocks, &blocks)?;
        let network = model.llama()?;
        run(&task, &|examples| {
            let ids: Vec<u32> =
                examples.iter().flat_map(|i| blocks.blocks().nth(*i).unwrap_or_default().to_vec()).collect();
            Ok(network.logits(&Tensor::from_vec(ids, (examples.len(), 16), &Device::Cpu)?)?)
        })
    })
}

type Logits<'a> = &'a dyn Fn(&[usize]) -> Outcome<Tensor>;
type Run<'a> = &'a mut dyn FnMut(&dyn Task, Logits<'_>) -> Outcome;

fn train(
    out: &Path,
    fields: Value,
    examples: Value,
    steps: usize,
    adapt: (Targets, Vec<String>),
    with_task: impl Fn(&Model, Run<'_>) -> Outcome,
) -> Outcome {
    let config = Config::from_json(fields.as_object().cloned().unwrap_or_default(), None, "config")?;
    let base = Model::new(&config, &Weights::random(5, 0.2, DType::F64), &Tuning::Frozen)?;
    let text = serde_json::to_string_pretty(&fields)?;
    std::fs::create_dir_all(out)?;
    save_directory(&out.join("base"), "model.safetensors", &base.merged()?, &[("config.json", text)], true)?;
    let weights = Weights::open(&out.join("base"), DType::F64)?;
    let mut order = Order::new(64, 6)?;
    let batches: Vec<Vec<usize>> = (0..steps).map(|_| order.take(BATCH)).collect();
    let run = json!({"examples": examples, "batches": batches, "rate": RATE,
        "targets": match &adapt.0 { Targets::Names(names) => json!(names), Targets::Pattern(_, text) => json!(text), _ => json!(null) },
        "whole": adapt.1});
    std::fs::write(out.join("run.json"), run.to_string())?;
    for (name, method) in METHODS {
        let (targets, whole) = adapt.clone();
        let tuning = Tuning::Adapter(Adapter { method: Method::Orthogonal(method), targets, whole, seed: 0 });
        let model = Model::new(&config, &weights, &tuning)?;
        with_task(&model, &mut |task, logits| {
            let mut optimiser = Optimiser::descent(model.variables(), RATE)?;
            let (mut losses, mut defect) = (Vec::new(), 0.0f64);
            for batch in &batches {
                losses.push(optimiser.step(&task.loss(batch)?)?);
                defect = defect.max(model.defect()?.unwrap_or_default());
            }
            let last = logits(&batches[0])?.flatten_all()?.to_vec1::<f64>()?;
            println!(
                "{} {name}: loss {:.6} to {:.6}, defect at most {defect:.1e}",
                config.kind(),
                losses[0],
                losses[steps - 1]
            );
            let json = json!({"losses": losses, "logits": last, "first_batch": batches[0]});
            Ok(std::fs::write(out.join(format!("{name}.json")), json.to_string())?)
        })?;
        model.save_adapter(&out.join(name), None, true)?;
    }
    Ok(())
}
