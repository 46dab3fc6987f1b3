//! Any orthogonal or unitary matrix as a mesh or as reflections: round trips, special matrices, refusals, counts.

mod support {
    pub mod unitary;
}

use papilio::topology::{AnyButterfly, Brick, Topology, Triangle};
use papilio::verify::dense;
use papilio::{Error, Plan, Result, Scalar, Wide, c64, synthesis};
use support::unitary::{complex, unitary};

type Found<W> = Result<(Plan<W>, Vec<f64>)>;

/// max|Q − plan(θ)|; NaN counts as infinite.
fn error<W: Wide>(n: usize, q: &[W], (plan, theta): &(Plan<W>, Vec<f64>)) -> f64 {
    assert_eq!((plan.n(), plan.num_params()), (n, theta.len()));
    assert!(plan.is_exact() && theta.iter().all(|x| x.is_finite()));
    let found = dense::matrix(plan, &plan.realize(theta).unwrap()).unwrap();
    let off = found.iter().zip(q).map(|(x, y)| Scalar::abs(*x - *y));
    off.fold(0.0, |m, x| if x <= m { m } else { x })
}

type Construction = fn(usize, &[c64]) -> Found<c64>;

const UNITARY: [(&str, Construction); 3] = [
    ("triangle", synthesis::unitary_triangle),
    ("brick", synthesis::unitary_brick),
    ("reflections", synthesis::unitary_householder),
];

/// Identity, signs, phases, cycles, the Fourier matrix, tiny entries, a block beside an identity.
fn special(n: usize) -> Vec<Vec<c64>> {
    let matrix = |entry: &dyn Fn(usize, usize) -> c64| (0..n * n).map(|at| entry(at / n, at % n)).collect::<Vec<_>>();
    let (zero, one) = (complex(0.0, 0.0), complex(1.0, 0.0));
    let polar = |r: f64, t: f64| complex(r * t.cos(), r * t.sin());
    let mut all = vec![
        matrix(&|i, j| if i == j { one } else { zero }),
        matrix(&|i, j| if i == j { -one } else { zero }),
        matrix(&|i, j| if i == j { complex(0.0, 1.0) } else { zero }),
        matrix(&|i, j| if i == j { polar(1.0, 0.7 * i as f64) } else { zero }),
        matrix(&|i, j| if (i + 1) % n == j { polar(1.0, 1.1 * j as f64) } else { zero }),
        matrix(&|i, j| if i + j + 1 == n { one } else { zero }),
        matrix(&|i, j| polar((1.0 / n as f64).sqrt(), -std::f64::consts::TAU * ((i * j) % n) as f64 / n as f64)),
    ];
    for angle in [1e-300, 1e-160, 1e-17, 1e-9, 3.0] {
        let (s, c) = f64::sin_cos(angle);
        for (p, r) in [(0, n - 1), (n / 2, (n / 2 + 1) % n)] {
            if p != r {
                all.push(matrix(&|i, j| match (i, j) {
                    (i, j) if (i, j) == (p, p) || (i, j) == (r, r) => complex(c, 0.0),
                    (i, j) if (i, j) == (p, r) => complex(0.0, s),
                    (i, j) if (i, j) == (r, p) => complex(0.0, s),
                    _ => {
                        if i == j {
                            one
                        } else {
                            zero
                        }
                    }
                }));
            }
        }
    }
    all
}

#[test]
fn every_unitary_matrix_is_reached() {
    let mut worst = 0.0f64;
    for n in (1..=12).chain([16, 17, 31, 32, 48, 64]) {
        let random = (0..2).map(|seed| unitary(n, 50 * n as u64 + seed));
        for q in random.chain(if n <= 32 { special(n) } else { Vec::new() }) {
            for (name, construct) in UNITARY {
                let found = construct(n, &q).unwrap_or_else(|e| panic!("{name} {n}: {e}"));
                let error = error(n, &q, &found);
                assert!(error <= 1e-15 * n.max(2) as f64, "{name} {n}: {error:e}");
                worst = worst.max(error / n as f64);
            }
        }
    }
    println!("worst error, divided by n: {worst:e}");
}

#[test]
fn meshes_have_the_dimension_of_the_group() {
    for n in 1..=9 {
        let q = unitary(n, 3);
        let (plan, theta) = synthesis::unitary_brick(n, &q).unwrap();
        assert_eq!((theta.len(), plan.num_stages()), (n * n, Brick.num_stages(n).unwrap() + 1));
        let (plan, theta) = synthesis::unitary_triangle(n, &q).unwrap();
        assert_eq!((theta.len(), plan.num_stages()), (n * n, Triangle.num_stages(n).unwrap() + 1));
        let (plan, theta) = synthesis::unitary_householder(n, &q).unwrap();
        assert_eq!((theta.len(), plan.num_stages()), (n + 2 * n * (n - 1), 2));
    }
}

/// Real orthogonal matrices of both determinants.
fn orthogonal(n: usize, seed: u64) -> Vec<f64> {
    let mut q = noise(seed, n * n);
    for _ in 0..2 {
        for i in 0..n {
            for k in 0..i {
                let dot: f64 = (0..n).map(|c| q[i * n + c] * q[k * n + c]).sum();
                (0..n).for_each(|c| q[i * n + c] -= dot * q[k * n + c]);
            }
            let norm = (0..n).map(|c| q[i * n + c].powi(2)).sum::<f64>().sqrt();
            (0..n).for_each(|c| q[i * n + c] /= norm);
        }
    }
    q
}

fn noise(seed: u64, count: usize) -> Vec<f64> {
    let mut g = papilio::generator::Generator::new(seed);
    (0..count).map(|_| g.uniform() - 0.5).collect()
}

#[test]
fn both_determinants() {
    let butterfly = |n: usize, q: &[f64]| synthesis::reflector_pairs(n, q, &AnyButterfly::new(2));
    let (mut signs, mut refused) = (0, 0);
    for n in (1..=12).chain([31, 32, 48]) {
        for seed in 0..4 {
            let mut q = orthogonal(n, seed);
            if seed % 2 == 1 {
                q[..n].iter_mut().for_each(|x| *x = -*x);
            }
            let found = [
                synthesis::householder(n, &q).unwrap(),
                synthesis::any_determinant(n, &q, synthesis::brick).unwrap(),
                synthesis::any_determinant(n, &q, synthesis::triangle).unwrap(),
                synthesis::any_determinant(n, &q, butterfly).unwrap(),
            ];
            for (at, found) in found.iter().enumerate() {
                let error = error(n, &q, found);
                assert!(error <= 1e-15 * n.max(4) as f64, "{at} {n}: {error:e}");
            }
            let negative = synthesis::brick(n, &q).is_err();
            refused += usize::from(negative);
            signs += usize::from(found[1].0.num_stages() != Brick.num_stages(n).unwrap());
        }
    }
    assert!(signs == refused && signs > 10 && signs < 50, "{signs} {refused}");
    for n in [1, 2, 5] {
        let diagonal = |x: &dyn Fn(usize) -> f64| -> Vec<f64> {
            (0..n * n).map(|at| if at / n == at % n { x(at % n) } else { 0.0 }).collect()
        };
        for q in [diagonal(&|_| 1.0), diagonal(&|_| -1.0), diagonal(&|i| if i == 0 { -1.0 } else { 1.0 })] {
            assert_eq!(error(n, &q, &synthesis::householder(n, &q).unwrap()), 0.0);
        }
    }
}

#[test]
fn what_is_not_unitary_is_refused() {
    for n in 1..=5 {
        let q = unitary(n, 9);
        for (name, construct) in UNITARY {
            for bad in [complex(f64::NAN, 0.0), complex(0.0, f64::INFINITY), q[0] * 1.1 + 0.1] {
                let mut q = q.clone();
                q[0] = bad;
                assert!(matches!(construct(n, &q), Err(Error::Domain { .. })), "{name} {n} {bad}");
            }
            assert!(matches!(construct(n, &q[1..]), Err(Error::Length { .. })));
            assert!(construct(0, &[]).is_err() && construct(usize::MAX, &[]).is_err());
        }
        let real = vec![0.5; n * n];
        assert!(n == 4 || matches!(synthesis::householder(n, &real), Err(Error::Domain { .. })));
        assert!(synthesis::any_determinant(n, &real, synthesis::brick).is_err());
    }
    assert!(synthesis::householder(0, &[]).is_err());
}
