// Standard normal values from Philox4x32-10 (Salmon et al. 2011), bit for bit those of src/rng: the same additions and
// multiplications in the same order, none of them fused but the one that is there too.
#pragma once
#include "platform.cuh"

// An f32 whose products and sums the compiler must not fuse.
struct Exact {
  float value;
  __device__ __forceinline__ Exact(float value) : value(value) {}
};
__device__ __forceinline__ Exact operator+(Exact a, Exact b) { return __fadd_rn(a.value, b.value); }
__device__ __forceinline__ Exact operator-(Exact a, Exact b) { return __fsub_rn(a.value, b.value); }
__device__ __forceinline__ Exact operator*(Exact a, Exact b) { return __fmul_rn(a.value, b.value); }

__device__ __forceinline__ void philox4x32_10(uint32_t (&counter)[4], uint32_t key0, uint32_t key1) {
#pragma unroll
  for (int round = 0; round < 10; round++) {
    const uint32_t high0 = __umulhi(0xd2511f53u, counter[0]), low0 = 0xd2511f53u * counter[0];
    const uint32_t high1 = __umulhi(0xcd9e8d57u, counter[2]), low1 = 0xcd9e8d57u * counter[2];
    counter[0] = high1 ^ counter[1] ^ key0;
    counter[1] = low1;
    counter[2] = high0 ^ counter[3] ^ key1;
    counter[3] = low0;
    key0 += 0x9e3779b9u;
    key1 += 0xbb67ae85u;
  }
}

// The natural logarithm of a positive normal number: ln_f32 of src/rng/elementary.rs.
__device__ __forceinline__ Exact natural_log(Exact x) {
  const uint32_t SQRT_HALF = 0x3f3504f3u;
  const uint32_t shifted = __float_as_uint(x.value) - SQRT_HALF;
  const Exact exponent = (float)((int32_t)shifted >> 23);
  const Exact m = Exact(__uint_as_float((shifted & 0x007fffffu) + SQRT_HALF)) - 1.0f;
  const Exact square = m * m, fourth = square * square;
  const Exact poly = (Exact(3.333333e-1f) - Exact(2.4999994e-1f) * m) +
                     (Exact(2.0000715e-1f) - Exact(1.6668058e-1f) * m) * square +
                     ((Exact(1.4249323e-1f) - Exact(1.2420141e-1f) * m) +
                      (Exact(1.1676999e-1f) - Exact(1.151461e-1f) * m) * square) * fourth +
                     Exact(7.0376836e-2f) * fourth * fourth;
  const Exact low = poly * m * square - exponent * Exact(2.1219444e-4f) - Exact(0.5f) * square;
  return m + low + exponent * Exact(0.6933594f);
}

// Sine and cosine of an angle in [0, 2 pi]: sin_cos_f32 of src/rng/elementary.rs.
__device__ __forceinline__ void sine_cosine(Exact angle, float& sine, float& cosine) {
  const Exact ROUND = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const Exact rounded = angle * Exact(0.63661977f) + ROUND;
  const uint32_t quadrant = __float_as_uint(rounded.value);
  const Exact quarters = rounded - ROUND;
  const Exact x = angle - quarters * Exact(1.5707965f) + quarters * Exact(1.6292068e-7f) - quarters * Exact(5.390303e-15f);
  const Exact square = x * x;
  const Exact s = ((Exact(-1.9515296e-4f) * square + Exact(8.332161e-3f)) * square - Exact(1.6666655e-1f)) * square * x + x;
  const Exact c = ((Exact(2.4433157e-5f) * square - Exact(1.3887316e-3f)) * square + Exact(4.1666646e-2f)) * square * square -
                  Exact(0.5f) * square + Exact(1.0f);
  const bool even = quadrant % 2 == 0;
  const uint32_t sine_sign = (quadrant & 2u) << 30, cosine_sign = ((quadrant + 1u) & 2u) << 30;
  sine = __uint_as_float(__float_as_uint(even ? s.value : c.value) ^ sine_sign);
  cosine = __uint_as_float(__float_as_uint(even ? c.value : s.value) ^ cosine_sign);
}

// Two words to two normal values, as curand has it (Box and Muller 1958).
__device__ __forceinline__ void box_muller(uint32_t x, uint32_t y, float& first, float& second) {
  const float STEP = 2.3283064e-10f, TAU = 6.2831855f;  // 2^-32, 2 pi
  const Exact u = Exact((float)x) * Exact(STEP) + Exact(STEP / 2.0f);
  const float radius = __fsqrt_rn((Exact(-2.0f) * natural_log(u)).value);
  float sine, cosine;
  sine_cosine(__fmaf_rn((float)y, TAU * STEP, TAU * STEP / 2.0f), sine, cosine);
  first = __fmul_rn(radius, sine);
  second = __fmul_rn(radius, cosine);
}

// A draw, as src/rng/draws.rs has it.
struct NormalDraw {
  uint32_t key[2];
  uint32_t counter[2];
  uint32_t threads;  // 0: noise by address
};

// Values 4 i to 4 i + 3 of a draw of noise by address: one counter's four words.
__device__ __forceinline__ void four_by_address(const NormalDraw& draw, uint32_t i, float (&z)[4]) {
  uint32_t words[4] = {i, 0, draw.counter[0], draw.counter[1]};
  philox4x32_10(words, draw.key[0], draw.key[1]);
  box_muller(words[0], words[1], z[0], z[1]);
  box_muller(words[2], words[3], z[2], z[3]);
}

// Value `at` of torch's draw on a GPU: thread t makes values t, t + T, t + 2T, t + 3T of T threads with a counter, and goes
// on with the next counter.
__device__ __forceinline__ float one_of_torch(const NormalDraw& draw, uint32_t at) {
  const uint32_t round = at / (4 * draw.threads), row = at / draw.threads % 4, thread = at % draw.threads;
  const uint32_t low = draw.counter[0] + round;
  uint32_t words[4] = {low, draw.counter[1] + (low < round ? 1u : 0u), thread, 0};
  philox4x32_10(words, draw.key[0], draw.key[1]);
  float first, second;
  box_muller(row < 2 ? words[0] : words[2], row < 2 ? words[1] : words[3], first, second);
  return row % 2 == 0 ? first : second;
}

// Values `first` to `first + 3`; `first` is a multiple of 4.
__device__ __forceinline__ void four_normals(const NormalDraw& draw, uint32_t first, float (&z)[4]) {
  if (draw.threads == 0) {
    four_by_address(draw, first / 4, z);
  } else {
#pragma unroll
    for (int k = 0; k < 4; k++) z[k] = one_of_torch(draw, first + k);
  }
}
