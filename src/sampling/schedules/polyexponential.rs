use serde::Deserialize;

use super::{bounds, expect_within, linspace};
use crate::error::Result;
use crate::sampling::ModelSampling;

/// A polynomial of the logarithm (k-diffusion); [`Exponential`](super::Exponential) where `rho` is 1.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Polyexponential {
    /// The lowest level but 0; the model's, if not given.
    pub sigma_min: Option<f64>,
    /// The highest level; the model's, if not given.
    pub sigma_max: Option<f64>,
    /// The power, `[0.01, 100]`: above 1 low levels are visited more densely.
    pub rho: f64,
}

impl Default for Polyexponential {
    fn default() -> Self {
        Polyexponential { sigma_min: None, sigma_max: None, rho: 1.0 }
    }
}

impl Polyexponential {
    pub(super) fn levels(&self, model: &ModelSampling, steps: usize) -> Result<Vec<f32>> {
        expect_within("polyexponential", "rho", self.rho, 0.01..=100.0)?;
        let (low, high) = bounds("polyexponential", model, self.sigma_min, self.sigma_max)?;
        let (span, lowest) = ((high.ln() - low.ln()) as f32, low.ln() as f32);
        let ramps = linspace(1.0, 0.0, steps).map(|ramp| ramp.powf(self.rho as f32));
        Ok(ramps.map(|ramp| (ramp * span + lowest).exp()).chain([0.0]).collect())
    }
}
