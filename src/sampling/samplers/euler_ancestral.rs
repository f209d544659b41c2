use serde::Deserialize;

use super::{Algorithm, Builder, NoiseKind, Properties, Stochastic, Value, steps};
use crate::error::Result;
use crate::sampling::ModelSampling;

/// Ancestral sampling with Euler steps, as k-diffusion has it; for a rectified flow, as ComfyUI has it.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(transparent)]
pub struct EulerAncestral(pub Stochastic);

impl Algorithm for EulerAncestral {
    fn properties(&self) -> Properties {
        Properties::new(1, 1, NoiseKind::Gaussian)
    }

    fn write(&self, model: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        self.0.check("euler_ancestral")?;
        let mut x = p.start();
        for (sigma, sigma_next) in steps(sigmas) {
            p.step(sigma);
            let denoised = p.denoise(x, sigma);
            let ancestral = self.0.step(model, sigma, sigma_next);
            let d = (x - denoised) / sigma;
            x = ancestral.renoise(p, x + d * (ancestral.down - sigma), sigma, sigma_next);
        }
        Ok(x)
    }
}
