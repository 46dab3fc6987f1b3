//! wip
pub mod storage;
