// Small kernels, each right as it stands and wrong in several ways: what the emulator must let through and what it must
// catch. A mutation is a template argument, so every variant is the same code but for that one fault.
#include "common/mma.cuh"
#include "common/reduce.cuh"

enum Mutation {
  none,
  no_barrier,
  short_array,
  off_by_one,
  unwritten_output,
  no_wait,
  no_barrier_after_wait,
  no_barrier_before_reuse,
  wrong_fragment,
  divergent_barrier,
  exited_lanes,
  no_warp_barrier,
  other_block,
  misaligned,
  uninitialised_register,
  one_past_the_end,
  deadlock,
  local_overrun,
  wide_shift,
};

// y = x with each block's 128 values in reverse order, by way of shared memory.
template <Mutation M> __device__ __forceinline__ void reverse(const float* x, float* y) {
  constexpr int N = 128;
  SHARED(float, tile, [M == short_array ? N - 1 : N]);
  const int i = threadIdx.x, block = blockIdx.x * N;
  tile[M == off_by_one ? i + 1 : i] = x[block + i];
  if (M == divergent_barrier && i % 2 == 0) {
    __syncthreads();
  } else if (M != no_barrier && !(M == deadlock && i == 5)) {
    __syncthreads();
  }
  if (M == deadlock) __shfl_sync(ALL_LANES, 0, 0);
  if (M == unwritten_output && i == 77) return;
  const int at = M == other_block ? i : block + i;
  y[M == one_past_the_end ? at + 1 : at] = tile[N - 1 - i];
}

// y[block] = the sum of 64 values, by a warp's shuffles and shared memory between two warps.
template <Mutation M> __device__ __forceinline__ void sum(const float* x, float* y) {
  SHARED(float, partial, [2]);
  const int i = threadIdx.x, lane = i % 32, warp = i / 32;
  float value;
  if (M != uninitialised_register) value = 0.0f;
  value += x[blockIdx.x * 64 + i];
  if (M == exited_lanes && lane == 31) return;
  value = warp_sum(value);
  if (lane == 0) partial[warp] = value;
  __syncthreads();
  if (i == 0) y[blockIdx.x] = partial[0] + partial[1];
}

// y[i] = x[i xor 1], by shared memory within one warp.
template <Mutation M> __device__ __forceinline__ void swap(const float* x, float* y) {
  SHARED(float, tile, [32]);
  const int i = threadIdx.x;
  tile[i] = x[i];
  // A shuffle brings a warp together, but does not order its memory.
  if (M == no_warp_barrier) {
    __shfl_sync(ALL_LANES, 0, 0);
  } else {
    __syncwarp();
  }
  y[i] = tile[i ^ 1];
}

// y = x, 16 bytes a thread.
template <Mutation M> __device__ __forceinline__ void copy(const float* x, float* y) {
  const int i = threadIdx.x * 4 + (M == misaligned ? 1 : 0);
  store_vector(y + threadIdx.x * 4, load_vector(x + i));
}

// y[i] = x[i] times 2^(i mod 8), by way of an array of the thread's own.
template <Mutation M> __device__ __forceinline__ void scale(const float* x, float* y) {
  const int i = threadIdx.x, j = i % 8;
  float powers[8];
  float* end = powers + (M == local_overrun ? 9 : 8);
  for (float* power = powers; power < end; power++) {
    *power = (float)(1 << (power - powers + (M == wide_shift ? 28 : 0)));
  }
  y[i] = x[i] * powers[j];
}

// C [16, 8] = A [16, K] B [8, K] transposed, K a multiple of 16: one warp multiplies, two load, over two stages.
template <Mutation M> __device__ __forceinline__ void product(const f16* a, const f16* b, float* c, uint32_t depth) {
  constexpr int ROWS = 24, WIDTH = 16;
  DYN_SMEM(memory, 16);
  f16* stages = (f16*)memory;
  const int i = threadIdx.x, lane = i % 32, warp = i / 32, steps = depth / WIDTH;
  const auto load = [&](int step) {
    if (i < ROWS * 2) {
      const int row = i / 2, column = i % 2 * 8;
      const f16* from = (row < 16 ? a + row * depth : b + (row - 16) * depth) + step * WIDTH + column;
      async_copy_16(shared_address(stages + (step % 2 * ROWS + row) * WIDTH + column), from);
    }
    async_copy_commit();
  };
  float d[4] = {};
  load(0);
  for (int step = 0; step < steps; step++) {
    if (step + 1 < steps) load(step + 1);
    else async_copy_commit();
    if (M != no_wait) async_copy_wait<1>();
    if (M != no_barrier_after_wait) __syncthreads();
    if (warp == 0) {
      const f16* stage = stages + step % 2 * ROWS * WIDTH;
      uint32_t of_a[4], of_b[2];
      ldmatrix_x4(of_a, shared_address(stage + lane % 16 * WIDTH + lane / 16 * 8));
      ldmatrix_x2(of_b, shared_address(stage + (16 + lane % 8) * WIDTH + lane / 8 % 2 * 8));
      mma_m16n8k16<f16>(d, of_a, of_b);
    }
    if (M != no_barrier_before_reuse) __syncthreads();
  }
  if (warp != 0) return;
  for (int j = 0; j < 4; j++) {
    const int row = lane / 4 + (M == wrong_fragment ? j % 2 : j / 2) * 8;
    const int column = lane % 4 * 2 + (M == wrong_fragment ? j / 2 : j % 2);
    c[row * 8 + column] = d[j];
  }
}

#define VARIANT(kernel, mutation)                                       \
  KERNEL void kernel##_##mutation(const float* x, float* y) { kernel<mutation>(x, y); } \
  EXPORT_KERNEL(kernel##_##mutation)
VARIANT(reverse, none)
VARIANT(reverse, no_barrier)
VARIANT(reverse, short_array)
VARIANT(reverse, off_by_one)
VARIANT(reverse, unwritten_output)
VARIANT(reverse, divergent_barrier)
VARIANT(reverse, other_block)
VARIANT(reverse, one_past_the_end)
VARIANT(reverse, deadlock)
VARIANT(sum, none)
VARIANT(sum, exited_lanes)
VARIANT(sum, uninitialised_register)
VARIANT(swap, none)
VARIANT(swap, no_warp_barrier)
VARIANT(copy, none)
VARIANT(copy, misaligned)
VARIANT(scale, none)
VARIANT(scale, local_overrun)
VARIANT(scale, wide_shift)

#define PRODUCT(mutation)                                                                          \
  KERNEL void product_##mutation(const f16* a, const f16* b, float* c, uint32_t depth) {           \
    product<mutation>(a, b, c, depth);                                                             \
  }                                                                                                \
  EXPORT_KERNEL(product_##mutation)
PRODUCT(none)
PRODUCT(no_wait)
PRODUCT(no_barrier_after_wait)
PRODUCT(no_barrier_before_reuse)
PRODUCT(wrong_fragment)
