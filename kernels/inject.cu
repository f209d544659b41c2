// y = sum_k coefficient_k x_k + strength z, the noise z made in registers.
//
// Layout     latents as they lie in memory, f32, in parts of n values; every pointer aligned to 16 bytes
// Launch     one thread for 4 values of a part, 256 threads a block, a part for each block in y; no shared memory
// Noise      inject_normals: values of Philox4x32-10, by address or as torch draws them on a GPU of so many threads.
//            inject_path: what a Brownian path moves over an interval (src/rng/brownian_tree.rs): the walk down the tree
//            is the same for all values, and comes with the parameters; each value draws its own noise on the way.
// Registers  inject_normals 32, inject_path 36 on sm_80
// Ideas      1. noise never touches memory: 4 (terms + 1) n bytes, as without it
//            2. a whole descent, some 20 bridges, in one kernel, with three values a lane alive; a launch for each node
//               and pass of it is what frameworks need
//            3. by address, one counter makes the four values of a thread. Of torch's counters each value uses a quarter:
//               its four values lie a grid apart, and 16-byte stores are worth more than the products saved.
#include "common/normal.cuh"
#include "common/terms.cuh"

constexpr int MOST_PARTS = 16, MOST_STEPS = 86;

struct Normals {
  float strength;
  NormalDraw draw[MOST_PARTS];
};

enum Action : uint32_t { LEFT = 0, RIGHT = 1, ADD_RIGHT = 2, ADD_LEFT = 3, SPLIT = 4, OTHER = 5 };

struct Step {
  uint32_t seed, action;
  float left, per_time, deviation;
};

struct Path {
  float strength;
  NormalDraw normals;
  uint32_t seed;
  float deviation, divisor;
  uint32_t count;
  Step steps[MOST_STEPS];
};

__device__ __forceinline__ uint32_t first_of_thread() { return (blockIdx.x * blockDim.x + threadIdx.x) * 4; }

// Adds the noise to the terms and writes the thread's values of part `part`.
__device__ __forceinline__ void finish(const Terms& terms, float* y, uint32_t part, uint32_t n, float strength,
                                       const float (&z)[4]) {
  const uint32_t first = first_of_thread(), count = min(4u, n - first);
  Vector<float> sum = sum_of(terms, part * n + first, count);
#pragma unroll
  for (int lane = 0; lane < 4; lane++) sum.lane[lane] += strength * z[lane];
  store_values(y, part * n + first, count, sum);
}

KERNEL void __launch_bounds__(256) inject_normals_f32(const Terms terms, const Normals noise, float* y, uint32_t first_part, uint32_t n) {
  if (first_of_thread() >= n) return;
  float z[4];
  four_normals(noise.draw[blockIdx.y], first_of_thread(), z);
  finish(terms, y, first_part + blockIdx.y, n, noise.strength, z);
}
EXPORT_KERNEL(inject_normals_f32)

KERNEL void __launch_bounds__(256) inject_path_f32(const Terms terms, const Path path, float* y, uint32_t part, uint32_t n) {
  const uint32_t first = first_of_thread();
  if (first >= n) return;
  NormalDraw normals = path.normals;
  normals.key[0] = path.seed;
  float w[4], other[4], sum[4] = {}, z[4];
  four_normals(normals, first, w);
#pragma unroll
  for (int k = 0; k < 4; k++) w[k] = __fmul_rn(w[k], path.deviation);
  for (uint32_t s = 0; s < path.count; s++) {
    const Step& step = path.steps[s];
    if (step.action == OTHER) {
#pragma unroll
      for (int k = 0; k < 4; k++) {
        sum[k] = __fadd_rn(sum[k], w[k]);
        w[k] = other[k];
      }
      continue;
    }
    normals.key[0] = step.seed;
    four_normals(normals, first, z);
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const Exact left = Exact(step.left) * Exact(w[k]) * Exact(step.per_time) + Exact(step.deviation) * Exact(z[k]);
      const Exact right = Exact(w[k]) - left;
      if (step.action == ADD_LEFT) sum[k] = __fadd_rn(sum[k], left.value);
      if (step.action == ADD_RIGHT) sum[k] = __fadd_rn(sum[k], right.value);
      if (step.action == SPLIT) other[k] = right.value;
      w[k] = step.action == RIGHT || step.action == ADD_LEFT ? right.value : left.value;
    }
  }
#pragma unroll
  for (int k = 0; k < 4; k++) z[k] = __fdiv_rn(__fadd_rn(sum[k], w[k]), path.divisor);
  finish(terms, y, part, n, path.strength, z);
}
EXPORT_KERNEL(inject_path_f32)
