use serde::Deserialize;

use super::ancestral::ancestral_step;
use super::{Algorithm, Builder, NoiseKind, Properties, Value, expect_not_negative, steps};
use crate::error::Result;
use crate::sampling::{ModelSampling, Prediction};

/// Ancestral sampling with Euler steps, as k-diffusion has it; for a rectified flow, as ComfyUI has it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EulerAncestral {
    /// The share of an ancestral step's noise: 0 for none, 1 for all.
    pub eta: f64,
    /// The noise's standard deviation.
    pub s_noise: f64,
}

impl Default for EulerAncestral {
    fn default() -> Self {
        EulerAncestral { eta: 1.0, s_noise: 1.0 }
    }
}

impl Algorithm for EulerAncestral {
    fn properties(&self) -> Properties {
        Properties { order: 1, calls_per_step: 1, noise: NoiseKind::Gaussian }
    }

    fn write(&self, model: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        expect_not_negative("euler_ancestral", "eta", self.eta)?;
        expect_not_negative("euler_ancestral", "s_noise", self.s_noise)?;
        let mut x = p.start();
        for (sigma, sigma_next) in steps(sigmas) {
            p.step(sigma);
            let denoised = p.denoise(x, sigma);
            let (sigma_down, keep, renoise) = match model.prediction() {
                Prediction::Flow => flow_step(sigma, sigma_next, self.eta),
                _ => {
                    let (down, up) = ancestral_step(sigma, sigma_next, self.eta);
                    (down, 1.0, up)
                }
            };
            let d = (x - denoised) / sigma;
            let deterministic = x + d * (sigma_down - sigma);
            x = if renoise == 0.0 {
                p.combine(deterministic * keep)
            } else {
                let noise = p.noise(sigma, sigma_next);
                p.combine(deterministic * keep + noise * (self.s_noise * renoise))
            };
        }
        Ok(x)
    }
}

/// The ancestral step of a rectified flow: the level to step down to, what the latent is then multiplied by so that its
/// share is that of `sigma_next`, and the noise that makes up the rest.
fn flow_step(sigma: f64, sigma_next: f64, eta: f64) -> (f64, f64, f64) {
    let down = sigma_next * (1.0 + (sigma_next / sigma - 1.0) * eta);
    let keep = (1.0 - sigma_next) / (1.0 - down);
    let renoise = (sigma_next * sigma_next - down * down * keep * keep).max(0.0).sqrt();
    (down, keep, renoise)
}
