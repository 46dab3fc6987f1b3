//! Against the definitions, pair by pair.

use super::*;
use crate::verify::sample::reals;

fn options(most: usize) -> NeuronOptions {
    NeuronOptions { most, ..NeuronOptions::default() }
}

/// By the definitions, pair by pair.
fn naive(n: usize, weight: &[f64]) -> (Vec<f64>, f64) {
    let rows: Vec<Vec<f64>> = weight
        .chunks_exact(n)
        .map(|row| {
            let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            row.iter().map(|x| x / norm).collect()
        })
        .collect();
    let (mut cosines, mut energy) = (vec![], 0.0);
    for (i, a) in rows.iter().enumerate() {
        for (j, b) in rows.iter().enumerate().filter(|(j, _)| *j != i) {
            energy += 1.0 / a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f64>().sqrt();
            if i < j {
                cosines.push(a.iter().zip(b).map(|(x, y)| x * y).sum());
            }
        }
    }
    (cosines, energy)
}

#[test]
fn agrees_with_the_definitions() {
    let mut g = Generator::new(1);
    for (rows, n) in [(0, 3), (1, 4), (2, 1), (3, 5), (16, 7), (17, 40), (65, 9), (130, 33)] {
        let (before, after) = (reals(&mut g, rows * n, 2.0), reals(&mut g, rows * n, 0.3));
        let found = neurons(n, &before, &after, options(1000)).unwrap();
        let ((old, old_energy), (new, new_energy)) = (naive(n, &before), naive(n, &after));
        let worst = old.iter().zip(&new).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let square: f64 = old.iter().zip(&new).map(|(a, b)| (a - b) * (a - b)).sum();
        assert_eq!((found.compared, found.pairs, found.sampled), (rows, old.len(), false));
        if n > 1 {
            assert!((found.cosine_max - worst).abs() < 1e-14, "{rows}×{n}");
            let count = (rows * rows.saturating_sub(1)) as f64;
            assert!((found.energy_before * count - old_energy).abs() <= 1e-12 * old_energy, "{rows}×{n}");
            assert!((found.energy_after * count - new_energy).abs() <= 1e-12 * new_energy, "{rows}×{n}");
            assert!((found.cosine_rms - (square / old.len().max(1) as f64).sqrt()).abs() < 1e-14);
        }
        let none = neurons(n, &before, &before, options(1000)).unwrap();
        assert_eq!((none.ratio, none.cosine_max, none.norm_max), (0.0, 0.0, 0.0));
        let threads = NeuronOptions { parallelism: Parallelism::None, ..options(1000) };
        assert_eq!(neurons(n, &before, &after, threads).unwrap(), found);
    }
}

#[test]
fn near_directions_keep_their_digits() {
    // Two rows 1e-9 apart: d from the cosine would be 0.
    let found = neurons(2, &[1.0, 0.0, 1.0, 1e-9], &[0.0, 1.0, -2e-9, 1.0], options(9)).unwrap();
    assert!((found.energy_before * 1e-9 - 1.0).abs() < 1e-6 && (found.energy_after * 2e-9 - 1.0).abs() < 1e-6);
    assert!(found.ratio > 1e3 && found.cosine_max < 1e-15, "{found:?}");
}

/// A permutation of the coordinates rounds nothing: what is left is the error of the measurement.
#[test]
fn long_rows_are_measured_to_eps() {
    let (rows, n) = (5, 1 << 16);
    let mut g = Generator::new(3);
    let before = reals(&mut g, rows * n, 1.0);
    let after: Vec<f64> = before.chunks_exact(n).flat_map(|row| row.iter().rev().copied()).collect();
    let found = neurons(n, &before, &after, options(9)).unwrap();
    assert!(found.ratio <= 4.0, "{found:?}");
}

#[test]
fn zeros_and_parallel_rows_are_counted_and_extremes_do_not_overflow() {
    let before = [1.0, 2.0, 0.0, 0.0, 2.0, 4.0, 1e200, -1e200, 3e-310, 0.0];
    let found = neurons(2, &before, &before, options(9)).unwrap();
    assert_eq!((found.compared, found.zero, found.pairs, found.parallel, found.ratio), (4, 1, 6, 1, 0.0));
    assert!(found.energy_before.is_finite());
    // A neuron that vanished, and one that appeared.
    let after = [0.0, 0.0, 0.0, 1.0, 2.0, 4.0, 1e200, -1e200, 3e-310, 0.0];
    let found = neurons(2, &before, &after, options(9)).unwrap();
    assert_eq!((found.compared, found.norm_max, found.ratio), (3, f64::INFINITY, f64::INFINITY));
}

#[test]
fn samples_are_seeded_and_see_what_is_wrong_everywhere() {
    let (n, rows) = (6, 300);
    let mut g = Generator::new(2);
    let (before, after) = (reals(&mut g, rows * n, 1.0), reals(&mut g, rows * n, 1.0));
    let of = |seed| neurons(n, &before, &after, NeuronOptions { seed, ..options(50) }).unwrap();
    let found = of(1);
    assert_eq!((found.compared, found.pairs, found.sampled), (50, 50 * 49 / 2, true));
    assert!(found == of(1) && found != of(2) && found.ratio > 1e10);
    let all = neurons(n, &before, &after, options(rows)).unwrap();
    assert!((found.energy_before / all.energy_before - 1.0).abs() < 0.1);
}

#[test]
fn bad_input_is_an_error() {
    let finite = [1.0; 6];
    assert!(matches!(neurons(4, &finite, &finite, options(9)), Err(Error::Length { .. })));
    for eps in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let options = NeuronOptions { eps, ..NeuronOptions::default() };
        assert!(matches!(neurons(3, &finite, &finite, options), Err(Error::Domain { .. })), "{eps}");
    }
    assert!(matches!(neurons(3, &finite, &finite[..3], options(9)), Err(Error::Length { .. })));
    assert!(matches!(neurons(0, &finite, &finite, options(9)), Err(Error::Length { .. })));
    for bad in [f64::NAN, f64::INFINITY] {
        let error = neurons(3, &finite, &[1.0, 1.0, 1.0, 1.0, bad, 1.0], options(9));
        assert!(matches!(error, Err(Error::Domain { .. })), "{error:?}");
    }
}
