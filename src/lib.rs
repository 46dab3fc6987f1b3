//! placeholder crate doc
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

pub mod dense;
mod error;
pub mod parametrization;
mod scalar;
mod simd;
pub mod topology;

pub use error::{Error, Result};
pub use parametrization::Parametrization;
pub use scalar::{Element, Real, Scalar, Wide};
pub use topology::{StageLayout, Topology};
