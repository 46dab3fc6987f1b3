//! Half precision in memory, single precision in arithmetic: each number is widened once on the way in (exactly) and rounded
//! once on the way out (to nearest, ties to even).

use half::{bf16, f16};

use super::Element;

macro_rules! half {
    ($t:ident) => {
        impl Element for $t {
            type Scalar = f32;
            #[inline(always)]
            fn load(self) -> f32 {
                self.to_f32()
            }
            #[inline(always)]
            fn store(scalar: f32) -> Self {
                Self::from_f32(scalar)
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
half!(bf16);
half!(f16);
