//! Run-time choice of the instruction set.

/// Scalars that have SIMD vectors. Sealed through [`Scalar`](crate::Scalar).
pub trait Vectorize {}
impl Vectorize for f32 {}
impl Vectorize for f64 {}
