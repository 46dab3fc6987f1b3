//! Training orthogonal adapters without a framework: layers over plain slices, dropout, constraints, Adam, and files that
//! training goes on from.
//!
//! [`Linear`] is the layer of BOFT and OFT, and of every other [`Plan`](crate::Plan): y = s ⊙ ((x R) Wᵀ) + bias, with a
//! frozen [`Weight`] and R never formed. Its backward pass needs nothing but x again. A framework keeps its own graph and
//! calls [`Linear::forward`] and [`Linear::backward`]; a loop of your own adds a loss and an optimiser ([`Adam`]).
//!
//! | what | how |
//! |---|---|
//! | BOFT, OFT, any wiring and chart | [`Linear::boft`], [`Linear::oft`], [`Linear::new`] |
//! | multiplicative dropout, the paper's and PEFT's | [`Dropout::draw`], [`Linear::set_mask`] |
//! | COFT | [`Linear::constrain`], [`project`] |
//! | training that goes on after an interruption, bit by bit the same | [`State`] |
//! | one rate for all block sizes | [`Adam::with_factors`] of [`block_rates`] |
//!
//! The example `finetune_digits` trains on real data with all of it.

mod adam;
mod blocks;
mod dropout;
mod linear;
mod state;
mod weight;

pub use adam::Adam;
pub(super) use blocks::coft_limit;
pub use blocks::{block_rates, project};
pub use dropout::{Dropout, Mask};
pub use linear::{Gradients, Linear};
pub use state::{Keep, State};
pub use weight::{Dense, Weight};
