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

// Batches in the device's memory. STREAMED: what is read or written will not be wanted soon, and something else should
// stay in the second-level cache.
#ifndef STREAMED
#define STREAMED 0
#endif
template <class A> __device__ inline A read(const A* from) { return STREAMED ? __ldcs(from) : *from; }
template <class A> __device__ inline void write(A* to, A x) {
    if (STREAMED)
        __stcs(to, x);
    else
        *to = x;
}

// Four neighbouring numbers.
#if STORED == 0
__device__ inline void read_four(const stored* from, float (&x)[4]) {
    const float4 four = read(reinterpret_cast<const float4*>(from));
    x[0] = four.x;
    x[1] = four.y;
    x[2] = four.z;
    x[3] = four.w;
}
__device__ inline void write_four(const float (&x)[4], stored* to) {
    const float4 four = {x[0], x[1], x[2], x[3]};
    write(reinterpret_cast<float4*>(to), four);
}
#else
__device__ inline void unpack(word both, float& low, float& high) {
#if STORED == 1
    low = __uint_as_float(both << 16);
    high = __uint_as_float(both & 0xffff0000u);
#else
    low = load(stored(both));
    high = load(stored(both >> 16));
#endif
}
__device__ inline word pack_two(float low, float high) { return store(low) | word(store(high)) << 16; }
__device__ inline void read_four(const stored* from, float (&x)[4]) {
    const uint2 four = read(reinterpret_cast<const uint2*>(from));
    unpack(four.x, x[0], x[1]);
    unpack(four.y, x[2], x[3]);
}
__device__ inline void write_four(const float (&x)[4], stored* to) {
    const uint2 four = {pack_two(x[0], x[1]), pack_two(x[2], x[3])};
    write(reinterpret_cast<uint2*>(to), four);
}
__device__ inline void read_eight(const stored* from, float (&x)[8]) {
    const uint4 eight = read(reinterpret_cast<const uint4*>(from));
    unpack(eight.x, x[0], x[1]);
    unpack(eight.y, x[2], x[3]);
    unpack(eight.z, x[4], x[5]);
    unpack(eight.w, x[6], x[7]);
}
__device__ inline void write_eight(const float (&x)[8], stored* to) {
    const uint4 eight = {pack_two(x[0], x[1]), pack_two(x[2], x[3]), pack_two(x[4], x[5]), pack_two(x[6], x[7])};
    write(reinterpret_cast<uint4*>(to), eight);
}
#endif
