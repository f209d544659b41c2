use super::Beta;
use crate::error::Result;
use crate::sampling::ModelSampling;

pub(super) fn levels(model: &ModelSampling, steps: usize) -> Result<Vec<f32>> {
    Beta { alpha: 0.5, beta: 0.7 }.levels(model, steps)
}
