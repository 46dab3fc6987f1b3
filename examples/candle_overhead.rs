//! What a BOFT adapter (b = 8, m = 4) costs on a frozen linear layer in candle: one training step, forward and backward, of 256
//! tokens in `f32` on the CPU.
//!
//! ```text
//! cargo run --release --features candle --example candle_overhead
//! ```
//!
//! Four things are timed in turn, and their medians printed:
//!
//! * *two products*: x Wᵀ and g W, the least a frozen layer can do (candle's product, no graph);
//! * *frozen*: a layer of these two products and a bias as an operation of candle's graph, forward and backward to x;
//! * *candle's layer*: `candle_nn::Linear`, forward and backward to x. candle makes the gradient of W, too, frozen or not;
//! * *BOFT*: `OrthogonalLinear`, forward and backward to x, `boft_R` and `boft_s`.
//!
//! The bound: with T tokens and d inputs and outputs the products take 4·T·d² flops; the rotation takes 2·b·m·d for a vector, once
//! forward and three times backward, that is 8·b·m·T·d, or 2·b·m/d of the products: 1.6% for d = 4096, 6.2% for d = 1024.

use std::time::Instant;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Storage, Tensor, Var};
use candle_nn::{Linear, Module, VarBuilder, VarMap};
use papilio::interop::candle::{Method, OrthogonalLinear};

const TOKENS: usize = 256;
const FACTORS: usize = 4;
const BLOCK: usize = 8;

/// x Wᵀ + bias without a gradient of W.
#[derive(Clone)]
struct Frozen {
    weight: Tensor,
    bias: Vec<f32>,
}

impl CustomOp1 for Frozen {
    fn name(&self) -> &'static str {
        "frozen"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let ((batch, n), outputs) = (layout.shape().dims2()?, self.bias.len());
        let (storage, weight) = self.weight.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else { candle_core::bail!("a weight on the CPU") };
        let CpuStorage::F32(mut y) = x.matmul(storage, (1, batch, outputs, n), layout, &weight.transpose(0, 1)?)?
        else {
            candle_core::bail!("a layer of f32")
        };
        y.chunks_exact_mut(outputs).for_each(|row| row.iter_mut().zip(&self.bias).for_each(|(y, b)| *y += b));
        Ok((CpuStorage::F32(y), Shape::from((batch, outputs))))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        g.matmul(&self.weight).map(Some)
    }
}

impl Module for Frozen {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.apply_op1(self.clone())
    }
}

fn main() -> Result<()> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    println!("one step in ms, and how much longer BOFT takes");
    println!("{:>5} {:>16} {:>16} {:>20} {:>9}", "d", "two products", "frozen", "candle's layer", "BOFT");
    for (d, rounds) in if quick { vec![(64, 3)] } else { vec![(4096, 25), (1024, 201)] } {
        let [products, frozen, layer, boft] = step(d, rounds)?;
        let shown = |base: f64| format!("{base:.2} ({:+.1}%)", 100.0 * (boft / base - 1.0));
        println!("{d:>5} {:>16} {:>16} {:>20} {boft:>9.2}", shown(products), shown(frozen), shown(layer));
    }
    Ok(())
}

/// Medians in milliseconds.
fn step(d: usize, rounds: usize) -> Result<[f64; 4]> {
    let device = &Device::Cpu;
    let weight = (Tensor::randn(0f32, 1.0, (d, d), device)? / (d as f64).sqrt())?;
    let bias = Tensor::randn(0f32, 0.1, d, device)?;
    let x = Var::randn(0f32, 1.0, (TOKENS, d), device)?;
    let g = Tensor::ones((TOKENS, d), DType::F32, device)?; // what candle starts from
    let two = Frozen { weight: weight.clone(), bias: bias.to_vec1()? };
    let frozen = Linear::new(weight.clone(), Some(bias));
    let variables = VarMap::new();
    let names = VarBuilder::from_varmap(&variables, DType::F32, device);
    let method = Method::Boft { factors: FACTORS, block: BLOCK };
    let adapted = OrthogonalLinear::new(frozen.clone(), method, names)?;
    for variable in variables.all_vars() {
        variable.set(&(variable.as_tensor() + (variable.randn_like(0.0, 0.05)?))?)?;
    }
    let (detached, w_t) = (x.detach(), weight.t()?);
    let mut times = [(); 4].map(|()| Vec::with_capacity(rounds));
    for _ in 0..rounds {
        let start = Instant::now();
        let results = (detached.matmul(&w_t)?, g.matmul(&weight)?);
        times[0].push(start.elapsed().as_secs_f64());
        drop(results);
        for (layer, times) in [&two as &dyn Module, &frozen, &adapted].into_iter().zip(&mut times[1..]) {
            let start = Instant::now();
            let store = layer.forward(&x)?.backward()?;
            times.push(start.elapsed().as_secs_f64());
            assert!(store.get(&x).is_some());
        }
    }
    Ok(times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        1e3 * times[rounds / 2]
    }))
}
