#!/usr/bin/env bash
# Our Walsh–Hadamard transform beside a C kernel written as FFHT's are (AVX2 intrinsics, three stages in registers for each pass over
# memory, gcc -O3 -march=native) and beside the crate fwht. Needs gcc and cargo, and makes a project of its own in a temporary folder:
# none of this is a dependency of papilio.
#
#     bash benches/against_hadamard.sh [target folder]
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
project=$(mktemp -d)
trap 'rm -r "$project"' EXIT
mkdir "$project/src"

cat > "$project/kernel.c" <<'C'
#include <immintrin.h>
#include <stddef.h>

static inline __m256 within(__m256 x) {
    const __m256 s1 = _mm256_setr_ps(1, -1, 1, -1, 1, -1, 1, -1);
    const __m256 s2 = _mm256_setr_ps(1, 1, -1, -1, 1, 1, -1, -1);
    const __m256 s4 = _mm256_setr_ps(1, 1, 1, 1, -1, -1, -1, -1);
    x = _mm256_fmadd_ps(x, s1, _mm256_permute_ps(x, 0xb1));
    x = _mm256_fmadd_ps(x, s2, _mm256_permute_ps(x, 0x4e));
    return _mm256_fmadd_ps(x, s4, _mm256_permute2f128_ps(x, x, 1));
}

#define PAIR(a, b) { __m256 t = a; a = _mm256_add_ps(t, b); b = _mm256_sub_ps(t, b); }
#define RADIX8(x) { \
    PAIR(x[0], x[1]) PAIR(x[2], x[3]) PAIR(x[4], x[5]) PAIR(x[6], x[7]) \
    PAIR(x[0], x[2]) PAIR(x[1], x[3]) PAIR(x[4], x[6]) PAIR(x[5], x[7]) \
    PAIR(x[0], x[4]) PAIR(x[1], x[5]) PAIR(x[2], x[6]) PAIR(x[3], x[7]) }

/* n is a power of two, at least 64. */
void kernel(float *a, size_t n) {
    for (size_t i = 0; i < n; i += 64) {
        __m256 x[8];
        for (int r = 0; r < 8; r++) x[r] = within(_mm256_loadu_ps(a + i + 8 * r));
        RADIX8(x)
        for (int r = 0; r < 8; r++) _mm256_storeu_ps(a + i + 8 * r, x[r]);
    }
    size_t d = 64;
    for (; 8 * d <= n; d *= 8)
        for (size_t g = 0; g < n; g += 8 * d)
            for (size_t q = g; q < g + d; q += 8) {
                __m256 x[8];
                for (int r = 0; r < 8; r++) x[r] = _mm256_loadu_ps(a + q + r * d);
                RADIX8(x)
                for (int r = 0; r < 8; r++) _mm256_storeu_ps(a + q + r * d, x[r]);
            }
    for (; d < n; d *= 2)
        for (size_t g = 0; g < n; g += 2 * d)
            for (size_t q = g; q < g + d; q += 8) {
                __m256 x = _mm256_loadu_ps(a + q), y = _mm256_loadu_ps(a + q + d);
                PAIR(x, y)
                _mm256_storeu_ps(a + q, x);
                _mm256_storeu_ps(a + q + d, y);
            }
}
C
gcc -O3 -march=native -c "$project/kernel.c" -o "$project/kernel.o"
ar rcs "$project/libkernel.a" "$project/kernel.o"

cat > "$project/Cargo.toml" <<TOML
[package]
name = "against-hadamard"
version = "0.0.0"
edition = "2024"
[dependencies]
papilio = { path = "$repository" }
fwht = "0.1"
[workspace]
TOML
cat > "$project/build.rs" <<'RUST'
fn main() {
    println!("cargo:rustc-link-search=native={}", std::env::var("CARGO_MANIFEST_DIR").unwrap());
    println!("cargo:rustc-link-lib=static=kernel");
}
RUST
cat > "$project/src/main.rs" <<'RUST'
use std::hint::black_box;
use std::time::Instant;

use papilio::Isa;
use papilio::random::{walsh_hadamard, walsh_hadamard_on};

unsafe extern "C" {
    fn kernel(a: *mut f32, n: usize);
}

fn c(x: &mut [f32]) {
    // SAFETY: x has x.len() numbers, a power of two from 64 on.
    unsafe { kernel(x.as_mut_ptr(), x.len()) }
}

fn main() {
    println!("{:>8} {:>10} {:>10} {:>10} {:>10}   ns for one transform, f32", "n", "papilio", "on AVX2", "C, AVX2", "fwht");
    for k in 6..=20 {
        let n = 1usize << k;
        let start: Vec<f32> = (0..n).map(|i| (i * 7 % 13) as f32 - 6.0).collect();
        let (mut a, mut b) = (start.clone(), start.clone());
        walsh_hadamard(&mut a).unwrap();
        c(&mut b);
        assert_eq!(a, b, "the two agree");
        let contenders: [&dyn Fn(&mut [f32]); 4] = [
            &|x| walsh_hadamard(x).unwrap(),
            &|x| walsh_hadamard_on(x, Isa::Avx2).unwrap(),
            &c,
            &|x| fwht::core::fwht_slice(x).unwrap(),
        ];
        let runs = (1 << 15 >> k).max(1);
        let mut best = [f64::INFINITY; 4];
        for _ in 0..300 {
            for (best, contender) in best.iter_mut().zip(contenders) {
                let mut x = vec![0f32; n]; // of zeros, which stay: sums of sums would overflow
                contender(&mut x);
                let clock = Instant::now();
                for _ in 0..runs {
                    contender(black_box(&mut x));
                }
                *best = best.min(clock.elapsed().as_secs_f64() / runs as f64 * 1e9);
            }
            if k > 16 && best[0] > 5e5 {
                break;
            }
        }
        println!("{n:>8} {:>10.0} {:>10.0} {:>10.0} {:>10.0}", best[0], best[1], best[2], best[3]);
    }
}
RUST
cd "$project"
CARGO_TARGET_DIR=${1:-$repository/target/against_hadamard} cargo run --release --quiet
