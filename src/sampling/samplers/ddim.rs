use serde::Deserialize;

use super::{Algorithm, Builder, Euler, Properties, Value};
use crate::error::Result;
use crate::sampling::ModelSampling;

/// DDIM of Song et al. 2020 (arXiv 2010.02502) without noise, which in `x = latent + sigma noise` is [`Euler`]. Where a
/// mask keeps part of a latent, ComfyUI 0.3.64 shows the model that part under noise of its own.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ddim {}

impl Algorithm for Ddim {
    fn properties(&self) -> Properties {
        Properties { fresh_mask_noise: true, ..Euler::default().properties() }
    }

    fn write(&self, model: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        Euler::default().write(model, sigmas, p)
    }
}
