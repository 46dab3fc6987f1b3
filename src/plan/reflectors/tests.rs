use super::*;
use crate::scalar::c64;
use alloc::format;

fn random(len: usize, seed: u64) -> Vec<f64> {
    let mut g = Generator::new(seed);
    (0..len).map(|_| 2.0 * g.uniform() - 1.0).collect()
}

fn shapes() -> impl Iterator<Item = Shape> {
    let of = |orthonormal| {
        [(0, 3), (1, 1), (1, 4), (2, 2), (5, 6), (11, 13)].map(|(count, b)| Shape { count, b, orthonormal })
    };
    of(false).into_iter().chain(of(true))
}

/// Fourth-order difference of `f` along `direction`.
fn slope<W: Wide>(theta: &[f64], direction: &[f64], f: impl Fn(&[f64]) -> Vec<W>) -> Vec<W> {
    let h = 1.0 / 4096.0;
    let at = |t: f64| f(&theta.iter().zip(direction).map(|(p, d)| p + t * d).collect::<Vec<_>>());
    let (a, b, c, d) = (at(-2.0 * h), at(-h), at(h), at(2.0 * h));
    let slope = |k: usize| (c[k] - b[k]) * W::from_real(8.0) - (d[k] - a[k]);
    (0..a.len()).map(|k| over(slope(k), 12.0 * h)).collect()
}

fn derivatives<W: Wide>() {
    for shape in shapes() {
        let numbers = shape.count * shape.b * if W::IS_COMPLEX { 2 } else { 1 };
        let (theta, direction) = (random(numbers, 1), random(numbers, 2));
        let u = units::<W>(shape, &theta).unwrap();
        let pushed = units_jvp(shape, &theta, &u, &direction);
        let truth = slope(&theta, &direction, |theta| units::<W>(shape, theta).unwrap());
        let context = format!("{shape:?}");
        for (a, b) in pushed.iter().zip(&truth) {
            assert!((*a - *b).abs() <= 1e-9, "{context}: {a:?} {b:?}");
        }
        let cotangent = load::<W>(&random(numbers, 3));
        let mut pulled = vec![0.25; numbers];
        units_vjp(shape, &theta, &u, &mut cotangent.clone(), &mut pulled);
        let left: f64 = dot(&cotangent, &pushed).re();
        let right: f64 = pulled.iter().zip(&direction).map(|(g, d)| (g - 0.25) * d).sum();
        assert!((left - right).abs() <= 1e-13 * numbers as f64, "{context}: {left} {right}");

        let (count, b) = (shape.count, shape.b);
        let moved = couplings_jvp(count, b, &load::<W>(&theta), &load::<W>(&direction));
        let truth = slope(&theta, &direction, |theta| couplings(count, b, &load::<W>(theta), true));
        let size = truth.iter().fold(1.0, |m: f64, x| m.max(Scalar::abs(*x)));
        for (a, b) in moved.iter().zip(&truth) {
            assert!((*a - *b).abs() <= 1e-7 * size, "{context}: couplings {a:?} {b:?}");
        }
    }
}

#[test]
fn pushforwards_are_differences_and_pullbacks_their_adjoints() {
    derivatives::<f64>();
    derivatives::<c64>();
}

#[test]
fn lengths_that_have_no_square_or_are_no_numbers() {
    for (v, size) in
        [([3.0, 4.0], 5.0), ([3e200, 4e200], 5e200), ([3e-200, 4e-200], 5e-200), ([1.5e-323, 2e-323], 2.5e-323)]
    {
        let mut u = v;
        let length = normalize(&mut u).unwrap();
        assert!((length.norm / length.scale / size - 1.0).abs() <= 1e-15, "{v:?}");
        assert!((u[0] - 0.6).abs() <= 1e-15 && (u[1] - 0.8).abs() <= 1e-15, "{v:?} {u:?}");
    }
    let mut largest = [f64::MAX; 4];
    assert!(normalize(&mut largest).is_some() && largest == [0.5; 4]);
    assert!(normalize(&mut [0.0; 3]).is_none());
    let mut c = [c64::new(0.0, 3e300), c64::new(-4e300, 0.0)];
    assert!(normalize(&mut c).is_some() && (c[0].im - 0.6).abs() <= 1e-15 && (c[1].re + 0.8).abs() <= 1e-15);
}
