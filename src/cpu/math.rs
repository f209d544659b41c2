//! Elementary functions in f32: no branches, no tables, so that loops over them vectorise, and the same bits on every
//! machine. The polynomials are minimax fits. What will be rounded to bf16, 2^-9 of it, takes shorter ones, within 2^-12.

use super::Compute;
use crate::ops::Activation;
use crate::tensor::DType;

/// Added to a small number, its last bit is worth 1.
const ROUND: f32 = 12_582_912.0;

/// `e` to the power `x`, within 2 ulp; below the normal range within one subnormal step.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // The 17 leading bits of ln 2, times which a small integer is exact, and the rest.
    const LN_2_HIGH: f32 = 0.693_145_75;
    const LN_2_LOW: f32 = 1.428_606_8e-6;

    // Past these bounds the result is 0 or infinite anyway. NaN passes.
    let x = x.clamp(-105.0, 89.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let tail = polynomial(r, [0.499_999_93, 0.166_665_2, 0.041_668_39, 0.008_368_717, 0.001_381_459_9]);
    let e_r = 1.0 + (r + r * r * tail);
    // Two factors, for 2^n alone may lie outside the normal range when the result does not.
    let n = (rounded.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    e_r * power_of_two(n >> 1) * power_of_two(n.wrapping_sub(n >> 1))
}

/// `2^n` for `n` within the exponents of normal numbers.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// `coefficients[0] + coefficients[1] x + ..`
#[inline(always)]
fn polynomial<const TERMS: usize>(x: f32, coefficients: [f32; TERMS]) -> f32 {
    let mut sum = coefficients[TERMS - 1];
    for coefficient in coefficients[..TERMS - 1].iter().rev() {
        sum = sum.mul_add(x, *coefficient);
    }
    sum
}

/// `g/2 (1 + erf(g / sqrt 2))`, within 2^-23 of `g`; for bf16 within 2^-12 of the result too.
#[inline(always)]
pub(super) fn gelu<E: Compute>(g: f32) -> f32 {
    if is_coarse::<E>() {
        return coarse_gelu(g);
    }
    // 1 - erf(a / sqrt 2) = 2^(-a q(a)), from which `g` makes nothing that counts from 6 on.
    let a = g.abs();
    let q = [
        1.151_105_2,
        0.459_208_2,
        0.052_496_18,
        -7.063_42e-3,
        1.369_363_7e-4,
        1.861_802_4e-4,
        -3.937_769e-5,
        2.834_913e-6,
    ];
    let erfc = if a < 6.0 { exp2(-a * polynomial(a, q)) } else { 0.0 };
    0.5 * g * if g < 0.0 { erfc } else { 2.0 - erfc }
}

/// The same as `max(g, 0) - a 2^(-a q(a) - 1)`, whose `q` grows so that the power is 0 from 12.11 on.
#[inline(always)]
fn coarse_gelu(g: f32) -> f32 {
    /// Added to a small number `n`, its last bits are the exponent of 2^(n - 1), or of 0 if `n` is -126.
    const HALVES: f32 = ROUND + 126.0;
    // Comparisons rather than a minimum and a maximum, so that NaN stays.
    let a = if g.abs() > 12.11 { 12.11 } else { g.abs() };
    let minus_q =
        polynomial(a, [-1.149_725_9, -0.463_449_84, -4.856_179_3e-2, 5.893_679e-3, -3.252_206_7e-4]);
    let rounded = a.mul_add(minus_q, HALVES);
    let rest = a.mul_add(minus_q, HALVES - rounded);
    let power = polynomial(rest, POWERS) * f32::from_bits(rounded.to_bits() << 23);
    (-a).mul_add(power, if g > 0.0 { g } else { 0.0 })
}

/// Whether results are rounded to bf16.
#[inline(always)]
fn is_coarse<E: Compute>() -> bool {
    E::DTYPE == DType::BF16
}

/// 2 to the power `x`, within 2 ulp, if that is a normal number.
#[inline(always)]
fn exp2(x: f32) -> f32 {
    let rounded = x + ROUND;
    let r = x - (rounded - ROUND);
    let rest = polynomial(
        r,
        [std::f32::consts::LN_2, 0.240_226_48, 0.055_503_32, 9.618_439e-3, 1.339_900_3e-3, 1.535_325_9e-4],
    );
    (1.0 + r * rest) * power_of_two((rounded.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32))
}

/// 2 to a power from -1/2 to 1/2, within 2^-13.
const POWERS: [f32; 4] = [0.999_928, 0.693_260_97, 0.242_611_38, 5.517_177_3e-2];

/// The same as [`exp2`] within 2^-13.
#[inline(always)]
fn coarse_exp2(x: f32) -> f32 {
    let rounded = x + ROUND;
    polynomial(x - (rounded - ROUND), POWERS)
        * power_of_two((rounded.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32))
}

/// `1 / x` within 2^-17 for `x` from 1 to 2^120, by Newton's method, for a division takes as long as all that is around it.
#[inline(always)]
fn coarse_reciprocal(x: f32) -> f32 {
    // Subtracting its bits negates the exponent; what that makes of the rest is off by an eighth.
    let guess = f32::from_bits(0x7EF3_11C3_u32.wrapping_sub(x.to_bits()));
    let error = (-x).mul_add(guess, 1.0);
    let better = guess.mul_add(error.mul_add(error, error), guess);
    better.mul_add((-x).mul_add(better, 1.0), better)
}

/// `y / (1 + e^-y)`; for bf16 within 2^-13, and no nearer to 0 than at -80.
#[inline(always)]
fn silu<E: Compute>(y: f32) -> f32 {
    if !is_coarse::<E>() {
        return y / (1.0 + exp(-y));
    }
    let power = (y * -std::f32::consts::LOG2_E).clamp(-126.0, 116.0);
    y.clamp(-80.0, f32::INFINITY) * coarse_reciprocal(1.0 + coarse_exp2(power))
}

/// Applies an elementwise activation. GEGLU is not one: `linear` applies it, no other operation accepts it.
#[inline(always)]
pub(super) fn activate<E: Compute>(y: f32, activation: Activation) -> f32 {
    match activation {
        Activation::Identity | Activation::Geglu => y,
        // A comparison rather than a maximum, so that NaN stays.
        Activation::Relu => {
            if y < 0.0 {
                0.0
            } else {
                y
            }
        }
        Activation::Silu => silu::<E>(y),
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    /// The largest error in ulp of the exact value (of the smallest normal number, if that is larger) over a sweep.
    fn worst(range: std::ops::Range<f32>, f: fn(f32) -> f32, exact: fn(f64) -> f64) -> (f64, f32) {
        const STEPS: u32 = 2_000_000;
        (0..=STEPS)
            .map(|i| range.start + (range.end - range.start) * (i as f32 / STEPS as f32))
            .map(|x| {
                let exact = exact(f64::from(x));
                let exponent = exact.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor();
                ((f64::from(f(x)) - exact).abs() / (exponent - 23.0).exp2(), x)
            })
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .unwrap()
    }

    #[test]
    fn exp_is_within_two_ulp() {
        for range in [-104.0..88.72, -1.0..1.0, -20.0..0.0] {
            let (error, at) = worst(range, exp, f64::exp);
            assert!(error <= 2.0, "{error} ulp at {at}");
        }
    }

    #[test]
    fn exp_at_the_ends() {
        assert_eq!([exp(0.0), exp(f32::NEG_INFINITY), exp(-200.0)], [1.0, 0.0, 0.0]);
        assert_eq!([exp(f32::INFINITY), exp(89.0)], [f32::INFINITY; 2]);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn exp2_is_within_two_ulp() {
        let (error, at) = worst(-126.0..126.0, exp2, f64::exp2);
        assert!(error <= 2.0, "{error} ulp at {at}");
    }

    #[test]
    fn gelu_is_within_two_roundings_of_its_argument() {
        for i in -1_000_000..=1_000_000 {
            let g = i as f32 / 1e5;
            let exact = f64::from(g) / 2.0 * libm::erfc(-f64::from(g) / f64::sqrt(2.0));
            let error = (f64::from(gelu::<f32>(g)) - exact).abs();
            assert!(error <= f64::from(f32::EPSILON * g.abs()), "{error} at {g}");
            let error = (f64::from(gelu::<bf16>(g)) - exact).abs();
            assert!(error <= 2f64.powi(-12) * exact.abs() + 1e-8, "{error} at {g}");
        }
    }

    #[test]
    fn silu_for_bf16_is_within_a_sixteenth_of_its_rounding() {
        for i in -1_000_000..=1_000_000 {
            let y = i as f32 / 1e4;
            let exact = f64::from(y) / (1.0 + (-f64::from(y)).exp());
            let error = (f64::from(silu::<bf16>(y)) - exact).abs();
            assert!(error <= 2f64.powi(-13) * exact.abs() + 1e-32, "{error} at {y}");
        }
        assert_eq!(
            [silu::<bf16>(0.0), silu::<bf16>(1e30), silu::<bf16>(f32::INFINITY)],
            [0.0, 1e30, f32::INFINITY]
        );
    }

    #[test]
    fn gelu_at_the_ends() {
        assert_eq!(
            [gelu::<f32>(0.0), gelu::<f32>(1e30), gelu::<f32>(-1e30), gelu::<f32>(f32::INFINITY)],
            [0.0, 1e30, 0.0, f32::INFINITY]
        );
        assert_eq!(
            [gelu::<bf16>(0.0), gelu::<bf16>(1e30), gelu::<bf16>(-1e30), gelu::<bf16>(f32::INFINITY)],
            [0.0, 1e30, 0.0, f32::INFINITY]
        );
    }

    #[test]
    fn activations_keep_nan() {
        for activation in [Activation::Identity, Activation::Relu, Activation::Silu] {
            assert!(activate::<f32>(f32::NAN, activation).is_nan(), "{activation:?}");
            assert!(activate::<bf16>(f32::NAN, activation).is_nan(), "{activation:?}");
        }
        assert!(gelu::<f32>(f32::NAN).is_nan() && gelu::<bf16>(f32::NAN).is_nan());
    }
}
