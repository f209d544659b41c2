use bytemuck::{Pod, Zeroable};

use super::Compute;

/// Adds each `x` and its square to its place in `sums` and `squares`.
///
/// A square of f32 is exact in f64, so a mean a thousand or a million standard deviations from 0 costs the variance
/// nothing that f32 would show.
#[inline(always)]
pub(super) fn accumulate<E: Compute>(sums: &mut [f64], squares: &mut [f64], x: &[E]) {
    for ((sum, square), &x) in sums.iter_mut().zip(squares).zip(x) {
        let x = f64::from(x.widen());
        *sum += x;
        *square += x * x;
    }
}

/// What takes `x` to `(x - mean) / sqrt(variance + eps)`: `(x - centre) scale + rest`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Normaliser {
    centre: f32,
    scale: f64,
    rest: f64,
}

impl Normaliser {
    /// From the sums over `count` values.
    pub(super) fn new(sum: f64, squares: f64, count: usize, eps: f32) -> Self {
        let mean = sum / count as f64;
        let variance = squares / count as f64 - mean * mean;
        // Rounding may take a variance of 0 below it. A comparison rather than a maximum, so that NaN stays.
        let variance = if variance < 0.0 { 0.0 } else { variance };
        let scale = 1.0 / (variance + f64::from(eps)).sqrt();
        // The mean's nearest f32 is taken off first, which near the mean is exact; what it lacks comes off with the rest.
        let centre = mean as f32;
        Normaliser { centre, scale, rest: (f64::from(centre) - mean) * scale }
    }

    /// The same followed by `gamma` and `beta`, in f32.
    #[inline(always)]
    pub(super) fn affine(self, gamma: f32, beta: f32) -> Affine {
        let (gamma, beta) = (f64::from(gamma), f64::from(beta));
        Affine {
            centre: self.centre,
            scale: (self.scale * gamma) as f32,
            offset: (self.rest * gamma + beta) as f32,
        }
    }
}

/// `(x - centre) scale + offset`
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Affine {
    centre: f32,
    scale: f32,
    offset: f32,
}

impl Affine {
    #[inline(always)]
    pub(super) fn apply(self, x: f32) -> f32 {
        (x - self.centre) * self.scale + self.offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_between_two_neighbouring_floats_is_taken_off_whole() {
        let x = [1e6_f32, 1e6_f32.next_up()];
        let (mut sum, mut square) = ([0.0], [0.0]);
        x.iter().for_each(|&x| accumulate(&mut sum, &mut square, &[x]));
        let affine = Normaliser::new(sum[0], square[0], 2, 1e-12).affine(1.0, 0.0);
        for (x, expected) in x.into_iter().zip([-1.0, 1.0]) {
            let y = affine.apply(x);
            assert!((y - expected).abs() < 1e-2, "{y} instead of {expected}");
        }
    }
}
