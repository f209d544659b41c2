//! Sigma tools: cutting, turning and filling the levels of a run, as ComfyUI's nodes of these names do. They take any
//! levels and leave it to the sampler to refuse those that it cannot follow.

use std::f32::consts::FRAC_PI_2;
use std::ops::RangeInclusive;

use super::{expect_within, linspace};
use crate::error::{Error, Result};

/// The levels up to and from step `step`, which both parts share (`SplitSigmas`).
///
/// # Errors
/// [`Error::Value`] for a step beyond the last level.
pub fn split(sigmas: &[f32], step: usize) -> Result<(&[f32], &[f32])> {
    if step >= sigmas.len() {
        let expected = format!("one of {} levels", sigmas.len());
        return Err(Error::Value { op: "split", what: "step", expected, got: step.to_string() });
    }
    Ok((&sigmas[..=step], &sigmas[step..]))
}

/// The levels split so that the second part has the share `denoise` of the steps (`SplitSigmasDenoise`), a half rounded to
/// even. Where that is no step, the first part is all.
///
/// # Errors
/// [`Error::Value`] for no levels, and for a `denoise` outside `[0, 1]`.
pub fn split_denoise(sigmas: &[f32], denoise: f64) -> Result<(&[f32], &[f32])> {
    expect_within("split_denoise", "denoise", denoise, 0.0..=1.0)?;
    let steps = sigmas.len().saturating_sub(1);
    split(sigmas, steps - (steps as f64 * denoise).round_ties_even() as usize)
}

/// The levels from last to first, a 0 at the start replaced by 0.0001, from which noise can grow (`FlipSigmas`).
pub fn flip(sigmas: &[f32]) -> Vec<f32> {
    const NEARLY_ZERO: f32 = 0.0001;
    let mut flipped: Vec<f32> = sigmas.iter().rev().copied().collect();
    if let Some(first) = flipped.first_mut().filter(|first| **first == 0.0) {
        *first = NEARLY_ZERO;
    }
    flipped
}

/// The levels with another first (`SetFirstSigma`).
///
/// # Errors
/// [`Error::Value`] for no levels, and for a sigma that is not finite or is negative.
pub fn set_first(sigmas: &[f32], sigma: f32) -> Result<Vec<f32>> {
    let Some((_, rest)) = sigmas.split_first() else {
        let (what, expected) = ("sigmas", "at least 1".into());
        return Err(Error::Value { op: "set_first", what, expected, got: "0".into() });
    };
    expect_within("set_first", "sigma", sigma, 0.0..=f32::MAX)?;
    Ok([sigma].into_iter().chain(rest.iter().copied()).collect())
}

/// How [`extend_intermediate`] lays new levels between two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Spacing {
    /// Evenly.
    #[default]
    Linear,
    /// Along the first quarter of a sine, closest at the end; ComfyUI calls it `cosine`.
    Cosine,
    /// Along the first quarter of a cosine, closest at the start; ComfyUI calls it `sine`.
    Sine,
}

impl Spacing {
    fn share(self, x: f32) -> f32 {
        match self {
            Spacing::Linear => x,
            Spacing::Cosine => (x * FRAC_PI_2).sin(),
            Spacing::Sine => 1.0 - (x * FRAC_PI_2).cos(),
        }
    }
}

/// The levels with every step that starts `within` a range cut into `steps` (`ExtendIntermediateSigmas`, whose
/// `end_at_sigma` and `start_at_sigma` are the range's ends).
///
/// # Errors
/// [`Error::Value`] unless `steps` is within 1 to 100.
pub fn extend_intermediate(
    sigmas: &[f32],
    steps: usize,
    within: RangeInclusive<f32>,
    spacing: Spacing,
) -> Result<Vec<f32>> {
    expect_within("extend_intermediate", "steps", steps, 1..=100)?;
    let shares: Vec<f32> =
        linspace(0.0, 1.0, steps + 1).skip(1).take(steps - 1).map(|x| spacing.share(x)).collect();
    let mut extended = Vec::new();
    for pair in sigmas.windows(2) {
        let (sigma, sigma_next) = (pair[0], pair[1]);
        extended.push(sigma);
        if within.contains(&sigma) {
            extended.extend(shares.iter().map(|share| share * (sigma_next - sigma) + sigma));
        }
    }
    extended.extend(sigmas.last());
    Ok(extended)
}
