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
// in common, so are their exchanged rows; what offsets add beyond eight rows is a constant of the instruction.
template <class P> __device__ inline int row_of(unsigned w, int i, const unsigned short* __restrict__ index) {
    if (!P::APART) return swizzled(P::coordinate(w, i, index));
    const int offset = swizzled(P::offset(i));
    return (swizzled(P::first(w)) ^ (offset & 7)) + (offset & ~7);
}

// As bytes, for a chunk at this place: one operation of bits for each, and constants of instructions.
template <class P> __device__ inline unsigned bytes_of(unsigned w, int i, const unsigned short* __restrict__ index) {
    const unsigned size = sizeof(Chunk);
    if (!P::APART) return size * swizzled(P::coordinate(w, i, index));
    const unsigned offset = swizzled(P::offset(i));
    return (size * swizzled(P::first(w)) ^ size * (offset & 7)) + size * (offset & ~7u);
}
__device__ inline Chunk& chunk_at(Chunk* tile, unsigned bytes) {
    return *reinterpret_cast<Chunk*>(reinterpret_cast<unsigned char*>(tile) + bytes);
}
__device__ inline const Chunk& chunk_of(const Chunk* tile, unsigned bytes) {
    return *reinterpret_cast<const Chunk*>(reinterpret_cast<const unsigned char*>(tile) + bytes);
}

// This thread's number.
__device__ inline unsigned thread() {
    const unsigned number = threadIdx.x;
    ASSUME(number < THREADS);
    return number;
}

// Thread number g of those that fill or empty a tile: which plane, and from which coordinate on it takes four.
struct Part {
    unsigned plane, c;
};
__device__ inline Part part_of(unsigned g) {
    const unsigned fours = (N + 3) / 4;
    return {g / fours, g % fours * 4};
}

// How many vectors of the batch there are from the first of a tile on, at most as many as it takes.
__device__ inline int vectors_left(long long batch, long long first) {
    return batch - first < C * PLANES ? int(batch - first) : C * PLANES;
}

// `left` vectors from x on into the tile. Behind the last one: ZEROS, or that vector again.
template <bool ZEROS>
__device__ inline void fill(Chunk* tile, const stored* x, long long stride, int left) {
    const unsigned parts = (N + 3) / 4 * PLANES;
#pragma unroll 2
    for (unsigned n = 0; n < (parts + THREADS - 1) / THREADS; n++) {
        const unsigned g = thread() + n * THREADS;
        if (parts % THREADS != 0 && g >= parts) break;
        const auto [plane, c] = part_of(g);
        const int row = plane * C;
        const stored* from = x + (ZEROS || row < left ? row : left - 1) * stride + c;
        float t[C][4];
#pragma unroll
        for (int v = 0; v < C; v++) {
            if (ZEROS && row + v >= left) {
#pragma unroll
                for (int i = 0; i < 4; i++) t[v][i] = 0.0f;
            } else {
#if ALIGNED
                read_four(from, t[v]);
#else
#pragma unroll
                for (int i = 0; i < 4; i++) t[v][i] = c + i < N ? load(read(from + i)) : 0.0f;
#endif
            }
            from += ZEROS || row + v + 1 < left ? stride : 0;
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (N % 4 == 0 || c + i < N) {
                Chunk chunk;
#pragma unroll
                for (int v = 0; v < C; v++) chunk.v[v] = t[v][i];
                tile[plane * ROWS + swizzled(c + i)] = chunk;
            }
        }
    }
}

// And back to a batch.
__device__ inline void empty(const Chunk* tile, stored* y, long long stride, int left) {
    const unsigned parts = (N + 3) / 4 * PLANES;
#pragma unroll 2
    for (unsigned n = 0; n < (parts + THREADS - 1) / THREADS; n++) {
        const unsigned g = thread() + n * THREADS;
        if (parts % THREADS != 0 && g >= parts) break;
        const auto [plane, c] = part_of(g);
        Chunk chunk[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (N % 4 == 0 || c + i < N) chunk[i] = tile[plane * ROWS + swizzled(c + i)];
        const int row = plane * C;
        stored* to = y + row * stride + c;
#pragma unroll
        for (int v = 0; v < C; v++) {
            if (row + v < left) {
#if ALIGNED
                const float four[4] = {chunk[0].v[v], chunk[1].v[v], chunk[2].v[v], chunk[3].v[v]};
                write_four(four, to);
#else
#pragma unroll
                for (int i = 0; i < 4; i++)
                    if (c + i < N) write(to + i, store(chunk[i].v[v]));
#endif
            }
            to += stride;
        }
    }
}

// Vectors `first` and following on their way to the second-level cache.
__device__ inline void expect(const stored* x, long long stride, long long first, long long batch) {
    const int line = 128 / sizeof(stored), lines = (N + line - 1) / line;
    for (int at = thread(); at < C * PLANES * lines; at += THREADS) {
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
