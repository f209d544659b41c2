use std::f64::consts::FRAC_PI_2;

use serde::{Deserialize, Serialize};

use super::{OP, TIMESTEPS};
use crate::error::{Error, Result};

/// How the training noise grows with the timestep: the betas of a discrete diffusion (Ho et al. 2020,
/// arXiv 2006.11239).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Betas {
    /// Linear in the square root from `start` to `end`: the "scaled linear" of Stable Diffusion, which ComfyUI calls
    /// `linear`. Both within (0, 1).
    ScaledLinear {
        /// The first beta.
        start: f64,
        /// The last beta.
        end: f64,
    },
    /// Linear from `start` to `end`, as in DDPM; ComfyUI calls it `sqrt_linear`. Both within (0, 1).
    Linear {
        /// The first beta.
        start: f64,
        /// The last beta.
        end: f64,
    },
    /// The squared cosine of Nichol & Dhariwal 2021 (arXiv 2102.09672), offset 0.008, betas at most 0.999: both `cosine`
    /// and `squaredcos_cap_v2`.
    Cosine,
}

impl Betas {
    /// Stable Diffusion 1.x, 2.x and SDXL.
    pub const STABLE_DIFFUSION: Betas = Betas::ScaledLinear { start: 0.00085, end: 0.012 };

    pub(super) fn values(self) -> Result<Vec<f64>> {
        match self {
            Betas::ScaledLinear { start, end } => {
                expect_open_unit(start, end)?;
                Ok(linspace(start.sqrt(), end.sqrt()).map(|root| root * root).collect())
            }
            Betas::Linear { start, end } => {
                expect_open_unit(start, end)?;
                Ok(linspace(start, end).collect())
            }
            Betas::Cosine => {
                const OFFSET: f64 = 0.008;
                let alpha_bar = |t: usize| {
                    let angle = (t as f64 / TIMESTEPS as f64 + OFFSET) / (1.0 + OFFSET);
                    (angle * FRAC_PI_2).cos().powi(2)
                };
                Ok((0..TIMESTEPS).map(|t| (1.0 - alpha_bar(t + 1) / alpha_bar(t)).min(0.999)).collect())
            }
        }
    }
}

fn expect_open_unit(start: f64, end: f64) -> Result<()> {
    let open_unit = |beta: f64| beta > 0.0 && beta < 1.0;
    if open_unit(start) && open_unit(end) {
        return Ok(());
    }
    let (what, expected) = ("betas", "within (0, 1)".into());
    Err(Error::Value { op: OP, what, expected, got: format!("{start} to {end}") })
}

/// From both ends inwards, so that the last value is exactly `end`, as torch.linspace has it.
fn linspace(start: f64, end: f64) -> impl Iterator<Item = f64> {
    let step = (end - start) / (TIMESTEPS - 1) as f64;
    (0..TIMESTEPS).map(move |t| {
        if t < TIMESTEPS / 2 { start + step * t as f64 } else { end - step * (TIMESTEPS - 1 - t) as f64 }
    })
}
