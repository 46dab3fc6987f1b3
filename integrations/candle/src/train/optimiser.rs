//! Gradient descent and Adam on all variables of a model, with a state that can be stored.
//!
//! Parameters are kept in double precision, in one row sorted by name; the variables of the model are these, rounded.

use candle_core::{DType, Device, Tensor, Var};
use papilio::adapter::train::{Adam, Keep, State};

use crate::error::{Result, input};
use crate::variables::Variables;

/// An optimiser with the parameters that it moves.
#[derive(Debug)]
pub struct Optimiser {
    variables: Vec<(String, Var)>,
    values: Vec<f64>,
    rule: Rule,
    /// Longer gradients are shortened to this.
    longest: Option<f64>,
}

#[derive(Debug)]
enum Rule {
    Descent(f64),
    Adam(Box<Adam>),
}

impl Optimiser {
    fn new(variables: &Variables, rule: impl FnOnce(usize) -> Result<Rule>) -> Result<Self> {
        let variables: Vec<(String, Var)> = variables.all().into_iter().collect();
        let mut values = Vec::new();
        for (_, variable) in &variables {
            values.extend(numbers(variable)?);
        }
        let rule = rule(values.len())?;
        Ok(Self { variables, values, rule, longest: None })
    }

    /// p ← p − rate·gradient.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) unless the rate is finite and not negative.
    pub fn descent(variables: &Variables, rate: f64) -> Result<Self> {
        if !(rate.is_finite() && rate >= 0.0) {
            return input("rate", "a finite number of at least 0", rate);
        }
        Self::new(variables, |_| Ok(Rule::Descent(rate)))
    }

    /// Adam, or AdamW with a decay ([`papilio::adapter::train::Adam`]).
    ///
    /// # Errors
    /// papilio's, for a rate or decay that is none.
    pub fn adam(variables: &Variables, rate: f64, decay: f64) -> Result<Self> {
        Self::new(variables, |len| Ok(Rule::Adam(Box::new(Adam::new(len, rate)?.with_decay(decay)?))))
    }

    /// Shortens gradients whose norm over all parameters is above `longest`.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) unless that is above 0.
    pub fn clipped(mut self, longest: Option<f64>) -> Result<Self> {
        if let Some(longest) = longest.filter(|longest| longest.is_nan() || *longest <= 0.0) {
            return input("longest gradient", "a number above 0", longest);
        }
        self.longest = longest;
        Ok(self)
    }

    /// One step against the gradient of `loss`, whose value is given back.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) for a variable that the loss does not depend on (an operation without a gradient cuts the
    /// graph silently), and for a loss or gradient that is not finite. Nothing has changed then.
    pub fn step(&mut self, loss: &Tensor) -> Result<f64> {
        let value = loss.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        if !value.is_finite() {
            return input("loss", "a finite number (try a smaller rate)", value);
        }
        let gradients = loss.backward()?;
        let mut gradient = Vec::with_capacity(self.values.len());
        for (name, variable) in &self.variables {
            let Some(own) = gradients.get(variable) else {
                return input(format!("variable `{name}`"), "a gradient", "none: the loss does not depend on it");
            };
            gradient.extend(numbers(own)?);
        }
        let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        if !norm.is_finite() {
            return input("gradient", "finite numbers (try a smaller rate)", norm);
        }
        if let Some(longest) = self.longest.filter(|longest| norm > *longest) {
            gradient.iter_mut().for_each(|g| *g *= longest / norm);
        }
        match &mut self.rule {
            Rule::Descent(rate) => self.values.iter_mut().zip(&gradient).for_each(|(p, g)| *p -= *rate * g),
            Rule::Adam(adam) => adam.step(&mut self.values, &gradient)?,
        }
        self.write()?;
        Ok(value)
    }

    /// All parameters, sorted by the names of variables.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Other parameters; the optimiser's memory stays.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) if there are more or fewer.
    pub fn set_values(&mut self, values: &[f64]) -> Result<()> {
        self.check(values)?;
        self.values.copy_from_slice(values);
        self.write()
    }

    fn check(&self, values: &[f64]) -> Result<()> {
        if values.len() == self.values.len() {
            return Ok(());
        }
        input("parameters", format!("{} numbers", self.values.len()), values.len())
    }

    /// Rounds the parameters into the variables.
    fn write(&self) -> Result<()> {
        let mut rest = &self.values[..];
        for (_, variable) in &self.variables {
            let (own, after) = rest.split_at(variable.elem_count());
            rest = after;
            variable.set(&Tensor::from_slice(own, variable.shape(), &Device::Cpu)?.to_dtype(variable.dtype())?)?;
        }
        Ok(())
    }

    pub(super) fn keep(&self, state: &mut State) {
        state.put("parameters", &self.values);
        if let Rule::Adam(adam) = &self.rule {
            state.put("adam", &**adam);
        }
    }

    pub(super) fn restore(&mut self, state: &State) -> Result<()> {
        let values = state.numbers("parameters")?;
        self.check(values)?;
        if let Rule::Adam(adam) = &mut self.rule {
            adam.restore("adam", state)?;
        }
        self.set_values(values)
    }
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?)
}
