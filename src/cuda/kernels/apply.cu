// y = Q x, or Qᵀ x, for a part of a tile of vectors in each block of threads; x is read once and y written once. x and
// y may be the same.

extern "C" __global__ void __launch_bounds__(THREADS, SIDE_BY_SIDE) apply(
    const stored* x, long long x_stride, stored* y, long long y_stride, long long batch,
    const float* __restrict__ numbers, const uint4* __restrict__ packed, const unsigned short* __restrict__ index) {
    SHARED(Chunk, tile);
    const unsigned part = blockIdx.x % PARTS;
    long long first = (long long)(blockIdx.x / PARTS) * (C * PLANES);
    if (AHEAD > 0) { // what this multiprocessor is likely to work on next
        const long long next = (long long)blockIdx.x + AHEAD;
        expect(x + next % PARTS * N, x_stride, next / PARTS * (C * PLANES), batch);
    }
    numbers += (long long)part * PART;
    keep(Passes(), numbers);
    for (;;) {
        const int left = vectors_left(batch, first);
        const Outside outside = {x + first * x_stride + part * N, x_stride, y + first * y_stride + part * N, y_stride, left};
        if (!FIRST_READS) {
            fill<false>(tile, outside.x, x_stride, left);
            __syncthreads();
        }
        passes<TRANSPOSED, true>(
            Passes(), tile, numbers, packed + (long long)part * PACKED_PART, index, TRANSPOSED ? -1 : PASSES, outside);
        if (!LAST_WRITES) empty(tile, outside.y, y_stride, left);
        // Where entries are kept, every so many-th tile is this block's.
        first += (long long)(gridDim.x / PARTS) * (C * PLANES);
        if (!KEPT || first >= batch) break;
        __syncthreads();
    }
}
