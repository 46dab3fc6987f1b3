//! Random rotations: frozen bits, orthogonality, any layout, bad input.

use papilio::generator::Generator;
use papilio::random::{
    DEFAULT_ROUNDS, Direction, GaussianMap, HadamardCube, Input, KacWalk, RandomRotation, Reference, quality,
    quality_report,
};
use papilio::{BatchMut, Element, Error, Isa, Parallelism, Real, Workspace};

#[path = "random/golden.rs"]
mod golden;

/// Uniform in [−½, ½).
fn numbers<T: Real>(len: usize) -> Vec<T> {
    let mut g = Generator::new(9);
    (0..len).map(|_| T::from_wide(g.uniform() - 0.5)).collect()
}

/// FNV-1a of the little-endian bytes.
fn hash<T: Real>(numbers: &[T]) -> u64 {
    let bytes: &[u8] = bytemuck::cast_slice(numbers);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}

fn check_hashes<T: Real>((n, rounds, seed): (usize, usize, u64), expected: [u64; 2]) {
    for isa in Isa::available() {
        let rotation = RandomRotation::<T>::with_rounds(n, seed, rounds).unwrap().with_isa(isa).unwrap();
        let start = numbers::<T>(n);
        // One vector has loops of its own; of three, two go together through the blocks and one is left over.
        for batch in [1, 3] {
            let mut x = start.repeat(batch);
            rotation.apply(&mut x).unwrap();
            let forward: Vec<u64> = x.chunks_exact(n).map(hash).collect();
            rotation.inverse(&mut x).unwrap();
            for (forward, back) in forward.into_iter().zip(x.chunks_exact(n).map(hash)) {
                let case = format!("n = {n}, {rounds} rounds, seed {seed}, {batch} vectors, {}, {isa:?}", T::NAME);
                assert_eq!([forward, back], expected, "{case}");
            }
        }
    }
}

#[test]
fn bits_are_frozen_on_every_instruction_set() {
    for (n, rounds, seed, [f32_forward, f32_back, f64_forward, f64_back]) in golden::HASHES {
        check_hashes::<f32>((n, rounds, seed), [f32_forward, f32_back]);
        check_hashes::<f64>((n, rounds, seed), [f64_forward, f64_back]);
    }
}

/// Subnormal numbers, zeros of both signs and numbers near the largest: products must not be fused with sums that round.
#[test]
fn extreme_numbers_have_the_same_bits_on_every_instruction_set() {
    for n in [3, 16, 32, 40, 64, 128, 256, 300, 1000, 1300] {
        for size in [1e-45, 3e-44, 1e-38, 1e37] {
            let x: Vec<f32> =
                numbers::<f32>(n).iter().map(|x| (f64::from(*x) * size).clamp(-1e38, 1e38) as f32).collect();
            let results: Vec<Vec<u32>> = Isa::available()
                .into_iter()
                .map(|isa| {
                    let rotation = RandomRotation::<f32>::new(n, 1).unwrap().with_isa(isa).unwrap();
                    let mut x = x.clone();
                    rotation.apply(&mut x).unwrap();
                    let mut bits: Vec<u32> = x.iter().map(|x| x.to_bits()).collect();
                    rotation.inverse(&mut x).unwrap();
                    bits.extend(x.iter().map(|x| x.to_bits()));
                    bits
                })
                .collect();
            assert!(results.iter().all(|r| *r == results[0]), "n = {n}, size {size}");
        }
    }
}

/// The largest column of I − QᵀQ over n·eps in the 1-norm, of some columns: LAPACK's ratio. Q turns a unit vector in T, Qᵀ turns it
/// back in `f64`, whose own rounding shows only where T is `f64`.
fn ratio<T: Real>(n: usize, columns: impl Iterator<Item = usize>) -> f64 {
    let rotation = RandomRotation::<T>::new(n, n as u64).unwrap();
    let back = RandomRotation::<f64>::new(n, n as u64).unwrap();
    let mut worst = 0.0;
    for j in columns {
        let mut x = vec![T::zero(); n];
        x[j] = T::one();
        rotation.apply(&mut x).unwrap();
        let mut z: Vec<f64> = x.iter().map(|x| x.to_wide()).collect();
        back.inverse(&mut z).unwrap();
        z[j] -= 1.0;
        worst = f64::max(worst, z.iter().map(|z| z.abs()).sum::<f64>() / (n as f64 * T::EPS.to_wide()));
    }
    worst
}

#[test]
fn every_size_is_orthogonal_to_rounding() {
    // All columns up to 130, then the first, one in the middle and the last of every size.
    for n in 1..=4200 {
        let step = if n <= 130 { 1 } else { (n - 1) / 2 };
        let bound = [(16, 2.0), (64, 0.5), (usize::MAX, 0.2)].into_iter().find(|(end, _)| n < *end).unwrap().1;
        let worst = ratio::<f32>(n, (0..n).step_by(step));
        assert!(worst <= bound, "n = {n}: ratio {worst}");
        if n > 600 && n % 97 != 0 {
            continue; // the same code
        }
        // The rounding of the way back is twice that of one way at most.
        let worst = ratio::<f64>(n, (0..n).step_by(step));
        assert!(worst <= 2.0 * bound, "n = {n}: ratio {worst} there and back");
    }
}

#[test]
fn a_rotation_is_not_padded_and_leaves_norms() {
    for n in [1, 5, 100, 1000, 9001] {
        let rotation = RandomRotation::<f64>::new(n, 3).unwrap();
        let (x, mut y) = (numbers::<f64>(n), numbers::<f64>(n));
        rotation.apply(&mut y).unwrap();
        let energy = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>();
        assert!((energy(&y) / energy(&x) - 1.0).abs() < (8.0 + (n as f64).sqrt()) * f64::EPSILON, "n = {n}");
        assert!(n < 3 || x != y);
    }
}

/// Every vector of any batch comes out as it does alone, to the last bit.
fn check_layout<E: Element<Scalar: Real> + PartialEq>(batch: usize, n: usize, (b, e): (usize, usize), gaps: E) {
    let rotation = RandomRotation::<E::Scalar>::new(n, 5).unwrap();
    let len = if batch == 0 { 0 } else { (batch - 1) * b + (n - 1) * e + 1 };
    let mut data = vec![gaps; len + 3];
    let x: Vec<E> = numbers::<E::Scalar>(batch * n).iter().map(|x| E::store(*x)).collect();
    for direction in [Direction::Forward, Direction::Inverse] {
        for parallelism in [Parallelism::None, Parallelism::Rayon] {
            for v in 0..batch {
                (0..n).for_each(|i| data[v * b + i * e] = x[v * n + i]);
            }
            let view = BatchMut::strided(&mut data, batch, n, b, e).unwrap();
            rotation.apply_batch(view, direction, parallelism, &mut Workspace::new()).unwrap();
            let mut named = vec![false; data.len()];
            for v in 0..batch {
                let mut alone: Vec<E::Scalar> = x[v * n..][..n].iter().map(|x| x.load()).collect();
                match direction {
                    Direction::Forward => rotation.apply(&mut alone).unwrap(),
                    Direction::Inverse => rotation.inverse(&mut alone).unwrap(),
                }
                for i in 0..n {
                    assert!(data[v * b + i * e] == E::store(alone[i]), "n = {n}, vector {v}, coordinate {i}");
                    named[v * b + i * e] = true;
                }
            }
            assert!(data.iter().zip(named).all(|(x, named)| named || *x == gaps), "n = {n}: wrote between");
        }
    }
}

#[test]
fn any_layout_gives_the_bits_of_one_vector_alone() {
    for n in [1, 7, 33, 128, 300] {
        for batch in [0, 1, 2, 17, 300] {
            check_layout::<f32>(batch, n, (n, 1), -7.0);
            check_layout::<f32>(batch, n, (n + 3, 1), -7.0);
            check_layout::<f64>(batch, n, (1, batch.max(1)), -7.0); // columns
            check_layout::<f64>(batch, n, (2 * n + 5, 2), -7.0);
        }
    }
}

/// Half precision: computed with in `f32` and rounded once.
#[cfg(feature = "half")]
#[test]
fn half_precision_is_rounded_once() {
    for n in [1, 7, 33, 300] {
        for batch in [0, 1, 17] {
            check_layout::<half::f16>(batch, n, (n + 3, 1), half::f16::from_f32(-7.0));
            check_layout::<half::bf16>(batch, n, (1, batch.max(1)), half::bf16::from_f32(-7.0));
        }
    }
}

#[test]
fn nan_and_infinity_spread_without_panic() {
    for n in [1, 2, 9, 50, 128, 1000] {
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let rotation = RandomRotation::<f32>::new(n, 2).unwrap();
            let mut x = vec![1.0; n];
            x[n / 2] = odd;
            rotation.apply(&mut x).unwrap();
            assert!(x.iter().any(|x| !x.is_finite()), "n = {n}");
            // Three rounds carry it to every coordinate.
            assert!(n < 8 || x.iter().all(|x| !x.is_finite()), "n = {n}");
            rotation.inverse(&mut x).unwrap();
            assert!(x.iter().any(|x| !x.is_finite()));
        }
    }
}

#[test]
fn bad_input_is_refused_before_anything_is_written() {
    for n in [0, (1 << 26) + 1, usize::MAX] {
        assert!(matches!(RandomRotation::<f32>::new(n, 1), Err(Error::Size { .. })), "n = {n}");
    }
    for rounds in [0, 17, 256] {
        assert!(matches!(RandomRotation::<f32>::with_rounds(8, 1, rounds), Err(Error::Size { .. })));
    }
    let rotation = RandomRotation::<f32>::new(8, 1).unwrap();
    let mut x = vec![1.0; 12];
    assert!(matches!(rotation.apply(&mut x), Err(Error::Size { .. })));
    assert!(matches!(rotation.inverse(&mut x), Err(Error::Size { .. })));
    let view = BatchMut::rows(&mut x, 6).unwrap();
    let refused = rotation.apply_batch(view, Direction::Forward, Parallelism::None, &mut Workspace::new());
    assert!(matches!(refused, Err(Error::Length { expected: 8, got: 6, .. })));
    assert_eq!(x, [1.0; 12]);
    assert!(rotation.apply(&mut []).is_ok());
}

#[test]
fn stored_bytes_are_frozen_and_checked() {
    let rotation = RandomRotation::<f32>::with_rounds(1000, 0x0123_4567_89ab_cdef, 4).unwrap();
    let bytes = rotation.to_bytes();
    assert_eq!(bytes, *b"papro\x01\x01\x04\xe8\x03\0\0\0\0\0\0\xef\xcd\xab\x89\x67\x45\x23\x01");
    let again = RandomRotation::<f32>::from_bytes(&bytes, 1000).unwrap();
    assert_eq!((again.n(), again.seed(), again.rounds()), (1000, rotation.seed(), 4));
    let (mut x, mut y) = (numbers::<f32>(1000), numbers::<f32>(1000));
    rotation.apply(&mut x).unwrap();
    again.apply(&mut y).unwrap();
    assert_eq!(x, y);
    assert!(matches!(RandomRotation::<f32>::from_bytes(&bytes, 999), Err(Error::Size { .. })));
    assert!(matches!(RandomRotation::<f32>::from_bytes(&bytes[..23], 1000), Err(Error::Length { .. })));
    for at in 0..24 {
        for flip in [1, 0x80] {
            let mut bytes = bytes;
            bytes[at] ^= flip;
            let read = RandomRotation::<f32>::from_bytes(&bytes, 1000);
            // The seed may be any, and rounds few: 4 ^ 1 are, 4 ^ 128 are not.
            assert_eq!(read.is_ok(), (at == 7 && flip == 1) || at >= 16, "byte {at}");
        }
    }
    // A file that names an enormous n costs nothing.
    let mut bytes = bytes;
    bytes[8..16].fill(0xff);
    assert!(RandomRotation::<f32>::from_bytes(&bytes, 1000).is_err());
}

/// `papilio rotate --quality` does more seeds and vectors.
#[test]
fn results_look_as_through_a_dense_haar_matrix() {
    for n in [128, 384, 768, 960, 1000, 1024, 1536, 3072] {
        let vectors = if n > 1000 { 8 } else { 20 };
        let (reference, report) = quality_report(n, DEFAULT_ROUNDS, 64, vectors).unwrap();
        for quality in report {
            assert!(quality.is_like_haar(&reference), "n = {n}: {quality:?}, {reference:?}");
            assert!(quality.correlation.abs() < 0.03, "n = {n}: {quality:?}");
        }
    }
}

#[test]
fn a_weaker_construction_is_found_out() {
    let (reference, report) = quality_report(1000, 2, 64, 20).unwrap();
    assert!(report.iter().any(|quality| !quality.is_like_haar(&reference)), "{report:?}");
    // One round, and FHT–Kac where it is known to mix badly.
    let (reference, report) = quality_report(1000, 1, 64, 20).unwrap();
    assert!(report.iter().all(|quality| !quality.is_like_haar(&reference)));
    let kac = quality(1000, Input::OneHot, 64, 20, |seed, x| {
        let mut y = x.to_vec();
        KacWalk::new(1000, seed as u64)?.apply(&mut y)?;
        Ok(y)
    });
    assert!(!kac.unwrap().is_like_haar(&reference));
}

/// By definition: H[i][j] = (−1)^{popcount(i & j)}/√padded after signs, three times; read off from unit vectors. And against Haar.
#[test]
fn the_hadamard_cube_is_three_transforms() {
    for n in [1, 2, 5, 16, 100] {
        let cube = HadamardCube::<f64>::new(n, 3).unwrap();
        let padded = n.next_power_of_two();
        assert_eq!(cube.padded(), padded);
        // Columns of Q, which are orthonormal; and linear in x.
        let columns: Vec<Vec<f64>> = (0..n)
            .map(|j| {
                let (mut x, mut y) = (vec![0.0; n], vec![7.0; padded]);
                x[j] = 1.0;
                cube.apply(&x, &mut y).unwrap();
                y
            })
            .collect();
        for (i, a) in columns.iter().enumerate() {
            for (j, b) in columns.iter().enumerate() {
                let dot: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
                assert!((dot - f64::from(i == j)).abs() < 8.0 * f64::EPSILON, "n = {n}: {i}, {j}: {dot}");
            }
        }
        // Signs are those of the generator, a draw for each coordinate and round.
        let mut g = Generator::new(3);
        let signs: Vec<f64> = (0..3 * padded).map(|_| g.sign()).collect();
        let x = numbers::<f64>(n);
        let (mut expected, mut y) = (x.clone(), vec![0.0; padded]);
        expected.resize(padded, 0.0);
        for signs in signs.chunks_exact(padded) {
            let sign = |i: usize, j: usize| if (i & j).count_ones().is_multiple_of(2) { signs[j] } else { -signs[j] };
            expected = (0..padded).map(|i| (0..padded).map(|j| sign(i, j) * expected[j]).sum()).collect();
            expected.iter_mut().for_each(|e| *e /= (padded as f64).sqrt());
        }
        cube.apply(&x, &mut y).unwrap();
        assert!(y.iter().zip(&expected).all(|(y, e)| (y - e).abs() < 8.0 * f64::EPSILON), "n = {n}");
        assert!(cube.apply(&x[1..], &mut y).is_err() && cube.apply(&x, &mut y[1..]).is_err());
    }
    assert!(HadamardCube::<f32>::new(0, 1).is_err() && HadamardCube::<f32>::new((1 << 26) + 1, 1).is_err());
    let reference = Reference::new(1024, 4000).unwrap();
    let found = quality(1000, Input::OneHot, 64, 20, |seed, x| {
        let mut y = vec![0.0; 1024];
        HadamardCube::new(1000, seed as u64)?.apply(x, &mut y)?;
        Ok(y)
    });
    assert!(found.unwrap().is_like_haar(&reference));
}

/// Four rounds of signs, a transform of the first or the last 2ᵏ coordinates, and sums and differences of the halves, written out.
#[test]
fn the_kac_walk_is_its_definition() {
    for n in [1, 2, 3, 8, 11, 100] {
        let walk = KacWalk::<f64>::new(n, 5).unwrap();
        let mut g = Generator::new(5);
        let (x, mut y, size) = (numbers::<f64>(n), numbers::<f64>(n), 1 << n.ilog2());
        let mut expected = x.clone();
        for round in 0..4 {
            expected.iter_mut().for_each(|x| *x *= g.sign());
            let first = if round % 2 == 0 { 0 } else { n - size };
            let part = expected[first..first + size].to_vec();
            let sign = |i: usize, j: usize| if (i & j).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
            for i in 0..size {
                let sum = (0..size).map(|j| sign(i, j) * part[j]).sum::<f64>();
                expected[first + i] = sum / (size as f64).sqrt();
            }
            for i in 0..if size < n { n / 2 } else { 0 } {
                let (a, b, half) = (expected[i], expected[n - n / 2 + i], 0.5f64.sqrt());
                (expected[i], expected[n - n / 2 + i]) = ((a + b) * half, (a - b) * half);
            }
        }
        walk.apply(&mut y).unwrap();
        assert!(y.iter().zip(&expected).all(|(y, e)| (y - e).abs() < 8.0 * f64::EPSILON), "n = {n}");
        assert!(walk.apply(&mut y[1..]).is_err());
    }
    assert!(KacWalk::<f32>::new(0, 1).is_err());
}

/// Coordinates of the rotation that the map's seed draws, in order, and not always the same ones.
#[test]
fn projections_choose_coordinates_at_random() {
    let (n, k) = (200, 20);
    let x = numbers::<f64>(n);
    let mut chosen = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let map = GaussianMap::<f64>::new(n, k, seed).unwrap();
        let (mut y, mut z) = (vec![0.0; k], x.clone());
        map.apply(&x, &mut y, &mut map.scratch()).unwrap();
        RandomRotation::new(n, Generator::new(seed).next_u64()).unwrap().apply(&mut z).unwrap();
        let scale = (n as f64 / k as f64).sqrt();
        let places: Vec<usize> = y.iter().map(|y| z.iter().position(|z| *y == z * scale).unwrap()).collect();
        assert!(places.is_sorted_by(|a, b| a < b), "{places:?}");
        chosen.extend(places);
    }
    assert!(chosen.len() > 180, "{} of {n} are ever chosen", chosen.len());
}

/// Against numbers of uniform directions and of signs, known in closed form.
#[test]
fn the_measure_is_right() {
    let mut normal = box_muller();
    let reference = Reference::new(300, 4000).unwrap();
    let gaussian = |_: usize, x: &[f32]| Ok(x.iter().map(|_| normal()).collect());
    let quality_of = quality(300, Input::OneHot, 64, 20, gaussian).unwrap();
    assert!(quality_of.is_like_haar(&reference), "{quality_of:?}");
    assert!((reference.cosine - (2.0 / std::f64::consts::PI).sqrt()).abs() < 1.0 / 300.0);
    assert!((Reference::new(1, 20).unwrap().cosine - 1.0).abs() < 1e-15);
    assert!((Reference::new(2, 20).unwrap().cosine - 8f64.sqrt() / std::f64::consts::PI).abs() < 1e-15);
    let flat = quality(64, Input::OneHot, 2, 64, |_, x| Ok(vec![1.0; x.len()])).unwrap();
    assert!((flat.kurtosis, flat.cosine, flat.quantile) == (1.0, 1.0, 1.0) && flat.kurtosis_error == 0.0);
    // Every fourth coordinate: four times what it should be at distances 4, 8, …, nothing at 1 and 2.
    let comb = quality(64, Input::OneHot, 2, 64, |_, x| Ok((0..x.len()).map(|i| f32::from(i % 4 == 0)).collect()));
    assert!((comb.unwrap().correlation - (4.0 * 66.0 / 64.0 - 1.0)).abs() < 1e-12);
    let unmixed = quality(64, Input::OneHot, 2, 64, |_, x| Ok(x.to_vec())).unwrap();
    assert!((unmixed.kurtosis, unmixed.cosine) == (64.0, 0.125));
    assert!(quality(64, Input::OneHot, 1, 1, |_, x| Ok(x.to_vec())).is_err());
}

/// Normal numbers by Box and Muller, unlike the library's own.
fn box_muller() -> impl FnMut() -> f32 {
    let mut g = Generator::new(11);
    move || ((-2.0 * (1.0 - g.uniform()).ln()).sqrt() * (std::f64::consts::TAU * g.uniform()).cos()) as f32
}

#[test]
fn projections_keep_norms_as_gaussian_matrices_do() {
    for (n, k) in [(1000, 100), (768, 64), (100, 250)] {
        let (mut mean, mut square, draws) = (0.0, 0.0, 400);
        for seed in 0..draws {
            let map = GaussianMap::<f32>::new(n, k, seed).unwrap();
            let (mut x, mut y) = (vec![0.0; n], vec![0.0; k]);
            x[seed as usize % n] = 1.0; // the hardest
            map.apply(&x, &mut y, &mut map.scratch()).unwrap();
            let norm = y.iter().map(|y| f64::from(*y) * f64::from(*y)).sum::<f64>();
            (mean, square) = (mean + norm / draws as f64, square + norm * norm / draws as f64);
        }
        let (variance, gaussian) = (square - mean * mean, 2.0 / k as f64);
        assert!((mean - 1.0).abs() < 4.0 * (gaussian / draws as f64).sqrt(), "n = {n}: mean {mean}");
        assert!(variance < 1.3 * gaussian, "n = {n}: variance {variance} where a Gaussian matrix has {gaussian}");
    }
    // One input at a time, where blocks overlap and coordinates are not alike: still without bias.
    for (n, k, at) in [(160, 10, 0), (160, 10, 100), (129, 16, 128), (11, 3, 4)] {
        let draws = 2000;
        let norms = (0..draws).map(|seed| {
            let map = GaussianMap::<f32>::new(n, k, seed).unwrap();
            let (mut x, mut y) = (vec![0.0; n], vec![0.0; k]);
            x[at] = 1.0;
            map.apply(&x, &mut y, &mut map.scratch()).unwrap();
            y.iter().map(|y| f64::from(*y) * f64::from(*y)).sum::<f64>()
        });
        let mean = norms.sum::<f64>() / draws as f64;
        assert!((mean - 1.0).abs() < 4.0 * (2.0 / (k * draws as usize) as f64).sqrt(), "n = {n}, e_{at}: {mean}");
    }
    // The promise for all pairs of some points.
    let (n, points, epsilon) = (1000, 30, 0.5);
    let k = GaussianMap::<f64>::dimensions(points, epsilon).unwrap();
    let map = GaussianMap::<f64>::new(n, k, 4).unwrap();
    let all = numbers::<f64>(n * points);
    let image = |x: &[f64]| {
        let mut y = vec![0.0; k];
        map.apply(x, &mut y, &mut map.scratch()).unwrap();
        y
    };
    for i in 0..points {
        for j in 0..i {
            let difference: Vec<f64> = (0..n).map(|c| all[i * n + c] - all[j * n + c]).collect();
            let energy = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>();
            let kept = energy(&image(&difference)) / energy(&difference);
            assert!((kept - 1.0).abs() <= epsilon, "{i}, {j}: {kept}");
        }
    }
    assert!(GaussianMap::<f32>::new(0, 1, 1).is_err() && GaussianMap::<f32>::new(1, 300, 1).is_err());
    assert!(GaussianMap::<f32>::dimensions(10, 1.0).is_err() && GaussianMap::<f32>::dimensions(10, f64::NAN).is_err());
}
