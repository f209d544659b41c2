use serde::Deserialize;

use super::{Algorithm, Builder, Churn, Properties, Value, steps};
use crate::error::Result;
use crate::sampling::ModelSampling;

/// Heun's second-order steps of the probability-flow ODE: Algorithm 2 of Karras et al. 2022 (arXiv 2206.00364).
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(transparent)]
pub struct Heun(pub Churn);

impl Algorithm for Heun {
    fn properties(&self) -> Properties {
        self.0.properties(2, 2)
    }

    fn write(&self, _: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        self.0.check("heun")?;
        let mut x = p.start();
        for (sigma, sigma_next) in steps(sigmas) {
            p.step(sigma);
            let (x_hat, sigma_hat) = self.0.apply(p, x, sigma, sigmas.len() - 1);
            let denoised = p.denoise(x_hat, sigma_hat);
            let d = (x_hat - denoised) / sigma_hat;
            let dt = sigma_next - sigma_hat;
            let euler = p.combine(x_hat + d.clone() * dt);
            if sigma_next == 0.0 {
                return Ok(euler);
            }
            let denoised = p.denoise(euler, sigma_next);
            let d_next = (euler - denoised) / sigma_next;
            x = p.combine(x_hat + (d + d_next) * (dt / 2.0));
        }
        Ok(x)
    }
}
