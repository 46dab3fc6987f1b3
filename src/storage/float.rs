//! Floating-point types of stored tensors and their conversion to and from `f64`.
//!
//! Every one of them is exact in `f64`, so arithmetic happens there and a result is rounded once, to nearest even.

use core::fmt;
use core::str::FromStr;
use std::format;
use std::string::String;

use half::{bf16, f16};
use safetensors::Dtype;

use crate::simd::{Isa, Job, Lanes, dispatch};

/// A floating-point type that weights are stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FloatType {
    /// IEEE half precision.
    F16,
    /// The upper half of an `f32`.
    Bf16,
    /// Single precision.
    F32,
    /// Double precision.
    F64,
}

impl FloatType {
    /// All of them, as users name them.
    pub const ALL: [Self; 4] = [Self::F32, Self::F64, Self::Bf16, Self::F16];

    /// The type with this safetensors dtype, if weights of that type can be computed with.
    pub fn from_dtype(dtype: Dtype) -> Option<Self> {
        Some(match dtype {
            Dtype::F16 => Self::F16,
            Dtype::BF16 => Self::Bf16,
            Dtype::F32 => Self::F32,
            Dtype::F64 => Self::F64,
            _ => return None,
        })
    }

    /// Its safetensors dtype.
    pub fn dtype(self) -> Dtype {
        match self {
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
            Self::F32 => Dtype::F32,
            Self::F64 => Dtype::F64,
        }
    }

    /// Bytes of one number.
    pub fn size(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// Machine epsilon 2u: the distance from 1 to the next number.
    pub fn eps(self) -> f64 {
        match self {
            Self::F16 => f16::EPSILON.to_f64(),
            Self::Bf16 => bf16::EPSILON.to_f64(),
            Self::F32 => f64::from(f32::EPSILON),
            Self::F64 => f64::EPSILON,
        }
    }

    /// The short name: `f16`, `bf16`, `f32`, `f64`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }

    /// The name in configurations of PyTorch models: `float16`, `bfloat16`, `float32`, `float64`.
    pub fn torch_name(self) -> &'static str {
        match self {
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
            Self::F32 => "float32",
            Self::F64 => "float64",
        }
    }

    /// Converts little-endian bytes to numbers, exactly. As many as fit both slices.
    pub(crate) fn decode(self, bytes: &[u8], numbers: &mut [f64]) {
        dispatch(Isa::detect(), Decode { kind: self, bytes, numbers });
    }

    /// Rounds the numbers to this type, writes them as little-endian bytes, and leaves in `numbers` what was written.
    /// Returns the place of the first finite number that was beyond the range and became infinite.
    pub(crate) fn encode(self, numbers: &mut [f64], bytes: &mut [u8]) -> Option<usize> {
        let mut overflow = None;
        dispatch(Isa::detect(), Encode { kind: self, numbers, bytes, overflow: &mut overflow });
        overflow
    }
}

/// Compiled for every machine: conversions are half of what a merge computes.
struct Decode<'a> {
    kind: FloatType,
    bytes: &'a [u8],
    numbers: &'a mut [f64],
}

impl Job<f64> for Decode<'_> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(self, _s: S) {
        let Self { kind, bytes, numbers } = self;
        match kind {
            FloatType::F16 => each(bytes, numbers, |b| f16::from_le_bytes(b).to_f64()),
            FloatType::Bf16 => each(bytes, numbers, |b| bf16_widened(u16::from_le_bytes(b))),
            FloatType::F32 => each(bytes, numbers, |b| f64::from(f32::from_le_bytes(b))),
            FloatType::F64 => each(bytes, numbers, f64::from_le_bytes),
        }
    }
}

struct Encode<'a> {
    kind: FloatType,
    numbers: &'a mut [f64],
    bytes: &'a mut [u8],
    overflow: &'a mut Option<usize>,
}

impl Job<f64> for Encode<'_> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(self, _s: S) {
        let Self { kind, numbers, bytes, overflow } = self;
        *overflow = match kind {
            FloatType::F16 => put(numbers, bytes, |x| f16::from_f32(round_to_odd(x)), f16::to_le_bytes, f16::to_f64),
            FloatType::Bf16 => put(numbers, bytes, bf16_rounded, u16::to_le_bytes, bf16_widened),
            FloatType::F32 => put(numbers, bytes, |x| x as f32, f32::to_le_bytes, f64::from),
            FloatType::F64 => put(numbers, bytes, |x| x, f64::to_le_bytes, |x| x),
        };
    }
}

#[inline(always)]
fn each<const N: usize>(bytes: &[u8], numbers: &mut [f64], read: impl Fn([u8; N]) -> f64) {
    for (chunk, number) in bytes.as_chunks::<N>().0.iter().zip(numbers) {
        *number = read(*chunk);
    }
}

#[inline(always)]
fn put<const N: usize, H: Copy>(
    numbers: &mut [f64],
    bytes: &mut [u8],
    round: impl Fn(f64) -> H,
    write: impl Fn(H) -> [u8; N],
    widen: impl Fn(H) -> f64,
) -> Option<usize> {
    /// Numbers between two looks for an overflow, so that the loop over them has no branch.
    const BLOCK: usize = 64;
    let (mut before, mut overflow) = ([0.0f64; BLOCK], None);
    let chunks = bytes.as_chunks_mut::<N>().0.chunks_mut(BLOCK);
    for (k, (numbers, chunks)) in numbers.chunks_mut(BLOCK).zip(chunks).enumerate() {
        before[..numbers.len()].copy_from_slice(numbers);
        let mut infinite = false;
        for (number, chunk) in numbers.iter_mut().zip(chunks) {
            let rounded = round(*number);
            *chunk = write(rounded);
            *number = widen(rounded);
            infinite |= number.is_infinite();
        }
        if infinite && overflow.is_none() {
            let grown = numbers.iter().zip(&before).position(|(now, x)| now.is_infinite() && x.is_finite());
            overflow = grown.map(|i| k * BLOCK + i);
        }
    }
    overflow
}

/// The bits of the nearest bf16, to even: half an even unit is added below the last bit that stays.
#[inline(always)]
fn bf16_rounded(x: f64) -> u16 {
    let bits = round_to_odd(x).to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let quiet = bits >> 16 | 0x40;
    (if bits & 0x7fff_ffff > 0x7f80_0000 { quiet } else { rounded }) as u16
}

#[inline(always)]
fn bf16_widened(bits: u16) -> f64 {
    f64::from(f32::from_bits(u32::from(bits) << 16))
}

/// `x` as `f32`, rounded to odd: towards zero, then the last bit set if anything was lost. With at least two bits to
/// spare, rounding this to half precision gives the same as rounding `x` at once (Boldo and Melquiond 2008,
/// doi:10.1109/TC.2007.70819): no double rounding.
#[inline(always)]
fn round_to_odd(x: f64) -> f32 {
    let nearest = x as f32;
    let back = f64::from(nearest);
    let towards_zero = nearest.to_bits() - u32::from(back.abs() > x.abs());
    let lost = back != x && !x.is_nan();
    f32::from_bits(towards_zero | u32::from(lost))
}

impl fmt::Display for FloatType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for FloatType {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|t| t.name() == name || t.torch_name() == name)
            .ok_or_else(|| format!("expected f32, f64, bf16 or f16, got `{name}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;
    use std::vec;

    fn stored(kind: FloatType, x: f64) -> f64 {
        let (mut number, mut bytes) = ([x], vec![0; kind.size()]);
        let overflow = kind.encode(&mut number, &mut bytes);
        assert_eq!(overflow.is_some(), x.is_finite() && number[0].is_infinite());
        let mut back = [f64::NAN];
        kind.decode(&bytes, &mut back);
        assert_eq!(number[0].to_bits(), back[0].to_bits());
        back[0]
    }

    /// Every bf16, the midpoints between neighbours and what lies next to these, against the crate `half`.
    #[test]
    fn bf16_is_that_of_half() {
        for bits in 0..=u16::MAX {
            let x = bf16::from_bits(bits).to_f64();
            for factor in [1.0, 1.0 + 2f64.powi(-8), 1.0 + 2f64.powi(-9), 1.0 - 2f64.powi(-10), 1.0 + 2f64.powi(-20)] {
                let single = (x * factor) as f32; // what half can round once
                let (mut number, mut bytes) = ([f64::from(single)], [0; 2]);
                FloatType::Bf16.encode(&mut number, &mut bytes);
                let want = bf16::from_f32(single);
                let got = bf16::from_le_bytes(bytes);
                assert!(got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()), "{single:e}");
            }
        }
    }

    #[test]
    fn half_precision_is_rounded_once() {
        // Just above the midpoint of two bf16 (f16) numbers by less than f32 resolves: via f32 it would fall on the
        // midpoint and be rounded down to even.
        assert_eq!(stored(FloatType::Bf16, 1.0 + 2f64.powi(-8) + 2f64.powi(-40)), 1.0 + 2f64.powi(-7));
        assert_eq!(stored(FloatType::Bf16, 1.0 + 2f64.powi(-8)), 1.0);
        assert_eq!(stored(FloatType::F16, 1.0 + 2f64.powi(-11) + 2f64.powi(-45)), 1.0 + 2f64.powi(-10));
        assert_eq!(stored(FloatType::F16, -1.0 - 2f64.powi(-11) - 2f64.powi(-45)), -1.0 - 2f64.powi(-10));
        assert_eq!(stored(FloatType::F16, 1.0 + 2f64.powi(-11)), 1.0);
    }

    #[test]
    fn representable_numbers_survive_and_the_rest_overflow_to_infinity() {
        for kind in FloatType::ALL {
            for x in [0.0, 1.0, -1.5, 0.15625, 2f64.powi(-14), kind.eps() + 1.0] {
                assert_eq!(stored(kind, x), x, "{kind}");
            }
            assert!(stored(kind, f64::NAN).is_nan());
            assert_eq!(stored(kind, f64::NEG_INFINITY), f64::NEG_INFINITY);
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!(stored(FloatType::F16, 65520.0), f64::INFINITY);
        assert_eq!(stored(FloatType::F16, 65519.99), 65504.0);
        assert_eq!(stored(FloatType::Bf16, 1e300), f64::INFINITY);
        assert!("f8".parse::<FloatType>().is_err());
    }
}
