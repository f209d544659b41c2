use super::linspace;
use crate::error::Result;
use crate::sampling::ModelSampling;

pub(super) fn levels(model: &ModelSampling, steps: usize) -> Result<Vec<f32>> {
    let (first, last) = (model.timestep(model.sigma_max()), model.timestep(model.sigma_min()));
    let ends_at_zero = model.sigma(last).abs() <= 1e-5;
    if ends_at_zero {
        return Ok(linspace(first, last, steps + 1).map(|t| model.sigma(t)).collect());
    }
    Ok(linspace(first, last, steps).map(|t| model.sigma(t)).chain([0.0]).collect())
}
