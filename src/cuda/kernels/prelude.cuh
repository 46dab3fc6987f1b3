// What differs between a GPU and a host compiler that emulates one (tests/cuda): there EMULATED is set, and these come
// with it.
#ifndef EMULATED
#define SHARED(type, name)                                   \
    extern __shared__ __align__(16) unsigned char memory_[]; \
    type* name = reinterpret_cast<type*>(memory_)
#define ASSUME(what) __builtin_assume(what)
__device__ inline float fast_cos(float x) { return __cosf(x); }
__device__ inline float fast_sin(float x) { return __sinf(x); }

// The same address, of which the compiler knows nothing: what was loaded from it before is not kept in registers.
template <class A> __device__ inline const A* forget(const A* p) {
    asm volatile("" : "+l"(p));
    return p;
}

// The number that the thread of the warp has whose number differs in this bit.
__device__ inline float shuffle(float x, int bit) { return __shfl_xor_sync(0xffffffffu, x, bit); }
#endif
