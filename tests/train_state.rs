//! Training that is interrupted and goes on from a file.
#![cfg(feature = "files")]

mod support;

use std::fs;
use std::path::Path;

use papilio::adapter::train::{Adam, Dropout, Gradients, Keep, Linear, State, Weight, block_rates};
use papilio::generator::Generator;
use papilio::parametrization::{Cayley, Exponential};
use papilio::topology::{BlockDiagonal, Butterfly};
use papilio::{Error, Parallelism, Plan, Workspace};
use support::noise;

const OUTPUTS: usize = 6;
const INPUTS: usize = 16;
/// Small enough that all blocks come to the border.
const EPS: f32 = 0.4;

/// A training with everything that has a memory.
#[derive(Clone)]
struct Training {
    layer: Linear<f32>,
    adams: [Adam; 3],
    batches: Generator,
    blocks: Generator,
    loss: Vec<f64>,
    step: u64,
}

impl Training {
    fn new() -> Self {
        let weight: Vec<f32> = noise(1, OUTPUTS * INPUTS).into_iter().map(|w| w as f32).collect();
        let mut layer = Linear::boft(Weight::new(weight, OUTPUTS, INPUTS).unwrap(), 3, 4).unwrap();
        layer.constrain(Some(EPS)).unwrap();
        let theta = Adam::new(layer.theta().len(), 0.05).unwrap().with_decay(0.01).unwrap();
        let theta = theta.with_factors(block_rates(layer.plan())).unwrap();
        let adams = [theta, Adam::new(OUTPUTS, 0.02).unwrap(), Adam::new(OUTPUTS, 0.02).unwrap()];
        let generator = Generator::new;
        Self { layer, adams, batches: generator(5), blocks: generator(6), loss: Vec::new(), step: 0 }
    }

    fn run(&mut self, steps: usize) {
        let ws = &mut Workspace::new();
        for _ in 0..steps {
            let dropout = Dropout::Paper { factors: 0.5, blocks: 0.3 };
            let mask = dropout.draw(self.layer.plan(), &mut self.blocks).unwrap();
            self.layer.set_mask(Some(mask)).unwrap();
            let x: Vec<f32> = (0..4 * INPUTS).map(|_| self.batches.uniform() as f32 - 0.5).collect();
            let mut y = vec![0.0; 4 * OUTPUTS];
            self.layer.forward(&x, &mut y, Parallelism::Rayon, ws).unwrap();
            let g: Vec<f32> = y.iter().zip(x.chunks(INPUTS).flat_map(|x| &x[..OUTPUTS])).map(|(y, t)| y - t).collect();
            self.loss.push(g.iter().map(|g| f64::from(g * g)).sum());
            let [mut theta, mut scale, mut bias] = [self.layer.theta().len(), OUTPUTS, OUTPUTS].map(|n| vec![0.0; n]);
            let wanted =
                Gradients { theta: Some(&mut theta), scale: Some(&mut scale), bias: Some(&mut bias), input: None };
            self.layer.backward(&x, &g, wanted, Parallelism::Rayon, ws).unwrap();
            self.adams[0].set_rate(0.05 / (1.0 + self.step as f64).sqrt()).unwrap();
            self.layer.step_theta(&mut self.adams[0], &theta).unwrap();
            self.layer.step_scale(&mut self.adams[1], &scale).unwrap();
            self.layer.step_bias(&mut self.adams[2], &bias).unwrap();
            self.step += 1;
        }
    }

    fn state(&self) -> State {
        let mut state = State::new();
        state.put("layer", &self.layer);
        for (adam, name) in self.adams.iter().zip(["theta", "scale", "bias"]) {
            state.put(&format!("adam.{name}"), adam);
        }
        state.put("batches", &self.batches);
        state.put("blocks", &self.blocks);
        state.put("loss", &self.loss);
        state.put("step", &self.step);
        state
    }

    fn restore(&mut self, state: &State) -> papilio::Result<()> {
        state.restore("layer", &mut self.layer)?;
        for (adam, name) in self.adams.iter_mut().zip(["theta", "scale", "bias"]) {
            state.restore(&format!("adam.{name}"), adam)?;
        }
        state.restore("batches", &mut self.batches)?;
        state.restore("blocks", &mut self.blocks)?;
        state.restore("loss", &mut self.loss)?;
        state.restore("step", &mut self.step)
    }
}

#[test]
fn a_resumed_training_is_the_uninterrupted_one_bit_by_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.safetensors");
    let mut whole = Training::new();
    whole.run(60);
    assert!(whole.loss[59] < 0.7 * whole.loss[0], "it learns: {:?}", whole.loss);
    let norms = whole.layer.theta().chunks(6).map(|v| (2.0 * v.iter().map(|v| v * v).sum::<f64>()).sqrt());
    let limit = f64::from(EPS) / 2.0; // four blocks
    assert!(norms.filter(|norm| (norm / limit - 1.0).abs() < 1e-12).count() > 6, "the constraint acts");
    for at in [0, 1, 25, 59] {
        let mut first = Training::new();
        first.run(at);
        first.state().save(&path).unwrap(); // over the one before
        let mut second = Training::new();
        second.run(3); // what was there does not matter
        second.restore(&State::load(&path).unwrap()).unwrap();
        assert_eq!(second.state(), first.state());
        second.run(60 - at);
        let bits = |x: &[f64]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&second.loss), bits(&whole.loss), "after {at} steps");
        assert_eq!(second.state(), whole.state(), "after {at} steps");
        assert_eq!(bits(second.layer.theta()), bits(whole.layer.theta()));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporaries stay");
    let bytes = fs::read(&path).unwrap();
    State::load(&path).unwrap().save(&path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes, "written again, the same bytes");
}

#[test]
fn states_that_do_not_fit_are_refused_and_change_nothing() {
    let mut training = Training::new();
    training.run(2);
    let state = training.state();
    let weight = || Weight::new(vec![1.0f64; OUTPUTS * INPUTS], OUTPUTS, INPUTS).unwrap();
    // As many parameters, another chart; another wiring; another order.
    let boft = Butterfly::boft(3, 4).unwrap();
    for plan in [
        Plan::new(INPUTS, &boft, Exponential).unwrap(),
        Plan::new(INPUTS, &BlockDiagonal::new(4), Cayley).unwrap(),
        Plan::new(INPUTS, &boft, Cayley).unwrap().adjoint(),
    ] {
        let mut layer = Linear::new(weight(), plan).unwrap();
        assert!(matches!(state.restore("layer", &mut layer), Err(Error::File { .. })));
        assert!(layer.theta().iter().all(|t| *t == 0.0));
    }
    // The same in another precision is fine.
    let mut layer = Linear::boft(weight(), 3, 4).unwrap();
    state.restore("layer", &mut layer).unwrap();
    assert_eq!(layer.theta(), training.layer.theta());
    let mut short = Adam::new(3, 0.1).unwrap();
    let before = short.clone();
    assert!(matches!(state.restore("adam.theta", &mut short), Err(Error::Length { .. })));
    assert!(matches!(state.restore("nothing", &mut short), Err(Error::File { .. })));
    assert_eq!(short, before);
    for (part, bad) in
        [("settings", vec![0.1, 2.0, 0.9, 1e-8, 0.0]), ("left", vec![-1.0, 0.5]), ("square", vec![-1.0; OUTPUTS])]
    {
        let mut state = state.clone();
        bad.keep(&format!("adam.scale.{part}"), &mut state);
        let (mut adam, before) = (training.adams[1].clone(), training.adams[1].clone());
        assert!(matches!(state.restore("adam.scale", &mut adam), Err(Error::Domain { .. })), "{part}");
        assert_eq!(adam, before);
    }
}

#[test]
fn files_are_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.safetensors");
    let mut state = State::new();
    state.put("x", &vec![1.0, f64::NAN]);
    assert!(matches!(state.save(&path), Err(Error::File { .. })));
    assert!(!path.exists());
    let mut state = State::new();
    state.put("__metadata__", &vec![1.0]);
    assert!(state.save(&path).is_err() && !path.exists());
    assert!(State::load(&path).is_err());
    fs::write(&path, "my diary").unwrap();
    assert!(State::new().save(&path).is_err(), "no stranger's file is replaced");
    fs::remove_file(&path).unwrap();
    State::new().save(&path).unwrap();
    assert_eq!(State::load(&path).unwrap(), State::new());
    assert!(State::load(support::path("tests/data/peft_boft/boft_linear_8x8_b2_m3_f64.safetensors")).is_err());

    // Any byte may be anything, and the file may end anywhere.
    let mut training = Training::new();
    training.run(1);
    training.state().save(&path).unwrap();
    let good = fs::read(&path).unwrap();
    let (mut generator, damaged) = (Generator::new(4), folder.path().join("damaged"));
    let mut refused = 0;
    let mut attempt = |bytes: &[u8], at: &Path| {
        fs::write(at, bytes).unwrap();
        match State::load(at) {
            Ok(state) => drop(Training::new().restore(&state)),
            Err(_) => refused += 1,
        }
    };
    for round in 0..1500 {
        let mut bytes = good.clone();
        let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap());
        for _ in 0..1 + generator.below(3) {
            let end = if round % 3 == 0 { bytes.len() as u64 } else { header };
            let at = generator.below(end) as usize;
            bytes[at] = generator.below(256) as u8;
        }
        if round % 7 == 0 {
            bytes.truncate(generator.below(bytes.len() as u64) as usize);
        }
        attempt(&bytes, &damaged);
    }
    assert!(refused > 500, "{refused}");
}
