// y = activation(sum over parts + bias + shift + residual): what linear.cu and conv2d.cu left undone where they cut K.
//
// Layout     partial [parts, rows, width], f32, width being y's columns or with GEGLU twice as many; y [rows, columns]
// Launch     a thread for 16 bytes of y, 128 threads a block; no shared memory
// Ideas      1. parts are added in order, so every run has the same bits
//            2. 16-byte loads; what was just written is read from L2
#include "common/epilogue.cuh"

template <class E> __device__ __forceinline__ void split_k(const Epilogue& to, uint32_t splits) {
  constexpr int N = Vector<E>::LANES;
  const uint32_t across = (to.columns + N - 1) / N, part = blockIdx.x * blockDim.x + threadIdx.x;
  const uint32_t row = part / across, column = part % across * N;
  if (row >= to.rows) return;
  const int present = (int)to.columns - (int)column;
  float v[N] = {}, gate[N] = {};
  for (uint32_t split = 0; split < splits; split++) {
    const float* sums = to.partial + ((uint64_t)split * to.rows + row) * to.width() + column;
    add_partial(v, sums, present, to.whole);
    if (to.gated()) add_partial(gate, sums + to.columns, present, to.whole);
  }
  finish<E>(to, row, column, v, gate);
}

#define SPLIT_K(E)                                                                                         \
  KERNEL void __launch_bounds__(128) split_k_##E(const __grid_constant__ Epilogue to, uint32_t splits) {   \
    split_k<E>(to, splits);                                                                                \
  }                                                                                                        \
  EXPORT_KERNEL(split_k_##E)
FOR_EACH_ELEMENT(SPLIT_K)
