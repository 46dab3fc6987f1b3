//! The verbs on a GPU against the CPU's, and what is refused. Where there is no GPU every test says so and ends.
//!
//! With `PAPILIO_SMALL` set only small plans are run: for tools that take a hundred times as long.

use half::{bf16, f16};
use papilio::cuda::{self, Device, DevicePlan, Precision, Stream};
use papilio::parametrization::{Cayley, CayleyNeumann, Exponential, Givens, NewtonSchulz};
use papilio::random::{Direction, RandomRotation};
use papilio::topology::{AnyButterfly, BlockDiagonal, Butterfly, Monarch, RandomShuffle};
use papilio::{
    Batch, BatchMut, Element, Error, Factors, Isa, Op, Parallelism, Plan, Saved, Sharing, Source, StageLayout,
    Topology, Workspace,
};

/// A stream, or `None` with the reason printed.
fn stream() -> Option<Stream> {
    match Device::open(0) {
        Ok(device) => Some(device.default_stream()),
        Err(missing) => {
            assert!(matches!(missing, Error::Device { .. }), "{missing:?}");
            println!("skipped, no GPU: {missing}");
            None
        }
    }
}

/// `work` on all plans, side by side: most of the time is the compiler's.
fn on_all(plans: Vec<(&'static str, Plan<f32>)>, work: impl Fn(&'static str, Plan<f32>) + Sync) {
    let small = std::env::var_os("PAPILIO_SMALL").is_some();
    std::thread::scope(|scope| {
        for (name, plan) in plans.into_iter().filter(|(_, plan)| !small || plan.n() <= 64) {
            let work = &work;
            scope.spawn(move || work(name, plan));
        }
    });
}

fn plans() -> Vec<(&'static str, Plan<f32>)> {
    let cayley = |n, topology: &dyn Topology| Plan::<f32>::new(n, topology, Cayley).unwrap();
    let shared = Source::Chart { chart: std::sync::Arc::new(Cayley), sharing: Sharing::All };
    let table = StageLayout::Table { block: 3, index: [9, 1, 4, 0, 7, 2].into() };
    vec![
        ("identity 5", Plan::identity(5).unwrap()),
        ("classic 2", Plan::new(2, &Butterfly::classic(2), Givens).unwrap()),
        ("classic 64, exponential", Plan::new(64, &Butterfly::classic(2), Exponential).unwrap()),
        ("classic 1024", Plan::new(1024, &Butterfly::classic(2), Givens).unwrap()),
        ("classic 4096", Plan::new(4096, &Butterfly::classic(2), Givens).unwrap()),
        ("classic 8192", Plan::new(8192, &Butterfly::classic(2), Cayley).unwrap()),
        ("boft 4, 8 of 4096", cayley(4096, &Butterfly::boft(4, 8).unwrap())),
        ("boft 3, 4 of 768", cayley(768, &Butterfly::boft(3, 4).unwrap())),
        ("boft 2, 32 of 256", cayley(256, &Butterfly::boft(2, 32).unwrap())),
        ("radix 4 of 256", cayley(256, &Butterfly::classic(4))),
        ("blocks of 16 of 768", cayley(768, &BlockDiagonal::new(16))),
        ("one block of 13", cayley(13, &BlockDiagonal::new(13))),
        ("any 1009", cayley(1009, &AnyButterfly::new(4))),
        ("monarch 36", cayley(36, &Monarch::new(6))),
        ("random 1000", cayley(1000, &RandomShuffle { block: 4, stages: 3, seed: 7 })),
        ("shared", Plan::from_stages(24, [(StageLayout::contiguous(4, 6), shared)]).unwrap()),
        ("partial table", Plan::from_stages(11, [(table, Source::chart(Cayley))]).unwrap()),
        ("not orthogonal", Plan::new(48, &Butterfly::boft(2, 8).unwrap(), CayleyNeumann { order: 3 }).unwrap()),
        (
            "there and back",
            cayley(32, &Butterfly::boft(2, 4).unwrap()).then(cayley(32, &Butterfly::classic(2)).adjoint()).unwrap(),
        ),
    ]
}

fn theta(plan: &Plan<f32>) -> Vec<f32> {
    (0..plan.num_params()).map(|i| (1.7 * i as f32 + 0.3).sin() * 0.3).collect()
}

fn vectors(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i % 4099) as f32 * 0.37 + (i / 7) as f32).sin()).collect()
}

fn on_cpu<E: Element<Scalar = f32>>(plan: &Plan<f32>, factors: &Factors<f32>, op: Op, x: &[E]) -> Vec<E> {
    let mut y = x.to_vec();
    let rows = BatchMut::rows(&mut y, plan.n()).unwrap();
    plan.apply_in_place(factors, rows, op, Parallelism::Rayon, &mut Workspace::new()).unwrap();
    y
}

/// The largest difference in units of eps times the largest number.
fn ratio(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let size = b.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let miss = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |m: f32, d| if d <= m { m } else { d });
    if miss == 0.0 { 0.0 } else { miss / (size * f32::EPSILON) }
}

/// Whether the CPU fuses, and so has the device's bits.
fn fuses() -> bool {
    Isa::detect() != Isa::Portable
}

fn apply_case<E: cuda::Number + PartialEq>(stream: &Stream, name: &str, plan: &Plan<f32>, batch: usize, op: Op) {
    let n = plan.n();
    let factors = plan.realize(&theta(plan)).unwrap();
    let x: Vec<E> = vectors(n * batch).into_iter().map(E::store).collect();
    let expected = on_cpu(plan, &factors, op, &x);
    let plan = DevicePlan::new(stream, plan).unwrap();
    let factors = plan.upload(&factors).unwrap();
    let (mut input, mut y) = (stream.upload(&x).unwrap(), stream.upload(&vec![E::store(f32::NAN); n * batch]).unwrap());
    plan.apply(&factors, cuda::Batch::rows(&input, n).unwrap(), cuda::BatchMut::rows(&mut y, n).unwrap(), op).unwrap();
    let y = y.download().unwrap();
    plan.apply_in_place(&factors, cuda::BatchMut::rows(&mut input, n).unwrap(), op).unwrap();
    assert!(input.download().unwrap() == y, "{name}, {batch}, {op:?}: in place it differs");
    // Large blocks of half precision go through tensor cores, which leave out less than rounding does.
    let tensor = size_of::<E>() == 2 && plan.plan().stages().iter().any(|stage| stage.layout().block_size() % 16 == 0);
    if fuses() && !tensor {
        assert!(y == expected, "{name}, {batch}, {op:?}, {}", std::any::type_name::<E>());
        return;
    }
    let size = expected.iter().fold(0.0f32, |m, y| m.max(y.load().abs()));
    let place = if size_of::<E>() == 2 { E::store(1.0 + 1.0 / 128.0).load() - 1.0 } else { f32::EPSILON };
    for (y, expected) in y.iter().zip(&expected).map(|(y, e)| (y.load(), e.load())) {
        let bound = place * expected.abs() + size * if tensor { 2.0f32.powi(-15) } else { 16.0 * f32::EPSILON };
        assert!((y - expected).abs() <= bound, "{name}, {batch}, {op:?}: {y} and {expected}");
    }
}

#[test]
fn apply_has_the_bits_of_the_cpu() {
    let Some(stream) = stream() else { return };
    println!("{}", stream.device().name().unwrap());
    on_all(plans(), |name, plan| {
        for (batch, op) in [(0, Op::None), (1, Op::None), (3, Op::Adjoint), (17, Op::None), (1000, Op::Transpose)] {
            apply_case::<f32>(&stream, name, &plan, batch, op);
        }
        apply_case::<bf16>(&stream, name, &plan, 21, Op::None);
        apply_case::<f16>(&stream, name, &plan, 21, Op::Adjoint);
    });
}

/// The part of gradients that rotations can feel: see `DevicePlan::apply_vjp`.
fn project(plan: &Plan<f32>, d: &mut [f32]) {
    let is_rotation = |stage: &&papilio::Stage<f32>| {
        let Source::Chart { chart, .. } = stage.source() else { return false };
        stage.layout().block_size() == 2 && ["Cayley", "Givens", "Exponential"].contains(&chart.name())
    };
    for stage in plan.stages().iter().filter(is_rotation) {
        for g in 0..stage.num_groups() {
            let at = |i, k| stage.entry(g, i, k);
            let [a, b, c, e] = [at(0, 0), at(0, 1), at(1, 0), at(1, 1)];
            let (p, q) = (d[a] + d[e], d[c] - d[b]);
            (d[a], d[b], d[c], d[e]) = (0.5 * p, -0.5 * q, 0.5 * q, 0.5 * p);
        }
    }
}

#[test]
fn gradients_are_those_of_the_cpu() {
    let Some(stream) = stream() else { return };
    let worst = std::sync::Mutex::new([0.0f32; 2]);
    on_all(plans(), |name, host| {
        let n = host.n();
        let theta = theta(&host);
        let plan = DevicePlan::new(&stream, &host).unwrap();
        let theta_there = stream.upload(&theta).unwrap();
        let (factors, factors_there) = (host.realize(&theta).unwrap(), plan.realize(&theta_there).unwrap());
        for (batch, op, from_input) in [(1, Op::None, true), (37, Op::Adjoint, true), (700, Op::None, false)] {
            if !from_input && !host.is_exact() {
                continue;
            }
            let (x, gy) = (vectors(n * batch), vectors(n * batch + 5)[5..].to_vec());
            let saved = if from_input { x } else { on_cpu(&host, &factors, op, &x) };
            let (mut gx, mut d) = (vec![f32::NAN; n * batch], vec![0.0; host.num_entries()]);
            let rows = |x| Batch::rows(x, n).unwrap();
            let kept = if from_input { Saved::Input(rows(&saved[..])) } else { Saved::Output(rows(&saved[..])) };
            let (to, workspace) = (BatchMut::rows(&mut gx, n).unwrap(), &mut Workspace::new());
            host.apply_vjp(&factors, kept, op, rows(&gy), Some(to), Some(&mut d), Parallelism::Rayon, workspace)
                .unwrap();
            project(&host, &mut d);
            let mut d_theta = vec![0.5f32; theta.len()];
            host.realize_vjp(&theta, &factors, &d, &mut d_theta).unwrap();

            let (saved, gy) = (stream.upload(&saved).unwrap(), stream.upload(&gy).unwrap());
            let run = || {
                let mut gx = stream.upload(&vec![f32::NAN; n * batch]).unwrap();
                let mut d = stream.zeros::<f32>(host.num_entries()).unwrap();
                let mut d_theta = stream.upload(&vec![0.5f32; theta.len()]).unwrap();
                let rows = cuda::Batch::rows(&saved, n).unwrap();
                let kept = if from_input { cuda::Saved::Input(rows) } else { cuda::Saved::Output(rows) };
                let (gy, to) = (cuda::Batch::rows(&gy, n).unwrap(), cuda::BatchMut::rows(&mut gx, n).unwrap());
                plan.apply_vjp(&factors_there, kept, op, gy, Some(to), Some(&mut d)).unwrap();
                plan.realize_vjp(&theta_there, &factors_there, &d, &mut d_theta).unwrap();
                [gx, d, d_theta].map(|x| x.download().unwrap())
            };
            let [gx_there, d_there, d_theta_there] = run();
            assert!(run() == [&gx_there[..], &d_there, &d_theta_there], "{name}: not the same twice");
            assert!(ratio(&gx_there, &gx) <= 8.0, "{name}, {batch}: gx {}", ratio(&gx_there, &gx));
            // Sums over the batch in another order.
            let bound = 4.0 + 2.0 * (batch as f32).sqrt();
            let (entries, params) = (ratio(&d_there, &d), ratio(&d_theta_there, &d_theta));
            assert!(entries <= bound && params <= bound, "{name}, {batch}: {entries} and {params} eps");
            let mut worst = worst.lock().unwrap();
            *worst = [worst[0].max(entries), worst[1].max(params)];
        }
    });
    let worst = worst.into_inner().unwrap();
    println!("gradients of entries {} eps, of parameters {} eps", worst[0], worst[1]);
}

#[test]
fn blocks_are_those_of_the_cpu() {
    let Some(stream) = stream() else { return };
    let mut all = plans();
    let host_only = Plan::new(64, &BlockDiagonal::new(8), NewtonSchulz { steps: 8 }).unwrap();
    all.push(("a chart of the host's", host_only));
    on_all(all, |name, host| {
        let plan = DevicePlan::new(&stream, &host).unwrap();
        // The last is beyond the device's elimination.
        for scale in [0.0, 1.0, 30.0, 1e6] {
            let theta: Vec<f32> = theta(&host).iter().map(|t| t * scale).collect();
            if name == "not orthogonal" && scale > 1.0 {
                continue;
            }
            let factors = plan.realize(&stream.upload(&theta).unwrap()).unwrap();
            let q = plan.dense::<f32>(&factors).unwrap().columns().download().unwrap();
            let n = host.n();
            let identity: Vec<f32> = (0..n * n).map(|at| f32::from(u8::from(at / n == at % n))).collect();
            let expected = on_cpu(&host, &host.realize(&theta).unwrap(), Op::None, &identity);
            let miss = ratio(&q, &expected);
            assert!(miss <= 4.0, "{name}, θ·{scale}: {miss} eps");
            if n > 2000 {
                break;
            }
        }
        if host.num_params() > 0 {
            let mut theta = theta(&host);
            theta[0] = f32::NAN;
            assert!(matches!(plan.realize(&stream.upload(&theta).unwrap()), Err(Error::Domain { .. })), "{name}");
        }
    });
}

#[test]
fn dense_products_are_those_of_the_kernel() {
    let Some(stream) = stream() else { return };
    let host = Plan::<f32>::new(256, &Butterfly::boft(4, 8).unwrap(), Cayley).unwrap();
    let factors = host.realize(&theta(&host)).unwrap();
    let plan = DevicePlan::new(&stream, &host).unwrap();
    let there = plan.upload(&factors).unwrap();
    let x = vectors(256 * 33);
    let input = stream.upload(&x).unwrap();
    for (op, precision, bound) in
        [(Op::None, Precision::F32, 16.0), (Op::Adjoint, Precision::F32, 16.0), (Op::None, Precision::Tf32, 16384.0)]
    {
        let q = plan.dense::<f32>(&there).unwrap();
        let mut y = stream.zeros::<f32>(x.len()).unwrap();
        let (from, to) = (cuda::Batch::rows(&input, 256).unwrap(), cuda::BatchMut::rows(&mut y, 256).unwrap());
        q.apply(from, to, op, precision).unwrap();
        let miss = ratio(&y.download().unwrap(), &on_cpu(&host, &factors, op, &x));
        assert!(miss <= bound, "{op:?}, {precision:?}: {miss} eps");
    }
    // A weight with the rotation merged into it: (W Qᵀ) (Q x) = W x.
    let weight = vectors(100 * 256);
    let (mut merged, mut turned) = (stream.upload(&weight).unwrap(), stream.upload(&x).unwrap());
    plan.apply_in_place(&there, cuda::BatchMut::rows(&mut merged, 256).unwrap(), Op::None).unwrap();
    plan.apply_in_place(&there, cuda::BatchMut::rows(&mut turned, 256).unwrap(), Op::None).unwrap();
    let rows = |buffer| cuda::Batch::rows(buffer, 256).unwrap();
    let mut y = [stream.zeros::<f32>(33 * 100).unwrap(), stream.zeros::<f32>(33 * 100).unwrap()];
    let [a, b] = &mut y;
    let plain = stream.upload(&weight).unwrap();
    cuda::linear(rows(&merged), rows(&turned), cuda::BatchMut::rows(a, 100).unwrap(), Precision::F32).unwrap();
    cuda::linear(rows(&plain), rows(&input), cuda::BatchMut::rows(b, 100).unwrap(), Precision::F32).unwrap();
    let [a, b] = y.map(|y| y.download().unwrap());
    assert!(ratio(&a, &b) <= 64.0, "{} eps", ratio(&a, &b));
}

#[test]
fn random_rotations_have_the_bits_of_the_cpu() {
    let Some(stream) = stream() else { return };
    for n in [1, 2, 13, 96, 128, 300, 1000, 1024, 1536, 4096, 4099] {
        let rotation = RandomRotation::<f32>::new(n, 42).unwrap();
        let there = cuda::DeviceRotation::new(&stream, &rotation).unwrap();
        let mut x = vectors(n * 11);
        let mut x_there = stream.upload(&x).unwrap();
        for direction in [Direction::Forward, Direction::Inverse] {
            let rows = BatchMut::rows(&mut x, n).unwrap();
            rotation.apply_batch(rows, direction, Parallelism::Rayon, &mut Workspace::new()).unwrap();
            there.apply(cuda::BatchMut::rows(&mut x_there, n).unwrap(), direction).unwrap();
            assert!(x_there.download().unwrap() == x, "n = {n}, {direction:?}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    assert!(matches!(Device::open(999), Err(Error::Device { .. })));
    let Some(stream) = stream() else { return };
    let host = Plan::<f32>::new(8, &Butterfly::classic(2), Givens).unwrap();
    let plan = DevicePlan::new(&stream, &host).unwrap();
    let factors = plan.upload(&host.realize(&[0.1f32; 12]).unwrap()).unwrap();
    let x = stream.zeros::<f32>(24).unwrap();
    let mut y = stream.zeros::<f32>(16).unwrap();
    fn rows_of(y: &mut cuda::Buffer<f32>) -> cuda::BatchMut<'_, f32> {
        cuda::BatchMut::rows(y, 8).unwrap()
    }
    let rows = cuda::Batch::rows(&x, 8).unwrap();
    assert!(matches!(plan.apply(&factors, rows, rows_of(&mut y), Op::None), Err(Error::Length { .. })));
    let fours = cuda::Batch::rows(&x, 4).unwrap();
    assert!(matches!(plan.apply(&factors, fours, rows_of(&mut y), Op::None), Err(Error::Length { .. })));
    assert!(matches!(cuda::Batch::rows(&x, 0), Err(Error::Size { .. })));
    assert!(matches!(cuda::Batch::rows(&x, 7), Err(Error::Size { .. })));
    assert!(matches!(cuda::Batch::strided(&x, 9, [2, 8], 8), Err(Error::Size { .. })));
    assert!(matches!(cuda::Batch::strided(&x, 0, [usize::MAX, 8], usize::MAX), Err(Error::Size { .. })));
    assert!(matches!(cuda::BatchMut::strided(&mut y, 0, [2, 8], 7), Err(Error::Overlap { .. })));
    assert!(matches!(plan.realize(&x), Err(Error::Length { .. })));
    let other = stream.device().new_stream().unwrap();
    let mut foreign = other.zeros::<f32>(24).unwrap();
    let refused = plan.apply_in_place(&factors, cuda::BatchMut::rows(&mut foreign, 8).unwrap(), Op::None);
    assert!(matches!(refused, Err(Error::Unsupported { .. })));
    let twin = DevicePlan::new(&stream, &host).unwrap();
    assert!(matches!(twin.apply_in_place(&factors, rows_of(&mut y), Op::None), Err(Error::Size { .. })));
    let other_plan = Plan::<f32>::new(8, &BlockDiagonal::new(4), Cayley).unwrap();
    assert!(plan.upload(&other_plan.realize(&[0.1f32; 12]).unwrap()).is_err());
    let reflectors = Plan::from_stages(8, [(StageLayout::contiguous(8, 1), Source::reflectors(1))]).unwrap();
    assert!(matches!(DevicePlan::new(&stream, &reflectors), Err(Error::Unsupported { .. })));
}
