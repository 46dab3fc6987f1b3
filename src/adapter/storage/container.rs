//! One safetensors file, opened by its header; tensors are mapped on demand.
//!
//! Layout: `u64` length n of the header, n bytes of JSON, then the data. The JSON gives for every tensor a dtype, a
//! shape and a range of the data. The safetensors crate checks that shape and range agree and that the ranges tile the
//! data without gap or overlap; here the lengths are checked against the file, without a sum that could overflow.

use std::collections::HashMap;
use std::format;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::string::String;
use std::vec;
use std::vec::Vec;

use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::map::Window;
use super::{FloatType, MAX_JSON_BYTES, file_error, open_regular, tensor_error};
use crate::error::Result;

/// Name, type and place of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its shape; the last index runs fastest.
    pub shape: Vec<usize>,
    /// Where its bytes lie in the file.
    pub(crate) range: Range<u64>,
}

impl TensorInfo {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product() // the header was checked: the product fits
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of bytes.
    pub fn num_bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// An open safetensors file. Tensors are in the order of their bytes.
///
/// The file is read through memory maps: it must not be truncated or rewritten while the container is in use
/// (a truncated map ends the process with SIGBUS on most systems).
#[derive(Debug)]
pub struct Container {
    path: PathBuf,
    file: File,
    metadata: Option<HashMap<String, String>>,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
}

impl Container {
    /// Opens a file and checks its header.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) naming the file and what is wrong with it.
    pub fn open(path: &Path) -> Result<Self> {
        let (mut file, length) = open_regular(path)?;
        let unreadable = |e: std::io::Error| file_error(path, "a readable safetensors file", e);
        if length < 8 {
            return Err(file_error(path, "a safetensors file", format!("a file of {length} bytes")));
        }
        let mut prefix = [0; 8];
        file.read_exact(&mut prefix).map_err(unreadable)?;
        let header = u64::from_le_bytes(prefix);
        if header > (length - 8).min(MAX_JSON_BYTES) {
            let got = format!("a header of {header} bytes in a file of {length}");
            return Err(file_error(path, "a safetensors file, which begins with the length of its header", got));
        }
        let mut json = vec![0; header as usize];
        file.read_exact(&mut json).map_err(unreadable)?;
        let parsed: Metadata =
            serde_json::from_slice(&json).map_err(|e| file_error(path, "a valid safetensors header", e))?;
        let (data, held) = (parsed.data_len() as u64, length - 8 - header);
        if data != held {
            return Err(file_error(path, format!("{data} bytes of tensors after the header"), format!("{held} bytes")));
        }
        let start = 8 + header;
        let tensors: Vec<TensorInfo> = parsed
            .offset_keys()
            .into_iter()
            .filter_map(|name| parsed.info(&name).map(|info| (name, info)))
            .map(|(name, info)| TensorInfo {
                name,
                dtype: info.dtype,
                shape: info.shape.clone(),
                range: start + info.data_offsets.0 as u64..start + info.data_offsets.1 as u64,
            })
            .collect();
        let by_name = tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        Ok(Self { path: path.into(), file, metadata: parsed.metadata().clone(), tensors, by_name })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text pairs of the header, `{"format": "pt"}` in most files.
    pub fn metadata(&self) -> Option<&HashMap<String, String>> {
        self.metadata.as_ref()
    }

    /// All tensors, in the order of their bytes.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor with this name.
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|&i| &self.tensors[i])
    }

    /// Maps a range of a tensor's bytes, relative to its start; the part beyond its end is cut off.
    pub(crate) fn window(&self, tensor: &TensorInfo, bytes: Range<u64>) -> Result<Window> {
        let start = tensor.range.start.saturating_add(bytes.start).min(tensor.range.end);
        let end = tensor.range.start.saturating_add(bytes.end).clamp(start, tensor.range.end);
        Window::map(&self.file, start, (end - start) as usize)
            .map_err(|e| tensor_error(&self.path, &tensor.name, "readable bytes", e))
    }

    /// The floating-point type of a tensor.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) if it has another type.
    pub fn float_type(&self, tensor: &TensorInfo) -> Result<FloatType> {
        FloatType::from_dtype(tensor.dtype)
            .ok_or_else(|| tensor_error(&self.path, &tensor.name, "type F16, BF16, F32 or F64", tensor.dtype))
    }

    /// A whole floating-point tensor as `f64`.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) if it is not of a [`FloatType`], or an entry is NaN or infinite.
    pub fn read_finite(&self, tensor: &TensorInfo) -> Result<Vec<f64>> {
        let mut numbers = Vec::with_capacity(tensor.len());
        self.each_portion(tensor, |portion| numbers.extend_from_slice(portion))?;
        Ok(numbers)
    }

    /// Checks a floating-point tensor of any size for NaN and infinities, in bounded memory.
    ///
    /// # Errors
    /// As [`read_finite`](Self::read_finite).
    pub fn check_finite(&self, tensor: &TensorInfo) -> Result<()> {
        self.each_portion(tensor, |_| ())
    }

    fn each_portion(&self, tensor: &TensorInfo, mut visit: impl FnMut(&[f64])) -> Result<()> {
        const PORTION: usize = 1 << 16;
        let kind = self.float_type(tensor)?;
        let (count, mut numbers) = (tensor.len(), Vec::new());
        for first in (0..count).step_by(PORTION) {
            numbers.resize(PORTION.min(count - first), 0.0);
            let range = first * kind.size()..(first + numbers.len()) * kind.size();
            kind.decode(&self.window(tensor, range.start as u64..range.end as u64)?, &mut numbers);
            if let Some(i) = numbers.iter().position(|x| !x.is_finite()) {
                let got = format!("{} at {:?}", numbers[i], unravel(first + i, &tensor.shape));
                return Err(tensor_error(&self.path, &tensor.name, "finite numbers", got));
            }
            visit(&numbers);
        }
        Ok(())
    }
}

/// The multi-index of element `i` of a tensor.
pub(crate) fn unravel(mut i: usize, shape: &[usize]) -> Vec<usize> {
    let mut index: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&extent| {
            let at = i % extent.max(1);
            i /= extent.max(1);
            at
        })
        .collect();
    index.reverse();
    index
}
