use super::{Builder, Value, steps};
use crate::sampling::program::Expr;

/// A linear multistep method on the slope `d = (x - denoised) / sigma`. `weights` gives what each of the slopes at the
/// last levels, newest first, counts in the step from the first of them to the next level. A step to 0 goes to the
/// denoised latent.
pub(super) fn multistep(
    p: &mut Builder,
    sigmas: &[f64],
    order: usize,
    weights: impl Fn(&[f64], f64) -> Vec<f64>,
) -> Value {
    let mut x = p.start();
    let (mut levels, mut slopes) = (Vec::new(), Vec::new());
    for (sigma, sigma_next) in steps(sigmas) {
        p.step(sigma);
        let denoised = p.denoise(x, sigma);
        if sigma_next == 0.0 {
            return denoised;
        }
        levels.insert(0, sigma);
        slopes.insert(0, p.combine((x - denoised) / sigma));
        levels.truncate(order);
        slopes.truncate(order);
        let sum: Expr = weights(&levels, sigma_next).into_iter().zip(slopes.iter().copied()).collect();
        x = p.combine(x + sum);
    }
    x
}
