use serde::Deserialize;

use super::{Algorithm, Builder, NoiseKind, Properties, Stochastic, Value, steps};
use crate::error::Result;
use crate::sampling::ModelSampling;

/// Ancestral sampling with the midpoint steps of [`Dpm2`](super::Dpm2), as k-diffusion has it; for a rectified flow, as
/// ComfyUI has it.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(transparent)]
pub struct Dpm2Ancestral(pub Stochastic);

impl Algorithm for Dpm2Ancestral {
    fn properties(&self) -> Properties {
        Properties { drops_penultimate: true, ..Properties::new(2, 2, NoiseKind::Gaussian) }
    }

    fn write(&self, model: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        self.0.check("dpm_2_ancestral")?;
        let mut x = p.start();
        for (sigma, sigma_next) in steps(sigmas) {
            p.step(sigma);
            let denoised = p.denoise(x, sigma);
            let d = (x - denoised) / sigma;
            let ancestral = self.0.step(model, sigma, sigma_next);
            let down = ancestral.down;
            let deterministic = if down == 0.0 {
                denoised.into()
            } else {
                let sigma_mid = (sigma * down).sqrt();
                let mid = p.combine(x + d * (sigma_mid - sigma));
                let d_mid = (mid - p.denoise(mid, sigma_mid)) / sigma_mid;
                x + d_mid * (down - sigma)
            };
            x = ancestral.renoise(p, deterministic, sigma, sigma_next);
        }
        Ok(x)
    }
}
