//! Adam and AdamW (Kingma & Ba, arXiv 1412.6980; Loshchilov & Hutter, arXiv 1711.05101).
//!
//! > m ← β₁m + (1 − β₁)g,  v ← β₂v + (1 − β₂)g²,  p ← p − rate·f·(m̂/(√v̂ + ε) + decay·p),
//!
//! with m̂ = m/(1 − β₁ᵏ), v̂ = v/(1 − β₂ᵏ), and a factor f of each parameter's own. The decay acts beside the moments: on
//! rotations it draws blocks towards the identity. The moments are those of [`fit::Method::Adam`](crate::fit::Method).

use std::string::{String, ToString};
use std::vec::Vec;

use crate::error::{Error, Result, check_length};
use crate::fit::descent::adam::{BETAS, Moments};

/// Adam for one slice of parameters. Everything is in double precision.
///
/// ```
/// use papilio::adapter::train::Adam;
/// let (mut p, mut adam) = ([3.0, -2.0], Adam::new(2, 0.1)?);
/// for _ in 0..500 {
///     let gradient = p.map(|p| 2.0 * p); // of p²
///     adam.step(&mut p, &gradient)?;
/// }
/// assert!(p.iter().all(|p| p.abs() < 1e-3));
/// # Ok::<(), papilio::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Adam {
    rate: f64,
    betas: [f64; 2],
    epsilon: f64,
    decay: f64,
    factors: Option<Vec<f64>>,
    pub(super) moments: Moments,
    pub(super) steps: u64,
}

impl Adam {
    /// For `len` parameters: β₁ = 0.9, β₂ = 0.999, ε = 1e-8, no decay.
    ///
    /// # Errors
    /// [`Error::Domain`] unless the rate is finite and not negative.
    pub fn new(len: usize, rate: f64) -> Result<Self> {
        let moments = Moments::new(len);
        let mut adam = Self { rate, betas: BETAS, epsilon: 1e-8, decay: 0.0, factors: None, moments, steps: 0 };
        adam.set_rate(rate)?;
        Ok(adam)
    }

    /// Other β₁ and β₂.
    ///
    /// # Errors
    /// [`Error::Domain`] unless they are in [0, 1).
    pub fn with_betas(mut self, betas: [f64; 2]) -> Result<Self> {
        for beta in betas {
            check("beta of Adam", beta, (0.0..1.0).contains(&beta), "a number from 0 to below 1")?;
        }
        self.betas = betas;
        Ok(self)
    }

    /// Another ε, beside √v̂.
    ///
    /// # Errors
    /// [`Error::Domain`] unless it is finite and positive: without it a parameter that never had a gradient would become 0/0.
    pub fn with_epsilon(mut self, epsilon: f64) -> Result<Self> {
        check("epsilon of Adam", epsilon, epsilon.is_finite() && epsilon > 0.0, "a finite number above 0")?;
        self.epsilon = epsilon;
        Ok(self)
    }

    /// AdamW: every step shrinks parameters by rate·f·decay of themselves.
    ///
    /// # Errors
    /// [`Error::Domain`] unless it is finite and not negative.
    pub fn with_decay(mut self, decay: f64) -> Result<Self> {
        check("decay of Adam", decay, decay.is_finite() && decay >= 0.0, NOT_NEGATIVE)?;
        self.decay = decay;
        Ok(self)
    }

    /// A factor of the rate for each parameter, such as [`block_rates`](super::block_rates).
    ///
    /// # Errors
    /// [`Error::Length`] for another number of them, [`Error::Domain`] unless they are finite and not negative.
    pub fn with_factors(mut self, factors: Vec<f64>) -> Result<Self> {
        check_length("factors of the rate", self.len(), factors.len())?;
        for &f in &factors {
            check("factor of the rate", f, f.is_finite() && f >= 0.0, NOT_NEGATIVE)?;
        }
        self.factors = Some(factors);
        Ok(self)
    }

    /// Number of parameters.
    pub fn len(&self) -> usize {
        self.moments.mean.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The rate.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Another rate from here on: schedules are loops that call this.
    ///
    /// # Errors
    /// [`Error::Domain`] unless it is finite and not negative.
    pub fn set_rate(&mut self, rate: f64) -> Result<()> {
        check("rate of Adam", rate, rate.is_finite() && rate >= 0.0, NOT_NEGATIVE)?;
        self.rate = rate;
        Ok(())
    }

    /// Rate, β₁, β₂, ε and decay.
    pub(super) fn settings(&self) -> [f64; 5] {
        [self.rate, self.betas[0], self.betas[1], self.epsilon, self.decay]
    }

    pub(super) fn factors(&self) -> Option<&[f64]> {
        self.factors.as_deref()
    }

    /// One step against `gradient`.
    ///
    /// # Errors
    /// [`Error::Length`] unless both have [`len`](Self::len) numbers; [`Error::Domain`] for a gradient that is not finite.
    /// Nothing has changed then.
    pub fn step(&mut self, parameters: &mut [f64], gradient: &[f64]) -> Result<()> {
        check_length("parameters of Adam", self.len(), parameters.len())?;
        check_length("gradient of Adam", self.len(), gradient.len())?;
        if let Some(at) = gradient.iter().position(|g| !g.is_finite()) {
            let got = std::format!("{} at position {at}", gradient[at]);
            return Err(Error::Domain { what: "gradient of Adam".to_string(), expected: "finite numbers", got });
        }
        let mut step = gradient.to_vec();
        self.moments.advance(&mut step, self.rate, self.epsilon, self.betas);
        for (i, (p, step)) in parameters.iter_mut().zip(&step).enumerate() {
            let factor = self.factors.as_ref().map_or(1.0, |f| f[i]);
            *p += factor * (step - self.rate * self.decay * *p);
        }
        self.steps += 1;
        Ok(())
    }
}

const NOT_NEGATIVE: &str = "a finite number of at least 0";

fn check(what: &str, got: f64, good: bool, expected: &'static str) -> Result<()> {
    if good { Ok(()) } else { Err(Error::Domain { what: String::from(what), expected, got: got.to_string() }) }
}
