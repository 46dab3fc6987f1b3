// The exponential of 3×3 and 4×4 rotations by its closed forms (parametrization/exponential.rs), one block for each
// thread, B = 3 or 4.
//
// `status` is set to 1 where a parameter is not finite: then the host says what is wrong.

#define SIZE (B * B)
#define PARAMS (B * (B - 1) / 2)

struct Vector {
    double x, y, z;
};

// r and v/r, without overflow or underflow on the way.
__device__ inline double polar(Vector v, Vector& n) {
    const double largest = fmax(fabs(v.x), fmax(fabs(v.y), fabs(v.z)));
    n = {0.0, 0.0, 0.0};
    if (largest == 0.0) return 0.0;
    const double x = v.x / largest, y = v.y / largest, z = v.z / largest;
    const double length = sqrt(x * x + y * y + z * z);
    n = {x / length, y / length, z / length};
    return largest * length;
}

// The average of rotations about v, through up to speed·|v|, of k.
__device__ inline Vector jacobian(Vector v, double speed, Vector k) {
    Vector n;
    const double r = polar(v, n), half = r * (0.5 * fabs(speed)), sign = speed < 0.0 ? -1.0 : 1.0;
    n = {sign * n.x, sign * n.y, sign * n.z};
    double s, c;
    sincos(half, &s, &c);
    const double sinc = half == 0.0 ? 1.0 : s / half, along = c * sinc, across = s * sinc;
    const double dot = n.x * k.x + n.y * k.y + n.z * k.z;
    return {n.x * dot + along * (k.x - n.x * dot) + across * (n.y * k.z - n.z * k.y),
            n.y * dot + along * (k.y - n.y * dot) + across * (n.z * k.x - n.x * k.z),
            n.z * dot + along * (k.z - n.z * dot) + across * (n.x * k.y - n.y * k.x)};
}

// out = the Newton–Schulz step of q.
__device__ inline void polished(const double (&q)[B][B], double* out) {
    double e[B][B];
#pragma unroll
    for (int i = 0; i < B; i++)
#pragma unroll
        for (int j = 0; j < B; j++) {
            e[i][j] = i == j ? 1.0 : 0.0;
#pragma unroll
            for (int k = 0; k < B; k++) e[i][j] -= q[k][i] * q[k][j];
        }
#pragma unroll
    for (int i = 0; i < B; i++)
#pragma unroll
        for (int j = 0; j < B; j++) {
            double sum = 0.0;
#pragma unroll
            for (int k = 0; k < B; k++) sum += q[i][k] * e[k][j];
            out[i * B + j] = q[i][j] + 0.5 * sum;
        }
}

#if B == 3
__device__ inline Vector axial(const double* a) { return {0.0 - a[2], a[1], 0.0 - a[0]}; }

__device__ inline void exponential(const double* theta, double* block) {
    Vector n;
    const double r = polar(axial(theta), n);
    double sine, cosine;
    sincos(0.5 * r, &sine, &cosine);
    const double s = 2.0 * sine * cosine, v = 2.0 * sine * sine, x = n.x, y = n.y, z = n.z;
    const double q[3][3] = {{1.0 - v * (y * y + z * z), v * (x * y) - s * z, v * (x * z) + s * y},
                            {v * (x * y) + s * z, 1.0 - v * (x * x + z * z), v * (y * z) - s * x},
                            {v * (x * z) - s * y, v * (y * z) + s * x, 1.0 - v * (x * x + y * y)}};
    polished(q, block);
}

__device__ inline void dexp(const double* theta, const double* k, double* out) {
    const Vector j = jacobian(axial(theta), 1.0, axial(k));
    out[0] = 0.0 - j.z;
    out[1] = j.y;
    out[2] = 0.0 - j.x;
}
#else
__device__ inline Vector left_part(const double* a) { return {0.5 * a[0] + 0.5 * a[5], 0.5 * a[1] - 0.5 * a[4], 0.5 * a[2] + 0.5 * a[3]}; }
__device__ inline Vector right_part(const double* a) { return {0.5 * a[0] - 0.5 * a[5], 0.5 * a[1] + 0.5 * a[4], 0.5 * a[2] - 0.5 * a[3]}; }

__device__ inline void factor(Vector v, double sign, double (&m)[4][4]) {
    Vector n;
    double s, c;
    sincos(polar(v, n), &s, &c);
    const double x = s * n.x, y = s * n.y, z = s * n.z, t = sign * x, u = sign * y, w = sign * z;
    const double q[4][4] = {{c, x, y, z}, {-x, c, w, -u}, {-y, -w, c, t}, {-z, u, -t, c}};
#pragma unroll
    for (int i = 0; i < 16; i++) m[i / 4][i % 4] = q[i / 4][i % 4];
}

__device__ inline void exponential(const double* theta, double* block) {
    double left[4][4], right[4][4], q[4][4];
    factor(left_part(theta), 1.0, left);
    factor(right_part(theta), -1.0, right);
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            q[i][j] = 0.0;
#pragma unroll
            for (int k = 0; k < 4; k++) q[i][j] += left[i][k] * right[k][j];
        }
    polished(q, block);
}

__device__ inline void dexp(const double* theta, const double* k, double* out) {
    const Vector p = jacobian(left_part(theta), -2.0, left_part(k)), q = jacobian(right_part(theta), 2.0, right_part(k));
    out[0] = p.x + q.x;
    out[1] = p.y + q.y;
    out[2] = p.z + q.z;
    out[3] = p.z - q.z;
    out[4] = q.y - p.y;
    out[5] = p.x - q.x;
}
#endif

extern "C" __global__ void __launch_bounds__(128) realize(
    const float* __restrict__ theta, long long first, double* __restrict__ wide, long long start, long long count, int* status) {
    const long long g = (long long)blockIdx.x * 128 + threadIdx.x;
    if (g >= count) return;
    double t[PARAMS];
#pragma unroll
    for (int i = 0; i < PARAMS; i++) {
        t[i] = theta[first + g * PARAMS + i];
        if (!(fabs(t[i]) <= 1e300)) *status = 1;
    }
    exponential(t, wide + start + g * SIZE);
}

// With K twice the skew part of QᵀG: dθ += dexp(K).
extern "C" __global__ void __launch_bounds__(128) realize_vjp(
    const float* __restrict__ theta, long long first, const double* __restrict__ wide, long long start, long long count,
    const float* __restrict__ d_entries, const word* __restrict__ entry, float* d_theta) {
    const long long g = (long long)blockIdx.x * 128 + threadIdx.x;
    if (g >= count) return;
    const long long from = start + g * SIZE;
    double t[PARAMS], k[PARAMS], d[PARAMS], m[B][B];
#pragma unroll
    for (int i = 0; i < PARAMS; i++) t[i] = theta[first + g * PARAMS + i];
#pragma unroll
    for (int i = 0; i < B; i++)
#pragma unroll
        for (int j = 0; j < B; j++) {
            m[i][j] = 0.0;
#pragma unroll
            for (int l = 0; l < B; l++) m[i][j] += wide[from + l * B + i] * (double)d_entries[entry[from + l * B + j]];
        }
    int at = 0;
#pragma unroll
    for (int i = 0; i < B; i++)
#pragma unroll
        for (int j = i + 1; j < B; j++) k[at++] = m[i][j] - m[j][i];
    dexp(t, k, d);
#pragma unroll
    for (int i = 0; i < PARAMS; i++) {
        float* to = d_theta + first + g * PARAMS + i;
        *to = (float)((double)*to + d[i]);
    }
}
