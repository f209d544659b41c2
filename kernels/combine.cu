// y = sum_k coefficient_k x_k, summed in this order.
//
// Layout     latents as they lie in memory, f32; n elements in all; every pointer aligned to 16 bytes
// Launch     one thread for 4 elements, 256 threads a block; no shared memory
// Terms      a combination of more terms than fit is computed in parts, each with y as its first term
// Registers  32 on sm_80, for the loads in flight
// Ideas      1. one pass over memory whatever the number of terms: 4 (terms + 1) n bytes, which is the floor
//            2. 16-byte loads, all of a thread's in flight before the first sum is needed
#include "common/terms.cuh"

KERNEL void __launch_bounds__(256) combine_f32(const Terms terms, float* y, uint32_t n) {
  const uint32_t first = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
  if (first >= n) return;
  const uint32_t count = min(4u, n - first);
  store_values(y, first, count, sum_of(terms, first, count));
}
EXPORT_KERNEL(combine_f32)
