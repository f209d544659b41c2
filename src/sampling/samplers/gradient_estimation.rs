use serde::Deserialize;

use super::{Algorithm, Builder, NoiseKind, Properties, Value, expect_not_negative, steps};
use crate::error::Result;
use crate::sampling::ModelSampling;

/// Second-order sampling by gradient estimation: Permenter & Yuan 2023 (arXiv 2306.04848), Algorithm 2. Euler steps that
/// overshoot along the change of the slope; optionally with CFG++, which is for diffusions, not flows.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GradientEstimation {
    /// How far a step follows the newest slope rather than the last one; 1 is Euler's step.
    pub ge_gamma: f64,
    /// Whether the guided prediction is renoised in the direction of the negative one (arXiv 2406.08070).
    pub cfg_pp: bool,
}

impl Default for GradientEstimation {
    fn default() -> Self {
        GradientEstimation { ge_gamma: 2.0, cfg_pp: false }
    }
}

impl Algorithm for GradientEstimation {
    fn properties(&self) -> Properties {
        Properties { flow: !self.cfg_pp, ..Properties::new(1, 1, NoiseKind::None) }
    }

    fn write(&self, _: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        expect_not_negative("gradient_estimation", "ge_gamma", self.ge_gamma)?;
        let mut x = p.start();
        let mut last: Option<Value> = None;
        for (sigma, sigma_next) in steps(sigmas) {
            p.step(sigma);
            let (denoised, origin) = if self.cfg_pp {
                p.denoise_cfgpp(x, sigma)
            } else {
                let denoised = p.denoise(x, sigma);
                (denoised, denoised)
            };
            if sigma_next == 0.0 {
                return Ok(denoised);
            }
            let d = p.combine((x - origin) / sigma);
            let mut next = denoised + d * sigma_next;
            if let Some(old_d) = last {
                next = next + (d - old_d) * ((self.ge_gamma - 1.0) * (sigma_next - sigma));
            }
            x = p.combine(next);
            last = Some(d);
        }
        Ok(x)
    }
}
