//! The crate's own charts and wirings keep the laws; for every law there is a chart or wiring that breaks only it.

use super::*;
use crate::error::Result;
use crate::layout::StageLayout;
use crate::parametrization::{Cayley, Givens, Signed};
use crate::topology::{BlockDiagonal, Butterfly, Explicit};
use alloc::sync::Arc;

#[test]
fn charts_of_the_crate_keep_the_laws() {
    for b in 0..=12 {
        chart::<f64>(&Cayley, b, b as u64).unwrap();
        chart::<f64>(&Givens, b, b as u64).unwrap();
    }
    for b in [16, 32] {
        chart::<f64>(&Cayley, b, 99).unwrap();
    }
}

#[test]
fn topologies_of_the_crate_keep_the_laws() {
    let sizes = || (0..=70).chain([96, 1024, 1 << 20, usize::MAX]);
    for b in 0..=8 {
        topology(&BlockDiagonal::new(b), sizes().filter(|n| *n <= 1024 || b == 0)).unwrap();
        topology(&Butterfly::classic(b), sizes().filter(|n| *n < usize::MAX)).unwrap();
    }
    for (m, b) in [(0, 2), (1, 4), (2, 8), (4, 6), (200, 2)] {
        topology(&Butterfly::boft(m, b).unwrap(), sizes()).unwrap();
    }
    topology(&Explicit::new(5, [(2, vec![0, 4, 1, 3]), (3, vec![4, 2, 0])]).unwrap(), 0..9).unwrap();
}

/// Which law a broken rotation breaks.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Flaw {
    None,
    NotIdentity,
    Drift,
    WrongSign,
    WrongPushforward,
    PushforwardAdds,
    Overwrites,
    BadSection,
    AcceptsAnything,
    BatchDiffers,
    BatchPullbackDiffers,
    UntypedRefusal,
}

#[derive(Debug)]
struct Flawed(Flaw);

impl Parametrization<f64> for Flawed {
    fn name(&self) -> &'static str {
        "flawed"
    }
    fn num_params(&self, b: usize) -> Result<usize> {
        match (Parametrization::<f64>::num_params(&Givens, b), self.0) {
            (Err(_), Flaw::UntypedRefusal) => Err(Error::Length { what: "b", expected: 2, got: b }),
            (result, _) => result,
        }
    }
    fn forward(&self, b: usize, theta: &[f64], block: &mut [f64]) {
        Givens.forward(b, theta, block);
        match self.0 {
            Flaw::NotIdentity => block.swap(0, 1),
            Flaw::Drift if theta[0] != 0.0 => block[0] *= 1.0 + 4e-15,
            _ => {}
        }
    }
    fn vjp(&self, b: usize, theta: &[f64], block: &[f64], d_block: &[f64], d_theta: &mut [f64]) {
        match self.0 {
            Flaw::WrongSign => {
                let mut d = [0.0];
                Givens.vjp(b, theta, block, d_block, &mut d);
                d_theta[0] -= d[0];
            }
            Flaw::Overwrites => {
                d_theta[0] = 0.0;
                Givens.vjp(b, theta, block, d_block, d_theta);
            }
            _ => Givens.vjp(b, theta, block, d_block, d_theta),
        }
    }
    fn jvp(&self, b: usize, theta: &[f64], block: &[f64], d_theta: &[f64], d_block: &mut [f64]) {
        let old = d_block[0];
        Givens.jvp(b, theta, block, d_theta, d_block);
        match self.0 {
            Flaw::WrongPushforward => d_block[1] = -d_block[1],
            Flaw::PushforwardAdds => d_block[0] += old,
            _ => {}
        }
    }
    fn inverse(&self, b: usize, block: &[f64], theta: &mut [f64]) -> Result<()> {
        let result = Givens.inverse(b, block, theta);
        match self.0 {
            Flaw::BadSection => theta[0] += 1e-13,
            Flaw::AcceptsAnything => return Ok(()),
            _ => {}
        }
        result
    }
    fn forward_batch(&self, b: usize, theta: &[f64], blocks: &mut [f64]) {
        for (t, block) in theta.iter().zip(blocks.chunks_exact_mut(4)) {
            self.forward(b, &[*t], block);
        }
        if self.0 == Flaw::BatchDiffers && theta.len() > 8 {
            blocks[4 * 8] = blocks[4 * 8].next_up();
        }
    }
    fn vjp_batch(&self, b: usize, theta: &[f64], blocks: &[f64], d_blocks: &[f64], d_theta: &mut [f64]) {
        for j in 0..theta.len() {
            self.vjp(b, &theta[j..=j], &blocks[4 * j..4 * j + 4], &d_blocks[4 * j..4 * j + 4], &mut d_theta[j..=j]);
        }
        if self.0 == Flaw::BatchPullbackDiffers && theta.len() > 8 {
            d_theta[8] += 1e-12;
        }
    }
}

#[test]
fn every_flaw_is_found_by_its_law() {
    let law = |flaw, b| chart(&Flawed(flaw), b, 3).map_err(|violation| violation.law);
    assert_eq!(law(Flaw::None, 2), Ok(()));
    assert_eq!(law(Flaw::None, 3), Ok(()));
    assert_eq!(law(Flaw::NotIdentity, 2), Err("identity at zero"));
    assert_eq!(law(Flaw::Drift, 2), Err("orthogonal"));
    assert_eq!(law(Flaw::WrongSign, 2), Err("pullback is exact"));
    assert_eq!(law(Flaw::WrongPushforward, 2), Err("pushforward is the derivative"));
    assert_eq!(law(Flaw::PushforwardAdds, 2), Err("pushforward is the derivative"));
    assert_eq!(law(Flaw::Overwrites, 2), Err("pullback accumulates"));
    assert_eq!(law(Flaw::BadSection, 2), Err("inverse is a section"));
    assert_eq!(law(Flaw::AcceptsAnything, 2), Err("inverse refuses"));
    assert_eq!(law(Flaw::BatchDiffers, 2), Err("batch equals single"));
    assert_eq!(law(Flaw::BatchPullbackDiffers, 2), Err("batch equals single"));
    assert_eq!(law(Flaw::UntypedRefusal, 3), Err("block size refused"));
}

/// Signs at θ = 0 are for those who say so.
#[test]
fn a_chart_must_say_that_it_starts_elsewhere() {
    #[derive(Debug)]
    struct Silent(Signed<Cayley>);
    impl Parametrization<f64> for Silent {
        fn name(&self) -> &'static str {
            "silent"
        }
        fn num_params(&self, b: usize) -> Result<usize> {
            Parametrization::<f64>::num_params(&self.0, b)
        }
        fn forward(&self, b: usize, theta: &[f64], block: &mut [f64]) {
            self.0.forward(b, theta, block);
        }
        fn vjp(&self, b: usize, theta: &[f64], block: &[f64], d_block: &[f64], d_theta: &mut [f64]) {
            self.0.vjp(b, theta, block, d_block, d_theta);
        }
        fn inverse(&self, b: usize, block: &[f64], theta: &mut [f64]) -> Result<()> {
            self.0.inverse(b, block, theta)
        }
    }
    assert_eq!(identity_at_zero::<f64>(&Signed::new(Cayley), 3), Ok(()));
    assert_eq!(identity_at_zero::<f64>(&Silent(Signed::new(Cayley)), 3).unwrap_err().law, "identity at zero");
}

/// A wiring given by a function of (n, k), one stage.
struct Wiring<F>(F);

impl<F> core::fmt::Debug for Wiring<F> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Wiring")
    }
}

impl<F: Fn(usize) -> Result<StageLayout> + Send + Sync> Topology for Wiring<F> {
    fn name(&self) -> &'static str {
        "wiring"
    }
    fn num_stages(&self, n: usize) -> Result<usize> {
        (self.0)(n).map(|_| 1)
    }
    fn stage(&self, n: usize, _k: usize) -> StageLayout {
        (self.0)(n).unwrap()
    }
}

#[test]
fn broken_wirings_are_found() {
    let law = |wiring: &dyn Topology| topology(wiring, [4]).map_err(|violation| violation.law);
    let table = |index: &[u32]| Ok(StageLayout::Table { block: 2, index: Arc::from(index) });
    assert_eq!(law(&Wiring(|_| table(&[0, 3, 2, 1]))), Ok(()));
    assert_eq!(law(&Wiring(|_| table(&[0, 4]))), Err("layout is valid"));
    assert_eq!(law(&Wiring(|_| table(&[0, 1, 1, 2]))), Err("layout is valid"));
    assert_eq!(law(&Wiring(|_| Err(Error::Length { what: "n", expected: 1, got: 4 }))), Err("size refused"));
    let calls = core::sync::atomic::AtomicU32::new(0);
    let fickle = Wiring(|_| table(&[0, 1 + calls.fetch_add(1, core::sync::atomic::Ordering::Relaxed) % 3]));
    assert_eq!(law(&fickle), Err("determinism"));
}

#[test]
fn violations_say_what_where_and_how_much() {
    let text = chart(&Flawed(Flaw::Drift), 2, 3).unwrap_err().to_string();
    assert!(text.starts_with("flawed with b = 2 breaks the law `orthogonal`: expected a ratio of at most 2, got "));
}

/// Blocks with an eigenvalue near −1, where a section is ill-conditioned: `inverse` answers within the law or not at all.
#[test]
fn cayley_judges_its_section_as_the_law_does() {
    for (b, seed) in [(4, 56), (10, 162), (10, 170)] {
        chart::<f64>(&Cayley, b, seed).unwrap();
    }
}
