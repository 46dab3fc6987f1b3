//! A training with a progress bar, which Ctrl-C ends after a checkpoint.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use indicatif::{ProgressBar, ProgressStyle};
use papilio::adapter::train::State;
use papilio_finetune::train::{End, Event, Score, Task, Trainer};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::Outcome;

/// Set by Ctrl-C; a second one ends the program at once.
pub(crate) fn interruption() -> Outcome<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

pub(crate) fn shown(score: Score) -> String {
    format!("loss {:.4}, {:.1} % right", score.loss, 100.0 * score.accuracy)
}

/// Trains; goes on from `checkpoint` if asked to.
pub(crate) fn train(
    title: &str,
    task: &dyn Task,
    trainer: &mut Trainer,
    steps: u64,
    checkpoint: Option<&Path>,
    resume: bool,
    stop: &AtomicBool,
) -> Outcome<End> {
    if let Some(path) = checkpoint.filter(|_| resume) {
        trainer.restore(&State::load(path)?)?;
        println!("{title}: goes on after step {}", trainer.step());
    }
    let bar = ProgressBar::new(steps).with_message(title.to_string());
    bar.set_style(ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} {eta}")?);
    bar.set_position(trainer.step());
    let mut smooth = None;
    let end = trainer.run(task, checkpoint, stop, &mut |event| match event {
        Event::Step { step, loss } => {
            let mean = smooth.map_or(loss, |mean: f64| 0.9 * mean + 0.1 * loss);
            smooth = Some(mean);
            bar.set_position(step);
            bar.set_message(format!("{title}, loss {mean:.3}"));
        }
        Event::Evaluated { step, score, is_best } => {
            let mark = if is_best { "" } else { " (not better)" };
            bar.suspend(|| println!("{title}, step {step}: held-out {}{mark}", shown(score)));
        }
    })?;
    bar.finish_and_clear();
    Ok(end)
}
