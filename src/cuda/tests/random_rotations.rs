//! Random rotations.

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
