//! BOFT layers against PEFT: forward, gradients and merged weights of every golden case.
//!
//! With R the rotation, PEFT computes y = s ⊙ ((x R) Wᵀ) + bias. x R is `Op::Transpose`; the rest is spelled out here.
#![cfg(feature = "files")]

mod support;

use std::collections::HashMap;

use papilio::adapter::Sides;
use papilio::adapter::peft_boft::Shape;
use papilio::{Batch, BatchMut, Op, Orthogonal, Parallelism, Plan, Real, Saved, Workspace};
use support::{Tensor, assert_close, golden, tolerance};

/// A layer in the middle of a network, and what its loss ⟨y, cotangent⟩ gives back.
struct Layer<'a, T: Real> {
    plan: Plan<T>,
    theta: Vec<f64>,
    scale: Vec<f64>,
    case: &'a HashMap<String, Tensor>,
}

struct Outcome {
    y: Vec<f64>,
    d_theta: Vec<f64>,
    d_scale: Vec<f64>,
    d_x: Vec<f64>,
}

impl<T: Real<Wide = f64>> Layer<'_, T> {
    fn run(&self) -> Outcome {
        let (n, weight) = (self.plan.n(), &self.case["weight"].data);
        let out = self.scale.len();
        let ws = &mut Workspace::new();
        let cast = |x: &[f64]| x.iter().map(|&x| T::from_wide(x)).collect::<Vec<T>>();
        let wide = |x: &[T]| x.iter().map(|x| x.to_wide()).collect::<Vec<f64>>();
        let factors = self.plan.realize(&self.theta).unwrap();

        let x = cast(&self.case["x"].data);
        let mut rotated = vec![T::nan(); x.len()];
        let (input, output) = (Batch::rows(&x, n).unwrap(), BatchMut::rows(&mut rotated, n).unwrap());
        self.plan.apply(&factors, input, output, Op::Transpose, Parallelism::Rayon, ws).unwrap();
        let batch = x.len() / n;
        let product = multiply(&wide(&rotated), weight, batch, n, out);
        let bias = self.case.get("bias").map_or(vec![0.0; out], |b| b.data.clone());
        let y = (0..batch * out).map(|i| self.scale[i % out] * product[i] + bias[i % out]).collect();

        let cotangent = &self.case["cotangent"].data;
        let d_scale =
            (0..out).map(|o| (0..batch).map(|v| cotangent[v * out + o] * product[v * out + o]).sum()).collect();
        let d_product: Vec<f64> = (0..batch * out).map(|i| cotangent[i] * self.scale[i % out]).collect();
        let transposed: Vec<f64> = (0..n * out).map(|i| weight[i % out * n + i / out]).collect();
        let d_rotated = cast(&multiply(&d_product, &transposed, batch, out, n));
        let mut d_x = vec![T::nan(); x.len()];
        let mut d_factors = vec![T::zero(); self.plan.num_entries()];
        self.plan
            .apply_vjp(
                &factors,
                Saved::Input(input),
                Op::Transpose,
                Batch::rows(&d_rotated, n).unwrap(),
                Some(BatchMut::rows(&mut d_x, n).unwrap()),
                Some(&mut d_factors),
                Parallelism::Rayon,
                ws,
            )
            .unwrap();
        let mut d_theta = vec![0.0; self.plan.num_params()];
        self.plan.realize_vjp(&self.theta, &factors, &d_factors, &mut d_theta).unwrap();
        Outcome { y, d_theta, d_scale, d_x: wide(&d_x) }
    }
}

/// x Wᵀ for x of shape [batch, n] and W of shape [out, n].
fn multiply(x: &[f64], weight: &[f64], batch: usize, n: usize, out: usize) -> Vec<f64> {
    assert_eq!((x.len(), weight.len()), (batch * n, out * n));
    let dot = |v: usize, o: usize| (0..n).map(|i| x[v * n + i] * weight[o * n + i]).sum();
    (0..batch * out).map(|i| dot(i / out, i % out)).collect()
}

fn shape_and_theta(blocks: &Tensor) -> (Shape, Vec<f64>) {
    let shape = Shape::from_dims(&blocks.shape).unwrap();
    let theta = shape.theta(&blocks.data).unwrap();
    (shape, theta)
}

fn check(name: &str, case: &HashMap<String, Tensor>, got: &Outcome) {
    assert_close(&format!("{name}: y"), &got.y, &case["y"].data, tolerance(name));
    assert_close(&format!("{name}: grad_x"), &got.d_x, &case["grad_x"].data, tolerance(name));
}

fn check_gradients(name: &str, case: &HashMap<String, Tensor>, suffix: &str, d_stored: &[f64], d_scale: &[f64]) {
    for (key, got) in [(format!("grad_boft_R{suffix}"), d_stored), (format!("grad_boft_s{suffix}"), d_scale)] {
        assert_close(&format!("{name}: {key}"), got, &case[&key].data, tolerance(name));
    }
}

#[test]
fn linear_forward_and_gradients() {
    let cases = golden("boft_linear_");
    assert!(cases.len() >= 16);
    for (name, case) in cases {
        let (shape, theta) = shape_and_theta(&case["boft_R"]);
        let scale = case["boft_s"].data.clone();
        let got = if name.ends_with("f64") {
            Layer { plan: shape.plan::<f64>().unwrap(), theta, scale, case: &case }.run()
        } else {
            Layer { plan: shape.plan::<f32>().unwrap(), theta, scale, case: &case }.run()
        };
        check(&name, &case, &got);
        check_gradients(&name, &case, "", &shape.stored_gradient(&got.d_theta).unwrap(), &got.d_scale);
    }
}

#[test]
fn two_adapters_are_two_plans_one_after_the_other() {
    let [(name, case)] = golden("boft_stacked_").try_into().unwrap();
    let (shape, mut theta) = shape_and_theta(&case["boft_R.first"]);
    theta.extend(shape_and_theta(&case["boft_R.second"]).1);
    let plan = shape.plan::<f64>().unwrap().then(shape.plan().unwrap()).unwrap(); // R = R_second R_first
    let (first, second) = (&case["boft_s.first"].data, &case["boft_s.second"].data);
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).collect::<Vec<f64>>();
    let got = Layer { plan, theta, scale: product(first, second), case: &case }.run();
    check(&name, &case, &got);
    let (d_first, d_second) = got.d_theta.split_at(shape.num_params());
    for (suffix, d_theta, other) in [(".first", d_first, second), (".second", d_second, first)] {
        let d_stored = shape.stored_gradient(d_theta).unwrap();
        check_gradients(&name, &case, suffix, &d_stored, &product(&got.d_scale, other));
    }
}

#[test]
fn dropped_blocks_are_identities_without_gradient() {
    let [(name, case)] = golden("boft_dropout_").try_into().unwrap();
    let (shape, mut theta) = shape_and_theta(&case["boft_R"]);
    let per_block = theta.len() / (shape.stages * shape.blocks);
    let keep: Vec<f64> = case["mask"].data.iter().flat_map(|m| vec![1.0 - m; per_block]).collect();
    let dropped = keep.iter().filter(|k| **k == 0.0).count();
    assert!(dropped > 0 && dropped < keep.len());
    theta.iter_mut().zip(&keep).for_each(|(t, k)| *t *= k);
    let scale = case["boft_s"].data.clone();
    let mut got = Layer { plan: shape.plan::<f64>().unwrap(), theta, scale, case: &case }.run();
    got.d_theta.iter_mut().zip(&keep).for_each(|(g, k)| *g *= k);
    check(&name, &case, &got);
    check_gradients(&name, &case, "", &shape.stored_gradient(&got.d_theta).unwrap(), &got.d_scale);
}

#[test]
fn rotations_and_merged_weights() {
    let cases: Vec<_> = golden("boft_linear_").into_iter().chain(golden("boft_conv2d_")).collect();
    assert!(cases.len() >= 22);
    for (name, case) in cases {
        let (shape, theta) = shape_and_theta(&case["boft_R"]);
        let (n, ws) = (shape.n(), &mut Workspace::new());
        if let Some(rotation) = case.get("rotation") {
            let plan = shape.plan::<f64>().unwrap();
            let factors = plan.realize(&theta).unwrap();
            let mut rows: Vec<f64> = (0..n * n).map(|i| f64::from(u8::from(i / n == i % n))).collect();
            let batch = BatchMut::rows(&mut rows, n).unwrap();
            plan.apply_in_place(&factors, batch, Op::Transpose, Parallelism::None, ws).unwrap(); // row i is eᵢ R
            assert_close(&format!("{name}: rotation"), &rows, &rotation.data, tolerance(&name).min(2e-6));
        }
        let scale = case["boft_s"].data.clone();
        let sides = Sides::right(Orthogonal::new(shape.plan().unwrap(), theta).unwrap()).scaled(Some(scale));
        let mut weight = case["weight"].data.clone();
        // In two portions, as a large weight would be.
        let (top, bottom) = weight.split_at_mut(n);
        sides.rotate_rows(1, n, bottom, Parallelism::Rayon, ws).unwrap();
        sides.rotate_rows(0, n, top, Parallelism::None, ws).unwrap();
        assert_close(&format!("{name}: merged_weight"), &weight, &case["merged_weight"].data, tolerance(&name));
        assert!(sides.rotate_rows(1, n, &mut weight, Parallelism::None, ws).is_err(), "more rows than scales");
    }
}
