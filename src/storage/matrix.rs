//! A dense square matrix from a .npy or safetensors file.

use std::format;
use std::path::Path;
use std::string::String;
use std::vec::Vec;

use super::{Checkpoint, FloatType, NpyArray, file_error, is_npy, tensor_error, unravel};
use crate::error::Result;

/// A square matrix of finite numbers, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// The tensor's name; a .npy file has none.
    pub name: Option<String>,
    /// Rows and columns.
    pub n: usize,
    /// The type it was stored in, whose precision is what can be asked of it.
    pub kind: FloatType,
    /// Whether its entries are complex.
    pub is_complex: bool,
    /// n² numbers; of complex entries 2n², real part first.
    pub data: Vec<f64>,
}

impl Matrix {
    /// Reads a .npy file (`tensor` must be `None`), or a tensor of a safetensors file or model directory: the one
    /// named, or the only one with two equal dimensions.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) if there is no such tensor, or it is not square or not finite.
    pub fn read(path: &Path, tensor: Option<&str>) -> Result<Self> {
        if path.is_file() && is_npy(path) {
            if let Some(name) = tensor {
                return Err(tensor_error(path, name, "a file with named tensors", "a .npy file, which has no names"));
            }
            let NpyArray { shape, kind, is_complex, data } = NpyArray::read(path)?;
            let n = square(&shape).ok_or_else(|| file_error(path, SQUARE, format!("shape {shape:?}")))?;
            if let Some(i) = data.iter().position(|x| !x.is_finite()) {
                let place = unravel(if is_complex { i / 2 } else { i }, &shape);
                return Err(file_error(path, "finite numbers", format!("{} at {place:?}", data[i])));
            }
            return Ok(Self { name: None, n, kind, is_complex, data });
        }
        let model = Checkpoint::open(path)?;
        let squares: Vec<String> =
            model.tensors().filter(|t| square(&t.shape).is_some()).map(|t| t.name.clone()).collect();
        let name = match (tensor, &squares[..]) {
            (Some(name), _) => name,
            (None, [only]) => only,
            (None, []) => return Err(file_error(path, SQUARE, "no square tensor")),
            (None, [first, second, ..]) => {
                let got = format!("{} square tensors: `{first}`, `{second}` …", squares.len());
                return Err(file_error(path, "one square tensor, or its name (--tensor)", got));
            }
        };
        let (shard, info) = model.get(name).ok_or_else(|| tensor_error(path, name, "a tensor in the file", "none"))?;
        let n = square(&info.shape)
            .ok_or_else(|| tensor_error(shard.path(), name, SQUARE, format!("shape {:?}", info.shape)))?;
        let (kind, data) = (shard.float_type(info)?, shard.read_finite(info)?);
        Ok(Self { name: Some(name.into()), n, kind, is_complex: false, data })
    }
}

const SQUARE: &str = "a square matrix";

/// n for shape [n, n], n ≥ 1.
fn square(shape: &[usize]) -> Option<usize> {
    match shape {
        &[rows, columns] if rows == columns && rows > 0 => Some(rows),
        _ => None,
    }
}
