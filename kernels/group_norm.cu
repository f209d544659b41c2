// y[n, p, c] = activation((x[n, p, c] - mean) / sqrt(variance + eps) gamma[c] + beta[c]), the moments those of the C / groups
// channels of c's group over all P pixels p of item n.
//
// Layout     x, y [N, P, C]; gamma, beta [C]
//
// group_norm               a group that fits on chip: one block each, 4 bytes of memory traffic a value in f16
//   Launch   grid (groups, N), 256 threads
//   Shared   the group's values, [P, C / groups] of E
//   Ideas    1. asynchronous copies to shared memory: all are in flight at once, and take no registers
//            2. two passes over the copy, mean first, so nothing cancels
//
// group_norm_moments, group_norm_apply      any group: moments of chunks of pixels, then all at once; 6 bytes a value
//   Launch   grid (chunks, N), 256 threads; both with the same chunks of PIXELS pixels
//   Shared   group_norm_apply: three floats a group
//   Ideas    1. a warp takes a group of its chunk, mean first, then the distances, when the chunk is in L1
//            2. every block of the second kernel merges the chunks' moments itself, in the same order: no third launch, no
//               atomic, the same bits in every run
//            3. in the second kernel a thread keeps its channels, so that their scales and offsets stay in registers; 16-byte
//               accesses where C allows them
// Never run on a GPU.
#include "common/async_copy.cuh"
#include "common/math.cuh"
#include "common/normalise.cuh"

constexpr uint32_t THREADS = 256;
constexpr uint32_t WARPS = THREADS / 32;
constexpr uint32_t PIXELS = 64;

// Sizes of one group normalisation.
struct Groups {
  uint32_t pixels;
  uint32_t channels;
  uint32_t groups;
  uint32_t activation;
  float eps;
};

// Pieces of 16 or 4 bytes, or single values: as the runs of a group's channels allow.
template <class E> __device__ __forceinline__ void load_group(E* tile, const E* x, uint32_t run, const Groups& s) {
  const uint32_t bytes = run * sizeof(E), piece = bytes % 16 == 0 ? 16 : bytes % 4 == 0 ? 4 : sizeof(E);
  const uint32_t lanes = piece / sizeof(E);
  for (Walk at(threadIdx.x, THREADS, run / lanes); at.row < s.pixels; at.next()) {
    E* to = tile + at.row * run + at.column * lanes;
    const E* from = x + (size_t)at.row * s.channels + at.column * lanes;
    if (piece == 16) async_copy_16(shared_address(to), from);
    else if (piece == 4) async_copy_4(shared_address(to), from);
    else *to = *from;
  }
  async_copy_commit();
  async_copy_wait<0>();
  __syncthreads();
}

template <class E>
__device__ __forceinline__ void group_norm(const E* x, const E* gamma, const E* beta, E* y, const Groups& s) {
  DYN_SMEM(shared, 16);
  SHARED(float, partial, [WARPS]);
  E* const tile = reinterpret_cast<E*>(shared);
  const uint32_t run = s.channels / s.groups, first = blockIdx.x * run, count = s.pixels * run;
  x += (size_t)blockIdx.y * s.pixels * s.channels + first;
  y += (size_t)blockIdx.y * s.pixels * s.channels + first;
  load_group(tile, x, run, s);

  float sum = 0.0f;
  for (uint32_t i = threadIdx.x; i < count; i += THREADS) sum += to_f32(tile[i]);
  const float mean = block_sum(sum, partial) / count;
  float m2 = 0.0f;
  for (uint32_t i = threadIdx.x; i < count; i += THREADS) {
    const float distance = to_f32(tile[i]) - mean;
    m2 = fmaf(distance, distance, m2);
  }
  const float scale = reciprocal_deviation(block_sum(m2, partial), count, s.eps);
  for (Walk at(threadIdx.x, THREADS, run); at.row < s.pixels; at.next()) {
    const uint32_t c = at.column;
    const Affine affine = {mean, scale * to_f32(gamma[first + c]), to_f32(beta[first + c])};
    const float normalised = apply(affine, to_f32(tile[at.row * run + c]));
    y[(size_t)at.row * s.channels + c] = from_f32<E>(activate(normalised, s.activation));
  }
}

// The moments of `pixels` pixels' runs, in every lane of a warp, LANES values at a time.
template <int LANES, class E>
__device__ __forceinline__ Moments moments_of(const E* x, uint32_t pixels, uint32_t run, uint32_t channels) {
  const uint32_t lane = threadIdx.x % 32;
  float piece[LANES], sum = 0.0f, m2 = 0.0f;
  for (Walk at(lane, 32, run / LANES); at.row < pixels; at.next()) {
    load_piece(piece, x + at.row * channels + at.column * LANES);
#pragma unroll
    for (int j = 0; j < LANES; j++) sum += piece[j];
  }
  const float mean = warp_sum(sum) / (float)(pixels * run);
  for (Walk at(lane, 32, run / LANES); at.row < pixels; at.next()) {
    load_piece(piece, x + at.row * channels + at.column * LANES);
#pragma unroll
    for (int j = 0; j < LANES; j++) m2 = fmaf(piece[j] - mean, piece[j] - mean, m2);
  }
  return {mean, warp_sum(m2)};
}

// moments [N, groups, chunks]
template <class E> __device__ __forceinline__ void group_norm_moments(const E* x, Moments* moments, const Groups& s) {
  constexpr int WORD = 4 / sizeof(E);
  const uint32_t run = s.channels / s.groups, first = blockIdx.x * PIXELS, pixels = min(PIXELS, s.pixels - first);
  x += ((size_t)blockIdx.y * s.pixels + first) * s.channels;
  for (uint32_t group = threadIdx.x / 32; group < s.groups; group += WARPS) {
    const E* from = x + group * run;
    const Moments m = run % WORD == 0 ? moments_of<WORD>(from, pixels, run, s.channels)
                                      : moments_of<1>(from, pixels, run, s.channels);
    if (threadIdx.x % 32 == 0) moments[(blockIdx.y * s.groups + group) * gridDim.x + blockIdx.x] = m;
  }
}

// A group's moments over all chunks, in every lane of a warp.
__device__ __forceinline__ Moments merge(const Moments* chunks, uint32_t run, const Groups& s) {
  const uint32_t lane = threadIdx.x % 32;
  const auto count = [&](uint32_t chunk) { return (float)(min(PIXELS, s.pixels - chunk * PIXELS) * run); };
  float sum = 0.0f, m2 = 0.0f;
  for (uint32_t chunk = lane; chunk < gridDim.x; chunk += 32) sum += chunks[chunk].mean * count(chunk);
  const float mean = warp_sum(sum) / (float)(s.pixels * run);
  for (uint32_t chunk = lane; chunk < gridDim.x; chunk += 32) {
    const float distance = chunks[chunk].mean - mean;
    m2 += fmaf(distance * distance, count(chunk), chunks[chunk].m2);
  }
  return {mean, warp_sum(m2)};
}

// y = activation((x - mean) scale + offset) for whole pixels. A thread keeps its LANES channels, and what they go through.
template <int LANES, class E>
__device__ __forceinline__ void apply_to(const E* x, const E* gamma, const E* beta, const Affine* groups, E* y,
                                         uint32_t pixels, const Groups& s) {
  const uint32_t pieces = s.channels / LANES, wide = min(pieces, THREADS), tall = THREADS / wide;
  const uint32_t run = s.channels / s.groups, first = threadIdx.x / wide;
  if (first >= tall) return;
  for (uint32_t c = threadIdx.x % wide * LANES; c < s.channels; c += wide * LANES) {
    Affine affine[LANES];
#pragma unroll
    for (int j = 0; j < LANES; j++) {
      const Affine group = groups[(c + j) / run];
      affine[j] = {group.mean, group.scale * to_f32(gamma[c + j]), to_f32(beta[c + j])};
    }
    for (uint32_t row = first; row < pixels; row += tall) {
      float piece[LANES];
      load_piece(piece, x + row * s.channels + c);
#pragma unroll
      for (int j = 0; j < LANES; j++) piece[j] = activate(apply(affine[j], piece[j]), s.activation);
      store_piece(y + row * s.channels + c, piece);
    }
  }
}

template <class E>
__device__ __forceinline__ void group_norm_apply(const E* x, const E* gamma, const E* beta, const Moments* moments, E* y,
                                                 const Groups& s) {
  DYN_SMEM(shared, 16);
  Affine* const groups = reinterpret_cast<Affine*>(shared);
  const uint32_t run = s.channels / s.groups;
  for (uint32_t group = threadIdx.x / 32; group < s.groups; group += WARPS) {
    const Moments m = merge(moments + (blockIdx.y * s.groups + group) * gridDim.x, run, s);
    const float scale = reciprocal_deviation(m.m2, (float)(s.pixels * run), s.eps);
    if (threadIdx.x % 32 == 0) groups[group] = {m.mean, scale, 0.0f};
  }
  __syncthreads();

  constexpr int LANES = Vector<E>::LANES;
  const uint32_t first = blockIdx.x * PIXELS, pixels = min(PIXELS, s.pixels - first);
  const size_t at = ((size_t)blockIdx.y * s.pixels + first) * s.channels;
  if (s.channels % LANES == 0) apply_to<LANES>(x + at, gamma, beta, groups, y + at, pixels, s);
  else apply_to<1>(x + at, gamma, beta, groups, y + at, pixels, s);
}

#define GROUP_NORM(E)                                                                                                     \
  KERNEL void __launch_bounds__(THREADS)                                                                                  \
      group_norm_##E(const E* x, const E* gamma, const E* beta, E* y, const Groups sizes) {                               \
    group_norm(x, gamma, beta, y, sizes);                                                                                 \
  }                                                                                                                       \
  KERNEL void __launch_bounds__(THREADS) group_norm_moments_##E(const E* x, Moments* moments, const Groups sizes) {       \
    group_norm_moments(x, moments, sizes);                                                                                \
  }                                                                                                                       \
  /* One block at least: left to itself ptxas 13.0 makes room for more on sm_120, and spills a register. */                \
  KERNEL void __launch_bounds__(THREADS, 1)                                                                               \
      group_norm_apply_##E(const E* x, const E* gamma, const E* beta, const Moments* moments, E* y, const Groups sizes) { \
    group_norm_apply(x, gamma, beta, moments, y, sizes);                                                                  \
  }                                                                                                                       \
  EXPORT_KERNEL(group_norm_##E)                                                                                           \
  EXPORT_KERNEL(group_norm_moments_##E)                                                                                   \
  EXPORT_KERNEL(group_norm_apply_##E)

FOR_EACH_ELEMENT(GROUP_NORM)
