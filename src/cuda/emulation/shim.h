// A GPU for a host compiler: one block of threads after the other, its threads as fibers that meet at __syncthreads.
//
// Shared memory starts as NaNs. Between two barriers threads run one after the other, upwards or downwards (argv[3]): results that
// depend on the order lack a barrier. A barrier that some threads miss is an error.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __device__
#define __global__
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)

struct Dim {
    unsigned x, y, z;
};
static Dim threadIdx, blockIdx, blockDim, gridDim;
static unsigned char* shared_memory;
#define SHARED(type, name) type* name = reinterpret_cast<type*>(shared_memory)

struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
template <class T> static inline T __ldg(const T* p) { return *p; }

static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }
static inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
static inline float __uint_as_float(unsigned x) {
    float y;
    std::memcpy(&y, &x, 4);
    return y;
}
static inline unsigned __float_as_uint(float x) {
    unsigned y;
    std::memcpy(&y, &x, 4);
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
    std::memcpy(&bits, &y, 2);
    return bits;
}
static inline float emulated_from_f16(unsigned short bits) {
    _Float16 y;
    std::memcpy(&y, &bits, 2);
    return (float)y;
}

struct Fiber {
    ucontext_t context;
    unsigned char* stack;
    enum { RUNS, AT_WARP, AT_BLOCK, DONE } state;
};
static std::vector<Fiber> fibers;
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
    std::memcpy(held[warp][lane], mine, sizeof mine);
    __syncwarp();
    for (int n = 0; n < 4; n++) {
        const int i = lane / 4 + n / 2 * 8, j = lane % 4 * 2 + n % 2;
        double sum = 0.0;
        for (int k = 0; k < 16; k++) sum += (double)of_a(warp, i, k) * of_b(warp, k, j);
        d[n] = (float)(d[n] + sum);
    }
    __syncwarp();
}

struct Value {
    int64_t integer;
    void* pointer;
};
static std::vector<Value> values;

template <class A> struct Convert {
    static A from(const Value& v) { return (A)v.integer; }
};
template <class A> struct Convert<A*> {
    static A* from(const Value& v) { return (A*)v.pointer; }
};
template <class... A, size_t... I> static void call(void (*kernel)(A...), std::index_sequence<I...>) {
    kernel(Convert<A>::from(values[I])...);
}
template <class... A> static void call(void (*kernel)(A...)) {
    if (values.size() != sizeof...(A)) {
        std::fprintf(stderr, "%zu arguments for a kernel of %zu\n", values.size(), sizeof...(A));
        std::exit(2);
    }
    call(kernel, std::index_sequence_for<A...>());
}

static void enter();

static void run_block(unsigned threads, size_t shared, bool down) {
    shared_memory = (unsigned char*)std::aligned_alloc(16, (shared + 15) / 16 * 16 + 16);
    std::memset(shared_memory, 0xff, shared);
    fibers.resize(threads);
    for (unsigned t = 0; t < threads; t++) {
        Fiber& f = fibers[t];
        if (!f.stack) f.stack = (unsigned char*)std::malloc(STACK);
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack;
        f.context.uc_stack.ss_size = STACK;
        f.context.uc_link = &scheduler;
        f.state = Fiber::RUNS;
        makecontext(&f.context, enter, 0);
    }
    for (;;) {
        unsigned done = 0, waiting = 0;
        for (unsigned k = 0; k < threads; k++) {
            running = down ? threads - 1 - k : k;
            if (fibers[running].state == Fiber::RUNS) {
                threadIdx.x = running;
                swapcontext(&scheduler, &fibers[running].context);
            }
            done += fibers[running].state == Fiber::DONE;
            waiting += fibers[running].state == Fiber::AT_BLOCK;
        }
        if (done == threads) break;
        if (waiting == threads) {
            for (auto& f : fibers) f.state = Fiber::RUNS;
            continue;
        }
        bool moved = false;
        for (unsigned first = 0; first < threads; first += 32) {
            unsigned at_warp = 0;
            for (unsigned t = first; t < first + 32 && t < threads; t++) at_warp += fibers[t].state == Fiber::AT_WARP;
            if (at_warp != 32) continue;
            for (unsigned t = first; t < first + 32; t++) fibers[t].state = Fiber::RUNS;
            moved = true;
        }
        if (!moved) {
            std::fprintf(stderr, "%u threads done and %u at a barrier, of %u\n", done, waiting, threads);
            std::exit(2);
        }
    }
    std::free(shared_memory);
}

static uint64_t read_word(FILE* f) {
    uint64_t x = 0;
    if (std::fread(&x, 8, 1, f) != 1) std::exit(3);
    return x;
}

int main(int, char** argv) {
    FILE* job = std::fopen(argv[1], "rb");
    if (!job) return 3;
    const uint64_t blocks = read_word(job), threads = read_word(job), shared = read_word(job);
    const bool down = argv[3][0] == 'd';
    std::vector<std::pair<unsigned char*, size_t>> buffers(read_word(job));
    for (auto& b : buffers) {
        b.second = read_word(job);
        b.first = (unsigned char*)std::malloc(b.second ? b.second : 1);
        if (b.second && std::fread(b.first, 1, b.second, job) != b.second) return 3;
    }
    values.resize(read_word(job));
    for (auto& v : values) {
        const uint64_t kind = read_word(job), x = read_word(job);
        v.integer = (int64_t)x;
        v.pointer = kind == 1 ? (void*)buffers[x].first : nullptr;
    }
    std::fclose(job);
    blockDim = {(unsigned)threads, 1, 1};
    gridDim = {(unsigned)blocks, 1, 1};
    for (uint64_t b = 0; b < blocks; b++) {
        blockIdx = {(unsigned)(down ? blocks - 1 - b : b), 0, 0};
        run_block((unsigned)threads, shared, down);
    }
    FILE* out = std::fopen(argv[2], "wb");
    for (auto& b : buffers)
        if (b.second && std::fwrite(b.first, 1, b.second, out) != b.second) return 3;
    return std::fclose(out);
}
