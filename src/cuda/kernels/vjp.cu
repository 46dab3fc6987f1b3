// The adjoint of the derivative of y = op(Q) x, where Q is undone stage by stage: from y and ∂y, in two tiles, to ∂x
// and to the gradient of every entry. Where blocks are not orthogonal (EXACT 0) no stage can be undone: each pass is
// one stage, and its input is computed from x again.
//
// FROM_INPUT: `saved` is x, not y. HAS_GX: ∂x is wanted. A part of the vector and a slot belong to a
// block of threads: it takes every so many-th tile and adds its gradients, in this order, to the slot. A thread takes
// its window of L planes, one after the other, and keeps the sums; threads that have the same window of other planes
// have a copy of the slot each, COPIES.

#define COPIES (PLANES / L)

// The numbers of a window from `from` up to `to` are added to those of the slot. All of them are whole fours.
template <class P>
__device__ inline void add(const float (&sums)[P::SIZE], int from, int to, float* slot, unsigned w, bool begins) {
#pragma unroll
    for (int e = 0; e < P::SIZE; e += 4) {
        if (e < from || e >= to) continue;
        Four* at = reinterpret_cast<Four*>(slot + P::GRADIENTS) + e / 4 * P::COUNT + w;
        Four four;
#pragma unroll
        for (int n = 0; n < 4; n++) four.v[n] = sums[e + n];
        if (!begins) {
            const Four before = *at;
#pragma unroll
            for (int n = 0; n < 4; n++) four.v[n] = __fadd_rn(before.v[n], four.v[n]);
        }
        *at = four;
    }
}

// Stage S backwards in the registers of a window. Orthogonal blocks (EXACT): a is its output and becomes its input, g
// likewise for gradients; what is added up are moments (gradients.rs). Otherwise a is its input, and the gradient of
// entry (i, k) of a block that acts as it is stored is g_i·a_k; of one that acts transposed, g_k·a_i.
template <class P, class S, bool T>
__device__ inline void stage_back(
    Chunk (&a)[P::WINDOW][K], Chunk (&g)[P::WINDOW][K], const float* __restrict__ numbers, float (&sums)[P::SIZE], unsigned w) {
    const bool flip = T != S::ADJOINT;
    const Chunk(&l)[P::WINDOW][K] = flip ? a : g, (&r)[P::WINDOW][K] = flip ? g : a;
    if (EXACT) {
        stage<P, S, !T>(a, numbers, w);
        stage<P, S, !T>(g, numbers, w);
    }
#pragma unroll
    for (int q = 0; q < S::BLOCKS; q++) {
        int e = S::GRADIENT + q * S::SIZE;
#pragma unroll
        for (int i = 0; i < S::B; i++)
#pragma unroll
            for (int k = EXACT ? i + 1 : 0; k < S::B; k++, e++)
#pragma unroll
                for (int v = 0; v < C; v++) {
                    sums[e] = __fmaf_rn(l[S::at(q, i)][0].v[v], r[S::at(q, k)][0].v[v], sums[e]);
                    if (EXACT) sums[e] = __fmaf_rn(-l[S::at(q, k)][0].v[v], r[S::at(q, i)][0].v[v], sums[e]);
                }
    }
    if (!EXACT) stage<P, S, !T>(g, numbers, w);
}

// Of one plane only: the slot is added to stage by stage, so that no sum waits.
template <class P, class S>
__device__ inline void add_stage(const float (&sums)[P::SIZE], float* slot, unsigned w, bool begins) {
    if (L == 1) add<P>(sums, S::GRADIENT, S::GRADIENT + S::BLOCKS * S::SIZE, slot, w, begins);
}

template <class P, bool T>
__device__ inline void stages_back(
    List<>, Chunk (&)[P::WINDOW][K], Chunk (&)[P::WINDOW][K], const float*, float (&)[P::SIZE], float*, unsigned, bool) {}

template <class P, bool T, class S, class... Rest>
__device__ inline void stages_back(
    List<S, Rest...>, Chunk (&a)[P::WINDOW][K], Chunk (&g)[P::WINDOW][K], const float* __restrict__ numbers, float (&sums)[P::SIZE],
    float* slot, unsigned w, bool begins) {
    if (T) {
        stage_back<P, S, T>(a, g, numbers, sums, w);
        add_stage<P, S>(sums, slot, w, begins);
    }
    stages_back<P, T>(List<Rest...>(), a, g, numbers, sums, slot, w, begins);
    if (!T) {
        stage_back<P, S, T>(a, g, numbers, sums, w);
        add_stage<P, S>(sums, slot, w, begins);
    }
}

// What is outside: saved batch, gradients of outputs and of inputs; SAVED_READS, FIRST_READS and LAST_WRITES say
// which of them the first and the last pass read and write themselves.
struct Outsides {
    Outside saved, g;
};

template <class P, bool T, bool WIDE> struct Back {
    static constexpr int first = T ? 0 : PASSES - 1, last = PASSES - 1 - first;
    static constexpr int reads_a = P::AT == first ? SAVED_READS : 0, reads_g = P::AT == first ? FIRST_READS : 0;
    static constexpr int writes = HAS_GX && P::AT == last ? LAST_WRITES : 0;

    // The window of one plane.
    __device__ static inline void plane(
        Chunk* a_tile, Chunk* g_tile, const float* __restrict__ numbers, float (&sums)[P::SIZE], float* slot,
        const unsigned short* __restrict__ index, unsigned w, unsigned plane, bool begins, const Outsides& outsides) {
        Chunk a[P::WINDOW][K], g[P::WINDOW][K];
        unsigned bytes[P::WINDOW];
#pragma unroll
        for (int i = 0; i < P::WINDOW; i++) bytes[i] = bytes_of<P>(w, i, index);
        if constexpr (reads_a != 0) take<P, reads_a, true>(a, w, plane, outsides.saved);
        if constexpr (reads_g != 0) take<P, reads_g, true>(g, w, plane, outsides.g);
#pragma unroll
        for (int i = 0; i < P::WINDOW; i++) {
            if (!reads_a) a[i][0] = chunk_at(a_tile + plane * ROWS, bytes[i]);
            if (!reads_g) g[i][0] = chunk_at(g_tile + plane * ROWS, bytes[i]);
        }
        stages_back<P, T>(typename P::Stages(), a, g, numbers, sums, slot, w, begins);
        if constexpr (writes != 0) give<P, writes>(g, w, plane, outsides.g);
#pragma unroll
        for (int i = 0; i < P::WINDOW; i++) {
            if (EXACT && P::AT != last) chunk_at(a_tile + plane * ROWS, bytes[i]) = a[i][0];
            if (!writes && (HAS_GX || P::AT != last)) chunk_at(g_tile + plane * ROWS, bytes[i]) = g[i][0];
        }
    }

    __device__ static inline void run(
        Chunk* a_tile, Chunk* g_tile, const float* __restrict__ numbers, float* gradients, const unsigned short* __restrict__ index,
        bool begins, const Outsides& outsides) {
        const unsigned items = P::COUNT * (PLANES / L);
        for (unsigned n = 0; n < (items + THREADS - 1) / THREADS; n++) {
            const unsigned item = thread() + n * THREADS;
            if (items % THREADS != 0 && item >= items) break;
            const unsigned w = window_of<reads_g>(item % P::COUNT), group = item / P::COUNT;
            float* slot = gradients + (long long)group * (PARTS * GRADIENTS_OF_PART);
            float sums[P::SIZE];
#pragma unroll
            for (int e = 0; e < P::SIZE; e++) sums[e] = 0.0f;
#pragma unroll 1
            for (int p = 0; p < L; p++)
                plane(a_tile, g_tile, numbers, sums, slot, index, w, group + p * (PLANES / L), begins, outsides);
            if (L > 1) add<P>(sums, 0, P::SIZE, slot, w, begins);
        }
        meet<EXACT && (T ? P::NEAR_NEXT : P::NEAR_BEFORE)>();
    }
};

// Large blocks have their gradients in the slot's first copy: nothing is in the others.
template <class P> __device__ inline void no_others(float* gradients) {
    const unsigned fours = P::COUNT * P::SIZE / 4;
    for (unsigned at = thread(); at < fours * (COPIES - 1); at += THREADS) {
        float* copy = gradients + (long long)(at / fours + 1) * (PARTS * GRADIENTS_OF_PART) + P::GRADIENTS;
        reinterpret_cast<Four*>(copy)[at % fours] = Four();
    }
}

// What was kept of gradients, to the slot.
__device__ inline void give_back(List<>, float*) {}
template <class P, class... Rest> __device__ inline void give_back(List<P, Rest...>, float* gradients) {
    if constexpr (KEPT && P::WIDE) {
        typedef Wide<P> W;
        const float* kept = kept_gradients<P>();
        Four* to = reinterpret_cast<Four*>(gradients + P::GRADIENTS);
        for (unsigned at = thread(); at < P::COUNT * W::B * W::QUADS; at += THREADS)
            to[at] = *reinterpret_cast<const Four*>(kept + at / W::QUADS * W::KEPT_COLUMN + at % W::QUADS * 4);
        no_others<P>(gradients);
    }
    give_back(List<Rest...>(), gradients);
}

template <class P, bool T> struct Back<P, T, true> {
    static constexpr int last = T ? PASSES - 1 : 0;

    __device__ static inline void run(
        Chunk* a, Chunk* g, const float* __restrict__ numbers, float* gradients, const unsigned short* __restrict__ index, bool begins,
        const Outsides&) {
        if (EXACT) {
            Pass<P, !T, true, 0, 0>::run(a, numbers, index, Outside());
            __syncthreads();
        }
        // The gradient of entry (i, k) of a block that acts as it is stored is g_i·a_k; of one that acts
        // transposed, g_k·a_i.
        const bool flip = T != P::Only::ADJOINT;
        wide_gradients<P>(flip ? a : g, flip ? g : a, gradients, index, begins);
        if (!KEPT && begins) no_others<P>(gradients);
        __syncthreads();
        if (HAS_GX || P::AT != last) {
            Pass<P, !T, true, 0, 0>::run(g, numbers, index, Outside());
            __syncthreads();
        }
    }
};

template <bool T, class P>
__device__ inline void back(
    Chunk* a, Chunk* g, const float* __restrict__ numbers, float* gradients, const unsigned short* __restrict__ index, bool begins,
    const Outsides& outsides) {
    if (!EXACT) {
        fill<true>(a, outsides.saved.x, outsides.saved.x_stride, outsides.saved.left);
        __syncthreads();
        passes<T, false>(Passes(), a, numbers, nullptr, index, P::AT, Outside());
    }
    Back<P, T, P::WIDE>::run(a, g, numbers, gradients, index, begins, outsides);
}

// Passes, of which the last to act comes first.
template <bool T>
__device__ inline void passes_back(List<>, Chunk*, Chunk*, const float*, float*, const unsigned short*, bool, const Outsides&) {}

template <bool T, class P, class... Rest>
__device__ inline void passes_back(
    List<P, Rest...>, Chunk* a, Chunk* g, const float* __restrict__ numbers, float* gradients, const unsigned short* __restrict__ index,
    bool begins, const Outsides& outsides) {
    back<T, P>(a, g, numbers, gradients, index, begins, outsides);
    passes_back<T>(List<Rest...>(), a, g, numbers, gradients, index, begins, outsides);
}

extern "C" __global__ void __launch_bounds__(THREADS, SIDE_BY_SIDE) apply_vjp(
    const stored* saved, long long saved_stride, const stored* gy, long long gy_stride, stored* gx, long long gx_stride,
    long long batch, const float* __restrict__ numbers, const unsigned short* __restrict__ index, float* slots) {
    SHARED(Chunk, a);
    Chunk* g = a + PLANES * ROWS;
    const unsigned part = blockIdx.x % PARTS, slot = blockIdx.x / PARTS;
    const long long step = (long long)(gridDim.x / PARTS) * (C * PLANES);
    numbers += (long long)part * PART;
    float* gradients = slots + ((long long)slot * COPIES * PARTS + part) * GRADIENTS_OF_PART;
    keep(Passes(), numbers);
    bool begins = true;
    for (long long first = (long long)slot * (C * PLANES); first < batch; first += step) {
        const int left = vectors_left(batch, first);
        const Outsides outsides = {
            {saved + first * saved_stride + part * N, saved_stride, nullptr, 0, left},
            {gy + first * gy_stride + part * N, gy_stride, HAS_GX ? gx + first * gx_stride + part * N : nullptr, gx_stride, left},
        };
        if (!FIRST_READS) fill<true>(g, outsides.g.x, gy_stride, left);
        if (EXACT) {
            if (!SAVED_READS) fill<true>(a, outsides.saved.x, saved_stride, left);
            __syncthreads();
            if (FROM_INPUT) passes<TRANSPOSED, false>(Passes(), a, numbers, nullptr, index, TRANSPOSED ? -1 : PASSES, Outside());
        }
        passes_back<TRANSPOSED>(Backwards(), a, g, FROM_INPUT ? forget(numbers) : numbers, gradients, index, begins, outsides);
        if (HAS_GX && !LAST_WRITES) empty(g, outsides.g.y, gx_stride, left);
        __syncthreads();
        begins = false;
    }
    give_back(Passes(), gradients);
}
