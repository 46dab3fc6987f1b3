//! Targets that are made: their group, their moments, their noise; matrices stored in few digits; refusals.

use std::ops::ControlFlow;

use papilio::fit::{self, Group, Options, Target};
use papilio::topology::{BlockDiagonal, Butterfly};
use papilio::{Error, Plan, Wide, c64, parametrization, synthesis, verify};

fn determinant(target: &Target<f64>) -> f64 {
    let n = target.n();
    faer::Mat::from_fn(n, n, |i, j| target.entries()[i * n + j]).determinant()
}

/// Moments of the Haar measure: E tr Q = 0, E |tr Q|² = 1, E |Q₀₀|⁴ = 3/(n(n + 2)) over the reals, 2/(n(n + 1)) over complex numbers.
fn moments<W: Wide>(group: Group, fourth: f64) {
    let (n, count) = (4, 4000);
    let (mut trace, mut square, mut power) = (0.0, 0.0, 0.0);
    for seed in 0..count {
        let q = Target::<W>::haar(n, group, seed).unwrap();
        assert!(q.orthogonality_ratio() < 30.0);
        let parts = |x: W| (x.re(), x.im());
        let (re, im) =
            q.entries().iter().step_by(n + 1).map(|x| parts(*x)).fold((0.0, 0.0), |a, x| (a.0 + x.0, a.1 + x.1));
        let (a, b) = parts(q.entries()[0]);
        (trace, square, power) = (trace + re, square + re * re + im * im, power + (a * a + b * b).powi(2));
    }
    let [trace, square, power] = [trace, square, power].map(|sum| sum / count as f64);
    // Standard errors are about 0.016, 0.02 and 0.003.
    assert!(
        trace.abs() < 0.08 && (square - 1.0).abs() < 0.12 && (power - fourth).abs() < 0.02,
        "{trace} {square} {power}"
    );
}

#[test]
fn haar_targets_have_the_moments_of_the_haar_measure() {
    moments::<f64>(Group::Full, 3.0 / 24.0);
    moments::<f64>(Group::Special, 3.0 / 24.0);
    moments::<c64>(Group::Full, 2.0 / 20.0);
}

#[test]
fn groups_are_kept() {
    let mut reflections = 0;
    for seed in 0..40 {
        assert!(determinant(&Target::haar(5, Group::Special, seed).unwrap()) > 0.99);
        reflections += usize::from(determinant(&Target::haar(5, Group::Full, seed).unwrap()) < 0.0);
        let stages = fit::layouts(8, &Butterfly::classic(2)).unwrap();
        let planted = Target::<f64>::planted(8, &stages, Group::Special, seed).unwrap();
        assert!(determinant(&planted) > 0.99);
        let found = fit::hierarchical(&planted, &stages, &Options::default()).unwrap();
        assert!(found.relative_frobenius < 1e-14);
    }
    assert!((10..31).contains(&reflections), "{reflections}");
}

#[test]
fn the_same_seed_gives_the_same_target() {
    let bits = |seed| Target::<c64>::haar(7, Group::Full, seed).unwrap().entries().to_vec();
    assert_eq!(bits(3), bits(3));
    assert_ne!(bits(3), bits(4));
}

/// One seed for everything must not make a start the answer, or noise a function of the target.
#[test]
fn one_seed_gives_independent_streams() {
    let stages = fit::layouts(32, &Butterfly::classic(2)).unwrap();
    let planted = Target::<f64>::planted(32, &stages, Group::Full, 5).unwrap();
    let mut options = Options::default();
    options.seed = 5;
    let found = fit::alternating(&planted, &stages, &options, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(found.curve[0] > 0.5, "{:?}", found.curve);
    let haar = Target::<f64>::haar(50, Group::Full, 5).unwrap();
    let noisy = haar.with_noise(0.5, 5).unwrap();
    let square: f64 = noisy.entries().iter().zip(haar.entries()).map(|(x, y)| (x - y).powi(2)).sum();
    assert!((square / 50.0).sqrt() > 0.25);
}

#[test]
fn noise_moves_by_sigma() {
    let n = 200;
    let still = Target::of(&synthesis::signs::<f64>(&vec![false; n]).unwrap()).unwrap();
    let moved = |target: &Target<f64>| {
        let square: f64 = target.entries().iter().zip(still.entries()).map(|(x, y)| (x - y).powi(2)).sum();
        (square / n as f64).sqrt()
    };
    // To first order the polar factor keeps the skew half of the noise.
    let noisy = still.with_noise(0.01, 1).unwrap();
    assert!((moved(&noisy) / 0.01 - 0.5f64.sqrt()).abs() < 0.02, "{}", moved(&noisy));
    assert_eq!(moved(&still.with_noise(0.0, 1).unwrap()), 0.0);
    assert!(matches!(still.with_noise(f64::NAN, 1), Err(Error::Domain { .. })));
}

#[test]
fn a_plan_written_out_is_its_matrix() {
    let plan = synthesis::dft::<c64>(12).unwrap();
    let truth = verify::dense::matrix(&plan, &plan.realize::<f64>(&[]).unwrap()).unwrap();
    let target = Target::of(&plan).unwrap();
    assert!(target.entries().iter().zip(&truth).all(|(x, y)| (x - y).norm() < 1e-15));
    let trainable = Plan::<f64>::new(4, &BlockDiagonal::new(2), parametrization::Givens).unwrap();
    assert!(matches!(Target::of(&trainable), Err(Error::Length { .. })));
}

#[test]
fn matrices_of_few_digits_are_taken_back_to_the_group() {
    let n = 33;
    let exact = Target::<f64>::haar(n, Group::Full, 1).unwrap();
    let rounded: Vec<f64> = exact.entries().iter().map(|x| f64::from(*x as f32)).collect();
    let eps = f64::from(f32::EPSILON);
    assert!(matches!(Target::new(n, &rounded), Err(Error::Domain { .. })));
    let (target, moved) = Target::stored(n, &rounded, eps).unwrap();
    assert!(target.orthogonality_ratio() < 30.0 && moved < eps * (n as f64).sqrt() && moved > 0.0, "{moved}");
    // More than rounding is refused, in units of the precision.
    let skewed: Vec<f64> = rounded.iter().map(|x| x * 1.01).collect();
    assert!(matches!(Target::stored(n, &skewed, eps), Err(Error::Domain { .. })));
    for eps in [f64::NAN, 0.0, -1.0, f64::INFINITY] {
        assert!(Target::stored(n, exact.entries(), eps).is_ok() && Target::stored(n, &rounded, eps).is_err());
    }
}

/// In half precision n·eps is above 1 soon: what is orthogonal must be told from what is not all the same.
#[test]
fn half_precision_is_no_excuse() {
    // To 11 and 8 binary digits, f16 and bf16 (T. Dekker, Numer. Math. 18, 1971).
    let round = |x: f64, eps: f64| {
        let c = x * (eps / f64::EPSILON + 1.0);
        c - (c - x)
    };
    for n in [2, 3, 5, 16, 64, 256, 300, 512] {
        let q = Target::<f64>::haar(n, Group::Full, n as u64).unwrap();
        let gaussian = Target::<f64>::haar(2 * n, Group::Full, 1).unwrap(); // any corner: nearly Gaussian, far from orthogonal
        let corner = |size: f64| -> Vec<f64> {
            (0..n * n).map(|at| size * gaussian.entries()[at / n * 2 * n + at % n]).collect()
        };
        for eps in [1.0 / 1024.0, 1.0 / 128.0] {
            let rounded: Vec<f64> = q.entries().iter().map(|x| round(*x, eps)).collect();
            let (target, moved) = Target::stored(n, &rounded, eps).unwrap();
            assert!(target.orthogonality_ratio() < 30.0 && moved <= eps * (n as f64).sqrt(), "n = {n}: {moved}");
            let mut wrong = vec![vec![0.0; n * n], corner(1.0), corner(2f64.sqrt()), corner(0.02)];
            wrong.push(rounded.iter().map(|x| x * (1.0 + 2.0 * eps.max(0.01))).collect());
            for (case, wrong) in wrong.iter().enumerate() {
                let found = Target::stored(n, wrong, eps);
                assert!(matches!(found, Err(Error::Domain { .. })), "n = {n}, eps = {eps}, case {case}");
            }
        }
    }
}

#[test]
fn impossible_targets_are_errors() {
    for n in [0, usize::MAX, 1 << 31] {
        assert!(matches!(Target::<f64>::haar(n, Group::Full, 1), Err(Error::Size { .. })), "{n}");
        assert!(Target::<f64>::planted(n, &[], Group::Full, 1).is_err(), "{n}");
    }
    assert!(matches!(Target::<c64>::haar(3, Group::Special, 1), Err(Error::Unsupported { .. })));
    let stages = fit::layouts(8, &Butterfly::classic(2)).unwrap();
    assert!(Target::<f64>::planted(7, &stages, Group::Full, 1).is_err());
    assert_eq!(Target::<f64>::planted(3, &[], Group::Full, 1).unwrap().entries()[..2], [1.0, 0.0]);
    assert_eq!(Target::<f64>::haar(1, Group::Special, 1).unwrap().entries(), [1.0]);
}
