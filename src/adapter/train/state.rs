//! Training in a file: everything that the next step depends on, so that a resumed training is bit by bit the uninterrupted one.
//!
//! A safetensors file with `format` = `papilio training state` and `version` = 1 in its metadata. Numbers are F64 tensors of one
//! dimension; counters (steps, random states, fingerprints) are decimal text in the metadata, as `counter.<name>`. What belongs to
//! one thing has names that begin with the name it was put under. The file appears whole or not at all.

use core::fmt::Display;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;
use std::string::{String, ToString};
use std::vec::Vec;

use super::{Adam, Dense, Linear};
use crate::error::{Error, Result, check_length};
use crate::generator::Generator;
use crate::plan::{Plan, Source};
use crate::scalar::Scalar;
use crate::storage::{Container, Dtype, Output, TensorSpec, Writer, field_error, tensor_error, unwritable};

const FORMAT: &str = "papilio training state";
const VERSION: &str = "1";
const COUNTER: &str = "counter.";

/// Named numbers and counters.
///
/// ```
/// use papilio::adapter::train::{Adam, State};
/// use papilio::generator::Generator;
/// let (mut adam, mut generator, mut p) = (Adam::new(2, 0.1)?, Generator::new(7), vec![1.0, 2.0]);
/// adam.step(&mut p, &[0.5, -0.5])?;
/// generator.next_u64();
///
/// let path = std::env::temp_dir().join("papilio-doc-training.safetensors");
/// let mut state = State::new();
/// state.put("adam", &adam);
/// state.put("batches", &generator);
/// state.put("p", &p);
/// state.save(&path)?;
///
/// let state = State::load(&path)?;
/// let (mut adam_again, mut generator_again, mut p_again) = (Adam::new(2, 0.0)?, Generator::new(0), vec![]);
/// state.restore("adam", &mut adam_again)?;
/// state.restore("batches", &mut generator_again)?;
/// state.restore("p", &mut p_again)?;
/// assert_eq!((adam_again, generator_again, p_again), (adam, generator, p));
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), papilio::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    numbers: BTreeMap<String, Vec<f64>>,
    counters: BTreeMap<String, u64>,
}

/// What a [`State`] can hold: [`Linear`] (parameters, not the dropped blocks), [`Adam`] (settings, moments and steps),
/// [`Generator`], numbers and counters. Types of your own put their parts under names that begin with `name`.
pub trait Keep {
    /// Puts everything that changes into `state`.
    fn keep(&self, name: &str, state: &mut State);

    /// Takes it out again. Nothing has changed if that is an error.
    ///
    /// # Errors
    /// [`Error::File`] if something is missing; errors of the type if its values do not fit.
    fn restore(&mut self, name: &str, state: &State) -> Result<()>;
}

impl State {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `what` in; something of the same name is replaced.
    pub fn put(&mut self, name: &str, what: &impl Keep) {
        what.keep(name, self);
    }

    /// Brings `what` to where it was.
    ///
    /// # Errors
    /// As [`Keep::restore`].
    pub fn restore(&self, name: &str, what: &mut impl Keep) -> Result<()> {
        what.restore(name, self)
    }

    /// The numbers of this name.
    ///
    /// # Errors
    /// [`Error::File`] if there are none.
    pub fn numbers(&self, name: &str) -> Result<&[f64]> {
        self.numbers.get(name).map(Vec::as_slice).ok_or_else(|| missing(name))
    }

    /// The counter of this name.
    ///
    /// # Errors
    /// [`Error::File`] if there is none.
    pub fn counter(&self, name: &str) -> Result<u64> {
        self.counters.get(name).copied().ok_or_else(|| missing(name))
    }

    /// Writes the file. A safetensors file that was there before is replaced, anything else is not.
    ///
    /// # Errors
    /// [`Error::File`] from the system, for a path that holds something else, and for numbers that are not finite: a
    /// training that has come to those is not worth going on with.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        for (name, numbers) in &self.numbers {
            if let Some(at) = numbers.iter().position(|x| !x.is_finite()) {
                return Err(tensor_error(path, name, "finite numbers", std::format!("{} at [{at}]", numbers[at])));
            }
            if name == "__metadata__" {
                return Err(tensor_error(path, name, "a name that the format does not use itself", "this one"));
            }
        }
        let mut metadata = HashMap::from([("format", FORMAT), ("version", VERSION)].map(|(k, v)| (k.into(), v.into())));
        metadata.extend(self.counters.iter().map(|(name, value)| (std::format!("{COUNTER}{name}"), value.to_string())));
        let spec = |(name, numbers): (&String, &Vec<f64>)| TensorSpec {
            name: name.clone(),
            dtype: Dtype::F64,
            shape: std::vec![numbers.len()],
        };
        let specs: Vec<TensorSpec> = self.numbers.iter().map(spec).collect();
        let output = Output::file(path, true)?;
        let file = File::options().write(true).open(output.path("")).map_err(|e| unwritable(path, e))?;
        let mut writer = Writer::new(file, path, Some(&metadata), &specs)?;
        for x in self.numbers.values().flatten() {
            writer.write(&x.to_le_bytes())?;
        }
        writer.finish()?;
        output.commit()
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`Error::File`] naming what is wrong: another format or version, tensors of another type or shape, numbers that are
    /// not finite.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = Container::open(path)?;
        let text = |key: &str| file.metadata().and_then(|m| m.get(key)).map_or("none", String::as_str);
        for (key, expected) in [("format", FORMAT), ("version", VERSION)] {
            if text(key) != expected {
                return Err(field_error(path, key, std::format!("`{expected}`"), std::format!("`{}`", text(key))));
            }
        }
        let mut state = Self::new();
        for (key, value) in file.metadata().into_iter().flatten() {
            let Some(name) = key.strip_prefix(COUNTER) else { continue };
            let number =
                value.parse().map_err(|e| field_error(path, key, "a whole number below 2^64", shown(value, &e)))?;
            state.counters.insert(name.into(), number);
        }
        for tensor in file.tensors() {
            if tensor.dtype != Dtype::F64 || tensor.shape.len() != 1 {
                let got = std::format!("{} of shape {:?}", tensor.dtype, tensor.shape);
                return Err(tensor_error(path, &tensor.name, "type F64 and one dimension", got));
            }
            state.numbers.insert(tensor.name.clone(), file.read_finite(tensor)?);
        }
        Ok(state)
    }
}

fn shown(value: &str, e: &impl Display) -> String {
    let short: String = value.chars().take(40).collect();
    std::format!("`{short}`: {e}")
}

fn missing(name: &str) -> Error {
    Error::File {
        what: std::format!("training state, `{name}`"),
        expected: "something that was put in under this name".into(),
        got: "nothing".into(),
    }
}

impl Keep for Vec<f64> {
    fn keep(&self, name: &str, state: &mut State) {
        state.numbers.insert(name.into(), self.clone());
    }

    fn restore(&mut self, name: &str, state: &State) -> Result<()> {
        *self = state.numbers(name)?.to_vec();
        Ok(())
    }
}

impl Keep for u64 {
    fn keep(&self, name: &str, state: &mut State) {
        state.counters.insert(name.into(), *self);
    }

    fn restore(&mut self, name: &str, state: &State) -> Result<()> {
        *self = state.counter(name)?;
        Ok(())
    }
}

impl Keep for Generator {
    fn keep(&self, name: &str, state: &mut State) {
        self.state().keep(name, state);
    }

    fn restore(&mut self, name: &str, state: &State) -> Result<()> {
        *self = Self::new(state.counter(name)?);
        Ok(())
    }
}

impl Keep for Adam {
    fn keep(&self, name: &str, state: &mut State) {
        let part = |part: &str| std::format!("{name}.{part}");
        self.steps.keep(&part("steps"), state);
        self.moments.mean.keep(&part("mean"), state);
        self.moments.square.keep(&part("square"), state);
        self.moments.left.to_vec().keep(&part("left"), state);
        self.settings().to_vec().keep(&part("settings"), state);
        match self.factors() {
            Some(factors) => factors.to_vec().keep(&part("factors"), state),
            None => drop(state.numbers.remove(&part("factors"))),
        }
    }

    fn restore(&mut self, name: &str, state: &State) -> Result<()> {
        let numbers = |part: &str, expected: usize| {
            let numbers = state.numbers(&std::format!("{name}.{part}"))?;
            check_length("numbers of Adam in a training state", expected, numbers.len())?;
            Ok::<_, Error>(numbers)
        };
        let (mean, square) = (numbers("mean", self.len())?, numbers("square", self.len())?);
        let (left, settings) = (numbers("left", 2)?, numbers("settings", 5)?);
        let mut adam = Self::new(self.len(), settings[0])?
            .with_betas([settings[1], settings[2]])?
            .with_epsilon(settings[3])?
            .with_decay(settings[4])?;
        if let Ok(factors) = state.numbers(&std::format!("{name}.factors")) {
            adam = adam.with_factors(factors.to_vec())?;
        }
        let share = |x: &f64| (0.0..=1.0).contains(x);
        if !left.iter().all(share) || square.iter().any(|v| *v < 0.0) {
            return Err(Error::Domain {
                what: std::format!("moments of Adam `{name}` in a training state"),
                expected: "squares of at least 0, powers of beta from 0 to 1",
                got: "others".into(),
            });
        }
        adam.moments.mean.copy_from_slice(mean);
        adam.moments.square.copy_from_slice(square);
        adam.moments.left.copy_from_slice(left);
        adam.steps = state.counter(&std::format!("{name}.steps"))?;
        *self = adam;
        Ok(())
    }
}

impl<T: Dense> Keep for Linear<T> {
    fn keep(&self, name: &str, state: &mut State) {
        let part = |part: &str| std::format!("{name}.{part}");
        fingerprint(self.plan()).keep(&part("plan"), state);
        for (what, numbers) in [("theta", self.theta()), ("scale", self.scale()), ("bias", self.bias())] {
            numbers.to_vec().keep(&part(what), state);
        }
    }

    /// The weight, the plan, a constraint and the scalar are those of `self`. A plan of another wiring or chart is refused.
    fn restore(&mut self, name: &str, state: &State) -> Result<()> {
        let part = |part: &str| std::format!("{name}.{part}");
        if state.counter(&part("plan"))? != fingerprint(self.plan()) {
            return Err(Error::File {
                what: std::format!("training state, layer `{name}`"),
                expected: "a layer with the same stages and charts".into(),
                got: "another one".into(),
            });
        }
        let [theta, scale, bias] = ["theta", "scale", "bias"].map(|what| state.numbers(&part(what)));
        let mut layer = self.clone();
        layer.set_scale(scale?)?;
        layer.set_bias(bias?)?;
        layer.bring_back(theta?)?;
        *self = layer;
        Ok(())
    }
}

/// FNV-1a over sizes, indices and charts of all stages: what θ means.
fn fingerprint<T: Scalar>(plan: &Plan<T>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut take = |bytes: &[u8]| {
        bytes.iter().for_each(|byte| hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    };
    take(&(plan.n() as u64).to_le_bytes());
    for stage in plan.stages() {
        let layout = stage.layout();
        for size in [layout.block_size(), layout.num_blocks(), stage.num_groups(), usize::from(stage.is_adjoint())] {
            take(&(size as u64).to_le_bytes());
        }
        for j in 0..layout.num_blocks() {
            take(&(stage.group_of(j) as u64).to_le_bytes());
            layout.indices(j).for_each(|i| take(&(i as u64).to_le_bytes()));
        }
        match stage.source() {
            Source::Chart { chart, .. } => take(chart.id().as_bytes()),
            Source::Fixed(_) => take(b"fixed"),
            Source::Reflectors { .. } => take(b"reflectors"),
        }
    }
    hash
}
