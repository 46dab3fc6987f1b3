//! Strategies of proptest for charts, wirings, plans and parameters, for property tests of crates that build on papilio.
//!
//! Sizes stay small and come with the awkward ones: 1, odd, prime, blocks that leave coordinates out. Failing cases shrink
//! towards few coordinates, few stages and θ = 0.
//!
//! ```
//! use papilio::verify::{certificate, strategies};
//! use proptest::prelude::*;
//!
//! proptest!(|((plan, theta) in strategies::plan_and_theta::<f32>())| {
//!     let factors = plan.realize(&theta).unwrap();
//!     prop_assert!(certificate(&plan, &factors).unwrap().defect < 1e-5);
//! });
//! ```

use alloc::sync::Arc;
use alloc::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::*;

use super::sample::scalars;
use crate::dense::polish;
use crate::generator::Generator;
use crate::layout::{Sharing, StageLayout};
use crate::parametrization::{Charts, Parametrization};
use crate::plan::{Plan, Source};
use crate::scalar::{Scalar, Wide};
use crate::topology::{BlockDiagonal, Butterfly, Explicit, Topology};

/// A size and a wiring that fits it: block-diagonal, butterflies of any radix, BOFT, random tables.
pub fn topology() -> impl Strategy<Value = (usize, Arc<dyn Topology>)> {
    fn shared(n: usize, topology: impl Topology + 'static) -> (usize, Arc<dyn Topology>) {
        (n, Arc::new(topology))
    }
    prop_oneof![
        (1..=9usize, 1..=5usize).prop_map(|(b, count)| shared(b * count, BlockDiagonal::new(b))),
        (2..=5usize, 0..=3u32).prop_map(|(radix, m)| shared(radix.pow(m), Butterfly::classic(radix))),
        (1..=3usize, 2..=3usize, 0..=3usize, 1..=3usize).prop_map(|(unit, radix, m, copies)| {
            let n = unit * radix.pow(m as u32) * copies;
            shared(n, Butterfly { unit, radix, stages: Some(m) })
        }),
        tables().prop_map(|(n, layouts)| shared(n, Explicit::from_layouts(n, layouts).expect("tables are disjoint"))),
    ]
}

/// A size, prime or not, and up to four stages of random tables that leave coordinates out.
fn tables() -> impl Strategy<Value = (usize, Vec<StageLayout>)> {
    (1..=23usize).prop_flat_map(|n| (Just(n), vec(table(n), 0..=4)))
}

fn table(n: usize) -> impl Strategy<Value = StageLayout> {
    let order = Just((0..n as u32).collect::<Vec<u32>>()).prop_shuffle();
    (1..=n.min(6), order).prop_flat_map(move |(block, order)| {
        (0..=n / block).prop_map(move |count| StageLayout::Table { block, index: Arc::from(&order[..count * block]) })
    })
}

/// An exact chart of this crate that has blocks of size `b` ≥ 1.
///
/// # Panics
/// If b = 0, of which there are no blocks.
pub fn chart<W: Wide>(b: usize) -> impl Strategy<Value = Arc<dyn Parametrization<W>>> {
    let charts = Charts::<W>::new();
    let fits = |chart: &&Arc<dyn Parametrization<W>>| chart.is_exact() && chart.num_params(b).is_ok();
    proptest::sample::select(charts.iter().filter(fits).cloned().collect::<Vec<_>>())
}

/// `count` orthogonal or unitary blocks of size `b`, row-major: I − 2vvᴴ/(vᴴv) with random v, its rows times random numbers of
/// modulus 1.
pub fn blocks<W: Wide>(b: usize, count: usize) -> impl Strategy<Value = Vec<W>> {
    any::<u64>().prop_map(move |seed| {
        let mut g = Generator::new(seed);
        (0..count).flat_map(|_| reflection(b, &mut g)).collect()
    })
}

fn reflection<W: Wide>(b: usize, g: &mut Generator) -> Vec<W> {
    let (v, turns): (Vec<W>, Vec<W>) = (scalars(g, b), scalars(g, b));
    let square: f64 = v.iter().map(|v| v.abs() * v.abs()).sum();
    let entry = |i: usize, k: usize| {
        let one = if i == k { W::one() } else { W::zero() };
        (one - v[i] * v[k].conj() * W::from_real(2.0 / square)) * turns[i] * W::from_real(1.0 / turns[i].abs())
    };
    let mut block: Vec<W> = (0..b * b).map(|at| entry(at / b, at % b)).collect();
    polish(b, &mut block).expect("a reflection is orthogonal up to rounding");
    block
}

/// A plan of [`topology`], every stage with a chart that fits it or reflections, parameters per block or shared, or with
/// fixed [`blocks`].
pub fn plan<T: Scalar>() -> impl Strategy<Value = Plan<T>> {
    topology().prop_flat_map(|(n, topology)| {
        let stages = topology.num_stages(n).expect("the strategy fits sizes to topologies");
        let layouts: Vec<StageLayout> = (0..stages).map(|k| topology.stage(n, k)).collect();
        let sources: Vec<_> =
            layouts.iter().map(|layout| source(layout.block_size(), layout.num_blocks()).boxed()).collect();
        (sources, any::<bool>()).prop_map(move |(sources, adjoint)| {
            let plan = Plan::from_stages(n, layouts.iter().cloned().zip(sources)).expect("charts fit block sizes");
            if adjoint { plan.adjoint() } else { plan }
        })
    })
}

fn source<T: Scalar>(b: usize, count: usize) -> impl Strategy<Value = Source<T>> {
    let sharing = prop_oneof![4 => Just(Sharing::PerBlock), 1 => Just(Sharing::All)];
    let reflectors = (0..=9usize, sharing.clone());
    prop_oneof![
        8 => (chart(b), sharing).prop_map(|(chart, sharing)| Source::Chart { chart, sharing }),
        1 => blocks(b, count).prop_map(|blocks| Source::Fixed(blocks.into())),
        1 => reflectors.prop_map(|(count, sharing)| Source::Reflectors { count, orthonormal: false, sharing }),
    ]
}

/// `len` parameters, all of one scale between 1e-6 and 1e3, or exactly zero.
pub fn theta(len: usize) -> impl Strategy<Value = Vec<f64>> {
    let scale = prop_oneof![1 => Just(0.0), 4 => Just(1.0), 4 => (-6.0..3.0f64).prop_map(|e| 10f64.powf(e))];
    (scale, vec(-1.0..1.0f64, len)).prop_map(|(scale, theta)| theta.into_iter().map(|t| t * scale).collect())
}

/// A [`plan`] with [`theta`] of its length.
pub fn plan_and_theta<T: Scalar>() -> impl Strategy<Value = (Plan<T>, Vec<f64>)> {
    plan::<T>().prop_flat_map(|plan| {
        let theta = theta(plan.num_params());
        (Just(plan), theta)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Op, Stage};
    use crate::scalar::{Real, c32};
    use crate::verify::{adjoint, certificate, isometry, laws};

    fn is_orthogonal<T: Scalar>(plan: &Plan<T>, theta: &[f64], seed: u64) -> Result<(), TestCaseError> {
        let factors = plan.realize(theta).unwrap();
        let proof = certificate(plan, &factors).unwrap();
        let stages = plan.num_stages() as f64;
        prop_assert!(proof.defect <= 2.0 * stages * T::Real::EPS.to_wide(), "{proof:?}");
        // One rounding for each reflection, too; the checks count stages.
        let reflections = |stage: &Stage<T>| stage.vectors().unwrap_or(0) as f64;
        let limit = 2.0 + plan.stages().iter().map(reflections).sum::<f64>();
        for op in Op::ALL {
            let found = isometry(plan, &factors, op, seed).unwrap();
            prop_assert!(found.norm <= limit && found.inner <= limit, "{found:?}");
        }
        let found = adjoint(plan, &factors, seed).unwrap();
        prop_assert!(found <= limit, "{found}");
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn topologies_are_lawful((n, topology) in topology()) {
            laws::topology(&*topology, [n])?;
        }

        #[test]
        fn plans_are_orthogonal((plan, theta) in plan_and_theta::<f32>(), seed: u64) {
            is_orthogonal(&plan, &theta, seed)?;
        }

        #[test]
        fn complex_plans_are_unitary((plan, theta) in plan_and_theta::<c32>(), seed: u64) {
            is_orthogonal(&plan, &theta, seed)?;
        }
    }
}
