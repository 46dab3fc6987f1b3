//! Half precision in memory, single precision in arithmetic: each number is widened once on the way in (exactly) and rounded
//! once on the way out (to nearest, ties to even).
//!
//! The conversions are integer arithmetic and selections without a branch, so that loops of them are SIMD code on every machine.
//! Their bits are those of the crate `half`, quiet NaNs with their upper payload included.

use half::{bf16, f16};

use super::Element;

macro_rules! half {
    ($t:ident, $widen:ident, $round:ident) => {
        impl Element for $t {
            type Scalar = f32;
            #[inline(always)]
            fn load(self) -> f32 {
                $widen(self.to_bits())
            }
            #[inline(always)]
            fn store(scalar: f32) -> Self {
                Self::from_bits($round(scalar))
            }
            #[inline(always)]
            fn as_scalars(_: &[Self]) -> Option<&[f32]> {
                None
            }
            #[inline(always)]
            fn as_scalars_mut(_: &mut [Self]) -> Option<&mut [f32]> {
                None
            }
        }
    };
}
half!(bf16, widen_bf16, round_bf16);
half!(f16, widen_f16, round_f16);

const SIGN: u32 = 1 << 31;
/// The bits of infinity; above them are NaNs.
const INFINITY: u32 = 0xff << 23;
/// The first bit of a mantissa, which quiet NaNs have.
const QUIET: u32 = 1 << 22;

/// The upper half of the bits of an `f32`.
#[inline(always)]
fn widen_bf16(bits: u16) -> f32 {
    let bits = u32::from(bits) << 16;
    f32::from_bits(if bits & !SIGN > INFINITY { bits | QUIET } else { bits })
}

#[inline(always)]
fn round_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    // Half of the last place, or just less if the last place is even: a carry rounds up.
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    ((if bits & !SIGN > INFINITY { bits | QUIET } else { rounded }) >> 16) as u16
}

/// Exponents of `f32` less those of `f16`, in place.
const REBIAS: u32 = (127 - 15) << 23;

/// One sign bit, five of the exponent, ten of the mantissa.
#[inline(always)]
fn widen_f16(bits: u16) -> f32 {
    let (sign, rest) = (u32::from(bits & 0x8000) << 16, u32::from(bits & 0x7fff));
    // Below the least exponent: multiples of 2⁻²⁴, all of them exact.
    let small = (rest as i32 as f32 * f32::from_bits((127 - 24) << 23)).to_bits();
    let (normal, special) = ((rest << 13) + REBIAS, (rest << 13) + 2 * REBIAS);
    let special = if rest > 0x7c00 { special | QUIET } else { special };
    f32::from_bits(
        sign | if rest < 0x400 {
            small
        } else if rest < 0x7c00 {
            normal
        } else {
            special
        },
    )
}

#[inline(always)]
fn round_f16(x: f32) -> u16 {
    /// 2¹⁶: all finite numbers are less.
    const BEYOND: u32 = (127 + 16) << 23;
    /// 2⁻¹⁴, the least normal number.
    const NORMAL: u32 = (127 - 14) << 23;
    /// ½, whose last place is 2⁻²⁴, as that of numbers below the normal ones.
    const HALF: u32 = 126 << 23;
    let (sign, rest) = (x.to_bits() & SIGN, x.to_bits() & !SIGN);
    let small = (f32::from_bits(rest) + f32::from_bits(HALF)).to_bits().wrapping_sub(HALF);
    let normal = rest.wrapping_sub(REBIAS).wrapping_add(0xfff + (rest >> 13 & 1)) >> 13;
    let special = 0x7c00 | if rest > INFINITY { QUIET >> 13 | (rest >> 13 & 0x3ff) } else { 0 };
    let rounded = if rest < NORMAL {
        small
    } else if rest < BEYOND {
        normal
    } else {
        special
    };
    (sign >> 16 | rounded) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_those_of_the_crate_half() {
        for bits in 0..=u16::MAX {
            assert_eq!(widen_bf16(bits).to_bits(), bf16::from_bits(bits).to_f32().to_bits(), "bf16 {bits:#x}");
            assert_eq!(widen_f16(bits).to_bits(), f16::from_bits(bits).to_f32().to_bits(), "f16 {bits:#x}");
        }
        // Both sides of all ties, and of the numbers between which they lie; and everything else in steps.
        let near = (0..=u32::MAX >> 12).flat_map(|high| [0u32, 1, 0xfff].map(|low| high << 12 | low));
        for bits in near.chain((0..u32::MAX / 977).map(|k| k * 977)) {
            let x = f32::from_bits(bits);
            assert_eq!(round_bf16(x), bf16::from_f32(x).to_bits(), "bf16 {bits:#x}");
            assert_eq!(round_f16(x), f16::from_f32(x).to_bits(), "f16 {bits:#x}");
        }
    }
}
