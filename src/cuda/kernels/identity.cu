// x = I, n×n, a row for each block of threads.
extern "C" __global__ void __launch_bounds__(256) identity(stored* x, long long n) {
    for (long long i = threadIdx.x; i < n; i += 256) x[blockIdx.x * n + i] = store(i == (long long)blockIdx.x ? 1.0f : 0.0f);
}
