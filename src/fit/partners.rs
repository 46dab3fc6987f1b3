//! The best pair of coordinates, kept up to date while two coordinates at a time change.
//!
//! Row p remembers its best partner q > p. Where coordinates i and j change, only pairs with one of them have a new score: rows i
//! and j are searched again, and so is a row whose partner was i or j and is worse now; all others compare two numbers. That is O(n)
//! where few rows share a partner, as is usual, and O(n²) at worst.

use alloc::vec;
use alloc::vec::Vec;

pub(super) struct Partners {
    /// Score and partner of each row but the last.
    best: Vec<(f64, usize)>,
}

impl Partners {
    pub(super) fn new(n: usize, score: impl Fn(usize, usize) -> f64) -> Self {
        let mut partners = Self { best: vec![(f64::NEG_INFINITY, 0); n.saturating_sub(1)] };
        (0..partners.best.len()).for_each(|p| partners.search(p, &score));
        partners
    }

    /// The best pair and its score: of equal ones the first row. None if there are no pairs.
    pub(super) fn best(&self) -> Option<(f64, usize, usize)> {
        let pairs = self.best.iter().enumerate().map(|(p, (score, q))| (*score, p, *q));
        pairs.reduce(|best, pair| if pair.0 > best.0 { pair } else { best })
    }

    /// Coordinates `i` and `j` have changed.
    pub(super) fn update(&mut self, i: usize, j: usize, score: impl Fn(usize, usize) -> f64) {
        for p in 0..self.best.len() {
            let mut stale = p == i || p == j;
            if !stale {
                for q in [i, j].into_iter().filter(|q| *q > p) {
                    let new = score(p, q);
                    if new > self.best[p].0 {
                        (self.best[p], stale) = ((new, q), false);
                    } else if self.best[p].1 == q {
                        stale = new < self.best[p].0;
                    }
                }
            }
            if stale {
                self.search(p, &score);
            }
        }
    }

    fn search(&mut self, p: usize, score: &impl Fn(usize, usize) -> f64) {
        let pairs = (p + 1..=self.best.len()).map(|q| (score(p, q), q));
        let best = pairs.reduce(|best, pair| if pair.0 > best.0 { pair } else { best });
        self.best[p] = best.unwrap_or((f64::NEG_INFINITY, p));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::Generator;

    #[test]
    fn always_the_best_of_all_pairs() {
        let mut g = Generator::new(3);
        for n in 0..9 {
            let mut scores: Vec<f64> = (0..n * n).map(|_| g.below(20) as f64).collect();
            let mut partners = Partners::new(n, |p, q| scores[p * n + q]);
            for _ in 0..200 {
                let all = (0..n).flat_map(|p| (p + 1..n).map(move |q| (p, q)));
                let most = all.map(|(p, q)| scores[p * n + q]).reduce(f64::max);
                let found = partners.best();
                assert_eq!(found.map(|found| found.0), most);
                let Some((score, p, q)) = found else { break };
                assert!(p < q && scores[p * n + q] == score);
                for k in 0..n {
                    for at in [p * n + k, k * n + p, q * n + k, k * n + q] {
                        scores[at] = g.below(20) as f64;
                    }
                }
                partners.update(p, q, |p, q| scores[p * n + q]);
            }
        }
    }
}
