// Large blocks. Numbers of block w are its columns, each filled up to whole fours of rows (quads): entry (i, k) is at
// (w·B + k)·COLUMN + i. KEPT: for as long as a block of threads lives they are in shared memory, from KEPT_AT on, as
// they act where T is KEPT_T; behind them, likewise, their gradients.
//
// A thread has eight rows, quads r and r + HALF, of the products with K planes: two loads of four entries and K of a
// chunk for 32·K multiply-adds. Threads whose lanes differ in bit 0 read the same chunks, those whose lanes differ in
// bit 1 the same entries: so a load of 16 bytes by a warp can be served at half its cost.

template <class P> struct Wide {
    static constexpr int B = P::Only::B, QUADS = (B + 3) / 4, HALF = (QUADS + 1) / 2;
    // Kept columns are apart by an odd number of quads.
    static constexpr int COLUMN = 4 * QUADS, KEPT_COLUMN = QUADS % 2 ? COLUMN : COLUMN + 4;
};

template <class P> __device__ inline float* kept_numbers() {
    SHARED(unsigned char, memory);
    return reinterpret_cast<float*>(memory + KEPT_AT) + P::KEPT_NUMBERS;
}
template <class P> __device__ inline float* kept_gradients() { return kept_numbers<P>() + KEPT_SIZE; }

// Numbers of a part into shared memory.
__device__ inline void keep(List<>, const float*) {}
template <class P, class... Rest> __device__ inline void keep(List<P, Rest...>, const float* __restrict__ numbers) {
    if constexpr (KEPT && P::WIDE) {
        typedef Wide<P> W;
        float* kept = kept_numbers<P>();
        const Four* fours = reinterpret_cast<const Four*>(numbers + P::NUMBERS);
#pragma unroll 4
        for (unsigned at = thread(); at < P::COUNT * W::B * W::QUADS; at += THREADS) {
            const Four four = fours[at];
            const unsigned column = at / W::QUADS, quad = at % W::QUADS, w = column / W::B;
            if (KEPT_T == P::Only::ADJOINT) {
                *reinterpret_cast<Four*>(kept + column * W::KEPT_COLUMN + 4 * quad) = four;
            } else {
#pragma unroll
                for (int j = 0; j < 4; j++)
                    if (W::B % 4 == 0 || 4 * quad + j < W::B)
                        kept[(w * W::B + 4 * quad + j) * W::KEPT_COLUMN + column % W::B] = four.v[j];
            }
        }
    }
    keep(List<Rest...>(), numbers);
}

// Entries (4·quad + j, k) of a block, whose numbers these are, as it acts.
template <class P, bool T> __device__ inline Four entries(const float* block, int quad, int k) {
    typedef Wide<P> W;
    const int column = KEPT ? W::KEPT_COLUMN : W::COLUMN;
    if (T == (KEPT ? KEPT_T : P::Only::ADJOINT)) return *reinterpret_cast<const Four*>(block + k * column + 4 * quad);
    Four four;
#pragma unroll
    for (int j = 0; j < 4; j++)
        four.v[j] = W::B % 4 == 0 || 4 * quad + j < W::B ? block[(4 * quad + j) * column + k] : 0.0f;
    return four;
}

template <class P, bool T> struct Pass<P, T, true, 0, 0> {
    typedef Wide<P> W;
    // All rows of a block, and of K planes, are one warp's: only its threads wait until all inputs have been read. Of
    // larger blocks they are the whole block of threads'.
    static constexpr bool WARP = W::HALF <= 32 && THREADS % 32 == 0;
    static constexpr int EACH = WARP ? 1 : (W::HALF + THREADS - 1) / THREADS;
    static constexpr unsigned SETS = P::COUNT * (PLANES / K), OF_WARP = 32 / (WARP ? W::HALF : 32);
    static constexpr unsigned AT_ONCE = WARP ? THREADS / 32 * OF_WARP : 1;

    // Of the sets of a warp, which one, and which rows of it.
    struct Place {
        unsigned set, r;
    };
    __device__ static inline Place place_of(unsigned lane) {
        const unsigned near = OF_WARP < 4 ? OF_WARP : 4;
        if (32 % W::HALF != 0) return {lane / W::HALF, lane % W::HALF};
        return {lane / 2 % near + lane / (W::HALF * near) * near, lane % 2 + lane / (2 * near) % (W::HALF / 2) * 2};
    }

    // Rows of a thread's two quads; those behind the last one are computed, and not written.
    __device__ static inline unsigned quad_of(unsigned r, int half) {
        return W::QUADS % 2 != 0 && half == 1 && r + W::HALF >= W::QUADS ? r : r + half * W::HALF;
    }

    __device__ static inline void multiply(
        Chunk (&y)[8][K], const Chunk* planes, const float* block, const unsigned short* __restrict__ index, unsigned w, unsigned r) {
        // What is added to minus zero stays what it is: the first product is only rounded.
#pragma unroll
        for (int i = 0; i < 8; i++)
#pragma unroll
            for (int p = 0; p < K; p++)
#pragma unroll
                for (int v = 0; v < C; v++) y[i][p].v[v] = -0.0f;
        int eight = 0;
#pragma unroll(P::EIGHTS ? 8 : 4)
        for (int k = 0; k < W::B; k++) {
            // Eight coordinates that are eight whole rows of the tile are exchanged among themselves.
            if (P::EIGHTS && k % 8 == 0) eight = swizzled(P::coordinate(w, k, index));
            const int row = P::EIGHTS ? eight ^ k % 8 : row_of<P>(w, k, index);
            Chunk x[K];
#pragma unroll
            for (int p = 0; p < K; p++) x[p] = planes[p * (PLANES / K) * ROWS + row];
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const Four c = entries<P, T>(block, quad_of(r, half), k);
#pragma unroll
                for (int j = 0; j < 4; j++)
#pragma unroll
                    for (int p = 0; p < K; p++)
#pragma unroll
                        for (int v = 0; v < C; v++) {
                            float& to = y[4 * half + j][p].v[v];
                            to = __fmaf_rn(c.v[j], x[p].v[v], to);
                        }
            }
        }
    }

    __device__ static inline void run(
        Chunk* tile, const float* __restrict__ numbers, const unsigned short* __restrict__ index, const Outside&) {
        const Place place = WARP ? place_of(thread() % 32) : Place{0, thread()};
#pragma unroll 1
        for (unsigned begin = 0; begin < SETS; begin += AT_ONCE) {
            const unsigned set = begin + (WARP ? thread() / 32 * OF_WARP + place.set : 0);
            const bool works = set < SETS && place.set < OF_WARP;
            const unsigned w = set / (PLANES / K);
            Chunk* planes = tile + set % (PLANES / K) * ROWS;
            const float* block =
                KEPT ? kept_numbers<P>() + w * (W::B * W::KEPT_COLUMN) : numbers + P::NUMBERS + w * (W::B * W::COLUMN);
            Chunk y[EACH][8][K];
#pragma unroll
            for (int n = 0; n < EACH; n++) {
                const unsigned r = place.r + n * THREADS;
                if (works && r < W::HALF) multiply(y[n], planes, block, index, w, r);
            }
            if (WARP) {
                __syncwarp();
            } else {
                __syncthreads();
            }
#pragma unroll
            for (int n = 0; n < EACH; n++) {
                const unsigned r = place.r + n * THREADS;
                if (!works || r >= W::HALF) continue;
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    const int row = 4 * (r + i / 4 * W::HALF) + i % 4;
                    if (W::B % 8 != 0 && row >= W::B) continue;
                    const int at = row_of<P>(w, row, index);
#pragma unroll
                    for (int p = 0; p < K; p++) planes[p * (PLANES / K) * ROWS + at] = y[n][i][p];
                }
            }
        }
    }
};

// How many threads share a patch of gradients, of as many as there are.
__device__ constexpr int splits(unsigned patches) {
    int splits = 1;
    while (THREADS % 32 == 0 && splits < 8 && 2 * splits * patches <= THREADS && 2 * splits <= PLANES) splits *= 2;
    return splits;
}

// Two threads of a warp whose lanes differ in `bit` add up what they have: the first HALF columns are the lower one's,
// the next ones the upper one's. From which one on they are this thread's.
template <int HALF> __device__ inline int add_up(float (&sums)[8][4], int bit) {
    const bool upper = thread() & bit;
#pragma unroll
    for (int k = 0; k < HALF; k++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float other = shuffle(upper ? sums[k][i] : sums[k + HALF][i], bit);
            sums[k][i] = __fadd_rn(upper ? sums[k + HALF][i] : sums[k][i], other);
        }
    return upper ? HALF : 0;
}

// Gradients of the numbers of a pass, l_i·r_k for entry (i, k) as it is stored, over all vectors of the tile: to those
// of earlier tiles, or as the first (`begins`).
//
// A thread has a patch of four rows by eight columns, and every so many-th plane; those that share a patch are in a
// warp and add up what they have, so that each then has some of its columns. Lanes that differ in bit 0 read the same
// of r, those that differ in bit 1 the same of l.
template <class P>
__device__ inline void wide_gradients(
    const Chunk* left, const Chunk* right, float* slot, const unsigned short* __restrict__ index, bool begins) {
    typedef Wide<P> W;
    constexpr unsigned LEFTS = (W::QUADS + 1) / 2, RIGHTS = (W::HALF + 1) / 2, PATCHES = P::COUNT * LEFTS * RIGHTS * 4;
    constexpr int SPLITS = splits(PATCHES), COLUMN = KEPT ? W::KEPT_COLUMN : W::COLUMN;
    float* gradients = KEPT ? kept_gradients<P>() : slot + P::GRADIENTS;
#pragma unroll 1
    for (unsigned n = 0; n < (PATCHES * SPLITS + THREADS - 1) / THREADS; n++) {
        const unsigned item = thread() + n * THREADS;
        const unsigned split = item / 4 % SPLITS, rest = item / 4 / SPLITS;
        unsigned l = rest % LEFTS * 2 + item % 2, r = rest / LEFTS % RIGHTS * 2 + item / 2 % 2, w = rest / LEFTS / RIGHTS;
        const bool there = w < P::COUNT && l < W::QUADS && r < W::HALF;
        if (!there) w = l = r = 0;
        unsigned left_at[4], right_at[8];
#pragma unroll
        for (int i = 0; i < 4; i++) left_at[i] = bytes_of<P>(w, 4 * l + i < W::B ? 4 * l + i : 0, index);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            const int row = 4 * (r + k / 4 * W::HALF) + k % 4;
            right_at[k] = bytes_of<P>(w, row < W::B ? row : 0, index);
        }
        float sums[8][4];
#pragma unroll
        for (int k = 0; k < 8; k++)
#pragma unroll
            for (int i = 0; i < 4; i++) sums[k][i] = 0.0f;
#pragma unroll 2
        for (int plane = split; plane < PLANES; plane += SPLITS) {
            Chunk rows[4];
#pragma unroll
            for (int i = 0; i < 4; i++) rows[i] = chunk_of(left + plane * ROWS, left_at[i]);
#pragma unroll
            for (int k = 0; k < 8; k++) {
                const Chunk x = chunk_of(right + plane * ROWS, right_at[k]);
#pragma unroll
                for (int v = 0; v < C; v++)
#pragma unroll
                    for (int i = 0; i < 4; i++) sums[k][i] = __fmaf_rn(rows[i].v[v], x.v[v], sums[k][i]);
            }
        }
        int first = 0;
        if constexpr (SPLITS > 1) first += add_up<4>(sums, 4);
        if constexpr (SPLITS > 2) first += add_up<2>(sums, 8);
        if constexpr (SPLITS > 4) first += add_up<1>(sums, 16);
#pragma unroll
        for (int n = 0; n < 8 / SPLITS; n++) {
            const int k = first + n, column = 4 * (r + k / 4 * W::HALF) + k % 4;
            if (!there || column >= W::B) continue;
            Four* to = reinterpret_cast<Four*>(gradients + (w * W::B + column) * COLUMN + 4 * l);
            Four sum;
#pragma unroll
            for (int i = 0; i < 4; i++) sum.v[i] = sums[n][i];
            if (!begins) {
                const Four before = *to;
#pragma unroll
                for (int i = 0; i < 4; i++) sum.v[i] = __fadd_rn(before.v[i], sum.v[i]);
            }
            *to = sum;
        }
    }
}
