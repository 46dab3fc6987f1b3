//! Doors to other libraries, one file each, each behind the feature of its name. No type of theirs appears anywhere else.
//!
//! Through those of matrix libraries memory crosses as it lies there: their views become [`Batch`](crate::Batch) and
//! [`BatchMut`](crate::BatchMut) without a copy, whatever their strides. That to candle holds operations with gradients, and layers.

#[cfg(feature = "candle")]
pub mod candle;
#[cfg(feature = "faer")]
pub mod faer;
#[cfg(feature = "nalgebra")]
pub mod nalgebra;
#[cfg(feature = "ndarray")]
pub mod ndarray;
