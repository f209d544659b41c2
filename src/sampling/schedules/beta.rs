use serde::Deserialize;
use statrs::function::beta::beta_reg;

use super::expect_within;
use crate::error::Result;
use crate::sampling::ModelSampling;

/// Timesteps at the quantiles of a beta distribution (Lee et al. 2024, arXiv 2407.12173). With many steps neighbouring
/// quantiles fall on one row of the model's table; it is visited once, and there are fewer steps than were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Beta {
    /// Below 1, high levels are visited more densely than the middle; `[0.01, 50]`.
    pub alpha: f64,
    /// Below 1, low levels are visited more densely than the middle; `[0.01, 50]`.
    pub beta: f64,
}

impl Default for Beta {
    fn default() -> Self {
        Beta { alpha: 0.6, beta: 0.6 }
    }
}

impl Beta {
    pub(super) fn levels(&self, model: &ModelSampling, steps: usize) -> Result<Vec<f32>> {
        expect_within("beta", "alpha", self.alpha, 0.01..=50.0)?;
        expect_within("beta", "beta", self.beta, 0.01..=50.0)?;
        let table = model.sigmas();
        // The share of the distribution below the middle between a row and the next.
        let below: Vec<f64> = (1..table.len())
            .map(|row| beta_reg(self.alpha, self.beta, (row as f64 - 0.5) / (table.len() - 1) as f64))
            .collect();
        let mut rows: Vec<usize> = (0..steps)
            .map(|step| {
                let share = 1.0 - step as f64 / steps as f64;
                nearest_row(&below, share)
            })
            .collect();
        rows.dedup();
        Ok(rows.into_iter().map(|row| table[row]).chain([0.0]).collect())
    }
}

/// The row nearest to the quantile of `share`; of two rows as near, the upper.
fn nearest_row(below: &[f64], share: f64) -> usize {
    /// Two rows are as near in the middle of a symmetric distribution, where rounding must not decide.
    const TIE: f64 = 1e-12;
    below.partition_point(|&below| below <= share + TIE)
}
