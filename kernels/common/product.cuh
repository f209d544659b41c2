// Products of tiles: `Sums` holds a block's [ROWS, COLUMNS] sums in its threads' registers, adds the product of two tiles
// to them, and writes them out. `multiply` runs tiles past them.
//
//   E          threads  a thread's or warp's part      by
//   f16, bf16  128      a warp: ROWS/2 by COLUMNS/2    tensor cores, mma.sync
//   f32        256      a thread: every 16th row and   FFMA: tensor cores would round f32 to tf32
//                       every 16th column
#pragma once
#include "epilogue.cuh"
#include "mma.cuh"
#include "tile.cuh"

// Floats of shared memory that a warp takes to write rows of so many blocks of 8 columns.
template <int ACROSS> constexpr int SLICE = 16 * (8 * ACROSS + 8);

__device__ __forceinline__ void read8(float (&v)[8], const float* from) {
  const float4 low = *reinterpret_cast<const float4*>(from), high = *reinterpret_cast<const float4*>(from + 4);
  v[0] = low.x, v[1] = low.y, v[2] = low.z, v[3] = low.w;
  v[4] = high.x, v[5] = high.y, v[6] = high.z, v[7] = high.w;
}

// Writes a warp's 16 rows of sums out. They pass through shared memory, so that a thread gets 8 neighbouring columns. Rows
// lie 8 floats more than their columns apart there: writes of pairs meet in no bank, reads in two. From eight values to the
// next it is `across` columns; with GEGLU their gates are `gate` columns further on. `row_of(r)` is the output's row.
template <class E, int ACROSS, class RowOf>
__device__ __forceinline__ void write_rows(const Epilogue& to, uint32_t split, float* slice, const float (&sum)[ACROSS][4],
                                           uint32_t column, int across, int gate, RowOf row_of) {
  constexpr int COLUMNS = 8 * ACROSS, STRIDE = COLUMNS + 8;
  const int lane = threadIdx.x % 32, parts = to.gated() ? COLUMNS / 16 : COLUMNS / 8;
  __syncwarp();
#pragma unroll
  for (int j = 0; j < ACROSS; j++) {
    float* pair = slice + lane / 4 * STRIDE + j * 8 + lane % 4 * 2;
    *reinterpret_cast<float2*>(pair) = float2{sum[j][0], sum[j][1]};
    *reinterpret_cast<float2*>(pair + 8 * STRIDE) = float2{sum[j][2], sum[j][3]};
  }
  __syncwarp();
#pragma unroll 1
  for (int part = lane; part < 16 * parts; part += 32) {
    const float* from = slice + part / parts * STRIDE + part % parts * across;
    float v[8], gates[8];
    read8(v, from);
    if (to.gated()) read8(gates, from + gate);
    finish_or_keep<E>(to, split, row_of(part / parts), column + part % parts * 8, v, gates);
  }
}

template <class E, int ROWS, int COLUMNS> struct Sums {
  static constexpr int THREADS = 128, RESIDENT = 2;
  static constexpr int WARP_ROWS = ROWS / 2, WARP_COLUMNS = COLUMNS / 2;
  static constexpr int BLOCKS_DOWN = WARP_ROWS / 16, BLOCKS_ACROSS = WARP_COLUMNS / 8;
  float sum[BLOCKS_DOWN][BLOCKS_ACROSS][4] = {};

  static __device__ __forceinline__ int lane() { return threadIdx.x % 32; }
  static __device__ __forceinline__ int warp_row() { return threadIdx.x / 64 * WARP_ROWS; }
  static __device__ __forceinline__ int warp_column() { return threadIdx.x / 32 % 2 * WARP_COLUMNS; }

  __device__ __forceinline__ void add(const unsigned char* a, const unsigned char* b) {
    const uint32_t a_tile = shared_address(a) + (warp_row() + lane() % 16) * TILE_ROW;
    const uint32_t b_tile = shared_address(b) + (warp_column() + lane() % 8 + lane() / 16 * 8) * TILE_ROW;
    const int swizzle = lane() / 2 % CHUNKS;
#pragma unroll
    for (int k = 0; k < CHUNKS; k += 2) {
      const uint32_t a_chunk = ((k + lane() / 16) ^ swizzle) * CHUNK, b_chunk = ((k + lane() / 8 % 2) ^ swizzle) * CHUNK;
      uint32_t a_part[BLOCKS_DOWN][4], b_part[BLOCKS_ACROSS / 2][4];
#pragma unroll
      for (int i = 0; i < BLOCKS_DOWN; i++) ldmatrix_x4(a_part[i], a_tile + i * 16 * TILE_ROW + a_chunk);
#pragma unroll
      for (int j = 0; j < BLOCKS_ACROSS / 2; j++) ldmatrix_x4(b_part[j], b_tile + j * 16 * TILE_ROW + b_chunk);
#pragma unroll
      for (int i = 0; i < BLOCKS_DOWN; i++) {
#pragma unroll
        for (int j = 0; j < BLOCKS_ACROSS; j++) {
          const uint32_t b_block[2] = {b_part[j / 2][j % 2 * 2], b_part[j / 2][j % 2 * 2 + 1]};
          mma_m16n8k16<E>(sum[i][j], a_part[i], b_block);
        }
      }
    }
  }

  __device__ __forceinline__ void write(const Epilogue& to, uint32_t split, unsigned char* scratch, uint32_t row,
                                        uint32_t column) {
    float* slice = reinterpret_cast<float*>(scratch) + threadIdx.x / 32 * SLICE<BLOCKS_ACROSS>;
    const int across = to.gated() ? 16 : 8;
    column += warp_column() * 8 / across;
#pragma unroll
    for (int i = 0; i < BLOCKS_DOWN; i++) {
      const uint32_t first = row + warp_row() + i * 16;
      write_rows<E>(to, split, slice, sum[i], column, across, 8, [&](int r) { return first + r; });
    }
  }
};

template <int ROWS, int COLUMNS> struct Sums<f32, ROWS, COLUMNS> {
  static constexpr int THREADS = 256, RESIDENT = ROWS * COLUMNS > 128 * 64 ? 1 : 2;
  static constexpr int DOWN = ROWS / 16, ACROSS = COLUMNS / 16;
  float sum[DOWN][ACROSS] = {};

  static __device__ __forceinline__ int my_row() { return threadIdx.x / 16; }
  static __device__ __forceinline__ int my_column() { return threadIdx.x % 16; }
  static __device__ __forceinline__ float4 read(const unsigned char* tile, int row, int chunk) {
    return *reinterpret_cast<const float4*>(tile + chunk_offset(row, chunk));
  }

  __device__ __forceinline__ void add(const unsigned char* a, const unsigned char* b) {
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS; chunk++) {
      float4 y[ACROSS];
#pragma unroll
      for (int j = 0; j < ACROSS; j++) y[j] = read(b, my_column() + 16 * j, chunk);
#pragma unroll
      for (int i = 0; i < DOWN; i++) {
        const float4 x = read(a, my_row() + 16 * i, chunk);
#pragma unroll
        for (int j = 0; j < ACROSS; j++) {
          sum[i][j] += x.x * y[j].x;
          sum[i][j] += x.y * y[j].y;
          sum[i][j] += x.z * y[j].z;
          sum[i][j] += x.w * y[j].w;
        }
      }
    }
  }

  // With GEGLU a value's gate is 8 lanes further on.
  __device__ __forceinline__ void write(const Epilogue& to, uint32_t split, unsigned char*, uint32_t row, uint32_t column) {
    const bool gated = to.gated();
#pragma unroll
    for (int i = 0; i < DOWN; i++) {
#pragma unroll
      for (int j = 0; j < ACROSS; j++) {
        float v[1] = {sum[i][j]}, gate[1] = {__shfl_xor_sync(~0u, sum[i][j], 8)};
        if (gated && my_column() >= 8) continue;
        const uint32_t at = column + my_column() + (gated ? 8 : 16) * j;
        finish_or_keep<f32>(to, split, row + my_row() + 16 * i, at, v, gate);
      }
    }
  }
};

// How many tiles of each factor are in shared memory at a time: as many as 48 KiB hold, which every device gives two
// blocks of a multiprocessor without being asked; but no more than 4.
template <int ROWS, int COLUMNS> constexpr int STAGES = ROWS + COLUMNS > 192 ? 3 : 4;
template <int ROWS, int COLUMNS> constexpr int SHARED_BYTES = STAGES<ROWS, COLUMNS> * (ROWS + COLUMNS) * TILE_ROW;

// Adds `steps` tiles of `a` times those of `b`. All but one of the stages are being filled while one is multiplied; one
// barrier a step says both that a stage is full and that the one before has been read. Afterwards `stages` is free.
template <class E, int ROWS, int COLUMNS, class A, class B>
__device__ __forceinline__ void multiply(Sums<E, ROWS, COLUMNS>& sums, A& a, B& b, int steps, unsigned char* stages) {
  constexpr int COUNT = STAGES<ROWS, COLUMNS>, A_BYTES = ROWS * TILE_ROW, BYTES = A_BYTES + COLUMNS * TILE_ROW;
  const auto fill = [&](int step) {
    if (step < steps) {
      unsigned char* stage = stages + step % COUNT * BYTES;
      a.next(stage);
      b.next(stage + A_BYTES);
    }
    async_copy_commit();
  };
  for (int step = 0; step < COUNT - 1; step++) fill(step);
  for (int step = 0; step < steps; step++) {
    async_copy_wait<COUNT - 2>();
    __syncthreads();
    fill(step + COUNT - 1);
    const unsigned char* stage = stages + step % COUNT * BYTES;
    sums.add(stage, stage + A_BYTES);
  }
  async_copy_wait<0>();
  __syncthreads();
}

// What a block computes: a tile of the output, its K-th part of the sums.
struct Place {
  uint32_t row, column;  // of the output
  uint32_t split;
  int step, steps;  // the first, and how many
};

// Tiles of a row of tiles follow one another, so that blocks that run together share rows of `a`; parts of K are the
// grid's second dimension. A part's steps depend on K and the number of parts alone.
template <class E, int ROWS, int COLUMNS> __device__ __forceinline__ Place place(const Epilogue& to, uint32_t depth) {
  const uint32_t outputs = to.gated() ? COLUMNS / 2 : COLUMNS, tiles = (to.columns + outputs - 1) / outputs;
  const int steps = (depth + DEPTH<E> - 1) / DEPTH<E>, splits = gridDim.y, split = blockIdx.y;
  const int first = steps * split / splits;
  return {blockIdx.x / tiles * ROWS, blockIdx.x % tiles * outputs, blockIdx.y, first, steps * (split + 1) / splits - first};
}

// The tiles of a weight. With GEGLU, 8 columns of values and the 8 columns of their gates, which are the weight's second
// half, alternate in a tile: so a thread that has a value has its gate too, and the weight needs no order of its own.
template <class E, int COLUMNS, int THREADS>
__device__ __forceinline__ MatrixTiles<E, COLUMNS, THREADS> weight_tiles(const void* weight, uint32_t column,
                                                                         const Epilogue& to, uint32_t depth, int step) {
  using Mine = Share<COLUMNS, THREADS>;
  const uint32_t mine = Mine::row();
  const uint32_t half = to.gated() && mine % 16 >= 8 ? to.columns : 0;
  const uint32_t first = half + column + (to.gated() ? mine / 16 * 8 + mine % 8 : mine);
  const uint32_t between = to.gated() ? Mine::BETWEEN / 2 : Mine::BETWEEN;
  return {weight, first, between, half + to.columns, depth, depth, step, true};
}
