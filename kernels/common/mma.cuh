// Tensor cores (sm_80 up; PTX ISA, "mma.sync" and "ldmatrix"). A warp's lane l holds, with g = l / 4 and t = l % 4:
//
//   fragment            register i holds the pair (first in the low half)
//   A [16, 16], 4 regs  A[g + 8 (i % 2), 2t + 8 (i / 2)] and the one right of it
//   B [16, 8],  2 regs  B[2t + 8 i, g] and the one below it
//   C, D [16, 8]        value i is D[g + 8 (i / 2), 2t + i % 2]
#pragma once
#include "async_copy.cuh"
#include "types.cuh"

// Loads four 8x8 matrices of 16-bit values from shared memory: lane l gives the address of row l % 8 of matrix l / 8,
// aligned to 16 bytes; register i of lane l gets M_i[l / 4, 2 (l % 4)] and the one right of it. All 32 lanes must call.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], uint32_t row) {
#if ON_DEVICE
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(row) : "memory");
#else
  simt::ldmatrix(r, 4, row, false);
#endif
}

// The same, each matrix transposed: register i gets M_i[2 (l % 4), l / 4] and the one below it.
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t row) {
#if ON_DEVICE
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(row) : "memory");
#else
  simt::ldmatrix(r, 4, row, true);
#endif
}

// Two matrices; lanes 0 to 15 give the addresses.
__device__ __forceinline__ void ldmatrix_x2(uint32_t (&r)[2], uint32_t row) {
#if ON_DEVICE
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(row) : "memory");
#else
  simt::ldmatrix(r, 2, row, false);
#endif
}

__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t (&r)[2], uint32_t row) {
#if ON_DEVICE
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1]) : "r"(row) : "memory");
#else
  simt::ldmatrix(r, 2, row, true);
#endif
}

// D += A B with f32 accumulation, E being f16 or bf16. All 32 lanes must call.
template <class E> __device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

template <>
__device__ __forceinline__ void mma_m16n8k16<f16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if ON_DEVICE
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
               "{%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  simt::mma_m16n8k16(d, a, b, simt::f16_to_f32);
#endif
}

template <>
__device__ __forceinline__ void mma_m16n8k16<bf16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if ON_DEVICE
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
               "{%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  simt::mma_m16n8k16(d, a, b, simt::bf16_to_f32);
#endif
}

// The same for A [16, 8] and B [8, 8]: the left half of A's fragment above, the upper half of B's.
template <class E> __device__ __forceinline__ void mma_m16n8k8(float (&d)[4], const uint32_t (&a)[2], uint32_t b);

template <>
__device__ __forceinline__ void mma_m16n8k8<f16>(float (&d)[4], const uint32_t (&a)[2], uint32_t b) {
#if ON_DEVICE
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(b));
#else
  mma_m16n8k16<f16>(d, {a[0], a[1], 0, 0}, {b, 0});
#endif
}

template <>
__device__ __forceinline__ void mma_m16n8k8<bf16>(float (&d)[4], const uint32_t (&a)[2], uint32_t b) {
#if ON_DEVICE
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(b));
#else
  mma_m16n8k16<bf16>(d, {a[0], a[1], 0, 0}, {b, 0});
#endif
}
