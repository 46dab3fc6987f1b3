//! Doors to other libraries, one file each. Types of a framework appear in its own file and nowhere else.

#[cfg(feature = "candle")]
pub mod candle;
