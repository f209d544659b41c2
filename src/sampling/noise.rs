//! Where a run's noise comes from.

use super::samplers::NoiseKind;
use crate::error::Result;
use crate::rng::{BrownianNoise, Mt19937};

/// A source of unit Gaussian noise for steps between levels.
pub trait NoiseSource {
    /// Fills `out` with the noise of the step from level `sigma` to `sigma_next`.
    ///
    /// # Errors
    /// Whatever the source reports: levels outside its range.
    fn draw(&mut self, sigma: f64, sigma_next: f64, out: &mut [f32]) -> Result<()>;
}

impl NoiseSource for Mt19937 {
    fn draw(&mut self, _: f64, _: f64, out: &mut [f32]) -> Result<()> {
        self.randn(out);
        Ok(())
    }
}

impl NoiseSource for BrownianNoise {
    fn draw(&mut self, sigma: f64, sigma_next: f64, out: &mut [f32]) -> Result<()> {
        self.noise(sigma as f32, sigma_next as f32, out)
    }
}

/// The source that a sampler of this kind has in ComfyUI 0.3.64 on the CPU: `initial` is the generator that drew the
/// run's first noise, `sigmas` the levels of the run, falling.
pub(super) fn comfyui_source(
    kind: NoiseKind,
    seed: u64,
    initial: Mt19937,
    sigmas: &[f32],
    elements: usize,
) -> Result<Box<dyn NoiseSource>> {
    Ok(match kind {
        NoiseKind::None | NoiseKind::Gaussian => Box::new(Mt19937::new(seed)),
        NoiseKind::Continued => Box::new(initial),
        NoiseKind::Brownian => {
            let highest = sigmas[0];
            let lowest = sigmas.iter().copied().filter(|&sigma| sigma > 0.0).fold(highest, f32::min);
            Box::new(BrownianNoise::new(seed, elements, lowest, highest)?)
        }
    })
}
