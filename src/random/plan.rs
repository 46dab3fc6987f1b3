//! A rotation as a [`Plan`]: the same mathematics, to be certified, composed, or trained from.
//!
//! A sum and a difference is H = (1, 1; 1, −1)/√2 = G(π/4)·diag(1, −1) with Givens' rotation G. So a stage is a sign for the second of
//! each pair, and then rotations by π/4. Blocks that do not overlap share their stages.

use alloc::vec;
use alloc::vec::Vec;

use super::rotation::RandomRotation;
use super::wiring::{Drawn, Round, draw};
use crate::error::Result;
use crate::layout::StageLayout;
use crate::parametrization::Givens;
use crate::plan::{Plan, Source};
use crate::scalar::Real;

/// What a plan has for a sum and a difference.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pairs {
    /// H itself.
    Fixed,
    /// A sign, then a rotation whose angle is a parameter.
    Trainable,
}

impl<T: Real> RandomRotation<T> {
    /// The rotation as stages of fixed pairs and signs, without parameters. It agrees with [`apply`](Self::apply) to rounding, not to
    /// the bit.
    ///
    /// # Errors
    /// Those of [`Plan::from_stages`].
    pub fn to_plan(&self) -> Result<Plan<T>> {
        self.stages(Pairs::Fixed)
    }

    /// The rotation as the start of a learned one: every sum and difference becomes a rotation whose angle is a parameter, n/2 for each
    /// stage or somewhat more where blocks overlap, and the angles θ at which the plan is this rotation (all π/4). This is
    /// ButterflyQuant's parametrization (arXiv 2509.09679) for any n, three rounds deep.
    ///
    /// ```
    /// use papilio::{Orthogonal, random::RandomRotation};
    /// let rotation = RandomRotation::<f64>::new(96, 1)?;
    /// let (plan, theta) = rotation.learnable()?;
    /// let learned = Orthogonal::new(plan, theta)?; // train θ from here
    /// let x: Vec<f64> = (0..96).map(f64::from).collect();
    /// let mut y = x.clone();
    /// rotation.apply(&mut y)?;
    /// assert!(learned.apply(&x)?.iter().zip(&y).all(|(a, b)| (a - b).abs() < 1e-12));
    /// # Ok::<(), papilio::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Plan::from_stages`].
    pub fn learnable(&self) -> Result<(Plan<T>, Vec<f64>)> {
        let plan = self.stages(Pairs::Trainable)?;
        let theta = vec![core::f64::consts::FRAC_PI_4; plan.num_params()];
        Ok((plan, theta))
    }

    fn stages(&self, pairs: Pairs) -> Result<Plan<T>> {
        let shape = self.shape();
        let drawn: Vec<_> = draw(shape, self.seed(), self.rounds()).collect();
        // Blocks that act side by side: those of a round, or one at a time where they overlap.
        let together = if shape.blocks * shape.block == shape.n { shape.blocks } else { 1 };
        let mut stages = Vec::new();
        for blocks in drawn.chunks(together) {
            let coordinates = blocks.iter().flat_map(|block| &block.starts);
            let places: Vec<u32> =
                coordinates.flat_map(|start| (0..shape.unit as u32).map(move |at| start + at)).collect();
            // Coordinates that are to change their sign before the next stage.
            let bits = |words: &[u64], count: usize| (0..count).map(|i| words[i / 64] >> (i % 64) & 1 == 1).collect();
            let of_blocks = |bits: &dyn Fn(&Drawn) -> Vec<bool>| blocks.iter().flat_map(bits).collect::<Vec<_>>();
            let mut negative = of_blocks(&|block| bits(&block.signs, shape.block));
            let between = of_blocks(&|block| bits(&block.between, shape.between(block.round)));
            let exponents = |from: usize, to: usize| from.ilog2()..to.ilog2();
            let (within, across) = (exponents(1, shape.unit), exponents(shape.unit, shape.block));
            let exponents: Vec<u32> = match blocks[0].round {
                Round::Opening => across.rev().chain(within).collect(),
                Round::Middle => across.collect(),
                Round::Closing => within.chain(across).collect(),
            };
            for distance in exponents.into_iter().map(|exponent| 1 << exponent) {
                let second = |i: &usize| i & distance != 0;
                // (a, b) ← (±a + b, a ∓ b): with ±b the sum of the two and ∓ their difference. The latter sign comes behind.
                let mut behind = vec![false; negative.len()];
                match blocks[0].round {
                    Round::Opening if distance == 1 && shape.unit > 1 => {
                        for (i, minus) in (0..negative.len()).step_by(2).zip(&between) {
                            negative[i + 1] ^= minus;
                            behind[i] = *minus;
                        }
                    }
                    Round::Closing if distance == shape.unit => {
                        let odd = (0..negative.len()).filter(second);
                        odd.zip(&between).for_each(|(i, minus)| negative[i] ^= minus);
                    }
                    _ => {}
                }
                if pairs == Pairs::Trainable {
                    (0..negative.len()).filter(second).for_each(|i| negative[i] ^= true);
                }
                push_signs(&mut stages, &places, &negative);
                negative = behind;
                let firsts = (0..places.len()).filter(|i| !second(i));
                let index: Vec<u32> = firsts.flat_map(|i| [places[i], places[i + distance]]).collect();
                let source = match pairs {
                    Pairs::Trainable => Source::chart(Givens),
                    Pairs::Fixed => {
                        let h = core::f64::consts::FRAC_1_SQRT_2;
                        Source::Fixed((0..index.len() / 2).flat_map(|_| [h, h, h, -h]).collect())
                    }
                };
                stages.push((StageLayout::Table { block: 2, index: index.into() }, source));
            }
            push_signs(&mut stages, &places, &negative);
        }
        Plan::from_stages(shape.n, stages)
    }
}

/// A stage of −1 where it says so.
fn push_signs<T: Real>(stages: &mut Vec<(StageLayout, Source<T>)>, places: &[u32], negative: &[bool]) {
    let index: Vec<u32> = places.iter().zip(negative).filter(|(_, negative)| **negative).map(|(i, _)| *i).collect();
    if !index.is_empty() {
        let blocks = vec![-1.0; index.len()];
        stages.push((StageLayout::Table { block: 1, index: index.into() }, Source::Fixed(blocks.into())));
    }
}
