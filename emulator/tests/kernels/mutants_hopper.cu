// The same for what is Hopper's own: C [64, 64] = A [64, K] B [64, K] transposed, K a multiple of 64. A thread asks for
// tiles, over two stages, and a warpgroup multiplies them.
#include "common/tensor_copy.cuh"
#include "common/wgmma.cuh"

enum Mutation {
  none,
  no_init_fence,
  no_barrier_after_init,
  no_full_wait,
  no_empty_wait,
  wrong_parity,
  too_few_bytes,
  too_many_bytes,
  too_many_arrivals,
  early_release,
  no_product_fence,
  no_product_wait,
  touched_sums,
  no_wait_before_exit,
  no_commit,
  wrong_stride,
  wrong_start,
  wrong_advance,
  unaligned_stage,
  wrong_apart,
  unfenced_values,
  bytes_of_the_reach,
};

template <Mutation M> __device__ __forceinline__ uint64_t operand(uint32_t address) {
  const uint64_t right = wgmma_operand(M == wrong_start ? address + 128 : address);
  return M == wrong_stride ? right - (32ull << 32) : right;
}

template <Mutation M>
__device__ __forceinline__ void tiles(const TensorMap& map_a, const TensorMap& map_b, float* c, uint32_t depth) {
  constexpr int TILE = 64 * 128, STAGES = 2, MULTIPLIERS = 128;
  DYN_SMEM(stages, 1024);
  SHARED(uint64_t, full, [STAGES]);
  SHARED(uint64_t, empty, [STAGES]);
  const int steps = depth / 64, thread = threadIdx.x;
  const auto stage = [&](int step) { return shared_address(stages) + step % STAGES * 2 * TILE + (M == unaligned_stage ? 64 : 0); };
  const auto barrier = [&](uint64_t* of, int step) { return shared_address(of + step % STAGES); };
  if (thread == 0) {
    for (int s = 0; s < STAGES; s++) {
      mbarrier_init(barrier(full, s), 1);
      mbarrier_init(barrier(empty, s), M == too_many_arrivals ? 2 : 4);
    }
    if (M != no_init_fence) mbarrier_fence_init();
  }
  if (M != no_barrier_after_init) __syncthreads();

  if (thread >= MULTIPLIERS) {
    for (int step = 0; step < steps && thread == MULTIPLIERS; step++) {
      if (M != no_empty_wait) mbarrier_wait(barrier(empty, step), step / STAGES % 2 ^ 1);
      const int bytes = M == too_few_bytes ? TILE : M == too_many_bytes ? 3 * TILE : 2 * TILE;
      mbarrier_arrive_expecting(barrier(full, step), bytes);
      tensor_copy(stage(step), map_a, {step * 64, 0, 0, 0}, barrier(full, step));
      tensor_copy(stage(step) + TILE, map_b, {step * 64, 0, 0, 0}, barrier(full, step));
    }
    return;
  }
  float sum[8][4];
  for (int step = 0; step < steps; step++) {
    if (M != no_full_wait) mbarrier_wait(barrier(full, step), M == wrong_parity ? step % 2 : step / STAGES % 2);
    if (M != no_product_fence) wgmma_fence();
    for (int k = 0; k < 64; k += 16) {
      const uint32_t at = stage(step) + (M == wrong_advance ? k : 2 * k);
      Wgmma<f16, 64>::add(sum, operand<M>(at), operand<M>(at + TILE), step + k > 0);
    }
    if (M != no_commit) wgmma_commit();
    if (M == touched_sums) sum[0][0] = 1.0f;
    const bool unwaited = M == no_product_wait || M == no_wait_before_exit;
    if (M != early_release && !(unwaited && step + 1 == steps)) wgmma_wait<0>();
    if (thread % 32 == 0) mbarrier_arrive(barrier(empty, step));
    if (M == early_release) wgmma_wait<0>();
  }
  const int row = thread / 32 * 16 + thread % 32 / 4, column = thread % 4 * 2;
  for (int j = 0; j < 8; j++) {
    for (int i = 0; i < 4; i++) c[(row + i / 2 * 8) * 64 + j * 8 + column + i % 2] = sum[j][i];
  }
  if (M == no_product_wait) wgmma_wait<0>();
}

#define TILES(mutation)                                                                                           \
  KERNEL void tiles_##mutation(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, float* c, \
                               uint32_t depth) {                                                                  \
    tiles<mutation>(a, b, c, depth);                                                                              \
  }                                                                                                               \
  EXPORT_KERNEL(tiles_##mutation)
TILES(none)
TILES(no_init_fence)
TILES(no_barrier_after_init)
TILES(no_full_wait)
TILES(no_empty_wait)
TILES(wrong_parity)
TILES(too_few_bytes)
TILES(too_many_bytes)
TILES(too_many_arrivals)
TILES(early_release)
TILES(no_product_fence)
TILES(no_product_wait)
TILES(touched_sums)
TILES(no_wait_before_exit)
TILES(no_commit)
TILES(wrong_stride)
TILES(wrong_start)
TILES(wrong_advance)
TILES(unaligned_stage)

// C [64, 64] = A B transposed for operands [64, 16] of ones that threads store themselves: what they write is fenced, or not.
template <bool FENCED> __device__ __forceinline__ void stored(float* c) {
  constexpr int TILE = 64 * 128;
  DYN_SMEM(tiles, 1024);
  const int thread = threadIdx.x;
  for (int i = thread; i < 2 * TILE / 2; i += 128) reinterpret_cast<uint16_t*>(tiles)[i] = 0x3c00;
  if (FENCED) simt::proxy_fence();
  __syncthreads();
  float sum[8][4];
  wgmma_fence();
  Wgmma<f16, 64>::add(sum, wgmma_operand(shared_address(tiles)), wgmma_operand(shared_address(tiles + TILE)), false);
  wgmma_commit();
  wgmma_wait<0>();
  for (int i = 0; i < 32; i++) c[thread * 32 + i] = sum[i / 4][i % 4];
}

KERNEL void stored_none(float* c) { stored<true>(c); }
EXPORT_KERNEL(stored_none)
KERNEL void stored_no_proxy_fence(float* c) { stored<false>(c); }
EXPORT_KERNEL(stored_no_proxy_fence)

// C [64, 80] = A B: A [64, 64] in registers, (row + k) % 7, and B [64, 80] as two tiles of 64 columns, read transposed.
template <Mutation M> __device__ __forceinline__ void values(const TensorMap& map, float* c) {
  constexpr int TILE = 64 * 128;
  DYN_SMEM(tiles, 1024);
  SHARED(uint64_t, full, [1]);
  const int thread = threadIdx.x, row = thread / 32 * 16 + thread % 32 / 4, column = thread % 4 * 2;
  const uint32_t tile = shared_address(tiles), barrier = shared_address(full);
  if (thread == 0) {
    mbarrier_init(barrier, 1);
    mbarrier_fence_init();
    mbarrier_arrive_expecting(barrier, 2 * TILE);
    for (int half = 0; half < 2; half++) tensor_copy(tile + half * TILE, map, {half * 64, 0, 0, 0}, barrier);
  }
  __syncthreads();
  uint32_t a[4][4];
  for (int j = 0; j < 4; j++) {
    for (int r = 0; r < 4; r++) {
      const int at = row + r % 2 * 8 + j * 16 + column + r / 2 * 8;
      a[j][r] = pack2<f16>(at % 7, (at + 1) % 7);
    }
  }
  mbarrier_wait(barrier, 0);
  float sum[10][4] = {};
  if (M != unfenced_values) wgmma_fence();
  for (int j = 0; j < 4; j++) {
    const uint32_t at = tile + j * (M == wrong_advance ? 32 : 2048);
    WgmmaValues<f16, 80>::add(sum, a[j], wgmma_operand_transposed(at, M == wrong_apart ? TILE / 2 : TILE));
  }
  wgmma_commit();
  wgmma_wait<0>();
  for (int j = 0; j < 10; j++) {
    for (int i = 0; i < 4; i++) c[(row + i / 2 * 8) * 80 + j * 8 + column + i % 2] = sum[j][i];
  }
}

#define VALUES(mutation)                                                                                            \
  KERNEL void values_##mutation(const __grid_constant__ TensorMap b, float* c) { values<mutation>(b, c); }           \
  EXPORT_KERNEL(values_##mutation)
VALUES(none)
VALUES(unfenced_values)
VALUES(wrong_advance)
VALUES(wrong_apart)

// A box that reaches over [64, 7, 10, 2] elements and takes every second and every third of them, as it lands: y [2, 4, 4, 64].
template <Mutation M> __device__ __forceinline__ void steps(const TensorMap& map, float* y) {
  constexpr int VALUES = 64 * 4 * 4 * 2, REACH = 64 * 7 * 10 * 2;
  DYN_SMEM(box, 1024);
  SHARED(uint64_t, full, [1]);
  const uint32_t barrier = shared_address(full);
  if (threadIdx.x == 0) {
    mbarrier_init(barrier, 1);
    mbarrier_fence_init();
    mbarrier_arrive_expecting(barrier, 2 * (M == bytes_of_the_reach ? REACH : VALUES));
    tensor_copy(shared_address(box), map, {0, -1, -3, 0}, barrier);
  }
  __syncthreads();
  mbarrier_wait(barrier, 0);
  for (int i = threadIdx.x; i < VALUES; i += 32) y[i] = to_f32(reinterpret_cast<const f16*>(box)[i]);
}

KERNEL void steps_none(const __grid_constant__ TensorMap map, float* y) { steps<none>(map, y); }
EXPORT_KERNEL(steps_none)
KERNEL void steps_bytes_of_the_reach(const __grid_constant__ TensorMap map, float* y) { steps<bytes_of_the_reach>(map, y); }
EXPORT_KERNEL(steps_bytes_of_the_reach)
