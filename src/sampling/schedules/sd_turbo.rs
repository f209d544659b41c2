use serde::Deserialize;

use super::expect_within;
use crate::error::{Error, Result};
use crate::sampling::ModelSampling;

/// The timesteps 999, 899, ... 99 that SD Turbo was distilled for (Sauer et al. 2023, arXiv 2311.17042), of which
/// `steps`, 1 to 10, are visited from the first that `denoise` leaves; fewer where it leaves fewer.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SdTurbo {
    /// The share of the ten timesteps that is left, `[0.1, 1]`, rounded down to whole ones.
    pub denoise: f64,
}

impl Default for SdTurbo {
    fn default() -> Self {
        SdTurbo { denoise: 1.0 }
    }
}

impl SdTurbo {
    pub(super) fn levels(&self, model: &ModelSampling, steps: usize) -> Result<Vec<f32>> {
        const TIMESTEPS: usize = 10;
        expect_within("sd_turbo", "steps", steps, 1..=TIMESTEPS)?;
        expect_within("sd_turbo", "denoise", self.denoise, 0.1..=1.0)?;
        let last = model.timestep(model.sigma_max());
        if last < 999.0 {
            let (what, expected) = ("the model's last timestep", "at least 999".into());
            return Err(Error::Value { op: "sd_turbo", what, expected, got: last.to_string() });
        }
        let left = (TIMESTEPS as f64 * self.denoise) as usize;
        let timesteps = (1..=left).rev().map(|tenth| (tenth * 100 - 1) as f32);
        Ok(timesteps.take(steps).map(|t| model.sigma(t)).chain([0.0]).collect())
    }
}
