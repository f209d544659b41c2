// Copies of boxes of a tensor to shared memory by the tensor memory accelerator (sm_90; PTX ISA, "cp.async.bulk.tensor").
// One thread asks, and an mbarrier hears of the bytes. What lies outside of the tensor becomes zeros, and counts.
//
// Rows of a box here have 128 bytes, and are swizzled: its chunk c of 16 bytes lies at chunk c ^ (r % 8) of row r. So eight
// chunks of one column, which wgmma reads together, lie in different banks. Boxes begin at multiples of 1024 bytes.
#pragma once
#include "mbarrier.cuh"

// What src/cuda/launch.rs had the driver make of a description; a kernel's argument, and `__grid_constant__`.
struct __align__(64) TensorMap {
  uint64_t opaque[16];
};

// Brings the box whose first element is `at`, innermost dimension first; a coordinate may be negative.
__device__ __forceinline__ void tensor_copy(uint32_t to, const TensorMap& map, const int32_t (&at)[4], uint32_t barrier) {
#if ON_DEVICE
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], [%6];"
               ::"r"(to), "l"(&map), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(barrier) : "memory");
#else
  simt::tensor_copy(to, &map, at, 4, barrier);
#endif
}
