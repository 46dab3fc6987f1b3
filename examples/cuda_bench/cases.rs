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

/// The cases that matter with other tiles and windows.
pub(crate) fn tunings(multiprocessors: usize) -> Result<Vec<Case>> {
    let mut all = Vec::new();
    for case in cases(true)? {
        // A butterfly belongs together as a whole; BOFT falls into parts of 64 coordinates.
        let pairs = case.name.starts_with("b = 2,");
        let (windows, planes) = match pairs {
            true => (&[8, 16][..], [(1, 1), (2, 1), (2, 2), (4, 2)]),
            false => (&[8][..], [(8, 1), (16, 1), (16, 2), (32, 2)]),
        };
        for (&window, (planes, together)) in windows.iter().flat_map(|w| planes.map(|p| (w, p))) {
            for (threads, ahead) in [(128, 0), (256, 0), (512, 0), (512, 2 * multiprocessors)] {
                if threads > 128 || !pairs {
                    let tuning = Tuning { window: Some(window), tile: Some([4, planes, together, threads]), ahead };
                    all.push(Case { tuning, ..case.clone() });
                }
            }
        }
    }
    Ok(all)
}

pub(crate) fn theta(plan: &Plan<f32>) -> Vec<f32> {
    (0..plan.num_params()).map(|i| 0.3 * (1.7 * i as f32).sin()).collect()
}
