use super::linspace;
use crate::error::Result;
use crate::sampling::ModelSampling;

pub(super) fn levels(model: &ModelSampling, steps: usize) -> Result<Vec<f32>> {
    let (first, last) = (model.timestep(model.sigma_max()), model.timestep(model.sigma_min()));
    let timesteps = linspace(first, last, steps + 1).take(steps);
    Ok(timesteps.map(|t| model.sigma(t)).chain([0.0]).collect())
}
