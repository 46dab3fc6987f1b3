//! What is fuzzed: the readers' functions, shared with the replay of the corpora on stable Rust.

#[path = "../../tests/fuzz_corpus/readers/mod.rs"]
mod readers;

pub use readers::*;
