//! The loop: steps, evaluations, early stopping, checkpoints.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::Tensor;
use papilio::adapter::train::State;

use super::{Optimiser, Order};
use crate::error::{Result, input};

/// What is learned.
pub trait Task {
    /// Number of examples to train on.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The loss over some of them, a scalar.
    ///
    /// # Errors
    /// Those of the model.
    fn loss(&self, examples: &[usize]) -> Result<Tensor>;

    /// How well the model does on examples that it is not trained on.
    ///
    /// # Errors
    /// Those of the model.
    fn evaluate(&self) -> Result<Score>;
}

/// An evaluation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Mean loss; the smallest is the best.
    pub loss: f64,
    /// Share of right answers, or of right next tokens.
    pub accuracy: f64,
}

/// How long and how often.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Steps in all.
    pub steps: u64,
    /// Examples for a step.
    pub batch: usize,
    /// Steps between evaluations, which also take place at the end; 0 is never.
    pub evaluate_every: u64,
    /// Steps between checkpoints, which are also written at the end; 0 is only then.
    pub checkpoint_every: u64,
    /// Training ends after so many evaluations that were not better than the best one before.
    pub patience: Option<u64>,
    /// Of the order of examples.
    pub seed: u64,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// A step, and the loss before it.
    Step {
        /// Its number, from 1.
        step: u64,
        /// The loss.
        loss: f64,
    },
    /// An evaluation.
    Evaluated {
        /// After this step.
        step: u64,
        /// The score.
        score: Score,
        /// Whether it is the best one so far.
        is_best: bool,
    },
}

/// How training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All steps were made.
    Finished,
    /// It got no better for as long as the patience lasts.
    Early,
    /// Somebody stopped it. A checkpoint was written, if there is a place for one.
    Interrupted,
}

/// A training.
#[derive(Debug)]
pub struct Trainer {
    optimiser: Optimiser,
    order: Order,
    settings: Settings,
    /// What must be the same where a checkpoint goes on.
    identity: u64,
    step: u64,
    losses: Vec<f64>,
    /// Step, loss and accuracy of every evaluation.
    scores: Vec<f64>,
    best: Vec<f64>,
    worse: u64,
}

impl Trainer {
    /// At step 0. `identity` is put into checkpoints, which go on only with the same one: a hash of the data and of what else
    /// determines the training.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) for a task without examples, and for batches of none or of more than there are.
    pub fn new(task: &dyn Task, optimiser: Optimiser, settings: Settings, identity: u64) -> Result<Self> {
        let order = Order::new(task.len(), settings.seed)?;
        if settings.batch == 0 || settings.batch > task.len() {
            return input("batch", format!("1 to {} examples, all that there are", task.len()), settings.batch);
        }
        let (losses, scores, best) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { optimiser, order, settings, identity, step: 0, losses, scores, best, worse: 0 })
    }

    /// Trains to the end, or until `stop` is set. In the end the model has the parameters of the best evaluation, if there were any.
    /// `checkpoint` is a file that is replaced. An evaluation at the end that is not due comes after it is written: longer trainings
    /// that go on from there know nothing of it.
    ///
    /// # Errors
    /// Those of the task and of the optimiser; papilio's for a checkpoint that cannot be written.
    pub fn run(
        &mut self,
        task: &dyn Task,
        checkpoint: Option<&Path>,
        stop: &AtomicBool,
        watch: &mut dyn FnMut(Event),
    ) -> Result<End> {
        let every = |period: u64, step: u64| period > 0 && step.is_multiple_of(period);
        let end = loop {
            if self.settings.patience.is_some_and(|patience| self.worse >= patience.max(1)) {
                break End::Early;
            }
            if self.step >= self.settings.steps {
                break End::Finished;
            }
            if stop.load(Ordering::Relaxed) {
                break End::Interrupted;
            }
            let loss = task.loss(&self.order.take(self.settings.batch))?;
            let loss = self.optimiser.step(&loss)?;
            self.step += 1;
            self.losses.push(loss);
            watch(Event::Step { step: self.step, loss });
            let is_last = self.step == self.settings.steps;
            if every(self.settings.evaluate_every, self.step) {
                self.evaluate(task, watch)?;
            }
            if let Some(path) = checkpoint.filter(|_| every(self.settings.checkpoint_every, self.step) && !is_last) {
                self.state().save(path)?;
            }
        };
        if let Some(path) = checkpoint {
            self.state().save(path)?;
        }
        let is_evaluated = self.evaluations().last().is_some_and(|(step, _)| step == self.step);
        if end == End::Finished && self.settings.evaluate_every > 0 && !is_evaluated && self.step > 0 {
            self.evaluate(task, watch)?;
        }
        if end != End::Interrupted && !self.best.is_empty() {
            self.optimiser.set_values(&self.best)?;
        }
        Ok(end)
    }

    fn evaluate(&mut self, task: &dyn Task, watch: &mut dyn FnMut(Event)) -> Result<()> {
        let score = task.evaluate()?;
        if !score.loss.is_finite() {
            return input("loss of the evaluation", "a finite number (try a smaller rate)", score.loss);
        }
        let is_best = self.evaluations().all(|(_, before)| score.loss < before.loss);
        if is_best {
            self.best = self.optimiser.values().to_vec();
        }
        self.worse = if is_best { 0 } else { self.worse + 1 };
        self.scores.extend([self.step as f64, score.loss, score.accuracy]);
        watch(Event::Evaluated { step: self.step, score, is_best });
        Ok(())
    }

    /// Everything that the next step depends on, and what has been seen so far.
    pub fn state(&self) -> State {
        let mut state = State::new();
        self.optimiser.keep(&mut state);
        self.order.keep(&mut state);
        for (name, numbers) in [("losses", &self.losses), ("scores", &self.scores), ("best", &self.best)] {
            state.put(name, numbers);
        }
        for (name, counter) in [("identity", self.identity), ("step", self.step), ("worse", self.worse)] {
            state.put(name, &counter);
        }
        state
    }

    /// Goes on from [`state`](Self::state): everything that follows is bit by bit what would have followed without an
    /// interruption.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) for the state of another training; papilio's for one that lacks something.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        if state.counter("identity")? != self.identity {
            let expected = "one of the same model, data, method and settings (the number of steps may differ)";
            return input("checkpoint", expected, "another one");
        }
        let numbers = |name: &str| state.numbers(name).map(<[f64]>::to_vec);
        let (losses, scores, best) = (numbers("losses")?, numbers("scores")?, numbers("best")?);
        let (step, worse) = (state.counter("step")?, state.counter("worse")?);
        let fits = losses.len() as u64 == step && scores.len() % 3 == 0;
        if !fits || !(best.is_empty() || best.len() == self.optimiser.values().len()) {
            return input("checkpoint", "as many losses as steps, and one value for each parameter", "others");
        }
        let mut order = self.order.clone();
        order.restore(state)?;
        self.optimiser.restore(state)?;
        self.order = order;
        (self.losses, self.scores, self.best, self.step, self.worse) = (losses, scores, best, step, worse);
        Ok(())
    }

    /// Steps so far.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The loss of every step.
    pub fn losses(&self) -> &[f64] {
        &self.losses
    }

    /// Every evaluation, with its step.
    pub fn evaluations(&self) -> impl Iterator<Item = (u64, Score)> {
        self.scores.chunks_exact(3).map(|s| (s[0] as u64, Score { loss: s[1], accuracy: s[2] }))
    }

    /// The best evaluation.
    pub fn best(&self) -> Option<(u64, Score)> {
        self.evaluations().min_by(|a, b| a.1.loss.total_cmp(&b.1.loss))
    }
}
