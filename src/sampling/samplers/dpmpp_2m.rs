use serde::Deserialize;

use super::{Algorithm, Builder, NoiseKind, Properties, Value, steps};
use crate::error::Result;
use crate::sampling::ModelSampling;

/// DPM-Solver++(2M) of Lu et al. 2022 (arXiv 2211.01095), Algorithm 2, on the clock `t = -log sigma`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dpmpp2m {}

impl Algorithm for Dpmpp2m {
    fn properties(&self) -> Properties {
        Properties::new(2, 1, NoiseKind::None)
    }

    fn write(&self, _: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        let mut x = p.start();
        let mut last: Option<(f64, Value)> = None;
        for (sigma, sigma_next) in steps(sigmas) {
            p.step(sigma);
            let denoised = p.denoise(x, sigma);
            let h = (sigma / sigma_next).ln();
            let data = match last {
                Some((h_last, old_denoised)) if sigma_next > 0.0 => {
                    let r = h_last / h;
                    denoised + (denoised - old_denoised) / (2.0 * r)
                }
                _ => denoised.into(),
            };
            x = p.combine(x * (sigma_next / sigma) - data * (-h).exp_m1());
            last = Some((h, denoised));
        }
        Ok(x)
    }
}
