//! Multiplicative dropout (Liu et al., arXiv 2311.06243, §4): blocks that are the identity for one step of training.
//!
//! A dropped block is I and has no gradient. Nothing is rescaled: a product of rotations has no mean to keep. Two rules:
//!
//! * [`Dropout::Paper`]: a share p₁ of the factors, and in each of them a share p₂ of the blocks.
//! * [`Dropout::Peft`]: one factor, any of the N, and in it exactly ⌊p·D⌋ of its D blocks, as HuggingFace PEFT does.
//!
//! What is dropped is what has parameters of its own: blocks that share their parameters are dropped together, and fixed
//! stages stay.

use core::ops::Range;
use std::string::ToString;
use std::vec;
use std::vec::Vec;

use crate::error::{Error, Result, check_length};
use crate::generator::Generator;
use crate::plan::{Plan, Source, Stage};
use crate::scalar::Scalar;

/// How blocks are chosen. All shares are from 0 to 1.
///
/// What a seed gives is frozen: the number of factors (for the paper's rule), then for each chosen factor in the order in
/// which they were drawn the number of blocks and the blocks, all without replacement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Dropout {
    /// `factors` = p₁ of the factors, and in each of them `blocks` = p₂ of the blocks. A share of m that is not whole is
    /// rounded up as often as its fraction says, so that the mean is p·m.
    Paper {
        /// p₁
        factors: f64,
        /// p₂
        blocks: f64,
    },
    /// ⌊p·D⌋ blocks of one factor: `boft_dropout` = p.
    Peft {
        /// p
        share: f64,
    },
}

impl Dropout {
    /// The blocks to drop in the next step.
    ///
    /// ```
    /// use papilio::adapter::train::Dropout;
    /// use papilio::{Plan, generator::Generator, parametrization::Cayley, topology::Butterfly};
    /// let plan = Plan::<f32>::new(64, &Butterfly::boft(4, 8)?, Cayley)?; // 4 factors of 8 blocks
    /// let mask = Dropout::Peft { share: 0.3 }.draw(&plan, &mut Generator::new(1))?;
    /// assert_eq!(mask.dropped().iter().filter(|d| **d).count(), 2);
    /// # Ok::<(), papilio::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Domain`] for a share outside [0, 1].
    pub fn draw<T: Scalar>(&self, plan: &Plan<T>, generator: &mut Generator) -> Result<Mask> {
        let (Self::Paper { blocks: share, .. } | Self::Peft { share }) = *self;
        let factors = if let Self::Paper { factors, .. } = *self { factors } else { 0.0 };
        for share in [share, factors] {
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::Domain {
                    what: "share of multiplicative dropout".to_string(),
                    expected: "a number from 0 to 1",
                    got: share.to_string(),
                });
            }
        }
        let groups: Vec<usize> = plan.stages().iter().map(trained_groups).collect();
        let mut starts = vec![0; groups.len()];
        (1..groups.len()).for_each(|k| starts[k] = starts[k - 1] + groups[k - 1]);
        let mut mask = Mask { dropped: vec![false; groups.iter().sum()] };
        let mut trained: Vec<usize> = (0..groups.len()).filter(|k| groups[*k] > 0).collect();
        let many = match self {
            Self::Paper { factors, .. } => rounded(factors * trained.len() as f64, generator),
            Self::Peft { .. } => trained.len().min(1),
        };
        for k in choose(&mut trained, many, generator).to_vec() {
            let wanted = share * groups[k] as f64;
            let many = if let Self::Peft { .. } = self { wanted as usize } else { rounded(wanted, generator) };
            let mut blocks: Vec<usize> = (0..groups[k]).collect();
            choose(&mut blocks, many, generator).iter().for_each(|g| mask.dropped[starts[k] + g] = true);
        }
        Ok(mask)
    }
}

/// Which blocks are the identity: one flag for each parameter group of each stage with parameters, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    dropped: Vec<bool>,
}

impl Mask {
    /// A mask of your own.
    ///
    /// # Errors
    /// [`Error::Length`] unless there is one flag for each group of blocks that has parameters of its own.
    pub fn new<T: Scalar>(plan: &Plan<T>, dropped: Vec<bool>) -> Result<Self> {
        check_length("mask", plan.stages().iter().map(trained_groups).sum(), dropped.len())?;
        Ok(Self { dropped })
    }

    /// The flags.
    pub fn dropped(&self) -> &[bool] {
        &self.dropped
    }

    /// Sets the numbers of dropped blocks to zero: parameters, so that the block is I, or their gradient.
    ///
    /// # Errors
    /// [`Error::Length`] if mask and numbers do not belong to the plan.
    pub fn apply<T: Scalar>(&self, plan: &Plan<T>, theta: &mut [f64]) -> Result<()> {
        check_length("theta", plan.num_params(), theta.len())?;
        check_length("mask", plan.stages().iter().map(trained_groups).sum(), self.dropped.len())?;
        for (group, dropped) in plan.stages().iter().flat_map(trained_ranges).zip(&self.dropped) {
            if *dropped {
                theta[group].fill(0.0);
            }
        }
        Ok(())
    }
}

/// Groups of blocks with parameters of their own; none in fixed stages.
fn trained_groups<T: Scalar>(stage: &Stage<T>) -> usize {
    if matches!(stage.source(), Source::Fixed(_)) { 0 } else { stage.num_groups() }
}

/// Where the parameters of each group are.
pub(super) fn trained_ranges<T: Scalar>(stage: &Stage<T>) -> impl Iterator<Item = Range<usize>> + use<T> {
    let (groups, theta) = (trained_groups(stage), stage.theta());
    let each = theta.len() / groups.max(1);
    (0..groups).map(move |g| theta.start + g * each..theta.start + (g + 1) * each)
}

/// ⌊x⌋ or ⌈x⌉ with mean x; a whole number costs no draw.
fn rounded(x: f64, generator: &mut Generator) -> usize {
    let fraction = x - x.floor();
    x as usize + usize::from(fraction > 0.0 && generator.uniform() < fraction)
}

/// `many` different items, each choice and order equally likely.
fn choose<'a>(items: &'a mut [usize], many: usize, generator: &mut Generator) -> &'a [usize] {
    let many = many.min(items.len());
    for i in 0..many {
        let j = i + generator.below((items.len() - i) as u64) as usize;
        items.swap(i, j);
    }
    &items[..many]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parametrization::Cayley;
    use crate::topology::{Butterfly, Shared};

    fn counts(mask: &Mask, blocks: usize) -> Vec<usize> {
        mask.dropped.chunks(blocks).map(|stage| stage.iter().filter(|d| **d).count()).collect()
    }

    #[test]
    fn pefts_rule_touches_one_factor_and_every_block_equally() {
        let plan = Plan::<f64>::new(64, &Butterfly::boft(3, 8).unwrap(), Cayley).unwrap();
        let (mut generator, mut seen, draws) = (Generator::new(5), [0usize; 24], 3000);
        for _ in 0..draws {
            let mask = Dropout::Peft { share: 0.4 }.draw(&plan, &mut generator).unwrap(); // int(3.2) = 3 of 8
            let mut counts = counts(&mask, 8);
            counts.sort_unstable();
            assert_eq!(counts, [0, 0, 3]);
            seen.iter_mut().zip(&mask.dropped).for_each(|(seen, d)| *seen += usize::from(*d));
        }
        // Binomial with mean draws·(1/3)·(3/8) = 375 and deviation 18: five of them.
        assert!(seen.iter().all(|s| s.abs_diff(375) < 91), "{seen:?}");
    }

    #[test]
    fn the_papers_rule_has_the_shares_it_says() {
        let plan = Plan::<f64>::new(64, &Butterfly::boft(4, 8).unwrap(), Cayley).unwrap();
        let (mut generator, mut sum, draws) = (Generator::new(6), 0, 4000);
        for _ in 0..draws {
            let mask = Dropout::Paper { factors: 0.5, blocks: 0.3 }.draw(&plan, &mut generator).unwrap();
            let counts = counts(&mask, 8);
            assert_eq!(counts.iter().filter(|c| **c > 0).count(), 2); // exactly half of four
            assert!(counts.iter().all(|c| [0, 2, 3].contains(c))); // 2.4 of eight
            sum += counts.iter().sum::<usize>();
        }
        let mean = sum as f64 / f64::from(draws);
        assert!((mean - 4.8).abs() < 0.06, "{mean}");
    }

    #[test]
    fn all_and_nothing() {
        let plan = Plan::<f64>::new(16, &Shared::by_stage(Butterfly::classic(2)), Cayley).unwrap();
        let mut generator = Generator::new(1);
        for (dropout, count) in [
            (Dropout::Paper { factors: 1.0, blocks: 1.0 }, 4),
            (Dropout::Paper { factors: 1.0, blocks: 0.0 }, 0),
            (Dropout::Peft { share: 1.0 }, 1),
            (Dropout::Peft { share: 0.0 }, 0),
        ] {
            let mask = dropout.draw(&plan, &mut generator).unwrap();
            assert_eq!((mask.dropped.len(), mask.dropped.iter().filter(|d| **d).count()), (4, count), "{dropout:?}");
        }
        assert!(Dropout::Peft { share: f64::NAN }.draw(&plan, &mut generator).is_err());
        assert!(Dropout::Paper { factors: -0.1, blocks: 0.5 }.draw(&plan, &mut generator).is_err());
        assert!(Dropout::Paper { factors: 0.5, blocks: 1.1 }.draw(&plan, &mut generator).is_err());
        assert!(Mask::new(&plan, vec![true; 5]).is_err());
        let nothing = Plan::<f64>::identity(4).unwrap();
        assert!(Dropout::Peft { share: 1.0 }.draw(&nothing, &mut generator).unwrap().dropped.is_empty());
    }
}
