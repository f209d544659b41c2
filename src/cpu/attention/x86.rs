//! AVX2 with FMA; AVX-512; AVX-512 with products of bf16, and those with permutations of bytes.

use std::arch::x86_64::*;

use super::kernel::Kernel;

/// Makes a [`Kernel`] of the names of features and intrinsics.
macro_rules! kernel {
    (
        $name:ident, $enable:literal, [$($feature:tt),*];
        $vector:ty, $lanes:literal lanes, $per_word:literal in a word, ones $ones:expr;
        $splat:ident, $load:ident, $store:ident;
        $($method:ident($($argument:ident),*) $body:expr;)*
    ) => {
        #[derive(Clone, Copy)]
        pub(super) struct $name(());

        impl Kernel for $name {
            type Vector = $vector;
            const LANES: usize = $lanes;
            const PER_WORD: usize = $per_word;
            const ONES: f32 = $ones;

            fn new() -> Self {
                $(assert!(is_x86_feature_detected!($feature));)*
                $name(())
            }
            #[inline(always)]
            fn run<R>(self, f: impl FnOnce() -> R) -> R {
                #[target_feature(enable = $enable)]
                fn compiled<R>(f: impl FnOnce() -> R) -> R {
                    f()
                }
                // SAFETY: `self` exists, so `new` found the features.
                unsafe { compiled(f) }
            }
            #[inline(always)]
            fn splat(self, value: f32) -> $vector {
                // SAFETY: as in `run`.
                unsafe { $splat(value) }
            }
            #[inline(always)]
            fn load(self, from: &[f32]) -> $vector {
                // SAFETY: as in `run`; the slice is cut to what is read.
                unsafe { $load(from[..$lanes].as_ptr()) }
            }
            #[inline(always)]
            fn store(self, vector: $vector, to: &mut [f32]) {
                // SAFETY: as in `run`; the slice is cut to what is written.
                unsafe { $store(to[..$lanes].as_mut_ptr(), vector) }
            }
            $(#[inline(always)]
            fn $method(self, $($argument: $vector),*) -> $vector {
                // SAFETY: as in `run`.
                unsafe { $body }
            })*
        }
    };
}

kernel! {
    Avx2, "avx2,fma", ["avx2", "fma"];
    __m256, 8 lanes, 1 in a word, ones 1.0;
    _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps;
    add(a, b) _mm256_add_ps(a, b);
    sub(a, b) _mm256_sub_ps(a, b);
    mul(a, b) _mm256_mul_ps(a, b);
    max(a, b) _mm256_max_ps(a, b);
    mul_add(a, b, c) _mm256_fmadd_ps(a, b, c);
    power_of_two(a) _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a), 23));
}

macro_rules! avx512 {
    ($name:ident, $enable:literal, $features:tt, $per_word:literal in a word, ones $ones:expr; $($own:tt)*) => {
        kernel! {
            $name, $enable, $features;
            __m512, 16 lanes, $per_word in a word, ones $ones;
            _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps;
            add(a, b) _mm512_add_ps(a, b);
            sub(a, b) _mm512_sub_ps(a, b);
            mul(a, b) _mm512_mul_ps(a, b);
            max(a, b) _mm512_max_ps(a, b);
            mul_add(a, b, c) _mm512_fmadd_ps(a, b, c);
            power_of_two(a) _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a), 23));
            $($own)*
        }
    };
}

avx512! { Avx512, "avx512f", ["avx512f"], 1 in a word, ones 1.0; }

macro_rules! avx512_bf16 {
    ($name:ident, $enable:literal, $features:tt) => {
        avx512! {
            $name, $enable, $features, 2 in a word, ones f32::from_bits(0x3F80_3F80);
            dot(a, b, c) _mm512_dpbf16_ps(c, pairs(a), pairs(b));
            join(first, second) interleave(_mm512_cvtne2ps_pbh(second, first));
        }
    };
}

avx512_bf16! {
    Avx512Bf16, "avx512f,avx512bw,avx512dq,avx512bf16", ["avx512f", "avx512bw", "avx512dq", "avx512bf16"]
}

avx512_bf16! {
    Avx512Vbmi,
    "avx512f,avx512bw,avx512dq,avx512bf16,avx512vbmi",
    ["avx512f", "avx512bw", "avx512dq", "avx512bf16", "avx512vbmi"]
}

/// The bits of words.
#[inline(always)]
fn pairs(words: __m512) -> __m512bh {
    // SAFETY: both are 64 bytes, of which any are valid.
    unsafe { std::mem::transmute(words) }
}

/// From 16 values and the 16 to follow them to 16 pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn interleave(values: __m512bh) -> __m512 {
    const LANES: [i16; 32] = {
        let mut lanes = [0; 32];
        let mut i = 0;
        while i < 16 {
            (lanes[2 * i], lanes[2 * i + 1]) = (i as i16, i as i16 + 16);
            i += 1;
        }
        lanes
    };
    // SAFETY: all are 64 bytes, of which any are valid.
    unsafe {
        let lanes: __m512i = std::mem::transmute(LANES);
        let values: __m512i = std::mem::transmute(values);
        _mm512_castsi512_ps(_mm512_permutexvar_epi16(lanes, values))
    }
}
