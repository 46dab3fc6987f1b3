//! Running the `papilio` command.
#![allow(dead_code, unreachable_pub)] // every test binary uses a part

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

pub const BASE: &str = "examples/data/boft_llama/base";
pub const ADAPTER: &str = "examples/data/boft_llama/adapter";

pub fn papilio(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_papilio"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(arguments)
        .output()
        .unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The one JSON object on standard output.
pub fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}{}", stdout(output), stderr(output)))
}

/// Runs, expects exit code 2, nothing on standard output, and these words in the message.
pub fn refused(arguments: &[&str], words: &[&str]) -> String {
    let output = papilio(arguments);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
    assert!(!message.contains("panicked"), "{message}");
    assert_eq!(stdout(&output), "", "{arguments:?}");
    for word in words {
        assert!(message.contains(word), "{arguments:?}: `{word}` is not in: {message}");
    }
    message
}

/// `script` run by the shell in `directory`; `$PAPILIO` is the command, `$DATA` the example data.
#[cfg(unix)]
pub fn shell(script: &str, directory: &Path) -> Output {
    Command::new("sh")
        .args(["-c", script])
        .current_dir(directory)
        .env("PAPILIO", env!("CARGO_BIN_EXE_papilio"))
        .env("DATA", Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/boft_llama"))
        .output()
        .unwrap()
}
