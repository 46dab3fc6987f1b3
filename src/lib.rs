//! placeholder crate doc
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

#[cfg(feature = "files")]
pub mod adapter;
mod batch;
pub mod dense;
mod error;
pub mod generator;
mod kernel;
mod layout;
mod orthogonal;
mod parallel;
pub mod parametrization;
mod plan;
mod scalar;
mod simd;
pub mod topology;
pub mod verify;

pub use batch::{Batch, BatchMut};
pub use error::{Error, Result};
pub use layout::StageLayout;
pub use orthogonal::Orthogonal;
pub use parallel::Parallelism;
pub use parametrization::Parametrization;
pub use plan::{Factors, Op, Plan, Saved, Sharing, Source, Stage, Workspace};
pub use scalar::{Element, Real, Scalar, Wide};
pub use simd::Isa;
pub use topology::Topology;
