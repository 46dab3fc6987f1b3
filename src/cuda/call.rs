//! A launch as data: what a device runs, and what the tests' emulation of one runs instead.

use core::cell::LazyCell;
use std::boxed::Box;
use std::vec::Vec;

use super::program::{Chart, Program, Stored, Wanted};
use super::tile::Tile;

/// One launch of a kernel.
#[derive(Debug)]
pub(super) struct Call<'a> {
    /// What decides its text, within one plan.
    pub(super) kernel: Kernel,
    /// Made when it is asked for: of a kernel that is loaded, nobody asks.
    pub(super) program: Text<'a>,
    pub(super) blocks: usize,
    pub(super) threads: usize,
    /// Bytes of shared memory.
    pub(super) shared: usize,
    pub(super) arguments: Vec<Argument>,
}

/// A kernel of a plan (or of a random rotation): two of one plan that are equal have the same text, threads and shared
/// memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    Apply {
        tile: Tile,
        stored: Stored,
        aligned: bool,
        transposed: bool,
    },
    /// `apply` in registers, on tensor cores.
    Chain {
        stored: Stored,
        aligned: bool,
        transposed: bool,
    },
    /// `apply_vjp` likewise.
    ChainVjp {
        stored: Stored,
        aligned: bool,
        transposed: bool,
        wanted: Wanted,
    },
    Vjp {
        tile: Tile,
        stored: Stored,
        aligned: bool,
        transposed: bool,
        wanted: Wanted,
    },
    Turn {
        tile: Tile,
        stored: Stored,
        aligned: bool,
        back: bool,
    },
    /// `realize` or `realize_vjp`.
    Chart(Chart, &'static str),
    /// Of the pass with this number.
    Pack(usize),
    Identity(Stored),
    /// One that needs no constants, by its name.
    Plain(&'static str),
}

/// A program that is made once, when it is needed.
pub(super) type Text<'a> = LazyCell<Program, Box<dyn FnOnce() -> Program + 'a>>;

pub(super) fn text<'a>(make: impl FnOnce() -> Program + 'a) -> Text<'a> {
    LazyCell::new(Box::new(make))
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
