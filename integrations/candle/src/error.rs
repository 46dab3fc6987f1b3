//! The one error type.

use std::fmt::Display;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// candle's.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// papilio's: files, sizes, numbers that are not finite.
    #[error(transparent)]
    Papilio(#[from] papilio::Error),
    /// Something that came from outside does not fit.
    #[error("{what}: expected {expected}, got {got}")]
    Input {
        /// The file, field or setting.
        what: String,
        /// What would fit.
        expected: String,
        /// What came.
        got: String,
    },
}

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// An [`Error::Input`].
pub(crate) fn input<T>(what: impl Into<String>, expected: impl Into<String>, got: impl Display) -> Result<T> {
    Err(Error::Input { what: what.into(), expected: expected.into(), got: got.to_string() })
}
