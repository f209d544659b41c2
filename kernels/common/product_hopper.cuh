// Products of tiles on Hopper (sm_90a): two warpgroups multiply tiles, a thread after them asks for tiles.
//
// A step is 128 bytes deep. A stage of the ring holds a step's tiles of both factors, [128, 64] and [COLUMNS, 64], as tensor
// copies lay them (tensor_copy.cuh).
#pragma once
#include "product.cuh"
#include "ring.cuh"
#include "wgmma.cuh"

template <int COLUMNS>
struct Pipeline : Ring<COLUMNS == 128 ? 3 : 4, (128 + COLUMNS) * 128, 8> {
  static constexpr int ROWS = 128, DEPTH = 64, MULTIPLIERS = 256, A_BYTES = ROWS * 128;
  // Two blocks of a multiprocessor, of which one writes while the other multiplies. What is wider fills it alone, and its
  // multipliers take registers over from a whole warpgroup of which but one thread asks.
  static constexpr bool ALONE = COLUMNS > 128;
  static constexpr int RESIDENT = ALONE ? 1 : 2;
  static constexpr int THREADS = MULTIPLIERS + (ALONE ? 128 : 32);

  // A warpgroup: the sums of its 64 rows. While one step's are under way, the next step's are issued.
  template <class E> __device__ __forceinline__ void multiply(float (&sum)[COLUMNS / 8][4], int warpgroup, int steps) const {
    for (int step = 0; step < steps; step++) {
      this->await(step);
      const uint32_t a = this->stage(step) + warpgroup * 64 * 128, b = this->stage(step) + A_BYTES;
      wgmma_fence(sum);
#pragma unroll
      for (int k = 0; k < DEPTH; k += 16) {
        Wgmma<E, COLUMNS>::add(sum, wgmma_operand(a + 2 * k), wgmma_operand(b + 2 * k), step + k > 0);
      }
      wgmma_commit();
      wgmma_wait<1>();
      if (step > 0) this->release(step - 1);
    }
    wgmma_wait<0>(sum);
  }
};
