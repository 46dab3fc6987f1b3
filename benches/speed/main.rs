//! How fast batches are multiplied, one subject a file, beside what bounds it: the peak of multiply-add, copies, dense products.
//!
//! `cargo bench --bench speed` runs all in minutes; `cargo bench --bench speed -- 'tables|peak'` a part. Elements per second are
//! vector coordinates, so ns per element is the inverse of the printed throughput. All subjects are one program, so that the
//! kernels are compiled once. `papilio bench` measures ratios better: there, contenders take turns.

mod apply;
mod gradients;
mod portable;
mod support;
mod tables;
mod threads;
mod types;

use apply::apply;
use criterion::{criterion_group, criterion_main};
use gradients::{gradients, reflectors};
use portable::portable;
use support::peaks;
use tables::tables;
use threads::threads;
use types::{beyond, scalars};

criterion_group! {
    name = benches;
    config = support::config();
    targets = peaks, apply, tables, gradients, reflectors, scalars, beyond, portable, threads
}
criterion_main!(benches);
