//! The model of costs against what an H100 took.

use super::*;

#[test]
fn the_model_is_what_was_measured() {
    let speeds = Speeds { memory: 3.35e12, cycles: 132.0 * 1.98e9, tensor: 2048.0 };
    let table = include_str!("../../../tests/data/cuda_crossover.csv");
    let (mut worst, mut decided, mut wrong, mut plans) = (1.0f64, 0, 0, std::collections::HashMap::new());
    for row in table.lines().skip(2) {
        let cells: Vec<&str> = row.split(',').collect();
        let number = |at: usize| cells[at].parse::<usize>().unwrap();
        let seconds = |at: usize| 1e-6 * cells[at].parse::<f64>().unwrap();
        let (n, b, m, batch) = (number(0), number(1), number(2), number(4));
        let stored = if cells[3] == "f32" { Stored::F32 } else { Stored::Bf16 };
        let schedule = plans.entry((n, b)).or_insert_with(|| {
            let plan = match b {
                2 => Plan::new(n, &Butterfly::classic(2), Givens).unwrap(),
                _ => Plan::<f32>::new(n, &Butterfly::boft(m, b).unwrap(), Cayley).unwrap(),
            };
            Schedule::new(&plan, tile::windows(&plan)[0]).unwrap()
        });
        let tile = tile::tile(schedule, 227 << 10, stored).unwrap();
        let model = super::super::estimate::estimate(schedule, tile, speeds, stored, batch, Precision::Tf32);
        let (structured, dense) = (seconds(5), seconds(6));
        for (which, model, measured) in [("structured", model.structured, structured), ("dense", model.dense, dense)] {
            let off = (model / measured).max(measured / model);
            assert!(off <= 2.4, "{row}: {which} {model:e}");
            worst = worst.max(off);
        }
        if !(0.8..1.25).contains(&(dense / structured)) {
            wrong += usize::from(model.prefers_dense() != (dense < structured));
            decided += 1;
        }
    }
    // cuBLAS takes twice as long for TF32 and n = 512 as for the sizes around it.
    println!("a factor of {worst:.2} at most, {wrong} of {decided} decisions wrong");
    assert!(decided > 150 && wrong <= 1);
}
