// Copies from global to shared memory that run while the thread computes (sm_80 up; PTX ISA, "cp.async").
//
// A thread's copies belong to the group that it commits next. Once `async_copy_wait<N>` has returned, all but its last N
// groups have landed, as that thread sees it: others see them after a barrier.
#pragma once
#include "platform.cuh"

// The address of shared memory as these instructions take it.
__device__ __forceinline__ uint32_t shared_address(const void* p) {
#if ON_DEVICE
  return (uint32_t)__cvta_generic_to_shared(p);
#else
  return simt::shared_address(p);
#endif
}

// Copies 16 bytes, past L1; writes zeros, and does not read, if `wanted` is false. Both addresses aligned to 16 bytes.
__device__ __forceinline__ void async_copy_16(uint32_t to, const void* from, bool wanted = true) {
#if ON_DEVICE
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(wanted ? 16 : 0) : "memory");
#else
  simt::async_copy(to, from, 16, wanted);
#endif
}

// The same for 4 bytes, through L1.
__device__ __forceinline__ void async_copy_4(uint32_t to, const void* from, bool wanted = true) {
#if ON_DEVICE
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(wanted ? 4 : 0) : "memory");
#else
  simt::async_copy(to, from, 4, wanted);
#endif
}

__device__ __forceinline__ void async_copy_commit() {
#if ON_DEVICE
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  simt::async_copy_commit();
#endif
}

template <int GROUPS_LEFT> __device__ __forceinline__ void async_copy_wait() {
#if ON_DEVICE
  asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS_LEFT) : "memory");
#else
  simt::async_copy_wait(GROUPS_LEFT);
#endif
}
