//! Streaming writer of safetensors: the header first, then the bytes of one tensor after another.

use std::collections::{BTreeMap, HashMap};
use std::format;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::string::{String, ToString};
use std::vec::Vec;

use safetensors::Dtype;
use serde_json::{Map, Value, json};

use super::{file_error, unwritable};
use crate::error::Result;

/// Name, type and shape of a tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// Number of bytes.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) if that is beyond 64 bits or not whole.
    pub(crate) fn num_bytes(&self, path: &Path) -> Result<u64> {
        let bits = self.shape.iter().try_fold(self.dtype.bitsize() as u64, |n, &extent| n.checked_mul(extent as u64));
        bits.filter(|bits| bits % 8 == 0).map(|bits| bits / 8).ok_or_else(|| {
            super::tensor_error(path, &self.name, "a whole number of bytes below 2^61", format!("{:?}", self.shape))
        })
    }
}

/// Writes one safetensors file, in the order of the specs it was made with.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    out: BufWriter<File>,
    missing: u64,
}

impl Writer {
    /// Writes the header to `file`; `path` serves for messages.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) from the system, for sizes beyond 64 bits, and for a header longer than readers take.
    pub fn new(
        file: File,
        path: &Path,
        metadata: Option<&HashMap<String, String>>,
        specs: &[TensorSpec],
    ) -> Result<Self> {
        let mut header = Map::new();
        if let Some(metadata) = metadata {
            let sorted: BTreeMap<_, _> = metadata.iter().collect();
            header.insert("__metadata__".into(), json!(sorted));
        }
        let mut end = 0u64;
        for spec in specs {
            let start = end;
            end = start.checked_add(spec.num_bytes(path)?).ok_or_else(|| {
                super::tensor_error(path, &spec.name, "an end below 2^64 bytes", format!("{:?}", spec.shape))
            })?;
            let entry = json!({
                "dtype": format!("{}", spec.dtype), "shape": spec.shape, "data_offsets": [start, end],
            });
            header.insert(spec.name.clone(), entry);
        }
        let mut text = Value::Object(header).to_string().into_bytes();
        text.resize(text.len().next_multiple_of(8), b' '); // the data then starts at a multiple of 8
        if text.len() as u64 > super::MAX_JSON_BYTES {
            let expected = format!("a header of at most {} bytes", super::MAX_JSON_BYTES);
            return Err(file_error(path, expected, format!("{} bytes", text.len())));
        }
        let mut writer = Self { path: path.into(), out: BufWriter::with_capacity(1 << 20, file), missing: u64::MAX };
        writer.write(&(text.len() as u64).to_le_bytes())?;
        writer.write(&text)?;
        writer.missing = end;
        Ok(writer)
    }

    /// Appends bytes of the current tensor.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) from the system (a full disk), or beyond the sizes of the specs.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.missing = self.missing.checked_sub(bytes.len() as u64).ok_or_else(|| {
            file_error(&self.path, "as many bytes as the specs announced", format!("{} more", bytes.len()))
        })?;
        self.out.write_all(bytes).map_err(|e| unwritable(&self.path, e))
    }

    /// Checks that every tensor was written and waits until the disk has taken it.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) from the system, or if bytes are missing.
    pub fn finish(mut self) -> Result<()> {
        if self.missing != 0 {
            let got = format!("{} too few", self.missing);
            return Err(file_error(&self.path, "as many bytes as the specs announced", got));
        }
        self.out.flush().and_then(|()| self.out.get_ref().sync_all()).map_err(|e| unwritable(&self.path, e))
    }
}
