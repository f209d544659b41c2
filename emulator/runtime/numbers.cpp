// 16-bit floats, rounded to nearest, ties to even, as CUDA's own conversions do.
#include "simt.h"

namespace simt {

float f16_to_f32(uint16_t bits) {
  const float magnitude = bit_cast<float>(uint32_t(bits & 0x7fff) << 13) * 0x1p112f;
  const uint32_t infinite = (bits & 0x7c00) == 0x7c00 ? 0x7f800000 : 0;
  return bit_cast<float>(bit_cast<uint32_t>(magnitude) | infinite | uint32_t(bits & 0x8000) << 16);
}

float bf16_to_f32(uint16_t bits) { return bit_cast<float>(uint32_t(bits) << 16); }

uint16_t f32_to_f16(float x) {
  const uint32_t bits = bit_cast<uint32_t>(x), sign = bits >> 16 & 0x8000;
  uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return 0x7fff;                     // NaN
  if (magnitude >= 0x47800000) return uint16_t(sign | 0x7c00);  // 65536 and more
  if (magnitude < 0x38800000) {
    // Below 2^-14: 0.5 has the same last place as the subnormals of f16, so adding it rounds to one of them.
    const float shifted = bit_cast<float>(magnitude) + 0.5f;
    return uint16_t(sign | (bit_cast<uint32_t>(shifted) - 0x3f000000));
  }
  magnitude += 0xfff + (magnitude >> 13 & 1);
  magnitude -= 0x38000000;
  return uint16_t(sign | magnitude >> 13);  // what carries makes infinity by itself
}

uint16_t f32_to_bf16(float x) {
  const uint32_t bits = bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fff;
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

}  // namespace simt
