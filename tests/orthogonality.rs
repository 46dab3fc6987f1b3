//! LAPACK ratios ‖I − QᵀQ‖₁ / (n·eps) of realised plans: at most 2 for n ≤ 8 and at most 1 above.

use papilio::generator::Generator;
use papilio::parametrization::{Cayley, Givens};
use papilio::topology::{BlockDiagonal, Butterfly};
use papilio::verify::orthogonality_ratio;
use papilio::{Orthogonal, Parametrization, Plan, Real, Topology};

fn ratio<T: Real>(
    n: usize,
    topology: &dyn Topology,
    chart: impl Parametrization<f64> + 'static,
    size: f64,
    seed: u64,
) -> f64 {
    let plan = Plan::<T>::new(n, topology, chart).unwrap();
    let mut g = Generator::new(seed);
    // Log-uniform sizes up to `size`, so that blocks mix scales.
    let theta: Vec<f64> = (0..plan.num_params()).map(|_| g.sign() * size.powf(g.uniform())).collect();
    let q = Orthogonal::new(plan, theta).unwrap();
    let ratio = orthogonality_ratio(n, n, &q.to_dense().unwrap()).unwrap();
    let bound = if n <= 8 { 2.0 } else { 1.0 };
    assert!(ratio <= bound, "{} n = {n} {topology:?} size {size}: ratio {ratio}", T::NAME);
    ratio
}

fn family<T: Real>(sizes: &[(usize, usize, usize)]) {
    let mut worst = (0f64, 0f64);
    for &(n, b, m) in sizes {
        for (seed, size) in [0.1, 1.0, 10.0, 1e3].into_iter().enumerate() {
            let seed = seed as u64;
            let topology: Box<dyn Topology> =
                if m == 1 { Box::new(BlockDiagonal::new(b)) } else { Box::new(Butterfly::boft(m, b).unwrap()) };
            let mut ratios = vec![ratio::<T>(n, topology.as_ref(), Cayley, size, seed)];
            if b == 2 {
                ratios.push(ratio::<T>(n, topology.as_ref(), Givens, size, seed));
            }
            let worst = if n <= 8 { &mut worst.0 } else { &mut worst.1 };
            *worst = ratios.into_iter().fold(*worst, f64::max);
        }
    }
    println!("{}: largest ratio {:.3} for n <= 8, {:.3} above", T::NAME, worst.0, worst.1);
}

/// (n, b, m), n ≤ 512.
const SIZES: [(usize, usize, usize); 24] = [
    (1, 1, 1),
    (2, 2, 1),
    (3, 3, 1),
    (4, 2, 2),
    (4, 4, 1),
    (5, 5, 1),
    (6, 2, 1),
    (7, 7, 1),
    (8, 2, 3),
    (8, 4, 2),
    (8, 8, 1),
    (9, 3, 1),
    (12, 4, 1),
    (13, 13, 1),
    (16, 2, 4),
    (24, 6, 3),
    (33, 33, 1),
    (64, 2, 6),
    (64, 8, 4),
    (64, 64, 1),
    (96, 4, 4),
    (256, 32, 4),
    (512, 2, 9),
    (512, 16, 6),
];

#[test]
fn ratios_in_double_precision() {
    family::<f64>(&SIZES);
}

#[test]
fn ratios_in_single_precision() {
    family::<f32>(&SIZES);
}

#[test]
fn ratios_at_4096() {
    let butterfly = Butterfly::classic(2);
    println!("f32 {:.3}", ratio::<f32>(4096, &butterfly, Givens, 1e3, 1));
    println!("f64 {:.3}", ratio::<f64>(4096, &Butterfly::boft(4, 8).unwrap(), Cayley, 1e3, 1));
}
