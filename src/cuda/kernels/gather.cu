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

// angles[a] of the rotation whose cosine is number source[a], and the next one its sine.
extern "C" __global__ void __launch_bounds__(256) make_angles(
    const float* __restrict__ numbers, const word* __restrict__ source, float* __restrict__ angles, long long count) {
    const long long a = (long long)blockIdx.x * 256 + threadIdx.x;
    if (a < count) angles[a] = source[a] == 0xffffffffu ? 0.0f : atan2f(numbers[source[a] + 1], numbers[source[a]]);
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

// entries[e] += the sum of sums[d] over its places d, in this order.
extern "C" __global__ void __launch_bounds__(256) scatter(
    const float* __restrict__ sums, const word* __restrict__ starts, const word* __restrict__ places, float* entries, long long count) {
    const long long e = (long long)blockIdx.x * 256 + threadIdx.x;
    if (e < count && starts[e] < starts[e + 1]) {
        double sum = 0.0;
        for (word at = starts[e]; at < starts[e + 1]; at++) sum = __dadd_rn(sum, (double)sums[places[at]]);
        entries[e] = (float)__dadd_rn((double)entries[e], sum);
    }
}

// Likewise moments, before which there is nothing.
extern "C" __global__ void __launch_bounds__(256) add_moments(
    const float* __restrict__ sums, const word* __restrict__ starts, const word* __restrict__ places, double* __restrict__ moments,
    long long count) {
    const long long m = (long long)blockIdx.x * 256 + threadIdx.x;
    if (m < count) {
        double sum = 0.0;
        for (word at = starts[m]; at < starts[m + 1]; at++) sum = __dadd_rn(sum, (double)sums[places[at]]);
        moments[m] = sum;
    }
}

// entries[order[u]] += ½ Q M, or ½ M Q of blocks that act transposed, for entry u of the blocks (gradients.rs).
extern "C" __global__ void __launch_bounds__(256) add_tangents(
    const double* __restrict__ moments, const float* __restrict__ numbers, const word* __restrict__ at, const word* __restrict__ order,
    const uint4* __restrict__ stages, long long number_of_stages, long long transposed, float* entries, long long count) {
    const long long u = (long long)blockIdx.x * 256 + threadIdx.x;
    if (u >= count) return;
    long long s = 0;
    while (s + 1 < number_of_stages && stages[s + 1].x <= u) s++;
    const int b = stages[s].y, of_block = (u - stages[s].x) % (b * b), i = of_block / b, k = of_block % b;
    const long long first = u - of_block;
    const double* m = moments + stages[s].z + (u - stages[s].x) / (b * b) * (b * (b - 1) / 2);
    const bool left = (stages[s].w != 0) != (transposed != 0);
    double sum = 0.0;
    for (int l = 0; l < b; l++) {
        const int row = left ? i : l, column = left ? l : k;
        if (row == column) continue;
        const int low = row < column ? row : column, high = row < column ? column : row;
        const double moment = m[low * (2 * b - low - 1) / 2 + high - low - 1];
        const word place = at[first + (left ? l * b + k : i * b + l)];
        const double q = numbers[place & 0x7fffffffu], with_sign = place >> 31 ? -q : q;
        sum = __dadd_rn(sum, __dmul_rn(with_sign, row < column ? moment : -moment));
    }
    entries[order[u]] = (float)__dadd_rn((double)entries[order[u]], __dmul_rn(0.5, sum));
}
