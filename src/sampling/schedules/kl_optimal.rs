use crate::error::Result;
use crate::sampling::ModelSampling;

pub(super) fn levels(model: &ModelSampling, steps: usize) -> Result<Vec<f32>> {
    let angle = |sigma: f32| f64::from(sigma).atan() as f32;
    let (low, high) = (angle(model.sigma_min()), angle(model.sigma_max()));
    // One step goes from the top straight to 0, where ComfyUI divides 0 by 0.
    let share = |step: usize| if steps > 1 { step as f32 / (steps - 1) as f32 } else { 0.0 };
    let levels = (0..steps).map(|step| (share(step) * low + (1.0 - share(step)) * high).tan());
    Ok(levels.chain([0.0]).collect())
}
