//! Normal numbers from the frozen generator.

use num_traits::Float;

use crate::generator::Generator;

/// Independent standard normal numbers by Marsaglia's polar method (1964, doi 10.1137/1006063). Logarithms differ in the last bit
/// between platforms, so these numbers are not frozen.
#[derive(Debug, Clone)]
pub(super) struct Normal {
    generator: Generator,
    spare: Option<f64>,
}

impl Normal {
    pub(super) fn new(seed: u64) -> Self {
        Self { generator: Generator::new(seed), spare: None }
    }

    pub(super) fn next(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (u, v) = (2.0 * self.generator.uniform() - 1.0, 2.0 * self.generator.uniform() - 1.0);
            let r = u * u + v * v;
            if r < 1.0 && r > 0.0 {
                let scale = Float::sqrt(-2.0 * Float::ln(r) / r);
                self.spare = Some(v * scale);
                return u * scale;
            }
        }
    }

    pub(super) fn sign(&mut self) -> f64 {
        self.generator.sign()
    }
}
