// y = Q x, or Qᵀ x, for vectors of half precision where all stages have blocks of 16, 32, 48 or 64: tensor cores, with
// vectors in registers from reading to writing. x and y may be the same.
//
// A warp takes 16·TILES vectors of one part. Vectors are the rows of mma.m16n8k16, coordinates its columns: of 16 rows
// and eight columns thread 4g + t has rows g and g + 8, columns 2t and 2t + 1, and this is also half of what it has of
// 16 rows and 16 columns of the next product. So what a stage gives is where the next one takes it. A thread's numbers
// of a row are words of two; between stages word i holds coordinates 8i + 2t and 8i + 2t + 1.
//
// Which coordinates the first stage reads from and the last one writes to these places is free, as its entries are packed
// likewise (chain_pack.cu): each thread has as many of every block, in runs of RUN neighbours, and four threads' runs lie
// side by side in memory. For number G of these fours S::at(G) has in byte t the run of thread t, and S::place(G) the
// place of its registers.

// Words of TILES·16 rows: numbers as bfloat16, and what they lose by it.
struct Words {
    word high[TILES][2][N / 8], rest[TILES][2][N / 8];
};

// The rows of a thread.
template <class Number> struct Rows {
    Number* at[TILES][2];
    bool there[TILES][2];
};

// Consecutive numbers of a row. PIECE: as many as are loaded at once.
template <int COUNT> struct __align__(2 * COUNT) Piece {
    stored v[COUNT];
};
template <int RUN> struct Run {
    enum { PIECE = ALIGNED ? RUN : 1 };
    __device__ static inline void load(const stored* from, word (&x)[RUN / 2]) {
#pragma unroll
        for (int i = 0; i < RUN; i += PIECE) {
            if constexpr (PIECE == 8) {
                const uint4 four = *reinterpret_cast<const uint4*>(from);
                x[0] = four.x;
                x[1] = four.y;
                x[2] = four.z;
                x[3] = four.w;
            } else if constexpr (PIECE == 4) {
                const uint2 two = *reinterpret_cast<const uint2*>(from);
                x[0] = two.x;
                x[1] = two.y;
            } else {
                x[i / 2] = i % 2 == 0 ? word(from[i]) : x[i / 2] | word(from[i]) << 16;
            }
        }
    }
    __device__ static inline void store(const word (&x)[RUN / 2], stored* to) {
#pragma unroll
        for (int i = 0; i < RUN; i += PIECE) {
            if constexpr (PIECE == 8) {
                const uint4 four = {x[0], x[1], x[2], x[3]};
                *reinterpret_cast<uint4*>(to) = four;
            } else if constexpr (PIECE == 4) {
                const uint2 two = {x[0], x[1]};
                *reinterpret_cast<uint2*>(to) = two;
            } else {
                to[i] = stored(x[i / 2] >> i % 2 * 16);
            }
        }
    }
};

// Which threads t have registers R in number G of fours, as bits.
template <class S> __device__ inline constexpr unsigned threads_of(int G, int R) {
    unsigned threads = 0;
    for (int t = 0; t < 4; t++) threads |= (S::place(G) >> 8 * t & 255) == unsigned(R) ? 1u << t : 0u;
    return threads;
}

// What the first stage takes.
template <class S> __device__ inline void read(Words& x, const Rows<const stored>& rows, unsigned t) {
    const int runs = N / 4 / S::RUN, words = S::RUN / 2;
    word read[runs][TILES][2][words];
#pragma unroll
    for (int G = 0; G < runs; G++) {
        const unsigned offset = (S::at(G) >> 8 * t & 255) * S::RUN;
#pragma unroll
        for (int m = 0; m < TILES; m++)
#pragma unroll
            for (int h = 0; h < 2; h++) Run<S::RUN>::load(rows.at[m][h] + offset, read[G][m][h]);
    }
#pragma unroll
    for (int R = 0; R < runs; R++)
#pragma unroll
        for (int n = 0; n < TILES * 2 * words; n++) {
            const int m = n / (2 * words), h = n / words % 2, i = n % words;
            word both = 0;
            bool found = false;
#pragma unroll
            for (int G = 0; G < runs; G++) {
                const unsigned threads = threads_of<S>(G, R);
                if (threads != 0) {
                    both = !found || (threads >> t & 1) ? read[G][m][h][i] : both;
                    found = true;
                }
            }
#if STORED == 1
            x.high[m][h][R * words + i] = both;
            x.rest[m][h][R * words + i] = 0;
#else
            const float low = load(stored(both & 0xffff)), high = load(stored(both >> 16));
            x.high[m][h][R * words + i] = two(low, high);
            x.rest[m][h][R * words + i] = two_rests(low, high, x.high[m][h][R * words + i]);
#endif
        }
}

// What the last one gave.
template <class S> __device__ inline void write(const Words& y, const Rows<stored>& rows, unsigned t) {
    const int runs = N / 4 / S::RUN, words = S::RUN / 2;
#pragma unroll
    for (int G = 0; G < runs; G++) {
        const unsigned offset = (S::at(G) >> 8 * t & 255) * S::RUN;
#pragma unroll
        for (int m = 0; m < TILES; m++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                word run[words] = {};
                bool found = false;
#pragma unroll
                for (int R = 0; R < runs; R++) {
                    const unsigned threads = threads_of<S>(G, R);
                    if (threads != 0) {
#pragma unroll
                        for (int i = 0; i < words; i++)
                            run[i] = !found || (threads >> t & 1) ? y.high[m][h][R * words + i] : run[i];
                        found = true;
                    }
                }
                if (rows.there[m][h]) Run<S::RUN>::store(run, rows.at[m][h] + offset);
            }
    }
}

// Two numbers as they are stored.
__device__ inline word two_stored(float low, float high) {
#if STORED == 1
    return two(low, high);
#elif defined(EMULATED)
    return word(store(low)) | word(store(high)) << 16;
#else
    word both;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
#endif
}

// A stage. FIRST: words are as they were read, of which bfloat16 has no rests; LAST: they are going to be written.
template <class S, bool FIRST, bool LAST>
__device__ inline void stage(const Words& x, Words& y, const uint4* __restrict__ packed) {
#pragma unroll
    for (int w = 0; w < S::COUNT; w++)
#pragma unroll
        for (int j = 0; j < S::B / 8; j++) {
            float d[TILES][4] = {};
#pragma unroll
            for (int k = 0; k < S::B / 16; k++) {
                const uint4 both = __ldg(packed + S::PACKED + ((w * (S::B / 8) + j) * (S::B / 16) + k) * 32);
                const word entries[2] = {both.x, both.y}, rests[2] = {both.z, both.w};
                const int first = FIRST ? w * (S::B / 8) + 2 * k : S::eight(w, 2 * k);
                const int second = FIRST ? first + 1 : S::eight(w, 2 * k + 1);
                uint4 high[TILES];
#pragma unroll
                for (int m = 0; m < TILES; m++)
                    high[m] = {x.high[m][0][first], x.high[m][1][first], x.high[m][0][second], x.high[m][1][second]};
#pragma unroll
                for (int m = 0; m < TILES; m++) multiply(d[m], high[m], rests);
                if (!FIRST || STORED != 1) {
#pragma unroll
                    for (int m = 0; m < TILES; m++) {
                        const uint4 rest = {
                            x.rest[m][0][first], x.rest[m][1][first], x.rest[m][0][second], x.rest[m][1][second]};
                        multiply(d[m], rest, entries);
                    }
                }
#pragma unroll
                for (int m = 0; m < TILES; m++) multiply(d[m], high[m], entries);
            }
            const int at = LAST ? w * (S::B / 8) + j : S::eight(w, j);
#pragma unroll
            for (int m = 0; m < TILES; m++)
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const float low = d[m][2 * h], high = d[m][2 * h + 1];
                    y.high[m][h][at] = LAST ? two_stored(low, high) : two(low, high);
                    y.rest[m][h][at] = LAST ? 0 : two_rests(low, high, y.high[m][h][at]);
                }
        }
}

template <bool FIRST, class S, class... Rest>
__device__ inline void stages(
    List<S, Rest...>, const Words& x, const uint4* __restrict__ packed, const Rows<stored>& rows, unsigned t) {
    Words y;
    stage<S, FIRST, sizeof...(Rest) == 0>(x, y, packed);
    if constexpr (sizeof...(Rest) == 0)
        write<S>(y, rows, t);
    else
        stages<false>(List<Rest...>(), y, packed, rows, t);
}

extern "C" __global__ void __launch_bounds__(32 * WARPS, SIDE_BY_SIDE) apply(
    const stored* x, long long x_stride, stored* y, long long y_stride, long long batch, const uint4* __restrict__ packed) {
    const unsigned part = blockIdx.x % PARTS, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const long long first = ((long long)(blockIdx.x / PARTS) * WARPS + threadIdx.x / 32) * (16 * TILES);
    if (first >= batch) return; // all of the warp
    Rows<const stored> from;
    Rows<stored> to;
#pragma unroll
    for (int m = 0; m < TILES; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const long long row = first + 16 * m + 8 * h + g;
            // Behind the last vector that one again.
            from.at[m][h] = x + (row < batch ? row : batch - 1) * x_stride + part * N;
            to.at[m][h] = y + row * y_stride + part * N;
            to.there[m][h] = row < batch;
        }
    Words words;
    read<First>(words, from, t);
    stages<true>(Stages(), words, packed + (long long)part * PACKED_PART + lane, to, t);
}
