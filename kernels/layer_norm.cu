// y[r, c] = (x[r, c] - mean) / sqrt(variance + eps) gamma[c] + beta[c], the moments those of row r.
//
// Layout     x, y [R, C]; gamma, beta [C]
// Launch     grid ceil(R / 8), 256 threads: a warp for each row; no shared memory
// Ideas      1. mean first, then the distances, then the result: three passes over a row that only the first takes from
//               beyond L1, so memory carries each value once in and once out: 4 bytes a value in f16, the floor
//            2. no sum leaves its warp, no barrier
//            3. 16-byte accesses where C allows them
// Never run on a GPU.
#include "common/normalise.cuh"

constexpr int THREADS = 256;

// Calls f(c) for the first channel c of each of this lane's pieces of `LANES` channels.
template <int LANES, class F> __device__ __forceinline__ void for_each_piece(uint32_t channels, F f) {
  for (uint32_t c = threadIdx.x % 32 * LANES; c < channels; c += 32 * LANES) f(c);
}

template <int LANES, class E>
__device__ __forceinline__ void layer_norm_row(const E* x, const E* gamma, const E* beta, E* y, uint32_t channels, float eps) {
  float piece[LANES], sum = 0.0f, m2 = 0.0f;
  for_each_piece<LANES>(channels, [&](uint32_t c) {
    load_piece(piece, x + c);
#pragma unroll
    for (int j = 0; j < LANES; j++) sum += piece[j];
  });
  const float mean = warp_sum(sum) / channels;
  for_each_piece<LANES>(channels, [&](uint32_t c) {
    load_piece(piece, x + c);
#pragma unroll
    for (int j = 0; j < LANES; j++) m2 = fmaf(piece[j] - mean, piece[j] - mean, m2);
  });
  const float scale = reciprocal_deviation(warp_sum(m2), channels, eps);
  for_each_piece<LANES>(channels, [&](uint32_t c) {
    float g[LANES], b[LANES];
    load_piece(piece, x + c);
    load_piece(g, gamma + c);
    load_piece(b, beta + c);
#pragma unroll
    for (int j = 0; j < LANES; j++) piece[j] = apply({mean, scale * g[j], b[j]}, piece[j]);
    store_piece(y + c, piece);
  });
}

template <class E>
__device__ __forceinline__ void layer_norm(const E* x, const E* gamma, const E* beta, E* y, uint32_t rows, uint32_t channels,
                                           float eps) {
  const uint32_t row = (blockIdx.x * THREADS + threadIdx.x) / 32;
  if (row >= rows) return;
  x += (size_t)row * channels;
  y += (size_t)row * channels;
  if (channels % Vector<E>::LANES == 0) layer_norm_row<Vector<E>::LANES>(x, gamma, beta, y, channels, eps);
  else layer_norm_row<1>(x, gamma, beta, y, channels, eps);
}

#define LAYER_NORM(E)                                                                                     \
  KERNEL void __launch_bounds__(THREADS) layer_norm_##E(const E* x, const E* gamma, const E* beta, E* y,  \
                                                        uint32_t rows, uint32_t channels, float eps) {    \
    layer_norm(x, gamma, beta, y, rows, channels, eps);                                                   \
  }                                                                                                       \
  EXPORT_KERNEL(layer_norm_##E)

FOR_EACH_ELEMENT(LAYER_NORM)
