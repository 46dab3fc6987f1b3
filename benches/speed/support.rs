//! What the benchmarks share: plans, random numbers, and the yardsticks of `papilio bench`.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use papilio::generator::Generator;
use papilio::parametrization::Charts;
use papilio::topology::Butterfly;
use papilio::{Batch, BatchMut, Element, Isa, Op, Parallelism, Plan, Real, Saved, Scalar, Workspace};

#[path = "../../src/bin/papilio/bench/yardsticks.rs"]
pub(crate) mod yardsticks;

use yardsticks::{copy_loop, dense, peak_f32, peak_f64};

pub(crate) type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// Short cases: there are many, and `papilio bench` interleaves them better.
pub(crate) fn config() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .nresamples(2000)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
        .without_plots()
}

/// The block butterfly BOFT(m, b) with Cayley blocks; for b = 2 all log₂ n stages, which is the classic butterfly.
pub(crate) fn butterfly<T: Scalar>(n: usize, b: usize, m: usize) -> (String, Plan<T>) {
    let m = if b == 2 { n.ilog2() as usize } else { m };
    let plan = Plan::new(n, &Butterfly::boft(m, b).unwrap(), Charts::new().find("Cayley").unwrap());
    (format!("b={b} m={m} n={n}"), plan.unwrap())
}

/// Numbers in [−½, ½), and parts of numbers.
pub(crate) fn random<E: Element>(len: usize) -> Vec<E> {
    let mut g = Generator::new(1);
    let mut one = || <E::Scalar as Scalar>::Real::from_wide(g.uniform() - 0.5);
    (0..len).map(|_| E::store(E::Scalar::from_parts(one(), one()))).collect()
}

pub(crate) fn theta<P: Real>(plan: &Plan<impl Scalar<Real = P>>) -> Vec<P> {
    random(plan.num_params())
}

/// `apply` of a batch in rows, on the best instruction set and one thread.
pub(crate) fn apply<E: Element>(group: &mut Group, name: &str, plan: &Plan<E::Scalar>, batch: usize) {
    apply_on::<E>(group, name, plan, batch, Parallelism::None, Isa::detect());
}

pub(crate) fn apply_on<E: Element>(
    group: &mut Group,
    name: &str,
    plan: &Plan<E::Scalar>,
    batch: usize,
    parallelism: Parallelism,
    isa: Isa,
) {
    let n = plan.n();
    let factors = plan.realize(&theta(plan)).unwrap();
    let (x, mut y) = (random::<E>(n * batch), random::<E>(n * batch));
    let mut ws = Workspace::with_isa(isa).unwrap();
    group.throughput(Throughput::Elements((n * batch) as u64));
    group.bench_function(name, |bench| {
        bench.iter(|| {
            let (x, y) = (Batch::rows(&x, n).unwrap(), BatchMut::rows(&mut y, n).unwrap());
            plan.apply(&factors, x, y, Op::None, parallelism, &mut ws).unwrap();
        });
    });
}

/// `apply_vjp` from the saved input or output, with both gradients.
pub(crate) fn vjp<T: Scalar>(group: &mut Group, name: &str, plan: &Plan<T>, batch: usize, from_output: bool) {
    let n = plan.n();
    let factors = plan.realize(&theta(plan)).unwrap();
    let (x, gy, mut gx) = (random::<T>(n * batch), random::<T>(n * batch), random::<T>(n * batch));
    let (mut d, mut ws) = (vec![T::zero(); plan.num_entries()], Workspace::new());
    group.throughput(Throughput::Elements((n * batch) as u64));
    group.bench_function(name, |bench| {
        bench.iter(|| {
            let (x, gy) = (Batch::rows(&x, n).unwrap(), Batch::rows(&gy, n).unwrap());
            let saved = if from_output { Saved::Output(x) } else { Saved::Input(x) };
            let gx = Some(BatchMut::rows(&mut gx, n).unwrap());
            plan.apply_vjp(&factors, saved, Op::None, gy, gx, Some(&mut d), Parallelism::None, &mut ws).unwrap();
        });
    });
}

/// Copies of a batch: below 1 MiB the faster of the two is the yardstick, beyond `memcpy`.
pub(crate) fn copies(group: &mut Group, n: usize, batch: usize, element: usize) {
    let words = n * batch * element / size_of::<u32>();
    let (from, mut to) = (vec![1u32; words], vec![2u32; words]);
    group.throughput(Throughput::Elements((n * batch) as u64));
    group.bench_function(format!("memcpy n={n}"), |bench| bench.iter(|| to.copy_from_slice(black_box(&from))));
    if words * size_of::<u32>() <= 1 << 20 {
        group.bench_function(format!("copy loop n={n}"), |bench| bench.iter(|| copy_loop(black_box(&from), &mut to)));
    }
}

/// The dense product by faer on one thread; for one vector with the matrix by rows and by columns.
pub(crate) fn products<T: Scalar + faer::traits::ComplexField>(group: &mut Group, n: usize, batch: usize) {
    let (a, x, mut y) = (random::<T>(n * n), random::<T>(n * batch), random::<T>(n * batch));
    group.throughput(Throughput::Elements((n * batch) as u64));
    for (layout, by_rows) in [("rows", true), ("columns", false)] {
        if by_rows || batch == 1 {
            let name = format!("dense by {layout} n={n}");
            group.bench_function(name, |bench| bench.iter(|| dense(n, &a, by_rows, black_box(&x), &mut y)));
        }
    }
}

/// The peak of multiply-add; elements per second are floating-point operations.
pub(crate) fn peaks(c: &mut Criterion) {
    const STEPS: usize = 1 << 12;
    let mut group = c.benchmark_group("peak");
    for (name, peak) in [("f32", peak_f32 as fn(usize) -> usize), ("f64", peak_f64)] {
        group.throughput(Throughput::Elements(peak(STEPS) as u64));
        group.bench_function(name, |bench| bench.iter(|| peak(black_box(STEPS))));
    }
    group.finish();
}
