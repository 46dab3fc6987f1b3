//! The one error type: every variant says what was wrong, what was expected and what came.

use alloc::string::String;

/// What went wrong, with `what`, `expected` and `got` in every variant.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A slice, batch or buffer has another length than the plan needs.
    #[error("{what}: expected length {expected}, got {got}")]
    Length {
        /// The argument.
        what: &'static str,
        /// The length it must have.
        expected: usize,
        /// The length it has.
        got: usize,
    },
    /// A size does not fit a structure; `expected` names sizes that do.
    #[error("{what}: expected {expected}, got {got}")]
    Size {
        /// The structure or argument.
        what: &'static str,
        /// Which sizes fit.
        expected: String,
        /// The size that was given.
        got: String,
    },
    /// An index lies outside its range.
    #[error("{what}: expected an index below {expected}, got {got}")]
    Index {
        /// The table or argument.
        what: &'static str,
        /// The exclusive upper bound.
        expected: usize,
        /// The index.
        got: usize,
    },
    /// Memory that must be disjoint is not.
    #[error("{what}: expected {expected}, got {got}")]
    Overlap {
        /// The view or table.
        what: &'static str,
        /// The rule.
        expected: &'static str,
        /// How it was broken.
        got: String,
    },
    /// A number lies outside the domain of a map (NaN and infinities lie outside every domain).
    #[error("{what}: expected {expected}, got {got}")]
    Domain {
        /// The map or argument.
        what: String,
        /// The domain.
        expected: &'static str,
        /// The offending value, with its position where that helps.
        got: String,
    },
    /// A combination that this build or version does not offer.
    #[error("{what}: expected {expected}, got {got}")]
    Unsupported {
        /// The feature asked for.
        what: &'static str,
        /// What is offered.
        expected: &'static str,
        /// What was asked.
        got: String,
    },
    /// A file cannot be read, understood or written. `what` names the file, and the tensor or field in it.
    #[error("{what}: expected {expected}, got {got}")]
    File {
        /// File, and tensor or field.
        what: String,
        /// What a good file holds there.
        expected: String,
        /// What was found, or the operating system's message.
        got: String,
    },
    /// A GPU, its driver or one of CUDA's libraries is missing or reports an error.
    #[error("{what}: expected {expected}, got {got}")]
    Device {
        /// The library, device or operation.
        what: &'static str,
        /// What it takes.
        expected: String,
        /// What was found, or the driver's message.
        got: String,
    },
    /// The caller stopped a long computation. Nothing is wrong with its inputs.
    #[error("{what}: expected {expected}, got {got}")]
    Interrupted {
        /// The computation.
        what: &'static str,
        /// What it was about to do.
        expected: &'static str,
        /// Where it was stopped.
        got: String,
    },
}

/// Result with papilio's [`Error`].
pub type Result<T> = core::result::Result<T, Error>;

/// `Err(Error::Length)` unless `got == expected`.
pub(crate) fn check_length(what: &'static str, expected: usize, got: usize) -> Result<()> {
    if got == expected { Ok(()) } else { Err(Error::Length { what, expected, got }) }
}
