//! The kernels that a plan has launched before.

use std::sync::{PoisonError, RwLock};
use std::vec::Vec;

use cudarc::driver::CudaFunction;

use super::call::{Call, Kernel};
use super::device::Device;
use crate::error::Result;

/// The loaded kernels of one plan, of which there are few: a launch of one of them needs no text, neither to make it
/// nor to compare it.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    kernels: RwLock<Vec<(Kernel, CudaFunction)>>,
}

impl Loaded {
    /// The kernel of a call of this plan, ready to be launched.
    pub(super) fn function(&self, device: &Device, call: &Call<'_>) -> Result<CudaFunction> {
        let kernels = self.kernels.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, function)) = kernels.iter().find(|(kernel, _)| *kernel == call.kernel) {
            return Ok(function.clone());
        }
        drop(kernels); // others launch, and compile, meanwhile
        let function = device.function(call)?;
        let mut kernels = self.kernels.write().unwrap_or_else(PoisonError::into_inner);
        if kernels.iter().all(|(kernel, _)| *kernel != call.kernel) {
            kernels.push((call.kernel, function.clone()));
        }
        Ok(function)
    }
}
