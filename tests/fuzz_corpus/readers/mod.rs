//! One function for each reader of files that come from elsewhere. It takes any bytes, makes files of them, reads these and does
//! with what it has read whatever can be done with it. It panics if the library broke a promise: a panic of its own, an error
//! without `expected` and `got`, a file that is read, written and read again and has become another one, a temporary file that is left.
//! It tells whether the bytes were accepted.
//!
//! Fuzzers and the replay of their corpus share these functions (`fuzz/README.md`).

#![allow(unreachable_pub)] // the fuzz package exports them

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use papilio::adapter::MergeEvent;
use tempfile::TempDir;

mod adapter;
mod archive;
mod config;
mod container;
mod convert;
mod extract;
mod matrix;
mod merge;
mod model;
mod state;
mod tensors;

pub use adapter::adapter;
pub use archive::archive;
pub use config::config;
pub use container::container;
pub use convert::convert;
pub use extract::extract;
pub use matrix::matrix;
pub use merge::merge;
pub use model::model;
pub use state::state;

/// An input cut at its first N − 1 zero bytes, which stand in no text; parts that are missing are empty.
fn parts<const N: usize>(input: &[u8]) -> [&[u8]; N] {
    let mut rest = input.splitn(N, |&byte| byte == 0);
    [(); N].map(|()| rest.next().unwrap_or_default())
}

/// The result, after a look at the error that may be in its place.
fn heard<T>(result: papilio::Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            let message = error.to_string();
            assert!(message.contains(": expected ") && message.contains(", got "), "{message}");
            None
        }
    }
}

/// A listener that never stops anything.
fn go_on(_: MergeEvent<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A directory of files made from an input. It disappears with the value.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().expect("a directory for temporary files"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file of this name, in directories as it says.
    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a name")).expect("room for a directory");
        fs::write(&path, bytes).expect("room for a small file");
        path
    }

    /// Nothing is left of outputs on their way, whose names begin with a dot.
    fn check_no_temporaries(&self) {
        let hidden = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let entries = fs::read_dir(self.0.path()).expect("the directory").map(|entry| entry.expect("an entry").path());
        let left: Vec<PathBuf> = entries.filter(|path| hidden(path)).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}
