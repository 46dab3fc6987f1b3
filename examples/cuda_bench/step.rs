//! A training step, as a whole and in parts.

use std::cell::RefCell;
use std::time::Instant;

use papilio::cuda::{Batch, BatchMut, Saved, Stream};
use papilio::{Op, Result};

use crate::ready::{Batches, Ready, time};

/// A training step of BOFT's rotation at d = 4096, 2048 tokens: what `tests/peers/time_peft_cuda.py` times as well.
pub(crate) fn step(stream: &Stream, ready: &Ready) -> Result<()> {
    let (host, batch, op) = (&ready.case.plan, 2048, Op::Transpose);
    let batches = RefCell::new(Batches::<f32>::new(stream, host.n() * batch)?);
    let (d, d_theta) = (RefCell::new(ready.gradient(stream)?), RefCell::new(stream.zeros::<f32>(host.num_params())?));
    let lock = || (batches.borrow_mut(), d.borrow_mut());
    let realize = || ready.plan.realize(&ready.theta).map(|_| ());
    let apply = || ready.apply(&mut lock().0, batch, op);
    let vjp = |from_input| {
        let (mut batches, mut d) = lock();
        ready.vjp(&mut batches, batch, op, from_input, &mut d)
    };
    let realize_vjp = || ready.plan.realize_vjp(&ready.theta, &ready.factors, &lock().1, &mut d_theta.borrow_mut());
    let all = |from_input| {
        realize()?;
        apply()?;
        lock().1.clear()?;
        vjp(from_input)?;
        realize_vjp()
    };
    // What a framework would allocate in every step, too.
    let peak = |from_input| {
        stream.peak_memory(|| {
            let x = batches.borrow_mut();
            let rows = Batch::rows(&x.x, host.n())?;
            let factors = ready.plan.realize(&ready.theta)?;
            let (mut y, mut gx) = (stream.zeros::<f32>(x.x.len())?, stream.zeros::<f32>(x.x.len())?);
            ready.plan.apply(&factors, rows, BatchMut::rows(&mut y, host.n())?, op)?;
            let (mut d, mut d_theta) = (ready.gradient(stream)?, stream.zeros(host.num_params())?);
            let saved = if from_input { Saved::Input(rows) } else { Saved::Output(Batch::rows(&y, host.n())?) };
            let gx = BatchMut::rows(&mut gx, host.n())?;
            ready.plan.apply_vjp(&factors, saved, op, rows, Some(gx), Some(&mut d))?;
            ready.plan.realize_vjp(&ready.theta, &factors, &d, &mut d_theta)
        })
    };
    println!("\n{}, f32; memory with y, gx and all gradients, beyond x and gy\n", ready.case.name);
    println!("| part | ms | ms by the host's clock, each waited for | peak MiB |\n|---|---|---|---|");
    let row = |part: &str, work: &dyn Fn() -> Result<()>, peak: Option<u64>| {
        let device = time(stream, 0.05, work)?;
        let mut times = (0..51)
            .map(|_| {
                let start = Instant::now();
                work()?;
                stream.synchronize()?;
                Ok(start.elapsed().as_secs_f64())
            })
            .collect::<Result<Vec<f64>>>()?;
        times.sort_by(f64::total_cmp);
        let peak = peak.map_or_else(String::new, |bytes| format!("{:.0}", bytes as f64 / f64::from(1 << 20)));
        println!("| {part} | {:.3} | {:.3} | {peak} |", device * 1e3, times[25] * 1e3);
        Ok(())
    };
    row("step, gradient from the output", &|| all(false), Some(peak(false)?))?;
    row("step, gradient from the input", &|| all(true), Some(peak(true)?))?;
    row("realize", &realize, None)?;
    row("apply", &apply, None)?;
    row("apply_vjp from the output", &|| vjp(false), None)?;
    row("apply_vjp from the input", &|| vjp(true), None)?;
    row("realize_vjp", &realize_vjp, None)
}
