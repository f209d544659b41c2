// y[n, c, p] = x[n, p, c]: what a network gave becomes a latent.
//
// Layout     x [N, pixels, C] in the compute type; y [N, C, pixels] f32
// Launch     one thread for each item and pixel, 256 threads a block
// Registers  28 on sm_80
// Ideas      1. as in enter.cu: neighbouring threads touch neighbouring memory on both sides
#include "common/types.cuh"

template <class E>
__device__ __forceinline__ void leave(const E* x, float* y, uint32_t items, uint32_t pixels, uint32_t channels) {
  const uint32_t at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= items * pixels) return;
  const uint32_t item = at / pixels, pixel = at % pixels;
  for (uint32_t c = 0; c < channels; c++) y[(item * channels + c) * pixels + pixel] = to_f32(x[at * channels + c]);
}

#define LEAVE(E)                                                                                                     \
  KERNEL void __launch_bounds__(256) leave_##E(const E* x, float* y, uint32_t items, uint32_t pixels, uint32_t channels) { \
    leave<E>(x, y, items, pixels, channels);                                                                         \
  }                                                                                                                  \
  EXPORT_KERNEL(leave_##E)
FOR_EACH_ELEMENT(LEAVE)
