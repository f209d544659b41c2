//! Rounding to bf16 by AVX-512's own instruction, in two cycles of an Emerald Rapids for sixteen values, not in five.
//!
//! Tried and lost: the instruction as assembly from memory to memory, which needs no function to be compiled for it: each
//! value then waits for the one before it to be stored (8 cycles for sixteen sums of a product, not 5).

use half::bf16;

/// Values that are rounded at once.
pub(crate) const LANES: usize = 16;

/// Rounds to the nearest, ties to even; to 0 below bf16's normal numbers. False, and nothing written, where no
/// instruction does.
#[inline(always)]
pub(crate) fn round(values: &[f32; LANES], to: &mut [bf16; LANES]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if x86::is_available() {
        // SAFETY: as it says.
        unsafe { x86::round(values, to) };
        return true;
    }
    let _ = (values, to);
    false
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::is_x86_feature_detected;
    use std::arch::x86_64::{__m256bh, _mm512_cvtneps_pbh, _mm512_loadu_ps};

    use half::bf16;
    use pulp::Arch;

    use super::LANES;

    /// Whether this machine has the instruction. A test of one bit: more would show among sixteen values' arithmetic.
    #[inline(always)]
    pub fn is_available() -> bool {
        is_x86_feature_detected!("avx512bf16")
    }

    /// Whether it has all others of AVX-512 too that loops are compiled for.
    #[inline(always)]
    pub fn has_vectors() -> bool {
        is_available() && matches!(Arch::new(), Arch::V4(_))
    }

    /// Runs `f` compiled for all of them, so that [`round`] is no call.
    ///
    /// # Safety
    /// [`has_vectors`].
    #[target_feature(enable = "avx512bf16,avx512bw,avx512cd,avx512dq,avx512vl,bmi1,bmi2,fma,lzcnt,popcnt")]
    #[inline]
    pub unsafe fn vectorised<R>(f: impl FnOnce() -> R) -> R {
        f()
    }

    /// # Safety
    /// [`is_available`].
    #[target_feature(enable = "avx512f,avx512bf16")]
    #[inline]
    pub unsafe fn round(values: &[f32; LANES], to: &mut [bf16; LANES]) {
        // SAFETY: the vectors are as long as the arrays, and all bits are numbers.
        unsafe {
            let rounded = _mm512_cvtneps_pbh(_mm512_loadu_ps(values.as_ptr()));
            to.as_mut_ptr().cast::<__m256bh>().write_unaligned(rounded);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_rounded_as_half_does_or_left_alone() {
        for bits in 0..=u16::MAX {
            // The value itself, around the half-way points to its neighbours, and what is nearly one of them.
            let lows = [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0x4000, 0xC000];
            let mut values = [0.0; LANES];
            for (value, low) in values.iter_mut().zip(lows) {
                *value = f32::from_bits(u32::from(bits) << 16 | low);
            }
            let mut to = [bf16::ONE; LANES];
            if !round(&values, &mut to) {
                assert_eq!(to, [bf16::ONE; LANES]);
                continue;
            }
            for (value, got) in values.into_iter().zip(to) {
                let expected = bf16::from_f32(value);
                let is_small = value.abs() < f32::MIN_POSITIVE && got == bf16::ZERO;
                assert!(is_small || got.to_bits() == expected.to_bits(), "{value:e}: {got} for {expected}");
            }
        }
    }
}
