use serde::Deserialize;

use super::{Algorithm, Builder, Churn, Properties, Value, steps};
use crate::error::Result;
use crate::sampling::ModelSampling;

/// Euler steps of the probability-flow ODE: Algorithm 2 of Karras et al. 2022 (arXiv 2206.00364) without its
/// correction.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(transparent)]
pub struct Euler(pub Churn);

impl Algorithm for Euler {
    fn properties(&self) -> Properties {
        self.0.properties(1, 1)
    }

    fn write(&self, _: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        self.0.check("euler")?;
        let mut x = p.start();
        for (sigma, sigma_next) in steps(sigmas) {
            p.step(sigma);
            let (x_hat, sigma_hat) = self.0.apply(p, x, sigma, sigmas.len() - 1);
            let denoised = p.denoise(x_hat, sigma_hat);
            let d = (x_hat - denoised) / sigma_hat;
            x = p.combine(x_hat + d * (sigma_next - sigma_hat));
        }
        Ok(x)
    }
}
