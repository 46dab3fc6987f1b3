// Products of sums of two numbers of bfloat16: what tensor cores are given for single precision. Of the four products
// the one of both rests is left out, 2⁻¹⁶ of the result.

// Two numbers as bfloat16, the first in the lower half.
__device__ inline word two(float low, float high) {
#ifdef EMULATED
    return word(emulated_bf16(low)) | word(emulated_bf16(high)) << 16;
#else
    word both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
#endif
}

// And what they lose by it, as bfloat16.
__device__ inline word two_rests(float low, float high, word both) {
    return two(__fsub_rn(low, __uint_as_float(both << 16)), __fsub_rn(high, __uint_as_float(both & 0xffff0000u)));
}

// d += a·b
__device__ inline void multiply(float (&d)[4], uint4 a, const word (&b)[2]) {
#ifdef EMULATED
    emulated_mma(d, a.x, a.y, a.z, a.w, b[0], b[1]);
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b[0]), "r"(b[1]));
#endif
}
