//! NEON, which every aarch64 has. bf16 is widened, as in AVX2: its dot product (`bfdot`) is not in every aarch64, and
//! rounds its sums in a way of its own.

use std::arch::aarch64::*;
use std::arch::asm;

use half::bf16;

use super::lanes::lanes;

lanes! {
    /// f32.
    Neon: "neon", f32, rows of f32, float32x4_t, float32x4_t, 4 lanes, depth 1, parts 1, 4 vectors;
    vld1q_f32, vst1q_f32, vdupq_n_f32(0.0), vaddq_f32;
    |sums| asm!("prfm pldl1keep, [{0}]", in(reg) sums, options(nostack, preserves_flags, readonly));
    |weights, _| vld1q_f32(weights);
    |term| vdupq_n_f32(*term);
    |term| vdupq_n_f32(*term);
    |sums, a, b| vfmaq_f32(sums, a, b)
}

lanes! {
    /// bf16, widened.
    NeonBf16: "neon", bf16, rows of f32, float32x4_t, float32x4_t, 4 lanes, depth 2, parts 2, 4 vectors;
    vld1q_f32, vst1q_f32, vdupq_n_f32(0.0), vaddq_f32;
    |sums| asm!("prfm pldl1keep, [{0}]", in(reg) sums, options(nostack, preserves_flags, readonly));
    |weights, part| {
        let pairs = vreinterpretq_u32_u16(vld1q_u16(weights.cast()));
        vreinterpretq_f32_u32(if part == 0 {
            vshlq_n_u32::<16>(pairs)
        } else {
            vandq_u32(pairs, vdupq_n_u32(0xFFFF_0000))
        })
    };
    |term| vdupq_n_f32(*term);
    |term| vdupq_n_f32(*term);
    |sums, a, b| vfmaq_f32(sums, a, b)
}
