//! The clock of exponential integrators: `lambda = log(alpha / sigma)`, half the logarithm of the signal-to-noise ratio.

use crate::sampling::{ModelSampling, Prediction};

/// A flow's first level may be pure noise, whose log SNR is infinite; start a hair below it, as ComfyUI does.
pub(super) fn below_pure_noise(model: &ModelSampling, sigmas: &[f64]) -> Vec<f64> {
    const PERCENT: f64 = 1e-4;
    let mut sigmas = sigmas.to_vec();
    if model.prediction() == Prediction::Flow && sigmas[0] >= 1.0 {
        sigmas[0] = f64::from(model.percent_to_sigma(PERCENT) as f32);
    }
    sigmas
}

/// The latent's share at a level.
pub(super) fn alpha(model: &ModelSampling, sigma: f64) -> f64 {
    model.noise_scaling(sigma).1
}

/// The level a share `r` of the way between two levels on this clock.
pub(super) fn level_between(model: &ModelSampling, sigma: f64, sigma_next: f64, r: f64) -> f64 {
    let (from, to) = (model.half_log_snr(sigma), model.half_log_snr(sigma_next));
    let noise_to_signal = (-(from + r * (to - from))).exp();
    match model.prediction() {
        Prediction::Flow => noise_to_signal / (1.0 + noise_to_signal),
        _ => noise_to_signal,
    }
}
