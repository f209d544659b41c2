// Products of tiles on Hopper (sm_90a): two warpgroups multiply tiles, a thread after them asks for tiles.
//
// A step is 128 bytes deep. A stage holds a step's tiles of both factors, [128, 64] and [COLUMNS, 64], as tensor copies
// lay them (tensor_copy.cuh), and has two mbarriers: `full`, which hears of the tiles' bytes, and `empty`, which hears from
// each multiplying warp that it has read them. Neither side waits for the other but through these.
#pragma once
#include "product.cuh"
#include "tensor_copy.cuh"
#include "wgmma.cuh"

template <int COLUMNS> struct Pipeline {
  static constexpr int ROWS = 128, DEPTH = 64, MULTIPLIERS = 256;
  static constexpr int A_BYTES = ROWS * 128, BYTES = A_BYTES + COLUMNS * 128;
  // Two blocks of a multiprocessor, of which one writes while the other multiplies. What is wider fills it alone, and its
  // multipliers take registers over from a whole warpgroup of which but one thread asks.
  static constexpr bool ALONE = COLUMNS > 128;
  static constexpr int RESIDENT = ALONE ? 1 : 2, STAGES = COLUMNS == 128 ? 3 : 4;
  static constexpr int THREADS = MULTIPLIERS + (ALONE ? 128 : 32);

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
        mbarrier_init(is_empty(s), MULTIPLIERS / 32);
      }
      mbarrier_fence_init();
    }
    __syncthreads();
  }

  // One thread: has `fill(step, stage, barrier)` bring a step's two tiles as soon as there is room.
  template <class Fill> __device__ __forceinline__ void ask(int steps, Fill fill) const {
    for (int step = 0; step < steps; step++) {
      mbarrier_wait(is_empty(step), round(step) ^ 1);
      mbarrier_arrive_expecting(is_full(step), BYTES);
      fill(step, stage(step), is_full(step));
    }
  }

  // A warpgroup: the sums of its 64 rows. While one step's are under way, the next step's are issued.
  template <class E> __device__ __forceinline__ void multiply(float (&sum)[COLUMNS / 8][4], int warpgroup, int steps) const {
    for (int step = 0; step < steps; step++) {
      mbarrier_wait(is_full(step), round(step));
      const uint32_t a = stage(step) + warpgroup * 64 * 128, b = stage(step) + A_BYTES;
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < DEPTH; k += 16) {
        Wgmma<E, COLUMNS>::add(sum, wgmma_operand(a + 2 * k), wgmma_operand(b + 2 * k), step + k > 0);
      }
      wgmma_commit();
      wgmma_wait<1>();
      if (step > 0 && threadIdx.x % 32 == 0) mbarrier_arrive(is_empty(step - 1));
    }
    wgmma_wait<0>();
  }
};
