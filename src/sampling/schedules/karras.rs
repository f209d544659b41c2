use serde::Deserialize;

use super::{bounds, expect_within, linspace};
use crate::error::Result;
use crate::sampling::ModelSampling;

/// Karras et al. 2022 (arXiv 2206.00364), equation 5: even distances of the `rho`-th root.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Karras {
    /// The lowest level but 0; the model's, if not given.
    pub sigma_min: Option<f64>,
    /// The highest level; the model's, if not given.
    pub sigma_max: Option<f64>,
    /// How densely low levels are visited, `[0.01, 100]`; the paper uses 7.
    pub rho: f64,
}

impl Default for Karras {
    fn default() -> Self {
        Karras { sigma_min: None, sigma_max: None, rho: 7.0 }
    }
}

impl Karras {
    pub(super) fn levels(&self, model: &ModelSampling, steps: usize) -> Result<Vec<f32>> {
        expect_within("karras", "rho", self.rho, 0.01..=100.0)?;
        let (low, high) = bounds("karras", model, self.sigma_min, self.sigma_max)?;
        let root = |sigma: f64| sigma.powf(1.0 / self.rho);
        let (start, slope) = (root(high) as f32, (root(low) - root(high)) as f32);
        let levels = linspace(0.0, 1.0, steps).map(|ramp| (start + ramp * slope).powf(self.rho as f32));
        Ok(levels.chain([0.0]).collect())
    }
}
