//! Normal numbers from the frozen generator.

use num_traits::Float;

use super::Generator;

/// Independent standard normal numbers in pairs (G. Box and M. Muller, Ann. Math. Stat. 29, 1958). Logarithms and cosines differ in
/// the last bit between platforms, so these numbers are not frozen.
#[derive(Debug, Clone)]
pub(crate) struct Normal {
    generator: Generator,
    second: Option<f64>,
}

impl Normal {
    pub(crate) fn new(seed: u64) -> Self {
        Self { generator: Generator::new(seed), second: None }
    }

    pub(crate) fn next(&mut self) -> f64 {
        if let Some(second) = self.second.take() {
            return second;
        }
        let radius = Float::sqrt(-2.0 * Float::ln(1.0 - self.generator.uniform())); // of (0, 1]
        let (sin, cos) = Float::sin_cos(2.0 * core::f64::consts::PI * self.generator.uniform());
        self.second = Some(radius * sin);
        radius * cos
    }

    /// 1 or −1.
    pub(crate) fn sign(&mut self) -> f64 {
        self.generator.sign()
    }
}
