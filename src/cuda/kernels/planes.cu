// Charts of 2×2 rotations (c, −s; s, c), one block for each thread. CHART: 0 Givens, 1 Exponential, 2 Cayley.
//
// `status` is set to 1 where an angle is not finite: then the host says what is wrong.

// Cosine and sine at θ, and how fast the angle of the rotation moves with θ (parametrization/cayley.rs, givens.rs,
// exponential.rs).
__device__ inline void plane(double theta, double& c, double& s, double& speed) {
#if CHART == 2
    const bool large = fabs(theta) > 1.0;
    const double x = large ? 1.0 / theta : theta, t = x * x, half = 1.0 / (1.0 + t);
    c = (1.0 - t) * half;
    s = 2.0 * x * half;
    const double polish = 1.0 + 0.5 * ((1.0 - c * c) - s * s);
    speed = large ? 2.0 * half * t : 2.0 * half;
    c = (large ? -c : c) * polish;
    s = s * polish;
#else
    sincos(theta, &s, &c);
    speed = CHART == 1 ? -1.0 : 1.0;
    if (CHART == 1) s = 0.0 - s;
#endif
}

extern "C" __global__ void __launch_bounds__(256) realize(
    const float* __restrict__ theta, long long first, double* __restrict__ wide, long long start, long long count, int* status) {
    const long long g = (long long)blockIdx.x * 256 + threadIdx.x;
    if (g >= count) return;
    const double angle = theta[first + g];
    double c, s, speed;
    if (!(fabs(angle) <= 1e300)) *status = 1;
    plane(angle, c, s, speed);
    double* block = wide + start + 4 * g;
    block[0] = c;
    block[1] = 0.0 - s;
    block[2] = s;
    block[3] = c;
}

extern "C" __global__ void __launch_bounds__(256) realize_vjp(
    const float* __restrict__ theta, long long first, const double* __restrict__ wide, long long start, long long count,
    const float* __restrict__ d_entries, const word* __restrict__ entry, float* d_theta) {
    const long long g = (long long)blockIdx.x * 256 + threadIdx.x;
    if (g >= count) return;
    double c, s, speed, d[4];
    plane(theta[first + g], c, s, speed);
    for (int i = 0; i < 4; i++) d[i] = d_entries[entry[start + 4 * g + i]];
    const double torque = c * (d[2] - d[1]) - s * (d[0] + d[3]);
    d_theta[first + g] = (float)((double)d_theta[first + g] + speed * torque);
}
