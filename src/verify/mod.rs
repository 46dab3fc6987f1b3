//! Numerical checks that users run on their own plans, charts and wirings; papilio's tests run the same functions.
#![allow(dead_code)]
mod double_double;
mod gram;
mod outward;
mod ratio;
mod spectrum;

pub use double_double::DoubleDouble;
pub use ratio::{Orthogonality, orthogonality, orthogonality_ratio};
