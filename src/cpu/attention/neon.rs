//! NEON, which every aarch64 has.

use std::arch::aarch64::*;

use super::kernel::Kernel;

#[derive(Clone, Copy)]
pub(super) struct Neon;

impl Kernel for Neon {
    type Vector = float32x4_t;
    const LANES: usize = 4;

    fn new() -> Self {
        Neon
    }
    #[inline(always)]
    fn run<R>(self, f: impl FnOnce() -> R) -> R {
        f()
    }
    #[inline(always)]
    fn splat(self, value: f32) -> float32x4_t {
        // SAFETY: NEON is part of aarch64.
        unsafe { vdupq_n_f32(value) }
    }
    #[inline(always)]
    fn load(self, from: &[f32]) -> float32x4_t {
        // SAFETY: as in `splat`; the slice is cut to what is read.
        unsafe { vld1q_f32(from[..4].as_ptr()) }
    }
    #[inline(always)]
    fn store(self, vector: float32x4_t, to: &mut [f32]) {
        // SAFETY: as in `splat`; the slice is cut to what is written.
        unsafe { vst1q_f32(to[..4].as_mut_ptr(), vector) }
    }
    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: as in `splat`.
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: as in `splat`.
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: as in `splat`.
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: as in `splat`.
        unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
    }
    #[inline(always)]
    fn mul_add(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: as in `splat`.
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    fn power_of_two(self, a: float32x4_t) -> float32x4_t {
        // SAFETY: as in `splat`.
        unsafe { vreinterpretq_f32_u32(vshlq_n_u32::<23>(vreinterpretq_u32_f32(a))) }
    }
}
