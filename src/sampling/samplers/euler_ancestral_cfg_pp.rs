use serde::Deserialize;

use super::ancestral::ancestral_step;
use super::snr::alpha;
use super::{Algorithm, Builder, NoiseKind, Properties, Stochastic, Value, steps};
use crate::error::Result;
use crate::sampling::ModelSampling;

/// CFG++ of Chung et al. 2024 (arXiv 2406.08070) with Euler steps, ancestral or not: the guided prediction is renoised in
/// the direction of the negative one. On a flow too, whose latent's share is not 1.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(transparent)]
pub struct EulerAncestralCfgPp(pub Stochastic);

impl Algorithm for EulerAncestralCfgPp {
    fn properties(&self) -> Properties {
        let noise = if self.0.eta > 0.0 { NoiseKind::Gaussian } else { NoiseKind::None };
        Properties::new(1, 1, noise)
    }

    fn write(&self, model: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        self.0.check("euler_ancestral_cfg_pp")?;
        let mut x = p.start();
        for (sigma, sigma_next) in steps(sigmas) {
            p.step(sigma);
            let (denoised, negative) = p.denoise_cfgpp(x, sigma);
            if sigma_next == 0.0 {
                return Ok(denoised);
            }
            let (alpha, alpha_next) = (alpha(model, sigma), alpha(model, sigma_next));
            let d = (x - negative * alpha) / sigma;
            let (down, up) = ancestral_step(sigma / alpha, sigma_next / alpha_next, self.0.eta);
            let mut next = (denoised + d * down) * alpha_next;
            if up > 0.0 && self.0.s_noise > 0.0 {
                next = next + p.noise(sigma, sigma_next) * (alpha_next * up * self.0.s_noise);
            }
            x = p.combine(next);
        }
        Ok(x)
    }
}
