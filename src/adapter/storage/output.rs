//! Outputs that appear whole or not at all.
//!
//! Everything is written to a temporary file or directory next to the target, on the same file system, and renamed
//! into place at the end. Dropping an [`Output`] without [`commit`](Output::commit) removes what was written.

use std::format;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile, TempDir};

use super::{file_error, unwritable};
use crate::error::Result;

/// A file or directory under construction.
#[derive(Debug)]
pub struct Output {
    target: PathBuf,
    replace: bool,
    staged: Staged,
}

#[derive(Debug)]
enum Staged {
    File(NamedTempFile),
    Directory(TempDir),
}

/// Prefix of temporaries; a leading dot keeps them out of sight.
const PREFIX: &str = ".papilio-";

impl Output {
    /// Starts a file. With `replace` an existing file at `target` is replaced by [`commit`](Self::commit).
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) if the target exists (and `replace` is false, or it is a directory) or its
    /// parent cannot be written to.
    pub fn file(target: &Path, replace: bool) -> Result<Self> {
        check_vacant(target, replace)?;
        if target.is_dir() {
            return Err(file_error(target, "a file name for the output of a base that is a file", "a directory"));
        }
        let mut builder = Builder::new();
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)); // less the umask
        let staged = builder.prefix(PREFIX).tempfile_in(parent(target)).map_err(|e| unwritable(target, e))?;
        Ok(Self { target: target.into(), replace, staged: Staged::File(staged) })
    }

    /// Starts a directory. With `replace` an existing directory at `target` is replaced by [`commit`](Self::commit),
    /// but only one that is empty or holds a model: nobody loses a home directory to a slip of the pen.
    ///
    /// # Errors
    /// As [`file`](Self::file).
    pub fn directory(target: &Path, replace: bool) -> Result<Self> {
        check_vacant(target, replace)?;
        if target.exists() && !target.is_dir() {
            return Err(file_error(target, "a directory name for the output of a base that is a directory", "a file"));
        }
        if target.is_dir() && !is_replaceable(target).map_err(|e| unwritable(target, e))? {
            let expected =
                "an empty directory or one with safetensors files and a config.json (--force replaces no other)";
            return Err(file_error(target, expected, "a directory with other things in it"));
        }
        let mut builder = Builder::new();
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777)); // less the umask
        let staged = builder.prefix(PREFIX).tempdir_in(parent(target)).map_err(|e| unwritable(target, e))?;
        Ok(Self { target: target.into(), replace, staged: Staged::Directory(staged) })
    }

    /// Where to write: the temporary file, or a file of this name in the temporary directory.
    pub fn path(&self, name: &str) -> PathBuf {
        match &self.staged {
            Staged::File(file) => file.path().into(),
            Staged::Directory(directory) => directory.path().join(name),
        }
    }

    /// The same place as [`path`](Self::path) in the finished output, for messages.
    pub fn shown(&self, name: &str) -> PathBuf {
        match &self.staged {
            Staged::File(_) => self.target.clone(),
            Staged::Directory(_) => self.target.join(name),
        }
    }

    /// Puts the finished output in place. If that fails, what was there before stays or is put back.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) from the system, or if the target appeared meanwhile.
    pub fn commit(self) -> Result<()> {
        let Self { target, replace, staged } = self;
        match staged {
            Staged::File(file) if replace => file.persist(&target).map(drop).map_err(|e| unwritable(&target, e.error)),
            Staged::File(file) => file.persist_noclobber(&target).map(drop).map_err(|e| unwritable(&target, e.error)),
            Staged::Directory(directory) => {
                check_vacant(&target, replace)?;
                swap_directory(directory, &target).map_err(|e| unwritable(&target, e))
            }
        }
    }
}

/// Renames `new` to `target`; what was there is moved aside first and deleted only after the rename.
fn swap_directory(new: TempDir, target: &Path) -> io::Result<()> {
    if fs::symlink_metadata(target).is_err() {
        fs::rename(new.path(), target)?;
        let _ = new.keep(); // it has moved: there is nothing left to remove
        return Ok(());
    }
    let aside = Builder::new().prefix(PREFIX).tempdir_in(parent(target))?;
    let old = aside.path().join("old");
    fs::rename(target, &old)?;
    if let Err(e) = fs::rename(new.path(), target) {
        if fs::rename(&old, target).is_err() {
            let kept = aside.keep().join("old"); // never delete what could not be put back
            return Err(io::Error::new(e.kind(), format!("{e}; the previous output is now {}", kept.display())));
        }
        return Err(e);
    }
    let _ = new.keep();
    aside.close()
}

/// The directory the target lies in.
fn parent(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => target,
    }
}

fn check_vacant(target: &Path, replace: bool) -> Result<()> {
    if target.file_name().is_none() {
        return Err(file_error(target, "a path that ends in a name", "none"));
    }
    if !replace && fs::symlink_metadata(target).is_ok() {
        return Err(file_error(target, "no such file or directory yet (--force replaces it)", "an existing one"));
    }
    match fs::metadata(parent(target)) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(file_error(target, "a parent that is a directory", format!("{}", parent(target).display()))),
        Err(e) => Err(file_error(target, "an existing parent directory", e)),
    }
}

fn is_replaceable(directory: &Path) -> io::Result<bool> {
    let (mut empty, mut weights) = (true, false);
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        empty = false;
        weights |= name.to_string_lossy().ends_with(".safetensors");
    }
    Ok(empty || (weights && directory.join("config.json").is_file()))
}
