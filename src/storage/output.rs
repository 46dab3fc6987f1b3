//! Outputs that appear whole or not at all, and replace nothing that could be missed.
//!
//! Everything is written to a temporary file or directory next to the target, on the same file system, and renamed
//! into place at the end. Dropping an [`Output`] without [`commit`](Output::commit) removes what was written.

use std::collections::BTreeSet;
use std::format;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::string::{String, ToString};

use tempfile::{Builder, NamedTempFile, TempDir};

use super::{Container, file_error, is_npy, unwritable};
use crate::error::{Error, Result};

/// A file or directory under construction.
#[derive(Debug)]
pub struct Output {
    target: PathBuf,
    replace: bool,
    kind: Kind,
    staged: Staged,
}

/// What the target will be.
#[derive(Debug)]
enum Kind {
    File,
    /// A directory with these files, relative to it, and the directories that they lie in.
    Directory(BTreeSet<PathBuf>),
}

#[derive(Debug)]
enum Staged {
    File(NamedTempFile),
    Directory(TempDir),
}

/// Prefix of temporaries; a leading dot keeps them out of sight.
const PREFIX: &str = ".papilio-";

impl Output {
    /// Starts a file. With `replace` an existing file at `target` is replaced by [`commit`](Self::commit), but only a
    /// regular one that is empty or holds safetensors or a NumPy array.
    ///
    /// # Errors
    /// [`Error::File`] if the target exists and may not be replaced, or its parent cannot be written to.
    pub fn file(target: &Path, replace: bool) -> Result<Self> {
        let kind = Kind::File;
        check_target(target, replace, &kind)?;
        let mut builder = Builder::new();
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)); // less the umask
        let staged = builder.prefix(PREFIX).tempfile_in(parent(target)).map_err(|e| unstaged(target, &e))?;
        Ok(Self { target: target.into(), replace, kind, staged: Staged::File(staged) })
    }

    /// Starts a directory that will hold `files` (paths relative to it). With `replace` an existing directory at
    /// `target` is replaced by [`commit`](Self::commit), but nobody loses a home directory to a slip of the pen: every
    /// entry must be among `files`, or a plain visible file beside a `config.json` and safetensors files.
    ///
    /// # Errors
    /// As [`file`](Self::file).
    pub fn directory(target: &Path, replace: bool, files: impl IntoIterator<Item = PathBuf>) -> Result<Self> {
        let kind = Kind::Directory(files.into_iter().collect());
        check_target(target, replace, &kind)?;
        let mut builder = Builder::new();
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777)); // less the umask
        let staged = builder.prefix(PREFIX).tempdir_in(parent(target)).map_err(|e| unstaged(target, &e))?;
        Ok(Self { target: target.into(), replace, kind, staged: Staged::Directory(staged) })
    }

    /// Where to write: the temporary file, or a file of this name in the temporary directory.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        match &self.staged {
            Staged::File(file) => file.path().into(),
            Staged::Directory(directory) => directory.path().join(name),
        }
    }

    /// The same place as [`path`](Self::path) in the finished output, for messages.
    pub fn shown(&self, name: impl AsRef<Path>) -> PathBuf {
        match &self.staged {
            Staged::File(_) => self.target.clone(),
            Staged::Directory(_) => self.target.join(name),
        }
    }

    /// Puts the finished output in place, after a second look at what is there now. If that fails, what was there
    /// before stays or is put back.
    ///
    /// # Errors
    /// [`Error::File`] from the system, or if something that may not be replaced appeared meanwhile.
    pub fn commit(self) -> Result<()> {
        let Self { target, replace, kind, staged } = self;
        check_target(&target, replace, &kind)?;
        match staged {
            Staged::File(file) if replace => file.persist(&target).map(drop).map_err(|e| unwritable(&target, e.error)),
            Staged::File(file) => file.persist_noclobber(&target).map(drop).map_err(|e| unwritable(&target, e.error)),
            Staged::Directory(new) if replace && target.exists() => swap_directory(new, &target),
            Staged::Directory(new) => place_directory(&new, &target).map_err(|e| unwritable(&target, e)).map(|()| {
                let _ = new.keep(); // it has moved: there is nothing left to remove
            }),
        }
    }
}

/// Renames `new` to `target`, which must not exist. Claiming the name first makes sure of that: systems rename a
/// directory onto an empty one without a word.
fn place_directory(new: &TempDir, target: &Path) -> io::Result<()> {
    if cfg!(unix) {
        fs::create_dir(target)?;
    }
    fs::rename(new.path(), target).inspect_err(|_| {
        if cfg!(unix) {
            let _ = fs::remove_dir(target); // the claim, if it is still empty
        }
    })
}

/// Renames `new` to `target`; what was there is moved aside first and deleted only after the rename.
fn swap_directory(new: TempDir, target: &Path) -> Result<()> {
    let failed = |e| unwritable(target, e);
    let aside = Builder::new().prefix(PREFIX).tempdir_in(parent(target)).map_err(|e| unstaged(target, &e))?;
    let old = aside.path().join("old");
    fs::rename(target, &old).map_err(failed)?;
    if let Err(e) = place_directory(&new, target) {
        if fs::symlink_metadata(target).is_ok() || fs::rename(&old, target).is_err() {
            let kept = aside.keep().join("old"); // never delete what could not be put back
            let got = format!("{e}; the previous output is now {}", kept.display());
            return Err(file_error(target, "room and permission to write", got));
        }
        return Err(failed(e));
    }
    let _ = new.keep();
    aside.close().map_err(|e| unstaged(target, &e))
}

/// The directory the target lies in.
pub(crate) fn parent(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => target,
    }
}

/// [`unwritable`] about a temporary. tempfile puts the temporary's path into its errors, where it only confuses.
fn unstaged(target: &Path, e: &io::Error) -> Error {
    let text = e.to_string();
    let got = text.split_once(" at path \"").map_or(text.as_str(), |(reason, _)| reason);
    file_error(target, "room and permission to write", got)
}

/// Whether `target` is free, or holds something that the output may replace.
fn check_target(target: &Path, replace: bool, kind: &Kind) -> Result<()> {
    if target.file_name().is_none() {
        return Err(file_error(target, "a path that ends in a name", "none"));
    }
    match fs::metadata(parent(target)) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => {
            return Err(file_error(target, "a parent that is a directory", format!("{}", parent(target).display())));
        }
        Err(e) => return Err(file_error(target, "an existing parent directory", e)),
    }
    let found = match fs::symlink_metadata(target) {
        Ok(metadata) => metadata.file_type(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(unwritable(target, e)),
    };
    match kind {
        Kind::File if found.is_dir() => {
            Err(file_error(target, "a file name, as for every base that is a file", "an existing directory"))
        }
        Kind::Directory(_) if found.is_file() => {
            Err(file_error(target, "a directory name, as for every base that is a directory", "an existing file"))
        }
        _ if !replace => {
            Err(file_error(target, "no such file or directory yet (--force replaces it)", "an existing one"))
        }
        _ if found.is_symlink() => {
            Err(file_error(target, "a file or directory itself (links are not replaced)", "a symbolic link"))
        }
        Kind::File if !found.is_file() => Err(file_error(target, "a regular file to replace", "a special file")),
        Kind::Directory(_) if !found.is_dir() => Err(file_error(target, "a directory to replace", "a special file")),
        Kind::File => {
            let is_empty = fs::metadata(target).is_ok_and(|m| m.len() == 0);
            if is_empty || is_npy(target) || Container::open(target).is_ok() {
                return Ok(());
            }
            let expected = "an empty, a safetensors or a .npy file (no other is replaced)";
            Err(file_error(target, expected, "a file with something else in it"))
        }
        Kind::Directory(files) => match stranger(target, files).map_err(|e| unwritable(target, e))? {
            None => Ok(()),
            Some(name) => {
                let expected = "an empty directory or one with nothing but a model (no other is replaced)";
                Err(file_error(target, expected, format!("one with `{name}`")))
            }
        },
    }
}

/// An entry of a directory that a model directory would not have, and that is not among the paths `ours`.
fn stranger(directory: &Path, ours: &BTreeSet<PathBuf>) -> io::Result<Option<String>> {
    let (mut foreign, mut weights, mut config) = (None, false, false);
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = PathBuf::from(entry.file_name());
        let text = name.to_string_lossy();
        weights |= text.ends_with(".safetensors");
        config |= text == "config.json";
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if let Some(inner) = unknown(&entry.path(), &name, ours)? {
                return Ok(Some(inner));
            }
        } else if !ours.contains(&name) {
            if !kind.is_file() || text.starts_with('.') {
                return Ok(Some(text.into_owned()));
            }
            foreign = Some(text.into_owned());
        }
    }
    Ok(foreign.filter(|_| !(weights && config)))
}

/// Something under `directory`, called `name` in the output, that is not among the paths `ours`.
fn unknown(directory: &Path, name: &Path, ours: &BTreeSet<PathBuf>) -> io::Result<Option<String>> {
    if !ours.iter().any(|file| file.starts_with(name)) {
        return Ok(Some(name.display().to_string()));
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let inner = name.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            if let Some(found) = unknown(&entry.path(), &inner, ours)? {
                return Ok(Some(found));
            }
        } else if !ours.contains(&inner) {
            return Ok(Some(inner.display().to_string()));
        }
    }
    Ok(None)
}
