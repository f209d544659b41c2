//! AVX2 and AVX-512. In bf16 a 32-bit lane holds two terms. Without an instruction for their dot product weights are widened
//! as they are loaded, by a shift or a mask, and half a pair at a time, for both halves do not fit AVX2's registers; rows are
//! before, a tile at a time.
//!
//! Tried and lost, the linear layers of SD 1.5's UNet on two cores of a Zen 3 (2.0 s): both halves at once (5.3); rows that
//! are widened as they are spread, whose shifts wait for the same ports as products (2.5).

use std::arch::x86_64::*;
use std::mem::transmute;

use half::bf16;

use super::lanes::lanes;

lanes! {
    /// f32.
    Avx2: "avx2,fma", f32, rows of f32, __m256, __m256, 8 lanes, depth 1, parts 1, 2 vectors;
    _mm256_loadu_ps, _mm256_storeu_ps, _mm256_setzero_ps(), _mm256_add_ps;
    |sums| _mm_prefetch::<_MM_HINT_T0>(sums.cast());
    |weights, _| _mm256_loadu_ps(weights);
    |term| _mm256_set1_ps(*term);
    |term| _mm256_set1_ps(*term);
    |sums, a, b| _mm256_fmadd_ps(a, b, sums)
}

lanes! {
    /// bf16, widened.
    Avx2Bf16: "avx2,fma", bf16, rows of f32, __m256, __m256, 8 lanes, depth 2, parts 2, 2 vectors;
    _mm256_loadu_ps, _mm256_storeu_ps, _mm256_setzero_ps(), _mm256_add_ps;
    |sums| _mm_prefetch::<_MM_HINT_T0>(sums.cast());
    |weights, part| {
        let pairs = _mm256_loadu_si256(weights.cast());
        _mm256_castsi256_ps(if part == 0 {
            _mm256_slli_epi32::<16>(pairs)
        } else {
            _mm256_and_si256(pairs, _mm256_set1_epi32(!0xFFFF))
        })
    };
    |term| _mm256_set1_ps(*term);
    |term| _mm256_set1_ps(*term);
    |sums, a, b| _mm256_fmadd_ps(a, b, sums)
}

lanes! {
    /// f32.
    Avx512: "avx512f", f32, rows of f32, __m512, __m512, 16 lanes, depth 1, parts 1, 4 vectors;
    _mm512_loadu_ps, _mm512_storeu_ps, _mm512_setzero_ps(), _mm512_add_ps;
    |sums| _mm_prefetch::<_MM_HINT_T0>(sums.cast());
    |weights, _| _mm512_loadu_ps(weights);
    |term| _mm512_set1_ps(*term);
    |term| _mm512_set1_ps(*term);
    |sums, a, b| _mm512_fmadd_ps(a, b, sums)
}

lanes! {
    /// bf16, widened.
    Avx512Widening: "avx512f", bf16, rows of f32, __m512, __m512, 16 lanes, depth 2, parts 2, 4 vectors;
    _mm512_loadu_ps, _mm512_storeu_ps, _mm512_setzero_ps(), _mm512_add_ps;
    |sums| _mm_prefetch::<_MM_HINT_T0>(sums.cast());
    |weights, part| {
        let pairs = _mm512_loadu_si512(weights.cast());
        _mm512_castsi512_ps(if part == 0 {
            _mm512_slli_epi32::<16>(pairs)
        } else {
            _mm512_and_si512(pairs, _mm512_set1_epi32(!0xFFFF))
        })
    };
    |term| _mm512_set1_ps(*term);
    |term| _mm512_set1_ps(*term);
    |sums, a, b| _mm512_fmadd_ps(a, b, sums)
}

lanes! {
    /// bf16, with the dot product of pairs.
    Avx512Bf16: "avx512f,avx512bf16", bf16, rows of bf16, __m512, __m512i, 16 lanes, depth 2, parts 1, 4 vectors;
    _mm512_loadu_ps, _mm512_storeu_ps, _mm512_setzero_ps(), _mm512_add_ps;
    |sums| _mm_prefetch::<_MM_HINT_T0>(sums.cast());
    |weights, _| _mm512_loadu_si512(weights.cast());
    |pair| _mm512_set1_epi32(pair.cast::<i32>().read_unaligned());
    |term| _mm512_set1_epi32(i32::from((*term).to_bits()));
    |sums, a, b| _mm512_dpbf16_ps(sums, transmute::<__m512i, __m512bh>(a), transmute::<__m512i, __m512bh>(b))
}
