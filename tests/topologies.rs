//! All wirings for every n: plans or typed errors, structure, density, what they are in the literature.

#[path = "support/wirings.rs"]
mod wirings;

use papilio::generator::Generator;
use papilio::parametrization::{Cayley, Givens};
use papilio::topology::*;
use papilio::verify::{certificate, dense, laws};
use papilio::{Error, Plan};

/// Whether every output depends on every input: the product of the blocks' patterns has no zero.
fn is_dense(topology: &dyn Topology, n: usize) -> bool {
    let words = n.div_ceil(64);
    // from[i]: the sources on which coordinate i depends.
    let mut from: Vec<Vec<u64>> = (0..n)
        .map(|i| {
            let mut row = vec![0; words];
            row[i / 64] = 1 << (i % 64);
            row
        })
        .collect();
    for k in 0..topology.num_stages(n).unwrap() {
        let layout = topology.stage(n, k);
        for j in 0..layout.num_blocks() {
            let union = layout
                .indices(j)
                .fold(vec![0; words], |union, i| union.iter().zip(&from[i]).map(|(a, b)| a | b).collect());
            layout.indices(j).for_each(|i| from[i].clone_from(&union));
        }
    }
    from.iter().all(|row| row.iter().map(|word| word.count_ones() as usize).sum::<usize>() == n)
}

#[test]
fn every_n_gives_a_plan_or_a_typed_error() {
    let mut plans = 0;
    for wiring in wirings::all() {
        let topology = &*wiring.topology;
        laws::topology(topology, 0..=200).unwrap();
        for hostile in [1 << 32, usize::MAX - 1, usize::MAX] {
            let refused = |error: &Error| matches!(error, Error::Size { expected, .. } if !expected.is_empty());
            assert!(topology.num_stages(hostile).as_ref().map_or_else(refused, |_| true), "{topology:?}");
        }
        let mut accepted = 0;
        for n in 1..=200 {
            match Plan::<f64>::new(n, topology, Cayley) {
                Ok(plan) => {
                    accepted += 1;
                    assert_eq!(plan.num_stages(), topology.num_stages(n).unwrap());
                    if n % 40 == 0 || n < 8 {
                        let theta: Vec<f64> = (0..plan.num_params()).map(|i| (i as f64).sin()).collect();
                        let proof = certificate(&plan, &plan.realize(&theta).unwrap()).unwrap();
                        let bound = 4.0 * f64::EPSILON * (plan.num_stages() + 1) as f64;
                        assert!(proof.defect <= bound, "{topology:?} n = {n}: {}", proof.defect);
                    }
                }
                Err(Error::Size { expected, .. }) => {
                    assert!(!wiring.every_n && !expected.is_empty(), "{topology:?} n = {n}: {expected}");
                }
                Err(other) => panic!("{topology:?} n = {n}: {other}"),
            }
        }
        assert!(accepted > 0 && (!wiring.every_n || accepted == 200), "{topology:?}: {accepted}");
        plans += accepted;
    }
    assert!(plans > 4000, "{plans}");
}

#[test]
fn dense_where_promised() {
    for wiring in wirings::all() {
        let sizes = (1..=200).filter(|n| wiring.topology.num_stages(*n).is_ok());
        let sparse: Vec<_> = sizes.filter(|n| !is_dense(&*wiring.topology, *n)).collect();
        assert_eq!(sparse.is_empty(), wiring.dense, "{:?}: {sparse:?}", wiring.topology);
    }
}

#[test]
fn butterflies_of_any_size_are_dense_and_near_the_shortest() {
    for b in [2, 3, 4, 5, 6, 7, 8, 16, 50] {
        for n in (1..=200).chain([256, 257, 511, 728, 729, 730, 1009, 1023]) {
            let wiring = AnyButterfly::new(b);
            assert!(is_dense(&wiring, n), "b = {b}, n = {n}");
            let least = (0..).find(|m| b.pow(*m) >= n).unwrap() as usize;
            let stages = wiring.num_stages(n).unwrap();
            assert!((least..=least + 2).contains(&stages));
            assert!(stages <= least + usize::from(n % b != 0) || b > 2);
            for k in 0..stages {
                let layout = wiring.stage(n, k);
                assert!(n - layout.num_blocks() * layout.block_size() < b, "at most b - 1 coordinates pass");
            }
        }
    }
}

#[test]
fn fewer_stages_are_not_dense() {
    // Group and shuffle, Monarch and butterflies have the least depth: without the last stage something is missing.
    struct Cut<'a>(&'a dyn Topology);
    impl std::fmt::Debug for Cut<'_> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.fmt(f)
        }
    }
    impl Topology for Cut<'_> {
        fn name(&self) -> &'static str {
            "cut"
        }
        fn num_stages(&self, n: usize) -> papilio::Result<usize> {
            self.0.num_stages(n).map(|stages| stages - 1)
        }
        fn stage(&self, n: usize, k: usize) -> StageLayout {
            self.0.stage(n, k)
        }
    }
    for n in 2..=200 {
        for topology in
            [&AnyButterfly::new(2) as &dyn Topology, &Butterfly::classic(2), &Monarch::new(3), &GroupAndShuffle::new(3)]
        {
            assert!(topology.num_stages(n).is_err() || !is_dense(&Cut(topology), n), "{topology:?} {n}");
        }
    }
}

#[test]
fn parameters_are_counted_as_in_the_literature() {
    let params = |topology: &dyn Topology, n: usize| Plan::<f64>::new(n, topology, Cayley).unwrap().num_params();
    for m in 1..=7usize {
        let n = 1usize << m;
        let classic = Butterfly::classic(2);
        assert_eq!(params(&classic, n), n / 2 * m);
        assert_eq!(params(&AnyButterfly::new(2), n), n / 2 * m);
        assert_eq!(params(&Benes, n), n / 2 * (2 * m - 1));
        assert_eq!(params(&Kaleidoscope::new(classic), n), n * m);
        assert_eq!(params(&Kaleidoscope::merged(classic), n), n / 2 * (2 * m - 1));
        assert_eq!(params(&Repeated::new(classic, 5), n), 5 * n / 2 * m);
        assert_eq!(params(&Shared::by_stage(classic), n), m);
        assert_eq!(params(&Shared::by_group(classic), n), n - 1);
        assert_eq!(params(&Reversed(classic), n), n / 2 * m);
    }
    for n in 1..=60 {
        for topology in [&Brick as &dyn Topology, &Triangle] {
            assert_eq!(params(topology, n), n * (n - 1) / 2);
        }
        assert_eq!(params(&BinaryTree, n), n - 1);
        assert_eq!(params(&RandomPairings { stages: 5, seed: 1 }, n), 5 * (n / 2));
    }
    for (b, n, m) in [(4, 64, 3), (8, 64, 2), (3, 81, 4), (5, 25, 2)] {
        for topology in [&GroupAndShuffle::new(b) as &dyn Topology, &Monarch::strict(m), &MixedRadix::new(b)] {
            assert_eq!(params(topology, n), n * m * (b - 1) / 2, "{topology:?}");
        }
    }
    // l pairs BOFT(m1, b1) BOFT(m2, b2)ᵀ.
    assert_eq!(params(&GeneralizedBoft::new(3, 4, 2, 8, 5).unwrap(), 64), 5 * (3 * 64 * 3 / 2 + 2 * 64 * 7 / 2));
}

fn realized(plan: &Plan<f64>, theta: &[f64]) -> Vec<f64> {
    dense::matrix(plan, &plan.realize(theta).unwrap()).unwrap()
}

/// A ⊗ B.
fn kronecker(a: &[f64], b: &[f64]) -> Vec<f64> {
    let side = |m: &[f64]| m.len().isqrt();
    let (p, q) = (side(a), side(b));
    (0..p * q * p * q)
        .map(|at| {
            let (i, j) = (at / (p * q), at % (p * q));
            a[i / q * p + j / q] * b[i % q * q + j % q]
        })
        .collect()
}

fn angles(g: &mut Generator, count: usize) -> Vec<f64> {
    (0..count).map(|_| 8.0 * g.uniform() - 4.0).collect()
}

fn close(a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len());
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst <= 4.0 * f64::EPSILON, "{worst:e}");
}

#[test]
fn simple_scalar_butterflies_are_kronecker_products_of_rotations() {
    let mut g = Generator::new(11);
    for m in 1..=6 {
        let plan = Plan::<f64>::new(1 << m, &Shared::by_stage(Butterfly::classic(2)), Givens).unwrap();
        let theta = angles(&mut g, plan.num_params());
        let rotations = theta.iter().map(|t| vec![t.cos(), -t.sin(), t.sin(), t.cos()]);
        // The last stage has the largest stride: its factor is the leftmost.
        let product = rotations.reduce(|right, left| kronecker(&left, &right)).unwrap();
        close(&realized(&plan, &theta), &product);
    }
}

#[test]
fn scalar_butterflies_follow_their_recursion() {
    // OB(N) = [[c A1, -s A2], [s A1, c A2]], one angle for each OB.
    fn ob(theta: &[&[f64]], place: usize) -> Vec<f64> {
        let Some((last, rest)) = theta.split_last() else { return vec![1.0] };
        let (s, c) = last[place].sin_cos();
        let halves = [ob(rest, 2 * place), ob(rest, 2 * place + 1)];
        let h = halves[0].len().isqrt();
        (0..4 * h * h)
            .map(|at| {
                let (i, j) = (at / (2 * h), at % (2 * h));
                let factor = [[c, -s], [s, c]][i / h][j / h];
                factor * halves[j / h][i % h * h + j % h]
            })
            .collect()
    }
    let mut g = Generator::new(12);
    for m in 1..=5usize {
        let n = 1usize << m;
        let plan = Plan::<f64>::new(n, &Shared::by_group(Butterfly::classic(2)), Givens).unwrap();
        let theta = angles(&mut g, plan.num_params());
        let stages: Vec<&[f64]> = plan.stages().iter().map(|stage| &theta[stage.theta()]).collect();
        assert!(stages.iter().enumerate().all(|(k, angles)| angles.len() == n >> (k + 1)));
        close(&realized(&plan, &theta), &ob(&stages, 0));
    }
}

#[test]
fn kronecker_composites_are_kronecker_products() {
    let mut g = Generator::new(13);
    for (left, right) in [(1, 6), (6, 1), (3, 8), (5, 7), (12, 5), (4, 4)] {
        let (a, b) = (AnyButterfly::new(3), AnyButterfly::new(4));
        let whole = Plan::<f64>::new(left * right, &Kronecker::new(left, a, b), Cayley).unwrap();
        let (a, b) = (Plan::new(left, &a, Cayley).unwrap(), Plan::new(right, &b, Cayley).unwrap());
        assert_eq!(whole.num_params(), a.num_params() + b.num_params());
        let (ta, tb) = (angles(&mut g, a.num_params()), angles(&mut g, b.num_params()));
        let theta = [&tb[..], &ta].concat(); // B acts first
        close(&realized(&whole, &theta), &kronecker(&realized(&a, &ta), &realized(&b, &tb)));
    }
}

#[test]
fn unshared_kronecker_composites_have_parameters_for_every_slice() {
    let grid = Kronecker::new(6, AnyButterfly::new(2), Shared::by_stage(AnyButterfly::new(5))).unshared();
    let plan = Plan::<f64>::new(6 * 10, &grid, Cayley).unwrap();
    // Rows: 6 slices of 2 stages whose blocks are one (of 5 and of 2). Columns: 10 slices of 3 stages of 3 pairs.
    assert_eq!(plan.num_params(), 6 * (10 + 1) + 10 * 3 * 3);
}
