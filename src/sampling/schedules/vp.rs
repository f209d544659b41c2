use serde::Deserialize;

use super::{expect_within, linspace};
use crate::error::Result;
use crate::sampling::ModelSampling;

/// Even distances of the time of a continuous variance-preserving diffusion (Song et al. 2021, arXiv 2011.13456; in the
/// form of k-diffusion). It asks nothing of the model, and its levels may lie above and below the model's.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Vp {
    /// How fast beta grows, `[0, 5000]`.
    pub beta_d: f64,
    /// The beta at time 0, `[0, 5000]`.
    pub beta_min: f64,
    /// The last time but 0, `[0, 1]`.
    pub eps_s: f64,
}

impl Default for Vp {
    fn default() -> Self {
        Vp { beta_d: 19.9, beta_min: 0.1, eps_s: 1e-3 }
    }
}

impl Vp {
    pub(super) fn levels(&self, _: &ModelSampling, steps: usize) -> Result<Vec<f32>> {
        expect_within("vp", "beta_d", self.beta_d, 0.0..=5000.0)?;
        expect_within("vp", "beta_min", self.beta_min, 0.0..=5000.0)?;
        expect_within("vp", "eps_s", self.eps_s, 0.0..=1.0)?;
        let (beta_d, beta_min) = (self.beta_d as f32, self.beta_min as f32);
        let levels = linspace(1.0, self.eps_s as f32, steps)
            .map(|t| (beta_d * (t * t) / 2.0 + beta_min * t).exp_m1().sqrt());
        Ok(levels.chain([0.0]).collect())
    }
}
