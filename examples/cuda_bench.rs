//! What the kernels reach on a GPU.
//!
//!     cargo run --release --features cuda --example cuda_bench -- [--quick | --tune | --once] [--case PATTERN]…
//!
//! Prints tables in Markdown, row by row: the time of `apply` and its share of the device's own copy, of the gradient in
//! units of `apply`, and of the dense product by cuBLAS; a training step and its parts; from which batch on structured
//! wins. `--quick` leaves the last out, and some plans. `--tune` tries other tiles and windows for the cases that
//! matter. `--once` runs each kernel of the cases twice, for a profiler. `--case` (several times, if need be) keeps the
//! cases whose name contains PATTERN. Times are medians, of the device's clock unless a table says otherwise. All kernels
//! are compiled before anything is timed.

#[path = "cuda_bench/cases.rs"]
mod cases;
#[path = "cuda_bench/ready.rs"]
mod ready;
#[path = "cuda_bench/step.rs"]
mod step;

use half::bf16;
use papilio::cuda::{Batch, BatchMut, Device, Number, Precision, Stream};
use papilio::{Op, Result};

use cases::{Case, cases, sizes, training, tunings};
use ready::{Batches, Kernel, Ready, compile, name, time};
use step::step;

const TABLE: &[Kernel] = &[
    Kernel::Apply(false),
    Kernel::Apply(true),
    Kernel::Vjp(false),
    Kernel::Vjp(true),
    Kernel::Dense(false),
    Kernel::Dense(true),
];

fn table<E: Number>(stream: &Stream, cases: &[&Ready]) -> Result<()> {
    let mut batches = Batches::<E>::large(stream)?;
    let copy = batches.copy(stream)?;
    println!();
    println!(
        "| plan | stored | batch | apply, ms | GB/s | of the copy | gradient / apply | dense, ms | dense / apply |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for ready in cases {
        let n = ready.case.plan.n();
        let batch = batches.x.len() / n;
        let bytes = (2 * batch * n * size_of::<E>()) as f64;
        let apply = time(stream, 0.02, || ready.apply(&mut batches, batch, Op::None))?;
        let mut d = ready.gradient(stream)?;
        let vjp = time(stream, 0.02, || ready.vjp(&mut batches, batch, Op::None, false, &mut d));
        let vjp = vjp.map_or_else(|error| error.to_string(), |vjp| format!("{:.2}", vjp / apply));
        let q = ready.plan.dense::<E>(&ready.factors)?;
        let x = Batch::strided(&batches.x, 0, [batch, n], n)?;
        let dense = time(stream, 0.02, || {
            q.apply(x, BatchMut::strided(&mut batches.y, 0, [batch, n], n)?, Op::None, Precision::default())
        })?;
        println!(
            "| {} | {} | {batch} | {:.3} | {:.0} | {:.0} % | {vjp} | {:.3} | {:.2} |",
            ready.case.name,
            name::<E>(),
            apply * 1e3,
            bytes / apply / 1e9,
            100.0 * bytes / apply / copy,
            dense * 1e3,
            dense / apply,
        );
    }
    Ok(())
}

/// From which batch on structured wins, for each n. Products of single precision are TF32's.
fn crossover<E: Number>(stream: &Stream, cases: &[&Ready]) -> Result<()> {
    let most = 1 << 27;
    let mut batches = Batches::<E>::new(stream, most)?;
    println!("\nstructured and dense, {}: microseconds of either, and their quotient\n", name::<E>());
    println!("| plan | batch 1 | 16 | 256 | 4096 | 65536 (at most 2^27 / n) |\n|---|---|---|---|---|---|");
    for ready in cases {
        let n = ready.case.plan.n();
        let q = ready.plan.dense::<E>(&ready.factors)?;
        let mut cells = String::new();
        for batch in [1, 16, 256, 4096, 65536].map(|batch: usize| batch.min(most / n)) {
            let apply = time(stream, 0.004, || ready.apply(&mut batches, batch, Op::None))?;
            let x = Batch::strided(&batches.x, 0, [batch, n], n)?;
            let dense = time(stream, 0.004, || {
                q.apply(x, BatchMut::strided(&mut batches.y, 0, [batch, n], n)?, Op::None, Precision::Tf32)
            })?;
            cells += &format!(" {:.1} {:.1} {:.2} |", apply * 1e6, dense * 1e6, dense / apply);
        }
        println!("| {} |{cells}", ready.case.name);
    }
    Ok(())
}

/// Other tiles and windows for the cases that matter.
fn tune<E: Number>(stream: &Stream, cases: &[&Ready], gradient: bool) -> Result<()> {
    let mut batches = Batches::<E>::large(stream)?;
    let copy = batches.copy(stream)?;
    let what = if gradient { "copies a gradient takes" } else { "share of the copy" };
    println!("\ntiles, {}: {what}\n", name::<E>());
    println!("| plan | window | chunk, planes, together, threads | ahead | {what} |\n|---|---|---|---|---|");
    for ready in cases {
        let (n, tuning) = (ready.case.plan.n(), ready.case.tuning);
        let (batch, bytes) = (batches.x.len() / n, (2 * batches.x.len() * size_of::<E>()) as f64);
        let mut d = ready.gradient(stream)?;
        let time = time(stream, 0.004, || match gradient {
            true => ready.vjp(&mut batches, batch, Op::None, false, &mut d),
            false => ready.apply(&mut batches, batch, Op::None),
        });
        let text = |t: f64| match gradient {
            true => format!("{:.2}", t * copy / bytes),
            false => format!("{:.0} %", 100.0 * bytes / t / copy),
        };
        let tile = tuning.tile.or(tuning.gradient_tile).unwrap_or_default();
        let (name, window) = (&ready.case.name, tuning.window.unwrap_or_default());
        println!("| {name} | {window} | {tile:?} | {} | {} |", tuning.ahead, time.map_or_else(|e| e.to_string(), text));
    }
    Ok(())
}

/// Each kernel twice, on batches just beyond the caches, after one vector that compiles it.
fn once(stream: &Stream, cases: Vec<Case>) -> Result<()> {
    let mut single = Batches::<f32>::new(stream, 16 << 20)?;
    let mut half = Batches::<bf16>::new(stream, 32 << 20)?;
    let kernels: &[Kernel] = &[Kernel::Apply(false), Kernel::Apply(true), Kernel::Vjp(false)];
    for ready in compile(stream, cases.into_iter().map(|case| (case, kernels)).collect()) {
        let ready = ready?;
        let (n, mut d) = (ready.case.plan.n(), ready.gradient(stream)?);
        for _ in 0..2 {
            ready.apply(&mut single, (16 << 20) / n, Op::None)?;
            ready.apply(&mut half, (32 << 20) / n, Op::None)?;
            ready.vjp(&mut single, (16 << 20) / n, Op::None, false, &mut d)?;
        }
        stream.synchronize()?;
        println!("{}: apply of f32 and bf16, gradient of f32, twice", ready.case.name);
    }
    Ok(())
}

/// A mistake of the caller's: what is wrong, and how it is done.
fn refuse(wrong: &str) -> ! {
    eprintln!("{wrong}; usage: cuda_bench [--quick | --tune | --once] [--case PATTERN]…");
    std::process::exit(2);
}

fn main() -> Result<()> {
    let (mut mode, mut patterns) = (String::new(), Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" | "--tune" | "--once" if mode.is_empty() => mode = argument,
            "--quick" | "--tune" | "--once" => refuse(&format!("either {mode} or {argument}")),
            "--case" => patterns.push(arguments.next().unwrap_or_else(|| refuse("--case without a pattern"))),
            _ => refuse(&format!("unknown argument {argument}")),
        }
    }
    let keeps = |case: &Case| patterns.is_empty() || patterns.iter().any(|pattern| case.name.contains(pattern));
    let kept = |cases: Vec<Case>| cases.into_iter().filter(keeps).collect::<Vec<_>>();
    let (quick, tuned, full) = (mode == "--quick", mode == "--tune", mode.is_empty());
    let some = kept(cases(quick || tuned)?);
    let steps = kept(if quick || full { vec![training()?] } else { Vec::new() });
    let sizes = kept(if full { sizes()? } else { Vec::new() });
    if some.is_empty() && steps.is_empty() && sizes.is_empty() {
        refuse(&format!("no case's name contains any of {patterns:?}"));
    }
    let device = match Device::open(0) {
        Ok(device) => device,
        Err(missing) => {
            println!("skipped, no GPU: {missing}");
            return Ok(());
        }
    };
    println!("{}, {} multiprocessors", device.name()?, device.multiprocessors());
    let stream = device.default_stream();
    match mode.as_str() {
        "--once" => return once(&stream, some),
        "--tune" => {
            for gradient in [false, true] {
                let kernels: &[Kernel] = match gradient {
                    false => &[Kernel::Apply(false), Kernel::Apply(true)],
                    true => &[Kernel::Vjp(false), Kernel::Vjp(true)],
                };
                let cases = kept(tunings(gradient)?);
                let ready = compile(&stream, cases.into_iter().map(|case| (case, kernels)).collect());
                let ready: Vec<&Ready> = ready.iter().flatten().collect(); // where there is such a tile
                tune::<f32>(&stream, &ready, gradient)?;
                tune::<bf16>(&stream, &ready, gradient)?;
            }
            return Ok(());
        }
        _ => {}
    }
    let counts = [some.len(), steps.len()];
    let wanted = some.into_iter().map(|case| (case, TABLE));
    let wanted = wanted.chain(steps.into_iter().map(|case| (case, &[Kernel::Step][..])));
    let wanted = wanted.chain(sizes.into_iter().map(|case| {
        (case, &[Kernel::Apply(false), Kernel::Apply(true), Kernel::Dense(false), Kernel::Dense(true)][..])
    }));
    let ready = compile(&stream, wanted.collect()).into_iter().collect::<Result<Vec<Ready>>>()?;
    let ready: Vec<&Ready> = ready.iter().collect();
    let (some, rest) = ready.split_at(counts[0]);
    let (steps, sizes) = rest.split_at(counts[1]);
    steps.iter().try_for_each(|ready| step(&stream, ready))?;
    if !some.is_empty() {
        table::<f32>(&stream, some)?;
        table::<bf16>(&stream, some)?;
    }
    if sizes.is_empty() {
        return Ok(());
    }
    crossover::<f32>(&stream, sizes)?;
    crossover::<bf16>(&stream, sizes)
}
