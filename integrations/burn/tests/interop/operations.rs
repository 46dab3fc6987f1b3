//! The fallback: the same by tensor operations, gradients by burn's own autodiff.

use super::*;
use crate::support::assert_close;
use papilio::parametrization::{CayleyNeumann, CayleySeries, Exponential};
use papilio_burn::operations::apply;

/// Relative errors of y, ∂x and ∂θ at θ = noise·size, every third of them a thousandth of that.
fn errors<T: Scalar<Wide = f64>>(plan: &Plan<T>, dtype: DType, size: f64, op: Op) -> [f64; 3]
where
    papilio_burn::RealPlan: for<'a> From<&'a Plan<T>>,
{
    let n = plan.n();
    let x = tensor(1, [5, n], dtype).require_grad();
    let theta = parameters(plan.num_params(), dtype, size).require_grad();
    let g = tensor(3, [5, n], dtype);
    let (y, d_x, d_theta) = truth(plan, &numbers(&x), &numbers(&theta), &numbers(&g), op);
    let got = apply(plan, x.clone(), theta.clone(), op).unwrap();
    let value = error(&numbers(&got), &y);
    if plan.num_stages() == 0 {
        return [value, 0.0, 0.0];
    }
    let all = pulled(got, g);
    let parameters = if plan.num_params() == 0 { 0.0 } else { error(&gradient(&all, &theta), &d_theta) };
    [value, error(&gradient(&all, &x), &d_x), parameters]
}

fn parameters(count: usize, dtype: DType, size: f64) -> Tensor<1> {
    let uneven = noise(2, count).into_iter().enumerate().map(|(i, x)| x * size * if i % 3 == 2 { 1e-3 } else { 1.0 });
    given(uneven.collect(), [count], dtype)
}

/// max|got − want|/max|want|
fn error(got: &[f64], want: &[f64]) -> f64 {
    assert_close("error", got, want, f64::INFINITY)
}

#[test]
fn tensor_operations_agree_with_papilio() {
    for (which, plan) in plans().into_iter().enumerate() {
        for op in Op::ALL {
            let double = errors(&plan, DType::F64, 1.0, op);
            let single = errors(&plan.cast::<f32>().unwrap(), DType::F32, 1.0, op);
            assert!(double.iter().all(|e| *e < 3e-15), "plan {which}, {op:?}, F64: {double:?}");
            assert!(single.iter().all(|e| *e < 2e-6), "plan {which}, {op:?}, F32: {single:?}");
        }
    }
}

/// Elimination without pivots, mended: right to rounding as far as the module says.
#[test]
fn large_parameters() {
    for b in [2, 8, 16] {
        let plan = Plan::<f64>::new(2 * b, &BlockDiagonal::new(b), Cayley).unwrap();
        let double = errors(&plan, DType::F64, 1e6, Op::None);
        assert!(double[0].max(double[1]) < 2e-15 && double[2] < 2e-14, "F64, b = {b}: {double:?}");
        for size in [10.0, 100.0, 1000.0] {
            let single = errors(&plan.cast::<f32>().unwrap(), DType::F32, size, Op::None);
            println!("b = {b}, size {size}: {single:?}");
            assert!(single[0].max(single[1]) < 6e-7 && single[2] < 8e-6, "F32, b = {b}, size {size}: {single:?}");
            let theta = parameters(plan.num_params(), DType::F32, size);
            let one: Vec<f64> = (0..4 * b * b).map(|at| f64::from(u8::from(at % (2 * b + 1) == 0))).collect();
            let one = given(one, [2 * b, 2 * b], DType::F32);
            let q = apply(plan.cast::<f32>().unwrap(), one.clone(), theta, Op::None).unwrap();
            let defect = numbers(&(q.clone().matmul(q.transpose()) - one)).iter().fold(0.0f64, |m, x| m.max(x.abs()));
            assert!(defect < 1e-6, "b = {b}, size {size}: defect {defect:e}");
        }
    }
}

#[test]
fn series_and_what_has_none() {
    let blocks = BlockDiagonal::new(4);
    for order in [1, 3, 4] {
        for plan in [
            Plan::<f64>::new(12, &blocks, CayleyNeumann { order }).unwrap(),
            Plan::<f64>::new(12, &blocks, CayleySeries { order }).unwrap(),
        ] {
            let found = errors(&plan, DType::F64, 0.5, Op::None);
            assert!(found.iter().all(|e| *e < 1e-15 * 10.0), "order {order}: {found:?}");
        }
    }
    let plan = Plan::<f64>::new(12, &blocks, Exponential).unwrap();
    let error = apply(&plan, tensor(1, [3, 12], DType::F64), tensor(2, [18], DType::F64), Op::None).unwrap_err();
    assert!(error.to_string().ends_with("Givens or fixed blocks, got the chart Exponential"), "{error}");
}
