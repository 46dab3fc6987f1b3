//! The pool that the driver takes a device's buffers from.

#![allow(unsafe_code)] // what is not Rust: device memory, kernels, libraries

use core::ffi::c_void;

use cudarc::driver::sys::{CUmemPool_attribute as Attribute, CUmemoryPool};
use cudarc::driver::{CudaContext, DriverError, result};

use super::device::Stream;
use super::driver::failed;
use crate::error::{Error, Result};

/// Memory that was given back stays in the pool, for the next step. Otherwise the driver would take all of it at every
/// synchronisation. A driver without pools goes on without.
pub(super) fn keep(context: &CudaContext) {
    // What is kept is not needed for anything to be right.
    _ = of(context).map(|pool| write(pool, Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, u64::MAX));
}

impl Stream {
    /// Runs `work` and waits: the bytes that its buffers took at most at one time, beyond those that were there before.
    /// Buffers that other threads make meanwhile on the same device count, too.
    ///
    /// # Errors
    /// Those of `work`; [`Error::Device`], also for drivers that have no memory pools.
    pub fn peak_memory(&self, work: impl FnOnce() -> Result<()>) -> Result<u64> {
        let what = "memory pool";
        self.synchronize()?;
        let pool = of(self.stream.context()).ok_or_else(|| {
            let (expected, got) = ("a driver with memory pools".into(), "one without".into());
            Error::Device { what, expected, got }
        })?;
        let before = read(pool, Attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT).map_err(failed(what))?;
        write(pool, Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0).map_err(failed(what))?;
        work()?;
        self.synchronize()?;
        let most = read(pool, Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH).map_err(failed(what))?;
        Ok(most.saturating_sub(before))
    }
}

fn of(context: &CudaContext) -> Option<CUmemoryPool> {
    // SAFETY: the context's own device. A driver that says that it has pools has this function. What comes is the pool
    // that buffers are taken from, the default one unless the process has set another, which then lives as long as it
    // is that.
    context.has_async_alloc().then(|| unsafe { result::device::get_mem_pool(context.cu_device()) }.ok())?
}

/// One of the attributes that are 64 bits, which all that are used here are.
fn read(pool: CUmemoryPool, attribute: Attribute) -> core::result::Result<u64, DriverError> {
    let mut value = 0u64;
    // SAFETY: the device's pool (see `of`), and the attribute is a `cuuint64_t`.
    unsafe { result::mem_pool::get_attribute(pool, attribute, (&raw mut value).cast::<c_void>()) }?;
    Ok(value)
}

fn write(pool: CUmemoryPool, attribute: Attribute, mut value: u64) -> core::result::Result<(), DriverError> {
    // SAFETY: as above.
    unsafe { result::mem_pool::set_attribute(pool, attribute, (&raw mut value).cast::<c_void>()) }
}
