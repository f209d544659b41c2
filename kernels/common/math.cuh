// Exponentials and the activations that operations apply to their results. f32 throughout.
#pragma once
#include "platform.cuh"

// 2 to the power x within 2 ulp; results below 2^-126 become 0.
__device__ __forceinline__ float exp2_approx(float x) {
#if ON_DEVICE
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return exp2f(x);
#endif
}

// What an operation applies last, as src/ops/activation.rs numbers it.
enum Activation : uint32_t { IDENTITY = 0, RELU = 1, SILU = 2, GEGLU = 3 };

// The comparison lets NaN through.
__device__ __forceinline__ float relu(float x) { return x < 0.0f ? 0.0f : x; }

// x / (1 + exp(-x)); exp(-x) may well be infinite.
__device__ __forceinline__ float silu(float x) {
  constexpr float LOG2_E = 1.44269504f;
  return x / (1.0f + exp2_approx(-LOG2_E * x));
}

// g/2 (1 + erf(g / sqrt 2))
__device__ __forceinline__ float gelu(float g) { return 0.5f * g * (1.0f + erff(g * 0.70710678f)); }

// Any but GEGLU, which takes two values.
__device__ __forceinline__ float activate(float x, uint32_t activation) {
  if (activation == SILU) return silu(x);
  if (activation == RELU) return relu(x);
  return x;
}
