//! Who reaches whom: the Boolean product of the stages.
//!
//! Row i of the product after k stages is the set of inputs that reach node i of level k: n bits. A block replaces the rows
//! of its coordinates by unions of them, so a stage costs n²/64 word operations, whatever its block size.

use core::ops::ControlFlow;

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use super::network::{Level, Links, Network, too_large};
use crate::error::{Error, Result};
use crate::topology::Topology;

/// The largest n for which reachability is computed: its n²/8 bytes, held twice for a moment, are 128 MiB then.
pub const MOST_REACHABILITY: usize = 1 << 15;

/// Which inputs reach which nodes, exactly.
///
/// ```
/// use papilio::{topology::Butterfly, transmission::Network};
/// let reach = Network::new(8, &Butterfly::classic(2))?.reachability()?;
/// assert_eq!(reach.densities().collect::<Vec<_>>(), [0.125, 0.25, 0.5, 1.0]);
/// assert_eq!(reach.dense_after(), Some(3));
/// # Ok::<(), papilio::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reachability {
    n: usize,
    /// Connected pairs at each level, the first included.
    pairs: Vec<u64>,
    rows: Vec<u64>,
}

impl Network {
    /// Carries the sets of inputs through all stages.
    ///
    /// # Errors
    /// [`Error::Size`](crate::Error::Size) for n above [`MOST_REACHABILITY`].
    pub fn reachability(&self) -> Result<Reachability> {
        self.reachability_with(|_| ControlFlow::Continue(()))
    }

    /// As [`reachability`](Self::reachability). `progress` is told the share of the stages that are done, and may stop it: a
    /// mesh of thousands of coordinates takes a minute.
    ///
    /// # Errors
    /// As [`reachability`](Self::reachability), and [`Error::Interrupted`] if `progress` stops it.
    pub fn reachability_with(&self, mut progress: impl FnMut(f64) -> ControlFlow<()>) -> Result<Reachability> {
        let n = self.n;
        if n > MOST_REACHABILITY {
            return Err(too_large("reachability", "n of at most 32768", n));
        }
        let words = n.div_ceil(64);
        let mut rows = vec![0u64; n * words];
        for i in 0..n {
            rows[i * words + i / 64] |= 1 << (i % 64);
        }
        let mut pairs = vec![n as u64];
        let full = (n as u64) * (n as u64);
        let mut scratch = Vec::new();
        for (k, level) in self.levels.iter().enumerate() {
            if progress(k as f64 / self.levels.len() as f64).is_break() {
                return Err(Error::Interrupted {
                    what: "reachability",
                    expected: "to run to its end",
                    got: format!("an interruption at stage {k}"),
                });
            }
            // Unions of full sets are full: nothing changes any more, unless a fixed block has a zero row.
            let stays = pairs.last() == Some(&full) && matches!(level.links, Links::Free { .. });
            if !stays {
                level.unite(words, &mut rows, &mut scratch);
                pairs.push(rows.iter().map(|word| u64::from(word.count_ones())).sum());
            } else {
                pairs.push(full);
            }
        }
        Ok(Reachability { n, pairs, rows })
    }
}

impl Level {
    fn unite(&self, words: usize, rows: &mut [u64], scratch: &mut Vec<u64>) {
        let b = self.layout.block_size();
        for j in 0..self.layout.num_blocks() {
            let row = |k: usize| self.layout.index(j, k) * words;
            match &self.links {
                Links::Free { .. } => {
                    scratch.clear();
                    scratch.resize(words, 0);
                    for k in 0..b {
                        let from = &rows[row(k)..][..words];
                        scratch.iter_mut().zip(from).for_each(|(union, word)| *union |= word);
                    }
                    for i in 0..b {
                        rows[row(i)..][..words].copy_from_slice(scratch);
                    }
                }
                fixed => {
                    scratch.clear();
                    scratch.resize(b * words, 0);
                    for (i, union) in scratch.chunks_exact_mut(words).enumerate() {
                        for k in (0..b).filter(|&k| fixed.has(b, j, i, k)) {
                            let from = &rows[row(k)..][..words];
                            union.iter_mut().zip(from).for_each(|(union, word)| *union |= word);
                        }
                    }
                    for (i, union) in scratch.chunks_exact(words).enumerate() {
                        rows[row(i)..][..words].copy_from_slice(union);
                    }
                }
            }
        }
    }
}

impl Reachability {
    /// Nodes of a level.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Whether input `from` reaches output `to` through all stages: whether entry (to, from) of Q can be other than zero.
    /// `false` for nodes that do not exist.
    pub fn reaches(&self, from: usize, to: usize) -> bool {
        let words = self.n.div_ceil(64);
        from < self.n && to < self.n && self.rows[to * words + from / 64] >> (from % 64) & 1 == 1
    }

    /// Connected pairs over n² at each level: the density of the product of the first k stages, k = 0, 1, …, m.
    pub fn densities(&self) -> impl ExactSizeIterator<Item = f64> + '_ {
        let all = self.n as f64 * self.n as f64;
        self.pairs.iter().map(move |&pairs| pairs as f64 / all)
    }

    /// Density of the whole product.
    pub fn density(&self) -> f64 {
        self.densities().last().unwrap_or(0.0)
    }

    /// Whether every input reaches every output.
    pub fn is_dense(&self) -> bool {
        self.pairs.last() == Some(&((self.n as u64) * (self.n as u64)))
    }

    /// The least number of first stages whose product is dense, if any is.
    pub fn dense_after(&self) -> Option<usize> {
        let all = (self.n as u64) * (self.n as u64);
        self.pairs.iter().position(|&pairs| pairs == all)
    }
}

/// The smallest depth m ≤ `most` for which `family(m)` is dense at size `n`; depths that the family refuses are skipped.
///
/// For families whose members are not beginnings of each other; if they are, [`Reachability::dense_after`] of the longest says
/// it at once.
///
/// ```
/// use papilio::{topology::Butterfly, transmission::smallest_dense_depth};
/// // BOFT(m, 8) at n = 64 needs m = log2(2·64/8) stages.
/// assert_eq!(smallest_dense_depth(64, 10, |m| Butterfly::boft(m, 8))?, Some(4));
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// As [`Network::reachability`].
pub fn smallest_dense_depth<F: Topology>(
    n: usize,
    most: usize,
    mut family: impl FnMut(usize) -> Result<F>,
) -> Result<Option<usize>> {
    for depth in 0..=most {
        let Ok(network) = family(depth).and_then(|member| Network::new(n, &member)) else { continue };
        if network.reachability()?.is_dense() {
            return Ok(Some(depth));
        }
    }
    Ok(None)
}
