// y = Q x, or Qᵀ x, in registers (chain.cuh). x and y may be the same. A warp takes TILES sixteens of vectors.

// A stage and those after it; y is what they give.
template <bool FIRST, class S, class... Rest>
__device__ inline void stages(List<S, Rest...>, const Words<TILES>& x, Words<TILES>& y, const uint4* __restrict__ packed) {
    constexpr bool last = sizeof...(Rest) == 0;
    Words<TILES> between;
    Words<TILES>& next = last ? y : between;
#pragma unroll
    for (int w = 0; w < S::COUNT; w++) block<S, S::PACKED, FIRST, last, 0, TILES>(w, x, next, packed);
    if constexpr (!last) stages<false>(List<Rest...>(), between, y, packed);
}

__device__ inline Place place(unsigned thread, unsigned block, unsigned tile, long long batch) {
    const long long first = ((long long)tile * WARPS + thread / 32) * (16 * TILES);
    const int left = first >= batch ? 0 : batch - first < 16 * TILES ? int(batch - first) : 16 * TILES;
    return {block % PARTS, thread % 32 / 4, thread % 4, first, left};
}

// A block of threads goes through the batch in steps: entries that one step has read are in the first-level cache for
// the next one.
extern "C" __global__ void __launch_bounds__(32 * WARPS, SIDE_BY_SIDE) apply(
    const stored* x, long long x_stride, stored* y, long long y_stride, long long batch, const uint4* __restrict__ packed) {
    for (unsigned tile = blockIdx.x / PARTS;; tile += gridDim.x / PARTS) {
        __syncwarp(); // products are the whole warp's
        const Place reads = place(threadIdx.x, blockIdx.x, tile, batch);
        if (reads.left <= 0) return; // all of the warp
        const uint4* entries = packed + (long long)reads.part * PACKED_PART + threadIdx.x % 32;
        Loaded<First> loaded[TILES];
        Words<TILES> from, to;
#pragma unroll
        for (int m = 0; m < TILES; m++) load<First, false>(loaded[m], m, x, x_stride, reads);
#pragma unroll
        for (int m = 0; m < TILES; m++) arrange(from, m, loaded[m], reads);
        stages<true>(Stages(), from, to, entries);
        // The same again, for all the compiler knows another (y is 0): so it keeps none of it in registers meanwhile.
        const Place writes = place(threadIdx.x | threadIdx.y, blockIdx.x | blockIdx.y, tile, batch);
#pragma unroll
        for (int m = 0; m < TILES; m++) write<Last>(to, m, m, y, y_stride, writes);
    }
}
