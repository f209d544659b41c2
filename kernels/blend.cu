// y = mask a + (1 - mask) b.
//
// Layout     a, b, y [N, C, pixels]; mask [N or 1, C or 1, pixels], repeated over what it lacks; all f32, every pointer
//            aligned to 16 bytes
// Launch     one thread for 4 values where pixels are a multiple of 4, else for one; 256 threads a block
// Registers  22 on sm_80
// Ideas      1. one pass over memory, 16-byte loads
#include "common/types.cuh"

template <int VALUES>
__device__ __forceinline__ void blend(const float* a, const float* b, const float* mask, float* y, uint32_t items,
                                      uint32_t channels, uint32_t mask_items, uint32_t mask_channels, uint32_t pixels) {
  const uint32_t first = (blockIdx.x * blockDim.x + threadIdx.x) * VALUES;
  if (first >= items * channels * pixels) return;
  const uint32_t item = first / (channels * pixels), channel = first / pixels % channels, pixel = first % pixels;
  const float* m = mask + ((item % mask_items) * mask_channels + channel % mask_channels) * pixels + pixel;
  if (VALUES == 1) {
    y[first] = *m * a[first] + (1.0f - *m) * b[first];
    return;
  }
  const Vector<float> weight = load_vector(m), x = load_vector(a + first), z = load_vector(b + first);
  Vector<float> sum;
  for (int lane = 0; lane < VALUES; lane++) {
    sum.lane[lane] = weight.lane[lane] * x.lane[lane] + (1.0f - weight.lane[lane]) * z.lane[lane];
  }
  store_vector(y + first, sum);
}

KERNEL void __launch_bounds__(256)
    blend_f32(const float* a, const float* b, const float* mask, float* y, uint32_t items, uint32_t channels,
              uint32_t mask_items, uint32_t mask_channels, uint32_t pixels) {
  if (pixels % 4 == 0) {
    blend<4>(a, b, mask, y, items, channels, mask_items, mask_channels, pixels);
  } else {
    blend<1>(a, b, mask, y, items, channels, mask_items, mask_channels, pixels);
  }
}
EXPORT_KERNEL(blend_f32)
