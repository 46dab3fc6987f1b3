//! The verbs on a GPU against the CPU's, and what is refused. Where there is no GPU every test says so and ends.
//!
//! With `PAPILIO_SMALL` set only small plans and batches are run, and none of cuBLAS: for tools that take a hundred
//! times as long. With `PAPILIO_PLAN` set only plans whose names contain it.

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

fn is_small() -> bool {
    std::env::var_os("PAPILIO_SMALL").is_some()
}

/// A batch of that many vectors, or of fewer.
fn at_most(batch: usize) -> usize {
    if is_small() { batch.min(37) } else { batch }
}

/// `work` on all of these, side by side: most of the time is the compiler's.
fn side_by_side<T: Send>(items: impl IntoIterator<Item = T>, work: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        for item in items {
            let work = &work;
            scope.spawn(move || work(item));
        }
    });
}

/// `work` on all plans, with their names; or on those that are asked for.
fn on_all(plans: Vec<(&'static str, Plan<f32>)>, work: impl Fn(&'static str, Plan<f32>) + Sync) {
    let most = if is_small() { 256 } else { usize::MAX };
    let asked = std::env::var("PAPILIO_PLAN").ok();
    let keeps = |name: &str, plan: &Plan<f32>| asked.as_ref().map_or(plan.n() <= most, |asked| name.contains(asked));
    let plans: Vec<_> = plans.into_iter().filter(|(name, plan)| keeps(name, plan)).collect();
    assert!(!plans.is_empty(), "no plan's name contains {asked:?}");
    side_by_side(plans, |(name, plan)| work(name, plan));
}

/// The same bits, or a panic that tells the first difference and how many there are.
fn check_same<E: Element<Scalar = f32>>(what: &str, found: &[E], expected: &[E]) {
    assert_eq!(found.len(), expected.len(), "{what}: lengths");
    let bits = |x: &E| x.load().to_bits(); // f32 holds every bit of the shorter ones
    let differ = || (0..found.len()).filter(|at| bits(&found[*at]) != bits(&expected[*at]));
    if let Some(at) = differ().next() {
        let (a, b) = (found[at].load(), expected[at].load());
        let (many, of) = (differ().count(), found.len());
        panic!(
            "{what}: {many} of {of} numbers differ, first number {at}: {a:e} ({:#010x}), expected {b:e} ({:#010x})",
            a.to_bits(),
            b.to_bits()
        );
    }
}

/// One stage of fixed blocks side by side.
fn fixed(b: usize, blocks: &[f64]) -> Plan<f32> {
    let count = blocks.len() / (b * b);
    Plan::from_stages(b * count, [(StageLayout::contiguous(b, count), Source::Fixed(blocks.into()))]).unwrap()
}

/// What looks like rotations, and has a scale.
fn scaled(scale: f64) -> Plan<f32> {
    fixed(2, &[0.6 * scale, -0.8 * scale, 0.8 * scale, 0.6 * scale, 0.3, -0.4, 0.4, 0.3])
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
        ("boft 3, 16 of 192", cayley(192, &Butterfly::boft(3, 16).unwrap())),
        ("blocks of 64 of 128", cayley(128, &BlockDiagonal::new(64))),
        ("radix 4 of 256", cayley(256, &Butterfly::classic(4))),
        ("blocks of 16 of 768", cayley(768, &BlockDiagonal::new(16))),
        ("one block of 13", cayley(13, &BlockDiagonal::new(13))),
        ("any 1009", cayley(1009, &AnyButterfly::new(4))),
        ("monarch 36", cayley(36, &Monarch::new(6))),
        ("random 1000", cayley(1000, &RandomShuffle { block: 4, stages: 3, seed: 7 })),
        ("shared", Plan::from_stages(24, [(StageLayout::contiguous(4, 6), shared)]).unwrap()),
        ("scaled pairs", scaled(2.0)),
        ("signs", fixed(1, &[1.0, -1.0, 1.0, -1.0, -1.0])),
        ("scales", fixed(1, &[2.0, 0.5, 1.5]).then(fixed(1, &[3.0, -1.0, 0.25])).unwrap()),
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
    let miss =
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |m: f32, d| if d <= m || m.is_nan() { m } else { d });
    if miss == 0.0 { 0.0 } else { miss / (size * f32::EPSILON) }
}

/// The ratio, or a panic that tells which number misses most where it is above `bound`.
fn check_near(what: &str, found: &[f32], expected: &[f32], bound: f32) -> f32 {
    let miss = ratio(found, expected);
    if miss.is_nan() || miss > bound {
        let off = |at: &usize| if found[*at].is_nan() { f32::INFINITY } else { (found[*at] - expected[*at]).abs() };
        let at = (0..found.len()).max_by(|a, b| off(a).total_cmp(&off(b))).unwrap_or(0);
        let (a, b) = (found[at], expected[at]);
        panic!(
            "{what}: {miss} eps of the largest, bound {bound}; most in number {at} of {}: {a:e} ({:#010x}), expected {b:e} ({:#010x})",
            found.len(),
            a.to_bits(),
            b.to_bits()
        );
    }
    miss
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
    let what = format!("{name}, batch {batch}, {op:?}, {}", std::any::type_name::<E>());
    check_same(&format!("{what}, in place"), &input.download().unwrap(), &y);
    // In half precision large blocks go through tensor cores, and rotations by their angles: both leave out less than
    // rounding does.
    let stages = || plan.plan().stages().iter();
    let large = |stage: &papilio::Stage<f32>| [16, 32, 48, 64].contains(&stage.layout().block_size());
    let turns = |stage: &papilio::Stage<f32>| match stage.source() {
        Source::Chart { chart, .. } => {
            stage.layout().block_size() == 2 && ["Cayley", "Givens", "Exponential"].contains(&chart.name())
        }
        _ => false,
    };
    let rough = size_of::<E>() == 2 && (stages().any(large) || (stages().len() > 0 && stages().all(turns)));
    if fuses() && !rough {
        check_same(&what, &y, &expected);
        return;
    }
    let size = expected.iter().fold(0.0f32, |m, y| m.max(y.load().abs()));
    let place = if size_of::<E>() == 2 { E::store(1.0 + 1.0 / 128.0).load() - 1.0 } else { f32::EPSILON };
    for (at, (y, expected)) in y.iter().zip(&expected).map(|(y, e)| (y.load(), e.load())).enumerate() {
        let bound = place * expected.abs() + size * if rough { 2.0f32.powi(-15) } else { 16.0 * f32::EPSILON };
        assert!((y - expected).abs() <= bound, "{what}, number {at}: {y:e}, expected {expected:e}");
    }
}

#[test]
fn apply_has_the_bits_of_the_cpu() {
    let Some(stream) = stream() else { return };
    println!("{}", stream.device().name().unwrap());
    on_all(plans(), |name, plan| {
        // A kernel for each.
        side_by_side(0..4, |which| match which {
            0 => [0, 1, 17].into_iter().for_each(|batch| apply_case::<f32>(&stream, name, &plan, batch, Op::None)),
            1 => [(3, Op::Adjoint), (at_most(1000), Op::Transpose)]
                .into_iter()
                .for_each(|(batch, op)| apply_case::<f32>(&stream, name, &plan, batch, op)),
            2 => apply_case::<bf16>(&stream, name, &plan, 21, Op::None),
            _ => apply_case::<f16>(&stream, name, &plan, 21, Op::Adjoint),
        });
    });
}

/// The part of gradients that orthogonal blocks can feel: see `DevicePlan::apply_vjp`.
fn project(plan: &Plan<f32>, factors: &Factors<f32>, d: &mut [f32]) {
    for stage in plan.stages().iter().filter(|stage| plan.is_exact() && stage.layout().block_size() <= 8) {
        let b = stage.layout().block_size();
        for g in 0..stage.num_groups() {
            let at = |i, k| stage.entry(g, i, k);
            let q = |i, k| f64::from(factors.entries()[at(i, k)]);
            let whole: Vec<f64> = (0..b * b).map(|e| f64::from(d[at(e / b, e % b)])).collect();
            let inner = |i: usize, k: usize| (0..b).map(|l| q(l, i) * whole[l * b + k]).sum::<f64>();
            for (i, k) in (0..b).flat_map(|i| (0..b).map(move |k| (i, k))) {
                let sum: f64 = (0..b).map(|l| q(i, l) * (inner(l, k) - inner(k, l))).sum();
                d[at(i, k)] = (0.5 * sum) as f32;
            }
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
        let uploaded = plan.upload(&factors).unwrap();
        let cases = [(1, Op::None, true), (37, Op::Adjoint, true), (at_most(700), Op::None, false)];
        side_by_side(cases, |(batch, op, from_input)| {
            if !from_input && !host.is_exact() {
                return;
            }
            let (x, gy) = (vectors(n * batch), vectors(n * batch + 5)[5..].to_vec());
            let saved = if from_input { x } else { on_cpu(&host, &factors, op, &x) };
            let (mut gx, mut d) = (vec![f32::NAN; n * batch], vec![0.0; host.num_entries()]);
            let rows = |x| Batch::rows(x, n).unwrap();
            let kept = if from_input { Saved::Input(rows(&saved[..])) } else { Saved::Output(rows(&saved[..])) };
            let (to, workspace) = (BatchMut::rows(&mut gx, n).unwrap(), &mut Workspace::new());
            host.apply_vjp(&factors, kept, op, rows(&gy), Some(to), Some(&mut d), Parallelism::Rayon, workspace)
                .unwrap();
            let mut d_theta = vec![0.5f32; theta.len()];
            host.realize_vjp(&theta, &factors, &d, &mut d_theta).unwrap();
            project(&host, &factors, &mut d);

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
            let what = format!("{name}, batch {batch}, {op:?}, from the input: {from_input}");
            for ((part, once), twice) in
                ["gx", "d", "d_theta"].into_iter().zip([&gx_there, &d_there, &d_theta_there]).zip(run())
            {
                check_same(&format!("{what}, {part} twice"), &twice, once);
            }
            if fuses() {
                // The device's own blocks may be rounded otherwise.
                let (mut to, mut d) = (stream.zeros(n * batch).unwrap(), stream.zeros(host.num_entries()).unwrap());
                let rows = cuda::Batch::rows(&saved, n).unwrap();
                let kept = if from_input { cuda::Saved::Input(rows) } else { cuda::Saved::Output(rows) };
                let (gy, rows_to) = (cuda::Batch::rows(&gy, n).unwrap(), cuda::BatchMut::rows(&mut to, n).unwrap());
                plan.apply_vjp(&uploaded, kept, op, gy, Some(rows_to), Some(&mut d)).unwrap();
                check_same(&format!("{what}, gx of the host's blocks"), &to.download().unwrap(), &gx);
            }
            check_near(&format!("{what}, gx"), &gx_there, &gx, 8.0);
            // Sums over the batch in another order.
            let bound = 4.0 + 2.0 * (batch as f32).sqrt();
            let entries = check_near(&format!("{what}, d"), &d_there, &d, bound);
            let params = check_near(&format!("{what}, d_theta"), &d_theta_there, &d_theta, bound);
            let mut worst = worst.lock().unwrap();
            *worst = [worst[0].max(entries), worst[1].max(params)];
        });
    });
    let worst = worst.into_inner().unwrap();
    println!("gradients of entries {} eps, of parameters {} eps", worst[0], worst[1]);
}

/// ∂x and ∂entries of vectors of half precision, against the host in single precision from the same numbers: what is lost of
/// gradients of entries, in units of 2⁻¹⁶ of the largest.
fn half_gradient<E: cuda::Number>(
    stream: &Stream,
    name: &str,
    host: &Plan<f32>,
    batch: usize,
    op: Op,
    from_input: bool,
) -> f32 {
    let (n, theta) = (host.n(), theta(host));
    let factors = host.realize(&theta).unwrap();
    let round = |x: &[f32]| x.iter().map(|x| E::store(*x)).collect::<Vec<E>>();
    let widen = |x: &[E]| x.iter().map(|x| x.load()).collect::<Vec<f32>>();
    let (x, gy) = (vectors(n * batch), round(&vectors(n * batch + 5)[5..]));
    let saved = round(&if from_input { x } else { on_cpu(host, &factors, op, &x) });
    let (wide_saved, wide_gy) = (widen(&saved), widen(&gy));
    let (mut gx, mut d) = (vec![f32::NAN; n * batch], vec![0.0; host.num_entries()]);
    let rows = |x| Batch::rows(x, n).unwrap();
    let kept = if from_input { Saved::Input(rows(&wide_saved[..])) } else { Saved::Output(rows(&wide_saved[..])) };
    let (to, workspace) = (BatchMut::rows(&mut gx, n).unwrap(), &mut Workspace::new());
    host.apply_vjp(&factors, kept, op, rows(&wide_gy), Some(to), Some(&mut d), Parallelism::Rayon, workspace).unwrap();
    project(host, &factors, &mut d);

    let plan = DevicePlan::new(stream, host).unwrap();
    let factors = plan.upload(&factors).unwrap();
    let (saved, gy) = (stream.upload(&saved).unwrap(), stream.upload(&gy).unwrap());
    let run = |with_gx: bool, with_d: bool| {
        let mut gx = stream.upload(&vec![E::store(7.0); n * batch]).unwrap();
        let mut d = stream.zeros::<f32>(host.num_entries()).unwrap();
        let rows = |x| cuda::Batch::rows(x, n).unwrap();
        let kept = if from_input { cuda::Saved::Input(rows(&saved)) } else { cuda::Saved::Output(rows(&saved)) };
        let to = cuda::BatchMut::rows(&mut gx, n).unwrap();
        plan.apply_vjp(&factors, kept, op, rows(&gy), with_gx.then_some(to), with_d.then_some(&mut d)).unwrap();
        (widen(&gx.download().unwrap()), d.download().unwrap())
    };
    let (gx_there, d_there) = run(true, true);
    let what = format!("{name}, batch {batch}, {op:?}, from the input: {from_input}, {}", std::any::type_name::<E>());
    let (gx_twice, d_twice) = run(true, true);
    check_same(&format!("{what}, gx twice"), &gx_twice, &gx_there);
    check_same(&format!("{what}, d twice"), &d_twice, &d_there);
    check_same(&format!("{what}, d alone"), &run(false, true).1, &d_there);
    let place = (E::store(1.0 + 1.0 / 128.0).load() - 1.0).min(1.0 / 256.0);
    let size = gx.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    for (which, found) in [("gx", gx_there), ("gx alone", run(true, false).0)] {
        for (at, (found, expected)) in found.iter().zip(&gx).enumerate() {
            let bound = place * found.abs().max(expected.abs()) + size * 2.0f32.powi(-15);
            assert!(
                (found - expected).abs() <= bound,
                "{what}, {which}, number {at}: {found:e}, expected {expected:e}"
            );
        }
    }
    let eps = 1.0 / (65536.0 * f32::EPSILON);
    check_near(&format!("{what}, d"), &d_there, &d, 2.0 * eps) / eps
}

/// Through registers, where plans allow it, and through tiles.
#[test]
fn gradients_of_half_precision() {
    let Some(stream) = stream() else { return };
    let worst = std::sync::Mutex::new(0.0f32);
    let cayley = |n, topology: &dyn Topology| Plan::<f32>::new(n, topology, Cayley).unwrap();
    let mut all = plans();
    all.push(("boft 2, 16 of 128", cayley(128, &Butterfly::boft(2, 16).unwrap())));
    all.push(("boft 2, 32 of 4096", cayley(4096, &Butterfly::boft(2, 32).unwrap())));
    all.push(("blocks of 48 of 96", cayley(96, &BlockDiagonal::new(48))));
    let neumann = Plan::new(64, &Butterfly::boft(2, 16).unwrap(), CayleyNeumann { order: 3 }).unwrap();
    all.push(("large, not orthogonal", neumann));
    on_all(all, |name, host| {
        side_by_side(
            [(true, Op::None), (false, Op::None), (true, Op::Adjoint), (false, Op::Adjoint)],
            |(from_input, op)| {
                if from_input || host.is_exact() {
                    let lost = match op {
                        Op::None => half_gradient::<bf16>(&stream, name, &host, at_most(700), op, from_input),
                        _ => half_gradient::<f16>(&stream, name, &host, 37, op, from_input),
                    };
                    let mut worst = worst.lock().unwrap();
                    *worst = worst.max(lost);
                }
            },
        );
    });
    println!("gradients of entries of half precision: {} of 2^-16", worst.into_inner().unwrap());
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
            check_near(&format!("{name}, θ·{scale}"), &q, &expected, 4.0);
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
    if is_small() {
        return println!("skipped: PAPILIO_SMALL");
    }
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
        check_near(&format!("{op:?}, {precision:?}"), &y.download().unwrap(), &on_cpu(&host, &factors, op, &x), bound);
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
    check_near("weights with a rotation merged into them", &a, &b, 64.0);
}

#[test]
fn random_rotations_have_the_bits_of_the_cpu() {
    let Some(stream) = stream() else { return };
    let most = if is_small() { 300 } else { usize::MAX };
    let all = [1, 2, 13, 96, 128, 300, 1000, 1024, 1536, 4096, 4099];
    side_by_side(all.into_iter().filter(|n| *n <= most), |n| {
        let rotation = RandomRotation::<f32>::new(n, 42).unwrap();
        let there = cuda::DeviceRotation::new(&stream, &rotation).unwrap();
        let mut x = vectors(n * 11);
        let mut x_there = stream.upload(&x).unwrap();
        for direction in [Direction::Forward, Direction::Inverse] {
            let rows = BatchMut::rows(&mut x, n).unwrap();
            rotation.apply_batch(rows, direction, Parallelism::Rayon, &mut Workspace::new()).unwrap();
            there.apply(cuda::BatchMut::rows(&mut x_there, n).unwrap(), direction).unwrap();
            check_same(&format!("n = {n}, {direction:?}"), &x_there.download().unwrap(), &x);
        }
    });
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

#[test]
fn the_peak_of_memory_counts_what_is_there_at_one_time() {
    let Some(stream) = stream() else { return };
    if is_small() {
        return println!("skipped: PAPILIO_SMALL"); // such tools allocate themselves
    }
    let peak = stream.peak_memory(|| {
        let both = [stream.zeros::<f32>(1 << 20)?, stream.zeros::<f32>(1 << 20)?];
        drop(both);
        stream.zeros::<f32>(1 << 20).map(|_| ())
    });
    // Other tests may allocate meanwhile, so there is no upper bound.
    let peak = peak.unwrap();
    println!("two buffers of 4 MiB: {peak} bytes");
    assert!(peak >= 8 << 20, "{peak} bytes");
}
