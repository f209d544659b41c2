// The terms of a linear combination of latents, in a kernel's parameters: constant memory, which every thread reads at the
// same address.
#pragma once
#include "types.cuh"

constexpr int MOST_TERMS = 16;

struct Terms {
  const float* x[MOST_TERMS];
  float coefficient[MOST_TERMS];
  uint32_t count;
};

// The sum of the terms for four values from `first` on, of which `count` there are; 16 bytes at once where they are whole.
__device__ __forceinline__ Vector<float> sum_of(const Terms& terms, uint32_t first, uint32_t count) {
  constexpr int LANES = Vector<float>::LANES;
  Vector<float> sum = {};
  if (count == LANES && first % LANES == 0) {
#pragma unroll
    for (int k = 0; k < MOST_TERMS; k++) {
      if (k >= terms.count) break;
      const Vector<float> x = load_vector(terms.x[k] + first);
#pragma unroll
      for (int lane = 0; lane < LANES; lane++) sum.lane[lane] += terms.coefficient[k] * x.lane[lane];
    }
    return sum;
  }
  for (int k = 0; k < terms.count; k++) {
#pragma unroll
    for (int lane = 0; lane < LANES; lane++) {
      if (lane < count) sum.lane[lane] += terms.coefficient[k] * terms.x[k][first + lane];
    }
  }
  return sum;
}

__device__ __forceinline__ void store_values(float* y, uint32_t first, uint32_t count, const Vector<float>& values) {
  constexpr int LANES = Vector<float>::LANES;
  if (count == LANES && first % LANES == 0) {
    store_vector(y + first, values);
    return;
  }
#pragma unroll
  for (int lane = 0; lane < LANES; lane++) {
    if (lane < count) y[first + lane] = values.lane[lane];
  }
}
