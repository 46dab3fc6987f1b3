//! A digest of structure: which plans may use each other's factors.

use core::hash::{Hash, Hasher};

/// FNV-1a, 64 bits: in-memory use only.
#[derive(Debug, Clone)]
pub(super) struct Digest(u64);

impl Digest {
    pub(super) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// The digest with one more value.
    pub(super) fn with(mut self, value: impl Hash) -> Self {
        value.hash(&mut self);
        self
    }
}

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
