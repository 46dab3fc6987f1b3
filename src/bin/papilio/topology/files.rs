//! Pictures that appear whole or not at all.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::text::printable;

/// Before any work: whether `names` may be written to `directory`, as far as can be seen.
pub(crate) fn check(directory: &Path, names: &[String], force: bool) -> Result<(), String> {
    let shown = printable(directory.display());
    match fs::metadata(directory) {
        Ok(found) if !found.is_dir() => return Err(format!("{shown}: expected a directory for pictures, got a file")),
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(format!("{shown}: {e}")),
    }
    for name in names {
        let target = directory.join(name);
        match fs::symlink_metadata(&target) {
            Ok(found) if found.is_dir() => {
                return Err(format!("{}: expected a file name, got a directory", printable(target.display())));
            }
            Ok(_) if !force => {
                return Err(format!("{}: exists already (--force replaces it)", printable(target.display())));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writes every (name, text) to a temporary in `directory`, which is made if need be, and then renames them all.
pub(crate) fn write(directory: &Path, files: &[(String, String)], force: bool) -> Result<Vec<PathBuf>, String> {
    fs::create_dir_all(directory).map_err(|e| format!("{}: {e}", printable(directory.display())))?;
    let mut staged = Vec::new();
    for (name, text) in files {
        let target = directory.join(name);
        let failed = |e: std::io::Error| format!("{}: {e}", printable(target.display()));
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)); // less the umask
        let mut file = builder.prefix(".papilio-").tempfile_in(directory).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.flush()).map_err(failed)?;
        staged.push((file, target));
    }
    let mut written = Vec::new();
    for (file, target) in staged {
        let renamed = if force { file.persist(&target) } else { file.persist_noclobber(&target) };
        renamed.map_err(|e| format!("{}: {}", printable(target.display()), e.error))?;
        written.push(target);
    }
    Ok(written)
}

/// Directory and name of a picture.
pub(crate) fn split(target: &Path) -> Result<(&Path, String), String> {
    let name = target.file_name().and_then(|name| name.to_str());
    let Some(name) = name else { return Err(format!("--plot: expected a file name, got {}", target.display())) };
    let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok((directory.unwrap_or(Path::new(".")), name.to_string()))
}
