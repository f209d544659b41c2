//! AVX2 and AVX-512. In bf16 a 32-bit lane holds two terms; without an instruction for their dot product each is widened,
//! which takes a shift or a mask: half a pair at a time, for both halves of six rows do not fit AVX2's registers (UNet of
//! SD 1.5 on two cores of a Zen 3: 9.0 s; with halves that the compiler widened before it spread them 6.9 s; so 6.1 s).

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::transmute;

use half::bf16;

use super::lanes::lanes;

lanes! {
    /// f32.
    Avx2: "avx2,fma", f32, __m256, __m256, 8 lanes, depth 1, parts 1, 2 vectors;
    _mm256_loadu_ps, _mm256_storeu_ps, _mm256_setzero_ps(), _mm256_add_ps;
    |sums| _mm_prefetch::<_MM_HINT_T0>(sums.cast());
    |weights| _mm256_loadu_ps(weights);
    |term| _mm256_set1_ps(*term);
    |term| _mm256_set1_ps(*term);
    |_, sums, a, b| _mm256_fmadd_ps(a, b, sums)
}

/// Hides that a vector is one number all over: knowing it, the compiler would widen the number, in more steps.
#[inline]
#[target_feature(enable = "avx2")]
fn opaque(mut terms: __m256i) -> __m256i {
    // SAFETY: there is no instruction in it.
    unsafe { asm!("/* {0} */", inout(ymm_reg) terms, options(pure, nomem, nostack, preserves_flags)) };
    terms
}

lanes! {
    /// bf16, widened.
    Avx2Bf16: "avx2,fma", bf16, __m256, __m256i, 8 lanes, depth 2, parts 2, 2 vectors;
    _mm256_loadu_ps, _mm256_storeu_ps, _mm256_setzero_ps(), _mm256_add_ps;
    |sums| _mm_prefetch::<_MM_HINT_T0>(sums.cast());
    |weights| _mm256_loadu_si256(weights.cast());
    |pair| opaque(_mm256_set1_epi32(pair.cast::<i32>().read_unaligned()));
    |term| _mm256_set1_epi32(i32::from((*term).to_bits()));
    |part, sums, a, b| {
        let widen = |terms| {
            _mm256_castsi256_ps(if part == 0 {
                _mm256_slli_epi32::<16>(terms)
            } else {
                _mm256_and_si256(terms, _mm256_set1_epi32(!0xFFFF))
            })
        };
        _mm256_fmadd_ps(widen(a), widen(b), sums)
    }
}

lanes! {
    /// f32.
    Avx512: "avx512f", f32, __m512, __m512, 16 lanes, depth 1, parts 1, 4 vectors;
    _mm512_loadu_ps, _mm512_storeu_ps, _mm512_setzero_ps(), _mm512_add_ps;
    |sums| _mm_prefetch::<_MM_HINT_T0>(sums.cast());
    |weights| _mm512_loadu_ps(weights);
    |term| _mm512_set1_ps(*term);
    |term| _mm512_set1_ps(*term);
    |_, sums, a, b| _mm512_fmadd_ps(a, b, sums)
}

lanes! {
    /// bf16, widened.
    Avx512Widening: "avx512f", bf16, __m512, __m512i, 16 lanes, depth 2, parts 2, 4 vectors;
    _mm512_loadu_ps, _mm512_storeu_ps, _mm512_setzero_ps(), _mm512_add_ps;
    |sums| _mm_prefetch::<_MM_HINT_T0>(sums.cast());
    |weights| _mm512_loadu_si512(weights.cast());
    |pair| _mm512_set1_epi32(pair.cast::<i32>().read_unaligned());
    |term| _mm512_set1_epi32(i32::from((*term).to_bits()));
    |part, sums, a, b| {
        let widen = |terms| {
            _mm512_castsi512_ps(if part == 0 {
                _mm512_slli_epi32::<16>(terms)
            } else {
                _mm512_and_si512(terms, _mm512_set1_epi32(!0xFFFF))
            })
        };
        _mm512_fmadd_ps(widen(a), widen(b), sums)
    }
}

lanes! {
    /// bf16, with the dot product of pairs.
    Avx512Bf16: "avx512f,avx512bf16", bf16, __m512, __m512i, 16 lanes, depth 2, parts 1, 4 vectors;
    _mm512_loadu_ps, _mm512_storeu_ps, _mm512_setzero_ps(), _mm512_add_ps;
    |sums| _mm_prefetch::<_MM_HINT_T0>(sums.cast());
    |weights| _mm512_loadu_si512(weights.cast());
    |pair| _mm512_set1_epi32(pair.cast::<i32>().read_unaligned());
    |term| _mm512_set1_epi32(i32::from((*term).to_bits()));
    |_, sums, a, b| _mm512_dpbf16_ps(sums, transmute::<__m512i, __m512bh>(a), transmute::<__m512i, __m512bh>(b))
}
