use super::*;
use crate::dense::skew::{fill_skew, skew_size};
use crate::dense::{EPS, exp_skew};
use crate::generator::Generator;

const SIZES: [usize; 10] = [1, 2, 3, 4, 5, 8, 9, 16, 17, 33];

fn noise(seed: u64, n: usize) -> Vec<f64> {
    let mut g = Generator::new(seed);
    (0..n).map(|_| (0..12).map(|_| g.uniform()).sum::<f64>() - 6.0).collect()
}

fn skew<W: Wide>(b: usize, theta: &[f64]) -> Vec<W> {
    let mut a = vec![W::zero(); b * b];
    fill_skew::<W, W>(b, &mut a, |at, _| theta[at]);
    a
}

fn exp<W: Wide>(b: usize, a: &[W]) -> Vec<W> {
    let mut q = vec![W::zero(); b * b];
    exp_skew(b, a, &mut q).unwrap();
    q
}

fn adjoint<W: Wide>(b: usize, x: &[W]) -> Vec<W> {
    (0..b * b).map(|at| Scalar::conj(x[at % b * b + at / b])).collect()
}

/// V D Vᴴ for a random V.
fn conjugated<W: Wide>(b: usize, seed: u64, d: &[W]) -> Vec<W> {
    let v = exp(b, &skew::<W>(b, &noise(seed, skew_size::<W>(b))));
    let (mut half, mut m) = (d.to_vec(), d.to_vec());
    super::super::product(b, &v, d, &mut half);
    super::super::product(b, &half, &adjoint(b, &v), &mut m);
    m
}

/// log B is skew-Hermitian to the bit, its angles are at most π, and its exponential is B. Returns it.
fn check<W: Wide>(b: usize, block: &[W], what: &str) -> Vec<W> {
    let mut a = vec![W::from_real(f64::NAN); b * b];
    log_rotation(b, block, &mut a).unwrap();
    assert!(a.iter().zip(adjoint(b, &a)).all(|(x, y)| *x == -y), "{what}: not skew");
    let again = exp(b, &a);
    let column = |j: usize| (0..b).map(|i| Scalar::abs(again[i * b + j] - block[i * b + j])).sum::<f64>();
    let ratio = (0..b).map(column).fold(0.0, f64::max) / (b as f64 * EPS);
    assert!(ratio <= 8.0, "{what}: exp log B is off by {ratio}");
    let mut h: Vec<c64> = a.iter().map(|z| c64::new(z.im(), -z.re())).collect();
    let angles = hermitian_eigen(b, &mut h).0;
    assert!(angles.iter().all(|x| x.abs() <= PI + 8.0 * b as f64 * EPS), "{what}: {angles:?}");
    a
}

/// Blocks with the angles φ in planes (real), or φ and −φ (complex).
fn with_angles<W: Wide>(b: usize, seed: u64, angle: impl Fn(usize) -> f64) -> Vec<W> {
    let mut d = vec![W::zero(); b * b];
    d[b * b - 1] = W::one();
    for k in 0..b / 2 {
        let (s, c) = Float::sin_cos(angle(k));
        let (i, j) = (2 * k, 2 * k + 1);
        if W::IS_COMPLEX {
            (d[i * b + i], d[j * b + j]) = (W::from_parts(c, s), W::from_parts(c, -s));
        } else {
            (d[i * b + i], d[j * b + j]) = (W::from_real(c), W::from_real(c));
            (d[i * b + j], d[j * b + i]) = (W::from_real(s), W::from_real(-s));
        }
    }
    conjugated(b, seed, &d)
}

fn all_kinds<W: Wide>() {
    for b in SIZES {
        for seed in 0..4 {
            let random = noise(seed, skew_size::<W>(b));
            for scale in [1.0, 10.0, 1e4] {
                let theta: Vec<f64> = random.iter().map(|x| x * scale).collect();
                check(b, &exp(b, &skew::<W>(b, &theta)), &format!("b = {b}, scale {scale}, seed {seed}"));
            }
            let kinds: [(&str, &dyn Fn(usize) -> f64); 7] = [
                ("half turns", &|_| PI),
                ("some half turns", &|k| if k % 2 == 0 { PI } else { 0.3 * k as f64 }),
                ("nearly half turns", &|k| PI - [0.0, 1e-16, 1e-12, 1e-8, 1e-4][k % 5]),
                ("clusters", &|k| 2.5 + [0.0, 1e-9, 1e-13][k % 3]),
                ("right angles", &|k| 0.5 * PI + [0.0, 1e-10, PI * 0.5 - 1e-9][k % 3]),
                ("a full circle", &|k| PI * (k + 1) as f64 / (b / 2) as f64),
                ("both ends", &|k| if k % 2 == 0 { 1e-9 } else { PI - 1e-9 }),
            ];
            for (name, angle) in kinds {
                check(b, &with_angles::<W>(b, seed + 7, angle), &format!("b = {b}, {name}, seed {seed}"));
            }
        }
        let minus: Vec<W> = (0..b * b).map(|at| W::from_real(if at % (b + 1) == 0 { -1.0 } else { 0.0 })).collect();
        if W::IS_COMPLEX || b % 2 == 0 {
            check(b, &minus, &format!("−I, b = {b}"));
        }
    }
}

#[test]
fn exponentials_of_logarithms_are_the_blocks() {
    all_kinds::<f64>();
    all_kinds::<c64>();
}

fn relative<W: Wide>(b: usize, seed: u64, scale: f64) {
    let theta: Vec<f64> = noise(seed, skew_size::<W>(b)).iter().map(|x| x * scale).collect();
    let a = skew::<W>(b, &theta);
    let back = check(b, &exp(b, &a), "near the identity");
    let size = a.iter().fold(0.0, |m: f64, x| m.max(Scalar::abs(*x)));
    let miss = a.iter().zip(&back).fold(0.0, |m: f64, (x, y)| m.max(Scalar::abs(*x - *y)));
    assert!(miss <= 16.0 * EPS * size, "b = {b}, {scale:e}: {:e}", miss / size);
}

#[test]
fn near_the_identity_the_accuracy_is_relative() {
    for b in SIZES {
        for scale in [1e-300, 1e-160, 1e-30, 1e-8, 1e-3, 0.1] {
            relative::<f64>(b, 5, scale);
            relative::<c64>(b, 6, scale);
        }
    }
}

#[test]
fn blocks_outside_are_refused_and_nothing_is_written() {
    let refused = |b: usize, block: &[f64]| {
        let mut a = vec![7.0; b * b];
        let result = log_rotation(b, block, &mut a);
        assert!(matches!(result, Err(Error::Domain { .. })), "b = {b}: {result:?}");
        assert!(a.iter().all(|&x| x == 7.0));
    };
    for b in SIZES {
        // A reflection, with other eigenvalues −1 beside the odd one; and no orthogonal blocks.
        let mut reflection = with_angles::<f64>(b, 3, |k| if k == 0 { PI } else { 1.0 });
        reflection[..b].iter_mut().for_each(|x| *x = -*x);
        refused(b, &reflection);
        for bad in [f64::NAN, f64::INFINITY, 2.0] {
            let mut block = exp(b, &skew::<f64>(b, &noise(9, b * b)));
            block[b * b - 1] = bad;
            refused(b, &block);
            let mut block = exp(b, &skew::<c64>(b, &noise(9, b * b)));
            block[b * b - 1].im = bad;
            assert!(matches!(log_rotation(b, &block, &mut vec![c64::new(0.0, 0.0); b * b]), Err(Error::Domain { .. })));
        }
    }
    assert!(matches!(log_rotation(2, &[0.0; 3], &mut [0.0; 4]), Err(Error::Length { .. })));
    assert!(matches!(log_rotation(2, &[0.0; 4], &mut [0.0; 3]), Err(Error::Length { .. })));
    log_rotation::<f64>(0, &[], &mut []).unwrap();
    log_rotation::<c64>(0, &[], &mut []).unwrap();
}
