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

// Eight rows of eight numbers of 16 bits, of which thread 4g + t of the warp has numbers 2t and 2t + 1 of row g: and then
// those of rows 2t and 2t + 1 in column g.
__device__ inline unsigned transpose(unsigned x) {
    unsigned y;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
    return y;
}

// The number that the thread of the warp has whose number differs in this bit.
__device__ inline float shuffle(float x, int bit) { return __shfl_xor_sync(0xffffffffu, x, bit); }
#endif
