//! Cases on the device, compiled side by side, and how a time is taken.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use half::bf16;
use papilio::cuda::{Batch, BatchMut, Buffer, DeviceFactors, DevicePlan, Number, Saved, Stream};
use papilio::{Op, Result};

use crate::cases::{Case, theta};

/// Numbers of [−1, 1) without a pattern that a device could profit from.
fn numbers<E: Number>(len: usize) -> Vec<E> {
    let mut state = 1u64;
    let some: Vec<E> = (0..65537)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            E::store((state >> 40) as f32 / (1 << 23) as f32 - 1.0)
        })
        .collect();
    some.into_iter().cycle().take(len).collect()
}

/// Batches of one type: x is filled.
pub(crate) struct Batches<E> {
    pub(crate) x: Buffer<E>,
    pub(crate) y: Buffer<E>,
    pub(crate) z: Buffer<E>,
}

impl<E: Number> Batches<E> {
    pub(crate) fn new(stream: &Stream, len: usize) -> Result<Self> {
        Ok(Self { x: stream.upload(&numbers::<E>(len))?, y: stream.zeros(len)?, z: stream.zeros(len)? })
    }

    /// Larger than the caches.
    pub(crate) fn large(stream: &Stream) -> Result<Self> {
        Self::new(stream, (256 << 20) / size_of::<E>())
    }

    /// Bytes read and written for each second by the driver's own copy.
    pub(crate) fn copy(&mut self, stream: &Stream) -> Result<f64> {
        let bytes = 2 * self.x.len() * size_of::<E>();
        let copy = bytes as f64 / time(stream, 0.02, || self.y.copy_from(&self.x))?;
        println!("\ncopy on the device, {}: {:.0} GB/s", name::<E>(), copy / 1e9);
        Ok(copy)
    }
}

pub(crate) fn name<E>() -> &'static str {
    std::any::type_name::<E>().rsplit("::").next().unwrap_or_default()
}

/// A case on the device.
pub(crate) struct Ready {
    pub(crate) case: Case,
    pub(crate) plan: DevicePlan,
    pub(crate) factors: DeviceFactors,
    pub(crate) theta: Buffer<f32>,
}

impl Ready {
    pub(crate) fn new(stream: &Stream, case: &Case) -> Result<Self> {
        let plan = DevicePlan::tuned(stream, &case.plan, case.tuning)?;
        let theta = stream.upload(&theta(&case.plan))?;
        Ok(Self { factors: plan.realize(&theta)?, case: case.clone(), plan, theta })
    }

    pub(crate) fn apply<E: Number>(&self, batches: &mut Batches<E>, batch: usize, op: Op) -> Result<()> {
        let shape = [batch, self.case.plan.n()];
        let (x, y) = (Batch::strided(&batches.x, 0, shape, shape[1])?, &mut batches.y);
        self.plan.apply(&self.factors, x, BatchMut::strided(y, 0, shape, shape[1])?, op)
    }

    /// Saved is y, or x; gy is x; gx goes to z.
    pub(crate) fn vjp<E: Number>(
        &self,
        batches: &mut Batches<E>,
        batch: usize,
        op: Op,
        from_input: bool,
        d: &mut Buffer<f32>,
    ) -> Result<()> {
        let shape = [batch, self.case.plan.n()];
        let rows = |buffer| Batch::strided(buffer, 0, shape, shape[1]);
        let saved = if from_input { Saved::Input(rows(&batches.x)?) } else { Saved::Output(rows(&batches.y)?) };
        let gx = BatchMut::strided(&mut batches.z, 0, shape, shape[1])?;
        self.plan.apply_vjp(&self.factors, saved, op, rows(&batches.x)?, Some(gx), Some(d))
    }

    pub(crate) fn gradient(&self, stream: &Stream) -> Result<Buffer<f32>> {
        stream.zeros(self.case.plan.num_entries())
    }
}

/// The median time of one of `count` runs, in seconds; each of five measurements takes about as long as said.
pub(crate) fn time(stream: &Stream, seconds: f64, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    work()?;
    let one = stream.time(&mut work)?.max(1e-6);
    let count = ((seconds / one) as usize).clamp(3, 200);
    let mut times = (0..5)
        .map(|_| {
            let all = stream.time(|| (0..count).try_for_each(|_| work()))?;
            Ok(all / count as f64)
        })
        .collect::<Result<Vec<f64>>>()?;
    times.sort_by(f64::total_cmp);
    Ok(times[2])
}

/// `work` for every number below `count`, on all cores, each taking the next one that is left.
fn side_by_side<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get()).min(count.max(1));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count {
                        break;
                    }
                    let result = work(at);
                    done.lock().unwrap().push((at, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// What is compiled for a case: for vectors of this type.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kernel {
    Apply(bool),
    Vjp(bool),
    Dense(bool),
    /// All of a training step, in single precision.
    Step,
}

fn compile_one(stream: &Stream, ready: &Ready, kernel: Kernel) -> Result<()> {
    fn of<E: Number>(stream: &Stream, ready: &Ready, kernel: Kernel) -> Result<()> {
        let batches = &mut Batches::<E>::new(stream, ready.case.plan.n())?;
        match kernel {
            Kernel::Apply(_) => ready.apply(batches, 1, Op::None),
            Kernel::Vjp(_) => ready.vjp(batches, 1, Op::None, false, &mut ready.gradient(stream)?),
            Kernel::Dense(_) => ready.plan.dense::<E>(&ready.factors).map(|_| ()),
            Kernel::Step => {
                let mut d = ready.gradient(stream)?;
                ready.apply(batches, 1, Op::Transpose)?;
                ready.vjp(batches, 1, Op::Transpose, true, &mut d)?;
                ready.vjp(batches, 1, Op::Transpose, false, &mut d)?;
                let mut d_theta = stream.zeros(ready.case.plan.num_params())?;
                ready.plan.realize_vjp(&ready.theta, &ready.factors, &d, &mut d_theta)
            }
        }
    }
    match kernel {
        Kernel::Apply(true) | Kernel::Vjp(true) | Kernel::Dense(true) => of::<bf16>(stream, ready, kernel),
        _ => of::<f32>(stream, ready, kernel),
    }
}

/// The cases on the device, with all that they are going to run compiled.
pub(crate) fn compile(stream: &Stream, wanted: Vec<(Case, &[Kernel])>) -> Vec<Result<Ready>> {
    let start = Instant::now();
    let ready = side_by_side(wanted.len(), |at| Ready::new(stream, &wanted[at].0));
    let jobs: Vec<(&Ready, Kernel)> = ready
        .iter()
        .zip(&wanted)
        .filter_map(|(ready, (_, kernels))| Some((ready.as_ref().ok()?, *kernels)))
        .flat_map(|(ready, kernels)| kernels.iter().map(move |kernel| (ready, *kernel)))
        .collect();
    // What fails here fails again, where it is told.
    side_by_side(jobs.len(), |at| _ = compile_one(stream, jobs[at].0, jobs[at].1));
    println!("\n{} plans and {} kinds of kernels compiled in {:.1?}", ready.len(), jobs.len(), start.elapsed());
    ready
}
