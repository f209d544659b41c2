// y[t, h] = sum_s softmax_s(q[t, h] . k[s, h] / sqrt D) v[s, h], for every item and head h of D channels, on Hopper (sm_90a);
// f16 and bf16, D a multiple of 8.
//
// Layout     q, k, v by maps [D, heads, tokens, N], in boxes of 64 channels of one head's 128 queries or 64 keys: past the D
//            channels, and past the last token, there are zeros; y [N, T, heads D]
// Launch     grid (ceil(T / 128), heads, N), 288 threads: two warpgroups that multiply, 64 queries each, and a warp of which
//            one thread asks for tiles
// Shared     Q [128, D] and a ring of four tiles [64, D], K and V in turn, D in whole 64s: 48 KiB at D = 40 and 64, 96 at 80,
//            144 at 160
// Registers  docs/kernels.md
// Ideas      1. tiles come by TMA and are read by wgmma where they lie, so no thread computes an address for them
//            2. K and V are one sequence of tiles: while one is used, three are on their way. Warps and the one that asks meet
//               at mbarriers alone
//            3. the scores of a warpgroup, packed, are the left operand of P V in registers; V is read transposed
//            4. a product Q K^T is as deep as D in whole 16s, P V as wide as D: 40, 64, 80 and 160 cost no more
//            5. while one warpgroup is in its softmax the other multiplies, and up to D = 64 so do those of a second block
//            6. online softmax: that of attention.cu
// Not done   the softmax of a tile under the next tile's Q K^T within a warpgroup
// Precision  that of attention.cu
// Never run on a GPU.
#include "common/ring.cuh"
#include "common/softmax.cuh"
#include "common/wgmma.cuh"

constexpr int QUERIES = 128, KEYS = 64, MULTIPLIERS = 256;

template <int D> constexpr int CHUNKS = (D + 63) / 64;  // of 64 channels
template <int D> constexpr int RESIDENT = D <= 64 ? 2 : 1;
template <int D> using Tiles = Ring<4, KEYS * 128 * CHUNKS<D>, MULTIPLIERS / 32>;

// The thread that asks: all of a block's tiles.
template <int D>
__device__ __forceinline__ void ask(const Tiles<D>& tiles, uint32_t q_tile, uint32_t q_is_full, const TensorMap& q,
                                    const TensorMap& k, const TensorMap& v, int steps) {
  const int first = blockIdx.x * QUERIES, head = blockIdx.y, item = blockIdx.z;
  mbarrier_arrive_expecting(q_is_full, QUERIES * 128 * CHUNKS<D>);
  for (int c = 0; c < CHUNKS<D>; c++) tensor_copy(q_tile + c * QUERIES * 128, q, {c * 64, head, first, item}, q_is_full);
  tiles.ask(steps, [&](int step, uint32_t stage, uint32_t full) {
    const int key = step / 2 * KEYS;
    for (int c = 0; c < CHUNKS<D>; c++) tensor_copy(stage + c * KEYS * 128, step % 2 ? v : k, {c * 64, head, key, item}, full);
  });
}

// scores = Q K^T
template <class E, int D>
__device__ __forceinline__ void multiply_keys(float (&scores)[KEYS / 8][4], uint32_t q, uint32_t k) {
  wgmma_fence(scores);
#pragma unroll
  for (int d = 0; d < D; d += 16) {
    const uint32_t a = q + d / 64 * QUERIES * 128 + d % 64 * 2, b = k + d / 64 * KEYS * 128 + d % 64 * 2;
    Wgmma<E, KEYS>::add(scores, wgmma_operand(a), wgmma_operand(b), d > 0);
  }
  wgmma_commit();
  wgmma_wait<0>(scores);
}

// sums += P V
template <class E, int D>
__device__ __forceinline__ void multiply_values(float (&sums)[D / 8][4], const float (&p)[KEYS / 8][4], uint32_t v) {
  uint32_t a[KEYS / 16][4];
#pragma unroll
  for (int j = 0; j < KEYS / 16; j++)
#pragma unroll
    for (int r = 0; r < 4; r++) a[j][r] = pack2<E>(p[2 * j + r / 2][r % 2 * 2], p[2 * j + r / 2][r % 2 * 2 + 1]);
  wgmma_fence(sums, a);
#pragma unroll
  for (int j = 0; j < KEYS / 16; j++)
    WgmmaValues<E, D>::add(sums, a[j], wgmma_operand_transposed(v + j * 16 * 128, KEYS * 128));
  wgmma_commit();
  wgmma_wait<0>(sums, a);
}

template <class E, int D>
__device__ __forceinline__ void attention(const TensorMap& q, const TensorMap& k, const TensorMap& v, E* y, const Extents& e) {
  using Rows = SoftmaxRows<E, D, KEYS, 1>;
  DYN_SMEM(shared, 1024);
  SHARED(uint64_t, barriers, [2 * Tiles<D>::STAGES + 1]);
  const uint32_t q_tile = shared_address(shared), q_is_full = shared_address(barriers + 2 * Tiles<D>::STAGES);
  const Tiles<D> tiles = {q_tile + QUERIES * 128 * CHUNKS<D>, shared_address(barriers),
                          shared_address(barriers + Tiles<D>::STAGES)};
  if (threadIdx.x == 0) mbarrier_init(q_is_full, 1);
  tiles.open();
  if (threadIdx.x >= MULTIPLIERS) {
    if (threadIdx.x == MULTIPLIERS) ask<D>(tiles, q_tile, q_is_full, q, k, v, (e.keys + KEYS - 1) / KEYS * 2);
    return;
  }

  const int warp = threadIdx.x / 32;
  const uint32_t mine = q_tile + warp / 4 * 64 * 128;
  Rows rows = {};
  rows.largest[0][0] = rows.largest[0][1] = -INFINITY;
  mbarrier_wait(q_is_full, 0);
  for (int key = 0, step = 0; key < e.keys; key += KEYS, step += 2) {
    tiles.await(step);
    multiply_keys<E, D>(rows.scores[0], mine, tiles.stage(step));
    tiles.release(step);
    if (e.keys - key < KEYS) mask(rows, e.keys - key);
    exponentiate(rows, e.scale);
    tiles.await(step + 1);
    multiply_values<E, D>(rows.sums[0], rows.scores[0], tiles.stage(step + 1));
    tiles.release(step + 1);
  }
  // Shared memory is free once both warpgroups are done with it.
  named_barrier<1, MULTIPLIERS>();
  const int first = blockIdx.x * QUERIES + warp * 16;
  const uint32_t row = gridDim.y * e.depth;
  store(rows, reinterpret_cast<E*>(shared) + warp * 16 * Rows::PITCH,
        y + ((size_t)blockIdx.z * e.queries + first) * row + blockIdx.y * e.depth, row, e.queries - first, e);
}

#define ATTENTION(E, D)                                                                                              \
  KERNEL void __launch_bounds__(MULTIPLIERS + 32, RESIDENT<D>)                                                       \
      attention_hopper_d##D##_##E(const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k,          \
                                  const __grid_constant__ TensorMap v, E* y, const __grid_constant__ Extents extents) { \
    attention<E, D>(q, k, v, y, extents);                                                                            \
  }                                                                                                                  \
  EXPORT_KERNEL(attention_hopper_d##D##_##E)

#define FOR_EACH_DEPTH(E) ATTENTION(E, 40) ATTENTION(E, 64) ATTENTION(E, 80) ATTENTION(E, 160)
FOR_EACH_DEPTH(f16)
FOR_EACH_DEPTH(bf16)
