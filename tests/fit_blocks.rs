//! Sweeps: the best blocks of any condition, against known singular values; rotations, whose signs stages share. Bounds, against singular
//! values of the parts of a target. Starts: which are tried, and what is kept.

use std::ops::ControlFlow;

use papilio::fit::{self, Fit, Group, Options, Target};
use papilio::topology::{AnyButterfly, BlockDiagonal, Butterfly, GroupAndShuffle, Monarch};
use papilio::{Source, StageLayout, Topology, Wide, c64, synthesis};

const EPS: f64 = f64::EPSILON;

fn run(target: &Target<f64>, stages: &[StageLayout], group: Group, seed: u64) -> Fit<f64> {
    let mut options = Options::default();
    (options.group, options.seed, options.sweeps) = (group, seed, 400);
    fit::alternating(target, stages, &options, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn determinant(n: usize, q: &[f64]) -> f64 {
    faer::Mat::from_fn(n, n, |i, j| q[i * n + j]).determinant()
}

/// Blocks U diag(σ) Vᵀ with given σ: the upper left one of [[U, 0], [0, I]]·[[C, −S], [S, C]]·[[Vᵀ, 0], [0, I]], C = diag(σ). Its
/// best block is known however small σ is, and whatever the determinant.
#[test]
fn best_blocks_of_any_condition() {
    let haar = |b, seed| Target::<f64>::haar(b, Group::Full, seed).unwrap();
    for (b, seed) in [(3, 1), (4, 2), (8, 3), (16, 4), (33, 5)] {
        for (decay, last) in [(0.0, 0.9), (0.5, 1.0), (3.0, 1.0), (8.0, 1.0), (14.0, 1.0), (1.0, 0.0), (2.0, 1e-200)] {
            let n = 2 * b;
            let (u, v) = (haar(b, seed), haar(b, seed + 100));
            let mut sigma: Vec<f64> = (0..b).map(|i| 10f64.powf(-decay * i as f64 / (b - 1) as f64)).collect();
            sigma[b - 1] *= last;
            let sine = |x: f64| (1.0 - x * x).max(0.0).sqrt();
            let sum = |f: &dyn Fn(usize) -> f64| (0..b).map(f).sum::<f64>();
            let entry = |at: usize| {
                let (i, j) = (at / n, at % n);
                let (u, v) = (|i: usize, k: usize| u.entries()[i * b + k], |j: usize, k: usize| v.entries()[j * b + k]);
                match (i < b, j < b) {
                    (true, true) => sum(&|k| u(i, k) * sigma[k] * v(j, k)),
                    (true, false) => -u(i, j - b) * sine(sigma[j - b]),
                    (false, true) => sine(sigma[i - b]) * v(j, i - b),
                    (false, false) => sigma[i - b] * f64::from(u8::from(i == j)),
                }
            };
            let (target, _) = Target::project(n, &(0..n * n).map(entry).collect::<Vec<_>>()).unwrap();
            let stages = fit::layouts(n, &BlockDiagonal::new(b)).unwrap();
            let negative = determinant(b, u.entries()) * determinant(b, v.entries()) < 0.0;
            for group in [Group::Full, Group::Special] {
                let found = run(&target, &stages, group, 0);
                let mut gain = 2.0 * sigma.iter().sum::<f64>();
                if group == Group::Special && negative {
                    gain -= 2.0 * sigma.iter().fold(1.0, |m: f64, x| m.min(*x));
                }
                let expected = 1.0 - gain / n as f64;
                let off = (found.error - expected).abs();
                assert!(off <= 8.0 * EPS * b as f64, "b = {b}, 1e-{decay} {last:e} {group:?}: {off:e}");
                assert!(found.plan().is_exact());
            }
        }
    }
}

/// Permutations with signs: their leading parts are singular, which elimination without pivoting must not believe.
#[test]
fn best_blocks_that_are_permutations() {
    let mut generator = papilio::generator::Generator::new(1);
    // Exactly, and nearly: pivots that are zero, tiny, or rounding errors.
    for (b, near) in [3, 4, 5, 8, 16].into_iter().flat_map(|b| [0.0, 1e-13, 1e-17, 1e-30].map(|near| (b, near))) {
        for _ in 0..20 {
            let mut order: Vec<usize> = (0..b).collect();
            generator.shuffle(&mut order);
            let sign: Vec<f64> = order.iter().map(|_| generator.sign()).collect();
            let entry = |at: usize| {
                let (i, j) = (at / b, at % b);
                if order[i] == j { sign[i] } else { near * (0.3 + (i * j) as f64).sin() }
            };
            let (target, _) = Target::project(b, &(0..b * b).map(entry).collect::<Vec<_>>()).unwrap();
            let stages = fit::layouts(b, &BlockDiagonal::new(b)).unwrap();
            let found = run(&target, &stages, Group::Special, 0);
            let expected = if determinant(b, target.entries()) > 0.0 { 0.0 } else { 2.0 / b as f64 };
            assert!((found.error - expected).abs() <= 8.0 * EPS, "{order:?} {sign:?}: {}", found.error);
            let (Source::Fixed(blocks), b) = (found.plan().stages()[0].source(), b) else { panic!() };
            assert!(determinant(b, blocks) > 0.0);
        }
    }
}

/// Of a product of rotations every start finds rotations: only the determinants of whole connected parts are held. With each held by
/// itself most of these runs rest at e = 4/n, 8/n or 12/n.
#[test]
fn rotations_share_their_signs() {
    let wirings: Vec<(usize, Box<dyn Topology>)> = vec![
        (64, Box::new(Butterfly::classic(2))),
        (64, Box::new(Butterfly::boft(4, 4).unwrap())),
        (64, Box::new(Monarch::new(2))),
        (48, Box::new(GroupAndShuffle::new(4))),
        (30, Box::new(Butterfly::classic(2).with_stages(1))), // every block is a part of its own
        (27, Box::new(AnyButterfly::new(3))),                 // odd blocks, and coordinates that pass
    ];
    for (n, topology) in wirings {
        let stages = fit::layouts(n, &*topology).unwrap();
        for seed in 0..6 {
            let target = Target::planted(n, &stages, Group::Special, seed).unwrap();
            let found = run(&target, &stages, Group::Special, seed + 1000);
            let limit = 8.0 * EPS * (n as f64).log2();
            assert!(found.relative_frobenius <= limit, "{topology:?}, seed {seed}: {:e}", found.relative_frobenius);
            for stage in found.plan().stages() {
                let (Source::Fixed(blocks), b) = (stage.source(), stage.layout().block_size()) else { panic!() };
                assert!(blocks.chunks_exact(b * b).all(|block| determinant(b, block) > 0.0), "{topology:?}");
            }
        }
    }
}

/// 1 − (1/n)·Σ of the u largest singular values of all parts of the first split, by faer. Stages are `radices`, cut in the middle.
fn least<W: Wide>(target: &Target<W>, u: usize, radices: &[usize]) -> f64 {
    let (n, k) = (target.n(), radices.len() / 2);
    let s = u * radices[..k].iter().product::<usize>();
    let (q, mut gain) = (n / s, 0.0);
    for t in 0..s / u {
        for j in 0..q {
            let part = faer::Mat::from_fn(q * u, s, |i, c| {
                let x = target.entries()[(i / u * s + t * u + i % u) * n + j * s + c];
                c64::new(x.re(), x.im())
            });
            gain += part.singular_values().unwrap()[..u].iter().sum::<f64>();
        }
    }
    1.0 - gain / n as f64
}

/// A bound that is above what is possible is none. Parts of a transform with two rows exchanged have rows that are orthogonal to the
/// singular vector that counts.
#[test]
fn no_product_is_below_the_bound() {
    fn check<W: Wide>(what: &str, target: &Target<W>, u: usize, radices: &[usize]) -> Fit<W> {
        let topology = Butterfly { unit: u, radix: radices[0], stages: Some(radices.len()) };
        let stages = fit::layouts(target.n(), &topology).unwrap();
        let found = fit::hierarchical(target, &stages, &Options::default()).unwrap();
        let (bound, truth) = (found.bound.unwrap(), least(target, u, radices));
        assert!(bound <= truth + 1e-15 && bound >= truth - 1e-8, "{what}: {bound}, but {truth}");
        found
    }
    let n = 16;
    let hadamard = synthesis::hadamard::<f64>(n).unwrap();
    let mut q = Target::of(&hadamard).unwrap().entries().to_vec();
    for (i, j) in [(0, 1), (2, 3)] {
        (0..n).for_each(|k| q.swap(i * n + k, j * n + k));
    }
    // The Hadamard matrix itself has e = 1/4.
    let found = check("exchanged", &Target::new(n, &q).unwrap(), 1, &[2; 4]);
    assert!(found.bound.unwrap() < 0.14 && found.error < 0.4, "{} {}", found.bound.unwrap(), found.error);
    for plan in [synthesis::dct3::<f64>(8).unwrap(), synthesis::dct4(8).unwrap(), synthesis::haar(8).unwrap()] {
        check("transform of 8", &Target::of(&plan).unwrap(), 1, &[2; 3]);
    }
    for seed in 0..3 {
        check("Haar", &Target::<f64>::haar(64, Group::Full, seed).unwrap(), 1, &[2; 6]);
        check("Haar", &Target::<f64>::haar(64, Group::Full, seed).unwrap(), 4, &[2; 4]);
        check("Haar", &Target::<f64>::haar(48, Group::Full, seed).unwrap(), 3, &[4; 2]);
        check("Haar", &Target::<c64>::haar(32, Group::Full, seed).unwrap(), 2, &[2; 4]);
    }
}

fn fitted(target: &Target<f64>, stages: &[StageLayout], options: &Options) -> Fit<f64> {
    fit::fit(target, stages, options, &mut |_| ControlFlow::Continue(())).unwrap()
}

/// Near the class, too, one pass is one start of several.
#[test]
fn restarts_count_beside_one_pass() {
    let target = Target::of(&synthesis::dct4::<f64>(8).unwrap()).unwrap();
    let stages = fit::layouts(8, &Butterfly::classic(2)).unwrap();
    let mut options = Options::default();
    let one = fitted(&target, &stages, &options);
    assert!(one.error > 0.33 && one.error < 0.35, "{}", one.error);
    options.restarts = 8;
    let (more, mut runs) = (fitted(&target, &stages, &options), Vec::new());
    assert!(more.error < 0.302 && more.bound == one.bound, "{}", more.error);
    options.start = fit::Start::Identity;
    fit::fit(&target, &stages, &options, &mut |p| {
        if p.sweep == 0 {
            runs.push((p.restart, p.error));
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    let identity = 1.0 - target.entries().iter().step_by(9).sum::<f64>() / 8.0;
    assert_eq!(runs.iter().map(|run| run.0).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    assert!((runs[1].1 - identity).abs() < 1e-14 && (runs[0].1 - one.curve[0]).abs() < 1e-14);
}

/// Rounding errors grow with the number of stages, and are no more than rounding for that.
#[test]
fn deep_products_are_found_to_be_exact() {
    for (n, times) in [(16, 24), (64, 16)] {
        let stages = fit::layouts(n, &papilio::topology::Repeated::new(Butterfly::classic(2), times)).unwrap();
        let target = Target::planted(n, &stages, Group::Full, 1).unwrap();
        let found = fitted(&target, &stages, &Options::default());
        assert_eq!(found.stop, fit::Stop::Exact, "{:e} after {} sweeps", found.error, found.sweeps);
        assert!(found.relative_frobenius <= EPS * (4.0 + stages.len() as f64), "{:e}", found.relative_frobenius);
    }
}

/// Sizes whose reciprocals are infinite have no direction.
#[test]
fn entries_as_small_as_there_are() {
    let tiny = f64::from_bits(3);
    let q = [c64::new(tiny, tiny), c64::new(1.0, 0.0), c64::new(1.0, 0.0), c64::new(0.0, tiny)];
    let (target, options) = (Target::new(2, &q).unwrap(), Options::default());
    let go = &mut |_: &fit::Progress| ControlFlow::Continue(());
    for b in [1, 2] {
        let stages = fit::layouts(2, &BlockDiagonal::new(b)).unwrap();
        let found = fit::alternating(&target, &stages, &options, go).unwrap();
        assert!(found.error <= 1.0 + 1e-15, "{b}: {}", found.error);
        let found = fit::permuted(&target, &stages, fit::Sides::Rows, &options, go).unwrap();
        assert!(found.fit.error <= 1e-30, "{b}: {}", found.fit.error);
    }
}

#[test]
fn layouts_beyond_all_numbers_are_refused() {
    let target = Target::<f64>::haar(4, Group::Full, 1).unwrap();
    let stages = [StageLayout::Strided { unit: 1, radix: usize::MAX, distance: 2, groups: 1 }];
    let go = &mut |_: &fit::Progress| ControlFlow::Continue(());
    assert!(fit::fit(&target, &stages, &Options::default(), go).is_err());
    assert!(fit::hierarchical(&target, &stages, &Options::default()).is_err());
    assert!(fit::permuted(&target, &stages, fit::Sides::Rows, &Options::default(), go).is_err());
}

/// Good at its first start only.
struct Once(fit::LeastSquares<f64>, usize);

impl fit::Loss<f64> for Once {
    fn prepare(&mut self, _: usize) -> papilio::Result<()> {
        self.1 += 1;
        Ok(())
    }
    fn inputs(&self) -> &[f64] {
        self.0.inputs()
    }
    fn evaluate(&self, y: &[f64], gradient: &mut [f64]) -> f64 {
        let loss = self.0.evaluate(y, gradient);
        if self.1 > 1 { f64::NAN } else { loss }
    }
}

#[test]
fn a_start_without_a_loss_does_not_lose_the_others() {
    let stages = fit::layouts(2, &BlockDiagonal::new(2)).unwrap();
    let go = &mut |_: &fit::Progress| ControlFlow::Continue(());
    let mut options = Options::default();
    (options.restarts, options.sweeps) = (3, 2);
    let loss = || fit::LeastSquares::new(&[1.0, 0.0], &[0.3, 0.7]).unwrap();
    let mut one = options.clone();
    one.restarts = 1;
    let found = fit::descend(2, &stages, &mut Once(loss(), 0), fit::Method::default(), &options, go).unwrap();
    let alone = fit::descend(2, &stages, &mut loss(), fit::Method::default(), &one, go).unwrap();
    assert_eq!((found.loss, found.curve), (alone.loss, alone.curve));
}
