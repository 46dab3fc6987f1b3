// The entries of a pass of large blocks as tensor cores take them: see tensor.cuh. B, COUNT: size and number of blocks
// of a part; NUMBERS, PART: where they are among a part's numbers, and how many these are; PACKED, PACKED_PART
// likewise, of what is packed.

#define TILES (B / 16)

extern "C" __global__ void __launch_bounds__(256) pack(
    const float* __restrict__ numbers, uint4* __restrict__ packed, long long count) {
    const long long n = (long long)blockIdx.x * 256 + threadIdx.x;
    if (n >= count) return;
    const int lane = n % 32, g = lane / 4, t = lane % 4;
    const long long all = n / 32;
    const int k = all % TILES, i = all / TILES % TILES, w = all / (TILES * TILES) % COUNT;
    const bool transposed = all / (TILES * TILES * COUNT) % 2;
    const long long part = all / (TILES * TILES * COUNT) / 2;
    const float* from = numbers + part * PART + NUMBERS;
    word entries[4], rests[4];
    for (int at = 0; at < 4; at++) {
        const int row = 16 * i + g + at % 2 * 8, column = 16 * k + 2 * t + at / 2 * 8;
        float x[2];
        for (int c = 0; c < 2; c++) {
            const int p = transposed ? column + c : row, q = transposed ? row : column + c;
            x[c] = from[(w * B + q) * B + p];
        }
        entries[at] = two(x[0], x[1]);
        rests[at] = two_rests(x[0], x[1], entries[at]);
    }
    uint4* to = packed + part * PACKED_PART + PACKED + (((transposed ? COUNT : 0) + w) * TILES * TILES + i * TILES + k) * 64 + lane;
    const uint4 high = {entries[0], entries[1], entries[2], entries[3]}, low = {rests[0], rests[1], rests[2], rests[3]};
    to[0] = high;
    to[32] = low;
}
