// The adjoint of the derivative of y = op(Q) x in registers (chain.cuh): from x, or from y of orthogonal blocks
// (FROM_INPUT 0), and ∂y to ∂x (HAS_GX) and to the gradient of every entry. A warp takes sixteen vectors of one part at a
// time, every so many-th sixteen, keeps the sums and writes them to its slot when it is done.
//
// Of a block with outputs o and inputs i the gradient of entry (o, i) is the sum of ∂_o·x_i over the vectors: a product
// in which vectors are what is added up over. So both factors are transposed, eight vectors by eight coordinates at a time.

// Sums of all stages: of 16 outputs and eight inputs thread 4g + t has outputs g and g + 8 for inputs 2t and 2t + 1.
struct Sums {
    float of[SUMS];
};

// The sums of block w: `outputs` has gradients as sixteen number `m`, `inputs` vectors as its first. AT_END, AT_START: it
// is of the last stage, whose outputs are in memory, or of the first, whose inputs are. OUT_RESTS, IN_RESTS: those have
// rests.
template <class S, bool AT_START, bool AT_END, bool OUT_RESTS, bool IN_RESTS, int Outputs, int Inputs>
__device__ inline void add_products(int w, const Words<Outputs>& outputs, int m, const Words<Inputs>& inputs, Sums& sums) {
    uint4 high[S::B / 16], rest[S::B / 16];
#pragma unroll
    for (int i = 0; i < S::B / 16; i++) {
        const int first = S::word_of(AT_END, w, 2 * i), second = S::word_of(AT_END, w, 2 * i + 1);
        const auto turned = [&](const word(&x)[2][N / 8]) {
            return uint4{transpose(x[0][first]), transpose(x[0][second]), transpose(x[1][first]), transpose(x[1][second])};
        };
        high[i] = turned(outputs.high[m]);
        if (OUT_RESTS) rest[i] = turned(outputs.rest[m]);
    }
#pragma unroll
    for (int k = 0; k < S::B / 8; k++) {
        const int at = S::word_of(AT_START, w, k);
        const word x[2] = {transpose(inputs.high[0][0][at]), transpose(inputs.high[0][1][at])};
        word x_rest[2];
        if (IN_RESTS) {
            x_rest[0] = transpose(inputs.rest[0][0][at]);
            x_rest[1] = transpose(inputs.rest[0][1][at]);
        }
#pragma unroll
        for (int i = 0; i < S::B / 16; i++) {
            // Tensor cores cut off what does not fit a sum: so what many are added up in is none of theirs.
            float d[4] = {};
            if (IN_RESTS) multiply(d, high[i], x_rest);
            if (OUT_RESTS) multiply(d, rest[i], x);
            multiply(d, high[i], x);
            float* to = sums.of + S::SUMS_AT + ((w * (S::B / 16) + i) * (S::B / 8) + k) * 4;
#pragma unroll
            for (int n = 0; n < 4; n++) to[n] = __fadd_rn(to[n], d[n]);
        }
    }
}

#if FROM_INPUT
// From x, stage S and those after it there, and back: `inputs` are those of S, and g, gradients of the last one's outputs, become
// gradients of these. AT_START: S is the first.
template <bool AT_START, class S, class... Rest>
__device__ inline void there_and_back(
    List<S, Rest...>, const Words<1>& inputs, Words<1>& g, Sums& sums, const uint4* __restrict__ packed) {
    constexpr bool at_end = sizeof...(Rest) == 0;
    if constexpr (!at_end) {
        Words<1> outputs;
#pragma unroll
        for (int w = 0; w < S::COUNT; w++) block<S, S::PACKED, AT_START, false, 0, 1>(w, inputs, outputs, packed);
        there_and_back<false>(List<Rest...>(), outputs, g, sums, packed);
    }
    Words<1> of_inputs;
#pragma unroll
    for (int w = 0; w < S::COUNT; w++) {
        add_products<S, AT_START, at_end, !at_end || STORED != 1, !AT_START || STORED != 1>(w, g, 0, inputs, sums);
        if constexpr (HAS_GX || !AT_START) block<S, S::PACKED_BACK, at_end, AT_START, 0, 1>(w, g, of_inputs, packed);
    }
    if constexpr (HAS_GX || !AT_START) g = of_inputs;
}
#else
// From y, stage S and those after it, which act before it, back: first sixteen of `outputs` are its outputs, the second
// ones their gradients, and `result` is what all of them give. AT_END: S acts last.
template <bool AT_END, class S, class... Rest>
__device__ inline void back(List<S, Rest...>, const Words<2>& outputs, Words<2>& result, Sums& sums, const uint4* __restrict__ packed) {
    constexpr bool at_start = sizeof...(Rest) == 0;
    Words<2> between;
    Words<2>& inputs = at_start ? result : between;
#pragma unroll
    for (int w = 0; w < S::COUNT; w++) {
        block<S, S::PACKED_BACK, AT_END, at_start, 1, HAS_GX || !at_start ? 2 : 1>(w, outputs, inputs, packed);
        add_products<S, at_start, AT_END, !AT_END || STORED != 1, true>(w, outputs, 1, inputs, sums);
    }
    if constexpr (!at_start) back<false>(List<Rest...>(), between, result, sums, packed);
}
#endif

// Sums of stages, the first of which is the first that acts, to a slot.
template <bool AT_START> __device__ inline void write_sums(List<>, const Sums&, float*, unsigned) {}
template <bool AT_START, class S, class... Rest>
__device__ inline void write_sums(List<S, Rest...>, const Sums& sums, float* slot, unsigned lane) {
    constexpr bool at_end = sizeof...(Rest) == 0;
    const unsigned g = lane / 4, t = lane % 4;
#pragma unroll
    for (int w = 0; w < S::COUNT; w++)
#pragma unroll
        for (int i = 0; i < S::B / 16; i++)
#pragma unroll
            for (int k = 0; k < S::B / 8; k++)
#pragma unroll
                for (int n = 0; n < 4; n++) {
                    const int output = coordinate<S>(at_end, w, g / 2, 2 * (2 * i + n / 2) + g % 2);
                    const int input = coordinate<S>(AT_START, w, t, 2 * k + n % 2);
                    const int row = S::FLIPPED ? input : output, column = S::FLIPPED ? output : input;
                    slot[S::GRADIENTS + (w * S::B + column) * S::B + row] =
                        sums.of[S::SUMS_AT + ((w * (S::B / 16) + i) * (S::B / 8) + k) * 4 + n];
                }
    write_sums<false>(List<Rest...>(), sums, slot, lane);
}

extern "C" __global__ void __launch_bounds__(32 * WARPS, SIDE_BY_SIDE) apply_vjp(
    const stored* saved, long long saved_stride, const stored* gy, long long gy_stride, stored* gx, long long gx_stride,
    long long batch, const uint4* __restrict__ packed, float* slots) {
    const unsigned part = blockIdx.x % PARTS, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const long long slot = blockIdx.x / PARTS * WARPS + threadIdx.x / 32, step = gridDim.x / PARTS * WARPS;
    packed += (long long)part * PACKED_PART + lane;
    Sums sums;
#pragma unroll
    for (int n = 0; n < SUMS; n++) sums.of[n] = 0.0f;
#pragma unroll 1
    for (long long first = 16 * slot; first < batch; first += 16 * step) {
        __syncwarp(); // products are the whole warp's
        const Place place = {part, g, t, first, batch - first < 16 ? int(batch - first) : 16};
        Loaded<Last> loaded_g;
#if FROM_INPUT
        Loaded<First> loaded;
        load<First, true>(loaded, 0, saved, saved_stride, place);
        load<Last, true>(loaded_g, 0, gy, gy_stride, place);
        Words<1> x, both;
        arrange(x, 0, loaded, place);
        arrange(both, 0, loaded_g, place);
        there_and_back<true>(Stages(), x, both, sums, packed);
#else
        Loaded<Last> loaded;
        load<Last, true>(loaded, 0, saved, saved_stride, place);
        load<Last, true>(loaded_g, 0, gy, gy_stride, place);
        Words<2> from, both;
        arrange(from, 0, loaded, place);
        arrange(from, 1, loaded_g, place);
        back<true>(Backwards(), from, both, sums, packed);
#endif
        if constexpr (HAS_GX) write<First>(both, FROM_INPUT ? 0 : 1, 0, gx, gx_stride, place);
    }
    write_sums<true>(Stages(), sums, slots + (slot * PARTS + part) * GRADIENTS_OF_PART, lane);
}
