//! Orthogonal layers for [candle](https://docs.rs/candle-core): a function, and adapters for the layers of `candle_nn`.
//!
//! [`apply`] is op(Q) x over the last dimension of any tensor, differentiable in x and θ. [`OrthogonalLinear`],
//! [`OrthogonalConv2d`] and [`OrthogonalEmbedding`] are frozen layers behind a rotation that is trained, with the names and
//! formats of PEFT, so that a `VarMap` of them, saved, is the `adapter_model.safetensors` that PEFT and
//! [`Adapter`](crate::adapter::Adapter) read.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::{Linear, Module, Optimizer, SGD, VarBuilder, VarMap};
//! use papilio::interop::candle::{Method, OrthogonalLinear};
//!
//! let weight = Tensor::randn(0f32, 1.0, (4, 8), &Device::Cpu)?;
//! let variables = VarMap::new();
//! let names = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu).pp("base_model.model.head");
//! let layer = OrthogonalLinear::new(Linear::new(weight, None), Method::Boft { factors: 2, block: 4 }, names)?;
//! let mut optimiser = SGD::new(variables.all_vars(), 0.1)?;
//! let (x, target) = (Tensor::randn(0f32, 1.0, (16, 8), &Device::Cpu)?, Tensor::zeros((16, 4), DType::F32, &Device::Cpu)?);
//! for _ in 0..3 {
//!     optimiser.backward_step(&candle_nn::loss::mse(&layer.forward(&x)?, &target)?)?;
//! }
//! assert!(layer.defect()? < 1e-6); // still a rotation, proved
//! let plain: Linear = layer.merge()?; // the same function without an adapter
//! # Ok::<(), candle_core::Error>(())
//! ```
//!
//! * **Numbers**: `F32`, `BF16` and `F16` are computed in `f32`, `F64` in `f64`; blocks are found in `f64`, whatever θ is stored
//!   in. Any leading dimensions, any strides.
//! * **Memory**: between forward and backward the graph keeps the arguments and nothing else. Blocks are found again from θ,
//!   which costs little, and kept ones would be memory that grows with the model; what happens inside the stages is computed
//!   again while it is in cache.
//! * **Devices**: on the CPU, papilio's kernels in operations of their own; elsewhere the same by candle's tensor operations
//!   ([`TensorRotation`]), for the charts that have such a form, and PEFT's are among them. What *Numbers* and *Memory* say of
//!   blocks is the CPU's. Nothing is copied from device to device but by `sides` and `defect`, which read what is trained.
//!   The tensor operations have been tested on the CPU alone.
//! * **Errors** are candle's, with papilio's text.
//!
//! Nothing but these files knows candle. Its versions stand in `Cargo.toml`; to move them, change both lines there and run
//! `tests/interop_candle`.

use candle_core::{Device, DeviceLocation, Error as CandleError, Result, Tensor};

use crate::error::Error;

mod conv;
mod embedding;
mod frozen;
mod linear;
mod method;
mod numbers;
mod rotate;
mod tensor_ops;

pub use conv::OrthogonalConv2d;
pub use embedding::OrthogonalEmbedding;
pub use linear::OrthogonalLinear;
pub use method::Method;
pub use rotate::{RealPlan, apply};
pub use tensor_ops::TensorRotation;

/// papilio's results as candle's.
fn door<T>(result: crate::Result<T>) -> Result<T> {
    result.map_err(CandleError::wrap)
}

/// That a tensor is where papilio's kernels can reach it.
fn check_device(tensor: &Tensor) -> Result<()> {
    check_same_device("device of a tensor", &Device::Cpu, tensor.device())
}

/// That something is on the device that it is needed on.
fn check_same_device(what: &'static str, expected: &Device, got: &Device) -> Result<()> {
    if got.same_device(expected) { Ok(()) } else { elsewhere(what, expected.location(), got.location()) }
}

fn elsewhere(what: &'static str, expected: DeviceLocation, got: DeviceLocation) -> Result<()> {
    let (expected, got) = (std::format!("{expected:?}, where the rest is"), std::format!("{got:?}"));
    door(Err(Error::Size { what, expected, got }))
}

/// All numbers of a new tensor on the CPU.
fn tensor<E: candle_core::WithDType>(numbers: std::vec::Vec<E>, dims: &[usize]) -> Result<Tensor> {
    Tensor::from_vec(numbers, dims, &Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn other_devices_are_named() {
        assert!(check_same_device("device of x", &Device::Cpu, &Device::Cpu).is_ok());
        for location in [DeviceLocation::Cuda { gpu_id: 1 }, DeviceLocation::Metal { gpu_id: 0 }] {
            let text = elsewhere("device of x", DeviceLocation::Cpu, location).unwrap_err().to_string();
            let want = std::format!("device of x: expected Cpu, where the rest is, got {location:?}");
            assert!(text.contains(&want), "{text}");
        }
    }
}
