//! Transforms in closed form against their definitions, entry by entry, with exactly reduced arguments.

use papilio::generator::Generator;
use papilio::verify::{certificate, dense};
use papilio::{Batch, BatchMut, Error, Op, Parallelism, Plan, Result, Scalar, Workspace, c32, c64, synthesis};

/// cos πp/q and sin πp/q for all p, from the first eighth of a circle.
struct Circle {
    q: i64,
    table: Vec<f64>,
}

impl Circle {
    fn new(q: usize) -> Self {
        let (pi, q) = (std::f64::consts::PI, q as i64);
        let entry = |p: i64| {
            let p = p.min(2 * q - p);
            match 4 * p {
                a if a <= q => (pi * p as f64 / q as f64).cos(),
                a if a <= 3 * q => (pi * (q - 2 * p) as f64 / (2 * q) as f64).sin(),
                _ => -(pi * (q - p) as f64 / q as f64).cos(),
            }
        };
        Self { q, table: (0..2 * q).map(entry).collect() }
    }

    fn cos(&self, p: usize) -> f64 {
        self.table[p % self.table.len()]
    }

    /// q is a multiple of 2.
    fn sin(&self, p: usize) -> f64 {
        self.cos(p + (3 * self.q / 2) as usize)
    }
}

/// Entry (k, j) of a transform of n, with the circle of π/(4n).
type Definition = fn(&Circle, usize, usize, usize) -> f64;
type Real = (&'static str, fn(usize) -> Result<Plan<f64>>, Definition);

fn norm(n: usize, single: bool) -> f64 {
    (if single { 1.0 } else { 2.0 } / n as f64).sqrt()
}

const REAL: [Real; 8] = [
    ("real DFT", synthesis::real_dft, |c, n, k, j| match 2 * k {
        twice if twice == 0 || twice == n => norm(n, true) * c.cos(8 * k * j),
        twice if twice < n => norm(n, false) * c.cos(8 * k * j),
        _ => norm(n, false) * c.sin(8 * (n - k) * j),
    }),
    ("Hartley", synthesis::hartley, |c, n, k, j| norm(n, true) * (c.cos(8 * k * j) + c.sin(8 * k * j))),
    ("DCT-II", synthesis::dct2, |c, n, k, j| norm(n, k == 0) * c.cos(2 * (2 * j + 1) * k)),
    ("DCT-III", synthesis::dct3, |c, n, k, j| norm(n, j == 0) * c.cos(2 * (2 * k + 1) * j)),
    ("DCT-IV", synthesis::dct4, |c, n, k, j| norm(n, false) * c.cos((2 * j + 1) * (2 * k + 1))),
    ("DST-II", synthesis::dst2, |c, n, k, j| norm(n, k == n - 1) * c.sin(2 * (2 * j + 1) * (k + 1))),
    ("DST-III", synthesis::dst3, |c, n, k, j| norm(n, j == n - 1) * c.sin(2 * (2 * k + 1) * (j + 1))),
    ("DST-IV", synthesis::dst4, |c, n, k, j| norm(n, false) * c.sin((2 * j + 1) * (2 * k + 1))),
];

fn bar(n: usize) -> f64 {
    1e-14 * (n as f64).log2().max(1.0)
}

/// Sizes of every kind: powers of 2, odd, prime, smooth.
fn sizes() -> impl Iterator<Item = usize> {
    (1..=36).chain([45, 48, 60, 62, 64, 75, 81, 105, 128, 210, 256, 360, 512, 625, 768, 1000, 1024])
}

/// op(Q) of unit vectors, one after the other, by the kernels.
fn images<T: Scalar>(plan: &Plan<T>, op: Op, units: &[usize]) -> Vec<T> {
    let n = plan.n();
    let mut x = vec![T::zero(); units.len() * n];
    units.iter().enumerate().for_each(|(at, j)| x[at * n + j] = T::one());
    let nan = T::from_wide(<T::Wide as Scalar>::from_real(f64::NAN));
    let mut y = vec![nan; x.len()];
    let factors = plan.realize::<f64>(&[]).unwrap();
    let (input, output) = (Batch::rows(&x, n).unwrap(), BatchMut::rows(&mut y, n).unwrap());
    plan.apply(&factors, input, output, op, Parallelism::None, &mut Workspace::new()).unwrap();
    y
}

fn all(n: usize) -> Vec<usize> {
    (0..n).collect()
}

/// What every plan of a transform promises besides its matrix.
fn check_structure<T: Scalar>(name: &str, plan: &Plan<T>) {
    let n = plan.n();
    let log = (n as f64).log2().max(1.0);
    assert!(plan.num_params() == 0 && plan.is_exact(), "{name} {n}");
    // Stages only: few numbers for each bit of each index, and no block grows with n.
    let largest = plan.stages().iter().map(|stage| stage.layout().block_size()).max().unwrap_or(1);
    if n.is_power_of_two() {
        assert!(
            largest <= 16 && plan.num_entries() as f64 <= 6.0 * n as f64 * log,
            "{name} {n}: {}",
            plan.num_entries()
        );
        assert!(plan.num_stages() <= n.trailing_zeros() as usize / 2 + 3 || largest == 2, "{name} {n}");
    } else {
        assert!(
            largest <= 62 && plan.num_entries() as f64 <= 62.0 * n as f64 * log,
            "{name} {n}: {}",
            plan.num_entries()
        );
    }
    let factors = plan.realize::<f64>(&[]).unwrap();
    let proof = certificate(plan, &factors).unwrap();
    let eps = if T::IS_WIDE { f64::EPSILON } else { f64::from(f32::EPSILON) };
    assert!(proof.defect <= 4.0 * plan.num_stages() as f64 * eps, "{name} {n}: defect {:e}", proof.defect);
}

#[test]
fn real_transforms_are_their_definitions() {
    let mut worst = 0.0f64;
    for (name, construct, definition) in REAL {
        for n in sizes() {
            let plan = match construct(n) {
                Ok(plan) => plan,
                Err(Error::Size { .. }) if n > 1 && n % 2 == 1 && name.ends_with("IV") => continue,
                Err(error) => panic!("{name} {n}: {error}"),
            };
            check_structure(name, &plan);
            let (circle, columns) = (Circle::new(4 * n), images(&plan, Op::None, &all(n)));
            for (at, y) in columns.iter().enumerate() {
                let error = (y - definition(&circle, n, at % n, at / n)).abs();
                assert!(error <= bar(n), "{name} {n}: entry ({}, {}) is off by {error:e}", at % n, at / n);
                worst = worst.max(error / bar(n));
            }
        }
    }
    assert!(worst > 0.0);
    println!("largest part of the bar: {worst}"); // 0.03
}

#[test]
fn dft_is_its_definition() {
    for n in sizes() {
        let plan = synthesis::dft::<c64>(n).unwrap();
        check_structure("DFT", &plan);
        let (circle, columns) = (Circle::new(4 * n), images(&plan, Op::None, &all(n)));
        for (at, y) in columns.iter().enumerate() {
            let angle = 8 * (at % n) * (at / n);
            let expected = c64 { re: circle.cos(angle), im: -circle.sin(angle) } * norm(n, true);
            assert!((y - expected).norm() <= bar(n), "{n}: {y} for {expected}");
        }
    }
}

#[test]
fn rows_and_columns_of_large_transforms() {
    for n in [4096, 1 << 14, 3 << 12, 10_000] {
        let circle = Circle::new(4 * n);
        let some = [0, 1, 2, n / 3, n / 2 - 1, n / 2, n / 2 + 1, n - 2, n - 1];
        for (name, construct, definition) in REAL {
            let plan = construct(n).unwrap();
            check_structure(name, &plan);
            let (columns, rows) = (images(&plan, Op::None, &some), images(&plan, Op::Adjoint, &some));
            for (at, fixed) in some.into_iter().enumerate() {
                for i in 0..n {
                    let of_column = columns[at * n + i] - definition(&circle, n, i, fixed);
                    let of_row = rows[at * n + i] - definition(&circle, n, fixed, i);
                    assert!(of_column.abs().max(of_row.abs()) <= bar(n), "{name} {n}: {i} and {fixed}");
                }
            }
        }
        let plan = synthesis::dft::<c64>(n).unwrap();
        for (at, y) in images(&plan, Op::None, &some).into_iter().enumerate() {
            let angle = 8 * (at % n) * some[at / n];
            let expected = c64 { re: circle.cos(angle), im: -circle.sin(angle) } * norm(n, true);
            assert!((y - expected).norm() <= bar(n), "{n}");
        }
    }
}

/// One transform of a million: what accumulates angles loses here.
#[test]
fn a_million_coordinates() {
    let n = 1 << 20;
    let (circle, plan) = (Circle::new(4 * n), synthesis::dct2::<f64>(n).unwrap());
    let row = images(&plan, Op::Adjoint, &[n - 3]);
    let worst = (0..n).map(|j| (row[j] - norm(n, false) * circle.cos(2 * (2 * j + 1) * (n - 3))).abs());
    let worst = worst.fold(0.0, f64::max);
    assert!(worst <= 8.0 * f64::EPSILON * norm(n, false), "{worst:e}");
}

#[test]
fn other_scalars_take_them_too() {
    for n in [6, 64] {
        let circle = Circle::new(4 * n);
        for (name, _, definition) in REAL {
            let (single, complex, both) = match name {
                "DCT-II" => (synthesis::dct2(n), synthesis::dct2(n), synthesis::dct2(n)),
                "DST-III" => (synthesis::dst3(n), synthesis::dst3(n), synthesis::dst3(n)),
                "DCT-IV" => (synthesis::dct4(n), synthesis::dct4(n), synthesis::dct4(n)),
                _ => continue,
            };
            let (single, complex, both): (Plan<f32>, Plan<c64>, Plan<c32>) =
                (single.unwrap(), complex.unwrap(), both.unwrap());
            check_structure(name, &single);
            let expected = |at: usize| definition(&circle, n, at % n, at / n);
            let off = |at: usize, y: c64| (y - expected(at)).norm();
            let columns = images(&single, Op::None, &all(n));
            assert!(columns.iter().enumerate().all(|(at, y)| off(at, c64::from(f64::from(*y))) <= 4e-7));
            let columns = images(&complex, Op::None, &all(n));
            assert!(columns.iter().enumerate().all(|(at, y)| off(at, *y) <= bar(n)));
            let columns = images(&both, Op::None, &all(n));
            assert!(columns.iter().enumerate().all(|(at, y)| off(at, y.to_wide()) <= 4e-7));
        }
    }
}

#[test]
fn sizes_that_do_not_fit_are_named() {
    let refused = |result: Result<Plan<f64>>, words: &str| match result {
        Err(error @ Error::Size { .. }) => assert!(error.to_string().contains(words), "{error}"),
        other => panic!("{other:?}"),
    };
    for (name, construct, _) in REAL {
        for n in [0, (1 << 24) + 2, usize::MAX - 1] {
            refused(construct(n), name);
        }
        refused(construct(74), "31, got n = 74");
    }
    refused(synthesis::dct4(9), "even");
    refused(synthesis::haar(12), "power of 2");
    refused(synthesis::haar(0), "power of 2");
    for n in [0, 3, 6, 24 * 7, 1 << 25, 104] {
        refused(synthesis::hadamard(n), "Hadamard");
    }
    refused(synthesis::wavelet(24, 4, &synthesis::DAUBECHIES_4), "at most 3 levels");
    refused(synthesis::wavelet(24, 3, &[1.0, 0.0, 0.0]), "even number of taps");
    refused(synthesis::wavelet(24, 3, &[]), "even number of taps");
    refused(synthesis::signs(&[]), "2^24");
    refused(synthesis::swaps(&[]), "2^32");
    assert!(matches!(synthesis::dft::<c64>(37), Err(Error::Size { .. })));
}

#[test]
fn hadamard_matrices() {
    for k in 0..=10 {
        let n = 1usize << k;
        let plan = synthesis::hadamard::<f64>(n).unwrap();
        check_structure("Hadamard", &plan);
        for (at, x) in images(&plan, Op::None, &all(n)).into_iter().enumerate() {
            let sign = if ((at / n) & (at % n)).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
            assert!((x - sign * norm(n, true)).abs() <= bar(n) * norm(n, true), "{n}: {at}");
        }
    }
    for n in [12, 20, 24, 28, 36, 40, 44, 60, 56, 240, 288] {
        let plan = synthesis::hadamard::<f64>(n).unwrap();
        let q = images(&plan, Op::None, &all(n));
        assert!(q.iter().all(|x| (x.abs() - norm(n, true)).abs() <= 1e-15), "{n}");
        let dot = |i: usize, j: usize| (0..n).map(|k| q[i * n + k] * q[j * n + k]).sum::<f64>();
        assert!((0..n * n).all(|at| (dot(at / n, at % n) - f64::from(at / n == at % n)).abs() <= 1e-14), "{n}");
    }
}

#[test]
fn kronecker_products_and_signs() {
    let (c, s) = (0.6, 0.8);
    let turn = [c, -s, s, c];
    let three = [0.0, 1.0, 0.0, 0.0, 0.0, 1.0, -1.0, 0.0, 0.0];
    let plan = synthesis::kronecker::<f64>(&[(2, &turn), (3, &three), (1, &[-1.0]), (2, &turn)]).unwrap();
    let q = images(&plan, Op::Transpose, &all(12)); // rows
    for (at, x) in q.iter().enumerate() {
        let (i, j) = (at / 12, at % 12);
        let expected = -turn[i / 6 * 2 + j / 6] * three[i / 2 % 3 * 3 + j / 2 % 3] * turn[i % 2 * 2 + j % 2];
        assert!((x - expected).abs() <= 1e-15, "({i}, {j}): {x} for {expected}");
    }
    let i = c64 { re: 0.0, im: 1.0 };
    let phases = [i, c64::from(0.0), c64::from(0.0), -i];
    let plan = synthesis::kronecker::<c64>(&[(2, &phases), (2, &phases)]).unwrap();
    assert!(images(&plan, Op::None, &[0, 1]) == [-1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0].map(c64::from));

    let kron = synthesis::kronecker::<f64>;
    assert!(matches!(kron(&[(2, &turn), (2, &[1.0, 0.1, 0.0, 1.0])]), Err(Error::Domain { .. })));
    assert!(matches!(kron(&[(2, &[f64::NAN; 4])]), Err(Error::Domain { .. })));
    assert!(matches!(kron(&[(2, &turn[..3])]), Err(Error::Length { .. })));
    assert!(matches!(kron(&[(0, &[])]), Err(Error::Size { .. })));
    assert!(matches!(kron(&[(usize::MAX, &turn), (usize::MAX, &turn)]), Err(Error::Size { .. })));
    assert_eq!(kron(&[]).unwrap().n(), 1);

    let plan = synthesis::signs::<f32>(&[false, true, true, false]).unwrap();
    assert_eq!(images(&plan, Op::None, &[0, 2]), [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0]);
    assert_eq!(synthesis::signs::<f64>(&[false; 3]).unwrap().num_entries(), 0);
}

/// The definition, level by level.
fn wavelet(x: &[f64], levels: usize, h: &[f64]) -> Vec<f64> {
    let (mut a, mut y) = (x.to_vec(), x.to_vec());
    for _ in 0..levels {
        let (half, l) = (a.len() / 2, h.len());
        let filtered =
            |tap: &dyn Fn(usize) -> f64, j: usize| -> f64 { (0..l).map(|t| tap(t) * a[(2 * j + t) % a.len()]).sum() };
        let high = |t: usize| if t.is_multiple_of(2) { h[l - 1 - t] } else { -h[l - 1 - t] };
        (0..half).for_each(|j| y[half + j] = filtered(&high, j));
        a = (0..half).map(|j| filtered(&|t| h[t], j)).collect();
        y[..half].copy_from_slice(&a);
    }
    y
}

/// An orthonormal filter from angles: two taps, then two more for each.
fn filter(angles: &[f64]) -> Vec<f64> {
    let (s, c) = angles[0].sin_cos();
    let (mut first, mut second) = (vec![c, s], vec![s, -c]);
    for (s, c) in angles[1..].iter().map(|angle| angle.sin_cos()) {
        let (mut early, mut late) = (second, vec![0.0, 0.0]);
        early.extend([0.0, 0.0]);
        late.extend(first);
        let mixed = |a: f64, b: f64| early.iter().zip(&late).map(|(x, y)| a * x + b * y).collect::<Vec<_>>();
        (first, second) = (mixed(c, -s), mixed(s, c));
    }
    first
}

#[test]
fn wavelets_are_their_definitions() {
    let mut g = Generator::new(8);
    let h = std::f64::consts::FRAC_1_SQRT_2;
    let mut filters = vec![vec![h, h], synthesis::DAUBECHIES_4.to_vec(), synthesis::DAUBECHIES_6.to_vec()];
    filters.extend([vec![0.0, h, h, 0.0], vec![0.0, 0.0, h, h], vec![h, h, 0.0, 0.0, 0.0, 0.0], vec![0.0, 1.0]]);
    for taps in 1..=6 {
        filters.extend((0..4).map(|_| filter(&(0..taps).map(|_| 6.3 * g.uniform()).collect::<Vec<_>>())));
    }
    for filter in &filters {
        for (n, levels) in [(1, 0), (2, 1), (4, 2), (6, 1), (8, 3), (24, 3), (96, 5), (128, 7)] {
            let plan = synthesis::wavelet::<f64>(n, levels, filter).unwrap();
            assert!(plan.num_entries() <= 4 * n * filter.len() + 4 * n && plan.is_exact());
            let columns = images(&plan, Op::None, &all(n));
            for (j, column) in columns.chunks_exact(n).enumerate() {
                let unit: Vec<f64> = (0..n).map(|i| f64::from(i == j)).collect();
                let expected = wavelet(&unit, levels, filter);
                let error = column.iter().zip(&expected).fold(0.0f64, |m, (x, y)| m.max((x - y).abs()));
                assert!(error <= 1e-14 * (levels + 1) as f64, "{filter:?} {n}: {error:e}");
            }
        }
    }
    for k in 0..=10 {
        let n = 1usize << k;
        let plan = synthesis::haar::<f64>(n).unwrap();
        let q = images(&plan, Op::Transpose, &all(n)); // rows
        for (at, x) in q.iter().enumerate() {
            let (i, j) = (at / n, at % n);
            let expected = if i == 0 {
                norm(n, true)
            } else {
                // Row 2^l + p: ± on the halves of interval p of length n/2^l.
                let (l, length) = (i.ilog2(), n >> i.ilog2());
                let p = i - (1 << l);
                let size = (1.0 / length as f64).sqrt();
                if j / length != p {
                    0.0
                } else if j % length < length / 2 {
                    size
                } else {
                    -size
                }
            };
            assert!((x - expected).abs() <= bar(n), "{n}: ({i}, {j}) is {x}, not {expected}");
        }
    }
    for bad in [[1.0, 1.0], [f64::NAN, 0.0], [0.6, 0.8 + 1e-12]] {
        assert!(matches!(synthesis::wavelet::<f64>(8, 1, &bad), Err(Error::Domain { .. })));
    }
    let shifted = [0.5, 0.5, 0.5, 0.5]; // unit length, but not orthogonal to its shift
    assert!(matches!(synthesis::wavelet::<f64>(8, 1, &shifted), Err(Error::Domain { .. })));
}

#[test]
fn permutations_are_two_stages_of_swaps() {
    let mut g = Generator::new(4);
    for n in (1..=40).chain([255, 256, 1000]) {
        for case in 0..6 {
            let mut to: Vec<u32> = (0..n as u32).collect();
            match case {
                0 => {}
                1 => to.reverse(),
                2 => to.rotate_left(1),
                _ => g.shuffle(&mut to),
            }
            let plan = synthesis::swaps::<f64>(&to).unwrap();
            let own_inverse = (0..n).all(|i| to[to[i] as usize] as usize == i);
            let identity = (0..n).all(|i| to[i] as usize == i);
            let most = if identity {
                0
            } else if own_inverse {
                1
            } else {
                2
            };
            assert_eq!(plan.num_stages(), most, "{to:?}");
            assert!(plan.num_entries() <= 4 * n);
            let x: Vec<f64> = (0..n).map(|i| 1.0 / (i + 1) as f64).collect();
            let y = papilio::Orthogonal::new(plan, [0.0; 0]).unwrap().apply(&x).unwrap();
            assert!((0..n).all(|i| y[to[i] as usize] == x[i]), "{to:?}");
        }
    }
    assert!(matches!(synthesis::swaps::<f64>(&[0, 2]), Err(Error::Index { .. })));
    assert!(matches!(synthesis::swaps::<f64>(&[1, 1]), Err(Error::Overlap { .. })));
}

/// The naive product of stages, for plans with tables and strides: not the kernels.
#[test]
fn kernels_and_naive_products_agree() {
    for n in [30, 32] {
        for (name, construct, definition) in REAL {
            let plan = construct(n).unwrap();
            let q = dense::matrix(&plan, &plan.realize::<f64>(&[]).unwrap()).unwrap();
            let circle = Circle::new(4 * n);
            assert!((0..n * n).all(|at| (q[at] - definition(&circle, n, at / n, at % n)).abs() <= bar(n)), "{name}");
        }
    }
}
