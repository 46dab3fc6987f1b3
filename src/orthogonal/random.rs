//! Random initialisers.

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use rand_distr::Distribution;

use super::Orthogonal;
use crate::dense;
use crate::error::{Error, Result};
use crate::plan::{Plan, Source};
use crate::scalar::Scalar;

impl<T: Scalar> Orthogonal<T> {
    /// Independent normal parameters with mean 0 and the given standard deviation: near the identity if it is small.
    ///
    /// # Errors
    /// [`Error::Domain`] for a negative or non-finite deviation.
    pub fn random_normal(plan: Plan<T>, deviation: f64, rng: &mut impl rand::Rng) -> Result<Self> {
        let normal =
            rand_distr::Normal::new(0.0, deviation).ok().filter(|_| deviation >= 0.0).ok_or(Error::Domain {
                what: "standard deviation".to_string(),
                expected: "a finite number of at least 0",
                got: deviation.to_string(),
            })?;
        let theta: Vec<f64> = (0..plan.num_params()).map(|_| normal.sample(rng)).collect();
        Self::new(plan, theta)
    }

    /// Every trainable block drawn independently from the Haar measure of the rotations, or of the unitary matrices, or of the
    /// orthogonal matrices with determinant −1 where a chart reaches those instead: by QR of a Gaussian matrix with the signs
    /// of Mezzadri (2007, arXiv math-ph/0609050), then taken back to θ by the chart's inverse. The product is not Haar
    /// distributed.
    ///
    /// # Errors
    /// [`Error::Domain`] if a chart reaches none of 64 drawn blocks; [`Error::Unsupported`] for reflectors, whose products
    /// are not Haar distributed.
    pub fn random_haar(plan: Plan<T>, rng: &mut impl rand::Rng) -> Result<Self> {
        let mut theta = vec![0.0; plan.num_params()];
        for stage in plan.stages() {
            let chart = match stage.source() {
                Source::Chart { chart, .. } => chart,
                Source::Fixed(_) => continue,
                Source::Reflectors { .. } => {
                    return Err(Error::Unsupported {
                        what: "Haar distributed blocks",
                        expected: "charts",
                        got: "reflectors, whose random_normal vectors give reflections in uniform directions"
                            .to_string(),
                    });
                }
            };
            let b = stage.layout().block_size();
            let params = stage.theta().len() / stage.num_groups().max(1);
            let mut block = vec![<T::Wide as num_traits::Zero>::zero(); stage.matrix_len()];
            for group in 0..stage.num_groups() {
                let start = stage.theta().start + group * params;
                let theta = &mut theta[start..start + params];
                let mut result = Ok(());
                for _ in 0..64 {
                    let mut normal = || rand_distr::StandardNormal.sample(rng);
                    for x in &mut block {
                        let re = normal();
                        *x = T::Wide::from_parts(re, if T::IS_COMPLEX { normal() } else { 0.0 });
                    }
                    dense::haar_rotation(b, &mut block);
                    result = chart.inverse(b, &block, theta);
                    if result.is_err() && !chart.starts_at_identity() {
                        // Of determinant −1, distributed likewise.
                        block[..b].iter_mut().for_each(|x| *x = -*x);
                        result = chart.inverse(b, &block, theta);
                    }
                    if result.is_ok() {
                        break;
                    }
                }
                result?;
            }
        }
        Self::new(plan, theta)
    }
}
