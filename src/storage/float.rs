//! Floating-point types of stored tensors and their conversion to and from `f64`.
//!
//! Every one of them is exact in `f64`, so arithmetic happens there and a result is rounded once, to nearest even.

use core::fmt;
use core::str::FromStr;
use std::format;
use std::string::String;

use half::{bf16, f16};
use safetensors::Dtype;

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
        match self {
            Self::F16 => each(bytes, numbers, |b| f16::from_le_bytes(b).to_f64()),
            Self::Bf16 => each(bytes, numbers, |b| bf16::from_le_bytes(b).to_f64()),
            Self::F32 => each(bytes, numbers, |b| f64::from(f32::from_le_bytes(b))),
            Self::F64 => each(bytes, numbers, f64::from_le_bytes),
        }
    }

    /// Rounds the numbers to this type, writes them as little-endian bytes, and leaves in `numbers` what was written.
    /// Returns the place of the first finite number that was beyond the range and became infinite.
    pub(crate) fn encode(self, numbers: &mut [f64], bytes: &mut [u8]) -> Option<usize> {
        match self {
            Self::F16 => put(numbers, bytes, |x| f16::from_f32(round_to_odd(x)), f16::to_le_bytes, f16::to_f64),
            Self::Bf16 => put(numbers, bytes, |x| bf16::from_f32(round_to_odd(x)), bf16::to_le_bytes, bf16::to_f64),
            Self::F32 => put(numbers, bytes, |x| x as f32, f32::to_le_bytes, f64::from),
            Self::F64 => put(numbers, bytes, |x| x, f64::to_le_bytes, |x| x),
        }
    }
}

fn each<const N: usize>(bytes: &[u8], numbers: &mut [f64], read: impl Fn([u8; N]) -> f64) {
    for (chunk, number) in bytes.as_chunks::<N>().0.iter().zip(numbers) {
        *number = read(*chunk);
    }
}

fn put<const N: usize, H: Copy>(
    numbers: &mut [f64],
    bytes: &mut [u8],
    round: impl Fn(f64) -> H,
    write: impl Fn(H) -> [u8; N],
    widen: impl Fn(H) -> f64,
) -> Option<usize> {
    let mut overflow = None;
    for (i, (number, chunk)) in numbers.iter_mut().zip(bytes.as_chunks_mut::<N>().0).enumerate() {
        let rounded = round(*number);
        *chunk = write(rounded);
        let written = widen(rounded);
        if written.is_infinite() && number.is_finite() && overflow.is_none() {
            overflow = Some(i);
        }
        *number = written;
    }
    overflow
}

/// `x` as `f32`, rounded to odd: towards zero, then the last bit set if anything was lost. With at least two bits to
/// spare, rounding this to half precision gives the same as rounding `x` at once (Boldo and Melquiond 2008,
/// doi:10.1109/TC.2007.70819): no double rounding.
fn round_to_odd(x: f64) -> f32 {
    let nearest = x as f32;
    if f64::from(nearest) == x || x.is_nan() {
        return nearest;
    }
    let towards_zero = if f64::from(nearest).abs() > x.abs() { nearest.to_bits() - 1 } else { nearest.to_bits() };
    f32::from_bits(towards_zero | 1)
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
