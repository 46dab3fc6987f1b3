// Vectors of half precision in registers, where all stages have blocks of 16, 32, 48 or 64, and stages on tensor cores.
//
// A warp takes sixteens of vectors of one part. Vectors are the rows of mma.m16n8k16, coordinates its columns: of 16 rows
// and eight columns thread 4g + t has rows g and g + 8, columns 2t and 2t + 1, and this is also half of what it has of
// 16 rows and 16 columns of the next product. So what a stage gives is where the next one takes it. A thread's numbers
// of a row are words of two; between stages word i holds coordinates 8i + 2t and 8i + 2t + 1.
//
// Which coordinates the first stage reads from and the last one writes to these places is free, as its entries are packed
// likewise (chain_pack.cu): each thread has as many of every block, in runs of RUN neighbours, and four threads' runs lie
// side by side in memory. For number G of these fours S::at(G) has in byte t the run of thread t, and S::place(G) the
// place of its registers.

// Words of `Sixteens`·16 rows: numbers as bfloat16, and what they lose by it.
template <int Sixteens> struct Words {
    word high[Sixteens][2][N / 8], rest[Sixteens][2][N / 8];
};

// A thread's vectors: rows 16m + 8h + g from `first` on, of which `left` are the warp's, in one part; t of four.
struct Place {
    unsigned part, g, t;
    long long first;
    int left;
};

// Left alone, the compiler writes word by word.
__device__ inline void store(const word (&x)[4], stored* to) {
#ifdef EMULATED
    *reinterpret_cast<uint4*>(to) = {x[0], x[1], x[2], x[3]};
#else
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};"
        ::"l"(to), "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]) : "memory");
#endif
}
__device__ inline void store(const word (&x)[2], stored* to) {
#ifdef EMULATED
    *reinterpret_cast<uint2*>(to) = {x[0], x[1]};
#else
    asm volatile("st.global.v2.b32 [%0], {%1, %2};"
        ::"l"(to), "r"(x[0]), "r"(x[1]) : "memory");
#endif
}

// RUN neighbours of a row, as words; the first-level cache is for entries. PIECE: as many as are loaded at once.
template <int RUN> struct Run {
    enum { PIECE = ALIGNED ? RUN : 1 };
    __device__ static inline void get(const stored* from, word (&x)[RUN / 2]) {
        if constexpr (PIECE == 8) {
#ifdef EMULATED
            const uint4 four = *reinterpret_cast<const uint4*>(from);
            x[0] = four.x;
            x[1] = four.y;
            x[2] = four.z;
            x[3] = four.w;
#else
            asm volatile("ld.global.L1::no_allocate.v4.b32 {%0, %1, %2, %3}, [%4];"
                : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "l"(from) : "memory");
#endif
        } else if constexpr (PIECE == 4) {
#ifdef EMULATED
            const uint2 two = *reinterpret_cast<const uint2*>(from);
            x[0] = two.x;
            x[1] = two.y;
#else
            asm volatile("ld.global.L1::no_allocate.v2.b32 {%0, %1}, [%2];"
                : "=r"(x[0]), "=r"(x[1]) : "l"(from) : "memory");
#endif
        } else {
#pragma unroll
            for (int i = 0; i < RUN; i += 2) x[i / 2] = from[i] | word(from[i + 1]) << 16;
        }
    }
    __device__ static inline void put(const word (&x)[RUN / 2], stored* to, bool there) {
        if constexpr (PIECE > 1) {
            if (there) store(x, to);
        } else {
#pragma unroll
            for (int i = 0; i < RUN; i++)
                if (there) to[i] = stored(x[i / 2] >> i % 2 * 16);
        }
    }
};

// Which threads t have registers R in number G of fours, as bits.
template <class S> __device__ inline constexpr unsigned threads_of(int G, int R) {
    unsigned threads = 0;
    for (int t = 0; t < 4; t++) threads |= (S::place(G) >> 8 * t & 255) == unsigned(R) ? 1u << t : 0u;
    return threads;
}

// Sixteen vectors as they are in memory, for the first stage S.
template <class S> struct Loaded {
    enum { RUNS = N / 4 / S::RUN, WORDS = S::RUN / 2 };
    word words[RUNS][2][WORDS];
};

// Rows 16m + 8h + g of these. Behind the last vector: ZEROS, or that vector again.
template <class S, bool ZEROS>
__device__ inline void load(Loaded<S>& x, int m, const stored* vectors, long long stride, const Place& place) {
    typedef Loaded<S> L;
    const stored* rows = vectors + place.first * stride + place.part * N;
#pragma unroll
    for (int G = 0; G < L::RUNS; G++) {
        const unsigned offset = (S::at(G) >> 8 * place.t & 255) * S::RUN;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int row = 16 * m + 8 * h + place.g;
            Run<S::RUN>::get(rows + (row < place.left ? row : place.left - 1) * stride + offset, x.words[G][h]);
            if (ZEROS && row >= place.left)
#pragma unroll
                for (int i = 0; i < L::WORDS; i++) x.words[G][h][i] = 0;
        }
    }
}

// To where the first stage takes them.
template <class S, int Sixteens>
__device__ inline void arrange(Words<Sixteens>& x, int m, const Loaded<S>& loaded, const Place& place) {
    typedef Loaded<S> L;
    // Zero, which the compiler does not know. So it brings numbers from where they were loaded to where products take
    // them once, not for every product.
    const word nothing = threadIdx.y;
#pragma unroll
    for (int R = 0; R < L::RUNS; R++)
#pragma unroll
        for (int n = 0; n < 2 * L::WORDS; n++) {
            const int h = n / L::WORDS, i = n % L::WORDS;
            word both = 0;
            bool found = false;
#pragma unroll
            for (int G = 0; G < L::RUNS; G++) {
                const unsigned threads = threads_of<S>(G, R);
                if (threads != 0) {
                    both = !found || (threads >> place.t & 1) ? loaded.words[G][h][i] : both;
                    found = true;
                }
            }
            word& high = x.high[m][h][R * L::WORDS + i];
#if STORED == 1
            high = both | nothing;
            x.rest[m][h][R * L::WORDS + i] = 0;
#else
            const float first = load(stored(both & 0xffff)), second = load(stored(both >> 16));
            high = two(first, second);
            x.rest[m][h][R * L::WORDS + i] = two_rests(first, second, high);
#endif
        }
}

// Rows 16m + 8h + g of what the last stage S gave; `from` is their number in y.
template <class S, int Sixteens>
__device__ inline void write(
    const Words<Sixteens>& y, int from, int m, stored* vectors, long long stride, const Place& place) {
    typedef Loaded<S> L;
    stored* rows = vectors + place.first * stride + place.part * N;
#pragma unroll
    for (int G = 0; G < L::RUNS; G++) {
        const unsigned offset = (S::at(G) >> 8 * place.t & 255) * S::RUN;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            word run[L::WORDS] = {};
            bool found = false;
#pragma unroll
            for (int R = 0; R < L::RUNS; R++) {
                const unsigned threads = threads_of<S>(G, R);
                if (threads != 0) {
#pragma unroll
                    for (int i = 0; i < L::WORDS; i++)
                        run[i] = !found || (threads >> place.t & 1) ? y.high[from][h][R * L::WORDS + i] : run[i];
                    found = true;
                }
            }
            const int row = 16 * m + 8 * h + place.g;
            Run<S::RUN>::put(run, rows + row * stride + offset, row < place.left);
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

// Not as constants: these the compiler would read once for all steps, for which registers would not do.
__device__ inline uint4 entries_at(const uint4* from) {
#ifdef EMULATED
    return *from;
#else
    uint4 x;
    asm volatile("ld.global.v4.b32 {%0, %1, %2, %3}, [%4];" : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w) : "l"(from));
    return x;
#endif
}

// Block w of a stage, of the first TAKEN sixteens; its entries start at PACKED. FIRST: words are as they were read, of which
// bfloat16 has no rests; sixteens from number WRITTEN on are going to be written.
template <class S, int PACKED, bool FIRST, bool LAST, int WRITTEN, int TAKEN, int Sixteens>
__device__ inline void block(int w, const Words<Sixteens>& x, Words<Sixteens>& y, const uint4* __restrict__ packed) {
#pragma unroll
    for (int j = 0; j < S::B / 8; j++) {
        float d[TAKEN][4] = {};
#pragma unroll
        for (int k = 0; k < S::B / 16; k++) {
            const uint4 both = entries_at(packed + PACKED + ((w * (S::B / 8) + j) * (S::B / 16) + k) * 32);
            const word entries[2] = {both.x, both.y}, rests[2] = {both.z, both.w};
            const int first = S::word_of(FIRST, w, 2 * k), second = S::word_of(FIRST, w, 2 * k + 1);
            uint4 high[TAKEN];
#pragma unroll
            for (int m = 0; m < TAKEN; m++)
                high[m] = {x.high[m][0][first], x.high[m][1][first], x.high[m][0][second], x.high[m][1][second]};
#pragma unroll
            for (int m = 0; m < TAKEN; m++) multiply(d[m], high[m], rests);
            if (!FIRST || STORED != 1) {
#pragma unroll
                for (int m = 0; m < TAKEN; m++) {
                    const uint4 rest = {
                        x.rest[m][0][first], x.rest[m][1][first], x.rest[m][0][second], x.rest[m][1][second]};
                    multiply(d[m], rest, entries);
                }
            }
#pragma unroll
            for (int m = 0; m < TAKEN; m++) multiply(d[m], high[m], entries);
        }
        const int at = S::word_of(LAST, w, j);
#pragma unroll
        for (int m = 0; m < TAKEN; m++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const float low = d[m][2 * h], high = d[m][2 * h + 1];
                const bool written = LAST && m >= WRITTEN;
                y.high[m][h][at] = written ? two_stored(low, high) : two(low, high);
                y.rest[m][h][at] = written ? 0 : two_rests(low, high, y.high[m][h][at]);
            }
    }
}
