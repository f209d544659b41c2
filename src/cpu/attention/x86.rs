//! AVX2 with FMA; AVX-512; AVX-512 with products of bf16 and permutations of bytes.

use std::arch::x86_64::*;

use super::kernel::Kernel;

/// Makes a [`Kernel`] of the names of features and intrinsics.
macro_rules! kernel {
    (
        $name:ident, $enable:literal, [$($feature:tt),*];
        $vector:ty, $lanes:literal lanes { $($constants:tt)* }
        $splat:ident, $load:ident, $store:ident;
        $($method:ident($($argument:ident),*) $body:expr;)*
    ) => {
        #[derive(Clone, Copy)]
        pub(super) struct $name(());

        impl Kernel for $name {
            type Vector = $vector;
            const LANES: usize = $lanes;
            $($constants)*

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
    __m256, 8 lanes {}
    _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps;
    add(a, b) _mm256_add_ps(a, b);
    sub(a, b) _mm256_sub_ps(a, b);
    mul(a, b) _mm256_mul_ps(a, b);
    max(a, b) _mm256_max_ps(a, b);
    mul_add(a, b, c) _mm256_fmadd_ps(a, b, c);
    power_of_two(a) _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a), 23));
}

macro_rules! avx512 {
    ($name:ident, $enable:literal, $features:tt, $constants:tt; $($own:tt)*) => {
        kernel! {
            $name, $enable, $features;
            __m512, 16 lanes $constants
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

avx512! { Avx512, "avx512f", ["avx512f"], {}; }

avx512! {
    Avx512Bf16,
    "avx512f,avx512bw,avx512dq,avx512bf16,avx512vbmi",
    ["avx512f", "avx512bw", "avx512dq", "avx512bf16", "avx512vbmi"],
    {
        const PER_WORD: usize = 2;
        const ONES: f32 = f32::from_bits(0x3F80_3F80);
        const UNIT: f32 = FRACTIONS as f32;
        const ORIGIN: f32 = 127.0 * Self::UNIT;
        const SHOWS_NAN: bool = false;
    };
    dot(a, b, c) _mm512_dpbf16_ps(c, pairs(a), pairs(b));
    weights(first, second) neighbours(powers(first, second));
}

/// The bits of words.
#[inline(always)]
fn pairs(words: __m512) -> __m512bh {
    // SAFETY: both are 64 bytes, of which any are valid.
    unsafe { std::mem::transmute(words) }
}

/// The powers of two, in bf16, whose exponents [`Avx512Bf16`] has for both: four of `first`, four of `second`, and so on.
///
/// The bits of a bf16, as an integer, are its exponent in 128ths, but for how far its mantissa lies below the fraction of
/// that: so an exponent is rounded to 128ths, and a table says how far. The error is that of one rounding more, the time 8
/// cycles less for 32 of them than that of polynomials in f32 on a core of an Emerald Rapids.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn powers(first: __m512, second: __m512) -> __m512i {
    const LOWER_BYTES: __mmask64 = 0x5555_5555_5555_5555;
    // SAFETY: the table is two vectors.
    let below: [__m512i; 2] = unsafe { std::mem::transmute(BELOW) };
    let bits = _mm512_packus_epi32(_mm512_cvtps_epi32(first), _mm512_cvtps_epi32(second));
    _mm512_sub_epi16(bits, _mm512_maskz_permutex2var_epi8(LOWER_BYTES, below[0], bits, below[1]))
}

/// Values between powers of two in bf16.
const FRACTIONS: usize = 128;

/// How far, for each fraction `f / 128` of an exponent, the mantissa of that power of two lies below `f`.
const BELOW: [u8; FRACTIONS] = {
    const ROOT: f64 = 1.005_429_901_112_802_8;
    let (mut below, mut power, mut f) = ([0; FRACTIONS], 1.0, 0);
    while f < FRACTIONS {
        below[f] = (f as f64 - FRACTIONS as f64 * (power - 1.0)).round() as u8;
        (power, f) = (power * ROOT, f + 1);
    }
    below
};

/// Words of the first and the second of what [`powers`] was given.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn neighbours(powers: __m512i) -> __m512 {
    let from = _mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15);
    _mm512_castsi512_ps(_mm512_shuffle_epi8(powers, _mm512_broadcast_i32x4(from)))
}
