//! Operators in files: [`Orthogonal::save`], [`Orthogonal::load`], and the [`Charts`] a file may name.
//!
//! ```
//! use papilio::{Orthogonal, Plan, parametrization::Cayley, topology::Butterfly};
//! let plan = Plan::<f32>::new(64, &Butterfly::boft(3, 8)?, Cayley)?;
//! let q = Orthogonal::new(plan.clone(), vec![0.3; plan.num_params()])?;
//! let path = std::env::temp_dir().join("papilio-doc-q.safetensors");
//! q.save(&path)?;
//! let again = Orthogonal::<f32>::load(&path)?;
//! assert_eq!(again.theta(), q.theta());
//! assert_eq!(again.factors().entries(), q.factors().entries());
//! # std::fs::remove_file(&path).unwrap();
//! # Ok::<(), papilio::Error>(())
//! ```
//!
#![doc = include_str!("../../docs/format.md")]

use std::format;
use std::path::Path;
use std::string::String;

use crate::error::Result;
use crate::orthogonal::Orthogonal;
use crate::parametrization::Charts;
use crate::scalar::{Real, Scalar};
use crate::storage::{Container, is_npy};

mod read;
mod recipe;
mod write;

/// The value of the metadata's `format`.
const FORMAT: &str = "papilio";
/// The version that is written, and the newest that is read.
const VERSION: u64 = 1;

/// The scalar's name in files.
fn dtype_name<T: Scalar>() -> &'static str {
    match (T::IS_COMPLEX, <T::Real as Real>::NAME) {
        (false, name) => name,
        (true, "f32") => "c32",
        (true, _) => "c64",
    }
}

/// The name of a tensor that belongs to stage `k`.
fn tensor_name(k: usize, part: &str) -> String {
    format!("stage.{k}.{part}")
}

/// The scalar named in a file that [`Orthogonal::save`] wrote (`f32`, `f64`, `c32`, `c64`; empty if it names none); `None` for
/// a file of anything else. It says which `Orthogonal<T>` can load the file.
///
/// # Errors
/// [`Error::File`](crate::Error::File) for a safetensors file that cannot be read.
pub fn scalar_of(path: impl AsRef<Path>) -> Result<Option<String>> {
    let path = path.as_ref();
    if path.is_dir() || is_npy(path) {
        return Ok(None);
    }
    let file = Container::open(path)?;
    let get = |key: &str| file.metadata().and_then(|m| m.get(key)).cloned();
    Ok((get("format").as_deref() == Some(FORMAT)).then(|| get("dtype").unwrap_or_default()))
}

impl<T: Scalar> Orthogonal<T> {
    /// Writes plan and parameters to a safetensors file (see [`archive`](crate::archive) for its format). The file appears
    /// whole or not at all; a safetensors file that was there before is replaced, anything else is not.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) from the system, or for a path that holds something else.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        write::save(self, path.as_ref())
    }

    /// Reads what [`save`](Self::save) wrote, bit by bit the same, if all its charts are this crate's.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) naming the file and what is wrong: another format, a newer version, another
    /// scalar, an unknown chart, sizes that do not fit, numbers that are not finite.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::load_with(path, &Charts::new())
    }

    /// As [`load`](Self::load), with charts of your own.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_with(path: impl AsRef<Path>, charts: &Charts<T::Wide>) -> Result<Self> {
        read::load(path.as_ref(), charts)
    }
}
