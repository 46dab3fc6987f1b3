//! CUDA.
mod blocks;
mod buffer;
mod call;
mod device;
mod driver;
#[cfg(test)]
mod emulation;
mod plan;
mod program;
mod schedule;
#[cfg(test)]
mod tests;
mod verbs;

pub use buffer::{Batch, BatchMut, Buffer, Number};
pub use device::{Device, Stream};
pub use plan::{DeviceFactors, DevicePlan, Saved};
