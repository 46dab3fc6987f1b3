//! Dense products by cuBLAS: a rotation as a matrix, and weights that rotations were merged into.

#![allow(unsafe_code)] // what is not Rust: device memory, kernels, libraries

use core::ffi::c_void;
use std::format;
use std::sync::Arc;

use cudarc::cublas::{result, sys};
use cudarc::driver::CudaStream;

use super::buffer::{Batch, BatchMut, Buffer, Number, stored};
use super::driver::{self, Library};
use super::program::Stored;
use crate::error::{Error, Result, check_length};
use crate::plan::Op;

/// What products of `f32` are computed with. Those of half precision are exact, and all sums are `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// TF32: tensor cores, which read the first ten bits of a mantissa. Nothing else for half precision.
    Tf32,
}

/// cuBLAS on a stream. (cudarc's own panics where the driver fails at its end.)
#[derive(Debug)]
pub(super) struct Handle {
    raw: sys::cublasHandle_t,
    stream: Arc<CudaStream>,
}

// SAFETY: cuBLAS may be called by several threads with the same handle; its settings stay what `new` made them.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Handle {
    /// For the device that is bound to this thread, which is the stream's.
    pub(super) fn new(stream: &Arc<CudaStream>) -> Result<Self> {
        driver::check(Library::Blas)?;
        let handle = Self { raw: result::create_handle().map_err(failed)?, stream: stream.clone() };
        // SAFETY: both live as long as `handle`.
        unsafe { result::set_stream(handle.raw, stream.cu_stream().cast()) }.map_err(failed)?;
        Ok(handle)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Whatever goes wrong at the end leaves nothing to be done.
        _ = self.stream.context().bind_to_thread();
        // SAFETY: made by `new`, and nobody has it any more.
        _ = unsafe { result::destroy_handle(self.raw) };
    }
}

fn failed(error: result::CublasError) -> Error {
    Error::Device { what: "cuBLAS", expected: "success".into(), got: format!("{error:?}") }
}

/// A rotation as an n×n matrix on the device.
#[derive(Debug)]
pub struct Dense<E> {
    pub(super) n: usize,
    /// Column by column.
    pub(super) columns: Buffer<E>,
}

impl<E: Number> Dense<E> {
    /// Length of the vectors.
    pub fn n(&self) -> usize {
        self.n
    }

    /// The matrix, column by column.
    pub fn columns(&self) -> &Buffer<E> {
        &self.columns
    }

    /// y ← op(Q) x for every vector, by one product.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Overlap`] where x and y share memory, [`Error::Unsupported`] for buffers of another
    /// stream, [`Error::Device`] without cuBLAS.
    pub fn apply(&self, x: Batch<'_, E>, y: BatchMut<'_, E>, op: Op, precision: Precision) -> Result<()> {
        let columns = Batch::rows(&self.columns, self.n)?;
        let transposed = matches!(op, Op::Adjoint | Op::Transpose);
        product(columns, transposed, self.n, x, y, precision)
    }
}

/// y ← W x for every vector: x has `in`, y `out` coordinates, and `weight` is `out` rows of `in`: a layer whose weight
/// a rotation was merged into. ([`apply_in_place`](super::DevicePlan::apply_in_place) on the rows of W merges: W' =
/// W·Qᵀ.)
///
/// # Errors
/// As [`Dense::apply`].
pub fn linear<E: Number>(
    weight: Batch<'_, E>,
    x: Batch<'_, E>,
    y: BatchMut<'_, E>,
    precision: Precision,
) -> Result<()> {
    let out = weight.batch();
    product(weight, true, out, x, y, precision)
}

/// y ← Mᵀ x (`transposed`) or M x, where the rows given are the columns of M.
fn product<E: Number>(
    matrix: Batch<'_, E>,
    transposed: bool,
    out: usize,
    x: Batch<'_, E>,
    y: BatchMut<'_, E>,
    precision: Precision,
) -> Result<()> {
    let y = y.as_batch();
    let inner = if transposed { matrix.n() } else { matrix.batch() };
    check_length("length n of x", inner, x.n())?;
    check_length("length n of y", out, y.n())?;
    check_length("batch of y", x.batch(), y.batch())?;
    x.check_apart("x and y", &y, false)?;
    matrix.check_apart("matrix and y", &y, false)?;
    let stream = x.stream();
    stream.check_same("y", y.stream())?;
    stream.check_same("matrix", matrix.stream())?;
    let size = |what, x: usize| {
        let wrong = || Error::Size { what, expected: "less than 2^31".into(), got: format!("{x}") };
        i32::try_from(x).map_err(|_| wrong())
    };
    // cuBLAS wants a distance of at least the length, also of one row and of a row that is repeated.
    for rows in [&matrix, &x] {
        if rows.stride() < rows.n() && rows.batch() > 1 {
            let (what, expected) = ("rows of a dense product", "rows that do not overlap");
            return Err(Error::Overlap {
                what,
                expected,
                got: format!("n = {}, one every {}", rows.n(), rows.stride()),
            });
        }
    }
    let distance = |rows: &Batch<'_, E>| size("distance of rows", rows.stride().max(rows.n()));
    let (m, k, batch) =
        (size("rows of a matrix", out)?, size("columns of a matrix", inner)?, size("batch", x.batch())?);
    let (ld_matrix, ld_x, ld_y) = (distance(&matrix)?, distance(&x)?, distance(&y)?);
    if x.batch() == 0 || out == 0 {
        return Ok(());
    }
    let kind = match stored::<E>() {
        Stored::F32 => sys::cudaDataType::CUDA_R_32F,
        Stored::Bf16 => sys::cudaDataType::CUDA_R_16BF,
        Stored::F16 => sys::cudaDataType::CUDA_R_16F,
    };
    let compute = match (stored::<E>(), precision) {
        (Stored::F32, Precision::Tf32) => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
        _ => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
    };
    let operation = if transposed { sys::cublasOperation_t::CUBLAS_OP_T } else { sys::cublasOperation_t::CUBLAS_OP_N };
    let (one, zero) = (1.0f32, 0.0f32);
    let blas = stream.blas()?;
    // SAFETY: all three are device memory of the stream that the handle works on. Matrix and x are read, y is written,
    // at most as far as the views reach: m×k (or k×m) numbers with rows of the matrix as columns, k×batch, m×batch. The
    // factors are f32, as this type of computation wants them, and are read before the call returns.
    unsafe {
        result::gemm_ex(
            blas.raw,
            operation,
            sys::cublasOperation_t::CUBLAS_OP_N,
            m,
            batch,
            k,
            (&raw const one).cast::<c_void>(),
            matrix.address() as *const c_void,
            kind,
            ld_matrix,
            x.address() as *const c_void,
            kind,
            ld_x,
            (&raw const zero).cast::<c_void>(),
            y.address() as *mut c_void,
            kind,
            ld_y,
            compute,
            sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
        )
    }
    .map_err(failed)
}
