//! Fine-tunes a transformer on disk: a BERT-like one on labelled sentences (CSV), a Llama-like one on a text.
//!
//! ```text
//! cargo run --release --example finetune_text                                      # a tiny BERT, which it makes itself
//! cargo run --release --example finetune_text -- --kind llama --method oft --out llama
//! cargo run --release --example finetune_text -- --model MiniLM --data reviews.csv --out reviews --merged tuned
//! cargo run --release --example finetune_text -- --resume                          # after Ctrl-C
//! ```
//!
//! `--model` is a directory with `config.json`, `tokenizer.json` and safetensors, as transformers saves it. What is written to
//! `--out`: the adapter, a checkpoint, `history.csv`, `training.svg`, the names of the labels. Nothing that is there is replaced without
//! `--force`, but the checkpoint with `--resume`.

#[path = "../support/mod.rs"]
mod support;
mod tiny;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use candle_core::DType;
use clap::{Parser, ValueEnum};
use papilio_finetune::tasks::{Blocks, Classification, Labelled, Language, Tokens};
use papilio_finetune::train::{End, Optimiser, Settings, Task, Trainer};
use papilio_finetune::{Config, Fnv, Model, Tuning, Weights};
use support::curves::{Curve, draw, smoothed};
use support::{AdapterArguments, Outcome, run};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Bert,
    Llama,
}

/// Fine-tunes a transformer by rotations or LoRA.
#[derive(Debug, Parser)]
#[command(name = "finetune_text", version)]
struct Arguments {
    /// The model: a directory with config.json, tokenizer.json and safetensors. Without one, a tiny model is pretrained first.
    #[arg(long, value_name = "DIR", requires = "data")]
    model: Option<PathBuf>,
    /// Labelled sentences (.csv with a header: `text` and `label`, or the first two columns if it has neither) for a BERT-like
    /// model, any text for a Llama-like one.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Kind of the tiny model.
    #[arg(long, value_enum, default_value = "bert", conflicts_with = "model")]
    kind: Kind,
    #[command(flatten)]
    adapter: AdapterArguments,
    /// Where to write.
    #[arg(long, value_name = "DIR", default_value = "finetuned")]
    out: PathBuf,
    /// Writes the model with the adapter merged, too.
    #[arg(long, value_name = "DIR")]
    merged: Option<PathBuf>,
    /// Goes on from the checkpoint in the output directory.
    #[arg(long)]
    resume: bool,
    /// Replaces what an earlier run wrote.
    #[arg(long)]
    force: bool,
    /// Steps in all.
    #[arg(long, default_value_t = 300)]
    steps: u64,
    /// Sentences, or blocks of text, for a step.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Rate of Adam.
    #[arg(long, default_value_t = 0.005)]
    rate: f64,
    /// Decay of AdamW.
    #[arg(long, default_value_t = 0.0)]
    decay: f64,
    /// Gradients longer than this are shortened.
    #[arg(long, value_name = "NORM", default_value_t = 1.0)]
    clip: f64,
    /// Tokens of the longest sentence, or of a block of text.
    #[arg(long, value_name = "TOKENS", default_value_t = 64)]
    length: usize,
    /// Share of the data that is held out to evaluate.
    #[arg(long, value_name = "SHARE", default_value_t = 0.2)]
    held_out: f64,
    /// Steps between evaluations.
    #[arg(long, value_name = "STEPS", default_value_t = 25)]
    evaluate_every: u64,
    /// Evaluations without a better one before training ends.
    #[arg(long, value_name = "EVALUATIONS", default_value_t = 6)]
    patience: u64,
    /// Steps between checkpoints.
    #[arg(long, value_name = "STEPS", default_value_t = 50)]
    checkpoint_every: u64,
    /// A small part of everything, in seconds.
    #[arg(long)]
    quick: bool,
}

fn main() -> ExitCode {
    match work(Arguments::parse()) {
        Ok(End::Interrupted) => ExitCode::from(130),
        Ok(_) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn work(mut arguments: Arguments) -> Outcome<End> {
    if !(arguments.held_out > 0.0 && arguments.held_out < 1.0) {
        return Err(format!("--held-out: expected a share between 0 and 1, got {}", arguments.held_out).into());
    }
    if arguments.quick {
        arguments.steps = arguments.steps.min(40);
        arguments.evaluate_every = arguments.evaluate_every.min(20);
    }
    let stop = run::interruption()?;
    fs::create_dir_all(&arguments.out).map_err(|e| format!("{}: {e}", arguments.out.display()))?;
    let is_llama = arguments.kind == Kind::Llama;
    let tiny = tiny::directory(&arguments.out, is_llama, arguments.quick);
    let directory = arguments.model.clone().unwrap_or(tiny);
    let data = arguments.data.clone().unwrap_or_else(|| directory.join(tiny::data_name(is_llama)));
    spare_inputs(&arguments, &[&directory, &data])?;
    spare(&arguments)?;
    if arguments.model.is_none() && tiny::base(&directory, is_llama, arguments.quick, &stop)? == End::Interrupted {
        return Ok(End::Interrupted);
    }
    let config = Config::read(&directory, None)?;
    if let Some(longest) = config.longest().filter(|longest| arguments.length > *longest) {
        return Err(format!(
            "--length: expected at most {longest}, the positions of the model, got {}",
            arguments.length
        )
        .into());
    }
    match config.kind() {
        "bert" => sentences(&arguments, &directory, &data, &stop),
        "llama" => language(&arguments, &directory, &data, &stop),
        other => {
            Err(format!("{}: expected a BERT-like or Llama-like model, got `{other}`", directory.display()).into())
        }
    }
}

fn adapter_directory(arguments: &Arguments) -> PathBuf {
    arguments.out.join("adapter")
}

fn checkpoint(arguments: &Arguments) -> PathBuf {
    arguments.out.join("checkpoint.safetensors")
}

/// Everything that a run replaces, the checkpoint first.
fn results(arguments: &Arguments) -> Vec<PathBuf> {
    let mut results = vec![checkpoint(arguments), adapter_directory(arguments)];
    results.extend(["history.csv", "training.svg", "labels.json"].map(|name| arguments.out.join(name)));
    results.extend(arguments.merged.clone());
    results
}

/// That nothing is there that this run would replace, unless that was asked for.
fn spare(arguments: &Arguments) -> Outcome {
    if let Some(merged) = arguments.merged.as_deref().filter(|merged| !place(merged).parent().is_some_and(Path::is_dir))
    {
        return Err(format!("{}: expected an existing directory around it, got none", merged.display()).into());
    }
    let first = usize::from(arguments.resume); // which needs the checkpoint
    match results(arguments)[first..].iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(path) if !arguments.force => {
            let goes_on = if arguments.resume { "" } else { ", --resume goes on from a checkpoint" };
            let shown = path.display();
            Err(format!("{shown}: expected nothing yet (--force replaces it{goes_on}), got what an earlier run wrote")
                .into())
        }
        _ => Ok(()),
    }
}

/// That no input, and no other result, is or lies in what is replaced: `--force` does not mean the model.
fn spare_inputs(arguments: &Arguments, inputs: &[&Path]) -> Outcome {
    let results = results(arguments);
    for (i, result) in results.iter().enumerate() {
        let others = results.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, other)| other.as_path());
        let mut kept = inputs.iter().copied().chain([arguments.out.as_path()]).chain(others);
        if let Some(kept) = kept.find(|kept| place(kept).starts_with(place(result))) {
            let (shown, kept) = (result.display(), kept.display());
            return Err(format!("{shown}: expected another place than that of {kept}, got the same").into());
        }
    }
    Ok(())
}

/// Where a path leads, if need be without its last part.
fn place(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let otherwise = || Some(parent.canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(otherwise).unwrap_or_else(|| path.to_path_buf())
}

fn sentences(arguments: &Arguments, directory: &Path, data: &Path, stop: &AtomicBool) -> Outcome<End> {
    let (train, held_out) = Labelled::read(data)?.split(arguments.held_out, arguments.adapter.seed);
    let labels = train.labels.clone();
    let config = Config::read(directory, Some(labels.len()))?;
    let weights = Weights::open(directory, DType::F32)?;
    let mut whole = vec!["classifier".to_string()];
    if !["bert.pooler.dense.weight", "pooler.dense.weight"].iter().any(|name| weights.has(name)) {
        whole.push("pooler".into());
    }
    let tuning = arguments.adapter.tuning("query,key,value,attention.output.dense", whole)?;
    let model = Model::new(&config, &weights, &tuning)?;
    let tokens = Tokens::read(directory)?;
    let (train, held_out) =
        (tokens.sentences(&train, arguments.length)?, tokens.sentences(&held_out, arguments.length)?);
    println!("{} sentences to train on, {} held out, {} labels", train.len(), held_out.len(), labels.len());
    let task = Classification::new(&model, &train, &held_out)?;
    finetune(arguments, [directory, data], &model, Some(&labels), &task, stop)
}

fn language(arguments: &Arguments, directory: &Path, data: &Path, stop: &AtomicBool) -> Outcome<End> {
    let config = Config::read(directory, None)?;
    let tuning = arguments.adapter.tuning("q_proj,k_proj,v_proj,o_proj", Vec::new())?;
    let model = Model::new(&config, &Weights::open(directory, DType::F32)?, &tuning)?;
    let text = fs::read_to_string(data).map_err(|e| format!("{}: {e}", data.display()))?;
    let blocks = Blocks::new(Tokens::read(directory)?.text(&text)?, arguments.length)?;
    let (train, held_out) = blocks.split(arguments.held_out);
    println!("{} blocks to train on, {} held out", train.len(), held_out.len());
    finetune(arguments, [directory, data], &model, None, &Language::new(&model, &train, &held_out)?, stop)
}

fn finetune(
    arguments: &Arguments,
    [directory, data]: [&Path; 2],
    model: &Model,
    labels: Option<&[String]>,
    task: &dyn Task,
    stop: &AtomicBool,
) -> Outcome<End> {
    let modules = model.adapted().count();
    println!("{modules} modules adapted, {} parameters trained", model.variables().count());
    let before = task.evaluate()?;
    println!("before: held-out {}", run::shown(before));
    let settings = Settings {
        steps: arguments.steps,
        batch: arguments.batch,
        evaluate_every: arguments.evaluate_every,
        checkpoint_every: arguments.checkpoint_every,
        patience: Some(arguments.patience),
        seed: arguments.adapter.seed,
    };
    let optimiser =
        Optimiser::adam(model.variables(), arguments.rate, arguments.decay)?.clipped(Some(arguments.clip))?;
    let mut trainer = Trainer::new(task, optimiser, settings, identity(arguments, [directory, data], model)?)?;
    let checkpoint = checkpoint(arguments);
    let title = format!("{:?}", arguments.adapter.method).to_uppercase();
    let end = run::train(&title, task, &mut trainer, arguments.steps, Some(&checkpoint), arguments.resume, stop)?;
    if end == End::Interrupted {
        println!("stopped after step {}; the same command with --resume goes on", trainer.step());
        return Ok(end);
    }
    let after = task.evaluate()?;
    println!("after step {}: held-out {}", trainer.best().map_or(trainer.step(), |best| best.0), run::shown(after));
    if let Some(defect) = model.defect()? {
        println!("‖RᵀR − I‖ of every rotation at most {defect:.1e}");
    }
    history(arguments, &trainer)?;
    if let Some(labels) = labels {
        fs::write(arguments.out.join("labels.json"), serde_json::to_string_pretty(labels)?)?;
    }
    let adapter = adapter_directory(arguments);
    model.save_adapter(&adapter, Some(&directory.display().to_string()), arguments.force)?;
    println!("adapter in {}", adapter.display());
    if let Some(merged) = &arguments.merged {
        model.save_merged(merged, directory, labels, arguments.force)?;
        println!("merged model in {}", merged.display());
    }
    Ok(end)
}

/// Everything but the number of steps that decides how training goes.
fn identity(arguments: &Arguments, [directory, data]: [&Path; 2], model: &Model) -> Outcome<u64> {
    let mut hash = Fnv::default();
    hash.write(&model.fingerprint()?.to_le_bytes());
    for path in [data, &directory.join("config.json"), &directory.join("tokenizer.json")] {
        let bytes = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
        hash.write(&(bytes.len() as u64).to_le_bytes());
        hash.write(&bytes);
    }
    let Tuning::Adapter(adapter) = model.tuning() else { return Err("an adapter is expected".into()) };
    hash.write(format!("{adapter:?}").as_bytes());
    let Arguments { batch, rate, decay, clip, length, held_out, evaluate_every, patience, .. } = arguments;
    hash.write(format!("{batch} {rate} {decay} {clip} {length} {held_out} {evaluate_every} {patience}").as_bytes());
    Ok(hash.0)
}

/// `history.csv` and `training.svg`.
fn history(arguments: &Arguments, trainer: &Trainer) -> Outcome {
    let mut text = String::from("step,loss,held-out loss,held-out accuracy\n");
    let mut evaluations = trainer.evaluations().peekable();
    for (step, loss) in (1u64..).zip(trainer.losses()) {
        let score =
            evaluations.next_if(|(at, _)| *at == step).map(|(_, score)| format!("{},{}", score.loss, score.accuracy));
        text += &format!("{step},{loss},{}\n", score.unwrap_or_else(|| ",".into()));
    }
    fs::write(arguments.out.join("history.csv"), text)?;
    let held_out = trainer.evaluations().map(|(step, score)| (step as f64, score.loss)).collect();
    let curves = [
        Curve { name: "training".into(), points: smoothed(trainer.losses()), is_dotted: false },
        Curve { name: "held out".into(), points: held_out, is_dotted: true },
    ];
    draw(&arguments.out.join("training.svg"), "Loss", ["step", "loss"], &curves)
}
