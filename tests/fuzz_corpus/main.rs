//! Replays the corpora of the fuzz targets (`fuzz/corpus`) through the functions that are fuzzed: what once was a finding stays
//! fixed, on every machine and without a fuzzer.
#![cfg(feature = "files")]

use std::fs;
use std::path::{Path, PathBuf};

mod readers;

/// The package of the fuzz targets.
fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// What lies in a folder, sorted by name.
fn listed(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Every corpus holds inputs that are accepted and inputs that are refused, or the replay would say little.
fn replay(target: &str, read: fn(&[u8]) -> bool) {
    if !fuzz().exists() {
        return; // the published crate, which has no corpora
    }
    let mut outcomes = [0; 2];
    for file in listed(&fuzz().join("corpus").join(target)) {
        eprintln!("{}", file.display()); // shown if it panics
        outcomes[usize::from(read(&fs::read(&file).unwrap()))] += 1;
    }
    let [refused, accepted] = outcomes;
    assert!(refused > 0 && accepted > 0, "{target}: {refused} inputs refused, {accepted} accepted");
}

macro_rules! replays {
    ($($target:ident),*) => {
        $(#[test]
        fn $target() {
            replay(stringify!($target), readers::$target);
        })*

        #[test]
        fn every_target_is_replayed() {
            if fuzz().exists() {
                let targets = listed(&fuzz().join("fuzz_targets"));
                assert_eq!(targets.iter().filter_map(|path| path.file_stem()).collect::<Vec<_>>(), [$(stringify!($target)),*]);
            }
        }
    };
}

replays!(adapter, archive, config, container, convert, extract, matrix, merge, model, state);
