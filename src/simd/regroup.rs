//! Two neighbouring vectors exchange lanes, so that pairs of coordinates at any distance lie lane by lane over each other.
//!
//! Two vectors of L lanes hold 2L coordinates. In grouping t the first vector holds, in order, those whose bit t is 0, and the
//! second their partners, whose bit t is 1. Grouping log₂ L, or any above, is the natural order.

use bytemuck::Pod;

/// The natural order on any machine.
pub(crate) const NATURAL: u32 = 31;

/// The grouping that `t` stands for on a machine with that many lanes.
const fn clamped(t: u32, lanes: usize) -> u32 {
    let natural = lanes.trailing_zeros();
    if t < natural { t } else { natural }
}

/// Coordinate of lane `l` of vector `r` in grouping `t`.
const fn coordinate(t: u32, r: usize, l: usize) -> usize {
    l >> t << (t + 1) | r << t | l & ((1 << t) - 1)
}

/// Where in grouping `t` a coordinate is: in lane l of the first vector as l, of the second as `lanes` + l.
const fn place(t: u32, lanes: usize, c: usize) -> usize {
    (c >> t & 1) * lanes + (c >> (t + 1) << t | c & ((1 << t) - 1))
}

/// From grouping `FROM` to grouping `TO`: which of the 2L lanes goes to lane `l` of vector `r`.
const fn source(from: u32, to: u32, lanes: usize, r: usize, l: usize) -> usize {
    place(clamped(from, lanes), lanes, coordinate(clamped(to, lanes), r, l))
}

/// On any machine; the compiler finds instructions for it.
#[inline(always)]
pub(super) fn lane_by_lane<T: Pod, V: Pod, const FROM: u32, const TO: u32>(pair: [V; 2]) -> [V; 2] {
    let lanes = size_of::<V>() / size_of::<T>();
    if clamped(FROM, lanes) == clamped(TO, lanes) {
        return pair;
    }
    let mut y = [V::zeroed(); 2];
    let from: &[T] = bytemuck::cast_slice(&pair);
    for (at, y) in bytemuck::cast_slice_mut::<V, T>(&mut y).iter_mut().enumerate() {
        *y = from[source(FROM, TO, lanes, at / lanes, at % lanes)];
    }
    y
}

macro_rules! regroup {
    ($name:ident, $t:ident, $v:ident, $index:ident, $lanes:literal, $permute:ident) => {
        #[inline(always)]
        pub(super) fn $name<S: pulp::Simd, const FROM: u32, const TO: u32>(s: S, pair: [S::$v; 2]) -> [S::$v; 2] {
            let lanes = size_of::<S::$v>() / size_of::<$t>();
            if clamped(FROM, lanes) == clamped(TO, lanes) {
                return pair;
            }
            let machine: &dyn core::any::Any = &s;
            #[cfg(target_arch = "x86_64")]
            if let Some(v4) = machine.downcast_ref::<pulp::x86::V4>() {
                let index = const {
                    let mut index = [[0 as $index; $lanes]; 2];
                    let mut at = 0;
                    while at < 2 * $lanes {
                        index[at / $lanes][at % $lanes] = source(FROM, TO, $lanes, at / $lanes, at % $lanes) as $index;
                        at += 1;
                    }
                    index
                };
                // No closures: they may be compiled without the machine's features.
                let (a, b) = (bytemuck::cast(pair[0]), bytemuck::cast(pair[1]));
                let first = v4.avx512f.$permute(a, bytemuck::cast(index[0]), b);
                let second = v4.avx512f.$permute(a, bytemuck::cast(index[1]), b);
                return [bytemuck::cast(first), bytemuck::cast(second)];
            }
            let _ = machine;
            lane_by_lane::<$t, S::$v, FROM, TO>(pair)
        }
    };
}
regroup!(regroup_f32s, f32, f32s, u32, 16, _mm512_permutex2var_ps);
regroup!(regroup_f64s, f64, f64s, u64, 8, _mm512_permutex2var_pd);
