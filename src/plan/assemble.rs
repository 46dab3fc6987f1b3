//! Plans taken apart into stages without a place, and put together again.
//!
//! Stages act in one order and lie in θ in another: an adjoint plan acts backwards on the same θ. A [`Part`] carries both.

use alloc::vec::Vec;

use super::{Plan, Source, Stage};
use crate::error::Result;
use crate::layout::StageLayout;
use crate::scalar::Scalar;

/// A stage that has no place in θ yet.
#[derive(Debug, Clone)]
pub(crate) struct Part<T: Scalar> {
    pub(crate) layout: StageLayout,
    pub(crate) source: Source<T>,
    /// Whether every block acts as its adjoint.
    pub(crate) adjoint: bool,
    /// Stages lie in θ in the order of their ranks; equal ranks in the order in which they act.
    pub(crate) rank: usize,
}

impl<T: Scalar> Plan<T> {
    /// The same plan for vectors of another precision: same stages, same charts and fixed blocks, same
    /// parameters.
    ///
    /// ```
    /// use papilio::{Plan, parametrization::Cayley, topology::Butterfly};
    /// let plan = Plan::<f64>::new(16, &Butterfly::classic(2), Cayley)?;
    /// let single: Plan<f32> = plan.cast()?;
    /// assert_eq!(single.num_params(), plan.num_params());
    /// # Ok::<(), papilio::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Domain`](crate::Error::Domain) for fixed blocks with numbers beyond that precision.
    pub fn cast<U: Scalar<Wide = T::Wide>>(&self) -> Result<Plan<U>> {
        Plan::assemble(
            self.n(),
            self.parts().into_iter().map(|part| Part {
                layout: part.layout,
                source: match part.source {
                    Source::Chart { chart, sharing } => Source::Chart { chart, sharing },
                    Source::Reflectors { count, orthonormal, sharing } => {
                        Source::Reflectors { count, orthonormal, sharing }
                    }
                    Source::Fixed(blocks) => Source::Fixed(blocks),
                },
                adjoint: part.adjoint,
                rank: part.rank,
            }),
        )
    }

    /// The stages in the order in which they act, ranked from 0 without gaps.
    pub(crate) fn parts(&self) -> Vec<Part<T>> {
        let mut order: Vec<usize> = (0..self.num_stages()).collect();
        // Without entries a stage begins where the next one does; its end tells them apart.
        order.sort_by_key(|&k| (self.stages[k].entries().start, self.stages[k].entries().end));
        let part = |stage: &Stage<T>| Part {
            layout: stage.layout().clone(),
            source: stage.source().clone(),
            adjoint: stage.is_adjoint(),
            rank: 0,
        };
        let mut parts: Vec<_> = self.stages.iter().map(part).collect();
        for (rank, k) in order.into_iter().enumerate() {
            parts[k].rank = rank;
        }
        parts
    }

    /// The plan with these stages, in the order in which they act.
    ///
    /// # Errors
    /// As [`from_stages`](Plan::from_stages).
    pub(crate) fn assemble(n: usize, parts: impl IntoIterator<Item = Part<T>>) -> Result<Self> {
        let mut plan = Self::identity(n)?;
        let mut ranked: Vec<_> = parts.into_iter().enumerate().collect();
        ranked.sort_by_key(|(_, part)| part.rank);
        let mut stages = Vec::with_capacity(ranked.len());
        for (place, part) in ranked {
            let starts = (plan.num_params, plan.num_entries, plan.num_couplings);
            let stage = Stage::new(n, part.layout, part.source, starts)?;
            (plan.num_params, plan.num_entries) = (stage.theta().end, stage.entries().end);
            plan.num_couplings = stage.couplings().end;
            stages.push((place, if part.adjoint { stage.adjoint() } else { stage }));
        }
        stages.sort_by_key(|(place, _)| *place);
        Ok(plan.with_stages(stages.into_iter().map(|(_, stage)| stage).collect::<Vec<_>>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parametrization::{Cayley, Givens};
    use crate::topology::{BlockDiagonal, Butterfly};

    #[test]
    fn taken_apart_and_put_together_is_the_same_plan() {
        let blocks = Plan::<f64>::new(8, &BlockDiagonal::new(4), Cayley).unwrap();
        let butterfly = Plan::new(8, &Butterfly::classic(2), Givens).unwrap();
        let empty = Plan::from_stages(8, [(StageLayout::contiguous(2, 0), Source::chart(Givens))]).unwrap();
        let both = blocks.then(empty).unwrap().then(butterfly.adjoint()).unwrap();
        for plan in [both.clone(), both.adjoint(), Plan::identity(8).unwrap()] {
            let again = Plan::assemble(8, plan.parts()).unwrap();
            assert_eq!(again.digest, plan.digest);
            for (a, b) in again.stages().iter().zip(plan.stages()) {
                assert_eq!((a.theta(), a.entries(), a.is_adjoint()), (b.theta(), b.entries(), b.is_adjoint()));
                assert_eq!(a.layout(), b.layout());
            }
        }
        let ranks: Vec<_> = both.adjoint().parts().iter().map(|p| p.rank).collect();
        assert_eq!(ranks, [2, 3, 4, 1, 0]); // the butterfly was reversed before it was appended
    }
}
