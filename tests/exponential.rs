//! The exponential chart through the public API: its laws, the formula of Daleckii and Krein from faer's eigenvectors, and
//! gradients of whole plans.

use papilio::dense::{exp_skew, log_rotation};
use papilio::generator::Generator;
use papilio::parametrization::Exponential;
use papilio::topology::Butterfly;
use papilio::verify::{chart_gradient, laws, plan_gradient};
use papilio::{Op, Parametrization, Plan, Scalar, Wide, c64};

const SIZES: [usize; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 32];

fn numbers(seed: u64, n: usize, scale: f64) -> Vec<f64> {
    let mut g = Generator::new(seed);
    (0..n).map(|_| scale * 2.0 * (2.0 * g.uniform() - 1.0)).collect()
}

#[test]
fn keeps_the_laws() {
    for b in SIZES {
        laws::chart::<f64>(&Exponential, b, b as u64).unwrap();
        laws::chart::<c64>(&Exponential, b, b as u64).unwrap();
    }
}

#[test]
fn large_blocks_keep_them_too() {
    for b in [33, 64] {
        let theta = numbers(1, Parametrization::<f64>::num_params(&Exponential, b).unwrap(), 0.5);
        laws::orthogonal::<f64>(&Exponential, b, &theta).unwrap();
        laws::inverse_is_a_section::<f64>(&Exponential, b, &theta).unwrap();
        laws::batch_equals_single::<f64>(&Exponential, b, &[&theta[..], &theta].concat(), 2, 3).unwrap();
    }
}

#[test]
fn gradients_agree_with_differences() {
    for b in [2, 3, 4, 5, 8, 13] {
        let params = |complex: bool| if complex { b * b } else { b * (b - 1) / 2 };
        for scale in [1e-6, 0.1, 1.0, 10.0] {
            let real = chart_gradient::<f64>(&Exponential, b, &numbers(2, params(false), scale), 3).unwrap();
            let complex = chart_gradient::<c64>(&Exponential, b, &numbers(4, params(true), scale), 5).unwrap();
            assert!(real <= 1e-9 && complex <= 1e-9, "b = {b}, scale {scale}: {real:e} {complex:e}");
        }
    }
}

fn whole_plans<W: Wide>(n: usize, topology: &Butterfly)
where
    Exponential: Parametrization<W>,
{
    let plan = Plan::<W>::new(n, topology, Exponential).unwrap();
    let theta = numbers(6, plan.num_params(), 0.5);
    for op in [Op::None, Op::Adjoint] {
        let error = plan_gradient(&plan, &theta, op, 7).unwrap();
        assert!(error.theta <= 1e-9 && error.x <= 1e-9, "{op:?}: {error:?}");
    }
}

#[test]
fn gradients_of_plans_agree_with_differences() {
    whole_plans::<f64>(16, &Butterfly::classic(4));
    whole_plans::<f64>(32, &Butterfly::boft(2, 8).unwrap());
    whole_plans::<c64>(8, &Butterfly::classic(2));
    whole_plans::<c64>(9, &Butterfly::classic(3));
}

/// A = V i diag(ω) Vᴴ with the given ω for even b, skew to the bit.
fn with_spectrum<W: Wide>(b: usize, omega: &[f64]) -> Vec<W> {
    let mut v = vec![W::zero(); b * b];
    let mut random = vec![W::zero(); b * b];
    for (i, j) in (0..b).flat_map(|i| (i..b).map(move |j| (i, j))) {
        let x = numbers((i * b + j) as u64, 2, 1.0);
        random[i * b + j] = if i == j { W::from_parts(0.0, x[0]) } else { W::from_parts(x[0], x[1]) };
    }
    exp_skew(b, &random, &mut v).unwrap();
    let mut a = vec![W::zero(); b * b];
    for (i, j) in (0..b).flat_map(|i| (i..b).map(move |j| (i, j))) {
        let sum = if W::IS_COMPLEX {
            (0..b).fold(W::zero(), |s, k| s + v[i * b + k] * W::from_parts(0.0, omega[k]) * Scalar::conj(v[j * b + k]))
        } else {
            (0..b / 2).fold(W::zero(), |s, k| {
                let (u, w) = (2 * k, 2 * k + 1);
                s + W::from_real(omega[u]) * (v[i * b + u] * v[j * b + w] + -(v[i * b + w] * v[j * b + u]))
            })
        };
        a[i * b + j] = if i == j { W::from_parts(0.0, sum.im()) } else { sum };
        a[j * b + i] = -Scalar::conj(a[i * b + j]);
    }
    a
}

/// L(A, E) = V(Φ∘(VᴴEV))Vᴴ, Φ_jk = e^{i(ω_j + ω_k)/2} sinc((ω_j − ω_k)/2), with faer's eigenvectors of −iA.
fn daleckii_krein<W: Wide>(b: usize, a: &[W], e: &[W]) -> Vec<c64> {
    let wide = |x: &W| c64::new(x.re(), x.im());
    let i = c64::new(0.0, 1.0);
    let h = faer::Mat::from_fn(b, b, |r, c| -i * wide(&a[r * b + c]));
    let eigen = h.self_adjoint_eigen(faer::Side::Lower).unwrap();
    let omega: Vec<f64> = (0..b).map(|k| eigen.S()[k].re).collect();
    let v = eigen.U();
    let e = faer::Mat::from_fn(b, b, |r, c| wide(&e[r * b + c]));
    let mut middle = v.adjoint() * &e * v;
    for (j, k) in (0..b).flat_map(|j| (0..b).map(move |k| (j, k))) {
        let half = 0.5 * (omega[j] - omega[k]);
        let sinc = if half == 0.0 { 1.0 } else { half.sin() / half };
        middle[(j, k)] *= (i * (0.5 * (omega[j] + omega[k]))).exp() * sinc;
    }
    let l = v * middle * v.adjoint();
    (0..b * b).map(|at| l[(at / b, at % b)]).collect()
}

/// θ of a skew-Hermitian matrix, as the chart stores it.
fn parameters<W: Wide>(b: usize, a: &[W]) -> Vec<f64> {
    let upper = || (0..b).flat_map(|i| (i + 1..b).map(move |j| i * b + j));
    if W::IS_COMPLEX {
        (0..b).map(|i| a[i * b + i].im()).chain(upper().flat_map(|at| [a[at].re(), a[at].im()])).collect()
    } else {
        upper().map(|at| a[at].re()).collect()
    }
}

/// Both directions against the formula, in units of eps·‖A‖.
fn against_the_formula<W: Wide>(b: usize, omega: &[f64])
where
    Exponential: Parametrization<W>,
{
    let (a, e) = (with_spectrum::<W>(b, omega), with_spectrum::<W>(b, &numbers(8, b, 1.0)));
    let (theta, direction) = (parameters(b, &a), parameters(b, &e));
    let mut block = vec![W::zero(); b * b];
    Exponential.forward(b, &theta, &mut block);
    let mut pushed = vec![W::from_real(f64::NAN); b * b];
    Exponential.jvp(b, &theta, &block, &direction, &mut pushed);
    let truth = daleckii_krein(b, &a, &e);
    let unit = 32.0 * f64::EPSILON * (1.0 + omega.iter().fold(0.0, |m: f64, x| m.max(x.abs())));
    for (x, t) in pushed.iter().zip(&truth) {
        assert!((c64::new(x.re(), x.im()) - t).norm() <= unit, "b = {b}, {omega:?}: {x:?} {t}");
    }
    // ⟨G, L(A, E)⟩ = ⟨pullback of G, dθ⟩.
    let g: Vec<W> = numbers(9, 2 * b * b, 1.0).chunks_exact(2).map(|z| W::from_parts(z[0], z[1])).collect();
    let mut pulled = vec![0.0; theta.len()];
    Exponential.vjp(b, &theta, &block, &g, &mut pulled);
    let forth: f64 = g.iter().zip(&truth).map(|(g, t)| g.re() * t.re + g.im() * t.im).sum();
    let back: f64 = pulled.iter().zip(&direction).map(|(x, y)| x * y).sum();
    assert!((forth - back).abs() <= unit * (b * b) as f64, "b = {b}, {omega:?}: {forth} {back}");
}

#[test]
fn derivatives_are_those_of_daleckii_and_krein() {
    for b in [4, 6, 8, 16] {
        let spectra: [&dyn Fn(usize) -> f64; 6] = [
            &|k| 1.0 + 0.7 * k as f64,
            &|_| 1.0,
            &|k| 1.0 + [0.0, 1e-9, 1e-13][k / 2 % 3],
            &|k| if k < 4 { 0.0 } else { 3.0 },
            &|k| 100.0 + k as f64,
            &|k| std::f64::consts::PI * (1 + k / 2) as f64,
        ];
        for spectrum in spectra {
            let omega: Vec<f64> = (0..b).map(spectrum).collect();
            against_the_formula::<f64>(b, &omega);
            against_the_formula::<c64>(b, &omega);
        }
    }
}

#[test]
fn geodesics_end_where_they_should() {
    // exp(t log B) runs from I to B, and half of it squared is B; a half turn included.
    for b in [2, 4, 5, 8] {
        let mut block = vec![0.0; b * b];
        let theta = numbers(10, b * (b - 1) / 2, 3.0);
        Exponential.forward(b, &theta, &mut block);
        (block[0], block[1], block[b], block[b + 1]) =
            if b == 2 { (-1.0, 0.0, 0.0, -1.0) } else { (block[0], block[1], block[b], block[b + 1]) };
        let mut a = vec![0.0; b * b];
        log_rotation(b, &block, &mut a).unwrap();
        let mut half = vec![0.0; b * b];
        exp_skew(b, &a.iter().map(|x| 0.5 * x).collect::<Vec<f64>>(), &mut half).unwrap();
        for (at, x) in block.iter().enumerate() {
            let square: f64 = (0..b).map(|k| half[at / b * b + k] * half[k * b + at % b]).sum();
            assert!((square - x).abs() <= 8.0 * f64::EPSILON * b as f64, "b = {b}: {square} {x}");
        }
    }
}
