use crate::error::Result;
use crate::sampling::ModelSampling;

pub(super) fn levels(model: &ModelSampling, steps: usize) -> Result<Vec<f32>> {
    if steps == 1 {
        // ComfyUI divides 0 by 0 here; the right answer goes from the top straight to 0.
        return Ok(vec![model.sigma_max(), 0.0]);
    }
    let angle = |sigma: f32| f64::from(sigma).atan() as f32;
    let (low, high) = (angle(model.sigma_min()), angle(model.sigma_max()));
    let levels = (0..steps).map(|step| {
        let share = step as f32 / (steps - 1) as f32;
        (share * low + (1.0 - share) * high).tan()
    });
    Ok(levels.chain([0.0]).collect())
}
