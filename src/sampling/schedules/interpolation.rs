/// `steps` values from `start` to `end`, rounded as `torch.linspace` rounds them in f32: from both ends inwards, product
/// and sum at once.
pub(in crate::sampling) fn linspace(start: f32, end: f32, steps: usize) -> impl Iterator<Item = f32> {
    let step = if steps > 1 { (end - start) / (steps - 1) as f32 } else { 0.0 };
    (0..steps).map(move |i| {
        if i == 0 || i < steps / 2 {
            step.mul_add(i as f32, start)
        } else {
            step.mul_add(-((steps - 1 - i) as f32), end)
        }
    })
}

/// A schedule of `steps` steps from the levels that were found for another number: linear in their logarithm. The last
/// level gives way to 0.
pub(super) fn resampled(found: &[f64], steps: usize) -> Vec<f32> {
    let last = found.len() - 1;
    let level = |step: usize| {
        let place = step as f64 * last as f64 / steps as f64;
        let (row, weight) = (place as usize, place.fract());
        if weight == 0.0 {
            return found[row];
        }
        ((1.0 - weight) * found[row].ln() + weight * found[row + 1].ln()).exp()
    };
    (0..steps).map(|step| level(step) as f32).chain([0.0]).collect()
}
