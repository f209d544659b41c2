use serde::Deserialize;

use super::{Algorithm, Builder, Churn, Properties, Value};
use crate::error::Result;
use crate::sampling::ModelSampling;

/// Heun++ of sd-webui-samplers-scheduler (Carzit), as ComfyUI has it: the slope of each step is a mean over this level
/// and the next two, which count in proportion to their sigma, so that the steps become Euler's towards the end.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(transparent)]
pub struct Heunpp2(pub Churn);

impl Algorithm for Heunpp2 {
    fn properties(&self) -> Properties {
        self.0.properties(1, 3)
    }

    fn write(&self, _: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        self.0.check("heunpp2")?;
        let mut x = p.start();
        for step in 0..sigmas.len() - 1 {
            let sigma = sigmas[step];
            p.step(sigma);
            if self.0.s_churn > 0.0 && !self.0.applies(sigma) {
                // The reference draws in every step, used or not.
                p.noise(sigma, sigma);
            }
            let (x_hat, sigma_hat) = self.0.apply(p, x, sigma, sigmas.len() - 1);
            let d = (x_hat - p.denoise(x_hat, sigma_hat)) / sigma_hat;

            // Steps on, Euler's way, to this step's goal and the one after, but not to the last level.
            let ahead = &sigmas[step + 1..sigmas.len() - 1];
            let ahead = &ahead[..ahead.len().min(2)];
            let total = (ahead.len() + 1) as f64 * sigmas[0];
            let (mut at, mut level, mut slope) = (x_hat, sigma_hat, d.clone());
            let mut mean = d * (1.0 - ahead.iter().sum::<f64>() / total);
            for &next in ahead {
                at = p.combine(at + slope * (next - level));
                slope = (at - p.denoise(at, next)) / next;
                mean = mean + slope.clone() * (next / total);
                level = next;
            }
            x = p.combine(x_hat + mean * (sigmas[step + 1] - sigma_hat));
        }
        Ok(x)
    }
}
