//! Files: safetensors in and out, .npy in, outputs that appear whole or not at all.
//!
//! Every length, offset and name in a file is hostile until checked. Nothing is allocated from a number in a header
//! before that number has been compared with the size of the file.

use std::format;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::string::{String, ToString};
use std::vec::Vec;

use crate::error::{Error, Result};

mod checkpoint;
mod container;
mod float;
mod map;
mod matrix;
mod npy;
mod output;
mod writer;

pub use checkpoint::Checkpoint;
pub(crate) use container::unravel;
pub use container::{Container, TensorInfo};
pub use float::FloatType;
pub use matrix::Matrix;
pub use npy::{NpyArray, is_npy};
pub use output::Output;
pub(crate) use output::parent;
pub use safetensors::Dtype;
pub use writer::{TensorSpec, Writer};

/// The largest JSON text that is read: index files and configurations (safetensors headers have the same limit).
const MAX_JSON_BYTES: u64 = 100_000_000;

/// [`Error::File`] about a file as a whole.
pub(crate) fn file_error(path: &Path, expected: impl Into<String>, got: impl ToString) -> Error {
    Error::File { what: path.display().to_string(), expected: expected.into(), got: got.to_string() }
}

/// [`Error::File`] about one tensor of a file.
pub(crate) fn tensor_error(path: &Path, tensor: &str, expected: impl Into<String>, got: impl ToString) -> Error {
    part_error(path, "tensor", tensor, expected, got)
}

/// [`Error::File`] about one field of a configuration.
pub(crate) fn field_error(path: &Path, field: &str, expected: impl Into<String>, got: impl ToString) -> Error {
    part_error(path, "field", field, expected, got)
}

fn part_error(path: &Path, part: &str, name: &str, expected: impl Into<String>, got: impl ToString) -> Error {
    let what = format!("{}, {part} `{name}`", path.display());
    Error::File { what, expected: expected.into(), got: got.to_string() }
}

/// An empty vector with room for `count` numbers, or what to say if there is not so much memory. Sizes that come from a
/// file may be honest and still absurd: a sparse file of terabytes takes no room on disk.
pub(crate) fn reserve(count: usize) -> core::result::Result<Vec<f64>, String> {
    let mut numbers = Vec::new();
    match numbers.try_reserve_exact(count) {
        Ok(()) => Ok(numbers),
        Err(_) => Err(format!("{count} numbers")),
    }
}

/// [`Error::File`] from a write that failed.
pub(crate) fn unwritable(path: &Path, e: std::io::Error) -> Error {
    file_error(path, "room and permission to write", e)
}

/// Opens a regular file for reading (a pipe or device would block, or never end) and says how long it is.
pub(crate) fn open_regular(path: &Path) -> Result<(File, u64)> {
    let metadata = std::fs::metadata(path).map_err(|e| file_error(path, "a readable file", e))?;
    if !metadata.is_file() {
        return Err(file_error(
            path,
            "a regular file",
            if metadata.is_dir() { "a directory" } else { "a special file" },
        ));
    }
    let file = File::open(path).map_err(|e| file_error(path, "a readable file", e))?;
    Ok((file, metadata.len()))
}

/// Reads and parses a JSON file of bounded size.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let (file, length) = open_regular(path)?;
    if length > MAX_JSON_BYTES {
        return Err(file_error(path, format!("JSON of at most {MAX_JSON_BYTES} bytes"), format!("{length} bytes")));
    }
    let mut text = Vec::new();
    file.take(MAX_JSON_BYTES).read_to_end(&mut text).map_err(|e| file_error(path, "a readable file", e))?;
    serde_json::from_slice(&text).map_err(|e| file_error(path, "valid JSON", e))
}
