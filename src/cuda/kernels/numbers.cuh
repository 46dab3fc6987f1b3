// Numbers as they are stored and as they are computed with. STORED: 0 is float, 1 bfloat16, 2 half precision.
//
// Rounding is to nearest, ties to even. Where no GPU compiles this, EMULATED gives the same functions to a host
// compiler.

typedef unsigned int word;

#if STORED == 0
typedef float stored;
__device__ inline float load(stored x) { return x; }
__device__ inline stored store(float x) { return x; }
#elif STORED == 1
typedef unsigned short stored;
__device__ inline float load(stored x) { return __uint_as_float(word(x) << 16); }
__device__ inline stored store(float x) {
#ifdef EMULATED
    return emulated_bf16(x);
#else
    stored y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
#endif
}
#else
typedef unsigned short stored;
__device__ inline float load(stored x) {
#ifdef EMULATED
    return emulated_from_f16(x);
#else
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
    return y;
#endif
}
__device__ inline stored store(float x) {
#ifdef EMULATED
    return emulated_f16(x);
#else
    stored y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
#endif
}
#endif

// Four numbers that are loaded at once.
struct __align__(16) Four {
    float v[4];
};
struct __align__(4 * sizeof(stored)) FourStored {
    stored v[4];
};

struct __align__(8) Two {
    word v[2];
};

// And as batches have them.
__device__ inline void load(const stored* from, float (&x)[4]) {
#if STORED == 1
    const Two four = *reinterpret_cast<const Two*>(from);
    x[0] = __uint_as_float(four.v[0] << 16);
    x[1] = __uint_as_float(four.v[0] & 0xffff0000u);
    x[2] = __uint_as_float(four.v[1] << 16);
    x[3] = __uint_as_float(four.v[1] & 0xffff0000u);
#else
    const FourStored four = *reinterpret_cast<const FourStored*>(from);
#pragma unroll
    for (int i = 0; i < 4; i++) x[i] = load(four.v[i]);
#endif
}
__device__ inline void store(const float (&x)[4], stored* to) {
    FourStored four;
#pragma unroll
    for (int i = 0; i < 4; i++) four.v[i] = store(x[i]);
    *reinterpret_cast<FourStored*>(to) = four;
}
