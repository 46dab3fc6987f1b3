//! Tensors of Flex as views, and numbers as tensors.
//!
//! A tensor `[…, n]` is a batch of vectors along its last dimension. If the leading dimensions lie at one distance from each
//! other, as those of contiguous, transposed, narrowed and expanded tensors do, it is read where it lies; else Flex makes a
//! contiguous copy.

use burn::backend::{Flex, TensorMetadata, tensor::FloatTensor};
use burn::tensor::{DType, Device, Tensor, TensorData};
use papilio::{Batch, Element, Error, Real, Result};

/// Flex's tensors.
pub(crate) type FlexTensor = FloatTensor<Flex>;

/// What tensors hold that papilio can rotate.
pub(crate) trait Number: Element<Scalar: Real> + burn::tensor::Element + bytemuck::Pod {}

impl Number for f32 {}
impl Number for f64 {}
impl Number for half::bf16 {}
impl Number for half::f16 {}

/// The vectors of a tensor.
pub(crate) struct Vectors {
    tensor: FlexTensor,
    batch: usize,
    n: usize,
    start: usize,
    /// From vector to vector, and from number to number.
    strides: (usize, usize),
}

impl Vectors {
    /// Those of a tensor whose last dimension is n.
    pub(crate) fn new(tensor: FlexTensor, n: usize) -> Self {
        let shape = tensor.shape();
        let batch = shape.iter().rev().skip(1).product();
        match distance(&tensor) {
            Some(strides) => Self { start: tensor.layout().start_offset(), tensor, batch, n, strides },
            None => {
                let tensor = tensor.to_contiguous();
                Self { start: tensor.layout().start_offset(), tensor, batch, n, strides: (n, 1) }
            }
        }
    }

    pub(crate) fn view<E: Number>(&self) -> Result<Batch<'_, E>> {
        let numbers = if self.batch * self.n == 0 { &[] } else { &self.tensor.storage::<E>()[self.start..] };
        Batch::strided(numbers, self.batch, self.n, self.strides.0, self.strides.1)
    }

    pub(crate) fn len(&self) -> usize {
        self.batch * self.n
    }
}

/// The strides of a batch, if all leading dimensions together have one and none runs backwards.
fn distance(tensor: &FlexTensor) -> Option<(usize, usize)> {
    let (shape, strides) = (tensor.shape(), tensor.layout().strides());
    let strides: Vec<usize> = strides.iter().map(|s| usize::try_from(*s).ok()).collect::<Option<_>>()?;
    let (&each, strides) = strides.split_last()?;
    let mut leading = shape.iter().zip(strides).rev().filter(|(dim, _)| **dim > 1); // the zip ends before the last one
    let Some((&inner, &first)) = leading.next() else { return Some((*shape.last()?, each)) };
    let mut span = first * inner;
    for (&dim, &stride) in leading {
        if stride != span {
            return None;
        }
        span *= dim;
    }
    Some((first, each))
}

/// The numbers of a small tensor of Flex.
pub(crate) fn wide_flex(tensor: FlexTensor) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// The numbers of a tensor anywhere.
pub(crate) fn wide<const D: usize>(tensor: &Tensor<D>) -> Result<Vec<f64>> {
    check_float("numbers of a tensor", tensor.dtype())?;
    let data = tensor.try_to_data().map_err(|e| Error::Domain {
        what: "numbers of a tensor".into(),
        expected: "a device that can be read from",
        got: e.to_string(),
    })?;
    Ok(data.iter::<f64>().collect())
}

/// That a type is one of the four.
pub(crate) fn check_float(what: &'static str, dtype: DType) -> Result<()> {
    match dtype {
        DType::F32 | DType::F64 | DType::BF16 | DType::F16 => Ok(()),
        other => Err(Error::Unsupported { what, expected: "F32, F64, BF16 or F16", got: format!("{other:?}") }),
    }
}

/// Numbers in a type, rounded once.
pub(crate) fn data(numbers: Vec<f64>, shape: &[usize], dtype: DType) -> TensorData {
    fn narrowed<E: Number>(numbers: &[f64], shape: &[usize]) -> TensorData {
        use papilio::Scalar;
        let numbers: Vec<E> = numbers.iter().map(|x| E::store(E::Scalar::from_wide(*x))).collect();
        TensorData::new(numbers, shape.to_vec())
    }
    match dtype {
        DType::F64 => TensorData::new(numbers, shape.to_vec()),
        DType::BF16 => narrowed::<half::bf16>(&numbers, shape),
        DType::F16 => narrowed::<half::f16>(&numbers, shape),
        _ => narrowed::<f32>(&numbers, shape),
    }
}

/// A new tensor.
pub(crate) fn tensor<const D: usize>(numbers: Vec<f64>, shape: [usize; D], dtype: DType, device: &Device) -> Tensor<D> {
    Tensor::from_data(data(numbers, &shape, dtype), (device, dtype))
}
