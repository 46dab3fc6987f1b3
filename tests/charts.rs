//! Every chart × block sizes × both fields: laws, gradients, orthogonality, pushforwards.

use std::sync::Arc;

use papilio::generator::Generator;
use papilio::parametrization::{Cayley, CayleyNeumann, Charts, Givens, NewtonSchulz, Signed, UnitaryPhases};
use papilio::topology::{BlockDiagonal, Butterfly};
use papilio::verify::{laws, plan_gradient, plan_tangent};
use papilio::{Op, Parametrization, Plan, Result, Wide, c64, dense};

const SIZES: [usize; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 32];

type Chart<W> = Arc<dyn Parametrization<W>>;

/// Every chart that is registered, and some more settings.
fn all<W: Wide>() -> Vec<Chart<W>>
where
    Cayley: Parametrization<W>,
{
    let mut charts: Vec<Chart<W>> = Charts::new().iter().cloned().collect();
    charts.extend([
        Arc::new(CayleyNeumann { order: 1 }) as Chart<W>,
        Arc::new(CayleyNeumann { order: 2 }),
        Arc::new(NewtonSchulz { steps: 1 }),
        Arc::new(Signed::with_columns(Cayley, [1, 0])),
        Arc::new(Signed::new(Givens)),
        Arc::new(Signed::new(NewtonSchulz { steps: 3 })),
    ]);
    charts
}

fn complex() -> Vec<Chart<c64>> {
    let mut charts = all::<c64>();
    charts.push(Arc::new(Signed::new(UnitaryPhases)));
    charts
}

fn normal(len: usize, seed: u64, scale: f64) -> Vec<f64> {
    let mut g = Generator::new(seed);
    // Box–Muller.
    let mut one = || (-2.0 * (1.0 - g.uniform()).ln()).sqrt() * (std::f64::consts::TAU * g.uniform()).cos();
    (0..len).map(|_| scale * one()).collect()
}

fn numbers<W: Wide>(len: usize, seed: u64) -> Vec<W> {
    normal(len, seed, 1.0).into_iter().zip(normal(len, seed + 1, 1.0)).map(|(re, im)| W::from_parts(re, im)).collect()
}

fn forward<W: Wide>(chart: &dyn Parametrization<W>, b: usize, theta: &[f64]) -> Vec<W> {
    let mut block = vec![W::from_real(f64::NAN); b * b];
    chart.forward(b, theta, &mut block);
    block
}

fn keep_the_laws<W: Wide>(charts: Vec<Chart<W>>) {
    for chart in charts {
        for b in SIZES {
            laws::chart(&*chart, b, b as u64).unwrap_or_else(|e| panic!("{}: {e}", chart.id()));
        }
    }
}

#[test]
fn charts_keep_the_laws() {
    keep_the_laws(all::<f64>());
}

#[test]
fn complex_charts_keep_the_laws() {
    keep_the_laws(complex());
}

#[test]
fn settings_have_names_of_their_own() {
    for ids in [all::<f64>().iter().map(|c| c.id()).collect::<Vec<_>>(), complex().iter().map(|c| c.id()).collect()] {
        for (i, id) in ids.iter().enumerate() {
            assert!(!ids[..i].contains(id), "{id} twice");
        }
    }
    assert_eq!(Parametrization::<f64>::id(&Signed::new(CayleyNeumann { order: 5 })), "signed Cayley-Neumann order 5");
    assert_eq!(Parametrization::<f64>::id(&Signed::with_columns(Cayley, [2, 0])), "signed [0, 2] Cayley");
}

/// Re tr(Gᴴ B).
fn pairing<W: Wide>(g: &[W], b: &[W]) -> f64 {
    g.iter().zip(b).map(|(g, b)| (g.conj() * *b).re()).sum()
}

/// Largest relative error of vjp and jvp against fourth-order differences, with cotangents that have imaginary parts.
fn derivative_errors<W: Wide>(chart: &dyn Parametrization<W>, b: usize, seed: u64) -> (f64, f64) {
    let params = chart.num_params(b).unwrap();
    let (theta, direction) = (normal(params, seed, 0.5), normal(params, seed + 10, 1.0));
    let g: Vec<W> = numbers(b * b, seed + 20);
    let block = forward(chart, b, &theta);
    let (mut pulled, mut pushed) = (vec![0.0; params], vec![W::from_real(f64::NAN); b * b]);
    chart.vjp(b, &theta, &block, &g, &mut pulled);
    chart.jvp(b, &theta, &block, &direction, &mut pushed);
    let difference = |toward: &[f64]| -> Vec<W> {
        let h = 1.0 / 2048.0;
        let at = |t: f64| forward(chart, b, &theta.iter().zip(toward).map(|(x, d)| x + t * d).collect::<Vec<_>>());
        let (p, m, p2, m2) = (at(h), at(-h), at(2.0 * h), at(-2.0 * h));
        (0..b * b)
            .map(|i| {
                let (near, far) = (p[i] - m[i], p2[i] - m2[i]);
                (W::from_real(8.0) * near - far) * W::from_real(1.0 / (12.0 * h))
            })
            .collect()
    };
    let (mut worst, mut size) = (0f64, 0f64);
    for i in 0..params {
        let mut unit = vec![0.0; params];
        unit[i] = 1.0;
        let slope = pairing(&g, &difference(&unit));
        worst = worst.max((slope - pulled[i]).abs());
        size = size.max(slope.abs());
    }
    let largest = |x: &mut dyn Iterator<Item = f64>| x.fold(0.0, f64::max);
    let truth = difference(&direction);
    let miss = largest(&mut truth.iter().zip(&pushed).map(|(t, p)| (*t - *p).abs()));
    let scale = largest(&mut truth.iter().map(|t| t.abs()));
    (if size == 0.0 { worst } else { worst / size }, if scale == 0.0 { miss } else { miss / scale })
}

fn derivatives<W: Wide>(charts: Vec<Chart<W>>) {
    let (mut worst, mut wrong) = ((0f64, 0f64), Vec::new());
    for chart in charts {
        for b in SIZES.into_iter().filter(|b| *b <= 9 && chart.num_params(*b).is_ok()) {
            let (vjp, jvp) = derivative_errors(&*chart, b, 3 * b as u64);
            if !(vjp <= 1e-9 && jvp <= 1e-9) {
                wrong.push(format!("{} b = {b}: {vjp:.1e} {jvp:.1e}", chart.id()));
            }
            worst = (worst.0.max(vjp), worst.1.max(jvp));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("largest relative errors of vjp {:e}, of jvp {:e}", worst.0, worst.1);
}

#[test]
fn derivatives_of_charts_are_those_of_differences() {
    derivatives(all::<f64>());
    derivatives(complex());
}

/// Two topologies, all ops.
fn plans<W: Wide>(charts: Vec<Chart<W>>) {
    let mut worst = 0f64;
    for chart in charts {
        for b in SIZES.into_iter().filter(|b| *b <= 9 && chart.num_params(*b).is_ok()) {
            let mut plans = vec![Plan::<W>::new(2 * b, &BlockDiagonal::new(b), chart.clone()).unwrap()];
            if (2..=4).contains(&b) {
                plans.push(Plan::new(b * b, &Butterfly::classic(b), chart.clone()).unwrap());
            }
            if b % 2 == 0 && b <= 6 {
                plans.push(Plan::new(2 * b, &Butterfly::boft(2, b).unwrap(), chart.clone()).unwrap());
            }
            for plan in plans {
                let theta = normal(plan.num_params(), 7, 0.5);
                for op in Op::ALL {
                    let found = plan_gradient(&plan, &theta, op, 5).unwrap();
                    let error = found.theta.max(found.x);
                    assert!(error <= 1e-9, "{} b = {b} n = {} {op:?}: {found:?}", chart.id(), plan.n());
                    let gap = plan_tangent(&plan, &theta, op, 6).unwrap();
                    assert!(gap <= 32.0 * f64::EPSILON, "{} b = {b} n = {} {op:?}: {gap:e}", chart.id(), plan.n());
                    worst = worst.max(error);
                }
            }
        }
    }
    println!("largest relative error of a plan's gradient {worst:e}");
}

#[test]
fn gradients_of_plans() {
    plans(all::<f64>());
}

#[test]
fn gradients_of_complex_plans() {
    plans(complex());
}

/// Ratio ≤ 2 for b ≤ 8 and ≤ 1 beyond, at every scale.
fn ratios<W: Wide>(charts: Vec<Chart<W>>) {
    let mut worst = (0f64, 0f64);
    for chart in charts.iter().filter(|chart| chart.is_exact()) {
        for b in SIZES.into_iter().filter(|b| chart.num_params(*b).is_ok()) {
            for (k, scale) in
                [1e-300, 1e-8, 0.1, 1.0, 3.0, 30.0, 1e3, 1e8, 1e16, 1e17, 1e100, 1e300].into_iter().enumerate()
            {
                let params = chart.num_params(b).unwrap();
                for seed in 0..if b <= 9 { 20 } else { 3 } {
                    let theta = normal(params, 100 * seed + k as u64, scale);
                    let ratio = dense::orthogonality_ratio(b, &forward(&**chart, b, &theta)).unwrap();
                    let limit = if b <= 8 { 2.0 } else { 1.0 };
                    assert!(ratio <= limit, "{} b = {b} scale {scale:e}: {ratio}", chart.id());
                    if b <= 8 { worst.0 = worst.0.max(ratio) } else { worst.1 = worst.1.max(ratio) }
                }
            }
        }
    }
    println!("largest ratios {worst:?}");
}

#[test]
fn exact_charts_are_exact_at_every_scale() {
    ratios(all::<f64>());
    ratios(complex());
}

/// A chart without its own jvp and batches.
#[derive(Debug)]
struct Plain<C>(C);

impl<W: Wide, C: Parametrization<W>> Parametrization<W> for Plain<C> {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn num_params(&self, b: usize) -> Result<usize> {
        self.0.num_params(b)
    }
    fn forward(&self, b: usize, theta: &[f64], block: &mut [W]) {
        self.0.forward(b, theta, block);
    }
    fn vjp(&self, b: usize, theta: &[f64], block: &[W], d_block: &[W], d_theta: &mut [f64]) {
        self.0.vjp(b, theta, block, d_block, d_theta);
    }
    fn inverse(&self, b: usize, block: &[W], theta: &mut [f64]) -> Result<()> {
        self.0.inverse(b, block, theta)
    }
}

fn pushforwards_agree<W: Wide>(charts: Vec<Chart<W>>) {
    for chart in charts {
        for b in SIZES.into_iter().filter(|b| *b <= 9 && chart.num_params(*b).is_ok()) {
            let params = chart.num_params(b).unwrap();
            let (theta, direction) = (normal(params, 1, 0.7), normal(params, 2, 1.0));
            let block = forward(&*chart, b, &theta);
            let push = |chart: &dyn Parametrization<W>| {
                let mut d = vec![W::from_real(f64::NAN); b * b];
                chart.jvp(b, &theta, &block, &direction, &mut d);
                d
            };
            let (own, default) = (push(&*chart), push(&Plain(chart.clone())));
            let size = own.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
            for (x, y) in own.iter().zip(default) {
                assert!((*x - y).abs() <= 1e-13 * size, "{} b = {b}: {x:?} {y:?}", chart.id());
            }
        }
    }
}

#[test]
fn the_default_pushforward_is_the_charts_own() {
    pushforwards_agree(all::<f64>());
    pushforwards_agree(complex());
}

/// No direction is faster than a chart's constant says, and some are nearly as fast.
fn speeds<W: Wide>(charts: Vec<Chart<W>>) {
    for chart in charts {
        for b in [1, 2, 3, 5] {
            let (Ok(params), Some(bound)) = (chart.num_params(b), chart.lipschitz(b)) else { continue };
            let mut fastest = 0f64;
            for seed in 0..200 {
                let theta = normal(params, seed, [0.0, 1e-9, 0.5, 2.0][seed as usize % 4]);
                let direction = normal(params, seed + 1000, 1.0);
                let mut pushed = vec![W::zero(); b * b];
                chart.jvp(b, &theta, &forward(&*chart, b, &theta), &direction, &mut pushed);
                let length = direction.iter().map(|d| d * d).sum::<f64>().sqrt();
                let speed =
                    pushed.iter().map(|d| d.abs() * d.abs()).sum::<f64>().sqrt() / length.max(f64::MIN_POSITIVE);
                fastest = fastest.max(speed);
            }
            let near = if b == 1 { 0.0 } else { 0.9 * bound };
            assert!(near <= fastest && fastest <= bound * (1.0 + 1e-12), "{} b = {b}: {fastest} {bound}", chart.id());
        }
    }
}

#[test]
fn lipschitz_constants_hold_and_are_near() {
    speeds(all::<f64>());
    speeds(complex());
    // Both phases of the diagonal at once: one entry of the block moves, so ‖dB‖₂ = ‖dB‖_F, as real blocks never do.
    let plan = Plan::<c64>::new(2, &BlockDiagonal::new(2), UnitaryPhases).unwrap();
    let (mut pushed, block) = ([c64::default(); 4], [1.0, 0.0, 0.0, 1.0].map(c64::from));
    UnitaryPhases.jvp(2, &[0.0; 4], &block, &[0.0, 0.5f64.sqrt(), 0.5f64.sqrt(), 0.0], &mut pushed);
    let speed = plan.lipschitz().unwrap().spectral;
    assert!((pushed[0].norm() - speed).abs() <= 1e-15 && pushed[1..].iter().all(|d| d.norm() <= 1e-15), "{speed}");
}

/// Where Cayley is flat, Q + I has cancelled: pushforward and pullback still belong together, relatively.
fn belong_together_where_flat<W: Wide>()
where
    Cayley: Parametrization<W>,
{
    for b in [2, 4, 8] {
        let params = Parametrization::<W>::num_params(&Cayley, b).unwrap();
        for seed in 0..10 {
            let (theta, direction) = (normal(params, seed, 1e6), normal(params, seed + 1, 1.0));
            let (block, g) = (forward::<W>(&Cayley, b, &theta), numbers::<W>(b * b, seed + 2));
            let (mut pulled, mut pushed) = (vec![0.0; params], vec![W::zero(); b * b]);
            Cayley.vjp(b, &theta, &block, &g, &mut pulled);
            Cayley.jvp(b, &theta, &block, &direction, &mut pushed);
            let back: f64 = pulled.iter().zip(&direction).map(|(x, y)| x * y).sum();
            let norm = |x: &[W]| x.iter().map(|x| x.abs() * x.abs()).sum::<f64>().sqrt();
            let off = (pairing(&g, &pushed) - back).abs() / (norm(&g) * norm(&pushed));
            assert!(off <= 1e-13, "b = {b}, seed {seed}: {off:e}");
        }
    }
}

#[test]
fn pushforwards_keep_their_accuracy_where_the_chart_is_flat() {
    belong_together_where_flat::<f64>();
    belong_together_where_flat::<c64>();
}
