//! A device, its streams, and launches.

#![allow(unsafe_code)] // what is not Rust: device memory, kernels, libraries

use core::ffi::c_void;
use std::collections::HashMap;
use std::format;
use std::string::{String, ToString};
use std::sync::{Arc, Mutex, PoisonError};
use std::vec::Vec;

use cudarc::driver::sys::{self, CUdevice_attribute as Attribute};
use cudarc::driver::{CudaContext, CudaFunction, CudaStream, result};
use cudarc::nvrtc::Ptx;

use super::blas::Handle;
use super::call::{Argument, Call};
use super::driver::{self, Library, failed};
use super::estimate::Speeds;
use super::loaded::Loaded;
use super::pool;
use super::program::Program;
use crate::error::{Error, Result};

/// One GPU: its context, and the kernels compiled for it. Cheap to clone; `Send + Sync`.
#[derive(Debug, Clone)]
pub struct Device {
    inner: Arc<Inner>,
}

struct Inner {
    context: Arc<CudaContext>,
    /// For instance "sm_90".
    architecture: String,
    /// Bytes of shared memory that a block of threads may have.
    shared: usize,
    multiprocessors: usize,
    speeds: Speeds,
    functions: Mutex<HashMap<Program, CudaFunction>>,
}

impl core::fmt::Debug for Inner {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Device").field("architecture", &self.architecture).finish_non_exhaustive()
    }
}

impl Device {
    /// Number of GPUs that the driver knows.
    ///
    /// # Errors
    /// [`Error::Device`] without a driver.
    pub fn count() -> Result<usize> {
        driver::check(Library::Driver)?;
        CudaContext::device_count().map(|count| count.max(0) as usize).map_err(failed("number of CUDA devices"))
    }

    /// The GPU with this number. Kernels are compiled when they are first used (a second or so each), and kept. Memory
    /// of buffers that were dropped stays with the process, in the driver's default pool of the device, and is used
    /// again.
    ///
    /// # Errors
    /// [`Error::Device`] without a driver, NVRTC or such a device, or for one older than compute capability 8.0.
    pub fn open(ordinal: usize) -> Result<Self> {
        driver::check(Library::Driver)?;
        driver::check(Library::Compiler)?;
        let what = "CUDA device";
        let context = CudaContext::new(ordinal).map_err(failed(what))?;
        let (major, minor) = context.compute_capability().map_err(failed(what))?;
        if major < 8 {
            let (expected, got) = ("compute capability 8.0 or newer".to_string(), format!("{major}.{minor}"));
            return Err(Error::Device { what, expected, got });
        }
        let attribute = |attribute| context.attribute(attribute).map(|x| x.max(0) as usize).map_err(failed(what));
        let shared = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
        let multiprocessors = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        // For the model only: an H100's where the driver does not tell.
        let or = |attribute: Result<usize>, other: usize| attribute.ok().filter(|x| *x > 0).unwrap_or(other) as f64;
        let kilohertz = or(attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE), 1_700_000);
        let memory = or(attribute(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE), 2_619_000);
        let bits = or(attribute(Attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH), 5120);
        let speeds = Speeds {
            // Two transfers in a cycle.
            memory: 2.0 * 1e3 * memory * bits / 8.0,
            cycles: 1e3 * kilohertz * multiprocessors as f64,
            tensor: if major >= 9 { 2048.0 } else { 1024.0 },
        };
        pool::keep(&context);
        // SAFETY: events would order streams that use the same buffer. Here a buffer is allocated, used and given back
        // by one stream, work of others on it is refused, and a framework's streams are ordered by the caller.
        unsafe { context.disable_event_tracking() };
        let architecture = format!("sm_{major}{minor}");
        let functions = Mutex::default();
        Ok(Self { inner: Arc::new(Inner { context, architecture, shared, multiprocessors, speeds, functions }) })
    }

    /// What the driver calls it.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub fn name(&self) -> Result<String> {
        self.inner.context.name().map_err(failed("CUDA device"))
    }

    /// Number of multiprocessors.
    pub fn multiprocessors(&self) -> usize {
        self.inner.multiprocessors
    }

    /// The default stream.
    pub fn default_stream(&self) -> Stream {
        self.stream(self.inner.context.default_stream())
    }

    /// A new stream.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub fn new_stream(&self) -> Result<Stream> {
        let stream = self.inner.context.new_stream().map_err(failed("CUDA stream"))?;
        Ok(self.stream(stream))
    }

    /// A framework's stream (a `CUstream` or `cudaStream_t`), which stays the framework's.
    ///
    /// # Safety
    /// `raw` is a stream of this device's primary context, the same one on every thread (not `CU_STREAM_PER_THREAD`), and lives until every stream, buffer and plan made through
    /// the value returned has been dropped.
    pub unsafe fn stream_from_raw(&self, raw: *mut c_void) -> Stream {
        // SAFETY: what is asked of the caller. Nothing is ordered with other streams, as documented there.
        let stream = unsafe { self.inner.context.wrap_borrowed_stream(raw.cast()) };
        self.stream(stream)
    }

    fn stream(&self, stream: Arc<CudaStream>) -> Stream {
        Stream { device: self.clone(), stream, blas: Arc::default() }
    }

    pub(super) fn speeds(&self) -> Speeds {
        self.inner.speeds
    }

    pub(super) fn shared(&self) -> usize {
        self.inner.shared
    }

    /// The compiled kernel. Threads compile side by side; two that want the same may both do so.
    pub(super) fn function(&self, call: &Call<'_>) -> Result<CudaFunction> {
        let program: &Program = &call.program;
        let functions = || self.inner.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions().get(program) {
            return Ok(function.clone());
        }
        let (image, _) = driver::compile(&program.source, &self.inner.architecture, &[])?;
        let module = self.inner.context.load_module(Ptx::from_binary(image)).map_err(failed("compiled kernel"))?;
        let function = module.load_function(program.kernel).map_err(failed("compiled kernel"))?;
        if call.shared > 48 << 10 {
            let most = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function.set_attribute(most, call.shared as i32).map_err(failed("compiled kernel"))?;
        }
        Ok(functions().entry(program.clone()).or_insert(function).clone())
    }
}

/// A queue of work on a device: calls return at once, and run in order. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stream {
    device: Device,
    pub(super) stream: Arc<CudaStream>,
    /// cuBLAS on this stream, once it has been asked for: it takes milliseconds to begin.
    blas: Arc<Mutex<Option<Arc<Handle>>>>,
}

impl Stream {
    /// Its device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Waits for everything on it.
    ///
    /// # Errors
    /// [`Error::Device`], of any call before.
    pub fn synchronize(&self) -> Result<()> {
        self.stream.synchronize().map_err(failed("CUDA stream"))
    }

    /// Runs `work` and waits: seconds on the device's own clock.
    ///
    /// # Errors
    /// Those of `work`; [`Error::Device`].
    pub fn time(&self, work: impl FnOnce() -> Result<()>) -> Result<f64> {
        let event =
            || self.stream.record_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT)).map_err(failed("CUDA event"));
        let start = event()?;
        work()?;
        let end = event()?;
        start.elapsed_ms(&end).map(|ms| f64::from(ms) / 1e3).map_err(failed("CUDA event"))
    }

    /// Makes the device the one that this thread's calls mean.
    pub(super) fn bind(&self) -> Result<()> {
        self.device.inner.context.bind_to_thread().map_err(failed("CUDA device"))
    }

    /// [`Error::Unsupported`] unless it is the same stream.
    pub(super) fn check_same(&self, what: &'static str, other: &Stream) -> Result<()> {
        let same = self.stream.cu_stream() == other.stream.cu_stream()
            && Arc::ptr_eq(&self.device.inner.context, &other.device.inner.context);
        if same {
            return Ok(());
        }
        Err(Error::Unsupported { what, expected: "buffers and plans of one stream", got: "another stream's".into() })
    }

    /// cuBLAS, for calls of this thread.
    pub(super) fn blas(&self) -> Result<Arc<Handle>> {
        self.bind()?;
        let mut blas = self.blas.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(blas) = &*blas {
            return Ok(blas.clone());
        }
        Ok(blas.insert(Arc::new(Handle::new(&self.stream)?)).clone())
    }

    /// Puts the call of a plan, whose kernels these are, into the queue.
    ///
    /// # Safety
    /// `pointer` gives for every name device memory of this device that is as long as the kernel makes use of, and that
    /// no other work writes to meanwhile.
    pub(super) unsafe fn launch(&self, loaded: &Loaded, call: &Call<'_>, pointer: impl Fn(&str) -> u64) -> Result<()> {
        let what = "kernel launch";
        let Ok(blocks) = i32::try_from(call.blocks) else {
            let (expected, got) = ("fewer than 2^31 blocks of threads".to_string(), format!("{}", call.blocks));
            return Err(Error::Size { what, expected, got });
        };
        let function = loaded.function(&self.device, call)?;
        self.bind()?;
        let mut values: Vec<u64> = call
            .arguments
            .iter()
            .map(|argument| match argument {
                Argument::Integer(x) => *x as u64,
                Argument::Nothing => 0,
                Argument::Buffer(name) => pointer(name),
            })
            .collect();
        let mut arguments: Vec<*mut c_void> = values.iter_mut().map(|x| (&raw mut *x).cast()).collect();
        let (grid, block) = ((blocks as u32, 1, 1), (call.threads as u32, 1, 1));
        // SAFETY: the function belongs to a module that it keeps itself. Every parameter of our kernels is eight bytes,
        // an integer or a pointer, and the launch copies them before it returns. Memory is what the caller vouches for.
        unsafe {
            let stream = self.stream.cu_stream();
            result::launch_kernel(function.cu_function(), grid, block, call.shared as u32, stream, &mut arguments)
        }
        .map_err(failed(what))
    }
}
