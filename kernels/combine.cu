// y = sum_k coefficient_k x_k, summed in this order.
//
// Layout     latents as they lie in memory, f32; n elements in all; every pointer aligned to 16 bytes
// Launch     one thread for 4 elements, 256 threads a block; no shared memory
// Terms      in the kernel's parameters: constant memory that every thread reads at the same address. A combination of
//            more terms than fit is computed in parts, each with y as its first term.
// Ideas      1. one pass over memory whatever the number of terms: 4 (terms + 1) n bytes, which is the floor
//            2. 16-byte loads, all of a thread's in flight before the first sum is needed
#include "common/types.cuh"

constexpr int MOST_TERMS = 16;

struct Terms {
  const float* x[MOST_TERMS];
  float coefficient[MOST_TERMS];
  uint32_t count;
};

KERNEL void __launch_bounds__(256) combine_f32(const Terms terms, float* y, uint32_t n) {
  constexpr int LANES = Vector<float>::LANES;
  const uint32_t first = (blockIdx.x * blockDim.x + threadIdx.x) * LANES;
  if (first + LANES <= n) {
    Vector<float> sum = {};
#pragma unroll
    for (int k = 0; k < MOST_TERMS; k++) {
      if (k >= terms.count) break;
      const Vector<float> x = load_vector(terms.x[k] + first);
      for (int lane = 0; lane < LANES; lane++) sum.lane[lane] += terms.coefficient[k] * x.lane[lane];
    }
    store_vector(y + first, sum);
    return;
  }
  for (uint32_t at = first; at < n; at++) {
    float sum = 0.0f;
    for (int k = 0; k < terms.count; k++) sum += terms.coefficient[k] * terms.x[k][at];
    y[at] = sum;
  }
}
EXPORT_KERNEL(combine_f32)
