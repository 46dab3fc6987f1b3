//! `apply` on Flex.

use super::*;
use crate::support::assert_close;
use papilio_burn::{RealPlan, apply};

fn fitted(plan: &Plan<f64>, dtype: DType) -> RealPlan {
    if dtype == DType::F64 { plan.into() } else { plan.cast::<f32>().unwrap().into() }
}

#[test]
fn functions_agree_with_papilios_own_pullbacks() {
    for (which, plan) in plans().into_iter().enumerate() {
        let n = plan.n();
        for (op, dtype, bound) in [
            (Op::None, DType::F64, 1e-15),
            (Op::Transpose, DType::F64, 1e-15),
            (Op::Adjoint, DType::F32, 2e-7),
            (Op::Conj, DType::F32, 2e-7),
        ] {
            let x = tensor(1, [5, n], dtype).require_grad();
            let theta = tensor(2, [plan.num_params()], dtype).mul_scalar(2.0).require_grad();
            let g = tensor(3, [5, n], dtype);
            let y = apply(fitted(&plan, dtype), x.clone(), theta.clone(), op).unwrap();
            let of = [&numbers(&x), &numbers(&theta), &numbers(&g)];
            let (want, d_x, d_theta) = match dtype {
                DType::F64 => truth(&plan, of[0], of[1], of[2], op),
                _ => truth(&plan.cast::<f32>().unwrap(), of[0], of[1], of[2], op),
            };
            let what = format!("plan {which}, {op:?}, {dtype:?}");
            assert_close(&what, &numbers(&y), &want, 0.0);
            let all = pulled(y, g);
            assert_close(&format!("{what}: x"), &gradient(&all, &x), &d_x, bound);
            if plan.num_params() > 0 {
                assert_close(&format!("{what}: theta"), &gradient(&all, &theta), &d_theta, bound);
            }
        }
    }
}

/// Where θ is frozen, x is not kept, and its gradient is made in another way.
#[test]
fn gradients_of_x_alone_are_the_same() {
    for (which, plan) in plans().into_iter().enumerate() {
        for op in [Op::None, Op::Transpose, Op::Adjoint, Op::Conj] {
            let x = tensor(1, [5, plan.n()], DType::F64).require_grad();
            let theta = tensor(2, [plan.num_params()], DType::F64);
            let g = tensor(3, [5, plan.n()], DType::F64);
            let (_, d_x, _) = truth(&plan, &numbers(&x), &numbers(&theta), &numbers(&g), op);
            let all = pulled(apply(&plan, x.clone(), theta, op).unwrap(), g);
            assert_close(&format!("plan {which}, {op:?}"), &gradient(&all, &x), &d_x, 1e-15);
        }
    }
}

#[test]
fn finite_differences() {
    for (which, plan) in plans().into_iter().enumerate().filter(|(_, plan)| plan.num_params() > 0) {
        let (x, g) = (tensor(1, [3, plan.n()], DType::F64), tensor(3, [3, plan.n()], DType::F64));
        let theta = tensor(2, [plan.num_params()], DType::F64);
        let ways = (tensor(4, x.dims(), DType::F64), tensor(5, theta.dims(), DType::F64));
        let at = |t: f64| {
            let x = x.clone() + ways.0.clone().mul_scalar(t);
            let theta = theta.clone() + ways.1.clone().mul_scalar(t);
            numbers(&(apply(&plan, x, theta, Op::None).unwrap() * g.clone())).iter().sum::<f64>()
        };
        let h = 2e-3;
        let slope = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
        let (x, theta) = (x.clone().require_grad(), theta.clone().require_grad());
        let all = pulled(apply(&plan, x.clone(), theta.clone(), Op::None).unwrap(), g.clone());
        let dot = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(&b).map(|(a, b)| a * b).sum::<f64>();
        let want = dot(gradient(&all, &x), numbers(&ways.0)) + dot(gradient(&all, &theta), numbers(&ways.1));
        assert!((slope - want).abs() < 1e-9 * want.abs().max(1.0), "plan {which}: {slope} instead of {want}");
    }
}

#[test]
fn half_precision_is_rounded_once() {
    let plan = Plan::<f32>::new(16, &Butterfly::boft(2, 4).unwrap(), Cayley).unwrap();
    for (dtype, bound) in [(DType::BF16, 4e-3), (DType::F16, 5e-4)] {
        for theta_type in [DType::F32, DType::F64, dtype] {
            let theta = tensor(1, [2, 4, 6], theta_type).require_grad();
            let x = tensor(2, [7, 16], dtype).require_grad();
            let g = tensor(3, [7, 16], dtype);
            let y = apply(&plan, x.clone(), theta.clone(), Op::None).unwrap();
            assert_eq!(y.dtype(), dtype);
            // The same numbers in single precision.
            let xw = given(numbers(&x), [7, 16], DType::F32).require_grad();
            let tw = given(numbers(&theta), [2, 4, 6], DType::F64).require_grad();
            let wide = apply(&plan, xw.clone(), tw.clone(), Op::None).unwrap();
            assert_eq!(bits(&y), bits(&given(numbers(&wide), [7, 16], dtype)), "{dtype:?}");
            let (got, want) = (pulled(y, g.clone()), pulled(wide, given(numbers(&g), [7, 16], DType::F32)));
            assert_close("x", &gradient(&got, &x), &gradient(&want, &xw), bound);
            assert_close("theta", &gradient(&got, &theta), &gradient(&want, &tw), bound);
        }
    }
}

#[test]
fn any_shape_and_any_strides() {
    let plan = &Plan::<f32>::new(8, &Butterfly::classic(2), Givens).unwrap();
    let theta = tensor(1, [plan.num_params()], DType::F32).require_grad();
    fn check<const D: usize>(plan: &Plan<f32>, theta: &Tensor<1>, x: Tensor<D>) {
        let dims = x.dims();
        let x = x.detach().require_grad();
        let y = apply(plan, x.clone(), theta.clone(), Op::None).unwrap();
        assert_eq!(y.dims(), dims);
        let g = tensor(5, dims, DType::F32);
        let (want, d_x, d_theta) = truth(plan, &numbers(&x), &numbers(theta), &numbers(&g), Op::None);
        assert_close(&format!("{dims:?}"), &numbers(&y), &want, 0.0);
        if want.is_empty() {
            return; // burn takes no sum of nothing
        }
        let all = pulled(y.clone(), g);
        assert_close(&format!("{dims:?}: x"), &gradient(&all, &x), &d_x, 2e-7);
        assert_close(&format!("{dims:?}: theta"), &gradient(&all, theta), &d_theta, 1e-6);
        // Gradients come with any strides, too: that of a sum is repeated.
        let again = || apply(plan, x.clone(), theta.clone(), Op::None).unwrap();
        let ones = pulled(again(), y.ones_like());
        assert_close("sum", &gradient(&again().sum().backward(), &x), &gradient(&ones, &x), 1e-6);
    }
    let f = DType::F32;
    check(plan, &theta, tensor(2, [8], f));
    check(plan, &theta, tensor(2, [0, 8], f));
    check(plan, &theta, tensor(2, [3, 0, 8], f));
    check(plan, &theta, tensor(2, [2, 1, 5, 3, 8], f));
    // Transposed, cut out, repeated, backwards, and in no order at all.
    check(plan, &theta, tensor(4, [8, 5], f).transpose());
    check(plan, &theta, tensor(4, [6, 16], f).narrow(1, 3, 8).narrow(0, 1, 4));
    check(plan, &theta, tensor(4, [1, 8], f).expand([5, 8]));
    check(plan, &theta, tensor(4, [5, 8], f).flip([0]));
    check(plan, &theta, tensor(4, [5, 8], f).flip([1]));
    check(plan, &theta, tensor(4, [2, 3, 8], f).swap_dims(0, 1));
    check(plan, &theta, tensor(4, [8, 3, 2], f).permute([2, 1, 0]));
    check(plan, &theta, tensor(4, [4, 6, 8], f).narrow(1, 2, 3));
    check(plan, &theta, tensor(4, [1, 1, 3, 8], f).swap_dims(0, 2));
}

#[test]
fn only_what_is_wanted_gets_a_gradient() {
    let plan = Plan::<f64>::new(16, &Butterfly::boft(2, 4).unwrap(), Cayley).unwrap();
    let (x, theta) = (tensor(1, [3, 16], DType::F64), tensor(2, [plan.num_params()], DType::F64));
    let g = tensor(3, [3, 16], DType::F64);
    let (x_leaf, theta_leaf) = (x.clone().require_grad(), theta.clone().require_grad());
    let both = pulled(apply(&plan, x_leaf.clone(), theta_leaf.clone(), Op::Transpose).unwrap(), g.clone());
    let alone = pulled(apply(&plan, x_leaf.clone(), theta.clone(), Op::Transpose).unwrap(), g.clone());
    assert_close("x alone", &gradient(&alone, &x_leaf), &gradient(&both, &x_leaf), 1e-15);
    assert!(theta.grad(&alone).is_none());
    let alone = pulled(apply(&plan, x.clone(), theta_leaf.clone(), Op::Transpose).unwrap(), g);
    assert_close("theta alone", &gradient(&alone, &theta_leaf), &gradient(&both, &theta_leaf), 0.0);
    assert!(x.grad(&alone).is_none());
    // And none at all, on a device without autodiff.
    let (x, theta) = (x.without_autodiff(), theta.without_autodiff());
    assert!(!apply(&plan, x, theta, Op::None).unwrap().is_autodiff());
}

#[test]
fn gradient_checkpointing_changes_nothing() {
    let plan = Plan::<f32>::new(16, &Butterfly::boft(2, 4).unwrap(), Cayley).unwrap();
    let run = |device: Device| {
        let from = |numbers: Vec<f64>, shape: [usize; 2]| {
            Tensor::<2>::from_data(burn::tensor::TensorData::new(numbers, shape), &device).require_grad()
        };
        let (x, theta) = (from(noise(1, 48), [3, 16]), from(noise(2, plan.num_params()), [1, plan.num_params()]));
        // An input that checkpointing computes again, and a use of θ after.
        let y = apply(&plan, x.clone().exp() * 2.0, theta.clone(), Op::None).unwrap().tanh();
        let all = y.sum().backward();
        (gradient(&all, &x), gradient(&all, &theta))
    };
    assert_eq!(run(device()), run(device().gradient_checkpointing()));
}

#[test]
fn errors_say_what_was_expected() {
    let plan = &Plan::<f32>::new(8, &Butterfly::classic(2), Givens).unwrap();
    let (x, theta) = (tensor(1, [3, 8], DType::F32), tensor(2, [12], DType::F32));
    let text = |x: Tensor<2>, theta: Tensor<1>| apply(plan, x, theta, Op::None).unwrap_err().to_string();
    let nan = given(vec![f64::NAN; 12], [12], DType::F32);
    for (got, want) in [
        (text(x.clone().narrow(1, 0, 7), theta.clone()), "last dimension of x: expected length 8, got 7"),
        (text(x.clone(), theta.clone().narrow(0, 0, 11)), "theta: expected length 12, got 11"),
        (text(tensor(1, [3, 8], DType::F64), theta.clone()), "expected F32, BF16 or F16, for a plan of f32, got F64"),
        (text(x.clone(), nan.clone()), "theta: expected finite numbers, got NaN at position 0"),
    ] {
        assert!(got.contains(want), "{got}\n  instead of\n{want}");
    }
    // NaN in x is NaN in what it touches, as everywhere.
    let y = apply(plan, given(vec![f64::NAN; 8], [8], DType::F32), theta, Op::None).unwrap();
    assert!(numbers(&y).iter().all(|y| y.is_nan()));
}
