//! Memory-mapped windows of a file. The only file of this layer with `unsafe` code.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::{Mmap, MmapOptions};

/// A read-only view of a stretch of a file. Dropping it unmaps the pages, so a model larger than memory can be walked
/// window by window and the resident set stays as small as the windows.
#[derive(Debug)]
pub(crate) struct Window(Option<Mmap>);

impl Window {
    /// Maps `length` bytes from `offset`, after checking that the file still holds them.
    pub(crate) fn map(file: &File, offset: u64, length: usize) -> io::Result<Self> {
        if length == 0 {
            return Ok(Self(None)); // systems refuse empty maps
        }
        if offset.checked_add(length as u64).is_none_or(|end| file.metadata().is_ok_and(|m| m.len() < end)) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was read"));
        }
        // SAFETY: the map is read-only, lives as long as the `Mmap` and lies inside the file (checked above). What no
        // program can check is that nobody truncates or rewrites the file meanwhile: a truncated file raises SIGBUS,
        // a rewritten one changes the bytes behind the slice. The documentation of `Container` passes that condition
        // on to its user. Outputs of this crate never touch an input: they are new files, renamed into place.
        let map = unsafe { MmapOptions::new().offset(offset).len(length).map(file)? };
        Ok(Self(Some(map)))
    }
}

impl Deref for Window {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}
