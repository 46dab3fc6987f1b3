//! The best single butterfly for the DCT-II, with and without a search for the order of its rows and columns.
//!
//! ```text
//! cargo run --release --example permuted              # n = 64
//! cargo run --release --example permuted -- 64 256
//! ```

use std::ops::ControlFlow;
use std::time::Instant;

use papilio::Result;
use papilio::fit::{self, Options, Progress, Sides, Target};
use papilio::topology::Butterfly;

fn main() -> Result<()> {
    let mut sizes: Vec<usize> = std::env::args().skip(1).map_while(|a| a.parse().ok()).collect();
    if sizes.is_empty() {
        sizes.push(64);
    }
    println!("DCT-II by one butterfly of n/2 log2 n blocks of O(2): errors e\n");
    println!("| n | order | e | bound of this order | seconds |\n|---|---|---|---|---|");
    let go = &mut |_: &Progress| ControlFlow::Continue(());
    for n in sizes {
        let target = dct2(n)?;
        let layouts = fit::layouts(n, &Butterfly::classic(2))?;
        let options = Options::default();
        let row = |order: &str, found: &fit::Fit<f64>, start: Instant| {
            let bound = found.bound.map_or(String::new(), |bound| format!("{bound:.4}"));
            println!("| {n} | {order} | {:.4} | {bound} | {:.2} |", found.error, start.elapsed().as_secs_f64());
        };
        let start = Instant::now();
        row("as it is", &fit::fit(&target, &layouts, &options, go)?, start);
        for (name, sides) in [("best rows", Sides::Rows), ("best rows and columns", Sides::Both)] {
            let start = Instant::now();
            let found = fit::permuted(&target, &layouts, sides, &options, go)?;
            row(name, &found.fit, start);
        }
    }
    Ok(())
}

fn dct2(n: usize) -> Result<Target<f64>> {
    let entry = |at: usize| {
        let (k, j) = (at / n, at % n);
        let scale = if k == 0 { 1.0 } else { 2.0f64 } / n as f64;
        // The angle is a multiple of π/(2n), reduced exactly.
        let turns = ((2 * j + 1) * k % (4 * n)) as f64 / (2 * n) as f64;
        scale.sqrt() * (std::f64::consts::PI * turns).cos()
    };
    Target::new(n, &(0..n * n).map(entry).collect::<Vec<_>>())
}
