//! One safetensors file, opened by its header; tensors are mapped on demand.
//!
//! Layout: `u64` length n of the header, n bytes of JSON, then the data. The JSON gives for every tensor a dtype, a
//! shape and a range of the data. The safetensors crate checks that shape and range agree and that the ranges tile the
//! data without gap or overlap; here the lengths are checked against the file, without a sum that could overflow.

use core::fmt;
use std::collections::{HashMap, HashSet};
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
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::map::Window;
use super::{FloatType, MAX_JSON_BYTES, file_error, open_regular, reserve, tensor_error};
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
        let invalid = |e| file_error(path, "a valid safetensors header", e);
        let DistinctNames = serde_json::from_slice(&json).map_err(invalid)?;
        let parsed: Metadata = serde_json::from_slice(&json).map_err(invalid)?;
        let (data, held) = (parsed.data_len() as u64, length - 8 - header);
        if data != held {
            return Err(file_error(path, format!("{data} bytes of tensors after the header"), format!("{held} bytes")));
        }
        let start = 8 + header;
        let mut tensors: Vec<TensorInfo> = parsed
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
        // Names decide between tensors without bytes, which all begin and end at the same place.
        tensors.sort_by(|a, b| (a.range.start, a.range.end, &a.name).cmp(&(b.range.start, b.range.end, &b.name)));
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
    /// [`Error::File`](crate::Error::File) if it is not of a [`FloatType`], an entry is NaN or infinite, or memory does
    /// not suffice.
    pub fn read_finite(&self, tensor: &TensorInfo) -> Result<Vec<f64>> {
        let what = |got| tensor_error(&self.path, &tensor.name, "a tensor that fits into memory", got);
        let mut numbers = reserve(tensor.len()).map_err(what)?;
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

    /// A whole tensor of type U32.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) if it has another type, or memory does not suffice.
    pub fn read_indices(&self, tensor: &TensorInfo) -> Result<Vec<u32>> {
        let what = |expected: &str, got| tensor_error(&self.path, &tensor.name, expected, got);
        if tensor.dtype != Dtype::U32 {
            return Err(what("type U32", format!("{}", tensor.dtype)));
        }
        let mut numbers = Vec::new();
        if numbers.try_reserve_exact(tensor.len()).is_err() {
            return Err(what("a tensor that fits into memory", format!("{} numbers", tensor.len())));
        }
        let bytes = self.window(tensor, 0..tensor.num_bytes())?;
        numbers.extend(bytes.as_chunks::<4>().0.iter().map(|chunk| u32::from_le_bytes(*chunk)));
        Ok(numbers)
    }

    /// A whole tensor of integers of at most 32 bits or of small ones of 64, as `f64`.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) if it has another type, holds a number beyond 2⁵³, or memory does not suffice.
    pub(crate) fn read_integers(&self, tensor: &TensorInfo) -> Result<Vec<f64>> {
        const EXACT: u64 = 1 << 53;
        let what = |expected: &str, got| tensor_error(&self.path, &tensor.name, expected, got);
        let size = match tensor.dtype {
            Dtype::I64 => 8,
            Dtype::I32 => 4,
            other => return Err(what("numbers: F16, BF16, F32, F64, I32 or I64", format!("{other}"))),
        };
        let mut numbers = reserve(tensor.len()).map_err(|got| what("a tensor that fits into memory", got))?;
        for chunk in self.window(tensor, 0..tensor.num_bytes())?.chunks_exact(size) {
            let mut bytes = if chunk[size - 1] & 0x80 != 0 { [0xff; 8] } else { [0; 8] };
            bytes[..size].copy_from_slice(chunk);
            let number = i64::from_le_bytes(bytes);
            if number.unsigned_abs() > EXACT {
                return Err(what("integers up to 2^53", format!("{number}")));
            }
            numbers.push(number as f64);
        }
        Ok(numbers)
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

/// The keys of a header, no two alike. (A map keeps the last of two, and other readers the first.)
struct DistinctNames;

impl<'de> Deserialize<'de> for DistinctNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> core::result::Result<Self, D::Error> {
        deserializer.deserialize_map(Self)
    }
}

impl<'de> Visitor<'de> for DistinctNames {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> core::result::Result<Self, A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            map.next_value::<IgnoredAny>()?;
            if let Some(twice) = names.replace(name) {
                return Err(A::Error::custom(format!("two tensors `{twice}`")));
            }
        }
        Ok(self)
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
