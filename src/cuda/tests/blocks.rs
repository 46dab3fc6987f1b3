//! Blocks and their gradients against the CPU's.

use super::*;

/// θ, the emulated blocks in double precision and as numbers of windows, and whether the host has to make them.
fn emulated_realize(plan: &Plan<f32>, theta: &[f32]) -> (Memory, Schedule, Blocks) {
    let schedule = Schedule::new(plan, 8).unwrap();
    let blocks = Blocks::new(plan).unwrap();
    let wide = blocks.fixed.clone().unwrap_or_else(|| std::vec![f64::NAN; plan.num_entries()]);
    let mut memory = Memory::default()
        .with("theta", theta)
        .with("wide", &wide)
        .with("wide_at", &blocks.wide_at)
        .with("source", &schedule.numbers)
        .with("entry", &blocks.entry)
        .with("numbers", &std::vec![f32::NAN; schedule.numbers.len()])
        .with("status", &[0i32]);
    for call in blocks.realize().into_iter().chain(verbs::gather_wide(&schedule)) {
        memory.run(&call);
    }
    (memory, schedule, blocks)
}

pub(super) fn plans_of_charts() -> Vec<(&'static str, Plan<f32>)> {
    let fixed = Source::Fixed([0.6, -0.8, 0.8, 0.6].repeat(12).into());
    let fixed = Plan::from_stages(24, [(StageLayout::contiguous(2, 12), fixed)]).unwrap();
    let cayley = Plan::new(24, &BlockDiagonal::new(3), Cayley).unwrap();
    Vec::from([
        ("Givens", Plan::new(64, &Butterfly::classic(2), Givens).unwrap()),
        ("Cayley 2", Plan::new(64, &Butterfly::classic(2), Cayley).unwrap()),
        ("Exponential 2", Plan::new(64, &Butterfly::classic(2), Exponential).unwrap()),
        ("Exponential 3", Plan::new(24, &BlockDiagonal::new(3), Exponential).unwrap()),
        ("Exponential 4", Plan::new(64, &Butterfly::boft(2, 4).unwrap(), Exponential).unwrap()),
        ("Cayley 4", Plan::new(64, &Butterfly::boft(2, 4).unwrap(), Cayley).unwrap()),
        ("Cayley 8", Plan::new(64, &Butterfly::boft(2, 8).unwrap(), Cayley).unwrap()),
        ("Cayley 13", Plan::new(39, &BlockDiagonal::new(13), Cayley).unwrap()),
        ("Cayley 32", Plan::new(64, &BlockDiagonal::new(32), Cayley).unwrap()),
        ("fixed and Cayley 3", fixed.then(cayley).unwrap()),
    ])
}

#[test]
fn blocks_are_those_of_the_cpu() {
    if !emulation::is_there() {
        return;
    }
    let mut worst = 0.0f32;
    for (name, plan) in plans_of_charts() {
        for scale in [0.0, 1.0, 20.0] {
            let theta: Vec<f32> = theta(&plan).iter().map(|t| t * scale).collect();
            let (memory, schedule, _) = emulated_realize(&plan, &theta);
            assert_eq!(memory.get::<i32>("status"), [0], "{name}");
            let found: Vec<f32> = memory.get("numbers");
            let expected = numbers(&schedule, &plan.realize(&theta).unwrap());
            for (found, expected) in found.iter().zip(&expected).filter(|(_, expected)| !expected.is_nan()) {
                let miss = (found - expected).abs() / f32::EPSILON;
                assert!(
                    miss <= 0.5 && (scale > 0.0 || found == expected),
                    "{name}: {found} and {expected}, {miss} eps"
                );
                worst = worst.max(miss);
            }
        }
        if plan.num_params() > 0 {
            let mut theta = theta(&plan);
            theta[plan.num_params() - 1] = f32::NAN;
            assert_eq!(emulated_realize(&plan, &theta).0.get::<i32>("status"), [1], "{name}");
        }
    }
    println!("entries of blocks: {worst} eps");
}

#[test]
fn gradients_of_blocks_are_those_of_the_cpu() {
    if !emulation::is_there() {
        return;
    }
    let mut worst = 0.0f32;
    for (name, plan) in plans_of_charts() {
        let theta = theta(&plan);
        let (memory, _, blocks) = emulated_realize(&plan, &theta);
        let d: Vec<f32> = (0..plan.num_entries()).map(|e| (e as f32 * 1.3 + 0.4).cos()).collect();
        let mut memory = memory.with("d_factors", &d).with("d_theta", &std::vec![0.25f32; plan.num_params()]);
        for call in blocks.realize_vjp() {
            memory.run(&call);
        }
        let mut expected = std::vec![0.25f32; plan.num_params()];
        plan.realize_vjp(&theta, &plan.realize(&theta).unwrap(), &d, &mut expected).unwrap();
        let miss = ratio(&memory.get::<f32>("d_theta"), &expected);
        assert!(miss <= 1.0, "{name}: {miss} eps");
        worst = worst.max(miss);
    }
    println!("gradients of parameters: {worst} eps");
}
