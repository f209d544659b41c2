use serde::Deserialize;

use super::{bounds, linspace};
use crate::error::Result;
use crate::sampling::ModelSampling;

/// Even distances of the logarithm (k-diffusion).
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Exponential {
    /// The lowest level but 0; the model's, if not given.
    pub sigma_min: Option<f64>,
    /// The highest level; the model's, if not given.
    pub sigma_max: Option<f64>,
}

impl Exponential {
    pub(super) fn levels(&self, model: &ModelSampling, steps: usize) -> Result<Vec<f32>> {
        let (low, high) = bounds("exponential", model, self.sigma_min, self.sigma_max)?;
        let logs = linspace(high.ln() as f32, low.ln() as f32, steps);
        Ok(logs.map(f32::exp).chain([0.0]).collect())
    }
}
