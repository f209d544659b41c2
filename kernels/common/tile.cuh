// Tiles of a product's two factors in shared memory. A tile's row is 64 bytes of one row of the factor: four chunks of 16
// bytes, 32 halves or 16 floats deep. Chunk c of row r lies at chunk c ^ (r / 2 % 4) of its row, so that neither the
// copies nor `ldmatrix`, nor 16-byte reads of one chunk of 8 rows, meet in a bank: two rows are 128 bytes, all banks once.
#pragma once
#include "async_copy.cuh"
#include "types.cuh"

constexpr int TILE_ROW = 64, CHUNK = 16, CHUNKS = TILE_ROW / CHUNK;

// Elements of a tile's row: how deep one step of a product goes.
template <class E> constexpr int DEPTH = TILE_ROW / sizeof(E);

__device__ __forceinline__ int chunk_offset(int row, int chunk) {
  return row * TILE_ROW + (chunk ^ (row / 2 % CHUNKS)) * CHUNK;
}

// Copies a chunk of which the first `present` elements exist; the rest become zeros. Chunks that are `whole` have all
// their elements or none, and begin at a multiple of 16 bytes.
template <class E> __device__ __forceinline__ void copy_chunk(unsigned char* to, const E* from, int present, bool whole) {
  if (whole) {
    async_copy_16(shared_address(to), from, present > 0);
    return;
  }
  Vector<E> chunk;
#pragma unroll
  for (int lane = 0; lane < Vector<E>::LANES; lane++) chunk.lane[lane] = lane < present ? from[lane] : from_f32<E>(0.0f);
  store_vector(reinterpret_cast<E*>(to), chunk);
}

// A thread's part in copying tiles of `ROWS` rows: one chunk of each of its rows, which are `BETWEEN` apart.
template <int ROWS, int THREADS> struct Share {
  static constexpr int BETWEEN = THREADS / CHUNKS, COPIES = ROWS / BETWEEN;
  static_assert(BETWEEN % 16 == 0 && ROWS % BETWEEN == 0, "a thread's chunks all lie at the same place of their rows");

  static __device__ __forceinline__ int row() { return threadIdx.x / CHUNKS; }
  static __device__ __forceinline__ int chunk() { return threadIdx.x % CHUNKS; }
  static __device__ __forceinline__ unsigned char* place(unsigned char* tile, int copy) {
    return tile + chunk_offset(row(), chunk()) + copy * BETWEEN * TILE_ROW;
  }
};

// The tiles of a matrix `[.., depth]` whose rows lie `stride` elements apart, from left to right.
template <class E, int ROWS, int THREADS> struct MatrixTiles {
  using Mine = Share<ROWS, THREADS>;
  const E* from;     // this thread's first row
  uint32_t between;  // elements from one of its rows to the next
  int rows;          // how many of its rows exist
  uint32_t depth, k;
  bool whole;

  // `first` is the row of the matrix that this thread's first is, and its next ones follow `rows_between` apart; those
  // from `end` on do not exist. The first tile begins `step` tiles from the left.
  __device__ __forceinline__ MatrixTiles(const void* matrix, uint32_t first, uint32_t rows_between, uint32_t end,
                                         uint32_t stride, uint32_t depth, int step, bool whole)
      : from((const E*)matrix + (uint64_t)first * stride),
        between(rows_between * stride),
        rows(first < end ? (end - first + rows_between - 1) / rows_between : 0),
        depth(depth),
        k(step * DEPTH<E> + Mine::chunk() * Vector<E>::LANES),
        whole(whole) {}

  __device__ __forceinline__ void next(unsigned char* tile) {
    const int present = (int)depth - (int)k;
#pragma unroll
    for (int copy = 0; copy < Mine::COPIES; copy++) {
      const bool wanted = copy < rows && present > 0;
      const E* chunk = wanted ? from + (uint64_t)copy * between + k : from;
      copy_chunk(Mine::place(tile, copy), chunk, wanted ? present : 0, whole);
    }
    k += DEPTH<E>;
  }
};
