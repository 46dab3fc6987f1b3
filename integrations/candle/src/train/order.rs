//! In which order examples come: shuffled anew for every round, the same for ever for a seed.

use papilio::adapter::train::{Keep, State};
use papilio::generator::Generator;

use crate::error::{Result, input};

/// An endless sequence of examples 0 … len − 1.
#[derive(Debug, Clone)]
pub struct Order {
    generator: Generator,
    /// Where the generator was before this round was shuffled.
    round: u64,
    examples: Vec<usize>,
    next: usize,
}

impl Order {
    /// For `len` examples.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) if there are none.
    pub fn new(len: usize, seed: u64) -> Result<Self> {
        if len == 0 {
            return input("examples to train on", "at least one", len);
        }
        let mut order = Self { generator: Generator::new(seed), round: 0, examples: (0..len).collect(), next: 0 };
        order.shuffle();
        Ok(order)
    }

    /// From the sorted order, so that a round depends on nothing but the generator.
    fn shuffle(&mut self) {
        self.round = self.generator.state();
        self.examples.sort_unstable();
        self.generator.shuffle(&mut self.examples);
        self.next = 0;
    }

    /// The next `count` examples. A round that ends within them is followed by the next one.
    pub fn take(&mut self, count: usize) -> Vec<usize> {
        let next = |_| {
            if self.next == self.examples.len() {
                self.shuffle();
            }
            self.next += 1;
            self.examples[self.next - 1]
        };
        (0..count).map(next).collect()
    }

    pub(super) fn keep(&self, state: &mut State) {
        state.put("order.round", &self.round);
        state.put("order.next", &(self.next as u64));
        state.put("order.examples", &(self.examples.len() as u64));
    }

    pub(super) fn restore(&mut self, state: &State) -> Result<()> {
        let (len, next) = (state.counter("order.examples")?, state.counter("order.next")?);
        if len != self.examples.len() as u64 || next > len {
            return input("checkpoint, examples", self.examples.len().to_string(), format!("{next} of {len}"));
        }
        Generator::restore(&mut self.generator, "order.round", state)?;
        self.shuffle();
        self.next = next as usize;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_has_every_example_and_goes_on_from_anywhere() {
        assert!(Order::new(0, 1).is_err());
        for (len, count) in [(1, 3), (7, 3), (8, 4), (5, 12)] {
            let mut order = Order::new(len, 9).unwrap();
            let mut seen = Vec::new();
            for step in 0..20 {
                let mut state = State::new();
                order.keep(&mut state);
                let mut other = Order::new(len, 0).unwrap();
                other.restore(&state).unwrap();
                let taken = order.take(count);
                assert_eq!(other.take(count), taken, "step {step}");
                seen.extend(taken);
            }
            for round in seen.chunks_exact(len) {
                let mut sorted = round.to_vec();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..len).collect::<Vec<_>>());
            }
            if len > 2 {
                assert_ne!(seen[..len], seen[len..2 * len]);
            }
        }
    }
}
