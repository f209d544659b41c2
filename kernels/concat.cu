// y[row, ..A] = a[row], y[row, A..] = b[row].
//
// Layout     a [rows, A], b [rows, B], y [rows, A + B]; every pointer aligned to 16 bytes
// Launch     one thread for each unit of y, 256 threads a block; a unit is 16 bytes where A and B are multiples of
//            that, else one element
// Registers  10 on sm_80
// Ideas      1. reads and writes each byte once, in order, which is the floor: 2 rows (A + B) elements
//            2. units of 16 bytes: an eighth of the instructions for f16
#include "common/types.cuh"

template <class Unit>
__device__ __forceinline__ void concat(const Unit* a, const Unit* b, Unit* y, uint32_t units_a, uint32_t units_b, uint32_t n) {
  const uint32_t at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= n) return;
  const uint32_t row = at / (units_a + units_b), column = at % (units_a + units_b);
  y[at] = column < units_a ? a[row * units_a + column] : b[row * units_b + column - units_a];
}

// `lanes` elements to a unit; `n` units in all.
#define CONCAT(E)                                                                                                    \
  KERNEL void __launch_bounds__(256)                                                                                 \
      concat_##E(const E* a, const E* b, E* y, uint32_t units_a, uint32_t units_b, uint32_t n, uint32_t lanes) {     \
    if (lanes == 1) {                                                                                                \
      concat<E>(a, b, y, units_a, units_b, n);                                                                       \
    } else {                                                                                                         \
      concat<uint4>((const uint4*)a, (const uint4*)b, (uint4*)y, units_a, units_b, n);                               \
    }                                                                                                                \
  }                                                                                                                  \
  EXPORT_KERNEL(concat_##E)
FOR_EACH_ELEMENT(CONCAT)
