use serde::Deserialize;

use super::ancestral::ancestral_step;
use super::snr::{alpha, below_pure_noise, level_between};
use super::{Algorithm, Builder, NoiseKind, Properties, Value, expect_not_negative, expect_share, steps};
use crate::error::Result;
use crate::sampling::ModelSampling;
use crate::sampling::program::Expr;

/// DPM-Solver++(2S) (Lu et al. 2022, arXiv 2211.01095) for the SDE, as k-diffusion has it; its noise is a Brownian path
/// over the levels.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DpmppSde {
    /// The share of an ancestral step's noise: 0 solves the ODE.
    pub eta: f64,
    /// The noise's standard deviation.
    pub s_noise: f64,
    /// Where between the levels of a step the model is asked a second time, by log SNR; within (0, 1].
    pub r: f64,
}

impl Default for DpmppSde {
    fn default() -> Self {
        DpmppSde { eta: 1.0, s_noise: 1.0, r: 0.5 }
    }
}

impl Algorithm for DpmppSde {
    fn properties(&self) -> Properties {
        Properties::new(2, 2, NoiseKind::Brownian)
    }

    fn write(&self, model: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        expect_not_negative("dpmpp_sde", "eta", self.eta)?;
        expect_not_negative("dpmpp_sde", "s_noise", self.s_noise)?;
        expect_share("dpmpp_sde", "r", self.r)?;
        let sigmas = below_pure_noise(model, sigmas);
        let mut x = p.start();
        for (sigma, sigma_next) in steps(&sigmas) {
            p.step(sigma);
            let denoised = p.denoise(x, sigma);
            if sigma_next == 0.0 {
                return Ok(denoised);
            }
            let sigma_mid = level_between(model, sigma, sigma_next, self.r);
            let mid = self.step(model, p, x, denoised.into(), (sigma, sigma_mid));
            let denoised_mid = p.denoise(mid, sigma_mid);
            let data = denoised + (denoised_mid - denoised) / (2.0 * self.r);
            x = self.step(model, p, x, data, (sigma, sigma_next));
        }
        Ok(x)
    }
}

impl DpmppSde {
    /// The ancestral first-order step between two levels, for a model that predicts `data` all along.
    fn step(
        &self,
        model: &ModelSampling,
        p: &mut Builder,
        x: Value,
        data: Expr,
        (sigma, sigma_next): (f64, f64),
    ) -> Value {
        let (alpha, alpha_next) = (alpha(model, sigma), alpha(model, sigma_next));
        let (down, up) = ancestral_step(sigma / alpha, sigma_next / alpha_next, self.eta);
        let ratio = down / (sigma / alpha);
        let mut next = x * (alpha_next / alpha * ratio) + data * (alpha_next * (1.0 - ratio));
        if up > 0.0 && self.s_noise > 0.0 {
            next = next + p.noise(sigma, sigma_next) * (alpha_next * up * self.s_noise);
        }
        p.combine(next)
    }
}
