use serde::Deserialize;

use super::phi::phi;
use super::sde::SdeStep;
use super::snr::below_pure_noise;
use super::{Algorithm, Builder, NoiseKind, Properties, Value, expect_not_negative, steps};
use crate::error::Result;
use crate::sampling::ModelSampling;

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
        Properties::new(2, 1, NoiseKind::Brownian)
    }

    fn write(&self, model: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        expect_not_negative("dpmpp_2m_sde", "eta", self.eta)?;
        expect_not_negative("dpmpp_2m_sde", "s_noise", self.s_noise)?;
        let sigmas = below_pure_noise(model, sigmas);
        let mut x = p.start();
        let mut last: Option<(f64, Value)> = None;
        for (sigma, sigma_next) in steps(&sigmas) {
            p.step(sigma);
            let denoised = p.denoise(x, sigma);
            if sigma_next == 0.0 {
                return Ok(denoised);
            }
            let SdeStep { h, h_eta, alpha, decay, deviation } =
                SdeStep::new(model, sigma, sigma_next, self.eta);
            let mut next = x * decay + denoised * (alpha * h_eta * phi(1, -h_eta));
            if let Some((h_last, old_denoised)) = last {
                let r = h_last / h;
                let weight = match self.solver_type {
                    Solver::Midpoint => 0.5 * phi(1, -h_eta),
                    Solver::Heun => phi(2, -h_eta),
                };
                next = next + (denoised - old_denoised) * (alpha * h_eta * weight / r);
            }
            if deviation > 0.0 && self.s_noise > 0.0 {
                next = next + p.noise(sigma, sigma_next) * (deviation * self.s_noise);
            }
            x = p.combine(next);
            last = Some((h, denoised));
        }
        Ok(x)
    }
}
