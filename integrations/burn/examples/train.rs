//! An orthogonal layer finds a hidden rotation from pairs of inputs and outputs: `cargo run --release --example train [n] [steps]`.

use burn::nn::LinearConfig;
use burn::nn::loss::{MseLoss, Reduction};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Tensor};
use papilio_burn::{Method, OrthogonalLinear, save};

const BATCH: usize = 256;
const MOST: usize = 4096;

fn main() {
    if let Err(error) = run() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut given =
        std::env::args().skip(1).map(|arg| arg.parse::<usize>().map_err(|_| format!("`{arg}` is no number")));
    let n = given.next().transpose()?.unwrap_or(64);
    let steps = given.next().transpose()?.unwrap_or(300);
    if !(1..=MOST).contains(&n) {
        return Err(format!("n from 1 to {MOST}, please, and not {n}").into());
    }
    let device = Device::flex().autodiff();
    device.seed(7);
    let method = Method::Boft { factors: 3, block: 8 };

    // The teacher is the student's frozen layer behind another rotation.
    let base = LinearConfig::new(n, n).with_bias(false).init(&device);
    let student = OrthogonalLinear::new(base, method)?;
    let mut hidden = student.rotation().clone();
    hidden.boft_r = hidden.boft_r.map(|r| r.map(|r| r.random_like(Distribution::Normal(0.0, 0.3)).detach()));
    let teacher = student.clone().with_rotation(hidden);

    let (mut student, mut optimiser) = (student, AdamConfig::new().init());
    let started = std::time::Instant::now();
    println!(
        "BOFT with 3 factors of 8×8 blocks, n = {n}: {} parameters\n",
        student.rotation().trainable().plan().num_params()
    );
    println!("step  loss        ‖RᵀR − I‖ ≤  ms");
    for step in 0..=steps {
        let x = Tensor::<2>::random([BATCH, n], Distribution::Normal(0.0, 1.0), &device);
        let target = teacher.forward(x.clone()).detach();
        let loss = MseLoss::new().forward(student.forward(x), target, Reduction::Mean);
        if step % (steps / 10).max(1) == 0 {
            let (loss, ms) = (loss.clone().into_scalar::<f32>(), started.elapsed().as_millis());
            println!("{step:4}  {loss:.4e}  {:.1e}      {ms}", student.defect()?);
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &student);
        student = optimiser.step(0.02, student, gradients);
    }

    #[derive(burn::module::Module, Debug)]
    struct Model {
        layer: OrthogonalLinear,
    }
    let out = std::env::temp_dir().join("papilio-burn-adapter");
    save(&Model { layer: student }, method, &out, true)?;
    println!("\nadapter written to {} (look at it with `papilio verify`)", out.display());
    Ok(())
}
