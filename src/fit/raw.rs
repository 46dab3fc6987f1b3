//! Blocks as their own parameters: what turns the verbs of a plan into products with any block matrix.
//!
//! θ of a block is its entries, row-major (re, im of complex ones). Sweeps make one plan for each stage and realise it again and
//! again with other blocks. Nothing is orthogonal by construction here, so the chart stays inside this module.

use bytemuck::cast_slice;

use crate::error::Result;
use crate::parametrization::Parametrization;
use crate::scalar::Wide;

#[derive(Debug, Clone, Copy)]
pub(super) struct Raw;

impl<W: Wide> Parametrization<W> for Raw {
    fn name(&self) -> &'static str {
        "raw"
    }

    fn num_params(&self, b: usize) -> Result<usize> {
        Ok(b * b * (1 + usize::from(W::IS_COMPLEX)))
    }

    fn forward(&self, _b: usize, theta: &[f64], block: &mut [W]) {
        block.copy_from_slice(cast_slice(theta));
    }

    fn forward_batch(&self, _b: usize, theta: &[f64], blocks: &mut [W]) {
        blocks.copy_from_slice(cast_slice(theta));
    }

    fn vjp(&self, _b: usize, _theta: &[f64], _block: &[W], d_block: &[W], d_theta: &mut [f64]) {
        d_theta.iter_mut().zip(cast_slice::<W, f64>(d_block)).for_each(|(d, g)| *d += g);
    }

    fn inverse(&self, _b: usize, block: &[W], theta: &mut [f64]) -> Result<()> {
        theta.copy_from_slice(cast_slice(block));
        Ok(())
    }

    fn is_exact(&self) -> bool {
        false
    }
}
