// What a kernel sees of the emulator: CUDA's keywords and built-in names, given a meaning in plain C++.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "registry.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

namespace simt {

// The thread and the block that run. The runtime's own Thread begins with the first.
struct ThreadView {
  uint3 index;
  int number, lane, warp;
};
struct BlockView {
  uint3 index;
  dim3 threads, blocks;
  unsigned char* shared;
};
extern thread_local ThreadView* current;
extern thread_local BlockView block;

// ---- bits and 16-bit floats (numbers.cpp) ----
template <class To, class From> inline To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "bits can only be seen as another type of the same size");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
float f16_to_f32(uint16_t bits);
float bf16_to_f32(uint16_t bits);
uint16_t f32_to_f16(float x);
uint16_t f32_to_bf16(float x);

// ---- shared memory (memory.cpp) ----
// One variable for each block and tag.
void* shared_variable(const void* tag, size_t bytes, size_t align);
unsigned char* dynamic_shared_memory(size_t align);
inline uint32_t shared_address(const void* p) { return uint32_t((const unsigned char*)p - block.shared); }

// ---- barriers (barrier.cpp) ----
void block_barrier(int id, int threads, const char* file, int line);  // 0 threads: the whole block

// ---- operations of a warp (warp.cpp) ----
void sync_warp(unsigned mask);
uint64_t shuffle(const char* what, unsigned mask, uint64_t value, int from);
void ldmatrix(uint32_t* r, int matrices, uint32_t row, bool transposed);
void mma_m16n8k16(float* d, const uint32_t* a, const uint32_t* b, float (*to_f32)(uint16_t));

template <class T> inline T shuffle_as(const char* what, unsigned mask, T value, int from) {
  static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  bits = shuffle(what, mask, bits, from);
  memcpy(&value, &bits, sizeof value);
  return value;
}

// ---- asynchronous copies (async_copy.cpp) ----
void async_copy(uint32_t to, const void* from, unsigned bytes, bool wanted);
void async_copy_commit();
void async_copy_wait(int groups_left);

// ---- Hopper's barriers (mbarrier.cpp), tensor copies (tensor_copy.cpp), products (warpgroup.cpp) ----
void mbarrier_init(uint32_t barrier, uint32_t arrivals);
void mbarrier_fence_init();
void mbarrier_arrive(uint32_t barrier, uint32_t bytes);
bool mbarrier_try_wait(uint32_t barrier, uint32_t parity);
void tensor_copy(uint32_t to, const void* map, const int32_t* at, int rank, uint32_t barrier);
void proxy_fence();
void wgmma(float* d, int columns, const uint32_t* a_registers, uint64_t a, uint64_t b, bool accumulates, bool b_transposed,
           float (*to_f32)(uint16_t));
void wgmma_fence();
void wgmma_commit();
void wgmma_wait(int groups_left);
void set_registers();

// ---- accesses (checker.cpp) ----
// The compiler may split an access of 16 bytes, which a GPU does not: its alignment has to be asked for.
void expect_aligned(const void* p, size_t bytes);

}  // namespace simt

#define threadIdx (::simt::current->index)
#define blockIdx (::simt::block.index)
#define blockDim (::simt::block.threads)
#define gridDim (::simt::block.blocks)

// Told apart by where they stand in the source: a compiler may copy a call, so the return address would not do.
inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  simt::block_barrier(0, 0, file, line);
}
inline void __syncwarp(unsigned mask = ~0u) { simt::sync_warp(mask); }

template <class T> inline T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
  const int lane = simt::current->lane;
  return simt::shuffle_as("__shfl_sync", mask, value, (lane & ~(width - 1)) | (from & (width - 1)));
}
template <class T> inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  const int lane = simt::current->lane, from = lane ^ bits;
  return simt::shuffle_as("__shfl_xor_sync", mask, value, from < (lane & ~(width - 1)) + width ? from : lane);
}

inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }
inline unsigned __float_as_uint(float x) { return simt::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return simt::bit_cast<float>(x); }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
