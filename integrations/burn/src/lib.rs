#![doc = include_str!("../README.md")]
//!
//! # Where things are
//! [`apply`] is op(Q) x over the last dimension of any tensor, differentiable in x and θ. [`OrthogonalLinear`],
//! [`OrthogonalConv2d`] and [`OrthogonalEmbedding`] are frozen layers behind a [`Rotation`] that is trained.
//! [`Rotations`] attaches rotations to the weights of any module through burn's own
//! [`Reparameterization`](burn::module::Reparameterization). [`save`] and [`load`] are PEFT's files.
//!
//! * **Numbers**: `F32`, `BF16` and `F16` are computed in `f32`, `F64` in `f64`. On Flex, blocks are found in `f64`, whatever θ is
//!   stored in. Any leading dimensions, any strides. Other types are errors; nothing is cast silently.
//! * **Memory**: between forward and backward the graph keeps x and θ of a rotation, and nothing else: blocks are found again. BOFT's
//!   scale is burn's own product, which keeps the result of the layer for the gradient of s.
//! * **Devices**: a fused operation on Flex, burn's backend for CPUs; elsewhere the same by [tensor operations](operations).
//! * **Errors** are papilio's. `forward` of a layer panics with their text, as burn's own layers do; `try_forward` gives them back.

mod conv;
mod embedding;
mod files;
mod linear;
mod method;
mod number;
pub mod operations;
mod reparameterize;
mod rotate;
mod rotation;

pub use conv::{OrthogonalConv2d, OrthogonalConv2dConfig};
pub use embedding::{OrthogonalEmbedding, OrthogonalEmbeddingConfig};
pub use files::{load, save};
pub use linear::{OrthogonalLinear, OrthogonalLinearConfig};
pub use method::Method;
pub use papilio;
pub use reparameterize::Rotations;
pub use rotate::{RealPlan, apply};
pub use rotation::Rotation;
