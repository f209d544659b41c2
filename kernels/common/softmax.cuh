// Online softmax over rows of scores that lie as tensor cores leave them, in fragments of 16 rows a warp: with g = lane / 4
// and t = lane % 4, value v of fragment i's block j is row 16 i + g + 8 (v / 2), column 8 j + 2 t + v % 2.
#pragma once
#include "attention.cuh"
#include "math.cuh"
#include "reduce.cuh"
#include "types.cuh"

// A warp's rows of queries, part of the way through the keys.
template <class E, int D, int KEYS, int ROW_FRAGMENTS> struct SoftmaxRows {
  static constexpr int FRAGMENTS = ROW_FRAGMENTS;
  static constexpr int PITCH = (D / 8 | 1) * 8;  // elements from row to row in shared memory

  float scores[FRAGMENTS][KEYS / 8][4];
  float sums[FRAGMENTS][D / 8][4];  // sum_s exp(score - largest) v
  float largest[FRAGMENTS][2];      // of rows g and g + 8, in units of log2 e / sqrt D
  float total[FRAGMENTS][2];        // sum_s exp(score - largest) of the keys that this lane holds
};

// Takes the scores of keys that do not exist out of the softmax.
template <class E, int D, int KEYS, int FRAGMENTS>
__device__ __forceinline__ void mask(SoftmaxRows<E, D, KEYS, FRAGMENTS>& t, int keys) {
  const int pair = threadIdx.x % 4 * 2;
#pragma unroll
  for (int i = 0; i < FRAGMENTS; i++)
#pragma unroll
    for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
      for (int v = 0; v < 4; v++)
        if (j * 8 + pair + v % 2 >= keys) t.scores[i][j][v] = -INFINITY;
}

// Turns scores into exp(score - largest), and rescales what came before where the largest has grown.
template <class E, int D, int KEYS, int FRAGMENTS>
__device__ __forceinline__ void exponentiate(SoftmaxRows<E, D, KEYS, FRAGMENTS>& t, float scale) {
#pragma unroll
  for (int i = 0; i < FRAGMENTS; i++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float largest = -INFINITY;
#pragma unroll
      for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
        for (int v = 2 * half; v < 2 * half + 2; v++) largest = fmaxf(largest, t.scores[i][j][v]);
      largest = fmaxf(warp_max<4>(largest) * scale, t.largest[i][half]);
      const float shrink = exp2_approx(t.largest[i][half] - largest);
      t.largest[i][half] = largest;
      t.total[i][half] *= shrink;
#pragma unroll
      for (int j = 0; j < D / 8; j++)
#pragma unroll
        for (int v = 2 * half; v < 2 * half + 2; v++) t.sums[i][j][v] *= shrink;
#pragma unroll
      for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
        for (int v = 2 * half; v < 2 * half + 2; v++) {
          t.scores[i][j][v] = exp2_approx(fmaf(t.scores[i][j][v], scale, -largest));
          t.total[i][half] += t.scores[i][j][v];
        }
    }
  }
}

// The finished rows: first to shared memory that is this warp's own, then out in 16-byte pieces.
template <class E, int D, int KEYS, int FRAGMENTS>
__device__ __forceinline__ void store(SoftmaxRows<E, D, KEYS, FRAGMENTS>& t, E* staged, E* y, uint32_t row, int queries, const Extents& e) {
  constexpr int PITCH = SoftmaxRows<E, D, KEYS, FRAGMENTS>::PITCH;
  const int lane = threadIdx.x % 32;
  __syncwarp();
#pragma unroll
  for (int i = 0; i < FRAGMENTS; i++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const float share = 1.0f / warp_sum<4>(t.total[i][half]);
      E* to = staged + (i * 16 + half * 8 + lane / 4) * PITCH + lane % 4 * 2;
#pragma unroll
      for (int j = 0; j < D / 8; j++)
        *reinterpret_cast<uint32_t*>(to + j * 8) =
            pack2<E>(t.sums[i][j][2 * half] * share, t.sums[i][j][2 * half + 1] * share);
    }
  __syncwarp();
  constexpr int CHUNKS = D / 8;
  for (int i = lane; i < FRAGMENTS * 16 * CHUNKS; i += 32) {
    const int r = i / CHUNKS, c = i % CHUNKS * 8;
    if (r >= queries || c >= e.depth) continue;
    const E* from = staged + r * PITCH + c;
    E* to = y + (size_t)r * row + c;
    if (e.aligned) {
      store_vector(to, load_vector(from));
    } else {
      for (int j = 0; j < 8 && c + j < e.depth; j++) to[j] = from[j];
    }
  }
}
