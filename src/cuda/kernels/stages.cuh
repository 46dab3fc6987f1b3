// Stages on a tile. A pass P has COUNT windows of WINDOW coordinates; coordinate(w, i, index) tells where they are. A
// stage S inside it has blocks of B coordinates, at(q, i) of the window. T: all of Q acts transposed, so stages run
// from the last to the first.
//
// Output i of a block is Q_i0·x_0, then fused multiply-adds of Q_ik·x_k for k = 1, 2, …, as on the CPU.

template <class... Stages> struct List {};

// Number e of window w, behind the pass's first. Four are loaded at once; the compiler loads them once for all that
// ask, but where it would keep too many of them for later (RELOADED).
template <class P> __device__ inline float number(const float* __restrict__ numbers, unsigned w, int e) {
    const float4* at = reinterpret_cast<const float4*>(numbers + P::NUMBERS) + (e / 4) * P::COUNT + w;
    const float4 four = RELOADED ? *at : __ldg(at);
    return e % 4 == 0 ? four.x : e % 4 == 1 ? four.y : e % 4 == 2 ? four.z : four.w;
}

// Entry (i, k) of block q of stage S as it acts. ANGLES: rotations are told by their angles, half as many numbers, and
// cosine and sine are the device's fast ones; 2⁻²⁰ or so of the larger of both numbers is lost.
template <class P, class S, bool T>
__device__ inline float entry(const float* __restrict__ numbers, unsigned w, int q, int i, int k) {
    const bool flip = T != S::ADJOINT;
    const int row = flip ? k : i, column = flip ? i : k;
    if (S::ROTATION) {
        float x;
        if (ANGLES) {
            const float angle = number<P>(numbers, w, S::NUMBER / 2 + q);
            x = row == column ? fast_cos(angle) : fast_sin(angle);
        } else {
            x = number<P>(numbers, w, S::NUMBER + 2 * q + (row != column));
        }
        return row < column ? -x : x;
    }
    return number<P>(numbers, w, S::NUMBER + (q * S::B + row) * S::B + column);
}

// A window goes through one stage.
template <class P, class S, bool T>
__device__ inline void stage(Chunk (&x)[P::WINDOW][K], const float* __restrict__ numbers, unsigned w) {
#pragma unroll
    for (int q = 0; q < S::BLOCKS; q++) {
        Chunk y[S::B][K];
#pragma unroll
        for (int i = 0; i < S::B; i++) {
#pragma unroll
            for (int k = 0; k < S::B; k++) {
                const float c = entry<P, S, T>(numbers, w, q, i, k);
#pragma unroll
                for (int p = 0; p < K; p++)
#pragma unroll
                    for (int v = 0; v < C; v++) {
                        const float from = x[S::at(q, k)][p].v[v];
                        y[i][p].v[v] = k == 0 ? __fmul_rn(c, from) : __fmaf_rn(c, from, y[i][p].v[v]);
                    }
            }
        }
#pragma unroll
        for (int i = 0; i < S::B; i++)
#pragma unroll
            for (int p = 0; p < K; p++) x[S::at(q, i)][p] = y[i][p];
    }
}

template <class P, bool T>
__device__ inline void stages(List<>, Chunk (&)[P::WINDOW][K], const float* __restrict__, unsigned) {}

template <class P, bool T, class S, class... Rest>
__device__ inline void stages(List<S, Rest...>, Chunk (&x)[P::WINDOW][K], const float* __restrict__ numbers, unsigned w) {
    if (!T) stage<P, S, T>(x, numbers, w);
    stages<P, T>(List<Rest...>(), x, numbers, w);
    if (T) stage<P, S, T>(x, numbers, w);
}

// Vectors in device memory, for a first pass that reads them and a last one that writes them: those of a tile, of which
// `left` are there. 0: through the tile; 1: windows are runs of fours; 2: neighbouring windows are neighbours in memory; 3:
// windows are runs of eights, in half precision; 4: as 2, but read in words, in half precision.
struct Outside {
    const stored* x;
    long long x_stride;
    stored* y;
    long long y_stride;
    int left;
};

// The window of a thread, of those of a pass. Where they are exchanged (4), of eight threads number k and 4 + k have
// neighbours: a thread reads both of one vector, a word, and what the warp then has is transposed, so that each has its own
// coordinate of two vectors.
template <int READS> __device__ inline unsigned window_of(unsigned n) {
    return READS == 4 ? (n & ~7u) + n % 4 * 2 + n / 4 % 2 : n;
}

// The word that this thread reads: of two vectors number v, c behind the first coordinate of 32 windows.
struct Two {
    int v, c;
};
__device__ inline Two two_of(unsigned lane) { return {int(lane / 4 % 2), int(lane % 4 * 8 + lane / 8 * 2)}; }

// ZEROS: behind the last vector, or that vector again.
template <class P, int READS, bool ZEROS>
__device__ inline void take(Chunk (&x)[P::WINDOW][K], unsigned w, int group, const Outside& o) {
#pragma unroll
    for (int p = 0; p < K; p++) {
        const int row = (group + p * (PLANES / K)) * C;
        if constexpr (READS == 4) {
            const Two two = two_of(thread() % 32);
            __syncwarp(); // exchanges are the whole warp's
#pragma unroll
            for (int v = 0; v < C; v += 2) {
                const int mine = row + v + two.v;
                const stored* from = o.x + (mine < o.left ? mine : o.left - 1) * o.x_stride + P::first(w & ~31u) + two.c;
#pragma unroll
                for (int i = 0; i < P::WINDOW; i++) {
                    word both = read(reinterpret_cast<const word*>(from + P::offset(i)));
                    if (ZEROS && mine >= o.left) both = 0;
                    unpack(transpose(both), x[i][p].v[v], x[i][p].v[v + 1]);
                }
            }
            continue;
        }
        const stored* from = o.x + (ZEROS || row < o.left ? row : o.left - 1) * o.x_stride + P::first(w);
#pragma unroll
        for (int v = 0; v < C; v++) {
            if (ZEROS && row + v >= o.left) {
#pragma unroll
                for (int i = 0; i < P::WINDOW; i++) x[i][p].v[v] = 0.0f;
            } else if (READS == 1) {
#pragma unroll
                for (int i = 0; i + 3 < P::WINDOW; i += 4) {
                    float four[4];
                    read_four(from + P::offset(i), four);
#pragma unroll
                    for (int j = 0; j < 4; j++) x[i + j][p].v[v] = four[j];
                }
            } else if constexpr (READS == 3) {
#pragma unroll
                for (int i = 0; i + 7 < P::WINDOW; i += 8) {
                    float eight[8];
                    read_eight(from + P::offset(i), eight);
#pragma unroll
                    for (int j = 0; j < 8; j++) x[i + j][p].v[v] = eight[j];
                }
            } else {
#pragma unroll
                for (int i = 0; i < P::WINDOW; i++) x[i][p].v[v] = load(read(from + P::offset(i)));
            }
            from += ZEROS || row + v + 1 < o.left ? o.x_stride : 0;
        }
    }
}

template <class P, int WRITES>
__device__ inline void give(const Chunk (&x)[P::WINDOW][K], unsigned w, int group, const Outside& o) {
#pragma unroll
    for (int p = 0; p < K; p++) {
        const int row = (group + p * (PLANES / K)) * C;
        stored* to = o.y + row * o.y_stride + P::first(w);
#pragma unroll
        for (int v = 0; v < C; v++) {
            if (row + v < o.left) {
                if (WRITES == 1) {
#pragma unroll
                    for (int i = 0; i + 3 < P::WINDOW; i += 4) {
                        const float four[4] = {x[i][p].v[v], x[i + 1][p].v[v], x[i + 2][p].v[v], x[i + 3][p].v[v]};
                        write_four(four, to + P::offset(i));
                    }
                } else if constexpr (WRITES == 3) {
#pragma unroll
                    for (int i = 0; i + 7 < P::WINDOW; i += 8) {
                        float eight[8];
#pragma unroll
                        for (int j = 0; j < 8; j++) eight[j] = x[i + j][p].v[v];
                        write_eight(eight, to + P::offset(i));
                    }
                } else {
#pragma unroll
                    for (int i = 0; i < P::WINDOW; i++) write(to + P::offset(i), store(x[i][p].v[v]));
                }
            }
            to += o.y_stride;
        }
    }
}

// All windows of a pass, in registers; K planes are a thread's.
template <class P, bool T, bool WIDE, int READS, int WRITES> struct Pass {
    __device__ static inline void run(
        Chunk* tile, const float* __restrict__ numbers, const unsigned short* __restrict__ index, const Outside& outside) {
        const unsigned items = P::COUNT * (PLANES / K);
        for (unsigned n = 0; n < (items + THREADS - 1) / THREADS; n++) {
            const unsigned item = thread() + n * THREADS;
            if (items % THREADS != 0 && item >= items) break;
            const unsigned w = window_of<READS>(item % P::COUNT), group = item / P::COUNT;
            Chunk* planes = tile + group * ROWS;
            Chunk x[P::WINDOW][K];
            unsigned at[P::WINDOW];
#pragma unroll
            for (int i = 0; i < P::WINDOW; i++)
                if (READS == 0 || WRITES == 0) at[i] = bytes_of<P>(w, i, index);
            if constexpr (READS == 0) {
#pragma unroll
                for (int i = 0; i < P::WINDOW; i++)
#pragma unroll
                    for (int p = 0; p < K; p++) x[i][p] = chunk_at(planes + p * (PLANES / K) * ROWS, at[i]);
            } else {
                take<P, READS, false>(x, w, group, outside);
            }
            stages<P, T>(typename P::Stages(), x, numbers, w);
            if constexpr (WRITES == 0) {
#pragma unroll
                for (int i = 0; i < P::WINDOW; i++)
#pragma unroll
                    for (int p = 0; p < K; p++) chunk_at(planes + p * (PLANES / K) * ROWS, at[i]) = x[i][p];
            } else {
                give<P, WRITES>(x, w, group, outside);
            }
        }
    }
};

// Between two passes threads wait for those from which they get numbers: where these are all of their own warp (NEAR),
// only for them.
template <bool NEAR> __device__ inline void meet() {
    if (NEAR) {
        __syncwarp();
    } else {
        __syncthreads();
    }
}

// Passes as they act: those before number `limit`, or all. DIRECT: the first reads from outside and the last writes there,
// as far as FIRST_READS and LAST_WRITES say so.
template <bool T, bool DIRECT>
__device__ inline void passes(
    List<>, Chunk*, const float* __restrict__, const uint4* __restrict__, const unsigned short* __restrict__, int, const Outside&) {}

template <bool T, bool DIRECT, class P, class... Rest>
__device__ inline void passes(
    List<P, Rest...>, Chunk* tile, const float* __restrict__ numbers, const uint4* __restrict__ packed,
    const unsigned short* __restrict__ index, int limit, const Outside& outside) {
    if (T ? P::AT > limit : P::AT < limit) {
        constexpr int first = T ? PASSES - 1 : 0, last = PASSES - 1 - first;
        constexpr int reads = DIRECT && P::AT == first ? FIRST_READS : 0, writes = DIRECT && P::AT == last ? LAST_WRITES : 0;
#if TENSOR
        if constexpr (P::TENSOR_CORES)
            tensor<P, T>(tile, packed, index);
        else
#endif
            Pass<P, T, P::WIDE, reads, writes>::run(tile, numbers, index, outside);
        if (!writes) meet<K == L && (T ? P::NEAR_BEFORE : P::NEAR_NEXT)>();
    }
    passes<T, DIRECT>(List<Rest...>(), tile, numbers, packed, index, limit, outside);
}
