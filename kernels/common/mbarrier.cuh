// Barriers in shared memory that also count bytes (sm_90; PTX ISA, "mbarrier"). A phase ends when as many threads have
// arrived as the barrier was made for, and all bytes are there that arrivals told it to expect. Whoever waits names the
// parity of a phase, 0 for the first, and goes on once that phase has ended; what precedes the first counts as a phase of
// parity 1 that has.
#pragma once
#include "async_copy.cuh"

// Makes one of 8 bytes at a shared address. One thread makes them, then fences, and the block passes a barrier.
__device__ __forceinline__ void mbarrier_init(uint32_t barrier, uint32_t arrivals) {
#if ON_DEVICE
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
#else
  simt::mbarrier_init(barrier, arrivals);
#endif
}

// Lets tensor copies know of the barriers that this thread has made.
__device__ __forceinline__ void mbarrier_fence_init() {
#if ON_DEVICE
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#else
  simt::mbarrier_fence_init();
#endif
}

__device__ __forceinline__ void mbarrier_arrive(uint32_t barrier) {
#if ON_DEVICE
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
#else
  simt::mbarrier_arrive(barrier, 0);
#endif
}

// Arrives, and tells the phase to expect so many bytes.
__device__ __forceinline__ void mbarrier_arrive_expecting(uint32_t barrier, uint32_t bytes) {
#if ON_DEVICE
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
#else
  simt::mbarrier_arrive(barrier, bytes);
#endif
}

__device__ __forceinline__ void mbarrier_wait(uint32_t barrier, uint32_t parity) {
#if ON_DEVICE
  asm volatile("{\n"
               ".reg .pred ended;\n"
               "again:\n"
               "mbarrier.try_wait.parity.shared::cta.b64 ended, [%0], %1;\n"
               "@!ended bra again;\n"
               "}" ::"r"(barrier), "r"(parity) : "memory");
#else
  while (!simt::mbarrier_try_wait(barrier, parity)) {
  }
#endif
}
