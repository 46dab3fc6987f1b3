//! candle: against its own autograd on compositions of its own operations, finite differences, PEFT's golden gradients;
//! types, shapes, strides, errors, files.

#[path = "../support/mod.rs"]
mod support;
mod tensors;

use std::collections::HashMap;

use candle_core::backprop::GradStore;
use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_nn::{Conv2d, Conv2dConfig, Embedding, Linear, Module, VarBuilder, VarMap};
use papilio::adapter::Adapter;
use papilio::interop::candle::{Method, OrthogonalConv2d, OrthogonalEmbedding, OrthogonalLinear, apply};
use papilio::parametrization::{Cayley, Givens};
use papilio::topology::{BlockDiagonal, Butterfly, Shared};
use papilio::{Batch, BatchMut, Op, Parallelism, Plan, Workspace};
use support::{assert_close, golden, noise, tolerance};

const CPU: &Device = &Device::Cpu;

fn tensor(seed: u64, dims: &[usize], dtype: DType) -> Tensor {
    Tensor::from_vec(noise(seed, dims.iter().product()), dims, CPU).unwrap().to_dtype(dtype).unwrap()
}

fn numbers(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn bits(t: &Tensor) -> Vec<u64> {
    numbers(t).into_iter().map(f64::to_bits).collect()
}

fn gradient(store: &GradStore, of: &Tensor) -> Vec<f64> {
    let g = store.get(of).expect("a gradient");
    assert_eq!((g.dims(), g.dtype()), (of.dims(), of.dtype()));
    numbers(g)
}

/// Gradients of ⟨y, g⟩.
fn pulled(y: &Tensor, g: &Tensor) -> GradStore {
    (y * g).unwrap().sum_all().unwrap().backward().unwrap()
}

/// The blocks of a stage `[count, b, b]`, Cayley by candle's operations: candle has no inverse, but Newton's iteration
/// X ← X(2I − MX) from Mᵀ/(1 + |A|²) converges to it, and so do its derivatives.
fn cayley(theta: &Tensor, b: usize) -> Result<Tensor> {
    let (pairs, dtype) = (b * (b - 1) / 2, theta.dtype());
    let mut unpack = vec![0.0; pairs * b * b];
    let upper = (0..b).flat_map(|i| (i + 1..b).map(move |j| (i, j)));
    for (p, (i, j)) in upper.enumerate() {
        unpack[p * b * b + i * b + j] = 1.0;
        unpack[p * b * b + j * b + i] = -1.0;
    }
    let unpack = Tensor::from_vec(unpack, (pairs, b * b), CPU)?.to_dtype(dtype)?;
    let a = theta.reshape(((), pairs))?.matmul(&unpack)?.reshape(((), b, b))?;
    let one = Tensor::eye(b, dtype, CPU)?.unsqueeze(0)?;
    let m = a.broadcast_add(&one)?;
    let mut x = (m.t()?.contiguous()? * 0.2)?;
    for _ in 0..14 {
        let rest = (m.matmul(&x)?.neg()?).broadcast_add(&(&one * 2.0)?)?;
        x = x.matmul(&rest)?;
    }
    a.neg()?.broadcast_add(&one)?.matmul(&x)
}

/// op(Q) x for `x` `[batch, n]` by gathering, a batched product and gathering back, stage after stage.
fn naive(plan: &Plan<f64>, x: &Tensor, theta: &Tensor, op: Op) -> Result<Tensor> {
    let mut y = x.clone();
    let mut stages: Vec<_> = plan.stages().iter().collect();
    if op != Op::None {
        stages.reverse();
    }
    for stage in stages {
        let (b, count) = (stage.layout().block_size(), stage.layout().num_blocks());
        let part = theta.narrow(0, stage.theta().start, stage.theta().len())?;
        let mut blocks = if b == 1 { Tensor::ones((count, 1, 1), x.dtype(), CPU)? } else { cayley(&part, b)? };
        if op == Op::None {
            blocks = blocks.transpose(1, 2)?.contiguous()?; // rows times a matrix
        }
        let order: Vec<u32> = (0..count).flat_map(|j| stage.layout().indices(j).map(|i| i as u32)).collect();
        let mut back = vec![0u32; order.len()];
        order.iter().enumerate().for_each(|(at, i)| back[*i as usize] = at as u32);
        let batch = y.dims()[0];
        let gathered = y.index_select(&Tensor::new(&order[..], CPU)?, 1)?.reshape((batch, count, b))?;
        let turned = gathered.transpose(0, 1)?.contiguous()?.broadcast_matmul(&blocks)?.transpose(0, 1)?;
        y = turned.reshape((batch, count * b))?.index_select(&Tensor::new(&back[..], CPU)?, 1)?;
    }
    Ok(y)
}

fn plans() -> Vec<Plan<f64>> {
    vec![
        Plan::new(32, &Butterfly::boft(3, 8).unwrap(), Cayley).unwrap(),
        Plan::new(16, &Butterfly::boft(2, 4).unwrap(), Cayley).unwrap(),
        Plan::new(24, &Butterfly::boft(2, 6).unwrap(), Cayley).unwrap(),
        Plan::new(15, &BlockDiagonal::new(3), Cayley).unwrap(),
        Plan::new(16, &Butterfly::classic(2), Cayley).unwrap(),
    ]
}

#[test]
fn functions_agree_with_candles_own_autograd() {
    for (seed, plan) in plans().into_iter().enumerate() {
        for (op, dtype, bound) in [
            (Op::None, DType::F64, 1e-14),
            (Op::Transpose, DType::F64, 1e-14),
            (Op::None, DType::F32, 2e-6),
            (Op::Adjoint, DType::F32, 2e-6),
        ] {
            let x = Var::from_tensor(&tensor(1, &[5, plan.n()], dtype)).unwrap();
            let theta = Var::from_tensor(&(tensor(2, &[plan.num_params()], dtype) * 0.4).unwrap()).unwrap();
            let g = tensor(3, &[5, plan.n()], dtype);
            let y = match dtype {
                DType::F64 => apply(&plan, &x, &theta, op),
                _ => apply(plan.cast::<f32>().unwrap(), &x, &theta, op),
            };
            let (y, want) = (y.unwrap(), naive(&plan, &x, &theta, op).unwrap());
            let what = format!("plan {seed}, {op:?}, {dtype:?}");
            assert_close(&what, &numbers(&y), &numbers(&want), bound);
            let (got, want) = (pulled(&y, &g), pulled(&want, &g));
            for variable in [&x, &theta] {
                let (got, want) = (gradient(&got, variable), gradient(&want, variable));
                assert_close(&format!("{what}: gradient"), &got, &want, bound);
            }
        }
    }
}

/// A frozen layer with its weight, and the adapter's variables at some place.
fn linear(outputs: usize, n: usize, method: Method, bias: Option<Tensor>, dtype: DType) -> (OrthogonalLinear, VarMap) {
    let map = VarMap::new();
    let names = VarBuilder::from_varmap(&map, dtype, CPU).pp("base_model.model.net.layer");
    let layer = OrthogonalLinear::new(Linear::new(tensor(7, &[outputs, n], dtype), bias), method, names).unwrap();
    scatter(&map);
    (layer, map)
}

/// Moves all variables from where they start.
fn scatter(map: &VarMap) {
    let data = map.data().lock().unwrap();
    let mut names: Vec<_> = data.keys().collect();
    names.sort();
    for (seed, name) in names.into_iter().enumerate() {
        let shift = (tensor(11 + seed as u64, data[name].dims(), data[name].dtype()) * 0.4).unwrap();
        data[name].set(&(data[name].as_tensor() + shift).unwrap()).unwrap();
    }
}

fn variable(map: &VarMap, name: &str) -> Var {
    map.data().lock().unwrap()[&format!("base_model.model.net.layer.{name}")].clone()
}

const BOFT: Method = Method::Boft { factors: 2, block: 4 };
const OFT: Method = Method::Oft { block: 4, share: false, terms: None };

#[test]
fn layers_agree_with_candles_own_autograd() {
    // A bias of ordinary size, none, one that hides what is added to it, and scales that are zero.
    for case in 0..4 {
        let bias = [Some(1.0), None, Some(1e7), Some(1.0)][case].map(|c| (tensor(5, &[9], DType::F64) * c).unwrap());
        let (layer, map) = linear(9, 16, BOFT, bias, DType::F64);
        let (r, s) = (variable(&map, "boft_R"), variable(&map, "boft_s"));
        if case == 3 {
            s.set(&Tensor::from_vec((0..9).map(|i| f64::from(i % 3)).collect::<Vec<_>>(), (9, 1), CPU).unwrap())
                .unwrap();
        }
        let x = Var::from_tensor(&tensor(3, &[2, 3, 16], DType::F64)).unwrap();
        let g = tensor(4, &[2, 3, 9], DType::F64);
        let y = layer.forward(&x).unwrap();

        let skew = ((r.as_tensor() - r.transpose(2, 3).unwrap()).unwrap() * 0.5).unwrap();
        let triangle: Vec<u32> = (0..4).flat_map(|i| (i + 1..4).map(move |j| i * 4 + j)).collect();
        let triangle = Tensor::new(&triangle[..], CPU).unwrap();
        let theta = skew.reshape(((), 16)).unwrap().contiguous().unwrap().index_select(&triangle, 1).unwrap();
        let plan = Plan::new(16, &Butterfly::boft(2, 4).unwrap(), Cayley).unwrap();
        let rows = x.reshape(((), 16)).unwrap();
        let z = naive(&plan, &rows, &theta.flatten_all().unwrap(), Op::Transpose).unwrap();
        let p = z.matmul(&layer.base().weight().t().unwrap()).unwrap();
        let mut want = p.broadcast_mul(&s.t().unwrap()).unwrap().reshape((2, 3, 9)).unwrap();
        if let Some(bias) = layer.base().bias() {
            want = want.broadcast_add(bias).unwrap();
        }
        assert_close(&format!("{case}: y"), &numbers(&y), &numbers(&want), 1e-14);
        let (got, want) = (pulled(&y, &g), pulled(&want, &g));
        for (what, variable) in [("x", &x), ("boft_R", &r), ("boft_s", &s)] {
            let bound = if what == "boft_s" { 1e-13 } else { 1e-14 };
            assert_close(&format!("{case}: {what}"), &gradient(&got, variable), &gradient(&want, variable), bound);
        }
    }
}

#[test]
fn finite_differences() {
    let (layer, map) = linear(5, 16, BOFT, Some(tensor(5, &[5], DType::F64)), DType::F64);
    let x = Var::from_tensor(&tensor(3, &[3, 16], DType::F64)).unwrap();
    let g = tensor(4, &[3, 5], DType::F64);
    let loss = || numbers(&(layer.forward(&x).unwrap() * &g).unwrap()).iter().sum::<f64>();
    let store = pulled(&layer.forward(&x).unwrap(), &g);
    for (seed, var) in [x.clone(), variable(&map, "boft_R"), variable(&map, "boft_s")].iter().enumerate() {
        let (start, way) = (var.copy().unwrap(), tensor(20 + seed as u64, var.dims(), DType::F64));
        let at = |t: f64| {
            var.set(&(&start + (&way * t).unwrap()).unwrap()).unwrap();
            loss()
        };
        let h = 2e-3;
        let slope = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
        var.set(&start).unwrap();
        let want: f64 = gradient(&store, var).iter().zip(numbers(&way)).map(|(g, w)| g * w).sum();
        assert!((slope - want).abs() < 1e-9 * want.abs().max(1.0), "{seed}: {slope} instead of {want}");
    }
}

fn from_golden(t: &support::Tensor) -> Tensor {
    let dtype = match t.dtype {
        papilio::storage::Dtype::F64 => DType::F64,
        papilio::storage::Dtype::F32 => DType::F32,
        papilio::storage::Dtype::BF16 => DType::BF16,
        papilio::storage::Dtype::I64 => DType::I64,
        other => panic!("{other:?}"),
    };
    Tensor::from_vec(t.data.clone(), &t.shape[..], CPU).unwrap().to_dtype(dtype).unwrap()
}

/// The method and the convolution that the name of a golden case tells.
fn told(name: &str, case: &HashMap<String, support::Tensor>) -> (Method, Option<Conv2dConfig>) {
    let number = |mark: char, part: &str| part.strip_prefix(mark).and_then(|n| n.parse::<usize>().ok());
    let convolution = name.split('_').find_map(|part| {
        let (_, rest) = part.strip_prefix('k')?.split_once('s')?;
        let (stride, padding) = rest.split_once('p')?;
        Some(Conv2dConfig { stride: stride.parse().ok()?, padding: padding.parse().ok()?, ..Default::default() })
    });
    if let Some(r) = case.get("boft_R") {
        return (Method::Boft { factors: r.shape[0], block: r.shape[2] }, convolution);
    }
    let n: usize = case["weight"].shape[1..].iter().product();
    let block = name.split('_').find_map(|part| number('b', part)).unwrap();
    let share = case.get("oft_R").is_some_and(|r| r.shape[0] * block < n);
    let terms = name.split('_').find_map(|part| part.strip_prefix("cn")?.parse().ok());
    let terms = terms.or(case.contains_key("ids").then_some(5)); // what the one embedding was made with
    (Method::Oft { block, share, terms }, convolution)
}

#[test]
fn pefts_golden_gradients() {
    let mut seen = HashMap::<String, usize>::new();
    for (name, case) in golden("boft_").into_iter().chain(golden("oft_")) {
        let skipped = ["stacked", "dropout", "coft", "_cn1_"].iter().any(|part| name.contains(part));
        if skipped {
            continue;
        }
        let named = name.trim_end_matches("_byr").trim_end_matches("_adjusted");
        let bound = tolerance(named);
        let (method, config) = told(named, &case);
        let kind = if case.contains_key("ids") { "embedding" } else { name.split('_').nth(1).unwrap() };
        *seen.entry(kind.to_string()).or_default() += 1;

        for by_tensors in [false, true] {
            let parameter = |key: &str| case.get(key).map(|t| Var::from_tensor(&from_golden(t)).unwrap());
            let spelled = [
                ("boft_R", "boft_R"),
                ("boft_s", "boft_s"),
                ("oft_R", "oft_R.weight"),
                ("oft_embedding_R", "oft_embedding_R.weight"),
            ];
            let variables: Vec<_> =
                spelled.iter().filter_map(|(key, file)| Some((*key, *file, parameter(key)?))).collect();
            let stored_as = variables.iter().map(|(_, file, v)| (file.to_string(), v.as_tensor().clone())).collect();
            let stored = variables[0].2.dtype();
            let vb = VarBuilder::from_tensors(stored_as, stored, CPU);
            let (weight, bias) = (from_golden(&case["weight"]), case.get("bias").map(from_golden));

            let (input, y, merged, y_merged) = if let Some(ids) = case.get("ids") {
                let n = weight.dims()[1];
                let layer = OrthogonalEmbedding::new(Embedding::new(weight, n), method, vb).unwrap();
                let layer = if by_tensors { layer.with_tensor_operations().unwrap() } else { layer };
                let (ids, merged) = (from_golden(ids), layer.merge().unwrap());
                let y_merged = merged.forward(&ids).unwrap();
                (None, layer.forward(&ids).unwrap(), merged.embeddings().clone(), y_merged)
            } else {
                let x = Var::from_tensor(&from_golden(&case["x"])).unwrap();
                let (y, merged, y_merged) = match config {
                    Some(config) => {
                        let layer = OrthogonalConv2d::new(Conv2d::new(weight, bias, config), method, vb).unwrap();
                        let layer = if by_tensors { layer.with_tensor_operations().unwrap() } else { layer };
                        let merged = layer.merge().unwrap();
                        (layer.forward(&x).unwrap(), merged.weight().clone(), merged.forward(&x).unwrap())
                    }
                    None => {
                        let layer = OrthogonalLinear::new(Linear::new(weight, bias), method, vb).unwrap();
                        let layer = if by_tensors { layer.with_tensor_operations().unwrap() } else { layer };
                        let merged = layer.merge().unwrap();
                        (layer.forward(&x).unwrap(), merged.weight().clone(), merged.forward(&x).unwrap())
                    }
                };
                (Some(x), y, merged, y_merged)
            };
            let want = &case.get("y").unwrap_or(&case["y_merged"]).data;
            assert_close(&format!("{name}: y"), &numbers(&y), want, bound);
            assert_close(&format!("{name}: merged"), &numbers(&merged), &case["merged_weight"].data, bound);
            assert_close(&format!("{name}: y merged"), &numbers(&y_merged), want, bound);
            if !case.contains_key("cotangent") {
                continue; // PEFT's own forward pass of this convolution differs from what it merges
            }
            let store = pulled(&y, &from_golden(&case["cotangent"]));
            if let Some(x) = input {
                assert_close(&format!("{name}: grad_x"), &gradient(&store, &x), &case["grad_x"].data, bound);
            }
            for (key, _, variable) in &variables {
                let want = &case[&format!("grad_{key}")].data;
                assert_close(&format!("{name}: grad_{key}"), &gradient(&store, variable), want, bound);
            }
        }
    }
    println!("{seen:?}");
    assert!(seen["linear"] >= 28 && seen["conv2d"] >= 8 && seen["embedding"] >= 1, "{seen:?}");
}

#[test]
fn half_precision_is_rounded_once() {
    let plan = Plan::<f32>::new(16, &Butterfly::boft(2, 4).unwrap(), Cayley).unwrap();
    for (dtype, bound) in [(DType::BF16, 4e-3), (DType::F16, 5e-4)] {
        for theta_type in [DType::F32, DType::F64, dtype] {
            let theta = tensor(1, &[2, 4, 6], DType::F32).to_dtype(theta_type).unwrap();
            let theta = Var::from_tensor(&theta).unwrap();
            let x = Var::from_tensor(&tensor(2, &[7, 16], dtype)).unwrap();
            let g = tensor(3, &[7, 16], dtype);
            let y = apply(&plan, &x, &theta, Op::None).unwrap();
            assert_eq!(y.dtype(), dtype);
            // The same numbers in single precision.
            let (xw, gw) = (x.to_dtype(DType::F32).unwrap(), g.to_dtype(DType::F32).unwrap());
            let (xw, tw) = (Var::from_tensor(&xw).unwrap(), theta.to_dtype(DType::F32).unwrap());
            let tw = Var::from_tensor(&tw).unwrap();
            let wide = apply(&plan, &xw, &tw, Op::None).unwrap();
            assert_eq!(bits(&y), bits(&wide.to_dtype(dtype).unwrap()), "{dtype:?}");
            let (got, want) = (pulled(&y, &g), pulled(&wide, &gw));
            assert_close("x", &gradient(&got, &x), &gradient(&want, &xw), bound);
            assert_close("theta", &gradient(&got, &theta), &gradient(&want, &tw), bound);
        }
    }
    // A layer in half precision, parameters in single.
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, DType::F32, CPU);
    let base = Linear::new(tensor(7, &[5, 16], DType::BF16), Some(tensor(8, &[5], DType::BF16)));
    let layer = OrthogonalLinear::new(base, BOFT, vb).unwrap();
    scatter(&map);
    let x = tensor(1, &[3, 16], DType::BF16);
    let y = layer.forward(&x).unwrap();
    let store = y.sum_all().unwrap().backward().unwrap();
    assert!(map.all_vars().iter().all(|v| store.get(v).is_some_and(|g| g.dtype() == DType::F32)));
    assert_close("bf16", &numbers(&layer.merge().unwrap().forward(&x).unwrap()), &numbers(&y), 3e-2);
}

#[test]
fn any_shape_and_any_strides() {
    let plan = Plan::<f32>::new(8, &Butterfly::classic(2), Givens).unwrap();
    let theta = Var::from_tensor(&tensor(1, &[plan.num_params()], DType::F32)).unwrap();
    let run = |x: &Tensor, g: &Tensor| {
        let x = x.clone();
        let y = apply(&plan, &x, &theta, Op::None).unwrap();
        assert_eq!(y.dims(), x.dims());
        (bits(&y), gradient(&pulled(&y, g), &theta))
    };
    for dims in [&[8][..], &[1, 8], &[0, 8], &[3, 0, 8], &[7, 8], &[2, 3, 8], &[2, 1, 5, 3, 8]] {
        let x = tensor(2, dims, DType::F32);
        let (y, d) = run(&x, &tensor(3, dims, DType::F32));
        let mut want = vec![0f32; y.len()];
        let flat: Vec<f32> = x.flatten_all().unwrap().to_vec1().unwrap();
        let factors = plan.realize(&theta.to_vec1::<f32>().unwrap()).unwrap();
        let (from, to) = (Batch::rows(&flat, 8).unwrap(), BatchMut::rows(&mut want, 8).unwrap());
        plan.apply(&factors, from, to, Op::None, Parallelism::None, &mut Workspace::new()).unwrap();
        assert_eq!(y, want.iter().map(|y| f64::from(*y).to_bits()).collect::<Vec<_>>(), "{dims:?}");
        assert_eq!(d.iter().all(|d| *d == 0.0), x.elem_count() == 0, "{dims:?}");
    }
    // The same vectors, laid out otherwise: transposed, cut out, repeated, and in no order at all.
    let cases = [
        tensor(4, &[8, 5], DType::F32).t().unwrap(),
        tensor(4, &[6, 16], DType::F32).narrow(1, 3, 8).unwrap().narrow(0, 1, 4).unwrap(),
        tensor(4, &[1, 8], DType::F32).broadcast_as((5, 8)).unwrap(),
        tensor(4, &[2, 3, 8], DType::F32).transpose(0, 1).unwrap(),
        tensor(4, &[8, 3, 2], DType::F32).permute((2, 1, 0)).unwrap(),
        tensor(4, &[4, 6, 8], DType::F32).narrow(1, 2, 3).unwrap(),
        tensor(4, &[1, 1, 3, 8], DType::F32).transpose(0, 2).unwrap(),
    ];
    for x in cases {
        assert!(!x.is_contiguous() || x.dims().contains(&1));
        let g = tensor(5, x.dims(), DType::F32);
        let (got, want) = (run(&x, &g), run(&x.force_contiguous().unwrap(), &g));
        assert_eq!(got.0, want.0, "{:?}", x.layout());
        assert_close("gradient", &got.1, &want.1, 1e-6);
        // Gradients come with any strides, too: that of a sum is repeated, that of a transposed tensor transposed.
        let var = Var::from_tensor(&x.contiguous().unwrap()).unwrap();
        let y = apply(&plan, &var, &theta, Op::None).unwrap();
        let (sum, ones) = (y.sum_all().unwrap().backward().unwrap(), y.ones_like().unwrap());
        assert_close("sum", &gradient(&sum, &var), &gradient(&pulled(&y, &ones), &var), 1e-6);
        let turned = y.t().unwrap();
        let (a, b) = (pulled(&turned, &g.t().unwrap().contiguous().unwrap()), pulled(&y, &g));
        assert_close("turned", &gradient(&a, &var), &gradient(&b, &var), 1e-6);
    }
    // Layers, likewise.
    let (layer, map) = linear(3, 16, BOFT, None, DType::F32);
    for x in
        [tensor(1, &[0, 16], DType::F32), tensor(1, &[16, 5], DType::F32).t().unwrap(), tensor(1, &[16], DType::F32)]
    {
        let y = layer.forward(&x).unwrap();
        assert_eq!((y.dims().len(), y.dim(D::Minus1).unwrap()), (x.dims().len(), 3));
        assert_eq!(bits(&y), bits(&layer.forward(&x.contiguous().unwrap()).unwrap()));
        let store = y.sum_all().unwrap().backward().unwrap();
        assert!(map.all_vars().iter().all(|v| gradient(&store, v).iter().any(|g| *g != 0.0) == (x.elem_count() > 0)));
    }
}

#[test]
fn shared_blocks_fixed_ones_and_no_parameters() {
    let plan = Plan::<f64>::new(12, &Shared::by_stage(BlockDiagonal::new(4)), Cayley).unwrap();
    let theta = Var::from_tensor(&tensor(1, &[1, 6], DType::F64)).unwrap();
    let x = tensor(2, &[3, 12], DType::F64);
    let y = apply(&plan, &x, &theta, Op::None).unwrap();
    let all = Tensor::cat(&[theta.as_tensor(); 3], 0).unwrap();
    let each = Plan::<f64>::new(12, &BlockDiagonal::new(4), Cayley).unwrap();
    assert_eq!(bits(&y), bits(&apply(&each, &x, &all, Op::None).unwrap()));
    let identity = Plan::<f64>::identity(12).unwrap();
    let nothing = Tensor::zeros(0, DType::F64, CPU).unwrap();
    assert_eq!(bits(&apply(&identity, &x, &nothing, Op::None).unwrap()), bits(&x));
}

#[test]
fn only_what_is_wanted_gets_a_gradient() {
    let weight = Var::from_tensor(&tensor(7, &[5, 16], DType::F64)).unwrap();
    let bias = Var::from_tensor(&tensor(8, &[5], DType::F64)).unwrap();
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, DType::F64, CPU);
    let base = Linear::new(weight.as_tensor().clone(), Some(bias.as_tensor().clone()));
    let layer = OrthogonalLinear::new(base, BOFT, vb).unwrap();
    let x = tensor(1, &[3, 16], DType::F64);
    let store = layer.forward(&x).unwrap().sum_all().unwrap().backward().unwrap();
    assert!(store.get(&weight).is_none() && store.get(&x).is_none());
    assert_eq!(gradient(&store, &bias), [3.0; 5]);
    // Frozen parameters: the input's gradient alone, and the same.
    scatter(&map);
    let x = Var::from_tensor(&x).unwrap();
    let want = gradient(&layer.forward(&x).unwrap().sum_all().unwrap().backward().unwrap(), &x);
    let vb = VarBuilder::from_tensors(
        map.data().lock().unwrap().iter().map(|(k, v)| (k.clone(), v.as_detached_tensor())).collect(),
        DType::F64,
        CPU,
    );
    let layer = OrthogonalLinear::new(Linear::new(weight.detach(), None), BOFT, vb).unwrap();
    let store = layer.forward(&x).unwrap().sum_all().unwrap().backward().unwrap();
    assert_eq!(store.get_ids().count(), 1);
    assert_close("x", &gradient(&store, &x), &want, 1e-15);
}

#[test]
fn errors_say_what_was_expected() {
    let plan = Plan::<f32>::new(8, &Butterfly::classic(2), Givens).unwrap();
    let (x, theta) = (tensor(1, &[3, 8], DType::F32), tensor(2, &[12], DType::F32));
    let try_apply = |x: &Tensor, theta: &Tensor| apply(&plan, x, theta, Op::None).unwrap_err().to_string();
    let layer = |method, n, dtype: DType| {
        let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, CPU);
        let weight = tensor(1, &[4, n], DType::F32).to_dtype(dtype).unwrap();
        OrthogonalLinear::new(Linear::new(weight, None), method, vb).map(drop).unwrap_err().to_string()
    };
    let embedding = {
        let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, CPU);
        OrthogonalEmbedding::new(Embedding::new(x.clone(), 8), BOFT, vb).map(drop).unwrap_err().to_string()
    };
    let (fit, _) = linear(4, 16, BOFT, None, DType::F32);
    for (got, want) in [
        (try_apply(&x.narrow(1, 0, 7).unwrap(), &theta), "last dimension of x: expected length 8, got 7"),
        (try_apply(&Tensor::new(1f32, CPU).unwrap(), &theta), "last dimension of x: expected […, 8], got a scalar"),
        (try_apply(&x, &theta.narrow(0, 0, 11).unwrap()), "theta: expected length 12, got 11"),
        (try_apply(&x.to_dtype(DType::F64).unwrap(), &theta), "expected F32, BF16 or F16, for a plan of f32, got F64"),
        (try_apply(&x, &theta.to_dtype(DType::I64).unwrap()), "expected F32, F64, BF16 or F16, got I64"),
        (try_apply(&x, &theta.log().unwrap()), "theta: expected finite numbers, got NaN at position"),
        (layer(Method::Boft { factors: 2, block: 3 }, 8, DType::F32), "expected a divisor of 8"),
        (layer(Method::Boft { factors: 0, block: 4 }, 8, DType::F32), "shape of boft_R"),
        (layer(Method::Boft { factors: 4, block: 4 }, 8, DType::F32), "got n = 8"),
        (layer(Method::Oft { block: 0, share: false, terms: None }, 8, DType::F32), "expected a divisor of 8"),
        (layer(Method::Oft { block: 4, share: false, terms: Some(1) }, 8, DType::F32), "at least 2 terms, got 1"),
        (layer(OFT, 8, DType::U8), "weight of a layer to adapt: expected F32, F64, BF16 or F16, got U8"),
        (embedding, "method for an embedding: expected OFT, got BOFT"),
        (fit.forward(&x).unwrap_err().to_string(), "last dimension of x: expected length 16, got 8"),
        (fit.forward(&tensor(1, &[2, 16], DType::F64)).unwrap_err().to_string(), "for a plan of f32, got F64"),
    ] {
        assert!(got.contains(want), "{got}\n  instead of\n{want}");
    }
}

#[test]
fn training_keeps_rotations_and_files_are_pefts() {
    let work = tempfile::tempdir().unwrap();
    for (name, method, config) in [
        ("BOFT", BOFT, r#"{"peft_type": "BOFT", "peft_version": "0.21.2"}"#),
        ("OFT", OFT, r#"{"peft_type": "OFT", "use_cayley_neumann": false}"#),
    ] {
        let map = VarMap::new();
        let names = VarBuilder::from_varmap(&map, DType::F32, CPU).pp("base_model.model.net.layer");
        let base = Linear::new(tensor(7, &[12, 16], DType::F32), Some(tensor(8, &[12], DType::F32)));
        let layer = OrthogonalLinear::new(base.clone(), method, names).unwrap();
        let (x, target) = (tensor(1, &[64, 16], DType::F32), tensor(2, &[64, 12], DType::F32));
        assert_close(name, &numbers(&layer.forward(&x).unwrap()), &numbers(&base.forward(&x).unwrap()), 1e-6);
        let loss = || candle_nn::loss::mse(&layer.forward(&x).unwrap(), &target).unwrap();
        let before = loss().to_scalar::<f32>().unwrap();
        let mut optimiser = candle_nn::AdamW::new_lr(map.all_vars(), 0.05).unwrap();
        for _ in 0..50 {
            candle_nn::Optimizer::backward_step(&mut optimiser, &loss()).unwrap();
        }
        let after = loss().to_scalar::<f32>().unwrap();
        assert!(after < 0.9 * before, "{name}: {before} to {after}");
        assert!(layer.defect().unwrap() < 1e-6);
        let merged = layer.merge().unwrap();
        assert_close(name, &numbers(&merged.forward(&x).unwrap()), &numbers(&layer.forward(&x).unwrap()), 2e-6);

        map.save(work.path().join("adapter_model.safetensors")).unwrap();
        std::fs::write(work.path().join("adapter_config.json"), config).unwrap();
        let adapter = Adapter::open(work.path()).unwrap();
        let [read] = adapter.layers() else { panic!("{:?}", adapter.layers()) };
        assert_eq!(read.module, "net.layer");
        let (read, sides) = (adapter.sides(read, Some(&[12, 16])).unwrap(), layer.sides().unwrap());
        assert_eq!(read.right.unwrap().theta(), sides.right.unwrap().theta());
        assert_eq!(read.scale, sides.scale);
    }
}
