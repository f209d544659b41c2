use serde::Deserialize;

use super::phi::phi;
use super::sde::SdeStep;
use super::snr::below_pure_noise;
use super::{Algorithm, Builder, NoiseKind, Properties, Stochastic, Value, steps};
use crate::error::Result;
use crate::sampling::ModelSampling;

/// The third-order multistep DPM-Solver++ (Lu et al. 2022, arXiv 2211.01095) for the SDE, as k-diffusion has it, on the
/// clock `lambda = log(alpha / sigma)`; its noise is a Brownian path over the levels. The second derivative counts half of
/// what it should, in the authors' code as well, which leaves the order at 2.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(transparent)]
pub struct Dpmpp3mSde(pub Stochastic);

impl Algorithm for Dpmpp3mSde {
    fn properties(&self) -> Properties {
        Properties::new(2, 1, NoiseKind::Brownian)
    }

    fn write(&self, model: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        self.0.check("dpmpp_3m_sde")?;
        let sigmas = below_pure_noise(model, sigmas);
        let mut x = p.start();
        let mut history: Vec<(f64, Value)> = Vec::new();
        for (sigma, sigma_next) in steps(&sigmas) {
            p.step(sigma);
            let denoised = p.denoise(x, sigma);
            if sigma_next == 0.0 {
                return Ok(denoised);
            }
            let SdeStep { h, h_eta, alpha, decay, deviation } =
                SdeStep::new(model, sigma, sigma_next, self.0.eta);
            let weight = |k| alpha * h_eta * phi(k, -h_eta);
            let mut next = x * decay + denoised * weight(1);
            match *history {
                [(h_1, denoised_1), (h_2, denoised_2), ..] => {
                    let (r0, r1) = (h_1 / h, h_2 / h);
                    let d1_0 = (denoised - denoised_1) / r0;
                    let d1_1 = (denoised_1 - denoised_2) / r1;
                    let d2 = (d1_0.clone() - d1_1) / (r0 + r1);
                    let d1 = d1_0 + d2.clone() * r0;
                    next = next + d1 * weight(2) + d2 * weight(3);
                }
                [(h_1, denoised_1)] => next = next + (denoised - denoised_1) * (weight(2) * h / h_1),
                [] => {}
            }
            if deviation > 0.0 && self.0.s_noise > 0.0 {
                next = next + p.noise(sigma, sigma_next) * (deviation * self.0.s_noise);
            }
            x = p.combine(next);
            history.insert(0, (h, denoised));
            history.truncate(2);
        }
        Ok(x)
    }
}
