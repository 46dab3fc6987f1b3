//! Tensors as slices and views, and back.
//!
//! A tensor `[…, n]` is a batch of vectors along its last dimension. If the leading dimensions lie at one distance from each
//! other, as those of contiguous, transposed, narrowed and broadcast tensors do, it is read where it lies; else candle
//! makes a contiguous copy.

use std::borrow::Cow;
use std::vec::Vec;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, DType, Device, Layout, Result, Storage, Tensor, WithDType};

use super::{check_device, door, tensor};
use crate::batch::Batch;
use crate::error::{Error, check_length};
use crate::scalar::{Element, Real, Scalar};

/// What tensors hold that papilio can rotate.
pub(super) trait Number: WithDType + Element<Scalar: Real> {
    /// |s| below which y = s·p may have lost digits of p.
    const LEAST_SCALE: f64;
}

impl Number for f32 {
    const LEAST_SCALE: f64 = 1e-15;
}
impl Number for f64 {
    const LEAST_SCALE: f64 = 1e-150;
}
impl Number for half::bf16 {
    const LEAST_SCALE: f64 = 1e-15;
}
impl Number for half::f16 {
    const LEAST_SCALE: f64 = 0.05;
}

/// The vectors of a tensor.
pub(super) struct Vectors<'a, E: Clone> {
    numbers: Cow<'a, [E]>,
    batch: usize,
    n: usize,
    /// From vector to vector, and from number to number.
    strides: (usize, usize),
}

impl<'a, E: Number> Vectors<'a, E> {
    /// Those of a stored tensor, which must be of length n.
    pub(super) fn new(what: &'static str, storage: &'a CpuStorage, layout: &Layout, n: usize) -> Result<Self> {
        let Some((&last, leading)) = layout.dims().split_last() else {
            let (expected, got) = (std::format!("[…, {n}]"), "a scalar".into());
            return door(Err(Error::Size { what, expected, got }));
        };
        door(check_length(what, n, last))?;
        let numbers = storage.as_slice::<E>()?;
        let batch = leading.iter().product();
        if batch * n == 0 {
            return Ok(Self { numbers: Cow::Borrowed(&[]), batch, n, strides: (n, 1) });
        }
        Ok(match distance(layout) {
            Some(strides) => {
                let numbers = Cow::Borrowed(numbers.get(layout.start_offset()..).unwrap_or_default());
                Self { numbers, batch, n, strides }
            }
            None => Self { numbers: Cow::Owned(gathered::<E>(storage, layout)?), batch, n, strides: (n, 1) },
        })
    }

    pub(super) fn view(&self) -> crate::Result<Batch<'_, E>> {
        Batch::strided(&self.numbers, self.batch, self.n, self.strides.0, self.strides.1)
    }

    pub(super) fn batch(&self) -> usize {
        self.batch
    }
}

/// The strides of a batch, if all leading dimensions together have one.
fn distance(layout: &Layout) -> Option<(usize, usize)> {
    let (dims, strides) = (layout.dims(), layout.stride());
    let (&each, strides) = strides.split_last()?;
    let mut leading = dims.iter().zip(strides).rev().filter(|(dim, _)| **dim > 1); // the zip ends before the last one
    let Some((&inner, &first)) = leading.next() else { return Some((dims[dims.len() - 1], each)) };
    let mut span = first * inner;
    for (&dim, &stride) in leading {
        if stride != span {
            return None;
        }
        span *= dim;
    }
    Some((first, each))
}

/// A contiguous copy.
fn gathered<E: Number>(storage: &CpuStorage, layout: &Layout) -> Result<Vec<E>> {
    let zeros: Vec<E> = std::vec![E::default(); layout.shape().elem_count()];
    let mut copy = E::to_cpu_storage_owned(zeros);
    storage.copy_strided_src(&mut copy, 0, layout)?;
    E::cpu_storage_data(copy)
}

/// The numbers of a small tensor: parameters, scales, biases.
pub(super) fn wide(storage: &CpuStorage, layout: &Layout) -> Result<Vec<f64>> {
    fn read<E: Number>(storage: &CpuStorage, layout: &Layout) -> Result<Vec<f64>> {
        let widen = |slice: &[E]| slice.iter().map(|x| x.load().to_wide()).collect();
        match layout.contiguous_offsets() {
            Some((from, to)) => Ok(widen(&storage.as_slice::<E>()?[from..to])),
            None => Ok(widen(&gathered::<E>(storage, layout)?)),
        }
    }
    match storage.dtype() {
        DType::F32 => read::<f32>(storage, layout),
        DType::F64 => read::<f64>(storage, layout),
        DType::BF16 => read::<half::bf16>(storage, layout),
        DType::F16 => read::<half::f16>(storage, layout),
        other => Err(not_float(other)),
    }
}

pub(super) fn not_float(dtype: DType) -> candle_core::Error {
    candle_core::Error::wrap(Error::Unsupported {
        what: "numbers of a tensor",
        expected: "F32, F64, BF16 or F16",
        got: std::format!("{dtype:?}"),
    })
}

/// The numbers of a tensor of any device, copied from there: for what is asked for on the host, and never on the way of a step.
pub(super) fn host(tensor: &Tensor) -> Result<Vec<f64>> {
    wide_tensor(&tensor.to_device(&Device::Cpu)?)
}

/// The same of a tensor.
pub(super) fn wide_tensor(tensor: &Tensor) -> Result<Vec<f64>> {
    on_cpu(tensor, wide)
}

/// Rounds once.
pub(super) fn narrowed<E: Number>(numbers: &[f64]) -> Vec<E> {
    numbers.iter().map(|x| E::store(E::Scalar::from_wide(*x))).collect()
}

/// A new tensor of the type and shape of another one.
pub(super) fn like(model: &Tensor, numbers: &[f64]) -> Result<Tensor> {
    match model.dtype() {
        DType::F64 => tensor(numbers.to_vec(), model.dims()),
        DType::BF16 => tensor(narrowed::<half::bf16>(numbers), model.dims()),
        DType::F16 => tensor(narrowed::<half::f16>(numbers), model.dims()),
        _ => tensor(narrowed::<f32>(numbers), model.dims()),
    }
}

/// What a tensor holds, if it is on the CPU.
pub(super) fn on_cpu<R>(tensor: &Tensor, work: impl FnOnce(&CpuStorage, &Layout) -> Result<R>) -> Result<R> {
    check_device(tensor)?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => work(storage, layout),
        _ => Err(candle_core::Error::msg("a tensor of the CPU is stored elsewhere")),
    }
}
