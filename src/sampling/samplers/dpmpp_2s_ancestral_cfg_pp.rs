use serde::Deserialize;

use super::ancestral::ancestral_step;
use super::dpmpp_2s_ancestral::towards;
use super::{Algorithm, Builder, NoiseKind, Properties, Stochastic, Value, steps};
use crate::error::Result;
use crate::sampling::ModelSampling;

/// [`Dpmpp2sAncestral`](super::Dpmpp2sAncestral) with CFG++ (Chung et al. 2024, arXiv 2406.08070), as ComfyUI 0.3.64 has
/// it: for diffusions, not flows.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(transparent)]
pub struct Dpmpp2sAncestralCfgPp(pub Stochastic);

impl Algorithm for Dpmpp2sAncestralCfgPp {
    fn properties(&self) -> Properties {
        Properties { flow: false, ..Properties::new(0, 2, NoiseKind::Gaussian) }
    }

    fn write(&self, _: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        self.0.check("dpmpp_2s_ancestral_cfg_pp")?;
        let mut x = p.start();
        for (sigma, sigma_next) in steps(sigmas) {
            p.step(sigma);
            let (denoised, negative) = p.denoise_cfgpp(x, sigma);
            let (down, up) = ancestral_step(sigma, sigma_next, self.0.eta);
            let mut next = denoised.into();
            if down > 0.0 {
                let sigma_mid = (sigma * down).sqrt();
                let mid = p.combine(towards(x + denoised - negative, denoised, sigma_mid / sigma));
                // The second stage mixes the first one's guided prediction with its own negative one: ComfyUI's issue
                // 14814, kept for its pictures' sake, though no number of steps makes up for it.
                let (denoised_mid, negative_mid) = p.denoise_cfgpp(mid, sigma_mid);
                next = towards(x + denoised - negative_mid, denoised_mid, down / sigma);
            }
            if up > 0.0 {
                next = next + p.noise(sigma, sigma_next) * (self.0.s_noise * up);
            }
            x = p.combine(next);
        }
        Ok(x)
    }
}
