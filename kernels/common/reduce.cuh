// Sums and maxima over a warp and over a block of whole warps, in an order that is fixed, so the same bits in every run.
#pragma once
#include "platform.cuh"

constexpr uint32_t ALL_LANES = 0xffffffffu;

// The sum over `LANES` neighbouring lanes (a power of two), in each of them.
template <int LANES = 32> __device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int distance = LANES / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(ALL_LANES, x, distance);
  return x;
}

template <int LANES = 32> __device__ __forceinline__ float warp_max(float x) {
#pragma unroll
  for (int distance = LANES / 2; distance > 0; distance /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, distance));
  return x;
}

// The sum over a block of whole warps, in every thread. `partial` is shared memory for one value a warp; it may be
// reused as soon as this returns, and must not be in use by other warps when it is called.
__device__ __forceinline__ float block_sum(float x, float* partial) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  x = warp_sum(x);
  if (lane == 0) partial[warp] = x;
  __syncthreads();
  x = warp_sum(lane < warps ? partial[lane] : 0.0f);
  __syncthreads();
  return x;
}
