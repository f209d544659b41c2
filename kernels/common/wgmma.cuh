// Products of a warpgroup, 128 threads from a multiple of 128 on (sm_90a; PTX ISA, "wgmma"). They run beside the threads:
//
//   wgmma_fence(r...)       before the first, and after a thread has touched registers that one will use; r are those
//   Wgmma<E, N>::add(...)   D [64, N] += A [64, 16] B [N, 16] transposed, issued
//   WgmmaValues<E, N>::add  D [64, N] += A [64, 16] B [16, N], A in registers, issued
//   wgmma_commit()          ends a group of them
//   wgmma_wait<LEFT>(r...)  until all but the last LEFT groups are done, which free r. Before, no thread may touch their
//                           registers, nor anything write where their operands lie
//
// To the compiler a product is over where it is issued, so it would move arithmetic across a fence or a wait. It cannot move
// it across where the registers themselves pass through, which is why both are told them.
//
// All four warps go through these together. Warp w of the warpgroup holds rows 16 w to 16 w + 15 of D, as mma.cuh has them:
// with g = lane / 4 and t = lane % 4, d[j][i] is D[16 w + g + 8 (i / 2), 8 j + 2 t + i % 2].
#pragma once
#include "mbarrier.cuh"
#include "types.cuh"

// An operand in shared memory: rows of 128 bytes as a tensor copy lays them, 8 of them in 1024 bytes, which begin at a
// multiple of 1024. Along K one advances by 32 bytes for 16 values, within the first row.
__device__ __forceinline__ uint64_t wgmma_operand(uint32_t address) {
  constexpr uint64_t UNUSED = 1, EIGHT_ROWS = 1024 / 16, SWIZZLE_128 = 1;
  return address / 16 | UNUSED << 16 | EIGHT_ROWS << 32 | SWIZZLE_128 << 62;
}

// One whose rows run along K, 64 columns of it in 128 bytes; the next 64 columns lie `apart` bytes on. Along K one advances by
// 2048 bytes for 16 values.
__device__ __forceinline__ uint64_t wgmma_operand_transposed(uint32_t address, uint32_t apart) {
  constexpr uint64_t EIGHT_ROWS = 1024 / 16, SWIZZLE_128 = 1;
  return address / 16 | (uint64_t)(apart / 16) << 16 | EIGHT_ROWS << 32 | SWIZZLE_128 << 62;
}

#if ON_DEVICE
template <int M, int N> __device__ __forceinline__ void pass_through(float (&r)[M][N]) {
#pragma unroll
  for (int i = 0; i < M * N; i++) asm volatile("" : "+f"(r[i / N][i % N])::"memory");
}
template <int M, int N> __device__ __forceinline__ void pass_through(uint32_t (&r)[M][N]) {
#pragma unroll
  for (int i = 0; i < M * N; i++) asm volatile("" : "+r"(r[i / N][i % N])::"memory");
}
#endif

template <class... Registers> __device__ __forceinline__ void wgmma_fence(Registers&... r) {
#if ON_DEVICE
  (pass_through(r), ...);
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#else
  simt::wgmma_fence();
#endif
}

__device__ __forceinline__ void wgmma_commit() {
#if ON_DEVICE
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#else
  simt::wgmma_commit();
#endif
}

template <int GROUPS_LEFT, class... Registers> __device__ __forceinline__ void wgmma_wait(Registers&... r) {
#if ON_DEVICE
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(GROUPS_LEFT) : "memory");
  (pass_through(r), ...);
#else
  simt::wgmma_wait(GROUPS_LEFT);
#endif
}

// Gives this warpgroup so many registers a thread, or takes them, which the block's others give up.
template <int REGISTERS> __device__ __forceinline__ void grow_registers() {
#if ON_DEVICE
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
#else
  simt::set_registers();
#endif
}

template <int REGISTERS> __device__ __forceinline__ void shrink_registers() {
#if ON_DEVICE
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
#else
  simt::set_registers();
#endif
}

// A barrier of some of the block's threads, ID being 1 to 15.
template <int ID, int THREADS> __device__ __forceinline__ void named_barrier() {
#if ON_DEVICE
  asm volatile("bar.sync %0, %1;" ::"n"(ID), "n"(THREADS) : "memory");
#else
  simt::block_barrier(ID, THREADS, __FILE__, __LINE__);
#endif
}

// D += A B with f32 accumulation, or D = A B if nothing is `kept`; E being f16 or bf16, N a width that is listed below.
template <class E, int N> struct Wgmma;

#define D4(j) "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3])
#define D16(j) D4(j), D4(j + 1), D4(j + 2), D4(j + 3)
#define D32(j) D16(j), D16(j + 4)
#define D64(j) D32(j), D32(j + 8)
#define D20(j) D16(j), D4(j + 4)
#define D40(j) D20(j), D20(j + 5)
#define D80(j) D40(j), D40(j + 10)
#define D128(j) D64(j), D64(j + 16)
#define REGISTERS_20 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19"
#define REGISTERS_32 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define REGISTERS_40 REGISTERS_32 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define REGISTERS_64 REGISTERS_32 ", " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define REGISTERS_80 REGISTERS_64 ", " \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define REGISTERS_128 REGISTERS_64 ", " \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, " \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

#if ON_DEVICE
  #define WGMMA(E, NAME, N, HALF, A, B, KEPT)                                                               \
    template <> struct Wgmma<E, N> {                                                                        \
      static __device__ __forceinline__ void add(float (&d)[N / 8][4], uint64_t a, uint64_t b, bool kept) { \
        asm volatile("{\n.reg .pred kept;\nsetp.ne.u32 kept, %" #KEPT ", 0;\n"                              \
                     "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." NAME "." NAME                        \
                     " {" REGISTERS_##HALF "}, %" #A ", %" #B ", kept, 1, 1, 0, 0;\n}"                      \
                     : D##HALF(0) : "l"(a), "l"(b), "r"((int)kept));                                        \
      }                                                                                                     \
    };
#else
  #define WGMMA(E, NAME, N, HALF, A, B, KEPT)                                                               \
    template <> struct Wgmma<E, N> {                                                                        \
      static inline void add(float (&d)[N / 8][4], uint64_t a, uint64_t b, bool kept) {                     \
        simt::wgmma(&d[0][0], N, nullptr, a, b, kept, false, simt::E##_to_f32);                             \
      }                                                                                                     \
    };
#endif
WGMMA(f16, "f16", 64, 32, 32, 33, 34)
WGMMA(f16, "f16", 128, 64, 64, 65, 66)
WGMMA(f16, "f16", 256, 128, 128, 129, 130)
WGMMA(bf16, "bf16", 64, 32, 32, 33, 34)
WGMMA(bf16, "bf16", 128, 64, 64, 65, 66)
WGMMA(bf16, "bf16", 256, 128, 128, 129, 130)
#undef WGMMA

// D += A B with A as mma.cuh has it, four registers of each thread for its warp's 16 rows, and B transposed as above. Nobody
// may touch A's registers until it is done.
template <class E, int N> struct WgmmaValues;

#if ON_DEVICE
  #define WGMMA_VALUES(E, NAME, N, HALF, A0, A1, A2, A3, B)                                                      \
    template <> struct WgmmaValues<E, N> {                                                                       \
      static __device__ __forceinline__ void add(float (&d)[N / 8][4], const uint32_t (&a)[4], uint64_t b) {     \
        asm volatile("{\n.reg .pred kept;\nsetp.eq.u32 kept, 0, 0;\n"                                            \
                     "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." NAME "." NAME                             \
                     " {" REGISTERS_##HALF "}, {%" #A0 ", %" #A1 ", %" #A2 ", %" #A3 "}, %" #B ", kept, 1, 1, 1;\n}" \
                     : D##HALF(0) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                         \
      }                                                                                                          \
    };
#else
  #define WGMMA_VALUES(E, NAME, N, HALF, A0, A1, A2, A3, B)                                                      \
    template <> struct WgmmaValues<E, N> {                                                                       \
      static inline void add(float (&d)[N / 8][4], const uint32_t (&a)[4], uint64_t b) {                         \
        simt::wgmma(&d[0][0], N, a, 0, b, true, true, simt::E##_to_f32);                                         \
      }                                                                                                          \
    };
#endif
WGMMA_VALUES(f16, "f16", 40, 20, 20, 21, 22, 23, 24)
WGMMA_VALUES(f16, "f16", 64, 32, 32, 33, 34, 35, 36)
WGMMA_VALUES(f16, "f16", 80, 40, 40, 41, 42, 43, 44)
WGMMA_VALUES(f16, "f16", 160, 80, 80, 81, 82, 83, 84)
WGMMA_VALUES(bf16, "bf16", 40, 20, 20, 21, 22, 23, 24)
WGMMA_VALUES(bf16, "bf16", 64, 32, 32, 33, 34, 35, 36)
WGMMA_VALUES(bf16, "bf16", 80, 40, 40, 41, 42, 43, 44)
WGMMA_VALUES(bf16, "bf16", 160, 80, 80, 81, 82, 83, 84)
#undef WGMMA_VALUES
