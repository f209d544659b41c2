use serde::Deserialize;

use super::lagrange::adams_bashforth;
use super::multistep::multistep;
use super::{Algorithm, Builder, NoiseKind, Properties, Value, expect_order};
use crate::error::Result;
use crate::sampling::ModelSampling;

/// Adams-Bashforth steps of any length on the slope in sigma: the linear multistep sampler of k-diffusion. Its start, from
/// a step of first order, is what keeps it from an order over 3.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lms {
    /// How many slopes a step takes into account, 1 to 8.
    pub order: usize,
}

impl Default for Lms {
    fn default() -> Self {
        Lms { order: 4 }
    }
}

impl Algorithm for Lms {
    fn properties(&self) -> Properties {
        Properties::new(self.order.min(3) as u32, 1, NoiseKind::None)
    }

    fn write(&self, _: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        expect_order("lms", "order", self.order, 1..=8)?;
        Ok(multistep(p, sigmas, self.order, adams_bashforth))
    }
}
