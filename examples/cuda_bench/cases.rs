//! What is measured.

use papilio::cuda::Tuning;
use papilio::parametrization::{Cayley, Givens};
use papilio::topology::Butterfly;
use papilio::{Plan, Result};

#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) plan: Plan<f32>,
    pub(crate) tuning: Tuning,
}

fn case(name: &str, plan: Plan<f32>) -> Case {
    Case { name: name.into(), plan, tuning: Tuning::default() }
}

fn boft(n: usize, m: usize, b: usize) -> Result<Plan<f32>> {
    Plan::new(n, &Butterfly::boft(m, b)?, Cayley)
}

fn classic(n: usize) -> Result<Plan<f32>> {
    Plan::new(n, &Butterfly::classic(2), Givens)
}

pub(crate) fn cases(quick: bool) -> Result<Vec<Case>> {
    let mut cases = vec![
        case("b = 2, n = 1024, m = 10", classic(1024)?),
        case("b = 2, n = 4096, m = 12", classic(4096)?),
        case("b = 8, n = 4096, m = 4", boft(4096, 4, 8)?),
        case("b = 32, n = 4096, m = 2", boft(4096, 2, 32)?),
    ];
    if !quick {
        cases.push(case("b = 2, n = 256, m = 8", classic(256)?));
        cases.push(case("b = 4, n = 4096, m = 4", boft(4096, 4, 4)?));
        cases.push(case("b = 8, n = 1024, m = 4", boft(1024, 4, 8)?));
        cases.push(case("b = 16, n = 4096, m = 2", boft(4096, 2, 16)?));
        cases.push(case("b = 2, n = 16384, m = 14", classic(16384)?));
    }
    Ok(cases)
}

/// BOFT's rotation as `tests/peers/time_peft_cuda.py` trains it by default.
pub(crate) fn training() -> Result<Case> {
    Ok(case("training step, d = 4096, 2048 tokens, b = 8, m = 4", boft(4096, 4, 8)?))
}

/// Plans of all sizes, for the table of structured and dense.
pub(crate) fn sizes() -> Result<Vec<Case>> {
    let mut all = Vec::new();
    for n in [128, 256, 512, 1024, 2048, 4096, 8192] {
        all.push(case(&format!("crossover, n = {n}, b = 2"), classic(n)?));
        all.push(case(&format!("crossover, n = {n}, b = 8, m = 4"), boft(n, 4, 8)?));
        all.push(case(&format!("crossover, n = {n}, b = 32, m = 2"), boft(n, 2, 32)?));
    }
    Ok(all)
}

/// The cases that matter with other tiles and windows: of `apply`, or of its gradient.
pub(crate) fn tunings(gradient: bool) -> Result<Vec<Case>> {
    // Windows, and chunk, chunks, chunks of a thread, threads.
    type Tiles = &'static [(usize, [usize; 4])];
    let apply: [Tiles; 4] = [
        &[(8, [4, 1, 1, 128]), (16, [4, 1, 1, 64]), (16, [4, 2, 1, 128]), (16, [2, 2, 1, 128]), (16, [2, 2, 2, 64])],
        &[(8, [4, 1, 1, 256]), (16, [4, 1, 1, 256]), (16, [4, 2, 1, 512]), (16, [2, 2, 2, 256])],
        &[(8, [4, 4, 1, 32]), (8, [4, 16, 1, 128]), (8, [4, 8, 2, 32]), (8, [4, 16, 2, 64]), (8, [4, 32, 2, 128])],
        &[(8, [4, 8, 1, 128]), (8, [4, 8, 1, 64]), (8, [4, 16, 1, 128]), (8, [4, 16, 2, 64])],
    ];
    let gradients: [Tiles; 4] = [
        &[(8, [4, 1, 1, 128]), (8, [4, 2, 2, 128]), (8, [2, 4, 4, 128])],
        &[(8, [4, 1, 1, 512]), (8, [2, 2, 2, 512]), (8, [2, 3, 3, 512])],
        &[(8, [4, 4, 1, 32]), (8, [4, 16, 1, 128]), (8, [4, 32, 2, 128]), (8, [2, 16, 4, 32])],
        &[(8, [4, 8, 4, 128]), (8, [4, 16, 4, 128]), (8, [4, 16, 1, 128])],
    ];
    let mut all = Vec::new();
    for (case, tiles) in cases(true)?.into_iter().zip(if gradient { gradients } else { apply }) {
        for (window, tile) in tiles {
            let mut tuning = Tuning { window: (*window > 0).then_some(*window), ..Tuning::default() };
            *if gradient { &mut tuning.gradient_tile } else { &mut tuning.tile } = (*window > 0).then_some(*tile);
            all.push(Case { tuning, ..case.clone() });
            if !gradient && *window > 8 {
                // What one multiprocessor takes next, after what the device has room for.
                tuning.ahead = 264;
                all.push(Case { tuning, ..case.clone() });
            }
        }
    }
    Ok(all)
}

pub(crate) fn theta(plan: &Plan<f32>) -> Vec<f32> {
    (0..plan.num_params()).map(|i| 0.3 * (1.7 * i as f32).sin()).collect()
}
