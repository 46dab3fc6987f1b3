//! A small vision transformer reads digits, and then through another camera: BOFT on its attention weights against no
//! adaptation, the head alone, LoRA, OFT, and training everything.
//!
//! ```text
//! cargo run --release --example finetune_images -- OUT            # minutes on two cores; the same again goes on after Ctrl-C
//! cargo run --release --example finetune_images -- OUT --quick    # a part of it, in seconds
//! ```
//!
//! 1200 images are known, 597 are the test. The model is pretrained on the known ones. The camera is then mounted so that images come
//! mirrored and transposed. 300 of the known images are labelled anew: 240 to train on, 60 to choose the rate and the step by.

mod results;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use candle_core::DType;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use papilio::generator::Generator;
use papilio::interop::candle::Method as Orthogonal;
use papilio_finetune::tasks::{Images, Pictures};
use papilio_finetune::train::{End, Optimiser, Settings, Task, Trainer};
use papilio_finetune::{Adapter, Config, Method, Model, Targets, Tuning, Weights, save_directory};
use results::{Results, Run};
use serde_json::json;
use support::curves::{Curve, draw};
use support::{Outcome, run};

const KNOWN: usize = 1200;
const LABELLED: usize = 300;
const TRAINED: usize = 240;

/// A vision transformer meets another camera.
#[derive(Debug, Parser)]
#[command(name = "finetune_images", version)]
struct Arguments {
    /// Where to write the pretrained model, the best adapters, `results.csv` and `accuracy.svg`.
    #[arg(value_name = "OUT", default_value = "finetuned-images")]
    out: PathBuf,
    /// Begins anew and replaces what an earlier run wrote; otherwise finished runs are not made again.
    #[arg(long)]
    force: bool,
    /// A small part of everything, in seconds, into `OUT/quick`.
    #[arg(long)]
    quick: bool,
}

fn main() -> ExitCode {
    match work(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(130),
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Grey values from −1 to 1, and labels, in an order of chance.
fn digits() -> Outcome<Vec<(Vec<f64>, u32)>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/digits/digits.csv");
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut rows = Vec::new();
    for line in text.lines() {
        let numbers = line.split(',').map(str::parse).collect::<Result<Vec<u8>, _>>()?;
        let [pixels @ .., label] = &numbers[..] else { return Err("an empty line among the digits".into()) };
        rows.push((pixels.iter().map(|x| f64::from(*x) / 8.0 - 1.0).collect(), u32::from(*label)));
    }
    Generator::new(0).shuffle(&mut rows);
    Ok(rows)
}

/// Mirrored and transposed: a quarter turn.
fn turned(image: &[f64]) -> Vec<f64> {
    (0..64).map(|i| image[i % 8 * 8 + 7 - i / 8]).collect()
}

fn pictures<'a>(rows: impl Iterator<Item = &'a (Vec<f64>, u32)>, is_turned: bool) -> Outcome<Pictures> {
    let (mut pixels, mut classes) = (Vec::new(), Vec::new());
    for (image, class) in rows {
        pixels.extend(if is_turned { turned(image) } else { image.clone() });
        classes.push(*class);
    }
    Ok(Pictures::new(pixels, classes, 1, 8, DType::F32)?)
}

/// A way to adapt, and the rates that it is tried with.
struct Way {
    name: &'static str,
    tuning: Tuning,
    rates: &'static [f64],
}

fn ways() -> Vec<Way> {
    const RATES: [f64; 3] = [0.003, 0.01, 0.03];
    let attention = ["query", "key", "value", "attention.output.dense"].map(String::from).to_vec();
    let adapter = |method, targets: &[String]| {
        let (targets, whole) = (Targets::Names(targets.to_vec()), vec!["classifier".to_string()]);
        Tuning::Adapter(Adapter { method, targets, whole, seed: 1 })
    };
    let on_attention = |name, method| Way { name, tuning: adapter(method, &attention), rates: &RATES };
    let boft = |factors, block| Method::Orthogonal(Orthogonal::Boft { factors, block });
    let oft = |block| Method::Orthogonal(Orthogonal::Oft { block, share: false, terms: None });
    let lora = |rank| Method::Lora { rank, alpha: 2.0 * rank as f64 };
    vec![
        Way { name: "head alone", tuning: adapter(boft(1, 2), &[]), rates: &RATES },
        on_attention("LoRA r = 1", lora(1)),
        on_attention("LoRA r = 4", lora(4)),
        on_attention("OFT b = 4", oft(4)),
        on_attention("OFT b = 8", oft(8)),
        on_attention("BOFT m = 2, b = 4", boft(2, 4)),
        on_attention("BOFT m = 4, b = 4", boft(4, 4)),
        on_attention("BOFT m = 2, b = 8", boft(2, 8)),
        Way { name: "everything", tuning: Tuning::Everything, rates: &[0.001, 0.003] },
    ]
}

/// Where the adapter of a way goes, if it is one.
fn adapter_directory(out: &Path, way: &Way) -> Option<PathBuf> {
    let name: String = way.name.chars().filter(char::is_ascii_alphanumeric).collect();
    (matches!(way.tuning, Tuning::Adapter(_)) && way.name != "head alone").then(|| out.join(name))
}

/// The results so far. Without any, nothing is there that would be replaced, unless that was asked for.
fn results(out: &Path, ways: &[Way], force: bool) -> Outcome<Results> {
    let path = out.join("results.csv");
    if path.exists() && !force {
        let results = Results::read(&path)?;
        println!("{} finished runs in {} (--force begins anew)", results.len(), path.display());
        return Ok(results);
    }
    let others = ways.iter().filter_map(|way| adapter_directory(out, way)).chain([out.join("accuracy.svg")]);
    match others.into_iter().find(|path| path.symlink_metadata().is_ok()).filter(|_| !force) {
        Some(path) => {
            Err(format!("{}: expected nothing yet (--force replaces it), got something", path.display()).into())
        }
        None => Results::new(&path),
    }
}

/// Sets of images: to train on, to choose by, to test.
type Sets = [Pictures; 3];

fn work(arguments: &Arguments) -> Outcome<bool> {
    let quick = arguments.quick;
    let out = &if quick { arguments.out.join("quick") } else { arguments.out.clone() };
    let stop = run::interruption()?;
    fs::create_dir_all(out).map_err(|e| format!("{}: {e}", out.display()))?;
    let mut ways = ways();
    if quick {
        ways.retain(|way| way.name.contains("= 2, b = 4"));
        ways.iter_mut().for_each(|way| way.rates = &way.rates[1..2]);
    }
    let mut results = results(out, &ways, arguments.force)?;
    let rows = digits()?;
    let Some((config, weights)) = pretrained(out, &rows, quick, &stop)? else { return Ok(false) };
    let test = pictures(rows[KNOWN..].iter(), true)?;
    let plain = Model::new(&config, &weights, &Tuning::Frozen)?;
    let before = Images::new(&plain, &test, &test)?.evaluate()?;
    println!("through the new camera, not adapted: {}", run::shown(before));

    let (steps, splits) = if quick { (20, 1) } else { (200, 3) };
    let bar = ProgressBar::new(ways.iter().map(|way| way.rates.len() as u64 * splits).sum());
    bar.set_style(ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} runs {eta}")?);
    let mut summary = vec![("no adaptation", 0, vec![before.accuracy])];
    for way in &ways {
        let (mut accuracies, mut parameters) = (Vec::new(), 0);
        for split in 0..splits {
            let mut labelled: Vec<&(Vec<f64>, u32)> = rows[..KNOWN].iter().collect();
            Generator::new(100 + split).shuffle(&mut labelled);
            let train = pictures(labelled[..TRAINED].iter().copied(), true)?;
            let sets = [train, pictures(labelled[TRAINED..LABELLED].iter().copied(), true)?, test.clone()];
            let mut best: Option<Run> = None;
            for &rate in way.rates {
                bar.set_message(format!("{}, rate {rate}, split {split}", way.name));
                let is_better = |run: &Run| best.as_ref().is_none_or(|best| run.validation_loss < best.validation_loss);
                let run = match results.find(way.name, rate, split) {
                    Some(run) => run.clone(),
                    None => {
                        let model = Model::new(&config, &weights, &way.tuning)?;
                        let Some(run) = one(&model, way.name, rate, split, steps, &sets, &stop)? else {
                            bar.finish_and_clear();
                            println!("stopped after {} runs; the same command goes on", results.len());
                            return Ok(false);
                        };
                        let place = adapter_directory(out, way).filter(|_| split == 0 && is_better(&run));
                        if let Some(place) = place {
                            model.save_adapter(&place, Some("base"), true)?;
                        }
                        results.push(run.clone())?;
                        run
                    }
                };
                bar.inc(1);
                parameters = run.parameters;
                if is_better(&run) {
                    best = Some(run);
                }
            }
            accuracies.extend(best.map(|best| best.test_accuracy));
        }
        bar.suspend(|| println!("{:20} {parameters:6} {}", way.name, percent(&accuracies)));
        summary.push((way.name, parameters, accuracies));
    }
    bar.finish_and_clear();
    plot(&out.join("accuracy.svg"), &summary)?;
    println!("results in {}", out.display());
    Ok(true)
}

/// Trains a model; nothing if somebody pressed Ctrl-C.
fn one(
    model: &Model,
    way: &str,
    rate: f64,
    split: u64,
    steps: u64,
    [train, validation, test]: &Sets,
    stop: &AtomicBool,
) -> Outcome<Option<Run>> {
    let task = Images::new(model, train, validation)?;
    let settings =
        Settings { steps, batch: 32, evaluate_every: 20, checkpoint_every: 0, patience: Some(4), seed: split };
    let optimiser = Optimiser::adam(model.variables(), rate, 0.0)?.clipped(Some(1.0))?;
    let mut trainer = Trainer::new(&task, optimiser, settings, 0)?;
    if trainer.run(&task, None, stop, &mut |_| ())? == End::Interrupted {
        return Ok(None);
    }
    let (chosen, tested) = (task.evaluate()?, Images::new(model, test, test)?.evaluate()?);
    Ok(Some(Run {
        way: way.into(),
        parameters: model.variables().count(),
        rate,
        split,
        validation_loss: chosen.loss,
        validation_accuracy: chosen.accuracy,
        test_accuracy: tested.accuracy,
        defect: model.defect()?,
    }))
}

fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len().max(1) as f64
}

fn percent(accuracies: &[f64]) -> String {
    let deviation =
        accuracies.iter().map(|x| (x - mean(accuracies)).powi(2)).sum::<f64>() / accuracies.len().max(2) as f64;
    format!("{:5.1} ± {:.1} %", 100.0 * mean(accuracies), 100.0 * deviation.sqrt())
}

/// The model that knows upright digits; read again where it was written before.
fn pretrained(
    out: &Path,
    rows: &[(Vec<f64>, u32)],
    quick: bool,
    stop: &AtomicBool,
) -> Outcome<Option<(Config, Weights)>> {
    let directory = out.join("base");
    let fields = json!({"architectures": ["ViTForImageClassification"], "model_type": "vit", "hidden_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128, "hidden_act": "gelu",
        "layer_norm_eps": 1e-12, "image_size": 8, "patch_size": 2, "num_channels": 1, "qkv_bias": true,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        "id2label": (0..10).map(|i| (i.to_string(), i.to_string().into())).collect::<serde_json::Map<_, _>>()});
    let config = Config::from_json(fields.as_object().cloned().unwrap_or_default(), None, "config.json")?;
    if !directory.join("model.safetensors").exists() {
        let model = Model::new(&config, &Weights::random(2, 0.08, DType::F32), &Tuning::Everything)?;
        let (known, upright) = (pictures(rows[..KNOWN].iter(), false)?, pictures(rows[KNOWN..].iter(), false)?);
        let steps = if quick { 60 } else { 800 };
        let task = Images::new(&model, &known, &upright)?;
        let settings = Settings { steps, batch: 32, evaluate_every: 0, checkpoint_every: 0, patience: None, seed: 1 };
        let optimiser = Optimiser::adam(model.variables(), 0.002, 0.0)?.clipped(Some(1.0))?;
        let mut trainer = Trainer::new(&task, optimiser, settings, 0)?;
        println!("pretraining {} parameters", model.variables().count());
        if run::train("pretraining", &task, &mut trainer, steps, None, false, stop)? == End::Interrupted {
            return Ok(None);
        }
        println!("upright test images: {}", run::shown(task.evaluate()?));
        let texts = [("config.json", serde_json::to_string_pretty(&fields)?)];
        save_directory(&directory, "model.safetensors", &model.merged()?, &texts, false)?;
    }
    Ok(Some((config, Weights::open(&directory, DType::F32)?)))
}

fn plot(path: &Path, summary: &[(&'static str, usize, Vec<f64>)]) -> Outcome {
    let point = |(_, parameters, accuracies): &(_, usize, Vec<f64>)| {
        ((*parameters as f64).max(1.0).log10(), 100.0 * mean(accuracies))
    };
    let names = ["head", "LoRA", "OFT", "BOFT", "everything"]; // without adaptation it is too far below
    let curve = |name: &&str| Curve {
        name: name.to_string(),
        points: summary.iter().filter(|(way, ..)| way.starts_with(name)).map(point).collect(),
        is_dotted: true,
    };
    let curves: Vec<Curve> = names.iter().map(curve).filter(|curve| !curve.points.is_empty()).collect();
    draw(path, "Digits through another camera", ["log₁₀ of parameters trained", "right in the test, %"], &curves)
}
