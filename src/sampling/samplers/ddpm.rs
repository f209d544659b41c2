use serde::Deserialize;

use super::{Algorithm, Builder, NoiseKind, Properties, Value, steps};
use crate::error::Result;
use crate::sampling::ModelSampling;

/// Ancestral sampling of Ho et al. 2020 (arXiv 2006.11239), Algorithm 2, in `x = latent + sigma noise`: a draw from the
/// posterior of the next latent, given this one and the denoised one. For diffusions, not flows.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ddpm {}

impl Algorithm for Ddpm {
    fn properties(&self) -> Properties {
        Properties { flow: false, ..Properties::new(1, 1, NoiseKind::Gaussian) }
    }

    fn write(&self, _: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        let mut x = p.start();
        for (sigma, sigma_next) in steps(sigmas) {
            p.step(sigma);
            let denoised = p.denoise(x, sigma);
            if sigma_next == 0.0 {
                return Ok(denoised);
            }
            let kept = (sigma_next / sigma).powi(2);
            let noise = p.noise(sigma, sigma_next) * (sigma_next * (1.0 - kept).sqrt());
            x = p.combine(x * kept + denoised * (1.0 - kept) + noise);
        }
        Ok(x)
    }
}
