use serde::Deserialize;

use super::lagrange::adams_bashforth;
use super::snr::alpha;
use super::{Algorithm, Builder, NoiseKind, Properties, Value, steps};
use crate::error::Result;
use crate::sampling::ModelSampling;
use crate::sampling::program::Expr;

/// CFG++ (Chung et al. 2024, arXiv 2406.08070) with a memory, as ComfyUI has it since 0.35 (its 3ac5d79): the negative
/// direction is extrapolated a little, the step is a little of a two-step Adams-Bashforth one, and the last step follows
/// the line of the denoised latent to level 0. At strength 1, where ComfyUI takes the positive prediction for the negative
/// one, the negative branch is asked as in every other sampler with CFG++.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CfgppUd10Ab {}

/// What a step leaves to the next.
#[derive(Clone, Copy)]
struct Memory {
    sigma: f64,
    denoised: Value,
    away: Value,
    slope: Value,
}

impl Algorithm for CfgppUd10Ab {
    fn properties(&self) -> Properties {
        Properties::new(0, 1, NoiseKind::None)
    }

    fn write(&self, model: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        const HISTORY: f64 = 0.25;
        const NEGATIVE_HISTORY: f64 = 0.1;
        let mut x = p.start();
        let mut last: Option<Memory> = None;
        for (sigma, sigma_next) in steps(sigmas) {
            p.step(sigma);
            let (denoised, negative) = p.denoise_cfgpp(x, sigma);
            if sigma_next == 0.0 {
                let at_zero = last.map_or(denoised.into(), |last| {
                    denoised - (denoised - last.denoised) * (sigma / (sigma - last.sigma))
                });
                return Ok(p.combine(at_zero));
            }
            let dt = sigma_next - sigma;
            let away = p.combine((x - negative * alpha(model, sigma)) / sigma);
            let extrapolated = last.map_or(away.into(), |last| {
                away + (away - last.away) * (NEGATIVE_HISTORY * dt / (sigma - last.sigma))
            });
            let euler = denoised * alpha(model, sigma_next) + extrapolated * sigma_next;
            let slope = p.combine((euler - x) / dt);
            let step: Expr = match last {
                None => slope * dt,
                Some(last) => {
                    let weights = adams_bashforth(&[sigma, last.sigma], sigma_next);
                    let two_step: Expr = weights.into_iter().zip([slope, last.slope]).collect();
                    slope * (dt * (1.0 - HISTORY)) + two_step * HISTORY
                }
            };
            x = p.combine(x + step);
            last = Some(Memory { sigma, denoised, away, slope });
        }
        Ok(x)
    }
}
