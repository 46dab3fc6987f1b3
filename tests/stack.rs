//! Everything runs on a small stack, also when it is compiled without optimisation, where no two variables share a place.

use std::thread;

use papilio::generator::Generator;
use papilio::parametrization::Charts;
use papilio::random::RandomRotation;
use papilio::topology::{BlockDiagonal, Butterfly, Explicit};
use papilio::{
    Batch, BatchMut, Factors, Isa, Op, Parallelism, Parametrization, Plan, Result, Saved, Scalar, Source, Topology,
    Workspace,
};

/// Half of what threads have by default.
const STACK: usize = 1 << 20;

fn on_small_stack(run: impl FnOnce() + Send + 'static) {
    thread::Builder::new().stack_size(STACK).spawn(run).unwrap().join().unwrap();
}

/// All charts, butterflies of small and large blocks, blocks at tabled places, and reflectors.
fn plans<T: Scalar>() -> Vec<Plan<T>> {
    let charts = Charts::<T::Wide>::new();
    let cayley = charts.find("Cayley").unwrap();
    let mut plans = Vec::new();
    for b in [2, 3, 4, 8, 16, 32] {
        let few = BlockDiagonal::new(b);
        for chart in charts.iter().filter(|chart| chart.num_params(b).is_ok()) {
            plans.push(Plan::new(2 * b, &few, chart.clone()).unwrap());
        }
        for source in [Source::reflectors(2), Source::orthonormal_reflectors(2)] {
            plans.push(Plan::from_stages(2 * b, [(few.stage(2 * b, 0), source)]).unwrap());
        }
        let n = b.pow(2);
        let mut index: Vec<usize> = (0..n).collect();
        Generator::new(b as u64).shuffle(&mut index);
        let topologies: [&dyn Topology; 2] = [&Butterfly::classic(b), &Explicit::new(n, [(b, index)]).unwrap()];
        plans.extend(topologies.map(|topology| Plan::new(n, topology, cayley.clone()).unwrap()));
    }
    plans.extend([256, 1024].map(|n| Plan::new(n, &Butterfly::classic(2), cayley.clone()).unwrap()));
    plans
}

fn exercise<T: Scalar>(plan: &Plan<T>) -> Result<()> {
    let mut g = Generator::new(1);
    let theta: Vec<f64> = (0..plan.num_params()).map(|_| g.uniform() - 0.5).collect();
    let factors = plan.realize(&theta)?;
    let (mut d, mut d_theta) = (vec![T::zero(); plan.num_entries()], vec![0.0; theta.len()]);
    for isa in Isa::available() {
        for batch in [1, 20] {
            apply(plan, &factors, &mut d, isa, batch)?;
        }
    }
    plan.realize_vjp(&theta, &factors, &d, &mut d_theta)?;
    plan.realize_jvp(&theta, &factors, &d_theta, &mut d)
}

fn apply<T: Scalar>(plan: &Plan<T>, factors: &Factors<T>, d: &mut [T], isa: Isa, batch: usize) -> Result<()> {
    let n = plan.n();
    let x: Vec<T> = (0..n * batch).map(|k| T::from_wide(T::Wide::from_real(k as f64))).collect();
    let (mut y, mut gx, mut ws) = (x.clone(), x.clone(), Workspace::with_isa(isa)?);
    for op in [Op::None, Op::Adjoint] {
        plan.apply(factors, Batch::rows(&x, n)?, BatchMut::rows(&mut y, n)?, op, Parallelism::None, &mut ws)?;
        for exact in [false, true] {
            let saved = match exact {
                true if !plan.is_exact() => continue,
                true => Saved::Output(Batch::rows(&y, n)?),
                false => Saved::Input(Batch::rows(&x, n)?),
            };
            let (gy, gx, none) = (Batch::rows(&x, n)?, Some(BatchMut::rows(&mut gx, n)?), Parallelism::None);
            plan.apply_vjp(factors, saved, op, gy, gx, Some(d), none, &mut ws)?;
        }
        let (x, dx) = (Batch::rows(&x, n)?, Some(Batch::rows(&gx, n)?));
        let (d, dy, none) = (Some(&*d), BatchMut::rows(&mut y, n)?, Parallelism::None);
        plan.apply_jvp(factors, x, op, dx, d, dy, none, &mut ws)?;
    }
    Ok(())
}

fn every_plan<T: Scalar>() {
    on_small_stack(|| {
        for plan in plans::<T>() {
            exercise(&plan).unwrap();
        }
    });
}

#[test]
fn single_precision() {
    every_plan::<f32>();
}

#[test]
fn double_precision() {
    every_plan::<f64>();
}

#[test]
fn complex_single_precision() {
    every_plan::<papilio::c32>();
}

#[test]
fn complex_double_precision() {
    every_plan::<papilio::c64>();
}

#[test]
fn random_rotations() {
    on_small_stack(|| {
        for isa in Isa::available() {
            for n in [1, 7, 48, 96, 128, 200, 256, 1000, 1536, 4096, 5000] {
                let mut x = vec![1f32; 3 * n];
                let rotation = RandomRotation::<f32>::new(n, 1).unwrap().with_isa(isa).unwrap();
                rotation.apply(&mut x).unwrap();
                rotation.inverse(&mut x).unwrap();
            }
        }
    });
}
