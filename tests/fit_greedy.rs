//! Freely chosen rotations: greedy Givens against brute force, Jacobi against faer's eigenvalues, what must never grow, refusals.

use std::ops::ControlFlow;

use papilio::fit::{self, Eigenbasis, Fit, Group, Options, Order, Progress, Stop, Target};
use papilio::generator::Generator;
use papilio::verify::dense;
use papilio::{Error, Plan, Scalar, Source, StageLayout, Wide, c64};
use proptest::prelude::*;

const EPS: f64 = f64::EPSILON;
/// Of √e after some dozens of blocks.
const ROUNDING: f64 = 32.0 * EPS;

fn go(_: &Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Blocks only, no sweeps.
fn options(group: Group) -> Options {
    let mut options = Options::default();
    (options.group, options.sweeps) = (group, 0);
    options
}

fn haar<W: Wide>(n: usize, seed: u64) -> Target<W> {
    Target::haar(n, Group::Full, seed).unwrap()
}

fn matrix<W: Wide>(plan: &Plan<W>) -> Vec<W> {
    dense::matrix(plan, &plan.realize::<f64>(&[]).unwrap()).unwrap()
}

/// The pairs of all stages, the first stage first; none may meet a coordinate twice in a stage.
fn pairs<W: Wide>(plan: &Plan<W>) -> Vec<Vec<(usize, usize)>> {
    let stage = |layout: &StageLayout| {
        layout.validate(plan.n()).unwrap();
        assert_eq!(layout.block_size(), 2);
        (0..layout.num_blocks()).map(|j| (layout.index(j, 0), layout.index(j, 1))).collect()
    };
    plan.stages().iter().map(|s| stage(s.layout())).collect()
}

fn check_error<W: Wide>(target: &Target<W>, fit: &Fit<W>) {
    let square = |(x, y): (&W, &W)| Scalar::abs(*x - *y).powi(2);
    let error = matrix(fit.plan()).iter().zip(target.entries()).map(square).sum::<f64>() / (2.0 * target.n() as f64);
    // ‖Q − R‖_F/√n, whose rounding errors do not depend on how small it is.
    let same = |x: f64| (error.sqrt() - x.sqrt()).abs() <= ROUNDING;
    assert!(same(fit.error), "{error:e}, {:e} said", fit.error);
    let last = fit.curve[fit.curve.len() - 1];
    assert!(same(last), "{error:e}, {last:e} at the end of the curve");
    assert!(fit.plan().is_exact());
}

/// The gain of a pair by faer's singular values of its part, against all pairs.
#[test]
fn the_first_pair_is_the_best_of_all() {
    fn check<W: Wide>(group: Group, seed: u64) {
        let n = 8;
        let target = haar::<W>(n, seed);
        let at = |i: usize, j: usize| target.entries()[i * n + j];
        let mut best = (f64::NEG_INFINITY, (0, 0));
        for (p, q) in (0..n).flat_map(|p| (p + 1..n).map(move |q| (p, q))) {
            let index = [p, q];
            let part = faer::Mat::from_fn(2, 2, |i, j| {
                let z = at(index[i], index[j]);
                c64::new(z.re(), z.im())
            });
            let sigma = part.singular_values().unwrap();
            let flip = group == Group::Special && part.determinant().re < 0.0;
            let gain = sigma[0] + if flip { -sigma[1] } else { sigma[1] } - (at(p, p).re() + at(q, q).re());
            if gain > best.0 {
                best = (gain, (p, q));
            }
        }
        let found = fit::greedy(&target, 1, &options(group), &mut go).unwrap();
        assert_eq!(pairs(found.plan()), [[best.1]]);
        assert_eq!((found.stop, found.curve.len()), (Stop::Sweeps, 2));
        let drop = (found.curve[0] - found.curve[1]) * n as f64;
        assert!((drop - best.0).abs() <= 32.0 * EPS, "{drop} is not the gain {}", best.0);
        check_error(&target, &found);
    }
    for seed in 0..20 {
        check::<f64>(Group::Full, seed);
        check::<f64>(Group::Special, seed);
        check::<c64>(Group::Full, seed);
    }
}

/// Every step, not only the first, takes the largest gain: of all pairs tried on the residual of the blocks so far.
#[test]
fn every_pair_is_the_best_of_all() {
    let (n, target) = (8, haar::<f64>(8, 77));
    for count in 0..40 {
        let before = fit::greedy(&target, count, &options(Group::Full), &mut go).unwrap();
        let after = fit::greedy(&target, count + 1, &options(Group::Full), &mut go).unwrap();
        assert_eq!(after.num_parameters(), count + 1);
        check_error(&target, &after);
        // Z = QRᵀ; one block on (p, q) wins ‖·‖_* − tr of its part.
        let (r, q) = (matrix(before.plan()), target.entries());
        let z = |i: usize, j: usize| (0..n).map(|k| q[i * n + k] * r[j * n + k]).sum::<f64>();
        let gain = |p: usize, q: usize| {
            let (a, b, c, d) = (z(p, p), z(p, q), z(q, p), z(q, q));
            (a + d).hypot(b - c).max((a - d).hypot(b + c)) - (a + d)
        };
        let best = (0..n).flat_map(|p| (p + 1..n).map(move |q| gain(p, q))).fold(0.0, f64::max);
        let drop = (before.error - after.error) * n as f64;
        assert!((drop - best).abs() <= 64.0 * EPS, "block {count}: {drop} is not {best}");
    }
}

/// Rotations of disjoint pairs come back as they are, also tiny ones, in one stage; coordinates between them stay untouched.
#[test]
fn disjoint_rotations_are_found() {
    let n = 11;
    let index: Vec<u32> = vec![7, 2, 0, 10, 4, 9];
    for scale in [1.0, 1e-3, 1e-7] {
        let angles = [2.0, -0.9, 0.3].map(|angle: f64| angle * scale);
        let blocks: Vec<f64> = angles.iter().flat_map(|a| [a.cos(), -a.sin(), a.sin(), a.cos()]).collect();
        let layout = StageLayout::Table { block: 2, index: index.clone().into() };
        let plan = Plan::<f64>::from_stages(n, [(layout, Source::Fixed(blocks.into()))]).unwrap();
        let target = Target::new(n, &matrix(&plan)).unwrap();
        for group in [Group::Full, Group::Special] {
            let found = fit::greedy(&target, 100, &options(group), &mut go).unwrap();
            assert_eq!(found.stop, Stop::Exact);
            assert!(found.relative_frobenius <= 4.0 * EPS, "{:e}", found.relative_frobenius);
            let mut pairs = pairs(found.plan());
            assert_eq!(pairs.len(), 1);
            pairs[0].sort_unstable();
            assert_eq!(pairs[0], [(0, 10), (2, 7), (4, 9)]);
            assert_eq!(found.num_parameters(), 3);
            check_error(&target, &found);
        }
    }
}

/// A signed permutation needs one block for each exchange; the sign of the determinant is a reflection more.
#[test]
fn permutations_are_found() {
    let n = 12;
    let mut order: Vec<usize> = (0..n).collect();
    Generator::new(4).shuffle(&mut order);
    let q: Vec<f64> = (0..n * n).map(|at| f64::from(u8::from(order[at / n] == at % n))).collect();
    let found = fit::greedy(&Target::new(n, &q).unwrap(), n, &Options::default(), &mut go).unwrap();
    assert_eq!(found.stop, Stop::Exact);
    assert!(found.error == 0.0 && found.num_parameters() < n, "{:e}", found.error);
}

#[test]
fn the_complex_case_and_polishing() {
    let target = haar::<c64>(10, 5);
    let rough = fit::greedy(&target, 20, &options(Group::Full), &mut go).unwrap();
    let polished = fit::greedy(&target, 20, &Options::default(), &mut go).unwrap();
    check_error(&target, &rough);
    check_error(&target, &polished);
    assert!(polished.error < 0.9 * rough.error, "{} {}", polished.error, rough.error);
    assert_eq!(pairs(polished.plan()), pairs(rough.plan()));
    assert_eq!(polished.curve[..21], rough.curve[..]);
    assert_eq!(polished.curve.len(), 21 + polished.sweeps);
    assert_eq!(rough.num_parameters(), 20 * 4);
    // With as many blocks as it takes, everything is reached.
    let all = fit::greedy(&target, 100_000, &options(Group::Full), &mut go).unwrap();
    assert!(all.error <= ROUNDING * ROUNDING, "{:e}", all.error);
}

#[test]
fn ends_and_edges() {
    let one = |x: f64| Target::new(1, &[x]).unwrap();
    let found = fit::greedy(&one(1.0), 5, &Options::default(), &mut go).unwrap();
    assert_eq!((found.stop, found.error, found.num_parameters()), (Stop::Exact, 0.0, 0));
    let found = fit::greedy(&one(-1.0), 5, &Options::default(), &mut go).unwrap();
    assert_eq!((found.stop, found.error), (Stop::Converged, 2.0)); // no pairs
    let target = haar::<f64>(9, 1);
    let found = fit::greedy(&target, 0, &Options::default(), &mut go).unwrap();
    assert_eq!((found.stop, found.num_parameters(), found.plan().num_stages()), (Stop::Sweeps, 0, 0));
    check_error(&target, &found);
    // A watcher ends it, among blocks and among sweeps.
    let stop_at = |restart, sweep| {
        let mut watch = |p: &Progress| match (p.restart, p.sweep) == (restart, sweep) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        fit::greedy(&target, 30, &Options::default(), &mut watch).unwrap()
    };
    let found = stop_at(0, 7);
    assert_eq!((found.stop, found.num_parameters(), found.sweeps), (Stop::Interrupted, 7, 0));
    check_error(&target, &found);
    let found = stop_at(1, 2);
    assert_eq!((found.stop, found.num_parameters(), found.sweeps), (Stop::Interrupted, 30, 2));
    check_error(&target, &found);
    let mut goal = options(Group::Full);
    goal.goal = 0.3;
    let found = fit::greedy(&target, 1000, &goal, &mut go).unwrap();
    assert!(found.stop == Stop::Exact && found.error <= 0.3 && found.curve[found.curve.len() - 2] > 0.3);
    // The wrong determinant is out of reach of rotations.
    let reflection = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0];
    let found = fit::greedy(&Target::new(3, &reflection).unwrap(), 9, &options(Group::Special), &mut go).unwrap();
    assert_eq!((found.stop, found.num_parameters()), (Stop::Converged, 0));
    let complex = fit::greedy(&haar::<c64>(3, 0), 9, &options(Group::Special), &mut go);
    assert!(matches!(complex, Err(Error::Unsupported { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn blocks_never_lose(n in 1usize..14, seed: u64, special: bool, count in 0usize..60) {
        let target = haar::<f64>(n, seed);
        let group = if special { Group::Special } else { Group::Full };
        let found = fit::greedy(&target, count, &options(group), &mut go).unwrap();
        prop_assert!(found.curve.windows(2).all(|pair| pair[1].sqrt() <= pair[0].sqrt() + 2.0 * EPS));
        check_error(&target, &found);
        let again = fit::greedy(&target, count, &options(group), &mut go).unwrap();
        prop_assert_eq!(matrix(found.plan()), matrix(again.plan()));
        let mut polish = options(group);
        polish.sweeps = 5;
        let polished = fit::greedy(&target, count, &polish, &mut go).unwrap();
        prop_assert!(polished.error.sqrt() <= found.error.sqrt() + ROUNDING);
        let rotation = |block: &[f64]| block[0] * block[3] - block[1] * block[2] > 0.0;
        for stage in polished.plan().stages().iter().filter(|_| special) {
            let Source::Fixed(blocks) = stage.source() else { panic!("fixed blocks") };
            prop_assert!(blocks.chunks(4).all(rotation));
        }
    }

    #[test]
    fn jacobi_never_loses(n in 1usize..14, seed: u64, disjoint: bool, count in 0usize..80) {
        let s = symmetric(n, seed);
        let order = if disjoint { Order::Disjoint } else { Order::Largest };
        let found = fit::jacobi(n, &s, count, order, &mut go).unwrap();
        prop_assert!(found.curve.windows(2).all(|pair| pair[1] <= pair[0] * (1.0 + 8.0 * EPS)));
        prop_assert!(found.num_parameters() <= count);
        check_basis(n, &s, &found);
    }
}

fn symmetric(n: usize, seed: u64) -> Vec<f64> {
    let mut g = Generator::new(seed);
    let x: Vec<f64> = (0..n * n).map(|_| g.uniform() - 0.5).collect();
    (0..n * n).map(|at| x[at] + x[(at % n) * n + at / n]).collect()
}

/// The Laplacian of a graph of n vertices.
fn laplacian(n: usize, edge: impl Fn(usize, usize) -> bool) -> Vec<f64> {
    let mut s = vec![0.0; n * n];
    for (i, j) in (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j))).filter(|(i, j)| edge(*i, *j)) {
        (s[i * n + j], s[j * n + i]) = (-1.0, -1.0);
        s[i * n + i] += 1.0;
        s[j * n + j] += 1.0;
    }
    s
}

fn graphs() -> Vec<(&'static str, usize, Vec<f64>)> {
    let mut g = Generator::new(9);
    let coins: Vec<bool> = (0..30 * 30).map(|_| g.below(5) == 0).collect();
    let grid = |i: usize, j: usize| j - i == 5 || (j - i == 1 && !j.is_multiple_of(5));
    vec![
        ("ring", 24, laplacian(24, |i, j| j - i == 1 || j - i == 23)),
        ("grid", 30, laplacian(30, grid)),
        ("random", 30, laplacian(30, |i, j| coins[i * 30 + j])),
        ("complete", 9, laplacian(9, |_, _| true)),
        ("symmetric", 17, symmetric(17, 1)),
    ]
}

/// λ and the curve's end against UᵀSU by definition.
fn check_basis(n: usize, s: &[f64], found: &Eigenbasis) {
    let u = matrix(found.plan());
    let size = s.iter().map(|x| x * x).sum::<f64>().sqrt();
    let mut off = 0.0;
    for (i, j) in (0..n).flat_map(|i| (0..n).map(move |j| (i, j))) {
        let su = |k: usize| (0..n).map(|l| s[k * n + l] * u[l * n + j]).sum::<f64>();
        let x = (0..n).map(|k| u[k * n + i] * su(k)).sum::<f64>();
        if i == j {
            let limit = 8.0 * n as f64 * EPS * size;
            assert!((x - found.eigenvalues[i]).abs() <= limit, "{x} {}", found.eigenvalues[i]);
        } else {
            off += x * x;
        }
    }
    let off = if size > 0.0 { off.sqrt() / size } else { 0.0 };
    let last = found.curve[found.curve.len() - 1];
    assert!((off - last).abs() <= 8.0 * n as f64 * EPS, "{off:e}, {last:e} said");
    assert!(found.plan().is_exact());
    assert_eq!(pairs(found.plan()).iter().map(Vec::len).sum::<usize>(), found.num_parameters());
}

#[test]
fn jacobi_converges_to_the_eigenvalues() {
    for (name, n, s) in graphs() {
        let truth = faer::Mat::from_fn(n, n, |i, j| s[i * n + j]).self_adjoint_eigenvalues(faer::Side::Lower).unwrap();
        let mut stages = Vec::new();
        for order in [Order::Largest, Order::Disjoint] {
            let found = fit::jacobi(n, &s, usize::MAX, order, &mut go).unwrap();
            assert_eq!(found.stop, Stop::Exact, "{name}");
            check_basis(n, &s, &found);
            let mut eigenvalues = found.eigenvalues.clone();
            eigenvalues.sort_by(f64::total_cmp);
            let limit = 8.0 * n as f64 * EPS * truth[n - 1].abs().max(truth[0].abs());
            assert!(eigenvalues.iter().zip(&truth).all(|(x, y)| (x - y).abs() <= limit), "{name}: {eigenvalues:?}");
            let again = fit::jacobi(n, &s, usize::MAX, order, &mut go).unwrap();
            assert_eq!(matrix(again.plan()), matrix(found.plan()));
            stages.push(found.plan().num_stages());
        }
        assert!(stages[1] <= stages[0], "{name}: disjoint pairs need {stages:?} stages");
    }
}

/// Few rotations, many of them in a stage; the first is that of the largest entry.
#[test]
fn truncated_jacobi() {
    // The complete graph is done before.
    for (name, n, s) in graphs().into_iter().filter(|graph| graph.0 != "complete") {
        let count = n * n.ilog2() as usize / 2;
        for order in [Order::Largest, Order::Disjoint] {
            let found = fit::jacobi(n, &s, count, order, &mut go).unwrap();
            assert!(found.num_parameters() == count && found.stop == Stop::Sweeps, "{name}");
            assert!(found.curve.windows(2).all(|pair| pair[1] < pair[0]), "{name}: {:?}", found.curve);
            assert!(found.curve[count] < 0.65 * found.curve[0], "{name}: {} of {}", found.curve[count], found.curve[0]);
            check_basis(n, &s, &found);
            if order == Order::Disjoint {
                assert!(found.plan().num_stages() <= count.div_ceil(n / 2) + 3, "{name}");
            }
            let mut seen = Vec::new();
            let mut watch = |p: &Progress| {
                seen.push(p.error);
                if p.sweep == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let stopped = fit::jacobi(n, &s, count, order, &mut watch).unwrap();
            assert_eq!((stopped.stop, &stopped.curve), (Stop::Interrupted, &seen));
            assert_eq!(stopped.curve, found.curve[..6]);
            let first = fit::jacobi(n, &s, 1, order, &mut go).unwrap();
            let (i, j) = pairs(first.plan())[0][0];
            let largest = (0..n * n).filter(|at| at / n != at % n).map(|at| s[at].abs()).fold(0.0, f64::max);
            assert_eq!(s[i * n + j].abs(), largest, "{name}");
        }
    }
}

#[test]
fn jacobi_takes_any_scale() {
    let n = 8;
    let s = symmetric(n, 3);
    let found = fit::jacobi(n, &s, 1000, Order::Largest, &mut go).unwrap();
    for scale in [2f64.powi(-1000), 2f64.powi(1000)] {
        let scaled: Vec<f64> = s.iter().map(|x| x * scale).collect();
        let again = fit::jacobi(n, &scaled, 1000, Order::Largest, &mut go).unwrap();
        assert_eq!(again.curve, found.curve);
        assert!(again.eigenvalues.iter().zip(&found.eigenvalues).all(|(x, y)| *x == y * scale));
    }
    let zero = fit::jacobi(3, &[0.0; 9], 5, Order::Disjoint, &mut go).unwrap();
    assert_eq!((zero.stop, zero.curve, zero.eigenvalues), (Stop::Exact, vec![0.0], vec![0.0; 3]));
}

#[test]
fn what_is_no_symmetric_matrix_is_refused() {
    for order in [Order::Largest, Order::Disjoint] {
        let try_it = |n, s: &[f64]| fit::jacobi(n, s, 5, order, &mut go);
        assert!(matches!(try_it(0, &[]), Err(Error::Size { .. })));
        assert!(matches!(try_it(2, &[1.0; 3]), Err(Error::Length { expected: 4, got: 3, .. })));
        assert!(matches!(try_it(usize::MAX, &[1.0]), Err(Error::Size { .. })));
        let message = |s: &[f64]| try_it(2, s).unwrap_err().to_string();
        assert!(message(&[1.0, f64::NAN, 1.0, 1.0]).contains("row 0, column 1"));
        assert!(message(&[1.0, 0.0, f64::INFINITY, 1.0]).contains("row 1, column 0"));
        assert!(message(&[1.0, 2.0, 2.1, 1.0]).contains("a symmetric matrix"));
        assert!(try_it(2, &[1.0, 2.0, 2.0 + 8.0 * EPS, 1.0]).is_ok());
        let one = try_it(1, &[-3.5]).unwrap();
        assert_eq!((one.eigenvalues[0], one.curve.as_slice(), one.num_parameters()), (-3.5, [0.0].as_slice(), 0));
        let none = fit::jacobi(2, &[1.0, 2.0, 2.0, 1.0], 0, order, &mut go).unwrap();
        assert_eq!((none.stop, none.eigenvalues), (Stop::Sweeps, vec![1.0, 1.0]));
    }
}
