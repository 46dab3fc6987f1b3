//! Trainings: orthogonality, resuming, early stopping, refusals.

mod support;

use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Tensor};
use papilio::adapter::train::State;
use papilio::interop::candle::Method as Orthogonal;
use papilio_finetune::tasks::{Blocks, Classification, Images, Language, Pictures};
use papilio_finetune::train::{End, Event, Optimiser, Score, Settings, Task, Trainer};
use papilio_finetune::{Method, Model, Result, Tuning, Weights};
use support::{adapter, config};

const SETTINGS: Settings =
    Settings { steps: 200, batch: 8, evaluate_every: 0, checkpoint_every: 0, patience: None, seed: 3 };

fn boft() -> Method {
    Method::Orthogonal(Orthogonal::Boft { factors: 3, block: 4 })
}

fn oft() -> Method {
    Method::Orthogonal(Orthogonal::Oft { block: 8, share: false, terms: None })
}

fn weights(dtype: DType) -> Weights {
    Weights::random(5, 0.3, dtype)
}

fn no_stop() -> AtomicBool {
    AtomicBool::new(false)
}

/// 200 steps in single precision: every rotation of every layer is proved to be one after each of them.
fn stays_orthogonal(model: &Model, task: &dyn Task, what: &str) {
    let optimiser = Optimiser::adam(model.variables(), 0.01, 0.0).unwrap();
    let mut trainer = Trainer::new(task, optimiser, SETTINGS, 0).unwrap();
    let largest = Cell::new(0.0f64);
    let watch = &mut |event| {
        if let Event::Step { .. } = event {
            largest.set(largest.get().max(model.defect().unwrap().unwrap()));
        }
    };
    assert_eq!(trainer.run(task, None, &no_stop(), watch).unwrap(), End::Finished);
    let (first, last) = (&trainer.losses()[..10], &trainer.losses()[190..]);
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / 10.0;
    println!("{what}: loss {:.3} to {:.3}, defect at most {:.1e}", mean(first), mean(last), largest.get());
    assert!(mean(last) < 0.8 * mean(first), "{what}: {} to {}", mean(first), mean(last));
    assert!(largest.get() < 1e-6 && largest.get() > 0.0, "{what}: {}", largest.get());
}

#[test]
fn rotations_stay_orthogonal_in_single_precision() {
    let (sentences, blocks, pictures) =
        (support::sentences(64), support::blocks(64, 16), support::pictures(64, DType::F32));
    for (name, method) in [("BOFT", boft()), ("OFT", oft())] {
        let model = |fields, whole| {
            Model::new(&config(&fields), &weights(DType::F32), &adapter(method.clone(), "all-linear", whole)).unwrap()
        };
        let bert = model(support::bert(), &["classifier"]);
        stays_orthogonal(&bert, &Classification::new(&bert, &sentences, &sentences).unwrap(), &format!("BERT, {name}"));
        let llama = model(support::llama(), &[]);
        stays_orthogonal(&llama, &Language::new(&llama, &blocks, &blocks).unwrap(), &format!("Llama, {name}"));
        let vit = model(support::vit(), &["classifier"]);
        stays_orthogonal(&vit, &Images::new(&vit, &pictures, &pictures).unwrap(), &format!("ViT, {name}"));
    }
}

/// All numbers of a training, as bits.
fn bits(trainer: &Trainer, model: &Model) -> (State, Vec<u32>) {
    let variables = model.variables().all().into_values();
    let numbers = variables.flat_map(|v| v.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    (trainer.state(), numbers.map(f32::to_bits).collect())
}

#[test]
fn interrupted_training_goes_on_bit_by_bit() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("checkpoint.safetensors");
    let (train, held_out) = (support::sentences(50), support::sentences(20));
    let settings = Settings { steps: 24, evaluate_every: 5, checkpoint_every: 4, patience: Some(50), ..SETTINGS };
    for (tuning, descent) in [
        (adapter(boft(), "query,value", &["classifier"]), false),
        (adapter(oft(), "dense", &["classifier"]), true),
        (adapter(Method::Lora { rank: 2, alpha: 4.0 }, "query", &["classifier"]), false),
        (Tuning::Everything, false),
    ] {
        let start = || {
            let model = Model::new(&config(&support::bert()), &weights(DType::F32), &tuning).unwrap();
            let optimiser = match descent {
                true => Optimiser::descent(model.variables(), 0.1).unwrap(),
                false => Optimiser::adam(model.variables(), 0.01, 0.1).unwrap().clipped(Some(1.0)).unwrap(),
            };
            (model, optimiser)
        };
        let (model, optimiser) = start();
        let task = Classification::new(&model, &train, &held_out).unwrap();
        let mut whole = Trainer::new(&task, optimiser, settings, 77).unwrap();
        whole.run(&task, None, &no_stop(), &mut |_| ()).unwrap();
        let expected = bits(&whole, &model);

        for stop_at in [1, 7, 20] {
            // Somebody presses Ctrl-C during step `stop_at`.
            let (model, optimiser) = start();
            let task = Classification::new(&model, &train, &held_out).unwrap();
            let mut first = Trainer::new(&task, optimiser, settings, 77).unwrap();
            let stop = no_stop();
            let watch = &mut |event| {
                if matches!(event, Event::Step { step, .. } if step == stop_at) {
                    stop.store(true, Ordering::Relaxed);
                }
            };
            assert_eq!(first.run(&task, Some(&file), &stop, watch).unwrap(), End::Interrupted);
            assert_eq!(first.step(), stop_at);
            // Another process goes on.
            let (model, optimiser) = start();
            let task = Classification::new(&model, &train, &held_out).unwrap();
            let mut second = Trainer::new(&task, optimiser, settings, 77).unwrap();
            second.restore(&State::load(&file).unwrap()).unwrap();
            assert_eq!(second.step(), stop_at);
            assert_eq!(second.run(&task, None, &no_stop(), &mut |_| ()).unwrap(), End::Finished);
            assert!(bits(&second, &model) == expected, "stopped at {stop_at}");
        }

        // Something fails in the tenth step: the checkpoint of the eighth is there.
        let (model, optimiser) = start();
        let task = Failing(&Classification::new(&model, &train, &held_out).unwrap(), Cell::new(9));
        let mut first = Trainer::new(&task, optimiser, settings, 77).unwrap();
        assert!(first.run(&task, Some(&file), &no_stop(), &mut |_| ()).is_err());
        let (model, optimiser) = start();
        let task = Classification::new(&model, &train, &held_out).unwrap();
        let mut second = Trainer::new(&task, optimiser, settings, 77).unwrap();
        second.restore(&State::load(&file).unwrap()).unwrap();
        assert_eq!((first.step(), second.step()), (9, 8));
        assert_eq!(second.run(&task, None, &no_stop(), &mut |_| ()).unwrap(), End::Finished);
        assert!(bits(&second, &model) == expected, "failed in step 10");

        // Another training does not go on from there.
        let (model, optimiser) = start();
        let task = Classification::new(&model, &train, &held_out).unwrap();
        let mut other = Trainer::new(&task, optimiser, settings, 78).unwrap();
        let error = other.restore(&State::load(&file).unwrap()).unwrap_err().to_string();
        assert!(error.contains("checkpoint") && other.step() == 0, "{error}");
    }
}

/// Fails after so many losses.
struct Failing<'a>(&'a dyn Task, Cell<usize>);

impl Task for Failing<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn loss(&self, examples: &[usize]) -> Result<Tensor> {
        let Some(rest) = self.1.get().checked_sub(1) else {
            return Err(candle_core::Error::Msg("power".into()).into());
        };
        self.1.set(rest);
        self.0.loss(examples)
    }
    fn evaluate(&self) -> Result<Score> {
        self.0.evaluate()
    }
}

#[test]
fn more_steps_go_on_as_if_there_had_been_no_end() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("checkpoint.safetensors");
    let (train, held_out) = (support::sentences(50), support::sentences(20));
    let tuning = adapter(boft(), "query,value", &["classifier"]);
    // 30 is no multiple of 7: there is an evaluation at the end that the longer training does not have.
    let run = |steps, resumes: bool| {
        let settings = Settings { steps, evaluate_every: 7, patience: Some(4), ..SETTINGS };
        let model = Model::new(&config(&support::bert()), &weights(DType::F32), &tuning).unwrap();
        let task = Classification::new(&model, &train, &held_out).unwrap();
        let mut trainer =
            Trainer::new(&task, Optimiser::adam(model.variables(), 0.01, 0.1).unwrap(), settings, 1).unwrap();
        if resumes {
            trainer.restore(&State::load(&file).unwrap()).unwrap();
            assert_eq!(trainer.step(), 30);
        }
        trainer.run(&task, Some(&file), &no_stop(), &mut |_| ()).unwrap();
        let evaluated: Vec<u64> = trainer.evaluations().map(|(step, _)| step).collect();
        (bits(&trainer, &model), State::load(&file).unwrap(), evaluated)
    };
    let expected = run(60, false);
    let short = run(30, false);
    assert_eq!(short.2, [7, 14, 21, 28, 30]);
    assert!(run(30, true) == short, "the same end twice");
    assert!(run(60, true) == expected);
}

/// Scores as a list says.
struct Scripted<'a>(&'a dyn Task, Vec<f64>, Cell<usize>);

impl Task for Scripted<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn loss(&self, examples: &[usize]) -> Result<Tensor> {
        self.0.loss(examples)
    }
    fn evaluate(&self) -> Result<Score> {
        self.2.set(self.2.get() + 1);
        Ok(Score { loss: self.1[self.2.get() - 1], accuracy: 0.0 })
    }
}

#[test]
fn training_ends_when_it_gets_no_better_and_the_best_counts() {
    let sentences = support::sentences(20);
    let settings = Settings { steps: 40, evaluate_every: 3, patience: Some(2), ..SETTINGS };
    let tuning = adapter(boft(), "query", &["classifier"]);
    let model = Model::new(&config(&support::bert()), &weights(DType::F32), &tuning).unwrap();
    let task = Classification::new(&model, &sentences, &sentences).unwrap();
    let task = Scripted(&task, vec![3.0, 2.0, 2.5, 1.0, 1.0, 1.5, 0.5], Cell::new(0));
    let optimiser = Optimiser::adam(model.variables(), 0.01, 0.0).unwrap();
    let mut trainer = Trainer::new(&task, optimiser, settings, 0).unwrap();
    let (mut at_best, mut marks) = (Vec::new(), Vec::new());
    let values = || -> Vec<f32> {
        model.variables().all().into_values().flat_map(|v| v.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect()
    };
    let watch = &mut |event| {
        if let Event::Evaluated { step, is_best, .. } = event {
            marks.push(is_best);
            if step == 12 {
                at_best = values();
            }
        }
    };
    assert_eq!(trainer.run(&task, None, &no_stop(), watch).unwrap(), End::Early);
    assert_eq!(marks, [true, true, false, true, false, false]);
    assert_eq!((trainer.step(), trainer.best().unwrap().0), (18, 12));
    assert_eq!(values(), at_best);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let new = |method, targets: &str, whole: &[&str]| {
        Model::new(&config(&support::bert()), &weights(DType::F32), &adapter(method, targets, whole))
    };
    let text = |result: Result<Model>| result.unwrap_err().to_string();
    let error = text(new(boft(), "query,quary", &[]));
    assert!(error.contains("quary") && error.contains("bert.encoder.layer.0.attention.self.key"), "{error}");
    assert!(text(new(boft(), r"encoder\.query", &[])).contains(r"encoder\.query"));
    let odd = Method::Orthogonal(Orthogonal::Boft { factors: 2, block: 5 });
    assert!(text(new(odd, "query", &[])).contains("bert.encoder.layer.0.attention.self.query"));
    let error = text(new(boft(), "word_embeddings", &[]));
    assert!(error.contains("word_embeddings") && error.contains("OFT"), "{error}");
    assert!(text(new(Method::Lora { rank: 0, alpha: 1.0 }, "query", &[])).contains("rank"));
    assert!(text(new(Method::Lora { rank: usize::MAX, alpha: 1.0 }, "query", &[])).contains("lora_A"));
    let error = text(new(boft(), "query", &["classifier", "clasifier"]));
    assert!(error.contains("modules to train as a whole") && error.contains("got `clasifier`"), "{error}");
    // What is trained as a whole is not adapted.
    assert!(text(new(boft(), "classifier", &["classifier"])).contains("classifier"));

    let (model, empty) = (new(boft(), "query", &[]).unwrap(), support::sentences(0));
    let task = Classification::new(&model, &empty, &empty).unwrap();
    let optimiser = || Optimiser::adam(model.variables(), 0.01, 0.0).unwrap();
    assert!(Trainer::new(&task, optimiser(), SETTINGS, 0).unwrap_err().to_string().contains("examples"));
    let nothing = "examples to evaluate on: expected at least one";
    assert!(task.evaluate().unwrap_err().to_string().contains(nothing));
    let sentences = support::sentences(10);
    let task = Classification::new(&model, &sentences, &empty).unwrap();
    let settings = Settings { steps: 2, evaluate_every: 2, ..SETTINGS };
    let mut trainer = Trainer::new(&task, optimiser(), settings, 0).unwrap();
    assert!(trainer.run(&task, None, &no_stop(), &mut |_| ()).unwrap_err().to_string().contains(nothing));
    for batch in [0, 11, usize::MAX] {
        let error = Trainer::new(&task, optimiser(), Settings { batch, ..SETTINGS }, 0).unwrap_err().to_string();
        assert!(error.contains("batch: expected 1 to 10 examples"), "{error}");
    }
    let no_such = |task: &dyn Task| {
        for examples in [&[0, 10][..], &[usize::MAX], &[]] {
            assert!(task.loss(examples).unwrap_err().to_string().contains("examples of a batch"), "{examples:?}");
        }
        assert!(task.loss(&[9, 0]).is_ok() && task.evaluate().unwrap_err().to_string().contains(nothing));
    };
    no_such(&task);
    let llama = Model::new(&config(&support::llama()), &weights(DType::F32), &Tuning::Frozen).unwrap();
    no_such(&Language::new(&llama, &support::blocks(10, 4), &Blocks::default()).unwrap());
    let vit = Model::new(&config(&support::vit()), &weights(DType::F32), &Tuning::Frozen).unwrap();
    let pictures = support::pictures(10, DType::F32);
    no_such(&Images::new(&vit, &pictures, &support::pictures(0, DType::F32)).unwrap());
    assert!(Pictures::new(Vec::new(), vec![0; 4], usize::MAX, 1 << 62, DType::F32).is_err());
    assert!(
        Language::new(&model, &support::blocks(2, 4), &support::blocks(2, 4)).unwrap_err().to_string().contains("bert")
    );
    for rate in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(
            Optimiser::descent(model.variables(), rate).is_err()
                && Optimiser::adam(model.variables(), rate, 0.0).is_err()
        );
    }
    assert!(Optimiser::descent(model.variables(), 0.1).unwrap().clipped(Some(0.0)).is_err());
}

#[test]
fn losses_that_cut_the_graph_or_are_no_number_change_nothing() {
    let sentences = support::sentences(8);
    let model = Model::new(&config(&support::bert()), &weights(DType::F32), &adapter(boft(), "query", &["classifier"]))
        .unwrap();
    let task = Classification::new(&model, &sentences, &sentences).unwrap();
    let mut optimiser = Optimiser::descent(model.variables(), 0.1).unwrap();
    let before = optimiser.values().to_vec();
    let loss = task.loss(&[0, 1]).unwrap();
    let nothing = loss.detach();
    assert!(optimiser.step(&nothing).unwrap_err().to_string().contains("variable `base_model.model."));
    assert!(optimiser.step(&(&loss * f64::NAN).unwrap()).unwrap_err().to_string().contains("rate"));
    let infinite = (((&loss - loss.detach()).unwrap() * 1e30).unwrap() * 1e30).unwrap(); // 0, with an endless gradient
    assert!(optimiser.step(&infinite).unwrap_err().to_string().contains("gradient"));
    assert_eq!(optimiser.values(), before);
    assert!(optimiser.step(&loss).is_ok());
}

#[test]
fn damaged_checkpoints_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("checkpoint.safetensors");
    let sentences = support::sentences(8);
    let model = Model::new(&config(&support::bert()), &weights(DType::F32), &adapter(boft(), "query", &[])).unwrap();
    let task = Classification::new(&model, &sentences, &sentences).unwrap();
    let new = || Trainer::new(&task, Optimiser::adam(model.variables(), 0.01, 0.0).unwrap(), SETTINGS, 5).unwrap();
    let good = new().state();
    good.save(&file).unwrap();
    assert!(new().restore(&State::load(&file).unwrap()).is_ok());
    type Change = fn(&mut State);
    let changes: [Change; 6] = [
        |s| s.put("step", &3u64),
        |s| s.put("order.next", &9u64),
        |s| s.put("order.examples", &9u64),
        |s| s.put("parameters", &vec![1.0]),
        |s| s.put("best", &vec![1.0]),
        |s| s.put("adam.mean", &vec![1.0]),
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let mut bad = good.clone();
        change(&mut bad);
        let mut trainer = new();
        let before = trainer.state();
        assert!(trainer.restore(&bad).is_err(), "change {i}");
        assert!(trainer.state() == before, "change {i} was half taken");
    }
    assert!(new().restore(&State::new()).is_err());
    assert!(State::load(Path::new("nowhere")).is_err());
}
