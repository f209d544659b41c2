use serde::Deserialize;

use super::ancestral::ancestral_step;
use super::phi::phi;
use super::{Algorithm, Builder, NoiseKind, Properties, Value, expect_not_negative, steps};
use crate::error::Result;
use crate::sampling::ModelSampling;

/// The second-order multistep refined exponential solver of Zhang et al. 2023 (arXiv 2308.02157), on the clock
/// `t = -log sigma`; optionally ancestral, and with CFG++ (arXiv 2406.08070). Both are for diffusions, not flows.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResMultistep {
    /// The share of an ancestral step's noise.
    pub eta: f64,
    /// The noise's standard deviation.
    pub s_noise: f64,
    /// Whether the guided prediction is renoised in the direction of the negative one.
    pub cfg_pp: bool,
}

impl Default for ResMultistep {
    fn default() -> Self {
        ResMultistep { eta: 0.0, s_noise: 1.0, cfg_pp: false }
    }
}

impl Algorithm for ResMultistep {
    fn properties(&self) -> Properties {
        let noise = if self.eta > 0.0 { NoiseKind::Gaussian } else { NoiseKind::None };
        Properties { flow: self.eta == 0.0 && !self.cfg_pp, ..Properties::new(2, 1, noise) }
    }

    fn write(&self, _: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        expect_not_negative("res_multistep", "eta", self.eta)?;
        expect_not_negative("res_multistep", "s_noise", self.s_noise)?;
        let mut x = p.start();
        let mut last: Option<(f64, f64, Value)> = None;
        for (sigma, sigma_next) in steps(sigmas) {
            p.step(sigma);
            let (denoised, origin) = if self.cfg_pp {
                p.denoise_cfgpp(x, sigma)
            } else {
                let denoised = p.denoise(x, sigma);
                (denoised, denoised)
            };
            let (down, up) = ancestral_step(sigma, sigma_next, self.eta);
            let mut next = match last {
                Some((sigma_last, down_last, old_origin)) if down > 0.0 => {
                    let h = (sigma / down).ln();
                    let c2 = (down_last / sigma_last).ln() / h;
                    let b2 = phi(2, -h) / c2;
                    let b1 = phi(1, -h) - b2;
                    (x + denoised - origin) * (down / sigma) + (origin * b1 + old_origin * b2) * h
                }
                _ => denoised + (x - origin) * (down / sigma),
            };
            if up > 0.0 {
                next = next + p.noise(sigma, sigma_next) * (self.s_noise * up);
            }
            x = p.combine(next);
            last = Some((sigma, down, origin));
        }
        Ok(x)
    }
}
