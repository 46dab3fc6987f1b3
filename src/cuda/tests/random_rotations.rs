//! Random rotations, and the model of costs.

use super::*;

#[test]
fn random_rotations_have_the_bits_of_the_cpu() {
    if !emulation::is_there() {
        return;
    }
    for (n, batch, rounds, stride) in [
        (1, 3, 3, 1),
        (2, 2, 3, 2),
        (13, 5, 3, 15),
        (96, 7, 3, 96),
        (128, 9, 4, 128),
        (300, 5, 3, 300),
        (768, 6, 3, 768),
    ] {
        let rotation = RandomRotation::<f32>::with_rounds(n, 42, rounds).unwrap();
        let (turn, data) = random::drawn(n, 42, rounds);
        let tile = random::tile(&turn, 100 << 10).unwrap();
        let x = vectors(stride, batch);
        let rows = Rows { batch, stride, aligned: stride.is_multiple_of(4) };
        let mut memory = Memory::default().with("x", &x).with("data", &data);
        let mut expected = x.clone();
        let workspace = &mut Workspace::new();
        for (back, direction) in [(false, Direction::Forward), (true, Direction::Inverse)] {
            memory.run(&random::call(&turn, tile, Stored::F32, back, rows).unwrap());
            let view = BatchMut::strided(&mut expected, batch, n, stride, 1).unwrap();
            rotation.apply_batch(view, direction, Parallelism::None, workspace).unwrap();
            assert!(same(&memory.get::<f32>("x"), &expected), "n = {n}, {direction:?}");
        }
    }
}

/// On an H100 by its data sheet: dense for one block that is the matrix, structured for what moves hardly more than x
/// and y.
#[test]
fn the_model_prefers_what_is_less_work() {
    let speeds = Speeds { memory: 3.35e12, cycles: 132.0 * 1.7e9, tensor: 2048.0 };
    let of = |plan: &Plan<f32>, stored, batch, precision| {
        let schedule = Schedule::new(plan, 8).unwrap();
        let tile = verbs::tile(&schedule, 227 << 10, Stored::F32).unwrap();
        estimate::estimate(&schedule, tile, speeds, stored, batch, precision)
    };
    let butterfly = Plan::new(4096, &Butterfly::classic(2), Givens).unwrap();
    let one = Plan::new(128, &BlockDiagonal::new(128), Cayley).unwrap();
    for batch in [1, 65536] {
        let model = of(&butterfly, Stored::Bf16, batch, Precision::F32);
        assert!(!model.prefers_dense() && model.structured > 0.0, "{model:?}");
        let model = of(&one, Stored::Bf16, 65536, Precision::F32);
        assert!(model.prefers_dense(), "{model:?}");
    }
    // x and y once are 0.64 ms.
    let model = of(&butterfly, Stored::F32, 65536, Precision::F32);
    assert!((0.64e-3..1.3e-3).contains(&model.structured), "{model:?}");
    assert!(of(&butterfly, Stored::F32, 65536, Precision::Tf32).dense < model.dense);
}
