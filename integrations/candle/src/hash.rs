//! A hash that is the same for ever.

/// FNV-1a, to tell trainings apart and to start tensors by their names. Not against enemies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fnv(pub u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// Takes more bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn values_are_those_published() {
        let hash = |text: &str| {
            let mut hash = super::Fnv::default();
            hash.write(text.as_bytes());
            hash.0
        };
        assert_eq!(
            [hash(""), hash("a"), hash("foobar")],
            [0xcbf2_9ce4_8422_2325, 0xaf63_dc4c_8601_ec8c, 0x8594_4171_f739_67e8]
        );
    }
}
