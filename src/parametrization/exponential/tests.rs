use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::dense::{DoubleDouble, extended, orthogonality_ratio};
use crate::generator::Generator;
use crate::scalar::Scalar;

type Outcome = core::result::Result<(), TestCaseError>;

/// Both sides of the closed forms, of powers of two, and large ones.
const SIZES: [usize; 13] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 32, 33];

/// The chart of the field `W`, as one type for generic tests.
trait Field: Packed {
    fn chart() -> &'static dyn Parametrization<Self>;
}
impl Field for f64 {
    fn chart() -> &'static dyn Parametrization<f64> {
        &Exponential
    }
}
impl Field for c64 {
    fn chart() -> &'static dyn Parametrization<c64> {
        &Exponential
    }
}

/// Numbers of variance `scale`².
fn noise(seed: u64, n: usize, scale: f64) -> Vec<f64> {
    let mut g = Generator::new(seed);
    (0..n).map(|_| (0..12).map(|_| g.uniform()).sum::<f64>() - 6.0).map(|x| x * scale).collect()
}

fn parameters<W: Field>(b: usize, seed: u64, scale: f64) -> Vec<f64> {
    noise(seed, skew_size::<W>(b), scale)
}

fn block_of<W: Field>(seed: u64, b: usize) -> Vec<W> {
    let x = noise(seed, 2 * b * b, 1.0);
    x.chunks_exact(2).map(|z| W::from_parts(z[0], z[1])).collect()
}

fn forward<W: Field>(b: usize, theta: &[f64]) -> Vec<W> {
    let mut block = vec![W::from_real(f64::NAN); b * b];
    W::chart().forward(b, theta, &mut block);
    block
}

fn skew<W: Field>(b: usize, theta: &[f64]) -> Vec<W> {
    let mut a = vec![W::zero(); b * b];
    fill_skew::<W, W>(b, &mut a, |at, _| theta[at]);
    a
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

fn largest(x: impl IntoIterator<Item = f64>) -> f64 {
    x.into_iter().fold(0.0, |m, x| if x.abs() <= m { m } else { x.abs() })
}

fn difference<W: Field>(x: &[W], y: &[W]) -> f64 {
    largest(x.iter().zip(y).map(|(x, y)| Scalar::abs(*x - *y)))
}

/// ‖A‖_F, which bounds the condition of the angles.
fn norm<W: Field>(b: usize, theta: &[f64]) -> f64 {
    let unit = largest(theta.iter().copied()).max(f64::MIN_POSITIVE);
    let squares = skew::<W>(b, theta).into_iter().map(|z| (Scalar::abs(z) / unit).powi(2));
    squares.sum::<f64>().sqrt() * unit
}

/// A complex b×b matrix as a real one of twice the size, [[Re, −Im], [Im, Re]]; a real one as it is.
fn embedded<W: Field>(b: usize, m: &[W]) -> (usize, Vec<DoubleDouble>) {
    let n = if W::IS_COMPLEX { 2 * b } else { b };
    let entry = |at: usize| {
        let (i, j) = (at / n, at % n);
        let z = m[i % b * b + j % b];
        match (i < b, j < b) {
            (true, false) => -z.im(),
            (false, true) => z.im(),
            _ => z.re(),
        }
    };
    (n, (0..n * n).map(|at| entry(at).into()).collect())
}

/// Block (row, column) of an embedded matrix of m×m blocks, rounded.
fn part<W: Field>(b: usize, n: usize, wide: usize, x: &[DoubleDouble], column: usize) -> Vec<W> {
    let at = |i: usize, j: usize| x[i * wide + column + j].to_f64();
    let entry = |i: usize, j: usize| W::from_parts(at(i, j), if n > b { at(i + b, j) } else { 0.0 });
    (0..b * b).map(|k| entry(k / b, k % b)).collect()
}

/// exp A.
fn true_map<W: Field>(b: usize, a: &[W]) -> Vec<W> {
    let (n, a) = embedded(b, a);
    part(b, n, n, &extended::exponential(n, &a), 0)
}

/// L(A, E), the corner of exp [[A, E], [0, A]].
fn true_derivative<W: Field>(b: usize, a: &[W], e: &[W]) -> Vec<W> {
    let ((n, a), (_, e)) = (embedded(b, a), embedded(b, e));
    let entry = |at: usize| {
        let (i, j) = (at / (2 * n), at % (2 * n));
        match (i < n, j < n) {
            (true, false) => e[i * n + j - n],
            (false, true) => 0.0.into(),
            _ => a[i % n * n + j % n],
        }
    };
    let both: Vec<DoubleDouble> = (0..4 * n * n).map(entry).collect();
    part(b, n, 2 * n, &extended::exponential(2 * n, &both), n)
}

fn identity_to_the_bit<W: Field>(b: usize) {
    let block = forward::<W>(b, &vec![0.0; skew_size::<W>(b)]);
    for (at, x) in block.iter().enumerate() {
        let one = f64::from(u8::from(at % (b + 1) == 0));
        assert_eq!((x.re().to_bits(), x.im().to_bits()), (one.to_bits(), 0), "b = {b}, entry {at}");
    }
}

#[test]
fn zero_is_the_identity_to_the_bit() {
    for b in SIZES {
        identity_to_the_bit::<f64>(b);
        identity_to_the_bit::<c64>(b);
    }
}

#[test]
fn signs_are_those_of_the_documentation() {
    let (s, c) = 0.5f64.sin_cos();
    assert_eq!(forward::<f64>(2, &[0.5]), [c, s, -s, c]);
    assert_eq!(forward::<c64>(1, &[0.5]), [c64::new(c, s)]);
    let three = [1.0, 1e-20, 2e-20, -1e-20, 1.0, 3e-20, -2e-20, -3e-20, 1.0];
    assert!(difference(&forward::<f64>(3, &[1e-20, 2e-20, 3e-20]), &three) <= 1e-35);
    let mut other = [0.0; 4];
    super::super::Givens.forward(2, &[-0.5], &mut other);
    assert!(difference(&forward::<f64>(2, &[0.5]), &other) <= f64::EPSILON);
    Parametrization::<f64>::forward(&super::super::Cayley, 2, &[-(0.25f64.tan())], &mut other);
    assert!(difference(&forward::<f64>(2, &[0.5]), &other) <= f64::EPSILON);
}

/// The largest error of an entry, in units of eps·max(1, ‖A‖_F).
fn map_error<W: Field>(b: usize, theta: &[f64]) -> f64 {
    difference(&forward(b, theta), &true_map(b, &skew::<W>(b, theta))) / (f64::EPSILON * norm::<W>(b, theta).max(1.0))
}

#[test]
fn the_map_is_accurate_to_its_conditioning() {
    for b in [1, 2, 3, 4, 5, 8, 9, 16] {
        for scale in [1e-8, 1e-3, 0.3, 1.0, 10.0, 100.0, 1e3, 1e4] {
            let (real, complex) = (parameters::<f64>(b, 1, scale), parameters::<c64>(b, 2, scale));
            let (x, z) = (map_error::<f64>(b, &real), map_error::<c64>(b, &complex));
            assert!(x <= 1.0 && z <= 1.0, "b = {b}, scale {scale}: {x} {z}");
        }
    }
    let large =
        map_error::<f64>(33, &parameters::<f64>(33, 3, 1.0)).max(map_error::<f64>(64, &parameters::<f64>(64, 4, 1.0)));
    assert!(large <= 1.0, "{large}");
}

#[test]
fn tiny_parameters_keep_their_relative_accuracy() {
    for b in SIZES {
        for scale in [1e-12, 1e-100, 1e-200, 1e-300] {
            let theta = parameters::<c64>(b, 5, scale);
            let (q, a) = (forward::<c64>(b, &theta), skew::<c64>(b, &theta));
            let off = (0..b * b).map(|at| if at % (b + 1) == 0 { q[at].im - a[at].im } else { (q[at] - a[at]).norm() });
            // To second order in A.
            let error = largest(off) / largest(theta.iter().copied());
            assert!(error <= 4.0 * f64::EPSILON + 2.0 * b as f64 * scale, "b = {b}, {scale:e}: {error:e}");
        }
    }
}

fn nothing_is_lost<W: Field>(b: usize) {
    for rest in [0.0, 5e-324, 0.3, 1e300] {
        for (at, bad) in (0..skew_size::<W>(b)).flat_map(|at| [(at, f64::NAN), (at, f64::INFINITY)]) {
            let mut theta = vec![rest; skew_size::<W>(b)];
            theta[at] = bad;
            let block = forward::<W>(b, &theta);
            assert!(block.iter().all(|x| x.re().is_nan()), "b = {b}: {bad} at {at} among {rest:e}: {block:?}");
        }
    }
}

#[test]
fn entries_that_are_not_finite_make_the_block_nan() {
    for b in [1, 2, 3, 4, 5, 8] {
        nothing_is_lost::<f64>(b);
        nothing_is_lost::<c64>(b);
    }
}

fn check_orthogonal<W: Field>(b: usize, theta: &[f64]) {
    let ratio = orthogonality_ratio(b, &forward::<W>(b, theta)).unwrap();
    assert!(ratio <= 1.0, "b = {b}, {}: {ratio} at {:e}", W::IS_COMPLEX, largest(theta.iter().copied()));
}

#[test]
fn blocks_of_any_size_of_parameters_are_orthogonal() {
    for b in SIZES.into_iter().chain([64]) {
        for scale in [1.0, 30.0, 1e3, 1e4, 1e8, 1e17, 1e300] {
            if b == 64 && scale > 1e4 {
                continue;
            }
            check_orthogonal::<f64>(b, &parameters::<f64>(b, 7, scale));
            check_orthogonal::<c64>(b, &parameters::<c64>(b, 8, scale));
        }
        for t in [f64::MAX, f64::MIN_POSITIVE, 5e-324, 1e155] {
            for rest in [t, -t, 5e-324, 1.0] {
                if b > 17 && t > 1.0 {
                    continue;
                }
                let mut theta = vec![rest; b * b];
                theta[skew_size::<f64>(b).saturating_sub(1)] = t;
                check_orthogonal::<f64>(b, &theta[..skew_size::<f64>(b)]);
                theta[b * b - 1] = t;
                check_orthogonal::<c64>(b, &theta);
            }
        }
    }
}

/// Skew matrices whose eigenvalues come in clusters: gaps of 1e-9, of 1e-13, and none. As parameters.
fn clustered<W: Field>(b: usize, seed: u64, scale: f64) -> Vec<f64> {
    let v = forward::<W>(b, &parameters::<W>(b, seed, 1.0));
    let omega = |k: usize| scale * (1.0 + [0.0, 0.0, 1e-9, 1e-13][k % 4] + (k / 4) as f64);
    let mut d = vec![W::zero(); b * b];
    if W::IS_COMPLEX {
        (0..b).for_each(|k| d[k * b + k] = W::from_parts(0.0, omega(k)));
    } else {
        for k in 0..b / 2 {
            d[2 * k * b + 2 * k + 1] = W::from_real(omega(k));
            d[(2 * k + 1) * b + 2 * k] = W::from_real(-omega(k));
        }
    }
    let (mut half, mut a, adjoint) = (d.clone(), d.clone(), adjoint(b, &v));
    product(b, &v, &d, &mut half);
    product(b, &half, &adjoint, &mut a);
    let mut theta = vec![0.0; skew_size::<W>(b)];
    read_skew(b, |at| a[at], |at, t| theta[at] = t);
    theta
}

fn adjoint<W: Field>(b: usize, x: &[W]) -> Vec<W> {
    (0..b * b).map(|at| Scalar::conj(x[at % b * b + at / b])).collect()
}

fn vjp<W: Field>(b: usize, theta: &[f64], g: &[W]) -> Vec<f64> {
    let mut d = vec![3.0; theta.len()];
    W::chart().vjp(b, theta, &forward(b, theta), g, &mut d);
    d.iter_mut().for_each(|d| *d -= 3.0);
    d
}

fn jvp<W: Field>(b: usize, theta: &[f64], d: &[f64]) -> Vec<W> {
    let mut out = vec![W::from_real(f64::NAN); b * b];
    W::chart().jvp(b, theta, &forward(b, theta), d, &mut out);
    out
}

/// Errors of vjp and of jvp, in units of eps·max(1, ‖A‖_F) times the size of what goes in.
fn derivative_errors<W: Field>(b: usize, theta: &[f64]) -> (f64, f64) {
    let unit = f64::EPSILON * norm::<W>(b, theta).max(1.0);
    let a = skew::<W>(b, theta);
    let g = block_of::<W>(11, b);
    let minus: Vec<W> = a.iter().map(|&x| -x).collect();
    let pulled = true_derivative(b, &minus, &g);
    let skew_part: Vec<W> = pulled.iter().zip(adjoint(b, &pulled)).map(|(x, y)| *x - y).collect();
    let mut truth = vec![0.0; theta.len()];
    read_skew(b, |at| skew_part[at], |at, d| truth[at] = weight::<W>(b, at) * d);
    let size = |x: &[W]| x.iter().map(|z| Scalar::abs(*z) * Scalar::abs(*z)).sum::<f64>().sqrt();
    let back = largest(vjp(b, theta, &g).iter().zip(&truth).map(|(x, y)| x - y)) / (unit * size(&g));
    let direction = parameters::<W>(b, 12, 1.0);
    let e = skew::<W>(b, &direction);
    (back, difference(&jvp(b, theta, &direction), &true_derivative(b, &a, &e)) / (unit * size(&e).max(1.0)))
}

#[test]
fn derivatives_are_those_of_the_exact_exponential() {
    let check = |what: &str, (back, forth): (f64, f64)| assert!(back <= 2.0 && forth <= 2.0, "{what}: {back} {forth}");
    for b in [1, 2, 3, 4, 5, 8, 9] {
        for scale in [1e-300, 1e-8, 0.1, 1.0, 30.0, 1e3, 1e4] {
            check(&format!("real {b} {scale:e}"), derivative_errors::<f64>(b, &parameters::<f64>(b, 13, scale)));
            check(&format!("complex {b} {scale:e}"), derivative_errors::<c64>(b, &parameters::<c64>(b, 14, scale)));
        }
        for scale in [1e-3, 1.0, 100.0] {
            check(&format!("clustered {b} {scale}"), derivative_errors::<f64>(b, &clustered::<f64>(b, 15, scale)));
            check(&format!("clustered {b} {scale}i"), derivative_errors::<c64>(b, &clustered::<c64>(b, 16, scale)));
        }
    }
    check("real 33", derivative_errors::<f64>(33, &parameters::<f64>(33, 17, 1.0)));
}

/// The same in both fields: a real block is a unitary one.
#[test]
fn real_blocks_are_unitary_blocks() {
    for b in SIZES {
        let theta = parameters::<f64>(b, 20, 1.0);
        let (q, a) = (forward::<f64>(b, &theta), skew::<f64>(b, &theta));
        let mut wide = vec![0.0; b * b];
        read_skew(b, |at| c64::new(a[at], 0.0), |at, t| wide[at] = t);
        let z: Vec<c64> = q.iter().map(|&x| c64::new(x, 0.0)).collect();
        assert!(difference(&forward::<c64>(b, &wide), &z) <= 8.0 * b as f64 * f64::EPSILON, "b = {b}");
    }
}

#[test]
fn wrong_sizes_and_blocks_outside_are_errors() {
    let real = Exponential;
    let params = |b| Parametrization::<f64>::num_params(&real, b);
    assert!(matches!(params(0), Err(Error::Size { .. })) && matches!(params(usize::MAX), Err(Error::Size { .. })));
    assert_eq!((params(1), params(8), Parametrization::<c64>::num_params(&real, 8)), (Ok(0), Ok(28), Ok(64)));
    assert!(matches!(real.inverse(3, &[0.0; 9], &mut [0.0; 2]), Err(Error::Length { .. })));
    assert!(matches!(real.inverse(3, &[0.0; 8], &mut [0.0; 3]), Err(Error::Length { .. })));
}

fn section<W: Field>(b: usize, seed: u64, scale: f64) -> Outcome {
    let theta = parameters::<W>(b, seed, scale);
    let block = forward::<W>(b, &theta);
    let mut back = vec![f64::NAN; theta.len()];
    W::chart().inverse(b, &block, &mut back).unwrap();
    let again = forward::<W>(b, &back);
    let column = |j: usize| (0..b).map(|i| Scalar::abs(again[i * b + j] - block[i * b + j])).sum::<f64>();
    let ratio = largest((0..b).map(column)) / (b as f64 * f64::EPSILON);
    prop_assert!(ratio <= 5.0, "b = {b}, scale {scale}: {ratio}");
    // Within 120° the logarithm is well conditioned, and comes back relatively.
    if norm::<W>(b, &theta) <= 2.0 {
        let miss = largest(theta.iter().zip(&back).map(|(x, y)| x - y));
        prop_assert!(miss <= 16.0 * f64::EPSILON * norm::<W>(b, &theta), "b = {b}, scale {scale}: {miss:e}");
    }
    Ok(())
}

fn batch<W: Field>(b: usize, seed: u64, count: usize) -> Outcome {
    let p = skew_size::<W>(b);
    let mut theta = noise(seed, count * p, 1.0);
    // Lanes of one pack need different numbers of squarings.
    theta.iter_mut().enumerate().for_each(|(i, t)| *t *= [1.0, 1e-200, 300.0, 0.0, 1e20][i / p % 5]);
    let g: Vec<W> = (0..count).flat_map(|j| block_of::<W>(seed ^ j as u64, b)).collect();
    let (mut blocks, mut d) = (vec![W::from_real(f64::NAN); count * b * b], vec![0.25; count * p]);
    W::chart().forward_batch(b, &theta, &mut blocks);
    W::chart().vjp_batch(b, &theta, &blocks, &g, &mut d);
    for j in 0..count {
        let (mine, theta) = (j * b * b..(j + 1) * b * b, &theta[j * p..(j + 1) * p]);
        let single = forward::<W>(b, theta);
        prop_assert_eq!(format!("{single:?}"), format!("{:?}", &blocks[mine.clone()]));
        let mut single_d = vec![0.25; p];
        W::chart().vjp(b, theta, &single, &g[mine], &mut single_d);
        prop_assert_eq!(format!("{single_d:?}"), format!("{:?}", &d[j * p..(j + 1) * p]));
    }
    Ok(())
}

fn adjoint_and_differences<W: Field>(b: usize, seed: u64) -> Outcome {
    let theta = parameters::<W>(b, seed, 1.0);
    let (g, direction) = (block_of::<W>(seed + 1, b), parameters::<W>(b, seed + 2, 1.0));
    let length = dot(&direction, &direction).sqrt().max(1.0);
    let direction: Vec<f64> = direction.iter().map(|x| x / length).collect();
    let inner = |x: &[W]| x.iter().zip(&g).map(|(x, g)| x.re() * g.re() + x.im() * g.im()).sum::<f64>();
    let at = |h: f64| {
        let moved: Vec<f64> = theta.iter().zip(&direction).map(|(t, d)| t + h * d).collect();
        inner(&forward::<W>(b, &moved))
    };
    let h = 1e-3;
    let difference = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
    let size = largest(g.iter().map(|z| Scalar::abs(*z)));
    let (back, forth) = (dot(&vjp(b, &theta, &g), &direction), inner(&jvp(b, &theta, &direction)));
    prop_assert!((difference - back).abs() <= 1e-9 * size, "b = {b}: {difference} {back}");
    prop_assert!((back - forth).abs() <= 1e-13 * size * b as f64, "b = {b}: {back} {forth}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn derivatives_agree_with_differences(b in prop::sample::select(&SIZES[..]), seed in 0..1u64 << 40) {
        adjoint_and_differences::<f64>(b, seed)?;
        adjoint_and_differences::<c64>(b, seed)?;
    }

    #[test]
    fn inverse_is_a_section(b in prop::sample::select(&SIZES[..]), seed: u64, exponent in -300..=3_i32) {
        let scale = 10.0_f64.powi(if seed % 2 == 0 { exponent } else { exponent / 100 });
        section::<f64>(b, seed, scale)?;
        section::<c64>(b, seed, scale)?;
    }

    #[test]
    fn a_batch_has_the_bits_of_its_blocks(
        b in 1..10_usize, seed: u64, count in prop::sample::select(vec![0_usize, 1, 7, 8, 9, 17]),
    ) {
        batch::<f64>(b, seed, count)?;
        batch::<c64>(b, seed, count)?;
    }
}
