//! Layers that are trained: OFT against PEFT, gradients against differences, constraints, dropout, threads, errors.
#![cfg(feature = "files")]

mod support;

use papilio::adapter::train::{Adam, Dense, Dropout, Gradients, Linear, Mask, Weight, block_rates, project};
use papilio::generator::Generator;
use papilio::parametrization::{Cayley, CayleyNeumann, Exponential, Givens, Signed};
use papilio::topology::{BlockDiagonal, Butterfly, GroupAndShuffle, Shared};
use papilio::{Error, Parallelism, Plan, Source, StageLayout, Workspace};
use support::{assert_close, golden, noise, tolerance};

/// A layer in double precision with numbers in all its places.
fn layer(plan: Plan<f64>, outputs: usize, seed: u64) -> Linear<f64> {
    let n = plan.n();
    let weight = Weight::new(noise(seed, outputs * n), outputs, n).unwrap();
    let mut layer = Linear::new(weight, plan).unwrap();
    layer.set_theta(&noise(seed + 1, layer.theta().len())).unwrap();
    layer.set_scale(&noise(seed + 2, outputs)).unwrap();
    layer.set_bias(&noise(seed + 3, outputs)).unwrap();
    layer
}

fn cayley(n: usize, m: usize, b: usize) -> Plan<f64> {
    Plan::new(n, &Butterfly::boft(m, b).unwrap(), Cayley).unwrap()
}

#[derive(Debug, Clone, PartialEq)]
struct All {
    y: Vec<f64>,
    theta: Vec<f64>,
    scale: Vec<f64>,
    bias: Vec<f64>,
    input: Vec<f64>,
}

fn run<T: Dense>(layer: &Linear<T>, x: &[f64], g: &[f64], parallelism: Parallelism) -> All {
    let cast = |x: &[f64]| x.iter().map(|&x| T::from_wide(x)).collect::<Vec<T>>();
    let wide = |x: &[T]| x.iter().map(|x| x.to_wide()).collect::<Vec<f64>>();
    let (x, g, ws) = (cast(x), cast(g), &mut Workspace::new());
    let (mut y, mut input) = (vec![T::nan(); g.len()], vec![T::nan(); x.len()]);
    layer.forward(&x, &mut y, parallelism, ws).unwrap();
    let [mut theta, mut scale, mut bias] = [layer.theta(), layer.scale(), layer.bias()].map(|p| vec![0.0; p.len()]);
    let wanted =
        Gradients { theta: Some(&mut theta), scale: Some(&mut scale), bias: Some(&mut bias), input: Some(&mut input) };
    layer.backward(&x, &g, wanted, parallelism, ws).unwrap();
    All { y: wide(&y), theta, scale, bias, input: wide(&input) }
}

/// The derivative of f at t by a fourth-order central difference.
fn slope(t: f64, mut f: impl FnMut(f64) -> f64) -> f64 {
    let h = 1.0 / 2048.0;
    (f(t - 2.0 * h) - 8.0 * f(t - h) + 8.0 * f(t + h) - f(t + 2.0 * h)) / (12.0 * h)
}

/// Every gradient of ⟨y, g⟩ against differences; the largest error over the largest component.
fn gradient_error(layer: &Linear<f64>, seed: u64, batch: usize) -> f64 {
    let (n, outputs) = (layer.weight().inputs(), layer.weight().outputs());
    let (x, g) = (noise(seed, batch * n), noise(seed + 1, batch * outputs));
    let all = run(layer, &x, &g, Parallelism::None);
    let value = |layer: &Linear<f64>, x: &[f64]| {
        let mut y = vec![0.0; g.len()];
        layer.forward(x, &mut y, Parallelism::None, &mut Workspace::new()).unwrap();
        y.iter().zip(&g).map(|(y, g)| y * g).sum::<f64>()
    };
    let moved = |at: usize, t: f64, numbers: &[f64]| {
        let mut numbers = numbers.to_vec();
        numbers[at] = t;
        numbers
    };
    let mut copy = layer.clone();
    let mut worst = 0.0f64;
    type Set = fn(&mut Linear<f64>, &[f64]) -> papilio::Result<()>;
    let parts: [(&[f64], &[f64], Set); 3] = [
        (layer.theta(), &all.theta, |layer, p| layer.set_theta(p)),
        (layer.scale(), &all.scale, |layer, p| layer.set_scale(p)),
        (layer.bias(), &all.bias, |layer, p| layer.set_bias(p)),
    ];
    for (numbers, gradient, set) in parts {
        let largest = gradient.iter().fold(1e-300, |m: f64, x| m.max(x.abs()));
        for at in 0..numbers.len() {
            let found = slope(numbers[at], |t| {
                set(&mut copy, &moved(at, t, numbers)).unwrap();
                value(&copy, &x)
            });
            worst = worst.max((found - gradient[at]).abs() / largest);
        }
        set(&mut copy, numbers).unwrap();
    }
    let largest = all.input.iter().fold(1e-300, |m: f64, x| m.max(x.abs()));
    for at in 0..x.len() {
        let found = slope(x[at], |t| value(&copy, &moved(at, t, &x)));
        worst = worst.max((found - all.input[at]).abs() / largest);
    }
    worst
}

#[test]
fn gradients_agree_with_differences() {
    let fixed = {
        let layout = StageLayout::contiguous(2, 3);
        let quarter = [0.0, -1.0, 1.0, 0.0].repeat(3);
        let stages = [
            (layout.clone(), Source::chart(Givens)),
            (layout.clone(), Source::Fixed(quarter.into())),
            (layout, Source::chart(Cayley)),
        ];
        Plan::from_stages(6, stages).unwrap()
    };
    let plans = [
        cayley(8, 3, 2),
        cayley(16, 2, 4),
        Plan::new(6, &Shared::by_stage(BlockDiagonal::new(3)), Cayley).unwrap(),
        Plan::new(12, &BlockDiagonal::new(4), CayleyNeumann { order: 4 }).unwrap(),
        Plan::new(8, &GroupAndShuffle::new(2), Exponential).unwrap(),
        Plan::new(5, &BlockDiagonal::new(1), Cayley).unwrap(),
        Plan::new(1, &BlockDiagonal::new(1), Cayley).unwrap(),
        cayley(8, 2, 4).then(cayley(8, 1, 2)).unwrap(),
        Plan::identity(7).unwrap(),
        fixed,
    ];
    for (seed, plan) in plans.into_iter().enumerate() {
        for (outputs, batch) in [(3, 2), (1, 1)] {
            let name = format!("plan {seed}, {outputs} outputs");
            let mut layer = layer(plan.clone(), outputs, 100 * seed as u64);
            let error = gradient_error(&layer, 7, batch);
            assert!(error < 1e-10, "{name}: {error:e}");
            let mask = Dropout::Paper { factors: 1.0, blocks: 0.5 }.draw(layer.plan(), &mut Generator::new(3)).unwrap();
            layer.set_mask(Some(mask)).unwrap();
            let error = gradient_error(&layer, 8, batch);
            assert!(error < 1e-10, "{name}, some blocks dropped: {error:e}");
        }
    }
}

#[test]
fn a_layer_is_its_merged_weight() {
    let mut layer = layer(cayley(16, 3, 4), 9, 5);
    let x = noise(1, 16 * 4);
    for mask in [None, Some(Dropout::Peft { share: 0.5 }.draw(layer.plan(), &mut Generator::new(1)).unwrap())] {
        layer.set_mask(mask).unwrap();
        let merged = layer.merged(Parallelism::None, &mut Workspace::new()).unwrap();
        let got = run(&layer, &x, &noise(2, 9 * 4), Parallelism::None).y;
        let dot = |v: usize, o: usize| (0..16).map(|i| x[v * 16 + i] * merged[o * 16 + i]).sum::<f64>();
        let want: Vec<f64> = (0..36).map(|i| dot(i / 9, i % 9) + layer.bias()[i % 9]).collect();
        assert_close("merged", &got, &want, 1e-15 * 16.0);
    }
}

#[test]
fn oft_is_pefts() {
    let cases = golden("oft_linear_");
    let mut seen = 0;
    for (name, case) in cases {
        // 1 and 2 terms are no chart of papilio's; see `CayleyNeumann`.
        let terms = name.split_once("_cn").map(|(_, rest)| rest[..1].parse::<u32>().unwrap());
        if matches!(terms, Some(1 | 2)) {
            continue;
        }
        let (outputs, n) = (case["weight"].shape[0], case["weight"].shape[1]);
        let [groups, each] = case["oft_R"].shape[..] else { panic!("{name}") };
        let b = (1..).find(|b| b * (b - 1) / 2 == each).unwrap();
        // The series is that of the transposed block; three terms are four.
        let (sign, order) = terms.map_or((1.0, None), |k| (-1.0, Some(k.max(4) - 1)));
        let plan = |shared: bool| -> papilio::Result<Plan<f64>> {
            let blocks = BlockDiagonal::new(b);
            match (order, shared) {
                (None, false) => Plan::new(n, &blocks, Cayley),
                (None, true) => Plan::new(n, &Shared::by_stage(blocks), Cayley),
                (Some(order), false) => Plan::new(n, &blocks, CayleyNeumann { order }),
                (Some(order), true) => Plan::new(n, &Shared::by_stage(blocks), CayleyNeumann { order }),
            }
        };
        let eps = if name.contains("coft") { Some(if name.contains("default") { 6e-5 } else { 0.3 }) } else { None };
        let weight = Weight::new(case["weight"].data.clone(), outputs, n).unwrap();
        let mut layer = Linear::new(weight, plan(groups * b < n).unwrap()).unwrap();
        if order.is_none() {
            let oft = Linear::oft(layer.weight().clone(), b, groups * b < n).unwrap();
            assert_eq!(oft.plan().num_params(), layer.plan().num_params());
            layer = oft;
        }
        layer.constrain(eps).unwrap();
        layer.set_theta(&case["oft_R"].data.iter().map(|v| sign * v).collect::<Vec<_>>()).unwrap();
        if let Some(bias) = case.get("bias") {
            layer.set_bias(&bias.data).unwrap();
        }
        let got = run(&layer, &case["x"].data, &case["cotangent"].data, Parallelism::None);
        let name_of_type = name.split("_eps").next().unwrap().trim_end_matches("_byr").trim_end_matches("_adjusted");
        let tolerance = tolerance(name_of_type);
        let signed = |x: &[f64]| x.iter().map(|x| sign * x).collect::<Vec<_>>();
        assert_close(&format!("{name}: y"), &got.y, &case["y"].data, tolerance);
        assert_close(&format!("{name}: grad_x"), &got.input, &case["grad_x"].data, tolerance);
        assert_close(&format!("{name}: gradient"), &signed(&got.theta), &case["grad_oft_R"].data, tolerance);
        if eps.is_some() {
            let want = &case["oft_R_projected"].data;
            assert_close(&format!("{name}: projected"), &signed(layer.theta()), want, tolerance);
            seen += 100;
        }
        let merged = layer.merged(Parallelism::None, &mut Workspace::new()).unwrap();
        assert_close(&format!("{name}: merged"), &merged, &case["merged_weight"].data, tolerance);
        seen += 1;
    }
    assert!(seen >= 418, "{seen}");
}

#[test]
fn threads_and_precision_do_not_change_the_result() {
    // More rows and outputs than a piece of the product has.
    let (batch, outputs, n) = (300, 1100, 16);
    let layer = layer(cayley(n, 2, 4), outputs, 3);
    let (x, g) = (noise(5, batch * n), noise(6, batch * outputs));
    let alone = run(&layer, &x, &g, Parallelism::None);
    assert_eq!(run(&layer, &x, &g, Parallelism::Rayon), alone);
    let data: Vec<f32> = layer.weight().data().iter().map(|w| *w as f32).collect();
    let plan = Plan::new(n, &Butterfly::boft(2, 4).unwrap(), Cayley).unwrap();
    let mut single = Linear::new(Weight::new(data, outputs, n).unwrap(), plan).unwrap();
    single.set_theta(layer.theta()).unwrap();
    single.set_scale(layer.scale()).unwrap();
    single.set_bias(layer.bias()).unwrap();
    let found = run(&single, &x, &g, Parallelism::Rayon);
    assert_eq!(run(&single, &x, &g, Parallelism::None), found);
    for (what, got, want) in [
        ("y", &found.y, &alone.y),
        ("theta", &found.theta, &alone.theta),
        ("scale", &found.scale, &alone.scale),
        ("bias", &found.bias, &alone.bias),
        ("input", &found.input, &alone.input),
    ] {
        assert_close(what, got, want, 2e-6);
    }
}

#[test]
fn gradients_are_added_and_only_those_that_are_wanted() {
    let layer = layer(cayley(8, 2, 2), 3, 1);
    let (x, g, ws) = (noise(1, 16), noise(2, 6), &mut Workspace::new());
    let all = run(&layer, &x, &g, Parallelism::None);
    let mut theta = vec![1.0; layer.theta().len()];
    layer
        .backward(&x, &g, Gradients { theta: Some(&mut theta), ..Gradients::default() }, Parallelism::None, ws)
        .unwrap();
    let want: Vec<f64> = all.theta.iter().map(|d| 1.0 + d).collect();
    assert_eq!(theta, want);
    let mut input = vec![f64::NAN; 16];
    layer
        .backward(&x, &g, Gradients { input: Some(&mut input), ..Gradients::default() }, Parallelism::None, ws)
        .unwrap();
    assert_eq!(input, all.input);
    layer.backward(&x, &g, Gradients::default(), Parallelism::None, ws).unwrap();
    let nothing = run(&layer, &[], &[], Parallelism::Rayon);
    assert!(nothing.y.is_empty() && nothing.theta.iter().chain(&nothing.scale).all(|d| *d == 0.0));
}

#[test]
fn constraints_hold_through_training() {
    let mut layer = layer(cayley(16, 2, 4), 4, 9);
    layer.constrain(Some(0.5)).unwrap();
    let limit = 0.25; // four blocks
    let norms = |layer: &Linear<f64>| -> Vec<f64> {
        layer.theta().chunks(6).map(|v| (2.0 * v.iter().map(|v| v * v).sum::<f64>()).sqrt()).collect()
    };
    assert!(norms(&layer).iter().all(|norm| *norm <= limit * (1.0 + 4.0 * f64::EPSILON)));
    let (mut adam, x) = (Adam::new(48, 0.1).unwrap(), noise(1, 32));
    for _ in 0..20 {
        let gradient = run(&layer, &x, &noise(2, 8), Parallelism::None).theta;
        layer.step_theta(&mut adam, &gradient).unwrap();
    }
    let norms = norms(&layer);
    assert!(norms.iter().all(|norm| *norm <= limit * (1.0 + 4.0 * f64::EPSILON)), "{norms:?}");
    assert!(norms.iter().any(|norm| *norm > limit * 0.999), "none reaches the limit: {norms:?}");
    // A free layer moves on from there.
    layer.constrain(None).unwrap();
    layer.set_theta(&[1.0; 48]).unwrap();
    assert_eq!(layer.theta(), [1.0; 48]);
    // Blocks within the ball, at zero and far out.
    let plan = cayley(8, 1, 2);
    let mut theta = [0.0, 0.1, 1e200, -3.0];
    project(&plan, &mut theta, 2.0).unwrap(); // four blocks: 1 for each
    assert_eq!((theta[0], theta[1]), (0.0, 0.1));
    assert!((theta[3] + 0.5f64.sqrt()).abs() < 1e-15, "{theta:?}");
    assert!(theta[2].is_finite() && theta[2] > 0.7, "{theta:?}");
}

#[test]
fn rates_are_one_over_the_root_of_the_block() {
    let plan = cayley(16, 2, 4).then(Plan::new(16, &BlockDiagonal::new(16), Cayley).unwrap()).unwrap();
    let rates = block_rates(&plan);
    assert_eq!(rates.len(), 48 + 120);
    assert!(rates[..48].iter().all(|r| *r == 1.0 / 6f64.sqrt()));
    assert!(rates[48..].iter().all(|r| *r == 1.0 / 120f64.sqrt()));
    // One step of Adam then turns every block equally far.
    let mut adam = Adam::new(168, 0.1).unwrap().with_factors(rates).unwrap();
    let mut theta = vec![0.0; 168];
    adam.step(&mut theta, &noise(4, 168)).unwrap();
    let norm = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>().sqrt();
    assert!((norm(&theta[..6]) - 0.1).abs() < 1e-6 && (norm(&theta[48..]) - 0.1).abs() < 1e-6);
}

/// Adam against its formula, written out.
#[test]
fn adam_is_what_the_papers_say() {
    let (mut p, mut adam) = ([0.5, -1.0], Adam::new(2, 0.02).unwrap().with_decay(0.3).unwrap());
    let (mut q, mut m, mut v) = (p, [0.0; 2], [0.0; 2]);
    for k in 1..50 {
        let g = [q[0] * 3.0 - 1.0, f64::from(k % 7) - 3.0];
        adam.step(&mut p, &g).unwrap();
        for i in 0..2 {
            m[i] = 0.9 * m[i] + 0.1 * g[i];
            v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i];
            let (mean, square) = (m[i] / (1.0 - 0.9f64.powi(k)), v[i] / (1.0 - 0.999f64.powi(k)));
            q[i] -= 0.02 * (mean / (square.sqrt() + 1e-8) + 0.3 * q[i]);
        }
    }
    assert_close("Adam", &p, &q, 1e-13);
    assert_eq!(adam.steps(), 49);
    let before = (p, adam.clone());
    assert!(matches!(adam.step(&mut p, &[0.0, f64::NAN]), Err(Error::Domain { .. })));
    assert!(matches!(adam.step(&mut p, &[0.0]), Err(Error::Length { .. })));
    assert_eq!((p, adam), before, "a failed step changes nothing");
    for bad in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(Adam::new(1, bad).is_err());
        let adam = || Adam::new(1, 0.1).unwrap();
        assert!(adam().with_betas([0.9, bad]).is_err() && adam().with_epsilon(bad).is_err());
        assert!(adam().with_decay(bad).is_err() && adam().with_factors(vec![bad]).is_err());
    }
    // A parameter that never has a gradient stays.
    let mut still = [7.0];
    Adam::new(1, 0.1).unwrap().step(&mut still, &[0.0]).unwrap();
    assert_eq!(still, [7.0]);
}

#[test]
fn wrong_sizes_are_errors_and_change_nothing() {
    assert!(matches!(Weight::new(vec![0.0; 6], 2, 4), Err(Error::Length { .. })));
    for (outputs, inputs) in [(0, 4), (4, 0), (usize::MAX, 2)] {
        assert!(matches!(Weight::<f64>::new(vec![], outputs, inputs), Err(Error::Size { .. })));
    }
    let weight = || Weight::new(noise(1, 24), 3, 8).unwrap();
    for (m, b) in [(0, 2), (2, 3), (4, 2), (1, 5), (1, 0), (usize::MAX, 2)] {
        let layer = Linear::boft(weight(), m, b);
        assert!(matches!(layer, Err(Error::Size { .. })), "m = {m}, b = {b}: {layer:?}");
    }
    assert!(matches!(Linear::oft(weight(), 3, true), Err(Error::Size { .. })));
    assert!(matches!(Linear::new(weight(), cayley(4, 1, 2)), Err(Error::Length { .. })));
    let signed = Plan::new(8, &BlockDiagonal::new(2), Signed::new(Cayley)).unwrap();
    assert!(matches!(Linear::new(weight(), signed), Err(Error::Unsupported { .. })));

    let mut layer = Linear::boft(weight(), 3, 2).unwrap();
    let ws = &mut Workspace::new();
    let mut y = [1.0; 6];
    assert!(layer.forward(&[0.0; 15], &mut y, Parallelism::None, ws).is_err());
    assert!(layer.forward(&[0.0; 8], &mut y, Parallelism::None, ws).is_err());
    assert_eq!(y, [1.0; 6]);
    let (mut long, mut right) = ([1.0; 13], [1.0; 3]);
    let wanted = Gradients { theta: Some(&mut long), bias: Some(&mut right), ..Gradients::default() };
    assert!(layer.backward(&[0.0; 16], &[1.0; 6], wanted, Parallelism::None, ws).is_err());
    assert_eq!(right, [1.0; 3]);
    layer.set_theta(&[0.5; 12]).unwrap();
    let before = layer.factors().entries().to_vec();
    for bad in [f64::NAN, f64::INFINITY] {
        assert!(matches!(layer.set_theta(&[bad; 12]), Err(Error::Domain { .. })));
        assert!(matches!(layer.set_scale(&[bad; 3]), Err(Error::Domain { .. })));
        assert!(matches!(layer.set_bias(&[bad; 3]), Err(Error::Domain { .. })));
    }
    assert!(layer.set_theta(&[0.0; 11]).is_err() && layer.set_scale(&[0.0; 4]).is_err());
    assert!(layer.constrain(Some(-1.0)).is_err() && layer.constrain(Some(f32::NAN)).is_err());
    let other = Mask::new(&cayley(4, 1, 2), vec![true; 2]).unwrap();
    assert!(layer.set_mask(Some(other)).is_err());
    assert_eq!((layer.theta(), layer.factors().entries()), (&[0.5; 12][..], &before[..]));
}
