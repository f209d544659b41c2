//! The noise levels a model was trained on, and what its output means: two axes, free of each other.

mod betas;
mod levels;

pub use betas::Betas;
pub use levels::Levels;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use levels::Clock;

const OP: &str = "model sampling";

/// The number of levels in every table: those of Stable Diffusion's training.
const TIMESTEPS: usize = 1000;

/// What a network predicts, and how latents and noise mix at a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    /// The noise of a variance-exploding mix `x = latent + sigma noise` (SD 1.x, SDXL).
    Eps,
    /// The velocity of Salimans & Ho 2022 (arXiv 2202.00512) in the same mix (SD 2.x at 768).
    V,
    /// The network `F` of Karras et al. 2022 (arXiv 2206.00364) in the same mix: the velocity, pointing the other way.
    Edm,
    /// The latent itself, in the same mix.
    X0,
    /// The velocity of a rectified flow, `x = (1 - sigma) latent + sigma noise` (Liu et al. 2022, arXiv 2209.03003).
    Flow,
}

impl Prediction {
    /// As [`ModelSampling::noise_scaling`], which depends on nothing else.
    pub(super) fn noise_scaling(self, sigma: f64) -> (f64, f64) {
        match self {
            Prediction::Flow => (sigma, 1.0 - sigma),
            _ => (sigma, 1.0),
        }
    }
}

/// A model's noise levels. Sigma is the noise's standard deviation relative to a latent's unit; a timestep is what the
/// network is told instead. Follows ComfyUI 0.3.64 in values and rounding: tables and conversions are f32.
/// Written down, it is what it was made from: `{"prediction": "eps", "levels": {..}, "sigma_data": 1.0}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Record", try_from = "Record")]
pub struct ModelSampling {
    prediction: Prediction,
    levels: Levels,
    sigma_data: f64,
    sigmas: Vec<f32>,
    clock: Clock,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    prediction: Prediction,
    levels: Levels,
    sigma_data: f64,
}

impl From<ModelSampling> for Record {
    fn from(ModelSampling { prediction, levels, sigma_data, .. }: ModelSampling) -> Self {
        Record { prediction, levels, sigma_data }
    }
}

impl TryFrom<Record> for ModelSampling {
    type Error = Error;

    fn try_from(Record { prediction, levels, sigma_data }: Record) -> Result<Self> {
        ModelSampling::new(prediction, levels)?.with_sigma_data(sigma_data)
    }
}

impl ModelSampling {
    /// Any prediction along any levels; the data has deviation 1.
    ///
    /// # Errors
    /// [`Error::Value`] for levels that are out of range or do not rise, and for a flow along levels above 1.
    pub fn new(prediction: Prediction, levels: Levels) -> Result<Self> {
        let (sigmas, clock) = levels.build()?;
        let model = ModelSampling { prediction, levels, sigma_data: 1.0, sigmas, clock };
        if prediction == Prediction::Flow && model.sigma_max() > 1.0 {
            let (what, expected) = ("levels of a flow", "at most 1".into());
            return Err(Error::Value { op: OP, what, expected, got: model.sigma_max().to_string() });
        }
        Ok(model)
    }

    /// A discrete diffusion that predicts noise.
    ///
    /// # Errors
    /// [`Error::Value`] for betas outside (0, 1), or too near to its ends for levels that rise.
    pub fn eps(betas: Betas) -> Result<Self> {
        Self::new(Prediction::Eps, Levels::Discrete { betas, zero_terminal_snr: false })
    }

    /// A discrete diffusion that predicts velocity.
    ///
    /// # Errors
    /// [`Error::Value`] for betas outside (0, 1), or too near to its ends for levels that rise.
    pub fn v(betas: Betas) -> Result<Self> {
        Self::new(Prediction::V, Levels::Discrete { betas, zero_terminal_snr: false })
    }

    /// A rectified flow; `shift` 1 leaves the levels evenly spaced, SD3 uses 3.
    ///
    /// # Errors
    /// [`Error::Value`] for a shift that is not positive and finite, or too large for levels that rise.
    pub fn flow(shift: f32) -> Result<Self> {
        Self::new(Prediction::Flow, Levels::DiscreteFlow { shift })
    }

    /// The same for data of another standard deviation than 1; the models of Karras et al. have 0.5. A flow and
    /// [`Prediction::X0`]'s output do not depend on it.
    ///
    /// # Errors
    /// [`Error::Value`] for a deviation that is not positive and finite.
    pub fn with_sigma_data(self, sigma_data: f64) -> Result<Self> {
        if !(sigma_data > 0.0 && sigma_data.is_finite()) {
            let (what, expected) = ("sigma_data", "positive and finite".into());
            return Err(Error::Value { op: OP, what, expected, got: sigma_data.to_string() });
        }
        Ok(ModelSampling { sigma_data, ..self })
    }

    /// What the network predicts.
    pub fn prediction(&self) -> Prediction {
        self.prediction
    }

    /// The table of levels, rising: 1000 of them.
    pub fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    /// The lowest level.
    pub fn sigma_min(&self) -> f32 {
        self.sigmas[0]
    }

    /// The highest level.
    pub fn sigma_max(&self) -> f32 {
        self.sigmas[self.sigmas.len() - 1]
    }

    /// The timestep that the network is told at level `sigma`; for a table, the nearest row.
    pub fn timestep(&self, sigma: f32) -> f32 {
        self.clock.timestep(sigma)
    }

    /// The level at `timestep`, between the rows of a table too. Undoes [`ModelSampling::timestep`], but for a flow with a
    /// shift, which tells the network its levels after the shift and, as ComfyUI has it, shifts here all the same.
    pub fn sigma(&self, timestep: f32) -> f32 {
        self.clock.sigma(timestep)
    }

    /// The level at which a fraction `percent` of the way from noise to image is done: 0 is the top of a flow and above
    /// every level of a diffusion, 1 is 0.
    pub fn percent_to_sigma(&self, percent: f64) -> f64 {
        if percent >= 1.0 {
            return 0.0;
        }
        let left = 1.0 - percent;
        match &self.clock {
            Clock::Shifted { .. } if percent <= 0.0 => 1.0,
            Clock::Shifted { shift } => {
                let shift = f64::from(*shift);
                shift * left / (1.0 + (shift - 1.0) * left)
            }
            _ if percent <= 0.0 => 999_999_999.9,
            Clock::Table { .. } => f64::from(self.sigma((left * (TIMESTEPS - 1) as f64) as f32)),
            Clock::Logarithm | Clock::Arctangent => {
                let (low, high) = (f64::from(self.sigma_min()).ln(), f64::from(self.sigma_max()).ln());
                ((high - low) * left + low).exp()
            }
        }
    }

    /// `lambda = log(alpha / sigma)`, half the logarithm of the signal-to-noise ratio.
    pub fn half_log_snr(&self, sigma: f64) -> f64 {
        match self.prediction {
            Prediction::Flow => ((1.0 - sigma) / sigma).ln(),
            _ => -sigma.ln(),
        }
    }

    /// What noise and latent are multiplied by to make `x` at `sigma`: `(noise, latent)`.
    pub fn noise_scaling(&self, sigma: f64) -> (f64, f64) {
        self.prediction.noise_scaling(sigma)
    }

    /// As [`ModelSampling::noise_scaling`], for the start of a run: at the model's highest level a diffusion's latent is
    /// taken for a sample of unit variance, as ComfyUI has it.
    pub(super) fn initial_scaling(&self, sigma: f64) -> (f64, f64) {
        const AT_THE_TOP: f64 = 1e-5;
        let top = f64::from(self.sigma_max());
        let from_the_top = sigma > top || (sigma - top).abs() <= AT_THE_TOP * sigma.max(top);
        if from_the_top && self.prediction != Prediction::Flow {
            return (sigma.hypot(1.0), 1.0);
        }
        self.noise_scaling(sigma)
    }

    /// What the result of a run that ends at `sigma` is divided by, so that its latent part has its own scale again.
    pub(super) fn latent_share(&self, sigma: f64) -> f64 {
        self.noise_scaling(sigma).1
    }

    /// What the network's input is multiplied by at `sigma`.
    pub fn input_scale(&self, sigma: f64) -> f64 {
        match self.prediction {
            Prediction::Flow => 1.0,
            _ => 1.0 / sigma.hypot(self.sigma_data),
        }
    }

    /// The coefficients of `denoised = a x + b output` at `sigma`.
    pub fn denoised_coefficients(&self, sigma: f64) -> (f64, f64) {
        let total = sigma.hypot(self.sigma_data);
        let (skip, out) = ((self.sigma_data / total).powi(2), sigma * self.sigma_data / total);
        match self.prediction {
            Prediction::Eps | Prediction::Flow => (1.0, -sigma),
            Prediction::V => (skip, -out),
            Prediction::Edm => (skip, out),
            Prediction::X0 => (0.0, 1.0),
        }
    }
}
