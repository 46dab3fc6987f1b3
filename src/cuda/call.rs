//! A launch as data: what a device runs, and what the tests' emulation of one runs instead.

use std::vec::Vec;

use super::program::Program;

/// One launch of a kernel.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) program: Program,
    pub(super) blocks: usize,
    pub(super) threads: usize,
    /// Bytes of shared memory.
    pub(super) shared: usize,
    pub(super) arguments: Vec<Argument>,
}

/// What a kernel is given.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Argument {
    /// The start of a buffer.
    Buffer(&'static str),
    /// A pointer to nothing.
    Nothing,
    Integer(i64),
}
