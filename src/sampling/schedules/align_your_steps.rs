use serde::Deserialize;

use super::interpolation::resampled;
use crate::error::Result;
use crate::sampling::ModelSampling;

/// Levels optimised for one family of models by Sabour et al. 2024 (arXiv 2404.14507): theirs at 10 steps, linear in
/// their logarithm at any other number, as the authors advise. The highest level is the family's, not the model's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlignYourSteps {
    /// The family.
    pub model_type: ModelType,
}

/// A family of models that Align Your Steps has levels for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
pub enum ModelType {
    /// Stable Diffusion 1.5.
    #[default]
    #[serde(rename = "SD1")]
    Sd1,
    /// Stable Diffusion XL.
    #[serde(rename = "SDXL")]
    Sdxl,
    /// Stable Video Diffusion, up to level 700.
    #[serde(rename = "SVD")]
    Svd,
}

impl ModelType {
    /// The levels of 10 steps.
    fn levels(self) -> [f64; 11] {
        match self {
            ModelType::Sd1 => [
                14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520, 1.8841921177, 1.3943805092,
                0.9642583904, 0.6523686016, 0.3977456272, 0.1515232662, 0.0291671582,
            ],
            ModelType::Sdxl => [
                14.6146412293, 6.3184485287, 3.7681790315, 2.1811480769, 1.3405244945, 0.8620721141,
                0.5550693289, 0.3798540708, 0.2332364134, 0.1114188177, 0.0291671582,
            ],
            ModelType::Svd => {
                [700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002]
            }
        }
    }
}

impl AlignYourSteps {
    pub(super) fn levels(&self, _: &ModelSampling, steps: usize) -> Result<Vec<f32>> {
        Ok(resampled(&self.model_type.levels(), steps))
    }
}
