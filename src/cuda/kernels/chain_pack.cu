// The entries of a stage as chain.cu takes them: of 16 inputs and eight outputs thread 4g + t has output g for inputs
// 2t, 2t + 1, 2t + 8 and 2t + 9; these four, and what bfloat16 lost of them, are one uint4. First as Q acts, then as Qᵀ.
//
// NUMBERS, PART: where the stage's are among a part's numbers, and how many these are; PACKED_PART likewise, of what is
// packed. AT_START, AT_END: it is the first stage, or the last.

extern "C" __global__ void __launch_bounds__(256) pack(
    const float* __restrict__ numbers, uint4* __restrict__ packed, long long count) {
    const long long n = (long long)blockIdx.x * 256 + threadIdx.x;
    if (n >= count) return;
    const int lane = n % 32, g = lane / 4, t = lane % 4;
    const int B = Stage::B, COUNT = Stage::COUNT, inputs = B / 16, outputs = B / 8;
    const long long all = n / 32;
    const int k = all % inputs, j = all / inputs % outputs, w = all / (inputs * outputs) % COUNT;
    const bool transposed = all / (inputs * outputs * COUNT) % 2;
    const long long part = all / (inputs * outputs * COUNT) / 2;
    const float* from = numbers + part * PART + NUMBERS;
    word entries[2], rests[2];
    const int output = coordinate<Stage>(transposed ? AT_START : AT_END, w, g / 2, 2 * j + g % 2);
    for (int h = 0; h < 2; h++) {
        float x[2];
        for (int e = 0; e < 2; e++) {
            const int input = coordinate<Stage>(transposed ? AT_END : AT_START, w, t, 4 * k + 2 * h + e);
            const int row = transposed != ADJOINT ? input : output, column = transposed != ADJOINT ? output : input;
            x[e] = from[(w * B + column) * B + row]; // column by column, B being whole fours
        }
        entries[h] = two(x[0], x[1]);
        rests[h] = two_rests(x[0], x[1], entries[h]);
    }
    const uint4 both = {entries[0], entries[1], rests[0], rests[1]};
    packed[part * PACKED_PART + Stage::PACKED + all % (2 * COUNT * inputs * outputs) * 32 + lane] = both;
}
