//! A small random generator whose stream never changes.
//!
//! SplitMix64 (Steele, Lea, Flood, OOPSLA 2014, doi 10.1145/2660193.2660195): state += 0x9e3779b97f4a7c15, then Stafford's
//! mix 13. Signs, shuffles and seeds that users store come from here, so these constants and the order in which numbers
//! are drawn are frozen: the tests hold the first numbers of the stream.

mod normal;

pub(crate) use normal::Normal;

/// The frozen generator. Equal seeds give equal streams on every platform and in every version.
///
/// ```
/// let mut generator = papilio::generator::Generator::new(0);
/// assert_eq!(generator.next_u64(), 0xe220_a839_7b1d_cdaf);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generator {
    state: u64,
}

impl Generator {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Where the stream is: `Generator::new(state)` goes on from there.
    ///
    /// ```
    /// use papilio::generator::Generator;
    /// let mut generator = Generator::new(7);
    /// generator.next_u64();
    /// assert_eq!(Generator::new(generator.state()), generator);
    /// ```
    pub fn state(&self) -> u64 {
        self.state
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Passes over `count` numbers of the stream, at once.
    pub fn skip(&mut self, count: u64) {
        self.state = self.state.wrapping_add(count.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }

    /// Uniform in 0..bound without bias (Lemire 2019, arXiv 1805.10941); 0 for bound 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let wide = u128::from(self.next_u64()) * u128::from(bound);
            if wide as u64 >= threshold {
                return (wide >> 64) as u64;
            }
        }
    }

    /// Uniform in [0, 1), a multiple of 2⁻⁵³.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// 1 or −1, from the highest bit.
    pub fn sign(&mut self) -> f64 {
        if self.next_u64() >> 63 == 0 { 1.0 } else { -1.0 }
    }

    /// Fisher–Yates from the end: every order equally likely.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i as u64 + 1) as usize;
            items.swap(i, j);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_is_frozen() {
        // Reference values of the published splitmix64.c for seed 1234567.
        let mut g = Generator::new(1_234_567);
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        for e in expected {
            assert_eq!(g.next_u64(), e);
        }
        let mut g = Generator::new(7);
        let mut order = [0, 1, 2, 3, 4, 5, 6, 7];
        g.shuffle(&mut order);
        // From an independent program.
        assert_eq!(order, [7, 4, 6, 1, 2, 5, 0, 3]);
        assert_eq!((g.below(1000), g.sign(), g.uniform()), (328, 1.0, 0.41314139741777933));
    }

    #[test]
    fn skipping_is_drawing() {
        for count in [0, 1, 2, 1000] {
            let (mut drawn, mut skipped) = (Generator::new(u64::MAX - 5), Generator::new(u64::MAX - 5));
            for _ in 0..count {
                drawn.next_u64();
            }
            skipped.skip(count);
            assert_eq!(drawn, skipped);
        }
    }

    #[test]
    fn numbers_stay_in_range() {
        let mut g = Generator::new(3);
        assert_eq!((g.below(0), g.below(1)), (0, 0));
        for bound in [2, 3, 10, u64::MAX] {
            assert!((0..200).all(|_| g.below(bound) < bound));
        }
        assert!((0..200).all(|_| (0.0..1.0).contains(&g.uniform())));
    }
}
