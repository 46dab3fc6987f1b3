// Large blocks on tensor cores, for vectors of half precision (TENSOR 1): each number is the sum of two of bfloat16,
// and three of the four products of sums are taken. What is left out is 2⁻¹⁶ of the result, less than what rounding to
// half precision loses.
//
// A warp takes one block of eight vectors, two planes (of sixteen where there are as many), in tiles of 16 rows by 16 columns (mma.m16n8k16). Of a tile,
// thread 4g + t holds rows g and g + 8, columns 2t, 2t + 1, 2t + 8 and 2t + 9; `packed` has these eight numbers as one
// uint4, and after the tile's 32 those of what bfloat16 lost; first for blocks as they are stored, then for transposed
// ones.

#if TENSOR
template <class P, bool T>
__device__ inline void tensor(Chunk* tile, const uint4* __restrict__ packed, const unsigned short* __restrict__ index) {
    typedef typename P::Only S;
    const int many = PLANES % 4 == 0 ? 2 : 1; // pairs of planes that share what is loaded of the block
    const unsigned tiles = S::B / 16, tasks = P::COUNT * (PLANES / 2 / many);
    const unsigned lane = thread() % 32, g = lane / 4, t = lane % 4;
    const uint4* __restrict__ direction = packed + P::PACKED + (T != S::ADJOINT ? P::COUNT * tiles * tiles * 64 : 0);
    for (unsigned task = thread() / 32; task < tasks; task += THREADS / 32) {
        const unsigned w = task % P::COUNT;
        Chunk* planes = tile + task / P::COUNT * many * 2 * ROWS;
        word x[many][tiles][2], rest[many][tiles][2];
#pragma unroll
        for (unsigned k = 0; k < 2 * tiles; k++) {
            const int low_row = row_of<P>(w, 8 * k + 2 * t, index), high_row = row_of<P>(w, 8 * k + 2 * t + 1, index);
#pragma unroll
            for (int p = 0; p < many; p++) {
                const Chunk* from = planes + (2 * p + g / 4) * ROWS;
                const float low = from[low_row].v[g % 4], high = from[high_row].v[g % 4];
                x[p][k / 2][k % 2] = two(low, high);
                rest[p][k / 2][k % 2] = two_rests(low, high, x[p][k / 2][k % 2]);
            }
        }
        __syncwarp();
        const int v = t % 2 * 2;
#pragma unroll
        for (unsigned i = 0; i < tiles; i++) {
            float y[many][4] = {};
#pragma unroll
            for (unsigned k = 0; k < tiles; k++) {
                const uint4* a = direction + ((w * tiles + i) * tiles + k) * 64 + lane;
                const uint4 entries = __ldg(a), rests = __ldg(a + 32);
#pragma unroll
                for (int p = 0; p < many; p++) {
                    multiply(y[p], rests, x[p][k]);
                    multiply(y[p], entries, rest[p][k]);
                    multiply(y[p], entries, x[p][k]);
                }
            }
            const int upper = row_of<P>(w, 16 * i + g, index), lower = row_of<P>(w, 16 * i + g + 8, index);
#pragma unroll
            for (int p = 0; p < many; p++) {
                Chunk* to = planes + (2 * p + t / 2) * ROWS;
                to[upper].v[v] = y[p][0];
                to[upper].v[v + 1] = y[p][1];
                to[lower].v[v] = y[p][2];
                to[lower].v[v + 1] = y[p][3];
            }
        }
        __syncwarp();
    }
}
#endif
