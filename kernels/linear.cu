// y = activation(x W^T + bias + residual), or with GEGLU the first half of its columns times gelu of the second.
//
// Layout     x [rows, inputs] as it lies; W [outputs, depth], a row's inputs filled up with zeros to whole chunks of 16
//            bytes when it was packed; y [rows, columns]; sums in f32. W's and y's rows begin at multiples of 16 bytes, or
//            else (x's too) elements go one by one.
// Launch     grid (tiles of the output, those of one row of tiles after another; parts that K is cut into); a block
//            computes one part of one tile. f16, bf16: 128 threads, f32: 256. Dynamic shared memory for the stages:
//            48 KiB for 128x128 and 128x64, 32 KiB for 64x64.
// Registers  docs/kernels.md. Two blocks of a multiprocessor at least, but one of linear_128x128_f32.
// Ideas      1. A stage is 64 bytes deep. Three or four are in flight: `cp.async` fills them, past L1 and registers, while
//               another is multiplied, with one barrier a stage (common/product.cuh)
//            2. Tensor cores on warp tiles of 64x64: a byte from shared memory makes 32 multiply-adds. Shared memory is
//               swizzled, so neither copies nor `ldmatrix` wait for a bank (common/tile.cuh)
//            3. GEGLU's values and gates meet in one thread: which rows of W make a tile is a matter of addresses, so the
//               product of 2C columns is never written
//            4. Sums pass through shared memory on their way out: rows are then read (residual) and written 16 bytes a
//               thread, whole sectors. Rows in f32: the residual is added before anything is rounded
//            5. Where an item's output is so small that a device would idle, K is cut into parts (src/cuda/product.rs),
//               which split_k.cu adds up in order: the same bits every time, which atomics would not give
//            6. f32 in plain FFMA: tensor cores would round to tf32. The stages and the swizzle are the same
// Lost       a GEGLU order of W's rows of its own: a second copy of the weight for what four instructions of addressing do.
//            128x128 in f32 with two blocks of a multiprocessor: spills.
#include "common/product.cuh"

struct Linear {
  const void* x;
  const void* weight;
  uint32_t inputs;  // of x
  uint32_t depth;   // of the weight: `inputs`, rounded up to whole chunks
  uint32_t whole;   // rows of x are whole chunks, and begin at multiples of 16 bytes
  Epilogue epilogue;
};

template <class E, int ROWS, int COLUMNS> __device__ __forceinline__ void linear(const Linear& op) {
  using Block = Sums<E, ROWS, COLUMNS>;
  using Mine = Share<ROWS, Block::THREADS>;
  DYN_SMEM(stages, 128);
  const Place at = place<E, ROWS, COLUMNS>(op.epilogue, op.depth);
  MatrixTiles<E, ROWS, Block::THREADS> a(op.x, at.row + Mine::row(), Mine::BETWEEN, op.epilogue.rows, op.inputs, op.inputs,
                                         at.step, op.whole);
  auto b = weight_tiles<E, COLUMNS, Block::THREADS>(op.weight, at.column, op.epilogue, op.depth, at.step);
  Block sums;
  multiply(sums, a, b, at.steps, stages);
  sums.write(op.epilogue, at.split, stages, at.row, at.column);
}

#define LINEAR(E, ROWS, COLUMNS)                                                                            \
  KERNEL void __launch_bounds__(Sums<E, ROWS, COLUMNS>::THREADS, Sums<E, ROWS, COLUMNS>::RESIDENT)           \
      linear_##ROWS##x##COLUMNS##_##E(const __grid_constant__ Linear op) {                                  \
    linear<E, ROWS, COLUMNS>(op);                                                                           \
  }                                                                                                         \
  EXPORT_KERNEL(linear_##ROWS##x##COLUMNS##_##E)
#define LINEARS(E) LINEAR(E, 128, 128) LINEAR(E, 128, 64) LINEAR(E, 64, 64)
FOR_EACH_ELEMENT(LINEARS)
