//! The noise levels a model was trained on, and what its output means.

use crate::error::{Error, Result};

const OP: &str = "model sampling";

/// What a network predicts, and how latents and noise mix at a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Prediction {
    /// The noise of a variance-exploding mix `x = latent + sigma noise` (SD 1.x, SDXL).
    Eps,
    /// The velocity of Salimans & Ho 2022 (arXiv 2202.00512) in the same mix (SD 2.x at 768).
    V,
    /// The velocity of a rectified flow, `x = (1 - sigma) latent + sigma noise` (Liu et al. 2022, arXiv 2209.03003).
    Flow,
}

/// How the training noise grows with the timestep: the betas of a discrete diffusion (Ho et al. 2020,
/// arXiv 2006.11239).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Betas {
    /// Linear in the square root from `start` to `end`: the "scaled linear" of Stable Diffusion, which ComfyUI calls
    /// `linear`. Both within (0, 1).
    ScaledLinear {
        /// The first beta.
        start: f64,
        /// The last beta.
        end: f64,
    },
    /// The squared cosine of Nichol & Dhariwal 2021 (arXiv 2102.09672), offset 0.008, betas at most 0.999.
    Cosine,
}

impl Betas {
    /// Stable Diffusion 1.x, 2.x and SDXL.
    pub const STABLE_DIFFUSION: Betas = Betas::ScaledLinear { start: 0.00085, end: 0.012 };

    fn values(self) -> Result<Vec<f64>> {
        match self {
            Betas::ScaledLinear { start, end } => {
                let open_unit = |beta: f64| beta > 0.0 && beta < 1.0;
                if !open_unit(start) || !open_unit(end) {
                    let (what, expected) = ("betas", "within (0, 1)".into());
                    return Err(Error::Value { op: OP, what, expected, got: format!("{start} to {end}") });
                }
                let (from, to) = (start.sqrt(), end.sqrt());
                let step = (to - from) / (TIMESTEPS - 1) as f64;
                Ok((0..TIMESTEPS)
                    .map(|t| {
                        // From both ends inwards, so that the last value is exactly `end`, as torch.linspace has it.
                        let root = if t < TIMESTEPS / 2 {
                            from + step * t as f64
                        } else {
                            to - step * (TIMESTEPS - 1 - t) as f64
                        };
                        root * root
                    })
                    .collect())
            }
            Betas::Cosine => {
                const OFFSET: f64 = 0.008;
                let alpha_bar = |t: usize| {
                    let angle = (t as f64 / TIMESTEPS as f64 + OFFSET) / (1.0 + OFFSET);
                    (angle * std::f64::consts::FRAC_PI_2).cos().powi(2)
                };
                Ok((0..TIMESTEPS)
                    .map(|t| (1.0 - alpha_bar(t + 1) / alpha_bar(t)).clamp(0.0, 0.999))
                    .collect())
            }
        }
    }
}

/// The number of levels in every table: those of Stable Diffusion's training.
const TIMESTEPS: usize = 1000;

/// A model's noise levels. Sigma is the noise's standard deviation relative to a latent's unit; a timestep is what the
/// network is told instead, in `[0, 1000)`. Follows ComfyUI 0.3.64 in values and rounding: tables and conversions are f32.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSampling {
    prediction: Prediction,
    levels: Levels,
    sigmas: Vec<f32>,
}

#[derive(Debug, Clone, PartialEq)]
enum Levels {
    /// Timestep `t` is row `t` of the table; between rows the logarithm is linear.
    Table { log_sigmas: Vec<f32> },
    /// Sigma is the timestep / 1000 after a shift towards noise (Esser et al. 2024, arXiv 2403.03206).
    Shifted { shift: f32 },
}

impl ModelSampling {
    /// A discrete diffusion that predicts noise.
    ///
    /// # Errors
    /// [`Error::Value`] for betas outside (0, 1).
    pub fn eps(betas: Betas) -> Result<Self> {
        Self::diffusion(Prediction::Eps, betas)
    }

    /// A discrete diffusion that predicts velocity.
    ///
    /// # Errors
    /// [`Error::Value`] for betas outside (0, 1).
    pub fn v(betas: Betas) -> Result<Self> {
        Self::diffusion(Prediction::V, betas)
    }

    /// A rectified flow; `shift` 1 leaves the levels evenly spaced, SD3 uses 3.
    ///
    /// # Errors
    /// [`Error::Value`] for a shift that is not positive and finite.
    pub fn flow(shift: f32) -> Result<Self> {
        if !(shift > 0.0 && shift.is_finite()) {
            let (what, expected) = ("shift", "positive and finite".into());
            return Err(Error::Value { op: OP, what, expected, got: shift.to_string() });
        }
        let mut model = ModelSampling {
            prediction: Prediction::Flow,
            levels: Levels::Shifted { shift },
            sigmas: Vec::new(),
        };
        model.sigmas =
            (1..=TIMESTEPS).map(|t| model.sigma(t as f32 / TIMESTEPS as f32 * TIMESTEPS as f32)).collect();
        Ok(model)
    }

    fn diffusion(prediction: Prediction, betas: Betas) -> Result<Self> {
        let mut alpha_bar = 1.0;
        let sigmas: Vec<f64> = betas
            .values()?
            .into_iter()
            .map(|beta| {
                alpha_bar *= 1.0 - beta;
                ((1.0 - alpha_bar) / alpha_bar).sqrt()
            })
            .collect();
        let log_sigmas = sigmas.iter().map(|sigma| sigma.ln() as f32).collect();
        Ok(ModelSampling {
            prediction,
            levels: Levels::Table { log_sigmas },
            sigmas: sigmas.into_iter().map(|sigma| sigma as f32).collect(),
        })
    }

    /// What the network predicts.
    pub fn prediction(&self) -> Prediction {
        self.prediction
    }

    /// The table of levels, rising.
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
        match &self.levels {
            Levels::Table { log_sigmas } => {
                let log_sigma = sigma.ln();
                let distance = |row: &f32| (log_sigma - row).abs();
                let nearest = (0..log_sigmas.len())
                    .min_by(|&a, &b| distance(&log_sigmas[a]).total_cmp(&distance(&log_sigmas[b])));
                nearest.unwrap_or(0) as f32
            }
            Levels::Shifted { .. } => sigma * TIMESTEPS as f32,
        }
    }

    /// The level at `timestep`, between the rows of a table too.
    pub fn sigma(&self, timestep: f32) -> f32 {
        match &self.levels {
            Levels::Table { log_sigmas } => {
                let t = timestep.clamp(0.0, (log_sigmas.len() - 1) as f32);
                let weight = t.fract();
                let (low, high) = (log_sigmas[t.floor() as usize], log_sigmas[t.ceil() as usize]);
                ((1.0 - weight) * low + weight * high).exp()
            }
            Levels::Shifted { shift } => {
                let t = timestep / TIMESTEPS as f32;
                if *shift == 1.0 { t } else { shift * t / (1.0 + (shift - 1.0) * t) }
            }
        }
    }

    /// The level at which a fraction `percent` of the way from noise to image is done: 0 is above every level, 1 is 0.
    pub fn percent_to_sigma(&self, percent: f64) -> f64 {
        if percent >= 1.0 {
            return 0.0;
        }
        match &self.levels {
            Levels::Table { .. } if percent <= 0.0 => 999_999_999.9,
            Levels::Table { .. } => f64::from(self.sigma(((1.0 - percent) * 999.0) as f32)),
            Levels::Shifted { .. } if percent <= 0.0 => 1.0,
            Levels::Shifted { shift } => {
                let (shift, t) = (f64::from(*shift), 1.0 - percent);
                shift * t / (1.0 + (shift - 1.0) * t)
            }
        }
    }

    /// `lambda = log(alpha / sigma)`, half the logarithm of the signal-to-noise ratio.
    pub fn half_log_snr(&self, sigma: f64) -> f64 {
        match self.prediction {
            Prediction::Eps | Prediction::V => -sigma.ln(),
            Prediction::Flow => ((1.0 - sigma) / sigma).ln(),
        }
    }

    /// What noise and latent are multiplied by to make `x` at `sigma`: `(noise, latent)`.
    pub fn noise_scaling(&self, sigma: f64) -> (f64, f64) {
        match self.prediction {
            Prediction::Eps | Prediction::V => (sigma, 1.0),
            Prediction::Flow => (sigma, 1.0 - sigma),
        }
    }

    /// As [`ModelSampling::noise_scaling`], for the start of a run: at the model's highest level a diffusion's latent is
    /// taken for a sample of unit variance, as ComfyUI has it.
    pub(super) fn initial_scaling(&self, sigma: f64) -> (f64, f64) {
        const AT_THE_TOP: f64 = 1e-5;
        let top = f64::from(self.sigma_max());
        let from_the_top = sigma > top || (sigma - top).abs() <= AT_THE_TOP * sigma.max(top);
        match self.prediction {
            Prediction::Eps | Prediction::V if from_the_top => (sigma.hypot(1.0), 1.0),
            _ => self.noise_scaling(sigma),
        }
    }

    /// What the result of a run that ends at `sigma` is divided by, so that its latent part has its own scale again.
    pub(super) fn latent_share(&self, sigma: f64) -> f64 {
        self.noise_scaling(sigma).1
    }

    /// What the network's input is multiplied by at `sigma`.
    pub fn input_scale(&self, sigma: f64) -> f64 {
        match self.prediction {
            Prediction::Eps | Prediction::V => 1.0 / sigma.hypot(1.0),
            Prediction::Flow => 1.0,
        }
    }

    /// The coefficients of `denoised = a x + b output` at `sigma`.
    pub fn denoised_coefficients(&self, sigma: f64) -> (f64, f64) {
        match self.prediction {
            Prediction::Eps | Prediction::Flow => (1.0, -sigma),
            Prediction::V => (1.0 / (sigma * sigma + 1.0), -sigma / sigma.hypot(1.0)),
        }
    }
}
