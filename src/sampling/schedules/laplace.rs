use serde::Deserialize;

use super::{bounds, expect_within, linspace};
use crate::error::Result;
use crate::sampling::ModelSampling;

/// Levels at the quantiles of a Laplace distribution of the logarithm (Hang & Gu 2024, arXiv 2407.03297), cut off at the
/// bounds. As in k-diffusion's form, `steps` counts the levels, and no 0 comes after the last: `steps` must be at least
/// 2. Levels that the cut makes equal are visited once.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Laplace {
    /// The lowest level; the model's, if not given.
    pub sigma_min: Option<f64>,
    /// The highest level; the model's, if not given.
    pub sigma_max: Option<f64>,
    /// The logarithm around which the levels gather, `[-10, 10]`.
    pub mu: f64,
    /// How far they spread, `[0.01, 10]`.
    pub beta: f64,
}

impl Default for Laplace {
    fn default() -> Self {
        Laplace { sigma_min: None, sigma_max: None, mu: 0.0, beta: 0.5 }
    }
}

impl Laplace {
    pub(super) fn levels(&self, model: &ModelSampling, steps: usize) -> Result<Vec<f32>> {
        /// Keeps the ends of the distribution finite.
        const EPSILON: f32 = 1e-5;
        expect_within("laplace", "steps", steps, 2..=super::Scheduler::MAX_STEPS)?;
        expect_within("laplace", "mu", self.mu, -10.0..=10.0)?;
        expect_within("laplace", "beta", self.beta, 0.01..=10.0)?;
        let (low, high) = bounds("laplace", model, self.sigma_min, self.sigma_max)?;
        let (mu, beta) = (self.mu as f32, self.beta as f32);
        let quantile = |x: f32| {
            let from_the_middle = 0.5 - x;
            let side = if from_the_middle == 0.0 { 0.0 } else { from_the_middle.signum() };
            mu - beta * side * (1.0 - 2.0 * from_the_middle.abs() + EPSILON).ln()
        };
        let mut levels: Vec<f32> = linspace(0.0, 1.0, steps)
            .map(|x| quantile(x).exp().clamp(low as f32, high as f32))
            .collect();
        levels.dedup();
        Ok(levels)
    }
}
