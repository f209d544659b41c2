use serde::Deserialize;

use super::snr::{alpha, below_pure_noise};
use super::{Algorithm, Builder, NoiseKind, Properties, Value, expect_not_negative, expect_order, steps};
use crate::error::Result;
use crate::sampling::ModelSampling;

/// The extended reverse-time SDE solver of Cui et al. 2023 (arXiv 2309.06169), ER-SDE-Solver-3, on the clock
/// `lambda = sigma / alpha`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ErSde {
    /// The noise's standard deviation.
    pub s_noise: f64,
    /// Up to which order differences of the denoised latent are taken into account, 1 to 3.
    pub max_stage: usize,
}

impl Default for ErSde {
    fn default() -> Self {
        ErSde { s_noise: 1.0, max_stage: 3 }
    }
}

impl Algorithm for ErSde {
    fn properties(&self) -> Properties {
        Properties::new(self.max_stage.min(2) as u32, 1, NoiseKind::Gaussian)
    }

    fn write(&self, model: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        expect_not_negative("er_sde", "s_noise", self.s_noise)?;
        expect_order("er_sde", "max_stage", self.max_stage, 1..=3)?;
        let sigmas = below_pure_noise(model, sigmas);
        let mut x = p.start();
        // The last levels on the clock; the last denoised latent and its last slope.
        let mut levels: Vec<f64> = Vec::new();
        let (mut old_denoised, mut old_slope) = (None, None);
        for (sigma, sigma_next) in steps(&sigmas) {
            p.step(sigma);
            let denoised = p.denoise(x, sigma);
            if sigma_next == 0.0 {
                return Ok(denoised);
            }
            let (alpha, alpha_next) = (alpha(model, sigma), alpha(model, sigma_next));
            let (lambda, lambda_next) = (sigma / alpha, sigma_next / alpha_next);
            let r = noise_scale(lambda_next) / noise_scale(lambda);
            let mut next = x * (alpha_next / alpha * r) + denoised * (alpha_next * (1.0 - r));
            if let (Some(old_denoised), Some(last)) = (old_denoised, levels.first())
                && self.max_stage >= 2
            {
                let dt = lambda_next - lambda;
                let integral =
                    |f: &dyn Fn(f64) -> f64| integral(f, lambda_next, lambda) * noise_scale(lambda_next);
                let slope = p.combine((denoised - old_denoised) / (lambda - last));
                let weight = dt + integral(&|_| 1.0);
                next = next + slope * (alpha_next * weight);
                if let (Some(old_slope), Some(before_last)) = (old_slope, levels.get(1))
                    && self.max_stage >= 3
                {
                    let curvature = (slope - old_slope) / ((lambda - before_last) / 2.0);
                    let weight = dt * dt / 2.0 + integral(&|at| at - lambda);
                    next = next + curvature * (alpha_next * weight);
                }
                old_slope = Some(slope);
            }
            let deviation = (lambda_next.powi(2) - (lambda * r).powi(2)).max(0.0).sqrt();
            if deviation > 0.0 && self.s_noise > 0.0 {
                next = next + p.noise(sigma, sigma_next) * (alpha_next * deviation * self.s_noise);
            }
            x = p.combine(next);
            levels.insert(0, lambda);
            levels.truncate(2);
            old_denoised = Some(denoised);
        }
        Ok(x)
    }
}

/// How much noise is replaced: the function that the paper's solvers come out best with.
fn noise_scale(lambda: f64) -> f64 {
    lambda * (lambda.powf(0.3).exp() + 10.0)
}

/// The integral of `f / noise_scale` from a level up to another, by the reference's rule: its 200 rectangles.
fn integral(f: &dyn Fn(f64) -> f64, from: f64, to: f64) -> f64 {
    const POINTS: usize = 200;
    let width = (to - from) / POINTS as f64;
    (0..POINTS).map(|k| from + width * k as f64).map(|at| f(at) / noise_scale(at) * width).sum()
}
