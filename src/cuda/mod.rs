//! CUDA.
mod call;
#[cfg(test)]
mod emulation;
mod program;
mod schedule;
#[cfg(test)]
mod tests;
mod verbs;
