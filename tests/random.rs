//! Random rotations: frozen bits, orthogonality, any layout, bad input.

use papilio::generator::Generator;
use papilio::random::{Direction, RandomRotation};
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

fn check_hashes<T: Real>(n: usize, expected: [u64; 2]) {
    for isa in Isa::available() {
        let rotation = RandomRotation::<T>::new(n, 42).unwrap().with_isa(isa).unwrap();
        let mut x = numbers::<T>(n);
        rotation.apply(&mut x).unwrap();
        let forward = hash(&x);
        rotation.inverse(&mut x).unwrap();
        assert_eq!([forward, hash(&x)], expected, "n = {n}, {}, {isa:?}", T::NAME);
    }
}

#[test]
fn bits_are_frozen_on_every_instruction_set() {
    for (n, [f32_forward, f32_back, f64_forward, f64_back]) in golden::HASHES {
        check_hashes::<f32>(n, [f32_forward, f32_back]);
        check_hashes::<f64>(n, [f64_forward, f64_back]);
    }
}

/// Subnormal numbers, zeros of both signs and numbers near the largest: products must not be fused with sums that round.
#[test]
fn extreme_numbers_have_the_same_bits_on_every_instruction_set() {
    for n in [3, 16, 40, 128, 300, 1000] {
        for size in [1e-45, 3e-44, 1e-38, 1e37] {
            let x: Vec<f32> = numbers::<f32>(n).iter().map(|x| (f64::from(*x) * size).clamp(-1e38, 1e38) as f32).collect();
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

/// ‖I − QᵀQ‖ estimated by what the inverse of a rotated vector and the norm of it miss, in units of eps·‖x‖.
fn defects<T: Real>(n: usize) -> (f64, f64) {
    let rotation = RandomRotation::<T>::new(n, n as u64).unwrap();
    let x = numbers::<T>(n);
    let mut y = x.clone();
    rotation.apply(&mut y).unwrap();
    let norm = |x: &[T]| x.iter().map(|x| x.to_wide() * x.to_wide()).sum::<f64>().sqrt();
    let stretched = (norm(&y) / norm(&x) - 1.0).abs();
    rotation.inverse(&mut y).unwrap();
    let missed: Vec<T> = x.iter().zip(&y).map(|(x, y)| *x - *y).collect();
    let eps = T::EPS.to_wide();
    (norm(&missed) / norm(&x) / eps, stretched / eps)
}

#[test]
fn every_size_is_undone_to_rounding() {
    let sizes = (1..260).chain((260..4200).step_by(61)).chain([511, 512, 513, 768, 1000, 4095, 4096, 4097, 4200, 9001]);
    for n in sizes {
        for (missed, stretched) in [defects::<f32>(n), defects::<f64>(n)] {
            assert!(missed < 4.0 && stretched < 2.0, "n = {n}: {missed} eps, {stretched} eps");
        }
    }
}
