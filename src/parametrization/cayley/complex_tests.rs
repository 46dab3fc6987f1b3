//! The Cayley chart over complex numbers, against the real chart of twice the size and closed forms.

use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::tests::normal;
use super::*;
use crate::dense::skew::fill_skew;

const SIZES: [usize; 9] = [1, 2, 3, 4, 5, 7, 8, 16, 17];

fn forward(b: usize, theta: &[f64]) -> Vec<c64> {
    let mut block = vec![c64 { re: f64::NAN, im: f64::NAN }; b * b];
    Cayley.forward(b, theta, &mut block);
    block
}

/// θ of the real skew [[X, −Y], [Y, X]], A = X + iY.
fn embedded(b: usize, theta: &[f64]) -> Vec<f64> {
    let mut a = vec![c64::default(); b * b];
    fill_skew::<c64, c64>(b, &mut a, |at, _| theta[at]);
    let n = 2 * b;
    let mut real = vec![0.0; n * n];
    for (at, &z) in a.iter().enumerate() {
        let (i, j) = (at / b, at % b);
        (real[i * n + j], real[i * n + b + j]) = (z.re, -z.im);
        (real[(b + i) * n + j], real[(b + i) * n + b + j]) = (z.im, z.re);
    }
    let mut out = vec![0.0; skew_size::<f64>(n)];
    skew_part(n, &real, &mut out);
    out
}

#[test]
fn a_phase_has_a_closed_form() {
    for t in [0.0, 1e-300, 0.5, -0.5, 1.0, 30.0, 1e160, -1e300] {
        let q = forward(1, &[t])[0];
        let truth = c64 { re: 1.0, im: -t } / c64 { re: 1.0, im: t };
        if t.abs() < 1e100 {
            assert!((q - truth).norm() <= 4e-16, "{t:e}: {q}");
        }
        assert!((q.norm() - 1.0).abs() <= 2.3e-16, "{t:e}: {q}");
    }
    assert_eq!(forward(1, &[0.0])[0], c64 { re: 1.0, im: 0.0 });
    // To first order Q = I − 2A: diagonal entries first, then (re, im).
    let q = forward(2, &[1e-20, 2e-20, 3e-20, 4e-20]);
    let close = |x: c64, re: f64, im: f64| (x - c64 { re, im }).norm() <= 1e-35;
    assert!(close(q[0], 1.0, -2e-20) && close(q[3], 1.0, -4e-20), "{q:?}");
    assert!(close(q[1], -6e-20, -8e-20) && close(q[2], 6e-20, -8e-20), "{q:?}");
}

/// On both sides of the limit where the other path takes over, too.
#[test]
fn it_is_the_real_chart_of_twice_the_size() {
    for b in SIZES {
        for (scale, limit) in [(1e-3, 4.0), (1.0, 16.0), (1.9, 64.0), (2.3, 64.0), (10.0, 256.0), (1e3, 2e4)] {
            for seed in 0..10 {
                let theta: Vec<f64> = normal(seed, b * b).iter().map(|x| x * scale).collect();
                let (q, n) = (forward(b, &theta), 2 * b);
                let mut truth = vec![0.0; n * n];
                Cayley.forward(n, &embedded(b, &theta), &mut truth);
                for (at, q) in q.iter().enumerate() {
                    let (i, j) = (at / b, at % b);
                    let off = (q.re - truth[i * n + j]).abs().max((q.im - truth[(b + i) * n + j]).abs());
                    assert!(off <= limit * f64::EPSILON, "b = {b}, {scale}, seed {seed}: {}", off / f64::EPSILON);
                }
            }
        }
    }
}

/// A real A in complex clothes: for odd b its kernel must survive any size.
#[test]
fn extreme_parameters_give_unitary_blocks() {
    for b in SIZES {
        for t in [f64::MAX, 5e-324, 1e300, 1e155, 1e17, 1e16, 1e8, 1e-8, 1e-160] {
            for rest in [t, -t, 5e-324, 1.0, 0.0] {
                for many in [1, b, b * b / 2] {
                    let mut theta = vec![rest; b * b];
                    theta.iter_mut().rev().take(many).for_each(|x| *x = t);
                    let ratio = orthogonality_ratio(b, &forward(b, &theta)).unwrap();
                    assert!(ratio <= if b <= 8 { 2.0 } else { 1.0 }, "b = {b}, {t:e} among {rest:e}: {ratio}");
                }
            }
        }
        if b % 2 == 1 && b > 1 {
            for scale in [1e9, 1e150, 1e300] {
                let mut theta: Vec<f64> = normal(b as u64, b * b).iter().map(|x| x * scale).collect();
                theta[..b].fill(0.0);
                theta[b..].iter_mut().skip(1).step_by(2).for_each(|im| *im = 0.0);
                let trace = forward(b, &theta).iter().step_by(b + 1).sum::<c64>();
                assert!((trace - (2.0 - b as f64)).norm() <= 1e-12, "b = {b}, {scale:e}: {trace}");
            }
        }
    }
}

/// Where P = I + Q has cancelled, against the real chart.
#[test]
fn the_gradient_is_relatively_accurate_where_the_chart_is_flat() {
    for b in [1, 2, 4, 8] {
        for seed in 0..10 {
            let theta: Vec<f64> = normal(seed, b * b).iter().map(|x| x * 1e6).collect();
            let g: Vec<c64> = normal(seed + 1, b * b)
                .iter()
                .zip(normal(seed + 2, b * b))
                .map(|(re, im)| c64 { re: *re, im })
                .collect();
            let mut d = vec![0.0; b * b];
            Cayley.vjp(b, &theta, &forward(b, &theta), &g, &mut d);
            // ⟨G, dQ⟩ is half of that of the embedded matrices, and θ's gradient the pullback of the embedding.
            let n = 2 * b;
            let mut real_g = vec![0.0; n * n];
            for (at, &z) in g.iter().enumerate() {
                let (i, j) = (at / b, at % b);
                (real_g[i * n + j], real_g[(b + i) * n + j]) = (z.re, z.im);
            }
            let (wide, mut block) = (embedded(b, &theta), vec![0.0; n * n]);
            let mut real_d = vec![0.0; wide.len()];
            Cayley.forward(n, &wide, &mut block);
            Cayley.vjp(n, &wide, &block, &real_g, &mut real_d);
            let mut size = 0.0f64;
            let mut worst = 0.0f64;
            for k in 0..b * b {
                let mut unit = vec![0.0; b * b];
                unit[k] = 1.0;
                let truth: f64 = embedded(b, &unit).iter().zip(&real_d).map(|(e, d)| e * d).sum();
                size = size.max(truth.abs());
                worst = worst.max((truth - d[k]).abs());
            }
            // Relative to the largest; an eigenvalue of A far below ‖A‖ costs its share.
            assert!(worst <= 1e-8 * size, "b = {b}, seed {seed}: {:e}", worst / size);
        }
    }
}

#[test]
fn blocks_outside_are_rejected() {
    for b in SIZES {
        let mut theta = vec![0.0; b * b];
        let minus: Vec<c64> =
            (0..b * b).map(|at| -f64::from(u8::from(at % (b + 1) == 0)) * c64 { re: 1.0, im: 0.0 }).collect();
        assert!(matches!(Cayley.inverse(b, &minus, &mut theta), Err(Error::Domain { .. })), "b = {b}");
        let mut block = forward(b, &normal(3, b * b));
        block[0] = c64 { re: 0.0, im: f64::NAN };
        assert!(matches!(Cayley.inverse(b, &block, &mut theta), Err(Error::Domain { .. })), "b = {b}");
    }
    assert_eq!(Parametrization::<c64>::num_params(&Cayley, 3), Ok(9));
    assert!(matches!(Cayley.inverse(2, &[c64::default(); 4], &mut [0.0; 3]), Err(Error::Length { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_mixture_of_scales_is_unitary(b in prop::sample::select(&SIZES[..]), seed: u64) {
        let theta = super::tests::any_scale(seed, b * b);
        let ratio = orthogonality_ratio(b, &forward(b, &theta)).unwrap();
        prop_assert!(ratio <= if b <= 8 { 2.0 } else { 1.0 }, "{}", ratio);
    }

    #[test]
    fn a_batch_has_the_bits_of_its_blocks(
        b in prop::sample::select(&SIZES[..]), seed: u64, count in prop::sample::select(vec![0_usize, 1, 7, 8, 9, 17]),
        wild: bool,
    ) {
        let p = b * b;
        let mut theta = normal(seed, count * p);
        if wild {
            let other = super::tests::any_scale(seed, count * p);
            theta.iter_mut().zip(other).enumerate().filter(|(i, _)| i / p % 3 == 1).for_each(|(_, (t, o))| *t = o);
        }
        let (re, im) = (normal(seed + 1, count * p), normal(seed + 2, count * p));
        let g: Vec<c64> = re.into_iter().zip(im).map(|(re, im)| c64 { re, im }).collect();
        let mut blocks = vec![c64 { re: f64::NAN, im: f64::NAN }; count * p];
        let mut d = vec![0.25; count * p];
        Cayley.forward_batch(b, &theta, &mut blocks);
        Cayley.vjp_batch(b, &theta, &blocks, &g, &mut d);
        let bits = |x: &[c64]| x.iter().flat_map(|z| [z.re.to_bits(), z.im.to_bits()]).collect::<Vec<_>>();
        for j in 0..count {
            let (mine, theta) = (j * p..(j + 1) * p, &theta[j * p..(j + 1) * p]);
            let single = forward(b, theta);
            prop_assert_eq!(bits(&single), bits(&blocks[mine.clone()]));
            let mut single_d = vec![0.25; p];
            Cayley.vjp(b, theta, &single, &g[mine.clone()], &mut single_d);
            prop_assert!(single_d.iter().zip(&d[mine]).all(|(x, y)| x.to_bits() == y.to_bits()));
        }
    }
}
