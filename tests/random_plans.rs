//! Random rotations as plans, and exactly uniform matrices.

use papilio::dense::orthogonality_ratio;
use papilio::generator::Generator;
use papilio::random::{RandomRotation, haar};
use papilio::verify;
use papilio::{Factors, Op, Orthogonal};

#[test]
fn plans_are_the_same_rotation() {
    for n in [1, 2, 3, 7, 16, 40, 96, 128, 130, 300] {
        let rotation = RandomRotation::<f64>::new(n, 8).unwrap();
        let fixed = Orthogonal::new(rotation.to_plan().unwrap(), Vec::<f64>::new()).unwrap();
        let (plan, theta) = rotation.learnable().unwrap();
        let learned = Orthogonal::new(plan, theta).unwrap();
        let mut g = Generator::new(n as u64);
        let x: Vec<f64> = (0..n).map(|_| g.uniform() - 0.5).collect();
        let mut y = x.clone();
        rotation.apply(&mut y).unwrap();
        for operator in [&fixed, &learned] {
            let z = operator.apply(&x).unwrap();
            assert!(z.iter().zip(&y).all(|(z, y)| (z - y).abs() < 16.0 * f64::EPSILON), "n = {n}");
        }
    }
}

#[test]
fn learnable_rotations_are_certified() {
    let rotation = RandomRotation::<f64>::new(20, 1).unwrap();
    let (plan, theta) = rotation.learnable().unwrap();
    let factors: Factors<f64> = plan.realize(&theta).unwrap();
    let proof = verify::certificate(&plan, &factors).unwrap();
    assert!(proof.defect < 100.0 * f64::EPSILON, "{proof:?}");
    assert_eq!(theta.len(), plan.num_params());
    // Learning starts where rotations are far from the identity: gradients there against differences.
    let found = verify::plan_gradient(&plan, &theta, Op::None, 3).unwrap();
    assert!(found.theta < 1e-9 && found.x < 1e-9, "{found:?}");
}

/// Moments of the uniform orthogonal group: E q₁₁² = 1/n, E q₁₁⁴ = 3/(n(n + 2)), E (tr Q)² = 1 for O(n), E tr Q = 0.
#[test]
fn haar_matrices_have_haar_moments() {
    let (n, draws) = (6, 1500);
    for kind in ["rotation", "reflectors", "mesh"] {
        let (mut second, mut fourth, mut trace, mut trace2, mut negative) = (0.0, 0.0, 0.0, 0.0, 0);
        for seed in 0..draws {
            let q = match kind {
                "rotation" => haar::rotation(n, seed).unwrap(),
                "reflectors" => {
                    let (plan, theta) = haar::reflectors(n, seed).unwrap();
                    Orthogonal::new(plan, theta).unwrap().to_dense().unwrap()
                }
                _ => {
                    let (plan, theta) = haar::mesh(n, seed).unwrap();
                    Orthogonal::new(plan, theta).unwrap().to_dense().unwrap()
                }
            };
            assert!(orthogonality_ratio(n, &q).unwrap() < 3.0);
            // Corners that conventions treat differently.
            for at in [0, n - 1, n * n - 1, (n - 1) * n] {
                (second, fourth) = (second + q[at].powi(2) / 4.0, fourth + q[at].powi(4) / 4.0);
            }
            let t: f64 = (0..n).map(|i| q[i * n + i]).sum();
            (trace, trace2) = (trace + t, trace2 + t * t);
            negative += u32::from(determinant(n, &q) < 0.0);
        }
        let (draws, n) = (draws as f64, n as f64);
        let four = 4.0 / draws.sqrt(); // standard errors of numbers of unit variance
        assert!((second / draws * n - 1.0).abs() < four, "{kind}: {}", second / draws * n);
        assert!((fourth / draws * n * (n + 2.0) / 3.0 - 1.0).abs() < 2.0 * four, "{kind}");
        assert!((trace / draws).abs() < four && (trace2 / draws - 1.0).abs() < 1.5 * four, "{kind}");
        let share = f64::from(negative) / draws;
        assert!(if kind == "reflectors" { (share - 0.5).abs() < four / 2.0 } else { share == 0.0 }, "{kind}: {share}");
    }
    assert!(haar::rotation(0, 1).is_err() && haar::rotation(1 << 20, 1).is_err());
}

fn determinant(n: usize, q: &[f64]) -> f64 {
    faer::MatRef::from_row_major_slice(q, n, n).determinant()
}
