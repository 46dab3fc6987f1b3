//! What the kernels reach on a GPU: `cargo run --release --features cuda --example cuda_bench -- [--quick] [--tune]`.
//!
//! Prints a table in Markdown: the time of `apply` and its share of the device's own copy, of the gradient in units of
//! `apply`, and of the dense product by cuBLAS. `--tune` tries other tiles and windows for the cases that matter. Times
//! are medians of the device's clock.

use half::bf16;
use papilio::cuda::{Batch, BatchMut, Buffer, Device, DevicePlan, Number, Precision, Saved, Stream, Tuning};
use papilio::parametrization::{Cayley, Givens};
use papilio::topology::Butterfly;
use papilio::{Op, Plan, Result};

struct Case {
    name: &'static str,
    plan: Plan<f32>,
}

fn cases(quick: bool) -> Result<Vec<Case>> {
    let case = |name, plan| Case { name, plan };
    let boft = |n, m, b| Plan::new(n, &Butterfly::boft(m, b)?, Cayley);
    let mut cases = vec![
        case("b = 2, n = 1024, m = 10", Plan::new(1024, &Butterfly::classic(2), Givens)?),
        case("b = 2, n = 4096, m = 12", Plan::new(4096, &Butterfly::classic(2), Givens)?),
        case("b = 8, n = 4096, m = 4", boft(4096, 4, 8)?),
        case("b = 32, n = 4096, m = 2", boft(4096, 2, 32)?),
    ];
    if !quick {
        cases.push(case("b = 2, n = 256, m = 8", Plan::new(256, &Butterfly::classic(2), Givens)?));
        cases.push(case("b = 4, n = 4096, m = 4", boft(4096, 4, 4)?));
        cases.push(case("b = 8, n = 1024, m = 4", boft(1024, 4, 8)?));
        cases.push(case("b = 16, n = 4096, m = 2", boft(4096, 2, 16)?));
        cases.push(case("b = 2, n = 16384, m = 14", Plan::new(16384, &Butterfly::classic(2), Givens)?));
    }
    Ok(cases)
}

/// The median time of one of `count` runs, in seconds.
fn time(stream: &Stream, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    work()?; // compiles
    let one = stream.time(&mut work)?.max(1e-6);
    let count = ((0.02 / one) as usize).clamp(3, 200);
    let mut times = (0..5)
        .map(|_| {
            let all = stream.time(|| (0..count).try_for_each(|_| work()))?;
            Ok(all / count as f64)
        })
        .collect::<Result<Vec<f64>>>()?;
    times.sort_by(f64::total_cmp);
    Ok(times[2])
}

/// Batches of one type, as large as the caches are not.
struct Batches<E> {
    x: Buffer<E>,
    y: Buffer<E>,
    z: Buffer<E>,
}

impl<E: Number> Batches<E> {
    fn new(stream: &Stream, numbers: usize) -> Result<Self> {
        let some: Vec<E> = (0..4099).map(|i| E::store((i as f32 * 0.37).sin())).collect();
        let x: Vec<E> = some.iter().copied().cycle().take(numbers).collect();
        Ok(Self { x: stream.upload(&x)?, y: stream.zeros(numbers)?, z: stream.zeros(numbers)? })
    }

    /// Bytes read and written for each second by the driver's own copy.
    fn copy(&mut self, stream: &Stream) -> Result<f64> {
        let bytes = 2 * self.x.len() * size_of::<E>();
        Ok(bytes as f64 / time(stream, || self.y.copy_from(&self.x))?)
    }
}

fn theta(plan: &Plan<f32>) -> Vec<f32> {
    (0..plan.num_params()).map(|i| 0.3 * (1.7 * i as f32).sin()).collect()
}

/// One row of the table.
fn row<E: Number>(stream: &Stream, case: &Case, batches: &mut Batches<E>, copy: f64) -> Result<()> {
    let n = case.plan.n();
    let batch = batches.x.len() / n;
    let plan = DevicePlan::new(stream, &case.plan)?;
    let theta = stream.upload(&theta(&case.plan))?;
    let factors = plan.realize(&theta)?;
    let shape = [batch, n];
    let x = Batch::strided(&batches.x, 0, shape, n)?;
    let bytes = (2 * batch * n * size_of::<E>()) as f64;
    let apply = time(stream, || plan.apply(&factors, x, BatchMut::strided(&mut batches.y, 0, shape, n)?, Op::None))?;
    let mut d = stream.zeros::<f32>(case.plan.num_entries())?;
    let vjp = time(stream, || {
        let (y, gx) = (Batch::strided(&batches.y, 0, shape, n)?, BatchMut::strided(&mut batches.z, 0, shape, n)?);
        plan.apply_vjp(&factors, Saved::Output(y), Op::None, x, Some(gx), Some(&mut d))
    });
    let vjp = vjp.map_or_else(|error| error.to_string(), |vjp| format!("{:.2}", vjp / apply));
    let q = plan.dense::<E>(&factors)?;
    let dense =
        time(stream, || q.apply(x, BatchMut::strided(&mut batches.y, 0, shape, n)?, Op::None, Precision::default()))?;
    println!(
        "| {} | {} | {batch} | {:.3} | {:.0} | {:.0} % | {vjp} | {:.3} | {:.2} |",
        case.name,
        std::any::type_name::<E>().rsplit("::").next().unwrap_or_default(),
        apply * 1e3,
        bytes / apply / 1e9,
        100.0 * bytes / apply / copy,
        dense * 1e3,
        dense / apply,
    );
    Ok(())
}

fn table<E: Number>(stream: &Stream, quick: bool) -> Result<()> {
    let mut batches = Batches::<E>::new(stream, (256 << 20) / size_of::<E>())?;
    let copy = batches.copy(stream)?;
    let name = std::any::type_name::<E>();
    println!("\ncopy on the device, {name}: {:.0} GB/s\n", copy / 1e9);
    println!(
        "| plan | stored | batch | apply, ms | GB/s | of the copy | gradient / apply | dense, ms | dense / apply |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for case in cases(quick)? {
        row(stream, &case, &mut batches, copy)?;
    }
    Ok(())
}

/// The least batch (a power of two) from which on structured wins, for each n.
fn crossover(stream: &Stream) -> Result<()> {
    println!("\ndense (cuBLAS, bf16) against structured: times of the dense product in units of `apply`\n");
    println!("| plan | batch 1 | 16 | 256 | 4096 | 65536 |\n|---|---|---|---|---|---|");
    let mut all = Vec::new();
    for n in [128, 256, 512, 1024, 2048, 4096, 8192] {
        all.push((n, "b = 2", Plan::new(n, &Butterfly::classic(2), Givens)?));
        all.push((n, "b = 8, m = 4", Plan::new(n, &Butterfly::boft(4, 8)?, Cayley)?));
        all.push((n, "b = 32, m = 2", Plan::new(n, &Butterfly::boft(2, 32)?, Cayley)?));
    }
    let plans: Vec<_> = all.iter().map(|(_, _, plan)| (plan.clone(), Tuning::default())).collect();
    compile::<bf16>(stream, &plans);
    for (n, name, plan) in all {
        let on_device = DevicePlan::new(stream, &plan)?;
        let factors = on_device.realize(&stream.upload(&theta(&plan))?)?;
        let q = on_device.dense::<bf16>(&factors)?;
        let mut cells = String::new();
        for batch in [1, 16, 256, 4096, 65536] {
            let (x, mut y) = (stream.zeros::<bf16>(batch * n)?, stream.zeros::<bf16>(batch * n)?);
            let x = Batch::rows(&x, n)?;
            let apply = time(stream, || on_device.apply(&factors, x, BatchMut::rows(&mut y, n)?, Op::None))?;
            let dense = time(stream, || q.apply(x, BatchMut::rows(&mut y, n)?, Op::None, Precision::default()))?;
            cells += &format!(" {:.2} |", dense / apply);
        }
        println!("| n = {n}, {name} |{cells}");
    }
    Ok(())
}

/// A training step of BOFT's rotation at d = 4096, 2048 tokens, b = 8, m = 4: what `tests/peers/time_peft_cuda.py`
/// times as well.
fn step(stream: &Stream) -> Result<()> {
    let (n, batch) = (4096, 2048);
    let host = Plan::<f32>::new(n, &Butterfly::boft(4, 8)?, Cayley)?;
    let plan = DevicePlan::new(stream, &host)?;
    let theta = stream.upload(&theta(&host))?;
    let mut batches = Batches::<f32>::new(stream, n * batch)?;
    let mut d_theta = stream.zeros::<f32>(host.num_params())?;
    let step = time(stream, || {
        let factors = plan.realize(&theta)?;
        plan.apply(&factors, Batch::rows(&batches.x, n)?, BatchMut::rows(&mut batches.y, n)?, Op::Transpose)?;
        let mut d = stream.zeros::<f32>(host.num_entries())?;
        let (saved, gy) = (Saved::Input(Batch::rows(&batches.x, n)?), Batch::rows(&batches.y, n)?);
        let gx = BatchMut::rows(&mut batches.z, n)?;
        plan.apply_vjp(&factors, saved, Op::Transpose, gy, Some(gx), Some(&mut d))?;
        plan.realize_vjp(&theta, &factors, &d, &mut d_theta)
    })?;
    println!("\nrotation's training step, d = 4096, 2048 tokens, b = 8, m = 4, f32: {:.3} ms", step * 1e3);
    Ok(())
}

/// Compiles what these plans apply, side by side, before anything is timed.
fn compile<E: Number>(stream: &Stream, plans: &[(Plan<f32>, Tuning)]) {
    std::thread::scope(|scope| {
        for some in plans.chunks(plans.len().div_ceil(16).max(1)) {
            scope.spawn(move || {
                for (plan, tuning) in some {
                    let Ok(on_device) = DevicePlan::tuned(stream, plan, *tuning) else { continue };
                    // What fails here fails again, where it is told.
                    let _ = on_device
                        .realize(&match stream.upload(&theta(plan)) {
                            Ok(theta) => theta,
                            Err(_) => continue,
                        })
                        .and_then(|factors| {
                            let mut x = stream.zeros::<E>(plan.n())?;
                            on_device.apply_in_place(&factors, BatchMut::rows(&mut x, plan.n())?, Op::None)
                        });
                }
            });
        }
    });
}

/// Other tiles and windows for the cases that matter.
fn tune<E: Number>(stream: &Stream) -> Result<()> {
    let mut batches = Batches::<E>::new(stream, (256 << 20) / size_of::<E>())?;
    let copy = batches.copy(stream)?;
    println!("\ntiles, {}: share of the copy\n", std::any::type_name::<E>());
    println!("| plan | window | chunk, planes, together, threads | ahead | of the copy |\n|---|---|---|---|---|");
    let (mut all, sms) = (Vec::new(), stream.device().multiprocessors());
    for case in cases(true)? {
        // A butterfly belongs together as a whole; BOFT falls into parts of 64 coordinates.
        let pairs = case.name.starts_with("b = 2,");
        let (windows, planes) = match pairs {
            true => (&[8, 16][..], [(1, 1), (2, 1), (2, 2), (4, 2)]),
            false => (&[8][..], [(8, 1), (16, 1), (16, 2), (32, 2)]),
        };
        for (&window, (planes, together)) in windows.iter().flat_map(|w| planes.map(|p| (w, p))) {
            for (threads, ahead) in [(128, 0), (256, 0), (512, 0), (512, 2 * sms)] {
                if threads > 128 || !pairs {
                    let tuning = Tuning { window: Some(window), tile: Some([4, planes, together, threads]), ahead };
                    all.push((case.name, case.plan.clone(), tuning));
                }
            }
        }
    }
    let plans: Vec<_> = all.iter().map(|(_, plan, tuning)| (plan.clone(), *tuning)).collect();
    compile::<E>(stream, &plans);
    for (name, plan, tuning) in all {
        let n = plan.n();
        let (batch, bytes) = (batches.x.len() / n, (2 * batches.x.len() * size_of::<E>()) as f64);
        let Ok(on_device) = DevicePlan::tuned(stream, &plan, tuning) else { continue }; // no such tile
        let factors = on_device.realize(&stream.upload(&theta(&plan))?)?;
        let x = Batch::strided(&batches.x, 0, [batch, n], n)?;
        let applied = time(stream, || {
            on_device.apply(&factors, x, BatchMut::strided(&mut batches.y, 0, [batch, n], n)?, Op::None)
        });
        let share = applied.map_or_else(|e| e.to_string(), |t| format!("{:.0} %", 100.0 * bytes / t / copy));
        let (window, tile) = (tuning.window.unwrap_or_default(), tuning.tile.unwrap_or_default());
        println!("| {name} | {window} | {tile:?} | {} | {share} |", tuning.ahead);
    }
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = arguments.iter().find(|a| !["--quick", "--tune"].contains(&a.as_str())) {
        eprintln!("unknown argument {unknown}; known are --quick and --tune");
        std::process::exit(2);
    }
    let has = |name: &str| arguments.iter().any(|a| a == name);
    let device = match Device::open(0) {
        Ok(device) => device,
        Err(missing) => {
            println!("skipped, no GPU: {missing}");
            return Ok(());
        }
    };
    println!("{}, {} multiprocessors", device.name()?, device.multiprocessors());
    let stream = device.default_stream();
    if has("--tune") {
        tune::<f32>(&stream)?;
        return tune::<bf16>(&stream);
    }
    table::<f32>(&stream, has("--quick"))?;
    table::<bf16>(&stream, has("--quick"))?;
    step(&stream)?;
    if has("--quick") { Ok(()) } else { crossover(&stream) }
}
