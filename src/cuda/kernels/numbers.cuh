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
