//! Instruction sets: which there are, and which this CPU has.

use alloc::format;
use alloc::vec::Vec;

use crate::error::{Error, Result};

/// An instruction set. [`Workspace::with_isa`](crate::Workspace::with_isa) forces one; otherwise the best is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// What every CPU of this target has; no fused multiply-add.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 (F, BW, CD, DQ, VL).
    Avx512,
    /// 64-bit Arm.
    Neon,
}

impl Isa {
    /// In the order of their numbers.
    pub(crate) const ALL: [Self; 4] = [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Neon];

    /// Bytes of a vector register; portable code works on arrays of that many.
    pub(crate) const fn register_bytes(self) -> usize {
        match self {
            Isa::Avx512 => 64,
            Isa::Avx2 => 32,
            Isa::Portable | Isa::Neon => 16,
        }
    }

    /// Vector registers.
    pub(crate) const fn registers(self) -> usize {
        match self {
            Isa::Portable | Isa::Avx2 => 16,
            Isa::Avx512 | Isa::Neon => 32,
        }
    }

    /// The best one of this CPU.
    pub fn detect() -> Self {
        [Isa::Avx512, Isa::Avx2, Isa::Neon].into_iter().find(|isa| isa.is_available()).unwrap_or(Isa::Portable)
    }

    /// All that this CPU has, [`Isa::Portable`] first.
    pub fn available() -> Vec<Self> {
        [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Neon].into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// Whether this CPU has it.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => pulp::x86::V3::try_new().is_some(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => pulp::x86::V4::try_new().is_some(),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => pulp::aarch64::Neon::try_new().is_some(),
            _ => false,
        }
    }

    /// Itself if this CPU has it.
    pub(crate) fn checked(self) -> Result<Self> {
        if self.is_available() {
            return Ok(self);
        }
        Err(Error::Unsupported {
            what: "instruction set",
            expected: "one that this CPU has (Isa::available)",
            got: format!("{self:?}"),
        })
    }
}
