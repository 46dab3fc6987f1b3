// The tile: C·PLANES vectors in shared memory; row c of a plane is a chunk, coordinate c of C vectors. Rows are
// exchanged among eight neighbours (SWIZZLE_A, SWIZZLE_B) so that threads that are neighbours meet in few banks. Planes
// are an odd number of rows apart: the same row of eight planes is in eight banks.
//
// N: coordinates of a vector. ALIGNED: rows of the batches start at whole fours of numbers, and N is a multiple of
// four.

struct __align__(4 * C) Chunk {
    float v[C];
};

#define ROWS ((N + 7) / 8 * 8 + (PLANES > 1))

__device__ inline int swizzled(int row) {
    return row ^ (((row >> SWIZZLE_A) ^ (row >> SWIZZLE_B)) & 7);
}

// The row of the tile in which coordinate i of window w of pass P is. Where first coordinates and offsets have no bit
// in common, so are their exchanged rows.
template <class P> __device__ inline int row_of(int w, int i, const unsigned short* __restrict__ index) {
    return P::APART ? swizzled(P::first(w)) ^ swizzled(P::offset(i)) : swizzled(P::coordinate(w, i, index));
}

// Vectors `first` and following of a batch into the tile; zeros behind its last vector.
__device__ inline void fill(Chunk* tile, const stored* x, long long stride, long long first, long long batch) {
    const int fours = (N + 3) / 4;
    for (int g = threadIdx.x; g < fours * PLANES; g += THREADS) {
        const int plane = g / fours, c = g % fours * 4;
        float t[C][4];
#pragma unroll
        for (int v = 0; v < C; v++) {
            const long long row = first + plane * C + v;
            const stored* from = x + row * stride + c;
#pragma unroll
            for (int i = 0; i < 4; i++) t[v][i] = 0.0f;
            if (row < batch) {
#if ALIGNED
                const FourStored four = *reinterpret_cast<const FourStored*>(from);
#pragma unroll
                for (int i = 0; i < 4; i++) t[v][i] = load(four.v[i]);
#else
#pragma unroll
                for (int i = 0; i < 4; i++)
                    if (c + i < N) t[v][i] = load(from[i]);
#endif
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (c + i < N) {
                Chunk chunk;
#pragma unroll
                for (int v = 0; v < C; v++) chunk.v[v] = t[v][i];
                tile[plane * ROWS + swizzled(c + i)] = chunk;
            }
        }
    }
}

// And back to a batch.
__device__ inline void empty(const Chunk* tile, stored* y, long long stride, long long first, long long batch) {
    const int fours = (N + 3) / 4;
    for (int g = threadIdx.x; g < fours * PLANES; g += THREADS) {
        const int plane = g / fours, c = g % fours * 4;
        Chunk chunk[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (c + i < N) chunk[i] = tile[plane * ROWS + swizzled(c + i)];
#pragma unroll
        for (int v = 0; v < C; v++) {
            const long long row = first + plane * C + v;
            stored* to = y + row * stride + c;
            if (row < batch) {
#if ALIGNED
                FourStored four;
#pragma unroll
                for (int i = 0; i < 4; i++) four.v[i] = store(chunk[i].v[v]);
                *reinterpret_cast<FourStored*>(to) = four;
#else
#pragma unroll
                for (int i = 0; i < 4; i++)
                    if (c + i < N) to[i] = store(chunk[i].v[v]);
#endif
            }
        }
    }
}

// Vectors `first` and following on their way to the second-level cache.
__device__ inline void expect(const stored* x, long long stride, long long first, long long batch) {
    const int line = 128 / sizeof(stored), lines = (N + line - 1) / line;
    for (int at = threadIdx.x; at < C * PLANES * lines; at += THREADS) {
        const long long row = first + at / lines;
        if (row < batch) {
            const stored* from = x + row * stride + at % lines * line;
#ifdef EMULATED
            if (*(volatile const stored*)from == stored()) continue; // is it there?
#else
            asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
#endif
        }
    }
}
