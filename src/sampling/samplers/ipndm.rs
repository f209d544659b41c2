use serde::Deserialize;

use super::lagrange::adams_bashforth;
use super::multistep::multistep;
use super::{Algorithm, Builder, NoiseKind, Properties, Value, expect_order};
use crate::error::Result;
use crate::sampling::ModelSampling;

/// The pseudo linear multistep method of Liu et al. 2022 (arXiv 2202.09778) with the warm-up of Zhang & Chen 2022
/// (arXiv 2204.13902), on the slope in sigma: the Adams-Bashforth weights of even steps, whatever the steps.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ipndm {
    /// How many slopes a step takes into account, 1 to 4.
    pub max_order: usize,
}

impl Default for Ipndm {
    fn default() -> Self {
        Ipndm { max_order: 4 }
    }
}

impl Algorithm for Ipndm {
    fn properties(&self) -> Properties {
        Properties::new(self.max_order.min(2) as u32, 1, NoiseKind::None)
    }

    fn write(&self, _: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        expect_order("ipndm", "max_order", self.max_order, 1..=4)?;
        const EVEN: [f64; 4] = [0.0, -1.0, -2.0, -3.0];
        Ok(multistep(p, sigmas, self.max_order, |levels, next| {
            let weights = adams_bashforth(&EVEN[..levels.len()], 1.0);
            weights.into_iter().map(|weight| weight * (next - levels[0])).collect()
        }))
    }
}
