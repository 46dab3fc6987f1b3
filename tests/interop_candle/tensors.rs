//! Tensor operations against the fused ones, on the CPU: everywhere else they are the only ones.

use candle_core::{DType, Tensor, Var};
use candle_nn::{Conv2d, Conv2dConfig, Embedding, Linear, Module, VarBuilder, VarMap};
use papilio::interop::candle::{
    Method, OrthogonalConv2d, OrthogonalEmbedding, OrthogonalLinear, RealPlan, TensorRotation, apply,
};
use papilio::parametrization::{Cayley, CayleyNeumann, CayleySeries, Exponential, Givens};
use papilio::topology::{AnyButterfly, BlockDiagonal, Butterfly, Explicit, Shared};
use papilio::{Op, Plan, Sharing, Source, StageLayout};

use super::support::assert_close;
use super::{BOFT, CPU, OFT, bits, gradient, numbers, pulled, scatter, tensor};

fn table(block: usize, index: &[u32]) -> StageLayout {
    StageLayout::Table { block, index: index.into() }
}

/// Plans of all wirings and charts that there are tensor operations for.
fn plans() -> Vec<(&'static str, Plan<f64>)> {
    let boft = |n, m, b| Plan::new(n, &Butterfly::boft(m, b).unwrap(), Cayley).unwrap();
    let chart = |chart: Cayley, sharing| Source::Chart { chart: std::sync::Arc::new(chart), sharing };
    // Blocks of other sizes between, a table that leaves coordinates alone, shared blocks, fixed ones, none.
    let mixed = Plan::from_stages(
        11,
        [
            (table(3, &[7, 0, 4, 10, 2, 9]), Source::chart(Cayley)),
            (StageLayout::contiguous(2, 5), Source::chart(Givens)),
            (StageLayout::contiguous(4, 2), chart(Cayley, Sharing::All)),
            (table(2, &[1, 8, 3, 5, 6, 0]), chart(Cayley, Sharing::Groups([1, 0, 1].into()))),
            (StageLayout::contiguous(2, 1), Source::Fixed([0.6, -0.8, 0.8, 0.6].into())),
            (table(1, &[4, 5]), Source::chart(Cayley)),
            (StageLayout::contiguous(5, 0), Source::chart(Cayley)),
            (StageLayout::contiguous(3, 3), Source::chart(CayleySeries { order: 3 })),
        ],
    );
    let mixed = mixed.unwrap();
    vec![
        ("BOFT b = 2", boft(8, 3, 2)),
        ("BOFT b = 4", boft(24, 2, 4)),
        ("BOFT b = 6", boft(24, 2, 6)),
        ("BOFT b = 8", boft(64, 4, 8)),
        ("its adjoint", boft(32, 3, 8).adjoint()),
        ("OFT b = 3", Plan::new(15, &BlockDiagonal::new(3), Cayley).unwrap()),
        ("OFT b = 1", Plan::new(5, &BlockDiagonal::new(1), Cayley).unwrap()),
        ("one block", Plan::new(7, &BlockDiagonal::new(7), Cayley).unwrap()),
        ("shared", Plan::new(12, &Shared::by_stage(BlockDiagonal::new(4)), Cayley).unwrap()),
        ("a prime", Plan::new(13, &AnyButterfly::new(4), Cayley).unwrap()),
        ("pairs", Plan::new(16, &Butterfly::classic(2), Givens).unwrap()),
        ("PEFT's series", Plan::new(12, &BlockDiagonal::new(4), CayleyNeumann { order: 5 }).unwrap()),
        ("the series", Plan::new(16, &Butterfly::boft(2, 4).unwrap(), CayleySeries { order: 4 }).unwrap()),
        ("tables", Plan::new(6, &Explicit::new(6, [(2, vec![5, 0, 3, 1])]).unwrap(), Cayley).unwrap()),
        ("mixed", mixed.clone()),
        ("adjoint first", mixed.adjoint().then(mixed).unwrap()),
        ("nothing", Plan::identity(4).unwrap()),
    ]
}

/// θ, of which Cayley's blocks turn by up to about π/2, and little for series.
fn start(plan: &Plan<f64>, dtype: DType) -> Var {
    let size = if plan.is_exact() { 0.7 } else { 0.1 };
    Var::from_tensor(&(tensor(2, &[plan.num_params()], dtype) * size).unwrap()).unwrap()
}

#[test]
fn functions_agree_with_the_fused_ones() {
    for (name, plan) in plans() {
        for op in [Op::None, Op::Transpose, Op::Adjoint, Op::Conj] {
            for (dtype, bound) in [(DType::F64, 4e-15), (DType::F32, 2e-6)] {
                let fitted = match dtype {
                    DType::F64 => RealPlan::from(&plan),
                    _ => plan.cast::<f32>().unwrap().into(),
                };
                let x = Var::from_tensor(&tensor(1, &[2, 3, plan.n()], dtype)).unwrap();
                let (theta, g) = (start(&plan, dtype), tensor(3, &[2, 3, plan.n()], dtype));
                let rotation = TensorRotation::new(fitted.clone(), CPU).unwrap();
                let (y, want) = (rotation.apply(&x, &theta, op).unwrap(), apply(fitted, &x, &theta, op).unwrap());
                let what = format!("{name}, {op:?}, {dtype:?}");
                assert_eq!((y.dims(), y.dtype()), (want.dims(), dtype), "{what}");
                assert_close(&what, &numbers(&y), &numbers(&want), bound);
                let (got, want) = (pulled(&y, &g), pulled(&want, &g));
                assert_close(&format!("{what}: x"), &gradient(&got, &x), &gradient(&want, &x), bound);
                if plan.num_params() > 0 {
                    let (got, want) = (gradient(&got, &theta), gradient(&want, &theta));
                    assert_close(&format!("{what}: theta"), &got, &want, 4.0 * bound);
                }
            }
        }
    }
}

#[test]
fn large_angles_and_half_precision() {
    // Rotations by nearly π: elimination alone would lose six digits here.
    let plan = Plan::<f64>::new(32, &Butterfly::boft(3, 8).unwrap(), Cayley).unwrap();
    let theta = Var::from_tensor(&(tensor(2, &[plan.num_params()], DType::F64) * 300.0).unwrap()).unwrap();
    let (x, g) = (tensor(1, &[5, 32], DType::F64), tensor(3, &[5, 32], DType::F64));
    let y = TensorRotation::new(&plan, CPU).unwrap().apply(&x, &theta, Op::None).unwrap();
    let want = apply(&plan, &x, &theta, Op::None).unwrap();
    assert_close("y", &numbers(&y), &numbers(&want), 1e-13);
    let (got, want) = (gradient(&pulled(&y, &g), &theta), gradient(&pulled(&want, &g), &theta));
    assert_close("theta", &got, &want, 1e-9);
    // Computed in single precision and rounded once.
    let plan = plan.cast::<f32>().unwrap();
    let rotation = TensorRotation::new(&plan, CPU).unwrap();
    for (dtype, bound) in [(DType::BF16, 8e-3), (DType::F16, 1e-3)] {
        let theta = Var::from_tensor(&tensor(2, &[plan.num_params()], dtype)).unwrap();
        let x = Var::from_tensor(&tensor(1, &[5, 32], dtype)).unwrap();
        let g = tensor(3, &[5, 32], dtype);
        let (y, want) = (rotation.apply(&x, &theta, Op::None), apply(&plan, &x, &theta, Op::None));
        let (y, want) = (y.unwrap(), want.unwrap());
        assert_eq!(y.dtype(), dtype);
        assert_close("half", &numbers(&y), &numbers(&want), bound);
        let (got, want) = (pulled(&y, &g), pulled(&want, &g));
        assert_close("half: x", &gradient(&got, &x), &gradient(&want, &x), bound);
        assert_close("half: theta", &gradient(&got, &theta), &gradient(&want, &theta), bound);
    }
}

#[test]
fn layers_agree_with_the_fused_ones() {
    for (method, bias) in [(BOFT, true), (BOFT, false), (OFT, true), (Method::Boft { factors: 1, block: 8 }, true)] {
        let map = VarMap::new();
        let vb = VarBuilder::from_varmap(&map, DType::F64, CPU);
        let bias = bias.then(|| tensor(5, &[9], DType::F64));
        let base = Linear::new(tensor(7, &[9, 16], DType::F64), bias);
        let fused = OrthogonalLinear::new(base, method, vb).unwrap();
        scatter(&map);
        let layer = fused.clone().with_tensor_operations().unwrap();
        for dims in [&[16][..], &[1, 16], &[0, 16], &[5, 16], &[2, 3, 16]] {
            let x = Var::from_tensor(&tensor(3, dims, DType::F64)).unwrap();
            let (y, want) = (layer.forward(&x).unwrap(), fused.forward(&x).unwrap());
            assert_eq!(y.dims(), want.dims());
            assert_close("y", &numbers(&y), &numbers(&want), 4e-15);
            let g = tensor(4, want.dims(), DType::F64);
            let (got, want) = (pulled(&y, &g), pulled(&want, &g));
            for variable in map.all_vars().iter().chain([&x]) {
                if dims[0] == 0 && got.get(variable).is_none() {
                    continue; // candle makes no gradient of what it broadcasts to nothing
                }
                let (got, want) = (gradient(&got, variable), gradient(&want, variable));
                assert_close(&format!("{method:?}, {dims:?}"), &got, &want, 2e-13);
            }
        }
        let merged = layer.merge().unwrap();
        let want = fused.merge().unwrap();
        assert!(!merged.weight().track_op());
        assert_close("merged", &numbers(merged.weight()), &numbers(want.weight()), 4e-15);
        assert!(layer.defect().unwrap() < 2e-14, "{:e}", layer.defect().unwrap());
    }
}

#[test]
fn convolutions_and_embeddings_agree_with_the_fused_ones() {
    for method in [BOFT, OFT, Method::Oft { block: 4, share: true, terms: Some(5) }] {
        let map = VarMap::new();
        let vb = VarBuilder::from_varmap(&map, DType::F64, CPU);
        let config = Conv2dConfig { padding: 1, ..Default::default() };
        let base = Conv2d::new(tensor(7, &[5, 4, 2, 2], DType::F64), Some(tensor(8, &[5], DType::F64)), config);
        let fused = OrthogonalConv2d::new(base, method, vb.pp("conv")).unwrap();
        let table = Embedding::new(tensor(6, &[10, 12], DType::F64), 12);
        let fused_table = OrthogonalEmbedding::new(table, OFT, vb.pp("table")).unwrap();
        scatter(&map);
        let layer = fused.clone().with_tensor_operations().unwrap();
        let layer_table = fused_table.clone().with_tensor_operations().unwrap();
        let x = Var::from_tensor(&tensor(3, &[2, 4, 5, 3], DType::F64)).unwrap();
        let ids = Tensor::new(&[[3u32, 0, 9], [3, 3, 1]], CPU).unwrap();
        let (y, want) = (layer.forward(&x).unwrap(), fused.forward(&x).unwrap());
        assert_close("convolution", &numbers(&y), &numbers(&want), 4e-15);
        let (e, want_e) = (layer_table.forward(&ids).unwrap(), fused_table.forward(&ids).unwrap());
        assert_close("embedding", &numbers(&e), &numbers(&want_e), 4e-15);
        let loss = |y: &Tensor, e: &Tensor| {
            let y = (y * tensor(4, y.dims(), DType::F64)).unwrap().sum_all().unwrap();
            (y + (e * tensor(5, e.dims(), DType::F64)).unwrap().sum_all().unwrap()).unwrap().backward().unwrap()
        };
        let (got, want) = (loss(&y, &e), loss(&want, &want_e));
        for variable in map.all_vars().iter().chain([&x]) {
            assert_close(&format!("{method:?}"), &gradient(&got, variable), &gradient(&want, variable), 2e-14);
        }
        let (got, want) = (layer.merge().unwrap(), fused.merge().unwrap());
        assert_close("merged", &numbers(got.weight()), &numbers(want.weight()), 4e-15);
        let (got, want) = (layer_table.merge().unwrap(), fused_table.merge().unwrap());
        assert_close("merged", &numbers(got.embeddings()), &numbers(want.embeddings()), 4e-15);
        let (got, want) = (layer.defect().unwrap(), fused.defect().unwrap());
        assert!(got < 2e-14 || (got - want).abs() < 1e-6 * want, "{method:?}: {got:e} and {want:e}"); // series have one
    }
}

#[test]
fn any_shape_and_any_strides() {
    let plan = Plan::<f64>::new(8, &Butterfly::boft(2, 4).unwrap(), Cayley).unwrap();
    let (rotation, theta) = (TensorRotation::new(&plan, CPU).unwrap(), start(&plan, DType::F64));
    let apply = |x: &Tensor| rotation.apply(x, &theta, Op::None).unwrap();
    for dims in [&[8][..], &[0, 8], &[3, 0, 8], &[2, 1, 3, 8]] {
        let x = Var::from_tensor(&tensor(1, dims, DType::F64)).unwrap();
        let y = apply(&x);
        assert_eq!(y.dims(), dims);
        let store = y.sum_all().unwrap().backward().unwrap();
        assert_eq!(gradient(&store, &theta).iter().all(|d| *d == 0.0), x.elem_count() == 0, "{dims:?}");
    }
    for x in [
        tensor(4, &[8, 5], DType::F64).t().unwrap(),
        tensor(4, &[6, 16], DType::F64).narrow(1, 3, 8).unwrap(),
        tensor(4, &[1, 8], DType::F64).broadcast_as((5, 8)).unwrap(),
        tensor(4, &[8, 3, 2], DType::F64).permute((2, 1, 0)).unwrap(),
    ] {
        assert_eq!(bits(&apply(&x)), bits(&apply(&x.force_contiguous().unwrap())), "{:?}", x.layout());
    }
}

#[test]
fn errors_say_what_was_expected() {
    let plan = Plan::<f32>::new(8, &Butterfly::classic(2), Givens).unwrap();
    let rotation = TensorRotation::new(&plan, CPU).unwrap();
    let (x, theta) = (tensor(1, &[3, 8], DType::F32), tensor(2, &[12], DType::F32));
    let text = |x: &Tensor, theta: &Tensor| rotation.apply(x, theta, Op::None).unwrap_err().to_string();
    let made = |plan: Plan<f64>| TensorRotation::new(plan, CPU).map(drop).unwrap_err().to_string();
    let exponential = Plan::new(8, &BlockDiagonal::new(4), Exponential).unwrap();
    let reflections = Plan::from_stages(8, [(StageLayout::contiguous(8, 1), Source::reflectors(2))]).unwrap();
    for (got, want) in [
        (text(&x.narrow(1, 0, 7).unwrap(), &theta), "last dimension of x: expected length 8, got 7"),
        (text(&Tensor::new(1f32, CPU).unwrap(), &theta), "last dimension of x: expected […, 8], got a scalar"),
        (text(&x, &theta.narrow(0, 0, 11).unwrap()), "theta: expected length 12, got 11"),
        (text(&x.to_dtype(DType::F64).unwrap(), &theta), "expected F32, BF16 or F16, for a plan of f32, got F64"),
        (text(&x, &theta.to_dtype(DType::I64).unwrap()), "expected F32, F64, BF16 or F16, got I64"),
        (made(exponential), "expected Cayley, its series, Givens or fixed blocks, got the chart Exponential"),
        (made(reflections), "blocks by tensor operations: expected Cayley"),
    ] {
        assert!(got.contains(want), "{got}\n  instead of\n{want}");
    }
}
