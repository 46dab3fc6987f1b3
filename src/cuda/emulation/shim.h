// A GPU for a host compiler: one block of threads after the other, its threads as fibers that meet at __syncthreads.
//
// Shared memory starts as NaNs. Between two barriers threads run one after the other, upwards or downwards (argv[3]):
// results that depend on the order lack a barrier. A barrier that some threads miss is an error.
#define _GLIBCXX_INCLUDE_NEXT_C_HEADERS // C's own headers: most of the compiler's time would go into C++'s
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define __device__
#define __global__
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)

struct Dim {
    unsigned x, y, z;
};
static Dim threadIdx, blockIdx, blockDim, gridDim;
static unsigned char* shared_memory;
#define ASSUME(what) ((void)0)
#define SHARED(type, name) type* name = reinterpret_cast<type*>(shared_memory)

struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
template <class T> static inline const T* forget(const T* p) { return p; }
template <class T> static inline T __ldg(const T* p) { return *p; }
template <class T> static inline T __ldcs(const T* p) { return *p; }
template <class T> static inline void __stcs(T* p, T x) { *p = x; }

static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float fast_cos(float x) { return cosf(x); }
static inline float fast_sin(float x) { return sinf(x); }
static inline float __uint_as_float(unsigned x) {
    float y;
    memcpy(&y, &x, 4);
    return y;
}
static inline unsigned __float_as_uint(float x) {
    unsigned y;
    memcpy(&y, &x, 4);
    return y;
}
static inline unsigned short emulated_bf16(float x) {
    const unsigned bits = __float_as_uint(x);
    if (x != x) return 0x7fff; // as the GPU
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
static inline unsigned short emulated_f16(float x) {
    if (x != x) return 0x7fff;
    _Float16 y = (_Float16)x;
    unsigned short bits;
    memcpy(&bits, &y, 2);
    return bits;
}
static inline float emulated_from_f16(unsigned short bits) {
    _Float16 y;
    memcpy(&y, &bits, 2);
    return (float)y;
}

struct Fiber {
    ucontext_t context;
    unsigned char* stack;
    enum { RUNS, AT_WARP, AT_BLOCK, DONE } state;
};
static Fiber* fibers;
static ucontext_t scheduler;
static unsigned running;

static void __syncthreads() {
    fibers[running].state = Fiber::AT_BLOCK;
    swapcontext(&fibers[running].context, &scheduler);
}
static void __syncwarp() {
    fibers[running].state = Fiber::AT_WARP;
    swapcontext(&fibers[running].context, &scheduler);
}

// mma.m16n8k16 of bfloat16: what the 32 threads of a warp hold of A (16×16) and B (16×8), as the PTX manual says.
static unsigned held[32][32][6];
static float of_a(unsigned warp, int i, int k) {
    const unsigned pair = held[warp][i % 8 * 4 + k % 8 / 2][i / 8 + k / 8 * 2];
    return __uint_as_float(k % 2 ? pair & 0xffff0000u : pair << 16);
}
static float of_b(unsigned warp, int k, int j) {
    const unsigned pair = held[warp][j * 4 + k % 8 / 2][4 + k / 8];
    return __uint_as_float(k % 2 ? pair & 0xffff0000u : pair << 16);
}
static void emulated_mma(float (&d)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
    const unsigned warp = running / 32, lane = running % 32, mine[6] = {a0, a1, a2, a3, b0, b1};
    memcpy(held[warp][lane], mine, sizeof mine);
    __syncwarp();
    for (int n = 0; n < 4; n++) {
        const int i = lane / 4 + n / 2 * 8, j = lane % 4 * 2 + n % 2;
        double sum = 0.0;
        for (int k = 0; k < 16; k++) sum += (double)of_a(warp, i, k) * of_b(warp, k, j);
        d[n] = (float)(d[n] + sum);
    }
    __syncwarp();
}

// What another thread of the warp has.
static float shuffle(float x, int bit) {
    const unsigned warp = running / 32, lane = running % 32;
    held[warp][lane][0] = __float_as_uint(x);
    __syncwarp();
    const unsigned other = held[warp][lane ^ bit][0];
    __syncwarp();
    return __uint_as_float(other);
}

// movmatrix: eight rows of eight numbers of 16 bits, of which thread 4g + t has two of row g, the other way round.
static unsigned transpose(unsigned x) {
    const unsigned warp = running / 32, lane = running % 32, g = lane / 4, t = lane % 4;
    held[warp][lane][0] = x;
    __syncwarp();
    const unsigned low = held[warp][2 * t * 4 + g / 2][0], high = held[warp][(2 * t + 1) * 4 + g / 2][0];
    __syncwarp();
    return g % 2 ? low >> 16 | (high & 0xffff0000u) : (low & 0xffff) | high << 16;
}

struct Value {
    int64_t integer;
    void* pointer;
};
static Value* values;
static uint64_t number_of_values;

template <class A> struct Convert {
    static A from(const Value& v) { return (A)v.integer; }
};
template <class A> struct Convert<A*> {
    static A* from(const Value& v) { return (A*)v.pointer; }
};
template <size_t...> struct Indices {};
template <size_t N, size_t... I> struct UpTo : UpTo<N - 1, N - 1, I...> {};
template <size_t... I> struct UpTo<0, I...> {
    typedef Indices<I...> Type;
};
template <class... A, size_t... I> static void call(void (*kernel)(A...), Indices<I...>) {
    kernel(Convert<A>::from(values[I])...);
}
template <class... A> static void call(void (*kernel)(A...)) {
    if (number_of_values != sizeof...(A)) {
        fprintf(stderr, "%zu arguments for a kernel of %zu\n", (size_t)number_of_values, sizeof...(A));
        exit(2);
    }
    call(kernel, typename UpTo<sizeof...(A)>::Type());
}

static void enter();

static void run_block(unsigned threads, size_t shared, bool down) {
    shared_memory = (unsigned char*)aligned_alloc(16, (shared + 15) / 16 * 16 + 16);
    memset(shared_memory, 0xff, shared);
    if (!fibers) fibers = (Fiber*)calloc(threads, sizeof(Fiber));
    for (unsigned t = 0; t < threads; t++) {
        Fiber& f = fibers[t];
        if (!f.stack) f.stack = (unsigned char*)malloc(STACK);
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack;
        f.context.uc_stack.ss_size = STACK;
        f.context.uc_link = &scheduler;
        f.state = Fiber::RUNS;
        makecontext(&f.context, enter, 0);
    }
    const unsigned warps = (threads + 31) / 32;
    for (;;) {
        unsigned done = 0, waiting = 0;
        // A warp goes on for as long as it can before the next one moves: so what only looks as if all had waited shows.
        for (unsigned v = 0; v < warps; v++) {
            const unsigned first = 32 * (down ? warps - 1 - v : v), last = first + 32 < threads ? first + 32 : threads;
            for (unsigned at_warp = 32; at_warp == 32;) {
                at_warp = 0;
                for (unsigned k = 0; k < last - first; k++) {
                    running = down ? last - 1 - k : first + k;
                    if (fibers[running].state == Fiber::AT_WARP) fibers[running].state = Fiber::RUNS;
                    if (fibers[running].state != Fiber::RUNS) continue;
                    threadIdx.x = running;
                    swapcontext(&scheduler, &fibers[running].context);
                    at_warp += fibers[running].state == Fiber::AT_WARP;
                }
            }
            for (unsigned t = first; t < last; t++) {
                done += fibers[t].state == Fiber::DONE;
                waiting += fibers[t].state == Fiber::AT_BLOCK;
            }
        }
        if (done == threads) break;
        if (waiting < threads) {
            fprintf(stderr, "%u threads done and %u at a barrier, of %u\n", done, waiting, threads);
            exit(2);
        }
        for (unsigned t = 0; t < threads; t++) fibers[t].state = Fiber::RUNS;
    }
    free(shared_memory);
}

// Bytes behind every buffer that nothing may write to. AddressSanitizer has its own.
#ifdef __SANITIZE_ADDRESS__
enum { BEHIND = 1 };
#else
enum { BEHIND = 8192 };
#endif

static uint64_t read_word(FILE* f) {
    uint64_t x = 0;
    if (fread(&x, 8, 1, f) != 1) exit(3);
    return x;
}

int main(int, char** argv) {
    FILE* job = fopen(argv[1], "rb");
    if (!job) return 3;
    const uint64_t blocks = read_word(job), threads = read_word(job), shared = read_word(job);
    const bool down = argv[3][0] == 'd';
    const uint64_t number_of_buffers = read_word(job);
    struct Buffer {
        unsigned char* bytes;
        uint64_t size;
    }* buffers = (Buffer*)calloc(number_of_buffers + 1, sizeof(Buffer));
    for (uint64_t n = 0; n < number_of_buffers; n++) {
        Buffer& b = buffers[n];
        b.size = read_word(job);
        b.bytes = (unsigned char*)malloc(b.size + BEHIND);
        memset(b.bytes + b.size, 0xa5, BEHIND);
        if (b.size && fread(b.bytes, 1, b.size, job) != b.size) return 3;
    }
    number_of_values = read_word(job);
    values = (Value*)calloc(number_of_values + 1, sizeof(Value));
    for (uint64_t n = 0; n < number_of_values; n++) {
        Value& v = values[n];
        const uint64_t kind = read_word(job), x = read_word(job);
        v.integer = (int64_t)x;
        v.pointer = kind == 1 ? (void*)buffers[x].bytes : nullptr;
    }
    fclose(job);
    blockDim = {(unsigned)threads, 1, 1};
    gridDim = {(unsigned)blocks, 1, 1};
    for (uint64_t b = 0; b < blocks; b++) {
        blockIdx = {(unsigned)(down ? blocks - 1 - b : b), 0, 0};
        run_block((unsigned)threads, shared, down);
    }
    for (uint64_t n = 0; n < number_of_buffers; n++)
        for (uint64_t at = 0; at < BEHIND; at++)
            if (buffers[n].bytes[buffers[n].size + at] != 0xa5) {
                fprintf(stderr, "written behind the end of buffer %zu\n", (size_t)n);
                return 2;
            }
    FILE* out = fopen(argv[2], "wb");
    for (uint64_t n = 0; n < number_of_buffers; n++)
        if (buffers[n].size && fwrite(buffers[n].bytes, 1, buffers[n].size, out) != buffers[n].size) return 3;
    return fclose(out);
}
