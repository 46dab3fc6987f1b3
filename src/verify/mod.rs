//! Numerical checks that users run on their own plans, charts and wirings; papilio's tests run the same functions.
//!
//! | question | answer |
//! |---|---|
//! | is this dense matrix orthogonal? | [`orthogonality_ratio`], [`orthogonality`] |
//! | how far from orthogonal can this plan's Q be? | [`certificate`]: a proof, in O(n·b²·m) |
//! | how far apart are two products of the same layouts? | [`distance`], a proof as well |
//! | does `apply` keep lengths and angles; is `Op::Adjoint` the adjoint? | [`isometry`], [`adjoint`] |
//! | are the gradients right? | [`chart_gradient`], [`plan_gradient`]; [`plan_tangent`] for directional derivatives |
//! | does my chart or topology keep its promises? | [`laws`] |
//! | does a rotated weight keep its neurons' angles and energy? | [`neurons`](neurons()) |
//! | what is Q, without any cleverness? | [`dense`] |
//! | how do I write property tests over plans? | `strategies` (feature `proptest`) |
//!
//! Figures are dimensionless: errors in units of eps = 2u (2⁻⁵² or 2⁻²³) times the size of the problem, LAPACK's way.

mod adjoint;
mod certificate;
pub mod dense;
mod distance;
mod gradient;
mod gram;
mod isometry;
pub mod laws;
mod neurons;
mod outward;
mod panels;
mod ratio;
mod reflected;
mod sample;
mod spectrum;
#[cfg(feature = "proptest")]
#[cfg_attr(docsrs, doc(cfg(feature = "proptest")))]
pub mod strategies;
mod tangent;

pub use adjoint::adjoint;
pub use certificate::{Certificate, certificate};
pub use distance::{Distance, distance, distance_from_identity};
pub use gradient::{PlanGradient, chart_gradient, plan_gradient};
pub use isometry::{Isometry, isometry};
pub use laws::LawViolation;
pub use neurons::{NeuronOptions, Neurons, neurons};
pub use ratio::{Orthogonality, orthogonality, orthogonality_ratio};
pub use tangent::plan_tangent;
