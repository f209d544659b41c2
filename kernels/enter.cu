// y[copy N + n, p, first + c] = scale x[n, c, p], for every copy: one latent comes into a network, next to others.
//
// Layout     x [N, C, pixels] f32; y [copies N, pixels, W] in the compute type
// Launch     one thread for each item and pixel, 256 threads a block
// Registers  32 on sm_80
// Ideas      1. reads run along pixels and writes along channels, so neighbouring threads touch neighbouring memory on
//               both sides; with the 4 to 9 channels of latents a tile in shared memory would have nothing to mend
//            2. x is read once, whatever the number of copies
#include "common/types.cuh"

template <class E>
__device__ __forceinline__ void enter(const float* x, E* y, float scale, uint32_t items, uint32_t pixels, uint32_t channels,
                                      uint32_t first, uint32_t width, uint32_t copies) {
  const uint32_t at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= items * pixels) return;
  const uint32_t item = at / pixels, pixel = at % pixels;
  for (uint32_t c = 0; c < channels; c++) {
    const E value = from_f32<E>(scale * x[(item * channels + c) * pixels + pixel]);
    for (uint32_t copy = 0; copy < copies; copy++) y[(copy * items * pixels + at) * width + first + c] = value;
  }
}

#define ENTER(E)                                                                                                \
  KERNEL void __launch_bounds__(256)                                                                            \
      enter_##E(const float* x, E* y, float scale, uint32_t items, uint32_t pixels, uint32_t channels,          \
                uint32_t first, uint32_t width, uint32_t copies) {                                              \
    enter<E>(x, y, scale, items, pixels, channels, first, width, copies);                                       \
  }                                                                                                             \
  EXPORT_KERNEL(enter_##E)
FOR_EACH_ELEMENT(ENTER)
