// y[t, h] = sum_s softmax_s(q[t, h] . k[s, h] / sqrt D) v[s, h], for every item and head h of D channels; f16 and bf16.
//
// Layout     q, k, v: rows of tokens, each a column range of a wider tensor, so only their first element and the distance
//            between rows are known; y [N, T, heads D]
// Launch     grid (ceil(T / QUERIES), heads, N), 128 threads; QUERIES is 128 up to D = 80, 64 above
// Shared     one tile each of Q [QUERIES, D], K and V [64, D], rows padded to an odd number of 16-byte chunks: 8 rows that
//            ldmatrix reads together then lie in different banks. 20 KiB at D = 40, 37 at 64, 45 at 80, 63 at 160
// Ideas      1. online softmax (Milakov & Gimelshein 2018; Dao 2023, arXiv 2307.08691): no score leaves registers. Each warp
//               owns 32 rows of queries (16 above D = 80) and all keys of a tile, so no maximum or sum crosses warps
//            2. the scores' fragments of one product are, packed, the next one's left operand
//            3. two fragments of queries for each fragment of K and V: a fragment then feeds 8192 operations, and shared
//               memory keeps up with the tensor cores
//            4. V of a tile flies while Q K^T is computed, K of the next one while P V is
//            5. head dims of 8 mod 16 (40) end in a product half as deep; the last tile stops at the last 16 keys that
//               exist (77 of them cost 80). Depths between the instances are padded with zeros
//            6. 1 / sqrt D and log2 e are one factor inside the exponential's multiply-add
// Precision  scores, sums and the exponential in f32; the weights are rounded to E for P V, but summed as they were
// Never run on a GPU.
#include "common/attention.cuh"
#include "common/mma.cuh"
#include "common/softmax.cuh"

constexpr int KEYS = 64;
constexpr int WARPS = 4;

// One block's tile of queries, part of the way through the keys; a warp's rows are those of one or two fragments.
template <class E, int D> struct Tile : SoftmaxRows<E, D, KEYS, (D <= 80 ? 2 : 1)> {
  static constexpr int QUERIES = WARPS * 16 * Tile::FRAGMENTS;
  static constexpr int BYTES = (QUERIES + 2 * KEYS) * Tile::PITCH * (int)sizeof(E);
};

// Rows `first..` of a head to shared memory, zeros for rows and channels that do not exist.
template <class E, int D, int ROWS>
__device__ __forceinline__ void load_rows(E* tile, const E* from, uint32_t row, int first, int rows, const Extents& e) {
  constexpr int CHUNKS = D / 8, PITCH = Tile<E, D>::PITCH;
  for (int i = threadIdx.x; i < ROWS * CHUNKS; i += WARPS * 32) {
    const int r = i / CHUNKS, c = i % CHUNKS * 8;
    const E* source = from + (size_t)(first + r) * row + c;
    const bool wanted = first + r < rows && c < e.depth;
    if (e.aligned) {
      async_copy_16(shared_address(tile + r * PITCH + c), wanted ? source : from, wanted);
    } else {
      for (int j = 0; j < 8; j++) tile[r * PITCH + c + j] = wanted && c + j < e.depth ? source[j] : E{};
    }
  }
  async_copy_commit();
}

// scores = Q K^T of this warp's queries and the tile's first `keys` keys.
template <class E, int D>
__device__ __forceinline__ void multiply_keys(Tile<E, D>& t, const E* q, const E* k, int keys) {
  using T = Tile<E, D>;
  const int lane = threadIdx.x % 32;
  // Where this lane's rows of the 8x8 matrices begin: see ldmatrix in common/mma.cuh.
  const E* q_row = q + (lane % 16) * T::PITCH + lane / 16 * 8;
  const E* k_row = k + (lane / 16 * 8 + lane % 8) * T::PITCH + lane / 8 % 2 * 8;
#pragma unroll
  for (int i = 0; i < T::FRAGMENTS; i++)
#pragma unroll
    for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
      for (int v = 0; v < 4; v++) t.scores[i][j][v] = 0.0f;
#pragma unroll
  for (int d = 0; d + 16 <= D; d += 16) {
    uint32_t a[T::FRAGMENTS][4];
#pragma unroll
    for (int i = 0; i < T::FRAGMENTS; i++) ldmatrix_x4(a[i], shared_address(q_row + i * 16 * T::PITCH + d));
#pragma unroll
    for (int j = 0; j < KEYS / 16; j++) {
      if (j * 16 >= keys) continue;
      uint32_t b[4];
      ldmatrix_x4(b, shared_address(k_row + j * 16 * T::PITCH + d));
#pragma unroll
      for (int i = 0; i < T::FRAGMENTS; i++) {
        mma_m16n8k16<E>(t.scores[i][2 * j], a[i], {b[0], b[1]});
        mma_m16n8k16<E>(t.scores[i][2 * j + 1], a[i], {b[2], b[3]});
      }
    }
  }
  if constexpr (D % 16 == 8) {
    uint32_t a[T::FRAGMENTS][2];
    const int tail = (lane % 16) * T::PITCH + D - 8;
#pragma unroll
    for (int i = 0; i < T::FRAGMENTS; i++) ldmatrix_x2(a[i], shared_address(q + i * 16 * T::PITCH + tail));
#pragma unroll
    for (int j = 0; j < KEYS / 16; j++) {
      if (j * 16 >= keys) continue;
      uint32_t b[2];
      ldmatrix_x2(b, shared_address(k + j * 16 * T::PITCH + tail));
#pragma unroll
      for (int i = 0; i < T::FRAGMENTS; i++) {
        mma_m16n8k8<E>(t.scores[i][2 * j], a[i], b[0]);
        mma_m16n8k8<E>(t.scores[i][2 * j + 1], a[i], b[1]);
      }
    }
  }
}

// sums += P V over the tile's first `keys` keys.
template <class E, int D> __device__ __forceinline__ void multiply_values(Tile<E, D>& t, const E* v, int keys) {
  using T = Tile<E, D>;
  const int lane = threadIdx.x % 32;
  const E* v_row = v + (lane % 16) * T::PITCH;
#pragma unroll
  for (int j = 0; j < KEYS / 16; j++) {
    if (j * 16 >= keys) continue;
    uint32_t a[T::FRAGMENTS][4];
#pragma unroll
    for (int i = 0; i < T::FRAGMENTS; i++)
#pragma unroll
      for (int r = 0; r < 4; r++) {
        const float* p = t.scores[i][2 * j + r / 2] + r % 2 * 2;
        a[i][r] = pack2<E>(p[0], p[1]);
      }
#pragma unroll
    for (int d = 0; d + 16 <= D; d += 16) {
      uint32_t b[4];
      ldmatrix_x4_trans(b, shared_address(v_row + j * 16 * T::PITCH + d + lane / 16 * 8));
#pragma unroll
      for (int i = 0; i < T::FRAGMENTS; i++) {
        mma_m16n8k16<E>(t.sums[i][d / 8], a[i], {b[0], b[1]});
        mma_m16n8k16<E>(t.sums[i][d / 8 + 1], a[i], {b[2], b[3]});
      }
    }
    if constexpr (D % 16 == 8) {
      uint32_t b[2];
      ldmatrix_x2_trans(b, shared_address(v_row + j * 16 * T::PITCH + D - 8));
#pragma unroll
      for (int i = 0; i < T::FRAGMENTS; i++) mma_m16n8k16<E>(t.sums[i][D / 8 - 1], a[i], b);
    }
  }
}

template <class E, int D>
__device__ __forceinline__ void attention(const E* q, const E* k, const E* v, E* y, const Extents& e) {
  using T = Tile<E, D>;
  DYN_SMEM(shared, 16);
  E* const q_tile = reinterpret_cast<E*>(shared);
  E* const k_tile = q_tile + T::QUERIES * T::PITCH;
  E* const v_tile = k_tile + KEYS * T::PITCH;

  const uint32_t head = blockIdx.y * e.depth, y_row = gridDim.y * e.depth;
  const int first = blockIdx.x * T::QUERIES, mine = threadIdx.x / 32 * 16 * T::FRAGMENTS;
  q += (size_t)blockIdx.z * e.queries * e.q_row + head;
  k += (size_t)blockIdx.z * e.keys * e.k_row + head;
  v += (size_t)blockIdx.z * e.keys * e.v_row + head;
  y += ((size_t)blockIdx.z * e.queries + first + mine) * y_row + head;

  load_rows<E, D, T::QUERIES>(q_tile, q, e.q_row, first, e.queries, e);
  load_rows<E, D, KEYS>(k_tile, k, e.k_row, 0, e.keys, e);
  T t = {};
#pragma unroll
  for (int i = 0; i < T::FRAGMENTS; i++) t.largest[i][0] = t.largest[i][1] = -INFINITY;

  for (int key = 0; key < e.keys; key += KEYS) {
    const int keys = min(KEYS, e.keys - key);
    async_copy_wait<0>();
    __syncthreads();  // Q and K are here; nobody reads V any more
    load_rows<E, D, KEYS>(v_tile, v, e.v_row, key, e.keys, e);
    multiply_keys(t, q_tile + mine * T::PITCH, k_tile, keys);
    if (keys < KEYS) mask(t, keys);
    exponentiate(t, e.scale);
    async_copy_wait<0>();
    __syncthreads();  // V is here; nobody reads K any more
    if (key + KEYS < e.keys) load_rows<E, D, KEYS>(k_tile, k, e.k_row, key + KEYS, e.keys, e);
    multiply_values(t, v_tile, keys);
  }
  store(t, q_tile + mine * T::PITCH, y, y_row, e.queries - first - mine, e);
}

#define ATTENTION(E, D)                                                                                             \
  KERNEL void __launch_bounds__(WARPS * 32)                                                                         \
      attention_d##D##_##E(const E* q, const E* k, const E* v, E* y, const Extents extents) {                       \
    attention<E, D>(q, k, v, y, extents);                                                                           \
  }                                                                                                                 \
  EXPORT_KERNEL(attention_d##D##_##E)

#define FOR_EACH_DEPTH(E) \
  ATTENTION(E, 32) ATTENTION(E, 40) ATTENTION(E, 64) ATTENTION(E, 80) ATTENTION(E, 128) ATTENTION(E, 160)
FOR_EACH_DEPTH(f16)
FOR_EACH_DEPTH(bf16)
