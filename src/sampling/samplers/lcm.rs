use serde::Deserialize;

use super::{Algorithm, Builder, NoiseKind, Properties, Value, steps};
use crate::error::Result;
use crate::sampling::ModelSampling;

/// Multistep sampling of a latent consistency model: Luo et al. 2023 (arXiv 2310.04378). Each step denoises
/// fully and renoises to the next level.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lcm {}

impl Algorithm for Lcm {
    fn properties(&self) -> Properties {
        Properties::new(1, 1, NoiseKind::Gaussian)
    }

    fn write(&self, model: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        let mut x = p.start();
        for (sigma, sigma_next) in steps(sigmas) {
            p.step(sigma);
            x = p.denoise(x, sigma);
            if sigma_next > 0.0 {
                let (of_noise, of_latent) = model.noise_scaling(sigma_next);
                let noise = p.noise(sigma, sigma_next);
                x = p.combine(x * of_latent + noise * of_noise);
            }
        }
        Ok(x)
    }
}
