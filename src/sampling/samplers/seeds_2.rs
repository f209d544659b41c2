use serde::Deserialize;

use super::phi::phi;
use super::sde::{Path, SdeStep};
use super::snr::{below_pure_noise, level_between};
use super::{Algorithm, Builder, NoiseKind, Properties, Value, expect_not_negative, expect_share, steps};
use crate::error::Result;
use crate::sampling::ModelSampling;
use crate::sampling::program::Expr;

/// How the second stage of SEEDS-2 weighs its two predictions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
pub enum SeedsSolver {
    /// As one prediction, extrapolated from both.
    #[serde(rename = "phi_1")]
    Phi1,
    /// By the integral of the line through both.
    #[serde(rename = "phi_2")]
    Phi2,
}

/// SEEDS-2 of Gonzalez et al. 2023 (arXiv 2305.14267) with data prediction: exponential steps of two stages for the SDE.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Seeds2 {
    /// The share of noise: 0 solves the ODE, 1 the SDE.
    pub eta: f64,
    /// The noise's standard deviation.
    pub s_noise: f64,
    /// Where between the levels of a step the model is asked a second time, by log SNR; within (0, 1].
    pub r: f64,
    /// The weights of the second stage.
    pub solver_type: SeedsSolver,
}

impl Default for Seeds2 {
    fn default() -> Self {
        Seeds2 { eta: 1.0, s_noise: 1.0, r: 0.5, solver_type: SeedsSolver::Phi1 }
    }
}

impl Algorithm for Seeds2 {
    fn properties(&self) -> Properties {
        let noise = if self.eta > 0.0 && self.s_noise > 0.0 { NoiseKind::Gaussian } else { NoiseKind::None };
        Properties::new(2, 2, noise)
    }

    fn write(&self, model: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        expect_not_negative("seeds_2", "eta", self.eta)?;
        expect_not_negative("seeds_2", "s_noise", self.s_noise)?;
        expect_share("seeds_2", "r", self.r)?;
        let noisy = self.eta > 0.0 && self.s_noise > 0.0;
        let sigmas = below_pure_noise(model, sigmas);
        let mut x = p.start();
        for (sigma, sigma_next) in steps(&sigmas) {
            p.step(sigma);
            let denoised = p.denoise(x, sigma);
            if sigma_next == 0.0 {
                return Ok(denoised);
            }
            let sigma_mid = level_between(model, sigma, sigma_next, self.r);
            let mid = SdeStep::new(model, sigma, sigma_mid, self.eta);
            let whole = SdeStep::new(model, sigma, sigma_next, self.eta);
            let mut path = Path::new(self.eta);

            let mut x_mid = x * mid.decay + denoised * (mid.alpha * mid.h_eta * phi(1, -mid.h_eta));
            if noisy {
                let noise: Expr = path.draw(p, sigma, sigma_mid, self.r * whole.h).iter().copied().collect();
                x_mid = x_mid + noise * (sigma_mid * self.s_noise);
            }
            let x_mid = p.combine(x_mid);
            let denoised_mid = p.denoise(x_mid, sigma_mid);

            let change = match self.solver_type {
                SeedsSolver::Phi1 => phi(1, -whole.h_eta) / 2.0,
                SeedsSolver::Phi2 => phi(2, -whole.h_eta),
            };
            let data = denoised * phi(1, -whole.h_eta) + (denoised_mid - denoised) * (change / self.r);
            let mut next = x * whole.decay + data * (whole.alpha * whole.h_eta);
            if noisy {
                let noise: Expr =
                    path.draw(p, sigma_mid, sigma_next, (1.0 - self.r) * whole.h).iter().copied().collect();
                next = next + noise * (sigma_next * self.s_noise);
            }
            x = p.combine(next);
        }
        Ok(x)
    }
}
