//! Given matrices as plans: exactness in LAPACK's units, refusals, depth and counts.

use papilio::generator::Generator;
use papilio::topology::{
    AnyButterfly, Benes, BinaryTree, Brick, Butterfly, Kaleidoscope, Repeated, Reversed, Shared, Topology,
};
use papilio::verify::dense;
use papilio::{Batch, BatchMut, Error, Op, Parallelism, Plan, Result, Workspace, parametrization::Givens, synthesis};

/// A rotation from Gauss-like columns by Gram–Schmidt, twice, with the last column's sign chosen by `det`.
fn rotation(n: usize, seed: u64) -> Vec<f64> {
    let mut g = Generator::new(seed);
    let mut columns: Vec<Vec<f64>> = Vec::new();
    while columns.len() < n {
        let mut v: Vec<f64> = (0..n).map(|_| (0..6).map(|_| g.uniform() - 0.5).sum()).collect();
        for _ in 0..3 {
            for c in &columns {
                let dot: f64 = c.iter().zip(&v).map(|(c, v)| c * v).sum();
                v.iter_mut().zip(c).for_each(|(v, c)| *v -= dot * c);
            }
            let norm = v.iter().map(|v| v * v).sum::<f64>().sqrt();
            v.iter_mut().for_each(|v| *v /= norm);
        }
        columns.push(v);
    }
    let mut q: Vec<f64> = (0..n * n).map(|at| columns[at % n][at / n]).collect();
    if determinant(n, &q) < 0.0 {
        (0..n).for_each(|i| q[i * n] = -q[i * n]);
    }
    q
}

fn determinant(n: usize, q: &[f64]) -> f64 {
    let mut a = q.to_vec();
    let mut det = 1.0;
    for c in 0..n {
        let pivot = (c..n).max_by(|i, j| a[i * n + c].abs().total_cmp(&a[j * n + c].abs())).unwrap();
        if pivot != c {
            (0..n).for_each(|j| a.swap(pivot * n + j, c * n + j));
            det = -det;
        }
        det *= a[c * n + c];
        for i in c + 1..n {
            let f = a[i * n + c] / a[c * n + c];
            (c..n).for_each(|j| a[i * n + j] -= f * a[c * n + j]);
        }
    }
    det
}

fn identity(n: usize) -> Vec<f64> {
    (0..n * n).map(|at| f64::from(at / n == at % n)).collect()
}

/// Rotations with columns that are unit vectors already, signs, tiny entries.
fn special(n: usize) -> Vec<Vec<f64>> {
    let mut all = vec![identity(n)];
    let mut plane = |i: usize, j: usize, angle: f64| {
        let mut q = identity(n);
        let (s, c) = angle.sin_cos();
        (q[i * n + i], q[i * n + j], q[j * n + i], q[j * n + j]) = (c, -s, s, c);
        all.push(q);
    };
    if n >= 2 {
        for angle in [1e-300, 1e-160, 1e-17, 1e-9, 1.0, 3.0] {
            plane(0, n - 1, angle);
            plane(n / 2, n / 2 - 1, -angle);
        }
        for (i, j) in [(0, 1), (n - 2, n - 1), (0, n - 1)] {
            let mut q = identity(n);
            (q[i * n + i], q[j * n + j]) = (-1.0, -1.0);
            all.push(q);
        }
        let negative = if n.is_multiple_of(2) { identity(n).iter().map(|x| -x).collect() } else { identity(n) };
        all.push(negative);
    }
    // A cycle of all coordinates is even for odd n; otherwise one sign is changed.
    let mut cycle: Vec<f64> = (0..n * n).map(|at| f64::from((at / n + 1) % n == at % n)).collect();
    if n.is_multiple_of(2) {
        cycle[(n - 1) * n] = -1.0;
    }
    all.push(cycle);
    all
}

type Construction = fn(usize, &[f64]) -> Result<(Plan<f64>, Vec<f64>)>;

fn any_pairs(n: usize, q: &[f64]) -> Result<(Plan<f64>, Vec<f64>)> {
    synthesis::reflector_pairs(n, q, &AnyButterfly::new(2))
}

/// 2(n − 1)² angles.
fn tree_pairs(n: usize, q: &[f64]) -> Result<(Plan<f64>, Vec<f64>)> {
    let found = synthesis::reflector_pairs(n, q, &Reversed(BinaryTree));
    assert!(found.as_ref().is_ok_and(|(plan, _)| plan.num_params() == 2 * (n - 1) * (n - 1)) || found.is_err());
    found
}

fn brick_pairs(n: usize, q: &[f64]) -> Result<(Plan<f64>, Vec<f64>)> {
    synthesis::reflector_pairs(n, q, &Brick)
}

const ALL: [(&str, Construction); 5] = [
    ("triangle", synthesis::triangle),
    ("brick", synthesis::brick),
    ("pairs of butterflies", any_pairs),
    ("pairs of trees", tree_pairs),
    ("pairs of bricks", brick_pairs),
];

/// ‖Q − plan(θ)‖₁ / (n·eps).
fn ratio(n: usize, q: &[f64], (plan, theta): &(Plan<f64>, Vec<f64>)) -> f64 {
    assert_eq!((plan.n(), plan.num_params()), (n, theta.len()));
    let found = dense::matrix(plan, &plan.realize(theta).unwrap()).unwrap();
    let column = |j: usize| (0..n).map(|i| (found[i * n + j] - q[i * n + j]).abs()).sum::<f64>();
    (0..n).map(column).fold(0.0, f64::max) / (n as f64 * f64::EPSILON)
}

#[test]
fn every_rotation_is_reached() {
    let mut worst = 0.0f64;
    for n in (1..=20).chain([31, 32, 33, 48]) {
        for (name, construct) in ALL {
            let random = (0..3).map(|case| rotation(n, 100 * n as u64 + case));
            for q in random.chain(special(n)) {
                let error = ratio(n, &q, &construct(n, &q).unwrap_or_else(|e| panic!("{name} n = {n}: {e} for {q:?}")));
                assert!(error <= 3.0, "{name} n = {n}: {error}");
                worst = worst.max(error);
            }
        }
    }
    assert!(worst > 0.0);
    println!("worst ratio {worst}");
}

#[test]
fn theorem_1_with_classic_butterflies() {
    for m in 0..=6 {
        let n = 1usize << m;
        let q = rotation(n, m as u64);
        let (plan, theta) = synthesis::reflector_pairs(n, &q, &Butterfly::classic(2)).unwrap();
        assert!(ratio(n, &q, &(plan.clone(), theta)) <= 4.0);
        // The wiring of R_G(log n, 2, log n, 2, n - 1).
        let wiring = Repeated::new(Kaleidoscope::new(Butterfly::classic(2)), n - 1);
        let expected = Plan::<f64>::new(n, &wiring, Givens).unwrap();
        assert!(plan.stages().iter().map(|s| s.layout()).eq(expected.stages().iter().map(|s| s.layout())));
        assert_eq!(plan.num_stages(), 2 * m * (n - 1));
    }
}

#[test]
fn other_matrices_are_refused() {
    for n in 1..=9 {
        for (name, construct) in ALL {
            let mut q = rotation(n, 7);
            let domain = |q: &[f64]| matches!(construct(n, q), Err(Error::Domain { .. }));
            for i in 0..n {
                let mut reflected = q.clone();
                (0..n).for_each(|j| reflected[i * n + j] *= -1.0);
                assert!(domain(&reflected), "{name} n = {n}: determinant -1");
            }
            let mut reflection = identity(n);
            reflection[n * n - 1] = -1.0;
            assert!(domain(&reflection) && domain(&vec![0.0; n * n]), "{name} n = {n}");
            for bad in [f64::NAN, f64::INFINITY, 1.1 * q[0] + 0.1] {
                q[0] = bad;
                assert!(domain(&q), "{name} n = {n}: {bad}");
            }
            assert!(matches!(construct(n, &q[1..]), Err(Error::Length { .. })));
            assert!(matches!(construct(0, &[]), Err(Error::Size { .. })));
            assert!(construct(usize::MAX, &[]).is_err());
        }
    }
    let q = rotation(6, 1);
    for wiring in [&BinaryTree as &dyn Topology, &AnyButterfly::new(3), &Shared::by_stage(AnyButterfly::new(2))] {
        let found = synthesis::reflector_pairs(6, &q, wiring);
        assert!(matches!(found, Err(Error::Unsupported { .. })), "{found:?}");
    }
    assert!(matches!(synthesis::reflector_pairs(6, &q, &Butterfly::classic(2)), Err(Error::Size { .. })));
}

#[test]
fn permutations_are_exact() {
    let mut g = Generator::new(3);
    for n in (1..=64).chain([100, 199, 256, 257]) {
        let mut to: Vec<u32> = (0..n as u32).collect();
        g.shuffle(&mut to);
        let x: Vec<f64> = (0..n).map(|i| 1.0 / (i + 1) as f64).collect();
        let plan = synthesis::permutation::<f64>(&to).unwrap();
        assert_eq!((plan.num_params(), plan.num_stages()), (0, Benes.num_stages(n).unwrap()));
        let mut y = vec![f64::NAN; n];
        let factors = plan.realize::<f64>(&[]).unwrap();
        let (input, output) = (Batch::rows(&x, n).unwrap(), BatchMut::rows(&mut y, n).unwrap());
        plan.apply(&factors, input, output, Op::None, Parallelism::None, &mut Workspace::new()).unwrap();
        assert!((0..n).all(|i| y[to[i] as usize] == x[i]), "{n}");

        // The same with angles, up to signs.
        let plan = Plan::<f64>::new(n, &Benes, Givens).unwrap();
        let quarter = |crosses: bool| if crosses { std::f64::consts::FRAC_PI_2 } else { 0.0 };
        let theta: Vec<f64> = Benes.route(&to).unwrap().into_iter().map(quarter).collect();
        let q = dense::matrix(&plan, &plan.realize(&theta).unwrap()).unwrap();
        for i in 0..n {
            for j in 0..n {
                let expected = if to[j] as usize == i { 1.0 } else { 0.0 };
                assert!((q[i * n + j].abs() - expected).abs() <= 1e-15, "{n}");
            }
        }
    }
}
