use serde::Deserialize;

use super::{Algorithm, Builder, NoiseKind, Properties, Value, steps};
use crate::error::Result;
use crate::sampling::ModelSampling;

/// [`Dpmpp2m`](super::Dpmpp2m) with CFG++ (Chung et al. 2024, arXiv 2406.08070). For diffusions, not flows.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dpmpp2mCfgPp {}

impl Algorithm for Dpmpp2mCfgPp {
    fn properties(&self) -> Properties {
        Properties { flow: false, ..Properties::new(2, 1, NoiseKind::None) }
    }

    fn write(&self, _: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        let mut x = p.start();
        let mut last: Option<(f64, Value)> = None;
        for (sigma, sigma_next) in steps(sigmas) {
            p.step(sigma);
            let (denoised, negative) = p.denoise_cfgpp(x, sigma);
            if sigma_next == 0.0 {
                return Ok(denoised);
            }
            let h = (sigma / sigma_next).ln();
            let mut next = denoised + (x - negative) * (-h).exp();
            if let Some((h_last, old_negative)) = last {
                let r = h_last / h;
                next = next - (denoised - old_negative) * ((-h).exp_m1() / (2.0 * r));
            }
            x = p.combine(next);
            last = Some((h, negative));
        }
        Ok(x)
    }
}
