// What becomes of a product's sums: y = activation(sum + bias + shift + residual), or partial sums, kept for later.
//
// Sums come N neighbouring columns at a time: 16 bytes of y, or one value. Where rows of y are no multiple of 16 bytes,
// columns are read and written one by one.
#pragma once
#include "math.cuh"
#include "types.cuh"

struct Epilogue {
  void* y;               // [rows, columns]
  const void* bias;      // [columns], twice as many with GEGLU; or null, and so below
  const void* shift;     // [rows / shift_rows, columns], its rows `shift_stride` apart
  const void* residual;  // as y
  float* partial;        // [splits, rows, sums of a row]
  uint32_t rows, columns;
  uint32_t shift_rows, shift_stride;
  uint32_t activation;
  uint32_t whole;  // rows of all of these begin at a multiple of 16 bytes

  __device__ __forceinline__ bool gated() const { return activation == GEGLU; }
  // Sums of a row: with GEGLU those of the values, then those of the gates.
  __device__ __forceinline__ uint32_t width() const { return gated() ? 2 * columns : columns; }
};

// Adds `present` elements, or all N of a whole vector.
template <class E, int N>
__device__ __forceinline__ void add_row(float (&v)[N], const void* row, uint64_t at, int present, bool whole) {
  if (row == nullptr) return;
  const E* from = (const E*)row + at;
  if (N == Vector<E>::LANES && whole) {
    const Vector<E> addend = load_vector(from);
#pragma unroll
    for (int lane = 0; lane < N; lane++) v[lane] += to_f32(addend.lane[lane]);
    return;
  }
#pragma unroll
  for (int lane = 0; lane < N; lane++) {
    if (lane < present) v[lane] += to_f32(from[lane]);
  }
}

template <class E, int N>
__device__ __forceinline__ void store_row(void* row, uint64_t at, const float (&v)[N], int present, bool whole) {
  E* to = (E*)row + at;
  if (N == Vector<E>::LANES && whole) {
    Vector<E> vector;
#pragma unroll
    for (int lane = 0; lane < N; lane++) vector.lane[lane] = from_f32<E>(v[lane]);
    store_vector(to, vector);
    return;
  }
#pragma unroll
  for (int lane = 0; lane < N; lane++) {
    if (lane < present) to[lane] = from_f32<E>(v[lane]);
  }
}

// Finishes columns from `column` on of a row that exists. `gate` counts with GEGLU alone.
template <class E, int N>
__device__ __forceinline__ void finish(const Epilogue& to, uint32_t row, uint32_t column, float (&v)[N], float (&gate)[N]) {
  const int present = (int)to.columns - (int)column;
  if (present <= 0) return;
  const uint64_t at = (uint64_t)row * to.columns + column;
  add_row<E>(v, to.bias, column, present, to.whole);
  if (to.gated()) {
    add_row<E>(gate, to.bias, to.columns + column, present, to.whole);
#pragma unroll
    for (int lane = 0; lane < N; lane++) v[lane] *= gelu(gate[lane]);
  } else {
    if (to.shift != nullptr) {
      add_row<E>(v, to.shift, (uint64_t)(row / to.shift_rows) * to.shift_stride + column, present, to.whole);
    }
    add_row<E>(v, to.residual, at, present, to.whole);
#pragma unroll
    for (int lane = 0; lane < N; lane++) v[lane] = activate(v[lane], to.activation);
  }
  store_row<E>(to.y, at, v, present, to.whole);
}

// Keeps N sums of part `split` of a product.
template <int N>
__device__ __forceinline__ void keep(const Epilogue& to, uint32_t split, uint32_t row, uint32_t column, const float (&v)[N],
                                     int present) {
  float* sums = to.partial + ((uint64_t)split * to.rows + row) * to.width() + column;
  if (N % 4 == 0 && to.whole) {
#pragma unroll
    for (int lane = 0; lane < N; lane += 4) {
      *reinterpret_cast<float4*>(sums + lane) = float4{v[lane], v[lane + 1], v[lane + 2], v[lane + 3]};
    }
    return;
  }
#pragma unroll
  for (int lane = 0; lane < N; lane++) {
    if (lane < present) sums[lane] = v[lane];
  }
}

template <int N> __device__ __forceinline__ void add_partial(float (&v)[N], const float* sums, int present, bool whole) {
  if (N % 4 == 0 && whole) {
#pragma unroll
    for (int lane = 0; lane < N; lane += 4) {
      const float4 four = *reinterpret_cast<const float4*>(sums + lane);
      v[lane] += four.x, v[lane + 1] += four.y, v[lane + 2] += four.z, v[lane + 3] += four.w;
    }
    return;
  }
#pragma unroll
  for (int lane = 0; lane < N; lane++) {
    if (lane < present) v[lane] += sums[lane];
  }
}

// Finishes the sums, or keeps them if they are partial.
template <class E, int N>
__device__ __forceinline__ void finish_or_keep(const Epilogue& to, uint32_t split, uint32_t row, uint32_t column,
                                               float (&v)[N], float (&gate)[N]) {
  if (row >= to.rows) return;
  if (to.partial == nullptr) return finish<E>(to, row, column, v, gate);
  const int present = (int)to.columns - (int)column;
  if (present <= 0) return;
  keep(to, split, row, column, v, present);
  if (to.gated()) keep(to, split, row, to.columns + column, gate, present);
}
