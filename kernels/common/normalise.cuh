// What the normalisations share: pieces of rows, moments, and what is made of them.
#pragma once
#include "reduce.cuh"
#include "types.cuh"

// A mean and the sum of squared distances from it, which merge without cancellation however far the mean is from 0
// (Chan, Golub & LeVeque 1983).
struct Moments {
  float mean;
  float m2;
};

// What x goes through: (x - mean) scale + offset.
struct Affine {
  float mean;
  float scale;
  float offset;
};

__device__ __forceinline__ float reciprocal_deviation(float m2, float count, float eps) { return rsqrtf(m2 / count + eps); }

__device__ __forceinline__ float apply(const Affine& affine, float x) {
  return fmaf(x - affine.mean, affine.scale, affine.offset);
}

// A value, the values of a 4-byte word, those of 16 bytes: as far as `from` is aligned.
template <class E> __device__ __forceinline__ void load_piece(float (&to)[1], const E* from) { to[0] = to_f32(*from); }

template <class E> __device__ __forceinline__ void load_piece(float (&to)[2], const E* from) {
  const uint32_t word = *reinterpret_cast<const uint32_t*>(from);
  to[0] = to_f32(E{(uint16_t)word});
  to[1] = to_f32(E{(uint16_t)(word >> 16)});
}

template <class E> __device__ __forceinline__ void load_piece(float (&to)[Vector<E>::LANES], const E* from) {
  const Vector<E> v = load_vector(from);
#pragma unroll
  for (int j = 0; j < Vector<E>::LANES; j++) to[j] = to_f32(v.lane[j]);
}

template <class E> __device__ __forceinline__ void store_piece(E* to, const float (&from)[1]) { *to = from_f32<E>(from[0]); }

template <class E> __device__ __forceinline__ void store_piece(E* to, const float (&from)[Vector<E>::LANES]) {
  Vector<E> v;
#pragma unroll
  for (int j = 0; j < Vector<E>::LANES; j++) v.lane[j] = from_f32<E>(from[j]);
  store_vector(to, v);
}

// Walks over rows of `columns` values in steps of `step`, and divides but once.
struct Walk {
  uint32_t row, column;
  const uint32_t columns, step_rows, step_columns;

  __device__ __forceinline__ Walk(uint32_t first, uint32_t step, uint32_t columns)
      : row(first / columns), column(first % columns), columns(columns), step_rows(step / columns), step_columns(step % columns) {}

  __device__ __forceinline__ void next() {
    row += step_rows;
    column += step_columns;
    if (column >= columns) {
      column -= columns;
      row++;
    }
  }
};
