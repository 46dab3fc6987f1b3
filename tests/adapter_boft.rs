//! BOFT layers against PEFT: forward, gradients and merged weights of every golden case.
#![cfg(feature = "files")]

mod support;

use std::collections::HashMap;

use papilio::adapter::peft_boft::Shape;
use papilio::adapter::train::{Dense, Gradients, Linear, Mask, Weight};
use papilio::adapter::{Sides, View};
use papilio::parametrization::Cayley;
use papilio::topology::BlockDiagonal;
use papilio::{BatchMut, Op, Orthogonal, Parallelism, Plan, Workspace};
use support::{Tensor, assert_close, golden, noise, tolerance};

/// What a layer in the middle of a network, whose loss is ⟨y, cotangent⟩, gives back.
struct Outcome {
    y: Vec<f64>,
    d_theta: Vec<f64>,
    d_scale: Vec<f64>,
    d_x: Vec<f64>,
}

/// The case's weight, bias and numbers in a layer with these parameters; `mask` are blocks to drop.
fn run<T: Dense>(
    case: &HashMap<String, Tensor>,
    plan: Plan<T>,
    theta: &[f64],
    scale: &[f64],
    mask: Option<Vec<bool>>,
) -> Outcome {
    let cast = |name: &str| case[name].data.iter().map(|&x| T::from_wide(x)).collect::<Vec<T>>();
    let wide = |x: &[T]| x.iter().map(|x| x.to_wide()).collect::<Vec<f64>>();
    let ws = &mut Workspace::new();
    let weight = Weight::new(cast("weight"), scale.len(), plan.n()).unwrap();
    let mask = mask.map(|dropped| Mask::new(&plan, dropped).unwrap());
    let mut layer = Linear::new(weight, plan).unwrap();
    layer.set_theta(theta).unwrap();
    layer.set_scale(scale).unwrap();
    layer.set_mask(mask).unwrap();
    if let Some(bias) = case.get("bias") {
        layer.set_bias(&bias.data).unwrap();
    }
    let (x, g) = (cast("x"), cast("cotangent"));
    let (mut y, mut d_x) = (vec![T::nan(); g.len()], vec![T::nan(); x.len()]);
    let (mut d_theta, mut d_scale) = (vec![0.0; theta.len()], vec![0.0; scale.len()]);
    layer.forward(&x, &mut y, Parallelism::Rayon, ws).unwrap();
    let wanted = Gradients { theta: Some(&mut d_theta), scale: Some(&mut d_scale), bias: None, input: Some(&mut d_x) };
    layer.backward(&x, &g, wanted, Parallelism::Rayon, ws).unwrap();
    Outcome { y: wide(&y), d_theta, d_scale, d_x: wide(&d_x) }
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
            run(&case, shape.plan::<f64>().unwrap(), &theta, &scale, None)
        } else {
            run(&case, shape.plan::<f32>().unwrap(), &theta, &scale, None)
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
    let got = run(&case, plan, &theta, &product(first, second), None);
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
    let (shape, theta) = shape_and_theta(&case["boft_R"]);
    let dropped: Vec<bool> = case["mask"].data.iter().map(|m| *m == 1.0).collect();
    assert!(dropped.contains(&true) && dropped.contains(&false));
    let got = run(&case, shape.plan::<f64>().unwrap(), &theta, &case["boft_s"].data, Some(dropped));
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
        assert!(sides.rotate_columns(0, 1, &mut weight, Parallelism::None, ws).is_err(), "columns are mixed");
    }
}

/// Where outputs are rotated, columns may come in any portions: the same bits as the whole, there and back, in both views.
#[test]
fn columns_in_portions_are_those_of_the_whole() {
    let (shape, ws) = ([8, 3, 2, 2], &Workspace::new());
    for (view, n) in [(View::Weight, 8), (View::Reinterpreted, 12)] {
        let plan = Plan::new(n, &BlockDiagonal::new(4), Cayley).unwrap();
        let theta = noise(1, plan.num_params());
        let left = Some(Orthogonal::new(plan, theta).unwrap());
        let sides = Sides { view, left, scale: Some(noise(2, 8)), ..Sides::default() };
        let undo = sides.inverse().unwrap();
        let (rows, columns) = sides.matrix(&shape).unwrap();
        assert!(sides.is_column_by_column() && undo.is_column_by_column() && !sides.is_row_by_row());
        let weight = noise(3, rows * columns);
        let mut whole = weight.clone();
        sides.merge(&shape, &mut whole, Parallelism::None, ws).unwrap();
        let mut back = whole.clone();
        undo.merge(&shape, &mut back, Parallelism::None, ws).unwrap();
        for width in [1, 3, columns] {
            for first in (0..columns).step_by(width) {
                let count = width.min(columns - first);
                let of = |matrix: &[f64]| -> Vec<f64> {
                    matrix.chunks_exact(columns).flat_map(|row| row[first..first + count].to_vec()).collect()
                };
                let mut portion = of(&weight);
                sides.rotate_columns(first, rows, &mut portion, Parallelism::Rayon, ws).unwrap();
                assert_eq!(portion, of(&whole), "{view:?}, {count} columns from {first}");
                undo.rotate_columns(first, rows, &mut portion, Parallelism::Rayon, ws).unwrap();
                assert_eq!(portion, of(&back), "{view:?} back, {count} columns from {first}");
            }
        }
        let mut portion = vec![0.0; 2 * rows];
        assert!(sides.rotate_columns(0, rows, &mut portion[1..], Parallelism::None, ws).is_err(), "part of a column");
        assert!(sides.rotate_columns(0, 2 * rows, &mut portion, Parallelism::None, ws).is_err(), "longer columns");
        let beyond = sides.rotate_columns(columns - 1, rows, &mut portion, Parallelism::None, ws);
        assert_eq!(beyond.is_err(), view == View::Reinterpreted, "a column without a scale");
    }
}
