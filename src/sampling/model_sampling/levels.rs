use std::f32::consts::PI;

use serde::{Deserialize, Serialize};

use super::betas::Betas;
use super::{OP, TIMESTEPS};
use crate::error::{Error, Result};
use crate::sampling::schedules::linspace;

/// The noise levels that a model was trained on, and the timesteps that it is told instead.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Levels {
    /// A table of 1000 rows; timestep `t` is row `t`, and between rows the logarithm is linear (SD 1.x, 2.x, SDXL).
    Discrete {
        /// How the training noise grew.
        betas: Betas,
        /// Whether the last row is rescaled to (all but) pure noise: Lin et al. 2023 (arXiv 2305.08891), with
        /// ComfyUI's last `alpha_bar` of 4.8973451890853435e-8.
        zero_terminal_snr: bool,
    },
    /// Any level from `sigma_min` to `sigma_max`, told as `ln(sigma) / 4` (Karras et al. 2022, arXiv 2206.00364).
    ContinuousEdm {
        /// The lowest level, positive.
        sigma_min: f64,
        /// The highest level.
        sigma_max: f64,
    },
    /// Any level from `sigma_min` to `sigma_max`, told as `atan(sigma)` in units of a quarter turn.
    ContinuousV {
        /// The lowest level, positive.
        sigma_min: f64,
        /// The highest level.
        sigma_max: f64,
    },
    /// 1000 levels up to 1, told as 1000 times themselves; spread evenly, then shifted towards noise (Esser et al. 2024,
    /// arXiv 2403.03206).
    DiscreteFlow {
        /// 1 leaves the levels even; SD3 uses 3. Positive.
        shift: f32,
    },
}

/// How a level becomes a timestep and back.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Clock {
    Table { log_sigmas: Vec<f32> },
    Logarithm,
    Arctangent,
    Shifted { shift: f32 },
}

impl Levels {
    /// The table, rising, and the clock.
    pub(super) fn build(self) -> Result<(Vec<f32>, Clock)> {
        let (sigmas, clock) = match self {
            Levels::Discrete { betas, zero_terminal_snr } => table(betas, zero_terminal_snr)?,
            Levels::ContinuousEdm { sigma_min, sigma_max } => {
                (geometric(sigma_min, sigma_max)?, Clock::Logarithm)
            }
            Levels::ContinuousV { sigma_min, sigma_max } => {
                (geometric(sigma_min, sigma_max)?, Clock::Arctangent)
            }
            Levels::DiscreteFlow { shift } => shifted(shift)?,
        };
        let rises = sigmas.windows(2).all(|pair| pair[0] < pair[1]);
        let (first, last) = (sigmas[0], sigmas[TIMESTEPS - 1]);
        if !(rises && first > 0.0 && last.is_finite()) {
            let (what, expected) = ("levels", "such that they rise from above 0 to a finite one".into());
            return Err(Error::Value { op: OP, what, expected, got: format!("{self:?}") });
        }
        Ok((sigmas, clock))
    }
}

impl Clock {
    pub(super) fn timestep(&self, sigma: f32) -> f32 {
        match self {
            Clock::Table { log_sigmas } => {
                let log_sigma = sigma.ln();
                let distance = |row: &f32| (log_sigma - row).abs();
                let nearest = (0..log_sigmas.len())
                    .min_by(|&a, &b| distance(&log_sigmas[a]).total_cmp(&distance(&log_sigmas[b])));
                nearest.unwrap_or(0) as f32
            }
            Clock::Logarithm => 0.25 * sigma.ln(),
            Clock::Arctangent => sigma.atan() / PI * 2.0,
            Clock::Shifted { .. } => sigma * TIMESTEPS as f32,
        }
    }

    pub(super) fn sigma(&self, timestep: f32) -> f32 {
        match self {
            Clock::Table { log_sigmas } => {
                let t = timestep.clamp(0.0, (log_sigmas.len() - 1) as f32);
                let weight = t.fract();
                let (low, high) = (log_sigmas[t.floor() as usize], log_sigmas[t.ceil() as usize]);
                ((1.0 - weight) * low + weight * high).exp()
            }
            Clock::Logarithm => (timestep / 0.25).exp(),
            Clock::Arctangent => (timestep * PI / 2.0).tan(),
            Clock::Shifted { shift } => {
                let t = timestep / TIMESTEPS as f32;
                // Pure noise is level 1; rounding must not make it more.
                if *shift == 1.0 { t } else { (shift * t / (1.0 + (shift - 1.0) * t)).min(t.max(1.0)) }
            }
        }
    }
}

fn table(betas: Betas, zero_terminal_snr: bool) -> Result<(Vec<f32>, Clock)> {
    let alphas_bar = betas.values()?.into_iter().scan(1.0, |product, beta| {
        *product *= 1.0 - beta;
        Some(*product)
    });
    let sigma = |alpha_bar: f64| ((1.0 - alpha_bar) / alpha_bar).sqrt();
    let mut sigmas: Vec<f64> = alphas_bar.map(sigma).collect();
    if zero_terminal_snr {
        sigmas = rescaled(&sigmas).into_iter().map(sigma).collect();
    }
    let log_sigmas = sigmas.iter().map(|sigma| sigma.ln() as f32).collect();
    Ok((sigmas.into_iter().map(|sigma| sigma as f32).collect(), Clock::Table { log_sigmas }))
}

/// The `alpha_bar`s whose square roots are shifted and scaled so that the first stays and the last vanishes.
fn rescaled(sigmas: &[f64]) -> Vec<f64> {
    // A row of infinite noise could not be told from any other; this one ends the table at sigma 4518.8.
    const LAST: f64 = 4.8973451890853435e-08;
    let root = |sigma: f64| (1.0 / (sigma * sigma + 1.0)).sqrt();
    let (first, last) = (root(sigmas[0]), root(sigmas[TIMESTEPS - 1]));
    let scale = first / (first - last);
    let mut alphas_bar: Vec<f64> =
        sigmas.iter().map(|&sigma| ((root(sigma) - last) * scale).powi(2)).collect();
    alphas_bar[TIMESTEPS - 1] = LAST;
    alphas_bar
}

fn geometric(sigma_min: f64, sigma_max: f64) -> Result<Vec<f32>> {
    if !(sigma_min > 0.0 && sigma_min < sigma_max && sigma_max.is_finite()) {
        let (what, expected) = ("sigma_min and sigma_max", "positive, finite, the first below the second");
        let got = format!("{sigma_min} and {sigma_max}");
        return Err(Error::Value { op: OP, what, expected: expected.into(), got });
    }
    Ok(linspace(sigma_min.ln() as f32, sigma_max.ln() as f32, TIMESTEPS).map(f32::exp).collect())
}

fn shifted(shift: f32) -> Result<(Vec<f32>, Clock)> {
    if !(shift > 0.0 && shift.is_finite()) {
        let (what, expected) = ("shift", "positive and finite".into());
        return Err(Error::Value { op: OP, what, expected, got: shift.to_string() });
    }
    let clock = Clock::Shifted { shift };
    // There and back through the timestep, for ComfyUI's rounding.
    let timestep = |t: usize| t as f32 / TIMESTEPS as f32 * TIMESTEPS as f32;
    Ok(((1..=TIMESTEPS).map(|t| clock.sigma(timestep(t))).collect(), clock))
}
