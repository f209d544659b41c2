// A ring of stages in shared memory (sm_90a): one thread has tiles brought, ARRIVALS warps use them. A stage has two mbarriers:
// `full`, which hears of the tiles' bytes, and `empty`, which hears from each of those warps that it is done with them. Neither
// side waits for the other but through these.
#pragma once
#include "tensor_copy.cuh"

template <int COUNT, int SIZE, int ARRIVALS> struct Ring {
  static constexpr int STAGES = COUNT, BYTES = SIZE;

  uint32_t stages, full, empty;  // shared addresses

  __device__ __forceinline__ uint32_t stage(int step) const { return stages + step % STAGES * BYTES; }
  __device__ __forceinline__ uint32_t is_full(int step) const { return full + step % STAGES * 8; }
  __device__ __forceinline__ uint32_t is_empty(int step) const { return empty + step % STAGES * 8; }
  __device__ __forceinline__ uint32_t round(int step) const { return step / STAGES % 2; }

  // All threads of the block, before anything else.
  __device__ __forceinline__ void open() const {
    if (threadIdx.x == 0) {
      for (int s = 0; s < STAGES; s++) {
        mbarrier_init(is_full(s), 1);
        mbarrier_init(is_empty(s), ARRIVALS);
      }
      mbarrier_fence_init();
    }
    __syncthreads();
  }

  // One thread: has `fill(step, stage, barrier)` bring a step's tiles as soon as there is room.
  template <class Fill> __device__ __forceinline__ void ask(int steps, Fill fill) const {
    for (int step = 0; step < steps; step++) {
      mbarrier_wait(is_empty(step), round(step) ^ 1);
      mbarrier_arrive_expecting(is_full(step), BYTES);
      fill(step, stage(step), is_full(step));
    }
  }

  // A warp that uses tiles.
  __device__ __forceinline__ void await(int step) const { mbarrier_wait(is_full(step), round(step)); }
  __device__ __forceinline__ void release(int step) const {
    if (threadIdx.x % 32 == 0) mbarrier_arrive(is_empty(step));
  }
};
