// Numbers between the order of a plan's entries and that of windows, and sums of slots.

// numbers[d] = entries[source[d]], or zero where there is none.
extern "C" __global__ void __launch_bounds__(256) gather(
    const float* __restrict__ entries, const word* __restrict__ source, float* __restrict__ numbers, long long count) {
    const long long d = (long long)blockIdx.x * 256 + threadIdx.x;
    if (d < count) numbers[d] = source[d] == 0xffffffffu ? 0.0f : entries[source[d]];
}

// Likewise from blocks in double precision, where entry e is number at[e]; rounded once.
extern "C" __global__ void __launch_bounds__(256) gather_wide(
    const double* __restrict__ wide, const word* __restrict__ at, const word* __restrict__ source, float* __restrict__ numbers,
    long long count) {
    const long long d = (long long)blockIdx.x * 256 + threadIdx.x;
    if (d < count) numbers[d] = source[d] == 0xffffffffu ? 0.0f : (float)wide[at[source[d]]];
}

// sums[d] = slots[0][d] + slots[1][d] + …, in this order.
extern "C" __global__ void __launch_bounds__(256) add_slots(
    const float* __restrict__ slots, long long size, long long many, float* __restrict__ sums) {
    const long long d = (long long)blockIdx.x * 256 + threadIdx.x;
    if (d < size) {
        double sum = 0.0;
        for (long long slot = 0; slot < many; slot++) sum = __dadd_rn(sum, (double)slots[slot * size + d]);
        sums[d] = (float)sum;
    }
}

// entries[e] += the sum of sums[d] over its places d, in this order; half of it, and negative, where bits 30 and 31 say
// so.
extern "C" __global__ void __launch_bounds__(256) scatter(
    const float* __restrict__ sums, const word* __restrict__ starts, const word* __restrict__ places, float* entries, long long count) {
    const long long e = (long long)blockIdx.x * 256 + threadIdx.x;
    if (e < count) {
        double sum = 0.0;
        for (word at = starts[e]; at < starts[e + 1]; at++) {
            const word place = places[at];
            const double x = (double)sums[place & 0x3fffffffu] * (place >> 30 & 1 ? 0.5 : 1.0);
            sum = __dadd_rn(sum, place >> 31 ? -x : x);
        }
        entries[e] = (float)__dadd_rn((double)entries[e], sum);
    }
}
