//! Batches whose rows belong to different adapters.
#![cfg(feature = "files")]

mod support;

use half::bf16;
use papilio::adapter::serve::{Mixed, Served, Turn};
use papilio::adapter::train::{Linear, Weight};
use papilio::adapter::{Adapter, Sides, View};
use papilio::generator::Generator;
use papilio::parametrization::{Cayley, Exponential};
use papilio::topology::{AnyButterfly, BlockDiagonal, Butterfly};
use papilio::{Element, Error, Parallelism, Plan, Workspace};
use support::{assert_close, noise};

const INPUTS: usize = 32;
const OUTPUTS: usize = 12;

fn turn(plan: Plan<f32>, seed: u64) -> Turn<f32> {
    let theta = noise(seed, plan.num_params());
    Turn::new(plan, &theta).unwrap()
}

/// Adapters of every kind: BOFT, OFT, on the other side, scales alone, nothing at all.
fn layer() -> Mixed<f32> {
    let scale = |seed| Some(noise(seed, OUTPUTS).into_iter().map(|s| s as f32).collect::<Vec<f32>>());
    let boft = |m, b| Plan::new(INPUTS, &Butterfly::boft(m, b).unwrap(), Cayley).unwrap();
    let oft = Plan::new(INPUTS, &BlockDiagonal::new(16), Exponential).unwrap();
    let outputs = Plan::new(OUTPUTS, &AnyButterfly::new(2), Cayley).unwrap();
    let mut layer = Mixed::new(INPUTS, OUTPUTS).unwrap();
    for adapter in [
        Served { inputs: Some(turn(boft(3, 4), 1)), scale: scale(2), ..Served::default() },
        Served { inputs: Some(turn(boft(5, 2), 3)), ..Served::default() },
        Served {
            inputs: Some(turn(oft, 4)),
            scale: scale(5),
            outputs: Some(turn(outputs.clone(), 6)),
            ..Served::default()
        },
        Served { outputs: Some(turn(outputs, 7)), ..Served::default() },
        Served { scale: scale(8), ..Served::default() },
        Served::default(),
    ] {
        layer.add(adapter).unwrap();
    }
    layer
}

/// Rows in random order, in runs, one adapter, none.
fn assignments(batch: usize) -> Vec<Vec<Option<usize>>> {
    let mut generator = Generator::new(batch as u64);
    let mut any = || Some(generator.below(7) as usize).filter(|k| *k < 6);
    let random: Vec<_> = (0..batch).map(|_| any()).collect();
    let runs: Vec<_> = (0..batch).map(|v| Some(v * 6 / batch.max(1))).collect();
    vec![random, runs, vec![Some(0); batch], vec![None; batch], (0..batch).map(|v| [Some(2), Some(1)][v % 2]).collect()]
}

fn check<E: Element<Scalar = f32> + PartialEq>() {
    let (layer, ws) = (layer(), &mut Workspace::new());
    for batch in [0, 1, 2, 7, 16, 33, 200] {
        for which in assignments(batch) {
            for (width, seed) in [(INPUTS, 1), (OUTPUTS, 2)] {
                let start: Vec<E> = noise(seed, batch * width).into_iter().map(|x| E::store(x as f32)).collect();
                let turn = |rows: &mut [E], which: &[Option<usize>], parallelism, ws: &mut Workspace| {
                    if width == INPUTS {
                        layer.turn_inputs(rows, which, parallelism, ws).unwrap();
                    } else {
                        layer.turn_outputs(rows, which, parallelism, ws).unwrap();
                    }
                };
                let mut alone = start.clone();
                for (row, which) in alone.chunks_exact_mut(width).zip(&which) {
                    turn(row, &[*which], Parallelism::None, ws);
                }
                for parallelism in [Parallelism::None, Parallelism::Rayon] {
                    let mut together = start.clone();
                    turn(&mut together, &which, parallelism, ws);
                    assert!(together == alone, "batch {batch}, width {width}, {which:?}");
                }
            }
        }
    }
}

#[test]
fn a_mixed_batch_has_the_bits_of_a_call_for_each_row() {
    check::<f32>();
    check::<bf16>();
}

#[test]
fn rows_come_out_as_from_their_layer() {
    let (layer, ws) = (layer(), &mut Workspace::new());
    let weight: Vec<f32> = noise(9, OUTPUTS * INPUTS).into_iter().map(|w| w as f32).collect();
    let weight = Weight::new(weight, OUTPUTS, INPUTS).unwrap();
    let which = [Some(1), Some(0), None, Some(1), Some(0)];
    let x: Vec<f32> = noise(10, which.len() * INPUTS).into_iter().map(|x| x as f32).collect();
    let (mut rotated, mut y) = (x.clone(), vec![f32::NAN; which.len() * OUTPUTS]);
    layer.turn_inputs(&mut rotated, &which, Parallelism::None, ws).unwrap();
    weight.forward(&rotated, &mut y, Parallelism::None).unwrap();
    layer.turn_outputs(&mut y, &which, Parallelism::None, ws).unwrap();
    for ((x, y), which) in x.chunks(INPUTS).zip(y.chunks(OUTPUTS)).zip(&which) {
        let (m, b, seed) = if *which == Some(0) { (3, 4, 1) } else { (5, 2, 3) };
        let mut alone = Linear::boft(weight.clone(), m, b).unwrap();
        if which.is_some() {
            alone.set_theta(&noise(seed, alone.theta().len())).unwrap();
        }
        if *which == Some(0) {
            alone.set_scale(&noise(2, OUTPUTS)).unwrap();
        }
        let mut want = vec![f32::NAN; OUTPUTS];
        alone.forward(x, &mut want, Parallelism::None, ws).unwrap();
        let wide = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
        assert_close(&format!("{which:?}"), &wide(y), &wide(&want), 1e-6);
    }
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_written() {
    assert!(matches!(Mixed::<f32>::new(0, 3), Err(Error::Size { .. })));
    assert!(matches!(Mixed::<f32>::new(3, 0), Err(Error::Size { .. })));
    let (mut layer, ws) = (layer(), &mut Workspace::new());
    let other = || Some(turn(Plan::new(8, &BlockDiagonal::new(2), Cayley).unwrap(), 1));
    assert!(matches!(layer.add(Served { inputs: other(), ..Served::default() }), Err(Error::Length { .. })));
    assert!(matches!(layer.add(Served { outputs: other(), ..Served::default() }), Err(Error::Length { .. })));
    let scale = Some(vec![1.0; OUTPUTS - 1]);
    assert!(matches!(layer.add(Served { scale, ..Served::default() }), Err(Error::Length { .. })));
    let scale = Some(vec![f32::NAN; OUTPUTS]);
    assert!(matches!(layer.add(Served { scale, ..Served::default() }), Err(Error::Domain { .. })));
    assert_eq!(layer.adapters().len(), 6);
    let mut x = vec![1.0f32; 2 * INPUTS];
    let mut refuse = |x: &mut [f32], which: &[Option<usize>]| {
        layer.turn_inputs(x, which, Parallelism::None, ws).expect_err("it does not fit")
    };
    assert!(matches!(refuse(&mut x, &[Some(0), Some(6)]), Error::Index { expected: 6, got: 6, .. }));
    assert!(matches!(refuse(&mut x, &[Some(0)]), Error::Length { expected: 2, got: 1, .. }));
    assert!(matches!(refuse(&mut x[1..], &[Some(0)]), Error::Size { .. }));
    assert!(x.iter().all(|x| *x == 1.0));
}

/// Adapters of files, the bias that RoAd turns included, against their merged weights.
#[test]
fn adapters_of_files_are_served_as_they_merge() {
    let work = tempfile::TempDir::new().unwrap();
    let (inputs, outputs) = (8, 8);
    let write_adapter = |name: &str, config: &str, tensors: &[(&str, support::Tensor)]| {
        let directory = work.path().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let tensors: Vec<_> = tensors.iter().map(|(key, tensor)| (*key, tensor)).collect();
        support::write(&directory.join("adapter_model.safetensors"), &tensors);
        std::fs::write(directory.join("adapter_config.json"), config).unwrap();
        Adapter::open(&directory).unwrap()
    };
    let numbers = |shape: &[usize], seed| support::f64s(shape, noise(seed, shape.iter().product()));
    let adapters = [
        write_adapter(
            "road",
            r#"{"peft_type": "ROAD", "variant": "road_1", "group_size": 4}"#,
            &[("base_model.model.a.road_theta", numbers(&[4], 8)), ("base_model.model.a.road_alpha", numbers(&[4], 9))],
        ),
        write_adapter(
            "boft",
            r#"{"peft_type": "BOFT", "peft_version": "0.18.0"}"#,
            &[
                ("base_model.model.a.boft_R", numbers(&[2, 4, 2, 2], 1)),
                ("base_model.model.a.boft_s", numbers(&[8, 1], 2)),
            ],
        ),
        write_adapter(
            "hra",
            r#"{"peft_type": "HRA", "r": 2, "apply_GS": true}"#,
            &[("base_model.model.a.hra_u", numbers(&[8, 2], 3))],
        ),
    ];
    let (weight, bias) = (noise(10, outputs * inputs), noise(11, outputs));
    let mut layer = Mixed::<f64>::new(inputs, outputs).unwrap();
    let which = [Some(0), Some(2), None, Some(1), Some(0)];
    let x = noise(12, which.len() * inputs);
    let product = |weight: &[f64], x: &[f64]| -> Vec<f64> {
        weight.chunks_exact(inputs).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
    };
    let mut merged = Vec::new();
    for adapter in &adapters {
        let sides = adapter.sides(&adapter.layers()[0], Some(&[outputs, inputs])).unwrap();
        let (mut w, mut b) = (weight.clone(), bias.clone());
        sides.merge(&[outputs, inputs], &mut w, Parallelism::None, &Workspace::new()).unwrap();
        sides.merge_bias(&mut b, &Workspace::new()).unwrap();
        merged.push((w, b));
        layer.add(Served::from_sides(&sides, Some(&bias)).unwrap()).unwrap();
    }
    assert!(layer.adapters()[0].shift.is_some() && layer.adapters()[1].shift.is_none());
    let ws = &mut Workspace::new();
    let mut turned = x.clone();
    layer.turn_inputs(&mut turned, &which, Parallelism::None, ws).unwrap();
    let mut y: Vec<f64> = turned.chunks_exact(inputs).flat_map(|x| product(&weight, x)).collect();
    layer.turn_outputs(&mut y, &which, Parallelism::None, ws).unwrap();
    for (k, (row, adapter)) in y.chunks_exact_mut(outputs).zip(which).enumerate() {
        row.iter_mut().zip(&bias).for_each(|(y, b)| *y += b);
        let (w, b) = adapter.map_or((&weight, &bias), |at| (&merged[at].0, &merged[at].1));
        let want: Vec<f64> = product(w, &x[k * inputs..][..inputs]).iter().zip(b).map(|(y, b)| y + b).collect();
        assert_close(&format!("row {k}"), row, &want, 1e-14);
    }
    let embedding = Served::<f64>::of_embedding(&Sides::right(
        papilio::Orthogonal::new(Plan::new(8, &BlockDiagonal::new(4), Cayley).unwrap(), noise(5, 12)).unwrap(),
    ));
    assert!(embedding.is_ok_and(|served| served.inputs.is_none() && served.outputs.is_some()));
    assert!(matches!(Served::<f64>::of_embedding(&Sides::default()), Err(Error::Unsupported { .. })));
    let scaled = Sides::default().scaled(Some(vec![2.0; 4]));
    assert!(matches!(Served::<f64>::from_sides(&scaled, Some(&[1.0; 3])), Err(Error::Length { .. })));
    let reinterpreted = Sides { view: View::Reinterpreted, ..Sides::default() };
    assert!(matches!(Served::<f32>::from_sides(&reinterpreted, None), Err(Error::Unsupported { .. })));
}
