//! The verbs on GPUs of NVIDIA.
//!
//! Nothing of CUDA is needed to build this: the driver, NVRTC and cuBLAS are loaded when a [`Device`] is opened, and
//! where they or a GPU are missing that is an [`Error::Device`](crate::Error::Device). Kernels are compiled for the
//! plan and the device when they are first used.
//!
//! ```
//! use papilio::cuda::{Batch, BatchMut, Device, DevicePlan};
//! use papilio::{Op, Plan, parametrization::Cayley, topology::Butterfly};
//!
//! # fn main() -> Result<(), papilio::Error> {
//! let device = match Device::open(0) {
//!     Ok(device) => device,
//!     Err(missing) => return Ok(println!("no GPU here: {missing}")),
//! };
//! let stream = device.default_stream();
//! let plan = Plan::<f32>::new(1024, &Butterfly::boft(4, 8)?, Cayley)?;
//! let on_device = DevicePlan::new(&stream, &plan)?;
//!
//! let theta = stream.upload(&vec![0.1f32; plan.num_params()])?;
//! let factors = on_device.realize(&theta)?;
//! let (x, mut y) = (stream.upload(&vec![1.0f32; 3 * 1024])?, stream.zeros::<f32>(3 * 1024)?);
//! on_device.apply(&factors, Batch::rows(&x, 1024)?, BatchMut::rows(&mut y, 1024)?, Op::None)?;
//! println!("{:?}", &y.download()?[..4]);
//! # Ok(())
//! # }
//! ```
//!
//! A [`DevicePlan`] computes what [`Plan`](crate::Plan) does over `f32`, for vectors stored as `f32`, `half::bf16` or
//! `half::f16`: [`apply`](DevicePlan::apply) the same bits as a CPU that fuses multiplications and additions (but in half
//! precision for blocks of 16, 32, 48 and 64, of which tensor cores leave out 2⁻¹⁶ of the result, and for plans of
//! rotations of two coordinates alone, whose cosines and sines are the device's fast ones); gradients with sums over the
//! batch in an order of their own, which the shape of the batch and the device decide, and in half precision for blocks of
//! 16, 32, 48 and 64 from tensor cores likewise.
//! Complex plans, `f64` and products of reflectors stay on the host.
//!
//! A framework's tensors need no copy: [`Stream::borrow`] takes a device address, [`Device::stream_from_raw`] a stream.
//!
//! How the kernels work, and what has been run on which GPU, is in `docs/cuda.md`.

mod blas;
mod blocks;
mod buffer;
mod call;
mod chain;
mod device;
mod direct;
mod driver;
#[cfg(test)]
mod emulation;
mod estimate;
mod gradients;
mod loaded;
mod plan;
mod pool;
mod program;
mod random;
mod schedule;
mod tables;
#[cfg(test)]
mod tests;
mod tile;
mod verbs;
mod windows;

pub use blas::{Dense, Precision, linear};
pub use buffer::{Batch, BatchMut, Buffer, Number};
pub use device::{Device, Stream};
pub use estimate::Estimate;
pub use plan::{DeviceFactors, DevicePlan, Saved};
pub use random::DeviceRotation;
pub use tile::Tuning;
