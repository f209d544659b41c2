// The only file that knows whether a kernel is compiled for a GPU (nvcc) or as C++ for the emulator.
//
//   KERNEL void name(...)        an entry point, called by just this name
//   EXPORT_KERNEL(name)          after its definition: tells the emulator of it
//   SHARED(T, name, [n])         static shared memory: T name[n]
//   DYN_SMEM(name, align)        the dynamic shared memory: unsigned char name[], aligned to `align` bytes
//   ON_DEVICE                    1 or 0, for the two branches of a wrapper in this folder
#pragma once

#if defined(__CUDACC__)
  #define ON_DEVICE 1
  #include <stdint.h>
  #define KERNEL extern "C" __global__
  #define EXPORT_KERNEL(name)
  #define SHARED(T, name, dims) __shared__ T name dims
  #define DYN_SMEM(name, align) extern __shared__ __align__(align) unsigned char name[]
#else
  #define ON_DEVICE 0
  #include "simt.h"
  #define KERNEL static
  #define EXPORT_KERNEL(name) static const ::simt::Registration simt_registration_##name(#name, &name);
  #define SHARED(T, name, dims)        \
    using name##_type = T dims;        \
    static const char name##_tag = 0;  \
    name##_type& name = *(name##_type*)::simt::shared_variable(&name##_tag, sizeof(name##_type), alignof(T))
  #define DYN_SMEM(name, align) unsigned char* const name = ::simt::dynamic_shared_memory(align)
#endif
