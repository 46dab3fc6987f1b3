//! Fits of given matrices: the best blocks against faer's singular values, exactness, monotony, refusals, the determinant.

use std::ops::ControlFlow;
use std::sync::Arc;

use papilio::fit::{self, Fit, Group, Options, Start, Stop, Target};
use papilio::generator::Generator;
use papilio::topology::{
    AnyButterfly, BlockDiagonal, Brick, Butterfly, GroupAndShuffle, MixedRadix, Monarch, RandomPairings, Repeated,
    Reversed,
};
use papilio::verify::dense;
use papilio::{
    Error, Orthogonal, Parallelism, Plan, Scalar, Source, StageLayout, Topology, Wide, c64, parametrization,
};

const EPS: f64 = f64::EPSILON;

fn normal<W: Wide>(g: &mut Generator) -> W {
    let mut one = || (0..12).map(|_| g.uniform()).sum::<f64>() - 6.0;
    let re = one();
    W::from_parts(re, if W::IS_COMPLEX { one() } else { 0.0 })
}

fn gaussian<W: Wide>(n: usize, seed: u64) -> Vec<W> {
    let mut g = Generator::new(seed);
    (0..n * n).map(|_| normal(&mut g)).collect()
}

fn haar<W: Wide>(n: usize, seed: u64) -> Target<W> {
    Target::project(n, &gaussian::<W>(n, seed)).unwrap().0
}

/// A product of random blocks of these layouts; rotations if asked for.
fn planted<W: Wide>(n: usize, stages: &[StageLayout], special: bool, seed: u64) -> Target<W> {
    let stage = |(k, layout): (usize, &StageLayout)| {
        let b = layout.block_size();
        let mut blocks = Vec::new();
        for j in 0..layout.num_blocks() {
            let mut block = haar::<W>(b, seed + 1000 * k as u64 + j as u64).entries().to_vec();
            if special && determinant(b, &block) < 0.0 {
                block[..b].iter_mut().for_each(|x| *x = -*x);
            }
            blocks.extend(block);
        }
        (layout.clone(), Source::Fixed(blocks.into()))
    };
    let plan = Plan::<W>::from_stages(n, stages.iter().enumerate().map(stage)).unwrap();
    Target::new(n, &dense::matrix(&plan, &plan.realize::<f64>(&[]).unwrap()).unwrap()).unwrap()
}

fn determinant<W: Wide>(n: usize, q: &[W]) -> f64 {
    faer::Mat::from_fn(n, n, |i, j| q[i * n + j].re()).determinant()
}

fn run<W: Wide>(target: &Target<W>, stages: &[StageLayout], options: &Options) -> Fit<W> {
    fit::alternating(target, stages, options, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn options(group: Group) -> Options {
    let mut options = Options::default();
    options.group = group;
    options
}

/// The dense matrix by definition, and ‖Q − R‖²_F/(2n) of it.
fn check_error<W: Wide>(target: &Target<W>, fit: &Fit<W>) {
    let n = target.n();
    let r = dense::matrix(fit.plan(), &fit.plan().realize::<f64>(&[]).unwrap()).unwrap();
    let square = |(x, y): (&W, &W)| Scalar::abs(*x - *y).powi(2);
    let error = r.iter().zip(target.entries()).map(square).sum::<f64>() / (2.0 * n as f64);
    assert!((error - fit.error).abs() <= 1e-12 * error + 1e-28, "{error:e}, {:e} said", fit.error);
    assert_eq!(fit.relative_frobenius, (2.0 * fit.error).sqrt());
    assert!(fit.plan().is_exact());
}

fn check_exact<W: Wide>(what: &str, target: &Target<W>, fit: &Fit<W>) {
    let limit = 8.0 * EPS * (target.n() as f64).log2();
    assert!(fit.relative_frobenius <= limit, "{what}: {:e} over {limit:e}", fit.relative_frobenius);
    check_error(target, fit);
}

/// One stage of blocks: the error is known from singular values (Procrustes), here faer's.
#[test]
fn one_stage_is_the_procrustes_solution() {
    fn check<W: Wide>(n: usize, b: usize, group: Group) {
        let target = haar::<W>(n, (n * b) as u64);
        let stages = fit::layouts(n, &BlockDiagonal::new(b)).unwrap();
        let found = run(&target, &stages, &options(group));
        let mut gain = 0.0;
        for first in (0..n).step_by(b) {
            let at = |i: usize, j: usize| target.entries()[(first + i) * n + first + j];
            let block = faer::Mat::from_fn(b, b, |i, j| c64::new(at(i, j).re(), at(i, j).im()));
            let sigma = block.singular_values().unwrap();
            gain += sigma.iter().sum::<f64>();
            if group == Group::Special && faer::Mat::from_fn(b, b, |i, j| at(i, j).re()).determinant() < 0.0 {
                gain -= 2.0 * sigma[b - 1];
            }
        }
        let expected = 1.0 - gain / n as f64;
        assert!((found.error - expected).abs() <= 4.0 * EPS * b as f64, "b = {b}: {} {expected}", found.error);
        check_error(&target, &found);
    }
    for (n, b) in [(6, 1), (24, 2), (24, 3), (40, 5), (48, 8), (34, 17)] {
        check::<f64>(n, b, Group::Full);
        check::<f64>(n, b, Group::Special);
        check::<c64>(n, b, Group::Full);
    }
}

/// Layouts of every kind: tables, coordinates that pass through, blocks of several sizes.
fn wirings(n: usize) -> Vec<(String, Vec<StageLayout>)> {
    let mut all: Vec<(String, Vec<StageLayout>)> = Vec::new();
    let mut push = |topology: &dyn Topology| {
        all.push((topology.name().to_string(), fit::layouts(n, topology).unwrap()));
    };
    push(&AnyButterfly::new(2));
    push(&AnyButterfly::new(5));
    push(&Brick);
    push(&RandomPairings { stages: 7, seed: 5 });
    push(&Repeated::new(AnyButterfly::new(3), 2));
    let mixed = [
        StageLayout::contiguous(3, n / 3),
        StageLayout::Table { block: 2, index: (0..n as u32 / 2 * 2).rev().collect() },
        StageLayout::contiguous(4, n / 4),
    ];
    all.push(("mixed".to_string(), mixed.to_vec()));
    all
}

#[test]
fn sweeps_never_lose() {
    fn check<W: Wide>(n: usize, group: Group, start: Start, seed: u64) -> Vec<Fit<W>> {
        let mut used = Vec::new();
        let target = haar::<W>(n, seed);
        for (name, stages) in wirings(n) {
            let mut options = options(group);
            (options.seed, options.start, options.sweeps) = (seed, start, 12);
            let found = run(&target, &stages, &options);
            for (k, pair) in found.curve.windows(2).enumerate() {
                assert!(pair[1] <= pair[0] + 8.0 * EPS, "{name}, sweep {k}: {} then {}", pair[0], pair[1]);
            }
            assert!(found.error < 0.98 * found.curve[0], "{name}");
            let last = found.curve[found.curve.len() - 1];
            assert!((found.error - last).abs() <= 1e-13, "{name}: {} {last}", found.error);
            check_error(&target, &found);
            used.push(found);
        }
        used
    }
    for seed in 0..2 {
        check::<f64>(13, Group::Full, Start::Random, seed);
        for found in check::<f64>(18, Group::Special, Start::Random, seed) {
            let (plan, theta) = found.in_chart::<f64>(Arc::new(parametrization::Exponential)).unwrap();
            let there = dense::matrix(&plan, &plan.realize(&theta).unwrap()).unwrap();
            let here = dense::matrix(found.plan(), &found.plan().realize::<f64>(&[]).unwrap()).unwrap();
            let far = there.iter().zip(&here).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
            assert!(far <= 1e-13 && found.num_parameters() == theta.len(), "{far:e}");
        }
        check::<f64>(16, Group::Special, Start::Identity, seed);
        check::<c64>(12, Group::Full, Start::Random, seed);
    }
}

fn hadamard(n: usize) -> Target<f64> {
    let size = 1.0 / (n as f64).sqrt();
    let entry = |at: usize| if ((at / n) & (at % n)).count_ones().is_multiple_of(2) { size } else { -size };
    Target::new(n, &(0..n * n).map(entry).collect::<Vec<_>>()).unwrap()
}

/// The unitary DFT with its columns in bit-reversed order.
fn fourier(n: usize) -> Target<c64> {
    let size = 1.0 / (n as f64).sqrt();
    let entry = |at: usize| {
        let reversed = (at % n).reverse_bits() >> (usize::BITS - n.ilog2());
        let turns = (at / n * reversed % n) as f64 / n as f64;
        let (s, c) = (-2.0 * std::f64::consts::PI * turns).sin_cos();
        c64::new(c * size, s * size)
    };
    Target::new(n, &(0..n * n).map(entry).collect::<Vec<_>>()).unwrap()
}

fn check_in_class<W: Wide>(target: &Target<W>, topology: &dyn Topology, group: Group) {
    let name = format!("{} n = {} {group:?} {topology:?}", std::any::type_name::<W>(), target.n());
    let stages = fit::layouts(target.n(), topology).unwrap();
    let options = options(group);
    let found = fit::hierarchical(target, &stages, &options).unwrap();
    check_exact(&name, target, &found);
    assert!(found.bound.unwrap() <= 1e-14 && found.stop == Stop::Direct);
    let stay = &mut |_: &fit::Progress| -> ControlFlow<()> { panic!("no sweep is needed") };
    let found = fit::fit(target, &stages, &options, stay).unwrap();
    check_exact(&name, target, &found);
    assert_eq!(found.stop, Stop::Exact);
    match fit::projection(target, &stages, &options) {
        Ok(found) => check_exact(&name, target, &found),
        Err(error) => assert!(matches!(error, Error::Unsupported { .. }) && !name.contains("radix: 2"), "{error}"),
    }
}

#[test]
fn one_pass_is_exact_in_the_class() {
    for n in [2, 4, 64, 256] {
        let butterfly = Butterfly::classic(2);
        check_in_class(&hadamard(n), &butterfly, Group::Full);
        check_in_class(&fourier(n), &butterfly, Group::Full);
    }
    check_in_class(&hadamard(64), &Butterfly::classic(2), Group::Special); // a determinant of 1: signs move between stages
    check_in_class(&hadamard(64), &Reversed(Butterfly::classic(2)), Group::Full);
    let mut all: Vec<(usize, Box<dyn Topology>)> = vec![
        (64, Box::new(Butterfly::classic(2))),
        (64, Box::new(Butterfly::classic(4))),
        (60, Box::new(MixedRadix::new(5))),
        (64, Box::new(Butterfly::boft(4, 8).unwrap())),
        (96, Box::new(Butterfly::boft(2, 8).unwrap())), // windows of 16
        (80, Box::new(Butterfly::classic(2).with_stages(3))),
        (36, Box::new(Monarch::new(2))),
        (64, Box::new(Reversed(Butterfly::boft(3, 16).unwrap()))),
    ];
    for (n, topology) in all.drain(..) {
        let topology = &*topology;
        let stages = fit::layouts(n, topology).unwrap();
        for seed in 0..2 {
            check_in_class(&planted::<f64>(n, &stages, false, seed), topology, Group::Full);
            check_in_class(&planted::<f64>(n, &stages, true, seed), topology, Group::Special);
            check_in_class(&planted::<c64>(n, &stages, false, seed), topology, Group::Full);
        }
    }
}

#[test]
fn sweeps_find_what_was_planted() {
    fn check<W: Wide>(n: usize, topology: &dyn Topology, special: bool) {
        let stages = fit::layouts(n, topology).unwrap();
        let target = planted::<W>(n, &stages, special, 5);
        for seed in 0..if special { 20 } else { 1 } {
            let mut options = options(if special { Group::Special } else { Group::Full });
            options.seed = seed;
            let found = run(&target, &stages, &options);
            check_exact(&format!("{topology:?} from {seed}"), &target, &found);
            assert!(found.stop == Stop::Exact && found.sweeps <= 80, "{:?} {}", found.stop, found.sweeps);
        }
    }
    check::<f64>(64, &Butterfly::classic(2), false);
    check::<f64>(64, &Butterfly::classic(2), true);
    check::<f64>(16, &Monarch::new(4), true);
    check::<f64>(64, &Butterfly::boft(3, 8).unwrap(), true);
    check::<c64>(32, &Butterfly::classic(2), false);
    // A permutation from the identity: blocks of nothing but zeros on the way.
    let n = 16;
    let shift: Vec<f64> = (0..n * n).map(|at| f64::from(u8::from((at / n + 8) % n == at % n))).collect();
    let mut options = options(Group::Full);
    options.start = Start::Identity;
    let stages = fit::layouts(n, &Butterfly::classic(4)).unwrap();
    let found = run(&Target::new(n, &shift).unwrap(), &stages, &options);
    assert!(found.error <= 1e-30 && found.plan().is_exact(), "{:e}", found.error);
}

#[test]
fn near_the_class_the_bound_is_near() {
    let n = 64;
    let stages = fit::layouts(n, &Butterfly::classic(2)).unwrap();
    for (sigma, least) in [(0.1, 0.8), (0.5, 0.7)] {
        let mut g = Generator::new(3);
        let noisy: Vec<f64> = planted::<f64>(n, &stages, false, 9)
            .entries()
            .iter()
            .map(|x| x + sigma / 8.0 * normal::<f64>(&mut g))
            .collect();
        let (target, moved) = Target::project(n, &noisy).unwrap();
        assert!(moved > 0.0 && Target::new(n, &noisy).is_err());
        let one = fit::hierarchical(&target, &stages, &options(Group::Full)).unwrap();
        let all = fit::fit(&target, &stages, &options(Group::Full), &mut |_| ControlFlow::Continue(())).unwrap();
        let bound = all.bound.unwrap();
        assert!(all.error <= one.error && bound <= all.error && bound >= least * all.error, "{bound} {}", all.error);
        assert!(all.error < 0.26 * sigma * sigma, "{}", all.error);
        let closed = fit::projection(&target, &stages, &options(Group::Full)).unwrap();
        assert!(closed.error <= 1.1 * all.error);
        // Far away nothing can be near.
        let far =
            fit::fit(&haar::<f64>(n, 1), &stages, &options(Group::Full), &mut |_| ControlFlow::Continue(())).unwrap();
        assert!(far.error < 0.75 && far.bound.unwrap() < far.error);
    }
}

/// Rotations of 16 coordinates by four butterflies of O(2) blocks. With some seeds sweeps rest at 2/n in the wrong component.
#[test]
fn the_wrong_determinant_is_found_out() {
    let n = 16;
    let stages = fit::layouts(n, &Repeated::new(Butterfly::classic(2), 4)).unwrap();
    let mut trapped = 0;
    for seed in [0, 5, 21, 23] {
        let mut q = haar::<f64>(n, 1000 + seed).entries().to_vec();
        if determinant(n, &q) < 0.0 {
            q[..n].iter_mut().for_each(|x| *x = -*x);
        }
        let mut options = options(Group::Full);
        (options.seed, options.tolerance, options.goal, options.sweeps) = (seed, 1e-5, 1e-12, 3000);
        let found = run(&Target::new(n, &q).unwrap(), &stages, &options);
        assert!(found.error <= 1e-12, "seed {seed}: {:e}", found.error);
        trapped += usize::from(found.curve.windows(2).any(|pair| pair[1] > pair[0] + 1e-9));
        // Rotations cannot leave a reflection: 2/n is the least error there is, and what is said.
        if seed == 0 {
            q[..n].iter_mut().for_each(|x| *x = -*x);
            options.group = Group::Special;
            let found = run(&Target::new(n, &q).unwrap(), &stages, &options);
            assert!(found.stop == Stop::Converged && (found.error - 2.0 / n as f64).abs() < 1e-3, "{}", found.error);
        }
    }
    assert!(trapped > 0, "no seed of these needed the cure: choose others");
}

#[test]
fn bits_do_not_depend_on_threads() {
    fn check<W: Wide>(n: usize, topology: &dyn Topology, group: Group) {
        let (target, stages) = (haar::<W>(n, 4), fit::layouts(n, topology).unwrap());
        let fits = |parallelism| {
            let mut options = options(group);
            (options.parallelism, options.sweeps) = (parallelism, 4);
            let one = run(&target, &stages, &options);
            let bits = |fit: &Fit<W>| {
                let factors = fit.plan().realize::<f64>(&[]).unwrap();
                (factors.entries().to_vec(), fit.curve.clone(), fit.error)
            };
            let direct = fit::hierarchical(&target, &stages, &options).map(|fit| bits(&fit)).ok();
            let closed = fit::projection(&target, &stages, &options).map(|fit| bits(&fit)).ok();
            let go = &mut |_: &fit::Progress| ControlFlow::Continue(());
            let moved = fit::permuted(&target, &stages, fit::Sides::Both, &options, go).unwrap();
            (bits(&one), direct, closed, bits(&moved.fit), moved.rows, moved.columns)
        };
        let alone = fits(Parallelism::None);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert!(pool.install(|| fits(Parallelism::Rayon)) == alone, "{threads} threads");
        }
    }
    check::<f64>(128, &Butterfly::classic(2), Group::Full);
    check::<f64>(64, &Butterfly::classic(2), Group::Special);
    check::<f64>(96, &GroupAndShuffle::new(4), Group::Special);
    check::<c64>(64, &Butterfly::boft(2, 8).unwrap(), Group::Full);
}

#[test]
fn what_is_no_target_is_refused() {
    let q = haar::<f64>(300, 2).entries().to_vec();
    for n in [5, 300] {
        let mut bad = if n == 300 { q.clone() } else { haar::<f64>(n, 1).entries().to_vec() };
        assert!(Target::new(n, &bad).unwrap().orthogonality_ratio() < 2.0);
        bad[n + 2] = f64::NAN;
        let message = Target::new(n, &bad).unwrap_err().to_string();
        assert!(message.contains("NaN in row 1, column 2"), "{message}");
        assert!(Target::project(n, &bad).is_err());
        bad[n + 2] = 0.3;
        let message = Target::new(n, &bad).unwrap_err().to_string();
        assert!(message.contains("defect"), "{message}");
        bad[n + 2] = f64::INFINITY;
        assert!(matches!(Target::new(n, &bad), Err(Error::Domain { .. })));
        assert!(matches!(Target::new(n, &bad[1..]), Err(Error::Length { .. })));
    }
    assert!(matches!(Target::<f64>::new(0, &[]), Err(Error::Size { .. })));
    assert!(Target::project(3, &[0.0; 9]).is_err());
    assert!(Target::project(2, &[1.0, 1.0, 1.0, 1.0]).is_err()); // nothing is nearest
    let target = haar::<c64>(4, 1);
    let stages = fit::layouts(4, &Butterfly::classic(2)).unwrap();
    let refused = |stages: &[StageLayout], group| {
        fit::alternating(&target, stages, &options(group), &mut |_| ControlFlow::Continue(())).unwrap_err()
    };
    assert!(matches!(refused(&stages, Group::Special), Error::Unsupported { .. }));
    assert!(matches!(refused(&[StageLayout::contiguous(2, 3)], Group::Full), Error::Index { .. }));
    let shuffled = fit::layouts(4, &RandomPairings { stages: 2, seed: 1 }).unwrap();
    assert!(matches!(fit::hierarchical(&target, &shuffled, &options(Group::Full)), Err(Error::Unsupported { .. })));
}

/// The polar factor H of A = QH is symmetric positive definite.
#[test]
fn projection_to_the_group_is_the_polar_factor() {
    fn check<W: Wide>(n: usize) {
        let a = gaussian::<W>(n, 8);
        let (target, moved) = Target::project(n, &a).unwrap();
        let q = faer::Mat::from_fn(n, n, |i, j| {
            c64::new(target.entries()[i * n + j].re(), target.entries()[i * n + j].im())
        });
        let a = faer::Mat::from_fn(n, n, |i, j| c64::new(a[i * n + j].re(), a[i * n + j].im()));
        let h = q.adjoint() * &a;
        let skew = (&h - h.adjoint()).norm_max();
        assert!(skew <= 1e-12, "{skew:e}");
        let least = h.self_adjoint_eigenvalues(faer::Side::Lower).unwrap()[0];
        assert!(least > 0.0 && ((&q - &a).norm_l2() - moved).abs() <= 1e-12 * moved, "{least:e}");
        assert!(target.orthogonality_ratio() < 2.0);
    }
    check::<f64>(1);
    check::<f64>(65);
    check::<c64>(20);
}

/// Squares of these overflow or vanish; the nearest orthogonal matrix is the same.
#[test]
fn projection_takes_any_scale() {
    for (n, scale) in [(4, 1e200), (4, 1e-200), (300, 1e200), (300, 1e-200)] {
        let q = haar::<f64>(n, 1);
        let scaled: Vec<f64> = q.entries().iter().map(|x| x * scale).collect();
        assert!(Target::new(n, &scaled).is_err());
        let (found, _) = Target::project(n, &scaled).unwrap();
        assert!(found.orthogonality_ratio() < 2.0, "{n}, {scale:e}");
        let off = found.entries().iter().zip(q.entries()).fold(0.0f64, |m, (x, y)| m.max((x - y).abs()));
        assert!(off <= 64.0 * f64::EPSILON, "{n}, {scale:e}: {off:e}");
    }
}

#[test]
fn an_interrupt_keeps_the_best_so_far() {
    let (n, target) = (32, haar::<f64>(32, 3));
    let stages = fit::layouts(n, &Butterfly::classic(2)).unwrap();
    let mut seen = Vec::new();
    let mut options = options(Group::Full);
    options.restarts = 3;
    let found = fit::alternating(&target, &stages, &options, &mut |progress| {
        seen.push((progress.restart, progress.sweep, progress.error));
        if seen.len() == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let found = found.unwrap();
    assert_eq!((found.stop, found.sweeps), (Stop::Interrupted, 3));
    assert_eq!(seen.iter().map(|seen| seen.2).collect::<Vec<_>>(), found.curve);
    assert!((found.error - found.curve[3]).abs() < 1e-13);

    // More runs are no worse, and the same seed gives the same.
    (options.restarts, options.sweeps) = (1, 20);
    let one = run(&target, &stages, &options);
    options.restarts = 4;
    let (more, again) = (run(&target, &stages, &options), run(&target, &stages, &options));
    assert!(more.error <= one.error && more.curve == again.curve);
    let q = Orthogonal::new(more.to::<f32>().unwrap(), [0.0f32; 0]).unwrap();
    let r = dense::matrix(more.plan(), &more.plan().realize::<f64>(&[]).unwrap()).unwrap();
    assert!(q.to_dense().unwrap().iter().zip(&r).all(|(x, y)| (f64::from(*x) - y).abs() < 1e-6));
}
