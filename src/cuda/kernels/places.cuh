// Where coordinates of blocks are between the stages of a chain, and in device memory (chain.cuh).

// Coordinate of block w of stage S that is number i of thread t.
template <class S> __device__ inline int coordinate(bool outside, int w, int t, int i) {
    return outside ? (S::order(w, i / S::RUN) >> 8 * t & 255) * S::RUN + i % S::RUN : i / 2 * 8 + 2 * t + i % 2;
}
