/// `steps` values from `start` to `end`, rounded as `torch.linspace` rounds them in f32: from both ends inwards.
pub(super) fn linspace(start: f32, end: f32, steps: usize) -> impl Iterator<Item = f32> {
    let step = if steps > 1 { (end - start) / (steps - 1) as f32 } else { 0.0 };
    (0..steps).map(move |i| {
        if i < steps.div_ceil(2) { start + step * i as f32 } else { end - step * (steps - 1 - i) as f32 }
    })
}
