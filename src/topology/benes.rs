//! Beneš networks for every n: all n! permutations by 2⌈log₂ n⌉ − 1 stages of 2×2 blocks.
//!
//! V. Beneš (1964) for n = 2ᴸ; for every n, C. Chang and R. Melhem, *Arbitrary size Beneš networks*, Parallel Processing
//! Letters 7 (1997). A list of s ≥ 3 coordinates c₀ < c₁ < ··· is paired (c₀, c₁), (c₂, c₃), …, in a first and again in a last
//! stage. Between these, the first of each pair form a list of ⌊s/2⌋ and the second ones a list of ⌈s/2⌉, to which the last
//! coordinate of an odd list belongs: it passes through both stages. Lists of two coordinates meet in the middle stage. For
//! n = 2ᴸ this is a butterfly and its mirror image with the double stage in the middle merged: strides 1, 2, …, n/2, …, 2, 1.
//!
//! **Routing** (the looping algorithm: Opferman, Tsao-Wu 1971). The two that enter a pair must go to different lists, and
//! so must the two that leave one: the conditions form paths and even cycles, coloured by following them. For odd s the
//! item that enters on the odd line and the one that leaves there must be in the second list. If they are different, they are
//! the two ends of one path, which has an even number of conditions; so the colouring that starts with one of them suits
//! the other. O(n log n) in all.

use alloc::vec;
use alloc::vec::Vec;

use super::limits::{ceil_log, check_permutation, check_stages};
use super::{StageLayout, Topology};
use crate::error::Result;

/// The Beneš network of 2×2 blocks: 2⌈log₂ n⌉ − 1 stages for every n ≥ 2, none for n = 1.
///
/// Blocks of a stage are numbered by their smaller coordinate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Benes;

impl Benes {
    /// Which blocks cross so that coordinate i goes to coordinate `permutation[i]`; the others are straight.
    ///
    /// One answer for each block, stage after stage and in a stage block after block, as in θ. A crossing block is [[0, 1], [1, 0]];
    /// with [`Givens`](crate::parametrization::Givens), θ = π/2 for those that cross and 0 for the others, the product is the
    /// permutation up to signs.
    ///
    /// ```
    /// use papilio::topology::Benes;
    /// assert_eq!(Benes.route(&[1, 0])?, [true]);
    /// assert_eq!(Benes.route(&[2, 0, 1])?.len(), 3);
    /// assert!(Benes.route(&[0, 0, 1]).is_err());
    /// # Ok::<(), papilio::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Size`](crate::Error::Size) for an empty permutation, [`Error::Index`](crate::Error::Index) for a number not below n, [`Error::Overlap`](crate::Error::Overlap) for one that
    /// comes twice.
    pub fn route(&self, permutation: &[u32]) -> Result<Vec<bool>> {
        let n = permutation.len();
        check_permutation(permutation)?;
        // For each stage the smaller coordinate of each block, and whether it crosses.
        let stages = self.num_stages(n)?;
        let mut crossed: Vec<Vec<(u32, bool)>> = vec![Vec::new(); stages];
        let mut lists = vec![(all(n), permutation.to_vec())];
        for level in 0..stages / 2 {
            let mut next = Vec::with_capacity(2 * lists.len());
            for (list, to) in lists {
                if list.len() < 3 {
                    next.push((list, to));
                    continue;
                }
                let first = colour(&to);
                let mut last = vec![false; list.len()];
                let mut parts = [vec![0; list.len() / 2], vec![0; list.len().div_ceil(2)]];
                for (i, &to) in to.iter().enumerate() {
                    last[to as usize] = first[i];
                    parts[usize::from(!first[i])][i / 2] = to / 2;
                }
                for pair in 0..list.len() / 2 {
                    crossed[level].push((list[2 * pair], !first[2 * pair]));
                    crossed[stages - 1 - level].push((list[2 * pair], !last[2 * pair]));
                }
                next.extend(split(&list).into_iter().zip(parts));
            }
            lists = next;
        }
        if let Some(middle) = crossed.get_mut(stages / 2) {
            middle.extend(lists.iter().filter(|(list, _)| list.len() == 2).map(|(list, to)| (list[0], to[0] == 1)));
        }
        let ordered = crossed.into_iter().flat_map(|mut stage| {
            stage.sort_unstable();
            stage
        });
        Ok(ordered.map(|(_, crosses)| crosses).collect())
    }
}

impl Topology for Benes {
    fn name(&self) -> &'static str {
        "Beneš"
    }

    fn num_stages(&self, n: usize) -> Result<usize> {
        check_stages("Beneš topology", n, Some((2 * ceil_log(n.max(1), 2)).saturating_sub(1)))
    }

    fn stage(&self, n: usize, k: usize) -> StageLayout {
        let middle = ceil_log(n, 2) - 1;
        let level = k.min(2 * middle - k);
        if n.is_power_of_two() {
            return StageLayout::Strided { unit: 1, radix: 2, distance: 1 << level, groups: n >> (level + 1) };
        }
        let mut lists = vec![all(n)];
        for _ in 0..level {
            lists = lists
                .into_iter()
                .flat_map(|list| if list.len() < 3 { vec![list] } else { split(&list).into() })
                .collect();
        }
        let meets = |list: &&Vec<u32>| if level == middle { list.len() == 2 } else { list.len() > 2 };
        let pairs = lists.iter().filter(meets).flat_map(|list| list.chunks_exact(2));
        let mut pairs: Vec<[u32; 2]> = pairs.map(|pair| [pair[0], pair[1]]).collect();
        pairs.sort_unstable();
        StageLayout::Table { block: 2, index: pairs.concat().into() }
    }
}

fn all(n: usize) -> Vec<u32> {
    (0..n as u32).collect()
}

/// The two lists between the first and the last stage of a list.
fn split(list: &[u32]) -> [Vec<u32>; 2] {
    let first = list.chunks_exact(2).map(|pair| pair[0]).collect();
    let second = list.chunks(2).map(|pair| pair[pair.len() - 1]).collect();
    [first, second]
}

/// For each position whether what enters there goes through the first list; `to` says where it leaves.
fn colour(to: &[u32]) -> Vec<bool> {
    let s = to.len();
    let mut from = vec![0; s];
    for (i, &to) in to.iter().enumerate() {
        from[to as usize] = i;
    }
    let mut colours = vec![None; s];
    let mut follow = |mut i: usize, colour: bool| {
        while i < s && colours[i].is_none() {
            colours[i] = Some(colour);
            let beside = to[i] as usize ^ 1;
            if beside >= s {
                break; // leaves on the odd line
            }
            colours[from[beside]] = Some(!colour);
            i = from[beside] ^ 1;
        }
    };
    if s % 2 == 1 {
        follow(s - 1, false);
    }
    (0..s).step_by(2).for_each(|i| follow(i, true));
    colours.into_iter().map(|colour| colour.unwrap_or(false)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::generator::Generator;

    /// Sends the items through the network.
    fn run(n: usize, crosses: &[bool]) -> Vec<u32> {
        let (mut items, mut settings) = (all(n), crosses.iter());
        for k in 0..Benes.num_stages(n).unwrap() {
            let layout = Benes.stage(n, k);
            layout.validate(n).unwrap();
            for j in 0..layout.num_blocks() {
                if *settings.next().unwrap() {
                    items.swap(layout.index(j, 0), layout.index(j, 1));
                }
            }
        }
        assert!(settings.next().is_none());
        items
    }

    #[test]
    fn every_permutation_is_routed() {
        let mut g = Generator::new(5);
        for n in (1..=64).chain([100, 127, 128, 129, 255, 300, 341, 500]) {
            for case in 0..12 {
                let mut to = all(n);
                match case {
                    0 => {}
                    1 => to.reverse(),
                    2 => to.rotate_left(1),
                    _ => g.shuffle(&mut to),
                }
                let items = run(n, &Benes.route(&to).unwrap());
                assert!((0..n).all(|i| items[to[i] as usize] == i as u32), "{to:?} gave {items:?}");
            }
        }
    }

    #[test]
    fn all_permutations_of_up_to_six() {
        for n in 1..=6usize {
            for code in 0..(1..=n).product::<usize>() {
                let (mut rest, mut code) = (all(n), code);
                let to: Vec<u32> = (0..n)
                    .map(|i| {
                        let at = code % (n - i);
                        code /= n - i;
                        rest.remove(at)
                    })
                    .collect();
                let items = run(n, &Benes.route(&to).unwrap());
                assert!((0..n).all(|i| items[to[i] as usize] == i as u32), "{to:?}");
            }
        }
    }

    #[test]
    fn depth_and_number_of_switches() {
        fn switches(n: usize) -> usize {
            if n <= 2 { n - 1 } else { n / 2 * 2 + switches(n / 2) + switches(n.div_ceil(2)) }
        }
        for n in 2..200 {
            let stages = Benes.num_stages(n).unwrap();
            assert_eq!(stages, 2 * ceil_log(n, 2) - 1);
            let blocks: usize = (0..stages).map(|k| Benes.stage(n, k).num_blocks()).sum();
            assert_eq!(blocks, switches(n), "{n}");
            assert!(!n.is_power_of_two() || blocks == n / 2 * stages);
        }
    }

    #[test]
    fn what_is_no_permutation_is_refused() {
        assert!(matches!(Benes.route(&[]), Err(Error::Size { .. })));
        assert!(matches!(Benes.route(&[0, 2]), Err(Error::Index { expected: 2, got: 2, .. })));
        assert!(matches!(Benes.route(&[1, u32::MAX, 0]), Err(Error::Index { .. })));
        assert!(matches!(Benes.route(&[0, 1, 1, 2]), Err(Error::Overlap { .. })));
        assert_eq!(Benes.route(&[0]), Ok(vec![]));
    }
}
