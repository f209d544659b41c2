use serde::Deserialize;

use super::{Algorithm, Builder, NoiseKind, Properties, Value, expect_not_negative};
use crate::error::Result;
use crate::sampling::{ModelSampling, Prediction};

/// How DPM-Solver++(2M) SDE brings in the slope of the denoised latent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Solver {
    /// By the midpoint rule.
    Midpoint,
    /// By Heun's rule.
    Heun,
}

/// DPM-Solver++(2M) for the SDE of Lu et al. 2022 (arXiv 2211.01095), as k-diffusion has it, on the clock
/// `lambda = log(alpha / sigma)`; its noise is a Brownian path over the levels.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dpmpp2mSde {
    /// The share of noise: 0 solves the ODE, 1 the SDE.
    pub eta: f64,
    /// The noise's standard deviation.
    pub s_noise: f64,
    /// The rule for the second order.
    pub solver_type: Solver,
}

impl Default for Dpmpp2mSde {
    fn default() -> Self {
        Dpmpp2mSde { eta: 1.0, s_noise: 1.0, solver_type: Solver::Midpoint }
    }
}

impl Algorithm for Dpmpp2mSde {
    fn properties(&self) -> Properties {
        Properties { order: 2, calls_per_step: 1, noise: NoiseKind::Brownian }
    }

    fn write(&self, model: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        expect_not_negative("dpmpp_2m_sde", "eta", self.eta)?;
        expect_not_negative("dpmpp_2m_sde", "s_noise", self.s_noise)?;
        let sigmas = below_pure_noise(model, sigmas);
        let mut x = p.start();
        let mut last: Option<(f64, Value)> = None;
        for (sigma, sigma_next) in super::steps(&sigmas) {
            p.step(sigma);
            let denoised = p.denoise(x, sigma);
            if sigma_next == 0.0 {
                return Ok(denoised);
            }
            let (lambda, lambda_next) = (model.half_log_snr(sigma), model.half_log_snr(sigma_next));
            let h = lambda_next - lambda;
            let alpha_next = sigma_next * lambda_next.exp();
            let h_eta = h * (self.eta + 1.0);
            let phi = -(-h_eta).exp_m1();
            let mut next = x * (sigma_next / sigma * (-h * self.eta).exp()) + denoised * (alpha_next * phi);
            if let Some((h_last, old_denoised)) = last {
                let r = h_last / h;
                let weight = match self.solver_type {
                    Solver::Midpoint => 0.5 * phi,
                    Solver::Heun => 1.0 - phi / h_eta,
                };
                next = next + (denoised - old_denoised) * (alpha_next * weight / r);
            }
            if self.eta > 0.0 && self.s_noise > 0.0 {
                let deviation = sigma_next * (-(-2.0 * h * self.eta).exp_m1()).sqrt();
                next = next + p.noise(sigma, sigma_next) * (deviation * self.s_noise);
            }
            x = p.combine(next);
            last = Some((h, denoised));
        }
        Ok(x)
    }
}

/// A flow's first level may be pure noise, whose log SNR is infinite; start a hair below it, as ComfyUI does.
fn below_pure_noise(model: &ModelSampling, sigmas: &[f64]) -> Vec<f64> {
    const PERCENT: f64 = 1e-4;
    let mut sigmas = sigmas.to_vec();
    if model.prediction() == Prediction::Flow && sigmas[0] >= 1.0 {
        sigmas[0] = f64::from(model.percent_to_sigma(PERCENT) as f32);
    }
    sigmas
}
