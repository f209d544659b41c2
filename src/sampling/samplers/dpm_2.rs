use serde::Deserialize;

use super::{Algorithm, Builder, Churn, Properties, Value, steps};
use crate::error::Result;
use crate::sampling::ModelSampling;

/// Midpoint steps of the probability-flow ODE, the midpoint taken of log sigma: k-diffusion's cross of DPM-Solver-2 (Lu et
/// al. 2022, arXiv 2206.00927) and Algorithm 2 of Karras et al. 2022 (arXiv 2206.00364).
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(transparent)]
pub struct Dpm2(pub Churn);

impl Algorithm for Dpm2 {
    fn properties(&self) -> Properties {
        Properties { drops_penultimate: true, ..self.0.properties(2, 2) }
    }

    fn write(&self, _: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        self.0.check("dpm_2")?;
        let mut x = p.start();
        for (sigma, sigma_next) in steps(sigmas) {
            p.step(sigma);
            let (x_hat, sigma_hat) = self.0.apply(p, x, sigma, sigmas.len() - 1);
            let denoised = p.denoise(x_hat, sigma_hat);
            if sigma_next == 0.0 {
                return Ok(denoised);
            }
            let d = (x_hat - denoised) / sigma_hat;
            let sigma_mid = (sigma_hat * sigma_next).sqrt();
            let mid = p.combine(x_hat + d * (sigma_mid - sigma_hat));
            let d_mid = (mid - p.denoise(mid, sigma_mid)) / sigma_mid;
            x = p.combine(x_hat + d_mid * (sigma_next - sigma_hat));
        }
        Ok(x)
    }
}
