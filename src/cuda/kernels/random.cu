// Random rotations, version 1 (the documentation of papilio::random), in place, with the bits of every CPU: sums,
// differences and products are rounded one by one.
//
// BLOCK, UNIT: coordinates of a block and of a unit. A round has BLOCKS blocks; where they are DISJOINT they go side by
// side, otherwise one after the other. For each block `data` holds the starts of its units, then its signs, then those
// between, a bit each.

#define UNITS (BLOCK / UNIT)
#define PAIRS (BLOCK > 1 ? BLOCK / 2 : 1) // a block of one coordinate goes through no stage
#define WORDS(bits) (((bits) + 63) / 64 * 2)

// Of one block: words of data.
__device__ inline int words_between(int kind) { return kind == 0 && UNIT > 1 ? WORDS(BLOCK / 2) : kind == 2 && UNITS > 1 ? WORDS(BLOCK / 2) : 0; }
__device__ inline int size_of_block(int kind) { return UNITS + WORDS(BLOCK) + words_between(kind); }

__device__ inline int place(const word* starts, int i) { return swizzled((int)starts[i / UNIT] + i % UNIT); }
__device__ inline bool minus(const word* bits, int i) { return bits[i / 32] >> (i % 32) & 1; }

struct Blocks {
    Chunk* tile;
    const word* data;
    int kind, first, count;
};

// x_i ← x_i·(s_i·c)
__device__ inline void scale(Blocks b, float c) {
    for (unsigned item = thread(); item < unsigned(b.count * BLOCK * PLANES); item += THREADS) {
        const int i = item % BLOCK, block = item / BLOCK % b.count, plane = item / BLOCK / b.count;
        const word* data = b.data + (b.first + block) * size_of_block(b.kind);
        const float factor = minus(data + UNITS, i) ? -c : c;
        Chunk* x = b.tile + plane * ROWS + place(data, i);
#pragma unroll
        for (int v = 0; v < C; v++) x->v[v] = __fmul_rn(x->v[v], factor);
    }
    __syncthreads();
}

// Pairs at this distance.
__device__ inline void stage(Blocks b, int distance) {
    for (unsigned item = thread(); item < unsigned(b.count * PAIRS * PLANES); item += THREADS) {
        const int q = item % PAIRS, block = item / PAIRS % b.count, plane = item / PAIRS / b.count;
        const word* data = b.data + (b.first + block) * size_of_block(b.kind);
        const int i = q / distance * 2 * distance + q % distance;
        Chunk *x = b.tile + plane * ROWS + place(data, i), *y = b.tile + plane * ROWS + place(data, i + distance);
        const Chunk a = *x, c = *y;
        Chunk sum, difference;
        const bool turned = b.kind == 0 && distance == 1 && UNIT > 1 && minus(data + UNITS + WORDS(BLOCK), q);
#pragma unroll
        for (int v = 0; v < C; v++) {
            // (t·a + c, a − t·c) where there are signs between.
            sum.v[v] = __fadd_rn(turned ? -a.v[v] : a.v[v], c.v[v]);
            difference.v[v] = turned ? __fadd_rn(a.v[v], c.v[v]) : __fsub_rn(a.v[v], c.v[v]);
        }
        *x = sum;
        *y = difference;
    }
    __syncthreads();
}

// The coordinates of every other unit take their signs.
__device__ inline void odd_units(Blocks b) {
    if (UNITS == 1) return;
    for (unsigned item = thread(); item < unsigned(b.count * PAIRS * PLANES); item += THREADS) {
        const int k = item % PAIRS, block = item / PAIRS % b.count, plane = item / PAIRS / b.count;
        const word* data = b.data + (b.first + block) * size_of_block(b.kind);
        if (minus(data + UNITS + WORDS(BLOCK), k)) {
            Chunk* x = b.tile + plane * ROWS + place(data, (2 * (k / UNIT) + 1) * UNIT + k % UNIT);
#pragma unroll
            for (int v = 0; v < C; v++) x->v[v] = -x->v[v];
        }
    }
    __syncthreads();
}

__device__ inline void up(Blocks b, int from, int to) {
    for (int d = from; d < to; d *= 2) stage(b, d);
}
__device__ inline void down(Blocks b, int from, int to) {
    for (int d = to / 2; d >= from; d /= 2) stage(b, d);
}

__device__ inline void turn(Blocks b) {
    const float c = __uint_as_float(b.kind == 1 ? SCALE_MIDDLE : SCALE);
    if (!BACK) scale(b, c);
    if (b.kind == 0) {
        if (BACK) down(b, 1, UNIT);
        if (BACK) up(b, UNIT, BLOCK);
        if (!BACK) down(b, UNIT, BLOCK);
        if (!BACK) up(b, 1, UNIT);
    } else if (b.kind == 1) {
        if (BACK) down(b, UNIT, BLOCK);
        if (!BACK) up(b, UNIT, BLOCK);
    } else {
        if (BACK) down(b, UNIT, BLOCK);
        if (!BACK) up(b, 1, UNIT);
        odd_units(b);
        if (BACK) down(b, 1, UNIT);
        if (!BACK) up(b, UNIT, BLOCK);
    }
    if (BACK) scale(b, c);
}

extern "C" __global__ void __launch_bounds__(THREADS) turn_all(
    stored* x, long long stride, long long batch, const word* __restrict__ data) {
    SHARED(Chunk, tile);
    const long long first = (long long)blockIdx.x * (C * PLANES);
    const int left = vectors_left(batch, first);
    x += first * stride;
    fill<false>(tile, x, stride, left);
    __syncthreads();
    for (int n = 0; n < ROUNDS; n++) {
        const int round = BACK ? ROUNDS - 1 - n : n;
        // Rounds before this one: whole threes, and what is left.
        const word* begin = data;
        for (int r = 0; r < round; r++) begin += BLOCKS * size_of_block(r % 3);
        for (int k = 0; k < (DISJOINT ? 1 : BLOCKS); k++) {
            const int block = DISJOINT ? 0 : BACK ? BLOCKS - 1 - k : k;
            const Blocks b = {tile, begin, round % 3, block, DISJOINT ? BLOCKS : 1};
            turn(b);
        }
    }
    empty(tile, x, stride, left);
}
