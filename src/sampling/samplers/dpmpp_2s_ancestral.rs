use serde::Deserialize;

use super::snr::level_between;
use super::{Algorithm, Builder, NoiseKind, Properties, Stochastic, Value, steps};
use crate::error::Result;
use crate::sampling::ModelSampling;
use crate::sampling::program::Expr;

/// Ancestral sampling with the steps of DPM-Solver++(2S), Algorithm 1 of Lu et al. 2022 (arXiv 2211.01095), as k-diffusion
/// has it; for a rectified flow, as ComfyUI has it.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(transparent)]
pub struct Dpmpp2sAncestral(pub Stochastic);

impl Algorithm for Dpmpp2sAncestral {
    fn properties(&self) -> Properties {
        Properties::new(2, 2, NoiseKind::Gaussian)
    }

    fn write(&self, model: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        self.0.check("dpmpp_2s_ancestral")?;
        let mut x = p.start();
        for (sigma, sigma_next) in steps(sigmas) {
            p.step(sigma);
            let denoised = p.denoise(x, sigma);
            let ancestral = self.0.step(model, sigma, sigma_next);
            let down = ancestral.down;
            let deterministic = if down == 0.0 {
                denoised.into()
            } else {
                let sigma_mid = midway(model, sigma, down);
                let mid = p.combine(towards(x.into(), denoised, sigma_mid / sigma));
                let denoised_mid = p.denoise(mid, sigma_mid);
                towards(x.into(), denoised_mid, down / sigma)
            };
            x = ancestral.renoise(p, deterministic, sigma, sigma_next);
        }
        Ok(x)
    }
}

/// The first-order step to a level `ratio` times as high, from a latent whose clean part is `denoised`.
pub(super) fn towards(x: Expr, denoised: Value, ratio: f64) -> Expr {
    x * ratio + denoised * (1.0 - ratio)
}

/// Halfway by log SNR. Pure noise has none, so that the way from there stays near it, as in ComfyUI.
fn midway(model: &ModelSampling, sigma: f64, down: f64) -> f64 {
    const NEAR_PURE_NOISE: f64 = 0.9999;
    if model.half_log_snr(sigma).is_finite() {
        level_between(model, sigma, down, 0.5)
    } else {
        NEAR_PURE_NOISE
    }
}
