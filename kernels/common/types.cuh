// The element types f32, f16 and bf16, and 16-byte vectors of them. Own types: no toolkit header is needed, so the same
// source compiles with nvcc and on the host.
//
//   to_f32(e)            exact
//   from_f32<E>(x)       rounded to nearest, ties to even
//   Vector<E>            16 bytes of E; load_vector(p), store_vector(p, v) need p aligned to 16 bytes
//   FOR_EACH_ELEMENT(M)  M(f32) M(f16) M(bf16)
#pragma once
#include "platform.cuh"

typedef float f32;
struct __align__(2) f16 {
  uint16_t bits;
};
struct __align__(2) bf16 {
  uint16_t bits;
};

#define FOR_EACH_ELEMENT(M) M(f32) M(f16) M(bf16)

__device__ __forceinline__ float bits_to_f32(uint32_t bits) {
#if ON_DEVICE
  return __uint_as_float(bits);
#else
  return simt::bit_cast<float>(bits);
#endif
}

__device__ __forceinline__ uint32_t f32_to_bits(float x) {
#if ON_DEVICE
  return __float_as_uint(x);
#else
  return simt::bit_cast<uint32_t>(x);
#endif
}

__device__ __forceinline__ float to_f32(f32 x) { return x; }

__device__ __forceinline__ float to_f32(f16 x) {
#if ON_DEVICE
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
#else
  return simt::f16_to_f32(x.bits);
#endif
}

__device__ __forceinline__ float to_f32(bf16 x) { return bits_to_f32((uint32_t)x.bits << 16); }

template <class E> __device__ __forceinline__ E from_f32(float x);

template <> __device__ __forceinline__ f32 from_f32<f32>(float x) { return x; }

template <> __device__ __forceinline__ f16 from_f32<f16>(float x) {
  f16 y;
#if ON_DEVICE
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
#else
  y.bits = simt::f32_to_f16(x);
#endif
  return y;
}

template <> __device__ __forceinline__ bf16 from_f32<bf16>(float x) {
  bf16 y;
#if ON_DEVICE
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
#else
  y.bits = simt::f32_to_bf16(x);
#endif
  return y;
}

// Two values in one register, the first in the low half: what tensor cores take, in one conversion.
template <class E> __device__ __forceinline__ uint32_t pack2(float low, float high);

template <> __device__ __forceinline__ uint32_t pack2<f16>(float low, float high) {
#if ON_DEVICE
  uint32_t y;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
  return y;
#else
  return simt::f32_to_f16(low) | (uint32_t)simt::f32_to_f16(high) << 16;
#endif
}

template <> __device__ __forceinline__ uint32_t pack2<bf16>(float low, float high) {
#if ON_DEVICE
  uint32_t y;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
  return y;
#else
  return simt::f32_to_bf16(low) | (uint32_t)simt::f32_to_bf16(high) << 16;
#endif
}

// 16 bytes: 4 f32, or 8 of the others.
template <class E> struct __align__(16) Vector {
  static constexpr int LANES = 16 / sizeof(E);
  E lane[LANES];
};

template <class E> __device__ __forceinline__ Vector<E> load_vector(const E* p) {
#if !ON_DEVICE
  simt::expect_aligned(p, 16);
#endif
  const uint4 words = *reinterpret_cast<const uint4*>(p);
  return reinterpret_cast<const Vector<E>&>(words);
}

template <class E> __device__ __forceinline__ void store_vector(E* p, const Vector<E>& v) {
#if !ON_DEVICE
  simt::expect_aligned(p, 16);
#endif
  *reinterpret_cast<uint4*>(p) = reinterpret_cast<const uint4&>(v);
}
