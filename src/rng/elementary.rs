//! Logarithm, sine and cosine from plain IEEE additions and multiplications.
//!
//! A system's math library rounds these differently from machine to machine; noise made of them would differ
//! too. These give the same bits wherever `f32` and `f64` are IEEE numbers, and the compiler can vectorise them.

use std::f64::consts::{FRAC_2_PI, FRAC_PI_2, LN_2};

/// Fails unless `f`, which must be inlined, gives the same bits compiled for every width of vectors that this machine has.
#[cfg(test)]
pub(super) fn assert_same_bits_at_every_width(f: impl Fn() -> Vec<f32> + Copy) {
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    let baseline = bits(f());
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(avx2) = pulp::x86::V3::try_new() {
            assert!(bits(avx2.vectorize(f)) == baseline, "AVX2");
        }
        if let Some(avx512) = pulp::x86::V4::try_new() {
            assert!(bits(avx512.vectorize(f)) == baseline, "AVX-512");
        }
    }
    assert!(bits(crate::simd::vectorised(f)) == baseline, "as dispatched");
}

const SQRT_HALF_F32: u32 = 0x3f35_04f3;
const SQRT_HALF_F64: u64 = 0x3fe6_a09e_667f_3bcd;

/// Adding and subtracting this rounds a small `f32` to an integer, which the sum's low bits then hold.
const ROUND_F32: f32 = 1.5 * (1 << 23) as f32;
/// The same for `f64`.
const ROUND_F64: f64 = 1.5 * (1u64 << 52) as f64;

/// The natural logarithm of a positive normal number, to 1 ulp on (0, 1].
///
/// Polynomial: Cephes `logf` (Moshier 1992).
#[inline(always)]
pub(super) fn ln_f32(x: f32) -> f32 {
    let shifted = x.to_bits().wrapping_sub(SQRT_HALF_F32);
    let exponent = ((shifted as i32) >> 23) as f32;
    let m = f32::from_bits((shifted & 0x007f_ffff) + SQRT_HALF_F32) - 1.0;
    let square = m * m;
    // Pairs of terms at once (Estrin): half the wait of Horner's rule.
    let fourth = square * square;
    let poly = (3.333_333e-1 - 2.499_999_4e-1 * m)
        + (2.000_071_5e-1 - 1.666_805_8e-1 * m) * square
        + ((1.424_932_3e-1 - 1.242_014_1e-1 * m) + (1.167_699_9e-1 - 1.151_461e-1 * m) * square) * fourth
        + 7.037_683_6e-2 * fourth * fourth;
    // ln 2 in two parts; the first has few enough bits for its product to be exact.
    let low = poly * m * square - exponent * 2.121_944_4e-4 - 0.5 * square;
    m + low + exponent * 0.693_359_4
}

/// The sine and cosine of an angle in [0, 2π], each to 2 ulp.
///
/// Polynomials: Cephes `sinf` and `cosf` (Moshier 1992), on [-π/4, π/4].
#[inline(always)]
pub(super) fn sin_cos_f32(angle: f32) -> (f32, f32) {
    let rounded = angle * FRAC_2_PI as f32 + ROUND_F32;
    let quadrant = rounded.to_bits();
    let quarters = rounded - ROUND_F32;
    // π/2 in three parts; the first two have few enough bits for their products to be exact.
    let x = angle - quarters * 1.570_796_5 + quarters * 1.629_206_8e-7 - quarters * 5.390_303e-15;
    let square = x * x;
    let sin = ((-1.951_529_6e-4 * square + 8.332_161e-3) * square - 1.666_665_5e-1) * square * x + x;
    let cos = ((2.443_315_7e-5 * square - 1.388_731_6e-3) * square + 4.166_664_6e-2) * square * square
        - 0.5 * square
        + 1.0;
    let (sin, cos) = if quadrant & 1 == 0 { (sin, cos) } else { (cos, sin) };
    let sin_sign = (quadrant & 2) << 30;
    let cos_sign = (quadrant.wrapping_add(1) & 2) << 30;
    (f32::from_bits(sin.to_bits() ^ sin_sign), f32::from_bits(cos.to_bits() ^ cos_sign))
}

/// The natural logarithm of a positive normal number, by the series of 2 artanh((m - 1) / (m + 1)).
pub(super) fn ln_f64(x: f64) -> f64 {
    let shifted = x.to_bits().wrapping_sub(SQRT_HALF_F64);
    let exponent = ((shifted as i64) >> 52) as f64;
    let m = f64::from_bits((shifted & ((1 << 52) - 1)) + SQRT_HALF_F64);
    let s = (m - 1.0) / (m + 1.0);
    let series = (0..13).rev().fold(0.0, |sum, k| sum * s * s + 1.0 / f64::from(2 * k + 1));
    2.0 * s * series + exponent * LN_2
}

/// The sine and cosine of an angle in [0, 2π], by their Taylor series on [-π/4, π/4].
pub(super) fn sin_cos_f64(angle: f64) -> (f64, f64) {
    const FRAC_PI_2_LOW: f64 = 6.123_233_995_736_766e-17;
    let rounded = angle * FRAC_2_PI + ROUND_F64;
    let quarters = rounded - ROUND_F64;
    let x = angle - quarters * FRAC_PI_2 - quarters * FRAC_PI_2_LOW;
    let series = |first: u32| {
        (0..10).rev().map(|k| first + 2 * k).fold(0.0, |sum, n| 1.0 - sum * x * x / f64::from(n * (n + 1)))
    };
    let (sin, cos) = (x * series(2), series(1));
    match rounded.to_bits() & 3 {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f32::consts::TAU;

    /// Every number that a 24-bit draw can be.
    fn draws() -> impl Iterator<Item = f32> {
        (0..1u32 << 24).map(|bits| bits as f32 / (1 << 24) as f32)
    }

    /// The distance from `got` to `want`, in units of the last place of `want` as an `f32`.
    fn ulps(got: f32, want: f64) -> f64 {
        let want_f32 = (want.abs() as f32).max(f32::MIN_POSITIVE);
        (f64::from(got) - want).abs() / f64::from(want_f32.next_up() - want_f32)
    }

    #[test]
    fn ln_is_accurate_for_every_draw() {
        let worst = draws().map(|u| 1.0 - u).map(|x| ulps(ln_f32(x), f64::from(x).ln())).fold(0.0, f64::max);
        println!("ln_f32: {worst:.3} ulp");
        assert!(worst < 1.0, "{worst} ulp");
    }

    #[test]
    fn sin_and_cos_are_accurate_for_every_draw() {
        let worst = draws().map(|u| TAU * u).fold((0.0f64, 0.0f64), |worst, angle| {
            let (sin, cos) = sin_cos_f32(angle);
            let want = f64::from(angle).sin_cos();
            (worst.0.max(ulps(sin, want.0)), worst.1.max(ulps(cos, want.1)))
        });
        println!("sin_cos_f32: {worst:.3?} ulp");
        assert!(worst.0 < 2.0 && worst.1 < 2.0, "{worst:?} ulp");
    }

    #[test]
    fn f64_functions_agree_with_the_math_library() {
        let draws = || (0..1u32 << 20).map(|k| (f64::from(k) + 0.37) / f64::from(1 << 20));
        for x in draws().chain([f64::EPSILON / 2.0, 1.0]) {
            let error = (ln_f64(x) - x.ln()).abs();
            assert!(error <= 1e-15 * x.ln().abs(), "ln({x}): {error:e}");
        }
        for angle in draws().map(|u| u * std::f64::consts::TAU) {
            let ((sin, cos), want) = (sin_cos_f64(angle), angle.sin_cos());
            let error = (sin - want.0).abs().max((cos - want.1).abs());
            assert!(error <= 1e-15, "sin, cos({angle}): {error:e}");
        }
    }
}
