/// `steps` values from `start` to `end`, rounded as `torch.linspace` rounds them in f32: from both ends inwards, product
/// and sum at once.
pub(super) fn linspace(start: f32, end: f32, steps: usize) -> impl Iterator<Item = f32> {
    let step = if steps > 1 { (end - start) / (steps - 1) as f32 } else { 0.0 };
    (0..steps).map(move |i| {
        if i == 0 || i < steps / 2 {
            step.mul_add(i as f32, start)
        } else {
            step.mul_add(-((steps - 1 - i) as f32), end)
        }
    })
}
