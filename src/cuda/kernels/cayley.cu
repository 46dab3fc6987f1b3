// The Cayley chart of B×B blocks, B ≥ 3: Q = (½I + ½A)⁻¹ − I in double precision, one block of the stage for each block
// of threads.
//
// Gauss–Jordan elimination without pivots grows like 1 + ‖A‖², so up to Σθ² = 10⁵ it keeps ten digits, more than a
// float has; then one Newton–Schulz step. Beyond that, or if a parameter is not finite, `status` is set and the host
// makes the blocks.
//
// Gradient (parametrization/cayley.rs): with P = I + Q and N = P Gᵀ P, dθ_ij += ½(N_ij − N_ji).

#define SIZE (B * B)
#define LARGE 1e5

// out = x·y, or x·yᵀ.
__device__ inline void product(const double* x, const double* y, double* out, bool transposed) {
    for (int at = threadIdx.x; at < SIZE; at += THREADS) {
        const int i = at / B, j = at % B;
        double sum = 0.0;
        for (int k = 0; k < B; k++) sum += x[i * B + k] * (transposed ? y[j * B + k] : y[k * B + j]);
        out[at] = sum;
    }
    __syncthreads();
}

// Where (i, j), i < j, is in the strict upper triangle.
__device__ inline int upper(int i, int j) { return i * (2 * B - i - 1) / 2 + j - i - 1; }

extern "C" __global__ void __launch_bounds__(THREADS) realize(
    const float* __restrict__ theta, long long first, double* __restrict__ wide, long long start, long long count, int* status) {
    SHARED(double, m);
    double *column = m + SIZE, *e = column + B;
    const long long g = blockIdx.x;
    const float* t = theta + first + g * (B * (B - 1) / 2);
    for (int at = threadIdx.x; at < SIZE; at += THREADS) {
        const int i = at / B, j = at % B;
        m[at] = i == j ? 0.5 : i < j ? 0.5 * (double)t[upper(i, j)] : -0.5 * (double)t[upper(j, i)];
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        double squares = 0.0;
        for (int at = 0; at < B * (B - 1) / 2; at++) squares += (double)t[at] * (double)t[at];
        if (!(squares <= LARGE)) *status = 1;
    }
    for (int k = 0; k < B; k++) {
        const double pivot = 1.0 / m[k * B + k];
        for (int i = threadIdx.x; i < B; i += THREADS) column[i] = m[i * B + k];
        __syncthreads();
        for (int j = threadIdx.x; j < B; j += THREADS) m[k * B + j] = j == k ? pivot : m[k * B + j] * pivot;
        __syncthreads();
        for (int at = threadIdx.x; at < SIZE; at += THREADS) {
            const int i = at / B, j = at % B;
            if (i != k) m[at] = (j == k ? 0.0 : m[at]) - column[i] * m[k * B + j];
        }
        __syncthreads();
    }
    for (int i = threadIdx.x; i < B; i += THREADS) m[i * B + i] -= 1.0;
    __syncthreads();
    // Q + Q·½(I − QᵀQ)
    for (int at = threadIdx.x; at < SIZE; at += THREADS) {
        const int i = at / B, j = at % B;
        double sum = i == j ? 1.0 : 0.0;
        for (int k = 0; k < B; k++) sum -= m[k * B + i] * m[k * B + j];
        e[at] = 0.5 * sum;
    }
    __syncthreads();
    for (int at = threadIdx.x; at < SIZE; at += THREADS) {
        const int i = at / B, j = at % B;
        double sum = 0.0;
        for (int k = 0; k < B; k++) sum += m[i * B + k] * e[k * B + j];
        wide[start + g * SIZE + at] = m[at] + sum;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) realize_vjp(
    const float* __restrict__ theta, long long first, const double* __restrict__ wide, long long start, long long count,
    const float* __restrict__ d_entries, const word* __restrict__ entry, float* d_theta) {
    SHARED(double, p);
    double *x = p + SIZE, *y = x + SIZE;
    const long long g = blockIdx.x, from = start + g * SIZE;
    for (int at = threadIdx.x; at < SIZE; at += THREADS) {
        p[at] = wide[from + at] + (at / B == at % B ? 1.0 : 0.0);
        x[at] = d_entries[entry[from + at]];
    }
    __syncthreads();
    product(p, x, y, true);
    product(y, p, x, false);
    float* to = d_theta + first + g * (B * (B - 1) / 2);
    for (int at = threadIdx.x; at < SIZE; at += THREADS) {
        const int i = at / B, j = at % B;
        if (i < j) {
            float* d = to + upper(i, j);
            *d = (float)((double)*d + 0.5 * (x[i * B + j] - x[j * B + i]));
        }
    }
}
