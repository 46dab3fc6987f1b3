//! Information transmission against brute force, the literature's numbers and an independent singular value decomposition.

use std::ops::ControlFlow;
use std::sync::Arc;

use faer::Mat;
use papilio::generator::Generator;
use papilio::parametrization::{Cayley, Givens};
use papilio::topology::{BlockDiagonal, Butterfly, Explicit, Topology};
use papilio::transmission::{Dimension, JacobianRank, Network, RankOptions, jacobian_rank, smallest_dense_depth};
use papilio::verify::dense;
use papilio::{Error, Parametrization, Plan, Sharing, Source, StageLayout, Transmission, c64};

/// Stages as tables of blocks of size b.
type Wiring = Vec<(usize, Vec<usize>)>;

fn plan(n: usize, wiring: Wiring) -> Plan<f64> {
    Plan::new(n, &Explicit::new(n, wiring).unwrap(), Cayley).unwrap()
}

fn rank(plan: &Plan<f64>) -> JacobianRank {
    let found = jacobian_rank(plan, &RankOptions::default(), |_| ControlFlow::Continue(())).unwrap().unwrap();
    assert!(found.is_clear(), "{found:?}");
    found
}

/// The stages of the radix-b butterfly with strides bᵏ, but at most n/b.
fn strides(n: usize, b: usize, m: usize) -> Wiring {
    let stage = |k: u32| {
        let s = b.pow(k).min(n / b);
        let blocks = (0..n).step_by(s * b).flat_map(|base| (0..s).map(move |j| base + j));
        (b, blocks.flat_map(|first| (0..b).map(move |t| first + s * t)).collect())
    };
    (0..m as u32).map(stage).collect()
}

fn bricks(n: usize, m: usize) -> Wiring {
    (0..m).map(|k| (2, (k % 2..n - (n - k % 2) % 2).collect())).collect()
}

/// `tests/data/random_wirings.txt`: the permutations that numpy drew for the reference program, one stage in a line.
fn random_wiring(n: usize) -> Wiring {
    let lines = include_str!("data/random_wirings.txt").lines();
    let stages = lines.map(|line| line.split_whitespace().map(|i| i.parse().unwrap()).collect::<Vec<usize>>());
    stages.filter(|stage| stage.len() == n).map(|stage| (2, stage)).collect()
}

#[test]
fn free_edges_are_the_papers() {
    let edges = |n, topology: &dyn Topology| Network::new(n, topology).unwrap().free_edges();
    assert_eq!(edges(4, &BlockDiagonal::new(4)), 12);
    assert_eq!(edges(4, &Butterfly::classic(2)), 8);
    // Figure 2: five stages and ten edges, so one pair in each; dense after the fifth, and after four nothing leads from
    // node 1 to node 3. The pairs themselves are not in the text; these have all it says.
    let five = Explicit::new(4, [[0, 1], [2, 3], [1, 3], [0, 1], [2, 3]].map(|pair| (2, pair.to_vec()))).unwrap();
    let network = Network::new(4, &five).unwrap();
    let reach = network.reachability().unwrap();
    assert_eq!((network.num_stages(), network.free_edges(), reach.dense_after()), (5, 10, Some(5)));
    assert!(reach.is_dense() && !network.first(4).reachability().unwrap().reaches(0, 2));
    // O(d log d), and what blocks cost.
    assert_eq!(edges(1024, &Butterfly::classic(2)), 1024 * 10);
    assert_eq!(edges(64, &Butterfly::boft(4, 8).unwrap()), 64 * 4 * 7);
    assert_eq!(edges(64, &BlockDiagonal::new(8)), 64 * 7);
}

#[test]
fn densities_follow_the_formulas() {
    for (n, b) in [(64, 2), (64, 8), (96, 6), (512, 16)] {
        let most = (1..).take_while(|&m| Butterfly::boft(m, b).unwrap().num_stages(n).is_ok()).last().unwrap();
        let network = Network::new(n, &Butterfly::boft(most, b).unwrap()).unwrap();
        let reach = network.reachability().unwrap();
        for (m, density) in reach.densities().enumerate().skip(1) {
            assert_eq!(density, (b << (m - 1)).min(n) as f64 / n as f64, "n = {n}, b = {b}, m = {m}");
            assert_eq!(network.first(m).reachability().unwrap().density(), density);
        }
        assert!(reach.densities().is_sorted());
        assert_eq!(reach.dense_after(), (b << (most - 1) == n).then_some(most));
    }
    // Every entry of a dense radix-b butterfly has exactly one path; same-direction repetition multiplies them by n.
    let butterfly = Butterfly::classic(4);
    let once = Network::new(256, &butterfly).unwrap().paths().unwrap();
    assert_eq!((once.min_log2, once.max_log2, once.mean_log2), (0.0, 0.0, 0.0));
    let layouts = (0..8).map(|k| butterfly.stage(256, k % 4));
    let twice = Network::new(256, &Explicit::from_layouts(256, layouts).unwrap()).unwrap().paths().unwrap();
    assert_eq!((twice.min_log2, twice.max_log2, twice.mean_log2), (8.0, 8.0, 8.0));
}

#[test]
fn depths_that_become_dense() {
    let boft = |n, b| smallest_dense_depth(n, 20, |m| Butterfly::boft(m, b)).unwrap();
    for (n, b, m) in [(64, 8, 4), (1024, 2, 10), (1024, 32, 6), (8, 8, 1)] {
        assert_eq!(boft(n, b), Some(m)); // 1 + log2(n/b)
    }
    assert_eq!(boft(96, 8), None); // 96 = 3·2^5
    assert_eq!(smallest_dense_depth(27, 9, |m| Ok(Butterfly::classic(3).with_stages(m))).unwrap(), Some(3));
    let brick = |m| Explicit::new(9, bricks(9, m));
    assert_eq!(smallest_dense_depth(9, 20, brick).unwrap(), Some(9));
    assert_eq!(smallest_dense_depth(1, 20, |m| Ok(Butterfly::classic(2).with_stages(m))).unwrap(), Some(0));
}

/// Everything about paths by integer matrices, written down from the definition.
#[test]
fn reachability_and_paths_agree_with_integer_matrices() {
    let mut g = Generator::new(5);
    for case in 0..60 {
        let n = 1 + g.below(16) as usize;
        let stages = random_stages(&mut g, n, 4);
        let plan = Plan::from_stages(n, stages).unwrap();
        let plan = if case % 2 == 0 { plan } else { plan.adjoint() };
        let network = Network::of(&plan);
        let mut counts = identity(n);
        for k in 0..network.num_stages() {
            let mut factor = vec![0u64; n * n];
            network.links(k).unwrap().iter().for_each(|(from, to)| factor[to * n + from] += 1);
            assert!(factor.iter().all(|&link| link <= 1), "a link named twice");
            assert_eq!(factor, pattern(&plan, k), "case {case}, stage {k}");
            counts =
                (0..n * n).map(|at| (0..n).map(|l| factor[at / n * n + l] * counts[l * n + at % n]).sum()).collect();
            let reach = network.first(k + 1).reachability().unwrap();
            let pairs = counts.iter().filter(|&&count| count > 0).count();
            assert_eq!(reach.density(), pairs as f64 / (n * n) as f64);
            assert!((0..n * n).all(|at| reach.reaches(at % n, at / n) == (counts[at] > 0)));
        }
        let paths = network.paths().unwrap();
        let [min, max] = [counts.iter().min(), counts.iter().max()].map(|c| (*c.unwrap() as f64).log2());
        assert_eq!((paths.min_log2, paths.max_log2), (min, max));
        let mean = (counts.iter().sum::<u64>() as f64 / (n * n) as f64).log2();
        assert!((paths.mean_log2 - mean).abs() < 1e-13 || paths.mean_log2 == mean, "{paths:?} {mean}");
        assert!(!network.reachability().unwrap().reaches(n, 0) && !network.reachability().unwrap().reaches(0, n));
    }
}

fn identity(n: usize) -> Vec<u64> {
    (0..n * n).map(|at| u64::from(at / n == at % n)).collect()
}

/// Which entries of stage k are not zero for random parameters, from the dense truth.
fn pattern(plan: &Plan<f64>, k: usize) -> Vec<u64> {
    let stage = &plan.stages()[k];
    let one = Plan::from_stages(plan.n(), [(stage.layout().clone(), stage.source().clone())]).unwrap();
    let one = if stage.is_adjoint() { one.adjoint() } else { one };
    let theta: Vec<f64> = (0..one.num_params()).map(|i| 0.3 + (i as f64).sin().abs()).collect();
    let q = dense::matrix(&one, &one.realize(&theta).unwrap()).unwrap();
    q.iter().map(|x| u64::from(x.abs() > 1e-12)).collect()
}

/// Up to `most` random stages: trainable blocks, or fixed ones with zeros.
fn random_stages(g: &mut Generator, n: usize, most: u64) -> Vec<(StageLayout, Source<f64>)> {
    (0..g.below(most + 1))
        .map(|_| {
            let b = 1 + g.below(n.min(4) as u64) as usize;
            let mut index: Vec<u32> = (0..n as u32).collect();
            g.shuffle(&mut index);
            index.truncate(g.below((n / b) as u64 + 1) as usize * b);
            let layout = StageLayout::Table { block: b, index: index.clone().into() };
            let entries: Vec<f64> = (0..index.len() * b).map(|_| (g.below(3) as f64 - 1.0) * 0.5).collect();
            let source = if g.below(3) == 0 { Source::Fixed(entries.into()) } else { Source::chart(Cayley) };
            (layout, source)
        })
        .collect()
}

/// What `jacobian_rank.py` prints: numpy's singular values of the tangent vectors.
#[test]
fn ranks_of_the_reference_program() {
    let check = |what: &str, plan: Plan<f64>, params: usize, expected: usize| {
        let found = rank(&plan);
        assert_eq!((plan.num_params(), found.rank), (params, expected), "{what}: {found:?}");
        let network = Network::of(&plan);
        assert!(network.rotation_dimension().is_none_or(|closed| closed == expected), "{what}");
        assert!(network.rotation_bound().unwrap() >= expected, "{what}");
        (network.rotation_dimension().is_some(), network.rotation_bound() == Some(expected))
    };
    for (m, b, n, params, expected) in [
        (4, 2, 16, 32, 32),
        (2, 4, 16, 48, 40),
        (3, 4, 16, 72, 56),
        (4, 4, 32, 192, 144),
        (2, 8, 32, 224, 176),
        (3, 8, 32, 336, 240),
        (4, 8, 64, 896, 608),
        (2, 16, 32, 480, 368),
        (3, 16, 64, 1440, 992),
    ] {
        assert_eq!(expected, params - (m - 1) * n * (b - 2) / 4);
        let boft = Plan::new(n, &Butterfly::boft(m, b).unwrap(), Cayley).unwrap();
        assert_eq!(check(&format!("BOFT({m}, {b}), n = {n}"), boft, params, expected), (true, true));
    }
    for (n, b, m, params, expected) in
        [(16, 4, 2, 48, 48), (64, 8, 2, 448, 448), (64, 4, 3, 288, 288), (32, 8, 2, 224, 208), (32, 4, 3, 144, 128)]
    {
        let what = format!("radix {b}, {m} stages, n = {n}");
        assert_eq!(check(&what, plan(n, strides(n, b, m)), params, expected), (true, true));
    }
    for (n, ranks) in [(16usize, [56, 64, 56, 120, 120, 120]), (32, [144, 160, 144, 320, 480, 311])] {
        let l = n.ilog2() as usize;
        let up = strides(n, 2, l);
        let down: Wiring = up.iter().rev().cloned().collect();
        let repeated = |times| (0..times).flat_map(|_| up.clone()).collect::<Wiring>();
        let [benes, same, mirror, four, six, random] = ranks;
        // Whether a closed form is known, and whether the bound is met.
        let merged = [up.clone(), down[1..].to_vec()].concat();
        assert_eq!(check("Beneš", plan(n, merged), n / 2 * (2 * l - 1), benes), (true, true));
        assert_eq!(check("B·Bᵀ", plan(n, [up.clone(), down].concat()), n * l, mirror), (true, true));
        assert!(check("B·B", plan(n, repeated(2)), n * l, same).1);
        assert!(check("4 B", plan(n, repeated(4)), 2 * n * l, four).1);
        assert!(check("6 B", plan(n, repeated(6)), 3 * n * l, six).1);
        assert!(check("random pairings", plan(n, random_wiring(n)), 2 * n * l, random).1);
    }
}

/// The rank of the tangent vectors S·W·Sᵀ by definition and by another library's singular values.
fn tangent_rank(plan: &Plan<f64>, seed: u64) -> usize {
    let (n, mut g) = (plan.n(), Generator::new(seed));
    let theta: Vec<f64> = (0..plan.num_params()).map(|_| 3.0 * g.uniform() - 1.5).collect();
    let factors = plan.realize(&theta).unwrap();
    let mut rows: Vec<Vec<f64>> = Vec::new();
    let mut after = Mat::<f64>::identity(n, n); // F_m ··· F_{k+2}
    for k in (0..plan.num_stages()).rev() {
        let (layout, blocks) = (plan.stages()[k].layout(), dense::blocks(plan, &factors, k).unwrap());
        let b = layout.block_size();
        let mut factor = Mat::<f64>::identity(n, n);
        for j in 0..layout.num_blocks() {
            for (x, y) in (0..b).flat_map(|y| (0..y).map(move |x| (x, y))) {
                let (p, q) = (layout.index(j, x), layout.index(j, y));
                let entry = |r: usize, c: usize| after[(r, p)] * after[(c, q)] - after[(r, q)] * after[(c, p)];
                rows.push((0..n * n).map(|at| entry(at / n, at % n)).collect());
            }
            for at in 0..b * b {
                factor[(layout.index(j, at / b), layout.index(j, at % b))] = blocks[j * b * b + at];
            }
        }
        after = &after * &factor;
    }
    if rows.is_empty() {
        return 0;
    }
    let matrix = Mat::from_fn(rows.len(), n * n, |i, j| rows[i][j]);
    let values = matrix.singular_values().unwrap();
    values.iter().filter(|&&s| s > 1e-9 * values[0]).count()
}

#[test]
fn rank_and_closed_forms_agree_with_an_independent_decomposition() {
    let mut g = Generator::new(11);
    let (mut known, mut met) = (0, 0);
    for case in 0..150 {
        let n = 2 + g.below(8) as usize;
        let stages = 1 + g.below(7);
        let neighbours = case % 3 == 0;
        let wiring: Wiring = (0..stages)
            .map(|_| {
                let b = 1 + g.below(n.min(if neighbours { 3 } else { 4 }) as u64) as usize;
                let mut index: Vec<usize> = (0..n).collect();
                if !neighbours {
                    g.shuffle(&mut index);
                }
                let blocks = g.below((n / b) as u64 + 1) as usize;
                let start = if neighbours { g.below((n - blocks * b) as u64 + 1) as usize } else { 0 };
                (b, index[start..start + blocks * b].to_vec())
            })
            .collect();
        let plan = plan(n, wiring.clone());
        let truth = tangent_rank(&plan, case);
        assert_eq!(rank(&plan).rank, truth, "{n} {wiring:?}");
        let network = Network::of(&plan);
        let bound = network.rotation_bound().unwrap();
        assert!(truth <= bound, "{n} {wiring:?}: {truth} {bound}");
        met += usize::from(truth == bound);
        if let Some(closed) = network.rotation_dimension() {
            assert_eq!(closed, truth, "{n} {wiring:?}");
            known += 1;
        }
        assert!(!neighbours || network.rotation_dimension().is_some(), "{wiring:?}");
        assert!(wiring.len() > 2 || network.rotation_dimension().is_some(), "{wiring:?}");
        let report = Transmission::of(&plan).unwrap();
        assert_eq!(report.dimension.unwrap().value(), truth);
        assert!(report.dimension_bound >= truth as u64);
    }
    assert!(known >= 75 && met >= 100, "closed forms in {known} cases, bound met in {met}");
}

#[test]
fn families_of_full_and_small_dimension() {
    for n in [2, 3, 5, 8, 12] {
        let all = n * (n - 1) / 2;
        let triangle = (0..n - 1).flat_map(|k| (k..n - 1).rev().map(|i| (2, vec![i, i + 1])));
        for (what, wiring) in [
            ("brick", bricks(n, n)),
            ("deeper brick", bricks(n, n + 3)),
            ("triangle", triangle.collect()),
            ("dense", vec![(n, (0..n).collect())]),
        ] {
            let plan = plan(n, wiring);
            assert_eq!((rank(&plan).rank, Network::of(&plan).rotation_dimension()), (all, Some(all)), "{what} {n}");
        }
        let shallow = plan(n, bricks(n, n / 2));
        assert_eq!(Network::of(&shallow).rotation_dimension(), Some(shallow.num_params()));
    }
    // The Haar tree: at distance 2ᵏ, only multiples of 2ᵏ⁺¹ and their partners.
    let tree: Wiring = (0..4).map(|k| (2, (0..16).step_by(2 << k).flat_map(|i| [i, i + (1 << k)]).collect())).collect();
    let tree = plan(16, tree);
    assert_eq!((rank(&tree).rank, Network::of(&tree).rotation_dimension()), (15, Some(15)));
    assert!(!Network::of(&tree).reachability().unwrap().is_dense());
    // A palindrome whose outer pairs lie within one part: ten angles, six dimensions, no formula.
    let folded =
        [[0, 3, 1, 2], [0, 2, 1, 3], [0, 1, 2, 3], [0, 2, 1, 3], [0, 3, 1, 2]].map(|pairs| (2, pairs.to_vec()));
    let folded = plan(4, folded.to_vec());
    assert_eq!((folded.num_params(), rank(&folded).rank, Network::of(&folded).rotation_dimension()), (10, 6, None));
    // Reversed butterflies and sizes without a power of two.
    for (n, b, m) in [(16, 2, 4), (24, 2, 3), (27, 3, 3), (48, 4, 2)] {
        let up = Plan::<f64>::new(n, &Butterfly::classic(b).with_stages(m), Cayley).unwrap();
        for plan in [up.clone(), up.adjoint()] {
            assert_eq!(
                (rank(&plan).rank, Network::of(&plan).rotation_dimension()),
                (plan.num_params(), Some(up.num_params()))
            );
        }
    }
    // Large sizes need no Jacobian.
    let big = Network::new(1024, &Butterfly::boft(6, 32).unwrap()).unwrap();
    assert_eq!(big.rotation_dimension(), Some(31 * 1024 * 6 / 2 - 5 * 1024 * 30 / 4));
}

#[test]
fn shared_and_fixed_blocks_are_measured() {
    // One angle for each stage of a butterfly: the Kronecker product of L rotations, a torus of dimension L.
    let layouts = (0..4).map(|k| Butterfly::classic(2).stage(16, k));
    let one = |layout| (layout, Source::Chart { chart: Arc::new(Givens), sharing: Sharing::All });
    let kronecker = Plan::<f64>::from_stages(16, layouts.map(one)).unwrap();
    let report = Transmission::of(&kronecker).unwrap();
    assert_eq!((report.params, report.dimension.unwrap().value(), report.dimension_bound), (4, 4, 4));
    assert!(matches!(report.dimension, Some(Dimension::Rank(_))));
    assert_eq!(Network::of(&kronecker).rotation_dimension(), None);
    // A rotation, a fixed swap that keeps its pairs, and the same rotation: the second adds nothing.
    let pairs = StageLayout::contiguous(2, 2);
    let swap = Source::Fixed([0.0, 1.0, 1.0, 0.0].repeat(2).into());
    let stages = [(pairs.clone(), Source::chart(Givens)), (pairs.clone(), swap), (pairs, Source::chart(Givens))];
    let plan = Plan::<f64>::from_stages(4, stages).unwrap();
    assert_eq!((plan.num_params(), rank(&plan).rank), (4, 2));
    assert_eq!((Network::of(&plan).free_edges(), Network::of(&plan).reachability().unwrap().density()), (8, 0.5));
    assert_eq!(Network::of(&plan).paths().unwrap().max_log2, 1.0);
}

/// U(2) by two phases before and two after a rotation, one of them zero: diag(e^{ia}, e^{ib})·G(t)·diag(e^{ic}, 1).
#[derive(Debug)]
struct Phases;

impl Parametrization<c64> for Phases {
    fn name(&self) -> &'static str {
        "phases"
    }
    fn num_params(&self, b: usize) -> papilio::Result<usize> {
        assert_eq!(b, 2);
        Ok(4)
    }
    fn forward(&self, _b: usize, theta: &[f64], block: &mut [c64]) {
        let (s, c) = theta[3].sin_cos();
        let [before, after] = [[theta[2], 0.0], [theta[0], theta[1]]];
        for (at, r) in [c, -s, s, c].into_iter().enumerate() {
            block[at] = c64::from_polar(1.0, after[at / 2] + before[at % 2]) * r;
        }
    }
    fn vjp(&self, _b: usize, theta: &[f64], block: &[c64], d_block: &[c64], d_theta: &mut [f64]) {
        let (s, c) = theta[3].sin_cos();
        let [before, after] = [[theta[2], 0.0], [theta[0], theta[1]]];
        for (at, dr) in [-s, -c, c, -s].into_iter().enumerate() {
            let turned = (d_block[at].conj() * c64::i() * block[at]).re;
            d_theta[at / 2] += turned;
            d_theta[2] += if at % 2 == 0 { turned } else { 0.0 };
            d_theta[3] += (d_block[at].conj() * c64::from_polar(1.0, after[at / 2] + before[at % 2]) * dr).re;
        }
    }
    fn inverse(&self, _b: usize, _block: &[c64], _theta: &mut [f64]) -> papilio::Result<()> {
        Err(Error::Unsupported { what: "inverse of phases", expected: "not to be asked", got: String::new() })
    }
}

/// Phases commute through the network: a unitary butterfly of L stages has (L + 1)·n dimensions for 2·n·L parameters.
#[test]
fn unitary_butterflies_lose_their_phases() {
    for (l, n) in [(1, 2), (2, 4), (3, 8), (5, 32)] {
        let plan = Plan::<c64>::new(n, &Butterfly::classic(2), Phases).unwrap();
        let found = jacobian_rank(&plan, &RankOptions::default(), |_| ControlFlow::Continue(())).unwrap().unwrap();
        assert!(found.is_clear(), "{found:?}");
        assert_eq!((plan.num_params(), found.rank), (2 * n * l, (l + 1) * n), "{found:?}");
        let report = Transmission::of(&plan).unwrap();
        assert_eq!(
            (report.dimension, report.dimension_bound),
            (Some(Dimension::Rank(found)), (2 * n * l).min(n * n) as u64)
        );
    }
}

/// Blocks that are not orthogonal: rotations after a fixed shear of the plane. All of dQ is looked at, not a skew part.
#[test]
fn plans_that_are_not_orthogonal_are_measured() {
    let pair = StageLayout::contiguous(2, 1);
    let shear = |x: f64| (pair.clone(), Source::Fixed([1.0, x, 0.0, 1.0].into()));
    let turn = || (pair.clone(), Source::chart(Givens));
    let between = Plan::<f64>::from_stages(2, [turn(), shear(2.0), turn()]).unwrap();
    assert!(!between.is_exact());
    assert_eq!((between.num_params(), rank(&between).rank), (2, 2));
    let many = (0..4).flat_map(|k| [turn(), shear(1.0 + k as f64)]);
    let many = Plan::<f64>::from_stages(2, many).unwrap(); // of SL(2), which has three dimensions
    assert_eq!((many.num_params(), rank(&many).rank), (4, 3));
}

#[test]
fn single_precision_plans_are_measured_in_double() {
    let single = Plan::<f32>::new(16, &Butterfly::boft(3, 4).unwrap(), Cayley).unwrap();
    let found = jacobian_rank(&single, &RankOptions::default(), |_| ControlFlow::Continue(())).unwrap().unwrap();
    assert_eq!(found.rank, 56);
    assert!(found.is_clear() && found.dropped < 1e-13, "{found:?}");
    let both = single.clone().then(single.adjoint()).unwrap();
    let found = jacobian_rank(&both, &RankOptions::default(), |_| ControlFlow::Continue(())).unwrap().unwrap();
    assert!(found.is_clear() && found.rank <= Network::of(&both).rotation_bound().unwrap(), "{found:?}");
}

#[test]
fn random_functionals_and_all_entries_agree() {
    // n = 48 has 1128 entries of dQ·Qᵀ: more than 512, so 216 + 16 random functionals are taken.
    let plan = plan(48, strides(48, 4, 2).into_iter().chain(strides(48, 4, 1)).collect());
    let found = rank(&plan);
    assert_eq!((plan.num_params(), found.rank), (216, tangent_rank(&plan, 3)));
    let again = rank(&plan);
    assert_eq!(found, again);
    let other = RankOptions { seed: 2, ..RankOptions::default() };
    let other = jacobian_rank(&plan, &other, |_| ControlFlow::Continue(())).unwrap().unwrap();
    assert!(other.rank == found.rank && other.kept != found.kept);
}

#[test]
fn limits_are_kept_and_interruptions_heard() {
    let plan = Plan::<f64>::new(64, &Butterfly::boft(4, 8).unwrap(), Cayley).unwrap();
    let small = RankOptions { most: 500, ..RankOptions::default() };
    let go = |_| ControlFlow::Continue(());
    assert_eq!(jacobian_rank(&plan, &small, go), Ok(None));
    // Three parts of the elimination's rows and of its pivots are told in order, and each may be the last.
    for stop in [0.0, 0.1, 0.5] {
        let mut last = -1.0;
        let result = jacobian_rank(&plan, &RankOptions { most: 4096, ..small }, |share| {
            assert!((last..=1.0).contains(&share), "{last} {share}");
            last = share;
            if share >= stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(matches!(result, Err(Error::Interrupted { .. })), "{result:?}");
    }
    let network = Network::of(&plan);
    let mut calls = 0;
    let stopped = network.reachability_with(|share| {
        calls += 1;
        if share >= 0.5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(Error::Interrupted { what: "reachability", .. })) && calls == 3, "{calls}");
    assert!(matches!(Network::new(0, &BlockDiagonal::new(1)), Err(Error::Size { .. })));
    assert!(matches!(Network::new(1 << 33, &BlockDiagonal::new(2)), Err(Error::Size { .. })));
    let large = Network::new(1 << 16, &Butterfly::classic(2)).unwrap();
    assert!(matches!(large.reachability(), Err(Error::Size { .. })));
    assert_eq!((large.paths(), large.free_edges()), (None, 16 << 16));
    assert_eq!(large.rotation_dimension(), Some(8 << 16));
    assert!(matches!(large.links(16), Err(Error::Index { expected: 16, got: 16, .. })));
    assert!(matches!(large.picture("", None), Err(Error::Size { .. })));
    let small = Network::new(4, &Butterfly::classic(2)).unwrap();
    assert!(matches!(small.picture("", Some(4)), Err(Error::Index { expected: 4, got: 4, .. })));
    let identity = Transmission::of(&Plan::<f64>::identity(5).unwrap()).unwrap();
    assert_eq!((identity.density(), identity.dense_after, identity.num_stages()), (0.2, None, 0));
    assert_eq!((identity.dimension.unwrap().value(), identity.dimension_bound, identity.free_edges), (0, 0, 0));
}

#[test]
fn costs_count_what_an_apply_touches() {
    // 16 blocks in a stage are a whole panel.
    let plan = Plan::<f32>::new(128, &Butterfly::boft(4, 8).unwrap(), Cayley).unwrap();
    let cost = Transmission::of(&plan).unwrap().cost;
    assert_eq!((cost.multiply_adds, cost.entry_bytes, cost.vector_bytes), (128 * 8 * 4, 4 * 128 * 8 * 4, 2 * 4 * 128));
    // Four reflections of 64 coordinates: two products of vectors each, not a matrix.
    let source = Source::Reflectors { count: 4, orthonormal: false, sharing: Sharing::PerBlock };
    let reflectors = Plan::<f32>::from_stages(64, [(StageLayout::contiguous(64, 1), source)]).unwrap();
    let cost = Transmission::of(&reflectors).unwrap().cost;
    assert_eq!((cost.multiply_adds, cost.entry_bytes), (4 * 2 * 64, 4 * 4 * 64));
}

#[test]
fn many_stages_are_measured_in_time() {
    // Joined one by one they took minutes.
    let deep = Explicit::new(4, (0..30_000).map(|k| (2, if k % 2 == 0 { vec![0, 1, 2, 3] } else { vec![0, 2, 1, 3] })));
    assert_eq!(rank(&Plan::new(4, &deep.unwrap(), Givens).unwrap()).rank, 6);
}

#[test]
fn pictures_show_every_link_and_node() {
    let network = Network::new(8, &Butterfly::classic(2)).unwrap();
    let svg = network.picture("a < b & \"c\"", Some(3)).unwrap();
    assert_eq!(svg, network.picture("a < b & \"c\"", Some(3)).unwrap());
    assert_eq!((svg.matches("<circle").count(), svg.matches('M').count()), (8 * 4, 3 * 16));
    assert!(svg.contains("a &lt; b &amp; &quot;c&quot;"), "{svg}");
    // Input 3 reaches 1, 2, 4, 8 nodes.
    let highlighted = svg.lines().filter(|line| line.starts_with("<circle") && line.contains("#c2410c")).count();
    assert_eq!(highlighted, 15);
    let plain = network.picture("", None).unwrap();
    assert!(!plain.contains("#c2410c"));
}
