// y[t, h] = sum_s softmax_s(q[t, h] . k[s, h] / sqrt D) v[s, h], for every item and head h of D channels; f32.
//
// Layout     as attention.cu
// Launch     grid (ceil(T / 64), heads, N), 128 threads: 16 groups of 8 neighbouring lanes, each group with 4 queries
// Shared     one tile each of Q [64, D], K and V [32, D], and of weights [64, 32]; rows padded to an odd number of 16-byte
//            chunks, so that 8 lanes which read 8 rows together meet 8 different groups of banks. 29 KiB at D = 40, 91 at 160
// Ideas      1. online softmax as in attention.cu. The tensor cores' tf32 keeps 11 bits: too few, so these are multiply-adds
//            2. every thread holds 4 queries x 4 keys of scores, then 4 queries x D / 8 channels of sums: 64 multiply-adds
//               for 8 16-byte loads
//            3. weights go through shared memory, but within a warp
// Never run on a GPU.
#include "common/async_copy.cuh"
#include "common/attention.cuh"
#include "common/math.cuh"
#include "common/reduce.cuh"
#include "common/types.cuh"

constexpr int QUERIES = 64;
constexpr int KEYS = 32;
constexpr int THREADS = 128;
constexpr int LANES = 8;          // that share 4 queries
constexpr int WEIGHTS_PITCH = 36;

template <int D> struct Tile {
  static constexpr int PITCH = (D / 4 | 1) * 4;
  static constexpr int PIECES = (D / 4 + LANES - 1) / LANES;  // of 4 channels, a lane

  float sums[4][PIECES][4];
  float largest[4];
  float total[4];
};

// Rows `first..` of a head to shared memory, zeros for rows and channels that do not exist.
template <int D, int ROWS>
__device__ __forceinline__ void load_rows(f32* tile, const f32* from, uint32_t row, int first, int rows, const Extents& e) {
  constexpr int PIECES = D / 4, PITCH = Tile<D>::PITCH;
  for (int i = threadIdx.x; i < ROWS * PIECES; i += THREADS) {
    const int r = i / PIECES, c = i % PIECES * 4;
    const f32* source = from + (size_t)(first + r) * row + c;
    const bool wanted = first + r < rows && c < e.depth;
    if (e.aligned) {
      async_copy_16(shared_address(tile + r * PITCH + c), wanted ? source : from, wanted);
    } else {
      for (int j = 0; j < 4; j++) tile[r * PITCH + c + j] = wanted && c + j < e.depth ? source[j] : 0.0f;
    }
  }
  async_copy_commit();
}

// The scores of this thread's 4 queries with keys `lane + 8 j`.
template <int D> __device__ __forceinline__ void multiply_keys(float (&scores)[4][4], const f32* q, const f32* k) {
  constexpr int PITCH = Tile<D>::PITCH;
#pragma unroll 4
  for (int d = 0; d < D; d += 4) {
    Vector<f32> keys[4];
#pragma unroll
    for (int j = 0; j < 4; j++) keys[j] = load_vector(k + j * LANES * PITCH + d);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const Vector<f32> query = load_vector(q + i * PITCH + d);
#pragma unroll
      for (int j = 0; j < 4; j++)
#pragma unroll
        for (int c = 0; c < 4; c++) scores[i][j] = fmaf(query.lane[c], keys[j].lane[c], scores[i][j]);
    }
  }
}

// Turns scores into exp(score - largest), and rescales what came before where the largest has grown.
template <int D> __device__ __forceinline__ void exponentiate(Tile<D>& t, float (&scores)[4][4], int keys, float scale) {
  const int lane = threadIdx.x % LANES;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    float largest = -INFINITY;
#pragma unroll
    for (int j = 0; j < 4; j++) {
      if (lane + j * LANES >= keys) scores[i][j] = -INFINITY;
      largest = fmaxf(largest, scores[i][j]);
    }
    largest = fmaxf(warp_max<LANES>(largest) * scale, t.largest[i]);
    const float shrink = exp2_approx(t.largest[i] - largest);
    t.largest[i] = largest;
    t.total[i] *= shrink;
#pragma unroll
    for (int p = 0; p < Tile<D>::PIECES; p++)
#pragma unroll
      for (int c = 0; c < 4; c++) t.sums[i][p][c] *= shrink;
#pragma unroll
    for (int j = 0; j < 4; j++) {
      scores[i][j] = exp2_approx(fmaf(scores[i][j], scale, -largest));
      t.total[i] += scores[i][j];
    }
  }
}

// sums += weights V, this thread's channels being `4 (lane + 8 p)` and the three after.
template <int D> __device__ __forceinline__ void multiply_values(Tile<D>& t, const f32* weights, const f32* v) {
  const int lane = threadIdx.x % LANES;
#pragma unroll 2
  for (int s = 0; s < KEYS; s += 4) {
    Vector<f32> weight[4];
#pragma unroll
    for (int i = 0; i < 4; i++) weight[i] = load_vector(weights + i * WEIGHTS_PITCH + s);
#pragma unroll
    for (int p = 0; p < Tile<D>::PIECES; p++) {
      const int channel = 4 * (lane + p * LANES);
      if (channel >= D) continue;
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const Vector<f32> value = load_vector(v + (s + j) * Tile<D>::PITCH + channel);
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
          for (int c = 0; c < 4; c++) t.sums[i][p][c] = fmaf(weight[i].lane[j], value.lane[c], t.sums[i][p][c]);
      }
    }
  }
}

// The finished rows.
template <int D> __device__ __forceinline__ void store(Tile<D>& t, f32* y, uint32_t row, int queries, const Extents& e) {
  const int lane = threadIdx.x % LANES;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const float total = warp_sum<LANES>(t.total[i]);
    if (i >= queries) continue;
#pragma unroll
    for (int p = 0; p < Tile<D>::PIECES; p++) {
      const int channel = 4 * (lane + p * LANES);
      f32* to = y + (size_t)i * row + channel;
      Vector<f32> piece;
#pragma unroll
      for (int c = 0; c < 4; c++) piece.lane[c] = t.sums[i][p][c] / total;
      if (e.aligned && channel < e.depth) {
        store_vector(to, piece);
      } else {
        for (int c = 0; c < 4 && channel + c < e.depth; c++) to[c] = piece.lane[c];
      }
    }
  }
}

template <int D>
__device__ __forceinline__ void attention(const f32* q, const f32* k, const f32* v, f32* y, const Extents& e) {
  constexpr int PITCH = Tile<D>::PITCH;
  DYN_SMEM(shared, 16);
  f32* const q_tile = reinterpret_cast<f32*>(shared);
  f32* const k_tile = q_tile + QUERIES * PITCH;
  f32* const v_tile = k_tile + KEYS * PITCH;
  f32* const weights = v_tile + KEYS * PITCH;

  const uint32_t head = blockIdx.y * e.depth, y_row = gridDim.y * e.depth;
  const int first = blockIdx.x * QUERIES, mine = threadIdx.x / LANES * 4, lane = threadIdx.x % LANES;
  q += (size_t)blockIdx.z * e.queries * e.q_row + head;
  k += (size_t)blockIdx.z * e.keys * e.k_row + head;
  v += (size_t)blockIdx.z * e.keys * e.v_row + head;
  y += ((size_t)blockIdx.z * e.queries + first + mine) * y_row + head;

  load_rows<D, QUERIES>(q_tile, q, e.q_row, first, e.queries, e);
  load_rows<D, KEYS>(k_tile, k, e.k_row, 0, e.keys, e);
  Tile<D> t = {};
#pragma unroll
  for (int i = 0; i < 4; i++) t.largest[i] = -INFINITY;

  for (int key = 0; key < e.keys; key += KEYS) {
    async_copy_wait<0>();
    __syncthreads();  // Q and K are here; nobody reads V any more
    load_rows<D, KEYS>(v_tile, v, e.v_row, key, e.keys, e);
    float scores[4][4] = {};
    multiply_keys<D>(scores, q_tile + mine * PITCH, k_tile + lane * PITCH);
    exponentiate(t, scores, e.keys - key, e.scale);
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
      for (int j = 0; j < 4; j++) weights[(mine + i) * WEIGHTS_PITCH + lane + j * LANES] = scores[i][j];
    async_copy_wait<0>();
    __syncthreads();  // V and the weights are here; nobody reads K any more
    if (key + KEYS < e.keys) load_rows<D, KEYS>(k_tile, k, e.k_row, key + KEYS, e.keys, e);
    multiply_values(t, weights + mine * WEIGHTS_PITCH, v_tile);
  }
  store(t, y, y_row, e.queries - first - mine, e);
}

#define ATTENTION(D)                                                                              \
  KERNEL void __launch_bounds__(THREADS)                                                          \
      attention_d##D##_f32(const f32* q, const f32* k, const f32* v, f32* y, const Extents extents) { \
    attention<D>(q, k, v, y, extents);                                                            \
  }                                                                                               \
  EXPORT_KERNEL(attention_d##D##_f32)

ATTENTION(32) ATTENTION(40) ATTENTION(64) ATTENTION(80) ATTENTION(128) ATTENTION(160)
