use super::Compute;

/// Sums that run side by side, so that none waits for the one before.
pub(super) const LANES: usize = 64;

/// What is to be known of some values for their mean and variance: sums of how far they lie from one near them. So f32
/// loses nothing if the mean is a thousand standard deviations from 0.
pub(super) struct Deviations {
    pub sums: [f32; LANES],
    pub squares: [f32; LANES],
}

impl Deviations {
    pub(super) const NONE: Self = Deviations { sums: [0.0; LANES], squares: [0.0; LANES] };

    /// Adds one value to each lane.
    #[inline(always)]
    pub(super) fn add<E: Compute>(&mut self, centres: &[f32; LANES], values: &[E; LANES]) {
        for i in 0..LANES {
            let deviation = values[i].widen() - centres[i];
            self.sums[i] += deviation;
            self.squares[i] += deviation * deviation;
        }
    }
}

/// The sum of all lanes, halves added to halves.
#[inline(always)]
pub(super) fn total(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// What takes `x - centre` to `(x - mean) / sqrt(variance + eps)`: `scale` and then `rest`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Normaliser {
    pub scale: f64,
    pub rest: f64,
}

impl Normaliser {
    /// From the sums of `x - centre` and of its square over `count` values.
    #[inline(always)]
    pub(super) fn new(sum: f64, squares: f64, count: usize, eps: f32) -> Self {
        let mean = sum / count as f64;
        let variance = squares / count as f64 - mean * mean;
        // Rounding may take a variance of 0 below it. A comparison rather than a maximum, so that NaN stays.
        let variance = if variance < 0.0 { 0.0 } else { variance };
        let scale = 1.0 / (variance + f64::from(eps)).sqrt();
        Normaliser { scale, rest: -mean * scale }
    }
}
